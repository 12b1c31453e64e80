"""
What a deferred task is resumed by, and what it is resumed with.

Apart from the triggers themselves, since a DAG file imports the operators and has no need of Airflow's triggers.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow_provider_personalize import exceptions
from airflow_provider_personalize.error_base import restore_error
from airflow_provider_personalize.exceptions import PersonalizeError
from airflow_provider_personalize.service.kinds import Until
from airflow_provider_personalize.service.names import kind_of
from airflow_provider_personalize.service.waits import REACHED, Logger

if TYPE_CHECKING:
    from airflow.triggers.base import BaseTrigger


def job_arn_from_event(event: Mapping[str, Any] | None, log: Logger, until: Until = "active") -> str:
    """
    Return the ARN of a trigger's event that says that the wait has succeeded; nothing but that is a success.

    :param event: What the task was resumed with.
    :param log: The task's logger; the trigger wrote to the triggerer's only.
    :param until: What was waited for.
    :raises PersonalizeError: the error that the trigger met, or one that says that this is no event of the trigger.
    """
    event = event if isinstance(event, Mapping) else {}
    if event.get("status") == "success" and event.get("job_arn"):
        arn = str(event["job_arn"])
        log.info("The %s is %s: %s", "job" if kind_of(arn).is_job else kind_of(arn).words, REACHED[until], arn)
        return arn
    message = event.get("message") or (
        f"Expected an event of PersonalizeJobTrigger with the status success, got {event!r}."
    )
    error_type = getattr(exceptions, str(event.get("error")), None)
    if not (isinstance(error_type, type) and issubclass(error_type, PersonalizeError)):
        error_type = PersonalizeError
    values = event.get("values") or {}
    attributes = {"may_pass": event.get("may_pass", error_type.may_pass), **values}
    raise restore_error(error_type, (message,), {"message": message, "values": values, **attributes})


def until_trigger(moment: float) -> BaseTrigger:
    """
    Return the trigger that fires at a moment.

    :param moment: Seconds since the epoch.
    """
    try:
        from airflow.providers.standard.triggers.temporal import DateTimeTrigger
    except ImportError:  # Airflow 2.11 without the standard provider
        from airflow.triggers.temporal import DateTimeTrigger  # type: ignore[no-redef, import-not-found]
    trigger: BaseTrigger = DateTimeTrigger(moment=datetime.fromtimestamp(moment, tz=UTC))
    return trigger
