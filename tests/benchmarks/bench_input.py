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
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from example_dags.demo.postgres import Postgres, free_port
from example_dags.demo.processes import Processes

#: The most times as long as psql, and the most memory beyond the imports, in MB.
BOUNDS = {"ratio": 1.5, "memory_mb": 150.0}
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
    # What a worker has imported anyway, before the first byte.
    operator.hook.get_conn()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    operator.execute({})
    seconds = time.perf_counter() - started
    memory_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / 1e6
    print(json.dumps({"seconds": seconds, "memory_mb": memory_mb}))


def run_ours(sql: str, environment: dict[str, str]) -> dict[str, float]:
    command = [sys.executable, __file__, "--ours", sql]
    output = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    figures: dict[str, float] = json.loads(output.splitlines()[-1])
    return figures


def run_psql(uri: str, sql: str, target: Path) -> float:
    started = time.perf_counter()
    subprocess.run(["psql", uri, "-qXc", f"\\copy ({sql}) TO '{target}'"], check=True)
    return time.perf_counter() - started


def bench(rows: int, runs: int, folder: Path) -> bool:
    processes = Processes(folder / "logs", os.environ)
    try:
        port = free_port()
        endpoint = f"http://127.0.0.1:{port}"
        server = Postgres(folder / "data", processes).start()
        bucket = folder / "bucket"
        bucket.mkdir()
        command = [sys.executable, str(Path(__file__).with_name("s3_files.py")), str(bucket), str(port)]
        processes.start("s3", command).wait_until(lambda: _answers(f"{endpoint}/bench-input"))
        database = server.create()
        database.execute(TABLE.format(rows=rows))
        environment = os.environ | {
            "AIRFLOW_HOME": str(folder / "airflow"),
            "AIRFLOW_CONN_BENCH": database.uri,
            "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ACCESS_KEY_ID": "bench",
            "AWS_SECRET_ACCESS_KEY": "bench",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
        }
        kept = True
        for name, (reference, ours) in QUERIES.items():
            psql, figures = [], []
            for _ in range(runs):
                psql.append(run_psql(database.uri, reference, folder / "reference.json"))
                figures.append(run_ours(ours, environment))
                with (bucket / "in" / "part-00000.json").open("rb") as written:
                    if (found := sum(1 for _ in written)) != rows:
                        raise SystemExit(f"Expected {rows} lines, got {found}.")
                shutil.rmtree(bucket)
                bucket.mkdir()
            yardstick = statistics.median(psql)
            seconds = statistics.median(figure["seconds"] for figure in figures)
            memory = statistics.median(figure["memory_mb"] for figure in figures)
            ratio = seconds / yardstick
            kept &= ratio <= BOUNDS["ratio"] and memory <= BOUNDS["memory_mb"]
            print(
                f"{rows:,} {name}: psql {yardstick:.2f} s, ours {seconds:.2f} s, ratio {ratio:.2f} (bound "
                f"{BOUNDS['ratio']}), peak memory over imports {memory:.0f} MB (bound {BOUNDS['memory_mb']:.0f})"
            )
        return kept
    finally:
        processes.close()


def _answers(endpoint: str) -> bool:
    try:
        urllib.request.urlopen(endpoint, timeout=1).close()
    except OSError:
        return False
    return True


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
