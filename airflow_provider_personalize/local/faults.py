"""Faults on request: what the stand-in can be told to do wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from threading import Lock
from typing import Any

from airflow_provider_personalize.exceptions import InvalidRequestError
from airflow_provider_personalize.local.errors import ApiError

#: Faults of an answer that are an error: code, message and HTTP status.
ERRORS: Mapping[str, tuple[str, str, int]] = {
    "throttle": ("ThrottlingException", "Rate exceeded", 400),
    "limit": ("LimitExceededException", "Rate exceeded", 400),
    "error": ("InternalFailure", "An internal error occurred.", 500),
    "unavailable": ("ServiceUnavailable", "The service is temporarily unavailable.", 503),
    "deny": ("AccessDeniedException", "User is not authorized to perform this action.", 400),
    "expire": ("ExpiredTokenException", "The security token included in the request is expired", 400),
}
#: Faults of an answer that close the connection: before the request is carried out, or after.
DROPS = ("drop", "drop_after")
#: Faults of a job, taken by the next jobs that are created.
JOB_FAULTS = ("fail_job", "fail_records", "never_finish")
NAMES = (*ERRORS, *DROPS, *JOB_FAULTS)


@dataclass
class Fault:
    """
    Something to go wrong.

    :param fault: What: one of :data:`NAMES`.
    :param times: For how many calls, or jobs.
    :param operation: Of which API operation, as ``CreateBatchInferenceJob``; of any where it is ``*``.
    :param reason: In which words; the fault's own where it is empty.
    :param every: For ``fail_records``: the first record of every so many fails.
    :param between: How many calls, or jobs, go well between two that do not: 1 means that every second one fails.
    """

    fault: str
    times: int = 1
    operation: str = "*"
    reason: str = ""
    every: int = 2
    between: int = 0

    def __post_init__(self) -> None:
        if self.fault not in NAMES:
            raise InvalidRequestError(f"fault: expected one of {', '.join(NAMES)}, got {self.fault!r}.")
        for name in ("times", "every"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InvalidRequestError(f"{name}: expected a whole number from 1, got {value!r}.")
        if isinstance(self.between, bool) or not isinstance(self.between, int) or self.between < 0:
            raise InvalidRequestError(f"between: expected a whole number from 0, got {self.between!r}.")
        # How many more go well before the next one.
        self._to_pass = 0
        for name in ("operation", "reason"):
            if not isinstance(getattr(self, name), str):
                raise InvalidRequestError(f"{name}: expected text, got {getattr(self, name)!r}.")

    def is_next(self) -> bool:
        """Return whether this call, or job, is one that fails; asked once for each."""
        self._to_pass = (self._to_pass or self.between + 1) - 1
        return self._to_pass == self.between

    def error(self) -> ApiError:
        """Return the error of a fault in :data:`ERRORS`."""
        code, message, status = ERRORS[self.fault]
        return ApiError(code, self.reason or message, status)


def parse_fault(text: str) -> Fault:
    """
    Read a fault as the command line has it: ``throttle``, ``throttle:5`` or ``throttle:5:CreateBatchInferenceJob``.

    :raises InvalidRequestError: if it is none.
    """
    name, _, rest = text.partition(":")
    times, _, operation = rest.partition(":")
    if times and not times.isdigit():
        raise InvalidRequestError(f"fault: expected NAME[:TIMES[:OPERATION]], got {text!r}.")
    return Fault(name, int(times or 1), operation or "*")


class Faults:
    """The faults that are still to come; any thread may ask."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._faults: list[Fault] = []

    def add(self, fault: Fault) -> None:
        """Ask for one more."""
        with self._lock:
            self._faults.append(fault)

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._faults.clear()

    def take(self, names: tuple[str, ...] | Mapping[str, Any], operation: str) -> Fault | None:
        """
        Take the oldest fault of these names for an operation, and count it.

        :param names: The faults that the caller can carry out.
        :param operation: The operation that is being answered.
        """
        with self._lock:
            for fault in self._faults:
                if fault.fault in names and fault.operation in ("*", operation) and fault.is_next():
                    fault.times -= 1
                    if not fault.times:
                        self._faults.remove(fault)
                    return fault
        return None

    def pending(self) -> list[dict[str, Any]]:
        """List what is still to come, as JSON has it."""
        with self._lock:
            return [asdict(fault) for fault in self._faults]
