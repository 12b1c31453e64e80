"""
How fast interactions become a dataset's CSV on S3, beside psql that writes the same rows to a file.

    python tests/benchmarks/bench_dataset.py [--rows 10000000] [--runs 3]

The yardstick is ``psql \\copy (SELECT …) TO file (FORMAT csv)``, which checks nothing. Ours is
``SqlToPersonalizeDatasetOperator.execute`` over HTTP to ``s3_files.py`` in another process, connections and uploads
included, imports not. Both read the same table of a PostgreSQL server on this machine, in turns; figures are medians.
``--driver`` measures the way of all other databases, too, where the driver makes the rows: it has no bound.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from support import airflow_environment, measured, run_alone, serve_files

from example_dags.demo.postgres import Postgres
from example_dags.demo.processes import Processes

#: The most times as long as psql, and the most memory beyond the imports, in MB.
BOUNDS = {"ratio": 1.5, "memory": 150.0}
TABLE = """
    CREATE TABLE events AS
    SELECT 'user-' || (i::bigint * 7919) % 100000 AS user_id, 'item-' || (i::bigint * 31) % 5000 AS item_id,
        to_timestamp(1600000000 + i % 100000000) AS at, 'watch'::text AS event_type
    FROM generate_series(1, {rows}) i;
"""
REFERENCE = "SELECT user_id, item_id, extract(epoch FROM at)::bigint, event_type FROM events"
OURS = "SELECT user_id, item_id, at AS timestamp, event_type FROM events"
SCHEMA = {
    "type": "record",
    "name": "Interactions",
    "namespace": "com.amazonaws.personalize.schema",
    "fields": [
        {"name": "USER_ID", "type": "string"},
        {"name": "ITEM_ID", "type": "string"},
        {"name": "TIMESTAMP", "type": "long"},
        {"name": "EVENT_TYPE", "type": "string"},
    ],
    "version": "1.0",
}


def measure_ours(*, driver: bool) -> None:
    """Run the operator once, in this process, and print its seconds and its memory."""
    from airflow_provider_personalize.sql import dataset_copy
    from airflow_provider_personalize.transfers.sql_to_personalize import SqlToPersonalizeDatasetOperator

    if driver:
        dataset_copy.csv_expressions = lambda rows, oids: None

    def operator(sql: str, folder: str) -> SqlToPersonalizeDatasetOperator:
        return SqlToPersonalizeDatasetOperator(
            task_id=folder,
            sql=sql,
            sql_conn_id="bench",
            s3_uri=f"s3://bench-data/{folder}/",
            schema=SCHEMA,
            aws_conn_id=None,
        )

    # A small one first: the imports are what it is made for.
    operator(f"{OURS} LIMIT 200000", "warm").execute({})
    whole = operator(OURS, "in")
    print(json.dumps(measured(lambda: whole.execute({}))))


def run_psql(uri: str, target: Path) -> float:
    started = time.perf_counter()
    subprocess.run(["psql", uri, "-qXc", f"\\copy ({REFERENCE}) TO '{target}' (FORMAT csv)"], check=True)
    return time.perf_counter() - started


def bench(rows: int, runs: int, folder: Path, *, driver: bool) -> bool:
    processes = Processes(folder / "logs", os.environ)
    try:
        server = Postgres(folder / "data", processes).start()
        bucket = folder / "bucket"
        bucket.mkdir()
        s3 = serve_files(processes, bucket)
        database = server.create()
        database.execute(TABLE.format(rows=rows))
        environment = airflow_environment(folder) | s3 | {"AIRFLOW_CONN_BENCH": database.uri}
        kept = True
        for name in ["by the server", *(["by the driver"] if driver else [])]:
            psql, figures = [], []
            arguments = ["--ours", *(["--driver"] if name == "by the driver" else [])]
            for _ in range(runs):
                psql.append(run_psql(database.uri, folder / "reference.csv"))
                figures.append(run_alone(__file__, *arguments, environment=environment))
                compare(folder / "reference.csv", bucket / "in")
                shutil.rmtree(bucket)
                bucket.mkdir()
            yardstick = statistics.median(psql)
            seconds = statistics.median(figure["seconds"] for figure in figures)
            memory = statistics.median(figure["memory"] for figure in figures)
            ratio = seconds / yardstick
            kept &= (ratio <= BOUNDS["ratio"] or name == "by the driver") and memory <= BOUNDS["memory"]
            print(
                f"{rows:,} interactions, written {name}: psql {yardstick:.2f} s, ours {seconds:.2f} s, ratio "
                f"{ratio:.2f} (bound {BOUNDS['ratio']}), peak memory over imports {memory:.0f} MB (bound "
                f"{BOUNDS['memory']:.0f})"
            )
        return kept
    finally:
        processes.close()


def compare(reference: Path, written: Path) -> None:
    """Make sure that both hold the same rows."""
    parts = sorted(written.iterdir())
    size = sum(part.stat().st_size for part in parts) - len(parts) * len("USER_ID,ITEM_ID,TIMESTAMP,EVENT_TYPE\n")
    if size != reference.stat().st_size:
        raise SystemExit(f"Expected the {reference.stat().st_size:,} bytes that psql wrote, got {size:,}.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--driver", action="store_true", help="measure the rows that the driver makes, too")
    parser.add_argument("--ours", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.ours:
        measure_ours(driver=arguments.driver)
        return
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        Path(folder).chmod(0o755)
        sys.exit(0 if bench(arguments.rows, arguments.runs, Path(folder), driver=arguments.driver) else 1)


if __name__ == "__main__":
    main()
