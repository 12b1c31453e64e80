"""The application for Spark, run by Spark: the rows and rejects of the loader, in Parquet and in Iceberg."""

from __future__ import annotations

import ast
import gzip
import inspect
import json
import time
from pathlib import Path

import boto3
import pytest

from airflow_provider_personalize.spark import personalize_output
from tests.integration.load_support import line, rows
from tests.integration.spark_support import PYTHON, SparkError, environment, needs_java
from tests.integration.test_local_clients import wait_until_active


def read_parquet(folder: Path) -> list[tuple]:
    import duckdb

    with duckdb.connect() as connection:
        return connection.execute(f"SELECT * FROM read_parquet('{folder}/*.parquet')").fetchall()


def test_a_table_of_iceberg_in_every_write_mode(spark, tmp_path):
    folder = tmp_path / "output"
    folder.mkdir()
    output = folder / "x.json.out"

    def load(*lines: str, day: str = "22", **more) -> None:
        output.write_text("\n".join(lines))
        given = {"table": "lake.shop.recs", "extra_columns": {"day": day}, "output_uri": output.as_uri()}
        spark.run(**given | more)

    def held() -> list[tuple]:
        return sorted(spark.sql("SELECT * FROM lake.shop.recs"), key=repr)

    def day(name: str, *parts: list[tuple]) -> list[tuple]:
        return [(*row, name) for part in parts for row in part]

    load(line("u", "a", "b"), line(None, "p"))
    assert held() == sorted(day("22", rows("u", "a", "b"), rows(None, "p")), key=repr)
    assert spark.sql("SELECT partition.day, record_count FROM lake.shop.recs.partitions") == [("22", 3)]

    load(line("v", "c"), day="23", write_mode="replace_slice")
    load(line("u", "z"), write_mode="replace_slice")
    assert held() == day("22", rows("u", "z")) + day("23", rows("v", "c"))

    # An entity without a result has none afterwards; those of the input that is empty are replaced, too.
    load(line(None, "q"), line("w", "x"), day="24", write_mode="append")
    merged = [line("u"), line(None, "r"), line("v", "d", "e")]
    load(*merged, day="25", write_mode="merge")
    kept = day("24", rows("w", "x"))
    expected = sorted(kept + day("25", rows(None, "r"), rows("v", "d", "e")), key=repr)
    assert held() == expected

    before = spark.sql("SELECT count(*) FROM lake.shop.recs.snapshots")
    load(line("y", "s"), day="26", write_mode="append")
    spark.run(table="lake.shop.recs", extra_columns={"day": "26"}, output_uri=output.as_uri(), write_mode="append")
    assert held() == sorted(expected + day("26", rows("y", "s")), key=repr)
    assert spark.sql("SELECT count(*) FROM lake.shop.recs.snapshots") == [(before[0][0] + 1,)]
    assert spark.sql("SELECT name FROM lake.shop.recs.refs") == [("main",)]


def test_what_others_commit_meanwhile_is_kept(spark, tmp_path):
    """A load that meets a conflict is written anew, from what the table holds then; one that always does says so."""
    output = tmp_path / "x.json.out"

    def load(name: str, *lines: str, write_mode: str, others: list[str]) -> None:
        output.write_text("\n".join(lines))
        spark.run(
            others=[f"INSERT INTO {name} VALUES {values}" for values in others],
            table=name,
            write_mode=write_mode,
            output_uri=output.as_uri(),
        )

    name = "lake.shop.shared"
    load(name, line("u", "a"), line("v", "b"), write_mode="replace", others=[])
    load(name, line("w", "c"), write_mode="append", others=["('x', 1, 'o', NULL)", "('y', 1, 'p', NULL)"])
    expected = rows("u", "a") + rows("v", "b") + rows("w", "c") + [("x", 1, "o", None), ("y", 1, "p", None)]
    assert sorted(spark.sql(f"SELECT * FROM {name}")) == expected

    # What somebody writes of the same entity meanwhile is replaced, too, since the load is published after it.
    load(name, line("u", "d"), line("x"), write_mode="merge", others=["('u', 2, 'q', NULL)", "('z', 1, 'r', NULL)"])
    expected = rows("u", "d") + rows("v", "b") + rows("w", "c") + [("y", 1, "p", None), ("z", 1, "r", None)]
    assert sorted(spark.sql(f"SELECT * FROM {name}")) == expected

    always = [f"('s', {number}, 's', NULL)" for number in range(20)]
    with pytest.raises(SparkError, match="was changed by others each of the 10 times"):
        load(name, line("t", "e"), write_mode="append", others=always)
    assert sorted(spark.sql(f"SELECT DISTINCT user_id FROM {name}")) == [(each,) for each in "suvwyz"]
    assert spark.sql(f"SELECT name FROM {name}.refs") == [("main",)]


