"""DuckDB: batches go in as columns, in one transaction."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from airflow_provider_personalize.output.rows import Batch, Column
from airflow_provider_personalize.sql.table import VALUE
from airflow_provider_personalize.targets.sql.base import INSERT_ROWS, STAGE, SqlTarget

_BATCH = "personalize_batch"


class DuckDbTarget(SqlTarget):
    """
    Load into DuckDB.

    What this cannot promise: only one process at a time can open a file that is written to. So while a load runs, other
    processes can neither read nor load: they get an error from DuckDB, and a retry may find the file free. Nor does
    DuckDB take a row whose unique key was deleted in the same transaction, so a table with a primary key may refuse all
    modes but ``append``.
    """

    def begin(self) -> None:
        """Begin a transaction; by itself, DuckDB commits each statement."""
        self.table.connection.begin()

    def write(self, batches: Iterator[Batch]) -> None:
        """Insert each batch column by column; to merge, aside first."""
        if self.plan.write_mode == "merge":
            self.create_stage()
            columns, batches = self.stage_columns, (batch.with_rank_zero_rows() for batch in batches)
            self._insert_batches(STAGE, [column.field for column in columns], columns, batches, {})
        else:
            self.make_room()
            names = [column.name for column in self.columns]
            extra = dict(zip(self.plan.extra, self.tail, strict=True))
            self._insert_batches(self.table.quoted, names, self.columns, batches, extra)

    def _insert_batches(
        self,
        name: str,
        names: Sequence[str],
        columns: Sequence[Column],
        batches: Iterator[Batch],
        constants: Mapping[str, Any],
    ) -> None:
        into = f"{name} ({', '.join(map(self.table.quote, [*names, *constants]))})"
        for batch in batches:
            if batch.items:
                self._insert_columns(
                    into,
                    [(self.table.types[column.type], list(batch.column(column.field))) for column in columns],
                    list(constants.values()),
                )

    def _insert_columns(self, into: str, columns: list[tuple[str, list[Any]]], constants: Sequence[Any] = ()) -> None:
        """Insert columns, each with its type, and the same values in every row."""
        marks = [VALUE] * len(constants)
        try:
            import numpy as np
        except ImportError:
            expressions = ", ".join([*(f"unnest({VALUE}::{kind}[])" for kind, _ in columns), *marks])
            self.table.execute(
                f"INSERT INTO {into} SELECT {expressions}", [*(values for _, values in columns), *constants]
            )
            return
        arrays: dict[str, Any] = {}
        for number, (kind, values) in enumerate(columns):
            if kind == "double":
                doubles = np.array(values, dtype=float)
                arrays[f"c{number}"] = np.ma.masked_array(doubles, np.isnan(doubles))
            else:
                arrays[f"c{number}"] = np.array(values, dtype=object if kind in {"text", "timestamp"} else None)
        self.table.connection.register(_BATCH, arrays)
        expressions = ", ".join([*(f"c{number}::{kind}" for number, (kind, _) in enumerate(columns)), *marks])
        self.table.execute(f"INSERT INTO {into} SELECT {expressions} FROM {_BATCH}", [*constants])
        self.table.connection.unregister(_BATCH)

    def insert(self, into: str, names: list[str], rows: Iterator[tuple[Any, ...]]) -> None:
        """Insert rejects: all columns of a chunk at once, which DuckDB likes better than row by row."""
        kinds = ("text", "text", "bigint", "bigint", "text", "text", "timestamp")
        types = [self.table.types[kind] for kind in kinds[: len(names)]]
        while chunk := list(islice(rows, INSERT_ROWS)):
            columns = [(kind, list(values)) for kind, values in zip(types, zip(*chunk, strict=True), strict=True)]
            self._insert_columns(f"{into} ({', '.join(names)})", columns)
