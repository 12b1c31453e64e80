"""The objects of S3, or the files, under a URI; what a refusal to show them means."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from airflow_provider_personalize.aws_errors import as_s3_error, error_code, is_transient
from airflow_provider_personalize.exceptions import MissingOutputError, PersonalizeError, ServiceError
from airflow_provider_personalize.uris import FileUri, S3Uri, parse_uri

SUFFIXES = (".out", ".out.gz")


@dataclass(frozen=True)
class StoredObject:
    """
    An object of S3, or a file.

    :param uri: Its URI, ``s3://…`` or ``file:///…``.
    :param size: Its size in bytes.
    :param etag: Its ETag; a file has none.
    :param modified: When it was written, as S3 says.
    """

    uri: str
    size: int
    etag: str | None = None
    modified: datetime | None = field(default=None, compare=False)

    def version(self) -> str:
        """Return what is the same as long as the content is: the ETag, or a digest of the file."""
        place = parse_uri(self.uri)
        if isinstance(place, FileUri):
            with place.path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        return self.etag or ""


def objects_at(client: Callable[[], Any], uri: str) -> list[StoredObject]:
    """
    Return the output at a URI: one object, or all ``.out`` and ``.out.gz`` objects under a prefix that ends in ``/``.

    :param client: Returns an S3 client; called only where one is needed.
    :param uri: ``s3://…`` or ``file:///…``.
    :raises MissingOutputError: if there is nothing.
    :raises InvalidRequestError: if it is no such URI.
    """
    place = parse_uri(uri, parameter="output_uri")
    is_prefix = uri.endswith("/")
    if isinstance(place, FileUri):
        found = list_files(place)
    else:
        found = [item for item in list_objects(client(), place) if is_prefix or item.uri == uri]
    if is_prefix:
        found = [item for item in found if item.uri.endswith(SUFFIXES)]
    if not found:
        what = "an object whose name ends in .out or .out.gz under it" if is_prefix else "such an object"
        hint = "" if is_prefix else " A prefix has to end in '/'."
        raise MissingOutputError(uri=uri, reason=f"output_uri says that there is {what}.{hint}")
    return found


def part_of(objects: Sequence[StoredObject], part: int, parts: int) -> list[StoredObject]:
    """
    Return one part of objects that several tasks share, each object in one part, the parts of about the same size.

    The same objects are always shared in the same way. Where there are fewer objects than parts, some parts are empty.

    :param objects: All objects.
    :param part: The number of the part, from 0.
    :param parts: How many parts there are.
    """
    sizes = [0] * parts
    chosen = set()
    # The largest first, each to the part that has least so far; an empty one counts, since it takes a request as well.
    for item in sorted(objects, key=lambda item: (-item.size, item.uri)):
        lightest = min(range(parts), key=sizes.__getitem__)
        sizes[lightest] += max(item.size, 1)
        if lightest == part:
            chosen.add(item.uri)
    return [item for item in objects if item.uri in chosen]


def list_files(place: FileUri) -> list[StoredObject]:
    """Return the file of that URI, or all files of a folder and of the folders in it."""
    paths = sorted(place.path.rglob("*")) if place.is_folder else [place.path]
    return [StoredObject(str(FileUri(path)), path.stat().st_size) for path in paths if path.is_file()]


def list_objects(client: Any, place: S3Uri, *, deep: bool = True) -> Iterator[StoredObject]:
    """
    List the objects whose keys begin with that of a URI, page by page.

    :param client: An S3 client.
    :param place: The URI.
    :param deep: Whether to list those in folders further down, too.
    :raises MissingOutputError: if there is no such bucket.
    :raises ServiceError: if S3 refuses to tell, or leaves the list unfinished.
    """
    asked = {"Bucket": place.bucket, "Prefix": place.key, **({} if deep else {"Delimiter": "/"})}
    try:
        for page in client.get_paginator("list_objects_v2").paginate(**asked):
            for item in page.get("Contents", ()):
                if item["Key"].startswith(place.key):
                    yield StoredObject(
                        str(S3Uri(place.bucket, item["Key"])), item["Size"], item.get("ETag"), item.get("LastModified")
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
        raise read_error("ListObjectsV2", place, error) from error


def replaced(uri: str) -> MissingOutputError:
    """Return the error for an object that is not any more what it was when it was listed."""
    return MissingOutputError(
        uri=uri, reason="It was deleted or replaced while the load was reading. Load again.", may_pass=True
    )


def read_error(operation: str, place: S3Uri, error: Exception) -> PersonalizeError:
    """
    Return the error for what S3 refuses to a reader.

    :param operation: S3's operation.
    :param place: The object or the prefix.
    :param error: What botocore raised.
    """
    code = error_code(error)
    if code == "NoSuchBucket":
        return MissingOutputError(uri=str(place), reason="There is no such bucket.")
    if code in {"NoSuchKey", "PreconditionFailed", "InvalidRange", "404", "412", "416"}:
        return replaced(str(place))
    return as_s3_error(error, operation=operation, place=place)
