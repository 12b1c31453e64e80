"""The errors that the stand-in answers with, and those that end a job or a record."""

from __future__ import annotations

from typing import Any

from airflow_provider_personalize.exceptions import PersonalizeError


class ApiError(PersonalizeError):
    """
    An answer that is an error.

    :param code: The service's error code, as ``InvalidInputException``.
    :param message: The service's own words, or like them.
    :param status: The HTTP status.
    """

    code: str
    status: int

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message, code=code, status=status)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.code, self.message, self.status)


class JobError(PersonalizeError):
    """What a job ends in CREATE FAILED for; the message becomes its ``failureReason``."""


class RecordError(PersonalizeError):
    """What is wrong with one line of a job's input; the message becomes the ``error`` of its output."""


class DataError(PersonalizeError, ValueError):
    """A file that the recommendations were to be trained on is not what was expected."""
