"""
What every error of this package is, and which of AWS's refusals may pass; the types are in
:mod:`~airflow_provider_personalize.exceptions`.

This module is pure: it imports neither Airflow nor boto3.
"""

from __future__ import annotations

from typing import Any

from airflow_provider_personalize import __version__

#: The documentation of this very version. The tag of a release does not move, so what is linked to stays as it was.
DOCS = f"https://github.com/airflow-provider-personalize/airflow-provider-personalize/blob/v{__version__}/docs"

#: Too many requests a second. ``LimitExceededException`` can mean that too, and belongs here when it answers a read.
THROTTLING_CODES = frozenset(
    {
        "LimitExceededException",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "SlowDown",
        "Throttling",
        "ThrottledException",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)
#: Credentials that were good and can be again: whoever refreshes them may be late.
EXPIRED_CODES = frozenset({"ExpiredToken", "ExpiredTokenException", "RequestExpired"})
#: Whatever else may pass by itself: what is busy, what is broken on AWS's side, and botocore's names for a connection
#: that failed.
PASSING_CODES = (
    THROTTLING_CODES
    | EXPIRED_CODES
    | {"500", "502", "503", "504", "InternalError", "InternalFailure", "InternalServerError", "InternalServerException"}
    | {"IDPCommunicationError", "OperationAborted", "RequestTimeout", "RequestTimeoutException"}
    | {"ResourceInUseException", "ServiceUnavailable", "ServiceUnavailableException", "Unavailable"}
    | {"ConnectionClosedError", "ConnectionError", "ConnectTimeoutError", "CredentialRetrievalError"}
    | {"EndpointConnectionError", "HTTPClientError", "IncompleteReadError", "ProxyConnectionError"}
    | {"ReadTimeoutError", "ResponseStreamingError", "SSLError"}
)


class PersonalizeError(Exception):
    """
    Base of every error of this package.

    :param message: The reason first: what was expected, what came, where, and what to do.
    :param values: What the message was made of; kept as attributes. ``may_pass=True`` says of one error that it may
        pass where others of its type do not.
    """

    #: Whether the same task may succeed when it runs again, so that a retry makes sense.
    may_pass: bool = True
    message: str
    values: dict[str, Any]

    def __init__(self, message: str, **values: Any) -> None:
        super().__init__(message)
        self.message = message
        self.values = values
        self.__dict__.update(values)

    def __reduce__(self) -> tuple[Any, ...]:
        return restore_error, (type(self), self.args, self.__dict__.copy())


def restore_error(error_type: type[PersonalizeError], args: tuple[Any, ...], state: dict[str, Any]) -> PersonalizeError:
    """Build an error as it was, whatever its type's constructor takes: pickle calls this."""
    error = error_type.__new__(error_type)
    error.args = args
    error.__dict__.update(state)
    return error


def clause(text: str) -> str:
    """Return a sentence without its full stop, so that it can go on."""
    return text.strip().rstrip(".")


def see_runbook(error: str) -> str:
    """
    Return the sentence that leads from a message to the runbook.

    :param error: The name of the error's type, which is the heading of its entry.
    """
    return f"See {DOCS}/runbook.md#{error.lower()} for more."


def ending_in(message: str, arn: str | None) -> str:
    """Let a message end in the ARN that it is about, unless that stands in it already."""
    return message if not arn or arn in message else f"{message} {arn}"
