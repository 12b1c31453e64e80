"""The application for Spark, to run again and again in one session of an environment of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-spark" / "bin" / "python"


class SparkError(Exception):
    """What the application, or Spark, says has gone wrong."""


class Spark:
    """
    A session.

    :param process: What runs it.
    :param folder: Its folder, which has the catalog ``lake`` in it.
    """

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self._process = process
        self.folder = folder

    def _ask(self, **request: Any) -> dict[str, Any]:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, (self.folder / "log").read_text()[-3_000:]
        answered: dict[str, Any] = json.loads(answer)
        if "error" in answered:
            raise SparkError(answered["error"])
        return answered

    def run(self, others: Sequence[str] = (), **arguments: Any) -> dict[str, Any]:
        """Run the application, while others execute these statements, and return its counts."""
        given = [
            text
            for name, value in arguments.items()
            for text in (
                f"--{name.replace('_', '-')}",
                json.dumps(value) if isinstance(value, dict) else str(value),
            )
        ]
        counts: dict[str, Any] = json.loads(self._ask(run=given, others=others)["said"].splitlines()[-1])
        return counts

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        """Execute a statement, and return its rows."""
        return [tuple(row) for row in self._ask(sql=statement)["rows"]]


@contextmanager
def spark_session(folder: Path) -> Iterator[Spark]:
    """Run a session. Where Java or PySpark is missing, the test is skipped."""
    needs_java()
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(
            [PYTHON, Path(__file__).with_name("spark_runner.py"), folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=environment(),
        ) as process,
    ):
        try:
            yield Spark(process, folder)
        finally:
            # The end of its input ends the session.
            process.communicate(timeout=60)


def needs_java() -> None:
    """Skip the test where Java or PySpark is missing."""
    if shutil.which("java") is None:
        pytest.skip("needs Java: apt-get install default-jre-headless, then make venv")
    if not PYTHON.exists():
        pytest.skip("needs PySpark, in an environment of its own: make venv")


def environment() -> dict[str, str]:
    """Return the environment for Spark's programs."""
    [home] = (PYTHON.parents[1] / "lib").glob("python3.*/site-packages/pyspark")
    return os.environ | {
        "SPARK_HOME": str(home),
        "PYSPARK_PYTHON": str(PYTHON),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "PYTHONPATH": "",
    }
