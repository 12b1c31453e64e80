"""Every error keeps its values and survives the way between processes."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from airflow_provider_personalize import exceptions
from airflow_provider_personalize.exceptions import PersonalizeError
from airflow_provider_personalize.failure_reasons import remedy_of

ARN = "arn:aws:personalize:us-east-1:123456789012:batch-inference-job/nightly"
EXAMPLES = {
    "PersonalizeError": {"message": "what went wrong"},
    "InvalidRequestError": {"message": "expected this, got that"},
    "ServiceError": {
        "operation": "CreateBatchInferenceJob",
        "code": "AccessDeniedException",
        "reason": "not authorized",
        "remedy": "allow it",
        "arn": None,
    },
    "UnexpectedAnswerError": {"operation": "DescribeBatchInferenceJob", "reason": "no status came", "arn": ARN},
    "JobFailedError": {
        "kind": "batch inference job",
        "job_name": "nightly",
        "job_arn": ARN,
        "status": "CREATE FAILED",
        "failure_reason": "Insufficient privileges for accessing data in Amazon S3.",
        "created_by": "recommend",
    },
    "JobTimeoutError": {
        "kind": "batch inference job",
        "job_arn": ARN,
        "status": "CREATE PENDING",
        "waited": 61.0,
        "reason": None,
    },
    "ResourceConflictError": {
        "kind": "dataset group",
        "name": "shop",
        "arn": "arn:aws:personalize:us-east-1:123456789012:dataset-group/shop",
        "reason": "it was made from another definition",
        "differences": {"domain": (None, "ECOMMERCE")},
    },
    "JobConflictError": {"job_name": "nightly", "job_arn": ARN, "differences": {"numResults": (25, 10)}},
    "QuotaTimeoutError": {"operation": "CreateBatchInferenceJob", "waited": 60.0, "reason": "More than 5 resources."},
    "MissingOutputError": {"uri": "s3://b/out/users.json.out", "reason": "The input has it."},
    "InvalidLineError": {"location": "row 7", "reason": "expected an id, got null"},
    "TooManyRejectsError": {
        "rejects": 2,
        "lines": 10,
        "max_reject_rate": 0.1,
        "examples": ["s3://b/o.out line 3: not JSON"],
        "kept_in": None,
    },
    "OutputCheckError": {
        "table": "recommendations",
        "failed": ["rows is 0, expected > 0"],
        "figures": {"rows": 0},
        "report_uri": None,
    },
    "SolutionVersionCheckError": {
        "solution_version_arn": ARN,
        "failed": ["coverage is 0, expected > 0"],
        "figures": {"coverage": 0.0},
        "report_uri": None,
    },
    "TableMismatchError": {"table": "public.recommendations", "reason": "it has no column rank"},
}


def error_types():
    return [
        value for value in vars(exceptions).values() if isinstance(value, type) and issubclass(value, PersonalizeError)
    ]


@pytest.mark.parametrize("error_type", error_types(), ids=lambda error_type: error_type.__name__)
def test_an_error_survives_pickling(error_type):
    values = EXAMPLES[error_type.__name__]
    error = error_type(**values)
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is error_type
    assert str(copy) == str(error)
    for name, value in values.items():
        assert getattr(copy, name) == value


def test_a_missing_privilege_says_what_to_set():
    message = str(exceptions.JobFailedError(**EXAMPLES["JobFailedError"]))
    for part in ("s3:ListBucket", "personalize.amazonaws.com", "KMS"):
        assert part in message


@pytest.mark.parametrize(
    ("reason", "remedy"),
    [
        ("Invalid Data location.", "Compare it with what is in the bucket"),
        ("Insufficient privileges for accessing data in Amazon S3.", "s3:GetObject"),
        ("Input CSV is missing the following columns: [ITEM_ID, TIMESTAMP]", "in the header of every file"),
        ("Dataset has fewer than 25 users with at least 2 interactions each.", "at least 1,000 interactions"),
        (
            "Dataset has fewer than 1000 interactions after filtering by event type: click",
            "at least 1,000 interactions",
        ),
        ("Length cannot be more than 256 characters for USER_ID", "an id takes 256 characters"),
        (
            "There should be updates to at least one dataset after last active solution version",
            "Import first",
        ),
        ("Something new", ""),
    ],
)
def test_a_recorded_reason_of_a_failure_has_its_remedy(reason, remedy):
    values = EXAMPLES["JobFailedError"] | {"kind": "dataset import job", "failure_reason": reason}
    message = str(exceptions.JobFailedError(**values))
    assert message.startswith(reason.rstrip("."))
    assert remedy in message
    assert remedy_of(reason) in message
    assert bool(remedy_of(reason)) is bool(remedy)
    # Each reason that has a remedy in the message has its entry in the runbook, too.
    runbook = (Path(__file__).parents[2] / "docs" / "runbook.md").read_text()
    assert not remedy or reason[:25] in runbook


def test_a_timeout_says_that_the_job_runs_on():
    message = str(exceptions.JobTimeoutError(**EXAMPLES["JobTimeoutError"]))
    for part in (ARN, "billed", "sensor", "CREATE PENDING"):
        assert part in message


def test_a_conflict_shows_both_sides():
    message = str(exceptions.JobConflictError(**EXAMPLES["JobConflictError"]))
    for part in ("numResults", "25", "10", "if_job_exists='new'"):
        assert part in message
