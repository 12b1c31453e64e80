"""What is Redshift's own of a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

from airflow_provider_personalize.sql.drivers import Database
from airflow_provider_personalize.sql.table import VALUE, SqlTable, TableColumn
from airflow_provider_personalize.sql.values import server_text
from airflow_provider_personalize.sql.warehouse import COLUMNS_SQL, described


class RedshiftTable(SqlTable):
    """A table of Redshift, through its own driver. Names are in lower case, whatever is in quotes."""

    database: ClassVar[Database] = "redshift"
    # What it calls text has 256 bytes.
    types: ClassVar[Mapping[str, str]] = {**SqlTable.types, "text": "varchar(65535)", "timestamptz": "timestamptz"}
    singles: ClassVar[frozenset[str]] = frozenset({"real"})
    text_cast: ClassVar[str] = "varchar(65535)"

    def __init__(self, hook: Any, connection: Any, name: str, schema: str | None = None) -> None:
        connection.autocommit = False
        super().__init__(hook, connection, name, schema)

    def open_cursor(self) -> Any:
        """Return a cursor for which a percent sign is one."""
        cursor = self.connection.cursor()
        cursor.paramstyle = "qmark"
        return cursor

    def with_placeholders(self, sql: str) -> str:
        """Return a statement with bound values as the cursor wants them; what is in quotes the driver leaves alone."""
        return sql.replace(VALUE, self.placeholder)

    @contextmanager
    def drivers_style(self) -> Iterator[None]:
        """Take ``%s`` for a bound value for a while."""
        before = self.cursor.paramstyle, self.placeholder
        self.cursor.paramstyle, self.placeholder = "format", "%s"
        try:
            yield
        finally:
            self.cursor.paramstyle, self.placeholder = before

    def begin_reading(self, values: Mapping[str, Any]) -> None:
        """Only read."""
        self.execute("SET TRANSACTION READ ONLY")

    def fold(self, name: str) -> str:
        """Return the name in lower case."""
        return name.lower()

    def describe(self) -> Mapping[str, TableColumn] | None:
        """Return the columns, from the catalogue."""
        self.execute(COLUMNS_SQL, [self.fold(self.name), self.schema and self.fold(self.schema)])
        return described(self.cursor.fetchall())

    def has_schema(self, name: str) -> bool:
        """Return whether the catalogue has the schema."""
        self.execute(f"SELECT 1 FROM pg_namespace WHERE nspname = {VALUE}", [self.fold(name)])
        return self.cursor.fetchone() is not None

    def cast(self, value: str, column: str) -> str:
        """Convert explicitly; but a text that is too long for its column is an error, where a cast would cut it."""
        kind = self.column_type(column)
        return value if kind.is_text else f"CAST({value} AS {kind.text})"

    def bound(self, value: Any) -> Any:
        """Return every value as text, which the server converts to the column's type."""
        return server_text(value)
