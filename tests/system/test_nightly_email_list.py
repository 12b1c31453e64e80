"""The nightly DAG on a real Airflow: every task in a process of its own, the wait in the triggerer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from example_dags.demo.data import fill

if TYPE_CHECKING:
    from example_dags.demo.stack import Stack

DAG = "nightly_email_list"


def jobs(stack: Stack) -> list[str]:
    client = stack.client("personalize")
    return [job["status"] for job in client.list_batch_inference_jobs()["batchInferenceJobs"]]


def test_a_run_by_hand_fills_the_tables_and_waits_in_the_triggerer(stack: Stack) -> None:
    people, subscribed = fill(stack.warehouse)
    stack.wait_for_dag(DAG)
    run = stack.trigger(DAG)
    changes = run.wait(check=stack.check)

    tasks = [(task.task_id, task.state, task.try_number) for task in run.tasks() if task.task_id != "approve"]
    assert sorted(tasks) == [
        (task_id, "success", 1)
        for task_id in (
            *("announce", "ask", "check", "decide", "email_list", "load", "prepare", "preview", "recommend"),
        )
    ], run.log("recommend")
    assert [task.state for task in run.tasks() if task.task_id == "approve"] in (["skipped"], [])
    assert run.state == "success"
    assert jobs(stack) == ["ACTIVE"]

    # The wait left its worker while the job ran, and came back for the end only.
    seen = [change for change in changes if change.task.task_id == "recommend"]
    states = [change.task.state for change in seen]
    assert states.index("deferred") < states.index("success")
    deferred_for = seen[states.index("deferred") + 1].elapsed - seen[states.index("deferred")].elapsed
    assert deferred_for > 2
    [(triggerers,)] = stack.metadata.execute("SELECT count(*) FROM job WHERE job_type = 'TriggererJob'")
    assert triggerers == 1
    [(left,)] = stack.metadata.execute("SELECT count(*) FROM trigger")
    assert left == 0

    assert stack.warehouse.execute("SELECT count(*), count(DISTINCT user_id), max(rank) FROM recommendations") == [
        (people * 25, people, 25)
    ]
    assert stack.warehouse.execute(
        "SELECT count(*), count(DISTINCT user_id), count(*) FILTER (WHERE NOT subscribed OR title IS NULL) "
        "FROM email_list JOIN subscribers USING (user_id)"
    ) == [(subscribed * 5, subscribed, 0)]
    [page] = (stack.state / "previews").glob("email_list_*.html")
    assert f"<b>{subscribed}</b><span>emails" in page.read_text(encoding="utf-8")
    [page] = (stack.state / "previews").glob("recommendations_*.html")
    assert f"{people} of {people}" in page.read_text(encoding="utf-8")


def test_another_run_of_the_same_date_replaces_it_and_sees_who_has_left_since(stack: Stack) -> None:
    [(before,)] = stack.warehouse.execute("SELECT count(*) FROM recommendations")
    stack.warehouse.execute("UPDATE subscribers SET subscribed = false WHERE user_id = '2'")
    run = stack.trigger(DAG, params={"top_n": 3})
    run.wait(check=stack.check)

    assert run.state == "success", run.log("load")
    assert jobs(stack) == ["ACTIVE", "ACTIVE"]
    assert stack.warehouse.execute("SELECT count(*), count(DISTINCT run_date) FROM recommendations") == [(before, 1)]
    [(subscribed,)] = stack.warehouse.execute("SELECT count(*) FROM subscribers WHERE subscribed")
    assert stack.warehouse.execute(
        "SELECT count(*), count(DISTINCT user_id), count(*) FILTER (WHERE user_id = '2') FROM email_list"
    ) == [(subscribed * 3, subscribed, 0)]
