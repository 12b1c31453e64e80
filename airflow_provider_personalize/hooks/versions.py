"""The calls to Amazon Personalize for solution versions: which to use, one training for one request, tags, metrics."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, Literal

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
from airflow_provider_personalize.hooks.clients import TRIES, PersonalizeClients
from airflow_provider_personalize.service import names as naming
from airflow_provider_personalize.service.kinds import (
    CREATE_PENDING,
    SOLUTION_VERSION,
    ResourceStatus,
    State,
    entries_of,
    read_status,
)
from airflow_provider_personalize.service.statuses import CREATE_STOPPING, shown, text_at
from airflow_provider_personalize.service.waits import format_duration

#: What to do where a job's name is taken.
IfJobExists = Literal["reuse", "fail", "new"]

#: The tag that says which request a solution version was trained for: its id is random, and no listing has its name.
CLAIM_TAG = "airflow-personalize:request"
#: The most versions whose tags are read to find one, newest first.
MOST_LOOKED_AT = 100


class QuotaFullError(Exception):
    """
    The service takes no further job now. This is raised inside this package only, for whoever can wait for a slot.

    :param reason: The service's own words.
    """


class SolutionVersionCalls(PersonalizeClients):
    """
    What a hook does with solution versions.

    Parameters are those of :class:`~airflow.providers.amazon.aws.hooks.base_aws.AwsBaseHook`.
    """

    def describe_version(self, version_arn: str) -> dict[str, Any]:
        """
        Describe a solution version.

        :param version_arn: The solution version.
        :return: The description, without the key that wraps it.
        """
        response = self._asked("DescribeSolutionVersion", version_arn, solutionVersionArn=version_arn)
        read_status(SOLUTION_VERSION, response, arn=version_arn)
        return dict(response["solutionVersion"])

    def describe_solution(self, solution_arn: str) -> dict[str, Any]:
        """
        Describe a solution.

        :param solution_arn: The solution.
        :return: The description, without the key that wraps it.
        """
        return dict(self._asked("DescribeSolution", solution_arn, solutionArn=solution_arn).get("solution") or {})

    def version_lines(self, solution_arn: str) -> list[dict[str, Any]]:
        """
        Return the lines of ``ListSolutionVersions``, newest first.

        :param solution_arn: The solution.
        """
        naming.parse_arn(solution_arn, resource_type="solution", parameter="solution_arn")
        lines = self._patiently("ListSolutionVersions", partial(self._all_version_lines, solution_arn))
        return sorted(lines, key=lambda line: created_at(read_status(SOLUTION_VERSION, line)), reverse=True)

    def _all_version_lines(self, solution_arn: str) -> list[dict[str, Any]]:
        pages = self._pages("ListSolutionVersions", solutionArn=solution_arn, maxResults=100)
        return [line for page in pages for line in entries_of(SOLUTION_VERSION, page)]

    def versions_of(self, solution_arn: str) -> list[ResourceStatus]:
        """
        Return all versions of a solution, newest first.

        :param solution_arn: The solution.
        """
        return [read_status(SOLUTION_VERSION, line) for line in self.version_lines(solution_arn)]

    def tags_of(self, resource_arn: str) -> dict[str, str]:
        """
        Return the tags of a resource.

        :param resource_arn: The resource.
        """
        response = self._asked("ListTagsForResource", resource_arn, resourceArn=resource_arn)
        return {str(tag.get("tagKey")): str(tag.get("tagValue")) for tag in response.get("tags") or ()}

    def tag(self, resource_arn: str, tags: Mapping[str, str]) -> None:
        """
        Add tags to a resource; a key that it has already gets the new value.

        :param resource_arn: The resource.
        :param tags: The tags.
        """
        self._asked("TagResource", resource_arn, resourceArn=resource_arn, tags=_as_tags(tags))

    def metrics_of(self, version_arn: str) -> dict[str, float]:
        """
        Return the metrics of an ACTIVE solution version, by name.

        :param version_arn: The solution version.
        """
        response = self._asked("GetSolutionMetrics", version_arn, solutionVersionArn=version_arn)
        return {str(name): float(value) for name, value in (response.get("metrics") or {}).items()}

    def stop_version(self, version_arn: str) -> None:
        """
        Stop the training of a solution version.

        :param version_arn: The solution version.
        """
        self._asked("StopSolutionVersionCreation", version_arn, solutionVersionArn=version_arn)

    def _asked(self, operation: str, arn: str, **request: Any) -> dict[str, Any]:
        answer: dict[str, Any] = self._patiently(operation, partial(self._call, operation, arn=arn, **request))
        return answer

    # Which version to use

    def newest_active_version(self, solution_arn: str, require_tags: Mapping[str, str] | None = None) -> str:
        """
        Find the newest ACTIVE version of a solution; versions that failed or still train are passed over.

        :param solution_arn: The solution.
        :param require_tags: Tags that it must have. The newest 100 ACTIVE versions are looked at, up to the first
            match.
        :return: The solution version's ARN.
        :raises InvalidRequestError: if no version is ACTIVE, or none has the tags.
        :raises ServiceError: if there is no such solution.
        """
        versions = self.versions_of(solution_arn)
        active = [version for version in versions if version.arn and version.state is State.SUCCEEDED]
        is_training = any(version.state is State.RUNNING for version in versions)
        if not active:
            statuses = ", ".join(f"{v.name}: {v.status}" for v in versions) or "none at all"
            raise InvalidRequestError(
                f"Expected an ACTIVE version of the solution, got {statuses}. Train it first, or give a "
                f"solution_version_arn. {solution_arn}",
                may_pass=is_training,
            )
        newest = active[0]
        if require_tags:
            found = self.first_with_tags(active, require_tags)
            if found is None:
                raise InvalidRequestError(
                    f"require_tags: expected an ACTIVE version of the solution with the tags {dict(require_tags)}, "
                    f"got none among the newest {min(len(active), MOST_LOOKED_AT)}. Check a version with "
                    f"PersonalizeSolutionVersionCheckOperator and these pass_tags, or tag one by hand. {solution_arn}",
                    may_pass=is_training,
                )
            if found is not newest:
                self.log.warning(
                    "%s newer ACTIVE version(s), the newest %s old, have not the tags %s: the last good one is used. "
                    "%s",
                    active.index(found),
                    _age(newest),
                    dict(require_tags),
                    newest.arn,
                )
            newest = found
        kept = f" with the tags {dict(require_tags)}" if require_tags else ""
        age = f", {_age(newest)} old" if newest.created_at else ""
        self.log.info("Using the newest ACTIVE one%s of %s version(s)%s: %s", kept, len(versions), age, newest.arn)
        return newest.arn

    def first_with_tags(self, versions: Sequence[ResourceStatus], tags: Mapping[str, str]) -> ResourceStatus | None:
        """
        Return the first of some versions that has all of the tags, or None; at most 100 are looked at.

        :param versions: The versions, newest first.
        :param tags: The tags.
        """
        looked_at = versions[:MOST_LOOKED_AT]
        return next((one for one in looked_at if tags.items() <= self.tags_of(one.arn).items()), None)

    # One training for one request

    def create_version(
        self, request: Mapping[str, Any], *, if_job_exists: IfJobExists = "reuse", since: datetime | None = None
    ) -> ResourceStatus:
        """
        Train a solution version, or find the one that an earlier try of the same task trains or has trained.

        The version carries the request's ``name`` in :data:`CLAIM_TAG`, by which it is found; a version that has failed
        or was stopped gives way to a new attempt, under the next suffix.

        :param request: The whole request; its ``name`` is the claim.
        :param if_job_exists: ``reuse``, ``fail`` or ``new``.
        :param since: When the run began: no older version is looked at.
        :return: The version, just created or found.
        :raises QuotaFullError: if too many versions are in training.
        :raises JobConflictError: if a version was found, and ``fail`` was asked for.
        :raises ServiceError: if the service refuses the request.
        """
        solution_arn, claim = str(request["solutionArn"]), str(request["name"])
        earlier = list(self._claimed(solution_arn, claim, since))
        alive = [version for version in earlier if _is_alive(version)]
        if alive and if_job_exists != "new":
            return self._found(alive[0], claim, if_job_exists)
        for version in earlier:
            if not _is_alive(version):
                self.log.info(
                    "%s: the solution version %s ended in %s. It gives way to a new attempt.",
                    version.failure_reason or "No reason was given",
                    version.name,
                    version.status,
                )
        known = {version.arn for version in earlier}
        tags = {**{tag["tagKey"]: tag["tagValue"] for tag in request.get("tags") or ()}, CLAIM_TAG: claim}
        attempt = len(earlier) + 1
        tried = 0
        while True:
            name = naming.suffixed_job_name(claim, attempt)
            answer = self._try_train({**request, "name": name, "tags": _as_tags(tags)})
            if isinstance(answer, str):
                self.log.info("Created the solution version %s: %s", name, answer)
                return read_status(
                    SOLUTION_VERSION, {"name": name, "solutionVersionArn": answer, "status": CREATE_PENDING}
                )
            # The name is taken, or an answer was lost: the version may be there, and a listing may show it late.
            new = [one for one in self._claimed(solution_arn, claim, since, name) if one.arn not in known]
            if alive := [one for one in new if _is_alive(one)]:
                return self._found(alive[0], claim, "reuse" if answer is not None else if_job_exists)
            if new and answer is None:
                known.update(one.arn for one in new)
                attempt += 1
                continue
            tried += 1
            if tried == TRIES:
                raise answer or UnexpectedAnswerError(
                    operation="CreateSolutionVersion",
                    reason=f"The name {name!r} is taken, but ListSolutionVersions shows no version that has it. A "
                    "later try finds it",
                    arn=solution_arn,
                )
            self._pause("CreateSolutionVersion", answer or RuntimeError(f"The name {name!r} is taken"), tried)

    def _found(self, version: ResourceStatus, claim: str, if_job_exists: IfJobExists) -> ResourceStatus:
        if if_job_exists == "fail":
            raise JobConflictError(job_name=claim, job_arn=version.arn)
        self.log.info("Found the solution version %s, %s: using it. %s", version.name, version.status, version.arn)
        return version

    def _claimed(
        self, solution_arn: str, claim: str, since: datetime | None, name: str | None = None
    ) -> Iterator[ResourceStatus]:
        """Yield the versions that were made for a claim, newest first; those too that have a name, if one is given."""
        candidates = [one for one in self.versions_of(solution_arn) if since is None or created_at(one) >= since]
        for version in candidates[:MOST_LOOKED_AT]:
            if self.tags_of(version.arn).get(CLAIM_TAG) == claim or (
                name is not None and self.describe_version(version.arn).get("name") == name
            ):
                yield version

    def _try_train(self, request: Mapping[str, Any]) -> str | Exception | None:
        """
        Send one create request.

        :return: The new version's ARN; or None if the name is taken; or the error that leaves open whether there is a
            version.
        """
        operation = SOLUTION_VERSION.create_operation
        client = self._patiently(operation, lambda: self._create_client)
        try:
            response = getattr(client, xform_name(operation))(**request)
        except AWS_ERRORS as error:
            code = error_code(error)
            if code == "ResourceAlreadyExistsException":
                return None
            if code == "LimitExceededException":
                raise QuotaFullError(describe_error(error)) from None
            if is_throttling(error) or is_transient(error):
                return error  # type: ignore[no-any-return]
            raise as_personalize_error(
                error, operation=operation, region=self.region_name, arn=request["solutionArn"]
            ) from None
        except Exception as error:  # noqa: BLE001 (botocore raises anything over an answer that it cannot read)
            return _unexpected(request, describe_error(error))
        arn: str | None = text_at(response, SOLUTION_VERSION.arn_field)
        if arn and arn.startswith(f"{request['solutionArn']}/"):
            return arn
        return _unexpected(request, shown({k: value for k, value in response.items() if k != "ResponseMetadata"}))


def _unexpected(request: Mapping[str, Any], came: str) -> UnexpectedAnswerError:
    return UnexpectedAnswerError(
        operation="CreateSolutionVersion",
        reason=f"Expected the ARN of the solution version {request['name']!r}, got {came}",
        arn=request["solutionArn"],
    )


def created_at(version: ResourceStatus) -> datetime:
    """Return when a version was created; the earliest moment where the service does not say."""
    return version.created_at or datetime.min.replace(tzinfo=UTC)


def _is_alive(version: ResourceStatus) -> bool:
    """Return whether a version trains or has trained; one that is being stopped comes to nothing."""
    return version.state is not State.FAILED and version.status != CREATE_STOPPING


def _age(version: ResourceStatus) -> str:
    return format_duration(time.time() - created_at(version).timestamp())


def _as_tags(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"tagKey": key, "tagValue": value} for key, value in tags.items()]
