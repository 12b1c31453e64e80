"""Drafts of dataset groups, schemas, datasets, their jobs, event trackers and filters."""

from __future__ import annotations

import uuid
from functools import partial
from typing import Any

import numpy as np

from airflow_provider_personalize.local.contents import Contents, GroupData
from airflow_provider_personalize.local.drafts import (
    AS_LONG_AS_A_JOB,
    AT_ONCE,
    Call,
    Draft,
    Drafter,
    find_active,
    without_tags,
)
from airflow_provider_personalize.local.expressions import parse_filter
from airflow_provider_personalize.local.filters import check_filter
from airflow_provider_personalize.local.imports import export_rows, forget_users, read_rows
from airflow_provider_personalize.local.jobs import DATA_DELETION
from airflow_provider_personalize.local.resources import ACCOUNT, Resource
from airflow_provider_personalize.local.tables import Columns, Dataset, Tables
from airflow_provider_personalize.local.validation import invalid, or_invalid
from airflow_provider_personalize.service.kinds import (
    DATA_DELETION_JOB,
    DATASET,
    DATASET_EXPORT_JOB,
    DATASET_GROUP,
    DATASET_IMPORT_JOB,
    EVENT_TRACKER,
    FILTER,
    SCHEMA,
    ResourceKind,
)
from airflow_provider_personalize.service.schemas import check_dataset_type, read_schema
from airflow_provider_personalize.uris import parse_s3_uri


def _dataset_group(call: Call) -> Draft:
    answer = {"domain": call.request["domain"]} if "domain" in call.request else {}
    return Draft(without_tags(call.request), content=GroupData(call.request["name"]), answer=answer)


def _schema(call: Call) -> Draft:
    or_invalid(read_schema, call.request["schema"])
    return Draft(without_tags(call.request), share=AT_ONCE)


def _dataset(call: Call) -> Draft:
    group = find_active(call.region, DATASET_GROUP, call.request["datasetGroupArn"], call.now)
    schema = call.region.find(SCHEMA, call.request["schemaArn"])
    kind = or_invalid(check_dataset_type, call.request["datasetType"])
    contents = Contents(or_invalid(partial(read_schema, dataset_type=kind), schema.fields["schema"]))
    group.content.datasets[kind] = contents
    return Draft(without_tags(call.request) | {"datasetType": kind}, content=contents)


def _import_job(call: Call) -> Draft:
    dataset = find_active(call.region, DATASET, call.request["datasetArn"], call.now)
    group = call.region.find(DATASET_GROUP, dataset.fields["datasetGroupArn"]).content
    location = _location(call.request)
    mode = call.request.get("importMode", "FULL")

    def work(_: Resource) -> None:
        rows = read_rows(dataset.content, location, call.api.s3(call.region.name))
        with group.lock:
            dataset.content.take(rows, mode)

    return Draft(
        {"publishAttributionMetricsToS3": False} | without_tags(call.request) | {"importMode": mode},
        share=AS_LONG_AS_A_JOB,
        work=work,
    )


def _export_job(call: Call) -> Draft:
    dataset = find_active(call.region, DATASET, call.request["datasetArn"], call.now)
    destination = call.request["jobOutput"]["s3DataDestination"]
    or_invalid(parse_s3_uri, destination["path"])
    mode = call.request.get("ingestionMode", "PUT")
    return Draft(
        without_tags(call.request) | {"ingestionMode": mode},
        share=AS_LONG_AS_A_JOB,
        work=lambda _: export_rows(
            dataset.content, destination["path"], mode, destination.get("kmsKeyArn"), call.api.s3(call.region.name)
        ),
    )


def _deletion_job(call: Call) -> Draft:
    group = find_active(call.region, DATASET_GROUP, call.request["datasetGroupArn"], call.now)
    location = _location(call.request)

    def work(job: Resource) -> None:
        job.fields["numDeleted"] = forget_users(group.content, location, call.api.s3(call.region.name))

    return Draft(without_tags(call.request), share=AS_LONG_AS_A_JOB, work=work, words=DATA_DELETION)


def _location(request: dict[str, Any]) -> str:
    location = request["dataSource"].get("dataLocation")
    if not location:
        raise invalid("The dataSource has no dataLocation.")
    or_invalid(parse_s3_uri, location)
    return str(location)


def _event_tracker(call: Call) -> Draft:
    find_active(call.region, DATASET_GROUP, call.request["datasetGroupArn"], call.now)
    tracking_id = str(uuid.uuid4())
    fields = without_tags(call.request) | {"trackingId": tracking_id, "accountId": ACCOUNT}
    return Draft(fields, answer={"trackingId": tracking_id})


def _filter(call: Call) -> Draft:
    group = find_active(call.region, DATASET_GROUP, call.request["datasetGroupArn"], call.now)
    expression = or_invalid(parse_filter, call.request["filterExpression"])
    or_invalid(partial(check_filter, data=tables_of(group.content)), expression)
    # Assumption: a filter is ACTIVE at once; the service takes a moment.
    return Draft(without_tags(call.request), share=AT_ONCE)


def tables_of(group: GroupData) -> Tables | Dataset:
    """Return what filters of a group may speak of: the columns of its datasets' schemas."""
    if group.is_ready and group.ready:
        return group.ready.data

    def columns(kind: str) -> Columns:
        contents = group.datasets.get(kind)
        return Columns({name: np.empty(0, dtype=object) for name in (contents.columns if contents else ())})

    return Tables(items=columns("ITEMS"), users=columns("USERS"), interactions=columns("INTERACTIONS"))


DATA_DRAFTS: dict[ResourceKind, Drafter] = {
    DATASET_GROUP: _dataset_group,
    SCHEMA: _schema,
    DATASET: _dataset,
    DATASET_IMPORT_JOB: _import_job,
    DATASET_EXPORT_JOB: _export_job,
    DATA_DELETION_JOB: _deletion_job,
    EVENT_TRACKER: _event_tracker,
    FILTER: _filter,
}
