"""The output of a batch job, into a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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
    mapping_or_list,
    one_of,
    required,
    share,
    text,
    whole_number,
)
from airflow_provider_personalize.compat import Context
from airflow_provider_personalize.exceptions import InvalidRequestError
from airflow_provider_personalize.hooks.personalize import PersonalizeHook
from airflow_provider_personalize.lineage import Amount, LoadLineage, load_lineage
from airflow_provider_personalize.links.personalize import JOB_LINKS
from airflow_provider_personalize.operators.job_output import JobOutput, JobOutputMixin
from airflow_provider_personalize.operators.mixins import PersonalizeTaskMixin
from airflow_provider_personalize.output.rows import USER_RECOMMENDATIONS, read_column_names
from airflow_provider_personalize.s3.objects import part_of
from airflow_provider_personalize.service.names import job_kind_of
from airflow_provider_personalize.sql.query import database_hook
from airflow_provider_personalize.targets.counts import LoadCounts
from airflow_provider_personalize.targets.loader import Loader, publish_parts
from airflow_provider_personalize.targets.parts import LoadPart, all_parts
from airflow_provider_personalize.targets.plan import WRITE_MODES, LoadPlan, WriteMode
from airflow_provider_personalize.targets.sql import open_parts, open_target, staging_at, warn_of
from airflow_provider_personalize.uris import parse_s3_uri, parse_uri

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage

    from airflow_provider_personalize.targets.sql.pgparts import PostgresParts


class PersonalizeToSqlOperator(ReadArguments, JobOutputMixin, PersonalizeTaskMixin, AwsBaseOperator[PersonalizeHook]):
    """
    Load the output of a batch inference or batch segment job into a table: all of it or nothing, once.

    One row per result, ``rank`` from 1 in the order of the list. The columns follow from the lines: ``user_id, rank,
    item_id, score`` (user recommendations), ``item_id, rank, related_item_id, score, theme, theme_relevance`` (related
    items) or ``segment, rank, user_id`` (user segments). Scores that are missing, or NaN, are NULL. An entity that
    several lines cover has the rows of all of them.

    A line that is not a result is rejected: counted, and kept in ``rejects_table``. Whether there are too many is
    decided before anything is published, in one transaction: readers of the table see what it held before, or all of
    the load.

    With ``append``, a table ``personalize_loads`` beside the target notes which job (or, with ``output_uri``, which
    version of which objects) was loaded, and the same load is not done again.

    Assets in ``outlets`` get what is returned as their event's ``extra``, with the table's name.

    :param job_arn: The job whose output to load; it has to be ACTIVE. Its input objects tell which output objects are
        its own. Give this one or ``output_uri``.
    :param output_uri: What to load: an S3 object, all ``.out`` and ``.out.gz`` objects under an S3 prefix that ends in
        ``/``, or the same of files as ``file:///…``.
    :param sql_conn_id: The Airflow connection of the database: PostgreSQL, SQLite or any other with a ``DbApiHook``.
    :param table: The table to load into, without its schema.
    :param schema: The table's schema; by default the connection's own.
    :param write_mode: What the table holds after the load. ``replace``: exactly this job's rows. ``replace_slice``:
        this job's rows where ``extra_columns`` match, all others untouched. ``merge``: this job's rows for every
        entity (user, item or segment) that it covers, other entities untouched. ``append``: what it held, and this
        job's rows, once.
    :param extra_columns: The same value in every row: ``{"run_date": "{{ ds }}"}``.
    :param column_names: Other names for columns: ``{"user_id": "customer"}``; None leaves a column out.
    :param filter_values_column: A column of text to tell apart the rows of an entity that stands in several lines: the
        line's ``filterValues`` as JSON with sorted keys, NULL where it has none. ``merge`` still goes by the entity.
    :param create_table: Whether to create the table where it is missing.
    :param rejects_table: A table of the same schema that keeps the rejected lines, also when the load fails.
    :param max_reject_rate: The share of the lines, 0.0 to 1.0, that may be rejected; with more, the load fails.
    :param hook_params: Further arguments for the database's hook: ``{"local_infile": True}`` lets MySQL's take rows by
        ``LOAD DATA``, which its server has to allow, too.
    :param part: Which part of the output objects to stage, from 0; they are shared by size. It is for PostgreSQL only,
        and for a slice that is new in a table partitioned by LIST. Readers see it once a task with ``loads`` has
        published all parts.
    :param parts: How many parts there are.
    :param loads: Instead of a job: what the tasks of all parts have returned, ``load.output``, to publish it. Table,
        columns and slice are given as to them, and the rejects of all parts are judged together.
    :param staging_uri: For Redshift and Snowflake: a prefix on S3, where rows lie as Parquet until the warehouse has
        copied them. One load at a time has it, so name it after DAG and task.
    :param staging_role: What lets the warehouse read ``staging_uri``: the ARN of an IAM role, or ``default``
        (Redshift); a storage integration (Snowflake). By default, it gets the credentials of the AWS connection.
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
        "loads",
        "output_uri",
        "part",
        "parts",
        "rejects_table",
        "schema",
        "sql_conn_id",
        "staging_role",
        "staging_uri",
        "table",
        "write_mode",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {
        "column_names": "json",
        "extra_columns": "json",
        "hook_params": "json",
        "loads": "json",
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
        "part": required(whole_number(0)),
        "parts": required(whole_number(1)),
        "loads": mapping_or_list,
        "staging_uri": form(parse_s3_uri),
        "staging_role": text,
    }

    def __init__(
        self,
        *,
        sql_conn_id: str,
        table: str,
        job_arn: str | None = None,
        output_uri: str | None = None,
        schema: str | None = None,
        write_mode: WriteMode = "replace",
        extra_columns: Mapping[str, Any] | None = None,
        column_names: Mapping[str, str | None] | None = None,
        filter_values_column: str | None = None,
        create_table: bool = True,
        rejects_table: str | None = None,
        max_reject_rate: float = 0.0,
        hook_params: dict[str, Any] | None = None,
        part: int = 0,
        parts: int = 1,
        loads: Any = None,
        staging_uri: str | None = None,
        staging_role: str | None = None,
        aws_conn_id: str | None = "aws_default",
        region_name: str | None = None,
        verify: bool | str | None = None,
        botocore_config: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        connection: dict[str, Any] = {"aws_conn_id": aws_conn_id, "region_name": region_name, "verify": verify}
        super().__init__(**connection, botocore_config=botocore_config, **kwargs)
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
        self.part = part
        self.parts = parts
        self.loads = loads
        self.staging_uri = staging_uri
        self.staging_role = staging_role
        self.loaded = LoadLineage()
        self.check_literals()

    def execute(self, context: Context) -> dict[str, Any]:
        """Load the output."""
        self.read_arguments()
        if self.loads is not None:
            return self._publish(context)
        return self._stage(context) if self.parts > 1 else self._load(context)

    def _load(self, context: Context) -> dict[str, Any]:
        """Load everything in this task."""
        database = database_hook(self.sql_conn_id, self.hook_params)
        warn_of(database, self.log)
        output = self.job_output(context)
        objects, size = output.objects, output.size
        self.log.info("Loading %s object(s), %.1f MB, into %s.", len(objects), size / 1e6, self.table)
        plan = self._plan(output)
        with Loader(
            objects, self.s3_client, log=self.log, kind=output.kind, keep_rejects=bool(self.rejects_table)
        ) as loader:
            columns = plan.columns(loader.kind())
            target = open_target(
                database,
                plan,
                self.table,
                schema=self.schema,
                create_table=self.create_table,
                rejects_table=self.rejects_table,
                staging=staging_at(self.staging_uri, self.staging_role, self.hook.s3_client, self.hook.get_credentials),
            )
            self.loaded.table = target.table.quoted
            with target:
                result = loader.load(target, columns)
                self.loaded.columns = {name: column.type for name, column in target.table.existing.items()}
            counts, seconds = result.counts, loader.progress.seconds
            if result.is_new:
                self.log.info("Published. %s", loader.progress)
                self.loaded.read = Amount(counts.lines, size, len(objects))
                self.loaded.written = Amount(counts.rows)
            else:
                self.log.info("%s was appended to %s before: nothing to do.", plan.source, self.table)
        return self._announced(context, self.job_arn, len(objects), counts, size, seconds)

    def _stage(self, context: Context) -> dict[str, Any]:
        """Load one part, for the task that publishes all of them."""
        output = self.job_output(context)
        objects = part_of(output.objects, self.part, self.parts)
        size = sum(item.size for item in objects)
        self.log.info("Staging part %s of %s: %s object(s), %.1f MB.", self.part, self.parts, len(objects), size / 1e6)
        plan = self._plan(output)
        with Loader(
            objects, self.s3_client, log=self.log, kind=output.kind, keep_rejects=bool(self.rejects_table)
        ) as loader:
            found = plan.columns(loader.kind())
            kind = loader.known_kind
            columns = found if kind else ()
            with self._open_parts(plan, objects=[item.uri for item in objects]) as target:
                counts = loader.stage(target, columns, self.part)
            self.log.info("Staged, to be published. %s", loader.progress)
            self.loaded.read, self.loaded.written = Amount(counts.lines, size, len(objects)), Amount(counts.rows)
            return LoadPart(
                source=plan.source,
                part=self.part,
                parts=self.parts,
                staged=target.staged_as,
                kind=kind.name if kind else None,
                columns=[column.name for column in columns],
                counts=counts,
                files=len(objects),
                bytes=size,
                seconds=round(loader.progress.seconds, 3),
                job_arn=self.job_arn,
            ).as_dict()

    def _publish(self, context: Context) -> dict[str, Any]:
        """Publish what the tasks of the parts have staged."""
        parts = all_parts(self.loads)
        kind = next((part.row_kind for part in parts if part.row_kind), USER_RECOMMENDATIONS)
        plan = self._plan_of(parts[0].source)
        columns = plan.columns(kind)
        names = [column.name for column in columns]
        if any(part.kind and list(part.columns) != names for part in parts):
            raise InvalidRequestError(
                f"column_names: expected the columns of the parts, {', '.join(parts[0].columns)}, got "
                f"{', '.join(names)}. Give this task the same column_names and filter_values_column."
            )
        with self._open_parts(plan, parts=[part.counts for part in parts]) as target:
            if target.staged_as != parts[0].staged:
                raise InvalidRequestError(
                    f"extra_columns: expected the slice of the table {self.table} that the parts were staged for, in "
                    f"{parts[0].staged}, got another one. Give this task the same table, schema and extra_columns."
                )
            result = publish_parts(target, columns, [part.counts for part in parts])
            self.loaded.columns = {name: column.type for name, column in target.table.existing.items()}
        self.log.info("%s: %s rows.", "Published" if result.is_new else "Published before", f"{result.counts.rows:,}")
        self.loaded.written = Amount(result.counts.rows)
        files, size, seconds = map(sum, zip(*((part.files, part.bytes, part.seconds) for part in parts), strict=True))
        return self._announced(context, parts[0].job_arn, files, result.counts, size, seconds)

    def _open_parts(self, plan: LoadPlan, **options: Any) -> PostgresParts:
        target = open_parts(
            database_hook(self.sql_conn_id, self.hook_params),
            plan,
            self.table,
            schema=self.schema,
            create_table=self.create_table,
            rejects_table=self.rejects_table,
            **options,
        )
        self.loaded.table = target.table.quoted
        return target

    def _announced(
        self, context: Context, job_arn: str | None, files: int, counts: LoadCounts, size: int, seconds: float
    ) -> dict[str, Any]:
        done = {"job_arn": job_arn, "files": files, **counts._asdict(), "bytes": size, "seconds": round(seconds, 3)}
        for outlet in self.outlets:
            context["outlet_events"][outlet].extra.update(done, table=self.table)
        return done

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> OperatorLineage[Any, Any]:
        """Return what was loaded, and into which table, for OpenLineage."""
        return load_lineage(self.sql_conn_id, self.loaded, self.hook_params)

    def conflicts(self, known: Mapping[str, Any]) -> Iterator[str]:
        """Yield an error for each combination of arguments that cannot be right."""
        if "loads" in known and known["loads"] is None:
            yield from exactly_one(known, "job_arn", "output_uri")
        elif known.get("loads") is not None and (known.get("job_arn") or known.get("output_uri")):
            yield "loads: it publishes what was staged before: expected it without job_arn and output_uri, got both."
        in_parts = known.get("loads") is not None or known.get("parts", 1) > 1
        if in_parts and known.get("write_mode", "replace_slice") != "replace_slice":
            yield (
                "parts: expected write_mode='replace_slice', since the parts become a new partition of the table, got "
                f"{known['write_mode']!r}."
            )
        if known.keys() >= {"part", "parts"} and known["part"] >= known["parts"]:
            yield f"part: expected a number from 0 to parts - 1, got {known['part']} with parts={known['parts']}."
        if known.get("write_mode") == "replace_slice" and "extra_columns" in known and not known["extra_columns"]:
            yield "write_mode='replace_slice' replaces where extra_columns match: expected extra_columns, got none."

    def _plan(self, output: JobOutput) -> LoadPlan:
        # Which version of the objects it is takes reading files, and matters to these only.
        is_noted = self.write_mode == "append" or self.rejects_table or self.parts > 1
        return self._plan_of(output.version() if output.job_arn or is_noted else output.uri)

    def _plan_of(self, source: str) -> LoadPlan:
        return LoadPlan(
            source=source,
            write_mode=self.write_mode,
            extra=dict(self.extra_columns or {}),
            column_names=self.column_names or {},
            filter_values_column=self.filter_values_column,
            max_reject_rate=self.max_reject_rate,
        )
