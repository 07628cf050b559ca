# Fresh machine: Python >= 3.10, pip and make. Everything else is installed into .venv from constraints.txt.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := demo
# Tests side by side. Most of their time is the start of processes, one thread each.
TEST_JOBS ?= 2
export OMP_NUM_THREADS ?= 1
export OMP_WAIT_POLICY ?= passive

.PHONY: help install test test-slow test-gpu faults coverage lint format golden demo reference-mini default-model clean

help:
	@echo "make demo   preprocess, train a minute, generate ten drugs, score them, write SDF + HTML into demo/"
	@echo "make test   lint, types, architecture, tests"
	@echo "make lint   ruff, mypy, import-linter only"

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -c constraints.txt torch==2.13.0
	$(BIN)/pip install -q -c constraints.txt -e ".[dev]"
	touch $@

install: $(VENV)/.installed

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint
	$(BIN)/python -m pytest -q -n $(TEST_JOBS) --dist worksteal

test-slow: install
	$(BIN)/python -m pytest -q -m "slow and not gpu"

# On a machine with a CUDA device and a torch that can use it.
test-gpu: install
	$(BIN)/python -m pytest -q -m gpu

# Fault injection with the full counts of docs/reliability.md (hours).
faults: install
	CG_FAULTS=full $(BIN)/python -m pytest -q tests/faults

# Branch coverage of the code that commits, resumes and reads untrusted files. Its own data files would hit the
# size limits that stand for a full disk.
coverage: install
	rm -f .coverage .coverage.*
	$(BIN)/python -m coverage run -m pytest -q -k "not full_disk"
	$(BIN)/python -m coverage combine -q
	$(BIN)/python -m coverage report

# Digests of outputs of every command: GOLDEN=write FILE before a change that must not alter them, then GOLDEN=check.
GOLDEN ?= check
golden: install
	$(BIN)/python tests/golden_digests.py $(GOLDEN) $(FILE)

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

demo: install
	$(BIN)/python recipes/demo.py $(DEMO)

# Remakes the bundled reference set (needs xtb; about 2.5 CPU-hours).
reference-mini: install
	$(BIN)/conformergen reference data/reference-mini/molecules.smi -o runs/reference-mini \
		--split data/reference-mini/split.json --jobs 0

# All three networks of the shipped checkpoint from the data of this repository (about 4 CPU-hours, resumable);
# ARGS="--excerpt FILE" adds other data.
default-model: install
	$(BIN)/python recipes/default_model.py -o runs/default $(ARGS)

clean:
	rm -rf $(VENV) $(DEMO) build dist
