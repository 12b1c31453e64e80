"""What is read from a database is encoded and written by another thread, while the next of it is on its way."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, Self, TypeVar

Batch = TypeVar("Batch")
Result = TypeVar("Result")

#: Batches that wait for being written while the next one is read.
BATCHES_AHEAD = 2


class WriteBehind(Generic[Batch, Result]):
    """
    Writes batches in their order, as a context manager: at its end all of them are written, or an error is raised.

    :param write: Writes one batch.
    """

    def __init__(self, write: Callable[[Batch], Result]) -> None:
        self._write = write
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="personalize-encode")
        self._pending: deque[Future[Result]] = deque()

    def put(self, batch: Batch) -> Result | None:
        """
        Take a batch; where enough of them wait already, wait for the oldest and return what writing it gave.

        Whatever writing raised is raised here, or at the end.
        """
        self._pending.append(self._writer.submit(self._write, batch))
        return self._pending.popleft().result() if len(self._pending) > BATCHES_AHEAD else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait for what is not written yet; after an error, for nothing but the batch that is being written."""
        try:
            while self._pending and error is None:
                self._pending.popleft().result()
        finally:
            self._writer.shutdown(cancel_futures=True)
