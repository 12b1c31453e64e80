"""Every kind's row against botocore's model of the service, and how states are read."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest

from airflow_provider_personalize.exceptions import InvalidRequestError, JobFailedError, UnexpectedAnswerError
from airflow_provider_personalize.service import kinds
from airflow_provider_personalize.service.kinds import (
    BATCH_INFERENCE_JOB,
    BATCH_SEGMENT_JOB,
    CAMPAIGN,
    DATASET,
    DATASET_IMPORT_JOB,
    KINDS,
    RECOMMENDER,
    SCHEMA,
    SOLUTION,
    SOLUTION_VERSION,
    ResourceKind,
    State,
    read_status,
    state_of,
)
from airflow_provider_personalize.service.names import job_kind_of, kind_of

botocore_session = pytest.importorskip("botocore.session", reason="the service model comes with botocore")

MODEL = botocore_session.get_session().get_service_model("personalize")
OPERATIONS = frozenset(MODEL.operation_names)
#: Every noun that the service makes, by botocore's own list of operations.
NOUNS = {name.removeprefix("Create") for name in OPERATIONS if name.startswith("Create")}


def members(operation: str, side: str = "input_shape") -> dict:
    shape = getattr(MODEL.operation_model(operation), side)
    return dict(shape.members) if shape else {}


@pytest.fixture(params=KINDS, ids=lambda kind: kind.noun)
def kind(request) -> ResourceKind:
    if request.param is SOLUTION and "UpdateSolution" not in OPERATIONS:
        pytest.skip("needs a botocore that can update solutions: 1.36 or newer")
    return request.param


def test_every_noun_of_the_service_has_one_row():
    assert sorted(kind.noun for kind in KINDS) == sorted(NOUNS)
    rows = {value for value in vars(kinds).values() if isinstance(value, ResourceKind)}
    assert rows == set(KINDS)


def test_the_create_request_names_what_it_is_made_from(kind):
    request = members(kind.create_operation)
    required = MODEL.operation_model(kind.create_operation).input_shape.required_members
    assert kind.name_field in request
    assert kind.parent_field is None or kind.parent_field in required
    arns = [name for name in required if name.endswith("Arn") and name not in {"roleArn", "recipeArn", "schemaArn"}]
    assert arns == ([kind.parent_field] if kind.parent_field else [])
    assert kind.taggable == ("tags" in request)


def test_answers_hold_the_keys_of_the_row(kind):
    assert kind.arn_field in members(kind.create_operation, "output_shape")
    assert list(members(kind.describe_operation)) == [kind.arn_field]
    [(key, shape)] = members(kind.describe_operation, "output_shape").items()
    assert key == kind.response_key
    assert {kind.arn_field, kind.name_field} <= set(shape.members)
    assert kind.has_status == ("status" in shape.members)
    assert kind.has_failure_reason == ("failureReason" in shape.members)
    latest = [name for name in shape.members if re.fullmatch(r"latest\w+Update", name)]
    assert latest == ([kind.update_key] if kind.update_key else [])
    if kind.update_key:
        assert {"status"} <= set(shape.members[kind.update_key].members)


def test_a_listing_is_narrowed_and_read_by_the_row(kind):
    request = members(kind.list_operation)
    assert set(request) == {"nextToken", "maxResults"} | ({kind.list_filter} if kind.list_filter else set())
    [(key, shape)] = [(k, s) for k, s in members(kind.list_operation, "output_shape").items() if k != "nextToken"]
    assert key == kind.list_key
    assert kind.arn_field in shape.member.members
    assert kind.has_status == ("status" in shape.member.members)


def test_the_other_operations_are_those_that_the_service_has(kind):
    for operation, wanted in (
        (f"Update{kind.noun}", kind.update_operation),
        (f"Delete{kind.noun}", kind.delete_operation),
    ):
        assert (operation in OPERATIONS) == (wanted == operation)
    others = {name for name in OPERATIONS if re.fullmatch(rf"(Start|Stop){kind.noun}(Creation)?", name)}
    assert others == {name for name in (kind.stop_operation, kind.start_operation) if name}
    for operation in filter(
        None, (kind.update_operation, kind.delete_operation, kind.stop_operation, kind.start_operation)
    ):
        assert kind.arn_field in members(operation)


@pytest.mark.parametrize(
    ("noun", "arn_type", "named_arn"),
    [
        ("DatasetGroup", "dataset-group", True),
        ("Schema", "schema", True),
        ("Dataset", "dataset", False),
        ("DatasetImportJob", "dataset-import-job", True),
        ("DatasetExportJob", "dataset-export-job", True),
        ("DataDeletionJob", "data-deletion-job", True),
        ("EventTracker", "event-tracker", False),
        ("Solution", "solution", True),
        ("SolutionVersion", "solution", False),
        ("Campaign", "campaign", True),
        ("Recommender", "recommender", True),
        ("Filter", "filter", True),
        ("MetricAttribution", "metric-attribution", True),
        ("BatchInferenceJob", "batch-inference-job", True),
        ("BatchSegmentJob", "batch-segment-job", True),
    ],
)
def test_arns_are_as_recorded(noun, arn_type, named_arn):
    [kind] = [kind for kind in KINDS if kind.noun == noun]
    assert (kind.arn_type, kind.named_arn) == (arn_type, named_arn)


@pytest.mark.parametrize(
    ("until", "running", "succeeded", "failed"),
    [
        (
            "active",
            [
                "CREATE PENDING",
                "CREATE IN_PROGRESS",
                "PENDING",
                "IN_PROGRESS",
                "IN PROGRESS",
                "CREATE STOPPING",
                "STOP PENDING",
                "STOP IN_PROGRESS",
                "START PENDING",
                "START IN_PROGRESS",
                "A NEW WORD",
            ],
            ["ACTIVE", "COMPLETED"],
            ["CREATE FAILED", "FAILED", "CREATE STOPPED", "INACTIVE", "DELETE PENDING", "DELETE IN_PROGRESS"],
        ),
        ("updated", ["CREATE PENDING", "CREATE IN_PROGRESS"], ["ACTIVE"], ["CREATE FAILED"]),
        (
            "inactive",
            ["ACTIVE", "STOP PENDING", "STOP IN_PROGRESS", "CREATE IN_PROGRESS", "A NEW WORD"],
            ["INACTIVE"],
            ["CREATE FAILED", "START PENDING", "START IN_PROGRESS", "DELETE PENDING", "DELETE IN_PROGRESS"],
        ),
        ("gone", ["ACTIVE", "DELETE PENDING", "DELETE IN_PROGRESS", "CREATE FAILED", "INACTIVE", "A NEW WORD"], [], []),
    ],
)
def test_a_status_means_what_is_waited_for(until, running, succeeded, failed):
    for state, statuses in ((State.RUNNING, running), (State.SUCCEEDED, succeeded), (State.FAILED, failed)):
        assert {status: state_of(status, until) for status in statuses} == dict.fromkeys(statuses, state)


BASE = "arn:aws:personalize:us-east-1:123456789012:"
ARN = f"{BASE}batch-inference-job/nightly"


def test_the_names_of_a_kind():
    assert (BATCH_INFERENCE_JOB.words, BATCH_INFERENCE_JOB.arn_type) == ("batch inference job", "batch-inference-job")
    assert job_kind_of(f"{BASE}batch-segment-job/a") is BATCH_SEGMENT_JOB


def arn_of(kind):
    return f"{BASE}{kind.arn_type}/" + "/".join(["part"] * kind.arn_parts)


def test_an_arn_tells_its_kind(kind):
    assert kind_of(arn_of(kind)) is kind


@pytest.mark.parametrize("end", ["dataset/group", "campaign/a/b", "solution/a/b/c", "thing/a", "recipe/aws-sims"])
def test_an_arn_of_no_kind_is_refused(end):
    with pytest.raises(InvalidRequestError, match=rf"^job_arn: expected the ARN of a resource, got .*{end}"):
        kind_of(BASE + end, parameter="job_arn")


@pytest.mark.parametrize(
    ("status", "state", "known"),
    [
        ("CREATE PENDING", State.RUNNING, True),
        ("CREATE IN_PROGRESS", State.RUNNING, True),
        ("PENDING", State.RUNNING, True),
        ("IN PROGRESS", State.RUNNING, True),
        ("CREATE STOPPING", State.RUNNING, True),
        ("ACTIVE", State.SUCCEEDED, True),
        ("CREATE FAILED", State.FAILED, True),
        ("CREATE STOPPED", State.FAILED, True),
        ("UPDATE PENDING", State.RUNNING, False),
        ("active", State.RUNNING, False),
    ],
)
def test_what_a_status_means(status, state, known):
    for answer in ({"batchInferenceJob": {"status": status}}, {"status": status}):
        seen = read_status(BATCH_INFERENCE_JOB, answer)
        assert (seen.status, seen.state, seen.known) == (status, state, known)


def test_a_description_is_read_whole():
    created = datetime(2026, 11, 22, tzinfo=UTC)
    version = f"{BASE}solution/s/1"
    seen = read_status(
        BATCH_INFERENCE_JOB,
        {
            "batchInferenceJob": {
                "batchInferenceJobArn": ARN,
                "jobName": "nightly",
                "status": "CREATE FAILED",
                "failureReason": "no such bucket",
                "creationDateTime": created,
                "solutionVersionArn": version,
                "jobOutput": {"s3DataDestination": {"path": "s3://b/out/"}},
            }
        },
    )
    assert (seen.arn, seen.name, seen.created_at, seen.output_uri) == (ARN, "nightly", created, "s3://b/out/")
    assert (seen.solution_version_arn, seen.parent_arn) == (version, version)
    with pytest.raises(JobFailedError) as caught:
        seen.raise_if_failed()
    for part in ("nightly", ARN, "CREATE FAILED", "no such bucket"):
        assert part in str(caught.value)


def test_a_response_of_another_kind_is_no_status():
    with pytest.raises(UnexpectedAnswerError, match="batch segment job"):
        read_status(BATCH_SEGMENT_JOB, {"batchInferenceJob": {"status": "ACTIVE"}})


def test_every_kind_is_read_from_its_own_answer_and_no_other(kind):
    """Wrapped, bare, and as a line of a listing; an answer of any other kind is refused."""
    name = "part"
    described = {kind.arn_field: arn_of(kind), kind.name_field: name, "status": "ACTIVE"}
    if kind is SCHEMA:
        described = {kind.arn_field: arn_of(kind), kind.name_field: name, "schema": "{}"}
    for answer in ({kind.response_key: described}, described):
        seen = read_status(kind, answer, arn=arn_of(kind))
        assert (seen.arn, seen.name, seen.state) == (arn_of(kind), name, State.SUCCEEDED)
        with pytest.raises(UnexpectedAnswerError):
            read_status(kind, answer, arn=arn_of(kind) + "-2")
    for other in set(KINDS) - {kind}:
        with pytest.raises(UnexpectedAnswerError):
            read_status(other, {kind.response_key: described})


@pytest.mark.parametrize(
    ("kind", "described", "parent"),
    [
        (CAMPAIGN, {"solutionVersionArn": f"{BASE}solution/s/1"}, f"{BASE}solution/s"),
        (SOLUTION_VERSION, {"solutionVersionArn": f"{BASE}solution/s/1"}, f"{BASE}solution/s"),
        (DATASET_IMPORT_JOB, {"datasetArn": f"{BASE}dataset/g/ITEMS"}, f"{BASE}dataset/g/ITEMS"),
        (SOLUTION, {"datasetGroupArn": f"{BASE}dataset-group/g"}, f"{BASE}dataset-group/g"),
        (DATASET_IMPORT_JOB, {}, None),
        (SCHEMA, {"schemaArn": f"{BASE}schema/s"}, None),
    ],
)
def test_what_narrows_the_listing_is_read(kind, described, parent):
    assert read_status(kind, {"status": "ACTIVE", kind.arn_field: arn_of(kind)} | described).parent_arn == parent


@pytest.mark.parametrize(
    ("kind", "own", "update", "status", "state"),
    [
        (CAMPAIGN, "ACTIVE", {"status": "CREATE PENDING"}, "CREATE PENDING", State.RUNNING),
        (CAMPAIGN, "ACTIVE", {"status": "ACTIVE"}, "ACTIVE", State.SUCCEEDED),
        (CAMPAIGN, "ACTIVE", {"status": "CREATE FAILED", "failureReason": "why"}, "CREATE FAILED", State.FAILED),
        (CAMPAIGN, "ACTIVE", None, "ACTIVE", State.SUCCEEDED),
        (CAMPAIGN, "DELETE PENDING", {"status": "CREATE IN_PROGRESS"}, "DELETE PENDING", State.FAILED),
        (RECOMMENDER, "INACTIVE", {"status": "ACTIVE"}, "ACTIVE", State.SUCCEEDED),
        (DATASET, "ACTIVE", {"status": "CREATE IN_PROGRESS"}, "CREATE IN_PROGRESS", State.RUNNING),
    ],
)
def test_an_update_has_a_status_of_its_own(kind, own, update, status, state):
    answer = {kind.arn_field: arn_of(kind), "status": own, kind.update_key: update}
    seen = read_status(kind, {kind.response_key: answer}, "updated")
    assert (seen.status, seen.state, seen.failure_reason) == (status, state, (update or {}).get("failureReason"))
    assert read_status(kind, {kind.response_key: answer}).status == own


@pytest.mark.parametrize("update", ["ACTIVE", {}, {"status": 5}, []])
def test_an_update_that_cannot_be_read_is_no_status(update):
    answer = {CAMPAIGN.arn_field: arn_of(CAMPAIGN), "status": "ACTIVE", CAMPAIGN.update_key: update}
    with pytest.raises(UnexpectedAnswerError, match="latestCampaignUpdate"):
        read_status(CAMPAIGN, answer, "updated")
