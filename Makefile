PYTHON ?= python3

.PHONY: install check test bench fuzz soak controls crash picture ray

install check test fuzz:
	$(PYTHON) run.py $@

bench:
	$(PYTHON) benchmarks/all.py

soak: install
	.venv/bin/python benchmarks/soak.py

ray: install
	.venv/bin/python -m pip install --quiet --group ray
	.venv/bin/python -m tests.ray_story

controls: install
	.venv/bin/python -m tests.controls

crash: install
	.venv/bin/python -m tests.crash

picture: install
	.venv/bin/python -m tests.report_picture
