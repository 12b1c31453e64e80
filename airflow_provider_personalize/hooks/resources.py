"""The calls for resources that are made once and kept: found, made, updated, deleted, started and stopped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from botocore import xform_name

from airflow_provider_personalize.aws_errors import answers_to
from airflow_provider_personalize.exceptions import InvalidRequestError, ServiceError, UnexpectedAnswerError
from airflow_provider_personalize.hooks.personalize import PersonalizeHook
from airflow_provider_personalize.service.deletion import IN_THE_WAY, UNFINISHED
from airflow_provider_personalize.service.kinds import (
    DATASET,
    METRIC_ATTRIBUTION,
    SCHEMA,
    ResourceKind,
    ResourceStatus,
    State,
    entries_of,
    read_status,
    solution_arn_of,
)
from airflow_provider_personalize.service.names import job_arn, kind_of
from airflow_provider_personalize.service.statuses import text_at
from airflow_provider_personalize.service.waits import NOT_FOUND


class PersonalizeResourceHook(PersonalizeHook):
    """
    Interact with the resources of Amazon Personalize that are made once and kept.

    Parameters are those of :class:`~airflow_provider_personalize.hooks.personalize.PersonalizeHook`.
    """

    def describe_resource(self, resource_arn: str) -> dict[str, Any]:
        """
        Describe a resource, with the metrics of a metric attribution.

        :param resource_arn: The resource; its kind is told from the ARN.
        :raises ServiceError: if there is no such resource, or the caller may not look at it.
        """
        kind = kind_of(resource_arn)
        answer = self._send(kind.describe_operation, {kind.arn_field: resource_arn}, arn=resource_arn)
        read_status(kind, answer, arn=resource_arn)
        description = dict(answer[kind.response_key])
        if kind is METRIC_ATTRIBUTION:
            pages = self._pages("ListMetricAttributionMetrics", metricAttributionArn=resource_arn)
            description["metrics"] = [metric for page in pages for metric in page.get("metrics", [])]
        return description

    def find_resource(self, kind: ResourceKind, request: Mapping[str, Any]) -> dict[str, Any] | None:
        """
        Describe the resource that stands where a create request would make one; None if none does.

        :param kind: The resource's kind.
        :param request: The create request.
        """
        if kind.named_arn and kind.parent_field:
            arn: str | None = job_arn(kind, request["name"], beside=request[kind.parent_field])
        else:
            arn = self._listed_arn(kind, request)
        try:
            return self.describe_resource(arn) if arn else None
        except ServiceError as error:
            if error.code == NOT_FOUND:
                return None
            raise

    def _listed_arn(self, kind: ResourceKind, request: Mapping[str, Any]) -> str | None:
        """Find what has no ARN that follows from the request: a dataset by its type, all else by its name."""
        key = "datasetType" if kind is DATASET else "name"
        wanted = str(request[key])
        narrowed = {kind.list_filter: request[kind.list_filter]} if kind.list_filter else {}
        for page in self._pages(kind.list_operation, **narrowed, maxResults=100):
            for entry in entries_of(kind, page):
                if entry.get(key) == wanted:
                    return text_at(entry, kind.arn_field)
        return None

    def create_resource(self, kind: ResourceKind, request: Mapping[str, Any]) -> str | None:
        """
        Create a resource.

        :param kind: The resource's kind.
        :param request: The create request.
        :return: Its ARN; None if it has come to be there meanwhile, as where an answer was lost.
        :raises ServiceError: if the service refuses the request.
        """
        self._check_fields(kind, request)
        try:
            answer = self._send(kind.create_operation, request, role_arn=request.get("roleArn"))
        except ServiceError as error:
            if error.code == "ResourceAlreadyExistsException":
                return None
            raise
        arn = text_at(answer, kind.arn_field)
        if arn is None:
            raise UnexpectedAnswerError(operation=kind.create_operation, reason=f"Expected the {kind.words}'s ARN")
        self.log.info("Created the %s %s: %s", kind.words, request["name"], arn)
        return arn

    def update_resource(self, resource_arn: str, request: Mapping[str, Any]) -> None:
        """
        Update a resource.

        :param resource_arn: The resource.
        :param request: The update request, its ARN included.
        """
        kind = kind_of(resource_arn)
        self._send(f"Update{kind.noun}", request, arn=resource_arn)
        self.log.info(
            "Updating the %s, its %s. %s",
            kind.words,
            ", ".join(sorted(request.keys() - {kind.arn_field})),
            resource_arn,
        )

    def change_recommender(self, operation: str, recommender_arn: str) -> None:
        """
        Start or stop a recommender.

        :param operation: ``StartRecommender`` or ``StopRecommender``.
        :param recommender_arn: The recommender.
        """
        self._send(operation, {"recommenderArn": recommender_arn}, arn=recommender_arn)

    def delete_resource(self, resource_arn: str) -> None:
        """
        Ask for the deletion of a resource.

        :param resource_arn: The resource.
        :raises InvalidRequestError: if other resources are in the way, which it names.
        :raises ServiceError: if the service refuses for another reason.
        """
        kind = kind_of(resource_arn)
        try:
            self._send(f"Delete{kind.noun}", {kind.arn_field: resource_arn}, arn=resource_arn)
        except ServiceError as error:
            if error.code != "ResourceInUseException" or not (found := self.in_the_way(resource_arn)):
                raise
            listed = "".join(f"\n  the {one.kind.words} {one.name}, {one.status}: {one.arn}" for one in found)
            going = all(one.status.startswith("DELETE") or one.kind in UNFINISHED.get(kind, ()) for one in found)
            raise InvalidRequestError(
                f"The {kind.words} cannot be deleted before what uses it is gone, or has ended:{listed}\nDelete these "
                f"first, and wait until they are gone. {resource_arn}",
                may_pass=going,
            ) from None

    def in_the_way(self, resource_arn: str) -> list[ResourceStatus]:
        """
        Return what has to be gone, or to have ended, before a resource can be deleted.

        :param resource_arn: The resource.
        """
        kind = kind_of(resource_arn)
        found = []
        for child in IN_THE_WAY.get(kind, ()):
            narrowed = {kind.arn_field: resource_arn} if kind is not SCHEMA else {}
            found += self._all_of(child, narrowed)
        if kind is SCHEMA:
            # A listing does not tell a dataset's schema.
            found = [one for one in found if self.describe_resource(one.arn).get("schemaArn") == resource_arn]
        for child in UNFINISHED.get(kind, ()):
            found += [one for one in self._all_of(child, {kind.arn_field: resource_arn}) if one.state is State.RUNNING]
        return found

    def _all_of(self, kind: ResourceKind, narrowed: Mapping[str, str]) -> list[ResourceStatus]:
        pages = self._pages(kind.list_operation, **narrowed, maxResults=100)
        return [read_status(kind, entry) for page in pages for entry in entries_of(kind, page)]

    def check_version_is_active(self, solution_version_arn: str) -> None:
        """
        Make sure that a solution version is ACTIVE, as a campaign needs it.

        :param solution_version_arn: The version; ``…/$LATEST`` is left to the service.
        :raises InvalidRequestError: if it is not.
        """
        if solution_version_arn.endswith("/$LATEST"):
            return
        seen = self.get_status(solution_version_arn)
        if seen.state is not State.SUCCEEDED:
            reason = f" ({seen.failure_reason})" if seen.failure_reason else ""
            raise InvalidRequestError(
                f"solution_version_arn: expected a version that is ACTIVE, got one that is {seen.status}{reason}. "
                f"Train another version of {solution_arn_of(solution_version_arn)}, or wait for this one. "
                f"{solution_version_arn}",
                may_pass=seen.state is State.RUNNING,
            )

    def _send(
        self, operation: str, request: Mapping[str, Any], *, arn: str | None = None, role_arn: str | None = None
    ) -> dict[str, Any]:
        """Call the service, and again for about a minute and a half while the answer is throttling, 5xx or none."""
        self._patiently("Making the AWS client", lambda: self._create_client)
        with answers_to(operation, region=self.region_name, arn=arn, role_arn=role_arn):
            answer: dict[str, Any] = self._patiently(
                operation, lambda: getattr(self._create_client, xform_name(operation))(**request)
            )
        return answer
