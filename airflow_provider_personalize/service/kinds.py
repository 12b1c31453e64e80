"""
The kinds of resources that Amazon Personalize has, one row each, and what their statuses mean.

This module is pure: it imports neither Airflow nor boto3. Operators, sensors, triggers, links and the stand-in read
this one table, so a further kind is one more row here. ``tests/unit/test_kinds.py`` holds every row against botocore's
service model ``personalize/2018-05-22``.
"""

# ruff: noqa: PLC0414 - whoever reads a kind's state needs the states as well, so this module passes them on.
from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, NamedTuple

from airflow_provider_personalize.exceptions import JobFailedError, UnexpectedAnswerError
from airflow_provider_personalize.service.statuses import ACTIVE as ACTIVE
from airflow_provider_personalize.service.statuses import CREATE_FAILED as CREATE_FAILED
from airflow_provider_personalize.service.statuses import CREATE_IN_PROGRESS as CREATE_IN_PROGRESS
from airflow_provider_personalize.service.statuses import CREATE_PENDING as CREATE_PENDING
from airflow_provider_personalize.service.statuses import INACTIVE, STATES, shown, text_at
from airflow_provider_personalize.service.statuses import State as State
from airflow_provider_personalize.service.statuses import Until as Until
from airflow_provider_personalize.service.statuses import state_of as state_of


@dataclass(frozen=True)
class ResourceKind:
    """
    One kind of resource. Operations, keys and ARNs follow from its noun; the fields say where it departs from that.

    :param noun: The API's noun, as ``BatchInferenceJob``.
    :param parent_field: The field of the create request that names the resource it is made from, and so the account
        and region of its own ARN; None where it is made from nothing.
    :param list_filter: The field of the list request that narrows the listing; by default ``parent_field``.
    :param list_key: The key of the items of a listing; by default the noun's plural.
    :param arn_type: The resource type in its ARN; by default the noun in words, with hyphens.
    :param arn_parts: How many parts, with a slash between them, follow the type in its ARN: 2 for a dataset, as in
        ``dataset/<group's name>/<TYPE>``, and for a solution version, as in ``solution/<solution's name>/<random>``.
    :param named_arn: Whether its ARN ends in its name, so that the one follows from the other. An event tracker's and
        a solution version's end in letters and digits that the service makes up.
    :param has_status: Whether it has a status at all: a schema is there at once.
    :param has_failure_reason: Whether its description has a ``failureReason``.
    :param can_update: Whether there is an update operation.
    :param tracks_update: Whether the description tells of the latest update, whose status is not the resource's own.
    :param can_delete: Whether there is a delete operation.
    :param stop_operation: The operation that stops it, or None.
    :param start_operation: The operation that starts it again, or None.
    :param taggable: Whether its create request takes tags.
    :param quota: How many may be pending or in progress at once, where the documentation says so.
    """

    noun: str
    parent_field: str | None = "datasetGroupArn"
    list_filter: str | None = None
    list_key: str = ""
    arn_type: str = ""
    arn_parts: int = 1
    named_arn: bool = True
    has_status: bool = True
    has_failure_reason: bool = True
    can_update: bool = False
    tracks_update: bool = False
    can_delete: bool = False
    stop_operation: str | None = None
    start_operation: str | None = None
    taggable: bool = True
    quota: int | None = None

    def __post_init__(self) -> None:
        defaults = {
            "list_filter": self.parent_field,
            "list_key": f"{self.response_key}s",
            "arn_type": self.words.replace(" ", "-"),
        }
        for name, value in defaults.items():
            if not getattr(self, name):
                object.__setattr__(self, name, value)

    @cached_property
    def words(self) -> str:
        """The noun in words, as ``batch inference job``."""
        return re.sub(r"(?<!^)(?=[A-Z])", " ", self.noun).lower()

    @property
    def is_job(self) -> bool:
        """Whether it is a job: its name's field is ``jobName``, and it can be neither changed nor deleted."""
        return self.noun.endswith("Job")

    @property
    def name_field(self) -> str:
        """The field that holds its name, ``jobName`` or ``name``."""
        return "jobName" if self.is_job else "name"

    @cached_property
    def response_key(self) -> str:
        """The key that wraps a description, as ``batchInferenceJob``."""
        return self.noun[0].lower() + self.noun[1:]

    @cached_property
    def arn_field(self) -> str:
        """The key that holds its ARN, as ``batchInferenceJobArn``."""
        return f"{self.response_key}Arn"

    @property
    def update_key(self) -> str | None:
        """The key of a description that tells of the latest update, as ``latestCampaignUpdate``, or None."""
        return f"latest{self.noun}Update" if self.tracks_update else None

    @property
    def create_operation(self) -> str:
        """The API operation that makes one, as ``CreateBatchInferenceJob``."""
        return f"Create{self.noun}"

    @property
    def describe_operation(self) -> str:
        """The API operation that describes one, as ``DescribeBatchInferenceJob``."""
        return f"Describe{self.noun}"

    @property
    def list_operation(self) -> str:
        """The API operation that lists them, as ``ListBatchInferenceJobs``."""
        return f"List{self.noun}s"

    @property
    def update_operation(self) -> str | None:
        """The API operation that updates one, or None."""
        return f"Update{self.noun}" if self.can_update else None

    @property
    def delete_operation(self) -> str | None:
        """The API operation that deletes one, or None."""
        return f"Delete{self.noun}" if self.can_delete else None


