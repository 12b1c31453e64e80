"""
Substitutes for warehouses, as Airflow's own hooks see them.

Neither is the service. Redshift's is PostgreSQL behind the interface of Redshift's driver, with a COPY that reads
Parquet from S3 by the order of the columns; Snowflake's is fakesnow, which is DuckDB. Both note every statement, for
:func:`parsed` to read in its own dialect.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
import pytest
from redshift_connector.core import convert_paramstyle

from tests.integration.load_support import Target

_COPY = re.compile(
    r"COPY (?P<table>\w+) FROM '(?P<uri>[^']+)' (?:IAM_ROLE (?:default|'arn:[^']+')|CREDENTIALS '(?P<keys>[^']+)') "
    r"FORMAT AS PARQUET"
)


def objects(uri: str) -> Iterator[tuple[str, bytes]]:
    """Yield the objects whose URIs begin so."""
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    client = boto3.client("s3")
    for item in client.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", ()):
        yield item["Key"], client.get_object(Bucket=bucket, Key=item["Key"])["Body"].read()


def parsed(statements: list[str], dialect: str) -> None:
    """Parse statements, each of which has to be of its dialect and of a kind that is known."""
    import sqlglot

    for statement in statements:
        [tree] = sqlglot.parse(statement, dialect=dialect)
        assert not isinstance(tree, sqlglot.exp.Command), statement


class _Connection:
    """
    PostgreSQL behind the interface of ``redshift_connector``, whose own parser reads the placeholders.

    :param database: The database.
    :param statements: Takes what is executed.
    """

    def __init__(self, database: Any, statements: list[str]) -> None:
        self._connection = database.connect()
        self._statements = statements
        self.autocommit = False

    def cursor(self) -> _Cursor:
        return _Cursor(self._connection.cursor(), self._statements)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


_Connection.__module__ = "redshift_connector.core"


class _Cursor:
    paramstyle = "format"

    def __init__(self, cursor: Any, statements: list[str]) -> None:
        self._cursor = cursor
        self._statements = statements

    def execute(self, operation: str, args: Any = None) -> None:
        vars(self).pop("rowcount", None)
        statement, _ = convert_paramstyle(self.paramstyle, operation)
        self._statements.append(statement)
        if copy := _COPY.fullmatch(operation):
            for _, data in objects(copy["uri"]):
                self._copy(copy["table"], data)
            return
        assert not operation.startswith("COPY"), operation
        self._cursor.execute(re.sub(r"\$\d+", "%s", statement.replace("%", "%%")), args or ())

    def executemany(self, operation: str, param_sets: Any) -> None:
        taken = 0
        for args in param_sets:
            self.execute(operation, args)
            taken += self._cursor.rowcount
        self.rowcount = taken

    def _copy(self, table: str, data: bytes) -> None:
        import pyarrow.parquet as pq

        rows = pq.read_table(io.BytesIO(data)).to_pylist()
        marks = ", ".join(["%s"] * len(rows[0]))
        # By their order: the file has as many columns as the table, or this is an error.
        self._cursor.execute("SELECT count(*) FROM information_schema.columns WHERE table_name = %s", [table])
        assert self._cursor.fetchone() == (len(rows[0]),)
        self._cursor.executemany(f"INSERT INTO {table} VALUES ({marks})", [tuple(row.values()) for row in rows])

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)


_Cursor.__module__ = "redshift_connector.cursor"


class RedshiftTarget(Target):
    """A substitute for Redshift: see above."""

    dialect = "redshift"

    def __init__(self, database: Any, conn_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
        from airflow.providers.amazon.aws.hooks.redshift_sql import RedshiftSQLHook

        self.database = database
        self.conn_id = conn_id
        self.statements: list[str] = []
        monkeypatch.setattr(RedshiftSQLHook, "get_conn", lambda hook: _Connection(database, self.statements))

    def execute(self, sql: str, parameters: Any = ()) -> list[tuple[Any, ...]]:
        return self.database.execute(sql, parameters or None)


class SnowflakeTarget(Target):
    """A substitute for Snowflake: fakesnow, which is told what S3 has."""

    dialect = "snowflake"

    def __init__(self, conn_id: str, statements: list[str]) -> None:
        self.conn_id = conn_id
        self.statements = statements

    def execute(self, sql: str, parameters: Any = ()) -> list[tuple[Any, ...]]:
        import snowflake.connector

        with snowflake.connector.connect(database="DB", schema="PUBLIC") as connection:
            cursor = connection.cursor()
            cursor.execute(sql, parameters or None)
            return list(cursor.fetchall())


@contextmanager
def snowflake(folder: Any, conn_id: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[SnowflakeTarget]:
    """Put fakesnow in the place of Snowflake's driver."""
    fakesnow = pytest.importorskip("fakesnow", reason="needs fakesnow: make venv")
    pytest.importorskip("airflow.providers.snowflake.hooks.snowflake", reason="needs the extra snowflake: make venv")
    from fakesnow import copy_into
    from fakesnow.conn import FakeSnowflakeConnection
    from fakesnow.cursor import FakeSnowflakeCursor

    def fetched(source: str, duck_conn: Any) -> list[str]:
        found = []
        for key, data in objects(source):
            path = folder / key.replace("/", "-")
            path.write_bytes(data)
            found.append(path.as_uri())
        return found

    statements: list[str] = []
    execute = FakeSnowflakeCursor.execute

    def noting(cursor: Any, command: str, *args: Any, **kwargs: Any) -> Any:
        statements.append(command.replace("%s", "NULL"))
        # It finds no temporary table to copy into.
        command = command.replace("CREATE TEMPORARY TABLE", "CREATE OR REPLACE TABLE")
        return execute(cursor, command, *args, **kwargs)

    monkeypatch.setattr(copy_into, "_source_glob", fetched)
    monkeypatch.setattr(FakeSnowflakeConnection, "__module__", "snowflake.connector.connection")
    with fakesnow.patch():
        import snowflake.connector

        with snowflake.connector.connect(database="DB", schema="PUBLIC"):
            pass
        monkeypatch.setattr(FakeSnowflakeCursor, "execute", noting)
        yield SnowflakeTarget(conn_id, statements)
