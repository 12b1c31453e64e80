"""The operators that train a solution version, and say whether it is good enough."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from airflow.providers.amazon.aws.operators.base_aws import AwsBaseOperator
from airflow.providers.amazon.aws.utils.mixins import aws_template_fields

from airflow_provider_personalize.arguments import ReadArguments, Reader, flag, form, is_settled, one_of, required
from airflow_provider_personalize.compat import Context
from airflow_provider_personalize.exceptions import InvalidRequestError, ServiceError, SolutionVersionCheckError
from airflow_provider_personalize.hooks.personalize import IfJobExists, PersonalizeHook
from airflow_provider_personalize.links.reports import PersonalizeReportLink
from airflow_provider_personalize.operators.base import DEFAULT_QUOTA_WAIT, PersonalizeCreateJobOperator
from airflow_provider_personalize.operators.mixins import PersonalizeTaskMixin, passed_on
from airflow_provider_personalize.operators.reports import note_report, origin_of, write_report
from airflow_provider_personalize.operators.version_figures import judged, measure
from airflow_provider_personalize.quality.report import Origin, parse_report_uri, render_model_report
from airflow_provider_personalize.quality.thresholds import TO_BASELINE, Outcome, read_metric_checks
from airflow_provider_personalize.service.kinds import SOLUTION_VERSION, ResourceStatus, State, read_status
from airflow_provider_personalize.service.names import parse_solution_arn, parse_solution_version_arn
from airflow_provider_personalize.service.recipes import RECIPES, takes_updates
from airflow_provider_personalize.service.requests import read_tags
from airflow_provider_personalize.service.waits import DEFAULT_POLL_INTERVAL, DEFAULT_TIMEOUT

if TYPE_CHECKING:
    from airflow_provider_personalize.operators.costs import Counts

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

    def check_request(self, request: dict[str, Any]) -> Counts | None:
        """
        Warn of a solution that trains by itself, too, and check whether it can be updated.

        :raises InvalidRequestError: if ``training_mode`` is ``UPDATE`` and the solution's recipe does not have it, or
            no version of mode ``FULL`` is ACTIVE.
        """
        from airflow_provider_personalize.operators.costs import expect_training

        try:
            solution = self.hook.describe_solution(self.solution_arn)
        except ServiceError as error:
            if error.code != "AccessDeniedException":
                raise
            self.log.warning("The solution was not checked before its training: %s", error)
            return None
        # The service's own default is to train by itself.
        if solution.get("performAutoTraining", True):
            self.log.warning(
                "The solution also trains by itself (performAutoTraining), and both trainings are billed. Set its "
                "performAutoTraining to false with UpdateSolution. %s",
                self.solution_arn,
            )
        if self.training_mode == "UPDATE":
            self._check_update(str(solution.get("recipeArn") or ""))
        return expect_training(self.hook, solution)

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
        from airflow_provider_personalize.operators.costs import count_training

        if self.deferrable or self.wait_for_completion:
            hours = self.hook.describe_version(version_arn).get("trainingHours")
            self.log.info("Billed training hours (trainingHours): %s. %s", hours, version_arn)
            context["ti"].xcom_push(key="training_hours", value=hours)
            context["ti"].xcom_push(key="counts", value=count_training(self.log, hours))
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


class PersonalizeSolutionVersionCheckOperator(ReadArguments, PersonalizeTaskMixin, AwsBaseOperator[PersonalizeHook]):
    """
    Check a solution version before it is used, and tag one that passes.

    The figures are the metrics of ``GetSolutionMetrics``, by their names there, such as ``coverage`` and
    ``normalized_discounted_cumulative_gain_at_10``. With ``_to_previous`` behind it, a name stands for the metric
    divided by that of the version before, and with ``_to_baseline`` for the metric divided by the baseline's: ``1`` is
    as good.

    The version before is the newest ACTIVE one that is older; with ``pass_tags``, the newest older one that has passed,
    where there is one, so that a bad version sets no standard for the next.

    .. seealso:: https://docs.aws.amazon.com/personalize/latest/dg/API_GetSolutionMetrics.html

    :param solution_version_arn: The solution version, as ``PersonalizeCreateSolutionVersionOperator`` returns it.
    :param checks: What has to hold, or else the task fails, with no retry:
        ``{"precision_at_10_to_previous": {"geq_to": 0.9}}``. Conditions are those of Airflow's SQL checks:
        ``equal_to``, ``greater_than``, ``geq_to``, ``less_than`` and ``leq_to``. A metric that is not known does not
        hold; only a comparison with the version before is excused, where there is none.
    :param warn_checks: What should hold; otherwise the task warns.
    :param baseline_solution_arn: A solution to compare with, whose newest ACTIVE version is the baseline: one of the
        recipe Popularity-Count tells whether the model is better than a list of what is popular.
    :param pass_tags: The tags that a version that passes gets, for the ``require_tags`` of the create operators.
    :param report_uri: Where to write the report, an HTML page, also when the task fails: a path, ``file:///…``, or
        ``s3://bucket/key``. If it cannot be written, that is logged, and the outcome is the same.
    :return: ``solution_version_arn``, ``metrics``, the comparisons by their names, ``training_hours``, ``previous`` and
        ``baseline`` (each with its ``solution_version_arn`` and ``metrics``, or None), and ``report_uri``, None where
        there is no report. They are in XCom also when the task fails.
    :raises InvalidRequestError: if literal ``checks``, ``warn_checks`` or ``report_uri`` cannot be right.
    """

    aws_hook_class = PersonalizeHook
    ui_color = "#e6f2ea"
    operator_extra_links = (PersonalizeReportLink(),)
    template_fields: Sequence[str] = aws_template_fields(
        "baseline_solution_arn", "checks", "pass_tags", "report_uri", "solution_version_arn", "warn_checks"
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"checks": "json", "pass_tags": "json", "warn_checks": "json"}
    argument_readers: ClassVar[Mapping[str, Reader]] = {
        "solution_version_arn": required(form(parse_solution_version_arn)),
        "baseline_solution_arn": form(parse_solution_arn),
        "checks": read_metric_checks,
        "warn_checks": read_metric_checks,
        "pass_tags": read_tags,
    }

    def __init__(
        self,
        *,
        solution_version_arn: str,
        checks: Mapping[str, Mapping[str, Any]] | None = None,
        warn_checks: Mapping[str, Mapping[str, Any]] | None = None,
        baseline_solution_arn: str | None = None,
        pass_tags: dict[str, str] | None = None,
        report_uri: str | None = None,
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
        self.solution_version_arn = solution_version_arn
        self.checks = checks
        self.warn_checks = warn_checks
        self.baseline_solution_arn = baseline_solution_arn
        self.pass_tags = pass_tags
        self.report_uri = report_uri
        self.check_literals()
        # Not where the others are read: one that a template got wrong must not keep the verdict back.
        if is_settled(report_uri) and report_uri:
            parse_report_uri(report_uri)

    def conflicts(self, known: Mapping[str, Any]) -> Iterator[str]:
        """Yield an error for each check that compares with a baseline where none is given."""
        if "baseline_solution_arn" not in known or known["baseline_solution_arn"]:
            return
        for parameter in sorted({"checks", "warn_checks"} & known.keys()):
            for figure in known[parameter] or {}:
                if figure.endswith(TO_BASELINE):
                    yield f"{parameter}: {figure} is known only with baseline_solution_arn: give it, too."

    def execute(self, context: Context) -> dict[str, Any]:
        """
        Read the metrics, write the report, compare, and tag a version that passes.

        :raises SolutionVersionCheckError: if a metric does not meet ``checks``; it is an ``AirflowFailException``, too.
        :raises InvalidRequestError: if the version is not ACTIVE.
        """
        self.read_arguments()
        figures = measure(
            self.hook,
            self.solution_version_arn,
            baseline_solution_arn=self.baseline_solution_arn,
            pass_tags=self.pass_tags,
            log=self.log,
        )
        results = [
            outcome
            for expected, otherwise in ((self.checks, "failed"), (self.warn_checks, "warned"))
            for outcome in judged(figures, expected or {}, otherwise)
        ]
        self.log.info("Metrics of %s: %s", self.solution_version_arn, figures["metrics"])
        for outcome in results:
            level = self.log.warning if outcome.state in {"failed", "warned"} else self.log.info
            level("%s: %s.", outcome.state.capitalize(), outcome)
        origin = origin_of(context, self, [self.solution_version_arn]) if self.report_uri else None
        page = self._page(figures, results, origin) if origin else None
        is_written = page is not None and write_report(page, str(self.report_uri), self.hook, self.log)
        figures["report_uri"] = self.report_uri if is_written else None
        about = [self.solution_version_arn]
        note_report(context, self, "Solution version check", figures["report_uri"], about, results)
        if failed := [str(outcome) for outcome in results if outcome.state == "failed"]:
            # A task that fails returns nothing, and this is when people look at its figures.
            context["ti"].xcom_push(key="return_value", value=figures)
            raise SolutionVersionCheckError(
                solution_version_arn=self.solution_version_arn,
                failed=failed,
                figures=figures,
                report_uri=figures["report_uri"],
            )
        if self.pass_tags:
            self.hook.tag(self.solution_version_arn, self.pass_tags)
            self.log.info("Tagged the version with %s. %s", self.pass_tags, self.solution_version_arn)
        return figures

    def _page(self, figures: Mapping[str, Any], results: Sequence[Outcome], origin: Origin) -> str | None:
        try:
            return render_model_report(figures=figures, results=results, origin=origin)
        except Exception:
            self.log.exception("The report could not be made.")
            return None


def _run_began(context: Context) -> datetime | None:
    """Return a moment before which the run's tasks cannot have run, whether or not the run was cleared since."""
    run = context.get("dag_run")
    moments = [getattr(run, name, None) for name in ("run_after", "data_interval_end", "start_date")]
    known = [moment for moment in moments if isinstance(moment, datetime)]
    return min(known) - _CLOCK_SKEW if known else None
