"""Every example DAG is parsed, and run on the stand-in and a real PostgreSQL; what it leaves behind is looked at."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
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


def written_by_the_jobs() -> list[dict[str, Any]]:
    """Return the lines of the output objects of all jobs."""

    personalize, s3 = boto3.client("personalize"), boto3.client("s3")
    arns = [job["batchInferenceJobArn"] for job in personalize.list_batch_inference_jobs()["batchInferenceJobs"]]
    jobs = [personalize.describe_batch_inference_job(batchInferenceJobArn=arn)["batchInferenceJob"] for arn in arns]
    arns = [job["batchSegmentJobArn"] for job in personalize.list_batch_segment_jobs()["batchSegmentJobs"]]
    jobs += [personalize.describe_batch_segment_job(batchSegmentJobArn=arn)["batchSegmentJob"] for arn in arns]
    written = []
    for job in jobs:
        bucket, _, prefix = job["jobOutput"]["s3DataDestination"]["path"].removeprefix("s3://").partition("/")
        for item in s3.list_objects_v2(Bucket=bucket, Prefix=prefix)["Contents"]:
            if item["Key"].endswith(".out"):
                body = s3.get_object(Bucket=bucket, Key=item["Key"])["Body"]
                written += [json.loads(line) for line in body.iter_lines()]
    assert all(line["error"] is None for line in written)
    return written


def ranked(key: str, results: str) -> list[tuple[str, int, str]]:
    """Return what the jobs wrote as rows: what was asked about, rank, result."""
    return sorted(
        (line["input"][key], rank, result)
        for line in written_by_the_jobs()
        for rank, result in enumerate(line["output"][results], 1)
    )


def check_nightly_email_list(database: Database, previews: Path, run_date: str) -> None:
    """The tables hold what the job wrote, and the emails are those of the subscribed."""
    written = {
        line["input"]["userId"]: list(zip(line["output"]["recommendedItems"], line["output"]["scores"], strict=True))
        for line in written_by_the_jobs()
    }
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

    page, report = sorted(previews.glob("*.html"))
    assert (page.name, report.name) == (f"email_list_{run_date}.html", f"recommendations_{run_date}.html")
    assert "671 of 671" in report.read_text(encoding="utf-8")
    text = page.read_text(encoding="utf-8")
    assert "<b>632</b><span>emails" in text
    assert text.count("<article>") == 60
    assert "Chiara &lt;3 D&#39;Angelo" in text, "names are text, not markup"


def check_similar_items_catalog(database: Database, _: Path, run_date: str) -> None:
    """Every item has its similar ones, whichever part it was in."""
    rows = database.execute("SELECT item_id, rank, related_item_id FROM similar_items")
    assert sorted(rows) == ranked("itemId", "recommendedItems")
    assert {item for item, *_ in rows} == {item for (item,) in database.execute("SELECT item_id FROM items")}
    assert sorted(database.execute("SELECT DISTINCT part FROM similar_items")) == [(0,), (1,), (2,)]


def check_similar_items_dynamodb(database: Database, _: Path, run_date: str) -> None:
    """Every item of the shop is an item of the table, with its list in the job's order."""

    table = boto3.resource("dynamodb").Table("similar_items")
    pages = boto3.client("dynamodb").get_paginator("scan").paginate(TableName="similar_items")
    assert sum(page["Count"] for page in pages) == database.execute("SELECT count(*) FROM items")[0][0]
    for line in written_by_the_jobs()[::50]:
        found = table.get_item(Key={"item_id": line["input"]["itemId"]})["Item"]
        assert found["items"] == line["output"]["recommendedItems"]
        assert len(found["scores"]) == len(found["items"]) > 0
        assert found["expires_at"] > 1_700_000_000


def check_themed_carousels(database: Database, _: Path, run_date: str) -> None:
    """Each carousel has the items and the theme that the job gave it."""
    rows = database.execute("SELECT item_id, rank, related_item_id FROM carousels")
    assert sorted(rows) == ranked("itemId", "recommendedItems")
    themes = {line["input"]["itemId"]: line["output"]["theme"] for line in written_by_the_jobs()}
    assert dict(database.execute("SELECT DISTINCT item_id, theme FROM carousels")) == themes
    assert len(themes) == 20
    assert database.execute("SELECT count(*) FROM carousels WHERE theme_relevance IS NULL") == [(0,)]


def check_personalized_ranking(database: Database, _: Path, run_date: str) -> None:
    """Each subscriber has all offers, in the job's order."""
    rows = database.execute("SELECT user_id, rank, item_id FROM ranked_offers")
    assert sorted(rows) == ranked("userId", "recommendedItems")
    orders = dict(database.execute("SELECT user_id, array_agg(item_id ORDER BY rank) FROM ranked_offers GROUP BY 1"))
    offers = sorted(item for (item,) in database.execute("SELECT item_id FROM offers"))
    assert len(orders) == 632
    assert all(sorted(order) == offers for order in orders.values())
    assert len(set(map(tuple, orders.values()))) > 100, "the order is each subscriber's own"


