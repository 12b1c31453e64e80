"""The output of a batch job, into a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.amazon.aws.operators.base_aws import AwsBaseOperator
from airflow.providers.amazon.aws.utils.mixins import aws_template_fields

from airflow_provider_personalize.arguments import (
    ReadArguments,
    Reader,
    exactly_one,
    flag,
    form,
    mapping,
    one_of,
    required,
    share,
    text,
)
from airflow_provider_personalize.compat import Context
from airflow_provider_personalize.exceptions import InvalidRequestError
from airflow_provider_personalize.hooks.personalize import PersonalizeHook
from airflow_provider_personalize.lineage import Amount, LoadLineage, load_lineage
from airflow_provider_personalize.links.personalize import JOB_LINKS, persist_job_links
from airflow_provider_personalize.operators.mixins import PersonalizeTaskMixin
from airflow_provider_personalize.output.reader import OutputReader
from airflow_provider_personalize.output.rows import (
    USER_RECOMMENDATIONS,
    USER_SEGMENTS,
    Batch,
    Column,
    RowKind,
    read_column_names,
)
from airflow_provider_personalize.s3.download import read_objects
from airflow_provider_personalize.s3.job_objects import objects_of_job
from airflow_provider_personalize.s3.objects import StoredObject, objects_at
from airflow_provider_personalize.s3.reading import Reading
from airflow_provider_personalize.service.kinds import BATCH_SEGMENT_JOB, State, read_status
from airflow_provider_personalize.service.names import digest, job_kind_of
from airflow_provider_personalize.sql.query import database_hook
from airflow_provider_personalize.targets.plan import WRITE_MODES, Load, check_extra
from airflow_provider_personalize.targets.progress import LoadResult, Progress, Rejects, summary
from airflow_provider_personalize.targets.sql import open_sink
from airflow_provider_personalize.uris import parse_uri

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage


class PersonalizeToSqlOperator(ReadArguments, PersonalizeTaskMixin, AwsBaseOperator[PersonalizeHook]):
    """
    Load the output of a batch inference or batch segment job into a table: all of it or nothing, once.

    One row per result, ``rank`` from 1 in the order of the list. The columns follow from the lines: ``user_id, rank,
    item_id, score`` (user recommendations), ``item_id, rank, related_item_id, score, theme, theme_relevance`` (related
    items) or ``segment, rank, user_id`` (user segments). Scores that are missing, or NaN, are NULL. An entity that
    several lines cover has the rows of all of them.

    A line that gives no rows is set apart and counted. All is decided before anything is published, in one
    transaction: readers of the table see what it held before, or all of the load.

    With ``append``, a table ``personalize_loads`` beside the target notes which job (or, with ``output_uri``, which
    version of which objects) was loaded; a load that is noted is not done again.

    Assets in ``outlets`` get what is returned as their event's ``extra``, with the table's name.

    :param job_arn: The job whose output to load; it has to be ACTIVE. Its input objects tell which output objects are
        its own. Give this one or ``output_uri``.
    :param output_uri: What to load: an S3 object, all ``.out`` and ``.out.gz`` objects under an S3 prefix that ends in
        ``/``, or the same of files as ``file:///…``.
    :param sql_conn_id: The Airflow connection of the database: PostgreSQL, SQLite or any other with a ``DbApiHook``.
    :param table: The table to load into, without its schema.
    :param schema: The table's schema; by default the connection's own.
    :param write_mode: What the table holds after the load: ``replace``: exactly this job's rows; ``replace_slice``:
        these where ``extra_columns`` match, all else untouched; ``merge``: these for every entity (user, item or
        segment) that the job covers, other entities untouched; ``append``: what it held, and these, once.
    :param extra_columns: The same value in every row: ``{"run_date": "{{ ds }}"}``.
    :param column_names: Other names for columns: ``{"user_id": "customer"}``; None leaves a column out.
    :param filter_values_column: A column of text to tell apart the rows of an entity that stands in several lines: the
        line's ``filterValues`` as JSON with sorted keys, NULL where it has none. ``merge`` still goes by the entity.
    :param create_table: Whether to create the table where it is missing.
    :param rejects_table: A table, of the same schema, to keep the lines set apart in; also when the load fails.
    :param max_reject_rate: The share of the lines, 0.0 to 1.0, that may be set apart; with more, the load fails.
    :param hook_params: Further arguments for the database's hook: ``{"local_infile": True}`` lets MySQL's take rows by
        ``LOAD DATA``, which its server has to allow, too.
    :return: ``job_arn``, ``files``, ``lines``, ``rows``, ``rejects``, ``bytes`` and ``seconds``.
    """

    aws_hook_class = PersonalizeHook
    ui_color = "#e6f2ea"
    operator_extra_links = JOB_LINKS
    template_fields: Sequence[str] = aws_template_fields(
        "column_names",
        "extra_columns",
        "filter_values_column",
        "hook_params",
        "job_arn",
        "output_uri",
        "rejects_table",
        "schema",
        "sql_conn_id",
        "table",
        "write_mode",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {
        "column_names": "json",
        "extra_columns": "json",
        "hook_params": "json",
    }
    argument_readers: ClassVar[Mapping[str, Reader]] = {
        "sql_conn_id": required(text),
        "table": required(text),
        "job_arn": form(job_kind_of),
        "output_uri": form(parse_uri),
        "schema": text,
        "write_mode": required(one_of(WRITE_MODES)),
        "extra_columns": mapping,
        "column_names": read_column_names,
        "filter_values_column": text,
        "create_table": flag,
        "rejects_table": text,
        "max_reject_rate": share,
        "hook_params": mapping,
    }

    def __init__(
        self,
        *,
        sql_conn_id: str,
        table: str,
        job_arn: str | None = None,
        output_uri: str | None = None,
        schema: str | None = None,
        write_mode: str = "replace",
        extra_columns: Mapping[str, Any] | None = None,
        column_names: Mapping[str, str | None] | None = None,
        filter_values_column: str | None = None,
        create_table: bool = True,
        rejects_table: str | None = None,
        max_reject_rate: float = 0.0,
        hook_params: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.job_arn = job_arn
        self.output_uri = output_uri
        self.sql_conn_id = sql_conn_id
        self.table = table
        self.schema = schema
        self.write_mode = write_mode
        self.extra_columns = extra_columns
        self.column_names = column_names
        self.filter_values_column = filter_values_column
        self.create_table = create_table
        self.rejects_table = rejects_table
        self.max_reject_rate = max_reject_rate
        self.hook_params = hook_params
        self._s3: Any = None
        self._loaded = LoadLineage()
        self.check_literals()

    def execute(self, context: Context) -> dict[str, Any]:
        """Load the output."""
        self.read_arguments()
        database = database_hook(self.sql_conn_id, self.hook_params)
        kind, objects = self._output(context)
        size = sum(item.size for item in objects)
        self.log.info("Loading %s object(s), %.1f MB, into %s.", len(objects), size / 1e6, self.table)
        with Rejects(keep=bool(self.rejects_table)) as rejects, Reading() as reading:
            reader = OutputReader(kind, on_reject=rejects.add)
            progress = Progress(self.log, reader, len(objects), size)
            batches = self._batches(reader, objects, progress, reading)
            # The first good line tells the kind, and so the columns. What comes before it has no rows.
            first = [next((batch for batch in batches if reader.kind), Batch())]
            load = self._load(reader.kind or USER_RECOMMENDATIONS, objects)
            result = LoadResult(reader, rejects, self.max_reject_rate, self.rejects_table)
            sink = open_sink(database, load)
            self._loaded.table = sink.target
            before = sink.publish(chain(first, batches), result)
            self._loaded.columns = {name: column.type for name, column in sink.existing.items()}
            if before is not None:
                self.log.info("%s was appended to %s before: nothing to do.", load.source, self.table)
            else:
                self.log.info("Published. %s", progress)
                self._loaded.read = Amount(result.lines, size, len(objects))
                self._loaded.written = Amount(result.rows)
            counts = before or (result.lines, result.rows, result.rejects)
            done = summary(self.job_arn, len(objects), size, progress.seconds, counts)
            for outlet in self.outlets:
                context["outlet_events"][outlet].extra.update(done, table=self.table)
            return done

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> OperatorLineage[Any, Any]:
        """Tell OpenLineage what was loaded, and into which table."""
        return load_lineage(self.sql_conn_id, self._loaded, self.hook_params)

    def conflicts(self, known: Mapping[str, Any]) -> Iterator[str]:
        """Say what of the arguments does not go together."""
        yield from exactly_one(known, "job_arn", "output_uri")
        if known.get("write_mode") == "replace_slice" and "extra_columns" in known and not known["extra_columns"]:
            yield "write_mode='replace_slice' replaces where extra_columns match: expected extra_columns, got none."

    def _s3_client(self) -> Any:
        # Making one takes longer than loading 100,000 rows.
        self._s3 = self._s3 or self.hook.s3_client()
        return self._s3

    def _output(self, context: Context) -> tuple[RowKind | None, list[StoredObject]]:
        if self.output_uri:
            self._loaded.source_uri = self.output_uri
            return None, objects_at(self._s3_client, self.output_uri)
        job_arn = str(self.job_arn)
        job_kind = job_kind_of(job_arn)
        description = self.hook.describe_job(job_arn)
        self._loaded.source_uri = description["jobOutput"]["s3DataDestination"]["path"]
        status = read_status(job_kind, description)
        persist_job_links(context, self, replace(status, arn=job_arn))
        status.raise_if_failed()
        if status.state is not State.SUCCEEDED:
            raise InvalidRequestError(
                f"job_arn: expected a job that is ACTIVE, got one that is {status.status}. Wait for it with a sensor, "
                f"or with the create operator's deferrable or wait_for_completion. {job_arn}",
                may_pass=True,
            )
        rows = USER_SEGMENTS if job_kind is BATCH_SEGMENT_JOB else None
        return rows, objects_of_job(self._s3_client(), description)

    def _batches(
        self, reader: OutputReader, objects: list[StoredObject], progress: Progress, reading: Reading
    ) -> Iterator[Batch]:
        for uri, blocks in read_objects(self._s3_client, objects, reading):
            yield from reader.read(uri, progress.count(blocks))

    def _load(self, kind: RowKind, objects: list[StoredObject]) -> Load:
        names = {column.name: column.name for column in kind.columns} | dict(self.column_names or {})
        columns = tuple(
            Column(str(names[column.name]), column.type, column.field)
            for column in kind.columns
            if names[column.name] is not None
        )
        if self.filter_values_column:
            columns += (Column(self.filter_values_column, "text", "filter_values"),)
        extra = dict(self.extra_columns or {})
        check_extra(extra)
        all_names = [*(column.name for column in columns), *extra]
        if len(set(all_names)) < len(all_names) or not columns:
            raise InvalidRequestError(
                f"Expected one or more columns, each name once, from column_names, extra_columns and "
                f"filter_values_column, got {all_names}."
            )
        if self.write_mode == "merge" and not any(column.field == "entity" for column in columns):
            raise InvalidRequestError(
                f"write_mode='merge' needs the column {kind.columns[0].name}: do not leave it out in column_names."
            )
        return Load(
            table=self.table,
            schema=self.schema,
            columns=columns,
            extra=extra,
            write_mode=self.write_mode,
            source=self.job_arn or self._version(objects),
            create_table=self.create_table,
            rejects_table=self.rejects_table,
        )

    def _version(self, objects: list[StoredObject]) -> str:
        """Tell this version of output that was named by its URI from any other, where that matters."""
        if self.write_mode != "append" and not self.rejects_table:
            return str(self.output_uri)
        return f"{self.output_uri}#{digest([[item.uri, item.version()] for item in objects], 16)}"
