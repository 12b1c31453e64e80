"""
Processes by name: started with a log file each, stopped or killed one by one, and none left behind.

Every process carries a mark in its environment, which its children inherit, so whatever it starts is found again, in
whichever session or process group. A guard process waits on a pipe that closes when this one ends, however it ends,
SIGKILL included, and then ends all that carry the mark.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

#: ``<token of the group>/<name of the process>``, in the environment of every process that is started here.
MARK = "PERSONALIZE_DEMO_PROCESS"


class ProcessDiedError(RuntimeError):
    """A process ended too early, or never became ready; the message ends with the tail of its log."""


def find_processes(mark: str) -> list[psutil.Process]:
    """Return the living processes whose mark begins with this one."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get(MARK, "").startswith(mark) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def end_processes(mark: str, grace: float = 5.0) -> None:
    """Terminate the processes whose mark begins with this one; kill those that are left after the grace time."""
    deadline = time.monotonic() + grace
    sent: set[int] = set()
    while processes := find_processes(mark):
        if time.monotonic() > deadline:
            for process in processes:
                with contextlib.suppress(psutil.Error):
                    process.kill()
        for process in processes:
            if process.pid not in sent:
                sent.add(process.pid)
                with contextlib.suppress(psutil.Error):
                    process.terminate()
        psutil.wait_procs(processes, timeout=0.2)


class Process:
    """
    One process, with its children.

    :param name: What it is called.
    :param mark: What it and its children carry in their environment.
    :param popen: The running process.
    :param log: Where its output goes.
    """

    def __init__(self, name: str, mark: str, popen: subprocess.Popen[bytes], log: Path) -> None:
        self.name = name
        self.mark = mark
        self.popen = popen
        self.log = log

    @property
    def running(self) -> bool:
        """Whether the process itself still runs."""
        return self.popen.poll() is None

    def tail(self, lines: int = 30) -> str:
        """Return the last lines of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def family(self) -> list[psutil.Process]:
        """Return the process and those of its descendants that are still alive."""
        return find_processes(self.mark)

    def check(self) -> None:
        """
        Make sure that the process runs.

        :raises ProcessDiedError: if it has ended.
        """
        if not self.running:
            raise ProcessDiedError(f"{self.name} ended with code {self.popen.returncode} ({self.log}):\n{self.tail()}")

    def wait_until(self, ready: Callable[[], Any], timeout: float = 180.0) -> None:
        """
        Wait until the process does what it is for.

        :param ready: Gives something true then; a connection error counts as not yet.
        :param timeout: How long to wait, in seconds.
        :raises ProcessDiedError: if it ends before, or the time is over.
        """
        deadline = time.monotonic() + timeout
        while True:
            self.check()
            with contextlib.suppress(OSError):
                if ready():
                    return
            if time.monotonic() > deadline:
                raise ProcessDiedError(f"{self.name} was not ready after {timeout:.0f} s ({self.log}):\n{self.tail()}")
            time.sleep(0.1)

    def stop(self, grace: float = 10.0, with_signal: int = signal.SIGTERM) -> None:
        """Ask the process to end, then end what is left of its family."""
        if self.running:
            self.popen.send_signal(with_signal)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.popen.wait(grace)
        self.kill()

    def kill(self, *, family: bool = True) -> None:
        """
        Kill with SIGKILL, so that nothing of it can tidy up.

        :param family: Kill the children too, as the loss of the machine would; without, they are orphaned.
        """
        if not family:
            self.popen.kill()
        while family and (processes := self.family()):
            for process in processes:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.popen.wait(1)
            psutil.wait_procs(processes, timeout=1)
        self.popen.wait()


class Processes:
    """
    A group of processes with a common environment; ends all of them when it is closed, or when this process dies.

    :param log_dir: Where the log files go, ``<name>.log`` each.
    :param environment: The whole environment that they start with.
    """

    def __init__(self, log_dir: Path, environment: Mapping[str, str]) -> None:
        self.log_dir = log_dir
        self.environment = dict(environment)
        self.token = secrets.token_hex(8)
        self._named: dict[str, Process] = {}
        log_dir.mkdir(parents=True, exist_ok=True)
        # No Ctrl-C of the terminal and no signal to this process's group reaches the guard: it has its own session.
        self._guard = subprocess.Popen(  # noqa: S603
            [sys.executable, __file__, self.token], stdin=subprocess.PIPE, start_new_session=True, cwd="/"
        )

    def __getitem__(self, name: str) -> Process:
        return self._named[name]

    def __contains__(self, name: str) -> bool:
        return name in self._named

    def start(
        self,
        name: str,
        command: Sequence[str | os.PathLike[str]],
        *,
        environment: Mapping[str, str] | None = None,
        **options: Any,
    ) -> Process:
        """
        Start a process, or start it again after it has ended. Its log is appended to.

        :param name: What to call it.
        :param command: The program and its arguments.
        :param environment: What to add to the group's environment.
        :param options: More of :class:`subprocess.Popen`, as ``user`` and ``cwd``.
        """
        if name in self._named and self._named[name].running:
            raise ValueError(f"{name} is running already")
        mark = f"{self.token}/{name}"
        log = self.log_dir / f"{name}.log"
        # Without SPT_NOENV, processes that set their title (Airflow's do) would overwrite the mark.
        environment = {**self.environment, **(environment or {}), MARK: mark, "SPT_NOENV": "1"}
        with log.open("ab") as output:
            popen = subprocess.Popen(  # noqa: S603 - the commands are those of this folder
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **options,
            )
        self._named[name] = Process(name, mark, popen, log)
        return self._named[name]

    def run(self, name: str, command: Sequence[str | os.PathLike[str]], timeout: float = 300.0, **options: Any) -> str:
        """
        Run a command to its end.

        :returns: What it printed, since the log file was opened for it.
        :raises ProcessDiedError: if it fails or takes too long.
        """
        log = self.log_dir / f"{name}.log"
        before = log.stat().st_size if log.exists() else 0
        process = self.start(name, command, **options)
        try:
            process.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
        if process.popen.returncode != 0:
            process.check()
        return process.log.read_bytes()[before:].decode(errors="replace")

    def close(self) -> None:
        """End all that still runs."""
        end_processes(f"{self.token}/")
        for process in self._named.values():
            process.popen.wait()
        if self._guard.stdin:
            self._guard.stdin.close()
        self._guard.wait()


def main() -> None:
    """Be the guard: wait until the one that started this has ended, then end what it left."""
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    sys.stdin.buffer.read()
    end_processes(f"{sys.argv[1]}/")


if __name__ == "__main__":
    main()
