"""
How fast a query's ids become input lines on S3, beside psql that writes the same lines to a file.

    python tests/benchmarks/bench_input.py [--rows 5000000] [--runs 3]

The yardstick is ``psql \\copy (SELECT row_to_json(…) …) TO file``: the server makes the JSON, and nothing is checked.
Ours is ``SqlToPersonalizeInputOperator.execute`` over HTTP to ``s3_files.py`` in another process, connections and
uploads included, imports not. Both read the same table of a PostgreSQL server on this machine, in turns; figures are
medians.
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
    CREATE TABLE users AS
    SELECT 'user-' || (i::bigint * 7919) % {rows} AS user_id, i::bigint * 7919 AS number
    FROM generate_series(1, {rows}) i;
"""
QUERIES = {
    "text ids": (
        'SELECT row_to_json(r) FROM (SELECT user_id AS "userId" FROM users) r',
        "SELECT user_id FROM users",
    ),
    "bigint ids": (
        'SELECT row_to_json(r) FROM (SELECT number::text AS "userId" FROM users) r',
        "SELECT number AS user_id FROM users",
    ),
}


def measure_ours(sql: str) -> None:
    """Run the operator once, in this process, and print its seconds and its memory."""
    from airflow_provider_personalize.transfers.sql_to_personalize import SqlToPersonalizeInputOperator

    operator = SqlToPersonalizeInputOperator(
        task_id="bench", sql=sql, sql_conn_id="bench", s3_uri="s3://bench-input/in/", aws_conn_id=None
    )
    # A small one first: the imports are what it is made for.
    SqlToPersonalizeInputOperator(
        task_id="warm", sql=f"{sql} LIMIT 1000", sql_conn_id="bench", s3_uri="s3://bench-input/warm/", aws_conn_id=None
    ).execute({})
    print(json.dumps(measured(lambda: operator.execute({}))))


def run_psql(uri: str, sql: str, target: Path) -> float:
    started = time.perf_counter()
    subprocess.run(["psql", uri, "-qXc", f"\\copy ({sql}) TO '{target}'"], check=True)
    return time.perf_counter() - started


def bench(rows: int, runs: int, folder: Path) -> bool:
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
        for name, (reference, ours) in QUERIES.items():
            psql, figures = [], []
            for _ in range(runs):
                psql.append(run_psql(database.uri, reference, folder / "reference.json"))
                figures.append(run_alone(__file__, "--ours", ours, environment=environment))
                with (bucket / "in" / "part-00000.json").open("rb") as written:
                    if (found := sum(1 for _ in written)) != rows:
                        raise SystemExit(f"Expected {rows} lines, got {found}.")
                shutil.rmtree(bucket)
                bucket.mkdir()
            yardstick = statistics.median(psql)
            seconds = statistics.median(figure["seconds"] for figure in figures)
            memory = statistics.median(figure["memory"] for figure in figures)
            ratio = seconds / yardstick
            kept &= ratio <= BOUNDS["ratio"] and memory <= BOUNDS["memory"]
            print(
                f"{rows:,} {name}: psql {yardstick:.2f} s, ours {seconds:.2f} s, ratio {ratio:.2f} (bound "
                f"{BOUNDS['ratio']}), peak memory over imports {memory:.0f} MB (bound {BOUNDS['memory']:.0f})"
            )
        return kept
    finally:
        processes.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--ours", metavar="SQL", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.ours:
        measure_ours(arguments.ours)
        return
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        Path(folder).chmod(0o755)
        sys.exit(0 if bench(arguments.rows, arguments.runs, Path(folder)) else 1)


if __name__ == "__main__":
    main()
