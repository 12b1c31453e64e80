"""A task that publishes in an Iceberg table dies at any step: readers see what was there, or all of the load."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.integration.load_support import line
from tests.integration.test_personalize_to_iceberg import DAY, files_lake, publish

__all__ = ["files_lake"]

#: How many of the steps of each mode a task dies at, beside those around the commit.
TRIALS = 2


@pytest.fixture(scope="module")
def trials():
    """A function that publishes in a process which dies at a step, and returns how it has ended."""
    program = Path(__file__).with_name("iceberg_trials.py")
    root = str(Path(__file__).parents[2])
    with subprocess.Popen(
        [sys.executable, program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"PYTHONPATH": root},
    ) as process:

        def answer() -> str:
            """Return the next line that the program means for us: Airflow logs to the same place."""
            while not (told := process.stdout.readline()).startswith(("ready", "{")):
                assert told, "the program has ended"
            return told

        answer()

        def run(**trial: Any) -> dict[str, int]:
            trial["connection"] = os.environ["AIRFLOW_CONN_LAKE"]
            print(json.dumps(trial), file=process.stdin, flush=True)
            return json.loads(answer())

        yield run
        process.stdin.close()


@pytest.mark.parametrize("mode", ["replace", "replace_slice", "merge", "append"])
def test_a_death_at_any_step_changes_nothing_or_all(files_lake, output, trials, tmp_path, mode):
    files_lake.load(output, *(line(f"u{n}", "old", "older") for n in range(20)), extra_columns=DAY)
    files_lake.load(
        output,
        *(line(f"u{n}", "other") for n in range(20)),
        extra_columns={"run_date": "2026-11-23"},
        write_mode="append",
    )
    output.write(*(line(f"u{n}", "new") for n in range(0, 30, 3)))
    loads = files_lake.export(output, 2, extra_columns=DAY)
    before = files_lake.read()
    keep = tmp_path / "keep"
    for name in ("catalog.db", "warehouse"):
        (shutil.copytree if name == "warehouse" else shutil.copy)(tmp_path / name, _beside(keep, name))

    ended = trials(loads=loads, mode=mode, die_at=-1)
    assert ended["status"] == 0
    after, steps = files_lake.read(), ended["steps"]
    assert after != before

    seed = random.randrange(10**6)
    points = sorted({*random.Random(seed).sample(range(steps), min(steps, TRIALS)), steps - 2, steps - 1})
    for point in points:
        shutil.rmtree(tmp_path / "warehouse")
        shutil.copytree(keep / "warehouse", tmp_path / "warehouse")
        shutil.copy(keep / "catalog.db", tmp_path / "catalog.db")
        assert files_lake.read() == before
        seen: list[Any] = []
        over = threading.Event()
        reader = threading.Thread(target=_look, args=(files_lake, over, seen))
        reader.start()
        try:
            ended = trials(loads=loads, mode=mode, die_at=point)
        finally:
            over.set()
            reader.join()
        where = f"{mode} killed before step {point} of {steps} (seed {seed})"
        assert os.WTERMSIG(ended["status"]) == signal.SIGKILL, where
        assert all(rows in (before, after) for rows in seen), where
        assert files_lake.read() == (after if point == steps - 1 else before), where
        # The retry, in a process that lives.
        publish(loads, write_mode=mode)
        assert files_lake.read() == after, where
        snapshots = files_lake.snapshots()
        publish(loads, write_mode=mode)
        assert (files_lake.read(), files_lake.snapshots()) == (after, snapshots), where


def _beside(folder: Path, name: str) -> Path:
    folder.mkdir(exist_ok=True)
    return folder / name


def _look(lake: Any, over: threading.Event, seen: list[Any]) -> None:
    """Read the table again and again, with a catalog of the thread's own."""
    from airflow.providers.apache.iceberg.hooks.iceberg import IcebergHook

    class Reader(type(lake)):
        def __init__(self) -> None:
            self.catalog = IcebergHook("lake").catalog

    reader = Reader()
    while True:
        last = over.is_set()
        seen.append(reader.read())
        if last:
            return
