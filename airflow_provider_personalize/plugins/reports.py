"""The pages that a run's tasks have written: which there are, and what stands in them."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from airflow_provider_personalize.aws_errors import AWS_ERRORS, describe_error, error_code
from airflow_provider_personalize.exceptions import PersonalizeError
from airflow_provider_personalize.links.reports import PersonalizeReportLink
from airflow_provider_personalize.uris import S3Uri, parse_uri_or_path

#: The most bytes of a page that are served.
MOST_BYTES = 32 * 1024 * 1024
#: How a page begins: nothing else of the disk or the bucket is shown, whatever XCom was made to say.
_BEGINS = re.compile(rb"(?:\xef\xbb\xbf)?\s*<!doctype html[\s>]", re.IGNORECASE)
_HASH = re.compile(r"sha256-[A-Za-z0-9+/]{43}=")


class NotShownError(Exception):
    """
    A page that cannot be shown.

    :param sentence: Why, and what to do about it, for whoever wants to see it.
    """


@dataclass(frozen=True)
class Note:
    """
    What a task noted in XCom of a page that it has written.

    :param uri: Where the page is: a path, ``file:///…`` or ``s3://bucket/key``; empty where none was written.
    """

    task_id: str
    map_index: int
    written: datetime | None
    title: str
    uri: str
    verdict: str
    aws_conn_id: str | None
    region_name: str | None
    verify: bool | str | None
    scripts: Sequence[str]

    @property
    def place(self) -> str:
        """The task's id, with its index where it is mapped."""
        return self.task_id if self.map_index < 0 else f"{self.task_id} [{self.map_index}]"


def notes_of(dag_id: str, run_id: str, task_id: str | None = None, map_index: int | None = None) -> list[Note]:
    """
    Return what the tasks of a run have noted, the first one first.

    :param dag_id: The DAG.
    :param run_id: Its run.
    :param task_id: The only task that is asked for, if one is.
    :param map_index: Its index, where only that is asked for; -1 for a task that is not mapped.
    """
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    key = PersonalizeReportLink.key
    query = select(XComModel).where(XComModel.dag_id == dag_id, XComModel.run_id == run_id, XComModel.key == key)
    if task_id is not None:
        query = query.where(XComModel.task_id == task_id)
    if map_index is not None:
        query = query.where(XComModel.map_index == map_index)
    with create_session() as session:
        found = session.scalars(query.order_by(XComModel.timestamp, XComModel.task_id, XComModel.map_index)).all()
        notes = [(row.task_id, row.map_index, row.timestamp, XComModel.deserialize_value(row)) for row in found]
    return [_note(*note) for note in notes]


def _note(task_id: str, map_index: int, written: datetime | None, value: Any) -> Note:
    values = value if isinstance(value, dict) else {}

    def text(name: str) -> str:
        return found if isinstance(found := values.get(name), str) else ""

    verify, scripts = values.get("verify"), values.get("scripts")
    return Note(
        task_id=task_id,
        map_index=map_index,
        written=written,
        title=text("title") or "Report",
        uri=text("uri"),
        verdict=text("verdict"),
        aws_conn_id=text("aws_conn_id") or None,
        region_name=text("region_name") or None,
        verify=verify if isinstance(verify, (bool, str)) else None,
        scripts=[one for one in scripts if isinstance(one, str) and _HASH.fullmatch(one)]
        if isinstance(scripts, list)
        else (),
    )


def read_page(note: Note) -> bytes:
    """
    Return the page that a task has written.

    :param note: What the task noted of it.
    :raises NotShownError: if it cannot be read, or what is there is no page.
    """
    if not note.uri:
        raise NotShownError("The task wrote no page. Its log says why, if it was to write one.")
    try:
        place = parse_uri_or_path(note.uri)
    except PersonalizeError as error:
        raise NotShownError(f"The task noted a place that is none: {error}") from None
    page = _read_s3(note, place) if isinstance(place, S3Uri) else _read_file(str(place.path))
    if len(page) > MOST_BYTES:
        raise NotShownError(f"The page has more than {MOST_BYTES // 1024**2} MiB. It is at {note.uri}.")
    if not _BEGINS.match(page):
        raise NotShownError(f"What is at {note.uri} is not an HTML page any more, so it is not shown.")
    return page


def _read_file(path: str) -> bytes:
    try:
        # Not to hang on what is no file, as a pipe.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise NotShownError(f"What is at {path} is no file.")
            return file.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        raise NotShownError(
            f"The API server cannot read {path} ({getattr(error, 'strerror', None) or error}). It sees a page on a "
            "worker's disk only if both share that: give the task a report_uri on S3."
        ) from None


def _read_s3(note: Note, place: S3Uri) -> bytes:
    from airflow_provider_personalize.hooks.personalize import PersonalizeHook

    try:
        hook = PersonalizeHook(aws_conn_id=note.aws_conn_id, region_name=note.region_name, verify=note.verify)
        client = hook.s3_client(connect_timeout=5, read_timeout=20, retries={"total_max_attempts": 2})
        answer = client.get_object(Bucket=place.bucket, Key=place.key)
        with answer["Body"] as body:
            return bytes(body.read(MOST_BYTES + 1))
    except AWS_ERRORS as error:
        if error_code(error) in {"NoSuchKey", "404"}:
            raise NotShownError(f"The page is not there any more: {note.uri}") from None
        raise NotShownError(
            f"The API server cannot read {note.uri} with the connection {note.aws_conn_id!r}: {describe_error(error)}"
        ) from None
    except Exception as error:  # noqa: BLE001 (a connection that is missing or wrong, in whatever words)
        raise NotShownError(
            f"The API server cannot read {note.uri} with the connection {note.aws_conn_id!r}: {error}"
        ) from None
