"""What is SQLite's own of a table."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any, ClassVar

from airflow_provider_personalize.sql.drivers import Database
from airflow_provider_personalize.sql.statements import read_only
from airflow_provider_personalize.sql.table import VALUE, SqlTable, TableColumn

#: Milliseconds to wait for another writer; SQLite has one at a time.
BUSY_TIMEOUT = 600_000
#: The name of the aggregate function that hashes rows.
_HASH = "personalize_hash"


class SqliteTable(SqlTable):
    """A table of SQLite. ``schema`` is the name of an attached database."""

    database: ClassVar[Database] = "sqlite"

    def __init__(self, hook: Any, connection: Any, name: str, schema: str | None = None) -> None:
        if hasattr(connection, "autocommit"):
            # From Python 3.12 on, a connection can be one whose commit() does nothing.
            connection.autocommit = -1  # sqlite3.LEGACY_TRANSACTION_CONTROL
        connection.isolation_level = None
        connection.row_factory = None
        connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT}")
        super().__init__(hook, connection, name, schema)

    def begin_reading(self, values: Mapping[str, Any]) -> None:
        """Begin a transaction that cannot write."""
        read_only(self.connection)
        self.execute("BEGIN")

    def describe(self) -> Mapping[str, TableColumn] | None:
        """Return the columns, hidden ones (of a virtual table) left out."""
        schema = f"{self.quote(self.schema)}." if self.schema else ""
        self.execute(f"PRAGMA {schema}table_xinfo({self.quote(self.name)})")
        columns = {
            name: TableColumn(
                kind, not notnull or default is not None or hidden or _is_rowid(kind, key), computed=hidden in (2, 3)
            )
            for _, name, kind, notnull, default, key, hidden in self.cursor.fetchall()
        }
        return columns or None

    def definitions(self, kind: str) -> list[str]:
        """Return the SQL that has created the table (``table``), or what belongs to it, of a kind (``trigger``)."""
        schema = f"{self.quote(self.schema)}." if self.schema else ""
        self.execute(
            f"SELECT sql FROM {schema}sqlite_master WHERE lower(tbl_name) = lower({VALUE}) AND type = {VALUE}",
            [self.name, kind],
        )
        return [sql for (sql,) in self.cursor.fetchall()]

    def fold(self, name: str) -> str:
        """Return the name in lower case: SQLite's names differ by more than that."""
        return name.lower()

    hashes: ClassVar[bool] = True
    keeps_apart: ClassVar[str] = " LIMIT -1"

    def exact(self, column: str) -> str:
        """Return the column in the collation that compares bytes."""
        return f"{self.quote(column)} COLLATE BINARY"

    def exact_text(self, column: str) -> str:
        """Return the same, whatever the column's collation."""
        return f"{super().exact_text(column)} COLLATE BINARY"

    def hash_of_rows(self, condition: str, text: str, numbers: Sequence[str]) -> str:
        """Return the sum of Python's hashes, as SQLite has none."""
        self.connection.create_aggregate(_HASH, 2 + len(numbers), _RowHash)
        return f"{_HASH}({', '.join([condition, text, *numbers])})"

    def held(self, name: str, value: Any) -> Any:
        """Return a value as it is, since types are hints to SQLite; a number may have too many digits."""
        numeric = affinity(self.existing[self.fold(name)].type) in {"integer", "real", "numeric"}
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
        """Return dates as SQLite's own functions write them; the driver's adapters for them are deprecated."""
        if isinstance(value, datetime):
            return value.isoformat(" ")
        return value if value is None or isinstance(value, (str, int, float)) else str(value)


class _RowHash:
    """SQLite's aggregate of the hashes of rows."""

    def __init__(self) -> None:
        self._sum: int | None = None

    def step(self, counts: Any, text: str, *numbers: Any) -> None:
        """Add a row, where it counts."""
        if counts:
            # Not the hash of a tuple: two rows that exchange their ranks would often have the same sum.
            self._sum = (self._sum or 0) + hash(f"{numbers} {text}")

    def finalize(self) -> str | None:
        """Return the sum as text: SQLite has no whole numbers of more than 64 bits."""
        return None if self._sum is None else str(self._sum)


def _is_rowid(kind: str, key: int) -> bool:
    """Return whether a column is SQLite's own row number, which fills itself."""
    return bool(key) and kind.upper() == "INTEGER"


def affinity(kind: str) -> str:
    """
    Return what SQLite makes of a type's name: ``integer``, ``text``, ``none``, ``real`` or ``numeric``.

    See https://www.sqlite.org/datatype3.html#determination_of_column_affinity.
    """
    rules = {"int": "integer", "char|clob|text": "text", "blob|^$": "none", "real|floa|doub": "real"}
    return next((affinity for words, affinity in rules.items() if re.search(words, kind.lower())), "numeric")
