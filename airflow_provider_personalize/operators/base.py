"""What every operator has in common that makes a paid resource; a subclass declares its kind and its own arguments."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.amazon.aws.operators.base_aws import AwsBaseOperator
from airflow.providers.amazon.aws.utils.mixins import aws_template_fields

from airflow_provider_personalize.arguments import ReadArguments, Reader, flag, form, one_of, required
from airflow_provider_personalize.compat import Context
from airflow_provider_personalize.exceptions import JobFailedError, QuotaTimeoutError
from airflow_provider_personalize.hooks.personalize import IfJobExists, PersonalizeHook, QuotaFullError
from airflow_provider_personalize.links.personalize import persist_job_links
from airflow_provider_personalize.metrics import QUOTA_WAIT_DURATION
from airflow_provider_personalize.operators.mixins import ResourceWaiterMixin
from airflow_provider_personalize.service.kinds import ResourceStatus, State
from airflow_provider_personalize.service.names import check_job_name, derive_job_name
from airflow_provider_personalize.service.requests import read_tags
from airflow_provider_personalize.service.waits import (
    DEFAULT_POLL_INTERVAL,
    DEFAULT_TIMEOUT,
    format_duration,
    growing_pause,
    in_seconds,
    left_running,
)
from airflow_provider_personalize.triggers.events import job_arn_from_event, until_trigger

if TYPE_CHECKING:
    from airflow_provider_personalize.operators.costs import Counts

#: Seconds to wait for a slot among the jobs in progress, by default.
DEFAULT_QUOTA_WAIT = 6 * 60 * 60
#: The longest pause between two tries for a slot, in seconds.
LONGEST_QUOTA_PAUSE = 15 * 60


class PersonalizeCreateJobOperator(ReadArguments, ResourceWaiterMixin, AwsBaseOperator[PersonalizeHook], abstract=True):
    """
    Create a job, or find the one that an earlier try of the same task has created, and wait for it if asked to.

    A job costs money, cannot be stopped, and its name is taken for good. So the name is derived from the run (dag,
    task, map index, run id) and the request, and a retry finds its job by that name. The name of a failed job cannot
    be used again, so the retry takes the next suffix (``-2``, ``-3``, …).

    A subclass sets ``resource_kind``, takes the arguments of its own request, and builds it in :meth:`build_request`.
    Its constructor names every argument, so that an editor completes them, and passes on those that are not its own
    with :func:`~airflow_provider_personalize.operators.mixins.passed_on`.

    :param job_name: The job's name, used as it is (see ``if_job_exists`` for a name that is taken); by default it is
        derived.
    :param tags: Tags for the job: ``{key: value}``, at most 200; or the API's list of ``tagKey`` and ``tagValue``.
    :param if_job_exists: What to do when the job's name is taken: ``reuse`` the job if it was made from the same
        request (a failed one gives way to the next suffix), ``fail``, or make a ``new`` one under the next free suffix.
    :param wait_for_completion: Whether to wait until the job is ACTIVE.
    :param deferrable: Whether to wait in the triggerer, without holding a worker. As in the Amazon provider, it implies
        ``wait_for_completion``.
    :param poll_interval: Seconds, or a timedelta, between two looks at the job.
    :param timeout: Seconds, or a timedelta, until the wait gives up; ``execution_timeout`` shortens it. The job itself
        runs on.
    :param quota_wait_timeout: Seconds, or a timedelta, to wait for a slot when too many jobs are in progress; in the
        triggerer where ``deferrable``.
    :param aws_conn_id: The Airflow connection of type Amazon Web Services.
    :param region_name: The region; by default the connection's.
    :param verify: Whether to verify TLS certificates, or the file or folder of CA certificates to verify them against.
    :param botocore_config: Options for botocore's client.
    :return: The job's ARN.
    """

    template_fields: Sequence[str] = aws_template_fields("if_job_exists", "job_name", "tags")
    template_fields_renderers: ClassVar[dict[str, str]] = {"tags": "json"}
    argument_readers: ClassVar[Mapping[str, Reader]] = {
        "job_name": form(check_job_name),
        "tags": read_tags,
        "if_job_exists": required(one_of(("reuse", "fail", "new"))),
        "wait_for_completion": flag,
        "deferrable": flag,
    }
    creates_job = True
    # A retry makes a new attempt, under the next suffix.
    mended_by_retry = (JobFailedError,)

    def __init__(
        self,
        *,
        job_name: str | None = None,
        tags: dict[str, str] | None = None,
        if_job_exists: IfJobExists = "reuse",
        wait_for_completion: bool = False,
        deferrable: bool | None = None,
        poll_interval: float | timedelta = DEFAULT_POLL_INTERVAL,
        timeout: float | timedelta = DEFAULT_TIMEOUT,
        quota_wait_timeout: float | timedelta = DEFAULT_QUOTA_WAIT,
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
        self.job_name = job_name
        self.tags = tags
        self.if_job_exists = if_job_exists
        self.wait_for_completion = wait_for_completion
        self.deferrable = self._deferrable_or_default(deferrable)
        self.poll_interval = in_seconds(poll_interval, "poll_interval")
        self.timeout = in_seconds(timeout, "timeout")
        self.quota_wait_timeout = in_seconds(quota_wait_timeout, "quota_wait_timeout")
        self._job_arn: str | None = None
        self.check_literals()

    def build_request(self) -> dict[str, Any]:
        """Return the create request, without the job's name. Every argument has been read by then."""
        raise NotImplementedError

    def check_request(self, request: dict[str, Any]) -> Counts | None:
        """
        Check what can be checked before anything is paid for. Called once, before the first try to create.

        :return: What the job is made of, as far as it was counted, for XCom's key ``counts``.
        """
        return None

    def named_after(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the part of a request that the derived name depends on: what a retry may find changed is left out."""
        return request

    @property
    def any_version(self) -> bool:
        """Whether a job of another version of the same solution is as good as the one asked for."""
        return False

    def create_or_find(self, context: Context, request: dict[str, Any]) -> ResourceStatus:
        """Create what the request asks for, or find what an earlier try of the task has created."""
        return self.hook.create_job(
            self.resource_kind, request, if_job_exists=self.if_job_exists, same_solution=self.any_version
        )

    def execute(self, context: Context) -> str:
        """Create the job or find it; wait for it if asked to."""
        return self._create(context, self._deadline(context, self.quota_wait_timeout), 0, time.time())

    def resume_create(
        self,
        context: Context,
        event: Any = None,
        *,
        quota_deadline: float,
        tried: int,
        quota_started: float | None = None,
    ) -> str:
        """
        Resume after a deferred wait for a slot: try to create the job again.

        :param quota_deadline: Until when to wait for a slot, in seconds since the epoch.
        :param tried: How many times a full quota was met before.
        :param quota_started: When the first of them was, in seconds since the epoch.
        """
        return self._create(context, quota_deadline, tried, quota_started or time.time())

    def _create(self, context: Context, quota_deadline: float, tried: int, quota_started: float) -> str:
        self.read_arguments()
        request = self.build_request()
        name = check_job_name(self.job_name or self._derived_name(context, self.named_after(request)))
        request = {self.resource_kind.name_field: name, **request}
        if not tried:
            self.log.info("Asking for a %s, %s:\n%s", self.resource_kind.words, name, json.dumps(request, indent=2))
            if counts := self.check_request(request):
                context["ti"].xcom_push(key="counts", value=counts)
        while True:
            try:
                job = self.create_or_find(context, request)
                break
            except QuotaFullError as full:
                tried += 1
                self._wait_for_slot(full, quota_deadline, tried, quota_started)
        if tried:
            self._send_quota_wait(quota_started, "slot")
        self._job_arn = job.arn
        persist_job_links(context, self, job)
        if (self.deferrable or self.wait_for_completion) and job.state is not State.SUCCEEDED:
            self._wait(context, job)
        return job.arn

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> str:
        """Resume after the trigger: return the job's ARN, or raise what the synchronous wait would have raised."""
        return job_arn_from_event(event, self.log)

    def on_kill(self) -> None:
        """Log that the job runs on: the service has no way to stop one."""
        if self._job_arn:
            self.log.warning("%s", left_running(self._job_arn))

    def _wait(self, context: Context, job: ResourceStatus) -> None:
        deadline = self._deadline(context, self.timeout)
        if not self.deferrable:
            self.hook.wait_for_job(job.arn, poll_interval=self.poll_interval, deadline=deadline)
            return
        self.defer(
            trigger=self._job_trigger(
                job.arn,
                poll_interval=self.poll_interval,
                deadline=deadline,
                solution_version_arn=job.solution_version_arn,
            ),
            method_name="execute_complete",
        )

    def _wait_for_slot(self, full: QuotaFullError, deadline: float, tried: int, started: float) -> None:
        remaining = deadline - time.time()
        if remaining <= 0:
            self._send_quota_wait(started, "timeout")
            raise QuotaTimeoutError(
                operation=self.resource_kind.create_operation, waited=time.time() - started, reason=str(full)
            ) from None
        pause = min(remaining, growing_pause(tried, first=self.poll_interval, longest=LONGEST_QUOTA_PAUSE))
        self.log.info("%s: no slot for another job. Trying again in %s.", str(full).rstrip("."), format_duration(pause))
        if self.deferrable:
            self.defer(
                trigger=until_trigger(time.time() + pause),
                method_name="resume_create",
                kwargs={"quota_deadline": deadline, "tried": tried, "quota_started": started},
            )
        time.sleep(pause)

    def _send_quota_wait(self, started: float, outcome: str) -> None:
        QUOTA_WAIT_DURATION.send(time.time() - started, kind=self.resource_kind.noun, outcome=outcome)

    def _derived_name(self, context: Context, request: dict[str, Any]) -> str:
        ti = context["ti"]
        return derive_job_name(
            dag_id=ti.dag_id,
            task_id=ti.task_id,
            run_id=ti.run_id,
            map_index=ti.map_index if ti.map_index is not None else -1,
            request=request,
        )
