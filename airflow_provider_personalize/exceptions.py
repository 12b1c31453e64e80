"""
Every error that this package raises on purpose.

The types are few: one for each thing that a caller may want to tell apart. Each keeps the values that its message was
made of as attributes, and survives pickling, which Airflow does to errors on their way between processes. They derive
from nothing of Airflow's, so that the pure modules can raise them.
"""

from __future__ import annotations

from functools import partial
from typing import Any


class PersonalizeError(Exception):
    """
    Base of every error of this package.

    :param message: What was expected, what came, where, and what to do.
    :param values: What the message was made of; kept as attributes, and handed to ``__init__`` again by pickle.
    """

    def __init__(self, message: str, **values: Any) -> None:
        super().__init__(message)
        self.message = message
        self.values = values
        self.__dict__.update(values)

    def __reduce__(self) -> tuple[Any, ...]:
        if type(self).__init__ is PersonalizeError.__init__:
            return partial(type(self), self.message, **self.values), ()
        return partial(type(self), **self.values), ()


class InvalidRequestError(PersonalizeError, ValueError):
    """
    What the user asked for cannot be right; nothing was sent to the service and nothing was written.

    :param message: The whole sentence, with the remedy.
    """


class ServiceError(PersonalizeError):
    """
    AWS refused a request, and repeating it would not help.

    :param operation: The API operation, as ``CreateBatchInferenceJob``.
    :param code: The error code, as ``AccessDeniedException``.
    :param reason: The service's own words.
    :param remedy: What to do about it.
    """

    operation: str
    code: str

    def __init__(self, *, operation: str, code: str, reason: str, remedy: str = "") -> None:
        message = f"{operation} was refused with {code}: {reason}"
        super().__init__(
            f"{message}\n{remedy}" if remedy else message,
            operation=operation,
            code=code,
            reason=reason,
            remedy=remedy,
        )


class JobFailedError(PersonalizeError):
    """
    The service reports that a job has failed.

    :param kind: What kind of job it was, in words, as ``batch inference job``.
    :param job_name: The job's name.
    :param job_arn: The job's ARN.
    :param status: The status that the service reports.
    :param failure_reason: The service's ``failureReason``, where it gave one.
    """

    job_arn: str
    failure_reason: str | None

    def __init__(
        self, *, kind: str, job_name: str, job_arn: str, status: str, failure_reason: str | None = None
    ) -> None:
        message = f"The {kind} {job_name!r} ({job_arn}) ended in {status}: {failure_reason or 'no reason was given'}"
        if failure_reason and "insufficient privileges" in failure_reason.lower():
            message += (
                "\nThe job's role needs s3:GetObject, s3:ListBucket and s3:PutObject on the buckets, each bucket's "
                "policy must let the service principal personalize.amazonaws.com in, and an encrypted bucket's KMS key "
                "policy too. A bucket that is open only to a VPC does not work."
            )
        super().__init__(
            message,
            kind=kind,
            job_name=job_name,
            job_arn=job_arn,
            status=status,
            failure_reason=failure_reason,
        )


class JobTimeoutError(PersonalizeError, TimeoutError):
    """
    The deadline came before the job's end. The job itself runs on, and is billed.

    :param kind: What kind of job it is, in words.
    :param job_arn: The job's ARN.
    :param status: The last status that was seen, or None where none was.
    :param waited: For how long this task waited, in seconds.
    :param reason: What kept the last look at the job from succeeding, where something did.
    """

    job_arn: str

    def __init__(
        self,
        *,
        kind: str,
        job_arn: str,
        status: str | None,
        waited: float,
        reason: str | None = None,
    ) -> None:
        message = (
            f"The deadline passed after {waited:.0f} s of waiting, and the {kind} {job_arn} has not ended "
            f"(last status: {status or 'none seen'})."
        )
        if reason:
            message += f" The last look at it failed: {reason.rstrip('.')}."
        message += (
            " The job cannot be stopped: it runs on, and is billed. To attach to it again, clear this task (an "
            "operator with if_job_exists='reuse' finds its job), or give this ARN to a sensor's job_arn, with a "
            "longer timeout."
        )
        super().__init__(message, kind=kind, job_arn=job_arn, status=status, waited=waited, reason=reason)


