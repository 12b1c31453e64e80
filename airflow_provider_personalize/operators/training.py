"""The operators that train a solution version, and say whether it is good enough."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, ClassVar, Literal

from airflow.providers.amazon.aws.utils.mixins import aws_template_fields

from airflow_provider_personalize.arguments import Reader, flag, form, one_of, required
from airflow_provider_personalize.compat import Context
from airflow_provider_personalize.exceptions import InvalidRequestError, ServiceError
from airflow_provider_personalize.hooks.personalize import IfJobExists
from airflow_provider_personalize.operators.base import DEFAULT_QUOTA_WAIT, PersonalizeCreateJobOperator
from airflow_provider_personalize.operators.mixins import passed_on
from airflow_provider_personalize.service.kinds import SOLUTION_VERSION, ResourceStatus, State, read_status
from airflow_provider_personalize.service.names import parse_solution_arn
from airflow_provider_personalize.service.recipes import RECIPES, takes_updates
from airflow_provider_personalize.service.waits import DEFAULT_POLL_INTERVAL, DEFAULT_TIMEOUT

TrainingMode = Literal["FULL", "UPDATE", "AUTOTRAIN"]
#: How far the service's clock may be behind Airflow's.
_CLOCK_SKEW = timedelta(minutes=5)


class PersonalizeCreateSolutionVersionOperator(PersonalizeCreateJobOperator):
    """
    Train a solution version once, or find the one that an earlier try of the same task trains or has trained.

    A version's id is random, so the name that is derived from the run and the request goes to the service as the
    version's ``name`` and as its tag ``airflow-personalize:request``, and a retry finds the version by that tag among
    those that were created since the run began. One that has failed, or was stopped, gives way to a new attempt.

    Every other parameter is that of
    :class:`~airflow_provider_personalize.operators.base.PersonalizeCreateJobOperator`; what is said of a job there
    holds for the version.

    Once it has trained, the hours that are billed, the service's ``trainingHours``, are in the log and in XCom under
    ``training_hours``.

    .. seealso:: https://docs.aws.amazon.com/personalize/latest/dg/API_CreateSolutionVersion.html

    :param solution_arn: The solution to train. One that also trains by itself (``performAutoTraining``) is warned of,
        since both are billed.
    :param training_mode: ``FULL``, ``UPDATE`` or ``AUTOTRAIN``; by default the service's own, ``FULL``. ``UPDATE``
        needs a recipe that has it, and an ACTIVE version of mode ``FULL``.
    :param stop_on_kill: Whether to stop the training when the task is killed, or runs into its ``execution_timeout``,
        while it holds a worker. What has been trained until then is billed. A retry trains anew.
    :return: The solution version's ARN.
    """

    resource_kind = SOLUTION_VERSION
    template_fields: Sequence[str] = aws_template_fields(
        *PersonalizeCreateJobOperator.template_fields, "solution_arn", "training_mode"
    )
    argument_readers: ClassVar[Mapping[str, Reader]] = {
        "solution_arn": required(form(parse_solution_arn)),
        "training_mode": one_of(("FULL", "UPDATE", "AUTOTRAIN")),
        "stop_on_kill": flag,
        **PersonalizeCreateJobOperator.argument_readers,
    }

    def __init__(
        self,
        *,
        solution_arn: str,
        training_mode: TrainingMode | None = None,
        stop_on_kill: bool = False,
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
        super().__init__(**passed_on(locals(), but=("solution_arn", "training_mode", "stop_on_kill")))
        self.solution_arn = solution_arn
        self.training_mode = training_mode
        self.stop_on_kill = stop_on_kill
        self.check_literals()

    def build_request(self) -> dict[str, Any]:
        """Return the create request, without the version's name."""
        request: dict[str, Any] = {"solutionArn": self.solution_arn}
        if self.training_mode:
            request["trainingMode"] = self.training_mode
        if self.tags:
            request["tags"] = [{"tagKey": key, "tagValue": value} for key, value in self.tags.items()]
        return request

    def check_request(self, request: dict[str, Any]) -> None:
        """
        Warn of a solution that trains by itself, too, and check whether it can be updated.

        :raises InvalidRequestError: if ``training_mode`` is ``UPDATE`` and the solution's recipe does not have it, or
            no version of mode ``FULL`` is ACTIVE.
        """
        try:
            solution = self.hook.describe_solution(self.solution_arn)
        except ServiceError as error:
            if error.code != "AccessDeniedException":
                raise
            self.log.warning("The solution was not checked before its training: %s", error)
            return
        # The service's own default is to train by itself.
        if solution.get("performAutoTraining", True):
            self.log.warning(
                "The solution also trains by itself (performAutoTraining), and both trainings are billed. Set its "
                "performAutoTraining to false with UpdateSolution. %s",
                self.solution_arn,
            )
        if self.training_mode == "UPDATE":
            self._check_update(str(solution.get("recipeArn") or ""))

    def _check_update(self, recipe_arn: str) -> None:
        recipe = recipe_arn.rpartition("/")[2]
        if recipe in RECIPES and not takes_updates(recipe):
            raise InvalidRequestError(
                f"training_mode: expected 'FULL' for the recipe {recipe}, got 'UPDATE', which only "
                f"aws-user-personalization and aws-hrnn-coldstart take. {self.solution_arn}"
            )
        full = [
            read_status(SOLUTION_VERSION, line)
            for line in self.hook.version_lines(self.solution_arn)
            if line.get("trainingMode", "FULL") != "UPDATE"
        ]
        if not any(version.state is State.SUCCEEDED for version in full):
            raise InvalidRequestError(
                "training_mode: expected an ACTIVE version of the training mode FULL to update, got "
                f"{', '.join(version.status for version in full) or 'none at all'}. Train with 'FULL' first. "
                f"{self.solution_arn}",
                may_pass=any(version.state is State.RUNNING for version in full),
            )

    def create_or_find(self, context: Context, request: dict[str, Any]) -> ResourceStatus:
        """Train a version, or find the one that an earlier try of the task has begun to train."""
        return self.hook.create_version(request, if_job_exists=self.if_job_exists, since=_run_began(context))

    def execute(self, context: Context) -> str:
        """Train a version or find it; wait for it if asked to."""
        return self._ended(context, super().execute(context))

    def resume_create(self, context: Context, event: Any = None, **kwargs: Any) -> str:
        """Resume after a deferred wait for a slot: try to train again."""
        return self._ended(context, super().resume_create(context, event, **kwargs))

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> str:
        """Resume after the trigger: return the version's ARN, or raise what the synchronous wait would have raised."""
        return self._ended(context, super().execute_complete(context, event))

    def _ended(self, context: Context, version_arn: str) -> str:
        """Say what the training took, if it was waited for."""
        if self.deferrable or self.wait_for_completion:
            hours = self.hook.describe_version(version_arn).get("trainingHours")
            self.log.info("Billed training hours (trainingHours): %s. %s", hours, version_arn)
            context["ti"].xcom_push(key="training_hours", value=hours)
        return version_arn

    def on_kill(self) -> None:
        """Stop the training, if asked to; otherwise log that it goes on."""
        if not self.stop_on_kill or not self._job_arn:
            super().on_kill()
            return
        try:
            self.hook.stop_version(self._job_arn)
        except Exception:
            self.log.exception("The training could not be stopped: it goes on, and is billed. %s", self._job_arn)
            return
        self.log.warning(
            "Stopped the training, since the task is being killed. What has been trained until now is billed. A retry "
            "trains anew. %s",
            self._job_arn,
        )


def _run_began(context: Context) -> datetime | None:
    """Return a moment before which the run's tasks cannot have run, whether or not the run was cleared since."""
    run = context.get("dag_run")
    moments = [getattr(run, name, None) for name in ("run_after", "data_interval_end", "start_date")]
    known = [moment for moment in moments if isinstance(moment, datetime)]
    return min(known) - _CLOCK_SKEW if known else None
