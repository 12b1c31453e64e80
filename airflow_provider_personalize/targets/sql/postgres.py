"""PostgreSQL: binary COPY, straight into the target where its columns allow that."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

from airflow_provider_personalize.exceptions import InvalidRequestError
from airflow_provider_personalize.output.rows import Batch, Column
from airflow_provider_personalize.targets.plan import Load, TableColumn
from airflow_provider_personalize.targets.sql.base import STAGE, VALUE, Sink
from airflow_provider_personalize.targets.sql.pgcatalog import COLUMNS_SQL, TABLE_SQL, PgTable, PgType
from airflow_provider_personalize.targets.sql.pgcopy import TEXTS, RowEncoder, copy_order
from airflow_provider_personalize.targets.sql.pgstream import copy_from
from airflow_provider_personalize.targets.sql.values import ColumnType, UnfitValueError

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
    types: ClassVar[Mapping[str, str]] = {**Sink.types, "timestamptz": "timestamptz"}
    singles: ClassVar[frozenset[str]] = frozenset({"real"})

    def __init__(self, hook: Any, connection: Any, load: Load) -> None:
        connection.rollback()
        connection.autocommit = False
        if hasattr(connection, "prepare_threshold"):
            # A pooler may hand the next transaction another session, which has not prepared the statement.
            connection.prepare_threshold = None
        if hasattr(connection, "set_client_encoding"):
            connection.set_client_encoding("UTF8")
        super().__init__(hook, connection, load)
        self._types: dict[str, PgType] = {}
        self._table = PgTable()
        #: How many rows a view has shown before an append.
        self._shown = 0

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
        self.execute(COLUMNS_SQL, [self.target])
        columns = {}
        for name, full_type, type_name, category, send, base, optional, computed in self.cursor.fetchall():
            columns[name] = TableColumn(full_type, optional, computed)
            self._types[name] = PgType(type_name, category, send, base)
        if columns:
            self.execute(TABLE_SQL, [self.target])
            self._table = PgTable(*self.cursor.fetchone())
        return columns or None

    def has_schema(self, name: str) -> bool:
        """Ask the catalogue."""
        self.execute(f"SELECT 1 FROM pg_namespace WHERE nspname = {VALUE}", [name])
        return self.cursor.fetchone() is not None

    def prepare(self) -> None:
        """Check, too, that PostgreSQL can turn ours into the columns' types, and rows go where they are sent."""
        super().prepare()
        casts = []
        for column in self.load.columns:
            cast = self._turned(column, f"NULL::{self.types[column.type]}")
            casts.append(f"CAST({cast} AS float8)" if self._is_other_number(column) else cast)
        self.execute("SAVEPOINT check_types")
        try:
            self.execute(f"SELECT {', '.join(casts)}")
        except self.connection.Error as error:
            self.execute("ROLLBACK TO SAVEPOINT check_types")
            raise self.mismatch(
                f"{str(error).strip()}. Change the column's type, or leave it out with column_names."
            ) from error
        self.execute("RELEASE SAVEPOINT check_types")
        rules = [*(self._table.insert_rules if self._goes_aside else ())]
        rules += self._table.delete_rules if self.load.write_mode != "append" else ()
        if rules:
            raise self.mismatch(
                f"its rules {', '.join(rules)} do something else INSTEAD of what a load does, so nobody can tell what "
                "it would hold. Drop them, or load into the table that they lead to."
            )

    def write(self, batches: Iterator[Batch]) -> None:
        """COPY into the target, or aside for a merge or for what PostgreSQL has to convert or to look at."""
        if self.load.write_mode != "merge":
            self.delete_old()
        if not self._table.is_table and self.load.write_mode == "append":
            self._shown = self._count("true", [])
        if self._goes_aside:
            self.create_stage()
            columns = copy_order(self.stage_columns)
            types = [self._types[c.name].name if self._is_direct(c) else _STAGE_TYPES[c.type] for c in columns]
            encoder = RowEncoder(columns, types, lengths=self._lengths())
            self._copy(
                STAGE, [column.field for column in columns], encoder(batch.with_rank_zero_rows() for batch in batches)
            )
            return
        columns = copy_order(self.load.columns)
        types = [self._types[column.name].name for column in columns]
        encoder = RowEncoder(columns, types, self._constants(), self._lengths())
        self._copy(self.target, [*self.load.extra, *(column.name for column in columns)], encoder(batches))
        self.taken = self.counted()

    def checked(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Leave it to the encoder, and to what :meth:`finish` asks the server."""
        return batches

    def delete_old(self) -> None:
        """Make sure, too, that nothing is left, where a trigger or a view may have kept rows."""
        super().delete_old()
        if self.load.write_mode == "append" or not self._may_keep_rows:
            return
        condition, values = self.matches(self.load.extra) if self.load.write_mode == "replace_slice" else ("true", [])
        self._check_deleted(condition, values)

    def _check_deleted(self, condition: str, values: list[Any]) -> None:
        if kept := self._count(condition, values):
            raise self.mismatch(
                f"{kept} rows are still there after a DELETE, as a trigger or a view of the table keeps them. Take it "
                "away, or load into the table that the rows belong to."
            )

    def check_taken(self, rows: int) -> None:
        """Count, too, what a view shows: what stands behind it may tell anything."""
        super().check_taken(rows)
        if self._table.is_table:
            return
        condition, values = self.matches(self.load.extra) if self.load.write_mode == "replace_slice" else ("true", [])
        if self.load.write_mode == "merge":
            condition = self._is_staged
        self.taken = self._count(condition, values) - self._shown
        super().check_taken(rows)

    def _count(self, condition: str, values: list[Any]) -> int:
        self.execute(f"SELECT count(*) FROM {self.target} WHERE {condition}", values)
        return int(self.cursor.fetchone()[0])

    def finish(self) -> None:
        """Bring what was written aside into the target."""
        if self._goes_aside:
            self.execute(f"ANALYZE {STAGE}")
            # Before PostgreSQL 12, text has but 15 digits of a number without this.
            self.execute("SET LOCAL extra_float_digits = 3")
            self._check_kept()
            if self.load.write_mode == "merge":
                self.merge_stage()
            else:
                self.insert_stage()

    def create_stage(self) -> None:
        """
        Create it for this transaction alone: with a pooler, the session outlives the connection.

        A column has the target's type where binary COPY writes that, so that the server refuses what does not fit.
        """
        kinds = {column.field: self.types[column.type] for column in self.stage_columns}
        kinds |= {c.field: self.existing[c.name].type for c in self.load.columns if self._is_direct(c)}
        columns = ", ".join(f"{self.quote(role)} {kind}" for role, kind in kinds.items())
        self.execute(f"CREATE TEMPORARY TABLE {STAGE} ({columns}) ON COMMIT DROP")

    def insert_stage(self) -> None:
        """Look at what a merge has deleted before anything takes its place."""
        if self.load.write_mode == "merge" and self._may_keep_rows:
            self._check_deleted(self._is_staged, [])
        super().insert_stage()

    @property
    def _is_staged(self) -> str:
        """The condition that a row of the target is of an entity in the stage."""
        entity = self.load.column("entity")
        assert entity is not None  # noqa: S101 (checked by the operator)
        same = f"{self.quote(entity.name)} IS NOT DISTINCT FROM {self._turned(entity, self.quote('entity'))}"
        return f"EXISTS (SELECT 1 FROM {STAGE} WHERE {same})"

    @property
    def _may_keep_rows(self) -> bool:
        return self._table.watches_deletes or not self._table.is_table

    def check_types(self) -> None:
        """Leave ids to the rows, since PostgreSQL can tell whether one would change; numbers need a type of numbers."""
        for column in self.load.columns:
            if column.type != "text" and self._types[column.name].category in {"B", "V"}:
                raise self.mismatch(
                    f"its column {column.name} is of type {self.existing[column.name].type}, which holds no numbers."
                )

    def _check_kept(self) -> None:
        """Make sure that values mean the same in a column of another type: as a number, ``007`` would be ``7``."""
        for column in self.load.columns:
            if self._is_direct(column) or column.field == "filter_values":
                continue
            staged = self.quote(column.field)
            turned = self._turned(column, staged)
            if column.type == "text":
                # Unlike a cast to text, concat() gives the spaces that fill char(n) up.
                shown = f"concat(CAST({staged} AS {self.existing[column.name].type}))"
                differs = f'{shown} COLLATE "C" <> {staged}'
            elif self._is_other_number(column):
                shown, differs = f"{turned}::text", f"CAST({turned} AS float8) <> {staged}"
            else:
                continue
            self.execute(f'SELECT {staged}, {shown} FROM {STAGE} WHERE {differs} AND "rank" > 0 LIMIT 1')
            if found := self.cursor.fetchone():
                what, remedy = ("id", "text") if column.type == "text" else (column.field, self.types[column.type])
                raise self.mismatch(
                    f"the {what} {found[0]!r} would become {found[1]!r} in the column {column.name} of type "
                    f"{self.existing[column.name].type}. Make the column {remedy}."
                )

    def _is_other_number(self, column: Column) -> bool:
        """Tell whether a number could become another in the server's cast: it rounds to whole numbers, say."""
        kind = self._types[column.name]
        if self._is_direct(column) or kind.category != "N":
            return False
        return column.type == "integer" or (column.type == "double" and ColumnType(kind.base).is_integer)

    def _is_direct(self, column: Column) -> bool:
        """Tell whether binary COPY can write the column."""
        return column.name in self._types and self._types[column.name].name in _DIRECT[column.type]

    def _lengths(self) -> dict[str, int]:
        """Give the lengths of columns that have one and that binary COPY writes."""
        texts = [column for column in self.load.columns if column.type == "text" and self._is_direct(column)]
        return {column.field: length for column in texts if (length := self.column_type(column.name).length)}

    @property
    def _goes_aside(self) -> bool:
        direct = all(map(self._is_direct, self.load.columns))
        return self.load.write_mode == "merge" or not direct or not self._table.takes_copy

    def _constants(self) -> list[bytes | None]:
        """Let the server write the values of ``extra_columns`` in binary, whatever their columns' types."""
        constants: list[bytes | None] = []
        for name, value in self.load.extra.items():
            sent = f"{self._types[name].send}({self.cast(VALUE, name)})"
            self.execute(f"SELECT {sent}", [self.bound(self.held(name, value))])
            sent = self.cursor.fetchone()[0]
            constants.append(None if sent is None else bytes(sent))
        return constants

    def _copy(self, table: str, names: list[str], stream: Iterable[bytes | memoryview]) -> None:
        sql = f"COPY {table} ({', '.join(map(self.quote, names))}) FROM STDIN (FORMAT binary)"
        try:
            copy_from(self.cursor, sql, stream)
        except UnfitValueError as error:
            raise self.mismatch(f"{error}. Change the column's type.") from error

    def _turned(self, column: Column, value: str) -> str:
        """Turn an expression into a column's type; a double into numeric by its text, which has all of its digits."""
        if column.type == "double" and self._types[column.name].base.startswith("numeric"):
            value = f"CAST({value} AS text)"
        return self.cast(value, column.name)

    def staged(self, column: Column) -> str:
        """Turn a column of the stage into the target's type."""
        return self._turned(column, self.quote(column.field))

    def column_type(self, name: str) -> ColumnType:
        """Look through domains."""
        return ColumnType(self._types[name].base, self.singles)

    def held(self, name: str, value: Any) -> Any:
        """Let single precision round to its digits: comparisons here are in the column's type."""
        try:
            return self.column_type(name).hold(value)
        except UnfitValueError as error:
            raise self.unfit(name, f"would change {value!r} of extra_columns: {error}") from error

    def cast(self, value: str, column: str) -> str:
        """Convert explicitly; but a text that is too long for its column is an error, where a cast would cut it."""
        return value if self._types[column].category == "S" else f"CAST({value} AS {self.existing[column].type})"

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
