"""The sensors that wait for a batch job."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from airflow.providers.amazon.aws.utils.mixins import aws_template_fields

from airflow_provider_personalize.arguments import Reader, form, required
from airflow_provider_personalize.operators.mixins import passed_on
from airflow_provider_personalize.sensors.base import PersonalizeWaitSensor
from airflow_provider_personalize.service.kinds import BATCH_INFERENCE_JOB, BATCH_SEGMENT_JOB
from airflow_provider_personalize.service.names import kind_of


class PersonalizeJobSensor(PersonalizeWaitSensor, abstract=True):
    """
    Wait until a batch job is ACTIVE.

    Every other parameter is that of :class:`~airflow_provider_personalize.sensors.base.PersonalizeWaitSensor`.

    :param job_arn: The job.
    :return: The job's ARN.
    """

    arn_argument = "job_arn"
    template_fields: Sequence[str] = aws_template_fields("job_arn")
    argument_readers: ClassVar[Mapping[str, Reader]] = {
        "job_arn": required(form(kind_of)),
        **PersonalizeWaitSensor.argument_readers,
    }

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
        super().__init__(**passed_on(locals(), but=("job_arn",)))
        self.job_arn = job_arn
        self.check_literals()

    def conflicts(self, known: Mapping[str, Any]) -> Iterator[str]:
        """Yield a problem if the job is of another kind than this sensor's."""
        if "job_arn" in known and (kind := kind_of(known["job_arn"])) is not self.resource_kind:
            expected, got = (each.words.replace(" ", "-") for each in (self.resource_kind, kind))
            yield f"job_arn: expected the ARN of a {expected}, got one of a {got}. {known['job_arn']}"


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
