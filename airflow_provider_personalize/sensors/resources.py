"""The sensor that waits for a resource of any kind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from airflow.providers.amazon.aws.utils.mixins import aws_template_fields

from airflow_provider_personalize.arguments import Reader, form, one_of, required
from airflow_provider_personalize.operators.mixins import passed_on
from airflow_provider_personalize.sensors.base import PersonalizeWaitSensor
from airflow_provider_personalize.service.kinds import Until
from airflow_provider_personalize.service.names import kind_of
from airflow_provider_personalize.service.statuses import GOALS


class PersonalizeResourceSensor(PersonalizeWaitSensor):
    """
    Wait for a resource of any kind: until it is ACTIVE, has its latest update, is stopped, or is deleted.

    Every other parameter is that of :class:`~airflow_provider_personalize.sensors.base.PersonalizeWaitSensor`.

    :param resource_arn: The resource; its kind is told from the ARN.
    :param until: What to wait for. ``active``: it is ACTIVE (a data deletion job is COMPLETED). ``updated``: its latest
        update is done; one that was never updated is done when it is ACTIVE. ``inactive``: a recommender has stopped.
        ``gone``: the service does not find it any more.
    :return: The resource's ARN.

    .. seealso:: https://docs.aws.amazon.com/personalize/latest/dg/API_Operations_Amazon_Personalize.html
    """

    arn_argument = "resource_arn"
    takes_any_kind = True
    template_fields: Sequence[str] = aws_template_fields("resource_arn", "until")
    argument_readers: ClassVar[Mapping[str, Reader]] = {
        "resource_arn": required(form(kind_of)),
        "until": required(one_of(GOALS)),
        **PersonalizeWaitSensor.argument_readers,
    }

    def __init__(
        self,
        *,
        resource_arn: str,
        until: Until = "active",
        deferrable: bool | None = None,
        aws_conn_id: str | None = "aws_default",
        region_name: str | None = None,
        verify: bool | str | None = None,
        botocore_config: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**passed_on(locals(), but=("resource_arn", "until")))
        self.resource_arn = resource_arn
        self.until = until
        self.check_literals()

    def conflicts(self, known: Mapping[str, Any]) -> Iterator[str]:
        """Yield a problem if what is waited for can never come to a resource of that kind."""
        if not known.keys() >= {"resource_arn", "until"}:
            return
        arn, kind = known["resource_arn"], kind_of(known["resource_arn"])
        impossible = {
            "updated": None if kind.can_update else f"a {kind.words} is never updated",
            "inactive": None if kind.start_operation else f"a {kind.words} is never INACTIVE, only a recommender is",
            "gone": f"a {kind.words} cannot be deleted" if kind.is_job else None,
        }
        if reason := impossible.get(known["until"]):
            yield f"until: expected something that can come, got {known['until']!r}, but {reason}. {arn}"
