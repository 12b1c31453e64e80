"""
The whole thing on one machine: PostgreSQL, the stand-in for Amazon Personalize and S3, and a real Airflow.

``make demo`` and ``make airflow`` run on it, and so do the system tests, which stop, kill and start again its
processes one by one. Everything is made anew at each start, but the empty metadata database, which is kept and copied:
migrating one takes longer than all the rest.
"""

from __future__ import annotations

import base64
import importlib.metadata
import json
import os
import secrets
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from example_dags.demo.postgres import Database, Postgres, free_port
from example_dags.demo.processes import Process, Processes
from example_dags.demo.runs import Run, StackError

AIRFLOW_VERSION = importlib.metadata.version("apache-airflow")
AIRFLOW_3 = int(AIRFLOW_VERSION.partition(".")[0]) >= 3

REGION = "us-east-1"
#: The stand-in takes any. Airflow masks a connection's password in every log, so it is no word of a name.
SECRET = "any-secret-will-do"  # noqa: S105 - it keeps nothing
USER = PASSWORD = "admin"  # noqa: S105 - it listens on the loopback interface only

#: A policy for all tasks, since what takes minutes at AWS takes a second here: a task that waits stays on its worker,
#: since two starts of a process would take longer, and looks every second.
_HURRY = """
from datetime import timedelta


def task_policy(task):
    is_mapped = hasattr(task, "partial_kwargs")
    values = task.partial_kwargs if is_mapped else vars(task)
    hurried = {"retry_delay": timedelta(seconds=2)}
    if "poll_interval" in values:
        hurried |= {"poll_interval": 1, "deferrable": False, "wait_for_completion": True}
    if is_mapped:
        values.update(hurried)
    else:
        for name, value in hurried.items():
            setattr(task, name, value)
"""

#: Airflow's long-running processes, in the order of starting. Airflow 2 has no server that tasks talk to.
COMPONENTS = (*(["api-server"] if AIRFLOW_3 else []), "dag-processor", "scheduler", "triggerer")


def _get(url: str) -> bool:
    with urllib.request.urlopen(url, timeout=60) as response:  # noqa: S310 - it is our own, on loopback
        return bool(response.status == 200)


