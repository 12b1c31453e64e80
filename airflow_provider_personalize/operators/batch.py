"""The operators that create batch jobs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

from airflow.providers.amazon.aws.utils.mixins import aws_template_fields

from airflow_provider_personalize.arguments import Reader, exactly_one, form, one_of, required, whole_number
from airflow_provider_personalize.hooks.personalize import IfJobExists
from airflow_provider_personalize.lineage import job_lineage
from airflow_provider_personalize.metrics import INPUT_LINES, INPUT_RESULTS
from airflow_provider_personalize.operators.base import DEFAULT_QUOTA_WAIT, PersonalizeCreateJobOperator
from airflow_provider_personalize.operators.mixins import passed_on
from airflow_provider_personalize.service.kinds import BATCH_INFERENCE_JOB, BATCH_SEGMENT_JOB
from airflow_provider_personalize.service.names import (
    check_kms_key_arn,
    check_role_arn,
    overlap,
    parse_solution_arn,
    parse_solution_version_arn,
)
from airflow_provider_personalize.service.requests import (
    MAX_SEGMENT_USERS,
    NUM_RESULTS_NOTE,
    THEME_MODE,
    build_request,
    parse_filter_arn,
    read_config,
    read_mode,
    read_tags,
    read_theme_config,
)
from airflow_provider_personalize.service.waits import DEFAULT_POLL_INTERVAL, DEFAULT_TIMEOUT
from airflow_provider_personalize.uris import parse_s3_uri

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage

    from airflow_provider_personalize.operators.costs import Counts

#: How much of the input is checked before a job is created: nothing, the beginnings of the first files, or every line.
ValidateInput = Literal["off", "sample", "whole"]


class PersonalizeBatchJobOperator(PersonalizeCreateJobOperator, abstract=True):
    """
    Create a batch job; what the kinds of batch job have in common.

    Every other parameter is that of
    :class:`~airflow_provider_personalize.operators.base.PersonalizeCreateJobOperator`.

    :param solution_version_arn: The solution version that makes the recommendations. Give this one or
        ``solution_arn``.
    :param solution_arn: The solution; its newest ACTIVE version is used.
    :param require_tags: Tags that the version of ``solution_arn`` must have, as ``{"checked": "passed"}``: the newest
        ACTIVE one that has them is used, so that a night after a bad training runs on the last good model. They are
        what the ``pass_tags`` of ``PersonalizeSolutionVersionCheckOperator`` wrote.
    :param role_arn: The IAM role that Personalize assumes to read the input and write the output.
    :param input_uri: The S3 URI of the input lines: an object, or a prefix ending in ``/``. At most 256 characters.
    :param output_uri: The S3 URI of the folder that takes the output. It should neither lie under the input nor hold
        it.
    :param num_results: How many recommendations for each line.
    :param filter_arn: The filter to apply.
    :param input_kms_key_arn: The KMS key that the input is encrypted with.
    :param output_kms_key_arn: The KMS key to encrypt the output with.
    :param validate_input: What to check before a job is created. ``off``: nothing. ``sample``: the request, the input's
        objects and the beginnings of its first files, against the recipe and the filter, in a second or so. ``whole``:
        every line. All that is wrong is one error, and nothing is created. What cannot be read, because a permission is
        missing, is logged and left to the service. A job that is there already is not checked again.
    :param max_lines: The most lines of input. Where there are more, nothing is submitted. To count them, all of the
        input is read.
    :param max_results_total: The most results, which are the lines times ``num_results``, in the same way.
    """

    template_fields: Sequence[str] = aws_template_fields(
        *PersonalizeCreateJobOperator.template_fields,
        "filter_arn",
        "input_kms_key_arn",
        "input_uri",
        "max_lines",
        "max_results_total",
        "num_results",
        "output_kms_key_arn",
        "output_uri",
        "require_tags",
        "role_arn",
        "solution_arn",
        "solution_version_arn",
        "validate_input",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {
        **PersonalizeCreateJobOperator.template_fields_renderers,
        "require_tags": "json",
    }
    argument_readers: ClassVar[Mapping[str, Reader]] = {
        "role_arn": required(form(check_role_arn)),
        "input_uri": required(form(parse_s3_uri)),
        "output_uri": required(form(parse_s3_uri)),
        "solution_version_arn": form(parse_solution_version_arn),
        "solution_arn": form(parse_solution_arn),
        "require_tags": read_tags,
        "num_results": whole_number(1, note=NUM_RESULTS_NOTE),
        "filter_arn": form(parse_filter_arn),
        "input_kms_key_arn": form(check_kms_key_arn),
        "output_kms_key_arn": form(check_kms_key_arn),
        "max_lines": whole_number(0),
        "max_results_total": whole_number(0),
        "validate_input": required(one_of(get_args(ValidateInput))),
        **PersonalizeCreateJobOperator.argument_readers,
    }

    def __init__(
        self,
        *,
        role_arn: str,
        input_uri: str,
        output_uri: str,
        solution_version_arn: str | None = None,
        solution_arn: str | None = None,
        require_tags: dict[str, str] | None = None,
        num_results: int | str | None = None,
        filter_arn: str | None = None,
        input_kms_key_arn: str | None = None,
        output_kms_key_arn: str | None = None,
        validate_input: ValidateInput = "off",
        max_lines: int | str | None = None,
        max_results_total: int | str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.role_arn = role_arn
        self.input_uri = input_uri
        self.output_uri = output_uri
        self.solution_version_arn = solution_version_arn
        self.solution_arn = solution_arn
        self.require_tags = require_tags
        self.num_results = num_results
        self.filter_arn = filter_arn
        self.input_kms_key_arn = input_kms_key_arn
        self.output_kms_key_arn = output_kms_key_arn
        self.validate_input = validate_input
        self.max_lines = max_lines
        self.max_results_total = max_results_total
        self.check_literals()

    def conflicts(self, known: Mapping[str, Any]) -> Iterator[str]:
        """Yield a problem unless exactly one of solution and solution version was given; tags choose among versions."""
        yield from exactly_one(known, "solution_version_arn", "solution_arn")
        if known.get("require_tags") and known.get("solution_version_arn"):
            yield "require_tags: expected solution_arn, whose versions it chooses among, got solution_version_arn."

    @property
    def any_version(self) -> bool:
        """Whether the solution was given, which may be trained anew between two tries of a task."""
        return not self.solution_version_arn

    def build_request(self) -> dict[str, Any]:
        """Return the create request, without the job's name."""
        version_arn = self.solution_version_arn or self.hook.newest_active_version(
            str(self.solution_arn), self.require_tags
        )
        return build_request(solution_version_arn=version_arn, **self._request_arguments())

    def _request_arguments(self) -> dict[str, Any]:
        """Return the arguments of :func:`~.service.requests.build_request`, without the version."""
        names = ("role_arn", "input_uri", "output_uri", "num_results", "filter_arn", "tags")
        return {name: getattr(self, name) for name in (*names, "input_kms_key_arn", "output_kms_key_arn")}

    def named_after(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the request with the solution in the place of its version, if the solution was given."""
        return {**request, "solutionVersionArn": self.solution_arn} if self.solution_arn else request

    def check_request(self, request: dict[str, Any]) -> Counts | None:
        """Check the input, as far as ``validate_input`` asks for it, count it, and refuse more than the limits."""
        # Here, since a DAG file has no need of what reads the input.
        from airflow_provider_personalize.operators.costs import count_batch
        from airflow_provider_personalize.operators.preflight import preflight

        if warning := overlap(self.input_uri, self.output_uri):
            self.log.warning("%s", warning)
        limits: dict[str, Any] = {name: getattr(self, name) for name in ("max_lines", "max_results_total")}
        checks = self.validate_input != "off"
        # A retry that has its job needs no input any more, and the input may be gone.
        may_refuse = checks or limits != dict.fromkeys(limits)
        if may_refuse and self.if_job_exists == "reuse" and self.hook.has_job(self.resource_kind, request):
            return None
        whole = self.validate_input == "whole"
        seen = preflight(self.hook, self.resource_kind, request, whole=whole) if checks else None
        counts = count_batch(self.hook, request, seen=seen, **limits)
        if counts:
            INPUT_LINES.send(counts["lines"], kind=self.resource_kind.noun)
            INPUT_RESULTS.send(counts["results"], kind=self.resource_kind.noun)
        return counts

    def get_openlineage_facets_on_start(self) -> OperatorLineage[Any, Any]:
        """Return where the job reads and writes, for OpenLineage, at the start and again at the end."""
        return job_lineage(self.input_uri, self.output_uri)


class PersonalizeCreateBatchInferenceJobOperator(PersonalizeBatchJobOperator):
    """
    Create a batch inference job: items for users, items like items, or lists of items put in order.

    Every other parameter is that of :class:`PersonalizeBatchJobOperator`.

    .. seealso:: https://docs.aws.amazon.com/personalize/latest/dg/API_CreateBatchInferenceJob.html

    :param batch_inference_job_config: ``{"itemExplorationConfig": {…}, "rankingInfluence": {…}}``, as the API takes it.
    :param batch_inference_job_mode: ``BATCH_INFERENCE`` or ``THEME_GENERATION``.
    :param theme_generation_config: ``{"fieldsForThemeGeneration": {"itemName": …}}``, as the API takes it.
    """

    resource_kind = BATCH_INFERENCE_JOB
    template_fields: Sequence[str] = aws_template_fields(
        *PersonalizeBatchJobOperator.template_fields,
        "batch_inference_job_config",
        "batch_inference_job_mode",
        "theme_generation_config",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {
        **PersonalizeBatchJobOperator.template_fields_renderers,
        "batch_inference_job_config": "json",
        "theme_generation_config": "json",
    }
    argument_readers: ClassVar[Mapping[str, Reader]] = {
        **PersonalizeBatchJobOperator.argument_readers,
        "batch_inference_job_config": read_config,
        "batch_inference_job_mode": read_mode,
        "theme_generation_config": read_theme_config,
    }

    def __init__(
        self,
        *,
        role_arn: str,
        input_uri: str,
        output_uri: str,
        solution_version_arn: str | None = None,
        solution_arn: str | None = None,
        require_tags: dict[str, str] | None = None,
        job_name: str | None = None,
        num_results: int | str | None = None,
        filter_arn: str | None = None,
        input_kms_key_arn: str | None = None,
        output_kms_key_arn: str | None = None,
        batch_inference_job_config: dict[str, Any] | None = None,
        batch_inference_job_mode: str | None = None,
        theme_generation_config: dict[str, Any] | None = None,
        tags: dict[str, str] | None = None,
        if_job_exists: IfJobExists = "reuse",
        validate_input: ValidateInput = "off",
        max_lines: int | str | None = None,
        max_results_total: int | str | None = None,
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
        own = ("batch_inference_job_config", "batch_inference_job_mode", "theme_generation_config")
        super().__init__(**passed_on(locals(), but=own))
        self.batch_inference_job_config = batch_inference_job_config
        self.batch_inference_job_mode = batch_inference_job_mode
        self.theme_generation_config = theme_generation_config
        self.check_literals()

    def conflicts(self, known: Mapping[str, Any]) -> Iterator[str]:
        """Yield a problem, too, if the mode for themes and what they are made of do not come together."""
        yield from super().conflicts(known)
        if known.keys() >= {"batch_inference_job_mode", "theme_generation_config"}:
            mode, config = known["batch_inference_job_mode"], known["theme_generation_config"]
            if (mode == THEME_MODE) != bool(config):
                yield (
                    f"Expected batch_inference_job_mode={THEME_MODE!r} and theme_generation_config both or neither, "
                    f"got {mode!r} and {config!r}."
                )

    def _request_arguments(self) -> dict[str, Any]:
        return {
            **super()._request_arguments(),
            "batch_inference_job_config": self.batch_inference_job_config,
            "batch_inference_job_mode": self.batch_inference_job_mode,
            "theme_generation_config": self.theme_generation_config,
        }


class PersonalizeCreateBatchSegmentJobOperator(PersonalizeBatchJobOperator):
    """
    Create a batch segment job: for each item, or item attributes, the users who would like it most.

    Every parameter is that of :class:`PersonalizeBatchJobOperator`. ``num_results`` is the number of users for each
    line: 25 by default, at most 5,000,000.

    .. seealso:: https://docs.aws.amazon.com/personalize/latest/dg/API_CreateBatchSegmentJob.html
    """

    resource_kind = BATCH_SEGMENT_JOB
    argument_readers: ClassVar[Mapping[str, Reader]] = {
        **PersonalizeBatchJobOperator.argument_readers,
        "num_results": whole_number(1, MAX_SEGMENT_USERS, note=NUM_RESULTS_NOTE),
    }

    def __init__(
        self,
        *,
        role_arn: str,
        input_uri: str,
        output_uri: str,
        solution_version_arn: str | None = None,
        solution_arn: str | None = None,
        require_tags: dict[str, str] | None = None,
        job_name: str | None = None,
        num_results: int | str | None = None,
        filter_arn: str | None = None,
        input_kms_key_arn: str | None = None,
        output_kms_key_arn: str | None = None,
        tags: dict[str, str] | None = None,
        if_job_exists: IfJobExists = "reuse",
        validate_input: ValidateInput = "off",
        max_lines: int | str | None = None,
        max_results_total: int | str | None = None,
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
        super().__init__(**passed_on(locals()))
