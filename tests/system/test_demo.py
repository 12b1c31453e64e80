"""``make demo``, however it ends, leaves no process behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]


def processes_of(state: Path) -> list[str]:
    """Return the command lines of the processes that have to do with a folder, by their arguments or environment."""
    found = []
    for process in psutil.process_iter():
        try:
            belongings = [*process.cmdline(), *process.environ().values()]
        except (psutil.Error, OSError):
            continue
        if process.pid != os.getpid() and any(str(state) in text for text in belongings):
            found.append(" ".join(process.cmdline()))
    return found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda number: number.name)
def test_an_end_before_its_time_leaves_no_process(state: Path, number: signal.Signals) -> None:
    demo = subprocess.Popen(
        [sys.executable, "-m", "example_dags.demo.run", "demo", "--state", str(state)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        # PostgreSQL and the stand-in run by then, and Airflow is about to: its migration, or its first processes.
        deadline = time.monotonic() + 240
        while not any("airflow" in command for command in processes_of(state)):
            assert demo.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.2)
        demo.send_signal(number)
        code = demo.wait(180)
    finally:
        demo.kill()
        demo.wait()

    assert code == (-signal.SIGKILL if number == signal.SIGKILL else 128 + number)
    deadline = time.monotonic() + 120
    while (left := processes_of(state)) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert left == []


def test_a_second_one_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    import fcntl

    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        command = [sys.executable, "-m", "example_dags.demo.run", "demo", "--state", str(tmp_path)]
        second = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=180)
    assert second.returncode == 1
    assert f"Another demo is running in {tmp_path}" in second.stderr
