"""What a load leaves beside its table: the note that it was appended, and the lines that it rejected."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from airflow_provider_personalize.output.rows import Reject
from airflow_provider_personalize.sql.table import VALUE, SqlTable
from airflow_provider_personalize.targets.counts import LoadCounts
from airflow_provider_personalize.targets.plan import LoadPlan
from airflow_provider_personalize.targets.rejects import REJECT_COLUMNS

Insert = Callable[[str, list[str], Iterator[tuple[Any, ...]]], int | None]

#: The table, beside the target, that notes which loads were appended.
LEDGER = "personalize_loads"
_LEDGER_COLUMNS = {
    "load_id": "key",
    "table_name": "text",
    "source": "text",
    "lines": "bigint",
    "rows": "bigint",
    "rejects": "bigint",
    "loaded_at": "timestamp",
}
_REJECTS_TABLE_COLUMNS = {**REJECT_COLUMNS, "loaded_at": "timestamp"}


class LoadRecords:
    """
    The ledger and the rejects table of a load, in its transaction.

    :param table: The table that is loaded.
    :param plan: What is to be loaded, and how.
    :param insert: Inserts rows into a table, from its quoted name and those of its columns.
    :param rejects_table: The table that takes rejected lines, or None.
    """

    def __init__(self, table: SqlTable, plan: LoadPlan, insert: Insert, rejects_table: str | None) -> None:
        self._table = table
        self._plan = plan
        self._insert = insert
        self.rejects_table = rejects_table
        #: The objects whose rejected lines :meth:`keep` replaces; by default, all that the load has rejected.
        self.objects: Sequence[str] | None = None

    @property
    def load_id(self) -> str:
        """The key of this load in the ledger: a digest of table and source."""
        text = "\n".join((self._table.schema or "", self._table.name, self._plan.source))
        return hashlib.sha256(text.encode()).hexdigest()

    def create(self) -> None:
        """Create the ledger and the rejects table, where they are needed and missing."""
        if self._plan.write_mode == "append":
            self.create_ledger()
        if self.rejects_table:
            self._table.create(self._table.qualified(self.rejects_table), _REJECTS_TABLE_COLUMNS, if_missing=True)

    def create_ledger(self) -> None:
        """Create the ledger, where it is missing."""
        self._table.create(self._table.qualified(LEDGER), _LEDGER_COLUMNS, if_missing=True)

    def loaded_before(self) -> LoadCounts | None:
        """Return what the ledger notes of this load, or None."""
        names = ", ".join(map(self._table.quote, LoadCounts._fields))
        self._table.execute(
            f"SELECT {names} FROM {self._table.qualified(LEDGER)} WHERE {self._table.quote('load_id')} = {VALUE}",
            [self.load_id],
        )
        row = self._table.cursor.fetchone()
        return LoadCounts(*row) if row else None

    def note(self, counts: LoadCounts) -> None:
        """Note in the ledger that this load was appended."""
        values = [self.load_id, self._table.name, self._plan.source, *counts]
        columns = ", ".join(map(self._table.quote, _LEDGER_COLUMNS))
        marks = ", ".join([VALUE] * len(values))
        ledger = self._table.qualified(LEDGER)
        self._table.execute(f"INSERT INTO {ledger} ({columns}) VALUES ({marks}, CURRENT_TIMESTAMP)", values)

    def forget(self) -> None:
        """Delete the ledger's note of this load."""
        ledger, load_id = self._table.qualified(LEDGER), self._table.quote("load_id")
        self._table.execute(f"DELETE FROM {ledger} WHERE {load_id} = {VALUE}", [self.load_id])

    def keep(self, rejects: Iterable[Reject]) -> None:
        """Put the rejected lines into their table, in place of those of an earlier try."""
        if not self.rejects_table:
            return
        table = self._table.qualified(self.rejects_table)
        source = self._plan.source
        old = f"DELETE FROM {table} WHERE {self._table.quote('source')} = {VALUE}"
        if self.objects is None:
            self._table.execute(old, [source])
        for name in self.objects or ():
            self._table.execute(f"{old} AND {self._table.quote('object')} = {VALUE}", [source, name])
        # One value for all rows of a load, in UTC. A table that an earlier version made has no such column.
        loaded_at = self._table.bound(datetime.now(UTC).replace(tzinfo=None))
        names = list(_REJECTS_TABLE_COLUMNS)
        tail = (loaded_at,) if names[-1] in map(str.lower, self._table.columns_of(table)) else ()
        rows = ((source, *reject, *tail) for reject in rejects)
        self._insert(table, [self._table.quote(name) for name in names[: 6 + len(tail)]], rows)
