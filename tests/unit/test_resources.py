"""The rows of the job kinds, held against botocore's model where it is installed, and the reading of states."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from airflow_provider_personalize.exceptions import JobFailedError, UnexpectedAnswerError
from airflow_provider_personalize.service.kinds import (
    BATCH_INFERENCE_JOB,
    BATCH_SEGMENT_JOB,
    JOB_KINDS,
    SOLUTION_VERSION,
    JobState,
    read_status,
)

ARN = "arn:aws:personalize:us-east-1:123456789012:batch-inference-job/nightly"


@pytest.mark.parametrize("kind", [BATCH_INFERENCE_JOB, BATCH_SEGMENT_JOB, SOLUTION_VERSION], ids=lambda kind: kind.name)
def test_every_name_of_a_kind_is_the_services(kind):
    botocore = pytest.importorskip("botocore", reason="the service model comes with botocore")
    path = Path(botocore.__file__).parent / "data/personalize/2018-05-22/service-2.json.gz"
    model = json.loads(gzip.decompress(path.read_bytes()))
    shapes = model["shapes"]

    def members(operation, side):
        return shapes[model["operations"][operation][side]["shape"]]["members"]

    assert kind.create_operation in model["operations"]
    assert kind.arn_key in members(kind.describe_operation, "input")
    assert kind.response_key in members(kind.describe_operation, "output")
    assert kind.list_key in members(kind.list_operation, "output")


def test_the_names_of_a_kind():
    assert (BATCH_INFERENCE_JOB.words, BATCH_INFERENCE_JOB.arn_type) == ("batch inference job", "batch-inference-job")
    assert JOB_KINDS["batch-segment-job"] is BATCH_SEGMENT_JOB


@pytest.mark.parametrize(
    ("status", "state", "known"),
    [
        ("CREATE PENDING", JobState.RUNNING, True),
        ("CREATE IN_PROGRESS", JobState.RUNNING, True),
        ("PENDING", JobState.RUNNING, True),
        ("IN PROGRESS", JobState.RUNNING, True),
        ("CREATE STOPPING", JobState.RUNNING, True),
        ("ACTIVE", JobState.SUCCEEDED, True),
        ("CREATE FAILED", JobState.FAILED, True),
        ("CREATE STOPPED", JobState.FAILED, True),
        ("UPDATE PENDING", JobState.RUNNING, False),
        ("active", JobState.RUNNING, False),
    ],
)
def test_what_a_status_means(status, state, known):
    for response in ({"batchInferenceJob": {"status": status}}, {"status": status}):
        seen = read_status(BATCH_INFERENCE_JOB, response)
        assert (seen.status, seen.state, seen.known) == (status, state, known)


def test_a_description_is_read_whole():
    created = datetime(2026, 11, 22, tzinfo=UTC)
    seen = read_status(
        BATCH_INFERENCE_JOB,
        {
            "batchInferenceJob": {
                "batchInferenceJobArn": ARN,
                "jobName": "nightly",
                "status": "CREATE FAILED",
                "failureReason": "no such bucket",
                "creationDateTime": created,
                "solutionVersionArn": "arn:aws:personalize:us-east-1:123456789012:solution/s/1",
                "jobOutput": {"s3DataDestination": {"path": "s3://b/out/"}},
            }
        },
    )
    assert (seen.arn, seen.name, seen.created_at, seen.output_uri) == (ARN, "nightly", created, "s3://b/out/")
    with pytest.raises(JobFailedError) as caught:
        seen.raise_if_failed()
    for part in ("nightly", ARN, "CREATE FAILED", "no such bucket"):
        assert part in str(caught.value)


def test_a_response_of_another_kind_is_no_status():
    with pytest.raises(UnexpectedAnswerError, match="batch segment job"):
        read_status(BATCH_SEGMENT_JOB, {"batchInferenceJob": {"status": "ACTIVE"}})
