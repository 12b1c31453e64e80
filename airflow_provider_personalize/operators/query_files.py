"""What the operators have in common that write a query's rows to files under an S3 prefix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.amazon.aws.hooks.s3 import S3Hook
from airflow.providers.amazon.aws.operators.base_aws import AwsBaseOperator
from airflow.providers.amazon.aws.utils.mixins import aws_template_fields

from airflow_provider_personalize.arguments import (
    ReadArguments,
    Reader,
    flag,
    form,
    mapping,
    mapping_or_list,
    required,
    text,
)
from airflow_provider_personalize.compat import AirflowSkipException
from airflow_provider_personalize.exceptions import InvalidRequestError
from airflow_provider_personalize.lineage import Amount, query_lineage
from airflow_provider_personalize.operators.mixins import PersonalizeTaskMixin
from airflow_provider_personalize.s3.multipart import MultipartFiles
from airflow_provider_personalize.uris import S3Uri, parse_s3_uri

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage


def folder(uri: str, *, parameter: str = "s3_uri") -> S3Uri:
    """Read the URI of a prefix, with or without the ``/`` at its end."""
    return parse_s3_uri(uri if str(uri).endswith("/") else f"{uri}/", parameter=parameter)


class QueryToFilesOperator(ReadArguments, PersonalizeTaskMixin, AwsBaseOperator[S3Hook]):
    """
    Base of what runs a query and writes its rows to files under an S3 prefix.

    :param sql: The query: one ``SELECT``, or the path of a ``.sql`` file. It only reads: its session cannot write,
        as far as the database has such sessions.
    :param sql_conn_id: The Airflow connection of the database, of any kind with a ``DbApiHook``.
    :param s3_uri: The prefix that takes the files, as ``s3://bucket/folder/``; a ``/`` is added at the end where it is
        missing. It has to be this task's own: other objects there are an error, since they would be read too.
    :param parameters: Values for the query's own placeholders, in the driver's style.
    :param hook_params: Further arguments for the database's hook.
    :param kms_key_arn: The KMS key to encrypt the files with; by default as the bucket does.
    :param extra_args: Further arguments of S3's ``CreateMultipartUpload``, as ``{"ACL": "bucket-owner-full-control"}``.
    :param allow_empty: Whether a query without rows skips this task, and so the rest of its branch, and leaves an empty
        prefix. By default it is an error, and what an earlier run has written stays.
    """

    aws_hook_class = S3Hook
    template_fields: Sequence[str] = aws_template_fields(
        "sql", "sql_conn_id", "s3_uri", "parameters", "hook_params", "kms_key_arn", "extra_args"
    )
    template_ext: Sequence[str] = (".sql",)
    template_fields_renderers: ClassVar[dict[str, str]] = {
        "sql": "sql",
        "parameters": "json",
        "hook_params": "json",
        "extra_args": "json",
    }
    argument_readers: ClassVar[Mapping[str, Reader]] = {
        "sql": required(text),
        "sql_conn_id": required(text),
        "s3_uri": required(form(folder)),
        "parameters": mapping_or_list,
        "hook_params": mapping,
        "kms_key_arn": text,
        "extra_args": mapping,
        "allow_empty": flag,
    }
    ui_color = "#d8c5f2"

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
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.sql = sql
        self.sql_conn_id = sql_conn_id
        self.s3_uri = s3_uri
        self.parameters = parameters
        self.hook_params = hook_params
        self.kms_key_arn = kms_key_arn
        self.extra_args = extra_args
        self.allow_empty = allow_empty
        self._written: Amount | None = None
        self.check_literals()

    def get_openlineage_facets_on_start(self) -> OperatorLineage[Any, Any]:
        """Tell OpenLineage, at the start and again at the end, what the query reads and where its rows go."""
        return query_lineage(
            self.sql_conn_id,
            mapping("hook_params", self.hook_params),
            self.sql,
            output_uri=str(folder(self.s3_uri)),
            written=self._written,
        )

    def _files(self, **options: Any) -> MultipartFiles:
        """Open the files under the prefix; the options are those of the files."""
        encryption = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": self.kms_key_arn} if self.kms_key_arn else {}
        return MultipartFiles(
            self.hook.get_conn(),
            folder(self.s3_uri),
            upload_args={**encryption, **(self.extra_args or {})},
            renew=self._renewed_client,
            **options,
        )

    def _refuse_empty(self, files: MultipartFiles, meaning: str) -> None:
        """
        Refuse a query without rows, or skip what follows where that is allowed.

        :param files: The files; those of an earlier run are deleted where the task is skipped.
        :param meaning: What a query without rows means.
        """
        prefix = folder(self.s3_uri)
        if self.allow_empty:
            files.delete_parts()
            raise AirflowSkipException(f"The query has no rows: {meaning}, and {prefix} is empty.")
        raise InvalidRequestError(
            f"sql: expected at least one row, got none: {meaning}. Check the query and its parameters; or set "
            f"allow_empty=True to skip the rest of the branch instead. {prefix} is unchanged."
        )

    def _renewed_client(self) -> Any:
        # A new hook: this one keeps the connection that it has read, and its client.
        return self.aws_hook_class(**self._hook_parameters).get_conn()
