"""
What Airflow 2 and 3 call by different names, under one name.

The Amazon provider's own compatibility layer is used where it is installed with the names that are needed; the
fallback is for Airflow 2.11 with the providers of its own constraints file, which come before that layer.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from datetime import datetime

    from airflow.configuration import conf
    from airflow.sdk import BaseHook, BaseOperator, Context, XComArg
    from airflow.sdk.exceptions import (
        AirflowException,
        AirflowFailException,
        AirflowNotFoundException,
        AirflowSensorTimeout,
        AirflowSkipException,
        TaskDeferred,
    )
    from airflow.sdk.observability.stats import Stats
else:
    try:
        from airflow.providers.common.compat.sdk import (
            AirflowException,
            AirflowFailException,
            AirflowNotFoundException,
            AirflowSensorTimeout,
            AirflowSkipException,
            BaseHook,
            BaseOperator,
            Context,
            TaskDeferred,
            XComArg,
            conf,
        )
    except ImportError:
        from airflow.configuration import conf
        from airflow.exceptions import (
            AirflowException,
            AirflowFailException,
            AirflowNotFoundException,
            AirflowSensorTimeout,
            AirflowSkipException,
            TaskDeferred,
        )
        from airflow.hooks.base import BaseHook
        from airflow.models.baseoperator import BaseOperator
        from airflow.models.xcom_arg import XComArg
        from airflow.utils.context import Context
    try:
        from airflow.providers.common.compat.sdk import Stats
    except ImportError:
        from airflow.stats import Stats

__all__ = [
    "AirflowException",
    "AirflowFailException",
    "AirflowNotFoundException",
    "AirflowSensorTimeout",
    "AirflowSkipException",
    "BaseHook",
    "BaseOperator",
    "Context",
    "Stats",
    "TaskDeferred",
    "XComArg",
    "conf",
    "first_reschedule_date",
    "get_current_context",
]


def first_reschedule_date(context: Context, retries: int) -> datetime | None:
    """
    Return when a rescheduled sensor looked for the first time, or None if this is the first time.

    :param context: The task's context.
    :param retries: How many retries the task has.
    """
    ti: Any = context["ti"]
    if hasattr(ti, "get_first_reschedule_date"):
        return cast("datetime | None", ti.get_first_reschedule_date(context))
    # Airflow 2 asks its database, in a function of the sensors' own module.
    from airflow.sensors.base import _orig_start_date  # type: ignore[import-not-found]

    date = _orig_start_date(
        dag_id=ti.dag_id,
        task_id=ti.task_id,
        run_id=ti.run_id,
        map_index=ti.map_index,
        try_number=(ti.max_tries or 0) - retries + 1,
    )
    return cast("datetime | None", date)


def get_current_context() -> Context:
    """Return the context of the task that runs. On Airflow 2, its module is one that a DAG file must not pay for."""
    try:
        module = import_module("airflow.sdk")
    except ImportError:
        module = import_module("airflow.operators.python")
    return cast("Context", module.get_current_context())


def triggerer_stats() -> Any:
    """Return Airflow's statistics as the triggerer has set them up: on newer versions, a task's are others."""
    try:
        from airflow.observability.stats import Stats as TriggererStats
    except ImportError:
        return Stats
    return TriggererStats
