"""What a load logs while it runs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from airflow_provider_personalize.service.waits import Logger

if TYPE_CHECKING:
    from airflow_provider_personalize.output.reader import OutputReader

#: Seconds between two reports.
REPORT_EVERY = 5.0


class Progress:
    """
    Log how far a load is, every few seconds.

    :param log: Where to log.
    :param reader: The reader that counts lines and rows.
    :param files: How many objects there are.
    :param size: How many bytes they have in all.
    """

    def __init__(self, log: Logger, reader: OutputReader, files: int, size: int) -> None:
        self._log = log
        self._reader = reader
        self._files = files
        self._size = size
        self._files_begun = 0
        self._bytes = 0
        self._begun = time.monotonic()
        self._next = self._begun + REPORT_EVERY

    @property
    def seconds(self) -> float:
        """How long the load has been running."""
        return time.monotonic() - self._begun

    def count(self, blocks: Iterator[bytes]) -> Iterator[bytes]:
        """Pass the blocks of an object through, and log when it is time."""
        self._files_begun += 1
        for block in blocks:
            self._bytes += len(block)
            yield block
            if time.monotonic() >= self._next:
                self._next = time.monotonic() + REPORT_EVERY
                self._log.info("%s", self)

    def __str__(self) -> str:
        seconds = self.seconds or 1e-9
        left = (self._size - self._bytes) * seconds / self._bytes if self._bytes else 0.0
        return (
            f"File {self._files_begun} of {self._files}, {self._bytes / 1e6:,.1f} of {self._size / 1e6:,.1f} MB: "
            f"lines: {self._reader.lines:,}, rows: {self._reader.rows:,} ({self._reader.rows / seconds:,.0f} per "
            f"second), rejects: {self._reader.rejects:,}; about {left:,.0f} s left."
        )
