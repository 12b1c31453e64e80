"""
The expressions that an input depends on: the item attributes of a segment, and a filter's placeholders.

This module is pure: it imports neither Airflow nor boto3.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_SPACE = re.compile(r"\s*")
_COLUMN = re.compile(r"items\.[a-z_]\w*(?![\w.])", re.IGNORECASE | re.ASCII)
_EQUALS = re.compile(r"=(?!=)")
_VALUE = re.compile(r'"(?:[^"\\]|\\.)*"|[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![\w.])', re.DOTALL | re.ASCII)
_AND = re.compile(r"and(?!\w)", re.IGNORECASE)
#: What stands at a place where something else was expected.
_WORD = re.compile(r"[!<>=]+|[\w.$]+|\S")

_EXAMPLE = 'ITEMS.genres = "Comedy" AND ITEMS.year = 1995'
#: What each step of a condition expects, in words and as a pattern.
_STEPS = (
    ("a column like ITEMS.genres", _COLUMN),
    ("'='", _EQUALS),
    ('a "text" in double quotes or a number', _VALUE),
)
#: What people know from filters and SQL, and what to write here instead.
_INSTEAD = {
    "or": "give each alternative a line of its own, and join the segments after the job",
    "in": "give each value a line of its own, and join the segments after the job",
    "not": "only what is wanted can be said, not what is not",
    "!=": "only what is wanted can be said, not what is not",
    "<>": "only what is wanted can be said, not what is not",
    "==": "write one '='",
    "'": "write text in double quotes",
    "(": "leave the brackets out",
}


def item_attributes_problem(expression: str) -> str | None:
    """
    Say what is wrong with the ``itemAttributes`` of a line, or None where nothing is.

    The service takes conditions ``ITEMS.<column> = <value>`` joined by ``AND``, and nothing else of what filters know.
    Keywords are taken in any case; a value is text in double quotes, or a number.

    :param expression: The expression, as ``ITEMS.genres = "Comedy" AND ITEMS.year = 1995``.
    :return: The place (in characters, from 1), what is expected there, what stands there, and what to do.
    """
    position = _skip(expression, 0)
    while True:
        for expected, pattern in _STEPS:
            match = pattern.match(expression, position)
            if match is None:
                return _problem(expression, position, expected)
            position = _skip(expression, match.end())
        if position == len(expression):
            return None
        match = _AND.match(expression, position)
        if match is None:
            return _problem(expression, position, "AND or the end")
        position = _skip(expression, match.end())


def _skip(expression: str, position: int) -> int:
    match = _SPACE.match(expression, position)
    return match.end() if match else position


def _problem(expression: str, position: int, expected: str) -> str:
    match = _WORD.match(expression, position)
    found = match[0] if match else ""
    instead = _INSTEAD.get(found.lower(), f"write it like {_EXAMPLE}")
    return (
        f"expected {expected} at character {position + 1} of {expression!r}, got "
        f"{repr(found) if found else 'its end'}; {instead}."
    )


_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_PLACEHOLDER = re.compile(r"\$(\w+)", re.ASCII)
_INTERACTIONS = re.compile(r"\bInteractions\s*\.", re.IGNORECASE)
_ENTITY = re.compile(r"\b(?:INCLUDE|EXCLUDE)\s+(ItemID|UserID)\b", re.IGNORECASE)


class Filter(NamedTuple):
    """
    What an input has to know of a filter.

    :param required: The placeholders of INCLUDE clauses: each line gives values for them.
    :param optional: Those of EXCLUDE clauses alone. Whether they may be left out is told differently in two places.
    :param entities: What its clauses take or leave out, in lower case: ``itemid``, ``userid``.
    :param of_interactions: Whether it looks at interactions.
    """

    required: frozenset[str] = frozenset()
    optional: frozenset[str] = frozenset()
    entities: frozenset[str] = frozenset()
    of_interactions: bool = False


def read_filter(expression: str) -> Filter:
    """
    Return what an input has to know of a filter, whose expressions are joined by ``|``.

    :param expression: The filter's expression, as ``DescribeFilter`` gives it.
    """
    bare = _QUOTED.sub('""', expression)
    placeholders: dict[bool, set[str]] = {True: set(), False: set()}
    for clause in bare.split("|"):
        placeholders[clause.lstrip().lower().startswith("exclude")].update(_PLACEHOLDER.findall(clause))
    required = frozenset(placeholders[False])
    return Filter(
        required,
        frozenset(placeholders[True]) - required,
        frozenset(entity.lower() for entity in _ENTITY.findall(bare)),
        bool(_INTERACTIONS.search(bare)),
    )


def filter_placeholders(expression: str) -> frozenset[str]:
    """
    Return the names of all of a filter's placeholders.

    :param expression: The filter's expression, as ``DescribeFilter`` gives it.
    """
    found = read_filter(expression)
    return found.required | found.optional
