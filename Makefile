# Everything that is done with this repository. It needs Python 3.11 or newer (with its venv module) and make.

PYTHON ?= python3
# The newest versions that fit by default; `make test RESOLUTION=lowest-direct` takes the oldest that are promised.
RESOLUTION ?= highest

# The Airflow to work with, as 3.0 or 2.11; the newest (or oldest) that fits by default.
AIRFLOW ?=

# What of this package's extras to install. The driver for mysql is built: from MariaDB's headers, where there are any.
comma := ,
HAS_MYSQL := $(shell command -v cc >/dev/null && for name in mysqlclient mariadb libmariadb; do \
	pkg-config --exists $$name 2>/dev/null && echo yes && break; done)
# Of the provider for Spark, an old one brings PySpark along, which takes longer to install than all others together.
HAS_SPARK := $(shell command -v java)
EXTRAS ?= dev$(if $(HAS_MYSQL),$(comma)mysql)$(if $(HAS_SPARK),$(if $(filter highest,$(RESOLUTION)),$(comma)spark))

VENV := .venv$(addprefix -airflow-,$(AIRFLOW))$(addprefix -,$(filter-out highest,$(RESOLUTION)))
BIN := $(VENV)/bin
READY := $(VENV)/ready-$(EXTRAS)
# fakesnow stands in for Snowflake. Its provider would bring an older SQLAlchemy, for what no test does.
SUBSTITUTES := $(if $(filter highest-,$(RESOLUTION)-$(AIRFLOW)),apache-airflow-providers-snowflake snowflake-sqlalchemy)
# PySpark has an environment of its own, as it has on a cluster: the provider brings its client, which is no PySpark.
SPARK := .venv-spark
SPARK_READY := $(if $(HAS_SPARK),$(SPARK)/ready)
PYTEST := $(BIN)/python -m pytest
# Tests that neither need the machine to themselves nor share a process.
# Three on two cores: many wait for a database, a job or a process half of their time.
WORKERS ?= --numprocesses 3 --dist worksteal
# The oldest Python of this machine that will do: it has venv, and headers to build a driver with. Debian's own is older
# than many a one that comes first in the path.
OLDEST_PYTHON = $(shell for python in $(PYTHON) /usr/bin/python3 python3.11; do $$python -c 'import ensurepip, os, sys, \
	sysconfig; os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")) and sys.version_info >= (3, 11) \
	and print(*sys.version_info[:3], sys.executable)' 2>/dev/null; done | sort -k1,1n -k2,2n -k3,3n | head -n 1 | cut -d' ' -f4)
# What depends on Airflow's version, beside the unit tests.
JOB_TESTS := $(wildcard $(patsubst %,tests/integration/test_%.py,jobs recorded waits))
SOURCES := airflow_provider_personalize example_dags tests

# Airflow is much to compile, for each of its many processes again where this is set.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help venv demo demo-lifecycle airflow test test-pure test-unit test-integration test-psycopg2 test-system \
	test-long test-wheel test-airflow test-floor lint format types rooms docs pictures check bench clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --resolution $(RESOLUTION) \
		--editable '.[$(EXTRAS)]' $(AIRFLOW:%='apache-airflow==%.*')
	$(if $(SUBSTITUTES),$(BIN)/uv pip install --quiet --python $(BIN)/python fakesnow 'snowflake-connector-python<5' && \
		$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps $(SUBSTITUTES))
	@touch $@

# PySpark 3.5 since the one runtime of Iceberg on PyPI is for that; of these, 1.0.3 lacks a class.
$(SPARK)/ready: Makefile | $(READY)
	$(PYTHON) -m venv --clear --without-pip $(SPARK)
	$(BIN)/uv pip install --quiet --python $(SPARK)/bin/python pyspark==3.5.6 snowpark-connect-deps-iceberg==1.0.2
	@touch $@

venv: $(READY) $(SPARK_READY) ## Make the virtual environment, and one for Spark where there is Java

