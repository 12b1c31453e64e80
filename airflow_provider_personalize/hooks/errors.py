"""What AWS's errors mean here: which ones pass, and what to do about the others. Matched by code, never by text."""

from __future__ import annotations

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    HTTPClientError,
    ParamValidationError,
)
from botocore.exceptions import (
    ConnectionError as BotoConnectionError,
)

from airflow_provider_personalize.exceptions import InvalidRequestError, PersonalizeError, ServiceError

#: Too many requests a second. ``LimitExceededException`` can mean that too, and belongs here when it answers a read.
THROTTLING_CODES = frozenset(
    {
        "LimitExceededException",
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


def error_code(error: Exception) -> str:
    """Give the code of an AWS error; for an error of the connection, the name of its class."""
    if isinstance(error, ClientError):
        return str(error.response.get("Error", {}).get("Code", "Unknown"))
    return type(error).__name__


def is_throttling(error: Exception) -> bool:
    """Tell whether the service asks to slow down."""
    return error_code(error) in THROTTLING_CODES


def is_expired(error: Exception) -> bool:
    """Tell whether the credentials have run out, and may be renewed."""
    return error_code(error) in EXPIRED_CODES or isinstance(error, CredentialRetrievalError)


def is_transient(error: Exception) -> bool:
    """
    Tell whether the same request may succeed later: throttling, 5xx, a connection or name lookup that failed, or
    credentials that have expired.
    """
    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return status >= 500 or is_throttling(error) or is_expired(error)
    return isinstance(error, (BotoConnectionError, HTTPClientError, CredentialRetrievalError))


def describe_error(error: Exception) -> str:
    """Give an AWS error's code and words on one line."""
    if isinstance(error, ClientError):
        return f"{error_code(error)}: {error.response.get('Error', {}).get('Message', '')}".strip(": ")
    return f"{error_code(error)}: {error}"


def as_personalize_error(
    error: Exception, *, operation: str, region: str | None = None, role_arn: str | None = None
) -> PersonalizeError:
    """
    Turn an AWS error that will not pass by itself into one that says what to do.

    :param error: What botocore raised.
    :param operation: The API operation, as ``CreateBatchInferenceJob``.
    :param region: The region that was asked.
    :param role_arn: The role that the request hands to the service, where it hands one.
    """
    if isinstance(error, ParamValidationError):
        return InvalidRequestError(f"{operation}: {error}")
    code = error_code(error)
    reason = error.response.get("Error", {}).get("Message", "") if isinstance(error, ClientError) else str(error)
    return ServiceError(
        operation=operation, code=code, reason=reason, remedy=_remedy(code, operation, region, role_arn)
    )


def _remedy(code: str, operation: str, region: str | None, role_arn: str | None) -> str:
    if code in {"AccessDeniedException", "AccessDenied", "UnauthorizedOperation"}:
        remedy = f"Allow personalize:{operation} to the identity of the Airflow connection"
        if role_arn:
            remedy += (
                f", and iam:PassRole on {role_arn} with the condition iam:PassedToService = personalize.amazonaws.com"
            )
        return f"{remedy}. The README has the policies ready to paste."
    if code == "InvalidInputException":
        remedy = "Check the request's parameters against the recipe of the solution version."
        if role_arn:
            remedy += (
                f" If the words are about privileges or S3: {role_arn} must be assumable by personalize.amazonaws.com "
                "and needs s3:GetObject, s3:ListBucket and s3:PutObject; the policies of both buckets (and of "
                "their KMS keys) must let that service in."
            )
        return remedy
    remedies = {
        "ResourceNotFoundException": (
            f"Looked in the region {region or 'of the connection'}: check the ARNs (job, solution version, filter), "
            "and region_name and the account of aws_conn_id."
        ),
        "ResourceInUseException": "A resource that the request names is still being made: run the task again later.",
        "TooManyTagsException": "A resource takes at most 200 tags: give fewer.",
        "UnrecognizedClientException": "AWS does not know the access key of the Airflow connection: check aws_conn_id.",
        "InvalidSignatureException": "The connection's secret key does not fit its access key, or the clock is wrong.",
        "NoCredentialsError": "Set an Airflow connection of type Amazon Web Services and name it in aws_conn_id.",
        "NoRegionError": "Set region_name, or the region in the Airflow connection.",
    }
    return remedies.get(code, "")


#: What a call to AWS can raise.
AWS_ERRORS = (ClientError, BotoCoreError)
