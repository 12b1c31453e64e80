"""The operators that create batch jobs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from airflow.providers.amazon.aws.utils.mixins import aws_template_fields

from airflow_provider_personalize.arguments import Reader, whole_number
from airflow_provider_personalize.input.validation import MAX_SEGMENT_USERS
from airflow_provider_personalize.operators.base import PersonalizeCreateJobOperator
from airflow_provider_personalize.service.kinds import BATCH_INFERENCE_JOB, BATCH_SEGMENT_JOB
from airflow_provider_personalize.service.requests import (
    NUM_RESULTS_NOTE,
    THEME_MODE,
    read_config,
    read_mode,
    read_theme_config,
)


class PersonalizeCreateBatchInferenceJobOperator(PersonalizeCreateJobOperator):
    """
    Create a batch inference job: items for users, items like items, or lists of items put in order.

    Every other parameter is that of
    :class:`~airflow_provider_personalize.operators.base.PersonalizeCreateJobOperator`.

    .. seealso:: https://docs.aws.amazon.com/personalize/latest/dg/API_CreateBatchInferenceJob.html

    :param batch_inference_job_config: ``{"itemExplorationConfig": {…}, "rankingInfluence": {…}}``, as the API takes it.
    :param batch_inference_job_mode: ``BATCH_INFERENCE`` or ``THEME_GENERATION``.
    :param theme_generation_config: ``{"fieldsForThemeGeneration": {"itemName": …}}``, as the API takes it.
    """

    job_kind = BATCH_INFERENCE_JOB
    template_fields: Sequence[str] = aws_template_fields(
        *PersonalizeCreateJobOperator.template_fields,
        "batch_inference_job_config",
        "batch_inference_job_mode",
        "theme_generation_config",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {
        **PersonalizeCreateJobOperator.template_fields_renderers,
        "batch_inference_job_config": "json",
        "theme_generation_config": "json",
    }
    argument_readers: ClassVar[Mapping[str, Reader]] = {
        **PersonalizeCreateJobOperator.argument_readers,
        "batch_inference_job_config": read_config,
        "batch_inference_job_mode": read_mode,
        "theme_generation_config": read_theme_config,
    }

    def __init__(
        self,
        *,
        batch_inference_job_config: dict[str, Any] | None = None,
        batch_inference_job_mode: str | None = None,
        theme_generation_config: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.batch_inference_job_config = batch_inference_job_config
        self.batch_inference_job_mode = batch_inference_job_mode
        self.theme_generation_config = theme_generation_config
        self.check_literals()

    def conflicts(self, known: Mapping[str, Any]) -> Iterator[str]:
        """Say, too, that the mode for themes and what they are made of do not come together."""
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


class PersonalizeCreateBatchSegmentJobOperator(PersonalizeCreateJobOperator):
    """
    Create a batch segment job: for each item, or item attributes, the users who would like it most.

    Every parameter is that of :class:`~airflow_provider_personalize.operators.base.PersonalizeCreateJobOperator`;
    ``num_results`` is the number of users for each line: 25 by default, at most 5,000,000.

    .. seealso:: https://docs.aws.amazon.com/personalize/latest/dg/API_CreateBatchSegmentJob.html
    """

    job_kind = BATCH_SEGMENT_JOB
    argument_readers: ClassVar[Mapping[str, Reader]] = {
        **PersonalizeCreateJobOperator.argument_readers,
        "num_results": whole_number(1, MAX_SEGMENT_USERS, note=NUM_RESULTS_NOTE),
    }
