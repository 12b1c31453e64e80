"""A DAG run as Airflow's metadata database and log files have it, whichever version of Airflow wrote them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from example_dags.demo.postgres import Database

UNFINISHED = ("queued", "running")


class StackError(RuntimeError):
    """The stack does not work; the message says where to look."""


@dataclass(frozen=True)
class TaskInstance:
    """One task of a run, as the metadata database has it; times in seconds since the epoch."""

    task_id: str
    map_index: int
    state: str | None
    try_number: int
    start: float | None
    end: float | None


@dataclass(frozen=True)
class Change:
    """A task's change into a state, and how many seconds after the wait began it came."""

    elapsed: float
    task: TaskInstance


@dataclass(frozen=True)
class Run:
    """
    One run of a DAG.

    :param metadata: Airflow's database.
    :param home: Airflow's home.
    :param dag_id: The DAG.
    :param run_id: The run.
    """

    metadata: Database
    home: Path
    dag_id: str
    run_id: str

    @property
    def state(self) -> str:
        """The state of the run, as ``success``."""
        sql = "SELECT state FROM dag_run WHERE dag_id = %s AND run_id = %s"
        [(state,)] = self.metadata.execute(sql, [self.dag_id, self.run_id])
        return str(state)

    def tasks(self) -> list[TaskInstance]:
        """Return its tasks, in the order of their starting."""
        rows = self.metadata.execute(
            "SELECT task_id, map_index, state, try_number, "
            "extract(epoch FROM start_date)::float, extract(epoch FROM end_date)::float "
            "FROM task_instance WHERE dag_id = %s AND run_id = %s ORDER BY start_date NULLS LAST, task_id, map_index",
            [self.dag_id, self.run_id],
        )
        return [TaskInstance(*row) for row in rows]

    def wait(
        self,
        timeout: float = 300.0,
        until: Callable[[TaskInstance], bool] | None = None,
        on_change: Callable[[Change], None] | None = None,
        check: Callable[[], None] | None = None,
    ) -> list[Change]:
        """
        Wait until the run has ended, or something happened in it.

        :param timeout: How long to wait, in seconds.
        :param until: Gives True for the task that is waited for; without, the end of the run is.
        :param on_change: Called with each change of a task's state.
        :param check: Called at each look, to raise where waiting on has no sense.
        :returns: The changes that were seen.
        :raises StackError: if the time is over, or the run has ended without what was waited for.
        """
        start = time.monotonic()
        changes: list[Change] = []
        last: dict[tuple[str, int], TaskInstance] = {}
        while True:
            if check:
                check()
            ended = self.state not in UNFINISHED
            for task in self.tasks():
                before = last.get((task.task_id, task.map_index))
                if task.state and (
                    before is None or (before.state, before.try_number) != (task.state, task.try_number)
                ):
                    last[task.task_id, task.map_index] = task
                    changes.append(Change(time.monotonic() - start, task))
                    if on_change:
                        on_change(changes[-1])
                    if until and until(task):
                        return changes
            if ended and not until:
                return changes
            elapsed = time.monotonic() - start
            if ended or elapsed > timeout:
                states = {task.task_id: task.state for task in last.values()}
                raise StackError(
                    f"The run {self.run_id} of {self.dag_id} is {self.state} after {elapsed:.0f} s, and what was "
                    f"waited for has not come: {states} (logs: {self.home / 'logs'})"
                )
            time.sleep(0.2)

    def log(self, task_id: str, map_index: int = -1) -> str:
        """Return the log of a task's newest attempt, its deferred part included; empty where there is none."""
        folder = self.home / "logs" / f"dag_id={self.dag_id}" / f"run_id={self.run_id}" / f"task_id={task_id}"
        if map_index >= 0:
            folder /= f"map_index={map_index}"
        attempts: dict[int, list[Path]] = {}
        for path in folder.glob("attempt=*.log*"):
            attempts.setdefault(int(path.name.removeprefix("attempt=").partition(".")[0]), []).append(path)
        newest = attempts[max(attempts)] if attempts else []
        return "\n".join(
            path.read_text(errors="replace") for path in sorted(newest, key=lambda path: path.stat().st_mtime)
        )


def _readable(line: str) -> str:
    """Return a line of a log as text: Airflow 3 writes JSON."""
    try:
        entry = json.loads(line)
        text = f"{entry['timestamp']} {entry['level'].upper()} {entry['event']}"
    except (ValueError, TypeError, KeyError):
        return line
    errors = [f"{error['exc_type']}: {error['exc_value']}" for error in entry.get("error_detail") or []]
    return "\n".join([text, *errors])