class Stack:
    """
    The processes and what they share.

    :param state: The folder for all that is written; made where there is none.
    :param job_seconds: How long a job of the stand-in takes.
    :param in_a_hurry: Whether tasks wait on their workers, look every second, and are retried at once.
    :param empty: Whether the stand-in is an account with nothing in it.
    :param ui: Serve Airflow's UI too, with the connections in its database rather than in the environment, so that
        they can be looked at and changed there. DAGs are paused then until someone turns them on, and keep their
        schedule; without, each run is triggered.
    :param standalone: Start Airflow as ``airflow standalone``, one process that starts the others, in place of one by
        one. Airflow 3 only: in Airflow 2 it would start a web server with an API of another kind.
    :param environment: Environment variables for Airflow's processes, as ``AIRFLOW__<SECTION>__<KEY>`` and
        ``AIRFLOW_VAR_<KEY>``, over the ones that are set here.
    :param dags_folder: Where the DAGs are; this package's examples by default.
    """

    def __init__(
        self,
        state: Path,
        *,
        job_seconds: float = 10.0,
        in_a_hurry: bool = False,
        empty: bool = False,
        ui: bool = False,
        standalone: bool = False,
        environment: Mapping[str, str] | None = None,
        dags_folder: Path | None = None,
    ) -> None:
        self.state = state.resolve()
        self.job_seconds = job_seconds
        self.in_a_hurry = in_a_hurry
        self.empty = empty
        self.ui = ui
        self.components = ("standalone",) if standalone else COMPONENTS
        self.home = self.state / "airflow"
        self.service_port = free_port()
        self.api_port = free_port()
        outside = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("AWS_", "AIRFLOW_", "BOTO", "PG", "PYTHON"))
        }
        self.processes = Processes(self.state / "logs", outside)
        self.postgres = Postgres(self.state / "postgres", self.processes)
        self.metadata: Database
        self.warehouse: Database
        self._dags_folder = dags_folder or Path(__file__).parents[1]
        self._overrides = dict(environment or {})

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # Starting and stopping

    def start(self) -> None:
        """
        Start everything, and wait until each part answers that others need.

        :raises ProcessDiedError: if one does not.
        """
        self.postgres.start()
        self.start_service(wait=False)
        self.warehouse = self.postgres.create("warehouse")
        self.metadata = self._new_metadata()
        settings = self.home / "config" / "airflow_local_settings.py"
        settings.parent.mkdir(exist_ok=True)
        settings.write_text(_HURRY if self.in_a_hurry else "")
        self.processes.environment |= self._airflow_environment(self.metadata)
        for name in self.components:
            # The server takes longest, so the ones that do nothing before a run begins leave it the processor.
            if name == "scheduler":
                self.wait_for_service()
            self.start_component(name)
        self.wait_for_service()

    def stop(self) -> None:
        """Stop everything, Airflow before its database; what does not stop in time is killed."""
        running = [self.processes[name] for name in (*self.components, "personalize-local") if name in self.processes]
        for process in running:
            if process.running:
                process.popen.terminate()
        deadline = time.monotonic() + 2
        while any(process.running for process in running) and time.monotonic() < deadline:
            time.sleep(0.05)
        for process in running:
            process.kill()
        if "postgres" in self.processes:
            self.postgres.stop()
        self.processes.close()

    def start_service(self, *, wait: bool = True) -> Process:
        """Start the stand-in; a restarted one has the same address and is empty."""
        command = Path(sys.executable).with_name("personalize-local")
        arguments = ["--port", str(self.service_port), "--job-seconds", str(self.job_seconds)]
        arguments += ["--empty"] if self.empty else []
        process = self.processes.start("personalize-local", [command, *arguments])
        if wait:
            self.wait_for_service()
        return process

    def start_component(self, name: str) -> Process:
        """Start one of Airflow's processes, or start it again after it has ended."""
        arguments = {
            "standalone": [],
            "api-server": [],
            # Their log servers have fixed ports, and nobody asks them: the logs are files of this machine.
            "scheduler": ["--skip-serve-logs"],
            "triggerer": ["--skip-serve-logs"],
            "dag-processor": [],
        }[name]
        if name == "api-server" and not self.ui:
            arguments += ["--apps", "core,execution"]
        return self.processes.start(name, [sys.executable, "-m", "airflow", name, *arguments], cwd=self.home)

    def _process_of(self, component: str) -> Process:
        """Return the process that one of Airflow's components is: its own, or the one that runs all of them."""
        return self.processes[component if component in self.processes else "standalone"]

    def wait_for_service(self) -> None:
        """Wait until the stand-in answers."""
        self.processes["personalize-local"].wait_until(lambda: _get(self.endpoint_url))

    def _new_metadata(self) -> Database:
        """Copy the empty metadata database, which is made when there is none of this version of Airflow yet."""
        template = f"airflow_{AIRFLOW_VERSION}"
        self.home.mkdir(parents=True, exist_ok=True)
        if not self.postgres.exists(template):
            environment = self._airflow_environment(self.postgres.create("airflow_new"))
            self.processes.run("migrate", [sys.executable, "-m", "airflow", "db", "migrate"], environment=environment)
            self.postgres.rename("airflow_new", template)
        return self.postgres.create("airflow", template)

    # What Airflow is told

    @property
    def endpoint_url(self) -> str:
        """The address of the stand-in."""
        return f"http://127.0.0.1:{self.service_port}"

    @property
    def ui_url(self) -> str:
        """The address of Airflow's API and UI."""
        return f"http://127.0.0.1:{self.api_port}"

    @property
    def connections(self) -> dict[str, dict[str, Any]]:
        """The connections of the example DAGs, by id. Against AWS, they are all that is different."""
        return {
            "aws_default": {
                "conn_type": "aws",
                "login": "local",
                "password": SECRET,
                "extra": {"endpoint_url": self.endpoint_url, "region_name": REGION},
            },
            "postgres_default": {
                "conn_type": "postgres",
                "host": "127.0.0.1",
                "port": self.postgres.port,
                "login": "postgres",
                "schema": self.warehouse.name,
            },
            "iceberg_default": {
                "conn_type": "iceberg",
                "host": f"sqlite:///{self.state}/lake.db",
                "extra": {
                    "type": "sql",
                    "warehouse": "s3://personalize-local/lake",
                    "s3.endpoint": self.endpoint_url,
                    "s3.access-key-id": "local",
                    "s3.secret-access-key": SECRET,
                    "s3.region": REGION,
                },
            },
        }

    def _airflow_environment(self, metadata: Database) -> dict[str, str]:
        """Return the environment of Airflow's processes: all their configuration, and nothing of this machine's AWS."""
        passwords = self.home / "passwords.json"
        passwords.write_text(json.dumps({USER: PASSWORD}))
        secret = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
        environment = {
            "AIRFLOW_HOME": str(self.home),
            # Where standalone looks for the command of the processes that it starts.
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
            "AIRFLOW__CORE__DAGS_FOLDER": str(self._dags_folder),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__PARALLELISM": "4",
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": str(self.ui),
            "AIRFLOW__CORE__FERNET_KEY": secret,
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.ui_url}/execution/",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(passwords),
            "AIRFLOW__API__BASE_URL": self.ui_url,
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(self.api_port),
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__API__SECRET_KEY": secret,
            "AIRFLOW__API_AUTH__JWT_SECRET": secret,
            "AIRFLOW__WEBSERVER__SECRET_KEY": secret,
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(free_port()),
            "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(free_port()),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": metadata.uri.replace("postgresql:", "postgresql+psycopg2:"),
            "AIRFLOW__SCHEDULER__STANDALONE_DAG_PROCESSOR": "True",
            "AIRFLOW__SCHEDULER__USE_JOB_SCHEDULE": str(self.ui),
            "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
            "AIRFLOW__PERSONALIZE__UI_CONNECTIONS": "aws_default",
            "AIRFLOW_VAR_EMAIL_PREVIEW_DIR": str(self.state / "previews"),
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        if not self.ui:
            for conn_id, connection in self.connections.items():
                environment[f"AIRFLOW_CONN_{conn_id.upper()}"] = json.dumps(connection)
        return environment | self._overrides

    def wait_for_ui(self) -> None:
        """Wait until Airflow's API and UI answer people and tasks (that part is built at the first request)."""
        for path in ("/api/v2/version", "/execution/health"):
            self._process_of("api-server").wait_until(lambda path=path: _get(self.ui_url + path))

    def import_connections(self) -> None:
        """Write the connections into Airflow's database, where the UI shows them."""
        path = self.home / "connections.json"
        path.write_text(json.dumps(self.connections))
        command = [sys.executable, "-m", "airflow", "connections", "import", path, "--overwrite"]
        self.processes.run("connections", command)

    # The stand-in, from outside

    def client(self, service: str) -> Any:
        """Return a boto3 client of the stand-in."""
        import boto3

        return boto3.client(
            service,
            endpoint_url=self.endpoint_url,
            region_name=REGION,
            aws_access_key_id="local",
            aws_secret_access_key=SECRET,
        )

    # Airflow, from outside

    def wait_for_dag(self, dag_id: str, timeout: float = 300.0) -> None:
        """
        Wait until Airflow knows a DAG.

        :raises StackError: if its file does not import, or the time is over.
        """
        deadline = time.monotonic() + timeout
        while not self.metadata.execute("SELECT 1 FROM serialized_dag WHERE dag_id = %s", [dag_id]):
            self.check()
            errors = self.metadata.execute("SELECT filename, stacktrace FROM import_error")
            if errors:
                raise StackError("\n".join(f"{name} does not import:\n{trace}" for name, trace in errors))
            if time.monotonic() > deadline:
                tail = self._process_of("dag-processor").tail()
                raise StackError(f"Airflow did not find the DAG {dag_id} within {timeout:.0f} s:\n{tail}")
            time.sleep(0.2)

    def check(self) -> None:
        """
        Make sure that every process still runs.

        :raises ProcessDiedError: if one has ended.
        """
        for name in ("postgres", "personalize-local", *self.components):
            self.processes[name].check()

    def trigger(self, dag_id: str, *, run_id: str | None = None, params: Mapping[str, Any] | None = None) -> Run:
        """
        Trigger a run by hand, as a person would: on Airflow 3, without a logical date.

        :param dag_id: The DAG, which Airflow has to know already.
        :param run_id: The run's id; made up by default.
        :param params: The run's params.
        """
        run_id = run_id or f"manual_{secrets.token_hex(4)}"
        if AIRFLOW_3:
            self.wait_for_ui()
            run = {"dag_run_id": run_id, "logical_date": None, "conf": dict(params or {})}
            self._call("POST", f"/api/v2/dags/{dag_id}/dagRuns", run)
        else:
            command = [sys.executable, "-m", "airflow", "dags", "trigger", dag_id, "--run-id", run_id]
            self.processes.run("trigger", [*command, "--conf", json.dumps(dict(params or {}))])
        return Run(self.metadata, self.home, dag_id, run_id)

    def unpause(self, dag_id: str) -> None:
        """Turn a DAG on, which Airflow has to know already."""
        self._call("PATCH", f"/api/v2/dags/{dag_id}", {"is_paused": False})

    def answer(self, run: Run, task_id: str, option: str, **params: str) -> None:
        """Answer a task that waits for a person, as that person would in the UI."""
        path = f"/api/v2/dags/{run.dag_id}/dagRuns/{run.run_id}/taskInstances/{task_id}/-1/hitlDetails"
        self._call("PATCH", path, {"chosen_options": [option], "params_input": params})

    def _call(self, method: str, path: str, body: Any) -> Any:
        """Call Airflow's API as the user."""
        login = {"username": USER, "password": PASSWORD}
        token = self._request("POST", "/auth/token", login)["access_token"]
        return self._request(method, path, body, {"Authorization": f"Bearer {token}"})

    def _request(self, method: str, path: str, body: Any, headers: Mapping[str, str] | None = None) -> Any:
        request = urllib.request.Request(  # noqa: S310 - it is our own, on loopback
            self.ui_url + path,
            json.dumps(body).encode(),
            {"Content-Type": "application/json", **(headers or {})},
            method=method,
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as response:  # noqa: S310
                return json.load(response)
        except urllib.error.HTTPError as error:
            raise StackError(f"{method} {path} was answered with {error.code}: {error.read().decode()}") from error
