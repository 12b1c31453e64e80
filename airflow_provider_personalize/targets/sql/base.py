"""
How a load gets into a table: one transaction, the same steps in every database.

A target of SQL has a :class:`~airflow_provider_personalize.sql.table.SqlTable`, which knows its database's dialect, and
overrides the steps that this database can do better. Identifiers are quoted, always; values are bound, always.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice
from types import TracebackType
from typing import Any, ClassVar, Self

from airflow_provider_personalize.output.rows import Batch, Column, Reject
from airflow_provider_personalize.sql.table import VALUE, SqlTable
from airflow_provider_personalize.targets.base import Capabilities
from airflow_provider_personalize.targets.counts import LoadCounts
from airflow_provider_personalize.targets.plan import WRITE_MODES, LoadPlan, column_of
from airflow_provider_personalize.targets.sql.checks import TableChecks
from airflow_provider_personalize.targets.sql.records import LoadRecords

#: Rows in one call of the driver, where a target has nothing better than inserts.
INSERT_ROWS = 10_000
#: What the temporary table is called that a merge writes to first. It needs no quotes.
STAGE = "personalize_stage"


class SqlTarget(TableChecks):
    """
    A table to load rows into, all or nothing. Fulfils :class:`~airflow_provider_personalize.targets.base.Target`.

    What was staged is in the transaction that :meth:`publish` commits, so a load cannot be spread over tasks.

    :param table: The table, through an open connection, which the target closes.
    :param plan: What is to be loaded, and how.
    :param create_table: Whether to create the table where it is missing.
    :param rejects_table: The table of the same schema that takes rejected lines, or None.
    """

    capabilities: ClassVar[Capabilities] = Capabilities(frozenset(WRITE_MODES), all_or_nothing=True, parts=False)
    #: Whether a CREATE TABLE commits what was done before it, and cannot be rolled back.
    ddl_commits: ClassVar[bool] = False

    def __init__(
        self, table: SqlTable, plan: LoadPlan, *, create_table: bool = True, rejects_table: str | None = None
    ) -> None:
        super().__init__(table, plan, create_table=create_table)
        self.records = LoadRecords(table, plan, self.insert, rejects_table)
        self._rejects: Iterable[Reject] = ()
        #: How many rows the table has shown before an append, where it may show others than it takes.
        self._shown = 0

    @property
    def rejects_kept_in(self) -> str | None:
        """The name of the rejects table, if there is one."""
        return self.records.rejects_table

    # The protocol

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        connection = self.table.connection
        # The connection may be what failed; the database then rolls back by itself.
        if error is not None:
            with suppress(Exception):
                connection.rollback()
        with suppress(Exception):
            connection.close()
        if error is not None and self.table.is_refusal(error):
            raise self.table.mismatch(f"the database refused them: {str(error).strip()}") from error

    def prepare(self, columns: tuple[Column, ...]) -> None:
        """Begin the transaction, wait for other loads of the table, and make sure that it can take the rows."""
        self.columns = columns
        self.begin()
        self.lock()
        self.check_table()
        self.records.create()
        if self.ddl_commits:
            self.table.connection.commit()
            self.begin()

    def loaded_before(self) -> LoadCounts | None:
        """Return what the ledger says of the same source, for ``append`` only: other modes load it again."""
        if self.plan.write_mode != "append" or (before := self.records.loaded_before()) is None:
            return None
        self.table.connection.rollback()
        return before

    def stage(self, part: int, batches: Iterator[Batch], rejects: Iterable[Reject]) -> None:
        """Write the rows, in the open transaction."""
        self._rejects = rejects
        self.write(self.checked(batches))

    def publish(self, counts: LoadCounts) -> None:
        """Commit the rows, the note of the load and the rejected lines together."""
        self.finish()
        self.check_taken(counts.rows)
        if self.plan.write_mode == "append":
            self.records.note(counts)
        self.records.keep(self._rejects)
        self.table.connection.commit()

    def discard(self) -> None:
        """Roll the rows back, and commit the rejected lines."""
        self.table.connection.rollback()
        self.begin()
        if not self.ddl_commits:
            self.records.create()
        self.records.keep(self._rejects)
        self.table.connection.commit()

    # The steps

    def begin(self) -> None:
        """Begin a transaction, where the driver does not by itself."""

    def lock(self) -> None:
        """Wait for other loads of the same table, without keeping readers out."""

    def write(self, batches: Iterator[Batch]) -> None:
        """Make room and write the rows: into the table, or, to merge, aside first."""
        if self.plan.write_mode == "merge":
            self.create_stage()
            columns = self.stage_columns
            names = [self.table.quote(column.field) for column in columns]
            self.insert(STAGE, names, (row for batch in batches for row in batch.with_rank_zero_rows().rows(columns)))
            return
        self.make_room()
        tail = self.tail
        names = [self.table.quote(name) for name in self.target_names]
        rows = (row + tail for batch in batches for row in batch.rows(self.columns))
        self.taken = self.insert(self.table.quoted, names, rows)

    def finish(self) -> None:
        """Bring what was written aside into the table."""
        if self.plan.write_mode == "merge":
            self.merge_stage()

    # What steps are made of

    @property
    def entity(self) -> Column:
        """The column of the entities, which every merge has."""
        column = column_of(self.columns, "entity")
        assert column is not None  # noqa: S101 (LoadPlan.columns() has looked)
        return column

    @property
    def target_names(self) -> list[str]:
        """The table's columns that are written, those of ``extra_columns`` last."""
        return [*(column.name for column in self.columns), *self.plan.extra]

    @property
    def slice_condition(self) -> tuple[str, list[Any]]:
        """The condition that a row is of the slice that this load replaces, and what is to be bound in it."""
        return self.table.matches(self.plan.extra) if self.plan.write_mode == "replace_slice" else ("true", [])

    @property
    def may_keep_rows(self) -> bool:
        """Whether a trigger or a view may keep rows that a DELETE is to delete."""
        return False

    @property
    def may_show_others(self) -> bool:
        """Whether the table may hold others in the end than the rows that the database says it took."""
        return False

    def make_room(self) -> None:
        """Delete the old rows, and make sure that they are gone where something may keep them."""
        self.delete_old()
        if self.plan.write_mode != "append":
            self._check_deleted()
        elif self.may_show_others:
            self._shown = self._count_loaded()

    def _check_deleted(self) -> None:
        if self.may_keep_rows and (kept := self._count_loaded()):
            raise self.table.mismatch(
                f"{kept} rows are still there after a DELETE, as a trigger or a view of the table keeps them. Take it "
                "away, or load into the table that the rows belong to."
            )

    def check_taken(self, rows: int) -> None:
        """Count the rows of the load, too, where the table may hold others than it takes."""
        super().check_taken(rows)
        if self.may_show_others:
            self.taken = self._count_loaded() - self._shown
            super().check_taken(rows)

    def _count_loaded(self) -> int:
        """Return how many rows there are where this load's rows belong."""
        if self.plan.write_mode == "merge":
            return sum(map(self.table.count, self._are_staged))
        return self.table.count(*self.slice_condition)

    def delete_old(self) -> None:
        """Delete the rows that this load's rows replace."""
        if self.plan.write_mode == "replace":
            self.table.execute(f"DELETE FROM {self.table.quoted}")
        elif self.plan.write_mode == "replace_slice":
            condition, values = self.slice_condition
            self.table.execute(f"DELETE FROM {self.table.quoted} WHERE {condition}", values)

    @property
    def tail(self) -> tuple[Any, ...]:
        """The values of ``extra_columns`` as they are bound, for the end of each row."""
        return tuple(self.table.bound(self.table.held(name, value)) for name, value in self.plan.extra.items())

    def insert(self, into: str, names: list[str], rows: Iterator[tuple[Any, ...]]) -> int | None:
        """
        Insert rows by the driver's ``executemany``.

        :param into: The quoted name of a table.
        :param names: The quoted names of its columns.
        :param rows: The rows.
        :return: How many rows the database took, or None if it does not tell.
        """
        marks = ", ".join([VALUE] * len(names))
        sql = self.table.with_placeholders(f"INSERT INTO {into} ({', '.join(names)}) VALUES ({marks})")
        taken: int | None = 0
        while chunk := list(islice(rows, INSERT_ROWS)):
            self.table.cursor.executemany(sql, chunk)
            taken = self.counted(taken)
        return taken

    def counted(self, before: int | None = 0) -> int | None:
        """Return how many rows the last statement took, with those before it; None where the driver has no count."""
        count = self.table.cursor.rowcount
        return None if before is None or count is None or count < 0 else before + int(count)

    @property
    def stage_columns(self) -> tuple[Column, ...]:
        """The columns of the stage: those of the load, and the rank even where the table has none."""
        return self.columns if column_of(self.columns, "rank") else (*self.columns, Column("rank", "integer", "rank"))

    def create_stage(self) -> None:
        """Create a table of this connection alone, which is gone when it closes, however it ends."""
        types = self.table.types
        columns = ", ".join(f"{self.table.quote(column.field)} {types[column.type]}" for column in self.stage_columns)
        self.table.execute(f"CREATE TEMPORARY TABLE {STAGE} ({columns}){self.table.table_options}")

    def merge_stage(self) -> None:
        """Delete the rows of every entity in the stage, and insert the stage's rows."""
        for condition in self._are_staged:
            self.table.execute(f"DELETE FROM {self.table.quoted} WHERE {condition}")
        self.insert_stage()

    @property
    def _are_staged(self) -> tuple[str, str]:
        """The conditions that a row's entity is in the stage: one that it has, and none (NULL)."""
        name, staged = self.table.quote(self.entity.name), self.table.quote("entity")
        entities = f"SELECT {self.table.cast(staged, self.entity.name)} FROM {STAGE} WHERE {staged} IS NOT NULL"
        return (
            f"{self.table.exact(self.entity.name)} IN ({entities})",
            f"{name} IS NULL AND EXISTS (SELECT 1 FROM {STAGE} WHERE {staged} IS NULL)",
        )

    def insert_stage(self) -> None:
        """Insert the stage's rows into the table; before that, make sure that a merge has deleted the old ones."""
        if self.plan.write_mode == "merge":
            self._check_deleted()
        names = ", ".join(map(self.table.quote, self.target_names))
        values = [
            *(self.staged(column) for column in self.columns),
            *(self.table.cast(VALUE, name) for name in self.plan.extra),
        ]
        self.table.execute(
            f"INSERT INTO {self.table.quoted} ({names}) SELECT {', '.join(values)} FROM {STAGE} "
            f"WHERE {self.table.quote('rank')} > 0",
            self.tail,
        )
        self.taken = self.counted()

    def staged(self, column: Column) -> str:
        """Return a column of the stage as the table's type."""
        return self.table.cast(self.table.quote(column.field), column.name)
