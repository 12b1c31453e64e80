"""Operators, sensors and trigger against the stand-in: what is on the service afterwards, and how each wait ends."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import re
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from airflow_provider_personalize.compat import AirflowFailException, AirflowSensorTimeout, TaskDeferred
from airflow_provider_personalize.exceptions import (
    InvalidRequestError,
    JobConflictError,
    JobFailedError,
    JobTimeoutError,
    PersonalizeError,
    QuotaTimeoutError,
    ServiceError,
)
from airflow_provider_personalize.hooks.personalize import PersonalizeHook
from airflow_provider_personalize.operators.batch import (
    PersonalizeCreateBatchInferenceJobOperator,
    PersonalizeCreateBatchSegmentJobOperator,
)
from airflow_provider_personalize.sensors.batch import (
    PersonalizeBatchInferenceJobSensor,
    PersonalizeBatchSegmentJobSensor,
)
from airflow_provider_personalize.triggers.personalize import PersonalizeJobTrigger

ROLE = "arn:aws:iam::123456789012:role/personalize"
BUCKET = "personalize-local"


@pytest.fixture
def service(local):
    """The stand-in, with one input object."""
    s3 = local.s3(local.region)
    s3.put_object(Bucket=BUCKET, Key="in/users.json", Body=b'{"userId": "1"}\n{"userId": "2"}\n')
    s3.put_object(Bucket=BUCKET, Key="in-items/items.json", Body=b'{"itemId": "1"}\n')
    return local


def context(**changes):
    """As much of a task's context as the operators use; what they push is kept in ``pushed``."""
    pushed = {}
    ti = SimpleNamespace(
        dag_id="nightly", task_id="recommend", run_id="manual__1", map_index=-1, try_number=1, pushed=pushed
    )
    ti.xcom_push = lambda key, value, **_: pushed.__setitem__(key, value)
    for name, value in changes.items():
        setattr(ti, name, value)
    return {"ti": ti, "run_id": ti.run_id}


def inference(service, **changes):
    arguments = {
        "task_id": "recommend",
        "solution_version_arn": service.solution_version_arns["user-personalization"],
        "role_arn": ROLE,
        "input_uri": f"s3://{BUCKET}/in/",
        "output_uri": f"s3://{BUCKET}/out/",
        "poll_interval": 0.1,
        **changes,
    }
    return PersonalizeCreateBatchInferenceJobOperator(**arguments)


def jobs(service):
    return service.controls.state()["jobs"]


def resume(operator, deferred, event, ctx):
    """What Airflow does with a deferred task when its trigger has fired."""
    return getattr(operator, deferred.method_name)(ctx, event=event, **(deferred.kwargs or {}))


def event_of(trigger):
    """Rebuild a trigger from what it serializes, as the triggerer does, and run it."""

    async def run():
        path, values = trigger.serialize()
        module, _, name = path.rpartition(".")
        rebuilt = getattr(importlib.import_module(module), name)(**values)
        async with asyncio.timeout(30):
            async for event in rebuilt.run():
                return json.loads(json.dumps(event.payload, default=str))
        return None

    return asyncio.run(run())


def run_through(operator, ctx):
    """Run a task to its end, deferring as often as it wants to."""
    try:
        return operator.execute(ctx)
    except TaskDeferred as raised:
        deferred = raised
    while True:
        event = event_of(deferred.trigger)
        try:
            return resume(operator, deferred, event, ctx)
        except TaskDeferred as raised:
            deferred = raised


both_halves = pytest.mark.parametrize("deferrable", [False, True], ids=["sync", "deferred"])


