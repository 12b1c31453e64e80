"""
The plugin that Airflow loads.

Airflow finds it by the entry point ``airflow.plugins``; by what the provider says of itself only where ``[core]
lazy_discover_providers`` is off, and then no plugin may come by both ways. Tasks load plugins, too, so this module
imports nothing that they do not have already.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow import __version__, settings

if TYPE_CHECKING:
    from airflow.sdk.plugins_manager import AirflowPlugin
else:
    try:
        from airflow.providers.common.compat.sdk import AirflowPlugin
    except ImportError:  # Airflow 2.11 with the providers of its own constraints file
        from airflow.plugins_manager import AirflowPlugin

#: Whether this Airflow shows a plugin's views.
SHOWS_VIEWS = tuple(int(part) for part in __version__.split(".")[:2]) >= (3, 1)

#: Where the API server serves the pages.
PREFIX = "/personalize"

# Airflow fills in the braces. The addresses are relative to the one that Airflow is served at, whichever that is.
_TASK = "dag_id={DAG_ID}&run_id={RUN_ID}&task_id={TASK_ID}&map_index={MAP_INDEX}"
_VIEWS = (
    {
        "name": "Personalize",
        "href": f"{PREFIX[1:]}/jobs",
        "destination": "nav",
        "url_route": "personalize",
        "icon": f"{PREFIX[1:]}/static/icon.svg",
        "icon_dark_mode": f"{PREFIX[1:]}/static/icon_dark.svg",
    },
    {
        "name": "Reports",
        "href": f"{PREFIX[1:]}/reports?dag_id={{DAG_ID}}&run_id={{RUN_ID}}",
        "destination": "dag_run",
        "url_route": "personalize-run",
    },
    {
        "name": "Reports",
        "href": f"{PREFIX[1:]}/reports?{_TASK}",
        "destination": "task_instance",
        "url_route": "personalize-task",
    },
)


class Pages:
    """The application of the pages: it is made at the first request, so that the API server's start pays nothing."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request, as ASGI has it."""
        from airflow_provider_personalize.plugins.app import app

        await app()(scope, receive, send)


class PersonalizePlugin(AirflowPlugin):
    """The reports of a run and of a task as tabs, and the page "Personalize" in the navigation."""

    name = "personalize"
    fastapi_apps = [{"name": "personalize", "url_prefix": PREFIX, "app": Pages()}] if SHOWS_VIEWS else []
    external_views = [dict(view) for view in _VIEWS] if SHOWS_VIEWS else []


#: What the entry point names: nothing where Airflow cannot show it, or takes it from the provider's description.
ENTRY_POINT = PersonalizePlugin if SHOWS_VIEWS and settings.LAZY_LOAD_PROVIDERS else None
