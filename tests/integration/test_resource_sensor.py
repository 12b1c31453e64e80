"""The sensor of every kind of resource: how its waits end, on a worker and in the triggerer alike."""

from __future__ import annotations

import json

import pytest
from botocore.awsrequest import AWSResponse
from botocore.httpsession import URLLib3Session

from airflow_provider_personalize.compat import AirflowFailException, AirflowSensorTimeout
from airflow_provider_personalize.exceptions import InvalidRequestError, JobFailedError, JobTimeoutError, ServiceError
from airflow_provider_personalize.sensors.resources import PersonalizeResourceSensor
from airflow_provider_personalize.service.kinds import CAMPAIGN, KINDS, RECOMMENDER, SCHEMA, SOLUTION
from tests.integration.test_jobs import context, run_through

BASE = "arn:aws:personalize:us-east-1:123456789012:"
modes = pytest.mark.parametrize("deferrable", [False, True], ids=["poke", "deferred"])


def arn_of(kind):
    return f"{BASE}{kind.arn_type}/" + "/".join(["shop", "ITEMS"][: kind.arn_parts])


class Body:
    """The body of an answer, as botocore reads one."""

    def __init__(self, content):
        self.content = content

    def stream(self, **_):
        yield self.content


@pytest.fixture
def story(monkeypatch):
    """What becomes of one resource: a description for each look, the last for all that follow; None if it is gone."""
    told = []

    def answer(_, request):
        operation = request.headers["X-Amz-Target"].decode().rpartition(".")[2]
        kind = next(kind for kind in KINDS if operation in {kind.describe_operation, kind.list_operation})
        described = told.pop(0) if len(told) > 1 else told[0]
        status = 200
        if operation == kind.list_operation:
            content = {kind.list_key: [described] if described else []}
        elif described:
            content = {kind.response_key: described | {kind.arn_field: arn_of(kind), kind.name_field: "shop"}}
        else:
            status, content = 400, {"__type": "ResourceNotFoundException", "message": "no such resource"}
        headers = {"Content-Type": "application/x-amz-json-1.1"}
        return AWSResponse(request.url, status, headers, Body(json.dumps(content).encode()))

    monkeypatch.setattr(URLLib3Session, "send", answer)
    return told


def sensor(kind, until="active", **changes):
    return PersonalizeResourceSensor(
        **{
            "task_id": "wait",
            "resource_arn": arn_of(kind),
            "until": until,
            "poke_interval": 0.05,
            "timeout": 20,
            "aws_conn_id": None,
            "region_name": "us-east-1",
            **changes,
        }
    )


def updated(status, **values):
    return {"status": "ACTIVE", "latestCampaignUpdate": {"status": status, **values}}


@modes
@pytest.mark.parametrize("kind", KINDS, ids=[kind.noun for kind in KINDS])
def test_every_kind_is_waited_for(story, kind, deferrable):
    story += [{"status": "CREATE PENDING"}, {"status": "CREATE IN_PROGRESS"}, {"status": "ACTIVE"}]
    if kind is SCHEMA:
        story[:] = [{"schema": "{}"}]
    assert run_through(sensor(kind, deferrable=deferrable), context()) == arn_of(kind)
    assert len(story) == 1


@modes
@pytest.mark.parametrize(
    ("kind", "until", "looks"),
    [
        (CAMPAIGN, "updated", [updated("CREATE PENDING"), updated("CREATE IN_PROGRESS"), updated("ACTIVE")]),
        (CAMPAIGN, "gone", [{"status": "ACTIVE"}, {"status": "DELETE IN_PROGRESS"}, None]),
        (CAMPAIGN, "gone", [None]),
        (RECOMMENDER, "inactive", [{"status": "STOP PENDING"}, {"status": "INACTIVE"}]),
    ],
)
def test_what_is_waited_for_comes(story, kind, until, looks, deferrable, log):
    story += looks
    assert run_through(sensor(kind, until, deferrable=deferrable), context()) == arn_of(kind)
    assert len(story) == 1


@modes
@pytest.mark.parametrize(
    ("until", "looks", "error", "told"),
    [
        ("active", [{"status": "CREATE FAILED", "failureReason": "why not"}], JobFailedError, "why not"),
        ("active", [{"status": "DELETE PENDING"}], JobFailedError, "DELETE PENDING"),
        ("active", [None], ServiceError, "no such resource"),
        ("updated", [updated("ACTIVE"), updated("CREATE FAILED", failureReason="no room")], JobFailedError, "no room"),
    ],
)
def test_what_cannot_come_any_more_is_not_retried(story, until, looks, error, told, deferrable):
    story += looks[-1:]
    with pytest.raises(error, match=told) as caught:
        run_through(sensor(CAMPAIGN, until, deferrable=deferrable), context())
    assert isinstance(caught.value, AirflowFailException)


@modes
def test_the_deadline_names_what_was_waited_for(story, deferrable):
    story.append({"status": "ACTIVE"})
    with pytest.raises(JobTimeoutError, match="until it is gone") as caught:
        run_through(sensor(CAMPAIGN, "gone", deferrable=deferrable, timeout=0.3), context())
    assert isinstance(caught.value, AirflowSensorTimeout)


@pytest.mark.parametrize(
    ("kind", "until", "told"),
    [
        (SCHEMA, "updated", "a schema is never updated"),
        (SOLUTION, "inactive", "only a recommender"),
        (KINDS[-1], "gone", "cannot be deleted"),
    ],
)
def test_what_can_never_come_is_refused(kind, until, told):
    with pytest.raises(InvalidRequestError, match=told):
        sensor(kind, until)


def test_the_arn_of_something_else_is_refused():
    with pytest.raises(InvalidRequestError, match="resource_arn: expected"):
        PersonalizeResourceSensor(task_id="wait", resource_arn=BASE + "recipe/aws-user-personalization")
