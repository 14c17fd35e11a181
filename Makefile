PYTHON ?= python3

.PHONY: install check test bench

install check test:
	$(PYTHON) run.py $@

bench: install
	.venv/bin/python benchmarks/import_time.py
	.venv/bin/python benchmarks/stack.py
