PYTHON ?= python3

.PHONY: install check test bench fuzz soak controls

install check test fuzz:
	$(PYTHON) run.py $@

bench: install
	.venv/bin/python benchmarks/import_time.py
	.venv/bin/python benchmarks/stack.py

soak: install
	.venv/bin/python benchmarks/soak.py

controls: install
	.venv/bin/python -m tests.controls
