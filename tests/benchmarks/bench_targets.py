"""
How fast output becomes Parquet files, beside DuckDB and Polars, and how long an Iceberg table takes to take them in.

    python tests/benchmarks/bench_targets.py [--runs 3] [--scale 1.0] [--cases parquet giant iceberg]

Ours is ``PersonalizeToParquetOperator.execute``, imports not, in a process of its own. So is each of the others, which
write the same columns, compressed in the same way; none of these checks a line, keeps rejects, or promises anything of
a line that is long. They take turns; figures are medians of the runs, and of the ratios of each round to DuckDB on one
thread. Memory is the peak over what the imports take.

``iceberg`` is ``PersonalizeToIcebergOperator.execute`` with these files, catalog and all: into a table that is not
there, and again in place of itself, over files and over Glue and S3 (moto).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from bench_load import write_giants, write_lines
from load_peers import EXPAND
from support import airflow_environment, measured, run_alone

BOUND_RATIO, BOUND_MEMORY = 1.3, 200


def ours(source: str, target: str) -> Callable[[], object]:
    """Return what writes the file by the operator."""
    import pyarrow.compute  # imports are not measured
    import pyarrow.parquet  # noqa: F401

    from airflow_provider_personalize.output.fast import fast_decoder
    from airflow_provider_personalize.output.rows import USER_RECOMMENDATIONS
    from airflow_provider_personalize.transfers.personalize_to_parquet import PersonalizeToParquetOperator

    fast_decoder(USER_RECOMMENDATIONS)
    operator = PersonalizeToParquetOperator(
        task_id="export", output_uri=Path(source).as_uri(), target_uri=Path(target).as_uri(), aws_conn_id=None
    )

    def work() -> None:
        Path(target, "result.json").write_text(json.dumps(operator.execute({})))

    return work


def duckdb(threads: int) -> Callable[[str, str], Callable[[], object]]:
    """Return what makes DuckDB write the file with so many threads."""

    def make(source: str, target: str) -> Callable[[], object]:
        import duckdb

        connection = duckdb.connect(config={"threads": threads})
        select = EXPAND.replace("?", f"'{source}'")
        return lambda: connection.execute(
            f"COPY ({select}) TO '{target}/out.parquet' (FORMAT parquet, COMPRESSION zstd)"
        )

    return make


def polars(source: str, target: str) -> Callable[[], object]:
    """Return what makes Polars write the file."""
    import polars as pl

    schema = {
        "input": pl.Struct({"userId": pl.String}),
        "output": pl.Struct({"recommendedItems": pl.List(pl.String), "scores": pl.List(pl.Float64)}),
    }

    def work() -> None:
        lines = pl.read_ndjson(source, schema=schema)
        lines.select(
            user_id=pl.col("input").struct.field("userId"),
            rank=pl.int_ranges(1, pl.col("output").struct.field("recommendedItems").list.len() + 1),
            item_id=pl.col("output").struct.field("recommendedItems"),
            score=pl.col("output").struct.field("scores"),
        ).explode("rank", "item_id", "score").write_parquet(f"{target}/out.parquet", compression="zstd")

    return work


WAYS: dict[str, Callable[[str, str], Callable[[], object]]] = {
    "DuckDB, 1 thread": duckdb(1),
    "ours": ours,
    "DuckDB, 2 threads": duckdb(2),
    "Polars": polars,
}


def parquet(folder: Path, runs: int, scale: float, environment: dict[str, str]) -> bool:
    """Measure the ways to write short lines; tell whether ours keeps within its bounds."""
    source, _ = write_lines(folder, scale)
    ways = [way for way in WAYS if way != "Polars" or find_spec("polars")]
    if len(ways) < len(WAYS):
        print("Polars is not measured: it is not installed (pip install polars)")
    found: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    for _ in range(runs):
        for way in ways:
            target = Path(tempfile.mkdtemp(dir=folder))
            found[way].append(run_alone(__file__, "--way", way, str(source), str(target), environment=environment))
    kept = True
    yardstick = [one["seconds"] for one in found["DuckDB, 1 thread"]]
    for way, figures in found.items():
        taken = [one["seconds"] for one in figures]
        ratios = [one / other for one, other in zip(taken, yardstick, strict=True)]
        ratio, memory = statistics.median(ratios), max(one["memory"] for one in figures)
        bounds = f" (bounds {BOUND_RATIO}, {BOUND_MEMORY} MB)" if way == "ours" else ""
        print(
            f"{way}: {statistics.median(taken):.2f} s, CPU {statistics.median(one['cpu'] for one in figures):.2f} s, "
            f"ratio {ratio:.2f} ({min(ratios):.2f} to {max(ratios):.2f}), memory {memory:.0f} MB, "
            f"file {figures[0]['bytes'] / 1e6:.1f} MB{bounds}",
            flush=True,
        )
        if way == "ours":
            kept = ratio <= BOUND_RATIO and memory <= BOUND_MEMORY
    return kept


def giant(folder: Path, runs: int, scale: float, environment: dict[str, str]) -> bool:
    """Measure one line of 5,000,000 users, which the others hold in memory as a whole."""
    source, _ = write_giants(folder, scale)
    figures = []
    for _ in range(runs):
        target = Path(tempfile.mkdtemp(dir=folder))
        figures.append(run_alone(__file__, "--way", "ours", str(source), str(target), environment=environment))
    memory = max(one["memory"] for one in figures)
    seconds = statistics.median(one["seconds"] for one in figures)
    print(f"a giant line, ours: {seconds:.2f} s, memory {memory:.0f} MB (bound {BOUND_MEMORY} MB)", flush=True)
    return memory <= BOUND_MEMORY


def measure_way(way: str, source: str, target: str) -> None:
    """Write the file in one way, and print the figures."""
    work = WAYS[way](source, target)
    begun = time.process_time()
    figures = measured(work)
    figures["cpu"] = time.process_time() - begun
    figures["bytes"] = sum(path.stat().st_size for path in Path(target).glob("*.parquet"))
    print(json.dumps(figures))


def iceberg(folder: Path, runs: int, scale: float, environment: dict[str, str]) -> bool:
    """Measure commits."""
    source, _ = write_lines(folder, scale)
    for where in ("files", "glue"):
        taken = [
            run_alone(__file__, "--commit", where, str(source), tempfile.mkdtemp(dir=folder), environment=environment)
            for _ in range(runs)
        ]
        first, again = (statistics.median(one[name] for one in taken) for name in ("created", "replaced"))
        print(f"Iceberg, {where}: the table and its rows {first:.2f} s, in place of as many {again:.2f} s", flush=True)
    return True


def measure_commit(where: str, source: str, target: str) -> None:
    """Publish a file in a table that is not there, then another one in its place, and print the seconds."""
    import boto3
    from moto.server import ThreadedMotoServer

    from airflow_provider_personalize.transfers.personalize_to_iceberg import PersonalizeToIcebergOperator
    from airflow_provider_personalize.transfers.personalize_to_parquet import PersonalizeToParquetOperator

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    lake = Path(target).as_uri()
    extra: dict[str, Any] = {"type": "sql", "uri": f"sqlite:///{target}/catalog.db", "warehouse": f"{lake}/warehouse"}
    if where == "glue":
        server.start()
        endpoint = "http://{}:{}".format(*server.get_host_and_port())
        os.environ |= {"AWS_ENDPOINT_URL": endpoint, "AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"}
        os.environ["AWS_DEFAULT_REGION"] = "us-east-1"
        boto3.client("s3").create_bucket(Bucket="lake")
        lake = "s3://lake"
        extra = {"type": "glue", "warehouse": "s3://lake/warehouse", "glue.endpoint": endpoint, "s3.endpoint": endpoint}
        extra |= {"client.access-key-id": "x", "client.secret-access-key": "x", "client.region": "us-east-1"}
    os.environ["AIRFLOW_CONN_LAKE"] = json.dumps({"conn_type": "iceberg", "extra": extra})

    def commit(version: str, table: str = "lake.recs") -> float:
        loads = PersonalizeToParquetOperator(
            task_id="export",
            output_uri=Path(source).as_uri(),
            target_uri=f"{lake}/{version}/",
            extra_columns={"version": "1"},
            aws_conn_id=None,
        ).execute({})
        operator = PersonalizeToIcebergOperator(
            task_id="publish", loads=loads, iceberg_conn_id="lake", table=table, aws_conn_id=None
        )
        return measured(lambda: operator.execute({}))["seconds"]

    # Imports are not measured.
    commit("warm", "lake.warm")
    print(json.dumps({"created": commit("first"), "replaced": commit("second")}))
    if where == "glue":
        server.stop()


CASES = {"parquet": parquet, "giant": giant, "iceberg": iceberg}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="times as many lines")
    parser.add_argument("--way", nargs=3, metavar=("WAY", "SOURCE", "TARGET"), help=argparse.SUPPRESS)
    parser.add_argument("--commit", nargs=3, metavar=("WHERE", "SOURCE", "TARGET"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.way:
        measure_way(*arguments.way)
        return
    if arguments.commit:
        measure_commit(*arguments.commit)
        return
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        environment = airflow_environment(folder)
        kept = [CASES[case](folder, arguments.runs, arguments.scale, environment) for case in arguments.cases]
    sys.exit(0 if all(kept) else 1)


if __name__ == "__main__":
    main()
