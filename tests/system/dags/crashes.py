"""Tasks that kill their own process once, at a named point, for tests/system/test_crashes.py."""

from __future__ import annotations

import os
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path

from airflow_provider_personalize.hooks.personalize import PersonalizeHook
from airflow_provider_personalize.operators.batch import PersonalizeCreateBatchInferenceJobOperator

try:
    from airflow.sdk import DAG
except ImportError:  # Airflow 2
    from airflow import DAG

BASE = "arn:aws:personalize:us-east-1:123456789012:"
POINTS = ("before_create", "after_create", "while_waiting", "before_return")


def die_once(task_id: str, point: str) -> None:
    """Kill this process with SIGKILL, the first time that the task comes to the point."""
    mark = Path(os.environ["CRASH_MARKS"]) / f"{task_id}.{point}"
    if task_id.endswith(point) and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)


class DyingHook(PersonalizeHook):
    """Dies around the calls that its operator makes."""

    task_id = ""

    def _try_create(self, *args, **kwargs):
        die_once(self.task_id, "before_create")
        answer = super()._try_create(*args, **kwargs)
        die_once(self.task_id, "after_create")
        return answer

    def wait_for_job(self, *args, **kwargs):
        die_once(self.task_id, "while_waiting")
        return super().wait_for_job(*args, **kwargs)


class DyingOperator(PersonalizeCreateBatchInferenceJobOperator):
    """Dies once, where the end of its task's id says."""

    aws_hook_class = DyingHook

    def _create(self, context, *args):
        self.hook.task_id = self.task_id
        arn = super()._create(context, *args)
        die_once(self.task_id, "before_return")
        return arn

    def execute_complete(self, context, event=None):
        die_once(self.task_id, "before_return")
        return super().execute_complete(context, event)


REQUEST = {
    "solution_arn": f"{BASE}solution/user-personalization",
    "role_arn": "arn:aws:iam::123456789012:role/personalize-local",
    "input_uri": "s3://personalize-local/crashes/in/",
    "output_uri": "s3://personalize-local/crashes/out/",
    "poll_interval": 2,
}
DEFAULTS = {"retries": 4, "retry_delay": timedelta(seconds=1)}

with DAG("crashes", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC), default_args=DEFAULTS):
    for half in ("sync", "deferred"):
        for point in POINTS:
            DyingOperator(
                task_id=f"{half}_{point}",
                wait_for_completion=True,
                deferrable=half == "deferred",
                **REQUEST,
            )

with DAG("quota", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC), default_args=DEFAULTS):
    PersonalizeCreateBatchInferenceJobOperator.partial(
        task_id="recommend", deferrable=True, **{k: v for k, v in REQUEST.items() if k != "output_uri"}
    ).expand(output_uri=[f"s3://personalize-local/quota/out-{n}/" for n in range(20)])
