"""
The create requests of batch jobs: how they are built from an operator's arguments, and told apart.

This module is pure: it imports neither Airflow nor boto3.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_provider_personalize.exceptions import InvalidRequestError
from airflow_provider_personalize.naming import check_separate, parse_arn, parse_s3_uri


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

    :raises InvalidRequestError: if an ARN or URI is malformed, or input and output lie under one another.
    """
    parse_arn(solution_version_arn, resource_type="solution", parameter="solution_version_arn")
    if filter_arn:
        parse_arn(filter_arn, resource_type="filter", parameter="filter_arn")
    if not role_arn or not str(role_arn).startswith("arn:") or ":role/" not in role_arn:
        raise InvalidRequestError(
            f"role_arn: expected the ARN of the IAM role that Personalize assumes, like "
            f"arn:aws:iam::123456789012:role/personalize, got {role_arn!r}."
        )
    parse_s3_uri(input_uri, parameter="input_uri")
    parse_s3_uri(output_uri, parameter="output_uri")
    check_separate(input_uri, output_uri)
    request = {
        "solutionVersionArn": solution_version_arn,
        "jobInput": {"s3DataSource": _given(path=input_uri, kmsKeyArn=input_kms_key_arn)},
        "jobOutput": {"s3DataDestination": _given(path=output_uri, kmsKeyArn=output_kms_key_arn)},
        "roleArn": role_arn,
        **_given(
            filterArn=filter_arn,
            numResults=_whole_number(num_results),
            batchInferenceJobConfig=_typed_config(batch_inference_job_config),
            batchInferenceJobMode=batch_inference_job_mode,
            themeGenerationConfig=dict(theme_generation_config) if theme_generation_config else None,
        ),
    }
    if tags:
        request["tags"] = [{"tagKey": str(key), "tagValue": str(value)} for key, value in tags.items()]
    return request


def _whole_number(value: int | str | None) -> int | str | None:
    """Give what a template has rendered as text as the number that it is."""
    if not isinstance(value, str) or not value.strip():
        return value
    try:
        return int(value)
    except ValueError as error:
        raise InvalidRequestError(
            f"num_results: expected a whole number, as the API's numResults is, got {value!r}."
        ) from error


def _given(**fields: Any) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if value not in (None, "")}


def _typed_config(config: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """
    Give the values of a ``batchInferenceJobConfig`` the types that the API takes: exploration settings are strings,
    ranking influences numbers. A template renders everything as text, and a person writes numbers.
    """
    if not config:
        return None
    typed = dict(config)
    for key, convert in (("itemExplorationConfig", str), ("rankingInfluence", float)):
        if isinstance(typed.get(key), Mapping):
            try:
                typed[key] = {name: convert(value) for name, value in typed[key].items()}
            except (TypeError, ValueError) as error:
                raise InvalidRequestError(
                    f"batch_inference_job_config: expected numbers in {key}, got {typed[key]!r}."
                ) from error
    return typed


#: Fields of a request that no description has.
_NOT_DESCRIBED = frozenset({"tags"})


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
    theirs, ours = _flat(description), _flat(request)
    if same_solution:
        for side in (theirs, ours):
            side["solutionVersionArn"] = side.get("solutionVersionArn", "").rpartition("/")[0]
    compared = [field for field in ours if field.partition(".")[0] not in _NOT_DESCRIBED]
    compared += [
        field
        for field in ("filterArn", "jobInput.s3DataSource.kmsKeyArn", "jobOutput.s3DataDestination.kmsKeyArn")
        if field in theirs and field not in ours
    ]
    pairs = {field: (theirs.get(field), ours.get(field)) for field in compared}
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
