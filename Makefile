# Every target does its own set-up: `make demo` and `make test` work in a fresh clone.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
PIP_INSTALL = $(BIN)/python -m pip install --quiet --no-compile
# Test workers; each keeps to one thread so that they do not fight over the cores.
WORKERS ?= 2
# pip would compile all of torch, on one core; Python compiles what is imported, once.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup demo test test-slow test-wheel coverage lint docs clean

help:
	@echo "make setup      create $(VENV) and install the package with its development tools"
	@echo "make demo       the whole path in a few minutes: pre-train, three tasks, probing, report"
	@echo "make test       the tests that CI runs"
	@echo "make test-slow  the slow ones as well"
	@echo "make test-wheel [PYTHON=python3.12] [TORCH=2.8]  the built wheel, in an environment and a folder of its own"
	@echo "make coverage   the tests that CI runs, and which lines they reach; fails if a file is below the floor"
	@echo "make lint       ruff, types, import contract"
	@echo "make docs       API reference from the docstrings: build/api/index.html"

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "Python >= 3.10 is needed, $(PYTHON) is $$($(PYTHON) --version 2>&1); try: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	@# torch and what it needs are 3 GB: a download cut off beyond pip's own attempts starts once more
	$(PIP_INSTALL) --editable ".[dev]" || $(PIP_INSTALL) --editable ".[dev]"
	@touch $@

demo: setup
	$(BIN)/aalbert demo

test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS)

test-slow: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) -m "slow or not slow" -o faulthandler_timeout=0

test-wheel:
	tests/wheel.sh "$(PYTHON)" $(TORCH)

coverage: setup
	$(BIN)/coverage erase
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --cov --cov-report=json:build/coverage.json
	$(BIN)/python tests/coverage_floor.py build/coverage.json

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: setup
	$(BIN)/python -W ignore -m pdoc --docformat google --output-directory build/api s3prl_aalbert

clean:
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .mypy_cache .import_linter_cache
