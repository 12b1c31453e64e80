"""The controls of the stand-in beside the service's API: its state, its clock, faults, and a reset."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from airflow_provider_personalize.exceptions import InvalidRequestError
from airflow_provider_personalize.local.api import Api
from airflow_provider_personalize.local.faults import Fault, Faults
from airflow_provider_personalize.local.guard import decode_json
from airflow_provider_personalize.service.kinds import KINDS

#: The last second of the year 9999, the last that a date can have.
LAST_SECOND = 253_402_300_799
_CREATES = frozenset(kind.create_operation for kind in KINDS)


class Controls:
    """
    The controls, for tests of the same process; for all others the same is at ``/_local/`` over HTTP.

    :param api: The API that is controlled.
    :param faults: What is to go wrong.
    """

    def __init__(self, api: Api, faults: Faults) -> None:
        self.api = api
        self.jobs = api.jobs
        self.clock = api.jobs.clock
        self.faults = faults
        self._lock = threading.Lock()
        self._calls: Counter[str] = Counter()
        self._creates: list[dict[str, Any]] = []

    def count(self, operation: str, arrived: float, outcome: str, body: bytes) -> None:
        """
        Record a call.

        :param operation: The API operation.
        :param arrived: When it came, by the machine's clock.
        :param outcome: ``ok``, an error code, ``dropped``, or ``ok, dropped`` where only the answer was lost.
        :param body: The request.
        """
        with self._lock:
            self._calls[operation] += 1
            if operation in _CREATES:
                name = None
                with contextlib.suppress(ValueError, AttributeError):
                    request = decode_json(body)
                    name = request.get("jobName", request.get("name"))
                self._creates.append({"at": arrived, "operation": operation, "jobName": name, "outcome": outcome})

    def state(self) -> dict[str, Any]:
        """
        Return what has happened: the jobs as the API describes them, calls by operation, create calls one by one.

        Times of jobs are by the stand-in's clock, those of calls by the machine's.
        """
        now = self.clock.now()
        with self._lock:
            calls, creates = dict(self._calls), list(self._creates)
        return {
            "now": now,
            "jobs": [
                job.describe(now) | {"arn": job.arn, "kind": job.kind.noun} for job in list(self.jobs.by_arn.values())
            ],
            "calls": calls,
            "create_calls": creates,
            "most_running": dict(self.jobs.most_running),
            "faults": self.faults.pending(),
        }

    def add_fault(self, fault: str, **values: Any) -> None:
        """
        Ask for something to go wrong.

        :param fault: What: one of :data:`~airflow_provider_personalize.local.faults.NAMES`.
        :param values: The other fields of :class:`~airflow_provider_personalize.local.faults.Fault`.
        :raises InvalidRequestError: if there is no such fault.
        """
        self.faults.add(Fault(fault, **values))

    def set_clock(
        self, *, now: float | None = None, advance: float | None = None, stopped: bool | None = None
    ) -> dict[str, Any]:
        """
        Set the clock, and wait until every job that is due by it has ended.

        :param now: What it is to show, in seconds since the epoch.
        :param advance: By how many seconds to put it forward.
        :param stopped: Whether it is to stand still.
        :return: What it shows, and whether all jobs that are due have ended.
        :raises InvalidRequestError: if that is no time.
        """
        if not isinstance(stopped, bool | None):
            raise InvalidRequestError(f"stopped: expected true or false, got {stopped!r}.")
        # All of it is looked at before any of it is done.
        begin = self.clock.now() if now is None else check_time("now", now)
        if advance is not None:
            check_time("now", begin + check_number("advance", advance))
        if stopped is not None:
            self.clock.stop(stopped)
        if now is not None:
            self.clock.set(now)
        if advance is not None:
            self.clock.set(self.clock.now() + advance)
        settled = self.jobs.clock_changed()
        return {"now": self.clock.now(), "stopped": self.clock.stopped, "settled": settled}

    def reset(self) -> None:
        """Forget what was created, faults and counts, and set the clock to the machine's; S3 keeps its objects."""
        self.faults.clear()
        # Before the clock is put right, lest that should end one of them.
        self.jobs.reset()
        self.clock.stop(False)
        self.clock.set(time.time())
        self.api.reset()
        with self._lock:
            self._calls.clear()
            self._creates.clear()

    def answer(self, method: str, name: str, body: bytes) -> tuple[int, Any]:
        """
        Answer a request at ``/_local/<name>``.

        :param method: The HTTP method.
        :param name: What comes after ``/_local/`` in the path.
        :param body: The request's body: JSON, or nothing.
        :return: The HTTP status and the answer.
        """
        routes: dict[str, Callable[..., Any]] = {
            "GET state": self.state,
            "POST faults": self.add_fault,
            "DELETE faults": self.faults.clear,
            "POST clock": self.set_clock,
            "POST reset": self.reset,
        }
        route = routes.get(f"{method} {name}")
        if route is None:
            return 404, {"message": f"Expected one of {', '.join(routes)} below /_local/, got {method} {name}."}
        try:
            return 200, route(**decode_json(body or b"{}")) or {}
        except (InvalidRequestError, TypeError, ValueError) as error:
            return 400, {"message": str(error)}


def check_number(name: str, value: Any) -> float:
    """
    Return a value if it is a finite number.

    :raises InvalidRequestError: if not.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= LAST_SECOND:
        raise InvalidRequestError(f"{name}: expected a number of seconds, got {value!r}.")
    return value


def check_time(name: str, value: Any) -> float:
    """
    Return a value if it is a time that a date can be made of.

    :raises InvalidRequestError: if not.
    """
    if not 0 <= check_number(name, value) <= LAST_SECOND:
        raise InvalidRequestError(f"{name}: expected seconds since 1970, before the year 10000, got {value!r}.")
    return float(value)
