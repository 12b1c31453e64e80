"""The sensors that wait for a batch job."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from airflow.providers.amazon.aws.sensors.base_aws import AwsBaseSensor
from airflow.providers.amazon.aws.utils.mixins import aws_template_fields

from airflow_provider_personalize.arguments import ReadArguments, Reader, flag, form, required
from airflow_provider_personalize.compat import AirflowFailException, AirflowSensorTimeout, Context
from airflow_provider_personalize.exceptions import JobFailedError, JobTimeoutError
from airflow_provider_personalize.hooks.errors import AWS_ERRORS, describe_error
from airflow_provider_personalize.hooks.personalize import PersonalizeHook
from airflow_provider_personalize.links.personalize import persist_job_links
from airflow_provider_personalize.mixins import JobWaiterMixin
from airflow_provider_personalize.naming import job_kind_of
from airflow_provider_personalize.resources import BATCH_INFERENCE_JOB, BATCH_SEGMENT_JOB, JobState, JobStatus
from airflow_provider_personalize.triggers.personalize import job_arn_from_event
from airflow_provider_personalize.waiting import STILL_RUNNING, JobWatch


class PersonalizeJobSensor(ReadArguments, JobWaiterMixin, AwsBaseSensor[PersonalizeHook], abstract=True):
    """
    Wait until a batch job is ACTIVE.

    A job that has failed fails the task without a retry, since it stays failed (with ``soft_fail`` the task is
    skipped). Throttling, 5xx and dropped connections are waited out until ``timeout``; a refusal by the service, as for
    a job that does not exist, fails at once. Parameters of every sensor (``poke_interval``, ``timeout``, ``mode``,
    ``soft_fail``, …) mean what they mean for every sensor, in both modes.

    :param job_arn: The job.
    :param deferrable: Whether to wait in the triggerer, without holding a worker.
    :return: The job's ARN.
    """

    template_fields: Sequence[str] = aws_template_fields("job_arn")
    argument_readers: ClassVar[Mapping[str, Reader]] = {"job_arn": required(form(job_kind_of)), "deferrable": flag}

    def __init__(self, *, job_arn: str, deferrable: bool | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.job_arn = job_arn
        self.deferrable = self._deferrable_or_default(deferrable)
        self._watch: JobWatch | None = None
        self.check_literals()

    def conflicts(self, known: Mapping[str, Any]) -> Iterator[str]:
        """Say that the job is not of this sensor's kind."""
        if "job_arn" in known and (kind := job_kind_of(known["job_arn"])) is not self.job_kind:
            yield (
                f"job_arn: expected the ARN of a {self.job_kind.arn_type}, got one of a {kind.arn_type}, which has a "
                f"sensor of its own. {known['job_arn']}"
            )

    def execute(self, context: Context) -> Any:
        """
        Wait, here or in the triggerer.

        :raises AirflowFailException: if the job has failed.
        :raises AirflowSensorTimeout: at the deadline. The job runs on.
        """
        self.read_arguments()
        deadline = self._deadline(context, self.timeout)
        self._watch = JobWatch(self.job_arn, deadline, self.log)
        if self.deferrable:
            # One look first: a job that has ended needs no triggerer.
            seen = self._look(context)
            if seen is None or seen.state is not JobState.SUCCEEDED:
                self.defer(
                    trigger=self._job_trigger(
                        self.job_arn,
                        poll_interval=self.poke_interval,
                        deadline=deadline,
                        solution_version_arn=seen.solution_version_arn if seen else None,
                    ),
                    method_name="execute_complete",
                )
            return self.job_arn
        try:
            super().execute(context)
        except AirflowSensorTimeout as error:
            raise AirflowSensorTimeout(str(self._watch.timeout_error())) from error
        return self.job_arn

    def poke(self, context: Context) -> bool:
        """Look at the job once; trouble that may pass counts as not yet."""
        seen = self._look(context)
        return seen is not None and seen.state is JobState.SUCCEEDED

    def _look(self, context: Context) -> JobStatus | None:
        """Look at the job once; None where that failed for a reason that may pass."""
        watch = self._watch = self._watch or JobWatch(self.job_arn, float("inf"), self.log)
        is_first = watch.last_seen is None
        try:
            seen = self.hook.get_job_status(self.job_arn)
            watch.see(seen)
        except JobFailedError as error:
            raise AirflowFailException(str(error)) from error
        except AWS_ERRORS as error:
            watch.see_trouble(describe_error(error))
            return None
        finally:
            if is_first and watch.last_seen is not None:
                persist_job_links(context, self, watch.last_seen)
        return seen

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> str:
        """Resume after the trigger: return the job's ARN, or raise what the synchronous wait would have raised."""
        try:
            return job_arn_from_event(event, self.log)
        except JobFailedError as error:
            raise AirflowFailException(str(error)) from error
        except JobTimeoutError as error:
            raise AirflowSensorTimeout(str(error)) from error

    def on_kill(self) -> None:
        """Say that the job lives on: the service has no way to stop one."""
        self.log.warning(STILL_RUNNING, self.job_arn)


class PersonalizeBatchInferenceJobSensor(PersonalizeJobSensor):
    """
    Wait until a batch inference job is ACTIVE.

    Parameters are those of :class:`PersonalizeJobSensor`.

    .. seealso:: https://docs.aws.amazon.com/personalize/latest/dg/API_DescribeBatchInferenceJob.html
    """

    job_kind = BATCH_INFERENCE_JOB


class PersonalizeBatchSegmentJobSensor(PersonalizeJobSensor):
    """
    Wait until a batch segment job is ACTIVE.

    Parameters are those of :class:`PersonalizeJobSensor`.

    .. seealso:: https://docs.aws.amazon.com/personalize/latest/dg/API_DescribeBatchSegmentJob.html
    """

    job_kind = BATCH_SEGMENT_JOB
