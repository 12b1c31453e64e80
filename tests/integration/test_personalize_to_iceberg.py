"""Parquet files of tasks become rows of an Iceberg table: of a catalog in SQL over files, and of Glue over S3."""

from __future__ import annotations

import inspect
import json
import logging
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from datetime import date
from pathlib import Path
from typing import Any

import boto3
import duckdb
import pytest

from airflow_provider_personalize.exceptions import (
    InvalidRequestError,
    PersonalizeError,
    TableMismatchError,
    TooManyRejectsError,
)
from airflow_provider_personalize.targets import iceberg, iceberg_rows
from airflow_provider_personalize.uris import parse_uri
from tests.integration.load_support import line, rows
from tests.integration.test_load import NASTY
from tests.integration.test_personalize_to_parquet import export

pytest.importorskip("airflow.providers.apache.iceberg", reason="needs the extra iceberg: make venv")
pytest.importorskip("pyiceberg.catalog.sql", reason="pyiceberg's catalog in SQL needs SQLAlchemy 2, Airflow 2 has 1.4")

from pyiceberg.exceptions import CommitFailedException
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.transforms import BucketTransform, IdentityTransform
from pyiceberg.types import FloatType, IntegerType, LongType, NestedField, StringType

from airflow_provider_personalize.transfers.personalize_to_iceberg import PersonalizeToIcebergOperator

TABLE = "lake.recs"
DAY = {"run_date": "2026-11-22"}


def publish(loads: Any, **arguments: Any) -> dict[str, Any]:
    """Run the operator."""
    given = {"iceberg_conn_id": "lake", "table": TABLE, "aws_conn_id": None, **arguments}
    operator = PersonalizeToIcebergOperator(task_id="publish", loads=loads, **given)
    return json.loads(json.dumps(inspect.unwrap(type(operator).execute)(operator, {})))


class Lake:
    """
    An empty catalog.

    :param files: The folder for Parquet files.
    """

    def __init__(self, files: str) -> None:
        from airflow.providers.apache.iceberg.hooks.iceberg import IcebergHook

        self.files = files
        self.catalog = IcebergHook("lake").catalog

    def load(self, output: Any, *lines: str, parts: int = 1, **arguments: Any) -> dict[str, Any]:
        """Export lines, and publish them."""
        output.write(*lines)
        return publish(self.export(output, parts, extra_columns=arguments.get("extra_columns")), **arguments)

    def export(self, output: Any, parts: int = 1, **arguments: Any) -> list[dict[str, Any]]:
        return [
            export(output.uri, self.files, part=part, parts=parts, max_reject_rate=1.0, **arguments)
            for part in range(parts)
        ]

    def create_table(self, schema: Schema, **more: Any) -> None:
        self.catalog.create_namespace("lake")
        self.catalog.create_table(TABLE, schema, **more)

    def table(self) -> Any:
        return self.catalog.load_table(TABLE)

    def live(self) -> list[str]:
        return sorted(task.file.file_path for task in self.table().scan().plan_files())

    def read(self) -> list[tuple[Any, ...]]:
        """Return the rows, sorted; from files, by DuckDB."""
        files = self.live()
        if not files:
            return []
        if files[0].startswith("s3"):
            return sorted((tuple(row.values()) for row in self.table().scan().to_arrow().to_pylist()), key=repr)
        names = ", ".join(f'"{field.name}"' for field in self.table().schema().fields)
        paths = [str(parse_uri(uri).path) for uri in files]
        with closing(duckdb.connect()) as connection:
            sql = f"SELECT {names} FROM read_parquet(?, union_by_name = true)"
            return sorted(connection.execute(sql, [paths]).fetchall(), key=repr)

    def snapshots(self) -> int:
        return len(self.table().snapshots())


@pytest.fixture
def files_lake(tmp_path, airflow_connection) -> Lake:
    (tmp_path / "warehouse").mkdir()
    extra = {"type": "sql", "warehouse": f"{tmp_path.as_uri()}/warehouse"}
    connection = {"conn_type": "iceberg", "host": f"sqlite:///{tmp_path}/catalog.db", "extra": extra}
    airflow_connection("lake", json.dumps(connection))
    return Lake(f"{tmp_path.as_uri()}/staged/")


