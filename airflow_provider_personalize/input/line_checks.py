"""
What makes one line of a job's input invalid: its keys' values, and an entity that stands in several lines.

This module is pure: it imports neither Airflow nor boto3.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import permutations
from typing import Any

from airflow_provider_personalize.service.expressions import item_attributes_problem
from airflow_provider_personalize.service.recipes import LINE_KEYS, MAX_ID_LENGTH, Keys

#: How many lines are compared to find an entity that stands in several.
COMPARED_LINES = 100_000
#: The most bytes of a line: the longest list of the longest ids is far shorter.
MAX_LINE_BYTES = 16_000_000

# An id that is good at first sight begins with a byte that no blank character begins with, and has no escapes. The
# parser decides about all others. Possessive repeats (*+) do not backtrack, so a run may have any length. What they
# repeat is atomic, (?>…): Python before 3.11.5 stays in the middle of a last one that fits only at its beginning
# (CPython's issue 106052).
_GOOD_ID = rb'"[!#-\[\]-~\xc3-\xdf\xe4-\xf4][^"\\\x00-\x1f]{0,%d}+"' % (MAX_ID_LENGTH - 1)
_GOOD_VALUE: Mapping[str, bytes] = {
    "userId": _GOOD_ID,
    "itemId": _GOOD_ID,
    "itemList": rb"\[(?>%b, ?)*+%b\]" % (_GOOD_ID, _GOOD_ID),
}
#: The keys that some recipe knows.
KNOWN_KEYS = Keys().union(*LINE_KEYS)
_GOOD_FILTER_VALUE = rb'"(?>\\"[^"\\\x00-\x1f]*+\\",)*+\\"[^"\\\x00-\x1f]*+\\""'
#: What stands for one value or more in ``filterValues``.
FILTER_VALUE = re.compile(r'(?:"[^"\\]*",\s*)*"[^"\\]*"')


def good_lines(choices: Iterable[Keys], placeholders: Iterable[frozenset[str]]) -> re.Pattern[bytes]:
    """
    Return a pattern that matches a run of lines that are good at first sight.

    :param choices: The sets of keys that a line may have.
    :param placeholders: The sets of placeholders that a line may give values for.
    """
    filters = [pattern for names in placeholders for pattern in _filter_patterns(names)]
    forms = []
    for keys in choices:
        pairs = [rb'"%b": ?%b' % (key.encode(), _GOOD_VALUE[key]) for key in _GOOD_VALUE if key in keys]
        if not keys and b"" in filters:
            forms.append(rb"\{ ?\}\r?\n")
        elif keys and keys <= _GOOD_VALUE.keys():
            forms += [rb"\{%b%b\}\r?\n" % (rb", ?".join(pairs), values) for values in filters]
    return re.compile(rb"(?>%b)*+" % b"|".join(forms))


def _filter_patterns(names: frozenset[str]) -> Iterator[bytes]:
    if not names:
        yield b""
    elif len(names) <= 3:
        for order in permutations(sorted(names)):
            yield rb', ?"filterValues": ?\{%b\}' % rb", ?".join(
                rb'"%b": ?%b' % (name.encode(), _GOOD_FILTER_VALUE) for name in order
            )


class Repeats:
    """
    Look for an entity that stands in several lines with other filter values, or with another list of items.

    Only the first lines are compared, so that memory does not grow with the input, and only the first such entity is
    reported.
    """

    def __init__(self) -> None:
        # What each entity was first seen with, and where.
        self._seen: dict[int, tuple[int, str, int]] | None = {}

    def look(self, uri: str, text: bytes, number: int) -> tuple[str, str] | None:
        """
        Look through some lines.

        :param uri: The URI of their object.
        :param text: The lines.
        :param number: How many lines come before them.
        :return: Where an entity stands again, and a text with its id and its first place; None where none does.
        """
        if self._seen is None or len(self._seen) >= COMPARED_LINES:
            return None
        for line_number, raw in enumerate(text.split(b"\n")[:-1], number + 1):
            try:
                line = json.loads(raw)
                entity = next(line[key] for key in ("userId", "itemId", "itemAttributes") if key in line)
                beside = json.dumps([line.get("filterValues"), line.get("itemList")], sort_keys=True)
                first = self._seen.setdefault(hash(entity), (hash(beside), uri, line_number))
            except (ValueError, TypeError, StopIteration, RecursionError):
                continue  # The line is invalid, and is reported as such.
            if first[0] != hash(beside):
                self._seen = None
                return f"{uri}, line {line_number}", f"{entity!r} stands in {first[1]}, line {first[2]}, too"
        return None


def is_utf8(text: bytes) -> bool:
    """Return whether bytes are UTF-8."""
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def is_encodable(text: str) -> bool:
    """Return whether a text has no half of a surrogate pair, which no encoding takes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def value_problem(key: str, value: Any) -> str | None:
    """Return what is wrong with the value of a key, or None."""
    match key:
        case "itemAttributes":
            if isinstance(value, str):
                return item_attributes_problem(value) or _characters_problem(value, "an expression")
            return f"expected an expression as text, got {json.dumps(value)[:100]}."
        case "itemList":
            if not isinstance(value, list) or not value:
                return f"expected a list of item ids, got {json.dumps(value)[:100]}."
            return next(filter(None, map(_id_problem, value)), None)
        case _:
            return _id_problem(value)


def _id_problem(value: Any) -> str | None:
    if not isinstance(value, str):
        return f'expected an id as text, as "123", got {json.dumps(value)[:100]}.'
    if reason := _characters_problem(value, "an id"):
        return reason
    if not value.strip():
        return f"expected an id, got the blank text {value!r}; leave such lines out."
    if len(value) > MAX_ID_LENGTH:
        return f"expected at most {MAX_ID_LENGTH} characters, got {len(value)}: {value[:50]!r}…"
    return None


def _characters_problem(value: str, what: str) -> str | None:
    if "\0" not in value and is_encodable(value):
        return None
    got = "a NUL character" if "\0" in value else "half a surrogate pair"
    return f"expected {what} that a table can hold, got {got} in {value[:100]!r}."
