"""How waits end: whatever is answered, in whichever mode, and what is said of it."""

from __future__ import annotations

import asyncio
import json
import pickle
import re
import time
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import airflow
import pytest
from botocore.awsrequest import AWSResponse
from botocore.client import BaseClient
from botocore.exceptions import ClientError
from botocore.httpsession import URLLib3Session

from airflow_provider_personalize.compat import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    TaskDeferred,
)
from airflow_provider_personalize.exceptions import (
    InvalidRequestError,
    JobFailedError,
    JobTimeoutError,
    QuotaTimeoutError,
    ServiceError,
    UnexpectedAnswerError,
)
from airflow_provider_personalize.hooks.personalize import PersonalizeHook
from airflow_provider_personalize.sensors.batch import PersonalizeBatchInferenceJobSensor
from airflow_provider_personalize.transfers.personalize_to_sql import PersonalizeToSqlOperator
from airflow_provider_personalize.triggers.personalize import PersonalizeJobTrigger
from tests.integration.test_jobs import context, event_of, inference, jobs, run_through, service

__all__ = ["service"]

OTHER = "arn:aws:personalize:us-east-1:123456789012:batch-inference-job/another"
NONE = "arn:aws:personalize:us-east-1:123456789012:batch-inference-job/none"
DESCRIBE, LIST, CREATE = "DescribeBatchInferenceJob", "ListBatchInferenceJobs", "CreateBatchInferenceJob"


class Body:
    """The body of an answer, as botocore reads one."""

    def __init__(self, content):
        self.content = content

    def stream(self, **_):
        yield self.content


@pytest.fixture
def answers(monkeypatch):
    """What to answer in the service's place: ``answers[operation] = [body, …]``, taken one after the other."""
    planned = defaultdict(list)
    send = URLLib3Session.send

    def answer(session, request):
        target = request.headers.get("X-Amz-Target", b"")
        operation = (target.decode() if isinstance(target, bytes) else target).rpartition(".")[2]
        if not planned[operation]:
            return send(session, request)
        body = planned[operation].pop(0)
        headers = {"Content-Type": "application/x-amz-json-1.1"}
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return AWSResponse(request.url, 200, headers, Body(content))

    monkeypatch.setattr(URLLib3Session, "send", answer)
    return planned


def description(arn, **changes):
    return {"batchInferenceJob": {"batchInferenceJobArn": arn, "status": "CREATE IN_PROGRESS", **changes}}


#: What is no description of a job.
NO_DESCRIPTIONS = {
    "nothing": b"",
    "html": b"<html><body>Sign in</body></html>",
    "half": b'{"batchInferenceJob": {"status"',
    "null": b"null",
    "list": b"[1, 2]",
    "number": b"7",
    "other keys": {"message": "welcome"},
    "text for a job": {"batchInferenceJob": "ACTIVE"},
    "list for a job": {"batchInferenceJob": [1]},
    "no status": {"batchInferenceJob": {"batchInferenceJobArn": NONE}},
    "odd status": description(NONE, status={"ACTIVE": True}),
    "another job": description(OTHER, status="ACTIVE"),
    "another job failed": description(OTHER, status="CREATE FAILED"),
    "no arn": {"batchInferenceJob": {"status": "ACTIVE"}},
    "odd time": description(NONE, creationDateTime="yesterday"),
    "not utf-8": b"\xff\xfe\x00",
}
no_descriptions = pytest.mark.parametrize("answer", NO_DESCRIPTIONS.values(), ids=list(NO_DESCRIPTIONS))
modes = pytest.mark.parametrize("deferrable", [False, True], ids=["poke", "deferred"])


def sensor(arn, **changes):
    return PersonalizeBatchInferenceJobSensor(
        **{"task_id": "wait", "job_arn": arn, "poke_interval": 0.1, "timeout": 20, **changes}
    )


