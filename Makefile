# Everything runs in .venv, which is made when it is missing or pyproject.toml has changed.
# Needs Python 3.11+ (choose one with PYTHON=...), pip and make; macOS and Linux.

PYTHON ?= python3
# Test processes, each with one thread.
JOBS ?= 2
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test test-slow test-milvus test-cluster benchmark-milvus check format tiny results benchmarks clean

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
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile -m 'not slow and not milvus and not cluster'

test-slow: $(READY)  ## the long ones, run before a release
	$(BIN)/python -m pytest -m slow

# Ray is large and no part of .venv; its environment hides itself from git.
CLUSTER := .venv-cluster
CLUSTER_READY := $(CLUSTER)/.ready

$(CLUSTER_READY): pyproject.toml
	$(PYTHON) -m venv $(CLUSTER)
	echo '*' > $(CLUSTER)/.gitignore
	$(CLUSTER)/bin/python -m pip install --quiet --editable '.[cluster]' 'pytest>=8.3'
	@touch $@

test-cluster: $(CLUSTER_READY)  ## describing on two machines of a real Ray cluster, one of which dies
	$(CLUSTER)/bin/python -m pytest -m cluster tests/cluster

# A server for tests and its client, without torch.
MILVUS := .venv-milvus
MILVUS_READY := $(MILVUS)/.ready

$(MILVUS_READY): pyproject.toml
	$(PYTHON) -m venv $(MILVUS)
	$(MILVUS)/bin/python -m pip install --quiet 'milvus==2.3.5' 'pymilvus>=2.4' \
	  'filelock>=4.3' 'numpy>=2.0' 'pillow>=11.2' 'safetensors>=0.5' 'scipy>=1.13' 'tqdm>=4.66' 'utm>=0.8' 'pytest>=8.3'
	$(MILVUS)/bin/python -m pip install --quiet --no-deps --editable .
	@touch $@

test-milvus: $(MILVUS_READY)  ## a real Milvus server on this machine, started, asked and stopped
	$(MILVUS)/bin/python -m tests.index.milvus_server $(MILVUS)/server \
	  $(MILVUS)/bin/python -m pytest -m milvus tests/index/test_milvus.py

benchmark-milvus: $(MILVUS_READY)
	$(MILVUS)/bin/python -m benchmarks.milvus $(MILVUS)/server

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
	rm -rf $(VENV) $(MILVUS) $(CLUSTER) demo build dist .pytest_cache .mypy_cache .ruff_cache
