"""
A table of its own for a load: its items are staged on S3, and one ImportTable makes the table of them, or none.

A note beside the staged files has the token of the import from before it is asked for, and the table has a tag once it
is complete. So a retry goes on with the same import, wherever the task before it has died.
"""

from __future__ import annotations

import json
import tempfile
import uuid
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from typing import IO, Any

from botocore.exceptions import ClientError

from airflow_provider_personalize.aws_errors import error_code
from airflow_provider_personalize.exceptions import InvalidRequestError, PersonalizeError, ServiceError
from airflow_provider_personalize.s3.objects import list_objects
from airflow_provider_personalize.s3.upload_calls import s3_errors
from airflow_provider_personalize.service.waits import Logger
from airflow_provider_personalize.targets.counts import LoadCounts
from airflow_provider_personalize.targets.dynamodb.calls import DynamoDbCalls
from airflow_provider_personalize.targets.dynamodb.table import Keys, Table
from airflow_provider_personalize.uris import S3Uri, parse_s3_uri

#: Bytes of a staged file, compressed.
FILE_BYTES = 64 << 20
#: The tag that says which load a table was made by, and what that has come to.
TAG = "airflow-personalize:load"
_NOTE = "load.json"


@dataclass(frozen=True)
class Staged:
    """
    What is staged for an import, as the note beside it says.

    :param counts: What the load has come to.
    :param items: How many items are staged.
    :param definition: The part of the request that says what the table is like.
    :param token: The import's client token: the same one makes a table once.
    :param import_arn: The import, once it was asked for.
    """

    counts: LoadCounts
    items: int
    definition: dict[str, Any]
    token: str = field(default_factory=lambda: str(uuid.uuid4()))
    import_arn: str | None = None


