"""The clients of an AWS connection, and how they are called; the calls themselves are in the hook."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook
from botocore import xform_name
from botocore.config import Config

from airflow_provider_personalize.aws_errors import (
    AWS_ERRORS,
    answers_to,
    building_a_client,
    describe_error,
    is_expired,
    is_transient,
)
from airflow_provider_personalize.exceptions import InvalidRequestError
from airflow_provider_personalize.metrics import JOB_DURATION
from airflow_provider_personalize.service.kinds import ResourceKind, ResourceStatus
from airflow_provider_personalize.service.statuses import text_at
from airflow_provider_personalize.service.waits import growing_pause

#: How often a call is tried when the answer is throttling, 5xx or none; about a minute and a half in all.
TRIES = 8


def send_duration(seen: ResourceStatus, stats: Any = None) -> None:
    """
    Send the metric of how long a job took, or another resource, from its creation until it was seen to have ended.

    :param seen: Its last status.
    :param stats: Airflow's statistics, where they are not those of a task.
    """
    if seen.created_at is not None:
        seconds = max(0.0, time.time() - seen.created_at.timestamp())
        JOB_DURATION.send(seconds, stats=stats, kind=seen.kind.noun, state=seen.state.name.lower())


class PersonalizeClients(AwsBaseHook):
    """
    The clients of one AWS connection, and how they are called.

    Parameters are those of :class:`~airflow.providers.amazon.aws.hooks.base_aws.AwsBaseHook`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["client_type"] = "personalize"
        self._sessions: dict[tuple[Any, ...], Any] = {}
        with building_a_client():
            super().__init__(*args, **kwargs)

    def get_session(self, *args: Any, **kwargs: Any) -> Any:
        """Return the session of a region. It is made once, since each that is made writes a line to the log."""
        key = (*args, *kwargs.items())
        if key not in self._sessions:
            self._sessions[key] = super().get_session(*args, **kwargs)
        return self._sessions[key]

    def get_client_type(self, *args: Any, **kwargs: Any) -> Any:
        """
        Build a client.

        :raises ServiceError: if AWS gives no credentials for it, or it has no region or profile.
        :raises InvalidRequestError: if the connection's settings make no client.
        """
        with building_a_client():
            if isinstance(self.verify, str) and not Path(self.verify).exists():
                raise InvalidRequestError(f"verify: expected a file or folder of CA certificates, got {self.verify!r}.")
            return super().get_client_type(*args, **kwargs)

    def client_with(self, *, forced: Mapping[str, Any] | None = None, **defaults: Any) -> Any:
        """
        Build a client whose botocore configuration differs from that of :attr:`conn`.

        :param forced: Options that win over those of the user and the connection.
        :param defaults: Options that hold where the user and the connection say nothing.
        """
        with building_a_client():
            config: Config = Config(**defaults).merge(self.config)
            return self.get_client_type(region_name=self.region_name, config=config.merge(Config(**(forced or {}))))

    @cached_property
    def _create_client(self) -> Any:
        # botocore would repeat a refused create at once and several times, which a full quota makes pointless.
        return self.client_with(forced={"retries": {"total_max_attempts": 1}})

    @cached_property
    def polling_client(self) -> Any:
        """The client to look at jobs with: whoever waits comes again anyway, so it neither insists nor hangs."""
        return self.client_with(connect_timeout=10, read_timeout=30, retries={"total_max_attempts": 2})

    def s3_client(self, **defaults: Any) -> Any:
        """
        Build an S3 client over the same connection.

        :param defaults: botocore options that hold where the user and the connection say nothing.
        """
        from airflow.providers.amazon.aws.hooks.s3 import S3Hook

        with building_a_client():
            hook = S3Hook(aws_conn_id=self.aws_conn_id, region_name=self.region_name, verify=self.verify)
            # The connection is read, and its line logged, once.
            vars(hook).update(conn_config=self.conn_config, get_session=self.get_session)
            return hook.get_client_type(region_name=self.region_name, config=Config(**defaults).merge(self.config))

    def dynamodb_client(self) -> Any:
        """Build a DynamoDB client over the same connection: whoever uses it sends again what may pass."""
        with building_a_client():
            config = Config(connect_timeout=10, read_timeout=30, retries={"total_max_attempts": 2}).merge(self.config)
            return AwsBaseHook(
                aws_conn_id=self.aws_conn_id,
                client_type="dynamodb",
                region_name=self.region_name,
                verify=self.verify,
                config=config,
            ).get_conn()

    def _call(self, operation: str, *, client: Any = None, arn: str | None = None, **request: Any) -> dict[str, Any]:
        client = client or self._patiently("Making the AWS client", lambda: self.conn)
        try:
            with answers_to(operation, region=self.region_name, arn=arn):
                response: dict[str, Any] = getattr(client, xform_name(operation))(**request)
        except AWS_ERRORS as error:
            self._renew_if_expired(error)
            raise
        return response

    def _patiently(self, operation: str, step: Callable[[], Any]) -> Any:
        """Return what a step returns, and repeat it for about a minute and a half while it meets what may pass."""
        tried = 0
        while True:
            tried += 1
            try:
                return step()
            except AWS_ERRORS as error:
                if tried == TRIES or not is_transient(error):
                    raise
                self._pause(operation, error, tried)

    def _renew_if_expired(self, error: Exception) -> None:
        """Let the next call make its client anew, from the connection as it is then, if credentials have expired."""
        if is_expired(error):
            self._sessions.clear()
            for name in ("conn_config", "conn", "polling_client", "_create_client"):
                vars(self).pop(name, None)

    def _pause(self, operation: str, error: Exception, tried: int) -> None:
        self._renew_if_expired(error)
        pause = growing_pause(tried, first=1, longest=30)
        self.log.warning("%s (%s). Trying again in %.0f s.", describe_error(error), operation, pause)
        time.sleep(pause)

    def pages(self, kind: ResourceKind) -> Iterator[dict[str, Any]]:
        """
        Yield the pages of the listing of a kind, for somebody who looks now: an error is raised rather than waited out.

        :param kind: The kind.
        """
        yield from self._pages(kind.list_operation, client=self.polling_client, maxResults=100)

    def _pages(self, operation: str, **request: Any) -> Iterator[dict[str, Any]]:
        while True:
            page = self._call(operation, **request)
            yield page
            token, seen = text_at(page, "nextToken"), request.get("nextToken")
            if not token or token == seen:
                return
            request["nextToken"] = token
