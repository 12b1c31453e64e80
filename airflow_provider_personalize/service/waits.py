"""
The rules of waiting for a job, apart from how a wait is carried out.

The synchronous wait, the sensor and the trigger all feed what they see to a :class:`JobWatch`, so they end in the same
cases and say the same words. This module is pure: it imports neither Airflow nor boto3, neither sleeps nor calls.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol

from airflow_provider_personalize.exceptions import InvalidRequestError, JobTimeoutError, PersonalizeError
from airflow_provider_personalize.service.kinds import JobState, JobStatus
from airflow_provider_personalize.service.names import job_kind_of

#: Seconds between two looks at a job, where the user says nothing. The shortest recorded job took six minutes.
DEFAULT_POLL_INTERVAL = 60
#: Seconds until a wait gives up, where the user says nothing. Jobs of tens of millions of lines take hours.
DEFAULT_TIMEOUT = 24 * 60 * 60

#: What to log when a task is killed that has a job.
STILL_RUNNING = (
    "The task is being killed, but its Personalize job cannot be stopped: it runs on, and is billed. Clearing or "
    "retrying the task that created it finds it again. %s"
)


class Logger(Protocol):
    """The part of a logger that a watch needs: the standard library's, or Airflow's own."""

    def info(self, msg: str, /, *args: Any) -> Any:
        """Log at level INFO."""

    def warning(self, msg: str, /, *args: Any) -> Any:
        """Log at level WARNING."""


def in_seconds(value: float | timedelta, parameter: str) -> float:
    """
    Give a duration, which the user may write as a number or as a timedelta, in seconds.

    :param value: What the user gave.
    :param parameter: What the user calls it, for the message.
    :raises InvalidRequestError: if it is neither, or no duration.
    """
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds < float("inf"):
        raise InvalidRequestError(
            f"{parameter}: expected seconds, as a number from 0 or a timedelta, got {value!r} ({type(value).__name__})."
        )
    return seconds


def jittered(seconds: float, share: float = 0.1) -> float:
    """
    Spread a pause evenly around its length, so that waits which began together do not stay together.

    :param seconds: The pause.
    :param share: How far the result may be from it, as a share of it.
    """
    return seconds * random.uniform(1 - share, 1 + share)  # noqa: S311 - no secret depends on it


def growing_pause(attempt: int, *, first: float, longest: float) -> float:
    """
    Give the pause after the n-th attempt in vain: it doubles each time up to a bound, with jitter.

    :param attempt: How many attempts there were, from 1.
    :param first: The first pause, in seconds.
    :param longest: The longest pause, in seconds.
    """
    return jittered(min(longest, first * 2.0 ** min(attempt - 1, 30)), 0.25)


def in_words(seconds: float) -> str:
    """Write a duration as a person would: ``42 s``, ``7 min``, ``2 h 5 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


@dataclass
class JobWatch:
    """
    One wait for one job: what was seen so far, and whether that ends it.

    :param job_arn: The job.
    :param deadline: When the wait gives up, in seconds since the epoch.
    :param log: Where changes are told: each once, however often it is seen.
    :param started: When the wait began, in seconds since the epoch: before a rescheduled sensor's earlier looks, and
        before its triggerer was restarted.
    """

    job_arn: str
    deadline: float
    log: Logger
    started: float = field(default_factory=time.time)
    last_seen: JobStatus | None = None
    last_error: str | None = None

    def see(self, seen: JobStatus) -> bool:
        """
        Take in what the service says of the job.

        :return: Whether the job has succeeded.
        :raises JobFailedError: if it has failed.
        """
        if self.last_error is not None:
            self.log.info("The service answers again.")
            self.last_error = None
        if self.last_seen is None or seen.status != self.last_seen.status:
            age = f", {in_words(time.time() - seen.created_at.timestamp())} old" if seen.created_at else ""
            if seen.known:
                self.log.info("%s %s is %s%s.", seen.kind.words.capitalize(), seen.name, seen.status, age)
            else:
                self.log.warning(
                    "%s %s is %r%s: a status that this version does not know. Waiting on.",
                    seen.kind.words.capitalize(),
                    seen.name,
                    seen.status,
                    age,
                )
        self.last_seen = seen
        seen.raise_if_failed()
        return seen.state is JobState.SUCCEEDED

    def see_trouble(self, reason: str) -> None:
        """
        Take in that the job could not be looked at, for a reason that may pass.

        :param reason: The reason in words; the same reason twice in a row is logged once.
        """
        if reason != self.last_error:
            self.log.warning("%s. The job could not be looked at; trying again until the deadline.", reason.rstrip("."))
            self.last_error = reason

    def see_error(self, error: Exception, reason: str) -> None:
        """
        Take in that a look ended in an error: one that may pass is trouble, whatever it is.

        :param error: The error.
        :param reason: What it says, in words.
        :raises PersonalizeError: the error itself, where it cannot pass.
        """
        if isinstance(error, PersonalizeError) and not error.may_pass:
            raise error
        self.see_trouble(reason)

    @property
    def remaining(self) -> float:
        """Seconds until the deadline; never negative."""
        return max(0.0, self.deadline - time.time())

    def timeout_error(self) -> JobTimeoutError:
        """Build the error of a wait that has come to its deadline."""
        return JobTimeoutError(
            kind=job_kind_of(self.job_arn).words,
            job_arn=self.job_arn,
            status=self.last_seen.status if self.last_seen else None,
            waited=time.time() - self.started,
            reason=self.last_error,
        )


def deadline_after(timeout: float, execution_timeout: timedelta | None, started: object = None) -> float:
    """
    Give the moment at which a wait that begins now gives up.

    Airflow 2 counts ``execution_timeout`` from the start of the task through every deferral, Airflow 3 only while a
    worker runs it. Here it counts alike on both, since it is folded into the deadline that travels with the wait; a
    little earlier than Airflow's own clock, so that the error is the one that names the job.

    :param timeout: The wait's own bound, in seconds.
    :param execution_timeout: The task's, where it has one.
    :param started: When the task was started, where that is known as a time with its zone; now, otherwise.
    :return: Seconds since the epoch.
    """
    now = time.time()
    deadline = now + timeout
    if execution_timeout is not None:
        seconds = execution_timeout.total_seconds()
        begin = min(started.timestamp(), now) if isinstance(started, datetime) else now
        deadline = min(deadline, begin + seconds - min(5.0, seconds / 10))
    return deadline
