"""The plugin, on every version of Airflow: there from 3.1 on, once, cheap for tasks; and nowhere before."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

pytest.importorskip("airflow", reason="the plugin is Airflow's")

import airflow

from airflow_provider_personalize.plugins import plugin


def test_it_is_there_where_airflow_shows_views_and_nowhere_else():
    assert plugin.SHOWS_VIEWS is (tuple(map(int, airflow.__version__.split(".")[:2])) >= (3, 1))
    views, apps = plugin.PersonalizePlugin.external_views, plugin.PersonalizePlugin.fastapi_apps
    if not plugin.SHOWS_VIEWS:
        assert (views, apps, plugin.ENTRY_POINT) == ([], [], None)
        return
    assert plugin.ENTRY_POINT is plugin.PersonalizePlugin
    assert {view["destination"] for view in views} == {"nav", "dag_run", "task_instance"}
    # Airflow drops the second view of a route, and an address from its root would not hold behind a prefix.
    assert len({view["url_route"] for view in views}) == len(views)
    assert all(view["href"].startswith("personalize/") for view in views)
    [app] = apps
    assert app["url_prefix"] == "/personalize"


def fresh(code, **environment):
    """What a fresh interpreter prints last."""
    out = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True, check=True
    )
    return json.loads(out.stdout.splitlines()[-1])


def test_a_task_that_loads_plugins_pays_nothing_for_it():
    code = "import json, sys, airflow.plugins_manager{}; print(json.dumps(sorted(sys.modules)))"
    before = set(fresh(code.format("")))
    loaded = set(fresh(code.format(", airflow_provider_personalize.plugins.plugin"))) - before
    assert "airflow_provider_personalize.plugins.plugin" in loaded
    assert not {
        name for name in loaded if name.split(".")[0] in {"boto3", "botocore", "fastapi", "jinja2", "starlette"}
    }
    assert "airflow_provider_personalize.plugins.app" not in loaded


@pytest.mark.parametrize("lazy", ["True", "False"])
def test_airflow_loads_it_once_and_without_error(lazy):
    """By its entry point; by the provider's description where providers are discovered at once."""
    code = """
import json, airflow.plugins_manager as manager
found = manager.get_plugin_info(["source"])
errors = manager._get_plugins()[1] if hasattr(manager, "_get_plugins") else manager.import_errors
print(json.dumps([[one["name"] for one in found].count("personalize"), str(errors)]))
"""
    times, errors = fresh(code, AIRFLOW__CORE__LAZY_DISCOVER_PROVIDERS=lazy)
    # OpenLineage's own plugin comes by both ways.
    assert "personalize" not in errors.lower()
    if plugin.SHOWS_VIEWS:
        assert times == 1
