"""What a region holds: resources of every kind, and their tags."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_personalize.local.errors import ApiError
from airflow_provider_personalize.local.jobs import Job
from airflow_provider_personalize.local.model import service_model
from airflow_provider_personalize.service.kinds import (
    DATASET_GROUP,
    FILTER,
    METRIC_ATTRIBUTION,
    SOLUTION,
    SOLUTION_VERSION,
    ResourceKind,
)
from airflow_provider_personalize.service.names import Arn
from airflow_provider_personalize.service.statuses import ACTIVE

ACCOUNT = "123456789012"


@dataclass
class Resource:
    """
    One resource.

    :param number: Counts the resources of its region, from 0.
    :param kind: Its kind.
    :param arn: Its ARN.
    :param fields: What it was made from, as the API describes it.
    :param created: When it was created, by the stand-in's clock.
    :param content: What only the stand-in knows of it: the rows of a dataset, what a solution version has learned.
    :param ready: Whether it stood ready when the stand-in started.
    :param change: Its latest creation, stop, start or deletion, where that took or takes time.
    :param update: Its latest update.
    :param settled: Its status, where no change tells.
    """

    number: int
    kind: ResourceKind
    arn: str
    fields: dict[str, Any]
    created: float
    content: Any = None
    ready: bool = False
    change: Job | None = None
    update: Job | None = None
    settled: str = ACTIVE
    updated: float | None = None
    failure_reason: str | None = None

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.fields.get(self.kind.name_field) or self.arn.rpartition("/")[2])

    def status(self, now: float) -> str:
        """Return its status at a time of the clock."""
        return self.change.status(now) if self.change else self.settled

    def describe(self, now: float) -> dict[str, Any]:
        """Describe it as the API does."""
        described = self.fields | {self.kind.arn_field: self.arn, "creationDateTime": self.created}
        told = self.change.describe(now) if self.change else {"status": self.settled}
        described["status"] = told["status"]
        if reason := told.get("failureReason", self.failure_reason):
            described["failureReason"] = reason
        described["lastUpdatedDateTime"] = max(
            self.change.changed_at(now) if self.change else self.created, self.updated or self.created
        )
        if self.update and self.kind.update_key:
            described[self.kind.update_key] = {
                key: value for key, value in self.update.describe(now).items() if key != self.kind.arn_field
            }
        return described


@dataclass
class Region:
    """
    What one region holds.

    :param name: The region, as ``us-east-1``.
    :param partition: Its partition, as ``aws``.
    """

    name: str
    partition: str
    resources: dict[str, Resource] = field(default_factory=dict)
    tags: dict[str, list[dict[str, str]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._numbers = itertools.count()

    def arn(self, resource_type: str, name: str) -> str:
        """Return the ARN of a resource of this region."""
        return str(Arn(self.partition, self.name, ACCOUNT, resource_type, name))

    def add(self, kind: ResourceKind, arn: str, fields: dict[str, Any], created: float, **values: Any) -> Resource:
        """Add a resource; the values are the other fields of :class:`Resource`."""
        resource = Resource(next(self._numbers), kind, arn, fields, created, **values)
        self.resources[arn] = resource
        return resource

    def remove(self, resource: Resource) -> None:
        """Forget a resource, with a solution its versions, and with a group what does not stand in its way."""
        gone = [resource]
        if resource.kind is SOLUTION:
            gone += self.made_from(resource.arn, SOLUTION_VERSION)
        if resource.kind is DATASET_GROUP:
            gone += self.made_from(resource.arn, FILTER, METRIC_ATTRIBUTION)
        for one in gone:
            self.resources.pop(one.arn, None)
            self.tags.pop(one.arn, None)

    def find(self, kind: ResourceKind, arn: str) -> Resource:
        """
        Return a resource.

        :raises ApiError: ``ResourceNotFoundException`` if there is none.
        """
        resource = self.resources.get(arn)
        if resource is None or resource.kind is not kind:
            raise ApiError("ResourceNotFoundException", f"Resource Arn {arn} does not exist.")
        return resource

    def of(self, kind: ResourceKind) -> Iterator[Resource]:
        """Yield the resources of a kind, in the order in which they were created."""
        return (resource for resource in list(self.resources.values()) if resource.kind is kind)

    def made_from(self, arn: str, *kinds: ResourceKind) -> list[Resource]:
        """Return the resources of some kinds that name a resource in one of their fields."""
        return [one for kind in kinds for one in self.of(kind) if arn in one.fields.values()]


def described(kind: ResourceKind, resource: Resource, now: float) -> dict[str, Any]:
    """Return what ``Describe…`` tells of a resource: what the service's model has, and nothing else."""
    shape = service_model().operation_model(kind.describe_operation).output_shape.members[kind.response_key]
    return _only(shape, resource.describe(now))


def summary(kind: ResourceKind, resource: Resource, now: float) -> dict[str, Any]:
    """Return what ``List…`` tells of a resource."""
    shape = service_model().operation_model(kind.list_operation).output_shape.members[kind.list_key]
    return _only(shape.member, resource.describe(now))


def _only(shape: Any, values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key in shape.members}
