"""DuckDB: batches go in as columns, in one transaction."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any, ClassVar

from airflow_provider_personalize.output.rows import Batch, Column
from airflow_provider_personalize.sql.statements import read_only
from airflow_provider_personalize.targets.plan import TableColumn
from airflow_provider_personalize.targets.sql.base import INSERT_ROWS, STAGE, VALUE, Sink

_BATCH = "personalize_batch"


class DuckDbSink(Sink):
    """
    Load into DuckDB.

    What this cannot promise: DuckDB lets one process at a time at a file that is written to. So while a load runs,
    other processes can neither read nor load; they get an error from DuckDB, and Airflow's retry its turn. Nor does it
    take a row whose unique key another one of the same transaction has just left, so a table with a primary key may
    refuse all modes but ``append``.
    """

    types: ClassVar[Mapping[str, str]] = {**Sink.types, "double": "double", "timestamptz": "timestamptz"}
    singles: ClassVar[frozenset[str]] = frozenset({"float"})

    def open_cursor(self) -> Any:
        """Use the connection itself: what DuckDB calls a cursor is another connection."""
        return self.connection

    def begin(self) -> None:
        """Begin a transaction; by itself, DuckDB commits each statement."""
        self.connection.begin()

    def begin_reading(self) -> None:
        """Begin a transaction that only reads, and is one snapshot; unless that has begun."""
        from duckdb import TransactionException

        with suppress(TransactionException):
            read_only(self.connection)

    def fold(self, name: str) -> str:
        """Give the name in lower case: DuckDB's names differ by more than that."""
        return name.lower()

    def describe(self) -> Mapping[str, TableColumn] | None:
        """Read the columns from the catalogue."""
        self.execute("SELECT * FROM duckdb_columns() LIMIT 0")
        # DuckDB has not always told.
        computed = "is_generated" if "is_generated" in [column[0] for column in self.cursor.description] else "false"
        self.execute(
            f"SELECT column_name, data_type, is_nullable OR column_default IS NOT NULL, {computed} "
            f"FROM duckdb_columns() WHERE database_name = current_database() AND lower(table_name) = lower({VALUE}) "
            f"AND lower(schema_name) = lower(coalesce({VALUE}, current_schema())) ORDER BY column_index",
            [self.load.table, self.load.schema],
        )
        return {name: TableColumn(*column) for name, *column in self.cursor.fetchall()} or None

    def has_schema(self, name: str) -> bool:
        """Ask the catalogue."""
        self.execute(
            "SELECT 1 FROM duckdb_schemas() "
            f"WHERE database_name = current_database() AND lower(schema_name) = lower({VALUE})",
            [name],
        )
        return self.cursor.fetchone() is not None

    def write(self, batches: Iterator[Batch]) -> None:
        """Insert each batch column by column; to merge, aside first."""
        if self.load.write_mode == "merge":
            self.create_stage()
            columns, batches = self.stage_columns, (batch.with_rank_zero_rows() for batch in batches)
            self._insert_batches(STAGE, [column.field for column in columns], columns, batches, {})
        else:
            self.delete_old()
            names = [column.name for column in self.load.columns]
            extra = dict(zip(self.load.extra, self.tail, strict=True))
            self._insert_batches(self.target, names, self.load.columns, batches, extra)

    def _insert_batches(
        self,
        table: str,
        names: Sequence[str],
        columns: Sequence[Column],
        batches: Iterator[Batch],
        constants: Mapping[str, Any],
    ) -> None:
        into = f"{table} ({', '.join(map(self.quote, [*names, *constants]))})"
        for batch in batches:
            if batch.items:
                self._insert_columns(
                    into,
                    [(self.types[column.type], list(batch.column(column.field))) for column in columns],
                    list(constants.values()),
                )

    def _insert_columns(self, into: str, columns: list[tuple[str, list[Any]]], constants: Sequence[Any] = ()) -> None:
        """Insert columns, each with its type, and the same values in every row."""
        marks = [VALUE] * len(constants)
        try:
            import numpy as np
        except ImportError:
            expressions = ", ".join([*(f"unnest({VALUE}::{kind}[])" for kind, _ in columns), *marks])
            self.execute(f"INSERT INTO {into} SELECT {expressions}", [*(values for _, values in columns), *constants])
            return
        arrays: dict[str, Any] = {}
        for number, (kind, values) in enumerate(columns):
            if kind == "double":
                doubles = np.array(values, dtype=float)
                arrays[f"c{number}"] = np.ma.masked_array(doubles, np.isnan(doubles))
            else:
                arrays[f"c{number}"] = np.array(values, dtype=object if kind in {"text", "timestamp"} else None)
        self.connection.register(_BATCH, arrays)
        expressions = ", ".join([*(f"c{number}::{kind}" for number, (kind, _) in enumerate(columns)), *marks])
        self.execute(f"INSERT INTO {into} SELECT {expressions} FROM {_BATCH}", [*constants])
        self.connection.unregister(_BATCH)

    def insert(self, table: str, names: list[str], rows: Iterator[tuple[Any, ...]]) -> None:
        """Insert rejects: all columns of a chunk at once, which DuckDB likes better than row by row."""
        kinds = ("text", "text", "bigint", "bigint", "text", "text", "timestamp")
        types = [self.types[kind] for kind in kinds[: len(names)]]
        while chunk := list(islice(rows, INSERT_ROWS)):
            columns = [(kind, list(values)) for kind, values in zip(types, zip(*chunk, strict=True), strict=True)]
            self._insert_columns(f"{table} ({', '.join(names)})", columns)
