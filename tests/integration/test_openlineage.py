"""
What OpenLineage is told: tasks are run with its own listener, and the events that this writes to a file are looked at.
"""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_personalize.transfers.personalize_to_sql import PersonalizeToSqlOperator
from tests.integration.load_support import MySqlTarget, Output, line, mariadb

if TYPE_CHECKING:
    from example_dags.demo.postgres import Database, Postgres

pytest.importorskip("airflow.providers.openlineage", reason="the events are those of Airflow's openlineage provider")

DAGS = Path(__file__).parent / "dags"
BUCKET = "s3://personalize-local"


@dataclass
class Run:
    """
    A run of the DAG.

    :param states: How each task ended.
    :param events: What OpenLineage's transport wrote.
    :param database: The tables' database.
    :param sizes: The size of each object in the bucket, by key.
    """

    states: dict[str, str]
    events: list[dict[str, Any]]
    database: Database
    sizes: dict[str, int]

    def told(self, task: str) -> list[dict[str, Any]]:
        """Return a task's events, from the first."""
        return [event for event in self.events if event["job"]["name"] == f"lineage.{task}"]

    def datasets(self, task: str, event_type: str) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
        """Return the inputs and outputs in a task's one event of this type, by namespace and name."""
        [event] = [event for event in self.told(task) if event["eventType"] == event_type]
        return by_name(event["inputs"]), by_name(event["outputs"])

    def table(self, name: str) -> str:
        """Return what OpenLineage calls a table of the database."""
        return f"postgres://127.0.0.1:{self.database.server.port}/{self.database.name}.{name}"

    def size(self, folder: str) -> int:
        """Return how many bytes a job's objects in a folder have, without those for the job's own use."""
        return sum(size for key, size in self.sizes.items() if key.startswith(folder) and not key.endswith("_CHECK"))