@pytest.fixture
def glue_lake(moto, monkeypatch, airflow_connection) -> Lake:
    import requests

    requests.post(f"{moto}/moto-api/reset", timeout=30).raise_for_status()
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto)
    with closing(boto3.client("s3")) as client:
        client.create_bucket(Bucket="lake")
    extra = {
        "type": "glue",
        "warehouse": "s3://lake/warehouse",
        "glue.endpoint": moto,
        "s3.endpoint": moto,
        "client.region": "us-east-1",
        "client.access-key-id": "testing",
        "client.secret-access-key": "testing",
    }
    airflow_connection("lake", json.dumps({"conn_type": "iceberg", "extra": extra}))
    return Lake("s3://lake/staged/")


@pytest.fixture(params=["files", "glue"])
def lake(request) -> Lake:
    return request.getfixturevalue(f"{request.param}_lake")


def of(day: str, *found: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    return sorted(((*row, day) for row in found), key=repr)


def test_the_table_is_created_with_the_first_load(lake, output):
    result = lake.load(output, line("u", "a", "b"), line("v", "c"), extra_columns=DAY)
    table = lake.table()
    assert lake.read() == of("2026-11-22", *rows("u", "a", "b"), *rows("v", "c"))
    assert {field.name: str(field.field_type) for field in table.schema().fields} == {
        "user_id": "string", "rank": "int", "item_id": "string", "score": "double", "run_date": "string"
    }  # fmt: skip
    assert [(field.name, str(field.transform)) for field in table.spec().fields] == [("run_date", "identity")]
    snapshot = table.current_snapshot()
    assert result == {
        "table": TABLE, "snapshot_id": snapshot.snapshot_id, "data_files": 1, "lines": 2, "rows": 3, "rejects": 0
    }  # fmt: skip
    assert {snapshot.summary.additional_properties[f"personalize.{name}"] for name in ("rows", "lines")} == {"3", "2"}


def test_each_write_mode_leaves_what_it_says(lake, output):
    lake.load(output, line("u", "a", "b"), line("v", "c"), extra_columns=DAY)
    old = of("2026-11-22", *rows("u", "a", "b"), *rows("v", "c"))
    # A slice of its own, then in place of itself, beside the other.
    for item in ("x", "y"):
        lake.load(output, line("u", item), extra_columns={"run_date": "2026-11-23"}, write_mode="replace_slice")
        assert lake.read() == sorted(old + of("2026-11-23", *rows("u", item)), key=repr)
    # The entities of the load, one of them without a result, in all slices.
    lake.load(output, line("v"), line("w", "z"), extra_columns={"run_date": "2026-11-24"}, write_mode="merge")
    left = sorted(
        of("2026-11-22", *rows("u", "a", "b")) + of("2026-11-23", *rows("u", "y")) + of("2026-11-24", *rows("w", "z")),
        key=repr,
    )
    assert lake.read() == left
    before = lake.snapshots()
    for _ in range(2):
        lake.load(output, line("u", "n"), extra_columns=DAY, write_mode="append")
        assert lake.read() == sorted(left + of("2026-11-22", *rows("u", "n")), key=repr)
    assert lake.snapshots() == before + 1
    lake.load(output, line("u", "last"), extra_columns=DAY)
    assert lake.read() == of("2026-11-22", *rows("u", "last"))


@pytest.mark.parametrize("mode", ["replace", "replace_slice", "merge", "append"])
def test_a_retry_commits_nothing(files_lake, output, mode):
    files_lake.load(output, line("u", "a"), line("x", "y"), extra_columns=DAY)
    files_lake.load(output, line("u", "b"), line("v", "c"), extra_columns=DAY, write_mode=mode)
    found, count, files = files_lake.read(), files_lake.snapshots(), files_lake.live()
    result = files_lake.load(output, line("u", "b"), line("v", "c"), extra_columns=DAY, write_mode=mode)
    assert (files_lake.read(), files_lake.snapshots(), files_lake.live()) == (found, count, files)
    assert result["snapshot_id"] == files_lake.table().current_snapshot().snapshot_id


def test_any_id_is_merged_for_what_it_is(files_lake, output):
    """None, for lines of an empty input, is an entity, too."""
    everybody = [*NASTY, None]
    files_lake.load(output, *(line(user, "old") for user in [*everybody, "other"]))
    files_lake.load(output, *(line(user, "new") for user in everybody), write_mode="merge")
    assert files_lake.read() == sorted(
        [row for user in everybody for row in rows(user, "new")] + rows("other", "old"), key=repr
    )


def test_a_merge_looks_for_many_entities_piece_by_piece(files_lake, output, monkeypatch):
    monkeypatch.setattr(iceberg_rows, "ENTITIES", 7)
    files_lake.load(output, *(line(f"u{n}", "old") for n in range(100)))
    files_lake.load(output, *(line(f"u{n}", "new") for n in range(0, 100, 2)), write_mode="merge")
    assert files_lake.read() == sorted(
        (row for n in range(100) for row in rows(f"u{n}", "old" if n % 2 else "new")), key=repr
    )


@pytest.mark.parametrize(
    "values",
    [("2026-11-22", "2026-11-23"), (date(2026, 11, 22), date(2026, 11, 23)), (None, "a'\"b"), (1, 2), (0.1, 0.2)],
)
def test_slices_are_told_apart_whatever_their_values(files_lake, output, values):
    for value in (*values, *values):
        files_lake.load(output, line("u", str(value)), extra_columns={"of": value}, write_mode="replace_slice")
    # A column that is null at first is one of text.
    assert files_lake.read() == sorted(((*row, value) for value in values for row in rows("u", str(value))), key=repr)


def test_a_slice_is_replaced_in_files_that_hold_others_too(files_lake, output):
    """As in a table that somebody has made without partitions, and compacted."""
    schema = Schema(
        NestedField(1, "run_date", StringType()),
        NestedField(2, "user_id", StringType()),
        NestedField(3, "rank", LongType()),
        NestedField(4, "more", IntegerType()),
        NestedField(5, "item_id", StringType()),
    )
    files_lake.create_table(schema)
    arguments = {"column_names": {"score": None}, "extra_columns": DAY}

    def load(*lines: str, day: str = "2026-11-22") -> None:
        output.write(*lines)
        loads = files_lake.export(output, **arguments | {"extra_columns": {"run_date": day}})
        publish(loads, write_mode="replace_slice")

    load(line("u", "a", "b"))
    load(line("u", "x"), day="2026-11-23")
    table = files_lake.table()
    table.overwrite(table.scan().to_arrow())
    assert len(files_lake.live()) == 1
    load(line("v", "c"))
    assert files_lake.read() == [("2026-11-22", "v", 1, None, "c"), ("2026-11-23", "u", 1, None, "x")]


def test_the_sum_over_parts_is_one_load(files_lake, output):
    for n in range(5):
        lines = [line(f"u{n}-{user}", *(f"i{item}" for item in range(user % 4))) for user in range(10)]
        output.write(*lines, *["no JSON"] * n, name=f"{n}.json.out")
    one = publish(files_lake.export(output), max_reject_rate=0.2)
    expected = files_lake.read()
    for parts in (2, 4, 7):
        shared = publish(files_lake.export(output, parts), max_reject_rate=0.2)
        assert files_lake.read() == expected
        counts = ("lines", "rows", "rejects")
        assert [shared[name] for name in counts] == [one[name] for name in counts]


def test_the_rejects_of_all_parts_are_judged_together(files_lake, output):
    files_lake.load(output, line("u", "a"))
    before = files_lake.read()
    output.write("no JSON", line("u", "b"), name="users.json.out")
    output.write(line("v", "b"), line("w", "c"), name="1.json.out")
    loads = files_lake.export(output, 2)
    with pytest.raises(
        TooManyRejectsError, match=r"1 of 4 lines .*\n.*line 1 .*no JSON\nAll of them are in file:"
    ) as caught:
        publish(loads, max_reject_rate=0.24)
    assert (caught.value.rejects, caught.value.lines) == (1, 4)
    assert files_lake.read() == before
    publish(loads, max_reject_rate=0.25)
    assert files_lake.read() == sorted(rows("u", "b") + rows("v", "b") + rows("w", "c"), key=repr)


def test_a_load_of_nothing(files_lake, output):
    files_lake.load(output, "", extra_columns=DAY)
    assert files_lake.read() == []
    files_lake.load(output, line("u", "a"), extra_columns=DAY)
    files_lake.load(output, line("u"), extra_columns=DAY)
    assert files_lake.read() == []


def test_lineage_names_the_files_and_the_table(files_lake, output):
    pytest.importorskip("airflow.providers.openlineage", reason="needs Airflow's OpenLineage provider: make venv")
    output.write(line("u", "a", "b"))
    [loads] = files_lake.export(output)
    operator = PersonalizeToIcebergOperator(
        task_id="publish", loads=loads, iceberg_conn_id="lake", table=TABLE, aws_conn_id=None
    )
    told = operator.get_openlineage_facets_on_complete(None)
    assert (told.inputs, told.outputs) == ([], []), "nothing has happened yet"
    inspect.unwrap(type(operator).execute)(operator, {})
    told = operator.get_openlineage_facets_on_complete(None)
    assert [read.name for read in told.inputs] == [str(parse_uri(files_lake.files).path)]
    [written] = told.outputs
    assert (written.namespace, written.name) == ("file", str(parse_uri(files_lake.table().location()).path))
    assert [field.name for field in written.facets["schema"].fields] == ["user_id", "rank", "item_id", "score"]
    assert written.outputFacets["outputStatistics"].rowCount == 2


# Another engine

#: DuckDB's extension comes with PyPI's packages for this version of DuckDB, which is not the one that the tests are on.
ENGINE = ["duckdb==1.4.4", "duckdb-ext-avro==1.4.4.20260205", "duckdb-ext-iceberg==1.4.4.20260205"]
READ = """
import json, pathlib, sys
import duckdb, duckdb_ext
connection = duckdb.connect(config={"allow_unsigned_extensions": "true"})
for name in ("avro", "iceberg"):
    [path] = pathlib.Path(duckdb_ext.__path__[0]).rglob(f"{name}.duckdb_extension")
    connection.execute(f"LOAD '{path}'")
print(json.dumps(connection.execute("SELECT * FROM iceberg_scan(?)", [sys.argv[1]]).fetchall()))
"""


@pytest.fixture(scope="session")
def engine(tmp_path_factory) -> Path:
    """The interpreter of an environment with DuckDB and its reader of Iceberg, which shares no code with pyiceberg."""
    folder = tmp_path_factory.mktemp("engine")
    uv = [sys.executable, "-m", "uv", "--quiet"]
    try:
        subprocess.run([*uv, "venv", "--python", sys.executable, folder / "venv"], check=True, timeout=120)
        install = [*uv, "pip", "install", "--python", folder / "venv/bin/python", *ENGINE]
        subprocess.run(install, check=True, timeout=120)
    except (OSError, subprocess.SubprocessError) as error:
        pytest.skip(f"needs an environment with {', '.join(ENGINE)}, which uv could not make: {error}")
    return folder / "venv/bin/python"


def test_another_engine_reads_the_table(files_lake, output, engine):
    files_lake.load(output, line("u", "a", "b"), line("v", *NASTY), extra_columns=DAY)
    files_lake.load(output, line("u", "x"), extra_columns={"run_date": "2026-11-23"}, write_mode="replace_slice")
    files_lake.load(output, line("u", "n"), extra_columns={"run_date": "2026-11-24"}, write_mode="append")
    files_lake.load(output, line("v", "new"), line("w"), extra_columns={"run_date": "2026-11-24"}, write_mode="merge")
    metadata = str(parse_uri(files_lake.table().metadata_location).path)
    found = subprocess.run([engine, "-c", READ, metadata], check=True, capture_output=True, text=True).stdout
    assert sorted(map(tuple, json.loads(found)), key=repr) == files_lake.read()
    assert len(files_lake.read()) == 5


# What cannot be published


def test_a_missing_part_publishes_nothing(files_lake, output):
    files_lake.load(output, line("u", "a"))
    before = files_lake.read()
    output.write(line("u", "b"))
    with pytest.raises(InvalidRequestError, match=r"expected all 2 parts of .* got none for part 1"):
        publish(files_lake.export(output, 2)[:1])
    [part] = files_lake.export(output)
    with pytest.raises(InvalidRequestError, match="expected all files that the tasks have written, but one is gone"):
        publish([part | {"data_files": [part["data_files"][0] + "x"]}])
    assert files_lake.read() == before


TEXT, RANK = StringType(), IntegerType()


@pytest.mark.parametrize(
    ("columns", "partition", "message"),
    [
        ({"user_id": TEXT, "rank": RANK, "item_id": TEXT}, None, "expected a column run_date of type string, got none"),
        (
            {"user_id": TEXT, "rank": TEXT, "item_id": TEXT, "run_date": TEXT},
            None,
            "expected the column rank to be of type int or long, got string",
        ),
        (
            {"user_id": TEXT, "rank": RANK, "item_id": TEXT, "score": FloatType(), "run_date": TEXT},
            None,
            "expected the column score to be of type double, got float",
        ),
        (
            {"user_id": TEXT, "rank": RANK, "item_id": TEXT, "run_date": TEXT},
            ("user_id", IdentityTransform()),
            r"expected partitions by columns of extra_columns .* \(run_date\), got one by identity\(user_id\)",
        ),
        (
            {"user_id": TEXT, "rank": RANK, "item_id": TEXT, "run_date": TEXT},
            ("run_date", BucketTransform(4)),
            r"expected partitions by columns of extra_columns .* \(run_date\), got one by bucket\[4\]\(run_date\)",
        ),
    ],
)
def test_a_table_that_does_not_fit_is_an_error(files_lake, output, columns, partition, message):
    fields = [NestedField(n, name, kind) for n, (name, kind) in enumerate(columns.items(), 1)]
    spec = PartitionSpec()
    if partition:
        source = next(field.field_id for field in fields if field.name == partition[0])
        spec = PartitionSpec(PartitionField(source, 1000, partition[1], f"{partition[0]}_part"))
    files_lake.create_table(Schema(*fields), partition_spec=spec)
    output.write(line("u", "a"))
    loads = files_lake.export(output, extra_columns=DAY, column_names={} if "score" in columns else {"score": None})
    with pytest.raises(TableMismatchError, match=message):
        publish(loads)
    assert files_lake.snapshots() == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"table": "recs"}, "table: expected a table with its namespace, as 'lake.recommendations', got 'recs'"),
        ({"extra_columns": {"run_date": "2026-11-23"}}, "expected those of the tasks that wrote the files, {}, got"),
        ({"write_mode": "replace_slice"}, "expected extra_columns in the tasks that wrote the Parquet files, got none"),
        ({"loads": [{"rows": 1}]}, "expected what PersonalizeToParquetOperator has returned"),
    ],
)
def test_what_cannot_be_right_is_refused(files_lake, output, arguments, message):
    output.write(line("u", "a"))
    given = {"loads": files_lake.export(output), **arguments}
    with pytest.raises(InvalidRequestError, match=message):
        publish(**given)


