"""What a slice of loaded output holds, and how it compares with another. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple


class Slice(NamedTuple):
    """
    What one slice of the table holds.

    :param values: The values of the columns that make it.
    :param results: How many entities have how many results: ``{results: entities}``.
    :param items: How many different items it recommends.
    :param top_items: The most frequent items, each with the number of entities that have it.
    """

    values: Mapping[str, Any]
    results: Mapping[int, int]
    items: int
    top_items: Sequence[tuple[str, int]]

    @property
    def name(self) -> str:
        """The slice in words, for people."""
        return ", ".join(f"{name} = {value}" for name, value in self.values.items()) or "all rows"

    @property
    def entities(self) -> int:
        """How many users, items or segments have results."""
        return sum(self.results.values())

    @property
    def rows(self) -> int:
        """How many results there are."""
        return sum(number * entities for number, entities in self.results.items())

    @property
    def top_item_share(self) -> float | None:
        """The share of the entities that have the most frequent item."""
        return self.top_items[0][1] / self.entities if self.top_items else None

    @property
    def figures(self) -> dict[str, Any]:
        """The figures of the slice alone, as they are returned to XCom."""
        return {
            "slice": {name: str(value) for name, value in self.values.items()},
            "rows": self.rows,
            "entities": self.entities,
            "items": self.items,
            "min_results": min(self.results, default=0),
            "mean_results": self.rows / self.entities if self.entities else 0.0,
            "max_results": max(self.results, default=0),
            "top_item": self.top_items[0][0] if self.top_items else None,
            "top_item_share": self.top_item_share,
        }


class Overlap(NamedTuple):
    """
    How many of each entity's results are in the slice before, too.

    :param lists: How many entities have how many results, and how many of them in both slices:
        ``{(results, shared): entities}``.
    """

    lists: Mapping[tuple[int, int], int]

    @property
    def entities(self) -> int:
        """How many entities both slices have."""
        return sum(self.lists.values())

    @property
    def mean(self) -> float | None:
        """The share of an entity's results that it had before, averaged over the entities that both slices have."""
        if not self.lists:
            return None
        return sum(shared / size * entities for (size, shared), entities in self.lists.items()) / self.entities
