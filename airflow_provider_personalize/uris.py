"""
Addresses of objects and files, parsed and printed in one place. This module is pure.

``s3://bucket/key`` is an object of S3, or a prefix; ``file:///folder/name`` is a file of this machine, or a folder.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit
from urllib.request import url2pathname

from airflow_provider_personalize.exceptions import InvalidRequestError

#: The longest S3 path that Personalize takes.
S3_PATH_MAX = 256

_BUCKET = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,254}")


class S3Uri(NamedTuple):
    """An S3 URI in parts: ``s3://<bucket>/<key>``; the key may be empty or a prefix."""

    bucket: str
    key: str

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"

    @property
    def is_folder(self) -> bool:
        """Whether it ends in a slash, or names a whole bucket."""
        return not self.key or self.key.endswith("/")


class FileUri(NamedTuple):
    """The URI of a file or, with a slash at its end, of a folder."""

    path: Path
    is_folder: bool = False

    def __str__(self) -> str:
        uri = self.path.absolute().as_uri()
        return f"{uri}/" if self.is_folder and not uri.endswith("/") else uri


def parse_s3_uri(value: Any, *, parameter: str = "S3 URI", max_length: int | None = S3_PATH_MAX) -> S3Uri:
    """
    Parse an S3 URI.

    :param value: The URI, as ``s3://bucket/folder/``.
    :param parameter: What the user calls it, for the message.
    :param max_length: The most characters; by default as many as Personalize takes.
    :raises InvalidRequestError: if it is no S3 URI, or too long.
    """
    scheme, separator, rest = value.partition("://") if isinstance(value, str) else ("", "", "")
    bucket, _, key = rest.partition("/")
    if scheme != "s3" or not separator or not _BUCKET.fullmatch(bucket):
        raise InvalidRequestError(f"{parameter}: expected an S3 URI like s3://bucket/folder/, got {value!r}.")
    if max_length is not None and len(value) > max_length:
        raise InvalidRequestError(
            f"{parameter}: expected at most {max_length} characters, as the service takes, got {len(value)}: {value!r}."
        )
    return S3Uri(bucket, key)


def parse_uri(value: Any, *, parameter: str = "URI") -> S3Uri | FileUri:
    """
    Parse the URI of an S3 object or of a file, or that of a prefix or a folder.

    :param value: The URI, as ``s3://bucket/folder/`` or ``file:///folder/``.
    :param parameter: What the user calls it, for the message.
    :raises InvalidRequestError: if it is neither.
    """
    uri = _parse(value, parameter)
    if uri is None:
        raise InvalidRequestError(
            f"{parameter}: expected 's3://bucket/folder/', 's3://bucket/key' or 'file:///path', got {value!r}."
        )
    return uri


def parse_file_uri(value: Any, *, parameter: str = "URI") -> S3Uri | FileUri:
    """
    Parse the URI of one object or file.

    :param value: The URI, as ``s3://bucket/folder/name`` or ``file:///folder/name``.
    :param parameter: What the user calls it, for the message.
    :raises InvalidRequestError: if it is neither, or that of a prefix or a folder.
    """
    uri = parse_uri(value, parameter=parameter)
    if uri.is_folder:
        raise InvalidRequestError(
            f"{parameter}: expected the URI of a file, as s3://bucket/folder/name.jsonl or file:///folder/name.jsonl, "
            f"got that of a folder: {value!r}."
        )
    return uri


def folder_of(uri: S3Uri | FileUri) -> tuple[S3Uri | FileUri, str]:
    """Return the folder of a file, and the file's name in it."""
    if isinstance(uri, FileUri):
        return FileUri(uri.path.parent, is_folder=True), uri.path.name
    folder, slash, name = uri.key.rpartition("/")
    return S3Uri(uri.bucket, folder + slash), name


def parse_uri_or_path(value: Any, *, parameter: str = "URI") -> S3Uri | FileUri:
    """
    Parse a URI, or take a plain path for that of a file.

    :param value: The URI, or a path as text or as a ``Path``.
    :param parameter: What the user calls it, for the message.
    :raises InvalidRequestError: if it is neither.
    """
    uri = _parse(value, parameter)
    if uri is None and (isinstance(value, Path) or (isinstance(value, str) and value and "://" not in value)):
        return FileUri(Path(value), str(value).endswith("/"))
    if uri is None:
        raise InvalidRequestError(
            f"{parameter}: expected a path, file:///folder/name or s3://bucket/key, got {value!r}."
        )
    return uri


def _parse(value: Any, parameter: str) -> S3Uri | FileUri | None:
    if not isinstance(value, str):
        return None
    if value.startswith("s3://"):
        return parse_s3_uri(value, parameter=parameter, max_length=None)
    if value.startswith("file:"):
        # A path may hold the characters that begin a query or a fragment elsewhere.
        parts = urlsplit(value.replace("#", "%23").replace("?", "%3F"))
        if not parts.netloc and parts.path:
            return FileUri(Path(url2pathname(parts.path)), value.endswith("/"))
    return None