DATASET_GROUP = ResourceKind("DatasetGroup", parent_field=None, can_delete=True)
SCHEMA = ResourceKind(
    "Schema", parent_field=None, has_status=False, has_failure_reason=False, can_delete=True, taggable=False
)
DATASET = ResourceKind(
    "Dataset",
    arn_parts=2,
    named_arn=False,
    has_failure_reason=False,
    can_update=True,
    tracks_update=True,
    can_delete=True,
)
DATASET_IMPORT_JOB = ResourceKind("DatasetImportJob", parent_field="datasetArn", quota=5)
DATASET_EXPORT_JOB = ResourceKind("DatasetExportJob", parent_field="datasetArn")
DATA_DELETION_JOB = ResourceKind("DataDeletionJob")
EVENT_TRACKER = ResourceKind("EventTracker", named_arn=False, has_failure_reason=False, can_delete=True)
SOLUTION = ResourceKind("Solution", has_failure_reason=False, can_update=True, tracks_update=True, can_delete=True)
SOLUTION_VERSION = ResourceKind(
    "SolutionVersion",
    parent_field="solutionArn",
    arn_type="solution",
    arn_parts=2,
    named_arn=False,
    stop_operation="StopSolutionVersionCreation",
    quota=20,
)
CAMPAIGN = ResourceKind(
    "Campaign",
    parent_field="solutionVersionArn",
    list_filter="solutionArn",
    can_update=True,
    tracks_update=True,
    can_delete=True,
)
RECOMMENDER = ResourceKind(
    "Recommender",
    can_update=True,
    tracks_update=True,
    can_delete=True,
    stop_operation="StopRecommender",
    start_operation="StartRecommender",
)
FILTER = ResourceKind("Filter", list_key="Filters", can_delete=True)
METRIC_ATTRIBUTION = ResourceKind("MetricAttribution", can_update=True, can_delete=True, taggable=False)
BATCH_INFERENCE_JOB = ResourceKind("BatchInferenceJob", parent_field="solutionVersionArn", quota=5)
BATCH_SEGMENT_JOB = ResourceKind("BatchSegmentJob", parent_field="solutionVersionArn", quota=5)

#: Every kind, in the order in which the service needs them.
KINDS = (
    DATASET_GROUP,
    SCHEMA,
    DATASET,
    DATASET_IMPORT_JOB,
    DATASET_EXPORT_JOB,
    DATA_DELETION_JOB,
    EVENT_TRACKER,
    SOLUTION,
    SOLUTION_VERSION,
    CAMPAIGN,
    RECOMMENDER,
    FILTER,
    METRIC_ATTRIBUTION,
    BATCH_INFERENCE_JOB,
    BATCH_SEGMENT_JOB,
)

#: The batch jobs, whose output is what a load reads.
BATCH_JOBS = (BATCH_INFERENCE_JOB, BATCH_SEGMENT_JOB)


class ResourceStatus(NamedTuple):
    """
    What a description or a line of a listing says of one resource.

    :param kind: The resource's kind.
    :param arn: Its ARN.
    :param name: Its name.
    :param status: The service's word: that of the latest update, where its end is waited for.
    :param state: What that word means to the wait. An unknown status is taken as still running.
    :param known: Whether the status is one of :data:`STATES`.
    :param failure_reason: The service's ``failureReason``, where it gave one.
    :param created_at: When the resource was created, where the service says so.
    :param parent_arn: The resource whose listing shows this one, where the service says so.
    :param solution_version_arn: The solution version that it runs on, where it runs on one.
    :param output_uri: Where a batch job's output goes; a listing does not say.
    """

    kind: ResourceKind
    arn: str
    name: str
    status: str
    state: State
    known: bool
    failure_reason: str | None = None
    created_at: datetime | None = None
    parent_arn: str | None = None
    solution_version_arn: str | None = None
    output_uri: str | None = None

    def raise_if_failed(self) -> None:
        """
        Raise where what was waited for cannot come about any more.

        :raises JobFailedError: with the resource's name, ARN and ``failureReason``.
        """
        if self.state is State.FAILED:
            raise JobFailedError(
                kind=self.kind.words,
                job_name=self.name,
                job_arn=self.arn,
                status=self.status,
                failure_reason=self.failure_reason,
            )


