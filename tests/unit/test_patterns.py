"""Regular expressions mean the same on every Python that is promised."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from typing import Any

import pytest

from airflow_provider_personalize.input.line_checks import good_lines
from airflow_provider_personalize.service.recipes import LINE_KEYS, Keys
from airflow_provider_personalize.sql import statements
from tests import house

#: What is repeated without harm, wherever it stops: one thing, or something that takes its beginning back by itself.
HARMLESS = {"ATOMIC_GROUP", "BRANCH", "IN", "LITERAL", "NOT_LITERAL", "ANY"}


def unsafe(pattern: re.Pattern[Any]) -> list[str]:
    """
    Return what a possessive repeat repeats that may fit at its beginning only, as ``ab`` does in ``(?:ab)*+``: Python
    before 3.11.5 stays in the middle of it (CPython's issue 106052).
    """
    return list(_unsafe(re._parser.parse(pattern.pattern, pattern.flags & ~re.DEBUG)))  # type: ignore[attr-defined]


def _unsafe(parsed: Any) -> Iterator[str]:
    for operation, given in parsed:
        if str(operation) == "POSSESSIVE_REPEAT":
            *_, body = given
            names = [str(name) for name, _ in body]
            if len(names) > 1 or not HARMLESS.issuperset(names):
                yield " ".join(names)
        yield from _inside(given)


def _inside(given: Any) -> Iterator[str]:
    if hasattr(given, "data"):
        yield from _unsafe(given)
    elif isinstance(given, (tuple, list)):
        for one in given:
            yield from _inside(one)


def patterns() -> Iterator[re.Pattern[Any]]:
    """Every pattern of the pure modules, also those that are made when they are needed."""
    for name in house.modules():
        if house.room_of(name) in house.pure():
            yield from (one for one in vars(importlib.import_module(name)).values() if isinstance(one, re.Pattern))
    choices = (*LINE_KEYS, Keys())
    yield good_lines(choices, [frozenset(), frozenset("ab"), frozenset("c")])
    for dialect in vars(statements).values():
        if isinstance(dialect, statements._Dialect):
            yield statements._tokens(dialect.quoted, dialect.comment)


def test_possessive_repeats_take_whole_things():
    found = list(patterns())
    assert len(found) > 30
    assert {pattern.pattern: wrong for pattern in found if (wrong := unsafe(pattern))} == {}


@pytest.mark.parametrize("pattern", ["(?:ab)*+", "x(?:(?:ab?)*+|c)", "(?:a(?:b|c))++", "(?=(?:ab){2,3}+)"])
def test_what_is_unsafe(pattern):
    assert unsafe(re.compile(pattern))


@pytest.mark.parametrize("pattern", ["(?>ab)*+", "(?:ab)*", "(?:a|bc)*+", "[ab]*+", "a++"])
def test_what_is_safe(pattern):
    assert unsafe(re.compile(pattern)) == []
