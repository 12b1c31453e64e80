"""
The kinds of long-running job, one row each, and how to read their state.

This module is pure: it imports neither Airflow nor boto3. Operators, sensors, triggers, links and the local stand-in
all read this one table; a new kind of job is a new row here, and one short class for each Airflow concept.

Shapes are those of botocore's service model ``personalize/2018-05-22``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from typing import Any

from airflow_provider_personalize.exceptions import JobFailedError, UnexpectedAnswerError

#: Statuses as the service was recorded to write them.
CREATE_PENDING = "CREATE PENDING"
CREATE_IN_PROGRESS = "CREATE IN_PROGRESS"
ACTIVE = "ACTIVE"
CREATE_FAILED = "CREATE FAILED"

#: How much of an answer that is none goes into a message.
SHOWN = 120


class JobState(StrEnum):
    """What a status means to whoever waits."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


#: Every status that is known, with its meaning. ``PENDING`` and ``IN PROGRESS`` are the documentation's spelling;
#: ``CREATE STOPPING`` and ``CREATE STOPPED`` belong to solution versions.
STATES: Mapping[str, JobState] = {
    CREATE_PENDING: JobState.RUNNING,
    CREATE_IN_PROGRESS: JobState.RUNNING,
    "PENDING": JobState.RUNNING,
    "IN PROGRESS": JobState.RUNNING,
    "CREATE STOPPING": JobState.RUNNING,
    ACTIVE: JobState.SUCCEEDED,
    CREATE_FAILED: JobState.FAILED,
    "CREATE STOPPED": JobState.FAILED,
}


@dataclass(frozen=True)
class JobKind:
    """
    One kind of long-running Personalize resource.

    :param name: The API's noun, as ``BatchInferenceJob``: every verb, key and ARN follows from it.
    :param parent_key: The field of its create request that names the resource it is made from, and so tells the
        account and region of its own ARN.
    """

    name: str
    parent_key: str = "solutionVersionArn"

    @cached_property
    def words(self) -> str:
        """The noun in words, as ``batch inference job``."""
        return re.sub(r"(?<!^)(?=[A-Z])", " ", self.name).lower()

    @cached_property
    def arn_type(self) -> str:
        """The resource type in an ARN, as ``batch-inference-job``."""
        return self.words.replace(" ", "-")

    @cached_property
    def response_key(self) -> str:
        """The key that wraps a description, as ``batchInferenceJob``."""
        return self.name[0].lower() + self.name[1:]

    @cached_property
    def list_key(self) -> str:
        """The key of the items of a listing, as ``batchInferenceJobs``."""
        return f"{self.response_key}s"

    @cached_property
    def arn_key(self) -> str:
        """The key that holds the ARN, as ``batchInferenceJobArn``."""
        return f"{self.response_key}Arn"

    @cached_property
    def create_operation(self) -> str:
        """The API operation that makes one, as ``CreateBatchInferenceJob``."""
        return f"Create{self.name}"

    @cached_property
    def describe_operation(self) -> str:
        """The API operation that describes one, as ``DescribeBatchInferenceJob``."""
        return f"Describe{self.name}"

    @cached_property
    def list_operation(self) -> str:
        """The API operation that lists them, as ``ListBatchInferenceJobs``."""
        return f"List{self.name}s"


BATCH_INFERENCE_JOB = JobKind("BatchInferenceJob")
BATCH_SEGMENT_JOB = JobKind("BatchSegmentJob")
SOLUTION_VERSION = JobKind("SolutionVersion", parent_key="solutionArn")

#: The kinds that an operator of this package makes, by the resource type in their ARNs.
JOB_KINDS: Mapping[str, JobKind] = {kind.arn_type: kind for kind in (BATCH_INFERENCE_JOB, BATCH_SEGMENT_JOB)}


