"""All forms of output lines give the same rows and rejects in every target."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_personalize.output.lines import BadLineError, read_line
from airflow_provider_personalize.output.reader import OutputReader
from airflow_provider_personalize.output.rows import Column, Reject, RowKind
from tests.integration.conftest import DATABASES
from tests.integration.load_support import Target, load
from tests.integration.output_forms import FIRST, output_of_all_forms
from tests.integration.test_dynamodb import dynalite_url, tables
from tests.integration.test_load_warehouses import STAGING, open_warehouse, s3
from tests.integration.test_personalize_to_iceberg import files_lake, publish
from tests.integration.test_personalize_to_parquet import export
from tests.integration.test_personalize_to_parquet import read as read_files

__all__ = ["dynalite_url", "files_lake", "open_warehouse", "s3", "tables"]

Row = tuple[Any, ...]
#: What loads all output of a folder, and returns the rows and, where they are kept, the rejects.
Load = Callable[[Path, RowKind], tuple[list[Row], list[Row] | None]]
FILTERS = Column("filters", "text", "filter_values")
GIVEN = {"max_reject_rate": 1.0, "filter_values_column": FILTERS.name}


def into_sql(target: Target, **more: Any) -> Load:
    def run(folder: Path, kind: RowKind) -> tuple[list[Row], list[Row]]:
        table, rejects = (f"{name}_{kind.columns[0].name}" for name in ("recs", "rejects"))
        load(target, f"{folder.as_uri()}/", table=table, rejects_table=rejects, **GIVEN, **more)
        kept = target.execute(f"SELECT object, line, byte_offset, reason, text FROM {rejects}")
        return target.execute(f"SELECT * FROM {table}"), kept

    return run


def into_parquet(tmp_path: Path) -> Load:
    def run(folder: Path, kind: RowKind) -> tuple[list[Row], list[Row]]:
        done = export(f"{folder.as_uri()}/", f"{tmp_path.as_uri()}/lake/", **GIVEN)
        return read_files(done["data_files"]), [row[1:] for row in read_files([done["rejects_file"]])]

    return run


def into_iceberg(lake: Any) -> Load:
    def run(folder: Path, kind: RowKind) -> tuple[list[Row], list[Row]]:
        table = f"lake.{kind.columns[0].name}"
        done = export(f"{folder.as_uri()}/", lake.files, **GIVEN)
        publish(done, table=table, max_reject_rate=1.0)
        rows = [tuple(row.values()) for row in lake.catalog.load_table(table).scan().to_arrow().to_pylist()]
        return rows, [row[1:] for row in read_files([done["rejects_file"]])]

    return run


def into_spark(spark: Any, tmp_path: Path) -> Load:
    def run(folder: Path, kind: RowKind) -> tuple[list[Row], list[Row]]:
        target = tmp_path / "lake" / kind.columns[0].name
        done = spark.run(output_uri=f"{folder.as_uri()}/", target_uri=f"{target.as_uri()}/", **GIVEN)
        rejects = [path.as_uri() for path in target.glob("_rejects/*/*.parquet")]
        return read_files(done["data_files"]), [row[1:] for row in read_files(rejects)]

    return run


def into_dynamodb(tables: Any) -> Load:
    """One item for each entity, with the results of all its lines; it keeps neither filterValues nor rejects."""

    def run(folder: Path, kind: RowKind) -> tuple[list[Row], None]:
        key = kind.columns[0].name
        tables.load(output_uri=f"{folder.as_uri()}/", table_name=key, max_reject_rate=1.0)
        rows = []
        for item in tables.read(key):
            nothing = [None] * len(item["items"])
            scores = item.get("scores", nothing)
            rows += [(item[key], name, score) for name, score in zip(item["items"], scores, strict=True)]
        return rows, None

    return run


@pytest.fixture
def into(request, tmp_path) -> Callable[[str], Load]:
    """A function that opens a target."""
    fixture = request.getfixturevalue

    def open_target(name: str) -> Load:
        match name:
            case "parquet":
                return into_parquet(tmp_path)
            case "iceberg":
                return into_iceberg(fixture("files_lake"))
            case "dynamodb":
                return into_dynamodb(fixture("tables"))
            case "spark":
                return into_spark(fixture("spark"), tmp_path)
            case "redshift" | "snowflake":
                return into_sql(fixture("open_warehouse")(name), staging_uri=STAGING)
        return into_sql(fixture("open_database")(name))

    return open_target


def has_key(line: bytes) -> bool:
    """Return whether a line is rejected or of an entity, which DynamoDB needs for a key."""
    try:
        return bool(read_line(line).entity)
    except BadLineError:
        return True


@pytest.mark.parametrize("name", [*DATABASES, "redshift", "snowflake", "parquet", "iceberg", "dynamodb", "spark"])
def test_all_forms_of_lines_give_the_same_rows_and_rejects(name, into, tmp_path):
    load_into = into(name)
    for kind, first in FIRST.items():
        folder = tmp_path / kind.columns[0].name
        folder.mkdir()
        for file, data in output_of_all_forms(first, has_key if name == "dynamodb" else bool).items():
            (folder / file).write_bytes(data)
        rejects: list[Reject] = []
        reader = OutputReader(on_reject=rejects.append)
        paths = sorted(folder.iterdir())
        batches = [batch for path in paths for batch in reader.read(path.as_uri(), [path.read_bytes()])]
        if name == "dynamodb":
            fields = [Column(field, "", field) for field in ("entity", "item", "score")]
        else:
            fields = [*kind.columns, FILTERS]
        expected = [row for batch in batches for row in batch.rows(fields)]
        assert len(expected) > 10
        assert len(rejects) > 100
        rows, kept = load_into(folder, kind)
        assert sorted(map(tuple, rows), key=repr) == sorted(expected, key=repr)
        if kept is not None:
            assert sorted(map(tuple, kept)) == sorted(map(tuple, rejects))
