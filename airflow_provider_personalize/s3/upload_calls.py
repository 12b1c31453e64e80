"""Calls to S3 under one prefix: expired credentials are renewed, and one run at a time has the prefix."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any, cast

from botocore.exceptions import ClientError, CredentialRetrievalError

from airflow_provider_personalize.aws_errors import as_s3_error, describe_error, error_code, is_expired
from airflow_provider_personalize.exceptions import PersonalizeError
from airflow_provider_personalize.service.waits import growing_pause
from airflow_provider_personalize.uris import S3Uri

log = logging.getLogger(__name__)

#: How often a call is sent with expired credentials, for about a minute in all. The first repeat comes at once.
EXPIRED_TRIES = 8
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 15.0
#: The name of the upload that shows that a run writes under the prefix. It is never completed, so no object appears.
CLAIM_NAME = "_running"


class PrefixCalls:
    """
    S3's operations in a prefix's bucket.

    :param client: boto3's S3 client.
    :param prefix: The prefix.
    :param renew: Returns another client with fresh credentials; by default, the same one is asked again, which renews
        those that botocore can renew.
    """

    def __init__(self, client: Any, prefix: S3Uri, renew: Callable[[], Any] | None = None) -> None:
        self.prefix = prefix
        self._client = client
        self._renew = renew
        self._renewing = Lock()

    def __call__(self, operation: str, **arguments: Any) -> dict[str, Any]:
        """Send a request; where its credentials have expired, again with new ones."""
        tried = 0
        while True:
            client = self._client
            try:
                return cast(dict[str, Any], getattr(client, operation)(Bucket=self.prefix.bucket, **arguments))
            except (ClientError, CredentialRetrievalError) as error:
                tried += 1
                if not is_expired(error) or tried == EXPIRED_TRIES:
                    raise
                log.info("The credentials have expired (%s): %s is sent again", describe_error(error), operation)
            if tried > 1:
                time.sleep(growing_pause(tried - 1, first=FIRST_PAUSE, longest=LONGEST_PAUSE))
            with self._renewing:
                if self._renew and client is self._client:
                    self._client = self._renew()

    def object_keys(self) -> Iterator[str]:
        """Yield the keys of the objects under the prefix."""
        marker: dict[str, str] = {}
        while True:
            answer = self("list_objects_v2", Prefix=self.prefix.key, **marker)
            yield from (entry["Key"] for entry in answer.get("Contents", ()))
            if not answer.get("IsTruncated"):
                return
            marker = {"ContinuationToken": answer["NextContinuationToken"]}

    def uploads(self, prefix: str) -> list[tuple[str, str]]:
        """Return the keys and ids of the unfinished uploads under a prefix of keys."""
        found: list[tuple[str, str]] = []
        marker: dict[str, str] = {}
        while True:
            answer = self("list_multipart_uploads", Prefix=prefix, **marker)
            found += [(upload["Key"], upload["UploadId"]) for upload in answer.get("Uploads", ())]
            if not answer.get("IsTruncated"):
                return found
            marker = {"KeyMarker": answer["NextKeyMarker"], "UploadIdMarker": answer["NextUploadIdMarker"]}

    def delete(self, keys: Iterable[str]) -> None:
        """
        Delete up to 1,000 objects; one that is gone already is no error.

        :raises ClientError: for the first one that S3 refuses to delete.
        """
        objects = [{"Key": key} for key in keys]
        answer = self("delete_objects", Delete={"Objects": objects, "Quiet": True})
        for error in answer.get("Errors", ()):
            raise ClientError({"Error": error}, "DeleteObjects")

    def abort(self, key: str, upload_id: str) -> None:
        """Abort an upload; one that cannot be aborted is logged."""
        try:
            self("abort_multipart_upload", Key=key, UploadId=upload_id)
        except (ClientError, CredentialRetrievalError) as error:
            # NoSuchUpload: it was completed, or somebody else has aborted it.
            if error_code(error) != "NoSuchUpload":
                log.warning(
                    "The unfinished upload of s3://%s/%s could not be aborted (%s). Nobody sees it, but it is billed "
                    "until a lifecycle rule of the bucket removes it.",
                    self.prefix.bucket,
                    key,
                    error,
                )


class Claim:
    """
    Shows other runs that one writes under the prefix, so that two runs do not mix their files.

    It is a multipart upload of its own, which is never completed. A run that begins takes the prefix over from the run
    that has it, since one that was killed looks no different; the earlier run finds that out before its files appear.

    :param calls: The calls to S3.
    :param upload_args: Further arguments of ``CreateMultipartUpload``.
    """

    def __init__(self, calls: PrefixCalls, upload_args: dict[str, Any]) -> None:
        self._calls = calls
        self._upload_args = upload_args
        self._key = f"{calls.prefix.key}{CLAIM_NAME}"
        self._id: str | None = None
        # Some stores do not list uploads, and some identities may not: then a missing claim says nothing.
        self._seen = False

    def is_key(self, key: str) -> bool:
        """Return whether a key is that of a claim."""
        return key == self._key

    def take(self) -> None:
        """
        Claim the prefix for this run, and abort the claims of earlier runs.

        :raises PersonalizeError: if another run takes it at the same time.
        """
        self._id = str(self._calls("create_multipart_upload", Key=self._key, **self._upload_args)["UploadId"])
        claims = self._claims()
        self._seen = self._id in claims
        # Of two runs that begin at once, both see both claims, and the one with the higher id goes on.
        if any(other > self._id for other in claims):
            raise self._taken()
        for other in claims:
            if other != self._id:
                self._calls.abort(self._key, other)

    def check(self) -> None:
        """
        Check that no other run has claimed the prefix meanwhile.

        :raises PersonalizeError: if one has.
        """
        claims = self._claims() if self._id is not None else []
        if (self._seen and self._id not in claims) or any(other != self._id for other in claims):
            raise self._taken()

    def give_back(self) -> None:
        """Give up the claim."""
        if self._id is not None:
            self._calls.abort(self._key, self._id)
            self._id = None

    def _claims(self) -> list[str]:
        try:
            return [upload_id for key, upload_id in self._calls.uploads(self._key) if key == self._key]
        except ClientError as error:
            log.info("Whether another run is at %s was not looked for: %s", self._calls.prefix, error)
            self._seen = False
            return []

    def _taken(self) -> PersonalizeError:
        return _taken(self._calls.prefix)


def _taken(prefix: S3Uri) -> PersonalizeError:
    return PersonalizeError(
        "Another run writes to the same prefix at the same time, so this one stops before the two mix their files. "
        "Give each task and each run a prefix of its own (as with {{ ds_nodash }} in it), or let only one run at a "
        f"time (max_active_runs=1); if no other run is there, run this task again: {prefix}"
    )


@contextmanager
def s3_errors(prefix: S3Uri) -> Iterator[None]:
    """
    Around calls that write under a prefix: turn what S3 refuses into errors that say what to do.

    :raises PersonalizeError: if another run has taken the prefix over.
    :raises ServiceError: for whatever else S3 refuses.
    """
    try:
        yield
    except ClientError as error:
        if error_code(error) == "NoSuchUpload":
            raise _taken(prefix) from error
        raise as_s3_error(error, operation=error.operation_name, place=prefix, writing=True) from error
