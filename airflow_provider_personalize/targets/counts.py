"""What reading output has come to, and whether that may be published. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from airflow_provider_personalize.exceptions import TooManyRejectsError
from airflow_provider_personalize.output.rows import Batch


class LoadCounts(NamedTuple):
    """
    What a load, or a part of one, has come to.

    :param lines: How many lines were read, blank ones not counted.
    :param rows: How many rows they gave.
    :param rejects: How many of the lines were rejected.
    """

    lines: int = 0
    rows: int = 0
    rejects: int = 0

    @property
    def reject_rate(self) -> float:
        """The share of the lines that were rejected. It equals 0.29 for 29 of 100, while 0.29 * 100 is less than 29."""
        return self.rejects / self.lines if self.rejects else 0.0

    @classmethod
    def total(cls, parts: Iterable[LoadCounts]) -> LoadCounts:
        """Return the sum of the counts of several parts."""
        lines = rows = rejects = 0
        for part in parts:
            lines, rows, rejects = lines + part.lines, rows + part.rows, rejects + part.rejects
        return cls(lines, rows, rejects)


class CountedBatches:
    """
    Batches, whose rows are counted as they are taken.

    :param batches: The batches.
    """

    def __init__(self, batches: Iterable[Batch]) -> None:
        self._batches = batches
        self.rows = 0

    def __iter__(self) -> Iterator[Batch]:
        for batch in self._batches:
            self.rows += len(batch.items)
            yield batch


def settle(
    counts: LoadCounts, max_reject_rate: float, *, examples: Iterable[str] = (), kept_in: str | None = None
) -> None:
    """
    Decide whether a load may be published.

    :param counts: What it has come to; of a load in parts, their sum.
    :param max_reject_rate: The share of the lines that may be rejected.
    :param examples: The first rejected lines, for the error; they are read only if there is one.
    :param kept_in: Where all of them are kept, if anywhere.
    :raises TooManyRejectsError: if more lines were rejected.
    """
    if counts.reject_rate > max_reject_rate:
        raise TooManyRejectsError(
            rejects=counts.rejects,
            lines=counts.lines,
            max_reject_rate=max_reject_rate,
            examples=list(examples),
            kept_in=kept_in,
        )
