"""
New files in a folder, of S3 or of this machine: they appear all together, under their names, when all are complete.

Whatever else lies in the folder stays as it is. Files of the same names are replaced.
"""

from __future__ import annotations

import io
import secrets
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from botocore.exceptions import ClientError

from airflow_provider_personalize.aws_errors import as_s3_error, error_code
from airflow_provider_personalize.exceptions import PersonalizeError
from airflow_provider_personalize.s3.upload_calls import PrefixCalls
from airflow_provider_personalize.s3.uploads import Uploads
from airflow_provider_personalize.uris import FileUri, S3Uri

#: The end of the names that files of this machine have until they appear.
_UNFINISHED = ".unfinished"
#: Bytes that are handed on to a file at once.
BUFFER_BYTES = 1 << 20


class NewFiles(Protocol):
    """
    Files that are being written. A context manager: those that were not published are dropped when it is left.
    """

    def __enter__(self) -> Self:
        """Return the files."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Drop what was not published."""

    def create(self, name: str) -> io.RawIOBase:
        """
        Begin a file, and return what takes its bytes.

        :param name: Its name in the folder; it may have folders in front.
        """

    def publish(self) -> list[str]:
        """Let all files appear, and return their URIs in the order in which they were begun."""


def new_files(
    place: S3Uri | FileUri, client: Callable[[], Any], *, content_type: str = "application/vnd.apache.parquet"
) -> NewFiles:
    """
    Return what writes files to a folder.

    :param place: The folder.
    :param client: Returns an S3 client with credentials that hold; called only where one is needed, and again where
        those of the last one have expired.
    :param content_type: What S3 notes the files to be.
    """
    return LocalFiles(place) if isinstance(place, FileUri) else S3Files(place, client, content_type)


def has_file(name: str, place: S3Uri | FileUri, client: Callable[[], Any]) -> bool:
    """
    Return whether a folder has a file, as far as one may see it.

    :param name: The file's name.
    :param place: The folder.
    :param client: As in :func:`new_files`.
    """
    if isinstance(place, FileUri):
        return (place.path / name).exists()
    try:
        PrefixCalls(client(), place, client)("head_object", Key=place.key + name)
    except ClientError as error:
        if error_code(error) in {"404", "NoSuchKey", "403", "AccessDenied"}:
            return False
        raise as_s3_error(error, operation=error.operation_name, place=place) from error
    return True


def delete_files(uris: Iterable[str], place: S3Uri | FileUri, client: Callable[[], Any]) -> None:
    """
    Delete files that :meth:`NewFiles.publish` has returned; one that is gone already is no error.

    :param uris: Their URIs.
    :param place: The folder that they are in.
    :param client: As in :func:`new_files`.
    """
    names = [uri.removeprefix(str(place)) for uri in uris]
    if isinstance(place, FileUri):
        for name in names:
            (place.path / name).unlink(missing_ok=True)
        return
    calls = PrefixCalls(client(), place, client)
    for start in range(0, len(names), 1_000):
        keys = [place.key + name for name in names[start : start + 1_000]]
        try:
            calls.delete(keys)
        except ClientError as error:
            raise as_s3_error(error, operation=error.operation_name, place=place, writing=True) from error


class _Sink(io.RawIOBase):
    """
    A file that hands its bytes to a function.

    :param take: The function.
    """

    def __init__(self, take: Callable[[bytes], object]) -> None:
        super().__init__()
        self._take = take
        self._bytes = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._bytes

    def write(self, data: Any) -> int:
        body = bytes(data)
        self._take(body)
        self._bytes += len(body)
        return len(body)


class OneFile:
    """
    A file that is begun when its first text is written.

    :param files: The folder that it goes to.
    :param name: Its name.
    """

    def __init__(self, files: NewFiles, name: str) -> None:
        self._files = files
        self._name = name
        self._buffer: io.BufferedWriter | None = None
        self.bytes = 0

    def write(self, text: str) -> None:
        """Add text."""
        if not text:
            return
        if self._buffer is None:
            self._buffer = io.BufferedWriter(self._files.create(self._name), BUFFER_BYTES)
        data = text.encode()
        self.bytes += len(data)
        self._buffer.write(data)

    def publish(self) -> bool:
        """Let the file appear, and return whether there is one."""
        if self._buffer is None:
            return False
        self._buffer.flush()
        self._files.publish()
        return True


class LocalFiles:
    """
    Files of this machine.

    :param place: The folder. It is created when the first file is begun.
    """

    def __init__(self, place: FileUri) -> None:
        self._folder = place.path
        self._begun: list[tuple[Path, Path, Any]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for unfinished, _, file in self._begun:
            file.close()
            unfinished.unlink(missing_ok=True)

    def create(self, name: str) -> io.RawIOBase:
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        # Of a try that was killed. One that still runs then cannot publish.
        for leftover in path.parent.glob(f".{path.name}.*{_UNFINISHED}"):
            leftover.unlink(missing_ok=True)
        unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}{_UNFINISHED}")
        file = unfinished.open("xb")
        self._begun.append((unfinished, path, file))
        return _Sink(file.write)

    def publish(self) -> list[str]:
        for _, _, file in self._begun:
            file.close()
        published = []
        while self._begun:
            unfinished, path, _ = self._begun[0]
            try:
                unfinished.replace(path)
            except FileNotFoundError:
                raise _another_try(str(FileUri(path))) from None
            published.append(str(FileUri(path)))
            del self._begun[0]
        return published


class S3Files:
    """
    Objects under a prefix.

    :param place: The prefix, ending in ``/``.
    :param client: As in :func:`new_files`.
    :param content_type: As in :func:`new_files`.
    """

    def __init__(self, place: S3Uri, client: Callable[[], Any], content_type: str) -> None:
        self._place = place
        self._calls = PrefixCalls(client(), place, client)
        self._uploads = Uploads(self._calls, {"ContentType": content_type})
        self._begun: list[Any] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._uploads.close()

    def create(self, name: str) -> io.RawIOBase:
        key = self._place.key + name
        self._abort_leftovers(key)
        upload = self._uploads.begin(key)
        self._begun.append(upload)
        return _Sink(lambda data: self._raising(self._uploads.append, upload, data))

    def publish(self) -> list[str]:
        self._raising(self._uploads.settle, self._begun)
        self._raising(self._uploads.complete, self._begun)
        published = [str(S3Uri(self._place.bucket, upload.key)) for upload in self._begun]
        self._begun.clear()
        return published

    def _abort_leftovers(self, key: str) -> None:
        """Abort the uploads of a try that was killed: nobody sees them, but they are billed."""
        try:
            uploads = self._calls.uploads(key)
        except ClientError:
            # Some identities may write but not list.
            return
        for found, upload_id in uploads:
            if found == key:
                self._calls.abort(key, upload_id)

    def _raising(self, work: Callable[..., Any], *arguments: Any) -> None:
        try:
            work(*arguments)
        except ClientError as error:
            if error_code(error) == "NoSuchUpload":
                raise _another_try(str(self._place)) from error
            raise as_s3_error(error, operation=error.operation_name, place=self._place, writing=True) from error


def _another_try(place: str) -> PersonalizeError:
    return PersonalizeError(
        "Another try of this task writes the same files at the same time, and has dropped what this one had written. "
        f"If no other one is running, run this task again: {place}"
    )
