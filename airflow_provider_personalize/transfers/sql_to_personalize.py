"""Write the rows of a query to S3, as the input lines of a batch job; or, by the module beside it, as training data."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.amazon.aws.utils.mixins import aws_template_fields

from airflow_provider_personalize.arguments import (
    Reader,
    form,
    texts,
    whole_number,
)
from airflow_provider_personalize.compat import Context
from airflow_provider_personalize.input.rows import InputRows
from airflow_provider_personalize.lineage import Amount
from airflow_provider_personalize.operators.query_files import QueryToFilesOperator, folder
from airflow_provider_personalize.s3.multipart import MultipartFiles
from airflow_provider_personalize.service.recipes import batch_recipe
from airflow_provider_personalize.sql.query import QueryRows, RowBatch, database_hook, stream_query
from airflow_provider_personalize.sql.write_behind import WriteBehind

if TYPE_CHECKING:
    from airflow_provider_personalize.transfers.sql_to_personalize_dataset import (
        SqlToPersonalizeDatasetOperator,
        SqlToPersonalizeUserListOperator,
        personalize_schema,
    )

__all__ = [
    "SqlToPersonalizeDatasetOperator",
    "SqlToPersonalizeInputOperator",
    "SqlToPersonalizeUserListOperator",
    "personalize_schema",
]

#: Bytes of input that one fetch aims at: its rows follow from how long the lines so far were.
BATCH_BYTES = 1_000_000
#: Rows of one fetch, at most.
BATCH_ROWS = 50_000
#: Seconds between two lines of progress in the log.
LOG_INTERVAL = 5.0


def __getattr__(name: str) -> Any:
    """Import what writes datasets when it is asked for: a DAG file of batch jobs alone has no need of it."""
    if name in __all__:
        return getattr(import_module(f"{__name__}_dataset"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class SqlToPersonalizeInputOperator(QueryToFilesOperator):
    """
    Run a query and write its rows as input lines of a batch job to S3.

    The names of the query's columns, in any case and with or without underscores, decide what a line holds: ``user_id``
    (most recipes), ``user_id`` and ``item_list`` (personalized ranking), ``item_id`` (related items, Item-Affinity), or
    ``item_attributes`` (Item-Attribute-Affinity). Ids go out as text, exactly as they are; numbers without decimals. An
    ``item_list`` is an array, or text that is a JSON array. What cannot go into a line is an error with its row.

    Rows are streamed, so memory does not grow with their number: through a server-side cursor on PostgreSQL and MySQL,
    elsewhere as the driver fetches. The lines go to ``part-00000.json``, ``part-00001.json`` and so on, each within the
    service's quotas, and appear all at once when the query has ended well; part files of an earlier run are then
    replaced or deleted. Whatever fails before leaves the prefix as it was.

    :param sql: The query: one ``SELECT``, or the path of a ``.sql`` file. It only reads: its session cannot write,
        as far as the database has such sessions.
    :param sql_conn_id: The Airflow connection of the database, of any kind with a ``DbApiHook``.
    :param s3_uri: The prefix that takes the lines, as ``s3://bucket/folder/``; a ``/`` is added at the end where it is
        missing. It has to be this task's own: other objects there are an error, since the job would read them too.
    :param filter_values: The columns that hold the values of a filter's placeholders: ``{"GENRES": "genres"}`` for
        ``$GENRES``. A column's value is text or a number, or several as an array or as text that is a JSON array; the
        quoting that the service wants is done here.
    :param parameters: Values for the query's own placeholders, in the driver's style.
    :param recipe: The recipe that the lines are for, by name or ARN, as ``aws-similar-items``. It checks the columns,
        and sets how many lines a file may have. By default the columns alone decide, and lines with an ``itemId`` go
        into files of 500, which both Item-Affinity and the recipes for related items take.
    :param max_lines_per_file: The most lines of one file, where it should be fewer than the recipe allows.
    :param allow_empty: Whether a query without rows skips this task, and so the rest of its branch, and leaves an empty
        prefix. By default it is an error, and what an earlier run has written stays.
    :param hook_params: Further arguments for the database's hook.
    :param kms_key_arn: The KMS key to encrypt the files with; by default as the bucket does.
    :param extra_args: Further arguments of S3's ``CreateMultipartUpload``, as ``{"ACL": "bucket-owner-full-control"}``.
    :return: The prefix, ending in ``/``: what a job takes as its ``input_uri``.
    """

    template_fields: Sequence[str] = aws_template_fields(
        *(name for name in QueryToFilesOperator.template_fields if name not in aws_template_fields()),
        "filter_values",
        "recipe",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {
        **QueryToFilesOperator.template_fields_renderers,
        "filter_values": "json",
    }
    argument_readers: ClassVar[Mapping[str, Reader]] = {
        **QueryToFilesOperator.argument_readers,
        "filter_values": texts,
        "recipe": form(batch_recipe),
        "max_lines_per_file": whole_number(1),
    }

    def __init__(
        self,
        *,
        sql: str,
        sql_conn_id: str,
        s3_uri: str,
        filter_values: dict[str, str] | None = None,
        parameters: Mapping[str, Any] | Sequence[Any] | None = None,
        recipe: str | None = None,
        max_lines_per_file: int | None = None,
        allow_empty: bool = False,
        hook_params: dict[str, Any] | None = None,
        kms_key_arn: str | None = None,
        extra_args: dict[str, Any] | None = None,
        aws_conn_id: str | None = "aws_default",
        region_name: str | None = None,
        verify: bool | str | None = None,
        botocore_config: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        self.filter_values = filter_values
        self.recipe = recipe
        self.max_lines_per_file = max_lines_per_file
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

    def execute(self, context: Context) -> str:
        """Write the lines, and return their prefix."""
        started = time.monotonic()
        self.read_arguments()
        prefix = folder(self.s3_uri)
        recipe = batch_recipe(self.recipe) if self.recipe else None
        if self.recipe and recipe is None:
            self.log.warning("The recipe %s is new to this package: the columns alone decide.", self.recipe)
        database = database_hook(self.sql_conn_id, self.hook_params)
        with self._files() as files:
            with stream_query(database, self.sql, self.parameters) as query:
                lines = InputRows(query.columns, filter_values=self.filter_values, recipe=recipe)
                files.max_lines = min(lines.max_lines, self.max_lines_per_file or lines.max_lines)
                rows = self._copy(query, lines, files)
            if not rows:
                self._refuse_empty(files, "there is no input for a job")
            file_count = files.file_count
            files.publish()
        self._written = Amount(rows, files.bytes, file_count)
        seconds = time.monotonic() - started
        self.log.info(
            "Wrote the input under %s in %.1f s. Keys: %s; lines: %s (%s/s); files: %s; bytes: %s.",
            prefix,
            seconds,
            ", ".join(sorted(lines.keys)),
            f"{rows:,}",
            f"{rows / seconds:,.0f}",
            f"{file_count:,}",
            f"{files.bytes:,}",
        )
        return str(prefix)

    def _copy(self, query: QueryRows, lines: InputRows, files: MultipartFiles) -> int:
        """Encode and write the query's rows while the next batch is fetched, and return their number."""
        rows = encoded = 0
        logged = started = time.monotonic()

        def write(batch: RowBatch) -> tuple[int, int]:
            nonlocal encoded
            first_row = encoded + 1
            encoded += batch.size
            return batch.size, files.write(*lines.encode(batch.rows(), first_row))

        with WriteBehind(write) as writer:
            for batch in query:
                rows += batch.size
                if written := writer.put(batch):
                    length, size = written
                    query.batch_rows = max(1, min(BATCH_ROWS, BATCH_BYTES * length // size))
                if (now := time.monotonic()) - logged > LOG_INTERVAL:
                    logged = now
                    rate = rows / (now - started)
                    self.log.info("Read %s rows so far (%s rows/s)", f"{rows:,}", f"{rate:,.0f}")
        return rows
