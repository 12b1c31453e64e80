"""
Publish loads in processes that die at a given step, for test_iceberg_kills.py.

Reads trials from its input, one JSON object a line, and answers each with how its process has ended, and how many steps
it came through. What takes long to import is imported once; each trial is a fork.
"""

from __future__ import annotations

import inspect
import json
import os
import signal
import sys
from typing import Any

from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.io.pyarrow import PyArrowFile

from airflow_provider_personalize.transfers.personalize_to_iceberg import PersonalizeToIcebergOperator


def publish(trial: dict[str, Any], told: int) -> None:
    """Publish, and die before the step that the trial names: a file that is begun, or an end of the commit."""
    os.environ["AIRFLOW_CONN_LAKE"] = trial["connection"]
    steps = 0

    def step() -> None:
        nonlocal steps
        if steps == trial["die_at"]:
            os.kill(os.getpid(), signal.SIGKILL)
        steps += 1

    def stepping(method: Any, *, after: bool = False) -> Any:
        def call(*arguments: Any, **named: Any) -> Any:
            step()
            result = method(*arguments, **named)
            if after:
                step()
            return result

        return call

    PyArrowFile.create = stepping(PyArrowFile.create)  # type: ignore[method-assign]
    SqlCatalog.commit_table = stepping(SqlCatalog.commit_table, after=True)  # type: ignore[method-assign]
    operator = PersonalizeToIcebergOperator(
        task_id="publish",
        loads=trial["loads"],
        iceberg_conn_id="lake",
        table="lake.recs",
        write_mode=trial["mode"],
        aws_conn_id=None,
    )
    inspect.unwrap(type(operator).execute)(operator, {})
    os.write(told, str(steps).encode())


def main() -> None:
    print("ready", flush=True)
    for line in sys.stdin:
        read, write = os.pipe()
        pid = os.fork()
        if not pid:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            code = 1
            try:
                publish(json.loads(line), write)
                code = 0
            finally:
                os._exit(code)
        os.close(write)
        status = os.waitpid(pid, 0)[1]
        with os.fdopen(read) as answer:
            print(json.dumps({"status": status, "steps": int(answer.read() or 0)}), flush=True)


if __name__ == "__main__":
    main()
