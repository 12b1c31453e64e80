"""The trigger that waits for a job."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_provider_personalize import exceptions
from airflow_provider_personalize.exceptions import PersonalizeError
from airflow_provider_personalize.hooks.errors import AWS_ERRORS, describe_error
from airflow_provider_personalize.hooks.personalize import PersonalizeHook
from airflow_provider_personalize.resources import JobStatus
from airflow_provider_personalize.waiting import STILL_RUNNING, JobWatch, Logger


class PersonalizeJobTrigger(BaseTrigger):
    """
    Wait for a batch job, of whichever kind its ARN tells, until it is ACTIVE, has failed, or the deadline comes.

    Throttling, 5xx, dropped connections and expired credentials are waited out until the deadline. The event's
    ``status`` is ``success`` when the job is ACTIVE, and ``error`` otherwise; :func:`job_arn_from_event` reads it.

    :param job_arn: The job.
    :param poll_interval: Seconds in which the job is looked at once.
    :param deadline: When to give up, in seconds since the epoch. It is absolute, so it survives the triggerer.
    :param solution_version_arn: The job's solution version where it is known, which saves a call.
    :param aws_conn_id: The Airflow connection.
    :param region_name: The region; by default the connection's.
    :param verify: Whether, or against what, to verify TLS certificates.
    :param botocore_config: Options for botocore's client.
    """

    def __init__(
        self,
        job_arn: str,
        poll_interval: float,
        deadline: float,
        solution_version_arn: str | None = None,
        aws_conn_id: str | None = "aws_default",
        region_name: str | None = None,
        verify: bool | str | None = None,
        botocore_config: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.job_arn = job_arn
        self.poll_interval = poll_interval
        self.deadline = deadline
        self.solution_version_arn = solution_version_arn
        self.aws_conn_id = aws_conn_id
        self.region_name = region_name
        self.verify = verify
        self.botocore_config = botocore_config

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Give what the triggerer needs to build this trigger anew."""
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
        """Say that the job lives on: a person ended the wait (Airflow calls this from 3.3 on)."""
        self.log.warning(STILL_RUNNING, self.job_arn)

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, and give one event."""
        # Imported here, since only a triggerer polls, but every DAG file that defers imports this module.
        from airflow_provider_personalize.triggers.poller import shared_poller

        watch = JobWatch(self.job_arn, self.deadline, self.log)
        try:
            async with shared_poller(self._hook_parameters) as poller:
                looks = poller.watch(
                    self.job_arn, poll_interval=self.poll_interval, solution_version_arn=self.solution_version_arn
                )
                try:
                    async with asyncio.timeout(watch.remaining):
                        async for seen in looks:
                            if _ends(watch, seen):
                                break
                except TimeoutError:
                    # One last look: the job may have ended just now, or while no triggerer ran.
                    if not _ends(watch, await poller.look_or_trouble(self.job_arn)):
                        raise watch.timeout_error() from None
                finally:
                    await looks.aclose()
        except PersonalizeError as error:
            yield TriggerEvent(error_event(self.job_arn, error))
        else:
            yield TriggerEvent({"status": "success", "job_arn": self.job_arn})


def _ends(watch: JobWatch, seen: JobStatus | Exception) -> bool:
    """Tell a watch what was seen; an error that will not pass is raised."""
    if isinstance(seen, JobStatus):
        return watch.see(seen)
    if isinstance(seen, AWS_ERRORS):
        watch.see_trouble(describe_error(seen))
        return False
    raise seen


def error_event(job_arn: str, error: PersonalizeError) -> dict[str, Any]:
    """Write an error down as an event, so that the task raises the same one when it resumes."""
    return {
        "status": "error",
        "job_arn": job_arn,
        "message": error.message,
        "error": type(error).__name__,
        "values": error.values,
    }


def job_arn_from_event(event: Mapping[str, Any] | None, log: Logger) -> str:
    """
    Read the trigger's event: only an explicit success succeeds.

    :param event: What the task was resumed with.
    :param log: The task's logger, to tell of the success: the trigger told the triggerer's.
    :return: The job's ARN.
    :raises PersonalizeError: the error that the trigger met; or, for anything that is no event of it, one that says so.
    """
    event = event if isinstance(event, Mapping) else {}
    if event.get("status") == "success" and event.get("job_arn"):
        log.info("The job %s is ACTIVE.", event["job_arn"])
        return str(event["job_arn"])
    error_type = getattr(exceptions, str(event.get("error")), None)
    if isinstance(error_type, type) and issubclass(error_type, PersonalizeError) and event.get("values"):
        raise error_type(**event["values"])
    raise PersonalizeError(
        event.get("message") or f"Expected an event of PersonalizeJobTrigger with the status success, got {event!r}."
    )


def until_trigger(moment: float) -> BaseTrigger:
    """
    Build the trigger that fires at a moment.

    :param moment: Seconds since the epoch.
    """
    try:
        from airflow.providers.standard.triggers.temporal import DateTimeTrigger
    except ImportError:  # Airflow 2.11 without the standard provider
        from airflow.triggers.temporal import DateTimeTrigger  # type: ignore[no-redef, import-not-found]
    trigger: BaseTrigger = DateTimeTrigger(moment=datetime.fromtimestamp(moment, tz=UTC))
    return trigger
