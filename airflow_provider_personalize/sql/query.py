"""
A query's rows as a stream, whatever the database: as many at a time as are asked for, and no more in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_personalize.compat import BaseHook
from airflow_provider_personalize.exceptions import InvalidRequestError
from airflow_provider_personalize.sql.column_types import Conversion, other_conversions, postgres_conversions
from airflow_provider_personalize.sql.drivers import driver_of, is_postgres
from airflow_provider_personalize.sql.statements import read_only, single_statement

if TYPE_CHECKING:
    from airflow.providers.common.sql.hooks.sql import DbApiHook

#: Rows of the first fetch: few, for nothing is known yet of how long they are.
FIRST_FETCH = 1_000

#: PostgreSQL's name for the cursor that a query runs in.
_CURSOR = "personalize_input"
#: The setting of a transaction that hands the query to the server with psycopg 2.
_SETTING = "personalize.input_sql"

__all__ = ["QueryRows", "RowBatch", "database_hook", "read_only", "single_statement", "stream_query"]


def database_hook(conn_id: str, hook_params: Mapping[str, Any] | None = None) -> DbApiHook:
    """
    Return the hook of a database connection.

    :param conn_id: The Airflow connection's id.
    :param hook_params: Further arguments of the hook.
    :raises InvalidRequestError: if the connection is of a kind that has no hook, or none for a database.
    """
    from airflow.providers.common.sql.hooks.sql import DbApiHook

    connection = BaseHook.get_connection(conn_id)
    kind = connection.conn_type
    remedy = "Use the id of a database's connection, as of postgres, mysql or sqlite."
    try:
        hook = connection.get_hook(hook_params=dict(hook_params or {}))
    except ImportError as error:
        raise InvalidRequestError(
            f"sql_conn_id: expected the connection of a database that this worker has a driver for, got {conn_id!r} of "
            f"type {kind!r}, whose hook does not import ({error}). Install its provider with what it depends on."
        ) from error
    except Exception as error:
        if "unknown hook type" not in str(error).lower():
            raise
        raise InvalidRequestError(
            f"sql_conn_id: expected the connection of a database, got {conn_id!r} of type {kind!r}, which no installed "
            f"provider knows. Install its provider, usually apache-airflow-providers-{str(kind).replace('_', '-')}, "
            f"or mend the connection's type. {remedy}"
        ) from error
    if not isinstance(hook, DbApiHook):
        raise InvalidRequestError(
            f"sql_conn_id: expected the connection of a database, got {conn_id!r} of type {kind!r}, whose "
            f"{type(hook).__name__} runs no SQL. {remedy}"
        )
    return hook


class RowBatch(NamedTuple):
    """
    Some rows of a query.

    :param size: How many.
    :param rows: Returns them. Where the driver can, they are made of what the server has sent only then, so that
        another thread can make them while this one asks for the next.
    """

    size: int
    rows: Callable[[], Sequence[Sequence[Any]]]


#: Fetches at most so many rows; returns them, and the description of their columns.
_Fetch = Callable[[int], tuple[RowBatch, Any]]


class QueryRows:
    """
    The rows of a query that runs, in batches.

    :param fetch: Fetches rows.
    """

    def __init__(self, fetch: _Fetch) -> None:
        self._fetch = fetch
        #: How many rows the next batch holds.
        self.batch_rows = FIRST_FETCH
        # Before the first fetch, some drivers' server-side cursors do not know their columns.
        self._first, description = fetch(self.batch_rows)
        #: The names of the query's columns.
        self.columns: list[str] = [column[0] for column in description or ()]

    def __iter__(self) -> Iterator[RowBatch]:
        batch = self._first
        while batch.size:
            yield batch
            batch, _ = self._fetch(self.batch_rows)


@contextmanager
def stream_query(hook: DbApiHook, sql: str, parameters: Any = None) -> Iterator[QueryRows]:
    """
    Run a query and stream its rows, through a server-side cursor where the driver has one.

    The query only reads, and is alone: see :func:`read_only` and :func:`single_statement`.

    :param hook: The database's hook.
    :param sql: The query, one statement.
    :param parameters: Values for the query's placeholders, in the driver's own style; none where it is empty.
    :raises InvalidRequestError: if the text is not one query.
    """
    connection: Any = hook.get_conn()
    cursor: Any = None
    try:
        read_only(connection)
        sql = single_statement(sql, connection)
        _prepare(connection)
        cursor = streaming_cursor(connection)
        # Without parameters, drivers leave a % in the query alone; so do Airflow's hooks with empty ones.
        _execute(connection, cursor, (sql, parameters) if parameters else (sql,))
        yield QueryRows(_fetch_from(connection, cursor))
        cursor.close()
    finally:
        # Closed before the cursor where something failed: MySQL's cursor would read all remaining rows first.
        connection.close()
        if cursor is not None:
            with suppress(Exception):
                cursor.close()


def _prepare(connection: Any) -> None:
    """Set the connection up to return texts as they are."""
    match driver_of(connection):
        case "psycopg":
            connection.execute("SET client_encoding TO 'UTF8'")
        case "psycopg2":
            connection.set_client_encoding("UTF8")
            _refuse_infinite_moments(connection)
        case "MySQLdb" | "pymysql" | "mysql.connector":
            cursor = connection.cursor()
            # With this mode, CHAR columns come with the spaces that they are padded with.
            cursor.execute("SET SESSION sql_mode = REPLACE(@@sql_mode, 'PAD_CHAR_TO_FULL_LENGTH', '')")
            cursor.close()


def _refuse_infinite_moments(connection: Any) -> None:
    """Let psycopg 2 refuse ``infinity``, of which it makes the last day of the year 9999; psycopg 3 does by itself."""
    extensions = import_module("psycopg2.extensions")
    for oid, name in ((1082, "PYDATE"), (1114, "PYDATETIME"), (1184, "PYDATETIMETZ")):
        read = partial(_finite_moment, getattr(extensions, name))
        extensions.register_type(extensions.new_type((oid,), name, read), connection)


def _finite_moment(read: Callable[[str | None, Any], Any], text: str | None, cursor: Any) -> Any:
    if text in {"infinity", "-infinity"}:
        raise ValueError(f"a moment that never comes: {text!r}")
    return read(text, cursor)


def streaming_cursor(connection: Any) -> Any:
    """Return a cursor that does not fetch the whole result at once."""
    match driver_of(connection):
        case "psycopg":
            return connection.cursor(name=_CURSOR)
        case "psycopg2":
            return connection.cursor(cursor_factory=import_module("psycopg2.extensions").cursor)
        case "MySQLdb" | "pymysql" as driver:
            return connection.cursor(import_module(f"{driver}.cursors").SSCursor)
        case "duckdb":
            # What DuckDB calls a cursor is another connection, outside the transaction.
            return connection
        case _:
            cursor = connection.cursor()
            with suppress(AttributeError, TypeError):
                cursor.arraysize = FIRST_FETCH
            return cursor


def _execute(connection: Any, cursor: Any, query: tuple[Any, ...]) -> None:
    """
    Run a query, on PostgreSQL as a cursor called :data:`_CURSOR`.

    PostgreSQL itself then takes one query and nothing else: psycopg 3 sends DECLARE so that it cannot be two
    statements. psycopg 2 cannot; there the server opens the cursor for a text that is a value.
    """
    if driver_of(connection) != "psycopg2":
        cursor.execute(*query)
        return
    text = cursor.mogrify(*query).decode()
    if not is_postgres(connection):
        cursor.execute(f"DECLARE {_CURSOR} CURSOR FOR {single_statement(text, connection)}")
        return
    cursor.execute("SELECT set_config(%s, %s, true)", (_SETTING, text))
    cursor.execute(
        f"DO $$ DECLARE query refcursor := '{_CURSOR}'; "
        f"BEGIN OPEN query FOR EXECUTE current_setting('{_SETTING}'); END $$"
    )


def _fetch_from(connection: Any, cursor: Any) -> _Fetch:
    """Return a function that fetches from a cursor which has executed a query."""
    match driver_of(connection):
        case "psycopg":
            plain = {"row_factory": import_module("psycopg.rows").tuple_row}
        case "psycopg2":
            plain = {"cursor_factory": import_module("psycopg2.extensions").cursor}
        case _:
            return _MadeFetch(cursor)
    return _PostgresFetch(connection, plain)


class _MadeFetch:
    """Fetches rows as the driver makes them at once."""

    def __init__(self, cursor: Any) -> None:
        self._cursor = cursor
        self._conversions = other_conversions(cursor)

    def __call__(self, count: int) -> tuple[RowBatch, Any]:
        rows = self._cursor.fetchmany(count)
        if rows and isinstance(rows[0], Mapping):
            # A connection can ask for rows as dicts; their values come in the columns' order.
            rows = [tuple(row.values()) for row in rows]
        return RowBatch(len(rows), partial(_converted, lambda: rows, self._conversions)), self._cursor.description


class _PostgresFetch:
    """Fetches rows from PostgreSQL's cursor; they are made of what the server has sent when they are asked for."""

    def __init__(self, connection: Any, plain: dict[str, Any]) -> None:
        self._connection = connection
        self._plain = plain
        self._conversions: Mapping[int, Conversion] | None = None

    def __call__(self, count: int) -> tuple[RowBatch, Any]:
        part = self._connection.cursor(**self._plain)
        part.execute(f"FETCH FORWARD {count} FROM {_CURSOR}")
        description = part.description
        if self._conversions is None:
            types = [column[1] for column in description]
            catalog = self._connection.cursor(**self._plain) if is_postgres(self._connection) else None
            self._conversions = postgres_conversions(catalog, types)
        return RowBatch(part.rowcount, partial(_converted, partial(_made, part), self._conversions)), description


def _made(cursor: Any) -> Sequence[Sequence[Any]]:
    """
    Let PostgreSQL's driver make values of what the server has sent.

    :raises InvalidRequestError: if there is none for it in Python, as for a moment after the year 9999.
    """
    try:
        rows: Sequence[Sequence[Any]] = cursor.fetchall()
    except (ValueError, cursor.connection.DataError) as error:
        raise InvalidRequestError(
            f"sql: expected values that the database's driver can read, got one that it cannot: {error}. Leave such "
            "rows out, or cast the column to text in the query."
        ) from error
    return rows


def _converted(
    fetch: Callable[[], Sequence[Sequence[Any]]], conversions: Mapping[int, Conversion]
) -> Sequence[Sequence[Any]]:
    rows = fetch()
    if not rows or not conversions:
        return rows
    columns = list(zip(*rows, strict=True))
    for index, convert in conversions.items():
        columns[index] = tuple(map(convert, columns[index]))
    return list(zip(*columns, strict=True))
