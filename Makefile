# Fresh machine: Python >= 3.10, pip and make. Everything else is installed into .venv from constraints.txt.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := demo
# Tests side by side. Most of their time is the start of processes, one thread each.
TEST_JOBS ?= 2
export OMP_NUM_THREADS ?= 1
export OMP_WAIT_POLICY ?= passive

.PHONY: help install test test-slow test-gpu faults coverage lint format demo reference-mini default-model clean

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

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

demo: install
	$(BIN)/python benchmarks/demo.py $(DEMO)

# Remakes the bundled reference set (needs xtb; about 2.5 CPU-hours).
reference-mini: install
	$(BIN)/conformergen reference data/reference-mini/molecules.smi -o runs/reference-mini \
		--split data/reference-mini/split.json --jobs 0

# The recipe of the shipped checkpoint on the data of this repository (about 2 CPU-hours, resumable); ARGS adds others.
default-model: install
	$(BIN)/python benchmarks/default_model.py -o runs/default $(ARGS)

clean:
	rm -rf $(VENV) $(DEMO) build dist
