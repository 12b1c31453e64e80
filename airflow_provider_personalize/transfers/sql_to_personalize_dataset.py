"""From a query to the CSV of a dataset import on S3, or to the list of users of a data deletion job."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

from airflow.providers.amazon.aws.utils.mixins import aws_template_fields
from botocore.exceptions import ClientError

from airflow_provider_personalize.arguments import Reader, exactly_one, form, mapping, one_of
from airflow_provider_personalize.aws_errors import answers_to, describe_error
from airflow_provider_personalize.compat import Context
from airflow_provider_personalize.exceptions import InvalidRequestError
from airflow_provider_personalize.hooks.personalize import PersonalizeHook
from airflow_provider_personalize.input.dataset import MAX_BYTES
from airflow_provider_personalize.lineage import Amount
from airflow_provider_personalize.operators.query_files import QueryToFilesOperator, folder
from airflow_provider_personalize.service.data_requests import IMPORT_MODES, ImportMode
from airflow_provider_personalize.service.names import parse_arn
from airflow_provider_personalize.service.schemas import DatasetSchema, Field, check_dataset_type, read_schema
from airflow_provider_personalize.sql.dataset import personalize_schema
from airflow_provider_personalize.sql.dataset_copy import DatasetCopy
from airflow_provider_personalize.sql.query import database_hook

__all__ = ["SqlToPersonalizeDatasetOperator", "SqlToPersonalizeUserListOperator", "personalize_schema"]

#: The most bytes of one file; S3 takes 10,000 parts, and whoever reads files takes several at once.
FILE_BYTES = 1_000_000_000
#: What a data deletion job takes: a file with one column.
USER_LIST = DatasetSchema("USERS", (Field("USER_ID", "string"),))


class _QueryToCsvOperator(QueryToFilesOperator):
    """Base of what writes CSV whose columns follow from a schema."""

    #: How the files will be imported, which decides how many bytes they may be.
    import_mode: str = "FULL"

    def execute(self, context: Context) -> str:
        """Write the files, and return their prefix."""
        started = time.monotonic()
        self.read_arguments()
        mode: ImportMode = "INCREMENTAL" if self.import_mode == "INCREMENTAL" else "FULL"
        schema, has_other_data = self._schema_and_state()
        database = database_hook(self.sql_conn_id, self.hook_params)
        prefix = folder(self.s3_uri)
        with self._files(suffix=".csv", max_bytes=FILE_BYTES) as files:
            copy = DatasetCopy(schema, files, max_bytes=MAX_BYTES[mode], log=self.log)
            rows = copy.run(database, self.sql, self.parameters)
            if not rows.rows and not rows.problems.count:
                self._refuse_empty(files, "there is nothing to import")
            for warning in rows.finish(copy.size, import_mode=mode, has_other_data=has_other_data):
                self.log.warning("In these rows alone: %s", warning)
            file_count = files.file_count
            files.publish()
        self._written = Amount(rows.rows, files.bytes, file_count)
        seconds = time.monotonic() - started
        self.log.info(
            "Wrote %s rows with %s in %s files (%s bytes) under %s in %.1f s (%s rows/s)",
            f"{rows.rows:,}",
            ", ".join(field.name for field in schema.fields),
            f"{file_count:,}",
            f"{files.bytes:,}",
            prefix,
            seconds,
            f"{rows.rows / seconds:,.0f}",
        )
        return str(prefix)

    def _schema_and_state(self) -> tuple[DatasetSchema, bool]:
        """Return what the rows have to be, and whether the dataset has others already."""
        raise NotImplementedError


class SqlToPersonalizeDatasetOperator(_QueryToCsvOperator):
    """
    Run a query and write its rows to S3 as the CSV that a dataset import job takes.

    The names of the query's columns, in any case and with or without underscores, decide which field of the schema they
    fill; each field needs one. Timestamps and dates of any type become epoch seconds (without a time zone they are
    UTC), arrays and texts that are JSON lists become ``a|b``, booleans are written in lower case, and NULL as nothing
    where the schema lets a field be null. Ids are written exactly as
    :class:`~airflow_provider_personalize.transfers.sql_to_personalize.SqlToPersonalizeInputOperator` writes them.

    What an import or a training would fail at is found while the rows are streamed, and told all together, with row,
    column, value and remedy: missing and unknown columns, nulls, ids and categories that are too long, timestamps in
    milliseconds or in the future, numbers that are none, too few interactions or users, too many bytes.

    Memory does not grow with the number of rows. On PostgreSQL, the server itself writes the CSV where all columns are
    plain values. The files are called ``part-00000.csv`` and so on, each with the header, and appear all at once when
    all is well; whatever fails before leaves the prefix as it was.

    :param sql: The query: one ``SELECT``, or the path of a ``.sql`` file. It only reads: its session cannot write,
        as far as the database has such sessions.
    :param sql_conn_id: The Airflow connection of the database, of any kind with a ``DbApiHook``.
    :param s3_uri: The prefix that takes the files, as ``s3://bucket/folder/``: what an import job takes as its
        ``dataLocation``. It has to be this task's own: other objects there are an error.
    :param dataset_type: ``INTERACTIONS``, ``ITEMS`` or ``USERS``; by default, what the schema tells.
    :param schema: The dataset's Avro schema, as a dict or as JSON;
        :func:`~airflow_provider_personalize.transfers.sql_to_personalize.personalize_schema` writes one for a query.
    :param dataset_arn: The dataset, in place of ``schema``, which is then read from the service. Where an import into
        it has finished before, too few interactions are a warning and no error.
    :param import_mode: How the files will be imported, ``FULL`` or ``INCREMENTAL``: it decides how many bytes they may
        be. Of an incremental import, too few interactions are a warning.
    :param parameters: Values for the query's own placeholders, in the driver's style.
    :param hook_params: Further arguments for the database's hook.
    :param kms_key_arn: The KMS key to encrypt the files with; by default as the bucket does.
    :param extra_args: Further arguments of S3's ``CreateMultipartUpload``, as ``{"ACL": "bucket-owner-full-control"}``.
    :param allow_empty: Whether a query without rows skips this task, and so the rest of its branch, and leaves an empty
        prefix. By default it is an error, and what an earlier run has written stays.
    :return: The prefix, ending in ``/``.
    """

    template_fields: Sequence[str] = aws_template_fields(
        *(name for name in QueryToFilesOperator.template_fields if name not in aws_template_fields()),
        "dataset_type",
        "schema",
        "dataset_arn",
        "import_mode",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {
        **QueryToFilesOperator.template_fields_renderers,
        "schema": "json",
    }
    argument_readers: ClassVar[Mapping[str, Reader]] = {
        **QueryToFilesOperator.argument_readers,
        "dataset_type": form(check_dataset_type),
        "schema": mapping,
        "dataset_arn": form(partial(parse_arn, resource_type="dataset")),
        "import_mode": one_of(IMPORT_MODES),
    }

    def __init__(
        self,
        *,
        sql: str,
        sql_conn_id: str,
        s3_uri: str,
        dataset_type: str | None = None,
        schema: Mapping[str, Any] | str | None = None,
        dataset_arn: str | None = None,
        import_mode: str = "FULL",
        parameters: Mapping[str, Any] | Sequence[Any] | None = None,
        hook_params: dict[str, Any] | None = None,
        kms_key_arn: str | None = None,
        extra_args: dict[str, Any] | None = None,
        allow_empty: bool = False,
        aws_conn_id: str | None = "aws_default",
        region_name: str | None = None,
        verify: bool | str | None = None,
        botocore_config: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        self.dataset_type = dataset_type
        self.schema = schema
        self.dataset_arn = dataset_arn
        self.import_mode = import_mode
        super().__init__(
            sql=sql,
            sql_conn_id=sql_conn_id,
            s3_uri=s3_uri,
            parameters=parameters,
            hook_params=hook_params,
            kms_key_arn=kms_key_arn,
            extra_args=extra_args,
            allow_empty=allow_empty,
            aws_conn_id=aws_conn_id,
            region_name=region_name,
            verify=verify,
            botocore_config=botocore_config,
            **kwargs,
        )

    def conflicts(self, known: Mapping[str, Any]) -> Iterator[str]:
        """Say what does not go together, and what is wrong with the schema."""
        yield from exactly_one(known, "schema", "dataset_arn")
        if known.get("schema") and "dataset_type" in known:
            try:
                read_schema(known["schema"], known["dataset_type"])
            except InvalidRequestError as error:
                yield error.message

    def _schema_and_state(self) -> tuple[DatasetSchema, bool]:
        is_incremental = self.import_mode == "INCREMENTAL"
        if self.schema:
            return read_schema(self.schema, self.dataset_type), is_incremental
        arn = str(self.dataset_arn)
        hook = PersonalizeHook(**self._hook_parameters)
        with answers_to("DescribeDataset", region=hook.region_name, arn=arn):
            dataset = hook.conn.describe_dataset(datasetArn=arn)["dataset"]
        found = check_dataset_type(dataset["datasetType"], parameter="dataset_arn")
        if self.dataset_type and check_dataset_type(self.dataset_type) != found:
            raise InvalidRequestError(
                f"dataset_type: expected {found}, as the dataset has, got {self.dataset_type}; leave it out, or give "
                f"the ARN of another dataset. {arn}"
            )
        schema_arn = dataset["schemaArn"]
        with answers_to("DescribeSchema", region=hook.region_name, arn=schema_arn):
            schema = hook.conn.describe_schema(schemaArn=schema_arn)["schema"]["schema"]
        return read_schema(schema, found, is_taken=True), is_incremental or self._has_imports(hook, arn)

    def _has_imports(self, hook: PersonalizeHook, arn: str) -> bool:
        try:
            pages = hook.conn.get_paginator("list_dataset_import_jobs").paginate(datasetArn=arn)
            return any(job.get("status") == "ACTIVE" for page in pages for job in page["datasetImportJobs"])
        except ClientError as error:
            self.log.warning("Whether the dataset holds data already could not be seen: %s", describe_error(error))
            return True


class SqlToPersonalizeUserListOperator(_QueryToCsvOperator):
    """
    Run a query and write its users to S3 as a data deletion job takes them: the users who must be forgotten.

    The query has one column, ``user_id``. The ids are written exactly as the other operators write them, so that they
    are those that were imported. The files appear all at once, as those of :class:`SqlToPersonalizeDatasetOperator`.

    :param sql: The query: one ``SELECT``, or the path of a ``.sql`` file.
    :param sql_conn_id: The Airflow connection of the database, of any kind with a ``DbApiHook``.
    :param s3_uri: The prefix that takes the files, as ``s3://bucket/folder/``; it has to be this task's own.
    :param parameters: Values for the query's own placeholders, in the driver's style.
    :param hook_params: Further arguments for the database's hook.
    :param kms_key_arn: The KMS key to encrypt the files with; by default as the bucket does.
    :param extra_args: Further arguments of S3's ``CreateMultipartUpload``.
    :param allow_empty: Whether a query without rows skips this task, and so the rest of its branch, and leaves an empty
        prefix: nobody is to be forgotten. By default it is an error, and what an earlier run has written stays.
    :return: The prefix, ending in ``/``.
    """

    def __init__(
        self,
        *,
        sql: str,
        sql_conn_id: str,
        s3_uri: str,
        parameters: Mapping[str, Any] | Sequence[Any] | None = None,
        hook_params: dict[str, Any] | None = None,
        kms_key_arn: str | None = None,
        extra_args: dict[str, Any] | None = None,
        allow_empty: bool = False,
        aws_conn_id: str | None = "aws_default",
        region_name: str | None = None,
        verify: bool | str | None = None,
        botocore_config: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            sql=sql,
            sql_conn_id=sql_conn_id,
            s3_uri=s3_uri,
            parameters=parameters,
            hook_params=hook_params,
            kms_key_arn=kms_key_arn,
            extra_args=extra_args,
            allow_empty=allow_empty,
            aws_conn_id=aws_conn_id,
            region_name=region_name,
            verify=verify,
            botocore_config=botocore_config,
            **kwargs,
        )

    def _schema_and_state(self) -> tuple[DatasetSchema, bool]:
        return USER_LIST, True
