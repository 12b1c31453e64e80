"""What every operator that creates a Personalize job does; a subclass declares its kind and its own arguments."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.amazon.aws.operators.base_aws import AwsBaseOperator
from airflow.providers.amazon.aws.utils.mixins import aws_template_fields

from airflow_provider_personalize.arguments import (
    ReadArguments,
    Reader,
    exactly_one,
    flag,
    form,
    one_of,
    required,
    whole_number,
)
from airflow_provider_personalize.compat import Context
from airflow_provider_personalize.exceptions import JobFailedError, QuotaTimeoutError
from airflow_provider_personalize.hooks.personalize import PersonalizeHook, QuotaFullError
from airflow_provider_personalize.lineage import job_lineage
from airflow_provider_personalize.links.personalize import persist_job_links
from airflow_provider_personalize.operators.mixins import JobWaiterMixin
from airflow_provider_personalize.operators.preflight import VALIDATE_INPUT, preflight
from airflow_provider_personalize.service.kinds import ResourceStatus, State
from airflow_provider_personalize.service.names import (
    check_job_name,
    check_kms_key_arn,
    check_role_arn,
    derive_job_name,
    overlap,
    parse_solution_arn,
    parse_solution_version_arn,
)
from airflow_provider_personalize.service.requests import NUM_RESULTS_NOTE, build_request, parse_filter_arn, read_tags
from airflow_provider_personalize.service.waits import (
    DEFAULT_POLL_INTERVAL,
    DEFAULT_TIMEOUT,
    format_duration,
    growing_pause,
    in_seconds,
    left_running,
)
from airflow_provider_personalize.triggers.personalize import job_arn_from_event, until_trigger
from airflow_provider_personalize.uris import parse_s3_uri

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage

#: Seconds to wait for a slot among the jobs in progress, where the user says nothing.
DEFAULT_QUOTA_WAIT = 6 * 60 * 60
#: The longest pause between two tries for a slot, in seconds.
LONGEST_QUOTA_PAUSE = 15 * 60


class PersonalizeCreateJobOperator(ReadArguments, JobWaiterMixin, AwsBaseOperator[PersonalizeHook], abstract=True):
    """
    Create a batch job, or find the one that an earlier try of the same task has created, and wait for it if asked to.

    A job costs money, cannot be stopped, and its name is taken for good. So the name is derived from the run (dag,
    task, map index, run id) and the request: a retry finds its job by that name. A failed job's name is burnt, and the
    retry takes the next suffix (``-2``, ``-3``, …).

    :param solution_version_arn: The solution version that makes the recommendations. Give this one or
        ``solution_arn``.
    :param solution_arn: The solution; its newest ACTIVE version is used.
    :param role_arn: The IAM role that Personalize assumes to read the input and write the output.
    :param input_uri: The S3 URI of the input lines: an object, or a prefix ending in ``/``. At most 256 characters.
    :param output_uri: The S3 URI of the folder that takes the output; better not under the input, nor over it.
    :param job_name: The job's name, used as it is (see ``if_job_exists`` for a name that is taken); by default it is
        derived.
    :param num_results: How many recommendations for each line.
    :param filter_arn: The filter to apply.
    :param input_kms_key_arn: The KMS key that the input is encrypted with.
    :param output_kms_key_arn: The KMS key to encrypt the output with.
    :param tags: Tags for the job: ``{key: value}``, at most 200; or the API's list of ``tagKey`` and ``tagValue``.
    :param if_job_exists: What to do when the job's name is taken: ``reuse`` the job if it was made from the same
        request (a failed one gives way to the next suffix), ``fail``, or make a ``new`` one under the next free suffix.
    :param validate_input: What to check before a job is created: ``off``: nothing; ``sample``: the request, the input's
        objects and the beginnings of its first files, against the recipe and the filter, in a second or so; ``whole``:
        every line. All that is wrong is one error, and nothing is created. What cannot be read, for want of a
        permission, is said in the log and left to the service. A job that is there already is not checked again.
    :param wait_for_completion: Whether to wait until the job is ACTIVE.
    :param deferrable: Whether to wait in the triggerer, without holding a worker. As in the Amazon provider, it implies
        ``wait_for_completion``.
    :param poll_interval: Seconds, or a timedelta, between two looks at the job.
    :param timeout: Seconds, or a timedelta, until the wait gives up; ``execution_timeout`` shortens it. The job itself
        runs on.
    :param quota_wait_timeout: Seconds, or a timedelta, to wait for a slot when too many jobs are in progress; in the
        triggerer where ``deferrable``.
    :return: The job's ARN.
    """

    template_fields: Sequence[str] = aws_template_fields(
        "filter_arn",
        "if_job_exists",
        "input_kms_key_arn",
        "input_uri",
        "job_name",
        "num_results",
        "output_kms_key_arn",
        "output_uri",
        "role_arn",
        "solution_arn",
        "solution_version_arn",
        "tags",
        "validate_input",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"tags": "json"}
    argument_readers: ClassVar[Mapping[str, Reader]] = {
        "role_arn": required(form(check_role_arn)),
        "input_uri": required(form(parse_s3_uri)),
        "output_uri": required(form(parse_s3_uri)),
        "solution_version_arn": form(parse_solution_version_arn),
        "solution_arn": form(parse_solution_arn),
        "job_name": form(check_job_name),
        "num_results": whole_number(1, note=NUM_RESULTS_NOTE),
        "filter_arn": form(parse_filter_arn),
        "input_kms_key_arn": form(check_kms_key_arn),
        "output_kms_key_arn": form(check_kms_key_arn),
        "tags": read_tags,
        "if_job_exists": required(one_of(("reuse", "fail", "new"))),
        "validate_input": required(one_of(VALIDATE_INPUT)),
        "wait_for_completion": flag,
        "deferrable": flag,
    }
    creates_job = True
    # A retry makes a new attempt, under the next suffix.
    mended_by_retry = (JobFailedError,)

    def __init__(
        self,
        *,
        role_arn: str,
        input_uri: str,
        output_uri: str,
        solution_version_arn: str | None = None,
        solution_arn: str | None = None,
        job_name: str | None = None,
        num_results: int | str | None = None,
        filter_arn: str | None = None,
        input_kms_key_arn: str | None = None,
        output_kms_key_arn: str | None = None,
        tags: dict[str, str] | None = None,
        if_job_exists: str = "reuse",
        validate_input: str = "off",
        wait_for_completion: bool = False,
        deferrable: bool | None = None,
        poll_interval: float | timedelta = DEFAULT_POLL_INTERVAL,
        timeout: float | timedelta = DEFAULT_TIMEOUT,
        quota_wait_timeout: float | timedelta = DEFAULT_QUOTA_WAIT,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.role_arn = role_arn
        self.input_uri = input_uri
        self.output_uri = output_uri
        self.solution_version_arn = solution_version_arn
        self.solution_arn = solution_arn
        self.job_name = job_name
        self.num_results = num_results
        self.filter_arn = filter_arn
        self.input_kms_key_arn = input_kms_key_arn
        self.output_kms_key_arn = output_kms_key_arn
        self.tags = tags
        self.if_job_exists = if_job_exists
        self.validate_input = validate_input
        self.wait_for_completion = wait_for_completion
        self.deferrable = self._deferrable_or_default(deferrable)
        self.poll_interval = in_seconds(poll_interval, "poll_interval")
        self.timeout = in_seconds(timeout, "timeout")
        self.quota_wait_timeout = in_seconds(quota_wait_timeout, "quota_wait_timeout")
        self._job_arn: str | None = None
        self.check_literals()

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
        version_arn = self.solution_version_arn or self.hook.newest_active_version(str(self.solution_arn))
        request = build_request(solution_version_arn=version_arn, **self._request_arguments())
        request = {"jobName": check_job_name(self.job_name or self._derived_name(context, request)), **request}
        if not tried:
            self.log.info("Asking for a %s: %s", self.job_kind.words, json.dumps(request))
            if words := overlap(self.input_uri, self.output_uri):
                self.log.warning("%s", words)
            self._check_input(request)
        while True:
            try:
                job = self.hook.create_job(
                    self.job_kind,
                    request,
                    if_job_exists=self.if_job_exists,
                    same_solution=not self.solution_version_arn,
                )
                break
            except QuotaFullError as full:
                tried += 1
                self._wait_for_slot(full, quota_deadline, tried, quota_started)
        self._job_arn = job.arn
        persist_job_links(context, self, job)
        if (self.deferrable or self.wait_for_completion) and job.state is not State.SUCCEEDED:
            self._wait(context, job)
        return job.arn

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> str:
        """Resume after the trigger: return the job's ARN, or raise what the synchronous wait would have raised."""
        return job_arn_from_event(event, self.log)

    def on_kill(self) -> None:
        """Say that the job lives on: the service has no way to stop one."""
        if self._job_arn:
            self.log.warning("%s", left_running(self._job_arn))

    def get_openlineage_facets_on_start(self) -> OperatorLineage[Any, Any]:
        """Tell OpenLineage, at the start and again at the end, where the job reads and writes."""
        return job_lineage(self.input_uri, self.output_uri)

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
            raise QuotaTimeoutError(
                operation=self.job_kind.create_operation, waited=time.time() - started, reason=str(full)
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

    def conflicts(self, known: Mapping[str, Any]) -> Iterator[str]:
        """Say that not exactly one of the two sources of the job was given."""
        yield from exactly_one(known, "solution_version_arn", "solution_arn")

    def _check_input(self, request: dict[str, Any]) -> None:
        if self.validate_input == "off":
            return
        # A retry that has its job needs no input any more, and the input may be gone.
        if self.if_job_exists == "reuse" and self.hook.has_job(self.job_kind, request):
            return
        preflight(self.hook, self.job_kind, request, whole=self.validate_input == "whole")

    def _request_arguments(self) -> dict[str, Any]:
        """Return the arguments of :func:`~.service.requests.build_request`, but for the version."""
        return {
            "role_arn": self.role_arn,
            "input_uri": self.input_uri,
            "output_uri": self.output_uri,
            "num_results": self.num_results,
            "filter_arn": self.filter_arn,
            "input_kms_key_arn": self.input_kms_key_arn,
            "output_kms_key_arn": self.output_kms_key_arn,
            "tags": self.tags,
        }

    def _derived_name(self, context: Context, request: dict[str, Any]) -> str:
        # The version is left out where the solution was named: it may be trained anew between two tries.
        asked = dict(request)
        if self.solution_arn:
            asked["solutionVersionArn"] = self.solution_arn
        ti = context["ti"]
        return derive_job_name(
            dag_id=ti.dag_id,
            task_id=ti.task_id,
            run_id=ti.run_id,
            map_index=ti.map_index if ti.map_index is not None else -1,
            request=asked,
        )
