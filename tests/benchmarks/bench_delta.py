"""
How fast ``PersonalizeDeltaOperator`` finds what has changed, beside statements that are written by hand.

    python tests/benchmarks/bench_delta.py [--cases entities items …] [--runs 3] [--scale 1.0] [--uri postgresql://…]

5,000,000 rows against 5,000,000: 200,000 users with 25 items each, of whom one in a hundred has another item. Ours is
``execute``, connection and file included, imports not, in a process of its own; the yardstick is a psql process, which
is given the statement and prints the ids. Both take turns at the same server: the one at ``--uri``, or an embedded one.
Figures are medians of the runs, and of the ratios of each pair; memory is the peak over what the imports take.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from support import airflow_environment, measured, run_alone

from example_dags.demo.postgres import Postgres
from example_dags.demo.processes import Processes

NOW, BEFORE = "2026-11-22", "2026-11-21"
FILL = """
DROP TABLE IF EXISTS recs;
CREATE TABLE recs (user_id text, rank int, item_id text, score double precision, run_date date);
INSERT INTO recs SELECT u::text, r, (abs(hashint4(u * 31 + r)::bigint) % 100000)::text, 1.0 / r, '2026-11-21'
    FROM generate_series(1, {users}) u, generate_series(1, 25) r;
INSERT INTO recs SELECT user_id, rank, CASE WHEN hashtext(user_id) % 100 = 0 AND rank = 3 THEN 'x' || item_id
    ELSE item_id END, score * 0.9, '2026-11-22' FROM recs;
VACUUM ANALYZE recs;
CHECKPOINT
"""
HASH = f"""
SELECT user_id FROM recs WHERE run_date IN ('{NOW}', '{BEFORE}') GROUP BY user_id
HAVING sum(hashtextextended(item_id, rank)) FILTER (WHERE run_date = '{NOW}')
    IS DISTINCT FROM sum(hashtextextended(item_id, rank)) FILTER (WHERE run_date = '{BEFORE}')
"""
ARRAYS = f"""
SELECT coalesce(n.user_id, b.user_id)
FROM (SELECT user_id, array_agg(item_id ORDER BY rank) AS items FROM recs WHERE run_date = '{NOW}' GROUP BY 1) n
FULL JOIN (SELECT user_id, array_agg(item_id ORDER BY rank) AS items FROM recs WHERE run_date = '{BEFORE}' GROUP BY 1) b
USING (user_id) WHERE n.items IS DISTINCT FROM b.items
"""
JOIN = f"""
SELECT user_id, item_id FROM (SELECT user_id, item_id FROM recs WHERE run_date = '{NOW}') n
FULL JOIN (SELECT user_id, item_id FROM recs WHERE run_date = '{BEFORE}') b USING (user_id, item_id)
WHERE n.user_id IS NULL OR b.user_id IS NULL
"""


class Case(NamedTuple):
    """
    One thing to measure.

    :param what: What it is, in words.
    :param statement: What is written by hand.
    :param arguments: Further arguments of the operator.
    :param bound: The most times as long as the statement.
    """

    what: str
    statement: str
    arguments: dict[str, Any]
    bound: float | None = None


CASES = {
    "entities": Case("changed users, by hash", HASH, {}, 1.2),
    "exact": Case("changed users, by rows (by hand: array_agg)", ARRAYS, {"exact": True, "compare_scores": False}),
    "items": Case("new and gone items (by hand: FULL JOIN)", JOIN, {"what": "items"}),
    "first": Case("a first slice (by hand: COPY in order)", "", {"previous_columns": {"run_date": "2000-01-01"}}),
}
#: The most memory over the imports, in MB.
MEMORY_BOUND = 100.0


def measure_ours(arguments: dict[str, Any]) -> None:
    """Run the operator once, in this process, and print its seconds and its memory."""
    from airflow.providers.postgres.hooks.postgres import PostgresHook

    from airflow_provider_personalize.sql.postgres import PostgresTable  # noqa: F401 - what it would import
    from airflow_provider_personalize.transfers.personalize_delta import PersonalizeDeltaOperator

    operator = PersonalizeDeltaOperator(task_id="bench", sql_conn_id="bench", aws_conn_id=None, **arguments)
    PostgresHook("bench").get_conn().close()
    done: dict[str, Any] = {}
    figures = measured(lambda: done.update(operator.execute({})))
    print(json.dumps(figures | {name: done[name] for name in ("new", "changed", "gone")}))


def psql(uri: str, *commands: str) -> float:
    """Run commands in one session; return its seconds."""
    started = time.perf_counter()
    options = [part for command in commands for part in ("-c", command)]
    subprocess.run(["psql", uri, "-qAtXo", os.devnull, "-v", "ON_ERROR_STOP=1", *options], check=True)
    return time.perf_counter() - started


def run(case: Case, uri: str, folder: Path, runs: int) -> bool:
    """Measure one case and print it; return whether it keeps within its bounds."""
    arguments = {
        "table": "recs",
        "extra_columns": {"run_date": NOW},
        "previous_columns": {"run_date": BEFORE},
        "target_uri": (folder / "changes.jsonl").as_uri(),
    }
    environment = airflow_environment(folder) | {"AIRFLOW_CONN_BENCH": uri}
    statement = case.statement or f"SELECT * FROM recs WHERE run_date = '{NOW}' ORDER BY user_id COLLATE \"C\", rank"
    by_hand, ours = [], []
    for _ in range(runs):
        by_hand.append(psql(uri, statement))
        ours.append(run_alone(__file__, "--ours", json.dumps(arguments | case.arguments), environment=environment))
    ratios = [one["seconds"] / other for one, other in zip(ours, by_hand, strict=True)]
    ratio, memory = statistics.median(ratios), max(one["memory"] for one in ours)
    found = ", ".join(f"{name}: {ours[0][name]:,}" for name in ("new", "changed", "gone"))
    print(
        f"{case.what}: by hand {statistics.median(by_hand):.2f} s, ours "
        f"{statistics.median(one['seconds'] for one in ours):.2f} s, ratio {ratio:.2f} ({min(ratios):.2f} to "
        f"{max(ratios):.2f}{f'; bound {case.bound:.2f}' if case.bound else ''}), memory {memory:.0f} MB "
        f"(bound {MEMORY_BOUND:.0f}); {found}",
        flush=True,
    )
    return ratio <= (case.bound or ratio) and memory <= MEMORY_BOUND


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--scale", type=float, default=1.0, help="times as many users")
    parser.add_argument("--uri", help="a database to measure with; a table recs is made in it")
    parser.add_argument("--ours", metavar="JSON", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.ours:
        measure_ours(json.loads(arguments.ours))
        return
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        processes = Processes(folder / "logs", os.environ)
        try:
            uri = arguments.uri or Postgres(folder / "data", processes).start().create().uri
            psql(uri, *FILL.format(users=int(200_000 * arguments.scale)).split(";"))
            kept = [run(CASES[name], uri, folder, arguments.runs) for name in arguments.cases]
        finally:
            processes.close()
    sys.exit(0 if all(kept) else 1)


if __name__ == "__main__":
    main()
