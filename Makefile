# Everything that is done with this repository. It needs Python 3.11 or newer (with its venv module) and make.

PYTHON ?= python3
# The newest versions that fit by default; `make test RESOLUTION=lowest-direct` takes the oldest that are promised.
RESOLUTION ?= highest

# What of this package's extras to install; mysql needs MariaDB's headers and a C compiler.
EXTRAS ?= dev

VENV := .venv$(if $(filter-out highest,$(RESOLUTION)),-$(RESOLUTION))
BIN := $(VENV)/bin
READY := $(VENV)/ready
PYTEST := $(BIN)/python -m pytest
# Tests that neither need the machine to themselves nor share a process.
WORKERS ?= --numprocesses 2 --dist worksteal
SOURCES := airflow_provider_personalize example_dags tests

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help venv demo airflow test test-pure test-unit test-integration test-system test-floor test-wheel \
	lint format types check bench clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --resolution $(RESOLUTION) --editable '.[$(EXTRAS)]'
	@touch $@

venv: $(READY) ## Make the virtual environment

demo: $(READY) ## Run the nightly email list once, end to end, and show what came of it
	@$(BIN)/python -m example_dags.demo.run demo

airflow: $(READY) ## Start Airflow with everything around it, to look at in a browser, until Ctrl-C
	@$(BIN)/python -m example_dags.demo.run airflow

test: test-pure test-unit test-integration test-system ## Run all tests

test-pure: $(READY) ## Run the tests of the pure modules, with Airflow and boto3 out of reach
	$(PYTEST) tests/unit --pure

test-unit: $(READY)
	$(PYTEST) $(WORKERS) tests/unit

test-integration: $(READY)
	$(PYTEST) $(WORKERS) tests/integration

test-system: $(READY)
	$(PYTEST) tests/system --ignore tests/system/test_wheel.py

test-wheel: $(READY) ## Build the wheel, install it into a fresh environment, and test it there
	$(PYTEST) tests/system/test_wheel.py

test-floor: ## Run the unit tests on the oldest versions that are promised
	@$(MAKE) test-unit RESOLUTION=lowest-direct

lint: $(READY) ## Check style and format
	$(BIN)/ruff check
	$(BIN)/ruff format --check

format: $(READY) ## Mend style and format, as far as that goes by itself
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

types: $(READY) ## Check the types
	$(BIN)/mypy

check: lint types test ## Check everything that a change should pass

bench: $(READY) ## Measure, and print the tables
	@for benchmark in tests/benchmarks/bench_*.py; do echo "== $$benchmark"; $(BIN)/python $$benchmark || exit; done

clean: ## Remove all that was made, the virtual environments included
	rm -rf .venv* .demo .state build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find $(SOURCES) -name __pycache__ -type d -prune -exec rm -rf {} +
