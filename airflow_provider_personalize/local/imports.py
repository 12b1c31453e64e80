"""What import, export and deletion jobs do: read CSV files from S3, write them, and forget users."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Iterator
from typing import Any

import pandas as pd  # type: ignore[import-untyped]
from botocore.exceptions import ClientError

from airflow_provider_personalize.local.contents import Contents, GroupData, IngestionMode
from airflow_provider_personalize.local.errors import JobError
from airflow_provider_personalize.service.schemas import Field
from airflow_provider_personalize.uris import S3Uri, parse_s3_uri

_MAX_ID, _MAX_CATEGORY = 256, 1_000
#: From here on, seconds are later than the year 5000, and so milliseconds.
_MILLISECONDS = 100_000_000_000
_INTEGER = re.compile(r"[+-]?[0-9]{1,19}")


def read_rows(contents: Contents, location: str, s3: Any) -> pd.DataFrame:
    """
    Read the CSV files at a location: all of their rows, or none.

    :param contents: The dataset that they are for.
    :param location: An S3 object, or a folder of them.
    :param s3: An S3 client.
    :raises JobError: with what becomes the job's ``failureReason``.
    """
    return pd.concat([_read(body, contents) for body in _objects(location, s3)], ignore_index=True)


def export_rows(contents: Contents, location: str, mode: IngestionMode, kms_key_arn: str | None, s3: Any) -> None:
    """
    Write the rows of a dataset as a CSV file into a folder.

    :param contents: The dataset.
    :param location: The folder.
    :param mode: Which rows.
    :param kms_key_arn: The key to encrypt the file with.
    :param s3: An S3 client.
    :raises JobError: with what becomes the job's ``failureReason``.
    """
    # Assumption: the name of the file; no recorded one was found.
    target = parse_s3_uri(location)
    key = f"{target.key.rstrip('/')}/{contents.schema.dataset_type.lower()}.csv".lstrip("/")
    body = contents.rows(mode).to_csv(index=False).encode()
    encryption = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": kms_key_arn} if kms_key_arn else {}
    try:
        s3.put_object(Bucket=target.bucket, Key=key, Body=body, **encryption)
    except ClientError as error:
        raise _refused(error, target.bucket) from error


def forget_users(group: GroupData, location: str, s3: Any) -> int:
    """
    Remove the users of the CSV files at a location from every dataset of a group.

    :param group: The group's datasets.
    :param location: An S3 object, or a folder of them, with a column USER_ID.
    :param s3: An S3 client.
    :return: How many rows were removed.
    :raises JobError: with what becomes the job's ``failureReason``.
    """
    users: set[str] = set()
    for body in _objects(location, s3):
        users.update(_table(body, ["USER_ID"], required=["USER_ID"])["USER_ID"])
    with group.lock:
        return sum(contents.forget(users) for contents in group.datasets.values())


def _objects(location: str, s3: Any) -> Iterator[bytes]:
    source = parse_s3_uri(location)
    found = False
    try:
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=source.bucket, Prefix=source.key):
            for one in page.get("Contents", ()):
                if _belongs(one["Key"], source):
                    found = True
                    yield s3.get_object(Bucket=source.bucket, Key=one["Key"])["Body"].read()
    except ClientError as error:
        raise _refused(error, source.bucket) from error
    if not found:
        raise JobError("Invalid Data location.")


def _belongs(key: str, source: S3Uri) -> bool:
    """Return whether an object is the one that is meant, or lies in the folder that is meant."""
    folder = source.key if source.key.endswith("/") or not source.key else f"{source.key}/"
    return not key.endswith("/") and (key == source.key or key.startswith(folder))


def _refused(error: ClientError, bucket: str) -> JobError:
    details = error.response["Error"]
    return JobError(
        f"Insufficient privileges for accessing data in Amazon S3. ({error.operation_name} in {bucket}: "
        f"{details.get('Code')}: {details.get('Message')})"
    )


def _table(body: bytes, columns: list[str], required: list[str]) -> pd.DataFrame:
    """Read the columns of a CSV file; those that are not required may be missing."""
    # The header is not quoted, and named as the schema is, character for character.
    header = body.partition(b"\n")[0].decode("utf-8", "replace").rstrip("\r").split(",")
    if missing := [name for name in required if name not in header]:
        raise JobError(f"Input CSV is missing the following columns: [{', '.join(missing)}]")
    try:
        table: pd.DataFrame = pd.read_csv(
            io.BytesIO(body),
            dtype=str,
            keep_default_na=False,
            usecols=[name for name in columns if name in header],
            encoding="utf-8",
        )
    except (ValueError, UnicodeError) as error:
        # Assumption: the words.
        raise JobError(f"The input is not a CSV file in UTF-8: {error}") from error
    table = table.reindex(columns=columns).astype(object)
    return table.where(table.notna(), "")


def _read(body: bytes, contents: Contents) -> pd.DataFrame:
    fields = contents.schema.fields
    # Assumption: a column whose field takes null may be missing.
    table = _table(body, contents.columns, [field.name for field in fields if not field.nullable])
    for field in fields:
        _check(field, table[field.name])
    return table


def _check(field: Field, values: pd.Series) -> None:
    """
    Make sure that a column holds what its field says.

    :raises JobError: if it does not.
    """
    lengths = values.str.len()
    limit = _MAX_ID if field.is_id else _MAX_CATEGORY if field.categorical else None
    if limit and len(values):
        longest = lengths.max()
        if field.categorical and longest > limit:
            longest = values.str.split("|").explode().str.len().max()
        if longest > limit:
            raise JobError(f"Length cannot be more than {limit} characters for {field.name}")
    # Assumption: the words of the messages below; no recorded ones were found.
    empty = lengths == 0
    if not field.nullable and field.type != "boolean" and empty.any() and (field.type != "string" or field.is_id):
        raise JobError(
            f"{field.name} is missing in row {int(empty.to_numpy().argmax()) + 1}, and the field takes no null."
        )
    holds = _HOLDS.get(field.type)
    if holds is None:
        return
    for value in values[~empty].unique():
        if not holds(value):
            raise JobError(f"Expected a value of the type {field.type} for {field.name}, got {value!r}.")
        if field.is_timestamp and int(value) >= _MILLISECONDS:
            raise JobError(
                f"Expected {field.name} in seconds since 1970, got {value!r}, which looks like milliseconds."
            )


def _is_number(value: str) -> bool:
    try:
        return math.isfinite(float(value)) and "_" not in value
    except ValueError:
        return False


_HOLDS: dict[str, Callable[[str], Any]] = {
    "int": _INTEGER.fullmatch,
    "long": _INTEGER.fullmatch,
    "float": _is_number,
    "double": _is_number,
    "boolean": ("true", "false", "").__contains__,
}
