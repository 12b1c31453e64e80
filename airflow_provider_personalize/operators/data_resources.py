"""The operators that create what holds data: schemas, dataset groups, datasets, event trackers and filters."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any, ClassVar

from airflow_provider_personalize.arguments import Reader, form, mapping, one_of, required, text
from airflow_provider_personalize.exceptions import InvalidRequestError
from airflow_provider_personalize.operators.mixins import passed_on
from airflow_provider_personalize.operators.resource_base import IfExists, PersonalizeCreateResourceOperator
from airflow_provider_personalize.service.kinds import DATASET, DATASET_GROUP, EVENT_TRACKER, FILTER, SCHEMA
from airflow_provider_personalize.service.names import check_kms_key_arn, check_role_arn, parse_arn_of
from airflow_provider_personalize.service.requests import read_tags
from airflow_provider_personalize.service.schemas import read_schema
from airflow_provider_personalize.service.waits import DEFAULT_POLL_INTERVAL, DEFAULT_TIMEOUT

DOMAINS = ("ECOMMERCE", "VIDEO_ON_DEMAND")
DATASET_TYPES = ("INTERACTIONS", "ITEMS", "USERS", "ACTIONS", "ACTION_INTERACTIONS")


def check_type(value: str, *, parameter: str = "dataset_type") -> None:
    """
    Make sure that a dataset can be of a type.

    :raises InvalidRequestError: if not.
    """
    if value.upper() not in DATASET_TYPES:
        raise InvalidRequestError(f"{parameter}: expected one of {', '.join(DATASET_TYPES)}, got {value!r}.")


class PersonalizeCreateSchemaOperator(PersonalizeCreateResourceOperator):
    """
    Create the schema of datasets, or find the one that is there.

    Every other parameter is that of
    :class:`~airflow_provider_personalize.operators.resource_base.PersonalizeCreateResourceOperator`.

    :param schema: The Avro schema, as a dict; it is checked before it is sent.
    :param domain: The domain, ``ECOMMERCE`` or ``VIDEO_ON_DEMAND``; none for custom resources.

    .. seealso:: https://docs.aws.amazon.com/personalize/latest/dg/API_CreateSchema.html
    """

    resource_kind = SCHEMA
    schema: dict[str, Any]
    request_fields: ClassVar[Mapping[str, Reader]] = {
        "schema": required(mapping),
        "domain": one_of(DOMAINS),
    }

    def __init__(
        self,
        *,
        name: str,
        schema: dict[str, Any],
        domain: str | None = None,
        if_exists: IfExists = "reuse",
        wait_for_completion: bool = False,
        deferrable: bool | None = None,
        poll_interval: float | timedelta = DEFAULT_POLL_INTERVAL,
        timeout: float | timedelta = DEFAULT_TIMEOUT,
        aws_conn_id: str | None = "aws_default",
        region_name: str | None = None,
        verify: bool | str | None = None,
        botocore_config: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**passed_on(locals()))

    def conflicts(self, known: Mapping[str, Any]) -> Iterator[str]:
        """Yield what the service would refuse of the schema. What a domain asks for is left to the service."""
        if known.keys() >= {"schema", "domain"}:
            try:
                read_schema(known["schema"], is_taken=bool(known["domain"]))
            except InvalidRequestError as error:
                yield error.message

    def build_request(self) -> dict[str, Any]:
        """Return the create request, with the schema as the text that the API takes."""
        return {**super().build_request(), "schema": json.dumps(self.schema)}


class PersonalizeCreateDatasetGroupOperator(PersonalizeCreateResourceOperator):
    """
    Create a dataset group, or find the one that is there.

    Every other parameter is that of
    :class:`~airflow_provider_personalize.operators.resource_base.PersonalizeCreateResourceOperator`.

    :param domain: The domain, ``ECOMMERCE`` or ``VIDEO_ON_DEMAND``; none for custom resources.
    :param role_arn: The IAM role that may use the KMS key.
    :param kms_key_arn: The KMS key that the data is encrypted with.
    :param tags: Tags: ``{key: value}``, at most 200; or the API's list of ``tagKey`` and ``tagValue``.

    .. seealso:: https://docs.aws.amazon.com/personalize/latest/dg/API_CreateDatasetGroup.html
    """

    resource_kind = DATASET_GROUP
    request_fields: ClassVar[Mapping[str, Reader]] = {
        "domain": one_of(DOMAINS),
        "role_arn": form(check_role_arn),
        "kms_key_arn": form(check_kms_key_arn),
        "tags": read_tags,
    }

    def __init__(
        self,
        *,
        name: str,
        domain: str | None = None,
        role_arn: str | None = None,
        kms_key_arn: str | None = None,
        tags: dict[str, str] | None = None,
        if_exists: IfExists = "reuse",
        wait_for_completion: bool = False,
        deferrable: bool | None = None,
        poll_interval: float | timedelta = DEFAULT_POLL_INTERVAL,
        timeout: float | timedelta = DEFAULT_TIMEOUT,
        aws_conn_id: str | None = "aws_default",
        region_name: str | None = None,
        verify: bool | str | None = None,
        botocore_config: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**passed_on(locals()))


class PersonalizeCreateDatasetOperator(PersonalizeCreateResourceOperator):
    """
    Create a dataset, or find the one of its type that is there.

    Every other parameter is that of
    :class:`~airflow_provider_personalize.operators.resource_base.PersonalizeCreateResourceOperator`.

    :param dataset_group_arn: The dataset group.
    :param schema_arn: The schema.
    :param dataset_type: ``INTERACTIONS``, ``ITEMS``, ``USERS``, ``ACTIONS`` or ``ACTION_INTERACTIONS``; a group has
        one of each.
    :param tags: Tags: ``{key: value}``, at most 200; or the API's list of ``tagKey`` and ``tagValue``.

    .. seealso:: https://docs.aws.amazon.com/personalize/latest/dg/API_CreateDataset.html
    """

    resource_kind = DATASET
    request_fields: ClassVar[Mapping[str, Reader]] = {
        "dataset_group_arn": required(form(parse_arn_of("dataset-group"))),
        "schema_arn": required(form(parse_arn_of("schema"))),
        "dataset_type": required(form(check_type)),
        "tags": read_tags,
    }

    def __init__(
        self,
        *,
        name: str,
        dataset_group_arn: str,
        schema_arn: str,
        dataset_type: str,
        tags: dict[str, str] | None = None,
        if_exists: IfExists = "reuse",
        wait_for_completion: bool = False,
        deferrable: bool | None = None,
        poll_interval: float | timedelta = DEFAULT_POLL_INTERVAL,
        timeout: float | timedelta = DEFAULT_TIMEOUT,
        aws_conn_id: str | None = "aws_default",
        region_name: str | None = None,
        verify: bool | str | None = None,
        botocore_config: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**passed_on(locals()))

    def build_request(self) -> dict[str, Any]:
        """Return the create request, with the type in capitals."""
        request = super().build_request()
        return {**request, "datasetType": request["datasetType"].upper()}


class PersonalizeCreateEventTrackerOperator(PersonalizeCreateResourceOperator):
    """
    Create an event tracker, or find the one of that name that is there.

    Every other parameter is that of
    :class:`~airflow_provider_personalize.operators.resource_base.PersonalizeCreateResourceOperator`.

    :param dataset_group_arn: The dataset group.
    :param tags: Tags: ``{key: value}``, at most 200; or the API's list of ``tagKey`` and ``tagValue``.

    .. seealso:: https://docs.aws.amazon.com/personalize/latest/dg/API_CreateEventTracker.html
    """

    resource_kind = EVENT_TRACKER
    request_fields: ClassVar[Mapping[str, Reader]] = {
        "dataset_group_arn": required(form(parse_arn_of("dataset-group"))),
        "tags": read_tags,
    }

    def __init__(
        self,
        *,
        name: str,
        dataset_group_arn: str,
        tags: dict[str, str] | None = None,
        if_exists: IfExists = "reuse",
        wait_for_completion: bool = False,
        deferrable: bool | None = None,
        poll_interval: float | timedelta = DEFAULT_POLL_INTERVAL,
        timeout: float | timedelta = DEFAULT_TIMEOUT,
        aws_conn_id: str | None = "aws_default",
        region_name: str | None = None,
        verify: bool | str | None = None,
        botocore_config: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**passed_on(locals()))


class PersonalizeCreateFilterOperator(PersonalizeCreateResourceOperator):
    """
    Create a filter, or find the one that is there.

    Every other parameter is that of
    :class:`~airflow_provider_personalize.operators.resource_base.PersonalizeCreateResourceOperator`.

    :param dataset_group_arn: The dataset group.
    :param filter_expression: What the filter includes or excludes, as the API writes it.
    :param tags: Tags: ``{key: value}``, at most 200; or the API's list of ``tagKey`` and ``tagValue``.

    .. seealso:: https://docs.aws.amazon.com/personalize/latest/dg/API_CreateFilter.html
    """

    resource_kind = FILTER
    request_fields: ClassVar[Mapping[str, Reader]] = {
        "dataset_group_arn": required(form(parse_arn_of("dataset-group"))),
        "filter_expression": required(text),
        "tags": read_tags,
    }

    def __init__(
        self,
        *,
        name: str,
        dataset_group_arn: str,
        filter_expression: str,
        tags: dict[str, str] | None = None,
        if_exists: IfExists = "reuse",
        wait_for_completion: bool = False,
        deferrable: bool | None = None,
        poll_interval: float | timedelta = DEFAULT_POLL_INTERVAL,
        timeout: float | timedelta = DEFAULT_TIMEOUT,
        aws_conn_id: str | None = "aws_default",
        region_name: str | None = None,
        verify: bool | str | None = None,
        botocore_config: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**passed_on(locals()))
