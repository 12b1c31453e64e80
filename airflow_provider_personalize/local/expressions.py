"""
The expressions of Amazon Personalize: filters, and the item attributes of a segment's input line.

A filter reads ``INCLUDE ItemID WHERE Items.GENRES IN ($GENRES) | EXCLUDE ItemID WHERE Items.YEAR < 1990``: clauses
joined by ``|``, each of conditions joined by ``AND`` and ``OR`` (AND binds tighter), and perhaps an ``IF`` about the
``CurrentUser`` at its end. Item attributes read ``ITEMS.genres = "Comedy" AND ITEMS.year = 1995``. Keywords, dataset
and column names are taken in any case; values are not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from airflow_provider_personalize.exceptions import InvalidRequestError
from airflow_provider_personalize.local.conditions import (
    COMPARE,
    NUMBER,
    Clause,
    Condition,
    CurrentItem,
    FilterExpression,
    Placeholder,
)

__all__ = ["Condition", "FilterExpression", "Placeholder", "parse_filter", "parse_item_attributes", "parse_values"]

_TOKEN = re.compile(
    rf"""(?P<string>"(?:[^"\\]|\\.)*")
      | (?P<number>{NUMBER})(?![\w.])
      | (?P<placeholder>\$\w+)
      | (?P<word>[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)?)(?![\w.])
      | (?P<sign><=|>=|!=|==|[=<>(),|])
    """,
    re.VERBOSE | re.DOTALL | re.ASCII,
)


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    position: int


def _unquoted(text: str) -> str:
    # Assumption: a backslash inside a quoted value stands before a quote or another backslash.
    return re.sub(r"\\(.)", r"\1", text[1:-1], flags=re.DOTALL)


def parse_values(name: str, text: str) -> list[str]:
    """
    Parse the values of one placeholder.

    :param name: The placeholder, without the dollar sign.
    :param text: What an input line has for it in its ``filterValues``.
    :raises InvalidRequestError: if it is not a list of quoted values.
    """
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

    def condition(self, *datasets: str) -> Condition:
        """Take one condition of a filter."""
        dataset, column = self.column(datasets)
        if self.accept("NOT"):
            self.expect("IN")
            sign = "NOT IN"
        else:
            sign = self.expect("IN", "=", *COMPARE)
        opened = self.accept("(")
        values: list[str]
        if dataset == "ITEMS" and self._comes("CURRENTITEM."):
            values = [CurrentItem(self.column(("CURRENTITEM",))[1])]
        elif sign not in ("IN", "NOT IN"):
            values = [self.value(placeholders=True)]
        elif opened:
            values = self.values(stop="", placeholders=True)
        else:
            raise self.error("(")
        if opened:
            self.expect(")")
        return Condition(dataset, column, sign, tuple(values))

    def _comes(self, beginning: str) -> bool:
        return self.next < len(self.tokens) and self.tokens[self.next].text.upper().startswith(beginning)

    def clause(self) -> Clause:
        """Take one clause of a filter."""
        include = self.expect("INCLUDE", "EXCLUDE") == "INCLUDE"
        entity = self.expect("ITEMID", "USERID")
        self.expect("WHERE")
        datasets = ("ITEMS", "USERS", "INTERACTIONS")
        # Assumption: conditions of one clause may be about several datasets; it is documented both ways.
        any_of = [[self.condition(*datasets)]]
        while joiner := self.accept("AND", "OR"):
            if joiner == "AND":
                any_of[-1].append(self.condition(*datasets))
            else:
                any_of.append([self.condition(*datasets)])
        if_user = []
        if self.accept("IF"):
            if_user = [self.condition("CURRENTUSER")]
            while self.accept("AND"):
                if_user.append(self.condition("CURRENTUSER"))
        return Clause(include, entity, tuple(map(tuple, any_of)), tuple(if_user))


def parse_filter(text: str) -> FilterExpression:
    """
    Parse a filter expression.

    :raises InvalidRequestError: if it is none, with the place.
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
    Parse the ``itemAttributes`` of a segment's input line: ``=`` and ``AND`` only, as the service allows.

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
