"""
The errors over data: lines, rows and tables. :mod:`~airflow_provider_personalize.exceptions` has them too, with all
others.

This module is pure: it imports neither Airflow nor boto3.
"""

from __future__ import annotations

from typing import Any

from airflow_provider_personalize.error_base import PersonalizeError, clause, see_runbook


class MissingOutputError(PersonalizeError):
    """
    An object that the job should have written, or that was asked for, is not there.

    :param uri: What was looked for.
    :param reason: Why it was expected, and what to do.
    :param may_pass: Whether it may be there when the task runs again, as where it was replaced during a load.
    """

    uri: str
    reason: str

    def __init__(self, *, uri: str, reason: str, may_pass: bool = False) -> None:
        super().__init__(
            f"Expected the object {uri}, but it does not exist. {reason}", uri=uri, reason=reason, may_pass=may_pass
        )


class InvalidLineError(PersonalizeError, ValueError):
    """
    A line, of a query's result or of a job's input, cannot become what the recipe takes.

    :param location: Where: the object or query, and the number of the line or row.
    :param reason: What was expected, what came, and what to do.
    """

    may_pass = False
    location: str
    reason: str

    def __init__(self, *, location: str, reason: str) -> None:
        super().__init__(f"{location}: {reason}", location=location, reason=reason)


class TooManyRejectsError(PersonalizeError):
    """
    More of the output's lines are unusable than ``max_reject_rate`` allows. Nothing was published.

    :param rejects: How many lines were set apart.
    :param lines: How many lines there were.
    :param max_reject_rate: The share that was allowed.
    :param examples: The first of them, each as object, line, reason and text cut short, in words.
    :param kept_in: The table that holds all of them, where one was named; or the URI of their file.
    """

    may_pass = False
    rejects: int
    lines: int
    max_reject_rate: float
    examples: list[str]
    kept_in: str | None

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
        place = kept_in if kept_in and "://" in kept_in else f"the table {kept_in}"
        where = f"All of them are in {place}." if kept_in else "In SQL, a rejects_table keeps all of them."
        super().__init__(
            f"{rejects} of {lines} lines are unusable, more than max_reject_rate={max_reject_rate} allows, so nothing "
            f"was loaded. The first of them:\n{shown}\n{where} Mend the input and run the job again, or raise "
            f"max_reject_rate to load the others. {see_runbook('TooManyRejectsError')}",
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

    may_pass = False
    table: str
    reason: str

    def __init__(self, *, table: str, reason: str) -> None:
        message = f"The table {table} cannot take these rows: {clause(reason)}. {see_runbook('TableMismatchError')}"
        super().__init__(message, table=table, reason=reason)


class OutputCheckError(PersonalizeError):
    """
    Loaded output does not keep to what was expected of it.

    :param table: The table.
    :param failed: What does not hold, in words.
    :param figures: All figures.
    :param report_uri: Where the report is, if one was written.
    :param details: What is missing, in sentences: ids without results, reasons of rejects.
    """

    may_pass = False
    table: str
    failed: list[str]
    figures: dict[str, Any]
    report_uri: str | None
    details: list[str]

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
            f"solution or the checks, then clear this task, or what leads to it. {see_runbook('OutputCheckError')}",
            table=table,
            failed=failed,
            figures=figures,
            report_uri=report_uri,
            details=details,
        )


class SolutionVersionCheckError(PersonalizeError):
    """
    A solution version does not keep to what was expected of it.

    :param solution_version_arn: The version.
    :param failed: What does not hold, in words.
    :param figures: All figures.
    :param report_uri: Where the report is, if one was written.
    """

    may_pass = False
    solution_version_arn: str
    failed: list[str]
    figures: dict[str, Any]
    report_uri: str | None

    def __init__(
        self, *, solution_version_arn: str, failed: list[str], figures: dict[str, Any], report_uri: str | None = None
    ) -> None:
        found = "\n".join(f"  {sentence}" for sentence in failed)
        where = f"The report {report_uri} shows more. " if report_uri else ""
        super().__init__(
            f"The solution version is not good enough, and was not tagged:\n{found}\n{where}Mend the data, the "
            "solution or the checks, and train again; jobs with require_tags use the last good version until then. "
            f"{see_runbook('SolutionVersionCheckError')} {solution_version_arn}",
            solution_version_arn=solution_version_arn,
            failed=failed,
            figures=figures,
            report_uri=report_uri,
        )
