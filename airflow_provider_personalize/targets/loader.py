"""
Loading output into a target: read it, stage its rows, judge the rejects, publish.

One task can do it all (:meth:`Loader.load`); or each part of the output is staged by a task of its own
(:meth:`Loader.stage`), and one task publishes them all (:func:`publish_parts`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from itertools import chain
from typing import Any, NamedTuple, Self

from airflow_provider_personalize.exceptions import InvalidRequestError, TooManyRejectsError
from airflow_provider_personalize.metrics import LOAD_DURATION, LOAD_LINES, LOAD_REJECTS, LOAD_ROWS
from airflow_provider_personalize.output.rows import USER_RECOMMENDATIONS, Batch, Column, RowKind
from airflow_provider_personalize.s3.download import read_objects
from airflow_provider_personalize.s3.objects import StoredObject, replaced
from airflow_provider_personalize.s3.reading import Reading
from airflow_provider_personalize.service.waits import Logger
from airflow_provider_personalize.targets.base import Target
from airflow_provider_personalize.targets.counts import LoadCounts, settle
from airflow_provider_personalize.targets.progress import Progress
from airflow_provider_personalize.targets.rejects import Rejects


class LoadResult(NamedTuple):
    """
    What became of a load.

    :param counts: What was loaded, now or before.
    :param is_new: Whether it was published now; False where the same source was loaded before.
    """

    counts: LoadCounts
    is_new: bool


class Loader:
    """
    Load output objects, or a part of them. A context manager: it ends the reading when it is left.

    :param objects: The objects.
    :param client: Makes the client of S3; called when an object of S3 is read.
    :param log: Where to log the progress.
    :param kind: The kind of rows, where it is known beforehand.
    :param keep_rejects: Whether the target keeps the rejected lines.
    """

    def __init__(
        self,
        objects: Sequence[StoredObject],
        client: Callable[[], Any],
        *,
        log: Logger,
        kind: RowKind | None = None,
        keep_rejects: bool = False,
    ) -> None:
        # What parses the lines is imported by a task that reads some, and by no DAG file.
        from airflow_provider_personalize.output.reader import OutputReader

        self.size = sum(item.size for item in objects)
        self._objects = list(objects)
        self._client = client
        self._log = log
        self._stack = ExitStack()
        self._rejects = self._stack.enter_context(Rejects(keep=keep_rejects))
        self._reader = OutputReader(kind, on_reject=self._rejects.add)
        self._reading = Reading()
        self.progress = Progress(log, self._reader, len(self._objects), self.size)
        self._batches = self._read()
        self._first: list[Batch] = []

    def __enter__(self) -> Self:
        self._stack.enter_context(self._reading)
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def kind(self) -> RowKind:
        """Read as far as the first good line, and return the kind of its rows: all rows of a load are of one kind."""
        if not self._first:
            # What comes before a good line has no rows.
            self._first = [next((batch for batch in self._batches if self._reader.kind), Batch())]
        return self._reader.kind or USER_RECOMMENDATIONS

    @property
    def known_kind(self) -> RowKind | None:
        """The kind of the rows, where a good line was read, or it was known beforehand."""
        return self._reader.kind

    @property
    def counts(self) -> LoadCounts:
        """What was read so far."""
        return LoadCounts(self._reader.lines, self._reader.rows, self._reader.rejects)

    @property
    def examples(self) -> list[str]:
        """The first rejected lines so far, in words."""
        return self._rejects.examples

    def again(self) -> Iterator[Batch]:
        """
        Read everything a second time, for a target that looks at all of it before it writes. The counts stay.

        :raises MissingOutputError: if something else is there now.
        """
        from airflow_provider_personalize.output.reader import OutputReader

        reader = OutputReader(self._reader.kind)
        self.progress = Progress(self._log, reader, len(self._objects), self.size)
        for uri, blocks in read_objects(self._client, self._objects):
            yield from reader.read(uri, self.progress.count(blocks))
        if LoadCounts(reader.lines, reader.rows, reader.rejects) != self.counts:
            raise replaced(self._objects[0].uri)

    def load(self, target: Target, columns: tuple[Column, ...]) -> LoadResult:
        """
        Load everything into a target that was entered: all of it, or nothing.

        :param target: The target.
        :param columns: The columns of its plan, for the :meth:`kind` of the rows.
        :raises TooManyRejectsError: if more lines are rejected than the plan allows; nothing is published then.
        """
        _prepare(target, columns)
        if (before := target.loaded_before()) is not None:
            return LoadResult(before, is_new=False)
        target.stage(0, chain(self._first, self._batches), self._rejects)
        _settle_and_publish(target, self.counts, self._rejects.examples)
        LOAD_DURATION.send(self.progress.seconds, target=type(target).__name__)
        return LoadResult(self.counts, is_new=True)

    def stage(self, target: Target, columns: tuple[Column, ...], part: int) -> LoadCounts:
        """
        Stage these objects as one part of a load that :func:`publish_parts` publishes.

        :param target: The target.
        :param columns: The columns of its plan, for the :meth:`kind` of the rows.
        :param part: The number of the part, from 0.
        :return: What the part has come to.
        """
        _check_parts(target)
        _prepare(target, columns)
        target.stage(part, chain(self._first, self._batches), self._rejects)
        return self.counts

    def _read(self) -> Iterator[Batch]:
        for uri, blocks in read_objects(self._client, self._objects, self._reading):
            yield from self._reader.read(uri, self.progress.count(blocks))


def publish_parts(target: Target, columns: tuple[Column, ...], parts: Iterable[LoadCounts]) -> LoadResult:
    """
    Publish what was staged part by part. The rejects of all parts are judged together.

    :param target: The target, entered.
    :param columns: The columns that the parts were staged with.
    :param parts: What each part has come to.
    :raises TooManyRejectsError: if more lines are rejected than the plan allows; nothing is published then.
    """
    _check_parts(target)
    _prepare(target, columns)
    if (before := target.loaded_before()) is not None:
        return LoadResult(before, is_new=False)
    counts = LoadCounts.total(parts)
    _settle_and_publish(target, counts, [])
    return LoadResult(counts, is_new=True)


def _settle_and_publish(target: Target, counts: LoadCounts, examples: Sequence[str]) -> None:
    for metric, value in ((LOAD_LINES, counts.lines), (LOAD_ROWS, counts.rows), (LOAD_REJECTS, counts.rejects)):
        metric.send(value, target=type(target).__name__)
    try:
        settle(counts, target.plan.max_reject_rate, examples=examples, kept_in=target.rejects_kept_in)
    except TooManyRejectsError:
        target.discard()
        raise
    target.publish(counts)


def _prepare(target: Target, columns: tuple[Column, ...]) -> None:
    known = target.capabilities.write_modes
    if target.plan.write_mode not in known:
        raise InvalidRequestError(
            f"write_mode: expected one of {', '.join(sorted(known))} for this target, got {target.plan.write_mode!r}."
        )
    target.prepare(columns)


def _check_parts(target: Target) -> None:
    if not target.capabilities.parts:
        raise InvalidRequestError(
            f"parts: {type(target).__name__} takes a load in one task only. Load all of it in one task, or choose a "
            "target whose parts can be loaded by tasks of their own."
        )
