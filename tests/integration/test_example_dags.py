"""Every example DAG is parsed, and run on the stand-in and a real PostgreSQL; what it leaves behind is looked at."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from example_dags.demo.data import fill

if TYPE_CHECKING:
    from example_dags.demo.postgres import Database

FILES = sorted((Path(__file__).parents[2] / "example_dags").glob("*.py"))


def load(path: Path) -> Any:
    """Read a DAG file as Airflow does, and give its DAG."""
    try:
        from airflow.dag_processing.dagbag import DagBag
    except ImportError:  # Airflow 2
        from airflow.models.dagbag import DagBag

    bag = DagBag(path)
    assert bag.import_errors == {}
    [dag] = bag.dags.values()
    return dag


def written_by_the_job() -> dict[str, list[tuple[str, float]]]:
    """Give each user's items and scores, as they lie in the output objects of the only job."""
    import boto3

    personalize, s3 = boto3.client("personalize"), boto3.client("s3")
    [job] = personalize.list_batch_inference_jobs()["batchInferenceJobs"]
    job = personalize.describe_batch_inference_job(batchInferenceJobArn=job["batchInferenceJobArn"])[
        "batchInferenceJob"
    ]
    bucket, _, prefix = job["jobOutput"]["s3DataDestination"]["path"].removeprefix("s3://").partition("/")
    written = {}
    for item in s3.list_objects_v2(Bucket=bucket, Prefix=prefix)["Contents"]:
        if item["Key"].endswith(".out"):
            for line in s3.get_object(Bucket=bucket, Key=item["Key"])["Body"].iter_lines():
                row = json.loads(line)
                output = row["output"]
                written[row["input"]["userId"]] = list(zip(output["recommendedItems"], output["scores"], strict=True))
    return written


def check_nightly_email_list(database: Database, previews: Path, run_date: str) -> None:
    """The tables hold what the job wrote, and the emails are those of the subscribed."""
    written = written_by_the_job()
    assert len(written) == 671
    assert sorted(database.execute("SELECT user_id, rank, item_id, score, run_date FROM recommendations")) == sorted(
        (user, rank, item, score, run_date)
        for user, items in written.items()
        for rank, (item, score) in enumerate(items, 1)
    )

    people = dict(database.execute("SELECT user_id, email FROM subscribers WHERE subscribed"))
    titles = dict(database.execute("SELECT item_id, COALESCE(title, 'Item ' || item_id) FROM items"))
    assert len(people) == 632
    emails = database.execute("SELECT user_id, email, rank, item_id, title, score, run_date::text FROM email_list")
    assert sorted(emails) == sorted(
        (user, email, rank, item, titles[item], score, run_date)
        for user, email in people.items()
        for rank, (item, score) in enumerate(written[user][:5], 1)
    )

    [page] = previews.glob("*.html")
    assert page.name == f"email_list_{run_date}.html"
    text = page.read_text(encoding="utf-8")
    assert "<b>632</b><span>emails" in text
    assert text.count("<article>") == 60
    assert "Chiara &lt;3 D&#39;Angelo" in text, "names are text, not markup"


CHECKS: dict[str, Callable[[Database, Path, str], None]] = {
    "nightly_email_list": check_nightly_email_list,
}


def test_every_example_has_a_check() -> None:
    assert {path.stem for path in FILES} == set(CHECKS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_parsing_gives_no_warning(path: Path) -> None:
    program = f"import airflow, runpy, warnings; warnings.simplefilter('error'); runpy.run_path({str(path)!r})"
    # Warnings of Airflow's and the providers' own modules are theirs: they are imported before.
    before = "import airflow.providers.amazon.aws.operators.bedrock, airflow.providers.amazon.aws.sensors.bedrock;"
    before += "import airflow.providers.amazon.aws.triggers.base, airflow.providers.common.sql.operators.sql;"
    subprocess.run([sys.executable, "-c", before + program], check=True, timeout=120)


@pytest.mark.usefixtures("airflow_db", "local")
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
@pytest.mark.parametrize("by_hand", [False, True], ids=["scheduled", "by hand"])
def test_runs(
    path: Path,
    by_hand: bool,
    postgres: Database,
    airflow_connection: Callable[[str, str], str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    airflow_connection("postgres_default", postgres.uri)
    airflow_connection("aws_default", "aws://")
    monkeypatch.setenv("AIRFLOW_VAR_EMAIL_PREVIEW_DIR", str(tmp_path))
    fill(postgres)
    postgres.execute("UPDATE subscribers SET name = 'Chiara <3 D''Angelo' WHERE user_id = '101'")

    dag = load(path)
    for task in dag.tasks:
        task.retries = 0
        task.poke_interval = 0.2
    if not by_hand:
        run = dag.test(datetime(2026, 3, 1, 2, tzinfo=UTC))
    elif "logical_date" in dag.test.__func__.__code__.co_varnames:
        run = dag.test(logical_date=None)
    else:
        pytest.skip("every run has a logical date on Airflow 2")

    assert run.state == "success"
    run_date = (run.logical_date or run.run_after).date().isoformat()
    CHECKS[path.stem](postgres, tmp_path, run_date)