def check_segment_campaign(database: Database, _: Path, run_date: str) -> None:
    """Two segments, of users who are active enough, as the campaign's slice."""
    rows = database.execute("SELECT segment, rank, user_id, campaign FROM campaign_audience")
    assert sorted(row[:3] for row in rows) == ranked("itemAttributes", "usersList")
    assert {(segment, campaign) for segment, _, _, campaign in rows} == {
        ('ITEMS.GENRES = "Film-Noir" AND ITEMS.GENRES = "Mystery"', "classics"),
        ('ITEMS.GENRES = "Sci-Fi" AND ITEMS.YEAR = 1982', "classics"),
    }
    users = {user for _, _, user, _ in rows}
    assert 300 < len(users) <= 448, "two thirds of the 671 users are active enough"


def check_item_launch_audience(database: Database, _: Path, run_date: str) -> None:
    """Each item that is new that day has its audience."""
    rows = database.execute("SELECT segment, rank, user_id, launched FROM launch_audience")
    assert sorted(row[:3] for row in rows) == ranked("itemId", "usersList")
    assert {(segment, day) for segment, _, _, day in rows} == {
        (item, run_date) for (item,) in database.execute("SELECT item_id FROM launches")
    }


def check_popular_fallback(database: Database, _: Path, run_date: str) -> None:
    """Who has no recommendations gets what is popular, and nobody else."""
    rows = database.execute("SELECT user_id, rank, item_id FROM fallback_recommendations")
    assert sorted(rows) == ranked("userId", "recommendedItems")
    assert {user for user, *_ in rows} == {"1", "2", "3"}
    assert len({item for _, _, item in rows}) == 10, "the same items for all"


def check_batch_on_demand(database: Database, _: Path, run_date: str) -> None:
    """The form as it opens: ten recommendations for each subscriber."""
    rows = database.execute("SELECT user_id, rank, item_id, label FROM on_demand")
    assert sorted(row[:3] for row in rows) == ranked("userId", "recommendedItems")
    assert len(rows) == 6320
    assert {label for *_, label in rows} == {"on demand"}


def check_nightly_to_lake(database: Database, _: Path, run_date: str) -> None:
    """The table holds what the job wrote, all of it as one snapshot, from the files of several tasks."""
    from airflow.providers.apache.iceberg.hooks.iceberg import IcebergHook

    table = IcebergHook("iceberg_default").load_table("lake.recommendations")
    rows = table.scan().to_arrow().to_pylist()
    assert sorted((row["user_id"], row["rank"], row["item_id"]) for row in rows) == ranked("userId", "recommendedItems")
    assert {row["run_date"] for row in rows} == {run_date}
    assert len(rows) == 671 * 25
    assert len(table.snapshots()) == 1
    files = [task.file.file_path.rpartition("/")[2] for task in table.scan().plan_files()]
    assert {name[:10] for name in files} == {f"part-0000{part}" for part in range(4)}


def check_nightly_delta(database: Database, _: Path, run_date: str) -> None:
    """The file on S3 has who is new, whose list has changed, and who is gone."""

    body = boto3.client("s3").get_object(
        Bucket="personalize-local", Key="nightly_delta/2026-03-01/recommendations.json"
    )["Body"]
    lines = [json.loads(line) for line in body.iter_lines()]
    assert {line["EXTERNAL_ID"]: json.loads(line["PAYLOAD"]) for line in lines} == {
        "1": {"recommendations": ["b", "a"]},
        "3": {"recommendations": ["c"]},
        "4": {"recommendations": None},
    }


CHECKS: dict[str, Callable[[Database, Path, str], None]] = {
    name.removeprefix("check_"): check for name, check in list(globals().items()) if name.startswith("check_")
}
NIGHTLY = next(path for path in FILES if path.stem == "nightly_email_list")
ON_DEMAND = next(path for path in FILES if path.stem == "batch_on_demand")
#: What stands before the batch, and after it, is run by test_lifecycle_dags.py, one DAG after the other.
LIFECYCLE = {"personalize_setup", "weekly_retrain", "forget_users", "personalize_teardown"}


def test_every_example_has_a_check() -> None:
    assert {path.stem for path in FILES} == set(CHECKS) | LIFECYCLE


