"""
The create requests of the jobs that move a dataset's rows: import, export and deletion.

This module is pure: it imports neither Airflow nor boto3.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

from airflow_provider_personalize.arguments import one_of, required
from airflow_provider_personalize.service.kinds import DATASET, DATASET_GROUP, ResourceKind
from airflow_provider_personalize.service.names import (
    check_kms_key_arn,
    check_role_arn,
    kind_of,
    parse_arn,
)
from airflow_provider_personalize.service.requests import tags_of
from airflow_provider_personalize.uris import parse_s3_uri

#: ``FULL`` replaces a dataset's rows, ``INCREMENTAL`` adds to them.
ImportMode = Literal["FULL", "INCREMENTAL"]
#: Which rows are exported: those of imports (``BULK``), those of events and single records (``PUT``), or both.
IngestionMode = Literal["BULK", "PUT", "ALL"]

IMPORT_MODES: tuple[ImportMode, ...] = get_args(ImportMode)

read_import_mode = required(one_of(IMPORT_MODES))
read_ingestion_mode = required(one_of(get_args(IngestionMode)))


def check_dataset_arn(value: str, *, parameter: str = "dataset_arn") -> None:
    """
    Make sure that a value is the ARN of a dataset.

    :raises InvalidRequestError: if not, as for that of its dataset group.
    """
    _check_arn(DATASET, value, parameter)


def check_dataset_group_arn(value: str, *, parameter: str = "dataset_group_arn") -> None:
    """
    Make sure that a value is the ARN of a dataset group.

    :raises InvalidRequestError: if not, as for that of one of its datasets.
    """
    _check_arn(DATASET_GROUP, value, parameter)


def _check_arn(kind: ResourceKind, value: str, parameter: str) -> None:
    parse_arn(value, resource_type=kind.arn_type, parameter=parameter)
    kind_of(value, parameter=parameter, among=(kind,))


def build_import_request(
    *,
    dataset_arn: str,
    data_location: str,
    role_arn: str,
    import_mode: str = "FULL",
    publish_attribution_metrics_to_s3: bool = False,
    tags: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """
    Build the request for a dataset import job, without the job's name.

    :raises InvalidRequestError: if an ARN or URI is malformed, or a value is none that the API takes.
    """
    check_dataset_arn(dataset_arn)
    return {
        "datasetArn": dataset_arn,
        **_source(data_location, role_arn),
        "importMode": read_import_mode("import_mode", import_mode),
        "publishAttributionMetricsToS3": publish_attribution_metrics_to_s3,
        **tags_of(tags),
    }


def build_export_request(
    *,
    dataset_arn: str,
    output_uri: str,
    role_arn: str,
    ingestion_mode: str = "PUT",
    output_kms_key_arn: str | None = None,
    tags: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """
    Build the request for a dataset export job, without the job's name.

    :raises InvalidRequestError: if an ARN or URI is malformed, or a value is none that the API takes.
    """
    check_dataset_arn(dataset_arn)
    check_role_arn(role_arn)
    parse_s3_uri(output_uri, parameter="output_uri")
    destination = {"path": output_uri}
    if output_kms_key_arn:
        check_kms_key_arn(output_kms_key_arn, parameter="output_kms_key_arn")
        destination["kmsKeyArn"] = output_kms_key_arn
    return {
        "datasetArn": dataset_arn,
        "jobOutput": {"s3DataDestination": destination},
        "roleArn": role_arn,
        "ingestionMode": read_ingestion_mode("ingestion_mode", ingestion_mode),
        **tags_of(tags),
    }


def build_deletion_request(
    *, dataset_group_arn: str, data_location: str, role_arn: str, tags: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """
    Build the request for a data deletion job, without the job's name.

    :raises InvalidRequestError: if an ARN or URI is malformed, or a value is none that the API takes.
    """
    check_dataset_group_arn(dataset_group_arn)
    return {"datasetGroupArn": dataset_group_arn, **_source(data_location, role_arn), **tags_of(tags)}


def _source(data_location: str, role_arn: str) -> dict[str, Any]:
    check_role_arn(role_arn)
    parse_s3_uri(data_location, parameter="data_location")
    return {"dataSource": {"dataLocation": data_location}, "roleArn": role_arn}
