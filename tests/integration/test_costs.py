"""What is counted before a job is paid for, what is refused, and what is estimated."""

from __future__ import annotations

from collections import Counter
from uuid import uuid4

import pytest

from airflow_provider_personalize.compat import AirflowFailException
from airflow_provider_personalize.exceptions import InvalidRequestError, ServiceError
from airflow_provider_personalize.hooks.personalize import PersonalizeHook
from airflow_provider_personalize.operators import costs
from airflow_provider_personalize.operators.batch import PersonalizeCreateBatchSegmentJobOperator
from airflow_provider_personalize.operators.training import PersonalizeCreateSolutionVersionOperator
from tests.integration.test_jobs import BUCKET, ROLE, context, inference, jobs

LINE = b'{"userId": "1"}\n'


@pytest.fixture
def folder():
    """A folder of this test's own."""
    return f"s3://{BUCKET}/{uuid4().hex}/"


@pytest.fixture
def put(local, folder):
    """A function that puts an object of input."""

    def put(body: bytes, name: str = "users.json") -> None:
        local.s3(local.region).put_object(Bucket=BUCKET, Key=folder.split("/")[3] + f"/{name}", Body=body)

    return put


@pytest.fixture
def recommend(local, folder):
    """A function that makes the operator."""
    return lambda **changes: inference(local, input_uri=folder, **changes)


@pytest.fixture
def requests(monkeypatch):
    """How often S3 was asked, by operation."""
    counted: Counter[str] = Counter()
    made = PersonalizeHook.s3_client

    def s3_client(self, **defaults):
        client = made(self, **defaults)
        client.meta.events.register("before-send.s3", lambda event_name, **_: counted.update([event_name[15:]]))
        return client

    monkeypatch.setattr(PersonalizeHook, "s3_client", s3_client)
    return counted


def price(monkeypatch, name, text):
    monkeypatch.setenv(f"AIRFLOW__PERSONALIZE__PRICE_PER_{name}", text)


@pytest.mark.parametrize("validate_input", ["off", "sample", "whole"])
def test_lines_results_and_bytes_are_counted_in_few_requests(local, recommend, put, requests, log, validate_input):
    put(LINE * 1000)
    put(b"\n" + LINE + LINE.strip(), "more.json")
    put(b"", "")
    put(b"not input\n", "users.json.out")
    ctx = context()
    recommend(validate_input=validate_input, num_results=7).execute(ctx)
    assert ctx["ti"].pushed["counts"] == {
        "files": 2,
        "bytes": 1002 * 16,
        "lines": 1002,
        "num_results": 7,
        "results": 7014,
        "estimated_cost": None,
    }
    assert requests == {"ListObjectsV2": 1, "GetObject": 2}
    assert "files: 2, bytes: 16,032, lines: 1,002, results: 7,014 (7 for each line)" in log()
    assert "Estimated" not in log()


@pytest.mark.parametrize(
    ("limits", "sentence"),
    [
        ({"max_lines": 2}, "max_lines: expected at most 2 lines of input, got 3."),
        (
            {"max_results_total": "74"},
            "max_results_total: expected at most 74 results, got 75 (lines: 3, results for each: 25).",
        ),
        ({"max_lines": 0, "max_results_total": 0}, "got 75 (lines: 3, results for each: 25). Nothing was submitted."),
    ],
)
@pytest.mark.parametrize("validate_input", ["off", "whole"])
def test_more_than_the_limit_is_refused_once_and_nothing_is_created(
    local, recommend, folder, put, limits, sentence, validate_input
):
    put(LINE * 3)
    with pytest.raises(InvalidRequestError) as caught:
        recommend(validate_input=validate_input, **limits).execute(context())
    assert isinstance(caught.value, AirflowFailException)
    assert sentence in str(caught.value)
    assert str(caught.value).endswith(folder)
    assert jobs(local) == []


def test_a_limit_that_is_met_lets_the_job_be_made_and_found_again(local, recommend, put):
    put(LINE * 3)
    limits = {"max_lines": 3, "max_results_total": 75}
    arn = recommend(**limits).execute(context())
    # It is paid for: what the input has become says nothing of it any more.
    put(LINE * 30)
    assert recommend(**limits).execute(context()) == arn