class TestAnswersThatAreNone:
    @modes
    @no_descriptions
    def test_a_look_is_trouble_and_the_next_one_comes(self, service, answers, log, answer, deferrable):
        arn = inference(service).execute(context())
        answers[DESCRIBE] = [answer] * 3
        assert run_through(sensor(arn, deferrable=deferrable), context()) == arn
        assert not answers[DESCRIBE]
        assert "trying again until the deadline" in log()

    @no_descriptions
    def test_an_operator_waits_on_too(self, service, answers, answer):
        operator = inference(service, wait_for_completion=True)
        answers[DESCRIBE] = [answer] * 2
        arn = operator.execute(context())
        assert not answers[DESCRIBE]
        assert [(job["arn"], job["status"]) for job in jobs(service)] == [(arn, "ACTIVE")]

    @no_descriptions
    def test_an_operator_that_needs_it_says_so(self, service, answers, answer, airflow_connection):
        arn = inference(service, wait_for_completion=True).execute(context())
        answers[DESCRIBE] = [answer]
        load = PersonalizeToSqlOperator(
            task_id="load", job_arn=arn, table="t", sql_conn_id=airflow_connection("target", "sqlite://")
        )
        with pytest.raises(UnexpectedAnswerError, match=DESCRIBE) as caught:
            load.execute(context())
        assert not isinstance(caught.value, AirflowFailException)
        assert str(caught.value).startswith("Expected ")

    @pytest.mark.parametrize("path", ["jobInput", "jobOutput"])
    def test_a_description_without_its_places_is_said_to_be_one(self, service, answers, path):
        arn = inference(service, wait_for_completion=True).execute(context())
        whole = PersonalizeHook().describe_job(arn)
        whole = {name: value for name, value in whole.items() if not name.endswith("DateTime")}
        answers[DESCRIBE] = [{"batchInferenceJob": {**whole, path: {}}}]
        with pytest.raises(UnexpectedAnswerError, match=path):
            PersonalizeHook().describe_job(arn)

    def test_an_unknown_status_is_waited_on(self, service, answers, log):
        arn = inference(service).execute(context())
        answers[DESCRIBE] = [description(arn, status="CREATE DREAMING")] * 2
        assert sensor(arn).execute(context()) == arn
        assert "CREATE DREAMING" in log()

    @pytest.mark.parametrize(
        "answer",
        [b"", b"<html>", b"[]", {}, {"batchInferenceJobArn": 7}, {"batchInferenceJobArn": OTHER}, {"arn": OTHER}],
    )
    def test_create_looks_whether_the_job_is_there(self, service, answers, answer):
        answers[CREATE] = [answer]
        with pytest.raises(UnexpectedAnswerError, match=CREATE) as caught:
            inference(service).execute(context())
        assert not isinstance(caught.value, AirflowFailException)
        assert jobs(service) == []
        arn = inference(service).execute(context())
        answers[CREATE] = [answer]
        assert inference(service).execute(context()) == arn
        assert [job["arn"] for job in jobs(service)] == [arn]

    @pytest.mark.parametrize(
        "answer", [b"", b"<html>", b"[]", {"solutionVersions": "none"}, {"solutionVersions": [{}]}]
    )
    def test_a_list_of_versions_that_is_none(self, service, answers, answer):
        answers["ListSolutionVersions"] = [answer]
        operator = inference(
            service, solution_version_arn=None, solution_arn=service.solution_arns["user-personalization"]
        )
        with pytest.raises(UnexpectedAnswerError, match="ListSolutionVersions"):
            operator.execute(context())
        assert ":batch-inference-job/" in operator.execute(context())

    @pytest.mark.parametrize(
        ("answer", "is_told"),
        [
            (b"", True),
            (b"<html>", True),
            (b"[]", True),
            (b"null", True),
            ({}, True),
            ({"batchInferenceJobs": None}, True),
            ({"batchInferenceJobs": "none"}, True),
            # botocore makes an empty list of this one; what a list does not tell of is described.
            ({"batchInferenceJobs": {}}, False),
            ({"batchInferenceJobs": [None, 7, "x", [], {}]}, True),
            ({"batchInferenceJobs": [{"status": "ACTIVE"}, {"batchInferenceJobArn": 1, "status": "ACTIVE"}]}, False),
            ({"batchInferenceJobs": [{"batchInferenceJobArn": NONE, "creationDateTime": "never"}]}, True),
            ({"batchInferenceJobs": [], "nextToken": {"a": 1}}, False),
        ],
        ids=lambda answer: str(answer)[:60],
    )
    def test_one_bad_list_ends_no_wait(self, service, answers, answer, is_told, log):
        service.controls.add_fault("never_finish", times=1)
        arns = [inference(service).execute(context(map_index=n)) for n in range(5)]
        answers[LIST] = [answer]
        version = service.solution_version_arns["user-personalization"]

        async def wait():
            async def one(arn):
                trigger = PersonalizeJobTrigger(arn, 0.4, time.time() + 3, solution_version_arn=version)
                async for event in trigger.run():
                    return event.payload
                return None

            async with asyncio.timeout(30):
                return await asyncio.gather(*map(one, arns))

        events = asyncio.run(wait())
        assert not answers[LIST]
        assert [event["status"] for event in events] == ["error", "success", "success", "success", "success"]
        assert events[0]["error"] == "JobTimeoutError"
        assert (LIST in log()) == is_told


