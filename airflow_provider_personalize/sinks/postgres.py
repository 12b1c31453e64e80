"""PostgreSQL: binary COPY, straight into the target where its columns allow that."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from airflow_provider_personalize.batch.rows import Batch
from airflow_provider_personalize.exceptions import InvalidRequestError
from airflow_provider_personalize.sinks.ahead import ahead
from airflow_provider_personalize.sinks.base import STAGE, VALUE, Sink
from airflow_provider_personalize.sinks.load import Load, TableColumn
from airflow_provider_personalize.sinks.pgcopy import TEXTS, RowEncoder, copy_order

#: Bytes in one message of a COPY. The server takes each whole before it reads the rows in it: 16 to 64 kB, which stay
#: in a processor's nearest caches, cost it 5 % less time than 8 or 128 kB (tests/benchmarks/README.md).
MESSAGE = 1 << 15
#: PostgreSQL cuts longer names short, in silence.
NAME_MAX = 63
#: Which types binary COPY can write for each of ours; for any other, PostgreSQL converts from a temporary table.
_DIRECT = {"text": TEXTS, "integer": {"int2", "int4", "int8"}, "double": {"float4", "float8"}}
_STAGE_TYPES = {"text": "text", "integer": "int4", "double": "float8"}


class PostgresSink(Sink):
    """
    Load into PostgreSQL, through psycopg 2 or 3.

    All is one transaction with ROW EXCLUSIVE locks, so readers go on reading what was there, and an advisory lock of
    the target's name lets one load at a time at it. A load that dies leaves nothing behind.
    """

    placeholder = "%s"

    def __init__(self, hook: Any, connection: Any, load: Load) -> None:
        connection.rollback()
        connection.autocommit = False
        if hasattr(connection, "set_client_encoding"):
            connection.set_client_encoding("UTF8")
        super().__init__(hook, connection, load)
        self._details: dict[str, tuple[str, str, str]] = {}
        self._is_table = True

    def open_cursor(self) -> Any:
        """Open a cursor that gives tuples, whatever the connection is set to."""
        if hasattr(self.connection, "row_factory"):
            from psycopg.rows import tuple_row

            return self.connection.cursor(row_factory=tuple_row)
        from psycopg2.extensions import cursor  # type: ignore[import-untyped]

        return self.connection.cursor(cursor_factory=cursor)

    def begin(self) -> None:
        """Make each statement see what was committed before it: so a load that waited sees what it waited for."""
        self.execute("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
        self.execute("SET LOCAL client_encoding TO 'UTF8'")

    def begin_reading(self) -> None:
        """Take one snapshot for all statements."""
        self.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")

    def lock(self) -> None:
        """Take the advisory lock of the target's full name until the transaction ends."""
        self.execute(
            "SELECT coalesce((SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
            f"WHERE c.oid = to_regclass({VALUE})), {VALUE}, current_schema())",
            [self.target, self.load.schema],
        )
        name = f"{self.cursor.fetchone()[0]}.{self.load.table}"
        key = hashlib.sha256(f"airflow-provider-personalize {name}".encode()).digest()[:8]
        self.execute(f"SELECT pg_advisory_xact_lock({VALUE}::bigint)", [int.from_bytes(key, signed=True)])

    def describe(self) -> Mapping[str, TableColumn] | None:
        """Read the columns from the catalogue, and how to write each."""
        self.execute(
            "SELECT a.attname, format_type(a.atttypid, a.atttypmod), t.typname, t.typcategory, t.typsend::text, "
            "NOT a.attnotnull OR a.atthasdef OR a.attidentity <> '', c.relkind IN ('r', 'p') "
            "FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid JOIN pg_class c ON c.oid = a.attrelid "
            f"WHERE a.attrelid = to_regclass({VALUE}) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum",
            [self.target],
        )
        columns = {}
        for name, full_type, type_name, category, send, optional, is_table in self.cursor.fetchall():
            self._is_table = is_table
            columns[name] = TableColumn(full_type, optional)
            self._details[name] = (type_name, category, send)
        return columns or None

    def prepare(self) -> None:
        """Check, too, that PostgreSQL can turn ours into the columns' types."""
        super().prepare()
        casts = [self.cast(f"NULL::{self.types[column.type]}", column.name) for column in self.load.columns]
        self.execute("SAVEPOINT check_types")
        try:
            self.execute(f"SELECT {', '.join(casts)}")
        except self.connection.Error as error:
            self.execute("ROLLBACK TO SAVEPOINT check_types")
            raise self.mismatch(
                f"{str(error).strip()}. Change the column's type, or leave it out with column_names."
            ) from error

    def write(self, batches: Iterator[Batch]) -> None:
        """COPY into the target, or aside for a merge or for types that PostgreSQL has to convert to."""
        if self.load.write_mode != "merge":
            self.delete_old()
        if self._goes_aside:
            self.create_stage()
            columns = copy_order(self.stage_columns)
            encoder = RowEncoder(columns, [_STAGE_TYPES[column.type] for column in columns])
            self._copy(STAGE, [column.role for column in columns], encoder(batch.with_markers() for batch in batches))
            return
        columns = copy_order(self.load.columns)
        encoder = RowEncoder(columns, [self._details[column.name][0] for column in columns], self._constants())
        self._copy(self.target, [*self.load.extra, *(column.name for column in columns)], encoder(batches))

    def finish(self) -> None:
        """Bring what was written aside into the target."""
        if self._goes_aside:
            self.execute(f"ANALYZE {STAGE}")
            self._check_ids()
            if self.load.write_mode == "merge":
                self.merge_stage()
            else:
                self.insert_stage()

    def check_texts(self) -> None:
        """Leave it to the rows: PostgreSQL can tell whether an id would change."""

    def _check_ids(self) -> None:
        """Make sure that an id means the same in a column of another type: as a number, ``007`` would be ``7``."""
        for column in self.load.columns:
            if column.type != "text" or self._details[column.name][1] == "S":
                continue
            staged = self.quote(column.role)
            turned = self.cast(staged, column.name)
            self.execute(
                f'SELECT {staged}, {turned}::text FROM {STAGE} WHERE {turned}::text <> {staged} AND "rank" > 0 LIMIT 1'
            )
            if found := self.cursor.fetchone():
                raise self.mismatch(
                    f"the id {found[0]!r} would become {found[1]!r} in the column {column.name} of type "
                    f"{self.existing[column.name].type}. Make the column text."
                )

    @property
    def _goes_aside(self) -> bool:
        direct = all(self._details[column.name][0] in _DIRECT[column.type] for column in self.load.columns)
        return self.load.write_mode == "merge" or not direct or not self._is_table

    def _constants(self) -> list[bytes | None]:
        """Let the server write the values of ``extra_columns`` in binary, whatever their columns' types."""
        constants: list[bytes | None] = []
        for name, value in self.load.extra.items():
            self.execute(f"SELECT {self._details[name][2]}({self.cast(VALUE, name)})", [self.bound(value)])
            sent = self.cursor.fetchone()[0]
            constants.append(None if sent is None else bytes(sent))
        return constants

    def _copy(self, table: str, names: list[str], stream: Iterable[bytes | memoryview]) -> None:
        sql = f"COPY {table} ({', '.join(map(self.quote, names))}) FROM STDIN (FORMAT binary)"
        with ahead(stream) as chunks:
            if hasattr(self.cursor, "copy_expert"):
                self.cursor.copy_expert(sql, _Readable(_messages(chunks)))
            else:
                with _quick_turns(), self.cursor.copy(sql) as copy:
                    for message in _messages(chunks):
                        copy.write(message)

    def cast(self, value: str, column: str) -> str:
        """Convert explicitly; but a text that is too long for its column is an error, where a cast would cut it."""
        _, category, _ = self._details[column]
        return value if category == "S" else f"CAST({value} AS {self.existing[column].type})"

    def bound(self, value: Any) -> Any:
        """Send every value as text, which the server converts to the column's type."""
        if value is None or isinstance(value, str):
            return value
        if isinstance(value, bool):
            return str(value).lower()
        return value.isoformat() if hasattr(value, "isoformat") else str(value)

    def quote(self, name: str) -> str:
        """Quote an identifier, but for one that PostgreSQL would cut short."""
        if len(name.encode()) > NAME_MAX:
            raise InvalidRequestError(
                f"Expected a name of at most {NAME_MAX} bytes, as PostgreSQL takes, got {name!r}."
            )
        return super().quote(name)


@contextmanager
def _quick_turns() -> Iterator[None]:
    """
    Let threads take turns ten times as often as Python does by itself.

    psycopg 3 needs a turn for each time that the socket takes some more, 200 kB or so. That much is what the server
    works on for 4 ms, and an interval of 5 ms lets it wait for the parser's turn to end.
    """
    interval = sys.getswitchinterval()
    sys.setswitchinterval(0.0005)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)


def _messages(chunks: Iterable[bytes | memoryview]) -> Iterator[memoryview]:
    """Cut a COPY stream into what goes to the server as one message each."""
    for chunk in chunks:
        view = memoryview(chunk)
        for start in range(0, len(view), MESSAGE):
            yield view[start : start + MESSAGE]


class _Readable:
    """What psycopg 2 reads a COPY from: an iterator of messages. One may be longer than what was asked for."""

    def __init__(self, messages: Iterator[memoryview]) -> None:
        self._messages = messages

    def read(self, size: int = -1) -> bytes:
        return bytes(next(self._messages, b""))
