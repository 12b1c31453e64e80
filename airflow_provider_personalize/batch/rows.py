"""The kinds of rows, and rows on their way from the parser to a table, column by column. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from airflow_provider_personalize.batch.lines import Line


class Column(NamedTuple):
    """
    A column of a kind of rows.

    :param name: What the column is called in the table.
    :param type: ``text``, ``integer`` or ``double``.
    :param role: What it holds: ``entity``, ``rank``, ``item``, ``score``, ``theme`` or ``relevance``.
    """

    name: str
    type: str
    role: str


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
    """

    entities: list[str | None] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    first_ranks: list[int] = field(default_factory=list)
    themes: list[str | None] = field(default_factory=list)
    items: list[str] = field(default_factory=list)
    scores: list[float | None] = field(default_factory=list)
    relevances: list[float | None] = field(default_factory=list)

    def add(self, line: Line, first_rank: int = 1) -> None:
        """Append one line's rows."""
        self.entities.append(line.entity)
        self.counts.append(len(line.items))
        self.first_ranks.append(first_rank)
        self.themes.append(line.theme)
        self.items += line.items
        self.scores += line.scores
        self.relevances += line.relevances

    @classmethod
    def of(cls, line: Line, first_rank: int) -> Batch:
        """Make a batch of one line, or of a piece of one."""
        batch = cls()
        batch.add(line, first_rank)
        return batch

    def column(self, role: str) -> Iterable[Any]:
        """Give one column's values, row by row."""
        match role:
            case "entity":
                return chain.from_iterable(map(repeat, self.entities, self.counts))
            case "theme":
                return chain.from_iterable(map(repeat, self.themes, self.counts))
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
        raise AssertionError(f"unknown role {role!r}")

    def rows(self, columns: Iterable[Column]) -> Iterator[tuple[Any, ...]]:
        """Give the rows as tuples of these columns."""
        return zip(*(self.column(column.role) for column in columns), strict=True)

    def pieces(self, rows: int) -> Iterator[Batch]:
        """Give the same in batches of at most so many rows."""
        if len(self.items) <= rows:
            yield self
            return
        piece = Batch()
        start = 0
        for entity, count, first, theme in zip(self.entities, self.counts, self.first_ranks, self.themes, strict=True):
            taken = 0
            while taken < count or not count:
                step = min(count - taken, rows - len(piece.items))
                begin = start + taken
                piece.entities.append(entity)
                piece.counts.append(step)
                piece.first_ranks.append(first + taken)
                piece.themes.append(theme)
                piece.items += self.items[begin : begin + step]
                piece.scores += self.scores[begin : begin + step]
                piece.relevances += self.relevances[begin : begin + step]
                taken += step
                if len(piece.items) == rows:
                    yield piece
                    piece = Batch()
                if not count:
                    break
            start += count
        if piece.entities:
            yield piece

    def with_markers(self) -> Batch:
        """
        Give the same with a row of rank 0 for each line that has none: what a merge knows such an entity by.
        """
        if all(self.counts):
            return self
        marked = Batch()
        start = 0
        for entity, count, first, theme in zip(self.entities, self.counts, self.first_ranks, self.themes, strict=True):
            end = start + count
            marked.entities.append(entity)
            marked.counts.append(count or 1)
            marked.first_ranks.append(first if count else 0)
            marked.themes.append(theme)
            marked.items += self.items[start:end] if count else [""]
            marked.scores += self.scores[start:end] if count else [None]
            marked.relevances += self.relevances[start:end] if count else [None]
            start = end
        return marked
