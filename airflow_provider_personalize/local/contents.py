"""The rows of datasets: those of imports, and those that were put one by one."""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import RLock
from typing import Any, Literal

import pandas as pd  # type: ignore[import-untyped]

from airflow_provider_personalize.local.recommend import Recommender
from airflow_provider_personalize.local.tables import assemble
from airflow_provider_personalize.service.names import folded
from airflow_provider_personalize.service.schemas import DatasetSchema, DatasetType

#: The key of each type of dataset whose rows replace older ones.
KEYS: dict[DatasetType, str] = {"ITEMS": "ITEM_ID", "USERS": "USER_ID"}

#: Which rows of a dataset: those of imports, those that were put one by one, or both.
IngestionMode = Literal["BULK", "PUT", "ALL"]


@dataclass
class Contents:
    """
    The rows of one dataset, all of them text.

    :param schema: Its schema.
    :param full: The rows of the latest FULL import.
    :param increments: The rows of the INCREMENTAL imports since then.
    :param puts: The rows that were put one by one.
    """

    schema: DatasetSchema
    full: pd.DataFrame | None = None
    increments: list[pd.DataFrame] = field(default_factory=list)
    puts: list[dict[str, str]] = field(default_factory=list)
    #: Counts the changes of the rows.
    version: int = 0

    @property
    def columns(self) -> list[str]:
        """The names of the schema's fields, in order."""
        return [field.name for field in self.schema.fields]

    def take(self, rows: pd.DataFrame, mode: str) -> None:
        """Add the rows of an import; those of a FULL import replace those of every import before it."""
        if mode == "INCREMENTAL":
            self.increments = [*self.increments, rows]
        else:
            self.full, self.increments = rows, []
        self.version += 1

    def put(self, values: dict[str, Any]) -> None:
        """Put one row, from values by the names that the API or the schema has for them."""
        known = {folded(name): name for name in self.columns}
        row = {known[folded(key)]: text(value) for key, value in values.items() if folded(key) in known}
        self.puts = [*self.puts, row]
        self.version += 1

    def rows(self, mode: IngestionMode = "ALL", *, full_only: bool = False) -> pd.DataFrame:
        """
        Return the rows, the oldest first; of items and users only the newest row of each.

        :param mode: Which of them.
        :param full_only: Whether to leave out all but those of the latest FULL import.
        """
        parts = []
        if mode != "PUT":
            parts += [] if self.full is None else [self.full]
            parts += [] if full_only else self.increments
        if mode != "BULK" and not full_only and self.puts:
            parts.append(pd.DataFrame(self.puts, dtype=object))
        whole = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(dtype=object)
        whole = whole.reindex(columns=self.columns).astype(object)
        whole = whole.where(whole.notna(), "")
        key = KEYS.get(self.schema.dataset_type)
        return whole.drop_duplicates(key, keep="last", ignore_index=True) if key else whole

    def forget(self, user_ids: set[str]) -> int:
        """Remove every row of some users; return how many there were."""
        if "USER_ID" not in self.columns:
            return 0
        before = self._count()
        if self.full is not None:
            self.full = self.full[~self.full["USER_ID"].isin(user_ids)]
        self.increments = [rows[~rows["USER_ID"].isin(user_ids)] for rows in self.increments]
        self.puts = [row for row in self.puts if row.get("USER_ID") not in user_ids]
        self.version += 1
        return before - self._count()

    def _count(self) -> int:
        return (0 if self.full is None else len(self.full)) + sum(map(len, self.increments)) + len(self.puts)


def text(value: Any) -> str:
    """Return a value as a cell of a CSV file has it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "|".join(map(text, value))
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


class GroupData:
    """
    The datasets of one group, and what was learned from them.

    :param name: The group's name.
    :param ready: What was learned from the data that the stand-in started with, used until interactions are imported.
    """

    def __init__(self, name: str, ready: Recommender | None = None) -> None:
        self.name = name
        self.ready = ready
        self.datasets: dict[str, Contents] = {}
        self.lock = RLock()
        self._learned: dict[tuple[Any, ...], Recommender] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"name": self.name, "datasets": self.datasets}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["name"])  # type: ignore[misc]
        self.datasets = state["datasets"]

    @property
    def version(self) -> tuple[tuple[str, int], ...]:
        """What changes whenever the rows do."""
        return tuple(sorted((name, contents.version) for name, contents in self.datasets.items()))

    @property
    def is_ready(self) -> bool:
        """Whether it still has the data that the stand-in started with, and no interactions of its own."""
        return self.ready is not None and "INTERACTIONS" not in self.datasets

    def interactions(self, event_type: str | None = None, *, full_only: bool = False) -> pd.DataFrame:
        """
        Return the interactions.

        :param event_type: Of this type only.
        :param full_only: Those of the latest FULL import only.
        """
        contents = self.datasets.get("INTERACTIONS")
        if contents is None:
            return pd.DataFrame(columns=["USER_ID", "ITEM_ID"], dtype=object)
        rows = contents.rows(full_only=full_only)
        # Assumption: an event of a user or an item that it does not name teaches nothing.
        rows = rows[(rows["USER_ID"] != "") & (rows["ITEM_ID"] != "")]
        if event_type and "EVENT_TYPE" in rows.columns:
            rows = rows[rows["EVENT_TYPE"].str.upper() == event_type.upper()]
        return rows

    def recommender(self, event_type: str | None = None, *, full_only: bool = False) -> Recommender:
        """
        Return what is to be learned from the rows as they are now; the same rows are learned from once.

        :param event_type: Learn from events of this type only.
        :param full_only: Learn from the rows of the latest FULL imports only.
        """
        with self.lock:
            if self.is_ready and self.ready:
                return self.ready
            key = (self.version, event_type, full_only)
            if key not in self._learned:
                described = {
                    kind: self.datasets[kind].rows(full_only=full_only) if kind in self.datasets else None
                    for kind in KEYS
                }
                data = assemble(
                    self.name,
                    self.interactions(event_type, full_only=full_only),
                    described["ITEMS"],
                    described["USERS"],
                )
                # What was learned from rows that have changed since is nobody's but the versions' that learned it.
                self._learned = {one: learned for one, learned in self._learned.items() if one[0] == self.version}
                self._learned[key] = Recommender(data)
            return self._learned[key]
