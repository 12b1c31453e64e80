"""What operators are given is read as what was meant, or refused, where it is written or when it is rendered."""

from __future__ import annotations

import uuid
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

from airflow_provider_personalize import arguments
from airflow_provider_personalize.exceptions import InvalidRequestError
from airflow_provider_personalize.service.recipes import batch_recipe
from airflow_provider_personalize.service.requests import build_request, read_config, read_tags, read_theme_config


class Later:
    """What Airflow resolves when the task runs."""

    def iter_references(self):
        return iter(())


@pytest.mark.parametrize(
    "value", ["a", "", None, 7, 0.5, True, date(2026, 11, 22), {"a": "{{ ds }}"}, [1, "b"], {}, Decimal(1)]
)
def test_what_is_settled(value):
    assert arguments.is_settled(value)


@pytest.mark.parametrize("value", ["{{ ds }}", "x{% if y %}z{% endif %}", Later(), {"{{ ds }}": 1}, ["{{ ds }}"]])
def test_what_is_not(value):
    assert not arguments.is_settled(value)


@pytest.mark.parametrize(
    ("value", "meant"),
    [
        ("nightly", "nightly"),
        (20261122, "20261122"),
        (date(2026, 11, 22), "2026-11-22"),
        (datetime(2026, 11, 22, tzinfo=UTC), "2026-11-22 00:00:00+00:00"),
        (uuid.UUID(int=7), "00000000-0000-0000-0000-000000000007"),
        (None, None),
        ("None", None),
        (" ", None),
    ],
)
def test_text(value, meant):
    assert arguments.text("job_name", value) == meant


@pytest.mark.parametrize("value", [["a"], {"a": 1}, 100000.0, b"a"])
def test_what_is_no_text_is_refused(value):
    with pytest.raises(InvalidRequestError, match=r"^job_name: expected text, got the .*" + type(value).__name__):
        arguments.text("job_name", value)


@pytest.mark.parametrize(
    "value", [{"a": "1"}, '{"a": "1"}', "{'a': '1'}", ' {"a": "1"}\n', [{"tagKey": "a", "tagValue": 1}]]
)
def test_tags(value):
    assert read_tags("tags", value) == {"a": "1"}
    assert read_tags("tags", str(value)) == {"a": "1"}


def test_an_empty_name_is_not_the_same_as_none():
    assert arguments.texts("column_names", {"a": "", "b": "None", "c": None, "d": "null"}) == {
        "a": "",
        "b": None,
        "c": None,
        "d": "null",
    }


@pytest.mark.parametrize("value", [None, "", "None", "null"])
def test_nothing(value):
    for read in (arguments.mapping, arguments.mapping_or_list, arguments.texts, read_tags, read_config):
        assert read("tags", value) is None
    assert arguments.whole_number(1)("num_results", value) is None


@pytest.mark.parametrize(
    "value",
    [
        "nightly",
        "a=b",
        "{'a': datetime.date(2026, 11, 22)}",
        "[1, 2]",
        "7",
        ["a"],
        {1: "a"},
        "{" * 100_000,
        '{"a":' * 100_000,
        [{"Key": "a", "Value": "b"}],
        [{"tagKey": "a", "tagValue": "1"}] * 2,
        {"a": None},
        {"a": {"b": "c"}},
        {"": "a"},
        {"a": "x" * 257},
        {"a": "semi;colon"},
        {"k" * 129: "a"},
        {str(n): "a" for n in range(201)},
    ],
)
def test_what_cannot_be_tags_is_refused(value):
    with pytest.raises(InvalidRequestError, match=r"^tags: expected .* got ") as caught:
        read_tags("tags", value)
    assert len(str(caught.value)) < 600


def test_text_that_is_no_json_says_how_to_render_some():
    with pytest.raises(InvalidRequestError, match=r"checks: .*tojson.*got the text 'much'"):
        arguments.mapping("checks", "much")


def test_a_configuration_is_read_at_every_level():
    value = {"itemExplorationConfig": "{'explorationWeight': 0.3}", "rankingInfluence": '{"POPULARITY": "0.5"}'}
    meant = {"itemExplorationConfig": {"explorationWeight": "0.3"}, "rankingInfluence": {"POPULARITY": 0.5}}
    assert read_config("c", value) == meant
    assert read_config("c", str(value)) == meant
    assert read_theme_config("c", {"fieldsForThemeGeneration": '{"itemName": "TITLE"}'}) == {
        "fieldsForThemeGeneration": {"itemName": "TITLE"}
    }
    for wrong in ({"itemName": "TITLE"}, {"fieldsForThemeGeneration": {}}, {"fieldsForThemeGeneration": "TITLE"}):
        with pytest.raises(InvalidRequestError, match=r"^c"):
            read_theme_config("c", wrong)
    templates = {"itemExplorationConfig": {"explorationWeight": "{{ x }}"}, "rankingInfluence": Later()}
    assert read_config("c", templates) == templates


@pytest.mark.parametrize(("value", "meant"), [("25", 25), (25, 25), (25.0, 25), (" 1 ", 1)])
def test_whole_numbers(value, meant):
    assert arguments.whole_number(1, 25)("num_results", value) == meant


@pytest.mark.parametrize("value", [0, "0", 26, -1, True, 2.5, "2.5", "many", [1], float("nan"), float("inf")])
def test_what_is_no_whole_number_in_range_is_refused(value):
    with pytest.raises(InvalidRequestError, match="num_results: expected a whole number, 1 to 25, got"):
        arguments.whole_number(1, 25)("num_results", value)


@pytest.mark.parametrize("value", ["0.1", float("nan"), True, -0.1, 50, None, [0], float("inf")])
def test_what_is_no_share_is_refused(value):
    with pytest.raises(InvalidRequestError, match=r"max_reject_rate: expected a share from 0\.0 to 1\.0"):
        arguments.share("max_reject_rate", value)


@pytest.mark.parametrize("recipe", ["aws-new", "aws-user-personalization-v3", "arn:aws:personalize:::recipe/aws-new"])
def test_a_new_recipe_is_left_to_the_service(recipe):
    assert batch_recipe(recipe) is None


BASE = "arn:aws:personalize:us-east-1:123456789012:"
REQUEST = {
    "solution_version_arn": BASE + "solution/s/1",
    "role_arn": "arn:aws:iam::123456789012:role/personalize",
    "input_uri": "s3://b/in/",
    "output_uri": "s3://b/out/",
}


def test_a_request_of_rendered_text():
    request = build_request(
        **REQUEST,
        num_results="25",
        tags='[{"tagKey": "team", "tagValue": "email"}]',
        batch_inference_job_config='{"rankingInfluence": {"POPULARITY": 0.5}}',
        theme_generation_config="{'fieldsForThemeGeneration': {'itemName': 'TITLE'}}",
        batch_inference_job_mode="None",
    )
    assert request["numResults"] == 25
    assert request["tags"] == [{"tagKey": "team", "tagValue": "email"}]
    assert request["batchInferenceJobConfig"] == {"rankingInfluence": {"POPULARITY": 0.5}}
    assert request["themeGenerationConfig"] == {"fieldsForThemeGeneration": {"itemName": "TITLE"}}
    assert "batchInferenceJobMode" not in request