class TestCreate:
    def test_the_whole_request_arrives(self, service):
        arn = inference(
            service,
            num_results=7,
            batch_inference_job_config={"itemExplorationConfig": {"explorationWeight": 0.3}},
            batch_inference_job_mode="BATCH_INFERENCE",
            input_kms_key_arn="arn:aws:kms:us-east-1:123456789012:key/a",
            output_kms_key_arn="arn:aws:kms:us-east-1:123456789012:key/b",
            tags={"team": "email"},
        ).execute(context())
        [job] = jobs(service)
        assert job["arn"] == arn
        assert job["numResults"] == 7
        assert job["batchInferenceJobConfig"] == {"itemExplorationConfig": {"explorationWeight": "0.3"}}
        assert job["jobInput"]["s3DataSource"]["kmsKeyArn"].endswith("key/a")
        assert job["jobOutput"]["s3DataDestination"]["kmsKeyArn"].endswith("key/b")
        tags = PersonalizeHook().conn.list_tags_for_resource(resourceArn=arn)["tags"]
        assert tags == [{"tagKey": "team", "tagValue": "email"}]

    def test_segments(self, service):
        operator = PersonalizeCreateBatchSegmentJobOperator(
            task_id="audience",
            solution_arn=service.solution_arns["item-affinity"],
            role_arn=ROLE,
            input_uri=f"s3://{BUCKET}/in-items/",
            output_uri=f"s3://{BUCKET}/out/",
            num_results=3,
            wait_for_completion=True,
            poll_interval=0.1,
        )
        arn = operator.execute(context())
        assert ":batch-segment-job/nightly-recommend-" in arn
        body = service.s3(service.region).get_object(Bucket=BUCKET, Key="out/items.json.out")["Body"].read()
        assert len(json.loads(body)["output"]["usersList"]) == 3

    def test_the_newest_active_version_of_a_solution_is_used(self, service):
        arn = inference(
            service, solution_version_arn=None, solution_arn=service.solution_arns["user-personalization"]
        ).execute(context())
        assert (
            PersonalizeHook().describe_job(arn)["solutionVersionArn"]
            == (service.solution_version_arns["user-personalization"])
        )

    def test_a_retry_finds_its_job(self, service):
        arns = {inference(service).execute(context(try_number=n)) for n in (1, 2, 3)}
        assert len(arns) == 1
        assert len(jobs(service)) == 1

    def test_another_run_map_index_or_request_has_its_own_job(self, service):
        arns = {
            inference(service).execute(context()),
            inference(service).execute(context(run_id="manual__2")),
            inference(service).execute(context(map_index=0)),
            inference(service, num_results=3).execute(context()),
        }
        assert len(arns) == len(jobs(service)) == 4

    def test_a_failed_job_gives_way_to_the_next_suffix(self, service):
        service.controls.add_fault("fail_job", times=2, reason="a bad night")
        operator = inference(service, wait_for_completion=True)
        for _ in range(2):
            with pytest.raises(JobFailedError, match="a bad night"):
                operator.execute(context())
        arn = operator.execute(context())
        assert arn.endswith("-3")
        assert [job["status"] for job in jobs(service)] == ["CREATE FAILED", "CREATE FAILED", "ACTIVE"]
        assert operator.execute(context()) == arn

    @pytest.mark.parametrize(
        ("fault", "if_job_exists"),
        [
            ("drop", "reuse"),
            ("error", "reuse"),
            ("throttle", "fail"),
            ("drop_after", "reuse"),
            ("drop_after", "fail"),
            ("drop_after", "new"),
        ],
    )
    def test_an_answer_that_is_lost_makes_no_second_job(self, service, fault, if_job_exists):
        service.controls.add_fault(fault, times=2 if fault != "drop_after" else 1, operation="CreateBatchInferenceJob")
        arn = inference(service, if_job_exists=if_job_exists).execute(context())
        assert [job["arn"] for job in jobs(service)] == [arn]

    def test_a_name_that_is_taken_by_another_request_is_a_conflict(self, service):
        inference(service, job_name="nightly").execute(context())
        with pytest.raises(JobConflictError) as caught:
            inference(service, job_name="nightly", num_results=3).execute(context())
        assert list(caught.value.differences) == ["numResults"]
        assert caught.value.differences["numResults"][1] == 3
        assert len(jobs(service)) == 1

    def test_fail_and_new(self, service):
        inference(service, job_name="nightly").execute(context())
        with pytest.raises(JobConflictError, match="if_job_exists='fail'"):
            inference(service, job_name="nightly", if_job_exists="fail").execute(context())
        arns = [inference(service, job_name="nightly", if_job_exists="new").execute(context()) for _ in range(2)]
        assert [arn.rpartition("/")[2] for arn in arns] == ["nightly-2", "nightly-3"]

    def test_what_links_need_is_there_before_the_wait(self, service):
        ctx = context()
        with pytest.raises(TaskDeferred):
            inference(service, deferrable=True).execute(ctx)
        pushed = ctx["ti"].pushed
        assert pushed["personalize_job"]["job_arn"] == jobs(service)[0]["arn"]
        assert pushed["personalize_output"]["bucket"] == BUCKET
        assert pushed["personalize_solution"]["solution_arn"] == service.solution_arns["user-personalization"]

    @pytest.mark.parametrize(
        ("wrong", "words"),
        [
            ({"solution_arn": "arn:aws:personalize:us-east-1:123456789012:solution/s"}, "exactly one of"),
            ({"solution_version_arn": None}, "exactly one of"),
            ({"solution_version_arn": "s"}, "solution_version_arn"),
            ({"solution_version_arn": None, "solution_arn": "s"}, "solution_arn"),
            ({"input_uri": "in/"}, "input_uri"),
            ({"job_name": "a b"}, "job_name"),
            ({"if_job_exists": "maybe"}, "if_job_exists"),
            ({"batch_inference_job_config": {"rankingInfluense": {}}}, "rankingInfluense"),
            ({"num_results": "many"}, "numResults"),
        ],
    )
    def test_a_wrong_argument_is_named_and_nothing_is_created(self, service, wrong, words):
        with pytest.raises(InvalidRequestError, match=words):
            inference(service, **wrong).execute(context())
        assert jobs(service) == []

    @pytest.mark.parametrize("output", ["beside/", "beside/out/", "beside"])
    def test_output_beside_the_input_is_told_of_and_left_to_the_service(self, service, output, log):
        # In a place of its own: what is written there would be input of other tests.
        service.s3(service.region).put_object(Bucket=BUCKET, Key="beside/users.json", Body=b'{"userId": "1"}\n')
        operator = inference(service, input_uri=f"s3://{BUCKET}/beside/", output_uri=f"s3://{BUCKET}/{output}")
        arn = operator.execute(context())
        assert [job["arn"] for job in jobs(service)] == [arn]
        assert "one lies under the other" in log()

    @pytest.mark.parametrize(
        ("changes", "fault", "code", "words"),
        [
            ({}, "deny", "AccessDeniedException", "iam:PassRole on " + ROLE),
            (
                {"solution_version_arn": "arn:aws:personalize:us-east-1:123456789012:solution/none/12345678"},
                None,
                "ResourceNotFoundException",
                "us-east-1",
            ),
            ({"num_results": 100_000}, None, "InvalidInputException", "s3:ListBucket"),
        ],
    )
    def test_a_refusal_says_what_to_do(self, service, changes, fault, code, words):
        if fault:
            service.controls.add_fault(fault, operation="CreateBatchInferenceJob")
        with pytest.raises(ServiceError) as caught:
            inference(service, **changes).execute(context())
        assert caught.value.code == code
        assert words in str(caught.value)
        assert jobs(service) == []


