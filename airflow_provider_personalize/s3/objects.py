"""The objects of an output, and their bytes: from S3, or from files that were fetched before."""

from __future__ import annotations

import hashlib
import re
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    FlexibleChecksumError,
    HTTPClientError,
    IncompleteReadError,
)
from botocore.parsers import ResponseParserError
from urllib3.exceptions import HTTPError

from airflow_provider_personalize.aws_errors import describe_error, error_code, is_transient
from airflow_provider_personalize.exceptions import (
    InvalidRequestError,
    MissingOutputError,
    PersonalizeError,
    ServiceError,
)
from airflow_provider_personalize.s3.reading import Reading, current_reading, end_with_reading
from airflow_provider_personalize.service.names import S3Uri, parse_s3_uri
from airflow_provider_personalize.service.waits import growing_pause

#: Bytes in one request, and requests at once.
PART = 4 << 20
PARTS_AT_ONCE = 4
#: Bytes handed on at once: what is parsed as one batch.
BLOCK = 1 << 19
#: Tries without a byte of progress before an S3 object is given up; about a minute and a half.
FETCH_TRIES = 8

SUFFIXES = (".out", ".out.gz")

_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


class _WrongAnswerError(ValueError):
    """An answer with other bytes than were asked for: a try that has brought nothing."""


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


@dataclass(frozen=True)
class StoredObject:
    """
    One object of S3, or one file.

    :param uri: Its URI, ``s3://…`` or ``file://…``.
    :param size: Its size in bytes.
    :param etag: Its ETag; a file has none.
    :param modified: When it was written, as S3 says.
    """

    uri: str
    size: int
    etag: str | None = None
    modified: datetime | None = field(default=None, compare=False)

    def version(self) -> str:
        """Give what is the same if the content is: the ETag, or a digest of the file."""
        if self.etag is not None:
            return self.etag
        with file_path(self.uri).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def objects_at(client: Callable[[], Any], uri: str) -> list[StoredObject]:
    """
    Find the output at a URI: one object, or all ``.out`` and ``.out.gz`` under a prefix that ends in ``/``.

    :param client: Gives an S3 client, where one is needed.
    :param uri: ``s3://…`` or ``file:///…``.
    :raises MissingOutputError: if there is nothing.
    :raises InvalidRequestError: if it is no such URI.
    """
    if uri.startswith("file:"):
        found = _files(uri)
    elif uri.startswith("s3://"):
        s3 = client()
        place = parse_s3_uri(uri, parameter="output_uri", max_length=None)
        found = [item for item in list_objects(s3, place) if uri.endswith("/") or item.uri == uri]
    else:
        raise InvalidRequestError(
            f"output_uri: expected 's3://bucket/folder/', 's3://bucket/key' or 'file:///path', got {uri!r}."
        )
    if uri.endswith("/"):
        found = [item for item in found if item.uri.endswith(SUFFIXES)]
    if not found:
        what = "an object whose name ends in .out or .out.gz under it" if uri.endswith("/") else "such an object"
        hint = "" if uri.endswith("/") else " A prefix has to end in '/'."
        raise MissingOutputError(uri=uri, reason=f"output_uri says that there is {what}.{hint}")
    return found


def _files(uri: str) -> list[StoredObject]:
    path = file_path(uri)
    paths = sorted(path.rglob("*")) if uri.endswith("/") else [path]
    return [StoredObject(file.absolute().as_uri(), file.stat().st_size) for file in paths if file.is_file()]


def file_path(uri: str) -> Path:
    """Give the path of a file's URI."""
    return Path(url2pathname(urlsplit(uri.replace("#", "%23").replace("?", "%3F")).path))


def list_objects(client: Any, place: S3Uri, *, deep: bool = True) -> Iterator[StoredObject]:
    """
    Give the objects whose keys begin with that of a URI, page by page.

    :param client: An S3 client.
    :param place: The URI.
    :param deep: Whether to give those in folders further down, too.
    :raises MissingOutputError: if there is no such bucket.
    :raises ServiceError: if S3 refuses to tell, or leaves the list unfinished.
    """
    asked = {"Bucket": place.bucket, "Prefix": place.key, **({} if deep else {"Delimiter": "/"})}
    try:
        for page in client.get_paginator("list_objects_v2").paginate(**asked):
            for item in page.get("Contents", ()):
                if item["Key"].startswith(place.key):
                    yield StoredObject(
                        f"s3://{place.bucket}/{item['Key']}", item["Size"], item.get("ETag"), item.get("LastModified")
                    )
            if page.get("IsTruncated") and not page.get("NextContinuationToken"):
                # boto3 takes this for the end, and whatever is missing would be missing in silence.
                raise ServiceError(
                    operation=f"ListObjectsV2 on {place}",
                    code="UnfinishedList",
                    reason="expected a list, got a page of one without the token for its next.",
                )
    except (ClientError, BotoCoreError) as error:
        if is_transient(error):
            raise
        raise _s3_error("ListObjectsV2", place, error) from error


