"""
A query's rows as CSV that PostgreSQL itself writes, in blocks of bytes: no driver makes values of them.
"""

from __future__ import annotations

import io
import select
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_personalize.sql.drivers import database_of, driver_of
from airflow_provider_personalize.sql.statements import read_only, single_statement

if TYPE_CHECKING:
    from airflow.providers.common.sql.hooks.sql import DbApiHook

#: Bytes of a block, about.
BLOCK_BYTES = 1 << 20

#: Takes one block: whole rows.
Consume = Callable[[bytes], object]


class ServerColumn(NamedTuple):
    """A column of a query: its name, and the OID of its type."""

    name: str
    oid: int


class ServerCsv:
    """
    A query that PostgreSQL writes as CSV.

    :param connection: A connection, of psycopg 2 or 3, that only reads.
    :param query: The query, one statement, its values bound.
    """

    def __init__(self, connection: Any, query: str) -> None:
        self._connection = connection
        self._query = query
        with connection.cursor(**_plain_cursor(connection)) as cursor:
            cursor.execute(f"SELECT * FROM ({query}\n) AS asked LIMIT 0")
            #: The query's columns.
            self.columns = [ServerColumn(column[0], column[1]) for column in cursor.description]

    def copy(self, expressions: Sequence[str], consume: Consume) -> None:
        """
        Let the server write all rows.

        :param expressions: What each field is, in SQL; the query's columns are called c0, c1 and so on.
        :param consume: Takes the blocks.
        """
        names = ", ".join(f"c{index}" for index in range(len(self.columns)))
        query = f"SELECT {', '.join(expressions)} FROM ({self._query}\n) AS asked ({names})"
        copy_csv(self._connection, query, consume)


def copy_csv(connection: Any, query: str, consume: Consume) -> None:
    """
    Let PostgreSQL write the rows of a query as CSV.

    :param connection: A connection, of psycopg 2 or 3.
    :param query: The query, its values bound.
    :param consume: Takes the blocks.
    """
    statement = f"COPY ({query}) TO STDOUT (FORMAT csv)"
    copy = _copy_with_psycopg if driver_of(connection) == "psycopg" else _copy_with_psycopg2
    blocks = _Blocks(consume)
    buffer = io.BufferedWriter(blocks, BLOCK_BYTES)
    try:
        copy(connection, statement, buffer)
        buffer.flush()
    except BaseException:
        blocks.abandon()
        raise


@contextmanager
def server_csv(hook: DbApiHook, sql: str, parameters: Any = None) -> Iterator[ServerCsv | None]:
    """
    Open what writes a query's rows as CSV; None where the database is not PostgreSQL.

    The query only reads, and is alone: see :mod:`~airflow_provider_personalize.sql.statements`.

    :param hook: The database's hook.
    :param sql: The query, one statement.
    :param parameters: Values for the query's placeholders, in the driver's own style; none where it is empty.
    :raises InvalidRequestError: if the text is not one query.
    """
    connection: Any = hook.get_conn()
    try:
        # Redshift calls itself version 8, and copies to S3 alone.
        if database_of(connection) != "postgres":
            yield None
            return
        read_only(connection)
        # Checked as it was written, and again as it is sent: a value is inside a string, and stays there.
        single_statement(sql, connection)
        if driver_of(connection) == "psycopg":
            connection.execute("SET client_encoding TO 'UTF8'")
        else:
            connection.set_client_encoding("UTF8")
        yield ServerCsv(connection, single_statement(with_values(connection, sql, parameters), connection))
    finally:
        connection.close()


def _plain_cursor(connection: Any) -> dict[str, Any]:
    """Return what makes a cursor give rows as tuples, whatever the connection's own gives."""
    if driver_of(connection) == "psycopg":
        return {"row_factory": import_module("psycopg.rows").tuple_row}
    return {"cursor_factory": import_module("psycopg2.extensions").cursor}


def with_values(connection: Any, sql: str, parameters: Any) -> str:
    """Return the query with its values in it, as the driver writes them: COPY takes no placeholders."""
    if not parameters:
        return sql
    if driver_of(connection) == "psycopg":
        return str(import_module("psycopg").ClientCursor(connection).mogrify(sql, parameters))
    with connection.cursor(**_plain_cursor(connection)) as cursor:
        return str(cursor.mogrify(sql, parameters).decode())


class _Blocks(io.RawIOBase):
    """
    Takes CSV as it comes, and hands it on in blocks of whole rows; beneath a buffer, which is filled without Python.

    :param consume: Takes the blocks.
    """

    def __init__(self, consume: Consume) -> None:
        super().__init__()
        self._consume = consume
        self._rest = b""

    def writable(self) -> bool:
        return True

    def abandon(self) -> None:
        """Take no more: a buffer that is thrown away writes what it holds."""
        self._consume = len

    def write(self, data: Any) -> int:
        block = self._rest + bytes(data)
        end = end_of_rows(block)
        self._rest = block[end:]
        if end:
            self._consume(block if end == len(block) else block[:end])
        return len(data)


def end_of_rows(block: bytes) -> int:
    """
    Return where the last whole row of some CSV ends.

    :param block: CSV that begins with a row; a newline inside quotes ends none.
    """
    end = block.rfind(b"\n") + 1
    while end and block.count(b'"', 0, end) % 2:
        end = block.rfind(b"\n", 0, end - 1) + 1
    return end


def _copy_with_psycopg2(connection: Any, statement: str, buffer: io.BufferedIOBase) -> None:
    with connection.cursor(**_plain_cursor(connection)) as cursor:
        cursor.copy_expert(statement, buffer)


def _copy_with_psycopg(connection: Any, statement: str, buffer: io.BufferedIOBase) -> None:
    # Row by row from libpq itself: what psycopg does around each takes more than twice the time.
    pgconn, write = connection.pgconn, buffer.write
    arrived = select.poll()
    arrived.register(pgconn.socket, select.POLLIN)
    with connection.cursor() as cursor, cursor.copy(statement):
        receive = pgconn.get_copy_data
        while True:
            size, row = receive(1)
            if not size:
                # The server is mostly ahead, and has sent more. To wait gives the turn to the other threads, which
                # cost a third of the time where it was done for each 16 kB.
                pgconn.consume_input()
                size, row = receive(1)
            if size > 0:
                write(row)
            elif size:
                break
            else:
                arrived.poll()
        while result := pgconn.get_result():
            if result.status != import_module("psycopg.pq").ExecStatus.COMMAND_OK:
                raise import_module("psycopg.errors").error_from_result(result)
