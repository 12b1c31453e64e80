"""
What is paid for, or changed, is done once, wherever the process dies: imports, trainings, updates of campaigns and
deletions, on a worker and deferred, on a real Airflow.

``make test-long`` kills each of them at each point; without ``KILL_MATRIX``, only what tells most is killed. In
processes without a scheduler, ``tests/integration/test_kills.py`` does so each time.
"""

from __future__ import annotations

import json
import os
import urllib.request
from pathlib import Path

import pytest

from example_dags.demo.stack import Stack
from tests.kills import CALLS, DAGS, set_up, what_was_done
from tests.system.test_crashes import RETRIES_SOON

CHOSEN = sorted(DAGS.keys() - {"kills"}) if os.environ.get("KILL_MATRIX") else ["kills"]


@pytest.fixture(scope="module")
def stack(state):
    marks = state / "marks"
    marks.mkdir()
    with Stack(
        state,
        job_seconds=4,
        environment={**RETRIES_SOON, "CRASH_MARKS": str(marks)},
        dags_folder=Path(__file__).parent / "dags",
    ) as running:
        yield running


def local(stack, name, body=None):
    """Ask the stand-in's controls."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{stack.endpoint_url}/_local/{name}", data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


@pytest.mark.parametrize("dag_id", CHOSEN)
def test_it_is_done_once(stack, dag_id):
    stack.wait_for_dag(dag_id)
    # Airflow may end a task that is deferred for moments only, and run it again: then it does not come to its point.
    assert any(all_died_where_they_should(stack, dag_id) for _ in range(3))


def all_died_where_they_should(stack, dag_id):
    """Run the DAG, make sure that each thing was done once, and return whether each task died at its point."""
    cells = DAGS[dag_id]
    local(stack, "reset", {})
    version = set_up(stack.client, cells)
    before = local(stack, "state")["calls"]

    run = stack.trigger(dag_id, params={"version": version})
    if deferred := {cell.task_id for cell in cells if cell.point == "while_deferred"}:
        run.wait(until=lambda task: task.task_id in deferred and task.state == "deferred", check=stack.check)
        stack.processes["triggerer"].kill()
        stack.start_component("triggerer")
    run.wait(timeout=900, check=stack.check)

    tasks = {task.task_id: task for task in run.tasks()}
    for cell in cells:
        task = tasks[cell.task_id]
        assert task.state == "success", run.log(task.task_id)
        if cell.task_id not in deferred:
            assert task.try_number >= 2
    after = local(stack, "state")["calls"]
    calls = {name: count - before.get(name, 0) for name, count in after.items()}
    wanted = {kind: sum(cell.kind == kind for cell in cells) for kind in CALLS}
    assert what_was_done(stack.client, cells, calls) == wanted
    marks = stack.state / "marks"
    return all((marks / f"{run.run_id}.{cell.task_id}").exists() for cell in cells if cell.task_id not in deferred)
