# Everything a newcomer and the continuous integration run. Needs Python >= 3.11 and a package registry.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Tests run in processes of one thread each, a file at a time.
JOBS ?= 2
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile
LOWEST := .venv-lowest
LOWEST_PYTHON ?= python3.11

.PHONY: setup quickstart test test-slow test-browser lint docs package lowest bench soak fuzz mutate networks clean

setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

quickstart: setup
	$(BIN)/falign quickstart

test: setup
	$(PYTEST) -m 'not slow and not browser'
	@echo 'Left out: slow tests (make test-slow), tests in a browser (make test-browser).'

test-browser: setup
	tests/browser/install.sh
	$(BIN)/python -m pytest -m browser tests/browser

test-slow: setup
	$(PYTEST) -m slow

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: setup
	$(BIN)/python -m sphinx -q -W --keep-going docs site
	@echo "site/index.html"

# The wheel and the source archive, in dist/; `make test-slow` installs and tries both.
package: setup
	$(BIN)/python -m build

# The package proper at the lowest versions that pyproject.toml allows, Python's included, in an environment of its own.
lowest:
	test -x $(LOWEST)/bin/python || $(LOWEST_PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/python -m pip install --quiet $$($(LOWEST)/bin/python tests/packaging/lowest.py)
	$(LOWEST)/bin/python -m pip install --quiet --no-deps .
	$(LOWEST)/bin/python tests/packaging/smoke.py

bench: setup
	$(BIN)/python benchmarks/all.py

soak: setup
	$(BIN)/python benchmarks/soak.py --kills 50 --out results/soak/cpu.json

mutate: setup
	$(BIN)/python benchmarks/mutate.py --mutants 300 --out results/mutants/cpu.json

fuzz: setup
	$(BIN)/python benchmarks/fuzz.py --inputs 10000 --out results/fuzz/cpu.json

networks: setup
	$(BIN)/python benchmarks/networks.py

clean:
	rm -rf $(VENV) $(LOWEST) build dist site *.egg-info src/*.egg-info
