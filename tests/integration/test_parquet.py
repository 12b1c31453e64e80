"""Rows as Parquet files: what another engine reads in them, and when they appear."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import boto3
import duckdb
import pytest

from airflow_provider_personalize.exceptions import InvalidRequestError, PersonalizeError
from airflow_provider_personalize.output import blocks, giant
from airflow_provider_personalize.output.reader import OutputReader
from airflow_provider_personalize.output.rows import Column, Reject
from airflow_provider_personalize.s3 import uploads
from airflow_provider_personalize.s3.folders import delete_files, new_files
from airflow_provider_personalize.targets import parquet
from airflow_provider_personalize.targets.parquet import ParquetFiles, write_rejects
from airflow_provider_personalize.uris import FileUri, parse_uri
from tests.integration.load_support import line, rows
from tests.integration.test_load import NASTY
from tests.output_forms import FORMS

pytest.importorskip("pyarrow", reason="needs the extra parquet: make venv")


def write(folder: Path, *lines: str, extra: dict[str, Any] | None = None, more: tuple[Column, ...] = ()) -> list[Path]:
    """Write the rows of these lines to a folder, and return the files."""
    reader = OutputReader()
    batches = list(reader.read("x", ["\n".join(lines).encode()]))
    with new_files(FileUri(folder, is_folder=True), lambda: None) as files:
        writer = ParquetFiles(files, "part", (*reader.kind.columns, *more), extra)
        writer.write(batches)
        writer.finish()
        return [parse_uri(uri).path for uri in files.publish()]


def read(*files: Path) -> list[tuple[Any, ...]]:
    with closing(duckdb.connect()) as connection:
        return connection.execute("SELECT * FROM read_parquet(?)", [list(map(str, files))]).fetchall()


def column_types(file: Path) -> dict[str, str]:
    with closing(duckdb.connect()) as connection:
        connection.execute("SELECT * FROM read_parquet(?) LIMIT 0", [str(file)])
        return {name: str(kind) for name, kind, *_ in connection.description}


@pytest.mark.parametrize(("line", "kind", "rows"), FORMS)
def test_every_form_gives_the_same_rows(tmp_path, line, kind, rows):
    (file,) = write(tmp_path, line)
    assert read(file) == rows
    types = {"text": "VARCHAR", "integer": "INTEGER", "double": "DOUBLE"}
    assert column_types(file) == {column.name: types[column.type] for column in kind.columns}


def test_any_id_arrives_unchanged(tmp_path):
    """Regular lines come packed, those with escapes as texts; a line without rows lies between them."""
    lines = [line(value, *NASTY) for value in NASTY] + [line("none")] + [line(None, "a")] + [line("u", "a", "b")] * 3
    assert sorted(read(*write(tmp_path, *lines)), key=repr) == sorted(
        [row for value in NASTY for row in rows(value, *NASTY)] + rows(None, "a") + 3 * rows("u", "a", "b"), key=repr
    )


EAST = timezone(timedelta(hours=2))


@pytest.mark.parametrize(
    ("value", "kind", "held"),
    [
        ("2026-11-22", "VARCHAR", "2026-11-22"),
        ("", "VARCHAR", ""),
        (None, "VARCHAR", None),
        (True, "BOOLEAN", True),
        (False, "BOOLEAN", False),
        (2**40, "BIGINT", 2**40),
        (0.1, "DOUBLE", 0.1),
        (Decimal("1.10"), "VARCHAR", "1.10"),
        (date(1969, 12, 31), "DATE", date(1969, 12, 31)),
        (datetime(2026, 11, 22, 1, 2, 3, 4), "TIMESTAMP", datetime(2026, 11, 22, 1, 2, 3, 4)),
        (datetime(2026, 11, 22, 1, tzinfo=EAST), "TIMESTAMP WITH TIME ZONE", datetime(2026, 11, 21, 23, tzinfo=UTC)),
        (UUID(int=1), "VARCHAR", str(UUID(int=1))),
    ],
)
def test_extra_columns_have_the_type_of_their_value(tmp_path, value, kind, held):
    (file,) = write(tmp_path, *[line("u", "a", "b")] * 9, extra={"of": value})
    assert column_types(file)["of"] == kind
    assert {row[4] for row in read(file)} == {held}


def test_a_value_that_parquet_cannot_hold_is_refused(tmp_path):
    with pytest.raises(InvalidRequestError, match="extra_columns: expected a value that Parquet can hold for of, got"):
        write(tmp_path, line("u", "a"), extra={"of": 2**64})
    assert list(tmp_path.iterdir()) == []


def test_filter_values_are_a_column(tmp_path):
    told = [json.dumps({"input": {"userId": "u", "filterValues": {"b": n, "a": "x"}}} | OUTPUT) for n in ("1", "2")]
    (file,) = write(tmp_path, line("u", "a"), *told, more=(Column("for", "text", "filter_values"),))
    assert {row[4] for row in read(file)} == {None, '{"a": "x", "b": "1"}', '{"a": "x", "b": "2"}'}


OUTPUT = {"output": {"recommendedItems": ["a"]}}


def test_many_groups_and_files_hold_every_row_once_and_the_same_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "GROUP_ROWS", 10)
    monkeypatch.setattr(parquet, "FILE_BYTES", 4_000)
    lines = [line(f"u{n}", *(f"i{n % 7}-{m}" for m in range(n % 25))) for n in range(200)]
    first, second = (write(tmp_path / name, *lines) for name in "ab")
    assert read(*first) == [row for n in range(200) for row in rows(f"u{n}", *(f"i{n % 7}-{m}" for m in range(n % 25)))]
    assert [file.name for file in first] == [f"part-{n:05}.parquet" for n in range(len(first))]
    assert len(first) > 3
    assert [file.read_bytes() for file in first] == [file.read_bytes() for file in second]


def test_a_giant_line_is_written_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(blocks, "GIANT", 1 << 12)
    monkeypatch.setattr(giant, "STEP", 1 << 10)
    monkeypatch.setattr(parquet, "GROUP_BYTES", 1 << 11)
    items = [f"item-{n}" for n in range(5_000)]
    assert read(*write(tmp_path, line("u", "a"), line("g", *items))) == rows("u", "a") + rows("g", *items)


def test_no_rows_make_no_file(tmp_path):
    assert write(tmp_path, line("u")) == []
    assert list(tmp_path.iterdir()) == []


def test_rejected_lines_are_a_file_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "_ROWS", 2)
    rejects = [Reject("s3://b/x.out", n, 10 * n, "expected JSON", f"é{n}") for n in range(5)]
    with new_files(FileUri(tmp_path, is_folder=True), lambda: None) as files:
        assert not write_rejects(files, "none.parquet", "job", [])
        assert write_rejects(files, "_rejects/x.parquet", "job", iter(rejects))
        files.publish()
    assert [path.name for path in tmp_path.rglob("*.parquet")] == ["x.parquet"]
    assert read(tmp_path / "_rejects/x.parquet") == [("job", *reject) for reject in rejects]


# When files appear

#: moto's buckets outlive its server: they are those of the process.
BUCKET = f"lake-{secrets.token_hex(6)}"


@pytest.fixture
def bucket(local) -> Iterator[Any]:
    with closing(boto3.client("s3")) as client:
        client.create_bucket(Bucket=BUCKET)
        yield client


@pytest.fixture(params=["files", "s3"])
def folder(request, tmp_path) -> Any:
    """A folder of either kind, with a file in it that is none of ours."""
    place = parse_uri(f"s3://{BUCKET}/recs/" if request.param == "s3" else f"{tmp_path.as_uri()}/recs/")
    client = request.getfixturevalue("bucket") if request.param == "s3" else None

    class Folder:
        uri = str(place)

        def files(self) -> Any:
            return new_files(place, lambda: client)

        def names(self) -> list[str]:
            if client is None:
                paths = [path for path in place.path.rglob("*") if path.is_file()]
                return sorted(path.relative_to(place.path).as_posix() for path in paths)
            listed = client.list_objects_v2(Bucket=BUCKET, Prefix="recs/").get("Contents", ())
            unfinished = client.list_multipart_uploads(Bucket=BUCKET).get("Uploads", ())
            keys = [item["Key"].removeprefix("recs/") for item in listed]
            return sorted([*keys, *(f"{item['Key']}, unfinished" for item in unfinished)])

        def read(self, name: str) -> bytes:
            if client is None:
                return (place.path / name).read_bytes()
            return client.get_object(Bucket=BUCKET, Key=f"recs/{name}")["Body"].read()

        def delete(self, *uris: str) -> None:
            delete_files(uris, place, lambda: client)

    made = Folder()
    made.delete(*(f"{place}{name}" for name in made.names()))
    with made.files() as files:
        files.create("other.parquet").write(b"other")
        files.publish()
    return made


def test_files_appear_together_when_all_are_complete(folder, monkeypatch):
    monkeypatch.setattr(uploads, "PART_BYTES", 5 << 20)
    body = bytes(range(256)) * (1 << 16)
    with folder.files() as files:
        for name in ("a/x.parquet", "b.parquet"):
            sink = files.create(name)
            for start in range(0, len(body), 1 << 20):
                sink.write(body[start : start + (1 << 20)])
            assert sink.tell() == len(body)
        assert [name for name in folder.names() if "unfinished" not in name] == ["other.parquet"]
        uris = files.publish()
    assert uris == [f"{folder.uri}a/x.parquet", f"{folder.uri}b.parquet"]
    assert folder.names() == ["a/x.parquet", "b.parquet", "other.parquet"]
    assert folder.read("a/x.parquet") == folder.read("b.parquet") == body
    folder.delete(*uris, f"{folder.uri}gone")
    assert folder.names() == ["other.parquet"]


def test_what_is_not_published_leaves_nothing(folder):
    with folder.files() as files:
        files.create("x.parquet").write(b"x")
    assert folder.names() == ["other.parquet"]


def test_what_a_killed_try_has_left_is_cleared_by_the_next(folder):
    killed = folder.files()
    killed.create("x.parquet").write(b"half")
    if folder.uri.startswith("s3"):
        killed._uploads.settle(killed._begun)
    assert len(folder.names()) == 2
    with folder.files() as files:
        files.create("x.parquet").write(b"whole")
        files.publish()
    assert folder.names() == ["other.parquet", "x.parquet"]
    # The killed one may still run: it cannot publish any more. moto has no code for an upload that was aborted.
    with pytest.raises(PersonalizeError, match=r"Another try of this task writes|from CompleteMultipartUpload"), killed:
        killed.publish()
    assert folder.read("x.parquet") == b"whole"
