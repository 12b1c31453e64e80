"""The page "Personalize": what it shows of the stand-in, to whom, and how seldom it asks; by Airflow's API server."""

from __future__ import annotations

import inspect
import re
import secrets
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

pytest.importorskip("airflow.api_fastapi.app", reason="the pages are those of Airflow 3")

from airflow_provider_personalize.links.personalize import PersonalizeJobLink
from airflow_provider_personalize.links.reports import PersonalizeReportLink
from airflow_provider_personalize.operators.batch import PersonalizeCreateBatchInferenceJobOperator
from airflow_provider_personalize.plugins import app as pages
from airflow_provider_personalize.plugins.once import Once
from airflow_provider_personalize.plugins.plugin import SHOWS_VIEWS
from tests.integration.test_ui_reports import Task
from tests.integration.ui_support import Server, noted

pytestmark = pytest.mark.skipif(not SHOWS_VIEWS, reason="Airflow shows views of plugins from 3.1 on")

LISTS = (
    "ListBatchInferenceJobs",
    "ListBatchSegmentJobs",
    "ListDatasetImportJobs",
    "ListSolutionVersions",
    "ListSolutions",
)


@pytest.fixture(scope="module")
def server(airflow_db: None) -> Server:
    return Server()


@pytest.fixture
def configured(airflow_connection, monkeypatch: pytest.MonkeyPatch) -> str:
    """A connection that the page shows; nothing is remembered of another test's."""
    pages._overviews.cache_clear()
    monkeypatch.setenv("AIRFLOW__PERSONALIZE__UI_CONNECTIONS", " shop ,")
    return airflow_connection("shop", "aws://")


@pytest.fixture
def job(local) -> tuple[str, Task]:
    """A job, and the task that made it."""
    import boto3

    client = boto3.client("s3", region_name="us-east-1")
    client.put_object(Bucket="personalize-local", Key="in/a.json", Body=b'{"userId": "1"}\n')
    operator = PersonalizeCreateBatchInferenceJobOperator(
        task_id="recommend",
        solution_arn=local.solution_arns["user-personalization"],
        role_arn="arn:aws:iam::123456789012:role/personalize-local",
        input_uri="s3://personalize-local/in/",
        output_uri="s3://personalize-local/out/",
        wait_for_completion=True,
        poll_interval=0.1,
    )
    task = Task("recommend")
    task.run_id = secrets.token_hex(4)
    return str(inspect.unwrap(type(operator).execute)(operator, {"ti": task})), task


