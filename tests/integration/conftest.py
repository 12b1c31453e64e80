"""Fixtures for tests that need Airflow, and the service's stand-in."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import TYPE_CHECKING

import pytest

from airflow_provider_personalize.sql import opening
from tests.integration.load_support import (
    DuckDbTarget,
    MySqlTarget,
    Output,
    PostgresTarget,
    SqliteTarget,
    Target,
    mariadb,
)
from tests.integration.spark_support import spark_session

if TYPE_CHECKING:
    from airflow_provider_personalize.local import LocalPersonalize

SetConnection = Callable[[str, str], str]


@pytest.fixture(scope="session", autouse=True)
def models_read_once() -> Iterator[None]:
    """
    Have botocore read each of its JSON models once in this process, not once for each session.

    Every test starts a stand-in and makes hooks, each with a boto3 session of its own: reading them again was most of
    what that took.
    """
    from botocore.loaders import JSONFileLoader

    with pytest.MonkeyPatch.context() as patch:
        read = cache(partial(JSONFileLoader.load_file, JSONFileLoader()))
        patch.setattr(JSONFileLoader, "load_file", lambda _, path: read(path))
        yield


@pytest.fixture(scope="session")
def airflow_db() -> None:
    """Airflow's metadata database (SQLite, in the session's own AIRFLOW_HOME), for what runs tasks."""
    from airflow.utils.db import initdb

    initdb()


@pytest.fixture
def airflow_connection(monkeypatch: pytest.MonkeyPatch) -> SetConnection:
    """A function that takes the id and the URI or JSON of an Airflow connection for this test, and returns the id."""

    def define(conn_id: str, value: str) -> str:
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", value)
        return conn_id

    return define


@pytest.fixture
def local(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalPersonalize]:
    """The stand-in on a free port, with jobs that take no time; the environment points boto3 and Airflow at it."""
    from airflow_provider_personalize.local import LocalPersonalize

    with LocalPersonalize(port=0, job_seconds=0.2) as service:
        # S3 is this process's, so it has what other tests have left, in whichever order they were given to a worker.
        client = service.s3(service.region)
        for page in client.get_paginator("list_objects_v2").paginate(Bucket="personalize-local"):
            if left := [{"Key": found["Key"]} for found in page.get("Contents", ())]:
                client.delete_objects(Bucket="personalize-local", Delete={"Objects": left})
        for name, value in service.environment.items():
            monkeypatch.setenv(name, value)
        yield service


@pytest.fixture(scope="session")
def spark(tmp_path_factory):
    """A session of Spark, for this session alone."""
    with spark_session(tmp_path_factory.mktemp("spark")) as session:
        yield session


@pytest.fixture
def output(tmp_path):
    """A folder for output files."""
    return Output(tmp_path / "output")


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    """The address of a server of moto: S3, and whatever else of AWS it imitates. Whoever uses it resets it."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture(scope="session")
def mariadb_port(tmp_path_factory):
    """The port of a MariaDB server, for this session alone."""
    with mariadb(tmp_path_factory.mktemp("mariadb")) as port:
        yield port


#: Each database; ``generic`` is SQLite as any database that has no sink of its own.
DATABASES = ["postgres", "sqlite", "mysql", "mysql-files", "mysql-connector", "duckdb", "generic"]


@pytest.fixture(params=DATABASES)
def target(request, open_database) -> Target:
    """Each database in turn."""
    return open_database(request.param)


@pytest.fixture
def open_database(request, tmp_path, airflow_connection, monkeypatch) -> Callable[[str], Target]:
    """A function that opens one of :data:`DATABASES`, empty."""
    return partial(_database, request, tmp_path, airflow_connection, monkeypatch)


def _database(request, tmp_path, airflow_connection, monkeypatch, kind: str) -> Target:
    if kind == "postgres":
        database = request.getfixturevalue("postgres")
        return PostgresTarget(database, airflow_connection("target", database.uri))
    if kind.startswith("mysql"):
        port = request.getfixturevalue("mariadb_port")
        name = f"db_{secrets.token_hex(6)}"
        MySqlTarget(port, "mysql", "").execute(f"CREATE DATABASE {name} CHARACTER SET latin1")
        extra = {"client": "mysql-connector-python"} if kind == "mysql-connector" else {}
        connection = {"conn_type": "mysql", "host": "127.0.0.1", "port": port, "login": "root", "schema": name}
        connection_id = airflow_connection("target", json.dumps(connection | {"extra": extra}))
        return MySqlTarget(port, name, connection_id, local_infile=kind == "mysql-files")
    path = tmp_path / "target.db"
    if kind == "duckdb":
        pytest.importorskip("airflow.providers.duckdb.hooks.duckdb", reason="needs the extra duckdb: make venv")
        return DuckDbTarget(path, airflow_connection("target", json.dumps({"conn_type": "duckdb", "host": str(path)})))
    if kind == "generic":
        monkeypatch.setattr(opening, "database_of", lambda connection: "other")
    return SqliteTarget(path, airflow_connection("target", json.dumps({"conn_type": "sqlite", "host": str(path)})))
