"""A job's output as Parquet files: of one task, or of several that share it."""

from __future__ import annotations

import inspect
import json
import sys
from contextlib import closing
from datetime import date
from typing import Any

import duckdb
import pytest

from airflow_provider_personalize.exceptions import InvalidRequestError, TooManyRejectsError
from airflow_provider_personalize.targets.parquet_parts import all_parts
from airflow_provider_personalize.transfers.personalize_to_parquet import PersonalizeToParquetOperator
from airflow_provider_personalize.uris import parse_uri
from tests.integration.load_support import line, rows
from tests.integration.test_load_s3 import JOB, job, put, s3

pytest.importorskip("pyarrow", reason="needs the extra parquet: make venv")

__all__ = ["job", "put", "s3"]


def export(output_uri: str | None = None, target_uri: str = "", **arguments: Any) -> dict[str, Any]:
    """Run the operator, and return what its task hands on."""
    operator = PersonalizeToParquetOperator(
        task_id="export", output_uri=output_uri, target_uri=target_uri, aws_conn_id=None, **arguments
    )
    # Airflow 2 wraps execute() in a check that works on the main thread only.
    return json.loads(json.dumps(inspect.unwrap(type(operator).execute)(operator, {})))


def read(uris: list[str]) -> list[tuple[Any, ...]]:
    if not uris:
        return []
    with closing(duckdb.connect()) as connection:
        paths = [str(parse_uri(uri).path) for uri in uris]
        return connection.execute("SELECT * FROM read_parquet(?)", [paths]).fetchall()


@pytest.fixture
def target(tmp_path):
    return f"{tmp_path.as_uri()}/lake/"


def test_the_result_says_what_was_written(target, output):
    uri = output.write(line("u", "a", "b"), line("v"), "", line("w", "c"))
    size = len((output.folder / "users.json.out").read_bytes())
    result = export(
        uri, target.rstrip("/"), extra_columns={"run_date": date(2026, 11, 22)}, column_names={"score": None}
    )
    assert result.pop("seconds") > 0
    assert result.pop("source").startswith(f"{uri}#")
    assert [uri.startswith(f"{target}part-00000-of-00001-users-json-out-") for uri in result["data_files"]] == [True]
    assert read(result.pop("data_files")) == [
        (user, rank, item, date(2026, 11, 22)) for user, rank, item, _ in rows("u", "a", "b") + rows("w", "c")
    ]
    assert read([result.pop("without_rows_file")]) == [("v",)]
    assert result == {
        "job_arn": None,
        "target_uri": target,
        "files": 1,
        "lines": 3,
        "rows": 3,
        "rejects": 0,
        "bytes": size,
        "part": 0,
        "parts": 1,
        "kind": "user recommendations",
        "columns": {"user_id": "text", "rank": "integer", "item_id": "text", "run_date": "date"},
        "extra_columns": {"run_date": "2026-11-22"},
        "entity": "user_id",
        "rejects_file": None,
    }


def test_a_retry_writes_the_same_files_and_touches_no_other(target, output):
    output.write(line("u", "a"), "no JSON", line("v"))
    arguments = {"output_uri": output.uri, "target_uri": target, "max_reject_rate": 0.5}
    folder = parse_uri(target).path
    folder.mkdir()
    (folder / "theirs.parquet").write_bytes(b"theirs")

    def content() -> dict[str, bytes]:
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    first = export(**arguments)
    written = content()
    assert len(written) == 4
    again = export(**arguments)
    assert content() == written
    assert {**again, "seconds": 0} == {**first, "seconds": 0}
    # Other content, or other columns, come under other names: a table may refer to the files that are there.
    export(**arguments, extra_columns={"n": 1})
    output.write(line("u", "b"))
    export(**arguments)
    assert written.items() < content().items()
    assert len(content()) == len(written) + 4


def test_too_many_rejects_write_no_data_but_their_own_file(target, output):
    output.write(line("u", "a"), "no JSON")
    with pytest.raises(TooManyRejectsError, match=f"All of them are in {target}_rejects/part-") as caught:
        export(output.uri, target, max_reject_rate=0.4)
    assert (caught.value.rejects, caught.value.lines) == (1, 2)
    [path] = [path for path in parse_uri(target).path.rglob("*") if path.is_file()]
    assert [row[2:] for row in read([path.as_uri()])] == [
        (2, len(line("u", "a")) + 1, "expected JSON, got Expecting value: line 1 column 1 (char 0)", "no JSON")
    ]


