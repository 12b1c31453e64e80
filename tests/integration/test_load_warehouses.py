"""Redshift and Snowflake, each by a substitute: rows go to S3 as Parquet and from there into the warehouse."""

from __future__ import annotations

import json
from contextlib import ExitStack, closing

import boto3
import pytest
import requests

from airflow_provider_personalize.exceptions import (
    InvalidRequestError,
    PersonalizeError,
    TableMismatchError,
    TooManyRejectsError,
)
from airflow_provider_personalize.s3.upload_calls import Claim, PrefixCalls
from airflow_provider_personalize.targets.sql import staged
from airflow_provider_personalize.uris import S3Uri
from tests.integration import test_delta, test_output_check
from tests.integration.load_support import SqliteTarget, line, load, rows
from tests.integration.warehouses import RedshiftTarget, parsed, snowflake

STAGING = "s3://stage/personalize/"


@pytest.fixture
def s3(moto, monkeypatch):
    requests.post(f"{moto}/moto-api/reset", timeout=30).raise_for_status()
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto)
    with closing(boto3.client("s3")) as client:
        client.create_bucket(Bucket="stage")
        client.put_object(Bucket="stage", Key="personalize/somebody-elses.parquet", Body=b"x")
        yield client
        # Whatever a test has done: no file of ours, and no upload, is left.
        keys = [item["Key"] for item in client.list_objects_v2(Bucket="stage")["Contents"]]
        assert keys == ["personalize/somebody-elses.parquet"]
        assert "Uploads" not in client.list_multipart_uploads(Bucket="stage")


@pytest.fixture
def open_warehouse(request, s3, tmp_path, airflow_connection, monkeypatch):
    """A function that opens the substitute of one; at the end, its statements are parsed in its dialect."""
    pytest.importorskip("sqlglot", reason="needs sqlglot, which comes with fakesnow: make venv")
    opened = []

    def open_one(kind):
        settings = {"conn_type": kind, "schema": "PUBLIC", "extra": {"account": "a", "database": "DB"}}
        connection = airflow_connection("warehouse", json.dumps(settings))
        if kind == "redshift":
            opened.append(RedshiftTarget(request.getfixturevalue("postgres"), connection, monkeypatch))
        else:
            opened.append(stack.enter_context(snowflake(tmp_path, connection, monkeypatch)))
        return opened[-1]

    with ExitStack() as stack:
        yield open_one
    for target in opened:
        parsed(target.statements, target.dialect)


@pytest.fixture(params=["redshift", "snowflake"])
def warehouse(request, open_warehouse):
    return open_warehouse(request.param)


def held(warehouse, table="recs"):
    return sorted(warehouse.execute(f"SELECT * FROM {table}"), key=repr)


def test_every_write_mode(warehouse, output):
    def run(*lines, day, **more):
        return load(warehouse, output.write(*lines), staging_uri=STAGING, extra_columns={"day": day}, **more)

    def of(day, *parts):
        return [(*row, day) for part in parts for row in part]

    odd = ["\u00fc'\"\\%s", "😀" * 64, "a,\tb\n"]
    run(line("u", *odd), line(None, "p"), day="22")
    assert held(warehouse) == sorted(of("22", rows("u", *odd), rows(None, "p")), key=repr)
    run(line("v", "c"), day="23", write_mode="replace_slice")
    run(line("u", "z", scores=[]), day="22", write_mode="replace_slice")
    assert held(warehouse) == sorted([("u", 1, "z", None, "22"), ("v", 1, "c", 1.0, "23")], key=repr)
    run(line(None, "q"), line("w", "x"), day="24", write_mode="append")
    run(line("u"), line(None, "r"), line("v", "d", "e"), day="25", write_mode="merge")
    expected = of("24", rows("w", "x")) + of("25", rows(None, "r"), rows("v", "d", "e"))
    assert held(warehouse) == sorted(expected, key=repr)
    for _ in range(2):
        assert run(line("y", "s"), day="26", write_mode="append")["rows"] == 1
    assert held(warehouse) == sorted(expected + of("26", rows("y", "s")), key=repr)
    run(line("u"), day="27")
    assert held(warehouse) == []


def test_rejects_are_kept_and_too_many_change_nothing(warehouse, output):
    load(warehouse, output.write(line("u", "a")), staging_uri=STAGING)
    given = {"staging_uri": STAGING, "rejects_table": "rejected"}
    with pytest.raises(TooManyRejectsError, match="1 of 2 lines"):
        load(warehouse, output.write("nope", line("v", "b")), **given)
    assert held(warehouse) == rows("u", "a")
    assert warehouse.execute("SELECT line, text FROM rejected") == [(1, "nope")]
    load(warehouse, output.write("nope", line("v", "b")), max_reject_rate=0.5, **given)
    assert held(warehouse) == rows("v", "b")


def test_a_load_that_fails_changes_nothing(warehouse, output, monkeypatch):
    load(warehouse, output.write(line("u", "a")), staging_uri=STAGING)
    monkeypatch.setattr(staged.StagedTarget, "insert_stage", lambda target: 1 / 0)
    for mode in ("replace", "merge", "append"):
        with pytest.raises(ZeroDivisionError):
            load(warehouse, output.write(line("u", "b")), staging_uri=STAGING, write_mode=mode)
        assert held(warehouse) == rows("u", "a")


