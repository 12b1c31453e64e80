"""Fixtures for tests that need Airflow, and the service's stand-in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from airflow_provider_personalize.local import LocalPersonalize

SetConnection = Callable[[str, str], str]


@pytest.fixture(scope="session")
def airflow_db() -> None:
    """Airflow's metadata database (SQLite, in the session's own AIRFLOW_HOME), for what runs tasks."""
    from airflow.utils.db import initdb

    initdb()


@pytest.fixture
def airflow_connection(monkeypatch: pytest.MonkeyPatch) -> SetConnection:
    """A function that defines an Airflow connection for this test, from its id and its URI or JSON; gives the id."""

    def define(conn_id: str, value: str) -> str:
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", value)
        return conn_id

    return define


@pytest.fixture
def local(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalPersonalize]:
    """The stand-in on a free port, with jobs that take no time; the environment points boto3 and Airflow at it."""
    from airflow_provider_personalize.local import LocalPersonalize

    with LocalPersonalize(port=0, job_seconds=0.2) as service:
        for name, value in service.environment.items():
            monkeypatch.setenv(name, value)
        yield service
