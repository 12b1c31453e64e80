"""
What AWS's errors mean here: which ones may pass by themselves, and what to do about the others.

They are told apart by their code, never by their text.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

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

from airflow_provider_personalize.compat import AirflowException
from airflow_provider_personalize.error_base import DOCS, EXPIRED_CODES, THROTTLING_CODES
from airflow_provider_personalize.exceptions import (
    InvalidRequestError,
    PersonalizeError,
    ServiceError,
    UnexpectedAnswerError,
)
from airflow_provider_personalize.uris import S3Uri

#: What a client calls to get its credentials, before it calls what was asked for.
STS_OPERATIONS = frozenset({"AssumeRole", "AssumeRoleWithSAML", "AssumeRoleWithWebIdentity"})
#: What a call to AWS can raise.
AWS_ERRORS = (ClientError, BotoCoreError)


def error_code(error: Exception) -> str:
    """Return the code of an AWS error, or the name of its class for an error of the connection."""
    if isinstance(error, ClientError):
        return str(error.response.get("Error", {}).get("Code", "Unknown"))
    return type(error).__name__


def is_throttling(error: Exception) -> bool:
    """Return whether the service asks to slow down."""
    return error_code(error) in THROTTLING_CODES


def is_expired(error: Exception) -> bool:
    """Return whether the credentials have expired, so that new ones may help."""
    return error_code(error) in EXPIRED_CODES or isinstance(error, CredentialRetrievalError)


def is_transient(error: Exception) -> bool:
    """
    Return whether the same request may succeed later: after throttling, a 5xx, a connection or name lookup that
    failed, or with credentials that have expired.
    """
    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return status >= 500 or is_throttling(error) or is_expired(error)
    return isinstance(error, (BotoConnectionError, HTTPClientError, CredentialRetrievalError))


def describe_error(error: Exception) -> str:
    """Return the code and the message of what a call to AWS raised, on one line."""
    if isinstance(error, ServiceError | UnexpectedAnswerError):
        return f"{error.reason.rstrip('.')} (the answer to {error.operation})"
    if isinstance(error, ClientError):
        return f"{error_code(error)}: {error.response.get('Error', {}).get('Message', '')}".strip(": ")
    return f"{error_code(error)}: {error}"


def as_personalize_error(
    error: Exception,
    *,
    operation: str,
    region: str | None = None,
    role_arn: str | None = None,
    arn: str | None = None,
) -> PersonalizeError:
    """
    Turn an AWS error that will not pass by itself into one that says what to do.

    :param error: What botocore raised.
    :param operation: The API operation, as ``CreateBatchInferenceJob``.
    :param region: The region that was asked.
    :param role_arn: The role that the request hands to the service, where it hands one.
    :param arn: The resource that was asked about, where there was one.
    """
    if isinstance(error, ParamValidationError):
        return InvalidRequestError(f"{operation}: {error}")
    # A client may have to assume a role first: then it is that which was refused.
    operation = str(getattr(error, "operation_name", operation))
    code = error_code(error)
    reason = error.response.get("Error", {}).get("Message", "") if isinstance(error, ClientError) else str(error)
    if operation in STS_OPERATIONS:
        remedy = _ASSUMING_REFUSED
    else:
        asked = ("Personalize, with a role", "Personalize") if role_arn else ("Personalize",)
        remedy = _remedy(code, *asked, operation=operation, region=region or "of the connection", role_arn=role_arn)
    return ServiceError(operation=operation, code=code, reason=reason, remedy=remedy, arn=arn)


def as_s3_error(error: Exception, *, operation: str, place: S3Uri, writing: bool = False) -> ServiceError:
    """
    Turn an error of S3 that will not pass by itself into one that says what to do.

    :param error: What botocore raised.
    :param operation: S3's operation.
    :param place: The object or the prefix.
    :param writing: Whether it was to be written.
    """
    code = error_code(error)
    asked = "writing S3" if writing else "reading S3"
    remedy = _remedy(code, asked, bucket=place.bucket, place=place)
    reason = error.response.get("Error", {}).get("Message", "") if isinstance(error, ClientError) else str(error)
    return ServiceError(operation=f"{operation} on {place}", code=code, reason=reason, remedy=remedy)


def as_dynamodb_error(error: Exception, *, operation: str, table: str) -> ServiceError:
    """
    Turn an error of DynamoDB that will not pass by itself into one that says what to do.

    :param error: What botocore raised.
    :param operation: DynamoDB's operation.
    :param table: The table.
    """
    code = error_code(error)
    remedy = _remedy(code, "DynamoDB", operation=operation, table=table)
    reason = error.response.get("Error", {}).get("Message", "") if isinstance(error, ClientError) else str(error)
    return ServiceError(operation=f"{operation} on {table}", code=code, reason=reason, remedy=remedy)


@contextmanager
def answers_to(operation: str, **details: str | None) -> Iterator[None]:
    """
    Around a call: turn what will not pass into an error that says what to do, and leave AWS's errors that may as they
    are.

    :param operation: The API operation.
    :param details: Further arguments of :func:`as_personalize_error`.
    :raises UnexpectedAnswerError: for whatever botocore raises over an answer that is none.
    """
    try:
        yield
    except PersonalizeError:
        raise
    except AWS_ERRORS as error:
        if is_transient(error):
            raise
        raise as_personalize_error(error, operation=operation, **details) from None
    except Exception as error:
        reason = f"Expected an answer of AWS, got one that cannot be read ({describe_error(error)})"
        raise UnexpectedAnswerError(operation=operation, reason=reason, arn=details.get("arn")) from error


@contextmanager
def building_a_client() -> Iterator[None]:
    """
    Around the making of a client: say what the connection lacks, and leave what may pass as it is.

    :raises ServiceError: if there is no region, profile or credentials, or a role may not be assumed.
    :raises InvalidRequestError: if the settings make no client.
    """
    try:
        yield
    except PersonalizeError:
        raise
    except AWS_ERRORS as error:
        if is_transient(error):
            raise
        raise as_personalize_error(error, operation="making the AWS client") from None
    except (AirflowException, NotImplementedError, TypeError, ValueError) as error:
        raise InvalidRequestError(
            f"{error}: no AWS client can be made so. Check aws_conn_id and its extra, region_name, verify and "
            "botocore_config."
        ) from error


def _remedy(code: str, *asked: str, **values: object) -> str:
    """Return what to do about an error, from the first line of the table that tells."""
    found = (_REMEDIES.get((one, code)) for one in (*asked, "anything"))
    return next(filter(None, found), "").format(**values)


_ASSUMING_REFUSED = (
    "The role of the Airflow connection cannot be assumed: check role_arn (and external_id) in the extra of "
    "aws_conn_id, allow sts:AssumeRole on it to the connection's own identity, and let the role's trust policy "
    "name that identity."
)
_S3_READING_REFUSED = (
    "Allow s3:ListBucket on the bucket {bucket} and s3:GetObject on its objects to the identity of aws_conn_id. In "
    "another account's bucket, the bucket's policy has to allow it, too. An encrypted object takes kms:Decrypt on its "
    "key."
)
_REFUSED = "Allow personalize:{operation} to the identity of the Airflow connection."
_REFUSED_WITH_ROLE = (
    "Allow personalize:{operation} to the identity of the Airflow connection, and iam:PassRole on {role_arn} with the "
    "condition iam:PassedToService = personalize.amazonaws.com."
)
_POLICIES = f" The policies stand ready to paste at {DOCS}/aws.md#permissions."
_INVALID_INPUT = "Check the request's parameters against the recipe of the solution version."

#: What to do about an error: by what was asked, and by the error's code.
_REMEDIES: Mapping[tuple[str, str], str] = {
    ("reading S3", "AccessDenied"): _S3_READING_REFUSED,
    ("reading S3", "403"): _S3_READING_REFUSED,
    ("writing S3", "AccessDenied"): (
        "Allow the Airflow connection's identity s3:ListBucket on the bucket {bucket}, and s3:PutObject, "
        "s3:AbortMultipartUpload and s3:DeleteObject under {place}; where that is encrypted with a KMS key, "
        "kms:GenerateDataKey and kms:Decrypt too."
    ),
    ("writing S3", "NoSuchBucket"): (
        "Check the bucket in s3_uri ({place}), and the account and region of aws_conn_id."
    ),
    **{
        (asked, code): remedy + _POLICIES
        for asked, remedy in (("Personalize", _REFUSED), ("Personalize, with a role", _REFUSED_WITH_ROLE))
        for code in ("AccessDeniedException", "AccessDenied", "UnauthorizedOperation")
    },
    ("DynamoDB", "AccessDeniedException"): (
        "Allow dynamodb:{operation} on the table {table} to the identity of the Airflow connection." + _POLICIES
    ),
    ("DynamoDB", "ResourceNotFoundException"): (
        "Check table_name ({table}), and the region and the account of aws_conn_id."
    ),
    ("Personalize", "InvalidInputException"): _INVALID_INPUT,
    ("Personalize, with a role", "InvalidInputException"): (
        f"{_INVALID_INPUT} If the words are about privileges or S3: {{role_arn}} must be assumable by "
        "personalize.amazonaws.com and needs s3:GetObject, s3:ListBucket and s3:PutObject; the policies of both "
        "buckets (and of their KMS keys) must let that service in."
    ),
    ("Personalize", "ResourceNotFoundException"): (
        "Looked in the region {region}: check the ARNs (job, solution version, filter), and region_name and the "
        "account of aws_conn_id."
    ),
    ("Personalize", "ResourceInUseException"): (
        "A resource that the request names is still being made: run the task again later."
    ),
    ("Personalize", "TooManyTagsException"): "A resource takes at most 200 tags: give fewer.",
    ("anything", "UnrecognizedClientException"): (
        "AWS does not know the access key of the Airflow connection: check aws_conn_id."
    ),
    ("anything", "InvalidSignatureException"): (
        "The connection's secret key does not fit its access key, or the clock is wrong."
    ),
    ("anything", "NoCredentialsError"): (
        "Set an Airflow connection of type Amazon Web Services and name it in aws_conn_id."
    ),
    (
        "anything",
        "NoRegionError",
    ): "Set region_name, or region_name in the extra of the Airflow connection aws_conn_id.",
    (
        "anything",
        "InvalidRegionError",
    ): "Check region_name, here and in the extra of the Airflow connection aws_conn_id.",
    ("anything", "ProfileNotFound"): (
        "Check profile_name in the extra of the Airflow connection aws_conn_id, and the AWS configuration files of the "
        "machine that runs this: the worker, and the triggerer for what is deferred."
    ),
    ("anything", "PartialCredentialsError"): (
        "Give both login (the access key) and password (the secret key) in aws_conn_id."
    ),
}
