"""What the stand-in keeps in a folder from one start to the next: resources, what was learned, and S3's objects."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

from airflow_provider_personalize import __version__
from airflow_provider_personalize.local.api import Api
from airflow_provider_personalize.local.errors import DataError
from airflow_provider_personalize.local.jobs import DELETION
from airflow_provider_personalize.local.resources import Region, Resource
from airflow_provider_personalize.service.kinds import DATASET_GROUP, KINDS

_RESOURCES, _OBJECTS, _VERSION = "resources.pickle", "objects.json", "version.txt"
_INTERRUPTED = "Internal error: the stand-in was stopped meanwhile."


def save(folder: Path, api: Api, s3: Any) -> None:
    """
    Write everything into a folder, in the place of what an earlier run wrote.

    :param folder: The folder.
    :param api: Whose resources to write.
    :param s3: An S3 client, whose objects to write.
    """
    folder.mkdir(parents=True, exist_ok=True)
    new, current, old = (folder / name for name in ("new", "current", "old"))
    for leftover in (new, old):
        shutil.rmtree(leftover, ignore_errors=True)
    new.mkdir()
    (new / _VERSION).write_text(__version__, encoding="utf-8")
    with (new / _RESOURCES).open("wb") as file:
        pickle.dump({region.name: _region(region, api.now) for region in api.regions()}, file)
    _save_objects(new, s3)
    # The new state is whole before the old one goes.
    if current.exists():
        current.rename(old)
    new.rename(current)
    shutil.rmtree(old, ignore_errors=True)


def _region(region: Region, now: float) -> dict[str, Any]:
    kept = [one for one in region.resources.values() if not (one.change and one.change.words is DELETION)]
    return {
        "resources": [_resource(one, now) for one in kept if not one.ready],
        "tags": {one.arn: region.tags[one.arn] for one in kept if one.arn in region.tags},
        # The rows that were imported into a group that stands ready.
        "datasets": {one.arn: one.content.datasets for one in kept if one.ready and one.kind is DATASET_GROUP},
    }


def _resource(resource: Resource, now: float) -> dict[str, Any]:
    status, reason = resource.status(now), resource.describe(now).get("failureReason")
    if resource.change and resource.change.ended is None:
        status, reason = resource.change.words.failed, _INTERRUPTED
    return {
        "noun": resource.kind.noun,
        "arn": resource.arn,
        "fields": resource.fields,
        "created": resource.created,
        "content": resource.content,
        "settled": status,
        "updated": resource.updated,
        "failure_reason": reason,
    }


def _save_objects(folder: Path, s3: Any) -> None:
    objects: list[dict[str, str]] = []
    buckets = [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]
    for bucket in buckets:
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
            for found in page.get("Contents", ()):
                # Keys may be longer than names of files, and hold what those must not.
                name = f"{len(objects)}.object"
                s3.download_file(bucket, found["Key"], str(folder / name))
                objects.append({"bucket": bucket, "key": found["Key"], "file": name})
    text = json.dumps({"buckets": buckets, "objects": objects})
    (folder / _OBJECTS).write_text(text, encoding="utf-8")


def load(folder: Path, api: Api, s3: Any) -> None:
    """
    Read what an earlier run wrote, if there was one.

    :param folder: The folder.
    :param api: Who is to have the resources.
    :param s3: An S3 client, through which the objects are put.
    :raises DataError: if another version of this package wrote it.
    """
    current = folder / "current"
    if not current.exists():
        return
    version = (current / _VERSION).read_text(encoding="utf-8")
    if version != __version__:
        raise DataError(
            f"{folder}: expected what version {__version__} of airflow-provider-personalize wrote, got {version}'s. "
            "Delete the folder to start anew."
        )
    with (current / _RESOURCES).open("rb") as file:
        # The folder is the user's own, as the program is.
        saved = pickle.load(file)  # noqa: S301
    kinds = {kind.noun: kind for kind in KINDS}
    for name, content in saved.items():
        region = api.region(name)
        for values in content["resources"]:
            region.add(kinds[values.pop("noun")], **values)
        region.tags.update(content["tags"])
        for arn, datasets in content["datasets"].items():
            if arn in region.resources:
                region.resources[arn].content.datasets.update(datasets)
    index = json.loads((current / _OBJECTS).read_text(encoding="utf-8"))
    there = {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]}
    for bucket in index["buckets"]:
        if bucket not in there:
            s3.create_bucket(Bucket=bucket)
    for one in index["objects"]:
        s3.upload_file(str(current / one["file"]), one["bucket"], one["key"])
