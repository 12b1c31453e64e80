"""Whether a column holds a value as it is: what a database would wrap, cut or round in silence is an error here."""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterable
from datetime import UTC, date, datetime, time
from decimal import Decimal, InvalidOperation
from typing import Any
from uuid import UUID

#: Significant digits of a decimal number that single precision always tells from its neighbours.
SINGLE_DIGITS = 6
_TYPE = re.compile(r"(?P<name>[^(]*)(?:\((?P<arguments>[^)]*)\))?(?P<rest>.*)", re.DOTALL)
_TEXT = re.compile("char|text|clob|string|blob")
_INTEGER = re.compile(r"u?(tiny|small|medium|big|huge)?int(eger|\d)?( unsigned)?")
#: A part of a second that is finer than a microsecond.
_FINER = re.compile(r"\.\d{6}\d*[1-9]")


class UnfitValueError(ValueError):
    """A column would not hold a value as it is; the message is the reason."""


class ColumnType:
    """
    What a column can hold, according to its type.

    :param text: The type in the database's words: ``numeric(6,3)``, ``timestamp(3) without time zone``.
    :param singles: Names of the database's types of single precision.
    :param fraction: Digits of a second of a type that does not name them.
    """

    def __init__(self, text: str, singles: frozenset[str] = frozenset(), fraction: int = 6) -> None:
        self.text = text
        parts = _TYPE.match(text.lower())
        assert parts is not None  # noqa: S101 (the pattern takes any text)
        self.name = parts["name"].strip()
        found = [int(number) for number in re.findall(r"\d+", parts["arguments"] or "")]
        whole = f"{self.name} {parts['rest'].strip()}"
        #: Whether it is of text. An enum's values are no type's name.
        self.is_text = bool(_TEXT.search(self.name))
        self.is_integer = bool(_INTEGER.fullmatch(self.name))
        self.is_single = self.name in singles
        self.is_padded = self.name in {"char", "character", "nchar", "bpchar"}
        #: How many characters it takes, or None for no limit.
        self.length = found[0] if self.is_text and found else None
        self._is_decimal = self.name in {"numeric", "decimal", "number"}
        self._scale = (found[1] if len(found) > 1 else 0) if found else None
        self._is_double = self.name in {"double", "double precision", "float8"}
        self._is_date = self.name == "date"
        self._is_moment = self.name.startswith(("timestamp", "datetime"))
        self._is_time = not self._is_moment and self.name.split(" ")[0] in {"time", "timetz"}
        self._has_zone = "with time zone" in whole or self.name.endswith(("tz", "offset"))
        self._fraction = found[0] if found else {"timestamp_s": 0, "timestamp_ms": 3}.get(self.name, fraction)

    def hold(self, value: Any, *, exact_singles: bool = False) -> Any:
        """
        Return a value of ``extra_columns`` as the column holds it.

        A time with a zone goes into a column without one as UTC.

        :param exact_singles: Whether single precision has to hold exactly this number, since the database compares it
            with the double.
        :raises UnfitValueError: if the column would hold another value. Values of other types are left to the database.
        """
        if isinstance(value, UUID):
            value = str(value)
        if value is None or isinstance(value, bool):
            return value
        if self.is_text:
            return self._hold_text(value)
        if self._is_date or self._is_moment or self._is_time:
            return self._hold_time(value)
        if self.is_integer or self.is_single or self._is_decimal or self._is_double:
            return self._hold_number(value, exact_singles=exact_singles)
        return value

    def _hold_text(self, value: Any) -> Any:
        text = str(value)
        if self.length is not None and len(text) > self.length:
            raise UnfitValueError(f"it has {len(text)} characters, and the column takes {self.length}")
        if self.is_padded and text.endswith(" "):
            raise UnfitValueError("the column does not keep spaces at the end")
        return text

    def _hold_number(self, value: Any, *, exact_singles: bool) -> Any:
        try:
            number = Decimal(str(value).strip())
        except InvalidOperation:
            return value
        if not number.is_finite():
            return value
        if self.is_integer and number != int(number):
            raise UnfitValueError("the column holds whole numbers only")
        if self._is_decimal and self._scale is not None and number != round(number, self._scale):
            raise UnfitValueError(f"the column holds {self._scale} digits after the point")
        if self._is_double and number != Decimal(repr(float(number))):
            raise UnfitValueError("it has more digits than double precision holds")
        if self.is_single:
            check_singles([float(number)])
            digits = len(number.normalize().as_tuple().digits)
            if Decimal(_single(float(number))) != number and (exact_singles or digits > SINGLE_DIGITS):
                raise UnfitValueError("single precision does not hold it exactly")
        # A database may compare a number with a text, or an exact number with a double, as doubles.
        if self.is_integer:
            return int(number)
        return number if self._is_decimal else value

    def _hold_time(self, value: Any) -> Any:
        read = _moment(value)
        if read is None:
            return value
        if isinstance(value, str) and _FINER.search(value):
            raise UnfitValueError("it is finer than a microsecond")
        if isinstance(read, time):
            if not self._is_time:
                raise UnfitValueError("it is a time of day")
            if read.tzinfo and not self._has_zone:
                raise UnfitValueError("the column holds no time zone")
        elif self._is_time:
            raise UnfitValueError("the column holds a time of day only")
        if isinstance(read, datetime) and read.tzinfo and not (self._is_moment and self._has_zone):
            read = value = read.astimezone(UTC).replace(tzinfo=None)
        if isinstance(read, datetime) and self._is_date:
            if read.time() != time():
                raise UnfitValueError("the column holds a date only")
            return read.date()
        if isinstance(read, (datetime, time)) and read.microsecond % 10 ** (6 - min(self._fraction, 6)):
            raise UnfitValueError(f"the column holds {self._fraction} digits of a second")
        return value