class JobConflictError(PersonalizeError):
    """
    A job's name is taken by a job that must not stand in for the one asked for.

    :param job_name: The name that is taken.
    :param job_arn: The job that has it.
    :param differences: What differs between the two requests: ``{field: (that job's, the one asked for)}``; empty
        where the two are alike and reuse was not wanted.
    """

    differences: dict[str, tuple[Any, Any]]

    def __init__(self, *, job_name: str, job_arn: str, differences: dict[str, tuple[Any, Any]] | None = None) -> None:
        differences = differences or {}
        if differences:
            rows = "\n".join(
                f"  {field}: that job has {theirs!r}, this task asks for {ours!r}"
                for field, (theirs, ours) in sorted(differences.items())
            )
            message = (
                f"The job name {job_name!r} is taken by {job_arn}, which was made from another request:\n{rows}\n"
                "Names are taken for good. Give this task another job_name, leave job_name out so that one is "
                "derived from the run and the request, or set if_job_exists='new' to take the next free suffix."
            )
        else:
            message = (
                f"The job name {job_name!r} is taken by {job_arn}, and if_job_exists='fail' was asked for. "
                "Names are taken for good: use another job_name, or if_job_exists='reuse' or 'new'."
            )
        super().__init__(message, job_name=job_name, job_arn=job_arn, differences=differences)


class QuotaTimeoutError(PersonalizeError, TimeoutError):
    """
    No slot for another job came free within the time that was set for it. No job was created.

    :param operation: The create operation.
    :param waited: For how long slots were waited for, in seconds.
    :param reason: The service's own words.
    """

    def __init__(self, *, operation: str, waited: float, reason: str) -> None:
        super().__init__(
            f"{operation} found no free slot within {waited:.0f} s: {reason} No job was created. Raise "
            "quota_wait_timeout, run fewer jobs at once (an Airflow pool with include_deferred and as many slots as "
            "the quota), or ask AWS for a higher quota.",
            operation=operation,
            waited=waited,
            reason=reason,
        )


class MissingOutputError(PersonalizeError):
    """
    An object that the job should have written, or that was asked for, is not there.

    :param uri: What was looked for.
    :param reason: Why it was expected, and what to do.
    """

    def __init__(self, *, uri: str, reason: str) -> None:
        super().__init__(f"Expected the object {uri}, but it does not exist. {reason}", uri=uri, reason=reason)


class InvalidLineError(PersonalizeError, ValueError):
    """
    A line, of a query's result or of a job's input, cannot become what the recipe takes.

    :param location: Where: the object or query, and the number of the line or row.
    :param reason: What was expected, what came, and what to do.
    """

    def __init__(self, *, location: str, reason: str) -> None:
        super().__init__(f"{location}: {reason}", location=location, reason=reason)


class TooManyRejectsError(PersonalizeError):
    """
    More of the output's lines are unusable than ``max_reject_rate`` allows. Nothing was published.

    :param rejects: How many lines were set apart.
    :param lines: How many lines there were.
    :param max_reject_rate: The share that was allowed.
    :param examples: The first of them, each as object, line, reason and text cut short, in words.
    :param kept_in: The table that holds all of them, where one was named.
    """

    def __init__(
        self,
        *,
        rejects: int,
        lines: int,
        max_reject_rate: float,
        examples: list[str],
        kept_in: str | None = None,
    ) -> None:
        shown = "\n".join(f"  {example}" for example in examples)
        where = f"All of them are in the table {kept_in}." if kept_in else "Name a rejects_table to keep all of them."
        super().__init__(
            f"{rejects} of {lines} lines are unusable, more than max_reject_rate={max_reject_rate} allows, so nothing "
            f"was loaded. The first of them:\n{shown}\n{where} Mend the input and run the job again, or raise "
            "max_reject_rate to load the others.",
            rejects=rejects,
            lines=lines,
            max_reject_rate=max_reject_rate,
            examples=examples,
            kept_in=kept_in,
        )


class TableMismatchError(PersonalizeError):
    """
    The target table cannot take the rows as they are. Nothing was loaded.

    :param table: The table.
    :param reason: What was expected, what is there, and what to do.
    """

    def __init__(self, *, table: str, reason: str) -> None:
        super().__init__(f"The table {table} cannot take these rows: {reason}", table=table, reason=reason)


class OutputCheckError(PersonalizeError):
    """
    Loaded output does not keep to what was expected of it.

    :param table: The table.
    :param failed: What does not hold, in words.
    :param figures: All figures.
    :param report_uri: Where the report is, if one was written.
    :param details: What is missing, in sentences: ids without results, reasons of rejects.
    """

    figures: dict[str, Any]

    def __init__(
        self,
        *,
        table: str,
        failed: list[str],
        figures: dict[str, Any],
        report_uri: str | None = None,
        details: list[str] | None = None,
    ) -> None:
        details = details or []
        found = "\n".join([*(f"  {sentence}" for sentence in failed), *details])
        where = f"The report {report_uri} shows more. " if report_uri else ""
        super().__init__(
            f"The output in {table} is not good enough:\n{found}\n{where}The rows are loaded. Mend the input, the "
            "solution or the checks, then clear this task, or what leads to it.",
            table=table,
            failed=failed,
            figures=figures,
            report_uri=report_uri,
            details=details,
        )
