"""The bytes of objects: fetched from S3 by ranges, some ahead of who reads them, or read from files."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, wait
from contextlib import closing
from itertools import groupby
from pathlib import Path
from typing import Any

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    FlexibleChecksumError,
    HTTPClientError,
    IncompleteReadError,
)
from botocore.parsers import ResponseParserError
from urllib3.exceptions import HTTPError

from airflow_provider_personalize.aws_errors import is_transient
from airflow_provider_personalize.exceptions import ServiceError
from airflow_provider_personalize.s3.objects import StoredObject, read_error, replaced
from airflow_provider_personalize.s3.reading import Reading, current_reading, end_with_reading
from airflow_provider_personalize.service.waits import growing_pause
from airflow_provider_personalize.uris import FileUri, S3Uri, parse_s3_uri, parse_uri

#: Bytes in one request, and requests at once.
PART = 4 << 20
PARTS_AT_ONCE = 4
#: The longest that a thread waits for a part without waking up, in seconds.
WAKE = 0.5
#: Bytes handed on at once: what is parsed as one batch.
BLOCK = 1 << 19
#: Tries without a byte of progress before an S3 object is given up; about a minute and a half.
FETCH_TRIES = 8

_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


class _WrongAnswerError(ValueError):
    """An answer with other bytes than were requested. It counts as a try that has brought nothing."""


#: What a try may end in, besides what AWS itself says to try again.
_DROPPED = (
    FlexibleChecksumError,
    HTTPClientError,
    HTTPError,
    IncompleteReadError,
    OSError,
    ResponseParserError,
    ValueError,
)


def read_objects(
    client: Callable[[], Any], objects: Iterable[StoredObject], reading: Reading | None = None
) -> Iterator[tuple[str, Iterator[bytes]]]:
    """
    Read objects one after the other, and yield the URI of each and its bytes in blocks.

    From S3, the next parts and objects are on their way while one is worked on.

    :param client: Returns an S3 client; called only where one is needed.
    :param objects: The objects: of S3, or files.
    :param reading: What ends it from another thread.
    """
    objects = list(objects)
    paths = [place.path for item in objects if isinstance(place := parse_uri(item.uri), FileUri)]
    if len(paths) == len(objects):
        parts = ((item.uri, block) for item, path in zip(objects, paths, strict=True) for block in _file_blocks(path))
    else:
        parts = _fetched(client(), objects, reading or Reading())
    with closing(parts):
        for uri, group in groupby(parts, key=lambda part: part[0]):
            yield uri, (block for _, block in group)


def _file_blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb", buffering=0) as file:
        while block := file.read(BLOCK):
            yield block


def _fetched(
    client: Any, objects: Iterable[StoredObject], reading: Reading
) -> Generator[tuple[str, bytes], None, None]:
    asked = ((item, start) for item in objects for start in range(0, item.size, PART))
    coming: deque[tuple[str, Future[bytes]]] = deque()
    end_with_reading(client)
    with reading:
        while True:
            while len(coming) < PARTS_AT_ONCE and (part := next(asked, None)) is not None:
                item, start = part
                coming.append((item.uri, reading.submit(fetch, client, item, start, min(item.size, start + PART))))
            if not coming:
                return
            uri, future = coming.popleft()
            # Woken again and again: a signal, as execution_timeout's, interrupts this thread only where it is awake.
            while not wait([future], timeout=WAKE).done:
                pass
            data = future.result()
            del future
            for begin in range(0, len(data), BLOCK):
                yield uri, data[begin : begin + BLOCK]


def fetch(client: Any, item: StoredObject, start: int, end: int, *, tries: int = FETCH_TRIES) -> bytes:
    """
    Fetch a range of an S3 object. A connection that drops is resumed where it dropped.

    What comes is taken only if it is what was asked for: stores and proxies are known that answer a range with the
    whole object, with another range, or with nothing.

    :param client: An S3 client.
    :param item: The object.
    :param start: The range's first byte.
    :param end: The byte after its last.
    :param tries: How many answers in a row may bring nothing.
    :raises MissingOutputError: if the object is gone, or is another one by now.
    :raises ServiceError: if S3 refuses to give it, or what comes is not what was asked for.
    """
    place = parse_s3_uri(item.uri, max_length=None)
    data = bytearray()
    most = failed = 0
    while len(data) < end - start:
        try:
            _take_answer(client, item, start, end, data)
        except (ClientError, BotoCoreError, *_DROPPED) as error:
            if not (is_transient(error) or isinstance(error, _DROPPED)):
                raise read_error("GetObject", place, error) from error
            if len(data) > most:
                most, failed = len(data), 0
            failed += 1
            if failed >= tries:
                if isinstance(error, _WrongAnswerError):
                    raise _wrong_answer(place, error) from error
                raise
            current_reading().pause(growing_pause(failed, first=0.5, longest=30))
    return bytes(data)


def _take_answer(client: Any, item: StoredObject, start: int, end: int, data: bytearray) -> None:
    """
    Request what is missing of a range, and add what comes to the data.

    :param data: The bytes of the range so far.
    :raises _WrongAnswerError: if something else comes, of which nothing is added.
    """
    place = parse_s3_uri(item.uri, max_length=None)
    first = start + len(data)
    condition = {"IfMatch": item.etag} if item.etag else {}
    answer = client.get_object(Bucket=place.bucket, Key=place.key, Range=f"bytes={first}-{end - 1}", **condition)
    with current_reading().body(answer["Body"]) as body:
        begin, after = _answered_range(answer, item)
        whole = answer["ResponseMetadata"]["HTTPStatusCode"] == 200
        if whole and not start:
            # Some stores and proxies ignore Range. What is wanted of the object's beginning is taken from its whole.
            data.clear()
        elif begin != first or after > end:
            raise _WrongAnswerError(f"expected bytes {first:,} to {end - 1:,}, got {begin:,} to {after - 1:,}")
        had, wanted = len(data), min(after, end) - begin
        for block in body.iter_chunks(BLOCK):
            data += block
            if len(data) - had >= wanted and after > end:
                del data[had + wanted :]
                return
            if len(data) - had > wanted:
                del data[had:]
                raise _WrongAnswerError(f"expected {wanted:,} bytes, as its headers say, got more")
        got = len(data) - had
        if not got or (whole and got < wanted):
            del data[had:]
            raise _WrongAnswerError(f"expected {wanted:,} bytes, as its headers say, got {got:,}")


def _answered_range(answer: dict[str, Any], item: StoredObject) -> tuple[int, int]:
    """
    Return which bytes an answer holds, by its headers: the first, and the one after the last.

    :raises MissingOutputError: if they are those of another object by now.
    :raises _WrongAnswerError: if the headers do not say it, or contradict each other.
    """
    status = answer["ResponseMetadata"]["HTTPStatusCode"]
    told = answer.get("ContentRange")
    etag = answer.get("ETag")
    if etag and item.etag and _opaque(etag) != _opaque(item.etag):
        raise replaced(item.uri)
    if status == 200:
        begin, after = 0, item.size
    elif status == 206 and (match := _CONTENT_RANGE.fullmatch((told or "").strip())):
        begin, after = int(match[1]), int(match[2]) + 1
        if match[3] != "*" and int(match[3]) != item.size:
            raise replaced(item.uri)
    else:
        raise _WrongAnswerError(f"expected a range, got status {status} and Content-Range {told!r}")
    length = answer.get("ContentLength")
    if after <= begin or length not in (None, after - begin):
        raise _WrongAnswerError(
            f"expected {after - begin:,} bytes with status {status} and Content-Range {told!r}, got {length}"
        )
    return begin, after


def _opaque(etag: str) -> str:
    """Return an ETag without what some stores add to it in one answer and not in another."""
    return etag.removeprefix("W/").strip('"')


def _wrong_answer(place: S3Uri, error: _WrongAnswerError) -> ServiceError:
    return ServiceError(
        operation=f"GetObject on {place}",
        code="WrongAnswer",
        reason=str(error),
        remedy="What answers is no S3, or a proxy on the way changes what S3 answers: check the endpoint_url of "
        "aws_conn_id, and the proxies.",
    )
