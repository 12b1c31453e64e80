"""SQLite: one transaction, which readers see the end of at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_provider_personalize.sinks.base import Sink
from airflow_provider_personalize.sinks.load import Load, TableColumn
from airflow_provider_personalize.transfers.statements import read_only

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
            name: TableColumn(kind, optional=not notnull or default is not None or hidden or _is_rowid(kind, key))
            for _, name, kind, notnull, default, key, hidden in self.cursor.fetchall()
        }
        return columns or None

    def fold(self, name: str) -> str:
        """Give the name in lower case: SQLite's names differ by more than that."""
        return name.lower()

    def bound(self, value: Any) -> Any:
        """Write dates as SQLite's own functions do; the driver's adapters for them are deprecated."""
        return value.isoformat(*([" "] if hasattr(value, "hour") else [])) if hasattr(value, "isoformat") else value


def _is_rowid(kind: str, key: int) -> bool:
    """Tell whether a column is SQLite's own row number, which fills itself."""
    return bool(key) and kind.upper() == "INTEGER"
