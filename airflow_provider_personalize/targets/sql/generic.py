"""Any database that Airflow has a DB-API hook for: batched inserts in one transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from itertools import islice
from typing import Any

from airflow_provider_personalize.output.rows import Batch
from airflow_provider_personalize.sql.statements import read_only
from airflow_provider_personalize.targets.plan import Load, TableColumn
from airflow_provider_personalize.targets.sql.base import VALUE, Sink

#: Entities in one DELETE of a merge: every database takes as many bound values.
DELETED_AT_ONCE = 500


class GenericSink(Sink):
    """
    Load through ``executemany``. Table and columns are looked at, and their names quoted, by SQLAlchemy's dialect.

    What this cannot promise: a database whose CREATE TABLE commits by itself keeps the (empty) table of a load that
    failed, and nothing but the database's own isolation keeps two loads of one table apart.
    """

    ddl_commits = True

    def __init__(self, hook: Any, connection: Any, load: Load) -> None:
        if hook.supports_autocommit or getattr(connection, "autocommit", False) is True:
            hook.set_autocommit(connection, False)
        self.placeholder = hook.placeholder
        self._engine = hook.get_sqlalchemy_engine()
        #: The columns of the target, where this load has created it.
        self._created: Mapping[str, str] | None = None
        super().__init__(hook, connection, load)

    def open_cursor(self) -> Any:
        """Open a cursor that gives tuples, whatever the connection is set to."""
        return _TupleCursor(self.connection.cursor())

    def begin_reading(self) -> None:
        """Only read, as far as the database can."""
        read_only(self.connection)

    def create(self, table: str, columns: Mapping[str, str], *, if_missing: bool = False) -> None:
        """Create a table, and note which columns the target has got."""
        super().create(table, columns, if_missing=if_missing)
        if table == self.target:
            self._created = columns

    def look(self) -> bool:
        """Look at the target's columns; no other connection sees those that this transaction has made."""
        if self._created is None:
            return super().look()
        self.existing = {self.fold(name): TableColumn("", optional=True) for name in self._created}
        return True

    def describe(self) -> Mapping[str, TableColumn] | None:
        """Read the columns through SQLAlchemy."""
        import sqlalchemy

        try:
            return self._described(sqlalchemy.inspect(self._engine))
        finally:
            self._engine.dispose()

    def _described(self, inspector: Any) -> Mapping[str, TableColumn] | None:
        if not inspector.has_table(self.load.table, schema=self.load.schema):
            return None
        return {
            column["name"]: TableColumn(
                str(column["type"]),
                bool(column["nullable"] or column.get("default") or column.get("autoincrement") is True),
                bool(column.get("computed") or (column.get("identity") or {}).get("always")),
            )
            for column in inspector.get_columns(self.load.table, schema=self.load.schema)
        }

    def quote(self, name: str) -> str:
        """Quote an identifier as this database does."""
        super().quote(name)
        return str(self._engine.dialect.identifier_preparer.quote_identifier(name))

    def write(self, batches: Iterator[Batch]) -> None:
        """Insert; to merge, delete what each batch covers first."""
        if self.load.write_mode == "merge":
            batches = self._deleting(batches)
        else:
            self.delete_old()
        tail = self.tail
        rows = (row + tail for batch in batches for row in batch.rows(self.load.columns))
        taken = self.insert(self.target, [self.quote(name) for name in self.target_names], rows)
        # Some drivers tell of the last row alone.
        self.taken = None if taken == 1 else taken

    def finish(self) -> None:
        """Do nothing: the rows are where they belong."""

    def _deleting(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Delete the old rows of each batch's entities, those that no batch before it has brought."""
        entity = self.load.column("entity")
        assert entity is not None  # noqa: S101 (checked by the operator)
        name = self.quote(entity.name)
        # A database of its own, in a file that goes away by itself: entities can be more than memory takes.
        with closing(sqlite3.connect("")) as seen:
            seen.execute("CREATE TABLE seen (entity PRIMARY KEY) WITHOUT ROWID")
            seen_null = False
            for batch in batches:
                new = (
                    entity
                    for entity in batch.entities
                    if entity is not None and seen.execute("INSERT OR IGNORE INTO seen VALUES (?)", (entity,)).rowcount
                )
                while chunk := list(islice(new, DELETED_AT_ONCE)):
                    marks = ", ".join([VALUE] * len(chunk))
                    self.execute(f"DELETE FROM {self.target} WHERE {name} IN ({marks})", chunk)
                if None in batch.entities and not seen_null:
                    seen_null = True
                    self.execute(f"DELETE FROM {self.target} WHERE {name} IS NULL")
                yield batch


class _TupleCursor:
    """A cursor whose rows are tuples: a connection can ask for dicts."""

    def __init__(self, cursor: Any) -> None:
        self._cursor = cursor

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)

    def fetchone(self) -> Any:
        """Fetch the next row."""
        return _as_tuple(self._cursor.fetchone())

    def fetchall(self) -> list[Any]:
        """Fetch all rows that are left."""
        return list(map(_as_tuple, self._cursor.fetchall()))


def _as_tuple(row: Any) -> Any:
    return tuple(row.values()) if isinstance(row, Mapping) else row