def no_region(monkeypatch, set_connection):
    for name in ("AWS_DEFAULT_REGION", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    return set_connection("broken", "aws://key:secret@")


def no_profile(monkeypatch, set_connection):
    return set_connection("broken", json.dumps({"conn_type": "aws", "extra": {"profile_name": "nobody"}}))


def no_role(monkeypatch, set_connection):
    """A role that STS refuses."""
    return set_connection("broken", json.dumps({"conn_type": "aws", "extra": {"role_arn": ROLE}}))


def no_certificates(monkeypatch, set_connection):
    return set_connection("broken", json.dumps({"conn_type": "aws", "extra": {"verify": "/nowhere/ca.pem"}}))


def no_such_option(monkeypatch, set_connection):
    extra = {"config_kwargs": {"reed_timeout": 7}}
    return set_connection("broken", json.dumps({"conn_type": "aws", "extra": extra}))


ROLE = "arn:aws:iam::123456789012:role/other"
BROKEN = {
    "region": (no_region, "region_name"),
    "profile": (no_profile, "profile_name"),
    "role": (no_role, "trust policy"),
    "certificates": (no_certificates, "verify"),
    "option": (no_such_option, "reed_timeout"),
}


@pytest.fixture
def sts(monkeypatch):
    """STS's answers: a list of (code, status), taken one after the other; the last one stays."""
    planned = [("AccessDenied", 403)]
    send = URLLib3Session.send

    def answer(session, request):
        if b"AssumeRole" not in (request.body if isinstance(request.body, bytes) else str(request.body).encode()):
            return send(session, request)
        code, status = planned.pop(0) if len(planned) > 1 else planned[0]
        if code:
            body = f"<ErrorResponse><Error><Code>{code}</Code><Message>not this one</Message></Error></ErrorResponse>"
        else:
            body = (
                "<AssumeRoleResponse><AssumeRoleResult><Credentials><AccessKeyId>a</AccessKeyId><SecretAccessKey>s"
                "</SecretAccessKey><SessionToken>t</SessionToken><Expiration>2100-01-01T00:00:00Z</Expiration>"
                "</Credentials></AssumeRoleResult></AssumeRoleResponse>"
            )
        return AWSResponse(request.url, status, {"Content-Type": "text/xml"}, Body(body.encode()))

    monkeypatch.setattr(URLLib3Session, "send", answer)
    return planned


class TestClientThatCannotBeMade:
    @pytest.mark.parametrize("mode", ["poke", "reschedule", "deferred"])
    @pytest.mark.parametrize(("breakage", "remedy"), BROKEN.values(), ids=list(BROKEN))
    def test_a_sensor_says_so_at_once(self, service, sts, monkeypatch, airflow_connection, mode, breakage, remedy):
        connection = breakage(monkeypatch, airflow_connection)
        changes = {"deferrable": True} if mode == "deferred" else {"mode": mode}
        with pytest.raises(AirflowFailException, match=remedy) as caught:
            sensor(NONE, aws_conn_id=connection, timeout=3600, **changes).execute(rescheduled(None))
        assert isinstance(caught.value, ServiceError | InvalidRequestError)

    @pytest.mark.parametrize(("breakage", "remedy"), BROKEN.values(), ids=list(BROKEN))
    def test_a_trigger_says_so_at_once(self, service, sts, monkeypatch, airflow_connection, breakage, remedy):
        """The triggerer is another machine, which may have neither profile nor region."""
        connection = breakage(monkeypatch, airflow_connection)
        event = event_of(PersonalizeJobTrigger(NONE, 0.1, time.time() + 3600, aws_conn_id=connection))
        with pytest.raises(AirflowFailException, match=remedy):
            sensor(NONE).execute_complete(context(), event=event)

    @pytest.mark.parametrize(("breakage", "remedy"), BROKEN.values(), ids=list(BROKEN))
    def test_a_create_says_so_at_once(self, service, sts, monkeypatch, airflow_connection, breakage, remedy):
        connection = breakage(monkeypatch, airflow_connection)
        with pytest.raises(AirflowFailException, match=remedy):
            inference(service, aws_conn_id=connection).execute(context())
        assert jobs(service) == []

    @pytest.mark.parametrize("trouble", [("Throttling", 400), ("InternalFailure", 500), ("ExpiredToken", 403)])
    @pytest.mark.parametrize("deferrable", [False, True], ids=["poke", "deferred"])
    def test_what_may_pass_is_waited_out(self, service, sts, airflow_connection, trouble, deferrable, monkeypatch):
        arn = inference(service).execute(context())
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        sts[:] = [trouble, trouble, (None, 200)]
        extra = {"role_arn": ROLE, "region_name": "us-east-1", "endpoint_url": service.url}
        connection = airflow_connection("role", json.dumps({"conn_type": "aws", "extra": extra}))
        waiting = sensor(arn, aws_conn_id=connection, deferrable=deferrable)
        assert run_through(waiting, context()) == arn
        assert sts == [(None, 200)]


@pytest.fixture(autouse=True)
def first_look(monkeypatch):
    """When the sensor of :func:`rescheduled` looked first: Airflow 2 asks its database, Airflow 3 the task instance."""
    seen = {"first": None}
    if airflow.__version__.startswith("2."):
        monkeypatch.setattr("airflow.sensors.base._orig_start_date", lambda **_: seen["first"])
    rescheduled.seen = seen


def rescheduled(hours, **changes):
    """The context of a rescheduled sensor whose first look was so many hours ago; None: this is the first."""
    first = None if hours is None else datetime.now(UTC) - timedelta(hours=hours)
    rescheduled.seen["first"] = first
    return context(get_first_reschedule_date=lambda _: first, max_tries=0, **changes)


@pytest.fixture(params=["poke", "reschedule", "deferred", "resumed"])
def mode(request):
    return request.param


def in_mode(mode, arn, **changes):
    """A sensor, and a function that runs it as Airflow does in that mode."""
    made = sensor(arn, **({"mode": mode} if mode in {"poke", "reschedule"} else {"deferrable": True}), **changes)
    if mode != "resumed":
        return lambda: run_through(made, rescheduled(None))
    event = event_of(PersonalizeJobTrigger(arn, 0.1, time.time() - 1))
    return lambda: made.execute_complete(context(), event=event)


class TestFailure:
    @pytest.fixture
    def failed(self, service):
        service.controls.add_fault("fail_job", reason="No such bucket.")
        with pytest.raises(JobFailedError):
            inference(service, wait_for_completion=True).execute(context())
        return jobs(service)[0]["arn"]

    def test_of_a_job_that_had_failed_before(self, service, failed, mode):
        with pytest.raises(AirflowFailException) as caught:
            in_mode(mode, failed)()
        error = caught.value
        assert isinstance(error, JobFailedError)
        assert (error.job_arn, error.failure_reason, error.status) == (failed, "No such bucket.", "CREATE FAILED")
        assert str(error).startswith("No such bucket: ")
        assert str(error).endswith(failed)
        assert str(error).count(failed) == 1
        assert error.__cause__ is None
        assert error.__suppress_context__
        copy = pickle.loads(pickle.dumps(error))
        assert (type(copy), str(copy), copy.values) == (type(error), str(error), error.values)

    @pytest.mark.parametrize("asked", ["soft_fail", "never_fail"])
    def test_skips_where_that_is_asked_for(self, service, failed, mode, asked):
        with pytest.raises(AirflowSkipException, match="No such bucket"):
            in_mode(mode, failed, **{asked: True})()

    @pytest.mark.parametrize("asked", ["soft_fail", "never_fail"])
    def test_a_timeout_skips_too(self, service, mode, asked):
        service.controls.add_fault("never_finish")
        arn = inference(service).execute(context())
        with pytest.raises(AirflowSkipException, match="deadline passed"):
            in_mode(mode, arn, timeout=0, **{asked: True})()

    @pytest.mark.parametrize("asked", ["soft_fail", "never_fail"])
    def test_a_refusal_skips_too(self, service, mode, asked):
        with pytest.raises(AirflowSkipException, match="ResourceNotFoundException"):
            in_mode(mode, NONE, **{asked: True})()

    def test_a_refusal_names_what_was_asked_about_at_its_end(self, service, mode):
        with pytest.raises(AirflowFailException) as caught:
            in_mode(mode, NONE)()
        assert isinstance(caught.value, ServiceError)
        assert str(caught.value).count(NONE) == 1

    def test_it_names_the_task_to_clear(self, service, failed, airflow_connection):
        from airflow.providers.common.compat.sdk import DAG

        airflow_connection("target", "sqlite://")
        with DAG("nightly", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)):
            create = inference(service, task_id="make_job")
            wait = sensor(create.output)
            load = PersonalizeToSqlOperator(task_id="load", job_arn=wait.output, table="t", sql_conn_id="target")
        for task in (wait, load):
            task.job_arn = failed
            with pytest.raises(AirflowFailException, match="clear the task 'make_job'") as caught:
                task.execute(context())
            assert caught.value.created_by == "make_job"

    def test_of_two_that_may_have_created_it_the_name_tells(self, service, failed):
        from airflow.providers.common.compat.sdk import DAG

        with DAG("nightly", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)):
            wait = sensor(failed)
            [inference(service, task_id="recommend"), inference(service, task_id="other")] >> wait
        with pytest.raises(JobFailedError, match="clear the task 'recommend'"):
            wait.execute(context())

    def test_where_nobody_can_tell_it_says_what_to_look_for(self, service, failed):
        with pytest.raises(JobFailedError, match="clear the task that created it"):
            sensor(failed).execute(context())

    def test_a_create_operator_can_be_retried(self, service):
        service.controls.add_fault("fail_job", reason="No such bucket.")
        with pytest.raises(JobFailedError, match="clear the task 'recommend'") as caught:
            run_through(inference(service, deferrable=True), context())
        assert not isinstance(caught.value, AirflowFailException)


