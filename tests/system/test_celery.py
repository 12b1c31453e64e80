"""One load shared by four mapped tasks on Celery's workers, one of which is lost on the way."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from airflow_provider_personalize.output.reader import OutputReader
from airflow_provider_personalize.output.rows import USER_RECOMMENDATIONS, Reject
from airflow_provider_personalize.uris import parse_uri
from example_dags.demo.postgres import free_port
from example_dags.demo.stack import Stack
from tests.integration.load_support import line
from tests.system.test_crashes import RETRIES_SOON

if shutil.which("redis-server") is None:
    pytest.skip("needs Redis: apt-get install redis-server", allow_module_level=True)
pytest.importorskip("airflow.providers.celery", reason="needs Airflow's provider for Celery: make venv")
pytest.importorskip("pyiceberg.catalog.sql", reason="pyiceberg's catalog in SQL needs SQLAlchemy 2, Airflow 2 has 1.4")

WORKERS = ("worker-0", "worker-1")


@contextmanager
def _redis(port: int, folder: Path) -> Iterator[None]:
    """Run Redis, outside the stack: that knows its processes by their environment, which this one overwrites."""
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as redis:
        try:
            while not _answers(port):
                assert redis.poll() is None
            yield
        finally:
            redis.terminate()


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        time.sleep(0.1)
        return False
    return True


@pytest.fixture(scope="module")
def folder(state: Path) -> Path:
    """Output of eight objects, some lines of which are no results."""
    folder = state / "load"
    (folder / "output").mkdir(parents=True)
    for n in range(8):
        lines = [line(f"u{n}-{user}", *(f"i{user}-{item}" for item in range(user % 5))) for user in range(100 + 50 * n)]
        (folder / "output" / f"{n}.json.out").write_text("\n".join([*lines, *["no JSON"] * n]))
    return folder


@pytest.fixture(scope="module")
def stack(state: Path, folder: Path) -> Iterator[Stack]:
    """Airflow with the CeleryExecutor, Redis and two workers."""
    port = free_port()
    broker = f"redis://127.0.0.1:{port}/0"
    extra = {"type": "sql", "warehouse": f"{folder.as_uri()}/warehouse"}
    catalog = {"conn_type": "iceberg", "host": f"sqlite:///{folder}/catalog.db", "extra": extra}
    stack = Stack(
        state,
        environment={
            **RETRIES_SOON,
            "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
            "AIRFLOW__CELERY__BROKER_URL": broker,
            "AIRFLOW__CELERY__RESULT_BACKEND": broker,
            "AIRFLOW__CELERY__WORKER_PREFETCH_MULTIPLIER": "1",
            "AIRFLOW_CONN_LAKE": json.dumps(catalog),
            "LAKE_FOLDER": str(folder),
        },
        dags_folder=Path(__file__).parent / "dags",
    )
    with _redis(port, folder), stack:
        for name in WORKERS:
            arguments = ["--concurrency", "2", "--celery-hostname", f"{name}@%h", "--skip-serve-logs"]
            arguments += ["--pid", str(folder / f"{name}.pid"), "--without-mingle", "--without-gossip"]
            stack.processes.start(name, [sys.executable, "-m", "airflow", "celery", "worker", *arguments])
        stack.wait_for_dag("lake")
        yield stack


def test_four_parts_survive_the_loss_of_a_worker(stack: Stack, folder: Path) -> None:
    held = folder / "held"
    run = stack.trigger("lake")
    for name in WORKERS:
        stack.processes[name].check()
    stack.processes["scheduler"].wait_until(lambda: held.exists() and held.read_text())
    pid = int(held.read_text())
    [lost] = [name for name in WORKERS if pid in {process.pid for process in stack.processes[name].family()}]
    unfinished = list((folder / "lake").glob(".*.unfinished"))
    stack.processes[lost].kill()
    run.wait(timeout=240, check=stack.check)

    tasks = {(task.task_id, task.map_index): task for task in run.tasks()}
    assert {key: task.state for key, task in tasks.items()} == {
        ("export", 0): "success",
        ("export", 1): "success",
        ("export", 2): "success",
        ("export", 3): "success",
        ("publish", -1): "success",
    }
    assert tasks["export", 1].try_number >= 2
    assert unfinished, "it was lost while its files were complete, and nobody saw them"
    assert list((folder / "lake").glob(".*.unfinished")) == []

    # The sum of the parts is one load of everything: its rows, and its rejects.
    rejects: list[Reject] = []
    reader = OutputReader(USER_RECOMMENDATIONS, on_reject=rejects.append)
    expected = [
        (*row, "2026-11-22")
        for path in sorted((folder / "output").iterdir())
        for batch in reader.read(path.as_uri(), [path.read_bytes()])
        for row in batch.rows(USER_RECOMMENDATIONS.columns)
    ]
    assert sorted(_rows(folder)) == sorted(expected)
    assert sorted(_read(*(folder / "lake" / "_rejects").iterdir())) == sorted(
        (reject.object, reject.line) for reject in rejects
    )


def _rows(folder: Path) -> list[tuple[object, ...]]:
    """Return the table's rows, read by DuckDB from the files that the catalog knows."""
    import duckdb
    from pyiceberg.catalog.sql import SqlCatalog

    catalog = SqlCatalog("lake", uri=f"sqlite:///{folder}/catalog.db", warehouse=f"{folder.as_uri()}/warehouse")
    table = catalog.load_table("lake.recommendations")
    assert len(table.snapshots()) == 1
    paths = [str(parse_uri(task.file.file_path).path) for task in table.scan().plan_files()]
    assert len(paths) == 4
    with closing(duckdb.connect()) as connection:
        return connection.execute("SELECT * FROM read_parquet(?)", [paths]).fetchall()


def _read(*paths: Path) -> list[tuple[str, int]]:
    import duckdb

    with closing(duckdb.connect()) as connection:
        sql = "SELECT object, line FROM read_parquet(?)"
        return connection.execute(sql, [list(map(str, paths))]).fetchall()