class NewTable:
    """
    A table that a load makes.

    :param calls: The calls to DynamoDB for it.
    :param client: boto3's client of S3.
    :param staging: The prefix for staged files; they lie in a folder of the load's own under it.
    :param load: What identifies the load: the same for each retry.
    :param log: Where to log.
    """

    def __init__(self, calls: DynamoDbCalls, client: Any, staging: S3Uri, load: str, log: Logger) -> None:
        self._calls = calls
        self._client = client
        self._folder = S3Uri(staging.bucket, f"{staging.key}{load}/")
        self._data = S3Uri(staging.bucket, f"{self._folder.key}data/")
        self._load = load
        self._log = log
        self._table = Table(calls, log)
        #: What is staged, and imported or about to be.
        self.staged: Staged | None = None

    def find(self) -> Staged | None:
        """
        Find what an earlier try of the same load has come to.

        :return: What it has staged, if anything. Where its table is complete, there is nothing in :attr:`staged`.
        :raises InvalidRequestError: if a table of this name is there that it has not made.
        """
        table = self._table.describe()
        note = self._read_note()
        if note is None and table is not None:
            if (done := self._tag_of(table["TableArn"])) is not None:
                return done
            raise InvalidRequestError(
                "table_name: expected the name of a table that is not there, as mode='new_table' makes one, got "
                f"{self._table.name!r}. Give each load a name of its own, as {self._table.name}_{{{{ ds_nodash }}}}, "
                "or load into this table with mode='put'."
            )
        self.staged = note
        return note

    def prepare(self, keys: Keys) -> None:
        """Remember the keys, and remove what a killed try has left."""
        self._keys = keys
        self.remove_staged()

    def take(self, entities: Iterator[tuple[str, Iterator[str]]], counts: LoadCounts) -> int:
        """Stage all items, and ask for the import."""
        count = 0

        def lines() -> Iterator[bytes]:
            nonlocal count
            for item in chain.from_iterable(items for _, items in entities):
                count += 1
                yield f'{{"Item":{item}}}\n'.encode()

        try:
            for number, file in enumerate(_gzipped(lines())):
                with file, s3_errors(self._data):
                    key = f"{self._data.key}{number:05}.json.gz"
                    self._client.upload_fileobj(file, self._data.bucket, key)
            self.staged = Staged(counts, count, self._keys.definition())
            self._write_note()
        except BaseException:
            self.remove_staged()
            raise
        self._log.info("Staged %s item(s) under %s.", f"{count:,}", self._data)
        self.begin()
        return count

    def begin(self) -> None:
        """Ask for the import of what is staged. Where an earlier try has, it is the same one."""
        staged = self._staged()
        if staged.import_arn:
            return
        try:
            answer = self._calls(
                "ImportTable",
                ClientToken=staged.token,
                S3BucketSource={"S3Bucket": self._data.bucket, "S3KeyPrefix": self._data.key},
                InputFormat="DYNAMODB_JSON",
                InputCompressionType="GZIP",
                TableCreationParameters={"TableName": self._table.name, **staged.definition},
            )
        except ServiceError as error:
            if not error.may_pass:
                self.remove_staged()
            raise
        arn = str(answer["ImportTableDescription"]["ImportArn"])
        self._log.info("DynamoDB imports the table %s: %s", self._table.name, arn)
        self.staged = replace(staged, import_arn=arn)
        self._write_note()

    def is_done(self, *, expiring: bool) -> bool:
        """
        Look whether the import is done; if so, let items expire, tag the table, and remove what was staged.

        :param expiring: Whether items expire.
        :raises ServiceError: if it has failed; what was staged, and the table if it made one, are removed.
        """
        staged = self._staged()
        seen = self._calls("DescribeImport", ImportArn=staged.import_arn)["ImportTableDescription"]
        status = seen["ImportStatus"]
        if status in {"IN_PROGRESS", "CANCELLING"}:
            return False
        imported = seen.get("ImportedItemCount", staged.items)
        if status != "COMPLETED" or seen.get("ErrorCount") or imported != staged.items:
            self._fail(seen, staged, imported)
        if expiring:
            self._table.expire(is_new=True)
        self._tag(str(seen["TableArn"]), staged)
        self.remove_staged()
        return True

    def remove_staged(self) -> None:
        """Remove all that was staged; the note comes last, so that a retry after a kill goes on."""
        with s3_errors(self._folder):
            uris = [item.uri for item in list_objects(self._client, self._folder)]
            for uri in sorted(uris, key=lambda uri: uri.endswith(f"/{_NOTE}")):
                place = parse_s3_uri(uri, max_length=None)
                self._client.delete_object(Bucket=place.bucket, Key=place.key)

    def _fail(self, seen: dict[str, Any], staged: Staged, imported: int) -> None:
        table = self._table.describe()
        left = "Nothing is left of it."
        if table and seen.get("TableId") and seen["TableId"] == table.get("TableId"):
            self._calls("DeleteTable", TableName=self._table.name)
        elif table:
            left = f"Delete the table {self._table.name}, which may hold a part of the items, if it is this import's."
        self.remove_staged()
        reason = seen.get("FailureMessage") or f"{imported:,} of {staged.items:,} items were imported"
        raise ServiceError(
            operation="ImportTable",
            code=str(seen.get("FailureCode") or seen["ImportStatus"]),
            reason=reason,
            remedy=f"{left} Its CloudWatch log group says more. Clear this task to import anew.",
            arn=staged.import_arn,
        )

    def _staged(self) -> Staged:
        if self.staged is None:
            self.staged = self._read_note()
        if self.staged is None:
            raise PersonalizeError(
                f"Expected the note {self._folder}{_NOTE} of what was staged, and it is gone: another try of this task "
                "is done with it. Clear this task to look again."
            )
        return self.staged

    def _read_note(self) -> Staged | None:
        with s3_errors(self._folder):
            try:
                answer = self._client.get_object(Bucket=self._folder.bucket, Key=f"{self._folder.key}{_NOTE}")
            except ClientError as error:
                if error_code(error) in {"NoSuchKey", "404"}:
                    return None
                raise
            return _staged_from(json.loads(answer["Body"].read()))

    def _write_note(self) -> None:
        body = json.dumps(asdict(self._staged())).encode()
        with s3_errors(self._folder):
            self._client.put_object(Bucket=self._folder.bucket, Key=f"{self._folder.key}{_NOTE}", Body=body)

    def _tag(self, table_arn: str, staged: Staged) -> None:
        value = ":".join(map(str, (self._load, *staged.counts, staged.items)))
        try:
            self._calls("TagResource", ResourceArn=table_arn, Tags=[{"Key": TAG, "Value": value}])
        except ServiceError as error:
            self._log.warning("The table is complete, but a retry of this task would not know it: %s", error.message)

    def _tag_of(self, table_arn: str) -> Staged | None:
        try:
            tags = self._calls("ListTagsOfResource", ResourceArn=table_arn).get("Tags", ())
        except ServiceError:
            return None
        value = next((tag["Value"] for tag in tags if tag["Key"] == TAG), "")
        load, _, numbers = value.partition(":")
        if load != self._load:
            return None
        lines, rows, rejects, items = map(int, numbers.split(":"))
        return Staged(LoadCounts(lines, rows, rejects), items, {}, import_arn=table_arn)


def _staged_from(note: dict[str, Any]) -> Staged:
    return Staged(**{**note, "counts": LoadCounts(*note["counts"])})


def _gzipped(lines: Iterator[bytes]) -> Iterator[IO[bytes]]:
    """Yield one file or more of these lines, compressed: one gzip stream each, which every reader takes."""
    while True:
        # Whoever takes it closes it.
        file = tempfile.TemporaryFile(prefix="personalize-")  # noqa: SIM115
        packer = zlib.compressobj(level=1, wbits=31)
        is_full = False
        for line in lines:
            file.write(packer.compress(line))
            if is_full := file.tell() >= FILE_BYTES:
                break
        file.write(packer.flush())
        file.seek(0)
        yield file
        if not is_full:
            return
