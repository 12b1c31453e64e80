"""
What the loader asks of a target: the protocol that every target fulfils, whatever it stores rows in.

A load in one task calls, in this order::

    with target:
        target.prepare(columns)
        target.loaded_before()          # the counts of an earlier load of the same source: then there is nothing to do
        target.stage(0, batches, rejects)
        target.publish(counts)          # or discard(), where there are too many rejects

A load that is spread over tasks calls ``prepare`` and ``stage`` in the task of each part, and ``prepare``,
``loaded_before`` and ``publish`` or ``discard`` in one task after them. :mod:`.loader` does both.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import NamedTuple, Protocol, Self

from airflow_provider_personalize.output.rows import Batch, Column, Reject
from airflow_provider_personalize.targets.counts import LoadCounts
from airflow_provider_personalize.targets.plan import LoadPlan, WriteMode


class Capabilities(NamedTuple):
    """
    What a target can do.

    :param write_modes: The write modes that it knows.
    :param all_or_nothing: Whether a reader sees what was there before or all of the load, and never a mix.
    :param parts: Whether tasks of their own can stage the parts of a load, for another task to publish.
    """

    write_modes: frozenset[WriteMode]
    all_or_nothing: bool
    parts: bool


class Target(Protocol):
    """
    Something that takes the rows of a load. A context manager: whatever is open is closed when it is left.

    Unless :meth:`publish` has returned, readers must not see any of what was staged.
    """

    @property
    def capabilities(self) -> Capabilities:
        """What the target can do."""

    @property
    def plan(self) -> LoadPlan:
        """What is to be loaded, and how."""

    @property
    def rejects_kept_in(self) -> str | None:
        """Where the rejected lines are kept, in words for an error; None where they are not."""

    def __enter__(self) -> Self:
        """Return the target."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close what is open, and undo what was not published."""

    def prepare(self, columns: tuple[Column, ...]) -> None:
        """
        Make sure that the target can take the rows, and create what is missing.

        :param columns: The columns of the rows, under the target's own names.
        :raises TableMismatchError: if it cannot take them.
        """

    def loaded_before(self) -> LoadCounts | None:
        """Return the counts of an earlier load of the same source, where it must not be loaded again; or None."""

    def stage(self, part: int, batches: Iterator[Batch], rejects: Iterable[Reject]) -> None:
        """
        Take the rows of one part. A part that is staged again replaces what it has staged before.

        :param part: The number of the part, from 0; a load in one task is part 0.
        :param batches: The rows, which are read while they are taken.
        :param rejects: The rejected lines, complete once all batches were taken; kept whatever becomes of the load.
        """

    def publish(self, counts: LoadCounts) -> None:
        """
        Show readers all that was staged.

        :param counts: What all parts have come to.
        """

    def discard(self) -> None:
        """Drop all that was staged, but keep the rejected lines."""
