"""
From the rows of a query to lines of input: which columns make which line, and how a value is written.

This module is pure: it imports neither Airflow nor boto3. Rows come in batches and go column by column, so that the
usual case, a column of nothing but proper ids, is checked and encoded by a few calls that run in C. Where a batch
holds anything else, its values are looked at one by one, and the first that cannot go into a line is reported with
its row.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from functools import lru_cache
from json.encoder import encode_basestring_ascii
from typing import Any, NamedTuple
from uuid import UUID

from airflow_provider_personalize.batch.expressions import item_attributes_problem
from airflow_provider_personalize.batch.recipes import (
    LINE_KEYS,
    MAX_ID_LENGTH,
    Keys,
    Recipe,
    default_max_lines,
    describe_keys,
)
from airflow_provider_personalize.exceptions import InvalidLineError, InvalidRequestError

#: As the service's own API has it for filters in real time; the batch documentation names no other.
_PLACEHOLDER = re.compile(r"[A-Za-z0-9_]{1,50}")
#: From here on, a float does not hold every whole number, so it may stand for another id than the one that was stored.
_INEXACT = 2.0**53

#: Ids that JSON writes as they are, with quotes between them.
_PLAIN_ID = rf"[!#-\[\]-~]{{1,{MAX_ID_LENGTH}}}+"
_PLAIN_IDS = re.compile(f'{_PLAIN_ID}(?:"{_PLAIN_ID})*+')

#: Encodes a column's values as JSON; raises ValueError, with the reason, at one that cannot be encoded.
_Encode = Callable[[Sequence[Any]], list[str]]


def _escape(text: str) -> str:
    # ASCII throughout: no reader can take U+2028, or anything else but the final newline, for the end of a line.
    return encode_basestring_ascii(text)


def _shown(value: Any) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 100 else text[:100] + '…'}"


def _number(value: Any, what: str) -> str:
    """Give a number's digits: a whole number without decimals, however the database's type pads it."""
    if isinstance(value, float) and abs(value) >= _INEXACT:
        raise ValueError(
            f"expected {what}, got {_shown(value)}, which is too large for this type to be exact; "
            "cast the column to text or to a whole number in the query."
        )
    number = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    if not number.is_finite():
        raise ValueError(f"expected {what}, got {_shown(value)}; leave such rows out in the query.")
    whole = number.to_integral_value()
    return str(int(whole)) if number == whole else format(number, "f")


def id_text(value: Any) -> str:
    """
    Give an id as text, exactly: ``123`` for the number 123, however the database's type pads it; text as it is.

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
            text = _number(value, "an id, text or a whole number")
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
    return text


def encode_ids(values: Sequence[Any]) -> list[str]:
    """
    Encode ids as JSON strings.

    :raises ValueError: with the reason, if one can be no id.
    """
    types = set(map(type, values))
    if types == {str} and max(map(len, values)) <= MAX_ID_LENGTH and all(map(str.strip, values)):
        return list(map(encode_basestring_ascii, values))
    if types == {int}:
        return [f'"{value}"' for value in values]
    return [_escape(id_text(value)) for value in values]


def plain_ids(values: Sequence[Any]) -> Sequence[str] | None:
    """
    Give ids as texts that are their own JSON, but for the quotes around each; None where one of them may not be.

    It looks at all of them at once, which takes half the time of :func:`encode_ids`.
    """
    try:
        text = '"'.join(values)
    except TypeError:
        return list(map(str, values)) if set(map(type, values)) == {int} else None
    return values if _PLAIN_IDS.fullmatch(text) and text.count('"') == len(values) - 1 else None


def _as_list(value: Any) -> list[Any] | None:
    """Give the elements of an array, or of text that is a JSON array; None where it is neither."""
    if isinstance(value, list | tuple):
        return list(value)
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            elements = json.loads(value, parse_float=Decimal)
        except ValueError:
            return None
        return elements if isinstance(elements, list) else None
    return None


def _encode_item_list(value: Any) -> str:
    elements = _as_list(value)
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
    return _escape(text)


def _filter_text(value: Any) -> str:
    match value:
        case str():
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
            return _number(value, "a filter value")
        case UUID():
            return str(value)
        case _:
            raise ValueError(
                f"expected a filter value, text or a number or a list of these, got {_shown(value)}; cast it in the "
                "query to the text or number that the filter compares with."
            )


def _encode_filter_value(value: Any) -> str:
    elements = _as_list(value)
    if elements is None:
        elements = [value]
    if not elements:
        raise ValueError(
            "expected a filter value, got an empty list; leave such rows out, or give it a value that no item has."
        )
    return _escape(",".join(f'"{_filter_text(element)}"' for element in elements))


#: Texts are few and come again, row after row.
_encode_filter_text = lru_cache(4096)(_encode_filter_value)


def _encode_filter_values(values: Sequence[Any]) -> list[str]:
    return [_encode_filter_text(value) if type(value) is str else _encode_filter_value(value) for value in values]


#: How each key's values are encoded.
_ENCODERS: Mapping[str, _Encode] = {
    "userId": encode_ids,
    "itemId": encode_ids,
    "itemList": lambda values: [_encode_item_list(value) for value in values],
    "itemAttributes": lambda values: [_encode_item_attributes(value) for value in values],
}


def folded(column: str) -> str:
    """Give what the columns of a query are told by: their names in any case, with underscores or without."""
    return column.replace("_", "").lower()