@pytest.mark.parametrize("parts", [2, 4, 7])
def test_the_sum_over_parts_is_one_load(target, output, parts):
    for n in range(5):
        lines = [line(f"u{n}-{user}", *(f"i{item}" for item in range(user % 4))) for user in range(10 * n)]
        output.write(*lines, *["no JSON"] * n, name=f"{n}.json.out")
    whole = export(output.uri, f"{target}whole/", max_reject_rate=1.0)
    shared = [export(output.uri, f"{target}parts/", part=part, parts=parts) for part in range(parts)]
    assert [part.part for part in all_parts(shared)] == list(range(parts))
    for total in ("files", "lines", "rows", "rejects", "bytes"):
        assert sum(part[total] for part in shared) == whole[total]
    for name in ("data_files", "rejects_file", "without_rows_file"):
        files = [part[name] for part in shared if part[name]]
        found = read([uri for uris in files for uri in uris] if name == "data_files" else files)
        expected = read(whole[name] if name == "data_files" else [whole[name]])
        strip = 1 if name == "rejects_file" else 0  # the source stands first
        assert sorted(row[strip:] for row in found) == sorted(row[strip:] for row in expected)
    assert len({uri for part in shared for uri in part["data_files"]}) == sum(
        len(part["data_files"]) for part in shared
    )


@pytest.mark.usefixtures("job")
def test_a_job_on_s3_becomes_objects_of_s3(put, s3):
    for n in range(3):
        put(f"s3://source/users/{n}.json", "{}")
        put(f"s3://out/recs/{n}.json.out", line(f"u{n}", "a", "b"))
    put("s3://out/recs/other.json.out", line("other", "a"))
    s3.create_bucket(Bucket="lake")
    results = [export(job_arn=JOB, target_uri="s3://lake/recs/", part=part, parts=2) for part in range(2)]
    assert {result["source"] for result in results} == {JOB}
    uris = [uri for result in results for uri in result["data_files"]]
    keys = [item["Key"] for item in s3.list_objects_v2(Bucket="lake")["Contents"]]
    assert sorted(f"s3://lake/{key}" for key in keys) == sorted(uris)
    assert {key.rpartition("-")[0].rpartition("-")[0] for key in keys} == {
        f"recs/part-0000{part}-of-00002-nightly" for part in range(2)
    }


def test_without_the_package_the_extra_is_named(target, output, monkeypatch):
    output.write(line("u", "a"))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(InvalidRequestError, match=r"pip install 'airflow-provider-personalize\[parquet\]'"):
        export(output.uri, target)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"part": 4, "parts": 4}, "part: expected a number from 0 to parts - 1, got 4 with parts=4"),
        ({"parts": 0}, "parts: expected a whole number, 1 or more, got 0"),
        ({"target_uri": "lake/"}, "target_uri: expected 's3://"),
        ({"output_uri": None}, "Expected exactly one of job_arn and output_uri"),
    ],
)
def test_what_cannot_be_right_is_refused_when_the_dag_is_parsed(arguments, message):
    given = {"output_uri": "s3://out/", "target_uri": "s3://lake/", **arguments}
    with pytest.raises(InvalidRequestError, match=message):
        PersonalizeToParquetOperator(task_id="export", **given)


PART = {
    "lines": 1, "rows": 1, "rejects": 0, "source": "job", "part": 0, "parts": 2, "kind": "user recommendations",
    "columns": {"user_id": "text"}, "extra_columns": {"run_date": "2026-11-22"}, "entity": "user_id",
    "data_files": ["s3://lake/0"], "rejects_file": None, "without_rows_file": None,
}  # fmt: skip


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "expected what the tasks of the parts have returned, got nothing"),
        ([PART], "expected all 2 parts of job, got none for part 1"),
        ([PART, PART], "expected all 2 parts of job, got none for part 1"),
        ([PART, PART, PART | {"part": 1}], "expected each part once, got part 0 more than once"),
        (
            [PART, PART | {"part": 1, "source": "other"}],
            "the same output in all parts, got 'job' in part 0 and 'other' in part 1",
        ),
        ([PART, PART | {"part": 1, "parts": 3}], "the same number of parts in all parts, got 2"),
        ([PART, PART | {"part": 1, "extra_columns": {}}], "the same extra_columns in all parts"),
        (
            [PART, PART | {"part": 1, "kind": "related items"}],
            "the same kind of rows in all parts, got 'user rec.* and 'related",
        ),
        ([PART, PART | {"part": 1, "columns": {"user": "text"}}], "the same columns in all parts, got"),
        (["part"], "expected what PersonalizeToParquetOperator has returned .* got 'part'"),
        ([{"rows": 1}], "expected what PersonalizeToParquetOperator has returned"),
    ],
)
def test_parts_that_do_not_belong_together_are_refused(values, message):
    with pytest.raises(InvalidRequestError, match=message):
        all_parts(values)


def test_a_part_without_a_good_line_goes_with_any(output):
    other = PART | {"part": 1, "kind": None, "columns": {"item_id": "text"}, "data_files": []}
    assert [part.kind for part in all_parts([other, PART])] == ["user recommendations", None]
