"""
The statuses that Amazon Personalize writes, what each means to whoever waits, and how the texts of an answer are read.

This module is pure: it imports neither Airflow nor boto3.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Literal, get_args

#: Statuses as the service was recorded to write them.
CREATE_PENDING = "CREATE PENDING"
CREATE_IN_PROGRESS = "CREATE IN_PROGRESS"
ACTIVE = "ACTIVE"
CREATE_FAILED = "CREATE FAILED"
INACTIVE = "INACTIVE"
CREATE_STOPPING = "CREATE STOPPING"
DELETE_PENDING = "DELETE PENDING"
DELETE_IN_PROGRESS = "DELETE IN_PROGRESS"

#: What a wait can wait for: that a resource is there, that its latest update is done, that it is stopped, or that it is
#: there no more.
Until = Literal["active", "updated", "inactive", "gone"]
GOALS: tuple[Until, ...] = get_args(Until)

#: How much of an answer goes into a message that says what is wrong with it.
SHOWN = 120


class State(StrEnum):
    """What a status means to whoever waits."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


_RUNNING, _SUCCEEDED, _FAILED = State.RUNNING, State.SUCCEEDED, State.FAILED

#: Every status that is known, with what it means to a wait until the resource is active, is inactive, or is gone.
#: ``PENDING`` and ``IN PROGRESS`` are the documentation's spelling for batch jobs; ``PENDING``, ``IN_PROGRESS``,
#: ``COMPLETED`` and ``FAILED`` are a data deletion job's own; ``CREATE STOPPING`` and ``CREATE STOPPED`` are a solution
#: version's; ``STOP …``, ``START …`` and ``INACTIVE`` a recommender's.
STATES: Mapping[str, tuple[State, State, State]] = {
    CREATE_PENDING: (_RUNNING, _RUNNING, _RUNNING),
    CREATE_IN_PROGRESS: (_RUNNING, _RUNNING, _RUNNING),
    "PENDING": (_RUNNING, _RUNNING, _RUNNING),
    "IN_PROGRESS": (_RUNNING, _RUNNING, _RUNNING),
    "IN PROGRESS": (_RUNNING, _RUNNING, _RUNNING),
    CREATE_STOPPING: (_RUNNING, _RUNNING, _RUNNING),
    "START PENDING": (_RUNNING, _FAILED, _RUNNING),
    "START IN_PROGRESS": (_RUNNING, _FAILED, _RUNNING),
    ACTIVE: (_SUCCEEDED, _RUNNING, _RUNNING),
    "COMPLETED": (_SUCCEEDED, _RUNNING, _RUNNING),
    CREATE_FAILED: (_FAILED, _FAILED, _RUNNING),
    "FAILED": (_FAILED, _FAILED, _RUNNING),
    "CREATE STOPPED": (_FAILED, _FAILED, _RUNNING),
    "STOP PENDING": (_RUNNING, _RUNNING, _RUNNING),
    "STOP IN_PROGRESS": (_RUNNING, _RUNNING, _RUNNING),
    INACTIVE: (_FAILED, _SUCCEEDED, _RUNNING),
    DELETE_PENDING: (_FAILED, _FAILED, _RUNNING),
    DELETE_IN_PROGRESS: (_FAILED, _FAILED, _RUNNING),
}
_COLUMN: Mapping[Until, int] = {"active": 0, "updated": 0, "inactive": 1, "gone": 2}


def state_of(status: str, until: Until = "active") -> State:
    """
    Return what a status means to a wait. An unknown status means that the resource is still on its way.

    :param status: The service's word.
    :param until: What is waited for. For ``updated``, the status is that of the resource's latest update.
    """
    return STATES.get(status, (_RUNNING,) * 3)[_COLUMN[until]]


def text_at(value: Any, *path: str) -> str | None:
    """Return the text at a place of an answer, or None where there is none or something else."""
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value if isinstance(value, str) and value else None


def shown(value: Any) -> str:
    """Return a value of somebody else's as it goes into a message, cut short."""
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
