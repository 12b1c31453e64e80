"""
Part files under an S3 prefix that appear all together: nothing of a run is seen until all of it is there.

Every file goes up as a multipart upload, and S3 shows an upload's object only when the upload is completed. That is
done at the very end, so whatever fails before leaves the prefix as it was.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from threading import BoundedSemaphore
from types import TracebackType
from typing import Any, Self

from botocore.exceptions import ClientError

from airflow_provider_personalize.batch.recipes import MAX_FILE_BYTES, MAX_FILES, MAX_LINES
from airflow_provider_personalize.exceptions import InvalidLineError, InvalidRequestError, ServiceError
from airflow_provider_personalize.naming import S3Uri

log = logging.getLogger(__name__)

#: Bytes from which on a file's text goes up as one part; S3 takes none below 5 MiB but the last.
PART_BYTES = 8 * 1024 * 1024
#: Parts that go up at the same time.
THREADS = 4

_PART_NAME = re.compile(r"part-\d{5}\.json")


def part_name(index: int) -> str:
    """Give the name of the n-th part file, from 0."""
    return f"part-{index:05}.json"


@dataclass
class _File:
    """One file on its way up."""

    key: str
    upload_id: Future[str]
    parts: list[Future[dict[str, Any]]] = field(default_factory=list)
    buffer: list[bytes] = field(default_factory=list)
    buffered: int = 0
    lines: int = 0
    bytes: int = 0


class PartFiles:
    """
    The part files of one run, as a context manager: :meth:`write` lines, then :meth:`publish`; left without that, it
    takes back what it has uploaded.

    The prefix belongs to it. It replaces and deletes nothing but part files of its own naming, and refuses to start
    where other objects are, since a job would read them too.

    :param client: boto3's S3 client.
    :param prefix: The prefix, ending in ``/``.
    :param upload_args: Further arguments of ``CreateMultipartUpload``, as for encryption.
    :param max_lines: The most lines of one file; can be set until the first line is written.
    :param max_bytes: The most bytes of one file.
    :param max_files: The most files.
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
    ) -> None:
        self.max_lines = max_lines
        #: Bytes written so far.
        self.bytes = 0
        self._client = client
        self._prefix = prefix
        self._upload_args = dict(upload_args or {})
        self._max_bytes = max_bytes
        self._max_files = max_files
        self._files: list[_File] = []
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="personalize-upload")
        # A part takes a place until it is uploaded, and whoever writes waits for one: so memory holds no more parts.
        self._places = BoundedSemaphore(THREADS)
        self._failure: BaseException | None = None

    @property
    def files(self) -> int:
        """How many files there are so far."""
        return len(self._files)

    def __enter__(self) -> Self:
        """
        Make sure that the prefix is free for this run.

        :raises InvalidRequestError: if other objects than part files are there.
        """
        with _s3_errors(self._prefix):
            foreign = list(islice((key for key in self._keys() if not self._is_ours(key)), 4))
            if foreign:
                raise InvalidRequestError(
                    f"s3_uri: expected {self._prefix} to hold nothing but earlier part files, since a job reads "
                    f"everything under it, got {', '.join(foreign[:3])}{' and more' if foreign[3:] else ''}. Give this "
                    "task a folder of its own, or move these objects away."
                )
            self._abort_leftovers()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take back what was uploaded and not published."""
        self._pool.shutdown(cancel_futures=True)
        started = [file for file in self._files if not file.upload_id.cancelled() and not file.upload_id.exception()]
        with ThreadPoolExecutor(THREADS) as pool:
            pool.map(lambda file: self._abort(file.key, file.upload_id.result()), started)

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

    def publish(self) -> None:
        """
        Finish every upload, then let all files appear, and delete those of an earlier run that are not among them.

        Until the first file appears, the prefix is untouched. Should it fail among them, or be killed, some files are
        of this run and some of an earlier one; another run puts that right.
        """
        with _s3_errors(self._prefix):
            if self._files:
                self._flush(self._files[-1])
            parts = [[part.result() for part in file.parts] for file in self._files]
            for _ in self._pool.map(self._complete, list(self._files), parts):
                pass
            published = {file.key for file in self._files}
            self._files.clear()
            self.delete_parts(keep=published)

    def delete_parts(self, keep: set[str] | frozenset[str] = frozenset()) -> None:
        """
        Delete the part files under the prefix.

        :param keep: The keys of those that stay.
        """
        with _s3_errors(self._prefix):
            stale = (key for key in self._keys() if key not in keep and self._is_ours(key) and not key.endswith("/"))
            while keys := list(islice(stale, 1_000)):
                answer = self._client.delete_objects(
                    Bucket=self._prefix.bucket, Delete={"Objects": [{"Key": key} for key in keys], "Quiet": True}
                )
                for error in answer.get("Errors", ()):
                    raise ClientError({"Error": error}, "DeleteObjects")
                log.info("Deleted %d part files of an earlier run under %s", len(keys), self._prefix)

    def _keys(self) -> Iterator[str]:
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._prefix.bucket, Prefix=self._prefix.key
        )
        return (entry["Key"] for page in pages for entry in page.get("Contents", ()))

    def _is_ours(self, key: str) -> bool:
        # The S3 console makes a folder by an empty object of the prefix's own name.
        return key == self._prefix.key or bool(_PART_NAME.fullmatch(key.removeprefix(self._prefix.key)))

    def _abort_leftovers(self) -> None:
        """Abort the uploads of a run that was killed: nobody sees them, but they are billed."""
        try:
            pages = self._client.get_paginator("list_multipart_uploads").paginate(
                Bucket=self._prefix.bucket, Prefix=self._prefix.key
            )
            for upload in [upload for page in pages for upload in page.get("Uploads", ())]:
                if self._is_ours(upload["Key"]):
                    log.info("Aborting the unfinished upload of %s that an earlier run has left", upload["Key"])
                    self._abort(upload["Key"], upload["UploadId"])
        except ClientError as error:
            log.info("Unfinished uploads of earlier runs were not looked for: %s", error)

    def _open(self) -> _File:
        if len(self._files) == self._max_files:
            raise InvalidRequestError(
                f"sql: expected no more rows than {self._max_files:,} files of {self.max_lines:,} lines can hold, "
                "which is what one job takes, got more. Split the query over several jobs; or, where the recipe takes "
                "more lines a file (as aws-similar-items does, and aws-item-affinity does not), name it in recipe."
            )
        if self._files:
            self._flush(self._files[-1])
        key = f"{self._prefix.key}{part_name(len(self._files))}"
        file = _File(key, self._pool.submit(self._create, key))
        self._files.append(file)
        return file

    def _append(self, file: _File, lines: int, data: bytes) -> None:
        file.buffer.append(data)
        file.buffered += len(data)
        file.lines += lines
        file.bytes += len(data)
        self.bytes += len(data)
        if file.buffered >= PART_BYTES:
            self._flush(file)

    def _flush(self, file: _File) -> None:
        """Hand what a file has buffered to the uploading threads."""
        if not file.buffer:
            return
        self._places.acquire()
        if self._failure:
            self._places.release()
            with _s3_errors(self._prefix):
                raise self._failure
        body = b"".join(file.buffer)
        file.buffer.clear()
        file.buffered = 0
        file.parts.append(self._pool.submit(self._upload, file, len(file.parts) + 1, body))

    def _create(self, key: str) -> str:
        answer = self._client.create_multipart_upload(
            Bucket=self._prefix.bucket, Key=key, **{"ContentType": "application/json", **self._upload_args}
        )
        return str(answer["UploadId"])

    def _upload(self, file: _File, number: int, body: bytes) -> dict[str, Any]:
        try:
            answer = self._client.upload_part(
                Bucket=self._prefix.bucket,
                Key=file.key,
                # Submitted before any of its parts, so it never waits for a thread that waits for it.
                UploadId=file.upload_id.result(),
                PartNumber=number,
                Body=body,
            )
        except BaseException as error:
            self._failure = error
            raise
        finally:
            self._places.release()
        # Where the client adds checksums, completing the upload takes them too.
        checksums = {name: answer[name] for name in answer if re.fullmatch(r"Checksum(CRC|SHA).+", name)}
        return {"PartNumber": number, "ETag": answer["ETag"], **checksums}

    def _complete(self, file: _File, parts: list[dict[str, Any]]) -> None:
        self._client.complete_multipart_upload(
            Bucket=self._prefix.bucket,
            Key=file.key,
            UploadId=file.upload_id.result(),
            MultipartUpload={"Parts": parts},
        )

    def _abort(self, key: str, upload_id: str) -> None:
        try:
            self._client.abort_multipart_upload(Bucket=self._prefix.bucket, Key=key, UploadId=upload_id)
        except ClientError as error:
            # NoSuchUpload: it was completed, or somebody else has aborted it.
            if error.response.get("Error", {}).get("Code") != "NoSuchUpload":
                log.warning(
                    "The unfinished upload of s3://%s/%s could not be aborted (%s). Nobody sees it, but it is billed "
                    "until a lifecycle rule of the bucket removes it.",
                    self._prefix.bucket,
                    key,
                    error,
                )


@contextmanager
def _s3_errors(prefix: S3Uri) -> Iterator[None]:
    """Turn S3's refusals into errors that say what to do."""
    try:
        yield
    except ClientError as error:
        details = error.response.get("Error", {})
        code = str(details.get("Code", "Unknown"))
        remedies = {
            "AccessDenied": (
                f"Allow the Airflow connection's identity s3:ListBucket on the bucket {prefix.bucket}, and "
                f"s3:PutObject, s3:AbortMultipartUpload and s3:DeleteObject under {prefix}; where that is encrypted "
                "with a KMS key, kms:GenerateDataKey and kms:Decrypt too."
            ),
            "NoSuchBucket": f"Check the bucket in s3_uri ({prefix}), and the account and region of aws_conn_id.",
        }
        raise ServiceError(
            operation=f"S3's {error.operation_name} for {prefix}",
            code=code,
            reason=str(details.get("Message", "")),
            remedy=remedies.get(code, ""),
        ) from error
