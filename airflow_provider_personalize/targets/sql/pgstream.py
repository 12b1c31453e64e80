"""Sending a COPY stream to the server, through psycopg 2 or 3."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from airflow_provider_personalize.targets.prefetch import prefetch

#: Bytes in one message of a COPY. The server takes each whole before it reads the rows in it: 16 to 64 kB, which stay
#: in a processor's nearest caches, cost it 5 % less time than 8 or 128 kB (tests/benchmarks/README.md).
MESSAGE = 1 << 15
#: Bytes that a Unix socket is to hold, of which the system may allow less.
_SOCKET_BYTES = 1 << 20


def copy_from(cursor: Any, sql: str, stream: Iterable[bytes | memoryview]) -> None:
    """
    Send a stream, which is made on another thread, to a ``COPY … FROM STDIN``.

    An error of the making is raised as it is.
    """
    _widen(cursor.connection)
    with prefetch(stream) as chunks:
        if hasattr(cursor, "copy_expert"):
            _Readable(_messages(chunks)).copy(cursor, sql)
        else:
            with _quick_turns(), cursor.copy(sql) as copy:
                for message in _messages(chunks):
                    copy.write(message)


def _widen(connection: Any) -> None:
    """
    Let a Unix socket hold more than its 200 kB. It has room again when a quarter of that is left, and the server is
    done with the quarter before Python has run again. Sockets of TCP grow by themselves.
    """
    with suppress(OSError), socket.socket(fileno=os.dup(connection.fileno())) as shared:
        if shared.family == getattr(socket, "AF_UNIX", None):
            shared.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BYTES)


@contextmanager
def _quick_turns() -> Iterator[None]:
    """
    Let threads take turns ten times as often as Python does by itself.

    psycopg 3 has to run each time that the socket has room, for 200 kB or so. The server is done with that much in
    4 ms. With Python's own interval of 5 ms, it would then wait until the parser's turn has ended.
    """
    interval = sys.getswitchinterval()
    sys.setswitchinterval(0.0005)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)


def _messages(chunks: Iterable[bytes | memoryview]) -> Iterator[memoryview]:
    """Cut a COPY stream into what goes to the server as one message each."""
    for chunk in chunks:
        view = memoryview(chunk)
        for start in range(0, len(view), MESSAGE):
            yield view[start : start + MESSAGE]


class _Readable:
    """What psycopg 2 reads a COPY from: an iterator of messages. One may be longer than what was asked for."""

    def __init__(self, messages: Iterator[memoryview]) -> None:
        self._messages = messages
        self._error: Exception | None = None

    def read(self, size: int = -1) -> bytes:
        try:
            return bytes(next(self._messages, b""))
        except Exception as error:
            self._error = error
            raise

    def copy(self, cursor: Any, sql: str) -> None:
        """COPY what is read; an error of the reading is raised as it is, not as the text that psycopg 2 makes of it."""
        try:
            cursor.copy_expert(sql, self)
        except Exception as error:
            if self._error is not None:
                raise self._error from error
            raise
