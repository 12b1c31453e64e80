"""The calls to Amazon Personalize, by row of :mod:`~airflow_provider_personalize.service.kinds`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import botocore
from botocore import xform_name

from airflow_provider_personalize.aws_errors import (
    AWS_ERRORS,
    as_personalize_error,
    describe_error,
    error_code,
    is_throttling,
    is_transient,
)
from airflow_provider_personalize.exceptions import InvalidRequestError, JobConflictError, UnexpectedAnswerError
from airflow_provider_personalize.hooks.clients import TRIES, send_duration
from airflow_provider_personalize.hooks.versions import IfJobExists, QuotaFullError, SolutionVersionCalls
from airflow_provider_personalize.metrics import POLLS
from airflow_provider_personalize.service import names as naming
from airflow_provider_personalize.service.kinds import (
    BATCH_JOBS,
    CREATE_PENDING,
    ResourceKind,
    ResourceStatus,
    State,
    Until,
    read_status,
)
from airflow_provider_personalize.service.requests import differences
from airflow_provider_personalize.service.statuses import shown, text_at
from airflow_provider_personalize.service.waits import Watch, jittered

__all__ = ["IfJobExists", "PersonalizeHook", "QuotaFullError"]


class PersonalizeHook(SolutionVersionCalls):
    """
    Interact with Amazon Personalize.

    Errors that may pass by themselves are waited out where a wait is going on; every other one is raised as
    :class:`~airflow_provider_personalize.exceptions.ServiceError`, with what to do.

    Parameters are those of :class:`~airflow.providers.amazon.aws.hooks.base_aws.AwsBaseHook`.
    """

    def describe_job(self, job_arn: str) -> dict[str, Any]:
        """
        Describe a batch job.

        :param job_arn: The job; its kind is told from the ARN.
        :return: The description, without the key that wraps it.
        :raises ServiceError: if there is no such job, or the caller may not look at it.
        :raises UnexpectedAnswerError: if the answer does not describe it.
        """
        kind = naming.job_kind_of(job_arn)
        description = self.describe(job_arn)
        for path in (("jobInput", "s3DataSource", "path"), ("jobOutput", "s3DataDestination", "path")):
            if text_at(description, *path) is None:
                raise UnexpectedAnswerError(
                    operation=kind.describe_operation,
                    reason=f"Expected an S3 URI at {'.'.join(path)} of the {kind.words}, got {shown(description)}",
                    arn=job_arn,
                )
        return description

    def describe(self, resource_arn: str) -> dict[str, Any]:
        """
        Describe a resource of any kind.

        :param resource_arn: The resource; its kind is told from the ARN.
        :return: The description, without the key that wraps it.
        :raises ServiceError: if there is no such resource, or the caller may not look at it.
        :raises UnexpectedAnswerError: if the answer does not describe it.
        """
        kind = naming.kind_of(resource_arn)
        response = self._call(kind.describe_operation, arn=resource_arn, **{kind.arn_field: resource_arn})
        read_status(kind, response, arn=resource_arn)
        return dict(response.get(kind.response_key, response))

    def get_job_status(self, job_arn: str) -> ResourceStatus:
        """
        Return how a job stands.

        :param job_arn: The job; its kind is told from the ARN.
        :raises ServiceError: if there is no such job, or the caller may not look at it. Trouble that may pass is raised
            as botocore has it.
        """
        return self.get_status(job_arn)

    def get_status(self, resource_arn: str, until: Until = "active") -> ResourceStatus:
        """
        Return how a resource of any kind stands.

        :param resource_arn: The resource; its kind is told from the ARN.
        :param until: What is waited for.
        :raises ServiceError: if there is no such resource, or the caller may not look at it. Trouble that may pass is
            raised as botocore has it.
        """
        kind = naming.kind_of(resource_arn)
        POLLS.send(1, operation=kind.describe_operation)
        response = self._call(
            kind.describe_operation, client=self.polling_client, arn=resource_arn, **{kind.arn_field: resource_arn}
        )
        return read_status(kind, response, until, arn=resource_arn)

    def wait_for_job(
        self, job_arn: str, *, poll_interval: float, deadline: float, until: Until = "active"
    ) -> ResourceStatus | None:
        """
        Wait, on this thread, for a job, or for another resource.

        :param job_arn: The job, or the other resource.
        :param poll_interval: Seconds between two looks.
        :param deadline: When to give up, in seconds since the epoch.
        :param until: What to wait for.
        :return: What the service said last; None for a resource that is gone.
        :raises JobFailedError: if what is waited for cannot come any more, as where the job has failed.
        :raises JobTimeoutError: at the deadline. The job runs on.
        :raises ServiceError: if the service refuses to say how the job stands.
        """
        watch = Watch(job_arn, deadline, self.log, until=until, on_end=send_duration)
        while True:
            try:
                seen = self.get_status(job_arn, until)
                if watch.observe(seen):
                    return seen
            except Exception as error:  # noqa: BLE001 (whatever a look ends in, the next one comes)
                if watch.observe_error(error, describe_error(error)):
                    return None
            if not watch.remaining:
                raise watch.timeout_error() from None
            time.sleep(min(jittered(poll_interval), watch.remaining))

    def create_job(
        self,
        kind: ResourceKind,
        request: Mapping[str, Any],
        *,
        if_job_exists: IfJobExists = "reuse",
        same_solution: bool = False,
    ) -> ResourceStatus:
        """
        Create a job, or find the one that an earlier try of the same task has created.

        If the name is taken, the job that has it is described. The name of a failed job cannot be used again, so the
        next suffix is tried.

        :param kind: The kind of job.
        :param request: The whole request, ``jobName`` included.
        :param if_job_exists: ``reuse``, ``fail`` or ``new``.
        :param same_solution: Whether a job of another version of the same solution is as good.
        :return: The job, just created or found.
        :raises QuotaFullError: if too many jobs are in progress, or requests come too fast.
        :raises JobConflictError: if the name is taken by a job that must not be used.
        :raises ServiceError: if the service refuses the request.
        """
        self._patiently(kind.create_operation, lambda: self._create_client)
        self._check_fields(kind, request)
        base, attempt = request["jobName"], 1
        while True:
            named = {**request, "jobName": naming.suffixed_job_name(base, attempt)}
            arn, is_ours = self._try_create(kind, named)
            if arn is not None:
                self.log.info("Created the %s %s: %s", kind.words, named["jobName"], arn)
                return read_status(kind, {**named, kind.arn_field: arn, "status": CREATE_PENDING})
            arn = naming.job_arn(kind, named["jobName"], beside=_parent_of(kind, request))
            if if_job_exists == "new" and not is_ours:
                attempt += 1
                continue
            describe = self.describe_job if kind in BATCH_JOBS else self.describe
            description = self._patiently(kind.describe_operation, partial(describe, arn))
            found = read_status(kind, description)
            differing = differences(named, description, same_solution=same_solution)
            if differing or (if_job_exists == "fail" and not is_ours):
                raise JobConflictError(job_name=named["jobName"], job_arn=arn, differences=differing)
            if found.state is State.FAILED:
                self.log.info(
                    "%s: the %s %s had failed. Its name cannot be used again, so the next suffix is taken.",
                    found.failure_reason or "No reason was given",
                    kind.words,
                    found.name,
                )
                attempt += 1
                continue
            self.log.info("Found the %s %s, %s: using it. %s", kind.words, found.name, found.status, arn)
            return found

    def has_job(self, kind: ResourceKind, request: Mapping[str, Any]) -> bool:
        """
        Return whether there is a job to use again: one of that name, or of the next suffix if that job has failed.

        :param kind: The kind of job.
        :param request: The whole request, ``jobName`` included.
        """
        attempt = 1
        while True:
            name = naming.suffixed_job_name(request["jobName"], attempt)
            try:
                seen = self.get_job_status(naming.job_arn(kind, name, beside=_parent_of(kind, request)))
            except Exception:  # noqa: BLE001 (whatever it is, the create call will tell)
                return False
            if seen.state is not State.FAILED:
                return True
            attempt += 1

    def _try_create(self, kind: ResourceKind, request: Mapping[str, Any]) -> tuple[str | None, bool]:
        """
        Send one create request, repeating it while the answer is throttling, 5xx or none.

        :return: The new job's ARN, or None if the name is taken; and whether the job may be this task's own. It may be
            if the answer to an earlier try was lost, so that nobody knows whether that try created the job.
        """
        is_ours = False
        for tried in range(1, TRIES + 1):
            try:
                response = getattr(self._create_client, xform_name(kind.create_operation))(**request)
            except AWS_ERRORS as error:
                code = error_code(error)
                if code == "ResourceAlreadyExistsException":
                    return None, is_ours
                if code == "LimitExceededException":
                    if self._exists(kind, request):
                        return None, is_ours
                    raise QuotaFullError(describe_error(error)) from None
                if not is_transient(error):
                    raise as_personalize_error(
                        error,
                        operation=kind.create_operation,
                        region=self.region_name,
                        role_arn=request.get("roleArn"),
                    ) from None
                if tried == TRIES:
                    raise
                is_ours = is_ours or not is_throttling(error)
                self._pause(kind.create_operation, error, tried)
                continue
            except Exception as error:  # noqa: BLE001 (botocore raises anything over an answer that it cannot read)
                came = describe_error(error)
            else:
                arn = text_at(response, kind.arn_field)
                if arn and arn.endswith(f":{kind.arn_type}/{request['jobName']}"):
                    return arn, True
                came = shown({key: value for key, value in response.items() if key != "ResponseMetadata"})
            # Whatever that answer was, the job may be there.
            if self._exists(kind, request):
                return None, True
            raise UnexpectedAnswerError(
                operation=kind.create_operation,
                reason=f"Expected the ARN of the {kind.words} {request['jobName']!r}, got {came}",
            )
        raise AssertionError("unreachable: the last try returns or raises")

    def _exists(self, kind: ResourceKind, request: Mapping[str, Any]) -> bool:
        """Return whether a job of that name exists: a full quota may be reported before a name that is taken."""
        arn = naming.job_arn(kind, request["jobName"], beside=_parent_of(kind, request))
        try:
            self.get_job_status(arn)
        except Exception:  # noqa: BLE001 (whatever it is, the job was not seen)
            return False
        return True

    def _check_fields(self, kind: ResourceKind, request: Mapping[str, Any]) -> None:
        """Refuse a request with a field that the installed botocore does not know, in words that say so."""
        model = self._create_client.meta.service_model
        if kind.create_operation not in model.operation_names:
            raise InvalidRequestError(
                f"The installed botocore {botocore.__version__} does not know {kind.create_operation}. A newer boto3 "
                "and botocore have it."
            )
        shape = model.operation_model(kind.create_operation).input_shape
        unknown = sorted(_unknown_fields(shape, request))
        if unknown:
            raise InvalidRequestError(
                f"{kind.create_operation}: the installed botocore {botocore.__version__} does not know "
                f"{', '.join(unknown)}. Check the spelling against the API reference; if it is right, a newer "
                "boto3 and botocore have it."
            )


def _parent_of(kind: ResourceKind, request: Mapping[str, Any]) -> str:
    """Return the ARN of what a request makes its resource from, which tells the account and region."""
    if kind.parent_field is None:
        raise ValueError(f"A {kind.words} is made from nothing, so no ARN follows from its request.")
    return str(request[kind.parent_field])


def _unknown_fields(shape: Any, value: Any, path: str = "") -> Iterator[str]:
    if shape.type_name == "structure" and isinstance(value, Mapping):
        for key, inner in value.items():
            where = f"{path}.{key}" if path else key
            if key not in shape.members:
                yield where
            else:
                yield from _unknown_fields(shape.members[key], inner, where)
