"""Parquet files that tasks have written, into an Iceberg table."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.amazon.aws.operators.base_aws import AwsBaseOperator
from airflow.providers.amazon.aws.utils.mixins import aws_template_fields

from airflow_provider_personalize.arguments import (
    ReadArguments,
    Reader,
    mapping,
    mapping_or_list,
    one_of,
    required,
    share,
    text,
)
from airflow_provider_personalize.compat import BaseHook, Context
from airflow_provider_personalize.exceptions import InvalidRequestError
from airflow_provider_personalize.hooks.personalize import PersonalizeHook
from airflow_provider_personalize.lineage import Amount, LoadLineage, files_lineage
from airflow_provider_personalize.operators.mixins import PersonalizeTaskMixin
from airflow_provider_personalize.targets.counts import LoadCounts, settle
from airflow_provider_personalize.targets.extras import need
from airflow_provider_personalize.targets.iceberg import IcebergLoad, reject_examples
from airflow_provider_personalize.targets.parquet_parts import ParquetPart, all_parts, extra_texts
from airflow_provider_personalize.targets.plan import WRITE_MODES, WriteMode

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage
    from pyiceberg.catalog import Catalog


class PersonalizeToIcebergOperator(ReadArguments, PersonalizeTaskMixin, AwsBaseOperator[PersonalizeHook]):
    """
    Publish the Parquet files of :class:`PersonalizeToParquetOperator` tasks in an Iceberg table, by one commit.

    Readers see the table before the load or after it. The files stay where they are: from then on they are the table's.
    Whether there are too many rejects is decided over all parts, before anything is published; so is whether a part is
    missing, or belongs to something else.

    A retry commits nothing again. Where somebody else commits meanwhile, what is to be done is worked out again.

    It needs the extra ``iceberg``.

    :param loads: What one task has returned, or what all mapped tasks have: ``export.output``.
    :param iceberg_conn_id: The Airflow connection of the catalog, of the type ``iceberg``. Its extra holds what
        pyiceberg takes, as ``{"type": "glue", "warehouse": "s3://my-lake/"}``.
    :param table: The table with its namespace: ``lake.recommendations``. Where it is missing, it is created,
        partitioned by ``extra_columns``; so is the namespace.
    :param write_mode: What the table holds after the load. ``replace``: exactly this job's rows. ``replace_slice``:
        this job's rows where ``extra_columns`` match, all others untouched. ``merge``: this job's rows for every
        entity (user, item or segment) that it covers, other entities untouched. ``append``: what it held, and this
        job's rows, once.
    :param extra_columns: Those of the tasks that wrote the files; by default, whatever they were given.
    :param max_reject_rate: The share of the lines of all parts, 0.0 to 1.0, that may be rejected; with more, nothing is
        published.
    :param aws_conn_id: The AWS connection whose credentials Glue and S3 get where the catalog's connection has none.
    :return: ``table``, ``snapshot_id``, ``data_files`` (how many), ``lines``, ``rows``, ``rejects``.
    """

    aws_hook_class = PersonalizeHook
    ui_color = "#e6f2ea"
    template_fields: Sequence[str] = aws_template_fields(
        "extra_columns", "iceberg_conn_id", "loads", "table", "write_mode"
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"extra_columns": "json", "loads": "json"}
    argument_readers: ClassVar[Mapping[str, Reader]] = {
        "loads": required(mapping_or_list),
        "iceberg_conn_id": required(text),
        "table": required(text),
        "write_mode": required(one_of(WRITE_MODES)),
        "extra_columns": mapping,
        "max_reject_rate": share,
    }

    def __init__(
        self,
        *,
        loads: Any,
        iceberg_conn_id: str,
        table: str,
        write_mode: WriteMode = "replace",
        extra_columns: Mapping[str, Any] | None = None,
        max_reject_rate: float = 0.0,
        aws_conn_id: str | None = "aws_default",
        region_name: str | None = None,
        verify: bool | str | None = None,
        botocore_config: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        connection: dict[str, Any] = {"aws_conn_id": aws_conn_id, "region_name": region_name, "verify": verify}
        super().__init__(**connection, botocore_config=botocore_config, **kwargs)
        self.loads = loads
        self.table = table
        self.iceberg_conn_id = iceberg_conn_id
        self.write_mode = write_mode
        self.extra_columns = extra_columns
        self.max_reject_rate = max_reject_rate
        self.loaded = LoadLineage()
        self.check_literals()

    def execute(self, context: Context) -> dict[str, Any]:
        """Publish the files."""
        self.read_arguments()
        need("iceberg", "pyarrow.parquet", "pyiceberg", "airflow.providers.apache.iceberg.hooks.iceberg")
        catalog = self._catalog()
        values = [self.loads] if isinstance(self.loads, Mapping) else list(self.loads)
        parts = all_parts(values)
        self._check_extra(parts[0])
        counts = LoadCounts.total(part.counts for part in parts)
        settle(
            counts,
            self.max_reject_rate,
            examples=reject_examples(catalog, parts),
            kept_in=", ".join(part.rejects_file for part in parts if part.rejects_file),
        )
        files = sum(len(part.data_files) for part in parts)
        self.log.info("Publishing %s part(s), %s file(s), %s rows, in %s.", len(parts), files, counts.rows, self.table)
        published = IcebergLoad(catalog, self.table, parts, self.write_mode, self.log).publish()
        if published.is_new:
            self.log.info("Published, as the snapshot %s.", published.snapshot_id)
        else:
            self.log.info("%s holds this load already: nothing to do.", self.table)
        self.loaded.source_uri, self.loaded.table = str(values[0].get("target_uri") or "") or None, published.location
        self.loaded.columns = dict(parts[0].columns)
        self.loaded.read, self.loaded.written = Amount(counts.rows, None, files), Amount(counts.rows)
        done = {
            "table": self.table,
            "snapshot_id": published.snapshot_id,
            "data_files": files,
            **counts._asdict(),
        }
        for outlet in self.outlets:
            context["outlet_events"][outlet].extra.update(done)
        return done

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> OperatorLineage[Any, Any]:
        """Return which files were published, and where the table lies, for OpenLineage."""
        return files_lineage(self.loaded, self.loaded.table)

    def conflicts(self, known: Mapping[str, Any]) -> Iterator[str]:
        """Yield an error for each combination of arguments that cannot be right."""
        if "." not in str(known.get("table", ".")):
            yield f"table: expected a table with its namespace, as 'lake.recommendations', got {known['table']!r}."

    def _check_extra(self, part: ParquetPart) -> None:
        given = extra_texts(self.extra_columns or {})
        if self.extra_columns is not None and given != part.extra_columns:
            raise InvalidRequestError(
                f"extra_columns: expected those of the tasks that wrote the files, {dict(part.extra_columns)}, got "
                f"{given}. Leave extra_columns out here, or give both the same."
            )

    def _catalog(self) -> Catalog:
        from airflow.providers.apache.iceberg.hooks.iceberg import IcebergHook

        defaults = self._aws_properties
        own = BaseHook.get_connection(self.iceberg_conn_id).extra_dejson

        class Hook(IcebergHook):
            @classmethod
            def get_connection(cls, conn_id: str) -> Any:
                connection = super().get_connection(conn_id)
                connection.extra = json.dumps({**defaults(own), **own})
                return connection

        catalog: Catalog = Hook(self.iceberg_conn_id).catalog
        return catalog

    def _aws_properties(self, own: Mapping[str, Any]) -> dict[str, str]:
        """Return the AWS connection's credentials as pyiceberg calls them, where the catalog's has none."""
        on_aws = own.get("type") == "glue" or str(own.get("warehouse", "")).startswith("s3://")
        if not on_aws or not self.aws_conn_id or any("access-key" in name or "profile" in name for name in own):
            return {}
        session = self.hook.get_session()
        credentials = session.get_credentials()
        if credentials is None:
            return {}
        frozen = credentials.get_frozen_credentials()
        found = {
            "client.access-key-id": frozen.access_key,
            "client.secret-access-key": frozen.secret_key,
            "client.session-token": frozen.token,
            "client.region": self.region_name or session.region_name,
        }
        return {name: value for name, value in found.items() if value}
