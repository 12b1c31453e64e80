"""An iterator that runs on a thread of its own, a few items ahead of the thread that takes them."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")

#: How long either side sleeps before it looks whether the other one is still there, in seconds.
_LOOK = 0.2
#: Seconds that leaving waits for the thread at most. An error must not wait for a server that does not answer.
_END = 1.0


@contextmanager
def prefetch(items: Iterable[T], depth: int = 2) -> Iterator[Iterator[T]]:
    """
    Take items on another thread while this one works on the last.

    An error there is raised here, at its place in the order. On leaving, the thread has ended, or is about to: one that
    waits for S3 learns from its reading that nobody takes what comes.

    :param items: What to iterate over.
    :param depth: How many items may wait to be taken.
    """
    waiting: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(depth)
    left = threading.Event()

    def put(item: T | None, error: BaseException | None) -> bool:
        while not left.is_set():
            try:
                waiting.put((item, error), timeout=_LOOK)
            except queue.Full:
                continue
            return True
        return False

    def run() -> None:
        try:
            for item in items:
                if not put(item, None):
                    return
        except BaseException as error:  # noqa: BLE001 (raised on the other side)
            put(None, error)
        else:
            put(None, StopIteration())
        finally:
            if hasattr(items, "close"):
                items.close()

    def take() -> Iterator[T]:
        while True:
            try:
                item, error = waiting.get(timeout=_LOOK)
            except queue.Empty:
                # Woken again and again: a signal, as execution_timeout's, interrupts a thread only where it is awake.
                continue
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield item  # type: ignore[misc]

    thread = threading.Thread(target=run, name="personalize-prefetch", daemon=True)
    thread.start()
    try:
        yield take()
    finally:
        left.set()
        thread.join(_END)
