"""Any database that Airflow has a DB-API hook for: batched inserts in one transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from itertools import islice

from airflow_provider_personalize.output.rows import Batch
from airflow_provider_personalize.sql.table import VALUE
from airflow_provider_personalize.targets.sql.base import SqlTarget

#: Entities in one DELETE of a merge: every database takes as many bound values.
DELETED_AT_ONCE = 500


class GenericTarget(SqlTarget):
    """
    Load through ``executemany``.

    What this cannot promise: a database whose CREATE TABLE commits by itself keeps the (empty) table of a load that
    failed, and nothing but the database's own isolation keeps two loads of one table apart. Texts that a column's
    collation takes for the same are the same to a merge, and to a slice.
    """

    ddl_commits = True

    def write(self, batches: Iterator[Batch]) -> None:
        """Insert; to merge, delete what each batch covers first."""
        if self.plan.write_mode == "merge":
            batches = self._deleting(batches)
        else:
            self.make_room()
        tail = self.tail
        rows = (row + tail for batch in batches for row in batch.rows(self.columns))
        taken = self.insert(self.table.quoted, [self.table.quote(name) for name in self.target_names], rows)
        # Some drivers tell of the last row alone.
        self.taken = None if taken == 1 else taken

    def finish(self) -> None:
        """Do nothing: the rows are in the table."""

    def _deleting(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Delete the old rows of each batch's entities, those that no batch before it has brought."""
        name = self.table.quote(self.entity.name)
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
                    self.table.execute(f"DELETE FROM {self.table.quoted} WHERE {name} IN ({marks})", chunk)
                if None in batch.entities and not seen_null:
                    seen_null = True
                    self.table.execute(f"DELETE FROM {self.table.quoted} WHERE {name} IS NULL")
                yield batch
