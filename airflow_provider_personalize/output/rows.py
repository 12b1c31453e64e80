"""The kinds of rows, and the rows of lines on their way to a table, column by column. This module is pure."""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, repeat
from typing import Any, NamedTuple

from airflow_provider_personalize.arguments import texts
from airflow_provider_personalize.exceptions import InvalidRequestError


class Column(NamedTuple):
    """
    A column of a kind of rows.

    :param name: What the column is called in the table.
    :param type: ``text``, ``integer`` or ``double``.
    :param field: What it holds: ``entity``, ``rank``, ``item``, ``score``, ``theme``, ``relevance`` or
        ``filter_values``.
    """

    name: str
    type: str
    field: str


@dataclass(frozen=True, eq=False)
class RowKind:
    """
    A kind of rows: what a line's entity and items are, and so what the table's columns are called.

    :param name: The kind in words.
    :param columns: The columns in the table's order; the first one is the entity's.
    """

    name: str
    columns: tuple[Column, ...]

    def __repr__(self) -> str:
        return f"<RowKind {self.name}>"


USER_RECOMMENDATIONS = RowKind(
    "user recommendations",
    (
        Column("user_id", "text", "entity"),
        Column("rank", "integer", "rank"),
        Column("item_id", "text", "item"),
        Column("score", "double", "score"),
    ),
)
RELATED_ITEMS = RowKind(
    "related items",
    (
        Column("item_id", "text", "entity"),
        Column("rank", "integer", "rank"),
        Column("related_item_id", "text", "item"),
        Column("score", "double", "score"),
        Column("theme", "text", "theme"),
        Column("theme_relevance", "double", "relevance"),
    ),
)
USER_SEGMENTS = RowKind(
    "user segments",
    (
        Column("segment", "text", "entity"),
        Column("rank", "integer", "rank"),
        Column("user_id", "text", "item"),
    ),
)
ROW_KINDS = (USER_RECOMMENDATIONS, RELATED_ITEMS, USER_SEGMENTS)


def read_column_names(parameter: str, value: Any) -> dict[str, str | None] | None:
    """
    Return other names for columns: ``{name: other name, or None to leave the column out}``.

    :raises InvalidRequestError: if one is for no column of any kind of rows.
    """
    names = texts(parameter, value)
    known = {column.name for kind in ROW_KINDS for column in kind.columns}
    if unknown := sorted(set(names or {}) - known):
        raise InvalidRequestError(
            f"{parameter}: expected names among {', '.join(sorted(known))}, got {', '.join(unknown)}."
        )
    return names


class Line(NamedTuple):
    """
    One good line.

    :param kind: What kind of rows it gives.
    :param entity: The user, item or segment; None where the input was empty.
    :param items: The results in order; may be empty.
    :param scores: As many, None where there is none.
    :param theme: The theme, where there is one.
    :param relevances: The items' relevance to it: as many as items, None where there is none.
    :param filters: The input's filterValues, None where it has none.
    """

    kind: RowKind
    entity: str | None
    items: Sequence[str]
    scores: list[float | None]
    theme: str | None
    relevances: list[float | None]
    filters: Any = None


class Reject(NamedTuple):
    """
    An invalid line that was set apart.

    :param object: The URI of the object that holds it.
    :param line: Its number there, from 1; blank lines count.
    :param byte_offset: Where it begins, in bytes from the object's start (after decompression).
    :param reason: What was expected and what came, written and cut short as the text is.
    :param text: Its first 1,000 characters; bytes that are no text are written as escapes.
    """

    object: str
    line: int
    byte_offset: int
    reason: str
    text: str


