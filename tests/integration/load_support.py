"""What the loader's tests share: output lines, databases to load into, and the loader itself."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from airflow_provider_personalize.transfers.personalize_to_sql import PersonalizeToSqlOperator

COLUMNS = "user_id text, rank integer, item_id text, score double precision"


def line(user: str | None, *items: str, scores: list[float] | None = None, **more: Any) -> str:
    """Write a line of user recommendations; the n-th item scores 1/n."""
    output = {"recommendedItems": items, "scores": [1 / n for n in range(1, len(items) + 1)] if scores is None else scores}
    return json.dumps({"input": {} if user is None else {"userId": user}, "output": output, "error": None, **more})


def rows(user: str | None, *items: str) -> list[tuple[Any, ...]]:
    """Give the rows of the same line."""
    return [(user, rank, item, 1 / rank) for rank, item in enumerate(items, 1)]


class Target:
    """
    A database to load into.

    :param conn_id: Its Airflow connection.
    """

    conn_id: str

    def execute(self, sql: str, parameters: Any = ()) -> list[tuple[Any, ...]]:
        """Execute SQL in a transaction of its own; give the rows."""
        raise NotImplementedError

    def read(self, table: str = "recs") -> list[tuple[Any, ...]]:
        """Give a table's rows in a fixed order."""
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
        """Write an object of these lines; give its URI."""
        path = self.folder / name
        path.write_text("\n".join(lines), encoding="utf-8", newline="")
        return path.as_uri()


def load(target: Target, uri: str | None = None, **kwargs: Any) -> dict[str, Any]:
    """Run the loader."""
    arguments = {"table": "recs", "output_uri": uri, "sql_conn_id": target.conn_id, "aws_conn_id": None} | kwargs
    return PersonalizeToSqlOperator(task_id="load", **arguments).execute({})
