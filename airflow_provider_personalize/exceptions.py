"""
Every error that this package raises on purpose::

    PersonalizeError
    ├── InvalidRequestError      what was asked for cannot be right
    ├── ServiceError             AWS refused
    ├── UnexpectedAnswerError    AWS, or what stands before it, answered with something else
    ├── JobFailedError           the job ended in a failure
    ├── JobTimeoutError          the job did not end in time
    ├── JobConflictError         the job's name is taken
    ├── ResourceConflictError    another resource stands where one was asked for
    ├── QuotaTimeoutError        no slot for a job came free in time
    ├── MissingOutputError       an object is not there
    ├── InvalidLineError         a line cannot go into a job
    ├── TooManyRejectsError      too many lines of the output are unusable
    ├── TableMismatchError       the table cannot take the rows
    ├── OutputCheckError         what was loaded is not good enough
    └── SolutionVersionCheckError  a model is not good enough

The types are few: one for each thing that a caller may want to tell apart. Each keeps the values that its message was
made of as attributes, says with ``may_pass`` whether a retry can help, and survives pickling, which Airflow does to
errors on their way between processes. They derive from nothing of Airflow's, so that the pure modules can raise them;
:mod:`~airflow_provider_personalize.failures` makes them Airflow's where they leave a task.

A message begins with the reason and ends with the ARN, since Airflow's pages cut lines short.
"""

from __future__ import annotations

from typing import Any

from airflow_provider_personalize.data_exceptions import (
    InvalidLineError,
    MissingOutputError,
    OutputCheckError,
    SolutionVersionCheckError,
    TableMismatchError,
    TooManyRejectsError,
)
from airflow_provider_personalize.error_base import PASSING_CODES, PersonalizeError, clause, ending_in, see_runbook
from airflow_provider_personalize.failure_reasons import remedy_of
from airflow_provider_personalize.resource_exceptions import ResourceConflictError

__all__ = [
    "InvalidLineError",
    "InvalidRequestError",
    "JobConflictError",
    "JobFailedError",
    "JobTimeoutError",
    "MissingOutputError",
    "OutputCheckError",
    "PersonalizeError",
    "QuotaTimeoutError",
    "ResourceConflictError",
    "ServiceError",
    "SolutionVersionCheckError",
    "TableMismatchError",
    "TooManyRejectsError",
    "UnexpectedAnswerError",
]


class InvalidRequestError(PersonalizeError, ValueError):
    """
    What the user asked for cannot be right; nothing was sent to the service and nothing was written.

    :param message: The whole sentence, with the remedy.
    """

    may_pass = False


class ServiceError(PersonalizeError):
    """
    AWS refused a request. Most refusals stay; those whose code is one of :data:`PASSING_CODES` may pass.

    :param operation: The API operation, as ``CreateBatchInferenceJob``.
    :param code: The error code, as ``AccessDeniedException``.
    :param reason: The service's own words.
    :param remedy: What to do about it.
    :param arn: The resource that was asked about, where there was one.
    """

    operation: str
    code: str
    reason: str
    remedy: str
    arn: str | None

    def __init__(self, *, operation: str, code: str, reason: str, remedy: str = "", arn: str | None = None) -> None:
        message = f"{clause(reason) or 'No reason was given'} ({code}, from {operation})."
        super().__init__(
            ending_in(f"{message}\n{remedy}" if remedy else message, arn),
            operation=operation,
            code=code,
            reason=reason,
            remedy=remedy,
            arn=arn,
        )
        self.may_pass = code in PASSING_CODES


class UnexpectedAnswerError(PersonalizeError):
    """
    An answer, of AWS or of what stands before it, is not what the API promises.

    :param operation: The API operation, as ``DescribeBatchInferenceJob``.
    :param reason: What was expected, and what came.
    :param arn: The resource that was asked about, where there was one.
    """

    operation: str
    reason: str
    arn: str | None

    def __init__(self, *, operation: str, reason: str, arn: str | None = None) -> None:
        message = (
            f"{clause(reason)} (the answer to {operation}). It may pass: run the task again. If it does not, look at "
            "what stands between Airflow and AWS: a proxy, or the endpoint_url of the connection."
        )
        super().__init__(ending_in(message, arn), operation=operation, reason=reason, arn=arn)


