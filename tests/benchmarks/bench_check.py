"""
How fast ``validate_input="whole"`` goes through a job's input, beside a plain read of the same objects.

    python tests/benchmarks/bench_check.py [--lines 50000000] [--runs 3]

As many lines as a job takes, in files of 1,000,000, over HTTP from ``s3_files.py`` in another process. The yardstick
reads the same objects through the same client and looks at nothing. Figures are medians; memory is the peak over what
the imports take.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path

from support import airflow_environment, measured, run_alone, serve_files

from example_dags.demo.processes import Processes

INPUT_URI = "s3://bench/input/"
LINES_IN_FILE = 1_000_000
#: The most memory over the imports, in MB.
MEMORY_BOUND = 150.0


def write_files(folder: Path, lines: int) -> int:
    """Write the input, and return its bytes."""
    folder.mkdir()
    text = "".join(f'{{"userId":"{number}"}}\n' for number in range(100_000, 1_000_000))
    text += "".join(f'{{"userId":"{number}"}}\n' for number in range(100_000, 200_000))
    for number in range(lines // LINES_IN_FILE):
        (folder / f"part-{number:05}.json").write_text(text)
    return len(text) * (lines // LINES_IN_FILE)


def measure(what: str) -> None:
    """Read, or check, all of it once, in this process, and print seconds and memory."""
    import boto3

    from airflow_provider_personalize.input.validation import InputCheck
    from airflow_provider_personalize.operators.preflight import _check_lines, _check_objects
    from airflow_provider_personalize.s3.download import read_objects
    from airflow_provider_personalize.s3.objects import list_objects
    from airflow_provider_personalize.service.recipes import find_recipe
    from airflow_provider_personalize.uris import parse_s3_uri

    client = boto3.client("s3")
    check = InputCheck(find_recipe("arn:aws:personalize:::recipe/aws-user-personalization-v2"))

    def read_all() -> None:
        for _, blocks in read_objects(lambda: client, list_objects(client, parse_s3_uri(INPUT_URI))):
            for _ in blocks:
                pass

    request = {
        "jobInput": {"s3DataSource": {"path": INPUT_URI}},
        "jobOutput": {"s3DataDestination": {"path": "s3://bench/output/"}},
    }

    def check_all() -> None:
        _check_lines(client, check, _check_objects(client, check, request, whole=True), whole=True)
        check.raise_for_problems()

    print(json.dumps(measured(read_all if what == "read" else check_all) | {"lines": check.lines}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=50_000_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--measure", choices=("read", "check"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(arguments.measure)
        return
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        size = write_files(folder / "input", arguments.lines)
        processes = Processes(folder / "logs", os.environ)
        try:
            environment = airflow_environment(folder) | serve_files(processes, folder)
            figures: dict[str, list[dict[str, float]]] = {"read": [], "check": []}
            for _ in range(arguments.runs):
                for what, found in figures.items():
                    found.append(run_alone(__file__, "--measure", what, environment=environment))
        finally:
            processes.close()
    seconds = {what: statistics.median(one["seconds"] for one in found) for what, found in figures.items()}
    memory = max(one["memory"] for one in figures["check"])
    lines = figures["check"][0]["lines"]
    print(
        f"{lines:,.0f} lines, {size / 1e6:,.0f} MB: read {seconds['read']:.1f} s, checked {seconds['check']:.1f} s "
        f"({size / 1e6 / seconds['check']:.0f} MB/s, {seconds['check'] / lines * 1e9:.0f} ns a line), "
        f"memory {memory:.0f} MB (bound {MEMORY_BOUND:.0f})"
    )
    sys.exit(0 if memory <= MEMORY_BOUND else 1)


if __name__ == "__main__":
    main()