def has_zone(value: Any) -> bool:
    """Return whether a value has a time zone."""
    return getattr(_moment(value), "tzinfo", None) is not None


def _moment(value: Any) -> datetime | date | time | None:
    """Return a value, or the ISO 8601 text of one, as a datetime, date or time; None where it is none."""
    if isinstance(value, (date, time)):
        return value
    if isinstance(value, str):
        for kind in (date, datetime, time):
            try:
                return kind.fromisoformat(value.strip())
            except ValueError:
                continue
    return None


def _single(value: float) -> float:
    # In native byte order, a number that is too large would become infinite instead of an error.
    single: float = struct.unpack(">f", struct.pack(">f", value))[0]
    return single


def check_singles(values: Iterable[float | None]) -> None:
    """
    Make sure that single precision holds these numbers: the greatest would be infinite there, the smallest zero.

    :raises UnfitValueError: if it does not hold one.
    """
    for value in values:
        if not value or not math.isfinite(value):
            continue
        try:
            fits = _single(value) != 0.0
        except OverflowError:
            fits = False
        if not fits:
            raise unfit_single(value)


def unfit_single(value: float) -> UnfitValueError:
    """Return the error for a number that single precision does not hold."""
    return UnfitValueError(f"{value!r} is out of the range of single precision")


def check_whole(values: Iterable[float | None]) -> None:
    """
    Make sure that these numbers are whole.

    :raises UnfitValueError: if one is not.
    """
    for value in values:
        if value is not None and value != math.floor(value):
            raise UnfitValueError(f"{value!r} would be rounded to a whole number")


def check_texts(texts: Iterable[str | None], column: ColumnType) -> None:
    """
    Make sure that a column keeps the spaces at the end of these texts. Texts that are too long otherwise are refused
    by databases themselves.

    :raises UnfitValueError: if it does not.
    """
    longest = 0 if column.is_padded else column.length or 0
    for text in texts:
        if text is not None and len(text) > longest and text[-1] == " ":
            raise UnfitValueError(f"{text!r} would lose spaces at its end")


def server_text(value: Any) -> str | None:
    """Return a value of ``extra_columns`` as text that a server of PostgreSQL's family converts to a column's type."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    return str(value.isoformat()) if hasattr(value, "isoformat") else str(value)
