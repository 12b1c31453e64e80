"""SQLite: one transaction, which readers see the end of at once."""

from __future__ import annotations

import re
from collections.abc import Iterable

from airflow_provider_personalize.output.rows import Column
from airflow_provider_personalize.sql.sqlite import SqliteTable, affinity
from airflow_provider_personalize.sql.values import UnfitValueError
from airflow_provider_personalize.targets.sql.base import SqlTarget
from airflow_provider_personalize.targets.sql.checks import ValueCheck

_ON_CONFLICT = re.compile(r"\bon\s+conflict\b", re.IGNORECASE)


class SqliteTarget(SqlTarget):
    """Load into SQLite by ``executemany``."""

    table: SqliteTable

    def begin(self) -> None:
        """Begin as a writer: this waits for another load to end, and then sees what it wrote."""
        self.table.execute("BEGIN IMMEDIATE")

    @property
    def may_keep_rows(self) -> bool:
        """Whether there is a trigger, which may ignore a DELETE."""
        return bool(self.table.definitions("trigger"))

    @property
    def may_show_others(self) -> bool:
        """Whether the table may replace rows in silence, as ``ON CONFLICT REPLACE`` does."""
        return any(map(_ON_CONFLICT.search, self.table.definitions("table")))

    def check_types(self) -> None:
        """Make sure that ids go where SQLite leaves a text as it is: in a column of type STRING, ``007`` is ``7``."""
        for column in self.columns:
            kind = self.table.existing[self.table.fold(column.name)].type
            if column.type == "text" and affinity(kind) not in {"text", "none"}:
                raise self.table.mismatch(
                    f"its column {column.name} is of type {kind}, which would change ids such as '007'. Make it text."
                )

    def check_for(self, column: Column) -> ValueCheck | None:
        """Look at numbers that become text, of which SQLite writes 15 digits; a column holds all else as it is."""
        kind = self.table.existing[self.table.fold(column.name)].type
        return _check_digits if column.type == "double" and affinity(kind) == "text" else None


def _check_digits(values: Iterable[float | None]) -> None:
    for value in values:
        if value is not None and float(f"{value:.15g}") != value:
            raise UnfitValueError(f"{value!r} has more digits than SQLite writes into a text")