def test_a_file_that_is_gone_before_it_is_copied_is_missed(warehouse, output, s3, monkeypatch):
    publish = staged.StagedFiles.write

    def write_and_lose(files, columns, batches):
        count = publish(files, columns, batches)
        files._delete(lambda name: name.startswith("personalize-"))
        return count

    monkeypatch.setattr(staged.StagedFiles, "write", write_and_lose)
    with pytest.raises(PersonalizeError, match="copied 0 of 2 rows"):
        load(warehouse, output.write(line("u", "a", "b")), staging_uri=STAGING)


def test_what_a_killed_load_has_left_is_deleted(warehouse, output, s3):
    s3.put_object(Bucket="stage", Key="personalize/personalize-0123456789abcdef-00000.parquet", Body=b"x")
    s3.create_multipart_upload(Bucket="stage", Key="personalize/personalize-0123456789abcdef-00001.parquet")
    load(warehouse, output.write(line("u", "a")), staging_uri=STAGING)
    assert held(warehouse) == rows("u", "a")


def test_another_load_at_the_same_prefix_is_told(warehouse, output, s3, monkeypatch):
    """The later one has the prefix, since one that was killed looks no different; the earlier one publishes nothing."""
    load(warehouse, output.write(line("u", "a")), staging_uri=STAGING)
    other = Claim(PrefixCalls(s3, S3Uri("stage", "personalize/")), {})
    begin = staged.ParquetFiles

    def beginning(*arguments):
        monkeypatch.setattr(staged, "ParquetFiles", begin)
        other.take()
        return begin(*arguments)

    monkeypatch.setattr(staged, "ParquetFiles", beginning)
    with pytest.raises(PersonalizeError, match=r"Another run writes to the same prefix .*s3://stage/personalize/"):
        load(warehouse, output.write(line("u", "b")), staging_uri=STAGING)
    other.give_back()
    assert held(warehouse) == rows("u", "a")


def test_the_table_is_checked_before_anything_is_staged(warehouse, output):
    warehouse.execute("CREATE TABLE recs (user_id bigint, rank smallint, item_id varchar(99), score double precision)")
    with pytest.raises(TableMismatchError, match=r"(?i)user_id is of type .*which would change ids"):
        load(warehouse, output.write(line("7", "a")), staging_uri=STAGING)
    assert not any(statement.startswith("COPY") for statement in warehouse.statements)


def test_without_staging_rows_are_inserted(warehouse, output):
    for mode in ("replace", "merge"):
        load(warehouse, output.write(line("u", "a", "b"), line("v")), write_mode=mode)
        assert held(warehouse) == rows("u", "a", "b")


@pytest.mark.parametrize("role", ["arn:aws:iam::123456789012:role/copy", "default", None])
def test_the_warehouse_reads_by_a_role_or_with_the_credentials_of_the_connection(warehouse, output, role, log):
    load(warehouse, output.write(line("u", "a")), staging_uri=STAGING, staging_role=role)
    [copy] = [statement for statement in warehouse.statements if statement.startswith("COPY")]
    assert ("testing" in copy) == (role is None)
    assert role is None or role in copy or role.upper() in copy
    printed = log()
    assert printed.index("was never run on the service itself") < printed.index("Loading 1 object(s)")


def test_other_databases_have_no_use_for_staging(output, s3, tmp_path, airflow_connection):
    path = tmp_path / "target.db"
    connection = airflow_connection("target", json.dumps({"conn_type": "sqlite", "host": str(path)}))
    with pytest.raises(InvalidRequestError, match=r"staging_uri: expected a connection of Redshift or Snowflake"):
        load(SqliteTarget(path, connection), output.write(line("u", "a")), staging_uri=STAGING)
    with pytest.raises(InvalidRequestError, match=r"staging_uri: expected an S3 URI"):
        load(SqliteTarget(path, connection), output.write(line("u", "a")), staging_uri="file:///tmp/x/")


TODAY = {"run_date": "2026-11-22"}


@pytest.fixture
def two_nights(warehouse, output):
    for day, lines in (("21", [line("u", "a", "b"), line("gone", "a")]), ("22", [line("u", "a", "c"), line("v", "A")])):
        load(warehouse, output.write(*lines), write_mode="replace_slice", extra_columns={"run_date": f"2026-11-{day}"})


@pytest.mark.parametrize("parameters", [["x"], {"x": "x"}], ids=["list", "dict"])
def test_the_output_check_takes_parameters_as_the_input_operator_does(warehouse, two_nights, parameters):
    mark = "%s" if isinstance(parameters, list) else "%(x)s"
    figures = test_output_check.check(
        warehouse,
        extra_columns=TODAY,
        input_sql=f"SELECT 'u' AS user_id WHERE 'a' <> {mark}",
        parameters=parameters,
    )
    assert (figures["input_entities"], figures["covered_entities"], figures["overlap"]) == (1, 1, 0.5)


@pytest.mark.parametrize("what", ["entities", "items"])
def test_what_has_changed(warehouse, two_nights, tmp_path, what):
    done = test_delta.delta(warehouse, tmp_path, what=what)
    assert (done["new"], done["changed"], done["gone"]) == {"entities": (1, 1, 1), "items": (2, 0, 2)}[what]
    if what == "entities":
        assert [row["items"] for row in test_delta.read(tmp_path)] == [[], ["a", "c"], ["A"]]