demo: $(READY) ## Run the nightly email list once, end to end, and show what came of it
	@$(BIN)/python -m example_dags.demo.run demo

demo-lifecycle: $(READY) ## Show a model's life: from an empty account to the nightly list, and what a second import changes
	@$(BIN)/python -m example_dags.demo.run lifecycle

airflow: $(READY) ## Start Airflow with everything around it, to look at in a browser, until Ctrl-C
	@$(BIN)/python -m example_dags.demo.run airflow

test: export SKIPPED_TO := $(abspath .state)/skipped
test: ## Run all tests but the long ones, and say at the end which were skipped
	@mkdir -p .state && rm -f $(SKIPPED_TO)
	@$(MAKE) --no-print-directory test-pure test-unit test-system test-integration test-psycopg2; result=$$?; \
		if [ -s $(SKIPPED_TO) ]; then echo; echo "Skipped, and what would have it run:"; cat $(SKIPPED_TO); fi; \
		exit $$result

test-pure: $(READY) ## Run the tests of the pure modules, with Airflow and boto3 out of reach
	SKIPPED_TO= $(PYTEST) tests/unit --pure

test-unit: $(READY)
	$(PYTEST) $(WORKERS) tests/unit

test-integration: $(READY) $(SPARK_READY)
	$(PYTEST) $(WORKERS) tests/integration

test-psycopg2: $(READY) ## Run the integration tests that use PostgreSQL once more, with psycopg 2 for psycopg 3
	$(PYTEST) $(WORKERS) tests/integration --psycopg2

# The long tests go over ways that others go over in less time, without a whole Airflow around them.
test-system: $(READY)
	$(PYTEST) tests/system $(addprefix --ignore tests/system/,test_wheel.py test_kills.py test_lifecycle.py)

test-long: $(READY) ## On a real Airflow, kill each kind of task at each point of its way, and run demo-lifecycle
	KILL_MATRIX=1 $(PYTEST) tests/system/test_kills.py tests/system/test_lifecycle.py

test-wheel: $(READY) ## Build the wheel, install it into a fresh environment, and test it there
	$(PYTEST) tests/system/test_wheel.py

test-airflow: $(READY) ## Run the unit and job tests; with AIRFLOW=3.0, say, in an environment of that version
	$(PYTEST) $(WORKERS) tests/unit $(JOB_TESTS)

test-floor: ## Run the unit and job tests on the oldest versions that are promised
	@$(MAKE) test-airflow RESOLUTION=lowest-direct PYTHON=$(or $(OLDEST_PYTHON),$(PYTHON))

lint: $(READY) ## Check style and format
	$(BIN)/ruff check
	$(BIN)/ruff format --check

format: $(READY) ## Mend style and format, as far as that goes by itself
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

types: $(READY) ## Check the types
	$(BIN)/mypy

rooms: $(READY) ## Print the rooms of the package, who imports whom, and what is wrong about it
	@$(BIN)/python -m tests.house

# The proxies lead nowhere, so that what would have to be fetched is an error.
docs: export NO_MKDOCS_2_WARNING := 1
docs: $(READY) ## Build the site of the documentation, in build/site; a warning is an error
	http_proxy=http://127.0.0.1:9 https_proxy=http://127.0.0.1:9 $(BIN)/python -m mkdocs build --strict --quiet \
		--config-file .mkdocs.yml
	@echo "The site is at build/site/index.html"

pictures: $(READY) ## Take the pictures of the documentation anew, in a real browser
	@$(BIN)/python -m tests.system.pictures

check: lint types docs test ## Check everything that a change should pass

bench: $(READY) ## Measure, and print the tables
	@for benchmark in tests/benchmarks/bench_*.py; do echo "== $$benchmark"; $(BIN)/python $$benchmark || exit; done

clean: ## Remove all that was made, the virtual environments included
	rm -rf .venv* .demo .state build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find $(SOURCES) -name __pycache__ -type d -prune -exec rm -rf {} +
