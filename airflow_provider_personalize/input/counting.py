"""
Counts the lines of a job's input as they stream.

This module is pure: it imports neither Airflow nor boto3.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator


class LineCounter:
    """
    Counts lines that hold something; an empty line asks for nothing. Memory does not grow with a line's length.

    :ivar lines: How many lines were counted.
    """

    def __init__(self) -> None:
        self.lines = 0

    def passing(self, blocks: Iterable[bytes]) -> Iterator[bytes]:
        """
        Yield the bytes of one object as they come, and count its lines.

        :param blocks: The bytes, cut anywhere.
        """
        # Whether the line that is cut off at the end of what has come holds something.
        begun = False
        for block in blocks:
            first, *others = block.split(b"\n")
            begun = begun or bool(first.strip())
            if others:
                last = others.pop()
                self.lines += begun + sum(map(bool, map(bytes.strip, others)))
                begun = bool(last.strip())
            yield block
        self.lines += begun

    def count(self, blocks: Iterable[bytes]) -> None:
        """Count the lines of one object, and nothing else."""
        for _ in self.passing(blocks):
            pass
