"""What every sensor has in common; a subclass says which resource is waited for, and until what."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

from airflow.providers.amazon.aws.sensors.base_aws import AwsBaseSensor
from airflow.providers.amazon.aws.utils.mixins import aws_template_fields

from airflow_provider_personalize.arguments import ReadArguments, Reader, flag
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
from airflow_provider_personalize.hooks.clients import send_duration
from airflow_provider_personalize.hooks.personalize import PersonalizeHook
from airflow_provider_personalize.links.personalize import persist_job_links
from airflow_provider_personalize.operators.mixins import ResourceWaiterMixin
from airflow_provider_personalize.service.kinds import Until
from airflow_provider_personalize.service.waits import Watch, left_running
from airflow_provider_personalize.triggers.events import job_arn_from_event


class PersonalizeWaitSensor(ReadArguments, ResourceWaiterMixin, AwsBaseSensor[PersonalizeHook], abstract=True):
    """
    Wait for a resource; what all sensors have in common. A subclass takes the ARN, and says what is waited for.

    What has failed fails the task without a retry, since it stays failed. Throttling, 5xx, dropped connections and
    answers that cannot be read are waited out until ``timeout``; what cannot pass by itself, as a resource that does
    not exist, fails at once. With ``soft_fail`` or ``never_fail`` the task is skipped instead. Parameters of every
    sensor (``poke_interval``, ``timeout``, ``mode``, …) mean what they mean for every sensor, here and in the
    triggerer.

    :param deferrable: Whether to wait in the triggerer, without holding a worker.
    :param aws_conn_id: The Airflow connection of type Amazon Web Services.
    :param region_name: The region; by default the connection's.
    :param verify: Whether to verify TLS certificates, or the file or folder of CA certificates to verify them against.
    :param botocore_config: Options for botocore's client.
    """

    #: The name of the argument that says which resource is waited for.
    arn_argument: ClassVar[str]
    template_fields: Sequence[str] = aws_template_fields()
    argument_readers: ClassVar[Mapping[str, Reader]] = {"deferrable": flag}
    #: What is waited for.
    until: Until = "active"

    def __init__(
        self,
        *,
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
        self.deferrable = self._deferrable_or_default(deferrable)
        self._watch: Watch | None = None

    @property
    def _awaited_arn(self) -> str:
        return str(getattr(self, self.arn_argument))

    def execute(self, context: Context) -> Any:
        """
        Wait, here or in the triggerer.

        :raises JobFailedError: if what is waited for cannot come any more; it is an ``AirflowFailException``, too.
        :raises JobTimeoutError: at the deadline; it is an ``AirflowSensorTimeout``, too. The resource goes on.
        """
        self.read_arguments()
        arn = self._awaited_arn
        if self.deferrable:
            deadline = self._deadline(context, self.timeout)
            watch = self._watch = Watch(arn, deadline, self.log, time.time(), self.until, send_duration)
            # One look first: what has ended already needs no triggerer.
            if not self._has_come(context):
                seen = watch.last_seen
                self.defer(
                    trigger=self._job_trigger(
                        arn,
                        poll_interval=self.poke_interval,
                        deadline=deadline,
                        solution_version_arn=seen.solution_version_arn if seen else None,
                        started=watch.started,
                        until=self.until,
                    ),
                    method_name="execute_complete",
                )
            return arn
        started = first_reschedule_date(context, self.retries or 0) if self.reschedule else None
        began = started.timestamp() if started else time.time()
        self._watch = Watch(arn, began + self.timeout, self.log, began, self.until, send_duration)
        super().execute(context)
        return arn

    def poke(self, context: Context) -> bool:
        """Return whether what is waited for has come. If no look succeeds for now, it has not, until the deadline."""
        if self._has_come(context):
            return True
        if self._watch is not None and not self._watch.remaining:
            with self._skipped_if_asked():
                raise self._watch.timeout_error()
        return False

    def _has_come(self, context: Context) -> bool:
        """Look once, and return whether what is waited for has come."""
        watch = self._watch = self._watch or Watch(
            self._awaited_arn, float("inf"), self.log, until=self.until, on_end=send_duration
        )
        is_first = watch.last_seen is None
        with self._skipped_if_asked():
            try:
                return watch.observe(self.hook.get_status(watch.arn, watch.until))
            except Exception as error:  # noqa: BLE001 (whatever befalls a look, the next one comes)
                return watch.observe_error(error, describe_error(error))
            finally:
                if is_first and watch.last_seen is not None:
                    persist_job_links(context, self, watch.last_seen)

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
        """Resume after the trigger: return the ARN, or raise what the synchronous wait would have raised."""
        with self._skipped_if_asked():
            return job_arn_from_event(event, self.log, self.until)

    def on_kill(self) -> None:
        """Log that the resource goes on without the task."""
        self.log.warning("%s", left_running(self._awaited_arn, self.until))
