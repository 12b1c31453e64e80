"""Updates and deletions: the checks before them, and what they change."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from airflow_provider_personalize.local.drafts import Call, find_active
from airflow_provider_personalize.local.errors import ApiError
from airflow_provider_personalize.local.model_drafts import check_metrics, find_learned
from airflow_provider_personalize.local.resources import Region, Resource
from airflow_provider_personalize.local.validation import invalid, or_invalid
from airflow_provider_personalize.service.deletion import IN_THE_WAY, UNFINISHED
from airflow_provider_personalize.service.kinds import (
    CAMPAIGN,
    DATASET,
    METRIC_ATTRIBUTION,
    SCHEMA,
    ResourceKind,
)
from airflow_provider_personalize.service.schemas import DatasetSchema, read_schema
from airflow_provider_personalize.service.statuses import ACTIVE, INACTIVE

#: The statuses in which a resource can be deleted.
_DELETABLE = (ACTIVE, INACTIVE, "CREATE FAILED", "CREATE STOPPED")


def in_use(message: str) -> ApiError:
    """Return the error for what cannot be done now."""
    return ApiError("ResourceInUseException", message)


def check_deletable(region: Region, resource: Resource, now: float) -> None:
    """
    Make sure that nothing is in the way of a deletion.

    :raises ApiError: ``ResourceInUseException`` that names what is.
    """
    kind = resource.kind
    if kind.has_status and (status := resource.status(now)) not in _DELETABLE:
        raise in_use(f"The {kind.words} {resource.arn} is {status}.")
    holders = region.made_from(resource.arn, *IN_THE_WAY.get(kind, ()))
    holders += [
        one
        for one in region.made_from(resource.arn, *UNFINISHED.get(kind, ()))
        if one.change and one.change.ended is None
    ]
    if holders:
        named = ", ".join(one.arn for one in holders[:5])
        raise in_use(f"The {kind.words} {resource.arn} is in use by {len(holders)} other resources: {named}.")


def remove(region: Region, resource: Resource) -> None:
    """Remove a resource whose deletion has come to its end."""
    region.remove(resource)
    if resource.kind is DATASET:
        group = region.resources.get(resource.fields["datasetGroupArn"])
        if group:
            group.content.datasets.pop(resource.fields["datasetType"], None)


def new_fields(call: Call, resource: Resource) -> dict[str, Any]:
    """
    Return the fields that an update request changes.

    :raises ApiError: if the request cannot be right.
    """
    if resource.kind in _UPDATES:
        return _UPDATES[resource.kind](call, resource)
    changed = {key: value for key, value in call.request.items() if key != resource.kind.arn_field}
    if not changed:
        raise invalid("There is nothing to update.")
    return changed


def _campaign(call: Call, campaign: Resource) -> dict[str, Any]:
    changed = {key: value for key, value in call.request.items() if key != "campaignArn"}
    if "solutionVersionArn" in changed:
        learned = find_learned(call, changed["solutionVersionArn"])
        old = call.region.resources.get(campaign.fields["solutionVersionArn"])
        if old and old.content and old.content.recipe.type != learned.recipe.type:
            raise invalid(f"The campaign is of the type {old.content.recipe.type}, not {learned.recipe.type}.")
    return changed


def _dataset(call: Call, dataset: Resource) -> dict[str, Any]:
    arn = call.request["schemaArn"]
    old, new = dataset.content.schema, schema_of(call.region, arn, dataset.fields["datasetType"])
    kept = {field.name: field for field in new.fields}
    for field in old.fields:
        if kept.pop(field.name, None) != field:
            raise invalid(f"The new schema has to keep the field {field.name} as it is.")
    for field in kept.values():
        if not field.nullable:
            raise invalid(f"The new field {field.name} has to take null.")
    return {"schemaArn": arn}


def schema_of(region: Region, arn: str, dataset_type: str) -> DatasetSchema:
    """Return a schema for a dataset of a type."""
    text = region.find(SCHEMA, arn).fields["schema"]
    schema: DatasetSchema = or_invalid(partial(read_schema, dataset_type=dataset_type), text)
    return schema


def _metric_attribution(call: Call, attribution: Resource) -> dict[str, Any]:
    removed = call.request.get("removeMetrics", ())
    metrics = [one for one in attribution.fields["metrics"] if one["metricName"] not in removed]
    metrics += call.request.get("addMetrics", [])
    check_metrics(metrics)
    return {key: value for key, value in call.request.items() if key == "metricsOutputConfig"} | {"metrics": metrics}


_UPDATES: dict[ResourceKind, Callable[[Call, Resource], dict[str, Any]]] = {
    CAMPAIGN: _campaign,
    DATASET: _dataset,
    METRIC_ATTRIBUTION: _metric_attribution,
}


def apply_update(region: Region, resource: Resource, changed: dict[str, Any], now: float) -> None:
    """Change a resource, once its update has come to its end."""
    fields = dict(changed)
    if config := fields.pop("solutionUpdateConfig", None):
        fields["solutionConfig"] = resource.fields.get("solutionConfig", {}) | config
    if resource.kind is DATASET:
        resource.content.schema = schema_of(region, fields["schemaArn"], resource.fields["datasetType"])
    resource.fields |= fields
    resource.updated = now


def check_updatable(region: Region, kind: ResourceKind, arn: str, now: float) -> Resource:
    """
    Return a resource that is ACTIVE, and whose last update has ended.

    :raises ApiError: if it is not.
    """
    resource = find_active(region, kind, arn, now)
    if resource.update and resource.update.ended is None:
        raise in_use(f"The {kind.words} {arn} is being updated.")
    return resource