def by_name(datasets: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {f"{dataset['namespace']}/{dataset['name']}": dataset for dataset in datasets}


def columns(dataset: dict[str, Any]) -> list[tuple[str, str]]:
    return [(field["name"], field["type"]) for field in dataset["facets"]["schema"]["fields"]]


def statistics(dataset: dict[str, Any]) -> dict[str, int] | None:
    """Return a dataset's statistics, without those that are empty."""
    facets = dataset.get("inputFacets", {}).get("inputStatistics") or dataset.get("outputFacets", {}).get(
        "outputStatistics"
    )
    return facets and {name: facets[name] for name in ("rowCount", "size", "fileCount") if name in facets}


@pytest.fixture(scope="module")
def run(airflow_db: None, postgres_server: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """The DAG, run once in a process of its own, where Airflow finds OpenLineage's transport in the environment."""
    from airflow_provider_personalize.local import LocalPersonalize

    folder = tmp_path_factory.mktemp("openlineage")
    told, states = folder / "events", folder / "states"
    database = postgres_server.create()
    database.execute("CREATE TABLE subscribers (user_id text, email text)")
    database.execute("CREATE TABLE visits (visitor text, visited date)")
    database.execute("INSERT INTO subscribers SELECT n FROM generate_series(1, 3) n")
    database.execute("INSERT INTO visits SELECT user_id FROM subscribers")
    database.execute("CREATE TABLE narrow (user_id text)")
    database.execute("CREATE SCHEMA archive")
    with LocalPersonalize(port=0, job_seconds=0.2) as service, pytest.MonkeyPatch.context() as monkeypatch:
        for name, value in {
            **service.environment,
            "AIRFLOW_CONN_WAREHOUSE": database.uri,
            "AIRFLOW_CONN_LITE": json.dumps({"conn_type": "sqlite", "host": str(folder / "lite.db")}),
            "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
            "AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps({"type": "file", "log_file_path": str(told), "append": True}),
            "LINEAGE_SOLUTION": service.solution_arns["user-personalization"],
        }.items():
            monkeypatch.setenv(name, value)
        done = subprocess.run(
            [sys.executable, DAGS / "lineage.py", states], capture_output=True, text=True, check=False, timeout=300
        )
        assert done.returncode == 0, done.stdout + done.stderr
        listed = service.s3(service.region).list_objects_v2(Bucket="personalize-local", Prefix="lineage/")
        yield Run(
            states=json.loads(states.read_text()),
            events=[json.loads(line) for line in told.read_text().splitlines()],
            database=database,
            sizes={item["Key"]: item["Size"] for item in listed["Contents"]},
        )
    postgres_server.drop(database.name)


def test_lineage_fails_no_task(run: Run) -> None:
    assert {task for task, state in run.states.items() if state != "success"} == {"fail"}


def test_the_input_task_tells_tables_and_prefix(run: Run) -> None:
    inputs, outputs = run.datasets("prepare", "COMPLETE")
    assert {name: columns(dataset) for name, dataset in inputs.items()} == {
        run.table("public.subscribers"): [("user_id", "text"), ("email", "text")],
        run.table("public.visits"): [("visitor", "text"), ("visited", "date")],
    }
    assert {name: statistics(dataset) for name, dataset in outputs.items()} == {
        f"{BUCKET}/lineage/in": {"rowCount": 3, "size": run.size("lineage/in/"), "fileCount": 1}
    }


def test_the_input_task_tells_the_same_before_it_has_written(run: Run) -> None:
    inputs, outputs = run.datasets("prepare", "START")
    assert set(inputs) == {run.table("public.subscribers"), run.table("public.visits")}
    assert {name: statistics(dataset) for name, dataset in outputs.items()} == {f"{BUCKET}/lineage/in": None}


def test_a_database_that_openlineage_has_no_name_for_is_left_out(run: Run) -> None:
    inputs, outputs = run.datasets("prepare_untold", "COMPLETE")
    assert inputs == {}
    assert statistics(outputs[f"{BUCKET}/lineage/untold"])["rowCount"] == 1


@pytest.mark.parametrize(
    ("task", "legs"),
    [("sync", ["START", "COMPLETE"]), ("deferred", ["START", "START", "COMPLETE"])],
    ids=["sync", "deferred"],
)
def test_the_job_task_tells_both_folders_from_start_to_end(run: Run, task: str, legs: list[str]) -> None:
    told = run.told(task)
    assert [event["eventType"] for event in told] == legs
    for event in told:
        assert set(by_name(event["inputs"])) == {f"{BUCKET}/lineage/in"}
        assert set(by_name(event["outputs"])) == {f"{BUCKET}/lineage/{task}"}


def test_the_load_task_tells_the_output_and_the_table(run: Run) -> None:
    inputs, outputs = run.datasets("load", "COMPLETE")
    assert {name: statistics(dataset) for name, dataset in inputs.items()} == {
        f"{BUCKET}/lineage/sync": {"rowCount": 3, "size": run.size("lineage/sync/"), "fileCount": 1}
    }
    [(name, table)] = outputs.items()
    assert name == run.table("public.Recommendations")
    assert columns(table) == [("user_id", "text"), ("rank", "int4"), ("item_id", "text"), ("score", "float8")]
    rows = run.database.execute('SELECT count(*) FROM "Recommendations"')[0][0]
    assert rows == 15
    assert statistics(table) == {"rowCount": rows}


def test_the_load_task_tells_schema_and_extra_columns(run: Run) -> None:
    inputs, outputs = run.datasets("append", "COMPLETE")
    assert set(inputs) == {f"{BUCKET}/lineage/deferred"}
    [(name, table)] = outputs.items()
    assert name == run.table("archive.recs")
    assert [column for column, _ in columns(table)] == ["user_id", "rank", "item_id", "score", "night"]
    assert statistics(table) == {"rowCount": 15}


def test_what_was_appended_before_is_not_counted_again(run: Run) -> None:
    inputs, outputs = run.datasets("append_again", "COMPLETE")
    assert {name: statistics(dataset) for name, dataset in (inputs | outputs).items()} == {
        f"{BUCKET}/lineage/deferred": None,
        run.table("archive.recs"): None,
    }


def test_a_load_that_fails_tells_what_it_was_about(run: Run) -> None:
    inputs, outputs = run.datasets("fail", "FAIL")
    assert {name: statistics(dataset) for name, dataset in (inputs | outputs).items()} == {
        f"{BUCKET}/lineage/deferred": None,
        run.table("public.narrow"): None,
    }


@pytest.mark.parametrize("schema", [None, "shop"])
def test_a_table_of_mysql_is_that_of_its_database(schema, tmp_path, airflow_connection) -> None:
    """Here the operator is asked, not the listener: a table of that name is in another database of the server, too."""
    with mariadb(tmp_path) as port:
        for name in ("shop", "other"):
            MySqlTarget(port, "mysql", "").execute(f"CREATE DATABASE {name}")
        MySqlTarget(port, "other", "").execute("CREATE TABLE recs (x int)")
        connection = {"conn_type": "mysql", "host": "127.0.0.1", "port": port, "login": "root", "schema": "shop"}
        operator = PersonalizeToSqlOperator(
            task_id="load",
            output_uri=Output(tmp_path / "output").write(line("u", "a", "b")),
            sql_conn_id=airflow_connection("target", json.dumps(connection)),
            schema=schema,
            table="recs",
            aws_conn_id=None,
        )
        inspect.unwrap(type(operator).execute)(operator, {})
        lineage = operator.get_openlineage_facets_on_complete(None)
    [table] = lineage.outputs
    assert (table.namespace, table.name) == (f"mysql://127.0.0.1:{port}", "shop.recs")
    assert [field.name for field in table.facets["schema"].fields] == ["user_id", "rank", "item_id", "score"]
    assert table.outputFacets["outputStatistics"].rowCount == 2
