"""SQLite: one transaction, which readers see the end of at once."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from airflow_provider_personalize.output.rows import Column
from airflow_provider_personalize.sql.statements import read_only
from airflow_provider_personalize.targets.plan import Load, TableColumn
from airflow_provider_personalize.targets.sql.base import Sink
from airflow_provider_personalize.targets.sql.values import UnfitValueError

#: Milliseconds to wait for another writer; SQLite has one at a time.
BUSY_TIMEOUT = 600_000


class SqliteSink(Sink):
    """Load into SQLite by ``executemany``. ``schema`` is the name of an attached database."""

    def __init__(self, hook: Any, connection: Any, load: Load) -> None:
        if hasattr(connection, "autocommit"):
            # From Python 3.12 on, a connection can be one whose commit() does nothing.
            connection.autocommit = -1  # sqlite3.LEGACY_TRANSACTION_CONTROL
        connection.isolation_level = None
        connection.row_factory = None
        connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT}")
        super().__init__(hook, connection, load)

    def begin(self) -> None:
        """Begin as a writer: this waits for another load to end, and makes one that waits see what it wrote."""
        self.execute("BEGIN IMMEDIATE")

    def begin_reading(self) -> None:
        """Begin as a reader that cannot write."""
        read_only(self.connection)
        self.execute("BEGIN")

    def describe(self) -> Mapping[str, TableColumn] | None:
        """Read the columns, hidden ones (of a virtual table) left out."""
        schema = f"{self.quote(self.load.schema)}." if self.load.schema else ""
        self.execute(f"PRAGMA {schema}table_xinfo({self.quote(self.load.table)})")
        columns = {
            name: TableColumn(
                kind, not notnull or default is not None or hidden or _is_rowid(kind, key), computed=hidden in (2, 3)
            )
            for _, name, kind, notnull, default, key, hidden in self.cursor.fetchall()
        }
        return columns or None

    def fold(self, name: str) -> str:
        """Give the name in lower case: SQLite's names differ by more than that."""
        return name.lower()

    def check_types(self) -> None:
        """Make sure that ids go where SQLite leaves a text as it is: in a column of type STRING, ``007`` is ``7``."""
        for column in self.load.columns:
            kind = self.existing[self.fold(column.name)].type
            if column.type == "text" and _affinity(kind) not in {"text", "none"}:
                raise self.mismatch(
                    f"its column {column.name} is of type {kind}, which would change ids such as '007'. Make it text."
                )

    def check_for(self, column: Column) -> Callable[[Iterable[Any]], None] | None:
        """Look at numbers that become text, of which SQLite writes 15 digits; a column holds all else as it is."""
        kind = self.existing[self.fold(column.name)].type
        return _check_digits if column.type == "double" and _affinity(kind) == "text" else None

    def held(self, name: str, value: Any) -> Any:
        """Leave a value as it is, unless it is a number and has too many digits: to SQLite, types are hints."""
        numeric = _affinity(self.existing[self.fold(name)].type) in {"integer", "real", "numeric"}
        if isinstance(value, (str, int, Decimal)) and numeric:
            try:
                number = Decimal(value)
            except InvalidOperation:
                return value
            whole = number.is_finite() and number == int(number) and abs(number) < 2**63
            if number.is_finite() and not whole and number != Decimal(repr(float(number))):
                raise self.unfit(name, f"would change {value!r} of extra_columns: SQLite holds it as a double")
        return value

    def bound(self, value: Any) -> Any:
        """Write dates as SQLite's own functions do; the driver's adapters for them are deprecated."""
        if isinstance(value, datetime):
            return value.isoformat(" ")
        return value if value is None or isinstance(value, (str, int, float)) else str(value)


def _is_rowid(kind: str, key: int) -> bool:
    """Tell whether a column is SQLite's own row number, which fills itself."""
    return bool(key) and kind.upper() == "INTEGER"


def _affinity(kind: str) -> str:
    """Tell what SQLite makes of a type's name (https://www.sqlite.org/datatype3.html#determination_of_column_affinity)."""
    rules = {"int": "integer", "char|clob|text": "text", "blob|^$": "none", "real|floa|doub": "real"}
    return next((affinity for words, affinity in rules.items() if re.search(words, kind.lower())), "numeric")


def _check_digits(values: Iterable[float | None]) -> None:
    for value in values:
        if value is not None and float(f"{value:.15g}") != value:
            raise UnfitValueError(f"{value!r} has more digits than SQLite writes into a text")
