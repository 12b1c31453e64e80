"""
Which requests the stand-in answers, and what a request may be at all.

It asks for no credentials, so any page in a browser of this machine could give it orders: by a form or a script
(cross-site request forgery), or under a name that was made to lead here (DNS rebinding). The first send an ``Origin``
that is not ours, the second a ``Host``.
"""

from __future__ import annotations

import ipaddress
import json
import re
import socket
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from airflow_provider_personalize.local.errors import ApiError

#: The names of this machine that lead nowhere else.
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
#: Addresses to listen at that stand for all of the machine's.
EVERYWHERE = ("", "0.0.0.0", "::", "[::]")  # noqa: S104 - compared, not listened at
_LENGTH = re.compile(r"[0-9]{1,15}")
#: The largest body of a request to the API or the controls.
_MAX_BODY = 16 * 1024 * 1024

Environ = Mapping[str, Any]


class Guard:
    """
    Lets requests pass that are meant for this server.

    :param host: The address that the server listens at.
    :param port: Its port.
    :param allowed_hosts: Further names that it is reached by, as ``stand-in`` or ``stand-in:8080``.
    """

    def __init__(self, host: str, port: int, allowed_hosts: Iterable[str] = ()) -> None:
        self.port = port
        # An address in place of a name cannot be rebound.
        self._any_address = host in EVERYWHERE
        names = [*LOOPBACK, *allowed_hosts]
        names += [socket.gethostname()] if self._any_address else [f"[{host}]" if host.count(":") > 1 else host]
        self.hosts = {self._with_port(name.lower()) for name in names}

    def _with_port(self, name: str) -> str:
        return name if re.search(r":\d+$", name) else f"{name}:{self.port}"

    def check(self, environ: Environ, *, to_s3: bool) -> None:
        """
        Make sure that a request was meant for this server, and is one.

        :param environ: The request.
        :param to_s3: Whether S3 is to answer it, whose buckets may stand before the host's name.
        :raises ApiError: with the status 403 if it comes from elsewhere, 400 if its length is none.
        """
        host = environ.get("HTTP_HOST", "")
        if not host:
            raise ApiError("InvalidRequest", "Expected a Host header, got none.")
        if not (self._is_ours(host) or (to_s3 and self._is_bucket(host))):
            raise _forbidden(
                f"Expected a request to {' or '.join(sorted(self.hosts))}, got one to {host!r}. Another name has to "
                "be given to personalize-local with --allow-host."
            )
        origin = environ.get("HTTP_ORIGIN")
        if origin is not None and not self._is_our_origin(origin):
            raise _forbidden(
                f"Expected no Origin, or this server's, got {origin!r}: pages of other servers are kept out."
            )
        if environ.get("HTTP_SEC_FETCH_SITE") in ("cross-site", "same-site") and not (
            environ["REQUEST_METHOD"] in ("GET", "HEAD") and environ.get("HTTP_SEC_FETCH_MODE") == "navigate"
        ):
            # A browser sends no Origin with an image's address, which can be an order too.
            raise _forbidden("A page of another server asked for this: those are kept out.")
        body_length(environ)

    def _is_ours(self, host: str) -> bool:
        # A Host without a port means HTTP's own.
        asked = host.lower() if re.search(r":\d+$", host) else f"{host.lower()}:80"
        if asked in self.hosts:
            return True
        name, _, port = asked.rpartition(":")
        return self._any_address and port == str(self.port) and _is_address(name)

    def _is_bucket(self, host: str) -> bool:
        """Return whether a host names a bucket, in S3's virtual-hosted style, where nobody else can rebind it."""
        name, _, port = host.lower().partition(":")
        return name.endswith(".amazonaws.com") or (name.endswith(".localhost") and port == str(self.port))

    def _is_our_origin(self, origin: str) -> bool:
        try:
            split = urlsplit(origin)
        except ValueError:
            return False
        return split.scheme == "http" and self._is_ours(split.netloc)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True


def _forbidden(message: str) -> ApiError:
    return ApiError("AccessDeniedException", message, 403)


def body_length(environ: Environ) -> int:
    """
    Return a request's ``Content-Length``, 0 where it has none.

    :raises ApiError: if it is no length.
    """
    text = environ.get("CONTENT_LENGTH") or "0"
    if not _LENGTH.fullmatch(text):
        raise ApiError("InvalidRequest", f"Content-Length: expected a number of bytes, got {text!r}.")
    return int(text)


def read_body(environ: Environ) -> bytes:
    """
    Read the body of a request to the API or the controls.

    :raises ApiError: if it is too long, or did not come whole.
    """
    # A body in chunks says by itself where it ends.
    chunked = bool(environ.get("wsgi.input_terminated"))
    length = _MAX_BODY + 1 if chunked else body_length(environ)
    body = bytearray()
    try:
        while len(body) < min(length, _MAX_BODY + 1):
            piece = environ["wsgi.input"].read(min(length, _MAX_BODY + 1) - len(body))
            if not piece:
                break
            body += piece
    except (OSError, ValueError) as error:
        raise ApiError("InvalidRequest", f"The request's body did not come whole: {error}.") from None
    if len(body) > _MAX_BODY:
        raise ApiError("InvalidRequest", f"Expected a body of at most {_MAX_BODY} bytes, got more.", 413)
    if not chunked and len(body) < length:
        raise ApiError("InvalidRequest", f"Expected {length} bytes, as Content-Length says, got {len(body)}.")
    return bytes(body)


def decode_json(text: bytes | str) -> Any:
    """
    Decode JSON as the standard has it: without NaN and Infinity, and not nested deeper than Python can follow.

    :raises ValueError: if it is none.
    """
    try:
        return json.loads(text, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")
