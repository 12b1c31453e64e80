"""
Objects on their way up to S3. Each is a multipart upload, whose parts go up on threads of their own.

S3 shows an upload's object only when the upload is completed, so nobody sees a part of one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import BoundedSemaphore
from typing import Any

from airflow_provider_personalize.s3.upload_calls import PrefixCalls

#: Bytes from which on an object's bytes go up as one part; S3 takes none below 5 MiB but the last.
PART_BYTES = 8 * 1024 * 1024
#: Parts that go up at the same time.
THREADS = 4


@dataclass(eq=False)
class Upload:
    """One object on its way up."""

    key: str
    upload_id: Future[str]
    parts: list[Future[dict[str, Any]]] = field(default_factory=list)
    buffer: list[bytes] = field(default_factory=list)
    buffered: int = 0
    lines: int = 0
    bytes: int = 0


class Uploads:
    """
    Uploads under one prefix: :meth:`begin` each, :meth:`append` to it, then :meth:`settle` and :meth:`complete` them.

    What goes wrong on a thread is raised by the next call.

    :param calls: The calls to S3 under the prefix.
    :param upload_args: Arguments of ``CreateMultipartUpload``, as for encryption.
    """

    def __init__(self, calls: PrefixCalls, upload_args: Mapping[str, Any]) -> None:
        self._calls = calls
        self._upload_args = dict(upload_args)
        self._unfinished: list[Upload] = []
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="personalize-upload")
        # Writing waits until fewer parts than this are on their way up, so that memory does not grow with the input.
        self._places = BoundedSemaphore(THREADS)
        self._failure: BaseException | None = None

    def begin(self, key: str) -> Upload:
        """Begin the upload of an object."""
        upload = Upload(key, self._pool.submit(self._create, key))
        self._unfinished.append(upload)
        return upload

    def append(self, upload: Upload, data: bytes) -> None:
        """Add bytes to an object; once there are enough of them, they go up."""
        upload.buffer.append(data)
        upload.buffered += len(data)
        upload.bytes += len(data)
        if upload.buffered >= PART_BYTES:
            self.flush(upload)

    def flush(self, upload: Upload) -> None:
        """Hand what an object has buffered to the uploading threads."""
        if not upload.buffer:
            return
        self._places.acquire()
        if self._failure:
            self._places.release()
            raise self._failure
        body = b"".join(upload.buffer)
        upload.buffer.clear()
        upload.buffered = 0
        upload.parts.append(self._pool.submit(self._upload, upload, len(upload.parts) + 1, body))

    def settle(self, uploads: Iterable[Upload]) -> None:
        """Wait until all parts of these objects are there, so that they can be completed."""
        for upload in uploads:
            self.flush(upload)
        for upload in uploads:
            for part in upload.parts:
                part.result()

    def complete(self, uploads: Iterable[Upload]) -> None:
        """Let these objects, which were settled, appear."""
        for _ in self._pool.map(self._complete, uploads):
            pass

    def close(self) -> None:
        """Abort what was not completed, and end the threads."""
        self._pool.shutdown(cancel_futures=True)
        started = [it for it in self._unfinished if not it.upload_id.cancelled() and not it.upload_id.exception()]
        with ThreadPoolExecutor(THREADS) as pool:
            pool.map(lambda upload: self._calls.abort(upload.key, upload.upload_id.result()), started)
        self._unfinished.clear()

    def _create(self, key: str) -> str:
        return str(self._calls("create_multipart_upload", Key=key, **self._upload_args)["UploadId"])

    def _upload(self, upload: Upload, number: int, body: bytes) -> dict[str, Any]:
        try:
            answer = self._calls(
                "upload_part",
                Key=upload.key,
                # It was submitted before any of its parts, so this cannot wait for a thread that waits for this one.
                UploadId=upload.upload_id.result(),
                PartNumber=number,
                Body=body,
            )
        except BaseException as error:
            self._failure = error
            raise
        finally:
            self._places.release()
        # A client that adds checksums to the parts has to repeat them when it completes the upload.
        checksums = {name: answer[name] for name in answer if re.fullmatch(r"Checksum(CRC|SHA).+", name)}
        return {"PartNumber": number, "ETag": answer["ETag"], **checksums}

    def _complete(self, upload: Upload) -> None:
        self._calls(
            "complete_multipart_upload",
            Key=upload.key,
            UploadId=upload.upload_id.result(),
            MultipartUpload={"Parts": [part.result() for part in upload.parts]},
        )
        self._unfinished.remove(upload)