def test_parsing_gives_no_warning() -> None:
    # Warnings of Airflow's and the providers' own modules are theirs: they are imported before.
    program = f"""
import airflow, runpy, warnings
import airflow.providers.amazon.aws.operators.bedrock, airflow.providers.amazon.aws.sensors.bedrock
import airflow.providers.amazon.aws.triggers.base, airflow.providers.common.sql.operators.sql
warnings.simplefilter("error")
for path in {[str(path) for path in FILES]!r}:
    print(path, flush=True)
    runpy.run_path(path)
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=300)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_task_has_a_name_and_a_text_for_people(path: Path) -> None:
    for task in load(path).tasks:
        given = {**getattr(task, "partial_kwargs", {}), **vars(task)}
        assert given.get("doc_md"), task.task_id
        name = (
            given.get("task_display_name") or given.get("_task_display_name") or given["_task_display_property_value"]
        )
        assert name, task.task_id
        assert name != task.task_id


@pytest.fixture
def shop(
    postgres: Database, airflow_connection: Callable[[str, str], str], airflow_db: None, local: Any, tmp_path: Path
) -> Database:
    """The company's database, and the connections to it and to the stand-in."""
    airflow_connection("postgres_default", postgres.uri)
    airflow_connection("aws_default", "aws://")
    extra = {"type": "sql", "warehouse": "s3://personalize-local/lake", "s3.endpoint": local.url}
    extra |= {"s3.access-key-id": "local", "s3.secret-access-key": "local", "s3.region": "us-east-1"}
    catalog = {"conn_type": "iceberg", "host": f"sqlite:///{tmp_path}/lake.db", "extra": extra}
    airflow_connection("iceberg_default", json.dumps(catalog))
    fill(postgres)
    return postgres


def run_dag(
    path: Path, date: datetime | None, *, change: Callable[[Any], object] = lambda dag: None, **kwargs: Any
) -> Any:
    """Run a DAG without its patience, for a date, or None as by hand on Airflow 3; ``change`` may change it before."""
    dag = load(path)
    change(dag)
    takes = dag.test.__func__.__code__.co_varnames
    kwargs["logical_date" if "logical_date" in takes else "execution_date"] = date
    for task in dag.tasks:
        task.retries = 0
        for name in ("poke_interval", "poll_interval"):
            if hasattr(task, "partial_kwargs"):
                task.partial_kwargs |= {"retries": 0} | ({name: 0.2} if name in task.partial_kwargs else {})
            elif hasattr(task, name):
                setattr(task, name, 0.2)
    return dag.test(**kwargs)


def know_the_asset() -> None:
    """Airflow 2 drops the events of a dataset that the scheduler has not seen in a DAG file; Airflow 3 does not."""
    from airflow.utils.session import create_session

    try:
        from airflow.models.dataset import DatasetModel
    except ImportError:  # Airflow 3
        return
    with create_session() as session:
        session.add(DatasetModel(uri="recommendations"))


def last_event() -> dict[str, Any]:
    """Return what the last event of an asset says beside the asset."""
    from airflow.utils.session import create_session

    try:
        from airflow.models.asset import AssetEvent as Event
    except ImportError:  # Airflow 2
        from airflow.models.dataset import DatasetEvent as Event
    with create_session() as session:
        return dict(session.query(Event).order_by(Event.id.desc()).first().extra)


def states(run: Any) -> dict[str, str]:
    return {ti.task_id: str(ti.state) for ti in run.get_task_instances()}