def test_a_merge_needs_the_entity(files_lake, output):
    output.write(line("u", "a"))
    with pytest.raises(InvalidRequestError, match="write_mode='merge' needs the column of the users"):
        publish(files_lake.export(output, column_names={"user_id": None}), write_mode="merge")


# Others at the same table


def during_the_commit(monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[], object], times: int = 1) -> list[int]:
    """Let somebody else commit after a load has looked at the table, and before it commits."""
    stage = iceberg.IcebergLoad._stage
    done: list[int] = []

    def staged(self: Any, *arguments: Any) -> None:
        stage(self, *arguments)
        if len(done) < times and threading.current_thread() is threading.main_thread():
            done.append(1)
            thread = threading.Thread(target=meanwhile)
            thread.start()
            thread.join()

    monkeypatch.setattr(iceberg.IcebergLoad, "_stage", staged)
    monkeypatch.setattr(iceberg, "FIRST_PAUSE", 0.0)
    monkeypatch.setattr(iceberg, "LONGEST_PAUSE", 0.0)
    return done


@pytest.mark.parametrize(
    ("lake", "mode", "expected"),
    [
        ("files", "replace", ["new"]),
        ("files", "replace_slice", ["new", "theirs"]),
        ("files", "merge", ["new", "theirs"]),
        ("files", "append", ["new", "old", "theirs", "theirs, u"]),
        ("glue", "replace", ["new"]),
    ],
    indirect=["lake"],
)
def test_a_conflicting_commit_is_tried_again_on_what_is_there_then(lake, output, monkeypatch, mode, expected):
    lake.load(output, line("u", "old"), extra_columns=DAY)
    output.write(line("u", "theirs, u"))
    same_slice = lake.export(output, extra_columns=DAY)
    output.write(line("x", "theirs"))
    other_slice = lake.export(output, extra_columns={"run_date": "2026-11-23"})
    output.write(line("u", "new"))
    ours = lake.export(output, extra_columns=DAY)

    def meanwhile() -> None:
        for loads in (same_slice, other_slice):
            publish(loads, write_mode="append")

    done = during_the_commit(monkeypatch, meanwhile)
    publish(ours, write_mode=mode)
    assert done
    assert not [name for name in lake.table().properties if name.startswith("commit.retry")], "the table's own stay"
    assert sorted(row[2] for row in lake.read()) == expected


