"""Jobs, and the clock that they follow."""

from __future__ import annotations

import heapq
import itertools
import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_personalize.local.catalog import Recipe
from airflow_provider_personalize.local.errors import JobError
from airflow_provider_personalize.local.faults import Fault
from airflow_provider_personalize.service.kinds import ResourceKind
from airflow_provider_personalize.service.statuses import (
    ACTIVE,
    CREATE_FAILED,
    CREATE_IN_PROGRESS,
    CREATE_PENDING,
    DELETE_IN_PROGRESS,
    DELETE_PENDING,
    INACTIVE,
)

if TYPE_CHECKING:
    from airflow_provider_personalize.local.recommend import Recommender

#: The share of its time for which a job is pending.
_PENDING_SHARE = 0.1


class Words(NamedTuple):
    """The statuses that a resource goes through while it changes."""

    pending: str
    in_progress: str
    done: str
    failed: str


CREATION = Words(CREATE_PENDING, CREATE_IN_PROGRESS, ACTIVE, CREATE_FAILED)
DATA_DELETION = Words("PENDING", "IN_PROGRESS", "COMPLETED", "FAILED")
CREATION_STOP = Words("CREATE STOPPING", "CREATE STOPPING", "CREATE STOPPED", CREATE_FAILED)
STOP = Words("STOP PENDING", "STOP IN_PROGRESS", INACTIVE, CREATE_FAILED)
START = Words("START PENDING", "START IN_PROGRESS", ACTIVE, CREATE_FAILED)
#: What is deleted is gone in the end, and has no status.
DELETION = Words(DELETE_PENDING, DELETE_IN_PROGRESS, DELETE_IN_PROGRESS, CREATE_FAILED)


@dataclass
class Clock:
    """A clock that can be set, advanced and stopped; otherwise it follows the machine's."""

    _offset: float = 0.0
    _stopped_at: float | None = None

    @property
    def stopped(self) -> bool:
        """Whether it stands still."""
        return self._stopped_at is not None

    def now(self) -> float:
        """Seconds since the epoch, by this clock."""
        return time.time() + self._offset if self._stopped_at is None else self._stopped_at

    def set(self, now: float) -> None:
        """Set it, to seconds since the epoch."""
        if self._stopped_at is None:
            self._offset = now - time.time()
        else:
            self._stopped_at = now

    def stop(self, stopped: bool) -> None:
        """Stop it, or let it go on from where it stands."""
        now = self.now()
        # In this order, so that whoever asks in between is told this time, too.
        self._offset = now - time.time()
        self._stopped_at = now if stopped else None


@dataclass
class Job:
    """
    What takes time: a batch job, an import, a training, and any other change of a resource.

    :param number: Counts the jobs, from 0.
    :param kind: The kind of the resource.
    :param arn: The ARN of the resource.
    :param request: The request that it was made from.
    :param recipe: The recipe of its solution version, where it is a batch job.
    :param created: When it was created, by the clock.
    :param seconds: How long it takes.
    :param recommender: Who answers the lines of a batch job.
    :param filter_expression: The expression of its filter, where it has one.
    :param fault: What is to go wrong with it.
    :param words: The statuses that it goes through.
    :param work: Does the work when its time has come; by default :class:`Jobs` knows how.
    """

    number: int
    kind: ResourceKind
    arn: str
    request: dict[str, Any]
    created: float
    seconds: float
    recipe: Recipe | None = None
    recommender: Recommender | None = None
    filter_expression: str | None = None
    fault: Fault | None = None
    words: Words = CREATION
    work: Callable[[], None] | None = None
    ended: float | None = None
    failure_reason: str | None = None

    @property
    def due(self) -> float:
        """When it is to end, by the clock."""
        return math.inf if self.fault and self.fault.fault == "never_finish" else self.created + self.seconds

    @property
    def _started(self) -> float:
        return self.created + self.seconds * _PENDING_SHARE

    def status(self, now: float) -> str:
        """Return the status at a time of the clock."""
        return self._status(now, self.ended)

    def _status(self, now: float, ended: float | None) -> str:
        # The end is looked at once, since a job may come to it meanwhile.
        if ended is not None:
            return self.words.failed if self.failure_reason else self.words.done
        return self.words.pending if now < self._started else self.words.in_progress

    def changed_at(self, now: float) -> float:
        """Return when the status changed last."""
        return self.ended or min(now, max(self.created, self._started))

    def describe(self, now: float) -> dict[str, Any]:
        """Describe it as the API does."""
        described = {key: value for key, value in self.request.items() if key != "tags"}
        ended = self.ended
        described |= {
            self.kind.arn_field: self.arn,
            "status": self._status(now, ended),
            "creationDateTime": self.created,
            "lastUpdatedDateTime": self.changed_at(now),
        }
        if ended is not None and self.failure_reason:
            described["failureReason"] = self.failure_reason
        return described


