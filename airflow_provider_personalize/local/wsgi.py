"""Who answers which request: Personalize's API, the controls, and for all else (S3 above all) moto."""

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

from airflow_provider_personalize.local.api import Api
from airflow_provider_personalize.local.controls import Controls
from airflow_provider_personalize.local.errors import ApiError
from airflow_provider_personalize.local.faults import DROPS, ERRORS, Faults

_TARGET = "AmazonPersonalize."
_CONTROLS = "/_local/"
_SIGNED_REGION = re.compile(r"Credential=[^/]+/[^/]+/(?P<region>[^/]+)/")

Environ = dict[str, Any]
StartResponse = Callable[[str, list[tuple[str, str]]], Any]


class Application:
    """
    The WSGI application.

    :param api: Personalize.
    :param controls: The controls.
    :param faults: What is to go wrong.
    :param region: The region of a request that was not signed for one.
    """

    def __init__(self, api: Api, controls: Controls, faults: Faults, region: str) -> None:
        self.api = api
        self.controls = controls
        self.faults = faults
        self.region = region
        self._moto = DomainDispatcherApplication(create_backend_app)

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        target = environ.get("HTTP_X_AMZ_TARGET", "")
        if target.startswith(_TARGET):
            status, answer = self._personalize(target.removeprefix(_TARGET), environ)
            return _json(start_response, status, answer, "application/x-amz-json-1.1")
        path = environ.get("PATH_INFO", "")
        if path.startswith(_CONTROLS):
            name = path.removeprefix(_CONTROLS)
            return _json(start_response, *self.controls.answer(environ["REQUEST_METHOD"], name, _read_body(environ)))
        answered: Iterable[bytes] = self._moto(environ, start_response)
        return answered

    def _personalize(self, operation: str, environ: Environ) -> tuple[int, Any]:
        body = _read_body(environ)
        signed = _SIGNED_REGION.search(environ.get("HTTP_AUTHORIZATION", ""))
        region = signed["region"] if signed else self.region
        arrived = time.time()
        outcome = "ok"
        try:
            fault = self.faults.take((*ERRORS, *DROPS), operation)
            if fault and fault.fault in ERRORS:
                raise fault.error()
            if fault and fault.fault == "drop":
                outcome = "dropped"
                _drop(environ)
            answer = self.api.answer(operation, region, body)
            if fault:
                outcome = "ok, dropped"
                _drop(environ)
        except ApiError as error:
            outcome = error.code
            return error.status, {"__type": error.code, "message": error.message}
        finally:
            self.controls.count(operation, arrived, outcome, body)
        return 200, answer


def _read_body(environ: Environ) -> bytes:
    body: bytes = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    return body


def _drop(environ: Environ) -> None:
    """
    Close the connection without an answer.

    :raises ConnectionError: always; werkzeug takes it as the client's having gone.
    """
    with contextlib.suppress(OSError):
        environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
    raise ConnectionAbortedError("dropped on request")


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