class TestQuota:
    @both_halves
    def test_a_full_quota_is_waited_out(self, service, deferrable):
        ctxs = [context(map_index=n) for n in range(8)]
        arns = [run_through(inference(service, deferrable=deferrable), ctx) for ctx in ctxs]
        assert len(set(arns)) == len(jobs(service)) == 8
        assert service.controls.state()["most_running"]["BatchInferenceJob"] <= 5

    @both_halves
    def test_it_is_waited_for_no_longer_than_asked(self, service, deferrable):
        service.controls.add_fault("limit", times=1000, operation="CreateBatchInferenceJob")
        started = time.monotonic()
        with pytest.raises(QuotaTimeoutError, match="include_deferred"):
            run_through(inference(service, deferrable=deferrable, quota_wait_timeout=0.5), context())
        assert time.monotonic() - started < 20
        assert jobs(service) == []

    def test_twenty_tasks_share_a_quota_of_five(self, service, monkeypatch):
        """No task asks more than ten times, however long it has to wait for its turn."""
        monkeypatch.setattr(service.api, "job_seconds", 2)
        with ThreadPoolExecutor(20) as pool:
            operators = [inference(service, poll_interval=0.5, wait_for_completion=True) for _ in range(20)]
            # Airflow 2 wraps execute() in a check that works on the main thread only.
            execute = inspect.unwrap(type(operators[0]).execute)
            tasks = [pool.submit(execute, operator, context(map_index=n)) for n, operator in enumerate(operators)]
        arns = {task.result() for task in tasks}
        state = service.controls.state()
        assert len(arns) == len(state["jobs"]) == 20
        assert {job["status"] for job in state["jobs"]} == {"ACTIVE"}
        assert state["most_running"]["BatchInferenceJob"] <= 5
        asked = Counter(call["jobName"] for call in state["create_calls"])
        assert max(asked.values()) <= 10

    def test_a_task_whose_own_job_fills_the_quota_finds_it(self, service):
        for n in range(5):
            inference(service).execute(context(map_index=n))
        assert inference(service).execute(context(map_index=4)) == jobs(service)[4]["arn"]
        assert len(jobs(service)) == 5


