"""How create requests are built and told apart."""

from __future__ import annotations

import pytest

from airflow_provider_personalize.exceptions import InvalidRequestError
from airflow_provider_personalize.service.requests import build_request, differences

BASE = "arn:aws:personalize:us-east-1:123456789012:"
NEEDED = {
    "solution_version_arn": BASE + "solution/s/1",
    "role_arn": "arn:aws:iam::123456789012:role/personalize",
    "input_uri": "s3://b/in/",
    "output_uri": "s3://b/out/",
}


def test_only_what_is_given_is_sent():
    assert build_request(**NEEDED) == {
        "solutionVersionArn": BASE + "solution/s/1",
        "roleArn": "arn:aws:iam::123456789012:role/personalize",
        "jobInput": {"s3DataSource": {"path": "s3://b/in/"}},
        "jobOutput": {"s3DataDestination": {"path": "s3://b/out/"}},
    }


def test_the_whole_request():
    request = build_request(
        **NEEDED,
        num_results=0,
        filter_arn=BASE + "filter/f",
        input_kms_key_arn="arn:aws:kms:us-east-1:123456789012:key/in",
        output_kms_key_arn="arn:aws:kms:us-east-1:123456789012:key/out",
        batch_inference_job_config={
            "itemExplorationConfig": {"explorationWeight": 0.3, "explorationItemAgeCutOff": "30"},
            "rankingInfluence": {"POPULARITY": "0.5"},
        },
        batch_inference_job_mode="THEME_GENERATION",
        theme_generation_config={"fieldsForThemeGeneration": {"itemName": "TITLE"}},
        tags={"team": "email", "cost": 7},
    )
    assert request["numResults"] == 0
    assert request["filterArn"] == BASE + "filter/f"
    assert request["jobInput"]["s3DataSource"]["kmsKeyArn"].endswith("key/in")
    assert request["jobOutput"]["s3DataDestination"]["kmsKeyArn"].endswith("key/out")
    assert request["batchInferenceJobConfig"] == {
        "itemExplorationConfig": {"explorationWeight": "0.3", "explorationItemAgeCutOff": "30"},
        "rankingInfluence": {"POPULARITY": 0.5},
    }
    assert request["batchInferenceJobMode"] == "THEME_GENERATION"
    assert request["themeGenerationConfig"] == {"fieldsForThemeGeneration": {"itemName": "TITLE"}}
    assert request["tags"] == [{"tagKey": "team", "tagValue": "email"}, {"tagKey": "cost", "tagValue": "7"}]


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"solution_version_arn": "s"}, "solution_version_arn"),
        ({"filter_arn": BASE + "solution/s"}, "filter_arn"),
        ({"role_arn": "personalize"}, "role_arn"),
        ({"role_arn": ""}, "role_arn"),
        ({"input_uri": "b/in"}, "input_uri"),
        ({"output_uri": "s3:/b"}, "output_uri"),
        ({"batch_inference_job_config": {"rankingInfluence": {"POPULARITY": "much"}}}, "rankingInfluence"),
    ],
)
def test_a_wrong_argument_is_named(wrong, named):
    with pytest.raises(InvalidRequestError, match=named):
        build_request(**{**NEEDED, **wrong})


def described(**changes):
    """What the service says of the job of a plain request: it fills in what was left out, and knows no tags."""
    return {
        **build_request(**NEEDED),
        "jobName": "n",
        "status": "ACTIVE",
        "numResults": 25,
        "batchInferenceJobMode": "BATCH_INFERENCE",
        "batchInferenceJobConfig": {
            "itemExplorationConfig": {"explorationWeight": "0.3", "explorationItemAgeCutOff": "30.0"}
        },
        **changes,
    }


def test_a_request_matches_its_own_job():
    assert differences({"jobName": "n", **build_request(**NEEDED, tags={"a": "b"})}, described()) == {}


@pytest.mark.parametrize(
    ("ours", "theirs", "field"),
    [
        ({"num_results": 10}, {}, "numResults"),
        ({"output_uri": "s3://b/elsewhere/"}, {}, "jobOutput.s3DataDestination.path"),
        ({}, {"filterArn": BASE + "filter/f"}, "filterArn"),
        ({"filter_arn": BASE + "filter/f"}, {}, "filterArn"),
        ({}, {"batchInferenceJobMode": "THEME_GENERATION"}, "batchInferenceJobMode"),
        (
            {},
            {"batchInferenceJobConfig": {"rankingInfluence": {"POPULARITY": 0.5, "FRESHNESS": 0.0}}},
            "batchInferenceJobConfig.rankingInfluence.POPULARITY",
        ),
        (
            {"batch_inference_job_config": {"rankingInfluence": {"FRESHNESS": 0.2}}},
            {"batchInferenceJobConfig": {"rankingInfluence": {"FRESHNESS": 0.2, "POPULARITY": 1}}},
            "batchInferenceJobConfig.rankingInfluence.POPULARITY",
        ),
        ({"solution_version_arn": BASE + "solution/s/2"}, {}, "solutionVersionArn"),
    ],
)
def test_a_difference_is_found_and_named(ours, theirs, field):
    assert list(differences(build_request(**{**NEEDED, **ours}), described(**theirs))) == [field]


def test_another_version_of_the_same_solution_can_be_as_good():
    newer = build_request(**{**NEEDED, "solution_version_arn": BASE + "solution/s/2"})
    assert differences(newer, described(), same_solution=True) == {}
    other = build_request(**{**NEEDED, "solution_version_arn": BASE + "solution/other/1"})
    assert list(differences(other, described(), same_solution=True)) == ["solutionVersionArn"]
