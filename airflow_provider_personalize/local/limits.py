"""The quotas: jobs that are under way, and resources of each kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_provider_personalize.local.errors import ApiError
from airflow_provider_personalize.local.resources import Region
from airflow_provider_personalize.service.kinds import (
    CAMPAIGN,
    DATASET_GROUP,
    EVENT_TRACKER,
    FILTER,
    METRIC_ATTRIBUTION,
    RECOMMENDER,
    SCHEMA,
    SOLUTION,
    ResourceKind,
)

#: The most resources of a kind: in a region, or in a dataset group. What stands ready does not count.
_IN_REGION: Mapping[ResourceKind, int] = {DATASET_GROUP: 5, SCHEMA: 500}
_IN_GROUP: Mapping[ResourceKind, int] = {
    SOLUTION: 10,
    CAMPAIGN: 5,
    RECOMMENDER: 5,
    FILTER: 10,
    EVENT_TRACKER: 1,
    METRIC_ATTRIBUTION: 1,
}


def check_limits(kind: ResourceKind, region: Region, fields: Mapping[str, Any], running: int, quota: int) -> None:
    """
    Make sure that there may be one more.

    :param kind: The kind.
    :param region: The region.
    :param fields: The fields of the new one.
    :param running: How many of the kind are under way.
    :param quota: How many jobs of a kind may be.
    :raises ApiError: ``LimitExceededException`` if there may not.
    """
    most = quota if kind.is_job else kind.quota
    if kind.quota and most and running >= most:
        # These are recorded words.
        raise ApiError("LimitExceededException", f"More than {most} resources with PENDING or IN_PROGRESS status.")
    made = [one for one in region.of(kind) if not one.ready]
    if kind in _IN_REGION and len(made) >= _IN_REGION[kind]:
        raise ApiError("LimitExceededException", f"Expected at most {_IN_REGION[kind]} {kind.words}s in a region.")
    group = fields.get("datasetGroupArn")
    if kind in _IN_GROUP and sum(one.fields.get("datasetGroupArn") == group for one in made) >= _IN_GROUP[kind]:
        raise ApiError("LimitExceededException", f"Expected at most {_IN_GROUP[kind]} {kind.words}s in {group}.")
