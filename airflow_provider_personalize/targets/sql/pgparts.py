"""
PostgreSQL in parallel: several tasks fill one new table, which one task attaches to the target as a partition.

PostgreSQL has one partition for a value of the key. So the tables of two parts could not both become the partition of
a slice, unless its rows told them apart by one more column. All parts therefore write to one new table, in transactions
of their own, side by side (that takes as long as tables of their own, within a few percent: tests/benchmarks).

A part is noted in the ledger by the transaction that writes its rows, and each row names its transaction (``xmin``): by
that, a part that is staged again replaces what it has staged before. What all rows of the slice share is the default of
their columns until the table is attached, so that no part has to send it with each row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from airflow_provider_personalize.exceptions import InvalidRequestError
from airflow_provider_personalize.output.rows import Batch, Column, Reject
from airflow_provider_personalize.service.names import digest
from airflow_provider_personalize.sql.postgres import NAME_MAX, PostgresTable
from airflow_provider_personalize.sql.table import VALUE, SqlTable
from airflow_provider_personalize.targets.base import Capabilities
from airflow_provider_personalize.targets.counts import CountedBatches, LoadCounts
from airflow_provider_personalize.targets.plan import LoadPlan, type_of
from airflow_provider_personalize.targets.sql.pgpartition import Partitioned, look_at
from airflow_provider_personalize.targets.sql.postgres import PostgresTarget
from airflow_provider_personalize.targets.sql.records import LEDGER, LoadRecords

#: The constraint that spares ATTACH PARTITION a look at the rows.
_SLICE = "personalize_slice"


class PostgresParts(PostgresTarget):
    """
    A partition of a table of PostgreSQL that is partitioned by LIST, filled by several tasks and attached by one.

    :param parts: What each part has come to, where this is the task that publishes.
    :param objects: The objects of the part that this task stages.
    """

    capabilities: ClassVar[Capabilities] = Capabilities(frozenset({"replace_slice"}), all_or_nothing=True, parts=True)

    def __init__(
        self,
        table: SqlTable,
        plan: LoadPlan,
        *,
        create_table: bool = True,
        rejects_table: str | None = None,
        parts: Sequence[LoadCounts] = (),
        objects: Sequence[str] = (),
    ) -> None:
        super().__init__(table, plan, create_table=create_table, rejects_table=rejects_table)
        self._parts = parts
        self._objects = objects
        self._rejects_table = rejects_table
        self._partitioned: Partitioned | None = None
        table = self.table
        self._stage = PostgresTable(table.hook, table.connection, staged_name(table, plan), table.schema)

    @property
    def staged_as(self) -> str:
        """The name of the table that takes the parts."""
        return self._stage.name

    # The protocol

    def prepare(self, columns: tuple[Column, ...]) -> None:
        """Wait for other loads of the table, and make sure that it can take the slice as a new partition."""
        self.columns = columns
        self.begin()
        self.lock()
        exists = self.table.look()
        self._partitioned = look_at(self.table, self.plan.extra, self._stage.name) if exists else None
        if not exists and not self.create_table:
            self.check_table()

    def loaded_before(self) -> LoadCounts | None:
        """Return what was published before, where the partition is there already."""
        if self._partitioned is None or not self._partitioned.is_attached:
            return None
        before = self._noted().loaded_before()
        self.table.connection.rollback()
        return before

    def stage(self, part: int, batches: Iterator[Batch], rejects: Iterable[Reject]) -> None:
        """Write one part, and commit it: to a table that nobody reads yet."""
        if self._partitioned and self._partitioned.is_attached:
            _pass_by(batches)
            return
        if self.columns:
            self._create_stage()
        self.records.create_ledger()
        self.records.create()
        self.table.connection.commit()
        counted = CountedBatches(batches)
        noted = self._noted(part)
        target = _Part(self._stage, self.plan, create_table=False, rejects_table=self._rejects_table)
        target.load_id = noted.load_id
        target.records.objects = self._objects
        if self.columns:
            target.prepare(self.columns)
            if target.is_attached():
                # Another try of the part was faster, and it was published since this one has begun.
                self.table.connection.rollback()
                _pass_by(batches)
                return
            target.stage(0, iter(counted), rejects)
            target.finish()
            target.check_taken(counted.rows)
        else:
            target.begin()
            target.lock()
            if self._stage.look():
                target.delete_old()
        noted.forget()
        noted.note(LoadCounts(rows=counted.rows))
        target.records.keep(rejects)
        self.table.connection.commit()

    def publish(self, counts: LoadCounts) -> None:
        """Attach what was staged, in one transaction; readers see the slice from its end on."""
        self._create_stage()
        self.table.execute(f"LOCK TABLE {self._stage.quoted} IN ACCESS EXCLUSIVE MODE")
        self._delete_others()
        self._check_notes()
        key = self._key
        if self._partitioned is None:
            self._create_partitioned(key)
        try:
            bound = f"FOR VALUES IN ({self._value(key)})"
            self.table.execute(f"ALTER TABLE {self.table.quoted} ATTACH PARTITION {self._stage.quoted} {bound}")
        except self.table.connection.Error as error:
            raise self.table.mismatch(
                f"PostgreSQL does not attach the new partition to it: {str(error).strip()}. Change the table, or load "
                "the slice in one task, without parts."
            ) from error
        own = "".join(f", ALTER COLUMN {self.table.quote(name)} DROP DEFAULT" for name in self.plan.extra)
        self.table.execute(f"ALTER TABLE {self._stage.quoted} DROP CONSTRAINT {_SLICE}{own}")
        self._forget_notes()
        self._noted().note(counts)
        self.table.connection.commit()
        self.table.look()

    def discard(self) -> None:
        """Drop what was staged. The rejected lines were kept by the parts."""
        self.table.execute(f"DROP TABLE IF EXISTS {self._stage.quoted}")
        if self._ledger_exists():
            self._forget_notes()
        self.table.connection.commit()

    # The steps

    def _create_stage(self) -> None:
        """Create the table that takes the parts, where another part has not."""
        if self._stage.look():
            return
        stage = self._stage.quoted
        if self._partitioned is None:
            self.table.create(stage, self._wanted())
        else:
            like = "INCLUDING ALL EXCLUDING IDENTITY EXCLUDING STATISTICS EXCLUDING COMMENTS"
            self.table.execute(f"CREATE TABLE {stage} (LIKE {self.table.quoted} {like})")
        self._stage.look()
        name, value = self.table.quote(self._key), self._value(self._key)
        is_value = f"{name} IS NULL" if value == "NULL" else f"{name} IS NOT NULL AND {name} = {value}"
        own = "".join(
            f", ALTER COLUMN {self.table.quote(name)} SET DEFAULT {self._value(name)}" for name in self.plan.extra
        )
        self.table.execute(f"ALTER TABLE {stage} ADD CONSTRAINT {_SLICE} CHECK ({is_value}){own}")

    @property
    def _key(self) -> str:
        """The column that the table is, or will be, partitioned by."""
        return self._partitioned.key if self._partitioned else next(iter(self.plan.extra))

    def _wanted(self) -> dict[str, str]:
        columns = {column.name: column.type for column in self.columns}
        return columns | {name: type_of(value) for name, value in self.plan.extra.items()}

    def _create_partitioned(self, key: str) -> None:
        types = self.table.types
        defined = ", ".join(f"{self.table.quote(name)} {types[kind]}" for name, kind in self._wanted().items())
        self.table.execute(f"CREATE TABLE {self.table.quoted} ({defined}) PARTITION BY LIST ({self.table.quote(key)})")

    def _value(self, key: str) -> str:
        """Return the slice's value of the key as SQL writes it: a bound is part of a table's definition."""
        value = self._stage.bound(self._stage.held(key, self.plan.extra[key]))
        if value is None:
            return "NULL"
        self.table.execute(f"SELECT quote_literal({VALUE})", [value])
        return f"CAST({self.table.cursor.fetchone()[0]} AS {self._stage.existing[key].type})"

    # The notes

    def _noted(self, part: int | None = None) -> LoadRecords:
        source = self.plan.source if part is None else _part_source(self.plan.source, part)
        return LoadRecords(self._stage, replace(self.plan, source=source), self.insert, None)

    def _ledger_exists(self) -> bool:
        self.table.execute(f"SELECT to_regclass({VALUE}) IS NOT NULL", [self.table.qualified(LEDGER)])
        return bool(self.table.cursor.fetchone()[0])

    def _check_notes(self) -> None:
        """Make sure that what was staged is what the tasks of the parts have returned."""
        for part, counts in enumerate(self._parts):
            noted = self._noted(part).loaded_before() if self._ledger_exists() else None
            if noted is None or noted.rows != counts.rows:
                staged = f"{noted.rows} rows" if noted else "nothing"
                raise InvalidRequestError(
                    f"loads: expected {counts.rows} rows staged by part {part} in {self._stage.quoted}, as its task "
                    f"has returned, got {staged}. Clear the tasks of the parts and this one, so that they stage again. "
                    "Nothing was published."
                )

    def _delete_others(self) -> None:
        """Delete what was staged when there were more parts."""
        if not self._ledger_exists():
            return
        ledger, load_id = self.table.qualified(LEDGER), self.table.quote("load_id")
        self.table.execute(f"SELECT {load_id} FROM {ledger} {self._of_stage}", [self._stage.name])
        ours = {self._noted(part).load_id for part in range(len(self._parts))}
        for (found,) in self.table.cursor.fetchall():
            if found not in ours:
                _delete_noted(self._stage, found)

    def _forget_notes(self) -> None:
        self.table.execute(f"DELETE FROM {self.table.qualified(LEDGER)} {self._of_stage}", [self._stage.name])

    @property
    def _of_stage(self) -> str:
        return f"WHERE {self.table.quote('table_name')} = {VALUE}"


class _Part(PostgresTarget):
    """The rows of one part, in the table that takes all of them."""

    #: The key of the part's note in the ledger.
    load_id = ""

    def lock(self) -> None:
        """Wait for an earlier try of the same part, and for nobody else."""
        self.lock_name(f"{self.table.name} {self.load_id}")

    @property
    def constants(self) -> Mapping[str, Any]:
        """None: they are the columns' defaults."""
        return {}

    def delete_old(self) -> None:
        """Delete what the transaction has written that noted an earlier try of the part."""
        _delete_noted(self.table, self.load_id)

    def is_attached(self) -> bool:
        """Return whether the table is a partition already. If not, it is none before this transaction ends."""
        self.table.execute(f"LOCK TABLE {self.table.quoted} IN ROW EXCLUSIVE MODE")
        self.table.execute(f"SELECT relispartition FROM pg_class WHERE oid = to_regclass({VALUE})", [self.table.quoted])
        return bool(self.table.cursor.fetchone()[0])


def _delete_noted(stage: PostgresTable, load_id: str) -> None:
    """Delete the rows of the transaction that wrote a note of the ledger."""
    noted_by = f"SELECT xmin FROM {stage.qualified(LEDGER)} WHERE {stage.quote('load_id')} = {VALUE}"
    stage.execute(f"DELETE FROM {stage.quoted} WHERE xmin = ({noted_by})", [load_id])


def _pass_by(batches: Iterator[Batch]) -> None:
    """Read what was published before: what the part has come to is told again."""
    for _ in batches:
        pass


def staged_name(table: SqlTable, plan: LoadPlan) -> str:
    """Return the name of the table that takes the parts of a load, and that then is the slice's partition."""
    values = {name: str(value) for name, value in plan.extra.items()}
    end = f"_{digest([table.schema or '', table.name, values, plan.source], 12)}"
    return table.name.encode()[: NAME_MAX - len(end)].decode(errors="ignore") + end


def _part_source(source: str, part: int) -> str:
    return f"{source} part {part}"