@dataclass(frozen=True)
class JobStatus:
    """
    What a description or a line of a listing says of one job.

    :param kind: The job's kind.
    :param arn: The job's ARN.
    :param name: The job's name.
    :param status: The service's own word.
    :param state: What that means. An unknown status is taken as still running.
    :param known: Whether the status is one of :data:`STATES`.
    :param failure_reason: The service's ``failureReason``, where it gave one.
    :param created_at: When the job was created, where the service says so.
    :param solution_version_arn: The solution version that it runs on, where the service says so.
    :param output_uri: Where its output goes; a listing does not say.
    """

    kind: JobKind
    arn: str
    name: str
    status: str
    state: JobState
    known: bool
    failure_reason: str | None = None
    created_at: datetime | None = None
    solution_version_arn: str | None = None
    output_uri: str | None = None

    def raise_if_failed(self) -> None:
        """
        Raise where the job has failed.

        :raises JobFailedError: with the job's name, ARN and ``failureReason``.
        """
        if self.state is JobState.FAILED:
            raise JobFailedError(
                kind=self.kind.words,
                job_name=self.name,
                job_arn=self.arn,
                status=self.status,
                failure_reason=self.failure_reason,
            )


def read_status(kind: JobKind, response: Any, *, job_arn: str | None = None) -> JobStatus:
    """
    Read a job's state from a describe response, or from one line of a listing.

    It decides and does nothing else: it does not call, sleep, log or raise on a failed job, so the synchronous path,
    the trigger and the tests share it.

    :param kind: The job's kind.
    :param response: What ``Describe…`` answered (the wrapping key included or not), or one line of ``List…``.
    :param job_arn: The job that was asked about, where one was.
    :raises UnexpectedAnswerError: if it is no such thing: without a status, as one of another kind of job would be, or
        about another job.
    """
    operation = kind.describe_operation if job_arn else kind.list_operation
    job = response.get(kind.response_key, response) if isinstance(response, Mapping) else response
    if not isinstance(job, Mapping):
        came = f"{type(job).__name__}: {shown(job)}"
        raise UnexpectedAnswerError(
            operation=operation, reason=f"Expected a description of a {kind.words}, got {came}", arn=job_arn
        )
    status, arn = job.get("status"), job.get(kind.arn_key) or ""
    if not isinstance(status, str) or not status:
        came = f"the status {shown(status)}" if status else f"one with the keys {shown(sorted(map(str, job)))}"
        raise UnexpectedAnswerError(
            operation=operation,
            reason=f"Expected a description of a {kind.words} with a status, got {came}",
            arn=job_arn,
        )
    if not isinstance(arn, str) or (job_arn and arn != job_arn):
        raise UnexpectedAnswerError(
            operation=operation,
            reason=f"Expected the ARN of the {kind.words} that was asked about, got {shown(arn)}",
            arn=job_arn,
        )
    created_at = job.get("creationDateTime")
    return JobStatus(
        kind=kind,
        arn=arn,
        name=text_at(job, "jobName") or arn.rpartition("/")[2],
        status=status,
        state=STATES.get(status, JobState.RUNNING),
        known=status in STATES,
        failure_reason=text_at(job, "failureReason"),
        created_at=created_at if isinstance(created_at, datetime) else None,
        solution_version_arn=text_at(job, "solutionVersionArn"),
        output_uri=text_at(job, "jobOutput", "s3DataDestination", "path"),
    )


def entries_of(kind: JobKind, page: Any) -> list[Any]:
    """
    Give the lines of one page of a listing.

    :raises UnexpectedAnswerError: if it holds no list.
    """
    entries = page.get(kind.list_key) if isinstance(page, Mapping) else None
    if not isinstance(entries, list):
        raise UnexpectedAnswerError(
            operation=kind.list_operation, reason=f"Expected a list of {kind.words}s, got {shown(entries)}"
        )
    return entries


def text_at(value: Any, *path: str) -> str | None:
    """Give the text at a place of an answer; None where there is none, or something else."""
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value if isinstance(value, str) and value else None


def shown(value: Any) -> str:
    """Write a value of somebody else's into a message, cut short."""
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
