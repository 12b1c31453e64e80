"""The operators that delete resources, and that start and stop recommenders; and those that create resources."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, ClassVar, Literal

from airflow.providers.amazon.aws.utils.mixins import aws_template_fields

from airflow_provider_personalize.arguments import Reader, form, one_of, required
from airflow_provider_personalize.compat import Context
from airflow_provider_personalize.exceptions import ServiceError
from airflow_provider_personalize.links.personalize import persist_job_links
from airflow_provider_personalize.operators.data_resources import (
    PersonalizeCreateDatasetGroupOperator,
    PersonalizeCreateDatasetOperator,
    PersonalizeCreateEventTrackerOperator,
    PersonalizeCreateFilterOperator,
    PersonalizeCreateSchemaOperator,
)
from airflow_provider_personalize.operators.mixins import passed_on
from airflow_provider_personalize.operators.model_resources import (
    PersonalizeCreateCampaignOperator,
    PersonalizeCreateMetricAttributionOperator,
    PersonalizeCreateRecommenderOperator,
    PersonalizeCreateSolutionOperator,
)
from airflow_provider_personalize.operators.resource_base import PersonalizeResourceOperator
from airflow_provider_personalize.service.kinds import RECOMMENDER, Until
from airflow_provider_personalize.service.names import kind_of, parse_arn_of
from airflow_provider_personalize.service.waits import DEFAULT_POLL_INTERVAL, DEFAULT_TIMEOUT, NOT_FOUND

__all__ = [
    "PersonalizeCreateCampaignOperator",
    "PersonalizeCreateDatasetGroupOperator",
    "PersonalizeCreateDatasetOperator",
    "PersonalizeCreateEventTrackerOperator",
    "PersonalizeCreateFilterOperator",
    "PersonalizeCreateMetricAttributionOperator",
    "PersonalizeCreateRecommenderOperator",
    "PersonalizeCreateSchemaOperator",
    "PersonalizeCreateSolutionOperator",
    "PersonalizeDeleteResourceOperator",
    "PersonalizeStartRecommenderOperator",
    "PersonalizeStopRecommenderOperator",
]

#: What to do where there is no such resource.
IfMissing = Literal["skip", "fail"]


class PersonalizeChangeResourceOperator(PersonalizeResourceOperator, abstract=True):
    """
    Do something with a resource that is there; what deletion, start and stop have in common.

    Every other parameter is that of
    :class:`~airflow_provider_personalize.operators.resource_base.PersonalizeResourceOperator`.

    :param resource_arn: The resource.
    :param if_missing: What to do if there is no such resource: ``skip`` what was asked for, and succeed; or ``fail``.
    :param wait_for_completion: Whether to wait until it is done.
    """

    template_fields: Sequence[str] = aws_template_fields("if_missing", "resource_arn")
    argument_readers: ClassVar[Mapping[str, Reader]] = {
        "resource_arn": required(form(kind_of)),
        "if_missing": required(one_of(("skip", "fail"))),
        **PersonalizeResourceOperator.argument_readers,
    }
    #: What is waited for, and the beginnings of the statuses of a resource that is on its way there, or there.
    until: ClassVar[Until]
    on_its_way: ClassVar[tuple[str, ...]]

    def __init__(
        self,
        *,
        resource_arn: str,
        if_missing: IfMissing = "skip",
        wait_for_completion: bool = True,
        deferrable: bool | None = None,
        poll_interval: float | timedelta = DEFAULT_POLL_INTERVAL,
        timeout: float | timedelta = DEFAULT_TIMEOUT,
        aws_conn_id: str | None = "aws_default",
        region_name: str | None = None,
        verify: bool | str | None = None,
        botocore_config: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**passed_on(locals(), but=("resource_arn", "if_missing", "wait_for_completion")))
        self.resource_arn = resource_arn
        self.if_missing = if_missing
        self.wait_for_completion = wait_for_completion
        self.check_literals()

    def _change(self, arn: str) -> None:
        raise NotImplementedError

    def execute(self, context: Context) -> str:
        """Do it, unless it is done or under way, and wait for its end if asked to."""
        self.read_arguments()
        arn = self.resource_arn
        try:
            seen = self.hook.get_status(arn, self.until)
            persist_job_links(context, self, seen)
            if not seen.status.startswith(self.on_its_way):
                self.log.info("The %s %s is %s. %s", seen.kind.words, seen.name, seen.status, arn)
                self._change(arn)
        except ServiceError as error:
            if error.code != NOT_FOUND or self.if_missing == "fail":
                raise
            self.log.info("There is no such %s: nothing is to be done. %s", kind_of(arn).words, arn)
            return arn
        self._wait(context, arn, self.until)
        return arn


class PersonalizeDeleteResourceOperator(PersonalizeChangeResourceOperator):
    """
    Delete a resource of any kind that can be deleted, and wait until it is gone.

    What uses it has to be gone before: campaigns before their solution; solutions, recommenders, event trackers and
    datasets before their group; datasets before their schema. If something is in the way, the error names it.

    Parameters are those of :class:`PersonalizeChangeResourceOperator`.

    .. seealso:: https://docs.aws.amazon.com/personalize/latest/dg/API_Operations_Amazon_Personalize.html
    """

    takes_any_kind = True
    until = "gone"
    on_its_way = ("DELETE",)

    def conflicts(self, known: Mapping[str, Any]) -> Iterator[str]:
        """Yield a problem if a resource of that kind cannot be deleted."""
        if "resource_arn" in known and not (kind := kind_of(known["resource_arn"])).can_delete:
            yield f"resource_arn: expected a resource that can be deleted, got a {kind.words}. {known['resource_arn']}"

    def _change(self, arn: str) -> None:
        self.hook.delete_resource(arn)


class PersonalizeStartRecommenderOperator(PersonalizeChangeResourceOperator):
    """
    Start a recommender that was stopped, and wait until it is ACTIVE; it is billed from then on.

    Parameters are those of :class:`PersonalizeChangeResourceOperator`.

    .. seealso:: https://docs.aws.amazon.com/personalize/latest/dg/API_StartRecommender.html
    """

    resource_kind = RECOMMENDER
    until = "active"
    on_its_way = ("ACTIVE", "START", "CREATE")
    argument_readers: ClassVar[Mapping[str, Reader]] = {
        **PersonalizeChangeResourceOperator.argument_readers,
        "resource_arn": required(form(parse_arn_of("recommender"))),
    }

    def _change(self, arn: str) -> None:
        self.hook.change_recommender(str(RECOMMENDER.start_operation), arn)


class PersonalizeStopRecommenderOperator(PersonalizeChangeResourceOperator):
    """
    Stop a recommender, and wait until it is INACTIVE; it is not billed from then on, and can be started again.

    Parameters are those of :class:`PersonalizeChangeResourceOperator`.

    .. seealso:: https://docs.aws.amazon.com/personalize/latest/dg/API_StopRecommender.html
    """

    resource_kind = RECOMMENDER
    until = "inactive"
    on_its_way = ("INACTIVE", "STOP")
    argument_readers: ClassVar[Mapping[str, Reader]] = PersonalizeStartRecommenderOperator.argument_readers

    def _change(self, arn: str) -> None:
        self.hook.change_recommender(str(RECOMMENDER.stop_operation), arn)
