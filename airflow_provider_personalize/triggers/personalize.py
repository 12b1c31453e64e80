"""The trigger that waits for a job, or for another resource."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from functools import partial
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_personalize.aws_errors import describe_error
from airflow_provider_personalize.compat import triggerer_stats
from airflow_provider_personalize.exceptions import PersonalizeError
from airflow_provider_personalize.hooks.clients import send_duration
from airflow_provider_personalize.hooks.personalize import PersonalizeHook
from airflow_provider_personalize.service.kinds import ResourceStatus, Until
from airflow_provider_personalize.service.waits import Watch, in_seconds, left_running


class PersonalizeJobTrigger(BaseTrigger):
    """
    Wait for a job, or for a resource of any other kind, until it is ACTIVE, has failed, or the deadline comes.

    Throttling, 5xx, dropped connections, expired credentials and answers that cannot be read are waited out until the
    deadline. What cannot pass by itself (no region, a role that may not be assumed, no such job) ends the wait. The
    event's ``status`` is ``success`` when what was waited for has come, and ``error`` otherwise;
    :func:`job_arn_from_event` reads it.

    :param job_arn: The job, or the other resource; its kind is told from the ARN.
    :param poll_interval: Seconds, or a timedelta, in which the job is looked at once.
    :param deadline: When to give up, in seconds since the epoch. It is absolute, so it survives the triggerer.
    :param solution_version_arn: The solution version of a batch job, if it is known, which saves a call.
    :param started: When the wait began, in seconds since the epoch; by default, when the trigger first runs.
    :param until: What to wait for: ``active``; ``updated``, that the latest update is done; ``inactive``, that a
        recommender has stopped; or ``gone``, that a deleted resource is not found any more.
    :param aws_conn_id: The Airflow connection.
    :param region_name: The region; by default the connection's.
    :param verify: Whether, or against what, to verify TLS certificates.
    :param botocore_config: Options for botocore's client.
    """

    def __init__(
        self,
        job_arn: str,
        poll_interval: float | timedelta,
        deadline: float,
        solution_version_arn: str | None = None,
        aws_conn_id: str | None = "aws_default",
        region_name: str | None = None,
        verify: bool | str | None = None,
        botocore_config: dict[str, Any] | None = None,
        started: float | None = None,
        until: Until = "active",
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.job_arn = job_arn
        self.poll_interval = in_seconds(poll_interval, "poll_interval")
        self.deadline = deadline
        self.solution_version_arn = solution_version_arn
        self.aws_conn_id = aws_conn_id
        self.region_name = region_name
        self.verify = verify
        self.botocore_config = botocore_config
        # Kept with the wait, so that one which survives its triggerer tells how long it really was.
        self.started = time.time() if started is None else started
        self.until: Until = until

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what the triggerer needs to build this trigger anew."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "job_arn": self.job_arn,
                "poll_interval": self.poll_interval,
                "deadline": self.deadline,
                "solution_version_arn": self.solution_version_arn,
                "aws_conn_id": self.aws_conn_id,
                "region_name": self.region_name,
                "verify": self.verify,
                "botocore_config": self.botocore_config,
                "started": self.started,
                "until": self.until,
            },
        )

    @property
    def _hook_parameters(self) -> dict[str, Any]:
        return {
            "aws_conn_id": self.aws_conn_id,
            "region_name": self.region_name,
            "verify": self.verify,
            "config": self.botocore_config,
        }

    def hook(self) -> PersonalizeHook:
        """Build a hook with this trigger's connection."""
        return PersonalizeHook(**self._hook_parameters)

    async def on_kill(self) -> None:
        """Log that the job runs on: a person ended the wait (Airflow calls this from 3.3 on)."""
        self.log.warning("%s", left_running(self.job_arn, self.until))

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, and yield one event."""
        # Imported here, since only a triggerer polls, but every DAG file that defers imports this module.
        from airflow_provider_personalize.triggers.poller import shared_poller

        on_end = partial(send_duration, stats=triggerer_stats())
        watch = Watch(self.job_arn, self.deadline, self.log, self.started, self.until, on_end)
        try:
            runs_on_version = watch.kind.list_filter == "solutionVersionArn"
            async with shared_poller(self._hook_parameters) as poller:
                looks = poller.watch(
                    self.job_arn,
                    poll_interval=self.poll_interval,
                    until=self.until,
                    parent_arn=self.solution_version_arn if runs_on_version else None,
                )
                try:
                    async with asyncio.timeout(watch.remaining):
                        async for seen in looks:
                            if _ends(watch, seen):
                                break
                except TimeoutError:
                    # One last look: the job may have ended just now, or while no triggerer ran.
                    if not _ends(watch, await poller.look_or_trouble(self.job_arn, self.until)):
                        raise watch.timeout_error() from None
                finally:
                    await looks.aclose()
        except PersonalizeError as error:
            yield TriggerEvent(error_event(self.job_arn, error))
        else:
            yield TriggerEvent({"status": "success", "job_arn": self.job_arn})


def _ends(watch: Watch, seen: ResourceStatus | Exception) -> bool:
    """Return whether what was observed ends a wait; an error that cannot pass is raised."""
    if isinstance(seen, ResourceStatus):
        return watch.observe(seen)
    return watch.observe_error(seen, describe_error(seen))


def error_event(job_arn: str, error: PersonalizeError) -> dict[str, Any]:
    """Return an error as an event, so that the task raises the same error when it resumes."""
    return {
        "status": "error",
        "job_arn": job_arn,
        "message": error.message,
        "error": type(error).__name__,
        "values": error.values,
        "may_pass": error.may_pass,
    }
