"""What a sink is asked to do, and what it is told of the lines."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, NamedTuple, Protocol
from uuid import UUID

from airflow_provider_personalize.exceptions import InvalidRequestError
from airflow_provider_personalize.output.reader import Reject
from airflow_provider_personalize.output.rows import Batch, Column

WRITE_MODES = ("replace", "replace_slice", "merge", "append")


@dataclass(frozen=True)
class Load:
    """
    What is to be loaded, and into what.

    :param table: The target's name.
    :param schema: Its schema, or None for the connection's own.
    :param columns: The columns that take the rows, under the target's names.
    :param extra: The same value for every row: ``{column: value}``.
    :param write_mode: One of :data:`WRITE_MODES`.
    :param source: What is loaded: a job's ARN, or what identifies other output. It is appended once.
    :param create_table: Whether to create the target where it is missing.
    :param rejects_table: The table that takes lines set apart, or None.
    """

    table: str
    columns: tuple[Column, ...]
    source: str
    schema: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    write_mode: str = "replace"
    create_table: bool = True
    rejects_table: str | None = None

    @property
    def id(self) -> str:
        """What this load is called in the ledger: a digest of target and source."""
        text = "\n".join((self.schema or "", self.table, self.source))
        return hashlib.sha256(text.encode()).hexdigest()

    def column(self, role: str) -> Column | None:
        """Give the column of that role, or None where it is left out."""
        return next((column for column in self.columns if column.field == role), None)


class Result(Protocol):
    """What the reading of the lines comes to; complete once all batches were taken."""

    @property
    def lines(self) -> int:
        """How many lines there were."""

    @property
    def rows(self) -> int:
        """How many rows they gave."""

    @property
    def rejects(self) -> int:
        """How many lines were set apart."""

    def settle(self) -> None:
        """Raise TooManyRejectsError where there are more rejects than are allowed."""

    def rejected(self) -> Iterable[Reject]:
        """Give the lines that were set apart."""


class TableColumn(NamedTuple):
    """
    A column that the target has.

    :param type: Its type in the database's words.
    :param optional: Whether an insert may leave it out.
    :param computed: Whether the database alone fills it.
    """

    type: str
    optional: bool
    computed: bool = False


def staged_rows(batches: Iterable[Batch], columns: tuple[Column, ...]) -> Iterator[tuple[Any, ...]]:
    """Give rows for the stage: those of the batches, and one of rank 0 for each line that has none."""
    for batch in batches:
        yield from batch.with_rank_zero_rows().rows(columns)


def type_of(value: Any) -> str:
    """Tell the type of the column to create for a value of ``extra_columns``."""
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
