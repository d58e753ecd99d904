# Everything a newcomer and the continuous integration run. Needs Python >= 3.11 and a package registry.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: setup quickstart test test-slow lint bench soak fuzz networks clean

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

quickstart: setup
	$(BIN)/falign quickstart

test: setup
	$(BIN)/python -m pytest -m 'not slow'

test-slow: setup
	$(BIN)/python -m pytest -m slow

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: setup
	$(BIN)/python benchmarks/all.py

soak: setup
	$(BIN)/python benchmarks/soak.py --kills 50 --out results/soak/cpu.json

fuzz: setup
	$(BIN)/python benchmarks/fuzz.py --inputs 10000 --out results/fuzz/cpu.json

networks: setup
	$(BIN)/python benchmarks/networks.py

clean:
	rm -rf $(VENV) build *.egg-info src/*.egg-info
