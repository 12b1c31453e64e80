"""
ARNs and job names: how they are taken apart, checked and made, and where a job reads and writes.

This module is pure: it imports neither Airflow nor boto3. Lengths and patterns are those of botocore's service model
``personalize/2018-05-22``.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from airflow_provider_personalize.exceptions import InvalidRequestError
from airflow_provider_personalize.service.kinds import BATCH_JOBS, KINDS, ResourceKind
from airflow_provider_personalize.uris import S3_PATH_MAX, parse_s3_uri

#: What the service adds to the name of an input object, and what it leaves beside the output.
OUTPUT_SUFFIX, CHECK_NAME = ".out", "_CHECK"

JOB_NAME_MAX = 63
ARN_MAX = 256

_JOB_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9\-_]*")
_ARN = re.compile(
    r"arn:(?P<partition>[a-z\d-]+):(?P<service>[a-z\d-]+):(?P<region>[^:]*):(?P<account>[^:]*):"
    r"(?P<resource_type>[^:/]+)/(?P<resource_id>.+)"
)
_ROLE = re.compile(r"arn:[a-z\d-]+:iam::\d{12}:role/?[a-zA-Z_0-9+=,.@\-_/]+", re.ASCII)
_KMS_KEY = re.compile(r"arn:aws[^:]*:kms:[^:]+:[0-9]{12}:key/.+")


class Arn(NamedTuple):
    """
    A Personalize ARN in parts: ``arn:<partition>:personalize:<region>:<account>:<resource_type>/<resource_id>``.
    """

    partition: str
    region: str
    account: str
    resource_type: str
    resource_id: str

    def __str__(self) -> str:
        return f"arn:{self.partition}:personalize:{self.region}:{self.account}:{self.resource_type}/{self.resource_id}"


def parse_arn(value: str, *, resource_type: str | None = None, parameter: str = "ARN") -> Arn:
    """
    Take an Amazon Personalize ARN apart.

    :param value: The ARN.
    :param resource_type: The type that it has to be of, as ``solution``.
    :param parameter: What the user calls it, for the message.
    :raises InvalidRequestError: if it is no Personalize ARN, or one of another type.
    """
    wanted = f"arn:aws:personalize:<region>:<account>:{resource_type or '<type>'}/<name>"
    match = _ARN.fullmatch(value) if isinstance(value, str) else None
    if match is None or match["service"] != "personalize" or len(value) > ARN_MAX:
        raise InvalidRequestError(
            f"{parameter}: expected an ARN of Amazon Personalize like {wanted}, at most {ARN_MAX} characters, "
            f"got {value!r}."
        )
    if resource_type is not None and match["resource_type"] != resource_type:
        raise InvalidRequestError(
            f"{parameter}: expected an ARN like {wanted}, got one of a {match['resource_type']}: {value!r}."
        )
    if resource_type is not None and not (match["region"] and match["account"]):
        raise InvalidRequestError(
            f"{parameter}: expected an ARN like {wanted}, got one without region or account: {value!r}."
        )
    return Arn(**{key: match[key] for key in ("partition", "region", "account", "resource_type", "resource_id")})


def parse_arn_of(resource_type: str) -> Callable[..., Arn]:
    """Make a function that takes ARNs of one type apart, as ``parse(value, parameter=…)``."""
    return partial(parse_arn, resource_type=resource_type)


def parse_solution_arn(value: str, *, parameter: str = "solution_arn") -> Arn:
    """
    Take the ARN of a solution apart.

    :param value: The ARN.
    :param parameter: What the user calls it, for the message.
    :raises InvalidRequestError: if it is none, as that of one of its versions.
    """
    arn = parse_arn(value, resource_type="solution", parameter=parameter)
    if "/" in arn.resource_id:
        raise InvalidRequestError(
            f"{parameter}: expected the ARN of a solution, got that of one of its versions: give it as "
            f"solution_version_arn. {value}"
        )
    return arn


def parse_solution_version_arn(value: str, *, parameter: str = "solution_version_arn") -> Arn:
    """
    Take the ARN of a solution version apart.

    :param value: The ARN.
    :param parameter: What the user calls it, for the message.
    :raises InvalidRequestError: if it is none, as that of the solution itself.
    """
    arn = parse_arn(value, resource_type="solution", parameter=parameter)
    solution, _, version = arn.resource_id.partition("/")
    if not solution or not version or "/" in version:
        raise InvalidRequestError(
            f"{parameter}: expected the ARN of a solution version, which ends in /<name>/<version>, got that of a "
            f"solution: give it as solution_arn, which stands for its newest ACTIVE version. {value}"
        )
    return arn


def check_role_arn(value: str, *, parameter: str = "role_arn") -> None:
    """
    Make sure that a value is the ARN of an IAM role.

    :raises InvalidRequestError: if not.
    """
    if not isinstance(value, str) or len(value) > ARN_MAX or not _ROLE.fullmatch(value):
        raise InvalidRequestError(
            f"{parameter}: expected the ARN of the IAM role that Personalize assumes, like "
            f"arn:aws:iam::123456789012:role/personalize, got {value!r}."
        )


def check_kms_key_arn(value: str, *, parameter: str = "KMS key") -> None:
    """
    Make sure that a value is the ARN of a KMS key; the service takes no alias.

    :raises InvalidRequestError: if not.
    """
    if not isinstance(value, str) or not _KMS_KEY.fullmatch(value):
        raise InvalidRequestError(
            f"{parameter}: expected the ARN of a KMS key, like arn:aws:kms:us-east-1:123456789012:key/<id>, and no "
            f"alias, got {value!r}."
        )


#: The kinds, by the type that their ARNs have and the number of parts of their names. A thousand waits that begin at
#: once ask for thousands.
_KINDS_BY_PLACE = {(kind.arn_type, kind.arn_parts): kind for kind in KINDS}


def kind_of(arn: str, *, parameter: str = "resource_arn", among: Sequence[ResourceKind] = KINDS) -> ResourceKind:
    """
    Return the kind of the resource that an ARN names.

    :param arn: The ARN.
    :param parameter: What the user calls it, for the message.
    :param among: The kinds that it may be of.
    :raises InvalidRequestError: if it is the ARN of none of them.
    """
    parsed = parse_arn(arn, parameter=parameter)
    # The ARN of a solution's version is the solution's with one more part.
    found = _KINDS_BY_PLACE.get((parsed.resource_type, parsed.resource_id.count("/") + 1))
    if found is None or (among is not KINDS and found not in among):
        expected = " or ".join(kind.words.replace(" ", "-") for kind in among) if among is not KINDS else "resource"
        got = found.words.replace(" ", "-") if found else parsed.resource_type
        raise InvalidRequestError(f"{parameter}: expected the ARN of a {expected}, got one of a {got}: {arn!r}.")
    return found


def job_kind_of(job_arn: str, *, parameter: str = "job_arn") -> ResourceKind:
    """
    Return the kind of a batch job from its ARN.

    :raises InvalidRequestError: if it is the ARN of no batch job.
    """
    return kind_of(job_arn, parameter=parameter, among=BATCH_JOBS)


def job_arn(kind: ResourceKind, name: str, *, beside: str) -> str:
    """
    Return the ARN of the job of that name: its partition, region and account are those of another resource's ARN.

    :param kind: The job's kind.
    :param name: The job's name.
    :param beside: The ARN of a resource of the same account and region.
    """
    other = parse_arn(beside)
    return str(Arn(other.partition, other.region, other.account, kind.arn_type, name))


def check_job_name(name: str, *, parameter: str = "job_name") -> str:
    """
    Return the name if the service would take it.

    :raises InvalidRequestError: if not.
    """
    if not isinstance(name, str) or len(name) > JOB_NAME_MAX or not _JOB_NAME.fullmatch(name):
        raise InvalidRequestError(
            f"{parameter}: expected 1 to {JOB_NAME_MAX} letters, digits, '-' and '_', starting with a letter or digit, "
            f"got {name!r} ({len(str(name))} characters). Leave job_name out to have one derived from the run."
        )
    return name


def digest(value: Any, length: int = 8) -> str:
    """
    Return a short digest of a value that JSON can hold. It is the same for the same value in every process.

    :param value: What to digest.
    :param length: How many hexadecimal digits.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def derive_job_name(*, dag_id: str, task_id: str, run_id: str, map_index: int = -1, request: Mapping[str, Any]) -> str:
    """
    Derive a job's name from the run and the request: the same run and request give the same name, always.

    The name reads ``<dag>-<task>-<digest>`` (a mapped task's index stands before the digest). The digest covers the
    untruncated dag, task, run and map index and the request, so cutting the readable part short, or replacing what is
    not legal, makes no two runs collide. Room is left for the suffixes of :func:`suffixed_job_name`.

    :param dag_id: The DAG's id.
    :param task_id: The task's id.
    :param run_id: The run's id.
    :param map_index: The mapped task's index; -1 where it is not mapped.
    :param request: The request as it goes to the service, without the name.
    """
    tail = digest([dag_id, task_id, run_id, map_index, request], 12)
    if map_index >= 0:
        tail = f"{map_index}-{tail}"
    return check_job_name(name_prefix(dag_id, task_id, map_index) + tail)