@pytest.mark.parametrize(
    ("path", "by_hand"),
    [pytest.param(path, False, id=path.stem) for path in FILES if path.stem not in LIFECYCLE]
    + [pytest.param(NIGHTLY, True, id="by hand")],
)
def test_runs(
    path: Path,
    by_hand: bool,
    shop: Database,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    log: Callable[[], str],
) -> None:
    monkeypatch.setenv("AIRFLOW_VAR_EMAIL_PREVIEW_DIR", str(tmp_path))
    shop.execute("UPDATE subscribers SET name = 'Chiara <3 D''Angelo' WHERE user_id LIKE '10_'")
    shop.execute("UPDATE launches SET launched = '2026-03-01'")
    # One list was announced, one refused, the next announced; one more is loaded, and has not passed its check yet.
    decided = [("2026-02-27", "good"), ("2026-02-28", "refused"), ("2026-03-01", "approved")]
    if path.stem in {"popular_fallback", "nightly_delta"}:
        shop.execute("CREATE TABLE email_list_decisions (run_date date PRIMARY KEY, decision text)")
        for night, decision in decided:
            shop.execute(f"INSERT INTO email_list_decisions VALUES ('{night}', '{decision}')")
    if path.stem == "popular_fallback":
        shop.execute("CREATE TABLE recommendations AS SELECT user_id, '2026-03-01' AS run_date FROM subscribers")
        shop.execute("UPDATE recommendations SET run_date = '2026-02-27' WHERE user_id IN ('1', '2', '3')")
        shop.execute("INSERT INTO recommendations SELECT user_id, '2026-03-02' FROM subscribers")
    if path.stem == "similar_items_dynamodb":
        # dynalite takes a minute for all of them, or more where the machine is busy.
        shop.execute("DELETE FROM items WHERE length(item_id) > 3")
    if path.stem == "nightly_delta":
        shop.execute("CREATE TABLE recommendations (user_id text, rank int, item_id text, run_date date)")
        lists = {"02-27": "1ab 2x 4x", "02-28": "1ba 2x 3d", "03-01": "1ba 2x 3c", "03-02": "5x"}
        for night, (user, *items) in [(night, one) for night, listed in lists.items() for one in listed.split()]:
            for rank, item in enumerate(items, 1):
                shop.execute(f"INSERT INTO recommendations VALUES ('{user}', {rank}, '{item}', '2026-{night}')")
    if path == NIGHTLY and not by_hand:
        know_the_asset()
    if not by_hand:
        run = run_dag(path, datetime(2026, 3, 1, 2, tzinfo=UTC))
    elif "logical_date" in load(path).test.__func__.__code__.co_varnames:
        run = run_dag(path, None)
    else:
        pytest.skip("every run has a logical date on Airflow 2")

    assert run.state == "success"
    run_date = (run.logical_date or run.run_after).date().isoformat()
    CHECKS[path.stem](shop, tmp_path, run_date)
    if path.stem == "nightly_delta":
        assert "New: 1, changed: 1, gone: 1." in log()
    if path == ON_DEMAND:
        [show] = [ti for ti in run.get_task_instances() if ti.task_id == "show"]
        shown = show.xcom_pull(task_ids="show")
        assert [(row["user_id"], row["rank"], row["label"]) for row in shown["rows"]] == [
            ("1", str(rank), "on demand") for rank in range(1, 11)
        ]
        assert len(shop.execute(shown["where"])) == shown["loaded"] == 6320
    if path == NIGHTLY:
        # Other DAGs are told of rows that have passed the check, not before.
        assert outlets_of(path) == {"announce": ["recommendations"]}
        assert "decide" in load(path).get_task("announce").upstream_task_ids
        assert shop.execute("SELECT run_date::text, decision, decided_by, warnings FROM email_list_decisions") == [
            (run_date, "good", None, "")
        ]
        rows = shop.execute("SELECT count(*) FROM recommendations")[0][0]
        event = last_event()
        assert (event["table"], event["rows"], event["lines"]) == ("recommendations", rows, 671)
        loaded = next(ti for ti in run.get_task_instances() if ti.task_id == "load")
        for key in ("personalize_job", "personalize_solution", "personalize_output"):
            assert loaded.xcom_pull(task_ids="load", key=key)["region_name"] == "us-east-1"


def outlets_of(path: Path) -> dict[str, list[str]]:
    """Return the tasks of a DAG that announce assets, with these assets."""
    found = {task.task_id: [asset.uri for asset in task.outlets] for task in load(path).tasks if task.outlets}
    return {task: [uri.rstrip("/").rpartition("/")[2] for uri in uris] for task, uris in found.items()}


def last_event_or_none() -> dict[str, Any] | None:
    try:
        return last_event()
    except AttributeError:
        return None


class Ti:
    """As much of a task instance as the nightly list's own functions use."""

    dag_id, run_id = "nightly_email_list", "manual__1+00"

    def __init__(self, values: dict[str, Any]) -> None:
        self.values = values

    def xcom_push(self, key: str, value: Any) -> None:
        self.values[key] = value

    def xcom_pull(self, task_ids: str, key: str | None = None) -> Any:
        return self.values.get(key or task_ids)


