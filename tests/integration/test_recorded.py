"""
What AWS answers, replayed over HTTP to the hook, the operators, the sensors and the trigger with its poller.

The stand-in and the package read one table of kinds and statuses, and so could share a mistake. Here the answers are
written out, each field of a description and of a listing as the service gives it, and the stand-in has no part.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_personalize.compat import TaskDeferred
from airflow_provider_personalize.exceptions import JobConflictError, JobFailedError, ServiceError
from airflow_provider_personalize.hooks.personalize import PersonalizeHook, QuotaFullError
from airflow_provider_personalize.operators.batch import (
    PersonalizeCreateBatchInferenceJobOperator,
    PersonalizeCreateBatchSegmentJobOperator,
)
from airflow_provider_personalize.sensors.batch import (
    PersonalizeBatchInferenceJobSensor,
    PersonalizeBatchSegmentJobSensor,
)
from airflow_provider_personalize.service.kinds import BATCH_INFERENCE_JOB, State

BASE = "arn:aws:personalize:eu-west-1:123456789012:"
SOLUTION = f"{BASE}solution/user-personalization"
VERSION = f"{SOLUTION}/aa0adb7f"
ROLE = "arn:aws:iam::123456789012:role/PersonalizeRole"
CREATED = 1650461043.613
NO_PRIVILEGES = "Insufficient privileges for accessing data in Amazon S3"

#: Descriptions, with every field that one can have.
INFERENCE_JOB: dict[str, Any] = {
    "jobName": "nightly",
    "batchInferenceJobArn": f"{BASE}batch-inference-job/nightly",
    "filterArn": f"{BASE}filter/unseen",
    "solutionVersionArn": VERSION,
    "numResults": 25,
    "jobInput": {
        "s3DataSource": {"path": "s3://shop/in/users.json", "kmsKeyArn": "arn:aws:kms:eu-west-1:123456789012:key/a"}
    },
    "jobOutput": {
        "s3DataDestination": {"path": "s3://shop/out/", "kmsKeyArn": "arn:aws:kms:eu-west-1:123456789012:key/b"}
    },
    "batchInferenceJobConfig": {
        "itemExplorationConfig": {"explorationItemAgeCutOff": "30.0", "explorationWeight": "0.3"}
    },
    "roleArn": ROLE,
    "batchInferenceJobMode": "BATCH_INFERENCE",
    "status": "ACTIVE",
    "creationDateTime": CREATED,
    "lastUpdatedDateTime": 1650462362.2,
}
SEGMENT_JOB: dict[str, Any] = {
    "jobName": "audience",
    "batchSegmentJobArn": f"{BASE}batch-segment-job/audience",
    "filterArn": f"{BASE}filter/adults",
    "solutionVersionArn": VERSION,
    "numResults": 25,
    "jobInput": {"s3DataSource": {"path": "s3://shop/in/items.json"}},
    "jobOutput": {"s3DataDestination": {"path": "s3://shop/out/"}},
    "roleArn": ROLE,
    "status": "ACTIVE",
    "creationDateTime": CREATED,
    "lastUpdatedDateTime": 1650462362.2,
}
#: What a listing has of a job.
IN_A_LIST = ("jobName", "status", "creationDateTime", "lastUpdatedDateTime", "failureReason", "solutionVersionArn")

RUNNING = ["CREATE PENDING", "CREATE IN_PROGRESS", "PENDING", "IN PROGRESS"]


class Aws:
    """
    The service's side of the wire.

    :param url: Where it listens.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self._answers: dict[str, list[tuple[int, str]]] = {}
        self._lock = threading.Lock()

    def answer(self, operation: str, *answers: dict[str, Any] | tuple[int, str]) -> None:
        """Set what an operation is answered, in turn; the last one for good."""
        self._answers[operation] = [
            answer if isinstance(answer, tuple) else (200, json.dumps(answer)) for answer in answers
        ]

    def next_answer(self, operation: str, request: dict[str, Any]) -> tuple[int, str]:
        with self._lock:
            self.requests.append((operation, request))
            answers = self._answers.get(operation)
            if answers is None:
                return refused("AccessDeniedException", f"no answer to {operation} was recorded")
            return answers.pop(0) if len(answers) > 1 else answers[0]

    @property
    def counted(self) -> Counter[str]:
        """How often each operation was asked for."""
        return Counter(operation for operation, _ in self.requests)


