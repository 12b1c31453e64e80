"""Checks of create requests that the service's model does not make."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from airflow_provider_personalize.exceptions import InvalidRequestError
from airflow_provider_personalize.local.catalog import ATTRIBUTE_AFFINITY, SIMILAR_ITEMS, THEME_REGIONS, Recipe
from airflow_provider_personalize.local.conditions import FilterExpression
from airflow_provider_personalize.local.errors import ApiError
from airflow_provider_personalize.local.lines import THEMES
from airflow_provider_personalize.local.tables import Entities
from airflow_provider_personalize.service.kinds import BATCH_INFERENCE_JOB, BATCH_SEGMENT_JOB, ResourceKind
from airflow_provider_personalize.uris import parse_s3_uri

#: The most results for each line. Assumption: the first of the two.
MAX_RESULTS: Mapping[ResourceKind, int] = {BATCH_INFERENCE_JOB: 500, BATCH_SEGMENT_JOB: 5_000_000}
#: The exploration settings, and the highest value of each.
_EXPLORATION = {"explorationWeight": 1.0, "explorationItemAgeCutOff": float("inf")}

# Assumption: the words of every message here, not the codes.


def invalid(message: str) -> ApiError:
    """Build the error for a request that cannot be right."""
    return ApiError("InvalidInputException", message)


def or_invalid(check: Callable[[Any], Any], value: Any) -> Any:
    """
    Return what a check of this package returns; what it refuses is an invalid request.

    :raises ApiError: ``InvalidInputException`` with the check's own words.
    """
    try:
        return check(value)
    except InvalidRequestError as error:
        raise invalid(error.message) from None


def validate_tags(request: Mapping[str, Any]) -> None:
    """
    Make sure that no tag is given twice.

    :raises ApiError: ``InvalidInputException`` if one is.
    """
    keys = [tag["tagKey"] for tag in request.get("tags", ())]
    if len(keys) != len(set(keys)):
        raise invalid("The tags name a key twice.")


def validate_job_request(kind: ResourceKind, request: Mapping[str, Any]) -> None:
    """
    Check what does not depend on the recipe: locations, number of results, tags.

    :raises ApiError: ``InvalidInputException`` if something is wrong.
    """
    for path in (request["jobInput"]["s3DataSource"]["path"], request["jobOutput"]["s3DataDestination"]["path"]):
        or_invalid(parse_s3_uri, path)
    count = request.get("numResults")
    if count is not None and not 1 <= count <= MAX_RESULTS[kind]:
        raise invalid(f"numResults must be from 1 to {MAX_RESULTS[kind]}, got {count}.")
    validate_tags(request)


def validate_recipe(
    kind: ResourceKind, recipe: Recipe, request: Mapping[str, Any], region: str, items: Entities
) -> None:
    """
    Check what depends on the recipe: kind of job, exploration, themes.

    :param kind: The kind of job that is asked for.
    :param recipe: The recipe of the solution version.
    :param request: The request.
    :param region: The region that it was sent to.
    :param items: The items, one of whose columns themes name.
    :raises ApiError: ``InvalidInputException`` if something is wrong.
    """
    if recipe.job_kind is None:
        raise invalid(f"The recipe {recipe.name} does not support batch recommendations.")
    if recipe.job_kind is not kind:
        raise invalid(f"The recipe {recipe.name} needs a {recipe.job_kind.words}, not a {kind.words}.")
    exploration = (request.get("batchInferenceJobConfig") or {}).get("itemExplorationConfig")
    if exploration:
        _check_exploration(recipe, exploration)
    if request.get("batchInferenceJobMode") == THEMES:
        _check_themes(recipe, request, region, items)
    elif request.get("themeGenerationConfig"):
        raise invalid(f"A themeGenerationConfig needs the mode {THEMES}.")


def _check_exploration(recipe: Recipe, exploration: Mapping[str, str]) -> None:
    if not recipe.explores:
        raise invalid(f"itemExplorationConfig does not apply to the recipe {recipe.name}.")
    for name, text in exploration.items():
        if name not in _EXPLORATION:
            raise invalid(f"itemExplorationConfig knows {' and '.join(_EXPLORATION)}, got {name}.")
        if not re.fullmatch(r"\d+(\.\d+)?", text) or float(text) > _EXPLORATION[name]:
            raise invalid(f"{name} must be a number from 0 to {_EXPLORATION[name]}, got {text!r}.")


def _check_themes(recipe: Recipe, request: Mapping[str, Any], region: str, items: Entities) -> None:
    if recipe is not SIMILAR_ITEMS:
        raise invalid(f"Themes need the recipe {SIMILAR_ITEMS.name}, not {recipe.name}.")
    if region not in THEME_REGIONS:
        raise invalid(f"Themes are offered in {', '.join(THEME_REGIONS)}, not in {region}.")
    config = request.get("themeGenerationConfig")
    if not config:
        raise invalid(f"The mode {THEMES} needs a themeGenerationConfig.")
    column = config["fieldsForThemeGeneration"]["itemName"]
    if column.upper() not in items.columns:
        raise invalid(f"themeGenerationConfig: the Items dataset has no column {column}.")


def validate_filter_use(kind: ResourceKind, recipe: Recipe, expression: FilterExpression) -> None:
    """
    Check that a filter fits a job.

    :param kind: The kind of job that is asked for.
    :param recipe: The recipe of the solution version.
    :param expression: The filter's expression.
    :raises ApiError: ``InvalidInputException`` if it does not.
    """
    wanted = "USERID" if kind is BATCH_SEGMENT_JOB else "ITEMID"
    if expression.entity != wanted:
        raise invalid(f"A {kind.words} takes a filter of {wanted}, this one is of {expression.entity}.")
    if recipe is ATTRIBUTE_AFFINITY and any(condition.dataset == "INTERACTIONS" for condition in expression.conditions):
        raise invalid(f"The recipe {recipe.name} takes no filter that speaks of Interactions.")
    if expression.about_item and recipe.type != "RELATED_ITEMS":
        raise invalid(f"A filter that speaks of CurrentItem needs a recipe for related items, not {recipe.name}.")
