"""What costs a call to AWS is asked for once, however many people look."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from threading import Lock
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass
class _Answer(Generic[T]):
    future: Future[T]
    #: When it stops being good; not known until it is there.
    until: float = field(default=float("inf"))


class Once(Generic[T]):
    """
    Answers by key, each of which is good for some seconds. Whoever asks meanwhile, or while it is looked up, shares it.

    :param seconds: How long an answer is good, from when it was there. An error is no answer: the next one asks again.
    :param executor: Where answers are looked up: not in the threads that serve Airflow's other pages.
    :param clock: What time it is, in seconds.
    """

    def __init__(self, seconds: float, executor: Executor, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._executor = executor
        self._clock = clock
        self._answers: dict[str, _Answer[T]] = {}
        self._lock = Lock()

    def get(self, key: str, look_up: Callable[[str], T]) -> Future[T]:
        """
        Return the answer, which may be on its way.

        :param key: What is asked for.
        :param look_up: What finds the answer for a key.
        """
        with self._lock:
            known = self._answers.get(key)
            if known is not None and self._clock() < known.until:
                return known.future
            answer = _Answer(self._executor.submit(look_up, key))
            self._answers[key] = answer
        # Not within the lock: a future that is done calls back at once.
        answer.future.add_done_callback(lambda future: self._done(answer, future))
        return answer.future

    def _done(self, answer: _Answer[T], future: Future[T]) -> None:
        failed = future.cancelled() or future.exception() is not None
        answer.until = float("-inf") if failed else self._clock() + self._seconds