def text_of(html: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


def row_of(html: str, name: str) -> str:
    [row] = [row for row in re.findall(r"<tr>.*?</tr>", html, re.DOTALL) if name in row]
    return row


def test_it_shows_the_jobs_with_the_runs_that_made_them(server: Server, local, job, configured: str) -> None:
    arn, task = job
    name = arn.partition("/")[2]
    ids = noted(PersonalizeJobLink.key, task.pushed[PersonalizeJobLink.key], task_id="recommend", dag_id="nightly list")
    # Those who wait for a job and load it note it, too, in this run or another, sooner or later.
    noted(PersonalizeJobLink.key, {"job_arn": arn}, task_id="load", **ids)
    noted(PersonalizeJobLink.key, {"job_arn": arn}, task_id="other")
    noted(PersonalizeReportLink.key, {"about": [arn], "verdict": "warned"}, **ids)
    noted(
        PersonalizeReportLink.key,
        {"about": [local.solution_version_arns["sims"]], "verdict": "failed"},
        task_id="model",
        **ids,
    )
    shown = server.get("/personalize/jobs")
    assert shown.status_code == 200
    row = row_of(shown.text, name)
    assert f'href="../dags/nightly%20list/runs/{ids["run_id"].replace("+", "%2B")}/tasks/recommend"' in row
    assert re.search(r"batch inference .* user-personalization ACTIVE \d+ s warned", text_of(row))
    assert "0 of 5 batch inference jobs pending or in progress" in text_of(shown.text)
    assert re.search(r"\d of 20 trainings pending or in progress", text_of(shown.text))
    solution = text_of(row_of(shown.text, "<b>sims</b>"))
    assert re.search(r"sims aws-sims \S+ ACTIVE .* failed .*coverage \d", solution)
    assert "not checked" in row_of(shown.text, "<b>user-personalization</b>")
    # No prices are set, so there is no column for costs.
    assert "Estimated cost" not in shown.text


def test_a_job_is_known_by_its_name_where_xcom_is_gone(server: Server, local, job, configured: str) -> None:
    name = job[0].partition("/")[2]
    ids = noted("something", {}, task_id="recommend", dag_id="nightly list")
    # Neither a run of before nor another DAG or task whose name begins alike.
    noted("something", {}, task_id="recommend", dag_id="nightly")
    noted("something", {}, task_id="recommend-2", **ids)
    for (dag_id, run_id), began, ended in (
        (ids.values(), -5, None),
        (noted("something", {}, task_id="recommend", dag_id="nightly list").values(), -9000, -5000),
    ):
        set_times(dag_id, run_id, began, ended)
    row = row_of(server.get("/personalize/jobs").text, name)
    assert f"/runs/{ids['run_id'].replace('+', '%2B')}/tasks/recommend" in row
    # Of two runs at the same time, nobody knows which one it was.
    other = noted("something", {}, task_id="recommend", dag_id="nightly list")
    set_times(*other.values(), -5, None)
    pages._overviews.cache_clear()
    assert "not known here" in row_of(server.get("/personalize/jobs").text, name)


def set_times(dag_id: str, run_id: str, began: float, ended: float | None) -> None:
    """Set when a run was going on, in seconds from now."""
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from sqlalchemy import update

    now = datetime.now(UTC)
    times = {"start_date": now + timedelta(seconds=began), "end_date": ended and now + timedelta(seconds=ended)}
    with create_session() as session:
        session.execute(update(DagRun).where(DagRun.dag_id == dag_id, DagRun.run_id == run_id).values(**times))


def test_costs_have_a_column_where_there_are_some(server: Server, job, configured: str) -> None:
    arn, task = job
    ids = noted(PersonalizeJobLink.key, task.pushed[PersonalizeJobLink.key], task_id="recommend", dag_id="nightly list")
    noted("counts", {"results": 25, "estimated_cost": 1.25}, task_id="recommend", **ids)
    shown = server.get("/personalize/jobs").text
    assert "Estimated cost" in shown
    assert "1.25" in row_of(shown, arn.partition("/")[2])


def test_a_hundred_people_are_one_list_call(server: Server, local, configured: str) -> None:
    with ThreadPoolExecutor(100) as people:
        found = list(people.map(lambda _: server.get("/personalize/jobs").status_code, range(100)))
    assert found == [200] * 100
    calls = local.controls.state()["calls"]
    assert {name: calls.get(name) for name in LISTS} == dict.fromkeys(LISTS, 1)


def test_who_may_not_see_it_and_what_it_names(server: Server, local, configured: str) -> None:
    for user, status in (("nobody", 403), (None, 401)):
        refused = server.get("/personalize/jobs", user)
        assert refused.status_code == status
        assert "user-personalization" not in refused.text
    assert local.controls.state()["calls"].get("ListSolutions") is None


def test_what_cannot_be_looked_at_is_a_sentence(
    server: Server, local, configured: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow_provider_personalize.local.faults import Fault

    monkeypatch.setenv("AIRFLOW__PERSONALIZE__UI_CONNECTIONS", "missing,shop")
    local.controls.faults.add(Fault("deny", operation="ListBatchInferenceJobs"))
    shown = server.get("/personalize/jobs")
    assert shown.status_code == 200
    problems = [text_of(one) for one in re.findall(r'<p class="problem">(.*?)</p>', shown.text, re.DOTALL)]
    assert len(problems) == 2
    assert "missing" in problems[0]
    assert "AccessDeniedException" in problems[1]
    assert "personalize:ListBatchInferenceJobs" in problems[1]
    assert "<b>user-personalization</b>" in shown.text


def test_who_does_not_answer_is_not_asked_five_times(server: Server, local, configured: str) -> None:
    from airflow_provider_personalize.local.faults import Fault

    local.controls.faults.add(Fault("unavailable", times=100))
    shown = server.get("/personalize/jobs")
    assert shown.status_code == 200
    assert len(re.findall('class="problem"', shown.text)) == 1
    calls = local.controls.state()["calls"]
    assert [calls.get(name, 0) > 0 for name in LISTS] == [True, False, False, False, False]


def test_it_is_off_where_no_connection_is_named(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__PERSONALIZE__UI_CONNECTIONS", "")
    shown = server.get("/personalize/jobs")
    assert shown.status_code == 200
    assert "ui_connections = aws_default" in shown.text


def test_no_name_runs_as_script(server: Server, local, configured: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow_provider_personalize.hooks.personalize import PersonalizeHook

    evil = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"
    line = {
        "batchInferenceJobArn": f"arn:aws:personalize:us-east-1:1:batch-inference-job/{evil}",
        "jobName": evil,
        "status": evil,
        "failureReason": evil,
    }
    monkeypatch.setattr(PersonalizeHook, "pages", lambda self, kind: [{kind.list_key: [line] if kind.is_job else []}])
    noted(PersonalizeJobLink.key, {"job_arn": line["batchInferenceJobArn"]}, task_id="t")
    shown = server.get("/personalize/jobs")
    assert "alert(1)" in shown.text
    assert "<script>" not in shown.text
    assert "<img" not in shown.text
    assert "script-src 'self'" in shown.headers["content-security-policy"]


class Now(Executor):
    """Does what it is given at once."""

    def submit(self, function: Any, /, *arguments: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(function(*arguments, **kwargs))
        except ValueError as error:
            future.set_exception(error)
        return future


def test_an_answer_is_good_for_its_time_and_an_error_for_none() -> None:
    clock, asked = [0.0], []

    def look_up(key: str) -> int:
        asked.append(key)
        if key == "bad":
            raise ValueError
        return len(asked)

    once: Once[int] = Once(30, Now(), lambda: clock[0])
    assert [once.get("a", look_up).result() for _ in range(3)] == [1, 1, 1]
    assert once.get("b", look_up).result() == 2
    clock[0] = 29.9
    assert once.get("a", look_up).result() == 1
    clock[0] = 30
    assert once.get("a", look_up).result() == 3
    assert [once.get("bad", look_up).exception() is not None for _ in range(2)] == [True, True]
    assert asked == ["a", "b", "a", "bad", "bad"]