def name_prefix(dag_id: str, task_id: str, map_index: int = -1) -> str:
    """
    Return what the derived names of a task's jobs begin with, for people to read: ``<dag>-<task>-``.

    :param dag_id: The DAG's id.
    :param task_id: The task's id.
    :param map_index: The mapped task's index, which leaves less room; -1 where it is not mapped.
    """
    digits = len(str(map_index)) + 1 if map_index >= 0 else 0
    room = JOB_NAME_MAX - _SUFFIX_ROOM - 12 - digits - 1
    words = [re.sub(r"[^a-zA-Z0-9_-]+", "-", word).strip("-_") for word in (dag_id, task_id)]
    half = room // 2
    if len(words[0]) + len(words[1]) + 1 > room:
        # The shorter of the two keeps what it needs; the other one takes the rest.
        if len(words[1]) < half:
            words[0] = words[0][: room - 1 - len(words[1])]
        elif len(words[0]) < half:
            words[1] = words[1][: room - 1 - len(words[0])]
        else:
            words = [words[0][: half - 1], words[1][: room - half]]
    readable = "-".join(word.strip("-_") for word in words if word.strip("-_")) or "airflow"
    return f"{readable}-"


#: Room for "-" and a number of up to three digits: nobody retries a nightly job a thousand times.
_SUFFIX_ROOM = 4


