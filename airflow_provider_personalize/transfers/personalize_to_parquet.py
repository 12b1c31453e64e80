"""The output of a batch job, into Parquet files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.amazon.aws.operators.base_aws import AwsBaseOperator
from airflow.providers.amazon.aws.utils.mixins import aws_template_fields

from airflow_provider_personalize.arguments import (
    ReadArguments,
    Reader,
    exactly_one,
    form,
    mapping,
    required,
    share,
    text,
    whole_number,
)
from airflow_provider_personalize.compat import Context
from airflow_provider_personalize.hooks.personalize import PersonalizeHook
from airflow_provider_personalize.lineage import Amount, LoadLineage, files_lineage
from airflow_provider_personalize.links.personalize import JOB_LINKS
from airflow_provider_personalize.operators.job_output import JobOutputMixin
from airflow_provider_personalize.operators.mixins import PersonalizeTaskMixin
from airflow_provider_personalize.output.rows import read_column_names
from airflow_provider_personalize.s3.objects import part_of
from airflow_provider_personalize.service.names import job_kind_of
from airflow_provider_personalize.targets.loader import Loader
from airflow_provider_personalize.targets.parquet_parts import ParquetPart, ParquetTarget, PartName
from airflow_provider_personalize.targets.plan import LoadPlan, column_of
from airflow_provider_personalize.uris import FileUri, S3Uri, parse_uri

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage


def folder(value: str, *, parameter: str = "target_uri") -> S3Uri | FileUri:
    """Read the URI of a folder, with or without the ``/`` at its end."""
    return parse_uri(value if str(value).endswith("/") else f"{value}/", parameter=parameter)


class PersonalizeToParquetOperator(
    ReadArguments, PersonalizeTaskMixin, JobOutputMixin, AwsBaseOperator[PersonalizeHook]
):
    """
    Write the output of a batch inference or batch segment job as Parquet files.

    The rows and columns are those of :class:`PersonalizeToSqlOperator`, ``rank`` an int32, scores doubles, and
    ``extra_columns`` of their values' types; compressed by zstd. The files appear together when all are complete, under
    names that follow from the job and the part: a retry writes the same files, and nothing else under ``target_uri``
    is touched. So give each run a folder of its own, or publish by :class:`PersonalizeToIcebergOperator`.

    Rejected lines go to a file in the folder ``_rejects/`` there, also when the task fails.

    Several tasks can share the work: each takes ``part`` i of ``parts``, as
    ``.partial(parts=4, …).expand(part=[0, 1, 2, 3])``. The task that publishes them judges the rejects of all together.

    It needs the extra ``parquet``.

    :param job_arn: The job whose output to write; it has to be ACTIVE. Give this one or ``output_uri``.
    :param output_uri: What to write: an S3 object, all ``.out`` and ``.out.gz`` objects under an S3 prefix that ends in
        ``/``, or the same of files as ``file:///…``.
    :param target_uri: The folder that takes the files, as ``s3://bucket/folder/`` or ``file:///folder/``.
    :param extra_columns: The same value in every row: ``{"run_date": "{{ ds }}"}``.
    :param column_names: Other names for columns: ``{"user_id": "customer"}``; None leaves a column out.
    :param filter_values_column: A column of text to tell apart the rows of an entity that stands in several lines: the
        line's ``filterValues`` as JSON with sorted keys, null where it has none.
    :param max_reject_rate: The share of the lines, 0.0 to 1.0, that may be rejected; with more, the task fails, and
        writes no data. Of one part among several the rejects are only counted.
    :param part: Which part of the output objects to take, from 0; they are shared by size.
    :param parts: How many parts there are.
    :return: ``target_uri``, ``data_files`` (their URIs), ``job_arn``, ``files``, ``lines``, ``rows``, ``rejects``,
        ``bytes``, ``seconds``, and what the task that publishes needs.
    """

    aws_hook_class = PersonalizeHook
    ui_color = "#e6f2ea"
    operator_extra_links = JOB_LINKS
    template_fields: Sequence[str] = aws_template_fields(
        "column_names",
        "extra_columns",
        "filter_values_column",
        "job_arn",
        "output_uri",
        "part",
        "parts",
        "target_uri",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"column_names": "json", "extra_columns": "json"}
    argument_readers: ClassVar[Mapping[str, Reader]] = {
        "target_uri": required(form(folder)),
        "job_arn": form(job_kind_of),
        "output_uri": form(parse_uri),
        "extra_columns": mapping,
        "column_names": read_column_names,
        "filter_values_column": text,
        "max_reject_rate": share,
        "part": required(whole_number(0)),
        "parts": required(whole_number(1)),
    }

    def __init__(
        self,
        *,
        target_uri: str,
        job_arn: str | None = None,
        output_uri: str | None = None,
        extra_columns: Mapping[str, Any] | None = None,
        column_names: Mapping[str, str | None] | None = None,
        filter_values_column: str | None = None,
        max_reject_rate: float = 0.0,
        part: int = 0,
        parts: int = 1,
        aws_conn_id: str | None = "aws_default",
        region_name: str | None = None,
        verify: bool | str | None = None,
        botocore_config: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        connection: dict[str, Any] = {"aws_conn_id": aws_conn_id, "region_name": region_name, "verify": verify}
        super().__init__(**connection, botocore_config=botocore_config, **kwargs)
        self.target_uri = target_uri
        self.job_arn = job_arn
        self.output_uri = output_uri
        self.extra_columns = extra_columns
        self.column_names = column_names
        self.filter_values_column = filter_values_column
        self.max_reject_rate = max_reject_rate
        self.part = part
        self.parts = parts
        self.loaded = LoadLineage()
        self.check_literals()

    def execute(self, context: Context) -> dict[str, Any]:
        """Write the files."""
        self.read_arguments()
        place = folder(self.target_uri)
        output = self.job_output(context)
        objects = part_of(output.objects, self.part, self.parts)
        size = sum(item.size for item in objects)
        self.log.info("Writing %s object(s), %.1f MB, as Parquet to %s.", len(objects), size / 1e6, place)
        plan = LoadPlan(
            source=output.version(),
            extra=dict(self.extra_columns or {}),
            column_names=self.column_names or {},
            filter_values_column=self.filter_values_column,
            # The rejects of several parts are judged together, by the task that publishes them.
            max_reject_rate=self.max_reject_rate if self.parts == 1 else 1.0,
        )
        target = ParquetTarget(plan, place, PartName(plan.source, objects, self.part, self.parts), self._s3_for_writing)
        with Loader(objects, self.s3_client, log=self.log, kind=output.kind, keep_rejects=True) as loader:
            columns = plan.columns(loader.kind())
            with target:
                counts = loader.load(target, columns).counts
            kind, seconds = loader.known_kind, loader.progress.seconds
            self.log.info("Wrote %s file(s). %s", len(target.data_files), loader.progress)
        self.loaded.columns = target.types
        self.loaded.read, self.loaded.written = Amount(counts.lines, size, len(objects)), Amount(counts.rows)
        entity = column_of(columns, "entity")
        part = ParquetPart(
            source=plan.source,
            part=self.part,
            parts=self.parts,
            kind=kind.name if kind else None,
            columns=target.types,
            extra_columns=target.extra,
            entity=entity.name if entity else None,
            counts=counts,
            data_files=target.data_files,
            rejects_file=target.rejects_file,
            without_rows_file=target.without_rows_file,
        )
        done = {
            "job_arn": self.job_arn,
            "target_uri": str(place),
            "files": len(objects),
            "bytes": size,
            "seconds": round(seconds, 3),
            **part.as_dict(),
        }
        for outlet in self.outlets:
            context["outlet_events"][outlet].extra.update(done)
        return done

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> OperatorLineage[Any, Any]:
        """Return what was written, and where, for OpenLineage."""
        return files_lineage(self.loaded, self.target_uri)

    def conflicts(self, known: Mapping[str, Any]) -> Iterator[str]:
        """Yield an error for each combination of arguments that cannot be right."""
        yield from exactly_one(known, "job_arn", "output_uri")
        if known.keys() >= {"part", "parts"} and known["part"] >= known["parts"]:
            yield f"part: expected a number from 0 to parts - 1, got {known['part']} with parts={known['parts']}."

    def _s3_for_writing(self) -> Any:
        # A new hook: this one keeps the credentials that it has read.
        return self.aws_hook_class(**self._hook_parameters).s3_client()