class JobFailedError(PersonalizeError):
    """
    The service reports that a job has failed.

    :param kind: What kind of job it was, in words, as ``batch inference job``.
    :param job_name: The job's name.
    :param job_arn: The job's ARN.
    :param status: The status that the service reports.
    :param failure_reason: The service's ``failureReason``, where it gave one.
    :param created_by: The id of the task that created the job, where that is known.
    """

    may_pass = False
    kind: str
    job_name: str
    job_arn: str
    status: str
    failure_reason: str | None
    created_by: str | None

    def __init__(
        self,
        *,
        kind: str,
        job_name: str,
        job_arn: str,
        status: str,
        failure_reason: str | None = None,
        created_by: str | None = None,
    ) -> None:
        creator = f"the task {created_by!r}, which" if created_by else "the task that"
        message = (
            f"{clause(failure_reason or '') or 'No reason was given'}: the {kind} {job_name!r} ended in {status}. It "
            f"stays failed: to run it anew, clear {creator} created it. Clearing one that only waits for it, or loads "
            "its output, changes nothing."
        )
        if remedy := remedy_of(failure_reason):
            message += f"\n{remedy}"
        super().__init__(
            ending_in(f"{message} {see_runbook('JobFailedError')}", job_arn),
            kind=kind,
            job_name=job_name,
            job_arn=job_arn,
            status=status,
            failure_reason=failure_reason,
            created_by=created_by,
        )


class JobTimeoutError(PersonalizeError, TimeoutError):
    """
    The deadline came before what was waited for. The job, or other resource, itself goes on.

    :param kind: What kind of job or other resource it is, in words.
    :param job_arn: Its ARN.
    :param status: The last status that was seen, or None if none was.
    :param waited: How long the wait was, in seconds.
    :param reason: What kept the last look from succeeding, if something did.
    :param until: What was waited for: ``active``, ``updated``, ``inactive`` or ``gone``.
    """

    kind: str
    job_arn: str
    status: str | None
    waited: float
    reason: str | None
    until: str

    def __init__(
        self,
        *,
        kind: str,
        job_arn: str,
        status: str | None,
        waited: float,
        reason: str | None = None,
        until: str = "active",
    ) -> None:
        is_job = kind.endswith(" job")
        message = f"The deadline passed after {waited:.0f} s of waiting (last status: {status or 'none seen'})"
        if reason:
            message += f", and the last look at the {'job' if is_job else kind} failed: {clause(reason)}"
        if is_job:
            message += (
                f". The {kind} cannot be stopped: it runs on, and is billed. To attach to it again, clear this task "
                "(an operator with if_job_exists='reuse' finds its job), or give the job's ARN to a sensor's job_arn, "
                "with a longer timeout."
            )
        else:
            message += (
                f". The {kind} goes on without this task, and may be billed. To wait until it is {until} again, clear "
                "this task, with a longer timeout."
            )
        message += f" {see_runbook('JobTimeoutError')}"
        super().__init__(
            ending_in(message, job_arn),
            kind=kind,
            job_arn=job_arn,
            status=status,
            waited=waited,
            reason=reason,
            until=until,
        )


class JobConflictError(PersonalizeError):
    """
    A job's name is taken by a job that must not stand in for the one asked for.

    :param job_name: The name that is taken.
    :param job_arn: The job that has it.
    :param differences: What differs between the two requests: ``{field: (that job's, the one asked for)}``; empty
        where the two are alike and reuse was not wanted.
    """

    may_pass = False
    job_name: str
    job_arn: str
    differences: dict[str, tuple[Any, Any]]

    def __init__(self, *, job_name: str, job_arn: str, differences: dict[str, tuple[Any, Any]] | None = None) -> None:
        differences = differences or {}
        if differences:
            rows = "\n".join(
                f"  {field}: that job has {theirs!r}, this task asks for {ours!r}"
                for field, (theirs, ours) in sorted(differences.items())
            )
            message = (
                f"The job name {job_name!r} is taken by a job that was made from another request:\n{rows}\n"
                "Names are taken for good. Give this task another job_name, leave job_name out so that one is "
                "derived from the run and the request, or set if_job_exists='new' to take the next free suffix."
            )
        else:
            message = (
                f"The job name {job_name!r} is taken, and if_job_exists='fail' was asked for. Names are taken for "
                "good: use another job_name, or if_job_exists='reuse' or 'new'."
            )
        super().__init__(
            ending_in(f"{message} {see_runbook('JobConflictError')} The job that has it:", job_arn),
            job_name=job_name,
            job_arn=job_arn,
            differences=differences,
        )


class QuotaTimeoutError(PersonalizeError, TimeoutError):
    """
    No slot for another job came free within the time that was set for it. No job was created.

    :param operation: The create operation.
    :param waited: For how long slots were waited for, in seconds.
    :param reason: The service's own words.
    """

    operation: str
    waited: float
    reason: str

    def __init__(self, *, operation: str, waited: float, reason: str) -> None:
        super().__init__(
            f"{clause(reason)}: {operation} found no free slot within {waited:.0f} s, and no job was created. Raise "
            "quota_wait_timeout, run fewer jobs at once (an Airflow pool with include_deferred and as many slots as "
            f"the quota), or ask AWS for a higher quota. {see_runbook('QuotaTimeoutError')}",
            operation=operation,
            waited=waited,
            reason=reason,
        )
