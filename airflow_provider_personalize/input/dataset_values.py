"""
How a value of a query is written into a field of a dataset's CSV: ids, timestamps, categories, texts and numbers.

This module is pure: it imports neither Airflow nor boto3.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal
from functools import partial
from typing import Any
from uuid import UUID

from airflow_provider_personalize.arguments import shown
from airflow_provider_personalize.input.values import as_list, check_characters, check_exact, id_text, number_text
from airflow_provider_personalize.service.schemas import Field

#: The most characters of one category.
MAX_CATEGORY_LENGTH = 1_000
#: How far ahead of this machine's clock a moment may be, in seconds.
CLOCK_TOLERANCE = 300
#: Epoch seconds that no moment of any data has: the year 5138, or 1973 where they are milliseconds.
_NEVER_SECONDS = 1e11
#: Numbers that are dates, as 20261122 is, rather than seconds of August in 1970.
DATES = range(1900_01_01, 2100_00_00)
#: The smallest and the largest whole number of each type.
WHOLE_NUMBERS = {"int": (-(2**31), 2**31 - 1), "long": (-(2**63), 2**63 - 1)}
_BOOLEANS: Mapping[object, str] = {
    **dict.fromkeys(("true", "t", "yes", "y", "on", "1"), "true"),
    **dict.fromkeys(("false", "f", "no", "n", "off", "0"), "false"),
}
_NUMBER = re.compile(r"[+-]?\d{1,25}(?:\.\d*)?", re.ASCII)
_FRACTION = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?", re.ASCII | re.IGNORECASE)

#: Writes a value as text, not yet quoted for CSV; raises ValueError, with the reason, where it cannot.
Write = Callable[[Any], str]


def writer(field: Field, now: float) -> Write:
    """
    Return what writes the values of a field, NULL excepted.

    :param field: The field.
    :param now: The time, in seconds since the epoch: no moment is far beyond it.
    """
    write: Write = _boolean
    match field.type:
        case _ if field.is_id:
            write = id_text
        case _ if field.is_timestamp:
            write = partial(_moment_text, now=now)
        case "string" if field.name == "IMPRESSION":
            write = partial(_joined, what="an item id", write=id_text)
        case "string" if field.categorical:
            write = partial(_joined, what="a category", write=_category)
        case "string":
            write = _plain_text
        case "int" | "long":
            write = partial(_whole_number, type_=field.type)
        case "float" | "double":
            write = partial(_number, type_=field.type)
    return write


def epoch_seconds(value: Any) -> int:
    """
    Return a moment as whole seconds since the epoch; what has no time zone is taken as UTC.

    :param value: A datetime, a date, a number of seconds, or the text of either, dates as ISO 8601 has them.
    :raises ValueError: with the reason, if it is none of these.
    """
    match value:
        case bool():
            pass
        case datetime():
            aware = value if value.tzinfo else value.replace(tzinfo=UTC)
            return math.floor((aware - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds())
        case date():
            return epoch_seconds(datetime.combine(value, time(), UTC))
        case int():
            return value
        case float() | Decimal() if math.isfinite(value):
            check_exact(value, "epoch seconds")
            return math.floor(value)
        case str() if _NUMBER.fullmatch(value.strip()):
            return math.floor(Decimal(value.strip()))
        case str():
            try:
                return epoch_seconds(datetime.fromisoformat(value.strip()))
            except ValueError:
                pass
    raise ValueError(
        f"expected a timestamp, a date or epoch seconds, got {_shown(value)}; leave such rows out, or cast the "
        "column in the query."
    )


def _moment_text(value: Any, now: float) -> str:
    seconds = epoch_seconds(value)
    is_number = _NUMBER.fullmatch(value.strip()) if isinstance(value, str) else not isinstance(value, date)
    if seconds < 0:
        raise ValueError(f"expected a moment since 1970, got {_shown(value)}; leave such rows out in the query.")
    if is_number and _is_date(str(seconds)):
        raise ValueError(
            f"expected a timestamp, a date or epoch seconds, got {_shown(value)}, which looks like a date; make it one "
            "in the query."
        )
    if seconds > now + CLOCK_TOLERANCE:
        for parts, unit in ((1e3, "milliseconds"), (1e6, "microseconds"), (1e9, "nanoseconds")):
            if is_number and seconds > _NEVER_SECONDS and seconds / parts <= now + CLOCK_TOLERANCE:
                raise ValueError(
                    f"expected epoch seconds, got {_shown(value)}, which looks like {unit}; divide by {parts:,.0f} in "
                    "the query."
                )
        raise ValueError(
            f"expected a moment that has been, got {_shown(value)}, which is in the future; leave such rows out, or "
            "mend the time zone in the query."
        )
    return str(seconds)


def _is_date(digits: str) -> bool:
    """Return whether digits are a date of these centuries, or one with hour and minute, as 20261122103000 is."""
    day, time_of_day = digits[:8], digits[8:]
    # With the hour alone, they could be seconds: 2026112210 are those of a day in 2034.
    if len(time_of_day) not in {0, 4, 6} or int(day) not in DATES:
        return False
    try:
        datetime.fromisoformat(f"{day}T{time_of_day or '00'}")
    except ValueError:
        return False
    return True


def _joined(value: Any, what: str, write: Write) -> str:
    """Write one value or a list of them, with ``|`` between; a text may hold several already."""
    elements = as_list(value)
    if elements is None:
        if not isinstance(value, str):
            return write(value)
        for part in value.split("|"):
            if part.strip():
                write(part)
        check_characters(value, what)
        return value
    texts = []
    for element in elements:
        if element is None or element == "":
            raise ValueError(f"expected {what}, got {_shown(element)} in {_shown(value)}; leave it out of the list.")
        text = write(element)
        if "|" in text:
            raise ValueError(
                f"expected {what} without '|', which stands between several, got {_shown(text)}; replace it in the "
                "query."
            )
        texts.append(text)
    return "|".join(texts)


def _category(value: Any) -> str:
    text = _plain_text(value, "a category")
    if len(text) > MAX_CATEGORY_LENGTH:
        raise ValueError(
            f"expected a category of at most {MAX_CATEGORY_LENGTH:,} characters, got {len(text):,}: {text[:50]!r}…; "
            "cut it in the query, or mark the field as textual, where it is prose of an item."
        )
    return text


def _plain_text(value: Any, what: str = "text") -> str:
    match value:
        case str():
            check_characters(value, what)
            return value
        case bool():
            return str(value).lower()
        case int() | float() | Decimal():
            return number_text(value, f"{what} or a number")
        case datetime() | date():
            return value.isoformat()
        case UUID():
            return str(value)
    raise ValueError(f"expected {what}, got {_shown(value)}; cast it to text in the query.")


def _whole_number(value: Any, type_: str) -> str:
    low, high = WHOLE_NUMBERS[type_]
    number: Decimal | int | None = None
    match value:
        case bool():
            pass
        case int():
            number = value
        case float() | Decimal() if math.isfinite(value):
            check_exact(value, "a whole number")
            number = Decimal(value)
        case datetime() | date() if type_ == "long":
            number = epoch_seconds(value)
        case str() if _NUMBER.fullmatch(value.strip()):
            number = Decimal(value.strip())
    if number is None or number != int(number):
        raise ValueError(f"expected a whole number, got {_shown(value)}; cast the column in the query.")
    if not low <= number <= high:
        remedy = ' or let the schema have the type "long"' if type_ == "int" else ""
        raise ValueError(
            f"expected a whole number from {low:,} to {high:,}, as the type {type_} holds, got {_shown(value)}; leave "
            f"such rows out{remedy}."
        )
    return str(int(number))


def _number(value: Any, type_: str) -> str:
    text: str | None = None
    match value:
        case bool():
            pass
        case int() | Decimal() if Decimal(value).is_finite():
            text = format(value, "f") if isinstance(value, Decimal) else str(value)
        case float() if math.isfinite(value):
            text = repr(value)
        case str() if _FRACTION.fullmatch(value.strip()):
            text = value.strip()
    if text is None:
        raise ValueError(
            f"expected a number, got {_shown(value)}; leave such rows out, or give them NULL in the query."
        )
    if not _holds(type_, float(text)):
        remedy = ' or let the schema have the type "double"' if type_ == "float" else ""
        raise ValueError(
            f"expected a number that the type {type_} holds, got {_shown(value)}, which is too large; leave such rows "
            f"out{remedy}."
        )
    return text


def _holds(type_: str, number: float) -> bool:
    try:
        struct.pack({"float": ">f", "double": ">d"}[type_], number)
    except OverflowError:
        return False
    return math.isfinite(number)


def _boolean(value: Any) -> str:
    match value:
        case bool() | int() | Decimal() if value in {0, 1}:
            return "true" if value else "false"
        case str() if word := _BOOLEANS.get(value.strip().lower()):
            return word
        case bytes() if value in {b"\0", b"\1"}:  # MySQL's bit(1)
            return "true" if value == b"\1" else "false"
    raise ValueError(f"expected true or false, got {_shown(value)}; cast the column to a boolean in the query.")


def _shown(value: Any) -> str:
    return shown(value) if isinstance(value, str) else f"{type(value).__name__} {_unquoted(value)}"


def _unquoted(value: Any) -> str:
    """Return a value as a message shows it: a moment as ISO 8601, whatever else as Python writes it."""
    return str(value) if isinstance(value, datetime | date | Decimal | UUID) else shown(value)
