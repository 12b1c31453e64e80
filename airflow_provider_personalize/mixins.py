"""What operators and sensors that wait for a job have in common."""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_personalize.compat import Context, conf
from airflow_provider_personalize.hooks.personalize import PersonalizeHook
from airflow_provider_personalize.links.personalize import JOB_LINKS
from airflow_provider_personalize.resources import JobKind
from airflow_provider_personalize.triggers.personalize import PersonalizeJobTrigger
from airflow_provider_personalize.waiting import deadline_after

if TYPE_CHECKING:
    from airflow.sdk import BaseOperatorLink


class JobWaiterMixin:
    """Something that waits for one kind of job, here or in the triggerer, over one AWS connection."""

    aws_hook_class = PersonalizeHook
    ui_color = "#e6f2ea"
    operator_extra_links: Collection[BaseOperatorLink] = JOB_LINKS

    #: The kind of job; each concrete subclass sets it.
    job_kind: ClassVar[JobKind]

    aws_conn_id: str | None
    region_name: str | None
    verify: bool | str | None
    botocore_config: dict[str, Any] | None
    execution_timeout: timedelta | None

    def __init_subclass__(cls, *, abstract: bool = False, **kwargs: Any) -> None:
        """
        Refuse, at import, a subclass that names no kind of job: its tasks would only fail when they run.

        :param abstract: Whether the class is a base that leaves the kind to its own subclasses.
        """
        super().__init_subclass__(**kwargs)
        if not abstract and not isinstance(getattr(cls, "job_kind", None), JobKind):
            raise TypeError(f"{cls.__name__}.job_kind: expected a row of airflow_provider_personalize.resources.")

    @staticmethod
    def _deferrable_or_default(deferrable: bool | None) -> bool:
        if deferrable is None:
            return bool(conf.getboolean("operators", "default_deferrable", fallback=False))
        return deferrable

    def _deadline(self, context: Context, timeout: float) -> float:
        """Give the moment at which a wait of this task gives up, ``execution_timeout`` included."""
        return deadline_after(timeout, self.execution_timeout, getattr(context.get("ti"), "start_date", None))

    def _job_trigger(
        self, job_arn: str, *, poll_interval: float, deadline: float, solution_version_arn: str | None
    ) -> PersonalizeJobTrigger:
        """Build the trigger that goes on with the wait, over the same connection."""
        return PersonalizeJobTrigger(
            job_arn=job_arn,
            poll_interval=poll_interval,
            deadline=deadline,
            solution_version_arn=solution_version_arn,
            aws_conn_id=self.aws_conn_id,
            region_name=self.region_name,
            verify=self.verify,
            botocore_config=self.botocore_config,
        )
