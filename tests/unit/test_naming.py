"""ARNs and job names."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_personalize.exceptions import InvalidRequestError
from airflow_provider_personalize.service import names as naming
from airflow_provider_personalize.service.kinds import BATCH_INFERENCE_JOB, BATCH_SEGMENT_JOB

LEGAL_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9\-_]{0,62}")
REQUEST = {"solutionVersionArn": "arn:aws:personalize:us-east-1:123456789012:solution/s/1", "roleArn": "r"}
RUN = {"dag_id": "nightly", "task_id": "recommend", "run_id": "scheduled__2026-11-22T00:00:00+00:00"}


@pytest.mark.parametrize(
    "text",
    [
        "arn:aws:personalize:us-east-1:123456789012:batch-inference-job/nightly-1",
        "arn:aws-cn:personalize:cn-north-1:123456789012:solution/user-personalization/4f00a1b2",
        "arn:aws:personalize:::recipe/aws-sims",
    ],
)
def test_an_arn_survives_being_taken_apart(text):
    assert str(naming.parse_arn(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nightly",
        "arn:aws:s3:::bucket/key",
        "arn:aws:personalize:us-east-1:123456789012:batch-inference-job",
        "arn:aws:personalize:us-east-1:123456789012:batch-inference-job/",
        "arn:aws:personalize:us-east-1:123456789012:batch-inference-job/" + "x" * 256,
        None,
        7,
    ],
)
def test_a_malformed_arn_is_named_in_the_error(text):
    with pytest.raises(InvalidRequestError, match="expected an ARN of Amazon Personalize") as caught:
        naming.parse_arn(text, parameter="filter_arn")
    assert "filter_arn" in str(caught.value)
    assert repr(text) in str(caught.value)


def test_an_arn_of_another_type_is_refused():
    with pytest.raises(InvalidRequestError, match="got one of a solution"):
        naming.parse_arn("arn:aws:personalize:us-east-1:123456789012:solution/s", resource_type="filter")


def test_the_kind_of_job_is_told_from_its_arn():
    base = "arn:aws:personalize:us-east-1:123456789012:"
    assert naming.job_kind_of(base + "batch-inference-job/a") is BATCH_INFERENCE_JOB
    assert naming.job_kind_of(base + "batch-segment-job/a") is BATCH_SEGMENT_JOB
    with pytest.raises(InvalidRequestError, match="campaign"):
        naming.job_kind_of(base + "campaign/a")


def test_a_jobs_arn_lies_beside_its_solution_version():
    beside = "arn:aws-us-gov:personalize:us-gov-west-1:210987654321:solution/s/9"
    assert naming.job_arn(BATCH_SEGMENT_JOB, "audience", beside=beside) == (
        "arn:aws-us-gov:personalize:us-gov-west-1:210987654321:batch-segment-job/audience"
    )


@given(
    dag_id=st.text(min_size=1, max_size=250),
    task_id=st.text(min_size=1, max_size=250),
    run_id=st.text(max_size=250),
    map_index=st.integers(-1, 100_000),
    attempt=st.integers(1, 999),
)
def test_a_derived_name_is_always_legal(dag_id, task_id, run_id, map_index, attempt):
    name = naming.derive_job_name(dag_id=dag_id, task_id=task_id, run_id=run_id, map_index=map_index, request=REQUEST)
    assert LEGAL_NAME.fullmatch(name)
    assert LEGAL_NAME.fullmatch(naming.suffixed_job_name(name, attempt))


def test_a_derived_name_reads_well_and_is_the_same_in_every_try():
    name = naming.derive_job_name(**RUN, request=REQUEST)
    assert re.fullmatch(r"nightly-recommend-[0-9a-f]{12}", name)
    assert name == naming.derive_job_name(**RUN, request=dict(reversed(REQUEST.items())))


@pytest.mark.parametrize(
    "other",
    [
        {"dag_id": "nightly.recommend"},
        {"task_id": "recommend_2"},
        {"run_id": "scheduled__2026-11-23T00:00:00+00:00"},
        {"map_index": 0},
        {"request": REQUEST | {"numResults": 5}},
    ],
)
def test_another_run_or_request_has_another_name(other):
    base = {**RUN, "map_index": -1, "request": REQUEST}
    assert naming.derive_job_name(**base) != naming.derive_job_name(**{**base, **other})


def test_long_ids_that_differ_at_their_ends_do_not_collide():
    names = {
        naming.derive_job_name(dag_id="d" * 200 + end, task_id="t" * 200, run_id="r", map_index=index, request={})
        for end in "abc"
        for index in range(100)
    }
    assert len(names) == 300
    assert all(LEGAL_NAME.fullmatch(name) for name in names)


def test_suffixes_of_long_names_stay_apart():
    names = {naming.suffixed_job_name("n" * 60 + end, attempt) for end in ("abc", "abd") for attempt in range(1, 50)}
    assert len(names) == 98
    assert all(len(name) <= 63 for name in names)


@pytest.mark.parametrize("name", ["", "-a", "_a", "a b", "ä", "a" * 64, "a.b", None, "a\n"])
def test_an_illegal_name_is_refused(name):
    with pytest.raises(InvalidRequestError, match="job_name"):
        naming.check_job_name(name)


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("s3://b/in/", "s3://b/in/"),
        ("s3://b/in/", "s3://b/in/out/"),
        ("s3://b/in", "s3://b/in-results/"),
        ("s3://b/jobs/in/", "s3://b/jobs"),
        ("s3://b/jobs/users.json", "s3://b/jobs/"),
        ("s3://b/", "s3://b/out/"),
        ("s3://b/in/", "s3://b"),
    ],
)
def test_input_and_output_that_lie_under_one_another_are_told_of(source, target):
    assert "one lies under the other" in naming.overlap(source, target)


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("s3://b/in/", "s3://b/out/"),
        ("s3://b/in/", "s3://b/in-results/"),
        ("s3://b/in/", "s3://other/in/"),
        ("s3://b/jobs/in.json", "s3://b/jobs/out/"),
    ],
)
def test_separate_folders_pass(source, target):
    assert naming.overlap(source, target) is None
