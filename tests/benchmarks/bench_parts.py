"""
How much sooner two tasks load a slice of a partitioned PostgreSQL table than one.

    python tests/benchmarks/bench_parts.py [--runs 3] [--scale 1.0] [--uri postgresql://…]

200,000 lines of 25 recommendations in two files, 5,000,000 rows. One task loads both into a table; or two, in processes
of their own that begin at the same moment, stage one each, and a third publishes them. All of it is
``PersonalizeToSqlOperator.execute``, connections and commits included, imports not. They take turns at the same server:
the one at ``--uri``, or an embedded one. Figures are medians of the runs, and of the ratios of each pair.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench_load import servers, write_lines
from support import airflow_environment

#: The most times as long as one task.
BOUND = 0.80
SLICE = {"write_mode": "replace_slice", "extra_columns": {"run_date": "2026-11-22"}}


class Task:
    """
    The operator in a process of its own, which waits until it is told to begin.

    :param arguments: The operator's.
    :param environment: What the process gets.
    """

    def __init__(self, arguments: dict[str, Any], environment: dict[str, str]) -> None:
        command = [sys.executable, __file__, "--ours", json.dumps(arguments)]
        self._process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout
        while self._process.stdout.readline().strip() != "ready":
            assert self._process.poll() is None, "it has ended"

    def begin(self) -> None:
        """Let it begin."""
        assert self._process.stdin
        print("go", file=self._process.stdin, flush=True)

    def result(self) -> dict[str, Any]:
        """Wait for it, and return when it ended and what the operator has returned."""
        output, _ = self._process.communicate()
        found: dict[str, Any] = json.loads(output.splitlines()[-1])
        return found


def run_task(arguments: dict[str, Any]) -> None:
    """Run the operator in this process, once the parent says so."""
    import msgspec  # noqa: F401 - what the load would import
    import numpy  # noqa: F401
    from airflow.providers.postgres.hooks.postgres import PostgresHook

    from airflow_provider_personalize.output import reader  # noqa: F401
    from airflow_provider_personalize.targets.sql import pgparts  # noqa: F401
    from airflow_provider_personalize.transfers.personalize_to_sql import PersonalizeToSqlOperator

    operator = PersonalizeToSqlOperator(task_id="bench", sql_conn_id="bench", aws_conn_id=None, **arguments)
    PostgresHook("bench").get_conn().close()
    print("ready", flush=True)
    sys.stdin.readline()
    done = operator.execute({})
    # The end of a process of Airflow's takes longer than publishing does.
    print(json.dumps({"ended": time.time(), "done": done}))


def timed(tasks: list[Task]) -> tuple[float, list[dict[str, Any]]]:
    """Let tasks begin together; return the seconds until the last one is done, and what they return."""
    started = time.time()
    for task in tasks:
        task.begin()
    found = [task.result() for task in tasks]
    return max(one["ended"] for one in found) - started, [one["done"] for one in found]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="times as many lines")
    parser.add_argument("--uri", help="a database to measure with; tables one and recs are made in it")
    parser.add_argument("--ours", metavar="JSON", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.ours:
        run_task(json.loads(arguments.ours))
        return
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        output = folder / "output"
        output.mkdir()
        source, expanded = write_lines(folder, arguments.scale)
        expanded.unlink()
        lines = source.read_text().splitlines(keepends=True)
        for number, half in enumerate((lines[: len(lines) // 2], lines[len(lines) // 2 :])):
            (output / f"{number}.json.out").write_text("".join(half))
        common = {**SLICE, "output_uri": f"{output.as_uri()}/"}
        ones, twos, published = [], [], []
        with servers(folder, arguments.uri, s3=False) as (uri, _):
            environment = airflow_environment(folder) | {"AIRFLOW_CONN_BENCH": uri}
            for _ in range(arguments.runs):
                clean = ("DROP TABLE IF EXISTS one, recs, personalize_loads", "CHECKPOINT")
                options = [part for command in clean for part in ("-c", command)]
                subprocess.run(["psql", uri, "-qX", *options], check=True, stderr=subprocess.DEVNULL)
                seconds, _ = timed([Task(common | {"table": "one"}, environment)])
                ones.append(seconds)
                subprocess.run(["psql", uri, "-qX", "-c", "CHECKPOINT"], check=True)
                tasks = [Task(common | {"table": "recs", "part": i, "parts": 2}, environment) for i in (0, 1)]
                seconds, parts = timed(tasks)
                last, [done] = timed([Task({**SLICE, "table": "recs", "loads": parts}, environment)])
                assert done["rows"] == sum(part["rows"] for part in parts)
                twos.append(seconds + last)
                published.append(last)
    ratio = statistics.median(two / one for one, two in zip(ones, twos, strict=True))
    one, two = statistics.median(ones), statistics.median(twos)
    last = statistics.median(published)
    print(
        f"{len(lines) * 25:,} rows: one task {one:.2f} s, two {two:.2f} s (of it {last:.3f} s to publish), "
        f"ratio {ratio:.2f} (bound {BOUND:.2f})"
    )
    sys.exit(0 if ratio <= BOUND else 1)


if __name__ == "__main__":
    main()
