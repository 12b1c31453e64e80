"""The conditions and clauses that :mod:`.expressions` parses filters and item attributes into."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation

from airflow_provider_personalize.exceptions import InvalidRequestError
from airflow_provider_personalize.local.tokens import NUMBER, Placeholder, parse_values

#: Stands for any value: ``Interactions.EVENT_TYPE IN ("*")``.
ANY = "*"
COMPARE: dict[str, Callable[[Decimal, Decimal], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_IN = ("IN", "NOT IN")


class CurrentItem(str):
    """The name of a column of the item that a line asks about, in the place of a value."""

    __slots__ = ()


def _as_number(text: str) -> Decimal | None:
    try:
        return Decimal(text) if re.fullmatch(NUMBER, text) else None
    except InvalidOperation:
        return None


def _same(left: str, right: str) -> bool:
    """Compare as text, or as numbers where both are: 1995 is 1995.0."""
    if left == right:
        return True
    numbers = _as_number(left), _as_number(right)
    return None not in numbers and numbers[0] == numbers[1]


@dataclass(frozen=True)
class Condition:
    """
    One comparison of a column.

    :param dataset: ``ITEMS``, ``USERS``, ``INTERACTIONS`` or ``CURRENTUSER``.
    :param column: The column's name in upper case.
    :param sign: ``=``, ``IN``, ``NOT IN``, ``<``, ``<=``, ``>`` or ``>=``.
    :param values: The values as text, or placeholders, or columns of the current item.
    """

    dataset: str
    column: str
    sign: str
    values: tuple[str, ...]

    def holds(self, cell: frozenset[str]) -> bool:
        """
        Return whether the condition holds for one cell.

        :param cell: The cell's values; more than one where the column is multi-valued (``Comedy|Drama``).
        """
        if self.sign in COMPARE:
            compare = COMPARE[self.sign]
            limits = [number for value in self.values if (number := _as_number(value)) is not None]
            return any(
                compare(number, limit) for part in cell if (number := _as_number(part)) is not None for limit in limits
            )
        if self.column == "EVENT_TYPE":
            # Event types are the one thing that the service compares whatever their case.
            found = not {part.upper() for part in cell}.isdisjoint(value.upper() for value in self.values)
        else:
            found = any(_same(part, value) for part in cell for value in self.values)
        if self.sign in _IN and ANY in self.values:
            found = bool(cell)
        return not found if self.sign == "NOT IN" else found

    @property
    def positive(self) -> Condition:
        """The condition, without its NOT."""
        return replace(self, sign="IN") if self.sign == "NOT IN" else self


@dataclass(frozen=True)
class Clause:
    """
    One INCLUDE or EXCLUDE of a filter.

    :param include: Whether what matches is kept (or left out).
    :param entity: ``ITEMID`` or ``USERID``.
    :param any_of: Alternatives, each a group of conditions that must all hold.
    :param if_user: What must hold of the user whom a line asks about for the clause to apply at all.
    """

    include: bool
    entity: str
    any_of: tuple[tuple[Condition, ...], ...]
    if_user: tuple[Condition, ...] = ()

    @property
    def conditions(self) -> Iterator[Condition]:
        """Every condition, in order."""
        for group in (*self.any_of, self.if_user):
            yield from group

    def changed(self, change: Callable[[Condition], Condition]) -> Clause:
        """Return the same clause with every condition changed."""
        any_of = tuple(tuple(map(change, group)) for group in self.any_of)
        return replace(self, any_of=any_of, if_user=tuple(map(change, self.if_user)))


@dataclass(frozen=True)
class FilterExpression:
    """A whole filter: what any INCLUDE takes (everything where there is none), less what any EXCLUDE names."""

    clauses: tuple[Clause, ...]

    @property
    def conditions(self) -> list[Condition]:
        """Every condition, in order."""
        return [condition for clause in self.clauses for condition in clause.conditions]

    @property
    def entity(self) -> str:
        """What it filters: ``ITEMID`` or ``USERID``."""
        return self.clauses[0].entity

    @property
    def placeholders(self) -> set[str]:
        """The names of its placeholders."""
        return {value for condition in self.conditions for value in condition.values if isinstance(value, Placeholder)}

    @property
    def about_user(self) -> bool:
        """Whether what an item is let through for depends on the user whom a line asks about."""
        datasets = {condition.dataset for condition in self.conditions}
        return "CURRENTUSER" in datasets or (self.entity == "ITEMID" and "INTERACTIONS" in datasets)

    @property
    def about_item(self) -> bool:
        """Whether it depends on the item that a line asks about."""
        return any(isinstance(value, CurrentItem) for condition in self.conditions for value in condition.values)

    def filled(self, values: Mapping[str, str]) -> FilterExpression:
        r"""
        Put values in the place of the placeholders.

        :param values: By placeholder, as an input line's ``filterValues``: ``{"GENRES": "\"horror\",\"comedy\""}``.
        :raises InvalidRequestError: if one is missing, or is not a list of quoted values.
        """
        parsed = {name: parse_values(name, text) for name, text in values.items() if name in self.placeholders}
        missing = sorted(self.placeholders - parsed.keys())
        if missing:
            raise InvalidRequestError(f"filterValues: expected values for the filter's {', '.join(missing)}.")

        def fill(condition: Condition) -> Condition:
            texts: list[str] = []
            for value in condition.values:
                texts.extend(parsed[value] if isinstance(value, Placeholder) else [value])
            return replace(condition, values=tuple(texts))

        return FilterExpression(tuple(clause.changed(fill) for clause in self.clauses))