def refused(code: str, message: str, status: int = 400) -> tuple[int, str]:
    """Return a refusal in the form of the JSON protocol."""
    return status, json.dumps({"__type": code, "message": message})


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[Aws]:
    """A server that answers as it is told; the environment points boto3 at it."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            prefix, _, operation = self.headers["X-Amz-Target"].partition(".")
            assert prefix == "AmazonPersonalize"
            status, body = answers.next_answer(operation, request)
            self.send_response(status)
            self.send_header("Content-Type", "application/x-amz-json-1.1")
            self.send_header("Content-Length", str(len(body.encode())))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        answers = Aws(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", answers.url)
        monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
        monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps({"conn_type": "aws"}))
        try:
            yield answers
        finally:
            server.shutdown()
            thread.join()


class Kind:
    """One kind of job, as these tests need it: its description, and who waits for it."""

    def __init__(self, noun: str, job: dict[str, Any], sensor: type, operator: type) -> None:
        self.noun = noun
        self.key = noun[0].lower() + noun[1:]
        self.job = job
        self.sensor = sensor
        self.operator = operator
        self.arn = job[f"{self.key}Arn"]

    def described(self, status: str = "ACTIVE", **more: Any) -> dict[str, Any]:
        return {self.key: self.job | {"status": status} | more}

    def summary(self, name: str, **more: Any) -> dict[str, Any]:
        job = self.job | more
        arn = self.arn.rpartition("/")[0] + f"/{name}"
        return {key: job[key] for key in IN_A_LIST if key in job} | {"jobName": name, f"{self.key}Arn": arn}

    def waiter(self, **arguments: Any) -> Any:
        return self.sensor(task_id="wait", job_arn=self.arn, **{"poke_interval": 0.1, "timeout": 30} | arguments)

    def creator(self, **arguments: Any) -> Any:
        """Build the operator that asks for the very job that is described."""
        job = self.job
        source, destination = job["jobInput"]["s3DataSource"], job["jobOutput"]["s3DataDestination"]
        given = {
            "task_id": "recommend",
            "job_name": job["jobName"],
            "solution_version_arn": job["solutionVersionArn"],
            "filter_arn": job["filterArn"],
            "num_results": job["numResults"],
            "input_uri": source["path"],
            "output_uri": destination["path"],
            "input_kms_key_arn": source.get("kmsKeyArn"),
            "output_kms_key_arn": destination.get("kmsKeyArn"),
            "role_arn": job["roleArn"],
            "poll_interval": 0.1,
        }
        if "batchInferenceJobMode" in job:
            given["batch_inference_job_mode"] = job["batchInferenceJobMode"]
            given["batch_inference_job_config"] = {
                "itemExplorationConfig": {"explorationItemAgeCutOff": 30, "explorationWeight": 0.3}
            }
        return self.operator(**given | arguments)


INFERENCE = Kind(
    "BatchInferenceJob", INFERENCE_JOB, PersonalizeBatchInferenceJobSensor, PersonalizeCreateBatchInferenceJobOperator
)
SEGMENT = Kind(
    "BatchSegmentJob", SEGMENT_JOB, PersonalizeBatchSegmentJobSensor, PersonalizeCreateBatchSegmentJobOperator
)

each_kind = pytest.mark.parametrize("kind", [INFERENCE, SEGMENT], ids=lambda kind: kind.key)
both_halves = pytest.mark.parametrize("deferrable", [False, True], ids=["sync", "deferred"])


def context() -> dict[str, Any]:
    ti = SimpleNamespace(
        dag_id="nightly",
        task_id="recommend",
        run_id="manual__1",
        map_index=-1,
        try_number=1,
        xcom_push=lambda **_: None,
    )
    return {"ti": ti, "run_id": ti.run_id}


async def event_of(trigger: Any) -> dict[str, Any]:
    async with asyncio.timeout(60):
        async for event in trigger.run():
            return dict(event.payload)
    raise AssertionError("the trigger ended without an event")


def run_through(task: Any) -> Any:
    """Run a task to its end, with its trigger where it defers."""
    try:
        return task.execute(context())
    except TaskDeferred as deferred:
        event = asyncio.run(event_of(deferred.trigger))
        return getattr(task, deferred.method_name)(context(), event=event, **(deferred.kwargs or {}))


@each_kind
def test_every_field_of_a_description_is_read(aws, kind):
    aws.answer(f"Describe{kind.noun}", kind.described("CREATE FAILED", failureReason=NO_PRIVILEGES))
    seen = PersonalizeHook().get_job_status(kind.arn)
    assert (seen.arn, seen.name, seen.status) == (kind.arn, kind.job["jobName"], "CREATE FAILED")
    assert (seen.failure_reason, seen.solution_version_arn) == (NO_PRIVILEGES, VERSION)
    assert seen.created_at == datetime(2022, 4, 20, 13, 24, 3, 613000, tzinfo=UTC)
    assert seen.output_uri == "s3://shop/out/"
    assert aws.requests == [(f"Describe{kind.noun}", {f"{kind.key}Arn": kind.arn})]
    described = PersonalizeHook().describe_job(kind.arn)
    times = {"creationDateTime", "lastUpdatedDateTime"}
    assert {key: value for key, value in described.items() if key not in times} == {
        key: value
        for key, value in (kind.job | {"status": "CREATE FAILED", "failureReason": NO_PRIVILEGES}).items()
        if key not in times
    }


@each_kind
def test_a_description_may_have_no_more_than_the_required_fields(aws, kind):
    aws.answer(f"Describe{kind.noun}", {kind.key: {f"{kind.key}Arn": kind.arn, "status": "ACTIVE"}})
    seen = PersonalizeHook().get_job_status(kind.arn)
    assert (seen.arn, seen.name, seen.state) == (kind.arn, kind.job["jobName"], State.SUCCEEDED)


@each_kind
@both_halves
@pytest.mark.parametrize("statuses", [RUNNING[:2], RUNNING[2:]], ids=["as recorded", "as documented"])
def test_a_wait_goes_through_the_statuses(aws, kind, deferrable, statuses):
    aws.answer(f"Describe{kind.noun}", *map(kind.described, [*statuses, "ACTIVE"]))
    assert run_through(kind.waiter(deferrable=deferrable)) == kind.arn
    assert aws.counted == {f"Describe{kind.noun}": 3}


@each_kind
@pytest.mark.parametrize("status", RUNNING)
def test_a_job_that_runs_is_not_there_yet(aws, kind, status):
    aws.answer(f"Describe{kind.noun}", kind.described(status))
    assert kind.waiter().poke(context()) is False


@each_kind
@both_halves
def test_a_failed_job_fails_with_the_services_reason(aws, kind, deferrable):
    failed = kind.described("CREATE FAILED", failureReason=NO_PRIVILEGES)
    aws.answer(f"Describe{kind.noun}", kind.described("CREATE PENDING"), failed)
    with pytest.raises(Exception, match="CREATE FAILED") as raised:
        run_through(kind.waiter(deferrable=deferrable))
    assert NO_PRIVILEGES in str(raised.value)
    assert kind.arn in str(raised.value)
    with pytest.raises(JobFailedError, match="Insufficient privileges"):
        PersonalizeHook().wait_for_job(kind.arn, poll_interval=0.1, deadline=CREATED)


@pytest.mark.parametrize(
    "trouble",
    [
        refused("ThrottlingException", "Rate exceeded"),
        refused("LimitExceededException", "Rate exceeded"),
        refused("InternalFailure", "", 500),
        (503, "<html><body>Service Unavailable</body></html>"),
        refused("ExpiredTokenException", "The security token included in the request is expired"),
    ],
    ids=["throttled", "limit", "500", "503 in HTML", "expired"],
)
@both_halves
def test_trouble_in_a_look_is_waited_out(aws, trouble, deferrable):
    kind = INFERENCE
    aws.answer(f"Describe{kind.noun}", *[trouble] * 3, kind.described())
    assert run_through(kind.waiter(deferrable=deferrable)) == kind.arn


@both_halves
@pytest.mark.parametrize(
    "refusal",
    [
        refused("ResourceNotFoundException", "Can't find resource for the given ARN"),
        refused("InvalidInputException", "The given ARN is invalid"),
        (400, json.dumps({"__type": "AccessDeniedException", "Message": "User: u is not authorized to perform: p"})),
        refused("com.amazonaws.personalize#ResourceNotFoundException", "Can't find resource for the given ARN"),
    ],
    ids=["not found", "invalid", "denied", "with its namespace"],
)
def test_a_refusal_ends_a_wait_at_once(aws, refusal, deferrable):
    kind = SEGMENT
    aws.answer(f"Describe{kind.noun}", refusal)
    body = json.loads(refusal[1])
    with pytest.raises(Exception, match=body["__type"].rpartition("#")[2]) as raised:
        run_through(kind.waiter(deferrable=deferrable))
    assert body.get("message", body.get("Message")) in str(raised.value)
    assert aws.counted == {f"Describe{kind.noun}": 1}


@each_kind
def test_many_waits_read_the_lists(aws, kind):
    """The list has jobs of others, and comes in pages; a summary has fewer fields than a description."""
    mine = [f"mine-{number}" for number in range(6)]
    failed = kind.summary("mine-5", status="CREATE FAILED", failureReason=NO_PRIVILEGES)
    aws.answer(
        f"List{kind.noun}s",
        {f"{kind.key}s": [kind.summary("other"), *map(kind.summary, mine[:3])], "nextToken": "more"},
        {f"{kind.key}s": [*map(kind.summary, mine[3:5]), failed, kind.summary("another")]},
    )

    async def wait() -> list[dict[str, Any]]:
        from airflow_provider_personalize.triggers.personalize import PersonalizeJobTrigger

        stem = kind.arn.rpartition("/")[0]
        arguments = {"poll_interval": 1.0, "deadline": datetime.now(UTC).timestamp() + 60}
        return await asyncio.gather(
            *(
                event_of(PersonalizeJobTrigger(f"{stem}/{name}", solution_version_arn=VERSION, **arguments))
                for name in mine
            )
        )

    *succeeded, last = asyncio.run(wait())
    assert [event["status"] for event in succeeded] == ["success"] * 5
    assert last["status"] == "error"
    assert NO_PRIVILEGES in last["message"]
    assert aws.counted == {f"List{kind.noun}s": 2}
    assert [request.get("nextToken") for _, request in aws.requests] == [None, "more"]
    assert {request["solutionVersionArn"] for _, request in aws.requests} == {VERSION}


def test_the_newest_active_version_of_a_solution(aws):
    def version(number: int, status: str, created: float, **more: Any) -> dict[str, Any]:
        arn = f"{SOLUTION}/{number:08x}"
        return {
            "solutionVersionArn": arn,
            "status": status,
            "trainingMode": "FULL",
            "trainingType": "AUTOMATIC",
            "creationDateTime": created,
            "lastUpdatedDateTime": created + 2400,
            **more,
        }

    aws.answer(
        "ListSolutionVersions",
        {
            "solutionVersions": [
                version(1, "ACTIVE", CREATED),
                version(2, "ACTIVE", CREATED + 200),
                version(3, "CREATE FAILED", CREATED + 300, failureReason="Dataset has fewer than 25 users"),
            ],
            "nextToken": "more",
        },
        {
            "solutionVersions": [
                version(4, "ACTIVE", CREATED + 100),
                version(5, "CREATE STOPPED", CREATED + 400),
                version(6, "CREATE STOPPING", CREATED + 500),
                version(7, "CREATE IN_PROGRESS", CREATED + 600),
                version(8, "CREATE PENDING", CREATED + 700),
            ]
        },
    )
    assert PersonalizeHook().newest_active_version(SOLUTION) == f"{SOLUTION}/00000002"


@each_kind
@both_halves
def test_a_job_is_created_and_waited_for(aws, kind, deferrable):
    aws.answer(f"Create{kind.noun}", {f"{kind.key}Arn": kind.arn})
    aws.answer(f"Describe{kind.noun}", *map(kind.described, ["CREATE PENDING", "CREATE IN_PROGRESS", "ACTIVE"]))
    task = kind.creator(wait_for_completion=not deferrable, deferrable=deferrable)
    assert run_through(task) == kind.arn
    [sent] = [request for operation, request in aws.requests if operation.startswith("Create")]
    answered = {"status", "creationDateTime", "lastUpdatedDateTime", f"{kind.key}Arn", "batchInferenceJobConfig"}
    assert {key: value for key, value in sent.items() if key not in answered} == {
        key: value for key, value in kind.job.items() if key not in answered
    }


@each_kind
def test_a_name_that_is_taken_by_the_same_request_is_that_job(aws, kind):
    taken = refused("ResourceAlreadyExistsException", "Another resource with Arn ... already exists.")
    aws.answer(f"Create{kind.noun}", taken)
    aws.answer(f"Describe{kind.noun}", kind.described("CREATE IN_PROGRESS"))
    assert kind.creator().execute(context()) == kind.arn
    assert aws.counted[f"Create{kind.noun}"] == 1


@each_kind
@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"num_results": 24}, "numResults"),
        ({"filter_arn": None}, "filterArn"),
        ({"filter_arn": f"{BASE}filter/other"}, "filterArn"),
        ({"role_arn": f"{ROLE}2"}, "roleArn"),
        ({"output_uri": "s3://shop/elsewhere/"}, "jobOutput"),
        ({"input_uri": "s3://shop/in/others.json"}, "jobInput"),
        ({"solution_version_arn": f"{SOLUTION}/00000001"}, "solutionVersionArn"),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_a_name_that_is_taken_by_another_request_is_a_conflict(aws, kind, changes, field):
    aws.answer(f"Create{kind.noun}", refused("ResourceAlreadyExistsException", "Another resource ... already exists."))
    aws.answer(f"Describe{kind.noun}", kind.described())
    with pytest.raises(Exception, match=field) as raised:
        kind.creator(**changes).execute(context())
    assert kind.arn in str(raised.value)


def request_of_a_job() -> dict[str, Any]:
    left_out = {"batchInferenceJobArn", "status", "creationDateTime", "lastUpdatedDateTime"}
    return {key: value for key, value in INFERENCE_JOB.items() if key not in left_out}


def test_a_full_quota_is_told_from_a_request_that_is_refused(aws):
    hook = PersonalizeHook()
    full = "More than 5 resources with PENDING or IN_PROGRESS status."
    not_found = refused("ResourceNotFoundException", "Can't find resource for the given ARN")
    aws.answer("CreateBatchInferenceJob", refused("LimitExceededException", full))
    aws.answer("DescribeBatchInferenceJob", not_found)
    with pytest.raises(QuotaFullError, match="More than 5 resources"):
        hook.create_job(BATCH_INFERENCE_JOB, request_of_a_job())
    assert aws.counted["CreateBatchInferenceJob"] == 1


@pytest.mark.parametrize(
    "code",
    [
        "InvalidInputException",
        "ResourceNotFoundException",
        "ResourceInUseException",
        "TooManyTagsException",
        "AccessDeniedException",
    ],
)
def test_a_request_that_is_refused_is_not_repeated(aws, code):
    aws.answer("CreateBatchInferenceJob", refused(code, "in the service's words"))
    with pytest.raises(ServiceError, match="in the service's words") as raised:
        PersonalizeHook().create_job(BATCH_INFERENCE_JOB, request_of_a_job())
    assert (raised.value.code, raised.value.operation) == (code, "CreateBatchInferenceJob")
    assert aws.counted == {"CreateBatchInferenceJob": 1}


@pytest.mark.parametrize(
    "trouble",
    [refused("ThrottlingException", "Rate exceeded"), (503, "<html><body>Service Unavailable</body></html>")],
    ids=["throttled", "503 in HTML"],
)
def test_a_create_call_that_meets_trouble_is_repeated(aws, trouble):
    aws.answer("CreateBatchInferenceJob", trouble, {"batchInferenceJobArn": INFERENCE.arn})
    created = PersonalizeHook().create_job(BATCH_INFERENCE_JOB, request_of_a_job())
    assert created.arn == INFERENCE.arn
    assert aws.counted == {"CreateBatchInferenceJob": 2}


def test_an_answer_that_was_lost_is_found_again(aws):
    """The first call went through and its answer did not: the second is told that the name is taken."""
    aws.answer(
        "CreateBatchInferenceJob",
        (500, ""),
        refused("ResourceAlreadyExistsException", "Another resource ... already exists."),
    )
    aws.answer("DescribeBatchInferenceJob", INFERENCE.described("CREATE PENDING"))
    found = PersonalizeHook().create_job(BATCH_INFERENCE_JOB, request_of_a_job(), if_job_exists="fail")
    assert found.arn == INFERENCE.arn


def test_a_job_that_is_there_already_is_refused_where_that_is_wanted(aws):
    aws.answer(
        "CreateBatchInferenceJob", refused("ResourceAlreadyExistsException", "Another resource ... already exists.")
    )
    aws.answer("DescribeBatchInferenceJob", INFERENCE.described())
    with pytest.raises(JobConflictError):
        PersonalizeHook().create_job(BATCH_INFERENCE_JOB, request_of_a_job(), if_job_exists="fail")
