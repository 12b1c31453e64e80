"""
What every test gets: an environment of its own, and the fixtures that only build on that.

Nothing here imports Airflow, boto3 or a driver at module level, so that the tests of the pure modules need none.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from example_dags.demo.postgres import Database, Postgres

# Airflow reads its home and its settings when it is first imported, so these stand before any test module is.
_HOME = tempfile.mkdtemp(prefix="airflow-")
atexit.register(shutil.rmtree, _HOME, ignore_errors=True)

for _name in [name for name in os.environ if name.startswith(("AWS_", "AIRFLOW_", "BOTO", "PG"))]:
    del os.environ[_name]

os.environ |= {
    "AIRFLOW_HOME": _HOME,
    "AIRFLOW__CORE__DAGS_FOLDER": str(Path(__file__).parents[1] / "example_dags"),
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
    # Neither a user's files nor an instance's metadata service lend credentials to a test.
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_ACCESS_KEY_ID": "testing",
    "AWS_SECRET_ACCESS_KEY": "testing",
    "AWS_DEFAULT_REGION": "us-east-1",
}


def pytest_configure(config: pytest.Config) -> None:
    """Make what is left open, and what is never awaited, an error of the test that did it."""
    for line in (
        "error::ResourceWarning:airflow_provider_personalize",
        "error:coroutine .* was never awaited:RuntimeWarning",
        "error::pytest.PytestUnhandledThreadExceptionWarning",
    ):
        config.addinivalue_line("filterwarnings", line)


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """A real PostgreSQL server, for this session alone."""
    from example_dags.demo.postgres import Postgres
    from example_dags.demo.processes import Processes

    folder = tmp_path_factory.mktemp("postgres")
    processes = Processes(folder / "logs", os.environ)
    try:
        server = Postgres(folder / "data", processes).start()
        yield server
        server.stop()
    finally:
        processes.close()


@pytest.fixture
def postgres(postgres_server: Postgres) -> Iterator[Database]:
    """An empty database on it: ``.uri``, ``.connect()``, ``.execute(sql, parameters) -> rows``."""
    database = postgres_server.create()
    yield database
    postgres_server.drop(database.name)
