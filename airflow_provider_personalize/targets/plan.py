"""What is to be loaded and how, whatever the target. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Literal, get_args
from uuid import UUID

from airflow_provider_personalize.exceptions import InvalidRequestError
from airflow_provider_personalize.output.rows import Column, RowKind

WriteMode = Literal["replace", "replace_slice", "merge", "append"]
WRITE_MODES: tuple[WriteMode, ...] = get_args(WriteMode)


@dataclass(frozen=True)
class LoadPlan:
    """
    What is to be loaded, and how.

    :param source: What is loaded: a job's ARN, or what identifies other output. ``append`` takes it once.
    :param write_mode: What the target holds after the load.
    :param extra: The same value for every row: ``{column: value}``.
    :param column_names: Other names for columns: ``{name: other name, or None to leave it out}``.
    :param filter_values_column: A further column that takes each line's ``filterValues``, or None.
    :param max_reject_rate: The share of the lines that may be rejected.
    """

    source: str
    write_mode: WriteMode = "replace"
    extra: Mapping[str, Any] = field(default_factory=dict)
    column_names: Mapping[str, str | None] = field(default_factory=dict)
    filter_values_column: str | None = None
    max_reject_rate: float = 0.0

    def columns(self, kind: RowKind) -> tuple[Column, ...]:
        """
        Return the columns that take rows of a kind, under the target's names.

        :raises InvalidRequestError: if they cannot be a target's columns, or a value of ``extra`` cannot be one's.
        """
        names = {column.name: column.name for column in kind.columns} | dict(self.column_names)
        columns = tuple(
            column._replace(name=str(names[column.name])) for column in kind.columns if names[column.name] is not None
        )
        if self.filter_values_column:
            columns += (Column(self.filter_values_column, "text", "filter_values"),)
        check_extra(self.extra)
        all_names = [*(column.name for column in columns), *self.extra]
        if len(set(all_names)) < len(all_names) or not columns:
            raise InvalidRequestError(
                f"Expected one or more columns, each name once, from column_names, extra_columns and "
                f"filter_values_column, got {all_names}."
            )
        if self.write_mode == "merge" and column_of(columns, "entity") is None:
            raise InvalidRequestError(
                f"write_mode='merge' needs the column {kind.columns[0].name}: do not leave it out in column_names."
            )
        return columns


def column_of(columns: tuple[Column, ...], field: str) -> Column | None:
    """Return the one of these columns that holds a field of the rows, or None where it is left out."""
    return next((column for column in columns if column.field == field), None)


def check_extra(extra: Mapping[str, Any]) -> None:
    """
    Make sure that each value of ``extra_columns`` has one way to be written, so that a retry finds its own slice.

    :raises InvalidRequestError: if one has not.
    """
    for name, value in extra.items():
        no_number = isinstance(value, (float, Decimal)) and not math.isfinite(value)
        if no_number or not isinstance(value, (str, int, float, Decimal, date, time, timedelta, UUID, type(None))):
            raise InvalidRequestError(
                f"extra_columns: expected text, a finite number, a boolean, a date, a time, a UUID or None for {name}, "
                f"got {value!r} of type {type(value).__name__}."
            )


def type_of(value: Any) -> str:
    """Return the type of the column to create for a value of ``extra_columns``."""
    match value:
        case bool():
            return "boolean"
        case int():
            return "bigint"
        case float():
            return "double"
        case datetime():
            return "timestamptz" if value.tzinfo else "timestamp"
        case date():
            return "date"
    return "text"
