"""Which part answers a request: Personalize's API, the controls, or, for all else (S3 above all), moto."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import time
import uuid
from collections.abc import Callable, Iterable
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

from airflow_provider_personalize.local import console
from airflow_provider_personalize.local.api import Api
from airflow_provider_personalize.local.controls import Controls
from airflow_provider_personalize.local.errors import ApiError
from airflow_provider_personalize.local.faults import DROPS, ERRORS, Faults
from airflow_provider_personalize.local.guard import Guard, read_body
from airflow_provider_personalize.local.live import PATHS

_TARGET = "AmazonPersonalize."
_CONTROLS = "/_local/"
#: moto's own controls, by which all of S3 could be emptied.
_MOTO_CONTROLS = "/moto-api"
_SIGNED = re.compile(r"Credential=[^/]+/[^/]+/(?P<region>[^/]+)/(?P<service>[^/]+)/")
#: How the services that have such a header name an operation, as ``DynamoDB_20120810.PutItem``.
_OPERATION = re.compile(r"[\w.]+\.\w+", re.ASCII)
#: The HTTP statuses of errors of the services of campaigns and events, where they are not 400.
_LIVE_STATUS = {"ResourceNotFoundException": 404, "ResourceInUseException": 409}
_API_TYPE = "application/x-amz-json-1.1"

Environ = dict[str, Any]
StartResponse = Callable[..., Any]


class Application:
    """
    The WSGI application.

    :param api: Personalize.
    :param controls: The controls.
    :param faults: What is to go wrong.
    :param region: The region of a request that was not signed for one.
    :param guard: Which requests are answered.
    """

    def __init__(self, api: Api, controls: Controls, faults: Faults, region: str, guard: Guard) -> None:
        self.api = api
        self.controls = controls
        self.faults = faults
        self.region = region
        self.guard = guard
        self._moto = DomainDispatcherApplication(create_backend_app)

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        try:
            return self._answer(environ, start_response)
        except ApiError as error:
            return _json(start_response, error.status, _error(error), _API_TYPE)

    def _answer(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        target = environ.get("HTTP_X_AMZ_TARGET", "")
        path = environ.get("PATH_INFO", "")
        signed = _SIGNED.search(environ.get("HTTP_AUTHORIZATION", ""))
        ours = target.startswith(_TARGET) or path.startswith((_CONTROLS, _MOTO_CONTROLS))
        self.guard.check(environ, to_s3=not ours)
        if path.startswith(_MOTO_CONTROLS):
            raise ApiError("ResourceNotFoundException", f"There is nothing at {path}.", 404)
        if target.startswith(_TARGET):
            region = signed["region"] if signed else self.region
            status, answer = self._personalize(target.removeprefix(_TARGET), region, environ)
            return _json(start_response, status, answer, _API_TYPE)
        if path.startswith(_CONTROLS):
            name = path.removeprefix(_CONTROLS)
            if (environ["REQUEST_METHOD"], name) == ("GET", "console"):
                status, page = console.answer(self.api, environ.get("QUERY_STRING", ""))
                return _send(start_response, status, page.encode(), "text/html; charset=utf-8", console.HEADERS)
            return _json(start_response, *self.controls.answer(environ["REQUEST_METHOD"], name, read_body(environ)))
        if signed and signed["service"].lower() == "personalize" and path in PATHS and not target:
            return self._live(*PATHS[path], signed["region"], environ, start_response)
        personalize = "personalize" in target.lower() or (signed and signed["service"].lower() == "personalize")
        if personalize or (target and not _OPERATION.fullmatch(target)):
            # moto has a few operations of Personalize too, which know nothing of what is here.
            raise ApiError(
                "UnknownOperationException", f"Expected an X-Amz-Target like {_TARGET}DescribeSolution, got {target!r}."
            )
        return self._backend(environ, start_response)

    def _live(
        self, service: str, operation: str, region: str, environ: Environ, start_response: StartResponse
    ) -> Iterable[bytes]:
        """Answer a request of ``personalize-runtime`` or ``personalize-events``, which name errors in a header."""
        status, answer = self._personalize(operation, region, environ, service)
        if status < 400:
            return _json(start_response, status, answer)
        code = answer.pop("__type")
        status = _LIVE_STATUS.get(code, status)
        return _json(start_response, status, answer, headers=[("x-amzn-ErrorType", code)])

    def _personalize(
        self, operation: str, region: str, environ: Environ, service: str = "personalize"
    ) -> tuple[int, Any]:
        body = read_body(environ)
        arrived = time.time()
        status, answer, outcome = 200, None, "ok"
        dropped = False
        try:
            fault = self.faults.take((*ERRORS, *DROPS), operation)
            if fault and fault.fault in ERRORS:
                raise fault.error()
            dropped = fault is not None
            if fault and fault.fault == "drop":
                outcome = "dropped"
            else:
                answer = self.api.answer(operation, region, body, service)
                outcome = "ok, dropped" if dropped else "ok"
        except ApiError as error:
            outcome, dropped = error.code, False
            status, answer = error.status, _error(error)
        # Counted before the caller can know the outcome, so that whoever looks after it sees the call.
        self.controls.count(operation, arrived, outcome, body)
        if dropped:
            _drop(environ)
        return status, answer

    def _backend(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """
        Let moto answer.

        :raises ApiError: if it cannot make anything of the request.
        """
        try:
            answered: Iterable[bytes] = self._moto.get_application(environ)(environ, start_response)
        except NotImplementedError as error:
            raise ApiError("NotImplemented", f"moto, which answers for S3 here, lacks this: {error}", 501) from error
        except ConnectionError:
            raise
        except Exception as error:
            # moto reads headers without looking at them first, and raises whatever comes of it.
            raise ApiError(
                "InvalidRequest", f"moto, which answers for S3 here, could not read this request: {error!r}"
            ) from error
        return answered


def _error(error: ApiError) -> dict[str, str]:
    return {"__type": error.code, "message": error.message}


def _drop(environ: Environ) -> None:
    """
    Close the connection without an answer.

    :raises ConnectionError: always; werkzeug takes it as the client's having gone.
    """
    with contextlib.suppress(OSError):
        environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
    raise ConnectionAbortedError("dropped on request")


def _json(
    start_response: StartResponse,
    status: int,
    answer: Any,
    content_type: str = "application/json",
    headers: Iterable[tuple[str, str]] = (),
) -> Iterable[bytes]:
    return _send(start_response, status, json.dumps(answer).encode(), content_type, headers)


def _send(
    start_response: StartResponse, status: int, body: bytes, content_type: str, headers: Iterable[tuple[str, str]]
) -> Iterable[bytes]:
    start_response(
        f"{status} {'OK' if status < 400 else 'Error'}",
        [
            ("Content-Type", content_type),
            ("Content-Length", str(len(body))),
            ("x-amzn-RequestId", str(uuid.uuid4())),
            *headers,
        ],
    )
    return [body]
