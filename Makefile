# Everything a newcomer and the continuous integration run. Needs Python >= 3.11 and a package registry.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: setup quickstart test test-slow test-browser lint bench soak networks clean

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

quickstart: setup
	$(BIN)/falign quickstart

test: setup
	$(BIN)/python -m pytest -m 'not slow and not browser'
	@echo 'Left out: slow tests (make test-slow), tests in a browser (make test-browser).'

test-browser: setup
	tests/browser/install.sh
	$(BIN)/python -m pytest -m browser tests/browser

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

networks: setup
	$(BIN)/python benchmarks/networks.py

clean:
	rm -rf $(VENV) build *.egg-info src/*.egg-info
