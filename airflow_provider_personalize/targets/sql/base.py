"""
How a load becomes a table: one transaction, the same steps in every database.

A sink declares its database's dialect and overrides the steps that this database can do better. Identifiers are quoted,
always; values are bound, always.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from itertools import islice
from typing import Any, ClassVar

from airflow_provider_personalize.exceptions import TooManyRejectsError
from airflow_provider_personalize.output.rows import Batch, Column
from airflow_provider_personalize.targets.plan import Result, staged_rows
from airflow_provider_personalize.targets.sql.dialect import VALUE
from airflow_provider_personalize.targets.sql.target import Target

__all__ = ["INSERT_ROWS", "LEDGER", "STAGE", "VALUE", "Sink"]

#: The table, beside the target, that says which loads were appended already.
LEDGER = "personalize_loads"
#: Rows in one call of the driver, where a sink has nothing better than inserts.
INSERT_ROWS = 10_000


class Sink(Target):
    """
    Load rows into one table, all or nothing.

    :param hook: The Airflow hook of the connection.
    :param connection: What its ``get_conn()`` gave; the sink closes it.
    :param load: What to load.
    """

    #: Whether a CREATE TABLE commits what was done before it, and cannot be rolled back.
    ddl_commits: ClassVar[bool] = False

    # The steps

    def publish(self, batches: Iterator[Batch], result: Result) -> tuple[int, int, int] | None:
        """
        Load the batches in one transaction.

        :param batches: The rows; taken one by one.
        :param result: What the reading comes to.
        :return: None; or, where ``append`` finds that this source was loaded before, and so does nothing, the lines,
            rows and rejects of then.
        :raises TableMismatchError: if the target cannot take the rows. Nothing was written.
        :raises TooManyRejectsError: if there are too many rejects. Nothing was published; the rejects table has them.
        """
        try:
            self.begin()
            self.lock()
            self.prepare()
            self.create_others()
            if self.ddl_commits:
                self.connection.commit()
                self.begin()
            if self.load.write_mode == "append" and (before := self._ledger()) is not None:
                self.connection.rollback()
                return before
            self.write(self.checked(batches))
            result.settle()
            self.finish()
            self.check_taken(result.rows)
            if self.load.write_mode == "append":
                self._note(result)
            self._keep(result)
            self.connection.commit()
        except TooManyRejectsError:
            self.connection.rollback()
            self.begin()
            if not self.ddl_commits:
                self.create_others()
            self._keep(result)
            self.connection.commit()
            raise
        except BaseException as error:
            # The connection may be what failed; the database then rolls back by itself.
            with suppress(Exception):
                self.connection.rollback()
            if self.is_refusal(error):
                raise self.mismatch(f"the database refused them: {str(error).strip()}") from error
            raise
        finally:
            with suppress(Exception):
                self.connection.close()
        return None

    def begin(self) -> None:
        """Begin a transaction, where the driver does not by itself."""

    def begin_reading(self) -> None:
        """Begin a transaction that reads only, and sees the same state of the database from its first statement on."""

    def lock(self) -> None:
        """Wait for other loads of the same table, without keeping readers out."""

    def write(self, batches: Iterator[Batch]) -> None:
        """Make room and write the rows: into the target, or, to merge, aside first."""
        if self.load.write_mode == "merge":
            self.create_stage()
            columns = self.stage_columns
            names = [self.quote(column.field) for column in columns]
            self.insert(STAGE, names, staged_rows(batches, columns))
            return
        self.delete_old()
        tail = self.tail
        names = [self.quote(name) for name in self.target_names]
        rows = (row + tail for batch in batches for row in batch.rows(self.load.columns))
        self.taken = self.insert(self.target, names, rows)

    def finish(self) -> None:
        """Bring what was written aside into the target."""
        if self.load.write_mode == "merge":
            self.merge_stage()

    # What steps are made of

    @property
    def target_names(self) -> list[str]:
        """The target's columns that are written, those of ``extra_columns`` last."""
        return [*(column.name for column in self.load.columns), *self.load.extra]

    def delete_old(self) -> None:
        """Delete what this load's rows take the place of."""
        if self.load.write_mode == "replace":
            self.execute(f"DELETE FROM {self.target}")
        elif self.load.write_mode == "replace_slice":
            condition, values = self.matches(self.load.extra)
            self.execute(f"DELETE FROM {self.target} WHERE {condition}", values)

    @property
    def tail(self) -> tuple[Any, ...]:
        """The values of ``extra_columns`` as they are bound, for the end of each row."""
        return tuple(self.bound(self.held(name, value)) for name, value in self.load.extra.items())

    def insert(self, table: str, names: list[str], rows: Iterator[tuple[Any, ...]]) -> int | None:
        """Insert rows by the driver's ``executemany``; give how many the database took, or None if it does not tell."""
        marks = ", ".join([VALUE] * len(names))
        sql = self.with_placeholders(f"INSERT INTO {table} ({', '.join(names)}) VALUES ({marks})")
        taken: int | None = 0
        while chunk := list(islice(rows, INSERT_ROWS)):
            self.cursor.executemany(sql, chunk)
            taken = self.counted(taken)
        return taken

    def counted(self, before: int | None = 0) -> int | None:
        """Add what the last statement has taken to what those before it have; None where the driver does not tell."""
        count = self.cursor.rowcount
        return None if before is None or count is None or count < 0 else before + int(count)

    @property
    def stage_columns(self) -> tuple[Column, ...]:
        """The columns of the stage: those of the load, and the rank even where the target has none."""
        columns = self.load.columns
        return columns if self.load.column("rank") else (*columns, Column("rank", "integer", "rank"))

    def create_stage(self) -> None:
        """Create a table of this connection alone, which is gone when it closes, however it ends."""
        columns = ", ".join(f"{self.quote(column.field)} {self.types[column.type]}" for column in self.stage_columns)
        self.execute(f"CREATE TEMPORARY TABLE {STAGE} ({columns}){self.table_options}")

    def merge_stage(self) -> None:
        """Delete the rows of every entity in the stage, and put the stage's rows in their place."""
        entity = self.load.column("entity")
        assert entity is not None  # noqa: S101 (checked by the operator)
        name = self.quote(entity.name)
        staged = self.quote("entity")
        self.execute(
            f"DELETE FROM {self.target} WHERE {name} IN "
            f"(SELECT {self.cast(staged, entity.name)} FROM {STAGE} WHERE {staged} IS NOT NULL)"
        )
        self.execute(
            f"DELETE FROM {self.target} WHERE {name} IS NULL AND EXISTS (SELECT 1 FROM {STAGE} WHERE {staged} IS NULL)"
        )
        self.insert_stage()

    def insert_stage(self) -> None:
        """Insert the stage's rows into the target."""
        names = ", ".join(map(self.quote, self.target_names))
        values = [
            *(self.staged(column) for column in self.load.columns),
            *(self.cast(VALUE, name) for name in self.load.extra),
        ]
        self.execute(
            f"INSERT INTO {self.target} ({names}) SELECT {', '.join(values)} FROM {STAGE} "
            f"WHERE {self.quote('rank')} > 0",
            list(self.tail),
        )
        self.taken = self.counted()

    def staged(self, column: Column) -> str:
        """Turn a column of the stage into the target's type."""
        return self.cast(self.quote(column.field), column.name)

    # Ledger and rejects

    def create_others(self) -> None:
        """Create the ledger and the table for rejects, where they are wanted and missing."""
        if self.load.write_mode == "append":
            self.create(self.qualified(LEDGER), _LEDGER_COLUMNS, if_missing=True)
        if self.load.rejects_table:
            self.create(self.qualified(self.load.rejects_table), _REJECT_COLUMNS, if_missing=True)

    def _ledger(self) -> tuple[int, int, int] | None:
        names = ", ".join(map(self.quote, ("lines", "rows", "rejects")))
        self.execute(
            f"SELECT {names} FROM {self.qualified(LEDGER)} WHERE {self.quote('load_id')} = {VALUE}", [self.load.id]
        )
        row = self.cursor.fetchone()
        return (row[0], row[1], row[2]) if row else None

    def _note(self, result: Result) -> None:
        values = [self.load.id, self.load.table, self.load.source, result.lines, result.rows, result.rejects]
        columns = ", ".join(map(self.quote, _LEDGER_COLUMNS))
        marks = ", ".join([VALUE] * len(values))
        self.execute(f"INSERT INTO {self.qualified(LEDGER)} ({columns}) VALUES ({marks}, CURRENT_TIMESTAMP)", values)

    def _keep(self, result: Result) -> None:
        """Put the rejects into their table, in place of those of an earlier try."""
        if not self.load.rejects_table:
            return
        table = self.qualified(self.load.rejects_table)
        self.execute(f"DELETE FROM {table} WHERE {self.quote('source')} = {VALUE}", [self.load.source])
        # One value for all rows of a load, in UTC. A table that an earlier version made has no such column.
        loaded_at = self.bound(datetime.now(UTC).replace(tzinfo=None))
        names = list(_REJECT_COLUMNS)
        tail = (loaded_at,) if names[-1] in map(str.lower, self.columns_of(table)) else ()
        rows = ((self.load.source, *reject, *tail) for reject in result.rejected())
        self.insert(table, [self.quote(name) for name in names[: 6 + len(tail)]], rows)


_LEDGER_COLUMNS = {
    "load_id": "key",
    "table_name": "text",
    "source": "text",
    "lines": "bigint",
    "rows": "bigint",
    "rejects": "bigint",
    "loaded_at": "timestamp",
}
_REJECT_COLUMNS = {
    "source": "text",
    "object": "text",
    "line": "bigint",
    "byte_offset": "bigint",
    "reason": "text",
    "text": "text",
    "loaded_at": "timestamp",
}
#: What the temporary table is called that a merge writes to first. No quoting: it is this package's own.
STAGE = "personalize_stage"