@dataclass(slots=True)
class Batch:
    """
    The rows of some lines. Lists run parallel by line (entities, counts, first_ranks, themes) or by row (the others).

    :param entities: Each line's user, item or segment; None where the input was empty.
    :param counts: How many rows each line has.
    :param first_ranks: The rank of each line's first row: 1, but for the later pieces of a giant line.
    :param themes: Each line's theme, or None.
    :param items: The results.
    :param scores: The score of each, or None.
    :param relevances: The relevance of each to its line's theme, or None.
    :param filters: Each line's filterValues as they were read, or None.
    """

    entities: Sequence[str | None] = ()
    counts: Sequence[int] = ()
    first_ranks: Sequence[int] = ()
    themes: Sequence[str | None] = ()
    items: Sequence[str] = ()
    scores: Sequence[float | None] = ()
    relevances: Sequence[float | None] = ()
    filters: Sequence[Any] = ()

    @classmethod
    def of(cls, lines: Sequence[Line], first_rank: int = 1) -> Batch:
        """Return the batch of some lines, whose first rows have this rank."""
        if len(lines) == 1:
            line = lines[0]
            return cls(
                [line.entity],
                [len(line.items)],
                [first_rank],
                [line.theme],
                line.items,
                line.scores,
                line.relevances,
                [line.filters],
            )
        return cls(
            entities=[line.entity for line in lines],
            counts=[len(line.items) for line in lines],
            first_ranks=[first_rank] * len(lines),
            themes=[line.theme for line in lines],
            items=list(chain.from_iterable(line.items for line in lines)),
            scores=list(chain.from_iterable(line.scores for line in lines)),
            relevances=list(chain.from_iterable(line.relevances for line in lines)),
            filters=[line.filters for line in lines],
        )

    def line_texts(self, field: str) -> Sequence[str | None]:
        """Return the texts that all rows of a line share, line by line."""
        match field:
            case "entity":
                return self.entities
            case "theme":
                return self.themes
            case "filter_values":
                # With sorted keys, the same values are the same text.
                return [None if values is None else json.dumps(values, sort_keys=True) for values in self.filters]
        raise AssertionError(f"unknown field {field!r}")

    def column(self, field: str) -> Iterable[Any]:
        """Return one column's values, row by row."""
        match field:
            case "entity" | "theme" | "filter_values":
                return chain.from_iterable(map(repeat, self.line_texts(field), self.counts))
            case "rank":
                return chain.from_iterable(
                    range(first, first + count) for first, count in zip(self.first_ranks, self.counts, strict=True)
                )
            case "item":
                return self.items
            case "score":
                return self.scores
            case "relevance":
                return self.relevances
        raise AssertionError(f"unknown field {field!r}")

    def rows(self, columns: Iterable[Column]) -> Iterator[tuple[Any, ...]]:
        """Yield the rows as tuples of these columns."""
        return zip(*(self.column(column.field) for column in columns), strict=True)

    def pieces(self, rows: int) -> Iterator[Batch]:
        """Yield the same rows in batches of at most so many."""
        if len(self.items) <= rows:
            yield self
            return
        ends = list(accumulate(self.counts))
        for start in range(0, len(self.items), rows):
            end = min(start + rows, len(self.items))
            # The lines that have rows between start and end, and how many of each lie before and after these.
            first = bisect_right(ends, start)
            last = bisect_left(ends, end)
            counts = list(self.counts[first : last + 1])
            ranks = list(self.first_ranks[first : last + 1])
            skipped = start - (ends[first] - counts[0])
            counts[0] -= skipped
            ranks[0] += skipped
            counts[-1] -= ends[last] - end
            yield Batch(
                self.entities[first : last + 1],
                counts,
                ranks,
                self.themes[first : last + 1],
                self.items[start:end],
                self.scores[start:end],
                self.relevances[start:end],
                self.filters[first : last + 1],
            )

    def with_rank_zero_rows(self) -> Batch:
        """
        Return the batch with a row of rank 0 added for each line without rows.

        A merge replaces the rows of every entity that the job covers; by such a row it finds an entity that has none.
        """
        empty = [index for index, count in enumerate(self.counts) if not count]
        if not empty:
            return self
        return Batch(
            [*self.entities, *(self.entities[index] for index in empty)],
            [*self.counts, *[1] * len(empty)],
            [*self.first_ranks, *[0] * len(empty)],
            [*self.themes, *[None] * len(empty)],
            [*self.items, *[""] * len(empty)],
            [*self.scores, *[None] * len(empty)],
            [*self.relevances, *[None] * len(empty)],
            [*self.filters, *[None] * len(empty)],
        )
