"""
The rules of waiting for a resource, apart from how a wait is carried out.

The synchronous wait, the sensor and the trigger all pass what they observe to a :class:`Watch`, so they end in the same
cases and log the same words. This module is pure: it imports neither Airflow nor boto3, and neither
sleeps nor calls.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol

from airflow_provider_personalize.exceptions import (
    InvalidRequestError,
    JobTimeoutError,
    PersonalizeError,
    ServiceError,
)
from airflow_provider_personalize.service.kinds import ResourceKind, ResourceStatus, State, Until
from airflow_provider_personalize.service.names import kind_of

#: Seconds between two looks at a resource, by default. The shortest recorded job took six minutes.
DEFAULT_POLL_INTERVAL = 60
#: Seconds until a wait gives up, by default. Jobs of tens of millions of lines take hours.
DEFAULT_TIMEOUT = 24 * 60 * 60

#: The service's code for a resource that does not exist.
NOT_FOUND = "ResourceNotFoundException"
#: What ends a wait, in the words of a log: ``The campaign is ACTIVE``.
REACHED: Mapping[Until, str] = {
    "active": "ACTIVE",
    "updated": "ACTIVE with its latest update",
    "inactive": "INACTIVE",
    "gone": "deleted",
}


class Logger(Protocol):
    """The part of a logger that a watch needs, which the standard library's has, and Airflow's own."""

    def info(self, msg: str, /, *args: Any) -> Any:
        """Log at level INFO."""

    def warning(self, msg: str, /, *args: Any) -> Any:
        """Log at level WARNING."""


def in_seconds(value: float | timedelta, parameter: str) -> float:
    """
    Return a duration in seconds; the user may write it as a number or as a timedelta.

    :param value: The duration as the user wrote it.
    :param parameter: What the user calls it, for the message.
    :raises InvalidRequestError: if it is no duration.
    """
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds < float("inf"):
        raise InvalidRequestError(
            f"{parameter}: expected seconds, as a number from 0 or a timedelta, got {value!r} ({type(value).__name__})."
        )
    return seconds


def jittered(seconds: float, share: float = 0.1) -> float:
    """
    Return a random pause around the given length, so that waits which began together do not stay together.

    :param seconds: The pause.
    :param share: How far the result may be from it, as a share of it.
    """
    return seconds * random.uniform(1 - share, 1 + share)  # noqa: S311 - no secret depends on it


def growing_pause(attempt: int, *, first: float, longest: float) -> float:
    """
    Return the pause after the n-th failed attempt. It doubles each time up to a bound, with jitter.

    :param attempt: How many attempts there were, from 1.
    :param first: The first pause, in seconds.
    :param longest: The longest pause, in seconds.
    """
    return jittered(min(longest, first * 2.0 ** min(attempt - 1, 30)), 0.25)


def format_duration(seconds: float) -> str:
    """Return a duration as a person would write it: ``42 s``, ``7 min``, ``2 h 5 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


