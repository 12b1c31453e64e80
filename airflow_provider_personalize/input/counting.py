"""
Counts the lines of a job's input as they stream.

This module is pure: it imports neither Airflow nor boto3.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

#: What a line that holds nothing begins with, and few that hold something do.
_BLANK = re.compile(rb"\n\s")


class LineCounter:
    """
    Counts lines that hold something; an empty line asks for nothing. Memory does not grow with a line's length.

    :ivar lines: How many lines were counted.
    """

    def __init__(self) -> None:
        self.lines = 0

    def count(self, blocks: Iterable[bytes]) -> None:
        """
        Count the lines of one object.

        :param blocks: Its bytes, cut anywhere.
        """
        # Whether the line that is cut off at the end of what has come holds something.
        begun = False
        for block in blocks:
            end = block.find(b"\n")
            begun = begun or bool(block[: end + 1 or None].strip())
            if end >= 0:
                last = block.rfind(b"\n")
                self.lines += begun + _count(block, end, last)
                begun = bool(block[last + 1 :].strip())
        self.lines += begun


def _count(block: bytes, first: int, last: int) -> int:
    """Return how many of the lines that lie whole in the block, between two newlines, hold something."""
    if _BLANK.search(block, first, last + 1):
        return sum(map(bool, map(bytes.strip, block[first:last].split(b"\n"))))
    return block.count(b"\n", first, last)
