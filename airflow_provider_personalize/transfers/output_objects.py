"""Which objects a job's output is, and their bytes: from S3, or from files that were fetched before."""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, IncompleteReadError
from urllib3.exceptions import HTTPError

from airflow_provider_personalize.exceptions import (
    InvalidRequestError,
    MissingOutputError,
    PersonalizeError,
    ServiceError,
)
from airflow_provider_personalize.hooks.errors import describe_error, error_code, is_transient
from airflow_provider_personalize.naming import S3Uri, parse_s3_uri
from airflow_provider_personalize.waiting import growing_pause

#: Bytes in one request, and requests at once.
PART = 4 << 20
PARTS_AT_ONCE = 4
#: Bytes handed on at once: what is parsed as one batch.
BLOCK = 1 << 19
#: Tries without a byte of progress before an S3 object is given up; about a minute and a half.
FETCH_TRIES = 8

SUFFIXES = (".out", ".out.gz")


@dataclass(frozen=True)
class OutputObject:
    """
    One object of S3, or one file.

    :param uri: Its URI, ``s3://…`` or ``file://…``.
    :param size: Its size in bytes.
    :param etag: Its ETag; a file has none.
    """

    uri: str
    size: int
    etag: str | None = None

    def version(self) -> str:
        """Give what is the same if the content is: the ETag, or a digest of the file."""
        if self.etag is not None:
            return self.etag
        with file_path(self.uri).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def objects_of_job(client: Any, description: dict[str, Any]) -> list[OutputObject]:
    """
    Find the output of a job: one object for each object of its input, and no other.

    :param client: An S3 client.
    :param description: The job's description.
    :raises MissingOutputError: if an object is missing, input that says what to expect included.
    :raises InvalidRequestError: if two input objects have the same name, and so the same output.
    """
    source = parse_s3_uri(description["jobInput"]["s3DataSource"]["path"], parameter="the job's input", max_length=None)
    target = parse_s3_uri(
        description["jobOutput"]["s3DataDestination"]["path"], parameter="the job's output", max_length=None
    )
    folder = f"{target.key.rstrip('/')}/" if target.key.strip("/") else ""
    inputs = [item for item in list_objects(client, source) if not item.uri.endswith("/")]
    if target.bucket == source.bucket and folder.startswith(source.key) and folder != source.key:
        # A job may have been made with its output under its input.
        inputs = [item for item in inputs if not item.uri.startswith(f"s3://{target.bucket}/{folder}")]
    if not inputs:
        raise MissingOutputError(
            uri=str(source),
            reason="The job's input objects tell which output is its own, and none is left. Put them back, or give the "
            f"loader output_uri, as 's3://{target.bucket}/{folder}', if all the .out objects there are wanted.",
        )
    found = {item.uri: item for item in list_objects(client, S3Uri(target.bucket, folder))}
    expected: dict[str, str] = {}
    objects = []
    for item in inputs:
        uri = f"s3://{target.bucket}/{folder}{item.uri.rpartition('/')[2]}.out"
        if uri in expected:
            raise InvalidRequestError(
                f"The input objects {expected[uri]} and {item.uri} have the same name, so the job wrote the output of "
                f"both to {uri}, and one of them is lost. Give each input object its own name, and run the job again."
            )
        expected[uri] = item.uri
        if uri in found:
            objects.append(found[uri])
        elif item.size:
            raise MissingOutputError(
                uri=uri,
                reason=f"The job's input object {item.uri} should have led to it. If it was moved or deleted, bring it "
                "back or run the job again; if that input came after the job, take it away.",
            )
    return objects


def objects_at(client: Callable[[], Any], uri: str) -> list[OutputObject]:
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


def _files(uri: str) -> list[OutputObject]:
    path = file_path(uri)
    paths = sorted(path.rglob("*")) if uri.endswith("/") else [path]
    return [OutputObject(file.absolute().as_uri(), file.stat().st_size) for file in paths if file.is_file()]


def file_path(uri: str) -> Path:
    """Give the path of a file's URI."""
    return Path(url2pathname(urlsplit(uri.replace("#", "%23").replace("?", "%3F")).path))


