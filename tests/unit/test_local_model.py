from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_personalize.local.errors import ApiError
from airflow_provider_personalize.local.model import check_request, service_model

ARN = "arn:aws:personalize:us-east-1:123456789012:solution/s/1"


def request(**changes: Any) -> dict[str, Any]:
    whole = {
        "jobName": "job-1",
        "solutionVersionArn": ARN,
        "jobInput": {"s3DataSource": {"path": "s3://b/in/"}},
        "jobOutput": {"s3DataDestination": {"path": "s3://b/out/"}},
        "roleArn": "arn:aws:iam::123456789012:role/path/r",
    }
    return {key: value for key, value in (whole | changes).items() if value is not ...}


def test_a_request_that_uses_everything_passes() -> None:
    whole = request(
        filterArn=ARN,
        numResults=10,
        batchInferenceJobConfig={
            "itemExplorationConfig": {"explorationWeight": "0.3"},
            "rankingInfluence": {"POPULARITY": 0.5, "FRESHNESS": 1},
        },
        batchInferenceJobMode="THEME_GENERATION",
        themeGenerationConfig={"fieldsForThemeGeneration": {"itemName": "TITLE"}},
        tags=[{"tagKey": "équipe", "tagValue": "日本"}, {"tagKey": "a:b/c=d+e-f@g", "tagValue": ""}],
    )
    assert check_request("CreateBatchInferenceJob", whole) == whole


@pytest.mark.parametrize(
    ("changes", "constraint"),
    [
        ({"jobName": ...}, "Value null at 'jobName' failed to satisfy constraint: Member must not be null"),
        ({"jobName": ""}, "'jobName' failed to satisfy constraint: Member must have length greater than or equal to 1"),
        ({"jobName": "x" * 64}, "'jobName' failed to satisfy constraint: Member must have length less than or equal"),
        ({"jobName": "-x"}, "Value '-x' at 'jobName' failed to satisfy constraint: Member must satisfy regular"),
        ({"jobName": "x y"}, "Member must satisfy regular expression pattern: ^[a-zA-Z0-9]"),
        ({"jobName": "x\n"}, "Member must satisfy regular expression pattern"),
        ({"solutionVersionArn": "arn:aws:s3:::b"}, "at 'solutionVersionArn' failed"),
        ({"roleArn": "arn:aws:iam::12:role/r"}, "at 'roleArn' failed"),
        ({"jobInput": {"s3DataSource": {"path": "b/in"}}}, "at 'jobInput.s3DataSource.path' failed"),
        ({"jobInput": {"s3DataSource": {"path": "s3://" + "b" * 252}}}, "length less than or equal to 256"),
        ({"jobInput": {}}, "Value null at 'jobInput.s3DataSource' failed"),
        ({"batchInferenceJobMode": "FAST"}, "enum value set: [BATCH_INFERENCE, THEME_GENERATION]"),
        (
            {"batchInferenceJobConfig": {"rankingInfluence": {"POPULARITY": 1.1}}},
            "'batchInferenceJobConfig.rankingInfluence.POPULARITY' failed to satisfy constraint: Member must have",
        ),
        (
            {"batchInferenceJobConfig": {"rankingInfluence": {"PRICE": 1}}},
            "enum value set: [POPULARITY, FRESHNESS]",
        ),
        (
            {"batchInferenceJobConfig": {"itemExplorationConfig": {str(number): "" for number in range(101)}}},
            "length less than or equal to 100",
        ),
        (
            {"themeGenerationConfig": {"fieldsForThemeGeneration": {"itemName": "x" * 151}}},
            "at 'themeGenerationConfig.fieldsForThemeGeneration.itemName' failed",
        ),
        ({"tags": [{"tagKey": "a#b", "tagValue": ""}]}, "at 'tags.1.member.tagKey' failed"),
        ({"tags": [{"tagKey": "a"}]}, "Value null at 'tags.1.member.tagValue' failed"),
    ],
)
def test_a_broken_constraint_is_named(changes: dict[str, Any], constraint: str) -> None:
    for member, shape in (("rankingInfluence", "RankingInfluence"), ("themeGeneration", "ThemeGenerationConfig")):
        if member in str(changes) and shape not in service_model().shape_names:
            pytest.skip(f"this botocore's model has no {shape}")
    with pytest.raises(ApiError) as caught:
        check_request("CreateBatchInferenceJob", request(**changes))
    assert caught.value.code == "InvalidInputException"
    assert constraint in caught.value.message


def test_all_broken_constraints_are_named_at_once() -> None:
    with pytest.raises(ApiError, match=r"^2 validation errors detected: .*'jobName'.*; .*'roleArn'"):
        check_request("CreateBatchSegmentJob", request(jobName="-", roleArn="me"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"numResults": "10"}, "Expected a integer at numResults, got str."),
        ({"numResults": True}, "Expected a integer at numResults, got bool."),
        ({"jobInput": "s3://b/in/"}, "Expected a structure at jobInput, got str."),
        (
            {"batchInferenceJobConfig": {"itemExplorationConfig": {"explorationWeight": 0.3}}},
            "Expected a string at batchInferenceJobConfig.itemExplorationConfig.explorationWeight, got float.",
        ),
    ],
)
def test_a_value_of_the_wrong_type_is_not_even_read(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ApiError) as caught:
        check_request("CreateBatchInferenceJob", request(**changes))
    assert (caught.value.code, caught.value.message) == ("SerializationException", message)


def test_too_many_tags_have_a_code_of_their_own() -> None:
    tags = [{"tagKey": str(number), "tagValue": ""} for number in range(201)]
    with pytest.raises(ApiError) as caught:
        check_request("CreateBatchInferenceJob", request(tags=tags))
    assert caught.value.code == "TooManyTagsException"


def test_what_the_model_does_not_know_is_passed_over() -> None:
    check_request("ListBatchInferenceJobs", {"maxResults": 1, "colour": "red"})