class TestTimeout:
    @pytest.fixture
    def endless(self, service):
        service.controls.add_fault("never_finish")
        return inference(service).execute(context())

    def test_says_how_long_a_rescheduled_sensor_waited(self, service, endless):
        with pytest.raises(AirflowSensorTimeout) as caught:
            sensor(endless, mode="reschedule", timeout=3600).execute(rescheduled(2))
        error = caught.value
        assert isinstance(error, JobTimeoutError)
        assert error.waited == pytest.approx(7200, abs=30)
        assert re.match(r"The deadline passed after 72\d\d s of waiting", str(error))
        assert str(error).endswith(endless)

    def test_a_rescheduled_sensor_waits_on_until_then(self, service, endless):
        from airflow.exceptions import AirflowRescheduleException

        with pytest.raises(AirflowRescheduleException):
            sensor(endless, mode="reschedule", timeout=3 * 3600).execute(rescheduled(2))

    @pytest.mark.parametrize("kind", ["sensor", "operator"])
    def test_says_how_long_was_waited_before_the_triggerer_restarted(self, service, endless, monkeypatch, kind):
        task = (
            sensor(endless, deferrable=True, timeout=3600)
            if kind == "sensor"
            else inference(service, deferrable=True, timeout=3600)
        )
        began = time.time()
        monkeypatch.setattr(time, "time", lambda: began - 7200)
        with pytest.raises(TaskDeferred) as deferred:
            task.execute(context())
        monkeypatch.undo()
        for name, value in service.environment.items():
            monkeypatch.setenv(name, value)
        event = event_of(deferred.value.trigger)
        with pytest.raises(JobTimeoutError) as caught:
            task.execute_complete(context(), event=event)
        assert caught.value.waited == pytest.approx(7200, abs=30)

    def test_a_quota_that_stayed_full_says_how_long_was_waited(self, service):
        service.controls.add_fault("limit", times=1000, operation=CREATE)
        operator = inference(service, quota_wait_timeout=60)
        now = time.time()
        with pytest.raises(QuotaTimeoutError) as caught:
            operator.resume_create(context(), quota_deadline=now - 1, tried=3, quota_started=now - 500)
        assert caught.value.waited == pytest.approx(500, abs=30)
        assert not isinstance(caught.value, AirflowFailException)


