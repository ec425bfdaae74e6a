# Everything runs in .venv, which is made when it is missing or pyproject.toml has changed.
# Needs Python 3.11+ (choose one with PYTHON=...), pip and make; macOS and Linux.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test test-slow check format tiny results benchmarks clean

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; $(PYTHON) is older. Try: make PYTHON=python3.12 ..." >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

demo: $(READY)  ## a town, an index, 200 located photos, and a page with the map
	$(BIN)/cricavpr demo --out demo

test: $(READY)  ## all fast tests, under ten minutes on 2 cores
	$(BIN)/python -m pytest -m 'not slow'

test-slow: $(READY)  ## the long ones, run before a release
	$(BIN)/python -m pytest -m slow

check: $(READY)  ## style, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_layers.py tests/test_public_names.py

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

tiny: $(READY)  ## train the network that ships, again
	$(BIN)/cricavpr train recipes/cricavpr_tiny_town.toml --out runs/tiny

results: $(READY)  ## measure the shipped network on towns that training never saw
	$(BIN)/python benchmarks/towns.py

benchmarks: $(READY)
	$(BIN)/python -m benchmarks.town_rendering
	$(BIN)/python benchmarks/describing.py

clean:
	rm -rf $(VENV) demo build dist .pytest_cache .mypy_cache .ruff_cache
