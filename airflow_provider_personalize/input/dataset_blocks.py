"""
CSV as a database's server writes it, checked a block at a time.

A block whose rows are plainly good goes on as the bytes that it is, which numpy tells without looking at each value
from Python; every other block is taken apart and encoded row by row. Without numpy, all of them are. What comes out is
the same: :class:`~airflow_provider_personalize.input.dataset.DatasetRows` says what is good.

This module is pure: it imports neither Airflow nor boto3.
"""

from __future__ import annotations

import csv
import io
import re
from typing import Any, NamedTuple

from airflow_provider_personalize.input.dataset import DatasetRows
from airflow_provider_personalize.input.dataset_values import CLOCK_TOLERANCE, DATES, MAX_CATEGORY_LENGTH
from airflow_provider_personalize.service.recipes import MAX_ID_LENGTH
from airflow_provider_personalize.service.schemas import Field

#: What no plain block has: quotes; and lists, and numbers that are none or very large, where a field could hold them.
_QUOTE, _LIST = b'"', b"["
_NO_NUMBER = re.compile(rb"nan|inf|\de\+\d\d", re.IGNORECASE)
#: The digits of epoch seconds, at most.
_DIGITS = 10
#: The digits of numbers that every number of the type has room for.
_SAFE_DIGITS = {"int": 9, "long": 18, "float": 38, "double": 308}


class Block(NamedTuple):
    """Rows as CSV, and their number."""

    data: bytes
    rows: int


class DatasetBlocks:
    """
    Blocks of CSV that a server has written, on their way into the dataset's CSV.

    :param rows: What the rows have to be, and where what is wrong with them is collected. The blocks' columns are its
        columns, in the schema's order.
    """

    def __init__(self, rows: DatasetRows) -> None:
        self._rows = rows
        self._fields = rows.schema.fields
        self._numpy = _numpy()
        self._begins_an_id: Any = _first_bytes(self._numpy) if self._numpy else None
        self._has_lists = any(field.categorical or field.name == "IMPRESSION" for field in self._fields)
        self._has_numbers = any(field.type in {"float", "double"} for field in self._fields)

    def encode(self, block: bytes) -> Block:
        """
        Return a block as it goes into the dataset's CSV.

        :param block: Whole rows.
        """
        count = self._count_of_plain_rows(block) if self._numpy and not self._rows.problems.count else 0
        if not count:
            # Without a value and with an empty text are one in CSV.
            rows = list(csv.reader(io.StringIO(block.decode(), newline=""), strict=True))
            return Block(self._rows.encode(rows, in_order=True), len(rows))
        position = self._rows.user_position
        if position is not None:
            self._rows.count_users([line.split(",")[position] for line in block.decode().split("\n")[:-1]])
        self._rows.add_rows(count)
        return Block(block, count)

    def _count_of_plain_rows(self, block: bytes) -> int:
        """Return the number of a block's rows; 0 where one of them may not be good as it is."""
        np = self._numpy
        if _QUOTE in block or (self._has_lists and _LIST in block):
            return 0
        if self._has_numbers and _NO_NUMBER.search(block):
            # Where it is part of a word, the rows are only encoded once more.
            return 0
        data = np.frombuffer(block, np.uint8)
        is_newline = data == ord("\n")
        ends = np.flatnonzero((data == ord(",")) | is_newline)
        width = len(self._fields)
        if not len(ends) or len(ends) % width or ends[-1] != len(data) - 1:
            return 0
        starts = np.empty_like(ends)
        starts[0] = 0
        starts[1:] = ends[:-1] + 1
        ends, starts = ends.reshape(-1, width), starts.reshape(-1, width)
        # A newline ends each row, and there are no others.
        if np.count_nonzero(is_newline) != len(ends) or not is_newline[ends[:, -1]].all():
            return 0
        is_plain = all(
            self._is_plain(field, data, starts[:, index], ends[:, index]) for index, field in enumerate(self._fields)
        )
        return len(ends) if is_plain else 0

    def _is_plain(self, field: Field, data: Any, starts: Any, ends: Any) -> bool:
        """Tell whether all values of a column are plainly good; bytes are never fewer than characters."""
        lengths = ends - starts
        longest, shortest = int(lengths.max()), int(lengths.min())
        if not shortest and not field.nullable:
            return False
        if field.is_timestamp:
            return self._are_moments(data, starts, ends, lengths)
        if field.is_id:
            return longest <= MAX_ID_LENGTH and bool(self._begins_an_id[data[starts]].all())
        if field.type == "string":
            return longest <= (MAX_ID_LENGTH if field.name == "IMPRESSION" else MAX_CATEGORY_LENGTH) or field.textual
        if field.type == "long" and not self._end_in_digits(data, ends[lengths > 0]):
            # A moment that never comes, which the server writes as "infinity".
            return False
        return longest <= _SAFE_DIGITS.get(field.type, longest)

    @staticmethod
    def _end_in_digits(data: Any, ends: Any) -> bool:
        last = data[ends - 1]
        return bool(((last >= ord("0")) & (last <= ord("9"))).all())

    def _are_moments(self, data: Any, starts: Any, ends: Any, lengths: Any) -> bool:
        np = self._numpy
        if not int(lengths.min()):
            # Where some are missing, the others are looked at.
            starts, ends, lengths = starts[lengths > 0], ends[lengths > 0], lengths[lengths > 0]
            if not len(lengths):
                return True
        longest, shortest = int(lengths.max()), int(lengths.min())
        if longest > _DIGITS:
            return False
        seconds = np.zeros(len(lengths), np.int64)
        for index in range(longest):
            # Less than "0" is more than 9, in bytes.
            digits = data[np.maximum(ends - 1 - index, starts)] - np.uint8(ord("0"))
            if (digits > 9).any():
                return False
            if index >= shortest:
                digits[lengths <= index] = 0
            seconds += np.multiply(digits, 10**index, dtype=np.int64)
        # What begins with 0 has a digit too many.
        return (
            bool((seconds <= self._rows.now + CLOCK_TOLERANCE).all())
            and not ((seconds >= DATES.start) & (seconds < DATES.stop)).any()
            and not ((data[starts] == ord("0")) & (lengths > 1)).any()
        )


def _numpy() -> Any:
    try:
        import numpy
    except ImportError:
        return None
    return numpy


def _first_bytes(np: Any) -> Any:
    """Return which bytes no blank text begins with."""
    table = np.zeros(256, bool)
    for first, last in ((0x21, 0x7E), (0xC3, 0xDF), (0xE4, 0xF4)):
        table[first : last + 1] = True
    return table
