"""What a batch job does when it is due: read its input from S3, answer every line, write its output."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from typing import IO, Any

from botocore.exceptions import ClientError

from airflow_provider_personalize.local.errors import JobError
from airflow_provider_personalize.local.jobs import Job
from airflow_provider_personalize.local.lines import THEMES, LineAnswerer
from airflow_provider_personalize.local.recommend import one_thread
from airflow_provider_personalize.uris import S3Uri, parse_s3_uri

MAX_FILES = 1_000
MAX_BYTES = 1_000_000_000
MAX_THEMED_ITEMS = 100
#: What a job leaves beside its output. Assumption: its bytes; that it exists is recorded.
CHECK_NAME, CHECK_BODY = "_CHECK", b"check"
_IN_MEMORY = 8 * 1024 * 1024


def run_job(job: Job, s3: Any) -> None:
    """
    Do a job's work. Nothing is written before all of it is there to be written.

    :param job: The job.
    :param s3: An S3 client.
    :raises JobError: with what becomes the job's ``failureReason``.
    """
    # Assumption: the words of every failureReason; no recorded ones were found.
    source = parse_s3_uri(job.request["jobInput"]["s3DataSource"]["path"])
    destination = job.request["jobOutput"]["s3DataDestination"]
    target = parse_s3_uri(destination["path"])
    if job.recommender is None:
        raise JobError("Internal error: the solution version has learned nothing.")
    try:
        names = _input_names(s3, source)
        with one_thread(), ExitStack() as files:
            outputs: dict[str, IO[bytes]] = {}
            answered = 0
            for key, name in names.items():
                outputs[name] = files.enter_context(tempfile.SpooledTemporaryFile(_IN_MEMORY))
                with tempfile.SpooledTemporaryFile(_IN_MEMORY) as lines:
                    s3.download_fileobj(source.bucket, key, lines)
                    lines.seek(0)
                    answerer = LineAnswerer(job, job.recommender)
                    _answer(answerer, S3Uri(source.bucket, key), lines, outputs[name])
                answered += answerer.answered
                if job.request.get("batchInferenceJobMode") == THEMES and answered > MAX_THEMED_ITEMS:
                    raise JobError(
                        f"Expected at most {MAX_THEMED_ITEMS} items in a job with themes, found {answered} in {source}."
                    )
            _upload(s3, target, destination.get("kmsKeyArn"), outputs)
    except ClientError as error:
        details = error.response["Error"]
        where = target if error.operation_name in ("PutObject", "CreateMultipartUpload", "UploadPart") else source
        raise JobError(
            f"Insufficient privileges for accessing data in Amazon S3. ({error.operation_name} in {where.bucket}: "
            f"{details.get('Code')}: {details.get('Message')})"
        ) from error


def _input_names(s3: Any, source: S3Uri) -> dict[str, str]:
    """Map the key of each input object to the name of its output."""
    names: dict[str, str] = {}
    size = 0
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=source.bucket, Prefix=source.key):
        for found in page.get("Contents", ()):
            # Assumption: an object that only marks a folder is no input.
            if not found["Key"].endswith("/"):
                # Assumption: however deep it lies, an object's output is named after the last part of its key.
                names[found["Key"]] = f"{found['Key'].rpartition('/')[2]}.out"
                size += found["Size"]
    if not names:
        raise JobError(f"No input was found at {source}.")
    if len(names) > MAX_FILES:
        raise JobError(f"Expected at most {MAX_FILES} input files, found {len(names)} at {source}.")
    if size > MAX_BYTES:
        raise JobError(f"Expected at most {MAX_BYTES} bytes of input, found {size} at {source}.")
    by_name: dict[str, str] = {}
    for key, name in names.items():
        other = by_name.setdefault(name, key)
        if other != key:
            # Assumption: a job that would write one object over another fails, rather than lose the first.
            raise JobError(f"The input files {other} and {key} have the same name, and so would their output.")
    return names


def _answer(answerer: LineAnswerer, source: S3Uri, lines: Any, output: IO[bytes]) -> None:
    most = answerer.recipe.max_lines
    for number, line in enumerate(_records(lines), start=1):
        if number > most:
            raise JobError(f"Expected at most {most} records in a file, found more in {source}.")
        output.write(answerer.answer(line) + b"\n")


def _records(lines: Any) -> Iterator[bytes]:
    for line in lines:
        # Assumption: blank lines are passed over.
        if stripped := line.strip():
            yield stripped


def _upload(s3: Any, target: S3Uri, kms_key_arn: str | None, outputs: dict[str, IO[bytes]]) -> None:
    # Assumption: the output's path is a folder, whether or not it ends in a slash.
    folder = f"{target.key.rstrip('/')}/" if target.key.strip("/") else ""
    encryption = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": kms_key_arn} if kms_key_arn else {}
    for name, output in outputs.items():
        output.seek(0)
        s3.upload_fileobj(_Borrowed(output), target.bucket, folder + name, ExtraArgs=encryption)
    s3.put_object(Bucket=target.bucket, Key=folder + CHECK_NAME, Body=CHECK_BODY, **encryption)


class _Borrowed:
    """A file whose close does nothing, since an upload closes what it reads from."""

    def __init__(self, file: IO[bytes]) -> None:
        self.read, self.seek, self.tell = file.read, file.seek, file.tell

    def close(self) -> None:
        """Leave the closing to the opener."""