class TestWait:
    @both_halves
    def test_until_it_is_active(self, service, deferrable):
        operator = inference(service, wait_for_completion=True, deferrable=deferrable)
        arn = run_through(operator, context())
        assert [(job["arn"], job["status"]) for job in jobs(service)] == [(arn, "ACTIVE")]

    @both_halves
    def test_the_log_tells_what_was_asked_and_what_became_of_it(self, service, deferrable, log):
        operator = inference(service, wait_for_completion=True, deferrable=deferrable, num_results=7)
        arn = run_through(operator, context())
        story = log()
        told = ['"numResults": 7', f"Created the batch inference job .*{arn}", "is ACTIVE"]
        found = [re.search(pattern, story) for pattern in told]
        assert all(found), story
        assert [match.start() for match in found] == sorted(match.start() for match in found)

    @both_halves
    def test_until_it_fails(self, service, deferrable):
        service.controls.add_fault("fail_job", reason="no such bucket")
        with pytest.raises(JobFailedError, match="no such bucket") as caught:
            run_through(inference(service, wait_for_completion=True, deferrable=deferrable), context())
        assert caught.value.job_arn == jobs(service)[0]["arn"]

    @both_halves
    def test_until_the_deadline(self, service, deferrable):
        service.controls.add_fault("never_finish")
        operator = inference(service, wait_for_completion=True, deferrable=deferrable, timeout=0.6)
        with pytest.raises(JobTimeoutError, match="billed") as caught:
            run_through(operator, context())
        assert caught.value.job_arn == jobs(service)[0]["arn"]
        assert caught.value.status in {"CREATE PENDING", "CREATE IN_PROGRESS"}

    @pytest.mark.parametrize(
        ("fault", "deferrable"),
        [
            ("throttle", False),
            ("drop", False),
            ("throttle", True),
            ("limit", True),
            ("unavailable", True),
            ("drop", True),
            ("expire", True),
        ],
    )
    def test_trouble_is_waited_out(self, service, deferrable, fault):
        service.controls.add_fault(fault, times=3, operation="DescribeBatchInferenceJob")
        arn = run_through(inference(service, wait_for_completion=True, deferrable=deferrable), context())
        assert [(job["arn"], job["status"]) for job in jobs(service)] == [(arn, "ACTIVE")]

    @both_halves
    def test_a_refusal_ends_it_at_once(self, service, deferrable):
        service.controls.add_fault("never_finish")
        service.controls.add_fault("deny", operation="DescribeBatchInferenceJob")
        with pytest.raises(ServiceError, match="personalize:DescribeBatchInferenceJob"):
            run_through(inference(service, wait_for_completion=True, deferrable=deferrable), context())

    @pytest.mark.parametrize(
        "event", [None, {}, {"status": "error"}, {"status": "ok"}, {"status": "success"}, "success", {"status": None}]
    )
    def test_only_an_explicit_success_succeeds(self, service, event):
        with pytest.raises(PersonalizeError):
            inference(service).execute_complete(context(), event=event)

    def test_a_deadline_that_has_passed_allows_one_last_look(self, service):
        """The triggerer was down while the job ended."""
        arn = inference(service, wait_for_completion=True).execute(context())
        event = event_of(PersonalizeJobTrigger(job_arn=arn, poll_interval=60, deadline=time.time() - 3600))
        assert event == {"status": "success", "job_arn": arn}