_KEY_OF = {folded(key): key for key in _ENCODERS}


class _Field(NamedTuple):
    column: str
    position: int
    encode: _Encode


class Lines(NamedTuple):
    """
    Lines of input.

    :param texts: What differs from line to line.
    :param before: What each line begins with.
    :param after: What each line ends with, the newline included.
    """

    texts: Sequence[str]
    before: str
    after: str


class InputRows:
    """
    What becomes of a query's rows, decided once by its column names.

    A column is told by its name, in any case and with or without underscores: ``user_id``, ``item_id``, ``item_list``
    and ``item_attributes``. Every other column must be named in ``filter_values``.

    :param columns: The names of the query's columns.
    :param filter_values: Which column holds the values of which of the filter's placeholders: ``{placeholder:
        column}``.
    :param recipe: The recipe that the lines are for; by default any that takes these columns.
    :raises InvalidRequestError: if the columns make no line.
    """

    def __init__(
        self,
        columns: Sequence[str],
        *,
        filter_values: Mapping[str, str] | None = None,
        recipe: Recipe | None = None,
    ) -> None:
        names = list(columns)
        fields = _key_fields(names)
        filters = [_filter_field(names, *pair) for pair in (filter_values or {}).items()]
        choices = tuple(keys for keys in (recipe.lines if recipe else LINE_KEYS) if keys)
        taken_by = recipe.name if recipe else "a line of input"
        used = {field.position for field in (*fields.values(), *filters)}
        if unknown := [name for index, name in enumerate(names) if index not in used]:
            raise InvalidRequestError(
                f"sql: expected columns for {taken_by} ({describe_keys(choices)}), got {names}, where {unknown} say "
                "nothing of the kind. Leave them out, give them an alias (AS user_id), or name them in "
                "filter_values={placeholder: column}."
            )
        if Keys(fields) not in choices:
            raise InvalidRequestError(
                f"sql: expected columns for {taken_by} ({describe_keys(choices)}), got {names}. Give the columns an "
                "alias (AS user_id), or leave out what does not belong."
            )
        #: The keys of each line, beside ``filterValues``.
        self.keys = Keys(fields)
        #: The most lines that a file of such lines may have.
        self.max_lines = recipe.max_lines if recipe else default_max_lines(self.keys)
        line = ", ".join(f'"{key}": %s' for key in fields)
        if filters:
            values = ", ".join(f'"{placeholder}": %s' for placeholder in filter_values or {})
            line += f', "filterValues": {{{values}}}'
        self._fields = (*fields.values(), *filters)
        # Joining what differs with what every line begins and ends with is faster than formatting each.
        self._before, middle = f"{{{line}}}\n".split("%s", 1)
        middle, value, self._after = f"%s{middle}".rpartition("%s")
        self._format = middle + value

    def encode(self, rows: Sequence[Sequence[Any]], first_row: int = 1) -> Lines:
        """
        Make lines of rows.

        :param rows: The rows, as the database's driver gives them.
        :param first_row: The number of the first of them, for messages.
        :raises InvalidLineError: if a value cannot go into a line, with its row.
        """
        if len(self._fields) == 1:
            [field] = self._fields
            values = [row[field.position] for row in rows]
            if field.encode is encode_ids and (plain := plain_ids(values)) is not None:
                return Lines(plain, f'{self._before}"', f'"{self._after}')
            return Lines(self._encode_column(field, values, first_row), self._before, self._after)
        columns = [
            self._encode_column(field, [row[field.position] for row in rows], first_row) for field in self._fields
        ]
        return Lines([self._format % values for values in zip(*columns, strict=True)], self._before, self._after)

    @staticmethod
    def _encode_column(field: _Field, values: list[Any], first_row: int) -> list[str]:
        try:
            return field.encode(values)
        except ValueError:
            for row, value in enumerate(values, first_row):
                try:
                    field.encode([value])
                except ValueError as error:
                    raise InvalidLineError(
                        location=f"Row {row} of the query, column {field.column}", reason=str(error)
                    ) from None
            raise


def _key_fields(names: list[str]) -> dict[str, _Field]:
    """Find the columns that are told by their names, in the order in which a line holds them."""
    found: dict[str, _Field] = {}
    for index, name in enumerate(names):
        key = _KEY_OF.get(folded(name))
        if key in found:
            raise InvalidRequestError(
                f"sql: expected one column for {key}, got {found[key].column!r} and {name!r}. Leave one out, or give "
                "it an alias."
            )
        if key:
            found[key] = _Field(name, index, _ENCODERS[key])
    return {key: found[key] for key in _ENCODERS if key in found}


def _filter_field(names: list[str], placeholder: str, column: str) -> _Field:
    if not isinstance(placeholder, str) or not _PLACEHOLDER.fullmatch(placeholder):
        raise InvalidRequestError(
            f"filter_values: expected names of placeholders (letters, digits and '_', without the $), got "
            f"{placeholder!r}."
        )
    found = [index for index, name in enumerate(names) if name == column] or [
        index for index, name in enumerate(names) if name.lower() == str(column).lower()
    ]
    if len(found) != 1:
        raise InvalidRequestError(
            f"filter_values: expected one column {column!r} in the query, for the placeholder {placeholder!r}, got "
            f"{names}."
        )
    return _Field(names[found[0]], found[0], _encode_filter_values)
