"""Bad input and requests are refused before anything is created; what cannot be read is left to the service."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError

from airflow_provider_personalize.exceptions import InvalidRequestError
from airflow_provider_personalize.operators import preflight
from airflow_provider_personalize.operators.batch import PersonalizeCreateBatchSegmentJobOperator
from tests.integration.test_jobs import BUCKET, ROLE, context, jobs
from tests.integration.test_jobs import inference as unchecked_inference

THEMES = {
    "batch_inference_job_mode": "THEME_GENERATION",
    "theme_generation_config": {"fieldsForThemeGeneration": {"itemName": "TITLE"}},
}


@pytest.fixture
def put(local):
    """A function that puts an object of input."""

    def put(body: bytes, key: str = "in/users.json") -> None:
        local.s3(local.region).put_object(Bucket=BUCKET, Key=key, Body=body)

    return put


def inference(local, **changes):
    return unchecked_inference(local, **{"validate_input": "sample", **changes})


def on(local, solution, **changes):
    return {"solution_version_arn": local.solution_version_arns[solution], **changes}


def refusal(operator) -> str:
    with pytest.raises(InvalidRequestError) as caught:
        operator.execute(context())
    return str(caught.value)


@pytest.mark.parametrize(
    ("solution", "changes", "body", "words"),
    [
        (
            "user-personalization",
            {},
            b'{"userId": "1"}\n{"user_id": "2"}\n',
            ["in/users.json, line 2: expected userId"],
        ),
        ("user-personalization", {}, b'{"userId": "1"}\n{"userId": "2"\n', ["line 2: expected JSON"]),
        ("personalized-ranking", {}, b'{"userId": "1"}\n', ["line 1: expected userId with itemList"]),
        ("similar-items", THEMES, b'{"itemId": "1"}\n' * 101, ["at most 100 items in a job with themes"]),
        ("sims", THEMES, b'{"itemId": "1"}\n', ["themes need aws-similar-items, got aws-sims"]),
        ("item-affinity", {}, b'{"itemId": "1"}\n', ["which is for a batch segment job"]),
        ("trending-now", {}, b'{"userId": "1"}\n', ["aws-trending-now, which has no batch jobs"]),
        ("next-best-action", {}, b'{"userId": "1"}\n', ["has no batch jobs"]),
        ("sims", THEMES, b"{}\n", ["themes need aws-similar-items, got aws-sims", "line 1: "]),
        (
            "user-personalization",
            {"input_uri": f"s3://{BUCKET}/none/"},
            b"{}",
            ["none/: expected the job's input"],
        ),
        (
            "user-personalization",
            {"input_uri": "s3://no-such-bucket/in/"},
            b"{}",
            ["is no bucket no-such-bucket"],
        ),
    ],
)
def test_all_that_is_wrong_is_said_and_nothing_is_created(local, put, solution, changes, body, words):
    put(body)
    text = refusal(inference(local, **on(local, solution, **changes)))
    assert text.startswith(f"Found {len(words)} problem")
    for word in words:
        assert word in text
    assert jobs(local) == []


@pytest.mark.parametrize(
    ("solution", "body", "words"),
    [
        ("item-affinity", b'{"itemId": "1"}\n' * 501, "at most 500 lines for aws-item-affinity, got 501"),
        ("item-attribute-affinity", b'{"itemAttributes": "ITEMS.g = 1"}\n' * 11, "at most 10 lines"),
        (
            "item-attribute-affinity",
            b'{"itemAttributes": "ITEMS.g IN (1)"}\n',
            "character 9 of 'ITEMS.g IN (1)', got 'IN'",
        ),
        ("sims", b'{"itemId": "1"}\n', "which is for a batch inference job"),
    ],
)
def test_segments(local, put, solution, body, words):
    put(body)
    operator = PersonalizeCreateBatchSegmentJobOperator(
        task_id="segment",
        role_arn=ROLE,
        validate_input="sample",
        input_uri=f"s3://{BUCKET}/in/",
        output_uri=f"s3://{BUCKET}/out/",
        **on(local, solution),
    )
    assert words in refusal(operator)
    assert jobs(local) == []


def test_a_filter_with_placeholders_needs_values_in_each_line(local, put):
    put(b'{"userId": "1", "filterValues": {"GENRES": "\\"Comedy\\""}}\n{"userId": "2"}\n')
    text = refusal(inference(local, filter_arn=local.filter_arns["genres"]))
    assert "in/users.json, line 2: filterValues: expected values for the filter's $GENRES, got []" in text
    assert "line 1" not in text
    assert jobs(local) == []


def test_a_prefix_takes_in_its_neighbours(local, put):
    put(b'{"userId": "1"}\n')
    put(b'{"userId": "1"}\n', "in_test/users.json")
    text = refusal(inference(local, input_uri=f"s3://{BUCKET}/in"))
    assert f"s3://{BUCKET}/in_test/users.json: " in text
    assert "end input_uri in '/'" in text


def test_whole_sees_what_a_sample_does_not(local, put, log):
    good = b'{"userId": "1"}\n' * 20_000
    assert len(good) > preflight.SAMPLE_BYTES
    put(good + b'{"userId": 1}\n')
    text = refusal(inference(local, validate_input="whole"))
    assert "in/users.json, line 20001: userId: expected an id as text" in text
    assert jobs(local) == []
    inference(local).execute(context())
    assert "Checked the request and 16,384 lines of input (a sample)" in log()
    assert len(jobs(local)) == 1


def test_off_checks_nothing(local, put):
    put(b"not JSON\n")
    inference(local, validate_input="off").execute(context())
    assert len(jobs(local)) == 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_results": "0"}, ["num_results: expected a whole number, 1 or more"]),
        (
            {
                "batch_inference_job_config": {
                    "itemExplorationConfig": {"explorationWeight": "much"},
                    "rankingInfluence": {"POPULARITY": 1.5},
                }
            },
            ["explorationWeight: expected a number from 0 to 1", "POPULARITY: expected a number from 0.0"],
        ),
        ({"validate_input": "all"}, ["validate_input: expected one of off, sample, whole, got 'all'"]),
    ],
)
def test_what_is_wrong_by_itself_is_said_whatever_the_input(local, changes, words):
    with pytest.raises(InvalidRequestError) as caught:
        inference(local, **changes)
    for word in words:
        assert word in str(caught.value)


class Denied:
    """An AWS client that may nothing."""

    def __getattr__(self, operation):
        def refuse(**request):
            raise ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, operation)

        return refuse


@pytest.mark.parametrize("validate_input", ["sample", "whole"])
def test_what_cannot_be_read_is_no_reason_to_fail(local, put, monkeypatch, log, validate_input):
    put(b"not JSON\n")
    operator = inference(local, validate_input=validate_input, filter_arn=local.filter_arns["not-yet-seen"])
    monkeypatch.setattr(operator.hook, "s3_client", lambda **_: Denied())
    monkeypatch.setattr(type(operator.hook), "polling_client", Denied())
    arn = operator.execute(context())
    assert [job["arn"] for job in jobs(local)] == [arn]
    said = log()
    for what in ("recipe", "filter", "input"):
        assert f"The job's {what} could not be checked, and is left to the service" in said
    assert "AccessDenied" in said


def test_what_is_wrong_is_said_though_the_rest_cannot_be_read(local, put, monkeypatch):
    put(b'{"userId": "1"}\n')
    operator = inference(local, **on(local, "item-affinity"))
    monkeypatch.setattr(operator.hook, "s3_client", lambda **_: Denied())
    assert "which is for a batch segment job" in refusal(operator)
    assert jobs(local) == []


def test_a_retry_uses_its_job_though_the_input_is_gone(local, put):
    put(b'{"userId": "1"}\n')
    first = inference(local, wait_for_completion=True).execute(context())
    local.s3(local.region).delete_object(Bucket=BUCKET, Key="in/users.json")
    assert inference(local).execute(context(try_number=2)) == first
    assert len(jobs(local)) == 1


def test_a_retry_after_a_failed_job_is_checked(local, put):
    put(b'{"userId": "1"}\n')
    local.controls.add_fault("fail_job")
    inference(local).execute(context())
    local.controls.set_clock(advance=3600)
    put(b'{"user": "1"}\n')
    assert "line 1: expected userId" in refusal(inference(local))
    assert len(jobs(local)) == 1


def filter_arn(local, expression: str) -> str:
    """Create a filter."""
    client = inference(local).hook.conn
    group = client.describe_filter(filterArn=local.filter_arns["genres"])["filter"]["datasetGroupArn"]
    return client.create_filter(name="mine", datasetGroupArn=group, filterExpression=expression)["filterArn"]


def test_what_the_service_may_well_take_is_said_in_the_log(local, put, log):
    expression = "INCLUDE ItemID WHERE Items.GENRES IN ($WANTED) | EXCLUDE ItemID WHERE Items.GENRES IN ($OTHERS)"
    put(
        b'{"userId": "1", "filterValues": {"WANTED": "\\"Comedy\\"", "OTHERS": "\\"Drama\\""}}\n'
        b'{"userId": "1", "filterValues": {"WANTED": "\\"Drama\\""}}\n',
        "beside/users.json",
    )
    put(b"{}\n", "beside/users.json.out")
    put(b"", "beside/_CHECK")
    place = f"s3://{BUCKET}/beside/"
    operator = inference(local, filter_arn=filter_arn(local, expression), input_uri=place, output_uri=place)
    # What the stand-in makes of it is its own affair.
    request = {
        "solutionVersionArn": operator.solution_version_arn,
        "filterArn": operator.filter_arn,
        "numResults": 1000,
        "jobInput": {"s3DataSource": {"path": operator.input_uri}},
        "jobOutput": {"s3DataDestination": {"path": operator.output_uri}},
    }
    preflight.preflight(operator.hook, operator.resource_kind, request, whole=True)
    said = log()
    assert "no values for $OTHERS of the filter's EXCLUDE" in said
    assert f"{place}users.json, line 2: '1' stands in {place}users.json, line 1, too" in said
    assert "got 1 object(s) that jobs have written, as beside/users.json.out" in said
    assert "num_results: no public text names a maximum" in said
    assert "Checked the request and 2 lines of input (all of it)" in said


def test_two_objects_of_one_name_are_refused(local, put):
    put(b'{"userId": "1"}\n', "markets/DE/part-0.json")
    put(b'{"userId": "2"}\n', "markets/US/part-0.json")
    assert "the name of markets/DE/part-0.json, too" in refusal(inference(local, input_uri=f"s3://{BUCKET}/markets/"))
    assert jobs(local) == []


def test_rendered_text_makes_the_same_job(local, put):
    put(b'{"userId": "1"}\n')
    texts = {"tags": "{'team': 'email'}", "batch_inference_job_config": '{"rankingInfluence": {"POPULARITY": 0.5}}'}
    inference(local, **texts, job_name="nightly").execute(context())
    values = {"tags": {"team": "email"}, "batch_inference_job_config": {"rankingInfluence": {"POPULARITY": 0.5}}}
    inference(local, **values, job_name="nightly").execute(context())
    (job,) = jobs(local)
    assert job["arn"].endswith("/nightly")