def suffixed_job_name(base: str, attempt: int) -> str:
    """
    Return the name of a job's n-th attempt: the base itself, then ``base-2``, ``base-3`` and so on.

    A base that is too long for its suffix is cut short, and a digest of it keeps it apart from others alike.

    :param base: The first attempt's name.
    :param attempt: Which attempt, from 1.
    """
    if attempt == 1:
        return check_job_name(base)
    suffix = f"-{attempt}"
    if len(base) + len(suffix) > JOB_NAME_MAX:
        base = f"{base[: JOB_NAME_MAX - len(suffix) - 9]}-{digest(base)}"
    return check_job_name(base + suffix)


def overlap(input_uri: str, output_uri: str) -> str | None:
    """
    Say that a job's output lands under its input, or its input lies under its output; None where they are apart.

    The service takes both, and the loader tells the job's own output from what it lies beside. But whatever reads all
    of a folder, as the next job of the same input does, finds both. Both are prefixes, so ``s3://b/in`` takes in
    ``s3://b/in-results/`` too.

    :raises InvalidRequestError: if one of them is no S3 URI.
    """
    source = parse_s3_uri(input_uri, parameter="input_uri")
    # The service writes into the folder, whether or not the URI ends in a slash.
    target = parse_s3_uri(output_uri.rstrip("/") + "/", parameter="output_uri", max_length=S3_PATH_MAX + 1)
    if source.bucket != target.bucket:
        return None
    if not target.key.startswith(source.key) and not source.key.startswith(target.key):
        return None
    return (
        f"Input and output lie in one place: of input_uri {input_uri!r} and output_uri {output_uri!r} one lies under "
        "the other (a path is a prefix: 's3://b/in' takes in 's3://b/in-2/' too), so the next job with this input may "
        "read this one's output as input. Better give each its own folder, ending in '/'."
    )


def folded(name: str) -> str:
    """Return what a column and a field are compared by: ``userId``, ``USER_ID`` and ``user_id`` are one name."""
    return name.replace("_", "").replace(" ", "").lower()