class TestDurations:
    @modes
    def test_are_seconds_or_timedeltas(self, service, deferrable):
        operator = inference(
            service,
            wait_for_completion=True,
            deferrable=deferrable,
            poll_interval=timedelta(milliseconds=100),
            timeout=timedelta(seconds=20),
            quota_wait_timeout=timedelta(seconds=20),
        )
        assert run_through(operator, context()) == jobs(service)[0]["arn"]
        waiting = sensor(
            jobs(service)[0]["arn"],
            deferrable=deferrable,
            timeout=timedelta(seconds=20),
            poke_interval=timedelta(milliseconds=100),
        )
        assert run_through(waiting, context()) == jobs(service)[0]["arn"]

    def test_of_a_trigger_too(self):
        trigger = PersonalizeJobTrigger(NONE, timedelta(minutes=1), 1_800_000_000.0)
        assert trigger.serialize()[1]["poll_interval"] == 60

    @pytest.mark.parametrize("name", ["poll_interval", "timeout", "quota_wait_timeout"])
    @pytest.mark.parametrize("value", ["60", None, -1, timedelta(seconds=-1), float("nan"), float("inf"), True, [1]])
    def test_anything_else_is_refused_when_the_file_is_parsed(self, name, value):
        with pytest.raises(InvalidRequestError, match=name):
            inference(SimpleNamespace(solution_version_arns={"user-personalization": "v"}), **{name: value})


