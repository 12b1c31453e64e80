"""The calls to DynamoDB for one table, sent again while they meet what may pass; and writes, on several threads."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from types import TracebackType
from typing import Any, Self, TypeVar

from botocore import xform_name

from airflow_provider_personalize.aws_errors import (
    AWS_ERRORS,
    as_dynamodb_error,
    describe_error,
    error_code,
    is_throttling,
    is_transient,
)
from airflow_provider_personalize.exceptions import PersonalizeError, ServiceError, TableMismatchError
from airflow_provider_personalize.service.waits import Logger, growing_pause

T = TypeVar("T")

#: A call is sent when it has so many items, or so many bytes. DynamoDB takes 16 MB, and one item's JSON has 4 at most.
CALL_ITEMS, CALL_BYTES = 25, 1 << 20
#: How many calls run at once, and how many more may wait.
THREADS, WAITING = 8, 4
#: For how long a call may get nothing done, in seconds: an on-demand table that grows can throttle for half an hour.
PATIENCE = 3600.0
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 20.0
#: The longest that the main thread waits without waking up, in seconds.
_WAKE = 0.5
#: Seconds between two reports of throttling.
_REPORT_EVERY = 30.0


class DynamoDbCalls:
    """
    DynamoDB's operations on one table.

    :param client: boto3's client of DynamoDB.
    :param table: The table's name.
    :param log: Where to log what is waited out.
    """

    def __init__(self, client: Any, table: str, log: Logger) -> None:
        self.table = table
        self._client = client
        self._log = log
        self._left = threading.Event()
        self._next_report = 0.0
        self._body = threading.local()
        # botocore would check and write each value of each item by itself, which takes ten times as long as all else.
        client.meta.events.register("before-call.dynamodb.BatchWriteItem", self._put_body, unique_id="personalize")

    def __call__(self, operation: str, **request: Any) -> dict[str, Any]:
        """
        Send a request, and again while the answer is throttling, a 5xx or none.

        :param operation: The API operation.
        :param request: Its parameters.
        :raises ServiceError: if it is refused.
        """
        call = getattr(self._client, xform_name(operation))
        tried, until = 0, time.monotonic() + PATIENCE
        while True:
            try:
                answer: dict[str, Any] = call(**request)
            except AWS_ERRORS as error:
                tried += 1
                if not is_transient(error) or time.monotonic() > until:
                    raise as_dynamodb_error(error, operation=operation, table=self.table) from error
                self.pause(tried, f"{describe_error(error)} ({operation})")
            else:
                return answer

    def leave(self) -> None:
        """End the pauses of all threads: the load was given up."""
        self._left.set()

    def pause(self, tried: int, reason: str) -> None:
        """
        Wait before a call is sent again.

        :param tried: How often it was sent in vain, from 1.
        :param reason: Why, in words, for the log.
        :raises PersonalizeError: if the load was left.
        """
        now = time.monotonic()
        if tried > 3 and now > self._next_report:
            self._next_report = now + _REPORT_EVERY
            self._log.info("%s. Sent again, with growing pauses.", reason.rstrip("."))
        if self._left.wait(growing_pause(tried, first=FIRST_PAUSE, longest=LONGEST_PAUSE)):
            raise PersonalizeError(f"The load into {self.table} was left while it waited: {reason}")

    def write(self, requests: Sequence[str]) -> None:
        """
        Put or delete up to 25 items, each of another key, and send again what was not processed.

        :param requests: The requests, as the API's JSON.
        :raises TableMismatchError: if the table does not take an item, which is named.
        :raises ServiceError: if the call is refused for another reason.
        """
        left, tried, until = list(requests), 0, time.monotonic() + PATIENCE
        while left:
            try:
                unprocessed = self._write_once(left)
            except AWS_ERRORS as error:
                if error_code(error) == "ValidationException" and len(left) > 1:
                    # The answer does not say which item it is.
                    for request in left:
                        self.write([request])
                    return
                if error_code(error) == "ValidationException":
                    raise self._refused(left[0], error) from error
                if not is_transient(error) or time.monotonic() > until:
                    raise as_dynamodb_error(error, operation="BatchWriteItem", table=self.table) from error
                reason = describe_error(error)
                # A dropped connection is no reason to wait as long as for a table that is too busy.
                tried += 1 + is_throttling(error)
            else:
                if not unprocessed:
                    return
                reason = f"{len(unprocessed)} of {len(left)} items were not processed, as the table is busy"
                if len(unprocessed) < len(left):
                    tried, until = 0, time.monotonic() + PATIENCE
                tried += 1
                left = [json.dumps(request, ensure_ascii=False) for request in unprocessed]
                if time.monotonic() > until:
                    raise ServiceError(
                        operation="BatchWriteItem",
                        code="ProvisionedThroughputExceededException",
                        reason=f"{reason}, for {PATIENCE:.0f} s",
                        remedy=f"Give the table {self.table} more write capacity, or make it on-demand; then clear the "
                        "task, which puts all items again.",
                    )
            self.pause(tried, reason)

    def _write_once(self, requests: Sequence[str]) -> list[dict[str, Any]]:
        name = json.dumps(self.table)
        self._body.content = f'{{"RequestItems":{{{name}:[{",".join(requests)}]}}}}'.encode()
        try:
            # What stands here is checked, and looked at for the endpoint; what is sent is the body.
            answer = self._client.batch_write_item(RequestItems={self.table: [{"DeleteRequest": {"Key": {}}}]})
        finally:
            self._body.content = None
        # There is one table, whether it goes by its name or its ARN.
        return [request for requests in (answer.get("UnprocessedItems") or {}).values() for request in requests]

    def _put_body(self, params: dict[str, Any], **_: Any) -> None:
        if (content := getattr(self._body, "content", None)) is not None:
            params["body"] = content

    def _refused(self, request: str, error: Exception) -> TableMismatchError:
        [item] = json.loads(request).values()
        [content] = item.values()
        shown = {name: value for name, value in content.items() if set(value) <= {"S", "N"}}
        return TableMismatchError(
            table=self.table, reason=f"{describe_error(error)}. This is said of the item {str(shown)[:500]}"
        )


class BatchWriter:
    """
    Puts items into a table, on several threads, in bounded memory. A context manager.

    An error of any call is raised by the next :meth:`put`, or by :meth:`drain`. No two items may have the same key.

    :param calls: The calls to DynamoDB.
    """

    def __init__(self, calls: DynamoDbCalls) -> None:
        self._calls = calls
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="personalize-dynamodb")
        self._requests: list[str] = []
        self._size = 0
        self._coming: set[Future[Any]] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the threads: calls that were sent are finished, and those that wait are dropped."""
        if kind:
            self._calls.leave()
        self._pool.shutdown(cancel_futures=True)

    def put(self, item: str) -> None:
        """
        Put an item.

        :param item: The item, as the API's JSON.
        """
        self._requests.append(f'{{"PutRequest":{{"Item":{item}}}}}')
        self._size += len(item)
        if len(self._requests) == CALL_ITEMS or self._size > CALL_BYTES:
            self._send()

    def submit(self, call: Callable[..., Any], *arguments: Any) -> None:
        """Call a function on one of the threads, once fewer calls than a bound are waiting."""
        while len(self._coming) >= THREADS + WAITING:
            self._take()
        self._coming.add(self._pool.submit(call, *arguments))

    def drain(self) -> None:
        """Send what is left, and wait until all calls are done."""
        self._send()
        while self._coming:
            self._take()

    def _send(self) -> None:
        if self._requests:
            requests, self._requests, self._size = self._requests, [], 0
            self.submit(self._calls.write, requests)

    def _take(self) -> None:
        """Wait for a call to be done."""
        done: set[Future[Any]] = set()
        while not done:
            # Woken again and again: a signal, as execution_timeout's, interrupts this thread only where it is awake.
            done, self._coming = wait(self._coming, timeout=_WAKE, return_when="FIRST_COMPLETED")
        for future in done:
            future.result()
