"""
The rows of a query become lines of input: which columns make which line.

This module is pure: it imports neither Airflow nor boto3. Rows come in batches and go column by column. Where one of
a batch cannot go into a line, its values are looked at one by one, and the first is reported with its row.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from airflow_provider_personalize.exceptions import InvalidLineError, InvalidRequestError
from airflow_provider_personalize.input.values import (
    ENCODERS,
    Encode,
    encode_filter_values,
    encode_ids,
    plain_ids,
)
from airflow_provider_personalize.service.names import folded
from airflow_provider_personalize.service.recipes import LINE_KEYS, Keys, Recipe, default_max_lines, describe_keys

#: As the service's own API has it for filters in real time; the batch documentation names no other.
_PLACEHOLDER = re.compile(r"[A-Za-z0-9_]{1,50}")
_KEY_OF = {folded(key): key for key in ENCODERS}


class _Field(NamedTuple):
    column: str
    position: int
    encode: Encode


class EncodedLines(NamedTuple):
    """
    Lines of input, ready to be written.

    :param texts: What differs from line to line.
    :param before: What each line begins with.
    :param after: What each line ends with, the newline included.
    """

    texts: Sequence[str]
    before: str
    after: str


class InputRows:
    """
    Encode a query's rows as lines; the names of its columns decide once what a line holds.

    A column is recognised by its name, in any case and with or without underscores: ``user_id``, ``item_id``,
    ``item_list`` and ``item_attributes``. Every other column must be named in ``filter_values``.

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
        # Joining the parts that differ by what every line ends and begins with is faster than formatting each line.
        self._before, middle = f"{{{line}}}\n".split("%s", 1)
        middle, value, self._after = f"%s{middle}".rpartition("%s")
        self._format = middle + value

    def encode(self, rows: Sequence[Sequence[Any]], first_row: int = 1) -> EncodedLines:
        """
        Return the lines for rows.

        :param rows: The rows, as the database's driver gives them.
        :param first_row: The number of the first of them, for messages.
        :raises InvalidLineError: if a value cannot go into a line, with its row.
        """
        if len(self._fields) == 1:
            [field] = self._fields
            values = [row[field.position] for row in rows]
            if field.encode is encode_ids and (plain := plain_ids(values)) is not None:
                return EncodedLines(plain, f'{self._before}"', f'"{self._after}')
            return EncodedLines(self._encode_column(field, values, first_row), self._before, self._after)
        columns = [
            self._encode_column(field, [row[field.position] for row in rows], first_row) for field in self._fields
        ]
        return EncodedLines([self._format % values for values in zip(*columns, strict=True)], self._before, self._after)

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
    """Return the columns whose names say what they hold, in the order in which a line holds them."""
    found: dict[str, _Field] = {}
    for index, name in enumerate(names):
        key = _KEY_OF.get(folded(name))
        if key in found:
            raise InvalidRequestError(
                f"sql: expected one column for {key}, got {found[key].column!r} and {name!r}. Leave one out, or give "
                "it an alias."
            )
        if key:
            found[key] = _Field(name, index, ENCODERS[key])
    return {key: found[key] for key in ENCODERS if key in found}


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
    return _Field(names[found[0]], found[0], encode_filter_values)
