"""``make demo-lifecycle`` on a real Airflow; in the end a person approves that all of it is torn down."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from example_dags.demo.lifecycle import DAGS, live
from example_dags.demo.progress import Progress
from example_dags.demo.run import only

if TYPE_CHECKING:
    from example_dags.demo.stack import Stack

TEARDOWN = "personalize_teardown"
GROUP = "personalize-local"


@pytest.fixture(scope="module")
def stack(state: Path) -> Iterator[Stack]:
    """The stack of ``make demo-lifecycle``, whose account is empty, with one more DAG."""
    from example_dags.demo.stack import Stack

    with Stack(state, job_seconds=1, in_a_hurry=True, empty=True, dags_folder=only((*DAGS, TEARDOWN), state)) as stack:
        yield stack


def test_the_list_follows_the_import_and_all_is_torn_down(stack: Stack, capsys: pytest.CaptureFixture[str]) -> None:
    from example_dags.demo.stack import AIRFLOW_3, StackError

    live(stack, Progress(brief=True))
    printed = capsys.readouterr().out
    assert re.search(
        r"metric on held-out data +popular 1 +popular 2 +model 1 \(passed\) +model 2 \(passed\)\n", printed
    )
    [popular, _, model, _] = re.search(r"^ +precision_at_10" + r" +([\d.]+)" * 4, printed, re.MULTILINE).groups()
    assert float(model) > float(popular)
    assert re.search(r"^  The Lighthouse \(premiere\): in 0 emails before, in [1-9]\d* after", printed, re.MULTILINE)
    assert re.search(r": in [1-9]\d* emails before, in 0 after", printed)
    # The night after the second import took the second version, and each training and import was paid for once.
    client = stack.client("personalize")
    versions = client.list_solution_versions(solutionArn=solution(stack))["solutionVersions"]
    jobs = client.list_batch_inference_jobs()["batchInferenceJobs"]
    ran_on = {job["solutionVersionArn"] for job in jobs}
    assert ran_on == {version["solutionVersionArn"] for version in versions}
    assert (len(jobs), len(versions), len(client.list_dataset_import_jobs()["datasetImportJobs"])) == (2, 2, 6)

    if not AIRFLOW_3:
        pytest.skip("Airflow 2 asks nobody: the form of the DAG does")
    stack.wait_for_dag(TEARDOWN)
    run = stack.trigger(TEARDOWN, params={"dataset_group": GROUP})
    run.wait(until=asks)
    assert [group["name"] for group in client.list_dataset_groups()["datasetGroups"]] == [GROUP]

    def approve() -> None:
        stack.check()
        # An answer that comes before the scheduler knows that the task has begun to wait lets Airflow run the task
        # anew, and then it asks again. One that comes twice is refused.
        if any(map(asks, run.tasks())):
            with suppress(StackError):
                stack.answer(run, "approve", "Approve", name=GROUP)

    run.wait(check=approve)
    assert run.state == "success", run.log("confirm")
    for operation in ("dataset_groups", "datasets", "schemas", "solutions", "filters"):
        answer = getattr(client, f"list_{operation}")()
        assert next(value for key, value in answer.items() if key != "ResponseMetadata") == [], operation


def asks(task: Any) -> bool:
    return task.task_id == "approve" and task.state in ("awaiting_input", "deferred")


def solution(stack: Stack) -> str:
    listed = stack.client("personalize").list_solutions()["solutions"]
    return next(one["solutionArn"] for one in listed if one["name"] == "user-personalization")
