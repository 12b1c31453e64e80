"""
How fast output becomes rows of PostgreSQL, beside psql that copies the same rows, already expanded, from CSV.

    python tests/benchmarks/bench_load.py [--cases lines giant …] [--runs 3] [--scale 1.0] [--uri postgresql://…]

Ours is ``PersonalizeToSqlOperator.execute``, connection and commit included, imports not, in a process of its own; its
memory is the peak over what the imports take. The yardstick is a psql process. Both take turns at the same server: the
one at ``--uri``, or an embedded one. Figures are medians of the runs, and of the ratios of each pair.

Two kinds of case are not ours, but tell what ours is worth: ``binary`` is psql with the same rows already in
PostgreSQL's binary format, which is all that the server can take in one stream; others are those of ``load_peers.py``.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from support import airflow_environment, measured, run_alone, serve_files

from example_dags.demo.postgres import Postgres
from example_dags.demo.processes import Processes

PEERS = ("duckdb-pgpq", "duckdb-adbc", "polars-csv")
ROW = "user_id text, rank int, item_id text, score double precision"
SEGMENT = "segment text, rank int, user_id text"
KEYED = "CREATE TABLE {table} (" + ROW + ", PRIMARY KEY (user_id, rank))"


def write_lines(folder: Path, scale: float) -> tuple[Path, Path]:
    """Write 200,000 lines of 25 recommendations with scores, and the same as 5,000,000 rows."""
    source, expanded = folder / "lines.out", folder / "lines.csv"
    draw = random.Random(1)
    items = [str(draw.randrange(1, 100_000)) for _ in range(20_000)]
    with source.open("w") as out, expanded.open("w", newline="") as rows:
        writer = csv.writer(rows)
        for user in range(int(200_000 * scale)):
            picked = draw.sample(items, 25)
            scores = sorted((round(draw.random() / 20, 7) for _ in picked), reverse=True)
            line = {
                "input": {"userId": str(user)},
                "output": {"recommendedItems": picked, "scores": scores},
                "error": None,
            }
            out.write(json.dumps(line, separators=(",", ":")) + "\n")
            writer.writerows(
                (user, rank, item, score) for rank, (item, score) in enumerate(zip(picked, scores, strict=True), 1)
            )
    return source, expanded


def write_giants(folder: Path, scale: float) -> tuple[Path, Path]:
    """Write one line of 5,000,000 users (for each 1.0 of the scale), and the same as rows."""
    source, expanded = folder / "giant.out", folder / "giant.csv"
    draw = random.Random(2)
    with source.open("w") as out, expanded.open("w", newline="") as rows:
        writer = csv.writer(rows)
        for segment in range(max(1, int(scale))):
            users = [f"A{draw.randrange(10**9):X}" for _ in range(int(5_000_000 * min(scale, 1.0)))]
            line = {"input": {"itemId": f"B{segment}"}, "output": {"usersList": users}, "error": None}
            out.write(json.dumps(line) + "\n")
            writer.writerows((f"B{segment}", rank, user) for rank, user in enumerate(users, 1))
    return source, expanded


COPY = "\\copy {table} FROM '{csv}' (FORMAT csv)"
COPY_BINARY = "\\copy {table} FROM '{csv}.binary' (FORMAT binary)"
MERGE = (
    "BEGIN",
    f"CREATE TEMP TABLE stage ({ROW}) ON COMMIT DROP",
    "\\copy stage FROM '{csv}' (FORMAT csv)",
    "ANALYZE stage",
    "DELETE FROM {table} WHERE user_id IN (SELECT user_id FROM stage)",
    "INSERT INTO {table} SELECT * FROM stage",
    "COMMIT",
)


@dataclass(frozen=True)
class Case:
    """
    One thing to measure.

    :param what: What is loaded, in words.
    :param write: Writes the output and the CSV file.
    :param table: The statement that makes the table.
    :param reference: What psql is given.
    :param bound: The most times as long as psql.
    :param memory: The most memory over the imports, in MB.
    :param filled: Whether the table holds the same rows before.
    :param s3: Whether the output comes over HTTP, from ``s3_files.py`` in another process.
    :param arguments: Further arguments of the operator.
    :param instead: Who does it instead of the operator: ``psql``, or one of ``load_peers.py``.
    """

    what: str
    write: Callable[[Path, float], tuple[Path, Path]]
    table: str
    reference: tuple[str, ...]
    bound: float | None
    memory: float | None
    filled: bool = False
    s3: bool = False
    arguments: dict[str, Any] = field(default_factory=dict)
    instead: str | None = None


PLAIN = f"CREATE TABLE {{table}} ({ROW})"
CASES = {
    "lines": Case("short lines", write_lines, PLAIN, (COPY,), 0.80, 150),
    "s3": Case("short lines from S3", write_lines, PLAIN, (COPY,), 0.88, 150, s3=True),
    "giant": Case("giant lines", write_giants, f"CREATE TABLE {{table}} ({SEGMENT})", (COPY,), 1.07, 100),
    "replace": Case(
        "replace of as many rows",
        write_lines,
        PLAIN,
        ("BEGIN", "DELETE FROM {table}", COPY, "COMMIT"),
        2.0,
        150,
        filled=True,
    ),
    "key": Case("a table with a primary key", write_lines, KEYED, (COPY,), 2.0, 150),
    "merge": Case("merge into as many rows", write_lines, PLAIN, MERGE, 2.0, 150, True, False, {"write_mode": "merge"}),
    "merge-key": Case(
        "merge, with a primary key", write_lines, KEYED, MERGE, 2.0, 150, True, False, {"write_mode": "merge"}
    ),
    "binary": Case("rows in binary format", write_lines, PLAIN, (COPY,), None, None, instead="psql"),
    **{name: Case(name, write_lines, PLAIN, (COPY,), None, None, instead=name) for name in PEERS},
}


def measure_peer(name: str, path: str, uri: str) -> None:
    """Run a peer once, in this process, and print its seconds and its memory."""
    import load_peers

    for module in ("adbc_driver_postgresql.dbapi", "duckdb", "pgpq", "polars", "psycopg", "pyarrow"):
        with suppress(ImportError):
            import_module(module)
    print(json.dumps(measured(lambda: load_peers.PEERS[name](path, uri))))


def measure_ours(arguments: dict[str, Any]) -> None:
    """Run the operator once, in this process, and print its seconds and its memory."""
    import msgspec  # noqa: F401 - what the load would import
    import numpy  # noqa: F401
    from airflow.providers.postgres.hooks.postgres import PostgresHook

    from airflow_provider_personalize.targets.sql.postgres import PostgresTarget  # noqa: F401
    from airflow_provider_personalize.transfers.personalize_to_sql import PersonalizeToSqlOperator

    operator = PersonalizeToSqlOperator(task_id="bench", sql_conn_id="bench", aws_conn_id=None, **arguments)
    PostgresHook("bench").get_conn().close()
    if arguments["output_uri"].startswith("s3:"):
        # One that is thrown away: the imports are what it is made for.
        operator.hook.s3_client()
    print(json.dumps(measured(lambda: operator.execute({}))))


class Bench:
    """
    The server, the files, and what measures.

    :param uri: The database's URI.
    :param folder: Where the files are.
    :param environment: What our process gets.
    """

    def __init__(self, uri: str, folder: Path, environment: dict[str, str]) -> None:
        self.uri = uri
        self.folder = folder
        self.environment = environment
        self.files: dict[Any, tuple[Path, Path]] = {}

    def psql(self, *commands: str) -> float:
        """Run commands in one session; give its seconds."""
        started = time.perf_counter()
        options = [part for command in commands for part in ("-c", command)]
        subprocess.run(["psql", self.uri, "-qXo", os.devnull, "-v", "ON_ERROR_STOP=1", *options], check=True)
        return time.perf_counter() - started

    def prepare(self, case: Case, expanded: Path, table: str) -> None:
        """Make the table anew."""
        self.psql(f"DROP TABLE IF EXISTS {table}", case.table.format(table=table))
        if case.filled:
            self.psql(COPY.format(table=table, csv=expanded))
        self.psql(f"VACUUM ANALYZE {table}", "CHECKPOINT")

    def contender(self, case: Case, source: Path, expanded: Path, uri: str) -> dict[str, float]:
        """Fill the table ``loaded`` in the way that the case measures; give its figures."""
        if case.instead == "psql":
            binary = COPY_BINARY.format(table="reference", csv=expanded).replace("FROM", "TO")
            if not Path(f"{expanded}.binary").exists():
                self.psql(binary)
            return {"seconds": self.psql(COPY_BINARY.format(table="loaded", csv=expanded)), "memory": 0}
        if case.instead:
            return run_alone(__file__, "--peer", case.instead, str(source), self.uri, environment=self.environment)
        arguments = {"output_uri": uri, "table": "loaded", **case.arguments}
        return run_alone(__file__, "--ours", json.dumps(arguments), environment=self.environment)

    def run(self, case: Case, runs: int, scale: float) -> bool:
        """Measure one case and print it; tell whether it keeps within its bounds."""
        if case.write not in self.files:
            self.files[case.write] = case.write(self.folder, scale)
        source, expanded = self.files[case.write]
        uri = f"s3://bench-output/{source.name}" if case.s3 else source.as_uri()
        psql, ours = [], []
        for _ in range(runs):
            self.prepare(case, expanded, "reference")
            psql.append(self.psql(*(text.format(table="reference", csv=expanded) for text in case.reference)))
            self.prepare(case, expanded, "loaded")
            ours.append(self.contender(case, source, expanded, uri))
        digests = (f"(SELECT sum(hashtextextended(r::text, 0)) FROM {table} r)" for table in ("reference", "loaded"))
        self.psql(f"SELECT 1 / ({' = '.join(digests)})::int")
        ratios = [one["seconds"] / other for one, other in zip(ours, psql, strict=True)]
        ratio = statistics.median(ratios)
        seconds = statistics.median(one["seconds"] for one in ours)
        memory = max(one["memory"] for one in ours)
        with expanded.open("rb") as file:
            rows = sum(1 for _ in file)
        print(
            f"{case.what}: {rows:,} rows, {source.stat().st_size / 1e6:,.0f} MB: "
            f"psql {statistics.median(psql):.2f} s, {case.instead or 'ours'} {seconds:.2f} s "
            f"({rows / seconds / 1e6:.2f} M rows/s), ratio {ratio:.2f} ({min(ratios):.2f} to {max(ratios):.2f}"
            + (f"; bound {case.bound:.2f}), " if case.bound else "), ")
            + f"memory {memory:.0f} MB"
            + (f" (bound {case.memory:.0f})" if case.memory else ""),
            flush=True,
        )
        return ratio <= (case.bound or ratio) and memory <= (case.memory or memory)


@contextmanager
def servers(folder: Path, uri: str | None, *, s3: bool) -> Iterator[tuple[str, dict[str, str]]]:
    """Run what is needed; gives the database's URI, and the environment that leads to S3."""
    processes = Processes(folder / "logs", os.environ)
    try:
        if uri is None:
            uri = Postgres(folder / "data", processes).start().create().uri
        yield uri, serve_files(processes, folder) if s3 else {}
    finally:
        processes.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--cases", nargs="+", choices=CASES, default=[name for name, case in CASES.items() if case.instead not in PEERS]
    )
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="times as many lines")
    parser.add_argument("--uri", help="a database to measure with; tables reference and loaded are made in it")
    parser.add_argument("--ours", metavar="JSON", help=argparse.SUPPRESS)
    parser.add_argument("--peer", nargs=3, metavar=("NAME", "PATH", "URI"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.ours:
        measure_ours(json.loads(arguments.ours))
        return
    if arguments.peer:
        measure_peer(*arguments.peer)
        return
    cases = [CASES[name] for name in arguments.cases]
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        with servers(folder, arguments.uri, s3=any(case.s3 for case in cases)) as (uri, s3):
            environment = airflow_environment(folder) | s3 | {"AIRFLOW_CONN_BENCH": uri}
            bench = Bench(uri, folder, environment)
            kept = [bench.run(case, arguments.runs, arguments.scale) for case in cases]
    sys.exit(0 if all(kept) else 1)


if __name__ == "__main__":
    main()
