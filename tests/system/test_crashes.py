"""
A job is paid for once, whatever dies: a task's process at each point of its way, the triggerer, the scheduler with all
that it has started. On a real Airflow; each test counts the jobs that the stand-in has.
"""

from __future__ import annotations

import json
import urllib.request
from collections import Counter
from pathlib import Path

import pytest

from example_dags.demo.stack import Stack

HALVES = ("sync", "deferred")
POINTS = ("before_create", "after_create", "while_waiting", "before_return")
RETRIES_SOON = {
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "10",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "5",
    "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD": "10",
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "5",
    # The same two under their names in Airflow 2.
    "AIRFLOW__SCHEDULER__SCHEDULER_ZOMBIE_TASK_THRESHOLD": "10",
    "AIRFLOW__SCHEDULER__ZOMBIE_DETECTION_INTERVAL": "2",
}


@pytest.fixture(scope="module")
def stack(state):
    marks = state / "marks"
    marks.mkdir()
    with Stack(
        state,
        job_seconds=8,
        environment={**RETRIES_SOON, "CRASH_MARKS": str(marks)},
        dags_folder=Path(__file__).parent / "dags",
    ) as running:
        body = b"".join(b'{"userId": "%d"}\n' % number for number in range(1, 4))
        running.client("s3").put_object(Bucket="personalize-local", Key="crashes/in/users.json", Body=body)
        running.wait_for_dag("crashes")
        running.wait_for_dag("quota")
        yield running


def service_state(stack):
    with urllib.request.urlopen(f"{stack.endpoint_url}/_local/state") as answer:
        return json.load(answer)


def returned(stack, run):
    """What each task of a run has returned, by task id and map index."""
    rows = stack.metadata.execute(
        "SELECT task_id, map_index, value FROM xcom WHERE dag_id = %s AND run_id = %s AND key = 'return_value'",
        [run.dag_id, run.run_id],
    )
    # Airflow 3 stores JSON, Airflow 2 its bytes.
    return {(task, index): value if isinstance(value, str) else json.loads(bytes(value)) for task, index, value in rows}


@pytest.fixture(scope="module")
def crashed(stack):
    """A run in which every task died once, and the triggerer while tasks were deferred; and the stand-in's state."""
    run = stack.trigger("crashes")
    run.wait(
        until=lambda task: task.task_id == "deferred_while_waiting" and task.state == "deferred", check=stack.check
    )
    stack.processes["triggerer"].kill()
    stack.start_component("triggerer")
    run.wait(timeout=900, check=stack.check)
    return run, service_state(stack)


@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("half", HALVES)
def test_one_job_after_a_death(stack, crashed, half, point):
    run, state = crashed
    task_id = f"{half}_{point}"
    [task] = [task for task in run.tasks() if task.task_id == task_id]
    arns = [job["arn"] for job in state["jobs"] if job["arn"].endswith(name_of(run, task_id, state))]
    assert task.state == "success", run.log(task_id)
    assert len(arns) == 1
    assert returned(stack, run)[task_id, -1] == arns[0]
    if (half, point) != ("deferred", "while_waiting"):
        assert (stack.state / "marks" / f"{task_id}.{point}").exists()
        assert task.try_number >= 2


def name_of(run, task_id, state):
    """The end of the names of a task's jobs: the stand-in knows them all."""
    names = {job["jobName"] for job in state["jobs"] if job["jobName"].startswith("crashes-" + task_id)}
    assert len(names) == 1, names
    return f"/{names.pop()}"


def test_no_other_job_was_made(crashed):
    _, state = crashed
    assert len(state["jobs"]) == len(HALVES) * len(POINTS)


def test_the_scheduler_and_its_workers_die_while_tasks_wait(stack):
    """As when the machine is lost: nothing of the worker is left to say what happened to its task."""
    before = len(service_state(stack)["jobs"])
    run = stack.trigger("crashes")
    run.wait(until=lambda task: task.task_id == "sync_while_waiting" and task.state == "running", check=stack.check)
    stack.processes["scheduler"].kill()
    stack.start_component("scheduler")
    run.wait(timeout=900, check=stack.check)
    assert {task.state for task in run.tasks()} == {"success"}
    state = service_state(stack)
    assert len(state["jobs"]) - before == len(HALVES) * len(POINTS)
    assert set(returned(stack, run).values()) <= {job["arn"] for job in state["jobs"]}


def test_twenty_mapped_tasks_share_a_quota_of_five(stack):
    with urllib.request.urlopen(
        urllib.request.Request(f"{stack.endpoint_url}/_local/reset", b"{}", {"Content-Type": "application/json"})
    ):
        run = stack.trigger("quota")
    run.wait(timeout=900, check=stack.check)
    state = service_state(stack)
    assert {task.state for task in run.tasks()} == {"success"}
    assert len({job["arn"] for job in state["jobs"]}) == len(state["jobs"]) == 20
    assert state["most_running"]["BatchInferenceJob"] <= 5
    asked = Counter(call["jobName"] for call in state["create_calls"])
    assert max(asked.values()) <= 10
