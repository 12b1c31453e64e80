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
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from bench_load import memory_in_kb, reset_peak_memory

from example_dags.demo.postgres import free_port
from example_dags.demo.processes import Processes

INPUT_URI = "s3://bench/input/"
LINES_IN_FILE = 1_000_000
#: The most memory over the imports, in MB.
MEMORY_BOUND = 150.0


def write_files(folder: Path, lines: int) -> int:
    """Write the input; give its bytes."""
    folder.mkdir()
    text = "".join(f'{{"userId":"{number}"}}\n' for number in range(100_000, 1_000_000))
    text += "".join(f'{{"userId":"{number}"}}\n' for number in range(100_000, 200_000))
    for number in range(lines // LINES_IN_FILE):
        (folder / f"part-{number:05}.json").write_text(text)
    return len(text) * (lines // LINES_IN_FILE)


def measure(what: str) -> None:
    """Read, or check, all of it once, in this process, and print seconds and memory."""
    import boto3

    from airflow_provider_personalize.batch.input import InputCheck
    from airflow_provider_personalize.batch.recipes import find_recipe
    from airflow_provider_personalize.naming import parse_s3_uri
    from airflow_provider_personalize.transfers.input_objects import _check_lines, _check_objects
    from airflow_provider_personalize.transfers.output_objects import list_objects, read_objects

    client = boto3.client("s3")
    before = reset_peak_memory()
    started = time.perf_counter()
    if what == "read":
        for _, blocks in read_objects(lambda: client, list_objects(client, parse_s3_uri(INPUT_URI))):
            for _ in blocks:
                pass
        lines = 0
    else:
        check = InputCheck(find_recipe("arn:aws:personalize:::recipe/aws-user-personalization-v2"))
        _check_lines(client, check, _check_objects(client, check, INPUT_URI, whole=True), whole=True)
        check.raise_for_problems()
        lines = check.lines
    seconds = time.perf_counter() - started
    print(json.dumps({"seconds": seconds, "memory": (memory_in_kb("VmHWM") - before) * 1024 / 1e6, "lines": lines}))


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
        port = free_port()
        environment = os.environ | {
            "AIRFLOW_HOME": str(folder / "airflow"),
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_ACCESS_KEY_ID": "bench",
            "AWS_SECRET_ACCESS_KEY": "bench",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        processes = Processes(folder / "logs", environment)
        try:
            server = [sys.executable, str(Path(__file__).with_name("s3_files.py")), str(folder), str(port)]
            processes.start("s3", server)
            time.sleep(1)
            figures: dict[str, list[dict[str, float]]] = {"read": [], "check": []}
            for _ in range(arguments.runs):
                for what, found in figures.items():
                    output = subprocess.run(
                        [sys.executable, __file__, "--measure", what],
                        env=environment,
                        check=True,
                        capture_output=True,
                        text=True,
                    ).stdout
                    found.append(json.loads(output.splitlines()[-1]))
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