def test_segments_count_the_users_of_each_line(local, folder, put):
    put(b'{"itemId": "1"}\n' * 2)
    with pytest.raises(InvalidRequestError, match=r"got 2,000 \(lines: 2, results for each: 1,000\)"):
        PersonalizeCreateBatchSegmentJobOperator(
            task_id="segment",
            role_arn=ROLE,
            solution_version_arn=local.solution_version_arns["item-affinity"],
            input_uri=folder,
            output_uri=f"s3://{BUCKET}/out/",
            num_results=1000,
            max_results_total=1999,
        ).execute(context())
    assert jobs(local) == []


def test_a_large_input_is_read_only_where_something_needs_it(local, recommend, put, requests, monkeypatch):
    monkeypatch.setattr(costs, "FEW_REQUESTS", 0)
    put(LINE * 3)
    ctx = context()
    recommend().execute(ctx)
    assert requests == {"ListObjectsV2": 1}
    assert (ctx["ti"].pushed["counts"]["bytes"], ctx["ti"].pushed["counts"]["lines"]) == (48, None)
    price(monkeypatch, "1000_RESULTS", "2")
    ctx = context(run_id="manual__2")
    recommend().execute(ctx)
    assert (ctx["ti"].pushed["counts"]["lines"], ctx["ti"].pushed["counts"]["estimated_cost"]) == (3, 0.15)


def test_more_than_a_job_takes_is_not_read_and_refused_where_there_is_a_limit(
    local, recommend, put, requests, monkeypatch
):
    monkeypatch.setattr(costs, "MAX_BYTES", 40)
    put(LINE * 3)
    with pytest.raises(InvalidRequestError, match=r"at most 1,000 files and 40 bytes.* got 1 files and 48 bytes"):
        recommend(max_lines=10).execute(context())
    assert requests == {"ListObjectsV2": 1}


def test_what_cannot_be_counted_is_left_to_the_service_unless_there_is_a_limit(local, recommend, log, monkeypatch, put):
    put(LINE)
    refused = ServiceError(operation="ListObjectsV2", code="AccessDenied", reason="not you")

    def list_objects(*_, **__):
        raise refused

    monkeypatch.setattr(costs, "list_objects", list_objects)
    ctx = context()
    recommend().execute(ctx)
    assert "counts" not in ctx["ti"].pushed
    assert "The job's input was not counted: not you" in log()
    with pytest.raises(ServiceError, match="not you"):
        recommend(max_lines=1).execute(context(run_id="manual__2"))
    assert len(jobs(local)) == 1


def test_a_price_that_is_none_is_said_and_the_job_is_made(local, recommend, put, log, monkeypatch):
    price(monkeypatch, "1000_RESULTS", "cheap")
    put(LINE)
    ctx = context()
    recommend().execute(ctx)
    assert "[personalize] price_per_1000_results: expected a number, 0 or more, as 0.05, got 'cheap'" in log()
    assert ctx["ti"].pushed["counts"]["estimated_cost"] is None


def test_the_estimate_of_a_job_is_logged(local, recommend, put, log, monkeypatch):
    price(monkeypatch, "1000_RESULTS", "0.067")
    put(LINE * 1000)
    ctx = context()
    recommend(num_results=20).execute(ctx)
    assert ctx["ti"].pushed["counts"]["estimated_cost"] == 1.34
    assert "Estimated cost: 1.34 for 20,000 results, by your [personalize] price_per_1000_results." in log()
    assert jobs(local)


def test_a_training_is_estimated_by_the_latest_version_and_then_told(local, log, monkeypatch):
    price(monkeypatch, "TRAINING_HOUR", "1000")
    ctx = context()
    PersonalizeCreateSolutionVersionOperator(
        task_id="train",
        solution_arn=local.solution_arns["user-personalization"],
        wait_for_completion=True,
        poll_interval=0.1,
    ).execute(ctx)
    hours = ctx["ti"].pushed["training_hours"]
    assert ctx["ti"].pushed["counts"] == {"training_hours": hours, "estimated_cost": hours * 1000}
    text = log()
    assert "training hours, as the latest version took, by your [personalize] price_per_training_hour." in text
    assert "training hours, as billed, by your [personalize] price_per_training_hour." in text


def test_the_log_tells_of_the_connection_once(local, recommend, put, log, monkeypatch):
    for name in local.environment:
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", local.connection)
    put(LINE)
    recommend(validate_input="whole", wait_for_completion=True, max_lines=1).execute(context())
    story = log()
    # On Airflow 2, the log is captured twice.
    assert story.count("credentials retrieved from") == story.count("Created the batch inference job") > 0
