"""The tab with the reports: who sees which page, from where, and what may run in it; by Airflow's own API server."""

from __future__ import annotations

import inspect
import json
import os
import re
import sqlite3
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("airflow.api_fastapi.app", reason="the pages are those of Airflow 3")

from airflow_provider_personalize.links.reports import PersonalizeReportLink
from airflow_provider_personalize.operators.batch import PersonalizeCreateBatchInferenceJobOperator
from airflow_provider_personalize.operators.output_check import PersonalizeOutputCheckOperator
from airflow_provider_personalize.plugins.plugin import SHOWS_VIEWS
from tests.integration.ui_support import Server, noted

pytestmark = pytest.mark.skipif(not SHOWS_VIEWS, reason="Airflow shows views of plugins from 3.1 on")

PAGE = "<!DOCTYPE html>\n<title>x</title><p>ünd 100 %</p>"


class Task:
    """A task that runs, and what it has noted in XCom."""

    dag_id, run_id = "nightly list", "run"

    def __init__(self, task_id: str, map_index: int = -1) -> None:
        self.task_id, self.map_index, self.pushed = task_id, map_index, {}

    def xcom_push(self, key: str, value: Any) -> None:
        self.pushed[key] = value


@pytest.fixture(scope="module")
def server(airflow_db: None) -> Server:
    return Server()


def note(uri: object, **values: object) -> dict[str, object]:
    return {"uri": str(uri), "title": "Output check", "verdict": "warned", "aws_conn_id": "aws_default"} | values


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "report.html"
    path.write_text(PAGE, encoding="utf-8")
    return path


def where(noted_ids: dict[str, str], task_id: str | None = "check", map_index: str | None = None) -> dict[str, object]:
    return {**noted_ids, "task_id": task_id, "map_index": map_index}


def key() -> str:
    return PersonalizeReportLink.key


def test_who_may_read_the_dag_sees_the_report_and_nobody_else(server: Server, page: Path) -> None:
    ids = noted(key(), note(page))
    shown = server.get("/personalize/report", **where(ids))
    assert (shown.status_code, shown.text) == (200, PAGE)
    for path in ("/personalize/report", "/personalize/reports"):
        for user, status in (("nobody", 403), (None, 401)):
            refused = server.get(path, user, **where(ids))
            assert (refused.status_code, refused.headers["content-type"]) == (status, "text/html; charset=utf-8")
            assert "ünd" not in refused.text
            assert str(page) not in refused.text
            assert "You " in refused.text
    # Not by the name that stands for any DAG, nor by naming one DAG for the permission and another for the report.
    assert server.get("/personalize/report", **{**where(ids), "dag_id": "~"}).status_code == 404


def test_it_may_run_nothing_but_the_scripts_that_the_task_noted(server: Server, page: Path) -> None:
    ids = noted(key(), note(page, scripts=["sha256-" + "A" * 43 + "=", "sha256-x'; script-src *", 7]))
    noted(key(), note(page), task_id="plain", **ids)
    policy = server.get("/personalize/report", **where(ids)).headers["content-security-policy"].split("; ")
    assert "default-src 'none'" in policy
    assert f"script-src 'sha256-{'A' * 43}='" in policy
    [sandbox] = [part for part in policy if part.startswith("sandbox")]
    assert "allow-scripts" in sandbox.split()
    assert "allow-same-origin" not in sandbox
    plain = server.get("/personalize/report", **where(ids, "plain"))
    assert "script-src 'none'" in plain.headers["content-security-policy"]
    assert "allow-scripts" not in plain.headers["content-security-policy"]
    assert plain.headers["x-content-type-options"] == "nosniff"


def test_the_tab_of_a_run_shows_all_its_reports_and_that_of_a_task_its_own(server: Server, page: Path) -> None:
    title = "</title><script>alert(1)</script>\" onload='alert(2)"
    ids = noted(key(), note(page, title=title), task_id="<img src=x onerror=alert(3)>", run_id="a+b:c~d")
    noted(key(), note(page, title="Emails"), task_id="mapped", map_index=3, **ids)
    of_run = server.get("/personalize/reports", **ids).text
    assert "<script>" not in of_run
    assert "<img" not in of_run
    assert "mapped [3]" in of_run
    frames = re.findall(r'<iframe [^>]*src="([^"]+)"[^>]*>', of_run)
    assert len(frames) == 1
    assert "allow-same-origin" not in of_run
    assert server.get("/personalize/" + frames[0].replace("&amp;", "&")).text == PAGE
    of_task = server.get("/personalize/reports", **where(ids, "mapped", "3")).text
    assert "Emails" in of_task
    assert "alert" not in of_task
    # Airflow leaves its placeholder where a task is not mapped.
    assert "no report" in server.get("/personalize/reports", **where(ids, "mapped", "{MAP_INDEX}")).text
    assert "No task of this run" in server.get("/personalize/reports", **(ids | {"run_id": "other"})).text
    assert server.get("/personalize/reports", dag_id=ids["dag_id"]).status_code == 422


def test_only_pages_are_read_and_only_from_where_the_task_noted(server: Server, page: Path, tmp_path: Path) -> None:
    ids = noted(key(), note(page))
    assert server.get("/personalize/report", **where(ids), uri="/etc/passwd", file="/etc/passwd").text == PAGE
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    secret = tmp_path / "airflow.cfg"
    secret.write_text("secret = <!doctype html>")
    for place, sentence in (
        (secret, "is not an HTML page"),
        (pipe, "is no file"),
        (tmp_path, "Is a directory"),
        (tmp_path / "gone.html", "No such file"),
        ("nonsense://x", "a place that is none"),
        ("/\0", "cannot read"),
        ("", "wrote no page"),
    ):
        refused = server.get("/personalize/report", **where(noted(key(), note(place))))
        assert refused.status_code == 404
        assert sentence in refused.text
        assert "secret" not in refused.text
    for odd in (None, [], {"uri": 7}, "text"):
        assert "wrote no page" in server.get("/personalize/report", **where(noted(key(), odd))).text


