"""
What the plugin costs Airflow's API server: its start, its memory and another page, with the plugin and without it.

Run it with ``python -m tests.benchmarks.bench_ui``, and a number of rounds if 5 are too many. Each measurement is a
process of its own, by turns; times are those of the CPU, since others may use the machine.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile

ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 5
CHILD = """
import json, resource, sys, time
import airflow._shared.module_loading as loading
if sys.argv[1] == "without":
    real = loading.entry_points_with_dist
    loading.entry_points_with_dist = lambda group: (one for one in real(group) if one[0].name != "personalize")
begun = time.process_time()
from airflow.api_fastapi.app import create_app
app = create_app(apps="core")
started = time.process_time() - begun
assert ("airflow_provider_personalize.plugins.plugin" in sys.modules) is (sys.argv[1] == "with")
from starlette.testclient import TestClient
client = TestClient(app)
times = []
for _ in range(300):
    begun = time.process_time()
    assert client.get("/api/v2/version").status_code == 200
    times.append(time.process_time() - begun)
rss = [int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmRSS")][0]
print(json.dumps({"start": started, "memory": rss / 1024, "page": sorted(times)[150] * 1000}))
"""


def measure(which: str, environment: dict[str, str]) -> dict[str, float]:
    """Return what one start comes to: seconds, MB and milliseconds."""
    command = [sys.executable, "-c", CHILD, which]
    out = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    return dict(json.loads(out.splitlines()[-1]))


def main() -> None:
    """Print the medians."""
    with tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, "AIRFLOW_HOME": home, "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
        found: dict[str, list[dict[str, float]]] = {"with": [], "without": []}
        for _ in range(ROUNDS):
            for which, results in found.items():
                results.append(measure(which, environment))
    for which, results in found.items():
        values = {name: statistics.median(one[name] for one in results) for name in results[0]}
        start, memory, page = (values[name] for name in ("start", "memory", "page"))
        print(f"{which:8} start {start:.2f} s of CPU, memory {memory:.1f} MB, /api/v2/version {page:.2f} ms of CPU")


if __name__ == "__main__":
    main()