def test_a_conflict_that_persists_is_an_error(files_lake, output, monkeypatch):
    files_lake.load(output, line("u", "a"))
    before = files_lake.read()

    def refuse(*_: Any) -> None:
        raise CommitFailedException("branch main has changed")

    monkeypatch.setattr(type(files_lake.catalog), "commit_table", refuse)
    monkeypatch.setattr(iceberg, "FIRST_PAUSE", 0.0)
    message = r"was changed by others each of the 10 times .*branch main has changed"
    with pytest.raises(PersonalizeError, match=message) as caught:
        files_lake.load(output, line("u", "b"))
    assert caught.value.may_pass
    assert files_lake.read() == before


def test_a_lost_answer_does_not_append_twice(files_lake, output, monkeypatch):
    """The catalog has committed, and the task is killed, or its connection drops."""
    files_lake.load(output, line("u", "a"))
    commit = type(files_lake.catalog).commit_table

    def lose(*arguments: Any) -> Any:
        commit(*arguments)
        raise ConnectionError("dropped")

    with monkeypatch.context() as patch:
        patch.setattr(type(files_lake.catalog), "commit_table", lose)
        with pytest.raises(ConnectionError):
            files_lake.load(output, line("u", "b"), write_mode="append")
    files_lake.load(output, line("u", "b"), write_mode="append")
    assert files_lake.read() == sorted(rows("u", "a") + rows("u", "b"), key=repr)


