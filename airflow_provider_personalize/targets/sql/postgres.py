"""PostgreSQL: binary COPY, straight into the target where its columns allow that."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from airflow_provider_personalize.output.rows import Batch, Column
from airflow_provider_personalize.sql.postgres import PostgresTable
from airflow_provider_personalize.sql.table import VALUE
from airflow_provider_personalize.sql.values import ColumnType, UnfitValueError
from airflow_provider_personalize.targets.sql.base import STAGE, SqlTarget
from airflow_provider_personalize.targets.sql.pgcopy import TEXTS, RowEncoder, copy_order
from airflow_provider_personalize.targets.sql.pgstream import copy_from

#: Which types binary COPY can write for each of ours; for any other, PostgreSQL converts from a temporary table.
_DIRECT = {"text": TEXTS, "integer": {"int2", "int4", "int8"}, "double": {"float4", "float8"}}
_STAGE_TYPES = {"text": "text", "integer": "int4", "double": "float8"}


class PostgresTarget(SqlTarget):
    """
    Load into PostgreSQL, through psycopg 2 or 3.

    All is one transaction with ROW EXCLUSIVE locks, so readers go on reading what was there, and an advisory lock of
    the target's name lets one load at a time at it. A load that dies leaves nothing behind.
    """

    table: PostgresTable

    def begin(self) -> None:
        """Let each statement see what was committed before it, so that a load that waited sees what it waited for."""
        self.table.execute("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
        self.table.execute("SET LOCAL client_encoding TO 'UTF8'")

    def lock(self) -> None:
        """Take the advisory lock of the target's full name until the transaction ends."""
        self.table.execute(
            "SELECT coalesce((SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
            f"WHERE c.oid = to_regclass({VALUE})), {VALUE}, current_schema())",
            [self.table.quoted, self.table.schema],
        )
        self.lock_name(f"{self.table.cursor.fetchone()[0]}.{self.table.name}")

    def lock_name(self, name: str) -> None:
        """Take the advisory lock of a name until the transaction ends."""
        key = hashlib.sha256(f"airflow-provider-personalize {name}".encode()).digest()[:8]
        self.table.execute(f"SELECT pg_advisory_xact_lock({VALUE}::bigint)", [int.from_bytes(key, signed=True)])

    def check_table(self) -> None:
        """Make sure, too, that PostgreSQL can convert to the columns' types, and that rows go where they are sent."""
        super().check_table()
        casts = []
        for column in self.columns:
            cast = self._turned(column, f"NULL::{self.table.types[column.type]}")
            casts.append(f"CAST({cast} AS float8)" if self._is_other_number(column) else cast)
        self.table.execute("SAVEPOINT check_types")
        try:
            self.table.execute(f"SELECT {', '.join(casts)}")
        except self.table.connection.Error as error:
            self.table.execute("ROLLBACK TO SAVEPOINT check_types")
            raise self.table.mismatch(
                f"{str(error).strip()}. Change the column's type, or leave it out with column_names."
            ) from error
        self.table.execute("RELEASE SAVEPOINT check_types")
        rules = [*(self.table.facts.insert_rules if self._goes_aside else ())]
        rules += self.table.facts.delete_rules if self.plan.write_mode != "append" else ()
        if rules:
            raise self.table.mismatch(
                f"its rules {', '.join(rules)} do something else INSTEAD of what a load does, so what it would "
                "hold is not known. Drop them, or load into the table that they lead to."
            )

    def write(self, batches: Iterator[Batch]) -> None:
        """COPY into the table; or into the stage, to merge or where PostgreSQL has to convert or compare values."""
        if self.plan.write_mode != "merge":
            self.make_room()
        if self._goes_aside:
            self.create_stage()
            columns = copy_order(self.stage_columns)
            types = [self.table.pg_types[c.name].name if self._is_direct(c) else _STAGE_TYPES[c.type] for c in columns]
            encoder = RowEncoder(columns, types, lengths=self._lengths())
            self._copy(
                STAGE, [column.field for column in columns], encoder(batch.with_rank_zero_rows() for batch in batches)
            )
            return
        columns = copy_order(self.columns)
        types = [self.table.pg_types[column.name].name for column in columns]
        encoder = RowEncoder(columns, types, self._constants(), self._lengths())
        self._copy(self.table.quoted, [*self.constants, *(column.name for column in columns)], encoder(batches))
        self.taken = self.counted()

    def checked(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Pass the batches on: the encoder checks values, and :meth:`finish` asks the server about the others."""
        return batches

    @property
    def may_keep_rows(self) -> bool:
        """Whether a trigger watches a DELETE, or it is a view."""
        return self.table.facts.watches_deletes or not self.table.facts.is_table

    @property
    def may_show_others(self) -> bool:
        """Whether it is a view: the count that its trigger reports may be any number."""
        return not self.table.facts.is_table

    def finish(self) -> None:
        """Bring the rows of the stage into the table."""
        if self._goes_aside:
            self.table.execute(f"ANALYZE {STAGE}")
            # Without this, PostgreSQL before 12 writes only 15 digits of a number.
            self.table.execute("SET LOCAL extra_float_digits = 3")
            self._check_kept()
            if self.plan.write_mode == "merge":
                self.merge_stage()
            else:
                self.insert_stage()

    def create_stage(self) -> None:
        """
        Create the stage for this transaction alone: with a pooler, the session outlives the connection.

        A column has the target's type where binary COPY writes that, so that the server refuses what does not fit.
        """
        kinds = {column.field: self.table.types[column.type] for column in self.stage_columns}
        kinds |= {c.field: self.table.existing[c.name].type for c in self.columns if self._is_direct(c)}
        columns = ", ".join(f"{self.table.quote(name)} {kind}" for name, kind in kinds.items())
        self.table.execute(f"CREATE TEMPORARY TABLE {STAGE} ({columns}) ON COMMIT DROP")

    def check_types(self) -> None:
        """Make sure that numbers go into columns of numbers. Ids are compared once they are in the stage."""
        for column in self.columns:
            if column.type != "text" and self.table.pg_types[column.name].category in {"B", "V"}:
                kind = self.table.existing[column.name].type
                raise self.table.mismatch(f"its column {column.name} is of type {kind}, which holds no numbers.")

    def _check_kept(self) -> None:
        """Make sure that no value changes in a column of another type: as a number, ``007`` would be ``7``."""
        for column in self.columns:
            if self._is_direct(column) or column.field == "filter_values":
                continue
            staged = self.table.quote(column.field)
            turned = self._turned(column, staged)
            if column.type == "text":
                # Unlike a cast to text, concat() gives the spaces that fill char(n) up.
                shown = f"concat(CAST({staged} AS {self.table.existing[column.name].type}))"
                differs = f'{shown} COLLATE "C" <> {staged}'
            elif self._is_other_number(column):
                shown, differs = f"{turned}::text", f"CAST({turned} AS float8) <> {staged}"
            else:
                continue
            self.table.execute(f'SELECT {staged}, {shown} FROM {STAGE} WHERE {differs} AND "rank" > 0 LIMIT 1')
            if found := self.table.cursor.fetchone():
                what, remedy = (
                    ("id", "text") if column.type == "text" else (column.field, self.table.types[column.type])
                )
                raise self.table.mismatch(
                    f"the {what} {found[0]!r} would become {found[1]!r} in the column {column.name} of type "
                    f"{self.table.existing[column.name].type}. Make the column {remedy}."
                )

    def _is_other_number(self, column: Column) -> bool:
        """Return whether the server's cast could change a number, for example by rounding it to a whole one."""
        kind = self.table.pg_types[column.name]
        if self._is_direct(column) or kind.category != "N":
            return False
        return column.type == "integer" or (column.type == "double" and ColumnType(kind.base).is_integer)

    def _is_direct(self, column: Column) -> bool:
        """Return whether binary COPY can write the column."""
        return column.name in self.table.pg_types and self.table.pg_types[column.name].name in _DIRECT[column.type]

    def _lengths(self) -> dict[str, int]:
        """Return the lengths of the columns that have one and that binary COPY writes."""
        texts = [column for column in self.columns if column.type == "text" and self._is_direct(column)]
        return {column.field: length for column in texts if (length := self.table.column_type(column.name).length)}

    @property
    def constants(self) -> Mapping[str, Any]:
        """The columns, and their values, that a COPY into the table writes into each row."""
        return self.plan.extra

    @property
    def _goes_aside(self) -> bool:
        direct = all(map(self._is_direct, self.columns))
        return self.plan.write_mode == "merge" or not direct or not self.table.facts.takes_copy

    def _constants(self) -> list[bytes | None]:
        """Return the values of ``extra_columns`` in binary, which the server writes for the columns' types."""
        constants: list[bytes | None] = []
        for name, value in self.constants.items():
            sent = f"{self.table.pg_types[name].send}({self.table.cast(VALUE, name)})"
            self.table.execute(f"SELECT {sent}", [self.table.bound(self.table.held(name, value))])
            sent = self.table.cursor.fetchone()[0]
            constants.append(None if sent is None else bytes(sent))
        return constants

    def _copy(self, into: str, names: list[str], stream: Iterable[bytes | memoryview]) -> None:
        sql = f"COPY {into} ({', '.join(map(self.table.quote, names))}) FROM STDIN (FORMAT binary)"
        try:
            copy_from(self.table.cursor, sql, stream)
        except UnfitValueError as error:
            raise self.table.mismatch(f"{error}. Change the column's type.") from error

    def _turned(self, column: Column, value: str) -> str:
        """Return an expression as a column's type; a double becomes numeric by its text, which has all its digits."""
        if column.type == "double" and self.table.pg_types[column.name].base.startswith("numeric"):
            value = f"CAST({value} AS text)"
        return self.table.cast(value, column.name)

    def staged(self, column: Column) -> str:
        """Return a column of the stage as the table's type."""
        return self._turned(column, self.table.quote(column.field))
