"""
Which objects are the output of a job: one for each object of its input, and no other.

Both paths of a job are prefixes, so its output, and that of other jobs, may lie among its input. Names, the service's
``_CHECK``, the first line and the time tell output from input.
"""

from __future__ import annotations

import os.path
import re
from datetime import datetime
from typing import Any

from airflow_provider_personalize.exceptions import InvalidRequestError, MissingOutputError, PersonalizeError
from airflow_provider_personalize.s3.download import fetch
from airflow_provider_personalize.s3.objects import StoredObject, list_objects
from airflow_provider_personalize.service.names import CHECK_NAME, OUTPUT_SUFFIX
from airflow_provider_personalize.uris import S3Uri, parse_s3_uri

#: How many bytes of an object are read to decide whether it is output, and in how many tries.
_BEGINNING, _TRIES = 16 << 10, 3
#: How a line of output begins: no line of input does.
_OUTPUT_LINE = re.compile(
    rb'\s*(?:\xef\xbb\xbf)?\s*\{\s*(?:"(?:input|output|error)"\s*:|"itemAttributes"\s*:\s*"(?:[^"\\]|\\.)*"\s*,\s*"output")'
)
#: How a line of input begins.
_INPUT_LINE = re.compile(
    rb'\s*(?:\xef\xbb\xbf)?\s*\{\s*(?:\}|"(?:userId|itemId|itemList|itemAttributes|filterValues)"\s*:)'
)


def objects_of_job(client: Any, description: dict[str, Any]) -> list[StoredObject]:
    """
    Return the output of a job: one object for each object of its input, and no other.

    :param client: An S3 client.
    :param description: The job's description.
    :raises MissingOutputError: if an object is missing, input that says what to expect included.
    :raises InvalidRequestError: if two input objects have the same name, and so the same output.
    """
    source = parse_s3_uri(description["jobInput"]["s3DataSource"]["path"], parameter="the job's input", max_length=None)
    target = parse_s3_uri(
        description["jobOutput"]["s3DataDestination"]["path"], parameter="the job's output", max_length=None
    )
    target = S3Uri(target.bucket, f"{target.key.rstrip('/')}/" if target.key.strip("/") else "")
    listed = [item for item in list_objects(client, source) if not item.uri.endswith("/")]
    told_apart = _Inputs(client, source, target, listed, description.get("creationDateTime"))
    inputs = [item for item in listed if told_apart.has(item)]
    if not inputs:
        raise MissingOutputError(
            uri=str(source),
            reason="The job's input objects tell which output is its own, and none is left. Put them back, or give the "
            f"loader output_uri, as '{target}', if all the .out objects there are wanted.",
        )
    found = _in_folder(client, target, [_name(item) + OUTPUT_SUFFIX for item in inputs])
    expected: dict[str, str] = {}
    objects = []
    # An empty object, as Spark's _SUCCESS, has no lines to lose: its output may be missing, or be another's, too.
    for item in sorted(inputs, key=lambda item: not item.size):
        uri = f"{target}{_name(item)}{OUTPUT_SUFFIX}"
        if uri in expected and not item.size:
            continue
        if uri in expected:
            raise InvalidRequestError(
                f"The input objects {expected[uri]} and {item.uri} have the same name, so the job wrote the output of "
                f"both to {uri}, and one of them is lost. Give each input object its own name, and run the job again."
            )
        expected[uri] = item.uri
        if uri in found:
            objects.append(found[uri])
        elif item.size:
            raise MissingOutputError(
                uri=uri,
                reason=f"The job's input object {item.uri} should have led to it. If it was moved or deleted, bring it "
                "back or run the job again; if that input came after the job, take it away.",
            )
    return objects


def _in_folder(client: Any, folder: S3Uri, names: list[str]) -> dict[str, StoredObject]:
    """Return the objects of these names, and list no more of the folder than that takes: it may be a bucket's root."""
    beginning = os.path.commonprefix(names)  # noqa: RUF071 (characters are what S3 compares)
    place = S3Uri(folder.bucket, folder.key + beginning)
    wanted = {f"{folder}{name}" for name in names}
    return {item.uri: item for item in list_objects(client, place, deep=False) if item.uri in wanted}


class _Inputs:
    """
    Tells which objects under the input's prefix are the job's input.

    The output of another job, earlier or later, is left out even where the service has read it: its lines are no input,
    and the results of such lines are errors.

    :param client: An S3 client.
    :param source: The input's prefix.
    :param target: The output's folder.
    :param listed: All objects of the prefix.
    :param created: When the job was created, where that is known.
    """

    def __init__(
        self, client: Any, source: S3Uri, target: S3Uri, listed: list[StoredObject], created: datetime | None
    ) -> None:
        self._client = client
        self._output = str(target)
        #: Whether the output has a folder of its own under the input.
        self._under = self._output.startswith(str(source)) and self._output.rstrip("/") != str(source).rstrip("/")
        self._names = {_name(item) for item in listed}
        #: The folders that jobs have written to.
        self._outputs = {self._output, *(_folder(item) for item in listed if _name(item) == CHECK_NAME)}
        self._created = created

    def has(self, item: StoredObject) -> bool:
        """Return whether an object is the job's input."""
        name = _name(item)
        if name == CHECK_NAME:
            return False
        is_out = name.endswith(OUTPUT_SUFFIX)
        if not is_out and not (self._under and item.uri.startswith(self._output)):
            return True
        if is_out and _folder(item) in self._outputs and name.removesuffix(OUTPUT_SUFFIX) in self._names:
            return False
        if not item.size:
            return True
        # The name alone does not decide: input may have such a name, and anything may lie under the output's folder.
        beginning = self._beginning(item)
        if _OUTPUT_LINE.match(beginning):
            return False
        came_after = self._created is not None and item.modified is not None and item.modified > self._created
        return bool(_INPUT_LINE.match(beginning)) or not came_after

    def _beginning(self, item: StoredObject) -> bytes:
        try:
            return fetch(self._client, item, 0, min(item.size, _BEGINNING), tries=_TRIES)
        except PersonalizeError:
            # An identity that may read the output need not be allowed to read the input.
            return b""


def _name(item: StoredObject) -> str:
    return item.uri.rpartition("/")[2]


def _folder(item: StoredObject) -> str:
    return item.uri[: -len(_name(item))]
