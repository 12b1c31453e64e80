"""
What Airflow 2 and 3 call by different names, under one name.

The Amazon provider's own compatibility layer is used where it is installed with the names that are needed; the
fallback is for Airflow 2.11 with the providers of its own constraints file, which come before that layer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow.configuration import conf
    from airflow.sdk import BaseHook, BaseOperator, Context
    from airflow.sdk.exceptions import (
        AirflowFailException,
        AirflowNotFoundException,
        AirflowSensorTimeout,
        AirflowSkipException,
        TaskDeferred,
    )
else:
    try:
        from airflow.providers.common.compat.sdk import (
            AirflowFailException,
            AirflowNotFoundException,
            AirflowSensorTimeout,
            AirflowSkipException,
            BaseHook,
            BaseOperator,
            Context,
            TaskDeferred,
            conf,
        )
    except ImportError:
        from airflow.configuration import conf
        from airflow.exceptions import (
            AirflowFailException,
            AirflowNotFoundException,
            AirflowSensorTimeout,
            AirflowSkipException,
            TaskDeferred,
        )
        from airflow.hooks.base import BaseHook
        from airflow.models.baseoperator import BaseOperator
        from airflow.utils.context import Context

__all__ = [
    "AirflowFailException",
    "AirflowNotFoundException",
    "AirflowSensorTimeout",
    "AirflowSkipException",
    "BaseHook",
    "BaseOperator",
    "Context",
    "TaskDeferred",
    "conf",
]
