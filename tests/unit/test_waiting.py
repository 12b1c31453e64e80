"""The rules of waiting."""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime, timedelta

import pytest

from airflow_provider_personalize.exceptions import JobFailedError, ServiceError
from airflow_provider_personalize.service.kinds import BATCH_INFERENCE_JOB, CAMPAIGN, RECOMMENDER, read_status
from airflow_provider_personalize.service.waits import (
    Watch,
    deadline_after,
    format_duration,
    growing_pause,
    jittered,
    left_running,
)

ARN = "arn:aws:personalize:us-east-1:123456789012:batch-inference-job/nightly"
NOW = 1_790_000_000.0


def seen(status, **more):
    return read_status(BATCH_INFERENCE_JOB, {"batchInferenceJobArn": ARN, "status": status, **more})


@pytest.fixture
def watch(caplog):
    caplog.set_level(logging.INFO)
    return Watch(ARN, time.time() + 60, logging.getLogger("watch"))


def test_a_wait_ends_in_active(watch, caplog):
    assert not watch.observe(seen("CREATE PENDING"))
    assert not watch.observe(seen("CREATE PENDING"))
    assert not watch.observe(seen("CREATE IN_PROGRESS"))
    assert watch.observe(seen("ACTIVE"))
    assert [record.args[2] for record in caplog.records] == ["CREATE PENDING", "CREATE IN_PROGRESS", "ACTIVE"]


def test_a_wait_ends_in_a_failure_with_its_reason(watch):
    with pytest.raises(JobFailedError, match="no such bucket"):
        watch.observe(seen("CREATE FAILED", failureReason="no such bucket"))


def test_an_unknown_status_is_waited_on_and_told_once(watch, caplog):
    for _ in range(3):
        assert not watch.observe(seen("CREATE DREAMING"))
    assert len(caplog.records) == 1
    assert "does not know" in caplog.text


def test_trouble_is_told_once_for_each_change(watch, caplog):
    for reason in ("throttled", "throttled", "throttled", "no route", "throttled"):
        watch.observe_trouble(reason)
    assert len(caplog.records) == 3
    caplog.clear()
    watch.observe(seen("CREATE PENDING"))
    assert "answers again" in caplog.text


def test_the_error_at_the_deadline_says_what_was_seen_last(watch):
    watch.observe(seen("CREATE IN_PROGRESS"))
    watch.observe_trouble("throttled")
    message = str(watch.timeout_error())
    assert "CREATE IN_PROGRESS" in message
    assert "throttled" in message
    assert ARN in message


def test_the_shorter_of_the_two_timeouts_holds(monkeypatch):
    monkeypatch.setattr(time, "time", lambda: NOW)
    assert deadline_after(100, None) == NOW + 100
    assert deadline_after(20, timedelta(seconds=400)) == NOW + 20
    assert deadline_after(1000, timedelta(seconds=400)) == NOW + 395


def test_execution_timeout_counts_from_the_tasks_start_and_comes_before_airflows_own(monkeypatch):
    monkeypatch.setattr(time, "time", lambda: NOW)
    started = datetime.fromtimestamp(NOW, UTC) - timedelta(seconds=300)
    deadline = deadline_after(1000, timedelta(seconds=400), started)
    assert deadline == NOW + 95
    assert deadline < (started + timedelta(seconds=400)).timestamp()


def test_pauses_grow_to_a_bound_and_are_spread():
    for attempt, middle in ((1, 10), (2, 20), (3, 40), (4, 60), (500, 60)):
        pauses = [growing_pause(attempt, first=10, longest=60) for _ in range(200)]
        assert min(pauses) >= middle * 0.75
        assert max(pauses) <= middle * 1.25
        assert len(set(pauses)) > 1
    assert 9 <= jittered(10) <= 11


@pytest.mark.parametrize(
    ("seconds", "words"), [(0, "0 s"), (42.4, "42 s"), (89, "89 s"), (420, "7 min"), (7500, "2 h 5 min")]
)
def test_durations_in_words(seconds, words):
    assert format_duration(seconds) == words


def recommender(status, until):
    arn = "arn:aws:personalize:us-east-1:123456789012:recommender/shop"
    watch = Watch(arn, time.time() + 60, logging.getLogger("watch"), until=until)
    return watch, read_status(RECOMMENDER, {"recommenderArn": arn, "status": status}, until)


@pytest.mark.parametrize(
    ("until", "status", "ends"),
    [
        ("active", "START IN_PROGRESS", False),
        ("active", "ACTIVE", True),
        ("inactive", "ACTIVE", False),
        ("inactive", "INACTIVE", True),
        ("gone", "ACTIVE", False),
        ("gone", "DELETE IN_PROGRESS", False),
    ],
)
def test_what_ends_a_wait_depends_on_its_goal(until, status, ends):
    watch, seen = recommender(status, until)
    assert watch.observe(seen) is ends


@pytest.mark.parametrize(("until", "status"), [("active", "INACTIVE"), ("inactive", "START PENDING")])
def test_a_status_that_leads_elsewhere_fails_a_wait(until, status):
    watch, seen = recommender(status, until)
    with pytest.raises(JobFailedError, match=status):
        watch.observe(seen)


def test_what_is_not_found_any_more_is_gone_and_nothing_else_is():
    error = ServiceError(operation="DescribeRecommender", code="ResourceNotFoundException", reason="no such thing")
    denied = ServiceError(operation="DescribeRecommender", code="AccessDeniedException", reason="not you")
    watch, _ = recommender("ACTIVE", "gone")
    assert watch.observe_error(error, "no such thing")
    assert not watch.observe_error(TimeoutError("slow"), "slow")
    with pytest.raises(ServiceError, match="not you"):
        watch.observe_error(denied, "not you")
    for until in ("active", "updated", "inactive"):
        watch, _ = recommender("ACTIVE", until)
        with pytest.raises(ServiceError, match="no such thing"):
            watch.observe_error(error, "no such thing")


def test_a_killed_task_logs_what_goes_on_without_it():
    assert "cannot be stopped" in left_running(ARN)
    arn = ARN.replace(BATCH_INFERENCE_JOB.arn_type, CAMPAIGN.arn_type)
    assert "the campaign goes on until it is deleted" in left_running(arn, "gone")
    assert left_running(arn, "gone").endswith(arn)


def test_the_error_at_the_deadline_does_not_speak_of_a_job_where_there_is_none():
    watch, seen = recommender("STOP PENDING", "inactive")
    watch.observe(seen)
    message = str(watch.timeout_error())
    assert "STOP PENDING" in message
    assert "wait until it is inactive" in message
    assert " job" not in message
