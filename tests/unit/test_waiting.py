"""The rules of waiting."""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime, timedelta

import pytest

from airflow_provider_personalize.exceptions import JobFailedError
from airflow_provider_personalize.service.kinds import BATCH_INFERENCE_JOB, read_status
from airflow_provider_personalize.service.waits import Watch, deadline_after, format_duration, growing_pause, jittered

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
