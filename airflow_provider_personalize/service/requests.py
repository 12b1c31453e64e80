"""
The create requests of batch jobs: how they are built from an operator's arguments, and told apart.

This module is pure: it imports neither Airflow nor boto3.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import date
from typing import Any
from unicodedata import category

from airflow_provider_personalize.arguments import (
    is_settled,
    mapping,
    mapping_or_list,
    one_of,
    shown,
    text,
    whole_number,
)
from airflow_provider_personalize.exceptions import InvalidRequestError
from airflow_provider_personalize.service.names import check_role_arn, parse_arn, parse_solution_version_arn
from airflow_provider_personalize.uris import parse_s3_uri

THEME_MODE = "THEME_GENERATION"
MODES = ("BATCH_INFERENCE", THEME_MODE)
MAX_TAGS, MAX_TAG_KEY, MAX_TAG_VALUE = 200, 128, 256
#: The most users of one line of a segment job.
MAX_SEGMENT_USERS = 5_000_000


def build_request(
    *,
    solution_version_arn: str,
    role_arn: str,
    input_uri: str,
    output_uri: str,
    num_results: int | str | None = None,
    filter_arn: str | None = None,
    input_kms_key_arn: str | None = None,
    output_kms_key_arn: str | None = None,
    batch_inference_job_config: Mapping[str, Any] | None = None,
    batch_inference_job_mode: str | None = None,
    theme_generation_config: Mapping[str, Any] | None = None,
    tags: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """
    Build a create request, without the job's name. Parameters are the API's, in snake_case; what is not given is left
    out.

    :raises InvalidRequestError: if an ARN or URI is malformed, or a value is none that the API takes.
    """
    parse_solution_version_arn(solution_version_arn)
    if filter_arn:
        parse_filter_arn(filter_arn)
    check_role_arn(role_arn)
    parse_s3_uri(input_uri, parameter="input_uri")
    parse_s3_uri(output_uri, parameter="output_uri")
    request = {
        "solutionVersionArn": solution_version_arn,
        "jobInput": {"s3DataSource": _given(path=input_uri, kmsKeyArn=input_kms_key_arn)},
        "jobOutput": {"s3DataDestination": _given(path=output_uri, kmsKeyArn=output_kms_key_arn)},
        "roleArn": role_arn,
        **_given(
            filterArn=filter_arn,
            numResults=whole_number(note=NUM_RESULTS_NOTE)("num_results", num_results),
            batchInferenceJobConfig=read_config("batch_inference_job_config", batch_inference_job_config) or None,
            batchInferenceJobMode=read_mode("batch_inference_job_mode", batch_inference_job_mode),
            themeGenerationConfig=read_theme_config("theme_generation_config", theme_generation_config) or None,
        ),
    }
    return request | tags_of(tags)


def tags_of(tags: Any) -> dict[str, Any]:
    """
    Return the field ``tags`` of a create request; nothing where there are none.

    :raises InvalidRequestError: if they are none that the API takes.
    """
    read = read_tags("tags", tags)
    return {"tags": [{"tagKey": key, "tagValue": value} for key, value in read.items()]} if read else {}


NUM_RESULTS_NOTE = ", as the API's numResults is"
read_mode = one_of(MODES)


def parse_filter_arn(value: str, *, parameter: str = "filter_arn") -> None:
    """
    Make sure that a value is the ARN of a filter.

    :raises InvalidRequestError: if not.
    """
    parse_arn(value, resource_type="filter", parameter=parameter)


def _given(**fields: Any) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value not in (None, "")}


def read_tags(parameter: str, value: Any) -> dict[str, str] | None:
    """
    Read tags: ``{key: value}``, or the API's own ``[{"tagKey": …, "tagValue": …}]``.

    :raises InvalidRequestError: if they are neither, or none that the API takes.
    """
    found = mapping_or_list(parameter, value)
    tags = _tags_of_list(parameter, found) if isinstance(found, list) else mapping(parameter, found) or {}
    if len(tags) > MAX_TAGS:
        raise InvalidRequestError(f"{parameter}: expected at most {MAX_TAGS} tags, got {len(tags)}.")
    return {key: _tag_value(parameter, key, tag) for key, tag in tags.items()} if found is not None else None


def _tags_of_list(parameter: str, entries: list[Any]) -> dict[str, Any]:
    tags: dict[str, Any] = {}
    for entry in entries:
        if not isinstance(entry, Mapping) or entry.keys() != {"tagKey", "tagValue"}:
            raise InvalidRequestError(
                f"{parameter}: expected {{key: value}}, or a list of {{'tagKey': …, 'tagValue': …}} as the API has it, "
                f"got {shown(entry)} in a list."
            )
        key = str(entry["tagKey"])
        if key in tags:
            raise InvalidRequestError(f"{parameter}: expected each key once, got {key!r} twice.")
        tags[key] = entry["tagValue"]
    return tags


def _tag_value(parameter: str, key: str, value: Any) -> str:
    if not is_settled(key) or not is_settled(value):
        return str(value)
    if not isinstance(value, (str, int, float, date)):
        raise InvalidRequestError(
            f"{parameter}: expected text as the value of {key!r}, got the {type(value).__name__} {shown(value)}."
        )
    for what, word, low, high in (("key", key, 1, MAX_TAG_KEY), ("value", str(value), 0, MAX_TAG_VALUE)):
        odd = next((sign for sign in word if category(sign)[0] not in "LZN" and sign not in "_.:/=+-@"), None)
        if odd is not None or not low <= len(word) <= high:
            got = f"{odd!r} in {shown(word)}" if odd else f"{len(word)}: {shown(word)}"
            raise InvalidRequestError(
                f"{parameter}: expected a {what} of {low} to {high} letters, digits, spaces and any of _.:/=+-@, got "
                f"{got}."
            )
    return str(value)


#: The settings of item exploration that are numbers, and the highest value of each.
_MOST_EXPLORATION = {"explorationWeight": 1.0, "explorationItemAgeCutOff": math.inf}


def read_config(parameter: str, value: Any) -> dict[str, Any] | None:
    """
    Read a ``batchInferenceJobConfig``, and give its values the types that the API takes: exploration settings are
    strings, ranking influences numbers. A template renders everything as text, and a person writes numbers.

    :raises InvalidRequestError: if a value is none that the API takes.
    """
    typed = mapping(parameter, value)
    problems = []
    for key, convert in (("itemExplorationConfig", _exploration), ("rankingInfluence", _influence)):
        if not typed or key not in typed or not is_settled(typed[key]):
            continue
        typed[key] = mapping(f"{parameter}, {key}", typed[key]) or {}
        for name, number in typed[key].items():
            try:
                typed[key][name] = convert(f"{parameter}, {key}, {name}", number) if is_settled(number) else number
            except InvalidRequestError as error:
                problems.append(error.message)
    if problems:
        raise InvalidRequestError("\n  ".join(problems))
    return typed


def _exploration(place: str, value: Any) -> str:
    number = _number(value)
    most = _MOST_EXPLORATION.get(place.rpartition(", ")[2])
    if most is not None and (number is None or not 0 <= number <= most or math.isinf(number)):
        upto = f" to {most:g}" if most < math.inf else ""
        raise InvalidRequestError(f"{place}: expected a number from 0{upto}, got {shown(value)}.")
    return str(value).strip()


def _influence(place: str, value: Any) -> float:
    number = _number(value)
    if number is None or not 0 <= number <= 1:
        raise InvalidRequestError(f"{place}: expected a number from 0.0 to 1.0, got {shown(value)}.")
    return number


def _number(value: Any) -> float | None:
    if isinstance(value, bool):
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def read_theme_config(parameter: str, value: Any) -> dict[str, Any] | None:
    """
    Read a ``themeGenerationConfig``.

    :raises InvalidRequestError: if it does not name the column of the items' names.
    """
    config = mapping(parameter, value)
    if not config:
        return None
    fields = config.get("fieldsForThemeGeneration")
    if is_settled(fields):
        fields = mapping(f"{parameter}, fieldsForThemeGeneration", fields)
        if not fields or text(f"{parameter}, itemName", fields.get("itemName")) is None:
            raise InvalidRequestError(
                f"{parameter}: expected {{'fieldsForThemeGeneration': {{'itemName': …}}}} with the column of their "
                f"names, got {shown(value)}."
            )
        config["fieldsForThemeGeneration"] = fields
    return config


#: Fields of a request that no description has.
_NOT_DESCRIBED = frozenset({"tags"})
#: What the service takes for a field that a request leaves out, or that it does not describe.
_DEFAULTS = {
    "importMode": "FULL",
    "ingestionMode": "PUT",
    "publishAttributionMetricsToS3": False,
    "batchInferenceJobMode": "BATCH_INFERENCE",
    "batchInferenceJobConfig.rankingInfluence.POPULARITY": 0.0,
    "batchInferenceJobConfig.rankingInfluence.FRESHNESS": 0.0,
}
#: What makes a job another one also where the request leaves it out. Of all else, as the number of results, a
#: description may name a default that is told nowhere.
_TELLING = ("filterArn", "jobInput.s3DataSource.kmsKeyArn", "jobOutput.s3DataDestination.kmsKeyArn", *_DEFAULTS)


def differences(
    request: Mapping[str, Any], description: Mapping[str, Any], *, same_solution: bool = False
) -> dict[str, tuple[Any, Any]]:
    """
    Compare a job that is there with the request that would have made it.

    :param request: The create request.
    :param description: What the service says of the job.
    :param same_solution: Whether another version of the same solution is no difference: so it is where the user named
        a solution, since it may have been trained anew between two tries of a task.
    :return: ``{field: (that job's value, the request's value)}``, nested fields with dots; empty where they are alike.
    """
    theirs, ours = {**_DEFAULTS, **_flat(description)}, _flat(request)
    if same_solution:
        for side in (theirs, ours):
            side["solutionVersionArn"] = side.get("solutionVersionArn", "").rpartition("/")[0]
    compared = [field for field in ours if field.partition(".")[0] not in _NOT_DESCRIBED]
    compared += [field for field in _TELLING if field in theirs and field not in ours]
    pairs = {field: (theirs.get(field), ours.get(field, _DEFAULTS.get(field))) for field in compared}
    return {field: pair for field, pair in pairs.items() if not _alike(*pair)}


def _alike(theirs: Any, ours: Any) -> bool:
    """Compare two values; the service may write a number that it keeps as text another way, as ``30.0`` for ``30``."""
    try:
        return bool(theirs == ours or float(theirs) == float(ours))
    except (TypeError, ValueError):
        return False


def _flat(value: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, inner in value.items():
        if isinstance(inner, Mapping):
            flat.update(_flat(inner, f"{path}{key}."))
        else:
            flat[f"{path}{key}"] = inner
    return flat
