"""
The expressions of Amazon Personalize: filters, and the item attributes of a segment's input line.

A filter reads ``INCLUDE ItemID WHERE Items.GENRES IN ($GENRES) | EXCLUDE ItemID WHERE Items.YEAR < 1990``: clauses
joined by ``|``, each of conditions joined by ``AND`` and ``OR`` (AND binds tighter), and perhaps an ``IF`` about the
``CurrentUser`` at its end. Item attributes read ``ITEMS.genres = "Comedy" AND ITEMS.year = 1995``. Keywords, dataset
and column names are taken in any case; values are not.
"""

from __future__ import annotations

from collections.abc import Iterable

from airflow_provider_personalize.exceptions import InvalidRequestError
from airflow_provider_personalize.local.conditions import (
    COMPARE,
    Clause,
    Condition,
    CurrentItem,
    FilterExpression,
)
from airflow_provider_personalize.local.tokens import Placeholder, Tokens, parse_values

__all__ = ["Condition", "FilterExpression", "Placeholder", "parse_filter", "parse_item_attributes", "parse_values"]


class _Parser(Tokens):
    """A recursive-descent parser over the tokens of one expression."""

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
