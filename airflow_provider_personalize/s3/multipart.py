"""
Part files under an S3 prefix that appear all together: none is visible before all of them are uploaded.

Every file goes up as a multipart upload, and S3 shows an upload's object only when the upload is completed. That is
done at the very end, so whatever fails before leaves the prefix as it was.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from types import TracebackType
from typing import Any, Self

from botocore.exceptions import ClientError

from airflow_provider_personalize.exceptions import InvalidLineError, InvalidRequestError, ServiceError
from airflow_provider_personalize.s3.upload_calls import Claim, PrefixCalls, s3_errors
from airflow_provider_personalize.s3.uploads import Upload, Uploads
from airflow_provider_personalize.service.recipes import MAX_FILE_BYTES, MAX_FILES, MAX_LINES
from airflow_provider_personalize.uris import S3Uri

log = logging.getLogger(__name__)

#: What the objects of each kind of part file are called, by the ending of their names.
_CONTENT_TYPES = {".json": "application/json", ".csv": "text/csv"}


def part_name(index: int, suffix: str = ".json") -> str:
    """Return the name of the n-th part file, from 0."""
    return f"part-{index:05}{suffix}"


class MultipartFiles:
    """
    The part files of one run, as a context manager: :meth:`write` lines, then :meth:`publish` them. When it is left
    without that, it aborts what it has uploaded.

    The prefix has to hold nothing else. Only part files of this naming are replaced or deleted, and other objects are
    an error, since a job would read them, too. A run that begins takes the prefix over from an earlier one that still
    works there, which then fails before its files appear.

    :param client: boto3's S3 client.
    :param prefix: The prefix, ending in ``/``.
    :param upload_args: Further arguments of ``CreateMultipartUpload``, as for encryption.
    :param max_lines: The most lines of one file; can be set until the first line is written.
    :param max_bytes: The most bytes of one file.
    :param max_files: The most files.
    :param renew: Returns another client, with fresh credentials, where those of this one have expired.
    :param suffix: How the files' names end: ``.json`` or ``.csv``.
    :param header: What each file begins with.
    """

    def __init__(
        self,
        client: Any,
        prefix: S3Uri,
        *,
        upload_args: Mapping[str, Any] | None = None,
        max_lines: int = MAX_LINES,
        max_bytes: int = MAX_FILE_BYTES,
        max_files: int = MAX_FILES,
        renew: Callable[[], Any] | None = None,
        suffix: str = ".json",
        header: bytes = b"",
    ) -> None:
        self.max_lines = max_lines
        #: What each file begins with; can be set until the first line is written.
        self.header = header
        #: Bytes written so far.
        self.bytes = 0
        self._calls = PrefixCalls(client, prefix, renew)
        self._prefix = prefix
        self._upload_args = dict(upload_args or {})
        self._claim = Claim(self._calls, self._upload_args)
        self._max_bytes = max_bytes
        self._max_files = max_files
        self._suffix = suffix
        self._part_name = re.compile(rf"part-\d{{5}}{re.escape(suffix)}")
        self._files: list[Upload] = []
        self._uploads = Uploads(self._calls, {"ContentType": _CONTENT_TYPES[suffix], **self._upload_args})

    @property
    def file_count(self) -> int:
        """The number of files so far."""
        return len(self._files)

    def __enter__(self) -> Self:
        """
        Check that the prefix is free for this run, and claim it.

        :raises InvalidRequestError: if other objects than part files are there.
        :raises PersonalizeError: if another run begins at the same time.
        """
        with self._errors():
            foreign = list(islice((key for key in self._calls.object_keys() if not self._is_ours(key)), 4))
            if foreign:
                raise InvalidRequestError(
                    f"s3_uri: expected {self._prefix} to hold nothing but earlier part files, since a job reads "
                    f"everything under it, got {', '.join(foreign[:3])}{' and more' if foreign[3:] else ''}. Give this "
                    "task a folder of its own, or move these objects away."
                )
            self._abort_leftovers()
            try:
                self._claim.take()
            except BaseException:
                self._claim.give_back()
                self._uploads.close()
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Abort the uploads that were not published."""
        self._uploads.close()
        self._claim.give_back()

    def write(self, lines: Sequence[str], before: str = "", after: str = "\n") -> int:
        """
        Add lines to the current file, or to new ones where it is full.

        :param lines: What differs from line to line, in ASCII.
        :param before: What each line begins with.
        :param after: What each line ends with, the newline included.
        :return: How many bytes they are.
        :raises InvalidRequestError: if they need more files than a job takes.
        """
        start, written = 0, self.bytes
        between = after + before
        while start < len(lines):
            file = self._files[-1] if self._files and self._files[-1].lines < self.max_lines else self._open()
            piece = lines[start : start + self.max_lines - file.lines]
            data = f"{before}{between.join(piece)}{after}".encode("ascii")
            while file.bytes + len(data) > self._max_bytes:
                if file.lines:
                    file = self._open()
                elif len(piece) > 1:
                    piece = piece[: len(piece) // 2]
                    data = f"{before}{between.join(piece)}{after}".encode("ascii")
                else:
                    raise InvalidLineError(
                        location=f"The line {data[:100]!r}…",
                        reason=f"expected at most {self._max_bytes:,} bytes, as a file may hold, got {len(data):,}.",
                    )
            self._append(file, len(piece), data)
            start += len(piece)
        return self.bytes - written

    def write_block(self, block: bytes, lines: int) -> None:
        """
        Add whole lines to the current file, or to a new one where they do not fit into it any more.

        :param block: The lines, each with its newline; far fewer bytes than a file may hold.
        :param lines: How many they are.
        """
        if not self._files or self._files[-1].bytes + len(block) > self._max_bytes:
            self._open()
        self._append(self._files[-1], lines, block)

    def publish(self) -> None:
        """
        Finish every upload, then let all files appear, and delete those of an earlier run that are not among them.

        Until the first file appears, the prefix is untouched. If this fails between two files, or is killed, some files
        are of this run and some of an earlier one, until the next run replaces them all.

        :raises PersonalizeError: if another run has begun at the prefix.
        """
        with self._errors():
            self._uploads.settle(self._files)
            self._claim.check()
            self._uploads.complete(self._files)
            published = {file.key for file in self._files}
            self._files.clear()
            self.delete_parts(keep=published)

    def delete_parts(self, keep: set[str] | frozenset[str] = frozenset()) -> None:
        """
        Delete the part files under the prefix.

        :param keep: The keys of those that stay.
        """
        with self._errors():
            self._claim.check()
            found = self._calls.object_keys()
            stale = (key for key in found if key not in keep and self._is_ours(key) and not key.endswith("/"))
            while keys := list(islice(stale, 1_000)):
                self._calls.delete(keys)
                log.info("Deleted %d part files of an earlier run under %s", len(keys), self._prefix)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn S3's refusals into errors that say what to do; where another run is the reason, they say that."""
        try:
            with s3_errors(self._prefix):
                yield
        except ServiceError:
            self._claim.check()
            raise

    def _is_ours(self, key: str) -> bool:
        # The S3 console makes a folder by an empty object of the prefix's own name.
        return key == self._prefix.key or bool(self._part_name.fullmatch(key.removeprefix(self._prefix.key)))

    def _abort_leftovers(self) -> None:
        """Abort the uploads of a run that was killed: nobody sees them, but they are billed."""
        try:
            uploads = self._calls.uploads(self._prefix.key)
        except ClientError as error:
            log.info("Unfinished uploads of earlier runs were not looked for: %s", error)
            return
        # The claim first: a run that still works there then learns of it before it publishes.
        for key, upload_id in sorted(uploads, key=lambda upload: not self._claim.is_key(upload[0])):
            if self._is_ours(key) or self._claim.is_key(key):
                log.info("Aborting the unfinished upload of %s that an earlier run has left", key)
                self._calls.abort(key, upload_id)

    def _open(self) -> Upload:
        if len(self._files) == self._max_files:
            raise InvalidRequestError(
                f"sql: expected no more rows than {self._max_files:,} files of {self.max_lines:,} lines can hold, "
                "which is what one job takes, got more. Split the query over several jobs; or, where the recipe takes "
                "more lines a file (as aws-similar-items does, and aws-item-affinity does not), name it in recipe."
            )
        if self._files:
            with self._errors():
                self._uploads.flush(self._files[-1])
        key = f"{self._prefix.key}{part_name(len(self._files), self._suffix)}"
        file = self._uploads.begin(key)
        self._files.append(file)
        if self.header:
            self._append(file, 0, self.header)
        return file

    def _append(self, file: Upload, lines: int, data: bytes) -> None:
        with self._errors():
            self._uploads.append(file, data)
        file.lines += lines
        self.bytes += len(data)