#: Stands for boto3 where Spark runs, and says of every job what the test has written down.
BOTO3 = """
import json
from pathlib import Path


def client(service, region_name):
    return Client()


class Client:
    def describe_batch_inference_job(self, batchInferenceJobArn):
        return {"batchInferenceJob": json.loads(Path(__file__).with_name("job.json").read_text())}

    def describe_batch_segment_job(self, batchSegmentJobArn):
        return {"batchSegmentJob": json.loads(Path(__file__).with_name("job.json").read_text())}
"""


@pytest.mark.parametrize("kind", ["inference", "segment"])
def test_a_job_by_its_arn_is_its_own_objects(spark, tmp_path, kind):
    """Those of its input tell which; what lies beside them is of other jobs."""
    given, written = tmp_path / "input", tmp_path / "output"
    given.mkdir()
    written.mkdir()
    for name in ("a.json", "b.json"):
        (given / name).write_text('{"itemId": "i"}')
        (written / f"{name}.out").write_text(
            line(name, "x")
            if kind == "inference"
            else json.dumps({"input": {"itemId": name}, "output": {"usersList": ["u"]}})
        )
    (written / "neighbour.json.out").write_text("not of this job")
    (written / "_CHECK").write_text("")
    job = {
        "status": "ACTIVE",
        "jobInput": {"s3DataSource": {"path": f"{given.as_uri()}/"}},
        "jobOutput": {"s3DataDestination": {"path": f"{written.as_uri()}/"}},
    }
    (spark.folder / "boto3.py").write_text(BOTO3)
    arn = f"arn:aws:personalize:us-east-1:123456789012:batch-{kind}-job/nightly"
    asked = {"job_arn": arn, "target_uri": f"{tmp_path.as_uri()}/lake/"}

    (spark.folder / "job.json").write_text(json.dumps(job | {"status": "CREATE IN_PROGRESS"}))
    with pytest.raises(SparkError, match="expected a job that is ACTIVE, got one that is CREATE IN_PROGRESS"):
        spark.run(**asked)
    (spark.folder / "job.json").write_text(json.dumps(job))
    done = spark.run(**asked)
    assert (done["job_arn"], done["files"], done["lines"]) == (arn, 2, 2)
    segments = [("a.json", 1, "u"), ("b.json", 1, "u")]
    wanted = segments if kind == "segment" else rows("a.json", "x") + rows("b.json", "x")
    assert sorted(read_parquet(tmp_path / "lake" / "nightly")) == wanted
    (written / "b.json.out").unlink()
    with pytest.raises(
        SparkError, match=r"Expected the object .*/output/b.json.out, the output of .*, but it does not"
    ):
        spark.run(**asked)


def test_a_job_is_asked_of_the_service(local):
    """The answer has all that the application takes from it."""
    client = boto3.client("personalize")
    role, bucket = "arn:aws:iam::123456789012:role/personalize-local", "s3://personalize-local"
    boto3.client("s3").put_object(Bucket="personalize-local", Key="in/x.json", Body=b'{"userId": "1"}')
    job_arn = client.create_batch_inference_job(
        jobName="asked",
        solutionVersionArn=local.solution_version_arns["user-personalization"],
        jobInput={"s3DataSource": {"path": f"{bucket}/in/"}},
        jobOutput={"s3DataDestination": {"path": f"{bucket}/out/"}},
        roleArn=role,
    )["batchInferenceJobArn"]
    wait_until_active(lambda: client.describe_batch_inference_job(batchInferenceJobArn=job_arn)["batchInferenceJob"])
    job = personalize_output.describe_job(job_arn, None)
    assert job["jobInput"]["s3DataSource"]["path"] == f"{bucket}/in/"
    assert job["jobOutput"]["s3DataDestination"]["path"] == f"{bucket}/out/"
    assert job["creationDateTime"].timestamp() <= time.time()


