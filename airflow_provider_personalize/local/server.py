"""One server, one port: Personalize's batch API, the stand-in's own controls, and all else (S3 above all) by moto."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Self

import boto3
from botocore.config import Config
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

from airflow_provider_personalize.exceptions import InvalidRequestError
from airflow_provider_personalize.local.api import Api
from airflow_provider_personalize.local.catalog import ACCOUNT
from airflow_provider_personalize.local.data import from_csv, movielens
from airflow_provider_personalize.local.errors import ApiError
from airflow_provider_personalize.local.faults import DROPS, ERRORS, Fault, Faults
from airflow_provider_personalize.local.jobs import Clock, Job, Jobs
from airflow_provider_personalize.local.recommend import Recommender
from airflow_provider_personalize.local.work import run_job
from airflow_provider_personalize.resources import ACTIVE, JOB_KINDS

#: The bucket that is there from the start.
BUCKET = "personalize-local"
ROLE_ARN = f"arn:aws:iam::{ACCOUNT}:role/personalize-local"
DEFAULT_PORT = 4510
_KEY = "local"
_TARGET = "AmazonPersonalize."
_SIGNED_REGION = re.compile(r"Credential=[^/]+/[^/]+/(?P<region>[^/]+)/")

Environ = dict[str, Any]
StartResponse = Callable[[str, list[tuple[str, str]]], Any]


class _Dropped(ConnectionError):
    """The connection was closed on purpose."""


class _Handler(getattr(__import__("moto.server", fromlist=["x"]), "MotoRequestHandler", WSGIRequestHandler)):  # type: ignore[misc]
    def log_request(self, *_: Any) -> None:
        """Keep quiet."""


@cache
def _recommender(interactions: Path | None, items: Path | None, users: Path | None) -> Recommender:
    # Shared by every server of the process, so that tests train once.
    return Recommender(from_csv(interactions, items, users) if interactions else movielens())


class LocalPersonalize:
    """
    The stand-in as a context manager: it serves from a thread, until the block ends.

    :param host: The address to listen at.
    :param port: The port to listen at; 0 for any that is free.
    :param job_seconds: How long a job takes, in seconds of the clock.
    :param region: The region that :attr:`environment` and :attr:`solution_arns` are for; every other one is served too.
    :param quota: How many jobs of a kind may be pending or in progress in a region.
    :param interactions: A CSV file to learn from instead of MovieLens; see
        :func:`~airflow_provider_personalize.local.data.from_csv`.
    :param items: A CSV file of the items' columns.
    :param users: A CSV file of the users' columns.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = DEFAULT_PORT,
        job_seconds: float = 20,
        region: str = "us-east-1",
        quota: int = 5,
        interactions: str | Path | None = None,
        items: str | Path | None = None,
        users: str | Path | None = None,
    ) -> None:
        self.host = host
        self.port = port
        self.region = region
        self.clock = Clock()
        self.faults = Faults()
        self.recommender = _recommender(*(Path(path) if path else None for path in (interactions, items, users)))
        self._s3_clients: dict[str, Any] = {}
        self._calls: Counter[str] = Counter()
        self._creates: list[dict[str, Any]] = []
        self._lock = threading.Lock()
        self._moto = DomainDispatcherApplication(create_backend_app)
        self.jobs = Jobs(self.clock, self._run)
        self.api = Api(self.jobs, self.faults, self.recommender, job_seconds=job_seconds, quota=quota)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """
        Listen, and make the bucket.

        :raises OSError: if the port is taken.
        """
        with socket.create_server((self.host, self.port), backlog=1024) as listening:
            self._server = make_server(
                self.host, self.port, self._answer, threaded=True, request_handler=_Handler, fd=listening.fileno()
            )
        self.port = self._server.port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="personalize-local")
        self._thread.start()
        self.s3(self.region).create_bucket(Bucket=BUCKET, **_location(self.region))

    def stop(self) -> None:
        """Stop listening, and let the jobs that are at work finish."""
        self.jobs.close()
        self._server.shutdown()
        self._thread.join()
        for client in self._s3_clients.values():
            client.close()

    # What a user of it needs to know

    @property
    def url(self) -> str:
        """Where it is to be found, as ``http://127.0.0.1:4510``."""
        return f"http://{'127.0.0.1' if self.host in ('', '0.0.0.0') else self.host}:{self.port}"  # noqa: S104

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables that point boto3, aiobotocore, the AWS CLI and Airflow at it."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": _KEY,
            "AWS_SECRET_ACCESS_KEY": _KEY,
            "AWS_DEFAULT_REGION": self.region,
        }

    @property
    def connection(self) -> str:
        """The Airflow connection to it, as the JSON that ``AIRFLOW_CONN_AWS_DEFAULT`` takes."""
        return json.dumps(
            {
                "conn_type": "aws",
                "login": _KEY,
                "password": _KEY,
                "extra": {"region_name": self.region, "endpoint_url": self.url},
            }
        )

    @property
    def solution_arns(self) -> dict[str, str]:
        """The solutions of its region, by name."""
        return {solution["name"]: arn for arn, solution in self.api.region(self.region).catalog.solutions.items()}

    @property
    def solution_version_arns(self) -> dict[str, str]:
        """The newest ACTIVE version of each solution of its region, by the solution's name."""
        versions = self.api.region(self.region).catalog.versions.values()
        return {version["name"]: version["solutionVersionArn"] for version in versions if version["status"] == ACTIVE}

    @property
    def filter_arns(self) -> dict[str, str]:
        """The filters of its region, by name."""
        return {row["name"]: arn for arn, row in self.api.region(self.region).filters.items()}

    @cached_property
    def dataset_group_arn(self) -> str:
        """The dataset group of its region."""
        return self.api.region(self.region).catalog.dataset_group_arn

    def s3(self, region: str) -> Any:
        """Give an S3 client of a region, which a job reads and writes through as anyone else would."""
        with self._lock:
            if region not in self._s3_clients:
                self._s3_clients[region] = boto3.session.Session(_KEY, _KEY, region_name=region).client(
                    "s3",
                    endpoint_url=self.url,
                    config=Config(s3={"addressing_style": "path"}, proxies={}, retries={"max_attempts": 2}),
                )
            return self._s3_clients[region]

    def _run(self, job: Job) -> None:
        run_job(job, self.recommender, self.s3(job.arn.split(":")[3]))

    # Requests

    def _answer(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        target = environ.get("HTTP_X_AMZ_TARGET", "")
        if target.startswith(_TARGET):
            return self._personalize(target.removeprefix(_TARGET), environ, start_response)
        if environ.get("PATH_INFO", "").startswith("/_local/"):
            return self._control(environ, start_response)
        answer: Iterable[bytes] = self._moto(environ, start_response)
        return answer

    def _personalize(self, operation: str, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        body = _read_body(environ)
        signed = _SIGNED_REGION.search(environ.get("HTTP_AUTHORIZATION", ""))
        arrived = time.time()
        outcome = "ok"
        status = 200
        try:
            fault = self.faults.take((*ERRORS, *DROPS), operation)
            if fault and fault.fault in ERRORS:
                raise fault.error()
            if fault and fault.fault == "drop":
                outcome = "dropped"
                raise _drop(environ)
            answer = self.api.answer(operation, signed["region"] if signed else self.region, body)
            if fault:
                outcome = "ok, dropped"
                raise _drop(environ)
        except ApiError as error:
            outcome, status = error.code, error.status
            answer = {"__type": error.code, "message": error.message}
        finally:
            self._count(operation, arrived, outcome, body)
        return _json(start_response, status, answer, "application/x-amz-json-1.1")

    def _count(self, operation: str, arrived: float, outcome: str, body: bytes) -> None:
        with self._lock:
            self._calls[operation] += 1
            if operation in {kind.create_operation for kind in JOB_KINDS.values()}:
                with contextlib.suppress(ValueError, AttributeError):
                    name = json.loads(body).get("jobName")
                    self._creates.append({"at": arrived, "operation": operation, "jobName": name, "outcome": outcome})

    def _control(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Answer at ``/_local/``: see, set the clock, ask for faults, start anew."""
        route = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO'].removeprefix('/_local/')}"
        routes: dict[str, Callable[..., Any]] = {
            "GET state": self.state,
            "POST faults": lambda **fault: self.faults.add(Fault(**fault)),
            "DELETE faults": self.faults.clear,
            "POST clock": self.set_clock,
            "POST reset": self.reset,
        }
        if route not in routes:
            return _json(start_response, 404, {"message": f"Expected one of {', '.join(routes)}, got {route}."})
        try:
            answer = routes[route](**json.loads(_read_body(environ) or b"{}"))
        except (InvalidRequestError, TypeError, ValueError) as error:
            return _json(start_response, 400, {"message": str(error)})
        return _json(start_response, 200, answer or {})

    # Controls, for tests in this process; the same over HTTP for all others

    def state(self) -> dict[str, Any]:
        """
        Tell what has happened: jobs, calls by operation, create calls with their time and outcome.

        Times of jobs are by the clock, those of calls are the machine's.
        """
        now = self.clock.now()
        with self._lock:
            calls, creates = dict(self._calls), list(self._creates)
        return {
            "now": now,
            "jobs": [
                job.describe(now) | {"arn": job.arn, "kind": job.kind.name} for job in list(self.jobs.by_arn.values())
            ],
            "calls": calls,
            "create_calls": creates,
            "most_running": dict(self.jobs.most_running),
            "faults": self.faults.pending(),
        }

    def add_fault(self, fault: str, **values: Any) -> None:
        """
        Ask for something to go wrong.

        :param fault: What; one of :data:`~airflow_provider_personalize.local.faults.NAMES`.
        :param values: The other fields of :class:`~airflow_provider_personalize.local.faults.Fault`.
        """
        self.faults.add(Fault(fault, **values))

    def set_clock(
        self, *, now: float | None = None, advance: float | None = None, stopped: bool | None = None
    ) -> dict[str, Any]:
        """
        Set the clock, and wait until every job that is due by it has ended.

        :param now: What it is to show, in seconds since the epoch.
        :param advance: By how many seconds to put it forward.
        :param stopped: Whether it is to stand still.
        """
        if now is not None:
            self.clock.set(now)
        if advance is not None:
            self.clock.set(self.clock.now() + advance)
        if stopped is not None:
            self.clock.stop(stopped)
        return {"settled": self.jobs.clock_changed(), "now": self.clock.now(), "stopped": self.clock.stopped}

    def reset(self) -> None:
        """Forget jobs, filters, faults and counts, and let the clock go right; S3 keeps its objects."""
        self.faults.clear()
        self.clock.stop(False)
        self.clock.set(time.time())
        self.jobs.reset()
        self.api.reset()
        with self._lock:
            self._calls.clear()
            self._creates.clear()


def _location(region: str) -> dict[str, Any]:
    return {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}


def _read_body(environ: Environ) -> bytes:
    body: bytes = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    return body


def _drop(environ: Environ) -> _Dropped:
    """Close the connection without an answer."""
    with contextlib.suppress(OSError):
        environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
    return _Dropped("dropped on request")


def _json(
    start_response: StartResponse, status: int, answer: Any, content_type: str = "application/json"
) -> Iterable[bytes]:
    body = json.dumps(answer).encode()
    start_response(
        f"{status} {'OK' if status < 400 else 'Error'}",
        [
            ("Content-Type", content_type),
            ("Content-Length", str(len(body))),
            ("x-amzn-RequestId", str(uuid.uuid4())),
        ],
    )
    return [body]