class TestCredentialsThatExpire:
    """The key of the connection expires while the job runs, and another one has taken its place there."""

    @pytest.fixture
    def expiring(self, service, airflow_connection, monkeypatch):
        def connect(key):
            extra = {"region_name": "us-east-1", "endpoint_url": service.url}
            return airflow_connection(
                "expiring", json.dumps({"conn_type": "aws", "login": key, "password": "s", "extra": extra})
            )

        call = BaseClient._make_api_call
        looks = []

        def refuse(client, operation, arguments):
            key = client._request_signer._credentials.access_key
            if operation.startswith("Describe"):
                looks.append(key)
            if len(looks) > 1 and key == "first":
                connect("second")
                # Not before, however long it takes until then, so that there is something to wait for.
                service.controls.set_clock(advance=3600)
                raise ClientError({"Error": {"Code": "ExpiredTokenException", "Message": "It has expired."}}, operation)
            return call(client, operation, arguments)

        monkeypatch.setattr(BaseClient, "_make_api_call", refuse)
        connect("first")
        monkeypatch.setattr(service.api, "job_seconds", 3600)
        return looks

    @pytest.mark.parametrize("deferrable", [False, True], ids=["poke", "deferred"])
    def test_a_sensor_goes_on_with_the_new_ones(self, service, expiring, deferrable):
        arn = inference(service).execute(context())
        waiting = sensor(arn, aws_conn_id="expiring", deferrable=deferrable, timeout=60)
        assert run_through(waiting, context()) == arn
        assert set(expiring) == {"first", "second"}

    @pytest.mark.parametrize("deferrable", [False, True], ids=["poke", "deferred"])
    def test_a_create_operator_goes_on_with_the_new_ones(self, service, expiring, deferrable):
        operator = inference(
            service, aws_conn_id="expiring", deferrable=deferrable, wait_for_completion=True, timeout=60
        )
        assert run_through(operator, context()) == jobs(service)[0]["arn"]
