"""Threads that read from S3 in advance, and that end as soon as nobody wants what they read."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import closing, contextmanager, suppress
from contextvars import ContextVar
from typing import Any, ParamSpec, Self, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class _LeftError(Exception):
    """The reading that a request belongs to was left."""


class Reading:
    """
    One reading from S3, as a context manager. Once it is left, by whichever thread, it sends no more requests.

    Its threads are daemons, so that not even one that waits for a silent server holds up the end of the process.
    """

    def __init__(self) -> None:
        self._left = threading.Event()
        self._bodies: set[Any] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.leave()

    def leave(self) -> None:
        """End the pauses, and the answers that are still coming in."""
        self._left.set()
        for body in tuple(self._bodies):
            # Closing would wait for the thread that reads; this one wakes it (with urllib3 from 2.3 on).
            with suppress(AttributeError, OSError, RuntimeError, ValueError):
                body._raw_stream.shutdown()  # botocore has no other way

    def go_on(self) -> None:
        """
        Check that the reading was not left.

        :raises _LeftError: if not.
        """
        if self._left.is_set():
            raise _LeftError("The reading was left.")

    def pause(self, seconds: float) -> None:
        """Wait for some seconds, or until the reading is left."""
        self._left.wait(seconds)
        self.go_on()

    @contextmanager
    def body(self, body: Any) -> Iterator[Any]:
        """Read an answer's body, and close it afterwards."""
        with closing(body):
            self._bodies.add(body)
            try:
                self.go_on()
                yield body
            finally:
                self._bodies.discard(body)

    def submit(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Call a function on a thread of its own."""
        future: Future[T] = Future()

        def run() -> None:
            _current.set(self)
            try:
                future.set_result(call(*args, **kwargs))
            except BaseException as error:  # noqa: BLE001 (raised where the result is taken)
                future.set_exception(error)

        threading.Thread(target=run, name="personalize-s3", daemon=True).start()
        return future


_current: ContextVar[Reading] = ContextVar("reading")
_NEVER_LEFT = Reading()


def current_reading() -> Reading:
    """Return the reading that this thread works for; outside of any, one that is never left."""
    return _current.get(_NEVER_LEFT)


def _go_on(**_: object) -> None:
    current_reading().go_on()


def end_with_reading(client: Any) -> None:
    """Keep an S3 client from sending requests for a reading that was left: its own retries would go on for minutes."""
    client.meta.events.register_first("before-send.s3.GetObject", _go_on, unique_id="personalize-reading")