SENSORS = [
    (PersonalizeBatchInferenceJobSensor, "batch-inference-job"),
    (PersonalizeBatchSegmentJobSensor, "batch-segment-job"),
]


class TestSensors:
    def sensor(self, arn, **changes):
        return PersonalizeBatchInferenceJobSensor(
            **{"task_id": "wait", "job_arn": arn, "poke_interval": 0.1, "timeout": 20, **changes}
        )

    @both_halves
    def test_until_it_is_active(self, service, deferrable):
        arn = inference(service).execute(context())
        ctx = context()
        assert run_through(self.sensor(arn, deferrable=deferrable), ctx) == arn
        assert jobs(service)[0]["status"] == "ACTIVE"
        assert ctx["ti"].pushed["personalize_output"]["prefix"] == "out/"

    def test_a_job_that_has_ended_needs_no_triggerer(self, service):
        arn = inference(service, wait_for_completion=True).execute(context())
        assert self.sensor(arn, deferrable=True).execute(context()) == arn

    @both_halves
    def test_until_it_fails_for_good(self, service, deferrable):
        service.controls.add_fault("fail_job", reason="no such bucket")
        arn = inference(service).execute(context())
        with pytest.raises(AirflowFailException, match="no such bucket"):
            run_through(self.sensor(arn, deferrable=deferrable), context())

    @both_halves
    def test_until_the_timeout(self, service, deferrable):
        service.controls.add_fault("never_finish")
        arn = inference(service).execute(context())
        with pytest.raises(AirflowSensorTimeout, match="billed"):
            run_through(self.sensor(arn, deferrable=deferrable, timeout=0.6), context())

    @both_halves
    def test_trouble_is_waited_out(self, service, deferrable):
        arn = inference(service).execute(context())
        service.controls.add_fault("unavailable", times=6, operation="DescribeBatchInferenceJob")
        assert run_through(self.sensor(arn, deferrable=deferrable), context()) == arn

    @both_halves
    @pytest.mark.parametrize(("cls", "kind"), SENSORS)
    def test_a_job_that_is_not_there_fails_at_once(self, service, deferrable, cls, kind):
        arn = f"arn:aws:personalize:us-east-1:123456789012:{kind}/none"
        sensor = cls(task_id="wait", job_arn=arn, deferrable=deferrable)
        with pytest.raises(ServiceError, match="ResourceNotFoundException"):
            run_through(sensor, context())

    @pytest.mark.parametrize(("cls", "kind"), SENSORS)
    def test_an_arn_of_another_kind_is_refused(self, service, cls, kind):
        arn = "arn:aws:personalize:us-east-1:123456789012:campaign/c"
        with pytest.raises(InvalidRequestError, match=kind):
            cls(task_id="wait", job_arn=arn).execute(context())


class TestKilled:
    """Nobody can stop a job, so a task that is killed says that its job lives on, and what to do."""

    def test_a_create_operator_names_its_job(self, service, log):
        operator = inference(service)
        arn = operator.execute(context())
        operator.on_kill()
        assert re.search(f"{arn}.*cannot be stopped|cannot be stopped.*{arn}", log())

    def test_before_there_is_a_job_nothing_is_said(self, service, log):
        inference(service).on_kill()
        assert "stopped" not in log()

    def test_a_sensor_names_its_job(self, service, log):
        arn = inference(service).execute(context())
        PersonalizeBatchInferenceJobSensor(task_id="wait", job_arn=arn).on_kill()
        assert re.search(f"{arn}.*cannot be stopped|cannot be stopped.*{arn}", log())
