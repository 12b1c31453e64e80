"""What the loader's tests share: output lines, databases to load into, and the loader itself."""

from __future__ import annotations

import inspect
import json
import os
import shutil
import socket
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_personalize.transfers.personalize_to_sql import PersonalizeToSqlOperator

COLUMNS = "user_id text, rank integer, item_id text, score double precision"


def line(user: str | None, *items: str, scores: list[float] | None = None, **more: Any) -> str:
    """Write a line of user recommendations; the n-th item scores 1/n."""
    output = {
        "recommendedItems": items,
        "scores": [1 / n for n in range(1, len(items) + 1)] if scores is None else scores,
    }
    return json.dumps({"input": {} if user is None else {"userId": user}, "output": output, "error": None, **more})


def rows(user: str | None, *items: str) -> list[tuple[Any, ...]]:
    """Return the rows of the same line."""
    return [(user, rank, item, 1 / rank) for rank, item in enumerate(items, 1)]


class Target:
    """
    A database to load into.

    :param conn_id: Its Airflow connection.
    """

    conn_id: str
    hook_params: dict[str, Any] | None = None

    def execute(self, sql: str, parameters: Any = ()) -> list[tuple[Any, ...]]:
        """Execute SQL in a transaction of its own, and return the rows."""
        raise NotImplementedError

    def read(self, table: str = "recs") -> list[tuple[Any, ...]]:
        """Return a table's rows in a fixed order."""
        return sorted(self.execute(f"SELECT * FROM {table}"), key=repr)


class PostgresTarget(Target):
    def __init__(self, database: Any, conn_id: str) -> None:
        self.database = database
        self.conn_id = conn_id

    def execute(self, sql: str, parameters: Any = ()) -> list[tuple[Any, ...]]:
        return self.database.execute(sql, parameters or None)


class SqliteTarget(Target):
    def __init__(self, path: Path, conn_id: str) -> None:
        self.path = path
        self.conn_id = conn_id

    def execute(self, sql: str, parameters: Any = ()) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.path, timeout=60)) as connection, connection:
            return connection.execute(sql, parameters).fetchall()


class MySqlTarget(Target):
    """
    A database of the server at a port of this machine.

    :param local_infile: Whether the loader may use LOAD DATA.
    """

    def __init__(self, port: int, name: str, conn_id: str, *, local_infile: bool = False) -> None:
        self.port = port
        self.name = name
        self.conn_id = conn_id
        self.hook_params = {"local_infile": True} if local_infile else None

    def execute(self, sql: str, parameters: Any = ()) -> list[tuple[Any, ...]]:
        import MySQLdb

        with closing(MySQLdb.connect(host="127.0.0.1", port=self.port, user="root", db=self.name)) as connection:
            cursor = connection.cursor()
            cursor.execute("SET sql_mode = 'ANSI_QUOTES', NAMES utf8mb4")
            cursor.execute(sql, parameters or None)
            found = cursor.fetchall()
            connection.commit()
            return list(found)


class DuckDbTarget(Target):
    def __init__(self, path: Path, conn_id: str) -> None:
        self.path = path
        self.conn_id = conn_id

    def execute(self, sql: str, parameters: Any = ()) -> list[tuple[Any, ...]]:
        import duckdb

        with duckdb.connect(self.path) as connection:
            return connection.execute(sql, list(parameters)).fetchall()


@contextmanager
def mariadb(folder: Path) -> Iterator[int]:
    """Run a MariaDB server and yield its port. Where there is no server or no driver, the test is skipped."""
    if shutil.which("mariadbd") is None:
        pytest.skip("needs a server of MariaDB: apt-get install mariadb-server")
    pytest.importorskip(
        "MySQLdb", reason="needs the extra mysql: apt-get install libmariadb-dev pkg-config gcc, then make venv"
    )
    as_user = ["--user=root"] if os.geteuid() == 0 else []
    # A server that starts sweeps its folder for temporary files: those of another one must not lie there.
    (folder / "tmp").mkdir()
    data = ["--no-defaults", f"--datadir={folder / 'data'}", f"--tmpdir={folder / 'tmp'}", *as_user]
    subprocess.run(
        ["mariadb-install-db", *data, "--auth-root-authentication-method=normal", "--skip-test-db"],
        check=True,
        capture_output=True,
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = [f"--port={port}", "--bind-address=127.0.0.1", f"--socket={folder / 's'}", "--local-infile=1"]
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(["mariadbd", *data, *options], stdout=log, stderr=log) as server,
    ):
        try:
            _wait_for(port, server)
            yield port
        finally:
            server.terminate()


def _wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    import MySQLdb

    deadline = time.monotonic() + 60
    while True:
        try:
            MySQLdb.connect(host="127.0.0.1", port=port, user="root").close()
        except MySQLdb.OperationalError:
            assert server.poll() is None, "the server has ended"
            assert time.monotonic() < deadline, "the server does not answer"
            time.sleep(0.1)
        else:
            return


class Output:
    """
    A folder of output, as files.

    :param folder: Where.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.uri = folder.as_uri() + "/"

    def write(self, *lines: str, name: str = "users.json.out") -> str:
        """Write an object of these lines, and return its URI."""
        path = self.folder / name
        path.write_text("\n".join(lines), encoding="utf-8", newline="")
        return path.as_uri()


def load(target: Target, uri: str | None = None, **kwargs: Any) -> dict[str, Any]:
    """Run the loader."""
    arguments = {
        "table": "recs",
        "output_uri": uri,
        "sql_conn_id": target.conn_id,
        "aws_conn_id": None,
        "hook_params": target.hook_params,
        **kwargs,
    }
    operator = PersonalizeToSqlOperator(task_id="load", **arguments)
    # Airflow 2 wraps execute() in a check that works on the main thread only.
    return inspect.unwrap(type(operator).execute)(operator, {})
