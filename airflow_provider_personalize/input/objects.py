"""
Which of the objects under a prefix a job is meant to read.

This module is pure: it imports neither Airflow nor boto3.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from airflow_provider_personalize.service.names import CHECK_NAME, OUTPUT_SUFFIX
from airflow_provider_personalize.uris import parse_s3_uri


def without_output(sizes: Mapping[str, int], output_uri: str | None) -> list[str]:
    """Return the keys of objects that are no output which jobs have written beside their input, or under it."""
    names = {key.rpartition("/")[2] for key in sizes}
    folder = parse_s3_uri(f"{output_uri.rstrip('/')}/", max_length=None).key if output_uri else None

    def is_output(key: str) -> bool:
        name = key.rpartition("/")[2]
        if not name.endswith(OUTPUT_SUFFIX):
            return name == CHECK_NAME
        return name.removesuffix(OUTPUT_SUFFIX) in names or (folder is not None and key == folder + name)

    return [key for key in sizes if not is_output(key)]


def neighbours(prefix: str, keys: Iterable[str]) -> list[str]:
    """
    Return the keys that begin with a prefix by chance.

    A prefix of names, as ``users_`` over ``users_0`` and ``users_1``, is as good as a folder. But what lies in another
    folder, as ``in_test/`` is to ``in``, or beside the very object that was named, was not meant.
    """
    if not prefix or prefix.endswith("/"):
        return []
    outside = [key for key in keys if key != prefix and not key.startswith(f"{prefix}/")]
    if len(outside) < len(list(keys)):
        return outside
    if prefix[-1].isalnum():
        return [key for key in outside if "/" in key[len(prefix) :]]
    return []