def test_too_many_rejects_publish_nothing(spark, tmp_path):
    output = tmp_path / "x.json.out"
    output.write_text(f"nope\n{line('u', 'a')}\n")
    given = {"output_uri": output.as_uri(), "target_uri": f"{tmp_path.as_uri()}/lake/"}
    with pytest.raises(SparkError, match=r"(?s)1 of 2 lines are unusable.*line 1 \(byte 0\): expected JSON"):
        spark.run(**given, max_reject_rate=0.4)
    [loaded] = (tmp_path / "lake").iterdir()
    assert loaded.name == "_rejects"
    spark.run(**given, max_reject_rate=0.5)
    # A retry, of output that was mended, writes to the same place.
    output.write_text(line("v", "a"))
    extra = {"run_date": "2026-11-22", "nothing": None, "number": 7, "share": 0.5, "flag": True}
    done = spark.run(**given, extra_columns=extra)
    [loaded] = [path for path in (tmp_path / "lake").iterdir() if path.name != "_rejects"]
    assert {path.as_uri() for path in loaded.glob("*.parquet")} == set(done["data_files"])
    assert read_parquet(loaded) == [(*row, *extra.values()) for row in rows("v", "a")]
    assert list((tmp_path / "lake" / "_rejects").iterdir()) == []


def test_what_cannot_be_is_said(spark, tmp_path):
    hidden = tmp_path / "_x.json.out"
    hidden.write_text(line("u", "a"))
    (tmp_path / "y.out").write_bytes(gzip.compress(line("u", "a").encode())[:-9])
    (tmp_path / "z.out").write_text(line("u", "a"))
    target = f"{tmp_path.as_uri()}/lake/"
    for name, said in (
        ("_x.json.out", "Spark has passed over"),
        ("y.out", "expected gzip from beginning to end"),
        ("", "Spark has passed over|expected gzip"),
        ("missing.out", "expected output at"),
    ):
        with pytest.raises(SparkError, match=said):
            spark.run(output_uri=f"{tmp_path.as_uri()}/{name}", target_uri=target)
    assert not (tmp_path / "lake").exists()
    spark.sql("CREATE TABLE lake.shop.other (user_id string, rank bigint, item_id bigint, score double) USING iceberg")
    given = {"output_uri": f"{tmp_path.as_uri()}/z.out", "table": "lake.shop.other"}
    with pytest.raises(SparkError, match="its column item_id is of type bigint, which cannot hold string"):
        spark.run(**given)
    with pytest.raises(SparkError, match="it lacks day"):
        spark.run(**given, column_names={"item_id": None}, extra_columns={"day": "22"})
    with pytest.raises(SparkError, match="SystemExit: 2"):
        spark.run(**given, target_uri=target)
    spark.run(**given, column_names={"item_id": None})
    assert spark.sql("SELECT * FROM lake.shop.other") == [("u", 1, None, 1.0)]


def test_the_file_is_for_python_3_9():
    ast.parse(inspect.getsource(personalize_output), feature_version=(3, 9))


def test_it_is_submitted_by_airflow(tmp_path, airflow_connection, monkeypatch):
    needs_java()
    module = pytest.importorskip(
        "airflow.providers.apache.spark.operators.spark_submit", reason="needs the extra spark: make venv"
    )
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PATH", str(PYTHON.parent), prepend=":")
    airflow_connection("spark", json.dumps({"conn_type": "spark", "host": "local[1]"}))
    (tmp_path / "x.json.out").write_text(line("u", "a", "b"))
    operator = module.SparkSubmitOperator(
        task_id="load",
        conn_id="spark",
        application=personalize_output.__file__,
        application_args=[
            *("--output-uri", f"{tmp_path.as_uri()}/x.json.out"),
            *("--target-uri", f"{tmp_path.as_uri()}/lake/"),
            *("--extra-columns", '{"run_date": "2026-11-22"}'),
        ],
        conf={"spark.ui.enabled": "false"},
        driver_memory="1g",
    )
    inspect.unwrap(type(operator).execute)(operator, {})
    [loaded] = (tmp_path / "lake").iterdir()
    assert sorted(read_parquet(loaded)) == [(*row, "2026-11-22") for row in rows("u", "a", "b")]
