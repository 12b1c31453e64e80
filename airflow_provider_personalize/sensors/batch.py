"""The sensors that wait for a batch job."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

from airflow.providers.amazon.aws.sensors.base_aws import AwsBaseSensor
from airflow.providers.amazon.aws.utils.mixins import aws_template_fields

from airflow_provider_personalize.arguments import ReadArguments, Reader, flag, form, required
from airflow_provider_personalize.aws_errors import describe_error
from airflow_provider_personalize.compat import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    Context,
    first_reschedule_date,
)
from airflow_provider_personalize.exceptions import JobTimeoutError, PersonalizeError
from airflow_provider_personalize.failures import final
from airflow_provider_personalize.hooks.personalize import PersonalizeHook
from airflow_provider_personalize.links.personalize import persist_job_links
from airflow_provider_personalize.operators.mixins import ResourceWaiterMixin
from airflow_provider_personalize.service.kinds import BATCH_INFERENCE_JOB, BATCH_SEGMENT_JOB, ResourceStatus, State
from airflow_provider_personalize.service.names import kind_of
from airflow_provider_personalize.service.waits import Watch, left_running
from airflow_provider_personalize.triggers.personalize import job_arn_from_event


class PersonalizeJobSensor(ReadArguments, ResourceWaiterMixin, AwsBaseSensor[PersonalizeHook], abstract=True):
    """
    Wait until a batch job is ACTIVE.

    A job that has failed fails the task without a retry, since it stays failed. Throttling, 5xx, dropped connections
    and answers that cannot be read are waited out until ``timeout``; what cannot pass by itself, as a job that does not
    exist, fails at once. With ``soft_fail`` or ``never_fail`` the task is skipped instead. Parameters of every sensor
    (``poke_interval``, ``timeout``, ``mode``, …) mean what they mean for every sensor, here and in the triggerer.

    :param job_arn: The job.
    :param deferrable: Whether to wait in the triggerer, without holding a worker.
    :param aws_conn_id: The Airflow connection of type Amazon Web Services.
    :param region_name: The region; by default the connection's.
    :param verify: Whether to verify TLS certificates, or the file or folder of CA certificates to verify them against.
    :param botocore_config: Options for botocore's client.
    :return: The job's ARN.
    """

    template_fields: Sequence[str] = aws_template_fields("job_arn")
    argument_readers: ClassVar[Mapping[str, Reader]] = {"job_arn": required(form(kind_of)), "deferrable": flag}

    def __init__(
        self,
        *,
        job_arn: str,
        deferrable: bool | None = None,
        aws_conn_id: str | None = "aws_default",
        region_name: str | None = None,
        verify: bool | str | None = None,
        botocore_config: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            aws_conn_id=aws_conn_id,
            region_name=region_name,
            verify=verify,
            botocore_config=botocore_config,
            **kwargs,
        )
        self.job_arn = job_arn
        self.deferrable = self._deferrable_or_default(deferrable)
        self._watch: Watch | None = None
        self.check_literals()

    def conflicts(self, known: Mapping[str, Any]) -> Iterator[str]:
        """Yield a problem if the job is of another kind than this sensor's."""
        if "job_arn" in known and (kind := kind_of(known["job_arn"])) is not self.resource_kind:
            expected, got = (each.words.replace(" ", "-") for each in (self.resource_kind, kind))
            yield f"job_arn: expected the ARN of a {expected}, got one of a {got}. {known['job_arn']}"

    def execute(self, context: Context) -> Any:
        """
        Wait, here or in the triggerer.

        :raises JobFailedError: if the job has failed; it is an ``AirflowFailException``, too.
        :raises JobTimeoutError: at the deadline; it is an ``AirflowSensorTimeout``, too. The job runs on.
        """
        self.read_arguments()
        if self.deferrable:
            deadline = self._deadline(context, self.timeout)
            self._watch = Watch(self.job_arn, deadline, self.log)
            # One look first: a job that has ended needs no triggerer.
            seen = self._look(context)
            if seen is None or seen.state is not State.SUCCEEDED:
                self.defer(
                    trigger=self._job_trigger(
                        self.job_arn,
                        poll_interval=self.poke_interval,
                        deadline=deadline,
                        solution_version_arn=seen.solution_version_arn if seen else None,
                        started=self._watch.started,
                    ),
                    method_name="execute_complete",
                )
            return self.job_arn
        started = first_reschedule_date(context, self.retries or 0) if self.reschedule else None
        began = started.timestamp() if started else time.time()
        self._watch = Watch(self.job_arn, began + self.timeout, self.log, began)
        super().execute(context)
        return self.job_arn

    def poke(self, context: Context) -> bool:
        """Return whether the job is ACTIVE. If it cannot be looked at for now, it is not, until the deadline."""
        seen = self._look(context)
        if seen is not None and seen.state is State.SUCCEEDED:
            return True
        if self._watch is not None and not self._watch.remaining:
            with self._skipped_if_asked():
                raise self._watch.timeout_error()
        return False

    def _look(self, context: Context) -> ResourceStatus | None:
        """Return the job's status, or None if it cannot be looked at for now."""
        watch = self._watch = self._watch or Watch(self.job_arn, float("inf"), self.log)
        is_first = watch.last_seen is None
        with self._skipped_if_asked():
            try:
                seen = self.hook.get_job_status(self.job_arn)
                watch.observe(seen)
            except Exception as error:  # noqa: BLE001 (whatever befalls a look, the next one comes)
                watch.observe_error(error, describe_error(error))
                return None
            finally:
                if is_first and watch.last_seen is not None:
                    persist_job_links(context, self, watch.last_seen)
            return seen

    @contextmanager
    def _skipped_if_asked(self) -> Iterator[None]:
        """Skip the task instead of failing it where ``soft_fail`` or ``never_fail`` asks for it."""
        try:
            yield
        except PersonalizeError as error:
            told = self.as_airflow_error(error)
            is_final = isinstance(told, AirflowFailException | AirflowSensorTimeout)
            if not (self.never_fail or (self.soft_fail and is_final)):
                raise
            asked = "soft_fail" if self.soft_fail else "never_fail"
            raise AirflowSkipException(f"{told}\nSkipped, since {asked} is set.") from None

    def as_airflow_error(self, error: PersonalizeError) -> PersonalizeError:
        """Make an error one that Airflow does not retry; a timeout one that it knows as a sensor's."""
        if isinstance(error, JobTimeoutError):
            return final(error, AirflowSensorTimeout)
        return super().as_airflow_error(error)

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> str:
        """Resume after the trigger: return the job's ARN, or raise what the synchronous wait would have raised."""
        with self._skipped_if_asked():
            return job_arn_from_event(event, self.log)

    def on_kill(self) -> None:
        """Log that the job runs on: the service has no way to stop one."""
        self.log.warning("%s", left_running(self.job_arn))


class PersonalizeBatchInferenceJobSensor(PersonalizeJobSensor):
    """
    Wait until a batch inference job is ACTIVE.

    Parameters are those of :class:`PersonalizeJobSensor`.

    .. seealso:: https://docs.aws.amazon.com/personalize/latest/dg/API_DescribeBatchInferenceJob.html
    """

    resource_kind = BATCH_INFERENCE_JOB


class PersonalizeBatchSegmentJobSensor(PersonalizeJobSensor):
    """
    Wait until a batch segment job is ACTIVE.

    Parameters are those of :class:`PersonalizeJobSensor`.

    .. seealso:: https://docs.aws.amazon.com/personalize/latest/dg/API_DescribeBatchSegmentJob.html
    """

    resource_kind = BATCH_SEGMENT_JOB