@dataclass
class Watch:
    """
    One wait for one resource: what was observed so far, and whether that ends the wait.

    :param arn: The resource.
    :param deadline: When the wait gives up, in seconds since the epoch.
    :param log: Where each change is logged once, however often it is observed.
    :param started: When the wait began, in seconds since the epoch. It began before a rescheduled sensor's earlier
        looks, and before a restart of the triggerer.
    :param until: What is waited for.
    :param on_end: What to call with the status that ends a wait until ``active``, before the wait ends in it.
    """

    arn: str
    deadline: float
    log: Logger
    started: float = field(default_factory=time.time)
    until: Until = "active"
    on_end: Callable[[ResourceStatus], None] | None = None
    last_seen: ResourceStatus | None = None
    last_error: str | None = None

    def observe(self, seen: ResourceStatus) -> bool:
        """
        Note what the service says of the resource.

        :param seen: The status, read for the same goal as that of this wait.
        :return: Whether what was waited for has come.
        :raises JobFailedError: if it cannot come any more.
        """
        if self.last_error is not None:
            self.log.info("The service answers again.")
            self.last_error = None
        if self.last_seen is None or seen.status != self.last_seen.status:
            age = f", {format_duration(time.time() - seen.created_at.timestamp())} old" if seen.created_at else ""
            if seen.known:
                self.log.info("%s %s is %s%s.", seen.kind.words.capitalize(), seen.name, seen.status, age)
            else:
                self.log.warning(
                    "%s %s is %r%s, a status that this version does not know. The wait goes on.",
                    seen.kind.words.capitalize(),
                    seen.name,
                    seen.status,
                    age,
                )
        self.last_seen = seen
        if self.on_end and self.until == "active" and seen.state is not State.RUNNING:
            self.on_end(seen)
        seen.raise_if_failed()
        return seen.state is State.SUCCEEDED

    def observe_trouble(self, reason: str) -> None:
        """
        Note that the resource could not be looked at, for a reason that may pass.

        :param reason: The reason in words. The same reason twice in a row is logged once.
        """
        if reason != self.last_error:
            self.log.warning(
                "%s. The %s could not be looked at; trying again until the deadline.",
                reason.rstrip("."),
                self.kind.words,
            )
            self.last_error = reason

    def observe_error(self, error: Exception, reason: str) -> bool:
        """
        Note that a look ended in an error. Whatever may pass is waited out.

        :param error: The error.
        :param reason: What it says, in words.
        :return: Whether what was waited for has come: a resource that is not found any more is gone.
        :raises PersonalizeError: the error itself, if it cannot pass.
        """
        if self.until == "gone" and isinstance(error, ServiceError) and error.code == NOT_FOUND:
            self.log.info("The %s does not exist any more. %s", self.kind.words, self.arn)
            return True
        if isinstance(error, PersonalizeError) and not error.may_pass:
            raise error
        self.observe_trouble(reason)
        return False

    @property
    def kind(self) -> ResourceKind:
        """The kind of the resource."""
        return kind_of(self.arn)

    @property
    def remaining(self) -> float:
        """Seconds until the deadline; never negative."""
        return max(0.0, self.deadline - time.time())

    def timeout_error(self) -> JobTimeoutError:
        """Return the error of a wait that has come to its deadline."""
        return JobTimeoutError(
            kind=self.kind.words,
            job_arn=self.arn,
            status=self.last_seen.status if self.last_seen else None,
            waited=time.time() - self.started,
            reason=self.last_error,
            until=self.until,
        )


def left_running(arn: str, until: Until = "active") -> str:
    """
    Return what to log when a task is killed: what it waits for goes on without it.

    :param arn: The resource.
    :param until: What is waited for.
    """
    kind = kind_of(arn)
    if kind.is_job:
        return (
            "The task is being killed, but its Personalize job cannot be stopped: it runs on, and is billed. Clearing "
            f"or retrying the task that created it finds it again. {arn}"
        )
    goal = REACHED[until].partition(" ")[0]
    return (
        f"The task is being killed, but the {kind.words} goes on until it is {goal}, and may be billed. Clearing or "
        f"retrying the task waits for it again. {arn}"
    )


def deadline_after(timeout: float, execution_timeout: timedelta | None, started: object = None) -> float:
    """
    Return the moment at which a wait that begins now gives up.

    Airflow 2 counts ``execution_timeout`` from the start of the task through every deferral, Airflow 3 only while a
    worker runs it. Here it counts alike on both, since it is folded into the deadline that travels with the wait. The
    deadline comes a little before Airflow's own, so that the error is the one that names the resource.

    :param timeout: The wait's own limit, in seconds.
    :param execution_timeout: The task's, if it has one.
    :param started: When the task was started, as a time with its zone; by default, now.
    :return: Seconds since the epoch.
    """
    now = time.time()
    deadline = now + timeout
    if execution_timeout is not None:
        seconds = execution_timeout.total_seconds()
        begin = min(started.timestamp(), now) if isinstance(started, datetime) else now
        deadline = min(deadline, begin + seconds - min(5.0, seconds / 10))
    return deadline
