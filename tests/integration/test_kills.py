"""
What is paid for, or changed, is done once, wherever its process is killed, by SIGKILL: the whole matrix of what is
done, on a worker or deferred, and the points at which it dies.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import boto3
import pytest
from asgiref.sync import SyncToAsync

from airflow_provider_personalize.compat import TaskDeferred
from example_dags.demo.postgres import free_port
from example_dags.demo.processes import Processes
from tests.integration.test_jobs import context, event_of, resume
from tests.kills import CALLS, POINTS, cells_of, set_up, task_of, what_was_done

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    """The stand-in, in a process of its own: this one is forked, and has no other threads."""
    port = free_port()
    processes = Processes(tmp_path_factory.mktemp("logs"), os.environ)
    command = [Path(sys.executable).with_name("personalize-local"), "--port", str(port), "--job-seconds", "0.5"]
    try:
        started = processes.start("personalize-local", command)
        started.wait_until(lambda: urllib.request.urlopen(f"http://127.0.0.1:{port}", timeout=60).status == 200)
        yield f"http://127.0.0.1:{port}"
    finally:
        processes.close()


@pytest.fixture
def service(url, monkeypatch, tmp_path):
    for name, value in {
        "AWS_ENDPOINT_URL": url,
        "AIRFLOW_CONN_AWS_DEFAULT": json.dumps({"conn_type": "aws", "extra": {"region_name": "us-east-1"}}),
        "CRASH_MARKS": str(tmp_path),
    }.items():
        monkeypatch.setenv(name, value)
    local(url, "reset", {})
    return url


def local(url, name, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{url}/_local/{name}", data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def fork(work):
    """Call it in a process of its own, and return that one's id."""
    child = os.fork()
    if not child:
        # Its one thread, which earlier tests may have started, is not in this process.
        SyncToAsync.single_thread_executor = ThreadPoolExecutor(1)
        try:
            work()
            os._exit(0)
        except BaseException:  # noqa: BLE001 (nothing of this process must go on as a test)
            traceback.print_exc()
            os._exit(1)
    return child


def status_of(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


class Task:
    """A task as Airflow runs it: each part of a try in a process of its own, and another try where one was killed."""

    def __init__(self, cell, version, folder):
        self.cell, self.version = cell, version
        self.note = folder / f"{cell.task_id}.note"
        self.context = context(task_id=cell.task_id)

    def run(self):
        """Run it to its end, and return how many processes were killed."""
        killed = 0
        while True:
            self.note.unlink(missing_ok=True)
            status = status_of(fork(self._execute))
            while status == 0 and self.note.exists():
                if self.cell.point == "while_deferred" and not killed:
                    self._kill_trigger()
                    killed += 1
                status = status_of(fork(self._resume))
            if status == 0:
                return killed
            assert status == -signal.SIGKILL
            killed += 1

    def _execute(self):
        self._noting(lambda task: task.execute(self.context))

    def _resume(self):
        deferred = self._deferred()
        event = event_of(deferred.trigger)
        self.note.unlink()
        self._noting(lambda task: resume(task, deferred, event, self.context))

    def _noting(self, step):
        try:
            step(task_of(self.cell, self.version))
        except TaskDeferred as deferred:
            left = {"trigger": deferred.trigger.serialize(), "method": deferred.method_name, "kwargs": deferred.kwargs}
            self.note.write_text(json.dumps(left))

    def _deferred(self):
        """Return what Airflow's database has of a deferred task."""
        left = json.loads(self.note.read_text())
        trigger = SimpleNamespace(serialize=lambda: left["trigger"])
        return SimpleNamespace(trigger=trigger, method_name=left["method"], kwargs=left["kwargs"])

    def _kill_trigger(self):
        """Run the trigger, and kill that while it waits."""
        seen = local(os.environ["AWS_ENDPOINT_URL"], "state")["calls"]
        child = fork(lambda: event_of(self._deferred().trigger))
        while local(os.environ["AWS_ENDPOINT_URL"], "state")["calls"] == seen:
            time.sleep(0.02)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


@pytest.mark.parametrize("half", POINTS)
@pytest.mark.parametrize("kind", CALLS)
def test_it_is_done_once_wherever_it_dies(service, tmp_path, kind, half):
    cells = cells_of(kind, half)
    version = set_up(boto3.client, cells)
    before = local(service, "state")["calls"]
    assert [Task(cell, version, tmp_path).run() for cell in cells] == [1] * len(cells)
    after = local(service, "state")["calls"]
    calls = {name: count - before.get(name, 0) for name, count in after.items()}
    assert what_was_done(boto3.client, cells, calls)[kind] == len(cells)
