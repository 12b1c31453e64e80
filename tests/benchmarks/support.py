"""What the benchmarks share: a process of its own for what is measured, its seconds and memory, and S3 for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from example_dags.demo.postgres import free_port
from example_dags.demo.processes import Processes


def measured(work: Callable[[], object]) -> dict[str, float]:
    """Call it, and return its seconds and the peak of memory above what was in use before, in MB."""
    # Linux forgets the peak that the imports have made.
    Path("/proc/self/clear_refs").write_text("5")
    before = _memory_in_kb("VmRSS")
    started = time.perf_counter()
    work()
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "memory": (_memory_in_kb("VmHWM") - before) * 1024 / 1e6}


def _memory_in_kb(name: str) -> int:
    status = Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith(name)))


def run_alone(script: str, *arguments: str, environment: Mapping[str, str]) -> dict[str, float]:
    """Run a benchmark's script in a process of its own, and give the figures that it prints in its last line."""
    command = [sys.executable, script, *arguments]
    output = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    figures: dict[str, float] = json.loads(output.splitlines()[-1])
    return figures


def airflow_environment(folder: Path) -> dict[str, str]:
    """Return an environment with an Airflow of its own, which is silent."""
    return {**os.environ, "AIRFLOW_HOME": str(folder / "airflow"), "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING"}


def _answers(url: str) -> bool:
    with urllib.request.urlopen(url, timeout=1) as answer:
        return bool(answer.status == 200)


def serve_files(processes: Processes, folder: Path) -> dict[str, str]:
    """Serve a folder as the objects of any bucket (``s3_files.py``), and return the environment that leads there."""
    port = free_port()
    endpoint = f"http://127.0.0.1:{port}"
    command = [sys.executable, Path(__file__).with_name("s3_files.py"), folder, str(port)]
    processes.start("s3", command).wait_until(lambda: _answers(f"{endpoint}/bucket"))
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "bench",
        "AWS_SECRET_ACCESS_KEY": "bench",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
    }