class TestNightly:
    def test_what_fails_the_check_is_not_announced(
        self, shop: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, log: Callable[[], str]
    ) -> None:
        monkeypatch.setenv("AIRFLOW_VAR_EMAIL_PREVIEW_DIR", str(tmp_path))
        know_the_asset()
        before = last_event_or_none()
        # Half of who was asked for is somebody else by the time of the check.
        shop.execute("CREATE VIEW later AS SELECT 'x' || user_id AS user_id FROM subscribers")
        run = run_dag(
            NIGHTLY,
            datetime(2026, 3, 2, 2, tzinfo=UTC),
            change=lambda dag: setattr(dag.get_task("check"), "input_sql", "SELECT user_id FROM later"),
        )
        assert run.state == "failed"
        found = states(run)
        assert (found["load"], found["check"]) == ("success", "failed")
        assert found["announce"] == found["email_list"] == found["decide"] == "upstream_failed"
        assert last_event_or_none() == before
        assert "Without results, the first 10: 'x1', 'x10'," in log()

    def test_a_warning_asks_a_person_with_all_that_they_need(self, shop: Database) -> None:
        shop.execute(
            "CREATE TABLE email_list AS SELECT date '2026-03-05' AS run_date, user_id, name, email, 1 AS rank, "
            "'A *great* [film](http://x)' AS title FROM (SELECT user_id, 'Chiara <3' AS name, email FROM subscribers) s"
        )
        figures = {"overlap": 0.01, "rows": 25, "previous": None}
        ti = Ti({"warned": ["overlap is 1.0 %, expected ≥ 10.0 %"]})
        ask = load(NIGHTLY).get_task("ask").python_callable
        chosen = ask("2026-03-05", figures | {"report_uri": "s3://pages/tonight.html"}, ti=ti)
        if not load(NIGHTLY).has_task("approve"):
            assert (chosen, ti.values) == ("decide", ti.values), "Airflow older than 3.1 goes on"
            return
        assert chosen == "approve"
        body = ti.values["question"]
        assert r"- overlap is 1\.0 \%\, expected ≥ 10\.0 \%" in body
        assert "| overlap | 1.0 % |  |" in body
        assert r"s3\:\/\/pages\/tonight\.html" in body
        assert "(/dags/nightly_email_list/runs/manual__1%2B00/tasks/check)" in body
        assert body.count(r"- **Chiara \<3**") == 3, "three emails, in which markup is text"
        assert r"A \*great\* \[film\]\(http\:\/\/x\)" in body
        assert ask("2026-03-05", figures, ti=Ti({})) == "decide"

    @pytest.mark.parametrize(
        ("answer", "goes_on", "row"),
        [
            (("Approve", {"id": "7", "name": "ann"}), True, ("approved", "ann", "too few")),
            (("Reject", {"id": "7", "name": None}), False, ("refused", "7", "too few")),
            (("Reject", None), False, ("refused", None, "too few")),
            (None, True, ("not asked", None, "too few")),
        ],
    )
    def test_a_decision_stands_beside_the_list_and_in_the_log(
        self, shop: Database, log: Callable[[], str], answer: Any, goes_on: bool, row: tuple[Any, ...]
    ) -> None:
        shop.execute(
            "CREATE TABLE email_list_decisions (run_date date PRIMARY KEY, decision text, decided_by text, "
            "decided_at timestamptz, warnings text)"
        )
        at = datetime(2026, 3, 5, 4, 30, tzinfo=UTC)
        values = answer and {"chosen_options": [answer[0]], "responded_by_user": answer[1], "responded_at": at}
        decide = load(NIGHTLY).get_task("decide").python_callable
        for _ in range(2):
            assert decide("2026-03-05", ti=Ti({"approve": values, "warned": ["too few"]})) is goes_on
        [found] = shop.execute("SELECT decision, decided_by, warnings, decided_at FROM email_list_decisions")
        assert found[:3] == row
        assert answer is None or found[3] == at
        assert f"The list of 2026-03-05: {row[0]} (" in log()

    def test_a_topic_hears_of_failures_and_of_a_list_that_is_late(self, monkeypatch: pytest.MonkeyPatch) -> None:
        dag = load(NIGHTLY)
        assert not dag.on_failure_callback
        assert getattr(dag, "deadline", None) in (None, [])
        monkeypatch.setenv("PERSONALIZE_ALERTS_TOPIC", "arn:aws:sns:us-east-1:123456789012:alerts")
        dag = load(NIGHTLY)
        assert dag.on_failure_callback.target_arn == "arn:aws:sns:us-east-1:123456789012:alerts"
        if dag.has_task("approve"):
            deadlines = dag.deadline if isinstance(dag.deadline, list) else [dag.deadline]
            [hours] = {deadline.interval.total_seconds() / 3600 for deadline in deadlines}
            assert hours == 4

    def test_a_failed_job_fails_the_task_whose_retry_makes_another(
        self, shop: Database, local: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        from airflow_provider_personalize.local.faults import Fault

        monkeypatch.setenv("AIRFLOW_VAR_EMAIL_PREVIEW_DIR", str(tmp_path))
        local.controls.faults.add(Fault("fail_job"))
        run = run_dag(NIGHTLY, datetime(2026, 3, 3, 2, tzinfo=UTC))
        assert states(run)["recommend"] == "failed"
        [failed] = local.controls.state()["jobs"]
        assert failed["status"] == "CREATE FAILED"
        assert shop.execute("SELECT to_regclass('recommendations') IS NULL") == [(True,)]

    def test_its_pages_go_to_a_folder_of_ones_own(
        self, shop: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        import tempfile

        monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path / "home"))
        run = run_dag(NIGHTLY, datetime(2026, 3, 4, 2, tzinfo=UTC))
        assert run.state == "success"
        folder = tmp_path / "home" / "email_previews"
        assert sorted(page.name for page in folder.iterdir()) == [
            "email_list_2026-03-04.html",
            "recommendations_2026-03-04.html",
        ]
        assert folder.stat().st_mode & 0o777 == 0o700
        assert not list(Path(tempfile.gettempdir()).glob("*_2026-03-04.html"))

    def test_the_preview_shows_typical_emails_first_and_says_why_where_that_is_known(
        self, shop: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("AIRFLOW_VAR_EMAIL_PREVIEW_DIR", str(tmp_path))
        shop.execute("UPDATE subscribers SET name = user_id, subscribed = user_id IN ('1', '2', '3', '4')")
        shop.execute("UPDATE subscribers SET email = NULL WHERE user_id = '1'")
        shop.execute("CREATE TABLE views AS SELECT user_id, '1' AS item_id, now() AS watched FROM subscribers")
        shop.execute("INSERT INTO views SELECT user_id, '2', now() FROM subscribers")
        shop.execute(
            "CREATE TABLE similar_items AS SELECT '1' AS item_id, 3 AS rank, item_id AS related_item_id FROM items "
            "UNION ALL SELECT '2', 1, item_id FROM items WHERE length(item_id) < 4 UNION ALL SELECT '2', 1, '1'"
        )
        shop.execute("UPDATE items SET title = 'One <b>' WHERE item_id = '1'")
        shop.execute("UPDATE items SET title = 'Two' WHERE item_id = '2'")
        run = run_dag(NIGHTLY, datetime(2026, 3, 6, 2, tzinfo=UTC))
        assert run.state == "success"
        text = (tmp_path / "email_list_2026-03-06.html").read_text(encoding="utf-8")
        order = re.findall(r"<strong>(\d)</strong>", text)
        assert sorted(order) == ["1", "2", "3", "4"]
        assert order[-1] == "1", "the one without an address is not typical"
        reasons = re.findall(r"Because you watched <bdi>([^<]*)</bdi>", text)
        [(near, all_of_them)] = shop.execute(
            "SELECT count(*) FILTER (WHERE length(item_id) < 4), count(*) FROM email_list"
        )
        assert 0 < near < all_of_them == len(reasons) == 20
        assert (reasons.count("Two"), reasons.count("One &lt;b&gt;")) == (near, 20 - near)
        assert "All 4 emails" in text

    def test_the_preview_takes_what_is_empty_and_goes_to_s3(
        self, shop: Database, local: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AIRFLOW_VAR_EMAIL_PREVIEW_DIR", "s3://personalize-local/previews/")
        shop.execute("UPDATE subscribers SET name = NULL, email = NULL WHERE user_id = '1'")
        shop.execute("UPDATE subscribers SET name = '' WHERE user_id = '2'")
        shop.execute("UPDATE subscribers SET name = '  ' WHERE user_id = '3'")
        shop.execute("UPDATE items SET title = CASE WHEN item_id < '5' THEN '' END, genres = NULL")
        run = run_dag(NIGHTLY, datetime(2026, 3, 5, 2, tzinfo=UTC), run_conf={"preview_emails": 700})
        assert run.state == "success"
        s3 = boto3.client("s3")
        listed = s3.list_objects_v2(Bucket="personalize-local", Prefix="previews/")["Contents"]
        pages = ["previews/email_list_2026-03-05.html", "previews/recommendations_2026-03-05.html"]
        assert [page["Key"] for page in listed] == pages
        stored = s3.get_object(Bucket="personalize-local", Key=pages[0])
        assert stored["ContentType"].startswith("text/html")
        text = stored["Body"].read().decode()
        assert text.count("<article>") == 632
        assert text.count("<strong>No name</strong>") == 3
        assert text.count("<h2>5 picks for tonight</h2>") == 3
        assert "<strong>No name</strong><small>No address</small>" in text
        assert '<div class="title"></div>' not in text
        assert not re.search(r">\s*None\b", text)


def test_jobs_are_waited_for_by_the_task_that_creates_them_but_in_one_example() -> None:
    sensors = {path.stem: [task.task_id for task in load(path).tasks if "Sensor" in task.task_type] for path in FILES}
    assert {name: found for name, found in sensors.items() if found} == {"personalized_ranking": ["wait"]}
    assert "no retry" in str(load(next(path for path in FILES if path.stem == "personalized_ranking")).doc_md)


class TestOnDemand:
    def test_segments_from_files_on_s3(self, shop: Database, local: Any) -> None:
        body = b'{"itemId": "1"}\n{"itemId": "2"}\n'
        local.s3(local.region).put_object(Bucket="personalize-local", Key="mine/items.json", Body=body)
        asked = {
            "job": "segment",
            "solution": "item-affinity",
            "ids_from": "s3",
            "input_uri": "s3://personalize-local/mine/",
            "num_results": 50,
            "table": "audience",
            "write_mode": "merge",
        }
        run = run_dag(ON_DEMAND, datetime(2026, 4, 1, tzinfo=UTC), run_conf=asked)
        assert run.state == "success"
        found = states(run)
        assert found["write_input"] == found["inference"] == "skipped"
        rows = shop.execute("SELECT segment, rank, user_id FROM audience")
        assert sorted(rows) == ranked("itemId", "usersList")
        assert len(rows) == 100

    def test_a_filter_with_values(self, shop: Database) -> None:
        asked = {
            "sql": "SELECT user_id FROM subscribers WHERE email LIKE 'reader1%'; ",
            "filter": "genres",
            "filter_values": "\n GENRES = Film-Noir,  Western\n",
            "exploration_weight": 0.3,
        }
        run = run_dag(ON_DEMAND, datetime(2026, 4, 2, tzinfo=UTC), run_conf=asked)
        assert run.state == "success"
        rows = shop.execute("SELECT user_id, genres FROM on_demand JOIN items USING (item_id)")
        assert {user[0] for user, _ in rows} == {"1"}
        assert all({"Film-Noir", "Western"} & set(genres.split("|")) for _, genres in rows)
        assert len(rows) > 100

    @pytest.mark.parametrize(
        ("asked", "sentence"),
        [
            ({"sql": None}, "Query: expected one"),
            ({"sql": "DROP TABLE items"}, "begins with SELECT"),
            ({"ids_from": "s3"}, "Folder on S3: expected one"),
            ({"input_uri": "s3://b/in/"}, "Folder on S3: leave it empty"),
            ({"filter_values": {"GENRES": ["x"]}}, "name the filter"),
            ({"ids_from": "s3", "input_uri": "s3://b/in/", "filter": "f", "filter_values": {"A": [1]}}, "has its own"),
            ({"job": "segment", "exploration_weight": 0}, "Exploration: leave it empty"),
            ({"num_results": 0}, "Number of results: expected 1 or more, got 0."),
            ({"solution": "arn:aws:personalize:us-east-1:123456789012:solution/mine"}, "Solution: expected a name"),
            ({"ids_from": "s3", "input_uri": "s3://b/in"}, "with the slash at its end, got 's3://b/in'."),
            ({"exploration_weight": 1.5}, "Exploration: expected a number from 0 to 1, got 1.5."),
            ({"table": "a; DROP TABLE b"}, "Table: expected letters, digits and _, got 'a; DROP TABLE b'"),
            ({"label": " "}, "Label: expected 1 to 100 characters"),
            ({"filter": "genres", "filter_values": "Comedy, Drama"}, "line 1: expected a placeholder, = and its val"),
            ({"filter": "genres", "filter_values": "G = a\n\nG = b"}, "line 3: G stands twice"),
            ({"filter": "genres", "filter_values": "G = ,"}, "line 1: expected values for G, got none."),
        ],
    )
    def test_what_does_not_go_together_is_said_in_a_sentence(self, asked: dict[str, Any], sentence: str) -> None:
        from airflow_provider_personalize.compat import AirflowFailException

        dag = load(ON_DEMAND)
        params = {name: getattr(param, "value", param) for name, param in dict.items(dict(dag.params))} | asked
        with pytest.raises(AirflowFailException, match="Nothing was submitted") as caught:
            dag.task_dict["check"].python_callable(params=params)
        assert len(caught.value.args[0].splitlines()) == 2
        assert sentence in str(caught.value)

    @pytest.mark.parametrize(
        "asked",
        [
            {"job": "campaign"},
            {"num_results": "many"},
            {"write_mode": "truncate"},
        ],
        ids=str,
    )
    def test_the_form_refuses_what_no_field_takes(self, asked: dict[str, Any]) -> None:
        params = load(ON_DEMAND).params
        params.validate()
        [(name, value)] = asked.items()
        with pytest.raises(Exception, match="Invalid input for param"):
            params[name] = value

    def test_what_cannot_work_is_refused_once_by_the_first_task(self, shop: Database, local: Any) -> None:
        from airflow_provider_personalize.compat import AirflowFailException

        s3 = local.s3(local.region)
        for key, body in (("users/1.json", b'{"userId": "1"}\n'), ("wrong/1.json", b'{"itemId": "1"}\nno json\n')):
            s3.put_object(Bucket="personalize-local", Key=key, Body=body)
        shop.execute("CREATE TABLE nobody (user_id text)")
        folder = "s3://personalize-local/"
        forms: list[tuple[dict[str, Any], str]] = [
            ({"solution": "no-such-solution"}, "Solution: there is none of the name 'no-such-solution'. There are: "),
            ({"num_results": 100_000}, "so 100,000 for each are 63,200,000 in all; at most 10,000,000"),
            ({"ids_from": "s3", "input_uri": f"{folder}users/", "num_results": 5_000_000, "most": "1"}, "at most 1 re"),
            ({"solution": "similar-items", "sql": "SELECT item_id FROM items", "exploration_weight": 0.1}, "Explora"),
            ({"table": "nobody"}, "Table: "),
            ({"write_mode": "merge", "table": "items"}, "Table: "),
            ({"job": "segment"}, "expected a recipe for a batch segment job, got aws-user-personalization"),
            ({"filter": "no-such-filter"}, "no-such-filter"),
            ({"filter": "genres"}, "expected values for GENRES, got values for none"),
            ({"filter": "genres", "filter_values": {"G": ["x"]}}, "expected values for GENRES, got values for G"),
            ({"sql": "SELECT user_id FROM nowhere"}, '"nowhere" does not exist'),
            ({"sql": "SELECT user_id FRM subscribers"}, "syntax error"),
            ({"sql": "SELECT name FROM subscribers"}, "name"),
            ({"sql": "SELECT item_id FROM items"}, "Query: expected columns for aws-user-personalization-v2"),
            ({"sql": "SELECT user_id FROM nobody"}, "expected at least one row"),
            ({"sql": "SELECT NULL AS user_id"}, "user_id"),
            ({"sql": "SELECT 1 / 0 AS user_id"}, "division by zero"),
            ({"sql": "SELECT '1' AS user_id; DROP TABLE items"}, "expected one statement"),
            # psycopg 3 declares a cursor for the query, psycopg 2 lets the server open one: each refuses in its words.
            (
                {"sql": "WITH gone AS (DELETE FROM items RETURNING item_id) SELECT * FROM gone"},
                ("data-modifying", "read-only transaction"),
            ),
            (
                {"sql": "SELECT '1' AS user_id) AS asked; COMMIT; DROP TABLE items; --", "filter": "genres"}
                | {"filter_values": {"GENRES": ["Drama"]}},
                "expected one statement",
            ),
            ({"ids_from": "s3", "input_uri": f"{folder}nowhere/"}, "nowhere"),
            ({"ids_from": "s3", "input_uri": f"{folder}wrong/"}, "itemId"),
            ({"ids_from": "s3", "input_uri": f"{folder}users/", "solution": "item-affinity"}, "recipe"),
        ]
        dag = load(ON_DEMAND)
        form = {name: getattr(param, "value", param) for name, param in dict.items(dict(dag.params))}
        check = dag.task_dict["check"].python_callable
        arn = "arn:aws:personalize:us-east-1:123456789012"
        before = shop.execute("SELECT count(*) FROM items")
        for asked, sentence in forms:
            # What Airflow does not retry.
            with pytest.raises(AirflowFailException, match="Nothing was submitted") as caught:
                check(arn, asked.pop("most", ""), params=form | asked)
            sentences = sentence if isinstance(sentence, tuple) else (sentence,)
            assert any(words in str(caught.value) for words in sentences), (asked, caught.value)
        assert shop.execute("SELECT count(*) FROM items") == before
        assert local.controls.state()["jobs"] == []
        # The form as it opens, and one that ends as somebody may write it.
        assert check(arn, params=form)["sql"] == form["sql"]
        assert (
            check(arn, params=form | {"sql": "-- who\n(SELECT user_id FROM subscribers); -- all"})["parameters"] == {}
        )
        asked = form | {"ids_from": "s3", "input_uri": f"{folder}users/"}
        assert check(arn, params=asked)["config"] == {}

    def test_a_percent_sign_is_one_with_values_and_without(self, shop: Database) -> None:
        sql = "SELECT user_id FROM subscribers WHERE CAST(user_id AS integer) % 100 = 7 AND email LIKE 'reader%' ; -- %"
        for day, asked in ((4, {}), (5, {"filter": "genres", "filter_values": {"GENRES": ["Drama"]}})):
            run = run_dag(ON_DEMAND, datetime(2026, 4, day, tzinfo=UTC), run_conf={"sql": sql, **asked})
            assert run.state == "success"
            users = {user for (user,) in shop.execute("SELECT DISTINCT user_id FROM on_demand")}
            assert users == {str(number) for number in range(7, 672, 100)}

    def test_nothing_is_submitted_when_it_is_refused(self, shop: Database, local: Any) -> None:
        run = run_dag(ON_DEMAND, datetime(2026, 4, 3, tzinfo=UTC), run_conf={"ids_from": "s3"})
        assert run.state == "failed"
        assert states(run)["check"] == "failed"
        assert local.controls.state()["jobs"] == []
