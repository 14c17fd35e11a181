PYTHON ?= python3

.PHONY: install check test bench fuzz soak controls

install check test fuzz:
	$(PYTHON) run.py $@

bench:
	$(PYTHON) benchmarks/all.py

soak: install
	.venv/bin/python benchmarks/soak.py

controls: install
	.venv/bin/python -m tests.controls
