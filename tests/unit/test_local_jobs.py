from __future__ import annotations

import pickle
import threading
import time
from collections.abc import Iterator

import pytest

from airflow_provider_personalize.exceptions import PersonalizeError
from airflow_provider_personalize.local.catalog import USER_PERSONALIZATION
from airflow_provider_personalize.local.errors import ApiError, DataError, JobError, RecordError
from airflow_provider_personalize.local.faults import Fault
from airflow_provider_personalize.local.jobs import Clock, Job, Jobs
from airflow_provider_personalize.service.kinds import BATCH_INFERENCE_JOB

NOON = 1_790_000_000.0


class Worked:
    """Does jobs' work: takes down when, by the clock, and raises what it was told to."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.done: list[tuple[str, float]] = []
        self.error: Exception | None = None

    def __call__(self, job: Job) -> None:
        self.done.append((job.arn, self.clock.now()))
        if self.error:
            raise self.error


@pytest.fixture
def clock() -> Clock:
    clock = Clock()
    clock.stop(True)
    clock.set(NOON)
    return clock


@pytest.fixture
def worked(clock: Clock) -> Worked:
    return Worked(clock)


@pytest.fixture
def jobs(clock: Clock, worked: Worked) -> Iterator[Jobs]:
    jobs = Jobs(clock, worked)
    yield jobs
    jobs.close()


def add(jobs: Jobs, arn: str, seconds: float = 100, fault: Fault | None = None, running: int = 0) -> Job:
    return jobs.add(
        BATCH_INFERENCE_JOB, arn, running, request={}, recipe=USER_PERSONALIZATION, seconds=seconds, fault=fault
    )


def test_the_status_moves_with_the_clock(clock: Clock, jobs: Jobs, worked: Worked) -> None:
    job = add(jobs, "one")
    seen = []
    for now in (0, 9, 11, 99):
        clock.set(NOON + now)
        assert jobs.clock_changed()
        seen.append(job.status(clock.now()))
    assert seen == ["CREATE PENDING", "CREATE PENDING", "CREATE IN_PROGRESS", "CREATE IN_PROGRESS"]
    assert worked.done == []
    clock.set(NOON + 100)
    assert jobs.clock_changed()
    assert worked.done == [("one", NOON + 100)]
    assert job.describe(clock.now()) == {
        "batchInferenceJobArn": "one",
        "status": "ACTIVE",
        "creationDateTime": NOON,
        "lastUpdatedDateTime": NOON + 100,
    }


def test_jobs_end_in_the_order_in_which_they_are_due(clock: Clock, jobs: Jobs, worked: Worked) -> None:
    add(jobs, "slow", 200)
    add(jobs, "quick", 50)
    for now in (60, 210):
        clock.set(NOON + now)
        assert jobs.clock_changed()
    assert worked.done == [("quick", NOON + 60), ("slow", NOON + 210)]


def test_without_help_the_clock_goes_with_the_machines() -> None:
    clock = Clock()
    worked = Worked(clock)
    jobs = Jobs(clock, worked)
    try:
        job = add(jobs, "one", 0.2)
        deadline = time.monotonic() + 60
        while job.ended is None:
            assert time.monotonic() < deadline, "the job does not end"
            time.sleep(0.01)
        assert job.status(clock.now()) == "ACTIVE"
        assert job.ended >= job.created + 0.2
        before = time.time()
        assert before <= clock.now() <= time.time()
    finally:
        jobs.close()


def test_a_clock_goes_on_from_where_it_stood(monkeypatch: pytest.MonkeyPatch) -> None:
    machines = 1_000_000.0
    monkeypatch.setattr(time, "time", lambda: machines)
    clock = Clock()
    clock.set(NOON)
    machines += 5
    assert clock.now() == NOON + 5
    clock.stop(True)
    machines += 100
    assert clock.now() == NOON + 5
    clock.stop(False)
    machines += 7
    assert clock.now() == NOON + 12


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (JobError("No input was found."), "No input was found."),
        (ZeroDivisionError("x"), "Internal error of the local stand-in: ZeroDivisionError('x')"),
    ],
)
def test_what_the_work_raises_fails_the_job(
    clock: Clock, jobs: Jobs, worked: Worked, error: Exception, reason: str
) -> None:
    worked.error = error
    job = add(jobs, "one")
    clock.set(NOON + 100)
    jobs.clock_changed()
    assert (job.status(clock.now()), job.describe(clock.now())["failureReason"]) == ("CREATE FAILED", reason)


def test_faults_of_jobs(clock: Clock, jobs: Jobs, worked: Worked) -> None:
    failed = add(jobs, "failed", fault=Fault("fail_job", reason="Because."))
    endless = add(jobs, "endless", fault=Fault("never_finish"))
    clock.set(NOON + 10 * 365 * 24 * 3600)
    assert jobs.clock_changed()
    assert failed.describe(clock.now())["failureReason"] == "Because."
    assert endless.status(clock.now()) == "CREATE IN_PROGRESS"
    assert worked.done == []


def test_thousands_of_jobs_need_no_thread_each(clock: Clock, jobs: Jobs, worked: Worked) -> None:
    threads = threading.active_count()
    for number in range(5_000):
        add(jobs, str(number), 60, running=number)
    assert threading.active_count() == threads
    assert jobs.running(BATCH_INFERENCE_JOB, "") == 5_000
    clock.set(NOON + 60)
    assert jobs.clock_changed()
    assert len(worked.done) == 5_000
    assert jobs.running(BATCH_INFERENCE_JOB, "") == 0
    assert jobs.most_running == {"BatchInferenceJob": 5_000}


@pytest.mark.parametrize(
    "error",
    [ApiError("LimitExceededException", "Too many.", 429), JobError("No."), RecordError("No."), DataError("No.")],
)
def test_errors_survive_pickling(error: PersonalizeError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), again.message, str(again), again.values) == (
        type(error),
        error.message,
        str(error),
        error.values,
    )
    assert vars(again) == vars(error)


def test_a_new_start_ends_no_job_by_the_way(clock: Clock, worked: Worked) -> None:
    """Putting the clock right after a rehearsal in the past would otherwise make every job due."""
    from airflow_provider_personalize.local.api import Api
    from airflow_provider_personalize.local.controls import Controls
    from airflow_provider_personalize.local.data import made
    from airflow_provider_personalize.local.faults import Faults
    from airflow_provider_personalize.local.recommend import Recommender

    clock.set(1_000_000)
    jobs = Jobs(clock, worked)
    try:
        controls = Controls(Api(jobs, Faults(), Recommender(made()), job_seconds=1, quota=5), Faults())
        for number in range(200):
            add(jobs, str(number))
        controls.reset()
        assert jobs.clock_changed()
        assert (worked.done, jobs.by_arn) == ([], {})
    finally:
        jobs.close()


def test_a_job_is_described_as_of_one_moment(clock: Clock, jobs: Jobs) -> None:
    """While it ends, it does not give a reason for a failure that its status does not tell of."""
    job = add(jobs, "one")
    job.failure_reason = "Because."  # as `_end` has it for a moment
    described = job.describe(NOON + 50)
    assert described["status"] == "CREATE IN_PROGRESS"
    assert "failureReason" not in described
