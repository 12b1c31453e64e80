"""
The expressions of Amazon Personalize: filters, and the item attributes of a segment's input line.

A filter reads ``INCLUDE ItemID WHERE Items.GENRES IN ($GENRES) | EXCLUDE ItemID WHERE Items.YEAR < 1990``: clauses
joined by ``|``, each of conditions joined by ``AND`` and ``OR`` (AND binds tighter). Item attributes read
``ITEMS.genres = "Comedy" AND ITEMS.year = 1995``. Keywords, dataset and column names are taken in any case; values
are not.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from airflow_provider_personalize.exceptions import InvalidRequestError

_TOKEN = re.compile(
    r"""(?P<string>"(?:[^"\\]|\\.)*")
      | (?P<number>[+-]?\d+(?:\.\d+)?)(?![\w.])
      | (?P<placeholder>\$\w+)
      | (?P<word>[A-Za-z_]\w*(?:\.\w+)?)
      | (?P<sign><=|>=|!=|[=<>(),|])
    """,
    re.VERBOSE | re.DOTALL,
)
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    position: int


def _unquoted(text: str) -> str:
    # Assumption: a backslash inside a quoted value stands before a quote or another backslash.
    return re.sub(r"\\(.)", r"\1", text[1:-1], flags=re.DOTALL)


def _as_number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


class Placeholder(str):
    """The name of a placeholder, without the dollar sign, in the place of a value."""

    __slots__ = ()


@dataclass(frozen=True)
class Condition:
    """
    One comparison of a column.

    :param dataset: ``ITEMS``, ``USERS`` or ``INTERACTIONS``.
    :param column: The column's name in upper case.
    :param sign: ``=``, ``IN``, ``NOT IN``, ``<``, ``<=``, ``>`` or ``>=``.
    :param values: The values as text, or placeholders.
    """

    dataset: str
    column: str
    sign: str
    values: tuple[str, ...]

    def holds(self, cell: frozenset[str]) -> bool:
        """
        Tell whether the condition holds for one cell.

        :param cell: The cell's values; more than one where the column is multi-valued (``Comedy|Drama``).
        """
        if self.sign in _COMPARE:
            compare = _COMPARE[self.sign]
            limits = [number for value in self.values if (number := _as_number(value)) is not None]
            return any(
                compare(number, limit) for part in cell if (number := _as_number(part)) is not None for limit in limits
            )
        found = any(_same(part, value) for part in cell for value in self.values)
        return not found if self.sign == "NOT IN" else found


def _same(left: str, right: str) -> bool:
    """Compare as text, or as numbers where both are: 1995 is 1995.0."""
    if left == right:
        return True
    numbers = _as_number(left), _as_number(right)
    return None not in numbers and numbers[0] == numbers[1]


@dataclass(frozen=True)
class Clause:
    """
    One INCLUDE or EXCLUDE of a filter.

    :param include: Whether what matches is kept (or left out).
    :param entity: ``ITEMID`` or ``USERID``.
    :param any_of: Alternatives, each a group of conditions that must all hold.
    """

    include: bool
    entity: str
    any_of: tuple[tuple[Condition, ...], ...]


@dataclass(frozen=True)
class FilterExpression:
    """A whole filter: what every clause lets through is let through."""

    clauses: tuple[Clause, ...]

    @property
    def conditions(self) -> list[Condition]:
        """Every condition, in order."""
        return [condition for clause in self.clauses for group in clause.any_of for condition in group]

    @property
    def entity(self) -> str:
        """What it filters: ``ITEMID`` or ``USERID``."""
        return self.clauses[0].entity

    @property
    def placeholders(self) -> set[str]:
        """The names of its placeholders."""
        return {value for condition in self.conditions for value in condition.values if isinstance(value, Placeholder)}

    def filled(self, values: Mapping[str, str]) -> FilterExpression:
        r"""
        Put values in the place of the placeholders.

        :param values: By placeholder, as an input line's ``filterValues``: ``{"GENRES": "\"horror\",\"comedy\""}``.
        :raises InvalidRequestError: if one is missing, or is not a list of quoted values.
        """
        parsed = {name: _parse_values(name, text) for name, text in values.items() if name in self.placeholders}
        missing = sorted(self.placeholders - parsed.keys())
        if missing:
            raise InvalidRequestError(f"filterValues: expected values for the filter's {', '.join(missing)}.")

        def fill(condition: Condition) -> Condition:
            texts: list[str] = []
            for value in condition.values:
                texts.extend(parsed[value] if isinstance(value, Placeholder) else [value])
            return Condition(condition.dataset, condition.column, condition.sign, tuple(texts))

        return FilterExpression(
            tuple(
                Clause(clause.include, clause.entity, tuple(tuple(map(fill, group)) for group in clause.any_of))
                for clause in self.clauses
            )
        )


def _parse_values(name: str, text: str) -> list[str]:
    parser = _Parser(text if isinstance(text, str) else "", f"filterValues.{name}")
    values = parser.values(stop="")
    parser.end()
    return values


def _past_space(text: str, position: int) -> int:
    return len(text) - len(text[position:].lstrip())


class _Parser:
    """A recursive-descent parser over the tokens of one expression."""

    def __init__(self, text: str, what: str) -> None:
        self.text = text
        self.what = what
        self.tokens: list[_Token] = []
        position = _past_space(text, 0)
        while position < len(text):
            match = _TOKEN.match(text, position)
            if match is None or match.lastgroup is None:
                raise self.error("a word, a sign or a quoted value", position)
            self.tokens.append(_Token(match.lastgroup, match[match.lastgroup], match.start(match.lastgroup)))
            position = _past_space(text, match.end())
        self.next = 0

    def error(self, expected: str, position: int | None = None) -> InvalidRequestError:
        """Build the error for the next token, or for a position."""
        if position is None:
            position = self.tokens[self.next].position if self.next < len(self.tokens) else len(self.text)
        found = repr(self.text[position : position + 20]) if position < len(self.text) else "the end"
        return InvalidRequestError(f"{self.what}: expected {expected} at character {position + 1}, got {found}.")

    def accept(self, *texts: str) -> str | None:
        """Take the next token if it is one of these words or signs, whatever its case."""
        if self.next < len(self.tokens):
            token = self.tokens[self.next]
            if token.kind in ("word", "sign") and token.text.upper() in texts:
                self.next += 1
                return token.text.upper()
        return None

    def expect(self, *texts: str) -> str:
        """Take the next token, which has to be one of these."""
        taken = self.accept(*texts)
        if taken is None:
            raise self.error(" or ".join(texts))
        return taken

    def end(self) -> None:
        """Make sure that nothing is left."""
        if self.next < len(self.tokens):
            raise self.error("the end")

    def value(self, *, placeholders: bool) -> str:
        """Take a quoted value, a number or a placeholder."""
        token = self.tokens[self.next] if self.next < len(self.tokens) else None
        kinds = ("string", "number", "placeholder") if placeholders else ("string", "number")
        if token is None or token.kind not in kinds:
            raise self.error('a value like "Comedy" or a number')
        self.next += 1
        if token.kind == "placeholder":
            return Placeholder(token.text[1:])
        return _unquoted(token.text) if token.kind == "string" else token.text

    def values(self, *, stop: str, placeholders: bool = False) -> list[str]:
        """Take values separated by commas."""
        taken = [self.value(placeholders=placeholders)]
        while self.accept(","):
            taken.append(self.value(placeholders=placeholders))
        if stop:
            self.expect(stop)
        return taken

    def column(self, datasets: Iterable[str]) -> tuple[str, str]:
        """Take ``Dataset.column``."""
        token = self.tokens[self.next] if self.next < len(self.tokens) else None
        dataset, _, column = (token.text if token and token.kind == "word" else "").upper().partition(".")
        if dataset not in datasets or not column:
            raise self.error(" or ".join(f"{name}.<column>" for name in datasets))
        self.next += 1
        return dataset, column

    def condition(self) -> Condition:
        """Take one condition of a filter."""
        dataset, column = self.column(("ITEMS", "USERS", "INTERACTIONS"))
        if self.accept("NOT"):
            self.expect("IN")
            sign = "NOT IN"
        else:
            sign = self.expect("IN", "=", *_COMPARE)
        if sign in ("IN", "NOT IN"):
            self.expect("(")
            values = self.values(stop=")", placeholders=True)
        else:
            values = [self.value(placeholders=True)]
        return Condition(dataset, column, sign, tuple(values))

    def clause(self) -> Clause:
        """Take one clause of a filter."""
        include = self.expect("INCLUDE", "EXCLUDE") == "INCLUDE"
        entity = self.expect("ITEMID", "USERID")
        self.expect("WHERE")
        any_of = [[self.condition()]]
        while joiner := self.accept("AND", "OR"):
            if joiner == "AND":
                any_of[-1].append(self.condition())
            else:
                any_of.append([self.condition()])
        return Clause(include, entity, tuple(map(tuple, any_of)))


def parse_filter(text: str) -> FilterExpression:
    """
    Take a filter expression apart.

    :raises InvalidRequestError: if it is none, with the place; also for ``IF CurrentUser…``, which the stand-in does
        not know.
    """
    parser = _Parser(text, "filterExpression")
    clauses = [parser.clause()]
    while parser.accept("|"):
        clauses.append(parser.clause())
    parser.end()
    if len({clause.entity for clause in clauses}) > 1:
        raise InvalidRequestError("filterExpression: expected clauses about ItemID or about UserID, got both.")
    return FilterExpression(tuple(clauses))


def parse_item_attributes(text: str) -> tuple[Condition, ...]:
    """
    Take the ``itemAttributes`` of a segment's input line apart: ``=`` and ``AND`` only, as the service allows.

    :raises InvalidRequestError: if it is none, with the place.
    """
    parser = _Parser(text, "itemAttributes")
    conditions: list[Condition] = []
    while True:
        dataset, column = parser.column(("ITEMS",))
        sign = parser.expect("=")
        conditions.append(Condition(dataset, column, sign, (parser.value(placeholders=False),)))
        if not parser.accept("AND"):
            parser.end()
            return tuple(conditions)
