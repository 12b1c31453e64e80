"""
How a value of a query is written into a line of input: ids, lists of them, expressions and filter values.

Columns go through these whole: the usual case, nothing but proper ids, is checked and encoded by a few calls that run
in C. This module is pure.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from functools import lru_cache
from json.encoder import encode_basestring_ascii
from typing import Any
from uuid import UUID

from airflow_provider_personalize.arguments import shown
from airflow_provider_personalize.service.expressions import item_attributes_problem
from airflow_provider_personalize.service.recipes import MAX_ID_LENGTH

#: From here on, a float does not hold every whole number, so it may stand for another id than the one that was stored.
_INEXACT = 2.0**53


class InexactFloat(float):
    """A number of single precision that is too large to tell a whole number from the next one."""


#: Ids that JSON writes as they are, with quotes between them.
_PLAIN_ID = rf"[!#-\[\]-~]{{1,{MAX_ID_LENGTH}}}+"
_PLAIN_IDS = re.compile(f'{_PLAIN_ID}(?>"{_PLAIN_ID})*+')

#: What UTF-8 has no bytes for, or no database and no service a place: halves of surrogate pairs, and NUL.
_UNWRITABLE = re.compile("[\0\ud800-\udfff]")

#: Encodes a column's values as JSON; raises ValueError, with the reason, at one that cannot be encoded.
Encode = Callable[[Sequence[Any]], list[str]]


def _escape(text: str) -> str:
    # ASCII throughout: no reader can take U+2028, or anything else but the final newline, for the end of a line.
    return encode_basestring_ascii(text)


def _shown(value: Any) -> str:
    return f"{type(value).__name__} {shown(value)}"


def check_characters(text: str, what: str) -> None:
    if found := _UNWRITABLE.search(text):
        name = "NUL (U+0000)" if found[0] == "\0" else f"half a surrogate pair (U+{ord(found[0]):04X})"
        raise ValueError(
            f"expected {what} of whole characters, got {_shown(text)}, with {name} at position {found.start()}, which "
            "no line can hold; leave such rows out, or mend the text in the query."
        )


def check_exact(value: Any, what: str) -> None:
    """
    Make sure that a number is the one that was stored.

    :raises ValueError: with the reason, if another one may have been.
    """
    single = isinstance(value, InexactFloat)
    if single or (isinstance(value, float) and abs(value) >= _INEXACT):
        remedy = "double precision" if single else "text"
        raise ValueError(
            f"expected {what}, got float {float(value)!r}, which is too large for this type to be exact; "
            f"cast the column to {remedy} or to a whole number in the query."
        )


def number_text(value: Any, what: str) -> str:
    """Return a number's digits: a whole number without decimals, however the database's type pads it."""
    check_exact(value, what)
    number = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    if not number.is_finite():
        raise ValueError(f"expected {what}, got {_shown(value)}; leave such rows out in the query.")
    whole = number.to_integral_value()
    return str(int(whole)) if number == whole else format(number, "f")


def id_text(value: Any) -> str:
    """
    Return an id as text, exactly: ``123`` for the number 123, however the database's type pads it; text as it is.

    :param value: What the database gave.
    :raises ValueError: with the reason, if it can be no id.
    """
    match value:
        case str():
            text = value
        case None:
            raise ValueError("expected an id, got null; leave such rows out (WHERE … IS NOT NULL).")
        case bool():
            raise ValueError(f"expected an id, text or a whole number, got {_shown(value)}; is this the right column?")
        case int() | UUID():
            text = str(value)
        case float() | Decimal():
            text = number_text(value, "an id, text or a whole number")
            if "." in text:
                raise ValueError(
                    f"expected an id, text or a whole number, got {_shown(value)}; cast it to text in the query if "
                    "this is what the ids look like."
                )
        case _:
            raise ValueError(
                f"expected an id, text or a whole number, got {_shown(value)}; cast it to text in the query."
            )
    if not text.strip():
        raise ValueError(f"expected an id, got the blank text {text!r}; leave such rows out in the query.")
    if len(text) > MAX_ID_LENGTH:
        raise ValueError(
            f"expected an id of at most {MAX_ID_LENGTH} characters, got {len(text)}: {text[:50]!r}…; the service "
            "knows no such id."
        )
    check_characters(text, "an id")
    return text


def encode_ids(values: Sequence[Any]) -> list[str]:
    """
    Encode ids as JSON strings.

    :raises ValueError: with the reason, if one can be no id.
    """
    types = set(map(type, values))
    if (
        types == {str}
        and max(map(len, values)) <= MAX_ID_LENGTH
        and all(map(str.strip, values))
        and not _UNWRITABLE.search("".join(values))
    ):
        return list(map(encode_basestring_ascii, values))
    if types == {int}:
        return [f'"{value}"' for value in values]
    return [_escape(id_text(value)) for value in values]


def plain_ids(values: Sequence[Any]) -> Sequence[str] | None:
    """
    Return ids as texts that need no escapes in JSON, only quotes around them; None where one of them may need some.

    It looks at all of them at once, which takes half the time of :func:`encode_ids`.
    """
    try:
        text = '"'.join(values)
    except TypeError:
        return list(map(str, values)) if set(map(type, values)) == {int} else None
    return values if _PLAIN_IDS.fullmatch(text) and text.count('"') == len(values) - 1 else None


def as_list(value: Any) -> list[Any] | None:
    """Return the elements of an array, or of text that is a JSON array; None where it is neither."""
    if isinstance(value, list | tuple):
        return list(value)
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            elements = json.loads(value, parse_float=Decimal)
        except (ValueError, RecursionError):
            return None
        return elements if isinstance(elements, list) else None
    return None


def _encode_item_list(value: Any) -> str:
    elements = as_list(value)
    if elements is None:
        raise ValueError(
            'expected a list of item ids, as an array or as text that is a JSON array like ["27", "886"], got '
            f"{_shown(value)}."
        )
    if not elements:
        raise ValueError("expected at least one item id, got an empty list; leave such rows out in the query.")
    return f"[{', '.join(encode_ids(elements))}]"


def _encode_item_attributes(value: Any) -> str:
    text = value if isinstance(value, str) else None
    problem = item_attributes_problem(text) if text is not None else f"expected an expression, got {_shown(value)}."
    if text is None or problem:
        raise ValueError(problem)
    check_characters(text, "an expression")
    return _escape(text)


def _filter_text(value: Any) -> str:
    match value:
        case str():
            check_characters(value, "a filter value")
            if '"' in value or "\\" in value:
                raise ValueError(
                    f"expected filter values without double quotes and backslashes, got {_shown(value)}: the service "
                    "documents no way to write these inside a value."
                )
            return value
        case None:
            raise ValueError(
                "expected a filter value, got null; leave such rows out, or coalesce to a value that no item has."
            )
        case int() | float() | Decimal() if not isinstance(value, bool):
            return number_text(value, "a filter value")
        case UUID():
            return str(value)
        case _:
            raise ValueError(
                f"expected a filter value, text or a number or a list of these, got {_shown(value)}; cast it in the "
                "query to the text or number that the filter compares with."
            )


def _encode_filter_value(value: Any) -> str:
    elements = as_list(value)
    if elements is None:
        elements = [value]
    if not elements:
        raise ValueError(
            "expected a filter value, got an empty list; leave such rows out, or give it a value that no item has."
        )
    return _escape(",".join(f'"{_filter_text(element)}"' for element in elements))


#: Texts are few and come again, row after row.
_encode_filter_text = lru_cache(4096)(_encode_filter_value)


def encode_filter_values(values: Sequence[Any]) -> list[str]:
    """
    Encode the values of a filter's placeholder as JSON strings, in the quotes that the service wants.

    :raises ValueError: with the reason, if one can be no filter value.
    """
    return [_encode_filter_text(value) if type(value) is str else _encode_filter_value(value) for value in values]


#: How each key's values are encoded.
ENCODERS: Mapping[str, Encode] = {
    "userId": encode_ids,
    "itemId": encode_ids,
    "itemList": lambda values: [_encode_item_list(value) for value in values],
    "itemAttributes": lambda values: [_encode_item_attributes(value) for value in values],
}