def read_status(kind: ResourceKind, answer: Any, until: Until = "active", *, arn: str | None = None) -> ResourceStatus:
    """
    Read the state of a resource from a describe response, or from one line of a listing.

    This function only decides. It does not call, sleep, log or raise for a resource that has failed, so the synchronous
    wait, the sensor, the trigger and the tests share it.

    :param kind: The resource's kind.
    :param answer: What ``Describe…`` answered (with or without the key that wraps it), or one line of ``List…``.
    :param until: What is waited for.
    :param arn: The ARN that was asked about, if one was.
    :raises UnexpectedAnswerError: if the answer does not describe such a resource: it has no status, as that of another
        kind would have none, or it is about another resource.
    """
    described = _described(kind, answer, arn)
    status, failure_reason = _status(kind, described, arn), text_at(described, "failureReason")
    # A resource that has failed, or is being deleted, is not updated any more.
    if until == "updated" and kind.update_key and (status == INACTIVE or state_of(status) is not State.FAILED):
        update = described.get(kind.update_key)
        if update is not None:
            status, failure_reason = _status(kind, update, arn, kind.update_key), text_at(update, "failureReason")
    own_arn = described.get(kind.arn_field) or ""
    if not isinstance(own_arn, str) or (arn and own_arn != arn) or not (own_arn or kind.has_status):
        raise _unexpected(kind, f"Expected the ARN of the {kind.words} that was asked about, got {shown(own_arn)}", arn)
    created_at = described.get("creationDateTime")
    return ResourceStatus(
        kind=kind,
        arn=own_arn,
        name=text_at(described, kind.name_field) or own_arn.rpartition("/")[2],
        status=status,
        state=state_of(status, until),
        known=status in STATES,
        failure_reason=failure_reason,
        created_at=created_at if isinstance(created_at, datetime) else None,
        parent_arn=_parent_arn(kind, described, own_arn),
        solution_version_arn=own_arn if kind is SOLUTION_VERSION else text_at(described, "solutionVersionArn"),
        output_uri=text_at(described, "jobOutput", "s3DataDestination", "path"),
    )


def _described(kind: ResourceKind, answer: Any, arn: str | None) -> Mapping[str, Any]:
    wrapped = answer.get(kind.response_key, answer) if isinstance(answer, Mapping) else answer
    # A schema's description has a text under the key that wraps the description.
    found = answer if isinstance(wrapped, str) and isinstance(answer, Mapping) and kind.arn_field in answer else wrapped
    if not isinstance(found, Mapping):
        got = f"{type(found).__name__}: {shown(found)}"
        raise _unexpected(kind, f"Expected a description of a {kind.words}, got {got}", arn)
    return found


def _status(kind: ResourceKind, described: Any, arn: str | None, key: str = "") -> str:
    if not kind.has_status:
        return ACTIVE
    status = described.get("status") if isinstance(described, Mapping) else None
    if isinstance(status, str) and status:
        return status
    if status or not isinstance(described, Mapping):
        got = f"the status {shown(status or described)}"
    else:
        got = f"one with the keys {shown(sorted(map(str, described)))}"
    place = f" at {key}" if key else ""
    raise _unexpected(kind, f"Expected a description of a {kind.words} with a status{place}, got {got}", arn)


def _parent_arn(kind: ResourceKind, described: Mapping[str, Any], arn: str) -> str | None:
    if kind.list_filter is None:
        return None
    if kind.list_filter == "solutionArn":
        # A campaign names its solution's version, and the version of a listing its own ARN only.
        version = arn if kind is SOLUTION_VERSION else text_at(described, "solutionVersionArn")
        return text_at(described, "solutionArn") or (solution_arn_of(version) if version else None)
    return text_at(described, kind.list_filter)


def solution_arn_of(solution_version_arn: str) -> str:
    """Return the ARN of the solution that a version belongs to: ``…:solution/<name>/<version>`` without the version."""
    return "/".join(solution_version_arn.split("/")[:2])


def _unexpected(kind: ResourceKind, reason: str, arn: str | None) -> UnexpectedAnswerError:
    operation = kind.describe_operation if arn else kind.list_operation
    return UnexpectedAnswerError(operation=operation, reason=reason, arn=arn)


def entries_of(kind: ResourceKind, page: Any) -> list[Any]:
    """
    Return the lines of one page of a listing.

    :raises UnexpectedAnswerError: if it holds no list.
    """
    entries = page.get(kind.list_key) if isinstance(page, Mapping) else None
    if not isinstance(entries, list):
        raise _unexpected(kind, f"Expected a list of {kind.words}s, got {shown(entries)}", None)
    return entries
