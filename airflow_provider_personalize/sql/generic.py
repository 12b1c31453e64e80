"""A table of any database that Airflow has a DB-API hook for, with SQLAlchemy's words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_provider_personalize.sql.statements import read_only
from airflow_provider_personalize.sql.table import SqlTable, TableColumn


class GenericTable(SqlTable):
    """A table that SQLAlchemy's dialect describes, and whose names it quotes."""

    def __init__(self, hook: Any, connection: Any, name: str, schema: str | None = None) -> None:
        if hook.supports_autocommit or getattr(connection, "autocommit", False) is True:
            hook.set_autocommit(connection, False)
        self.placeholder = hook.placeholder
        self._engine = hook.get_sqlalchemy_engine()
        #: The columns of the table, where this connection has created it.
        self._created: Mapping[str, str] | None = None
        super().__init__(hook, connection, name, schema)

    def open_cursor(self) -> Any:
        """Return a cursor that gives tuples, whatever the connection is set to."""
        return _TupleCursor(self.connection.cursor())

    def begin_reading(self, values: Mapping[str, Any]) -> None:
        """Only read, as far as the database can."""
        read_only(self.connection)

    def create(self, name: str, columns: Mapping[str, str], *, if_missing: bool = False) -> None:
        """Create a table; note the columns if it is this one."""
        super().create(name, columns, if_missing=if_missing)
        if name == self.quoted:
            self._created = columns

    def look(self) -> bool:
        """Look at the table's columns; no other connection sees those that this transaction has made."""
        if self._created is None:
            return super().look()
        self.existing = {self.fold(name): TableColumn(self.types[kind], True) for name, kind in self._created.items()}
        return True

    def describe(self) -> Mapping[str, TableColumn] | None:
        """Return the columns that SQLAlchemy finds."""
        import sqlalchemy

        try:
            return self._described(sqlalchemy.inspect(self._engine))
        finally:
            self._engine.dispose()

    def _described(self, inspector: Any) -> Mapping[str, TableColumn] | None:
        if not inspector.has_table(self.name, schema=self.schema):
            return None
        return {
            column["name"]: TableColumn(
                str(column["type"]),
                bool(column["nullable"] or column.get("default") or column.get("autoincrement") is True),
                bool(column.get("computed") or (column.get("identity") or {}).get("always")),
            )
            for column in inspector.get_columns(self.name, schema=self.schema)
        }

    def quote(self, name: str) -> str:
        """Return an identifier as this database quotes it."""
        super().quote(name)
        return str(self._engine.dialect.identifier_preparer.quote_identifier(name))


class _TupleCursor:
    """A cursor whose rows are tuples: a connection can ask for dicts."""

    def __init__(self, cursor: Any) -> None:
        self._cursor = cursor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)

    def fetchone(self) -> Any:
        """Return the next row, or None."""
        return _as_tuple(self._cursor.fetchone())

    def fetchall(self) -> list[Any]:
        """Return all rows that are left."""
        return list(map(_as_tuple, self._cursor.fetchall()))


def _as_tuple(row: Any) -> Any:
    return tuple(row.values()) if isinstance(row, Mapping) else row
