"""Drafts of resources: what a create request becomes once it has been checked."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from threading import RLock
from typing import Any, Protocol

from airflow_provider_personalize.local.catalog import Recipe
from airflow_provider_personalize.local.errors import ApiError
from airflow_provider_personalize.local.jobs import CREATION, Words
from airflow_provider_personalize.local.recommend import Recommender
from airflow_provider_personalize.local.resources import Region, Resource
from airflow_provider_personalize.local.training import metrics
from airflow_provider_personalize.service.kinds import (
    DATASET,
    DATASET_GROUP,
    EVENT_TRACKER,
    SOLUTION,
    SOLUTION_VERSION,
    ResourceKind,
)
from airflow_provider_personalize.service.statuses import ACTIVE

Request = dict[str, Any]
#: The shares of a job's time that the creation of a resource takes.
AT_ONCE, SHORTLY, AS_LONG_AS_A_JOB = 0.0, 0.1, 1.0


@dataclass
class Draft:
    """
    What a create request is to become, once all of it has been checked.

    :param fields: The resource's fields, as the API describes it.
    :param content: What only the stand-in knows of it.
    :param share: The share of a job's time that the creation takes.
    :param work: What is done when that time has come.
    :param answer: What the answer has beside the ARN.
    :param job: Further fields of the :class:`~airflow_provider_personalize.local.jobs.Job`.
    :param words: The statuses that the creation goes through.
    """

    fields: dict[str, Any]
    content: Any = None
    share: float = SHORTLY
    work: Callable[[Resource], None] | None = None
    answer: dict[str, Any] = field(default_factory=dict)
    job: dict[str, Any] = field(default_factory=dict)
    words: Words = CREATION


class Service(Protocol):
    """What drafts need of :class:`~airflow_provider_personalize.local.api.Api`."""

    #: Held while the resources of a region are read and changed.
    lock: RLock
    #: Whether a second solution version of a name is refused.
    refuse_version_names: bool

    @property
    def now(self) -> float:
        """The time by the stand-in's clock."""

    def s3(self, region: str) -> Any:
        """Return an S3 client of a region."""


@dataclass(frozen=True)
class Call:
    """
    A request to the API.

    :param api: Who answers it.
    :param region: The region that it was signed for.
    :param request: What it asks for.
    """

    api: Service
    region: Region
    request: Request

    @property
    def now(self) -> float:
        """The time by the stand-in's clock."""
        return self.api.now


#: Makes the draft of one kind; raises :class:`ApiError` where the request cannot be right.
Drafter = Callable[[Call], Draft]


@dataclass
class Learned:
    """
    What a solution version, or a recommender, has learned.

    :param recipe: Its recipe.
    :param recommender: What it knows.
    :param version: Of which state of the datasets.
    """

    recipe: Recipe
    recommender: Recommender
    version: tuple[Any, ...] = ()

    @cached_property
    def metrics(self) -> dict[str, float]:
        """How good it is on data that it was not trained on."""
        return metrics(self.recommender, self.recipe)


def without_tags(request: Request) -> dict[str, Any]:
    """Return a request's fields, less the tags, which no description has."""
    return {key: value for key, value in request.items() if key != "tags"}


def new_arn(kind: ResourceKind, region: Region, request: Request) -> str:
    """Return the ARN that a new resource is to have."""
    if kind is DATASET:
        group = region.find(DATASET_GROUP, request["datasetGroupArn"])
        return region.arn("dataset", f"{group.name}/{request['datasetType'].upper()}")
    if kind is SOLUTION_VERSION:
        solution = region.find(SOLUTION, request["solutionArn"])
        return region.arn("solution", f"{solution.name}/{secrets.token_hex(4)}")
    if kind is EVENT_TRACKER:
        return region.arn("event-tracker", secrets.token_hex(4))
    return region.arn(kind.arn_type, request[kind.name_field])


def find_active(region: Region, kind: ResourceKind, arn: str, now: float) -> Resource:
    """
    Return a resource that has to be ACTIVE.

    :raises ApiError: if it does not exist, or is not ACTIVE.
    """
    resource = region.find(kind, arn)
    if (status := resource.status(now)) != ACTIVE:
        raise ApiError("ResourceInUseException", f"The {kind.words} {arn} is {status}, not {ACTIVE}.")
    return resource
