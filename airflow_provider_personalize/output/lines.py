"""
What one line of output says, or why it is invalid. Every faster way of reading has to agree with this module.

The forms are those of PERSONALIZE.md's table, which the service was recorded to write or documented to. Pure.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from airflow_provider_personalize.output.rows import RELATED_ITEMS, USER_RECOMMENDATIONS, USER_SEGMENTS, Line, RowKind

#: The keys of the list of results. ``usersList`` is what was recorded, ``recommendedUsers`` what is documented.
ITEM_LIST, USER_LISTS = "recommendedItems", ("usersList", "recommendedUsers")

#: Two forms that older documentation shows and that are not JSON: the scores as an object without a key, and a comma
#: before the last brace. An unescaped quote ends a string, so neither pattern can match inside an id.
_LOOSE_SCORES = re.compile(r'\}\s*,\s*\{\s*("scores"\s*:\s*\[[^\]]*\])\s*\}')
_LAST_COMMA = re.compile(r",\s*\}\s*\Z")

#: The most levels of a line. The service writes four; the parsers' own bounds depend on Python's version and on how
#: deep in calls they are.
LEVELS = 100
_ESCAPED = re.compile(rb"\\.", re.DOTALL)
#: Any byte but those that open and close levels and texts.
_NO_MARKS = bytes(byte for byte in range(256) if byte not in b'"[]{}')

#: Texts that stand for a score that is not there.
_NO_NUMBER = frozenset({"", "nan", "null", "none"})


class BadLineError(ValueError):
    """A line that gives no rows. The message says what was expected, and what came."""


def read_line(raw: bytes) -> Line:
    """
    Read one line.

    :param raw: The line's bytes, without the newline.
    :raises BadLineError: if it gives no rows.
    """
    if brackets(raw) > LEVELS:
        check_levels([raw])
    return interpret(parse(_decode(raw)))


def brackets(data: bytes) -> int:
    """Count the opening brackets, those in texts included: the line has at most that many levels."""
    return data.count(b"[") + data.count(b"{")


def check_levels(chunks: Iterable[bytes]) -> None:
    """
    Check that JSON is not nested more deeply than every parser allows, wherever it is called.

    :param chunks: Its bytes, in pieces of any size.
    :raises BadLineError: if it is.
    """
    depth, in_text, rest = 0, False, b""
    for chunk in chunks:
        data = rest + chunk
        # A backslash at the end belongs to what comes next.
        rest = b"\\" * ((len(data) - len(data.rstrip(b"\\"))) % 2)
        marks = _ESCAPED.sub(b"", data[: len(data) - len(rest)]).translate(None, _NO_MARKS)
        parts = marks.split(b'"')
        outside = b"".join(parts[in_text::2])
        in_text ^= len(parts) % 2 == 0
        for mark in outside:
            depth += 1 if mark in b"[{" else -1
            if depth > LEVELS:
                raise BadLineError(f"expected JSON of at most {LEVELS} levels, got more")


def _decode(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadLineError(
            f"expected UTF-8, got the byte 0x{raw[error.start]:02x} at byte {error.start} of the line"
        ) from None


def parse(text: str) -> Any:
    """
    Parse a line's JSON, or one of the two documented forms that are not JSON.

    :raises BadLineError: if it is neither.
    """
    # Parts that were glued together leave a byte order mark in the middle of the file, too.
    text = text.removeprefix("\ufeff")
    try:
        return json.loads(text)
    except ValueError as error:
        mended = _LAST_COMMA.sub("}", _LOOSE_SCORES.sub(r"}, \1", text))
        if mended != text:
            try:
                return json.loads(mended)
            except ValueError:
                pass
        raise BadLineError(f"expected JSON, got {error}") from None


class Head(NamedTuple):
    """
    What a line says, its lists not looked into.

    :param kind: What kind of rows it gives.
    :param entity: The user, item or segment; None where the input was empty.
    :param key: What the list of results is called.
    :param items: The results.
    :param scores: What stands for their scores.
    :param theme: The theme, where there is one.
    :param relevances: What stands for the items' relevance to it.
    :param filters: The input's filterValues, None where it has none.
    """

    kind: RowKind
    entity: str | None
    key: str
    items: list[Any]
    scores: Any
    theme: str | None
    relevances: Any
    filters: Any


SCORES, RELEVANCES = "output.scores", "output.itemsThemeRelevanceScores"


def interpret(line: Any) -> Line:
    """
    Return what a parsed line says.

    :param line: What the JSON parser made of it.
    :raises BadLineError: if it gives no rows.
    """
    head = read_head(line)
    check_ids(head.items, f"output.{head.key}")
    count = len(head.items)
    scores = padded(numbers(head.scores, SCORES), count, SCORES)
    relevances = padded(numbers(head.relevances, RELEVANCES), count, RELEVANCES)
    return Line(head.kind, head.entity, head.items, scores, head.theme, relevances, head.filters)


def read_head(line: Any) -> Head:
    """
    Return what a parsed line says, without looking into its lists.

    :param line: What the JSON parser made of it.
    :raises BadLineError: if it gives no rows.
    """
    if not isinstance(line, dict):
        raise BadLineError(f"expected an object, got {_shown(line)}")
    if line.get("error") not in (None, ""):
        raise BadLineError(f"the service reports an error: {_as_text(line['error'])}")
    source = _input(line)
    output = line.get("output")
    if not isinstance(output, dict):
        raise BadLineError(f"expected an object at output, got {_at(line, 'output')}")
    key, items = _results(output)
    kind, entity = _entity(source, users=key in USER_LISTS)
    theme = relevances = None
    if kind is RELATED_ITEMS:
        theme, relevances = output.get("theme"), output.get("itemsThemeRelevanceScores")
        if theme is not None:
            check_id(theme, "output.theme")
    scores = output.get("scores", line.get("scores"))
    return Head(kind, entity, key, items, scores, theme, relevances, source.get("filterValues"))


def _input(line: dict[str, Any]) -> dict[str, Any]:
    if "input" not in line and isinstance(line.get("itemAttributes"), str):
        # Documented for segments by attributes: no wrapper.
        return {key: line.get(key) for key in ("itemAttributes", "filterValues")}
    source = line.get("input")
    if not isinstance(source, dict):
        raise BadLineError(f"expected an object at input, got {_at(line, 'input')}")
    return source


def _results(output: dict[str, Any]) -> tuple[str, list[str]]:
    present = [key for key in (ITEM_LIST, *USER_LISTS) if output.get(key) is not None]
    if len(present) != 1:
        found = " and ".join(present) or "none of them"
        raise BadLineError(f"expected one of recommendedItems, usersList and recommendedUsers in output, got {found}")
    key = present[0]
    items = output[key]
    if not isinstance(items, list):
        raise BadLineError(f"expected a list at output.{key}, got {_shown(items)}")
    return key, items


def _entity(source: dict[str, Any], *, users: bool) -> tuple[RowKind, str | None]:
    keys = ("itemId", "itemAttributes") if users else ("userId", "itemId")
    key = next((key for key in keys if source.get(key) is not None), None)
    if key is None:
        if users:
            raise BadLineError("expected itemId or itemAttributes in input, got neither")
        # Popularity-Count's older form: an empty input, the same items for everybody.
        return USER_RECOMMENDATIONS, None
    check_id(source[key], f"input.{key}")
    if users:
        return USER_SEGMENTS, source[key]
    return (USER_RECOMMENDATIONS if key == "userId" else RELATED_ITEMS), source[key]


def check_ids(ids: list[Any], where: str, first: int = 0) -> None:
    """
    Check that each id of a list is text that a database can hold, as :func:`check_id` does.

    :param ids: The list, or a piece of it.
    :param where: What the list is called in a message.
    :param first: The place of the piece's first id in the list.
    :raises BadLineError: if one is not.
    """
    try:
        joined = "".join(ids)
        joined.encode()
    except (TypeError, UnicodeEncodeError):
        pass
    else:
        if "\0" not in joined:
            return
    for index, value in enumerate(ids, first):
        check_id(value, f"{where}[{index}]")


def check_id(value: Any, where: str) -> None:
    """
    Check that a value is text that every database can hold.

    :raises BadLineError: if it is no text, or has a NUL character (which PostgreSQL refuses) or half a surrogate pair
        (which no encoding takes) in it.
    """
    if not isinstance(value, str):
        raise BadLineError(f"expected text at {where}, got {_shown(value)}")
    if "\0" in value:
        raise BadLineError(f"expected text without NUL characters at {where}, got {_shown(value)}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise BadLineError(f"expected text at {where}, got half a surrogate pair in {_shown(value)}") from None


def numbers(values: Any, where: str, first: int = 0) -> list[float | None]:
    """
    Return the numbers that stand beside the items as doubles, or None where there is none.

    :param values: The list, or a piece of it; or None, for an empty one.
    :param where: What the list is called in a message.
    :param first: The place of the piece's first number in the list.
    :raises BadLineError: if it is no list, or holds what is no finite number.
    """
    if values is None:
        return []
    # A piece of a giant line's list that is nothing but texts, as "NaN", comes packed.
    if isinstance(values, str) or not isinstance(values, (list, Sequence)):
        raise BadLineError(f"expected a list at {where}, got {_shown(values)}")
    return [
        value if type(value) is float and math.isfinite(value) else _number(value, f"{where}[{index}]")
        for index, value in enumerate(values, first)
    ]


def padded(values: list[float | None], count: int, where: str) -> list[float | None]:
    """
    Return as many values as there are items: None for those that are missing.

    :raises BadLineError: if there are more.
    """
    check_count(len(values), count, where)
    return values + [None] * (count - len(values))


def check_count(given: int, count: int, where: str) -> None:
    """
    Check that there are no more numbers than items.

    :raises BadLineError: if there are more: nobody could tell whose they are.
    """
    if given > count:
        raise BadLineError(f"expected at most {count} numbers at {where}, one for each item, got {given}")


def _number(value: Any, where: str) -> float | None:
    if (
        value is None
        or (isinstance(value, float) and math.isnan(value))
        or (isinstance(value, str) and value.strip().lower() in _NO_NUMBER)
    ):
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            pass
    raise BadLineError(f"expected a finite number at {where}, got {_shown(value)}")


def _at(line: dict[str, Any], key: str) -> str:
    return _shown(line[key]) if key in line else "nothing"


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else _shown(value)


def _shown(value: Any) -> str:
    shown = json.dumps(value)
    return shown if len(shown) <= 100 else f"{shown[:100]}…"