def test_a_page_on_s3_is_read_with_the_tasks_connection(server: Server, local, airflow_connection) -> None:
    import boto3

    airflow_connection("the_tasks", "aws://")
    client = boto3.client("s3", region_name="us-east-1")
    client.put_object(Bucket="personalize-local", Key="a b/ü.html", Body=PAGE.encode())
    uri = "s3://personalize-local/a b/ü.html"
    shown = server.get("/personalize/report", **where(noted(key(), note(uri, aws_conn_id="the_tasks"))))
    assert (shown.status_code, shown.text) == (200, PAGE)
    for place, sentence in (
        ("s3://personalize-local/gone.html", "is not there any more"),
        ("s3://no-such-bucket-here/x.html", "NoSuchBucket"),
    ):
        refused = server.get("/personalize/report", **where(noted(key(), note(place, aws_conn_id="the_tasks"))))
        assert refused.status_code == 404
        assert sentence in refused.text


class TestWhereItGoes:
    """What a check does with its report, with the stand-in's job and S3."""

    @pytest.fixture
    def job_arn(self, local) -> str:
        import boto3

        client = boto3.client("s3", region_name="us-east-1")
        client.put_object(Bucket="personalize-local", Key="in/a.json", Body=b'{"userId": "1"}\n{"userId": "2"}\n')
        operator = PersonalizeCreateBatchInferenceJobOperator(
            task_id="recommend",
            solution_arn=local.solution_arns["user-personalization"],
            role_arn="arn:aws:iam::123456789012:role/personalize-local",
            input_uri="s3://personalize-local/in/",
            output_uri="s3://personalize-local/out/",
            num_results=3,
            wait_for_completion=True,
            poll_interval=0.1,
        )
        return str(inspect.unwrap(type(operator).execute)(operator, {"ti": Task("recommend")}))

    @pytest.fixture
    def check(self, job_arn: str, tmp_path: Path, airflow_connection):
        database = sqlite3.connect(tmp_path / "shop.db")
        database.execute("CREATE TABLE recs (user_id TEXT, rank INTEGER, item_id TEXT, score REAL)")
        database.execute("INSERT INTO recs VALUES ('1', 1, 'a', 0.5)")
        database.commit()
        database.close()
        airflow_connection("shop", json.dumps({"conn_type": "sqlite", "host": str(tmp_path / "shop.db")}))
        loaded = {"lines": 2, "rows": 6, "rejects": 0, "job_arn": job_arn}

        def run(task: Task, **arguments: Any) -> dict[str, Any]:
            operator = PersonalizeOutputCheckOperator(
                task_id=task.task_id, sql_conn_id="shop", table="recs", **{"loaded": loaded} | arguments
            )
            return inspect.unwrap(type(operator).execute)(operator, {"ti": task})

        return run

    def test_beside_the_jobs_output_where_it_is_given_no_place(self, check, server: Server) -> None:
        task = Task("is.it-good", map_index=2)
        figures = check(task, checks={"rows": {"geq_to": 1}})
        uri = figures["report_uri"]
        assert re.fullmatch(r"s3://personalize-local/out/[\w-]+\.nightly-list\.is-it-good\.2\.html", uri)
        value = task.pushed[PersonalizeReportLink.key]
        assert (value["verdict"], value["region_name"]) == ("passed", "us-east-1")
        # The loader takes no report for output.
        assert not uri.endswith(".out")
        ids = noted(PersonalizeReportLink.key, value)
        shown = server.get("/personalize/report", **where(ids))
        assert shown.status_code == 200
        assert "recs" in shown.text
        key = uri.removeprefix("s3://personalize-local/")
        # On the stand-in it leads there; AWS's console knows nothing of it.
        assert (
            PersonalizeReportLink()
            .format_link(**value)
            .endswith(f"/_local/console?bucket=personalize-local&prefix={key}")
        )
        on_aws = value | {"stand_in": None, "aws_domain": "aws.amazon.com"}
        assert PersonalizeReportLink().format_link(**on_aws) == (
            f"https://console.aws.amazon.com/s3/object/personalize-local?region=us-east-1&prefix={key}"
        )

    def test_a_retry_writes_the_same_one_and_empty_text_is_for_none(self, check) -> None:
        first, second = check(Task("check")), check(Task("check"))
        assert first["report_uri"] == second["report_uri"]
        task = Task("check")
        assert check(task, report_uri="")["report_uri"] is None
        assert task.pushed[PersonalizeReportLink.key]["uri"] == ""
        assert PersonalizeReportLink().format_link(**task.pushed[PersonalizeReportLink.key]) == ""

    def test_nowhere_where_no_job_is_known_or_its_place_cannot_be_looked_up(self, check, local) -> None:
        assert check(Task("check"), loaded=None)["report_uri"] is None
        for job_arn in ("arn:aws:personalize:us-east-1:123456789012:batch-inference-job/x", "no ARN"):
            gone = {"lines": 2, "rejects": 0, "job_arn": job_arn}
            assert check(Task("check"), loaded=gone)["report_uri"] is None


def test_only_the_templates_own_scripts_have_a_digest() -> None:
    from airflow_provider_personalize.operators.reports import script_digests

    # Of "1", by another implementation.
    assert script_digests("<p><script>1</script></p>") == ["sha256-a4ayc/80/OGda4BO/1o/V0etpOqiLx1JwB5S3beHW0s="]
    assert script_digests("no script") == []
