"""What a load tells while it runs, and the lines that it sets apart."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator
from typing import Any, Self

from airflow_provider_personalize.exceptions import TooManyRejectsError
from airflow_provider_personalize.output.reader import OutputReader, Reject
from airflow_provider_personalize.service.waits import Logger

#: Seconds between two reports.
REPORT_EVERY = 5.0
#: How many rejects an error shows, and how much of each one's text, in characters.
EXAMPLES, EXAMPLE_TEXT = 5, 200


class Rejects:
    """
    The lines set apart: the first few at hand, all of them in a temporary file. A context manager.

    :param keep: Whether a table wants all of them.
    """

    def __init__(self, *, keep: bool) -> None:
        self.examples: list[str] = []
        # __exit__() closes it.
        self._file = tempfile.TemporaryFile("w+", encoding="utf-8", prefix="personalize-") if keep else None  # noqa: SIM115

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._file:
            self._file.close()

    def add(self, reject: Reject) -> None:
        """Keep one."""
        if len(self.examples) < EXAMPLES:
            text = reject.text if len(reject.text) <= EXAMPLE_TEXT else f"{reject.text[:EXAMPLE_TEXT]}…"
            self.examples.append(
                f"{reject.object}, line {reject.line} (byte {reject.byte_offset}): {reject.reason}: {text}"
            )
        if self._file:
            self._file.write(json.dumps(reject) + "\n")

    def __iter__(self) -> Iterator[Reject]:
        """Give all that were kept, from the first."""
        if self._file:
            self._file.seek(0)
            for line in self._file:
                yield Reject(*json.loads(line))


class LoadResult:
    """
    What reading the lines comes to.

    :param reader: Who reads, and counts.
    :param rejects: The lines set apart.
    :param max_reject_rate: The share of the lines that may be.
    :param kept_in: The table that takes them, or None.
    """

    def __init__(self, reader: OutputReader, rejects: Rejects, max_reject_rate: float, kept_in: str | None) -> None:
        self._reader = reader
        self._rejects = rejects
        self._max_reject_rate = max_reject_rate
        self._kept_in = kept_in

    @property
    def lines(self) -> int:
        """How many lines there were, blank ones not counted."""
        return self._reader.lines

    @property
    def rows(self) -> int:
        """How many rows they gave."""
        return self._reader.rows

    @property
    def rejects(self) -> int:
        """How many lines were set apart."""
        return self._reader.rejects

    def settle(self) -> None:
        """
        Decide whether the load may be published.

        :raises TooManyRejectsError: if more lines are unusable than may be.
        """
        if self.rejects > self._max_reject_rate * self.lines:
            raise TooManyRejectsError(
                rejects=self.rejects,
                lines=self.lines,
                max_reject_rate=self._max_reject_rate,
                examples=self._rejects.examples,
                kept_in=self._kept_in,
            )

    def rejected(self) -> Iterator[Reject]:
        """Give the lines that were set apart."""
        return iter(self._rejects)


class Progress:
    """
    Report how far a load is, every few seconds.

    :param log: Where to.
    :param reader: Who reads, and counts.
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
        """How long the load has been going on."""
        return time.monotonic() - self._begun

    def count(self, blocks: Iterator[bytes]) -> Iterator[bytes]:
        """Pass an object's blocks through, and report when it is time."""
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
            f"{self._reader.lines:,} lines, {self._reader.rows:,} rows ({self._reader.rows / seconds:,.0f} rows/s), "
            f"{self._reader.rejects:,} rejects; about {left:,.0f} s left."
        )


def summary(job_arn: str | None, files: int, size: int, seconds: float, counts: tuple[int, int, int]) -> dict[str, Any]:
    """Make what the loader returns; ``counts`` are lines, rows and rejects."""
    lines, rows, rejects = counts
    return {
        "job_arn": job_arn,
        "files": files,
        "lines": lines,
        "rows": rows,
        "rejects": rejects,
        "bytes": size,
        "seconds": round(seconds, 3),
    }