def read_objects(
    client: Callable[[], Any], objects: Iterable[StoredObject], reading: Reading | None = None
) -> Iterator[tuple[str, Iterator[bytes]]]:
    """
    Read objects one after the other: each one's URI, and its bytes in blocks.

    From S3, the next parts and objects are on their way while one is worked on.

    :param client: Gives an S3 client, where one is needed.
    :param objects: The objects.
    :param reading: What ends it from another thread.
    """
    objects = list(objects)
    if any(item.uri.startswith("s3:") for item in objects):
        parts = _fetched(client(), objects, reading or Reading())
    else:
        parts = ((item.uri, block) for item in objects for block in _file_blocks(item))
    with closing(parts):
        for uri, group in groupby(parts, key=lambda part: part[0]):
            yield uri, (block for _, block in group)


def _file_blocks(item: StoredObject) -> Iterator[bytes]:
    with file_path(item.uri).open("rb", buffering=0) as file:
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
                raise _s3_error("GetObject", place, error) from error
            if len(data) > most:
                most, failed = len(data), 0
            failed += 1
            if failed >= tries:
                if isinstance(error, _WrongAnswerError):
                    raise _s3_error("GetObject", place, error) from error
                raise
            current_reading().pause(growing_pause(failed, first=0.5, longest=30))
    return bytes(data)


def _take_answer(client: Any, item: StoredObject, start: int, end: int, data: bytearray) -> None:
    """
    Ask for what is missing of a range, and add what comes.

    :param data: What there is of it.
    :raises _WrongAnswerError: if something else comes; nothing of it is added.
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
    Tell from the headers which bytes an answer holds: the first, and the one after the last.

    :raises MissingOutputError: if they are another object's, by now.
    :raises _WrongAnswerError: if nobody can tell.
    """
    status = answer["ResponseMetadata"]["HTTPStatusCode"]
    told = answer.get("ContentRange")
    etag = answer.get("ETag")
    if etag and item.etag and _opaque(etag) != _opaque(item.etag):
        raise _replaced(item.uri)
    if status == 200:
        begin, after = 0, item.size
    elif status == 206 and (match := _CONTENT_RANGE.fullmatch((told or "").strip())):
        begin, after = int(match[1]), int(match[2]) + 1
        if match[3] != "*" and int(match[3]) != item.size:
            raise _replaced(item.uri)
    else:
        raise _WrongAnswerError(f"expected a range, got status {status} and Content-Range {told!r}")
    length = answer.get("ContentLength")
    if after <= begin or length not in (None, after - begin):
        raise _WrongAnswerError(
            f"expected {after - begin:,} bytes with status {status} and Content-Range {told!r}, got {length}"
        )
    return begin, after


def _opaque(etag: str) -> str:
    """Give an ETag without what some stores add to it in one answer and not in another."""
    return etag.removeprefix("W/").strip('"')


def _replaced(uri: str) -> MissingOutputError:
    return MissingOutputError(
        uri=uri, reason="It was deleted or replaced while the load was reading. Load again.", may_pass=True
    )


def _s3_error(operation: str, place: S3Uri, error: Exception) -> PersonalizeError:
    code = error_code(error)
    if code == "NoSuchBucket":
        return MissingOutputError(uri=str(place), reason="There is no such bucket.")
    if code in {"NoSuchKey", "PreconditionFailed", "InvalidRange", "404", "412", "416"}:
        return _replaced(str(place))
    if isinstance(error, _WrongAnswerError):
        return ServiceError(
            operation=f"{operation} on {place}",
            code="WrongAnswer",
            reason=str(error),
            remedy="What answers is no S3, or a proxy on the way changes what S3 answers: check the endpoint_url of "
            "aws_conn_id, and the proxies.",
        )
    remedy = ""
    if code in {"AccessDenied", "403"}:
        remedy = (
            f"Allow s3:ListBucket on the bucket {place.bucket} and s3:GetObject on its objects to the identity of "
            "aws_conn_id; in another account's bucket, its bucket policy has to allow it, too. An encrypted one takes "
            "kms:Decrypt on its key."
        )
    return ServiceError(operation=f"{operation} on {place}", code=code, reason=describe_error(error), remedy=remedy)