def test_files_that_a_conflict_made_useless_are_deleted(files_lake, output, monkeypatch, tmp_path):
    files_lake.load(output, line("u", "a"), line("v", "b"))
    output.write(line("w", "c"), line("v", "d"))
    theirs = files_lake.export(output)
    output.write(line("u", "new"))
    ours = files_lake.export(output)
    during_the_commit(monkeypatch, lambda: publish(theirs, write_mode="merge"))
    publish(ours, write_mode="merge")
    assert files_lake.read() == sorted(rows("u", "new") + rows("w", "c") + rows("v", "d"), key=repr)
    written = {path.as_uri() for path in (tmp_path / "warehouse").rglob("personalize-*.parquet")}
    # Those of the snapshot that came between are its own.
    referenced = {
        entry.data_file.file_path
        for snapshot in files_lake.table().snapshots()
        for manifest in snapshot.manifests(files_lake.table().io)
        for entry in manifest.fetch_manifest_entry(files_lake.table().io, discard_deleted=False)
    }
    assert written <= referenced


def test_credentials_come_from_the_aws_connection(airflow_connection, caplog):
    airflow_connection("lake", json.dumps({"conn_type": "iceberg", "extra": {"type": "glue"}}))
    airflow_connection("mine", json.dumps({"conn_type": "aws", "login": "key", "password": "secret"}))
    operator = PersonalizeToIcebergOperator(
        task_id="publish", loads=[], iceberg_conn_id="lake", table=TABLE, aws_conn_id="mine", region_name="eu-west-1"
    )
    with caplog.at_level(logging.INFO):
        properties = operator._catalog().properties
    assert {name: properties[f"client.{name}"] for name in ("access-key-id", "secret-access-key", "region")} == {
        "access-key-id": "key", "secret-access-key": "secret", "region": "eu-west-1"
    }  # fmt: skip