def list_objects(client: Any, place: S3Uri) -> Iterator[OutputObject]:
    """
    Give the objects whose keys begin with that of a URI, page by page.

    :param client: An S3 client.
    :param place: The URI.
    :raises MissingOutputError: if there is no such bucket.
    :raises ServiceError: if S3 refuses to tell.
    """
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=place.bucket, Prefix=place.key)
    try:
        for page in pages:
            for item in page.get("Contents", ()):
                yield OutputObject(f"s3://{place.bucket}/{item['Key']}", item["Size"], item["ETag"])
    except ClientError as error:
        raise _s3_error("ListObjectsV2", place, error) from error


def read_objects(client: Callable[[], Any], objects: Iterable[OutputObject]) -> Iterator[tuple[str, Iterator[bytes]]]:
    """
    Read objects one after the other: each one's URI, and its bytes in blocks.

    From S3, the next parts and objects are on their way while one is worked on.

    :param client: Gives an S3 client, where one is needed.
    :param objects: The objects.
    """
    objects = list(objects)
    if any(item.uri.startswith("s3:") for item in objects):
        parts = _fetched(client(), objects)
    else:
        parts = ((item.uri, block) for item in objects for block in _file_blocks(item))
    for uri, group in groupby(parts, key=lambda part: part[0]):
        yield uri, (block for _, block in group)


def _file_blocks(item: OutputObject) -> Iterator[bytes]:
    with file_path(item.uri).open("rb", buffering=0) as file:
        while block := file.read(BLOCK):
            yield block


def _fetched(client: Any, objects: Iterable[OutputObject]) -> Iterator[tuple[str, bytes]]:
    asked = ((item, start) for item in objects for start in range(0, item.size, PART))
    coming: deque[tuple[str, Future[bytes]]] = deque()
    with ThreadPoolExecutor(PARTS_AT_ONCE, thread_name_prefix="personalize-s3") as pool:
        try:
            while True:
                while len(coming) <= PARTS_AT_ONCE and (part := next(asked, None)) is not None:
                    item, start = part
                    coming.append((item.uri, pool.submit(fetch, client, item, start, min(item.size, start + PART))))
                if not coming:
                    return
                uri, future = coming.popleft()
                data = future.result()
                del future
                for begin in range(0, len(data), BLOCK):
                    yield uri, data[begin : begin + BLOCK]
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def fetch(client: Any, item: OutputObject, start: int, end: int) -> bytes:
    """
    Fetch a range of an S3 object. A connection that drops is resumed where it dropped.

    :param client: An S3 client.
    :param item: The object.
    :param start: The range's first byte.
    :param end: The byte after its last.
    """
    place = parse_s3_uri(item.uri, max_length=None)
    data = bytearray()
    tries = 0
    while start + len(data) < end:
        had = len(data)
        try:
            answer = client.get_object(
                Bucket=place.bucket,
                Key=place.key,
                Range=f"bytes={start + had}-{end - 1}",
                IfMatch=str(item.etag),
            )
            for block in answer["Body"].iter_chunks(BLOCK):
                data += block
        except (ClientError, BotoCoreError, HTTPError, OSError) as error:
            if not (
                is_transient(error) or isinstance(error, (HTTPClientError, IncompleteReadError, HTTPError, OSError))
            ):
                raise _s3_error("GetObject", place, error) from error
            tries = 1 if len(data) > had else tries + 1
            if tries >= FETCH_TRIES:
                raise
            time.sleep(growing_pause(tries, first=0.5, longest=30))
    return bytes(data)


def _s3_error(operation: str, place: S3Uri, error: Exception) -> PersonalizeError:
    code = error_code(error)
    if code == "NoSuchBucket":
        return MissingOutputError(uri=str(place), reason="There is no such bucket.")
    if code in {"NoSuchKey", "PreconditionFailed", "404", "412"}:
        return MissingOutputError(
            uri=str(place), reason="It was deleted or replaced while the load was reading. Load again.", may_pass=True
        )
    remedy = ""
    if code in {"AccessDenied", "403"}:
        remedy = (
            f"Allow s3:ListBucket on the bucket {place.bucket} and s3:GetObject on its objects to the identity of "
            "aws_conn_id; in another account's bucket, its bucket policy has to allow it, too. An encrypted one takes "
            "kms:Decrypt on its key."
        )
    return ServiceError(operation=f"{operation} on {place}", code=code, reason=describe_error(error), remedy=remedy)
