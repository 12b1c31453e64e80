"""What the demos print while they run, and how they run a DAG."""

# ruff: noqa: T201 - it prints, that is what it is for

from __future__ import annotations

import os
import signal
import sys
import time

from example_dags.demo.runs import Change, Run, StackError
from example_dags.demo.stack import AIRFLOW_VERSION, Stack

#: Said beside a state that a newcomer may wonder about.
NOTES = {
    ("recommend", "deferred"): "the job runs; the wait is in the triggerer and holds no worker",
    ("recommend", "success"): "the job is ACTIVE",
    ("load", "success"): "all rows, in one transaction",
}


class Progress:
    """
    Prints lines with the time since the start.

    :param brief: Whether to print of each task only how it has ended, and to wait for retries.
    """

    def __init__(self, *, brief: bool = False) -> None:
        self.start = self.printed = time.monotonic()
        self.is_brief = brief

    def say(self, text: str) -> None:
        """Print one line."""
        self.printed = time.monotonic()
        seconds = int(self.printed - self.start)
        print(f"  {seconds // 60:02}:{seconds % 60:02}  {text}", flush=True)

    def show(self, change: Change) -> None:
        """
        Print that a task came into a state.

        :raises StackError: if it failed: without ``brief``, the demo does not wait for a retry.
        """
        task = change.task
        if task.state in ("scheduled", "queued") or (self.is_brief and task.state in ("running", "deferred")):
            return
        took = f"{task.end - task.start:.1f} s" if task.state == "success" and task.start and task.end else ""
        note = NOTES.get((task.task_id, task.state or ""), "")
        self.say(f"{task.task_id:<{21 if self.is_brief else 11}} {task.state:<9} {took:>6}  {note}".rstrip())
        if task.state not in (
            "running",
            "deferred",
            "success",
            "skipped",
            *(["up_for_retry"] if self.is_brief else []),
        ):
            raise StackError(f"The task {task.task_id} is {task.state}.")

    def still_waiting(self) -> None:
        """Print a line where nothing was printed for a while; stop where the parent process has died."""
        if time.monotonic() - self.printed > 10:
            self.say("...")
        stop_as_an_orphan()


_PARENT = os.getppid()


def stop_as_an_orphan() -> None:
    """
    Stop where the parent process has died.

    :raises Interrupted: if it has.
    """
    if os.getppid() != _PARENT:
        raise Interrupted(signal.SIGHUP)


class Interrupted(BaseException):
    """A signal asked for the end; like KeyboardInterrupt, it is no error that something might handle."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def cut(text: str, width: int) -> str:
    """Return a text at exactly a width."""
    return f"{text if len(text) <= width else text[: width - 1] + '…':<{width}}"


def show_failures(run: Run) -> None:
    """Print the end of the log of each task that failed."""
    for task in run.tasks():
        if task.state in ("failed", "up_for_retry"):
            tail = "\n".join(run.log(task.task_id).splitlines()[-30:])
            print(f"\nThe end of the log of {task.task_id}:\n{tail}", file=sys.stderr)


def run_dag(stack: Stack, progress: Progress, dag_id: str) -> Run:
    """
    Run a DAG once, and print each task as it goes.

    :raises StackError: if a task fails.
    """
    stack.wait_for_dag(dag_id)
    run = stack.trigger(dag_id)
    progress.say(f"Airflow {AIRFLOW_VERSION} is up; the DAG {dag_id} runs")
    try:
        run.wait(on_change=progress.show, check=lambda: (stack.check(), progress.still_waiting()))
    except StackError:
        show_failures(run)
        raise
    return run
