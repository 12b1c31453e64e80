"""
What a resource is made from: how it is compared with what is asked for, and which of it can be changed afterwards.

This module is pure: it imports neither Airflow nor boto3.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from airflow_provider_personalize.exceptions import InvalidRequestError
from airflow_provider_personalize.service.kinds import (
    CAMPAIGN,
    DATASET,
    METRIC_ATTRIBUTION,
    RECOMMENDER,
    SCHEMA,
    SOLUTION,
    ResourceKind,
    State,
    state_of,
)
from airflow_provider_personalize.service.schemas import read_schema

#: What an update can change, by kind; with a dot, a field of a field.
UPDATABLE: Mapping[ResourceKind, tuple[str, ...]] = {
    CAMPAIGN: ("solutionVersionArn", "minProvisionedTPS", "campaignConfig"),
    DATASET: ("schemaArn",),
    METRIC_ATTRIBUTION: ("metrics", "metricsOutputConfig"),
    RECOMMENDER: ("recommenderConfig",),
    SOLUTION: (
        "performAutoTraining",
        "performIncrementalUpdate",
        "solutionConfig.autoTrainingConfig",
        "solutionConfig.eventsConfig",
    ),
}
#: What makes a resource another one even where it was not asked for.
_TELLING = ("domain", "eventType", "kmsKeyArn")
#: Words that the API writes in capitals.
_CAPITALS = {"hpo": "HPO", "ml": "ML", "tps": "TPS"}
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9\-_]{0,62}")
_DOMAIN_RECIPE = re.compile(r"aws-(ecomm|vod)-")


def check_name(value: str, *, parameter: str = "name") -> None:
    """
    Make sure that the service would take a name.

    :raises InvalidRequestError: if not.
    """
    if not _NAME.fullmatch(value):
        raise InvalidRequestError(
            f"{parameter}: expected 1 to 63 letters, digits, '-' and '_', starting with a letter or digit, "
            f"got {value!r}."
        )


def is_domain_recipe(recipe_arn: str) -> bool:
    """Return whether a recipe is a domain's, so that recommenders are made from it, and no solutions."""
    return bool(_DOMAIN_RECIPE.match(recipe_arn.rpartition("/")[2]))


def api_field(argument: str) -> str:
    """Return the API's name of an argument: ``minProvisionedTPS`` for ``min_provisioned_tps``."""
    first, *words = argument.split("_")
    return first + "".join(_CAPITALS.get(word, word.capitalize()) for word in words)


def without_tags(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return a request without its tags, which no description has."""
    return {key: value for key, value in request.items() if key != "tags"}


def as_it_becomes(kind: ResourceKind, description: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    """
    Return a description with the changes of an update that has not ended yet; and whether there is such an update.

    :param kind: The resource's kind.
    :param description: What the service says of it.
    """
    update = description.get(kind.update_key or "")
    if not isinstance(update, Mapping) or state_of(str(update.get("status"))) is not State.RUNNING:
        return dict(description), False
    changed = {field.partition(".")[0] for field in UPDATABLE[kind]} & update.keys()
    becomes = {**description, **{field: update[field] for field in changed}}
    if config := update.get("solutionUpdateConfig"):
        becomes["solutionConfig"] = {**becomes.get("solutionConfig", {}), **config}
    return becomes, True


def resource_differences(
    kind: ResourceKind, request: Mapping[str, Any], description: Mapping[str, Any]
) -> dict[str, tuple[Any, Any]]:
    """
    Compare a resource that is there with the request that would have made it. What the request leaves to the service
    is no difference.

    :param kind: The resource's kind.
    :param request: The create request.
    :param description: What the service says of the resource.
    :return: ``{field: (that resource's value, the request's value)}``, nested fields with dots; empty where they are
        alike.
    """
    asked = without_tags(request)
    theirs = {field: description.get(field) for field in asked}
    for field in _TELLING:
        if field not in asked and description.get(field):
            asked[field], theirs[field] = None, description[field]
    ours_flat, theirs_flat = _comparable(kind, asked), _comparable(kind, theirs)
    # A schema and a list of metrics are what they are, to the last field.
    whole = ("schema", "metrics")
    fields = ours_flat.keys() | {field for field in theirs_flat if field.partition(".")[0] in whole}
    pairs = {field: (theirs_flat.get(field), ours_flat.get(field)) for field in sorted(fields)}
    return {field: pair for field, pair in pairs.items() if not _alike(*pair)}


def update_request(
    kind: ResourceKind,
    arn: str,
    request: Mapping[str, Any],
    description: Mapping[str, Any],
    differing: Mapping[str, Any],
) -> dict[str, Any]:
    """
    Return the request that brings a resource in line with what is asked for.

    :param kind: The resource's kind.
    :param arn: The resource.
    :param request: The create request.
    :param description: What the service says of the resource.
    :param differing: What differs, as :func:`resource_differences` has it.
    """
    update: dict[str, Any] = {kind.arn_field: arn}
    for field in (field for field in UPDATABLE[kind] if any(_within(one, field) for one in differing)):
        outer, _, inner = field.partition(".")
        if inner:
            update.setdefault("solutionUpdateConfig", {})[inner] = request[outer][inner]
        elif field == "metrics":
            update.update(_changed_metrics(request, description))
        else:
            update[field] = request[field]
    return update


def unchangeable(kind: ResourceKind, differing: Mapping[str, Any]) -> list[str]:
    """Return which of the differences no update can mend."""
    fields = UPDATABLE.get(kind, ())
    return [one for one in differing if not any(_within(one, field) for field in fields)]


def _within(one: str, field: str) -> bool:
    return one == field or one.startswith(f"{field}.")


def _changed_metrics(request: Mapping[str, Any], description: Mapping[str, Any]) -> dict[str, Any]:
    ours, theirs = _by_name(request["metrics"]), _by_name(description.get("metrics") or [])
    changes = {
        "addMetrics": [one for name, one in ours.items() if theirs.get(name) != one],
        "removeMetrics": [name for name, one in theirs.items() if ours.get(name) != one],
    }
    return {key: value for key, value in changes.items() if value}


def _by_name(metrics: Any) -> dict[str, Any]:
    return {str(one.get("metricName")): dict(one) for one in metrics}


def _comparable(kind: ResourceKind, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return a definition's fields flat, so that what means the same is the same."""
    values = dict(fields)
    if kind is SCHEMA and values.get("schema"):
        read = read_schema(values["schema"], is_taken=True)
        values["schema"] = {field.name: _written(field.as_avro()) for field in read.fields}
    if "metrics" in values:
        metrics = _by_name(values["metrics"] or [])
        values["metrics"] = {
            name: f"{one.get('expression')} of {one.get('eventType')}" for name, one in metrics.items()
        }
    if "datasetType" in values:
        values["datasetType"] = str(values["datasetType"]).upper()
    return _flat(values)


def _written(field: Mapping[str, Any]) -> str:
    return json.dumps({key: value for key, value in field.items() if key != "name"}, sort_keys=True)


def _flat(values: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat.update(_flat(value, f"{path}{key}.") if isinstance(value, Mapping) else {f"{path}{key}": value})
    return flat


def _alike(theirs: Any, ours: Any) -> bool:
    """Compare two values; the service may write a number that it keeps as text another way, as ``30.0`` for ``30``."""
    if theirs == ours:
        return True
    if isinstance(ours, bool) or isinstance(theirs, bool):
        return not ours and theirs is None
    try:
        return float(theirs) == float(ours)
    except (TypeError, ValueError):
        return False
