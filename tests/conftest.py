"""
What every test gets: an environment of its own, and the fixtures that only build on that.

Nothing here imports Airflow, boto3 or a driver at module level, so that the tests of the pure modules need none.
"""

from __future__ import annotations

import ast
import atexit
import logging
import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.house import pure

if TYPE_CHECKING:
    from example_dags.demo.postgres import Database, Postgres

# Airflow reads its home and its settings when it is first imported, so these stand before any test module is.
_HOME = tempfile.mkdtemp(prefix="airflow-")
atexit.register(shutil.rmtree, _HOME, ignore_errors=True)

for _name in [name for name in os.environ if name.startswith(("AWS_", "AIRFLOW_", "BOTO", "OPENLINEAGE_", "PG"))]:
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


#: What ``--pure`` is about.
PACKAGE = "airflow_provider_personalize"
PURE = frozenset(pure())
OUT_OF_REACH = {"airflow", "aiobotocore", "boto3", "botocore", "moto", "sqlalchemy"}


class _Refuse(MetaPathFinder):
    def find_spec(self, fullname: str, path: Sequence[str] | None, target: object = None) -> None:
        if fullname.partition(".")[0] in OUT_OF_REACH:
            raise ModuleNotFoundError(f"{fullname} is out of reach of the pure modules", name=fullname)


def _imports(path: Path) -> set[str]:
    """Return the modules that a file imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == PACKAGE:
            found.update(f"{PACKAGE}.{name.name}" for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def _is_pure(module: str) -> bool:
    top, _, rest = module.partition(".")
    return top not in OUT_OF_REACH and (top != PACKAGE or rest.partition(".")[0] in PURE)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With ``--pure``, leave out the test files of the modules that are not."""
    if not config.getoption("pure") or collection_path.suffix != ".py":
        return None
    modules = _imports(collection_path)
    return None if all(map(_is_pure, modules)) and any(name.startswith(PACKAGE) for name in modules) else True


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--pure`` and ``--psycopg2``."""
    parser.addoption(
        "--pure",
        action="store_true",
        help="run the tests of the pure modules only, with Airflow and AWS's libraries out of reach: were one of those "
        "modules to import any of them, directly or through another, its tests would fail",
    )
    parser.addoption(
        "--psycopg2",
        action="store_true",
        help="run the tests that use PostgreSQL only, with psycopg 3 out of reach: Airflow's hook takes that where it "
        "is installed beside SQLAlchemy 2, and psycopg 2 otherwise",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Make what is left open, and what is never awaited, an error of the test that did it."""
    for line in (
        "error::ResourceWarning:airflow_provider_personalize",
        "error:coroutine .* was never awaited:RuntimeWarning",
        "error::pytest.PytestUnhandledThreadExceptionWarning",
    ):
        config.addinivalue_line("filterwarnings", line)
    if config.getoption("pure"):
        sys.meta_path.insert(0, _Refuse())
    if config.getoption("psycopg2"):
        folder = str(Path(__file__).parent / "without_psycopg3")
        sys.path.insert(0, folder)
        os.environ["PYTHONPATH"] = folder


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With ``--psycopg2``, leave out the tests that use no PostgreSQL."""
    if not config.getoption("psycopg2"):
        return
    left_out = [item for item in items if not _uses_postgres(item)]
    items[:] = [item for item in items if _uses_postgres(item)]
    config.hook.pytest_deselected(items=left_out)


def _uses_postgres(item: pytest.Item) -> bool:
    names = set(getattr(item, "fixturenames", ()))
    parameters = getattr(item, "callspec", None)
    chosen = parameters.params.values() if parameters else ()
    return "postgres_server" in names or "postgres" in chosen


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Write down what was skipped, for the last lines of ``make test``."""
    # The workers of xdist have a summary too, of what their controller counts.
    path = None if hasattr(config, "workerinput") else os.environ.get("SKIPPED_TO")
    reports = terminalreporter.stats.get("skipped", ())
    reasons = Counter(str(report.longrepr[-1]).removeprefix("Skipped: ") for report in reports)
    if path and reasons:
        where = " ".join(config.args)
        with Path(path).open("a", encoding="utf-8") as file:
            file.writelines(f"{count:5} of {where}: {reason}\n" for reason, count in sorted(reasons.items()))


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    """A real PostgreSQL server, for this session alone."""
    from example_dags.demo.postgres import Postgres
    from example_dags.demo.processes import Processes

    # Not in pytest's folder, which it shuts to others: where we are root, the server runs as a user of its own.
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    processes = Processes(folder / "logs", os.environ)
    try:
        server = Postgres(folder / "data", processes).start()
        yield server
        server.stop()
    finally:
        processes.close()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgres(postgres_server: Postgres) -> Iterator[Database]:
    """An empty database on it: ``.uri``, ``.connect()``, ``.execute(sql, parameters) -> rows``."""
    database = postgres_server.create()
    yield database
    postgres_server.drop(database.name)


@pytest.fixture
def log(caplog, capsys):
    """A function that returns what was logged so far: Airflow 3 writes to stdout, Airflow 2 through logging."""
    caplog.set_level(logging.INFO)
    return lambda: caplog.text + "".join(capsys.readouterr())
