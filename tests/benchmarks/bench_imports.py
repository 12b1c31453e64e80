"""
What the import of the operators costs a DAG file, on top of Airflow and the Amazon provider's base classes.

    python tests/benchmarks/bench_imports.py [--runs 9] [--against ANOTHER_CHECKOUT]

Each import is a process of its own, by turns; times are those of the CPU, medians of the runs, with bytecode that is
compiled. ``--against`` measures the same modules of another checkout of this repository in the same turns; those that
it lacks are left out there.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from support import airflow_environment

ROOT = Path(__file__).parents[2]
#: What a DAG file imports, by what it is for.
IMPORTS = {
    "input, job, wait, load": [
        "transfers.sql_to_personalize",
        "operators.batch",
        "sensors.batch",
        "transfers.personalize_to_sql",
    ],
    "the output check": ["operators.output_check"],
    "import, training, resources": ["operators.data", "operators.training", "operators.resources", "sensors.resources"],
    "further targets": [
        "transfers.personalize_to_parquet",
        "transfers.personalize_to_iceberg",
        "transfers.personalize_to_dynamodb",
        "transfers.personalize_delta",
    ],
}
CHILD = """
import importlib, json, sys, time
import airflow.providers.common.sql.hooks.sql
from airflow.providers.amazon.aws.operators.base_aws import AwsBaseOperator
from airflow.providers.amazon.aws.sensors.base_aws import AwsBaseSensor
try:
    from airflow.sdk import DAG
except ImportError:
    from airflow import DAG
before, begun = len(sys.modules), time.process_time()
try:
    for name in sys.argv[1:]:
        importlib.import_module(f"airflow_provider_personalize.{name}")
except ModuleNotFoundError:
    print("null")
else:
    print(json.dumps([time.process_time() - begun, len(sys.modules) - before]))
"""


def measure(root: Path, names: list[str], environment: dict[str, str]) -> list[float] | None:
    """Return the CPU in seconds and the number of modules; None where the checkout lacks one of them."""
    command = [sys.executable, "-c", CHILD, *names]
    found = environment | {"PYTHONPATH": str(root)}
    output = subprocess.run(command, env=found, capture_output=True, text=True, check=True, cwd=root).stdout
    figures: list[float] | None = json.loads(output.splitlines()[-1])
    return figures


def main() -> None:
    """Print the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--against", type=Path, help="another checkout")
    arguments = parser.parse_args()
    roots = {"this checkout": ROOT} | ({"the other": arguments.against.resolve()} if arguments.against else {})
    with tempfile.TemporaryDirectory() as folder:
        environment = airflow_environment(Path(folder))
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        for what, names in IMPORTS.items():
            found: dict[str, list[list[float]]] = {which: [] for which in roots}
            # The first round compiles.
            for turn in range(arguments.runs + 1):
                for which, root in roots.items():
                    figures = measure(root, names, environment)
                    if turn and figures:
                        found[which].append(figures)
            for which, measured in found.items():
                if measured:
                    seconds = statistics.median(one[0] for one in measured)
                    print(f"{what}, {which}: {seconds * 1000:.0f} ms of CPU, {measured[0][1]:.0f} modules", flush=True)


if __name__ == "__main__":
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    main()