@dataclass
class Jobs:
    """
    All jobs, and the threads that end them when their time has come.

    :param clock: The clock that they live by.
    :param run: Does a job's work; what it raises as :class:`JobError` is the job's ``failureReason``.
    """

    clock: Clock
    run: Callable[[Job], None]
    by_arn: dict[str, Job] = field(default_factory=dict)
    most_running: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._numbers = itertools.count()
        # Its lock is one that may be taken again by the thread that has it.
        self._changed = threading.Condition()
        self._waiting: list[tuple[float, int, Job]] = []
        self._working: set[int] = set()
        self._closed = False
        self._pool = ThreadPoolExecutor(max_workers=2, thread_name_prefix="personalize-job")
        self._thread = threading.Thread(target=self._watch, name="personalize-jobs", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the threads; a job that is at work is let finish."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()
        self._pool.shutdown(cancel_futures=True)

    def reset(self) -> None:
        """Forget every job, and wait until none is at work, so that nothing of them comes afterwards."""
        with self._changed:
            self._waiting.clear()
            self._changed.wait_for(lambda: not self._working, 60)
            self.by_arn.clear()
            self.most_running.clear()

    def running(self, kind: ResourceKind, region_prefix: str) -> int:
        """
        Count the jobs of a kind that have not ended.

        :param kind: The kind.
        :param region_prefix: How the ARNs of the region's jobs of that kind begin.
        """
        return sum(
            job.ended is None
            for job in list(self.by_arn.values())
            if job.kind is kind and job.arn.startswith(region_prefix)
        )

    def add(self, kind: ResourceKind, arn: str, running: int, **values: Any) -> Job:
        """
        Add a job that counts for the quota of its kind.

        :param kind: The kind.
        :param arn: The ARN.
        :param running: How many of its kind there are that have not ended, for the record.
        :param values: The other fields of :class:`Job`.
        """
        with self._changed:
            job = self.by_arn[arn] = self.change(kind, arn, **values)
            self.most_running[kind.noun] = max(self.most_running.get(kind.noun, 0), running + 1)
        return job

    def change(self, kind: ResourceKind, arn: str, **values: Any) -> Job:
        """
        Add a change of a resource, which counts for no quota.

        :param kind: The kind of the resource.
        :param arn: The ARN of the resource.
        :param values: The other fields of :class:`Job`.
        """
        with self._changed:
            job = Job(number=next(self._numbers), kind=kind, arn=arn, created=self.clock.now(), **values)
            if job.due < math.inf:
                heapq.heappush(self._waiting, (job.due, job.number, job))
                self._changed.notify_all()
        return job

    def call_off(self, job: Job) -> None:
        """End a job without doing its work, unless the work has begun."""
        with self._changed:
            self._waiting = [entry for entry in self._waiting if entry[2] is not job]
            heapq.heapify(self._waiting)
            if job.number not in self._working and job.ended is None:
                job.ended = self.clock.now()
            self._changed.notify_all()

    def clock_changed(self, timeout: float = 60) -> bool:
        """
        Take in that the clock was set, and wait until every job that is due has ended.

        :param timeout: For how long at most, in seconds.
        :return: Whether all of them have ended.
        """
        with self._changed:
            self._changed.notify_all()
            return self._changed.wait_for(lambda: not self._working and not self._due(), timeout)

    def _due(self) -> bool:
        return bool(self._waiting) and self._waiting[0][0] <= self.clock.now()

    def _watch(self) -> None:
        """Hand each job to the workers when it is due."""
        with self._changed:
            while not self._closed:
                if self._due():
                    job = heapq.heappop(self._waiting)[2]
                    self._working.add(job.number)
                    self._pool.submit(self._end, job)
                elif self._waiting and not self.clock.stopped:
                    self._changed.wait(max(0.001, self._waiting[0][0] - self.clock.now()))
                else:
                    self._changed.wait()

    def _end(self, job: Job) -> None:
        reason = None
        try:
            if job.fault and job.fault.fault == "fail_job":
                reason = job.fault.reason or "Internal error: this job was failed on request."
            else:
                (job.work or partial(self.run, job))()
        except JobError as error:
            reason = error.message
        except Exception as error:  # noqa: BLE001
            # A job never hangs because of the stand-in's own mistake: it fails, and says which.
            reason = f"Internal error of the local stand-in: {error!r}"
        with self._changed:
            job.failure_reason = reason
            job.ended = max(self.clock.now(), job.created)
            self._working.discard(job.number)
            self._changed.notify_all()
