"""What is DuckDB's own of a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, ClassVar

from airflow_provider_personalize.sql.drivers import Database
from airflow_provider_personalize.sql.statements import read_only
from airflow_provider_personalize.sql.table import VALUE, SqlTable, TableColumn


class DuckDbTable(SqlTable):
    """A table of DuckDB."""

    database: ClassVar[Database] = "duckdb"
    types: ClassVar[Mapping[str, str]] = {**SqlTable.types, "double": "double", "timestamptz": "timestamptz"}
    singles: ClassVar[frozenset[str]] = frozenset({"float"})

    def open_cursor(self) -> Any:
        """Return the connection itself: what DuckDB calls a cursor is another connection."""
        return self.connection

    def begin_reading(self, values: Mapping[str, Any]) -> None:
        """Begin a transaction that only reads, and is one snapshot; unless it has begun."""
        from duckdb import TransactionException

        with suppress(TransactionException):
            read_only(self.connection)

    def exact(self, column: str) -> str:
        """Return a column of text in the collation that compares bytes."""
        name = self.quote(column)
        return f"{name} COLLATE C" if self.existing[self.fold(column)].type == "VARCHAR" else name

    def exact_text(self, column: str) -> str:
        """Return the same, whatever the column's collation."""
        return f"{super().exact_text(column)} COLLATE C"

    hashes: ClassVar[bool] = True

    def hash_of_rows(self, condition: str, text: str, numbers: Sequence[str]) -> str:
        """
        Return the sum of DuckDB's own 64-bit hashes, each of one text: that of several values combines theirs so that
        two rows that exchange their ranks have the same sum once in a hundred million.
        """
        rank, *doubles = numbers
        values = ", ".join([rank, *(f"coalesce({double}, 'nan')" for double in doubles), text])
        return f"sum(hash(concat_ws(' ', {values}))) FILTER (WHERE {condition})"

    def fold(self, name: str) -> str:
        """Return the name in lower case: DuckDB's names differ by more than that."""
        return name.lower()

    def describe(self) -> Mapping[str, TableColumn] | None:
        """Return the columns, from the catalogue."""
        self.execute("SELECT * FROM duckdb_columns() LIMIT 0")
        # DuckDB has not always told.
        computed = "is_generated" if "is_generated" in [column[0] for column in self.cursor.description] else "false"
        self.execute(
            f"SELECT column_name, data_type, is_nullable OR column_default IS NOT NULL, {computed} "
            f"FROM duckdb_columns() WHERE database_name = current_database() AND lower(table_name) = lower({VALUE}) "
            f"AND lower(schema_name) = lower(coalesce({VALUE}, current_schema())) ORDER BY column_index",
            [self.name, self.schema],
        )
        return {name: TableColumn(*column) for name, *column in self.cursor.fetchall()} or None

    def has_schema(self, name: str) -> bool:
        """Return whether the catalogue has the schema."""
        self.execute(
            "SELECT 1 FROM duckdb_schemas() "
            f"WHERE database_name = current_database() AND lower(schema_name) = lower({VALUE})",
            [name],
        )
        return self.cursor.fetchone() is not None
