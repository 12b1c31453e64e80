"""The rows of a statement on a table's own connection, as they come: no more of them in memory than a block."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any

from airflow_provider_personalize.sql.mysql import as_text
from airflow_provider_personalize.sql.query import streaming_cursor
from airflow_provider_personalize.sql.server_csv import copy_csv, with_values
from airflow_provider_personalize.sql.table import SqlTable

#: Rows of one fetch.
FETCHED_ROWS = 10_000


def stream_rows(
    table: SqlTable, sql: str, values: Sequence[Any], consume: Callable[[Iterable[Sequence[Any]]], None]
) -> None:
    """
    Execute a query and hand its rows on, block by block.

    On PostgreSQL all values are text, and NULL is an empty one: the server writes them as CSV, which it does with as
    many processes as it likes. It gives a cursor but one.

    :param table: The table.
    :param sql: The query, with a :data:`~airflow_provider_personalize.sql.table.VALUE` for each bound value.
    :param values: The values.
    :param consume: Takes a block of rows.
    """
    if values:
        sql = table.with_placeholders(sql)
    if table.database == "postgres":
        query = with_values(table.connection, sql, list(values))
        copy_csv(table.connection, query, lambda block: consume(csv.reader(io.StringIO(block.decode(), newline=""))))
        return
    # Redshift's driver has no cursor that streams, and the table's own is the one that knows its placeholders.
    cursor = table.open_cursor() if table.database == "redshift" else streaming_cursor(table.connection)
    try:
        cursor.execute(*((sql, list(values)) if values else (sql,)))
        while rows := cursor.fetchmany(FETCHED_ROWS):
            consume(_as_texts(rows) if table.database == "mysql" else rows)
    finally:
        if cursor is not table.connection:
            # Where the reading was broken off, some drivers complain.
            with suppress(Exception):
                cursor.close()


def _as_texts(rows: Iterable[Any]) -> Iterable[Sequence[Any]]:
    """Yield rows as tuples, and what comes as bytes as text."""
    for row in rows:
        values = row.values() if isinstance(row, dict) else row
        yield [as_text(value) if isinstance(value, (bytes, bytearray)) else value for value in values]
