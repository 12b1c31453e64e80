"""Warehouses that copy rows from Parquet files on S3, inside the load's transaction."""

from __future__ import annotations

import logging
import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from airflow_provider_personalize.exceptions import PersonalizeError
from airflow_provider_personalize.output.rows import Batch, Column
from airflow_provider_personalize.s3.folders import new_files
from airflow_provider_personalize.s3.upload_calls import Claim, PrefixCalls, s3_errors
from airflow_provider_personalize.targets.counts import CountedBatches
from airflow_provider_personalize.targets.parquet import ParquetFiles
from airflow_provider_personalize.targets.sql.base import STAGE, SqlTarget
from airflow_provider_personalize.uris import S3Uri

log = logging.getLogger(__name__)

#: What the names of staged files look like, so that those of a load that was killed are known.
_STAGED = re.compile(r"personalize-[0-9a-f]{16}-\d{5,}\.parquet")


@dataclass
class Staging:
    """
    Where rows lie until the warehouse has copied them.

    :param place: The prefix on S3, ending in ``/``. One load at a time has it.
    :param client: Returns an S3 client with credentials that hold.
    :param credentials: Returns the AWS credentials that the warehouse reads with where there is no role.
    :param role: What lets the warehouse read the prefix: Redshift's IAM role, or Snowflake's storage integration.
    """

    place: S3Uri
    client: Callable[[], Any]
    credentials: Callable[[], Any]
    role: str | None = None


class StagedTarget(SqlTarget):
    """
    A table of a warehouse.

    With a ``staging``, rows become Parquet files there. The warehouse's own COPY takes them into a temporary table, and
    from there they go into the target as a merge's do: so the order and the types of its columns are its own. Without,
    rows are inserted in batches.
    """

    staging: Staging | None = None

    def write(self, batches: Iterator[Batch]) -> None:
        """Write the rows aside, by the warehouse's COPY."""
        if self.staging is None:
            super().write(batches)
            # Some drivers tell of the last row alone.
            self.taken = None if self.taken == 1 else self.taken
            return
        columns = [column._replace(name=column.field) for column in self.stage_columns]
        self.create_stage()
        rows = 0
        with StagedFiles(self.staging) as files:
            if self.plan.write_mode == "merge":
                batches = (batch.with_rank_zero_rows() for batch in batches)
            rows = files.write(columns, batches)
            if rows:
                self.table.execute(self.copy_statement(files.uri))
        self.table.execute(f"SELECT count(*) FROM {STAGE}")
        copied = int(self.table.cursor.fetchone()[0])
        if copied != rows:
            raise PersonalizeError(
                f"The warehouse copied {copied} of {rows} rows from {files.uri}. Nothing was loaded; load again. If it "
                "happens again, look for what deletes files there."
            )

    def finish(self) -> None:
        """Bring the rows into the table."""
        if self.staging is None or self.plan.write_mode == "merge":
            super().finish()
            return
        self.make_room()
        self.insert_stage()

    def copy_statement(self, uri: str) -> str:
        """
        Return the statement that copies all files whose URIs begin so into the stage.

        :param uri: The beginning.
        """
        raise NotImplementedError


class StagedFiles:
    """
    The files of one load. A context manager: none is left when it is left.

    :param staging: Where they lie.
    """

    def __init__(self, staging: Staging) -> None:
        self._place = staging.place
        self._client = staging.client
        self._calls = PrefixCalls(staging.client(), staging.place, staging.client)
        self._claim = Claim(self._calls, {})
        self._name = f"personalize-{secrets.token_hex(8)}"
        #: What the URIs of the files begin with.
        self.uri = f"{staging.place}{self._name}-"

    def __enter__(self) -> Self:
        with s3_errors(self._place):
            self._claim.take()
            try:
                self._delete(lambda name: bool(_STAGED.fullmatch(name)))
            except BaseException:
                self._claim.give_back()
                raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._delete(lambda name: name.startswith(self._name))
        except Exception as failure:  # noqa: BLE001 (what the load has come to counts, and not this)
            log.warning("The staged files %s*.parquet could not be deleted: %s", self.uri, failure)
        self._claim.give_back()

    def write(self, columns: Sequence[Column], batches: Iterator[Batch]) -> int:
        """
        Write rows, and return how many they are. The files are there when this returns.

        :param columns: The columns.
        :param batches: The rows.
        :raises PersonalizeError: if another load has taken the prefix meanwhile.
        """
        counted = CountedBatches(batches)
        with new_files(self._place, self._client) as files:
            parquet = ParquetFiles(files, self._name, columns)
            parquet.write(iter(counted))
            parquet.finish()
            with s3_errors(self._place):
                self._claim.check()
            files.publish()
        return counted.rows

    def _delete(self, is_ours: Callable[[str], bool]) -> None:
        place = self._place.key
        keys = [key for key in self._calls.object_keys() if is_ours(key.removeprefix(place))]
        for start in range(0, len(keys), 1_000):
            self._calls.delete(keys[start : start + 1_000])
        for key, upload_id in self._calls.uploads(f"{place}personalize-"):
            if is_ours(key.removeprefix(place)):
                self._calls.abort(key, upload_id)


def literal(text: str) -> str:
    """Return text as SQL's, for statements that take no bound values."""
    if "\\" in text or "\0" in text:
        raise PersonalizeError(f"staging_uri: expected an address without backslashes, got {text!r}.")
    return "'" + text.replace("'", "''") + "'"
