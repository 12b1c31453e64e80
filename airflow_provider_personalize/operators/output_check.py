"""The operator that checks whether loaded output is good enough to use."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any, ClassVar

from airflow.providers.amazon.aws.operators.base_aws import AwsBaseOperator
from airflow.providers.amazon.aws.utils.mixins import aws_template_fields

from airflow_provider_personalize.arguments import (
    ReadArguments,
    Reader,
    is_settled,
    mapping,
    mapping_or_list,
    required,
    text,
)
from airflow_provider_personalize.compat import Context
from airflow_provider_personalize.exceptions import OutputCheckError
from airflow_provider_personalize.hooks.personalize import PersonalizeHook
from airflow_provider_personalize.links.reports import PersonalizeReportLink
from airflow_provider_personalize.metrics import send_figures
from airflow_provider_personalize.operators.mixins import PersonalizeTaskMixin
from airflow_provider_personalize.operators.reports import beside_output, note_report, origin_of, write_report
from airflow_provider_personalize.output.rows import USER_SEGMENTS, read_column_names
from airflow_provider_personalize.quality.details import what_is_missing
from airflow_provider_personalize.quality.figures import OutputTable
from airflow_provider_personalize.quality.history import History, read_history
from airflow_provider_personalize.quality.loads import Loads, add_up, read_loaded
from airflow_provider_personalize.quality.queries import Query
from airflow_provider_personalize.quality.report import Origin, parse_report_uri, render_report
from airflow_provider_personalize.quality.slices import Overlap, Slice
from airflow_provider_personalize.quality.thresholds import NOT_KNOWN, Outcome, not_known, outcomes, read_checks
from airflow_provider_personalize.sql.opening import open_table
from airflow_provider_personalize.sql.query import database_hook


class PersonalizeOutputCheckOperator(ReadArguments, PersonalizeTaskMixin, AwsBaseOperator[PersonalizeHook]):
    """
    Check what was loaded before it is used: compare it with the input, the catalog and the slice before.

    The database computes these figures, in one snapshot; shares are between 0 and 1. An entity is the user, item or
    segment that results are for; an item is one result.

    - ``rows``: the number of results;
    - ``entities``: the number of entities that have results;
    - ``items``: the number of different items among the results;
    - ``min_results``, ``mean_results``, ``max_results``: the number of results that an entity has;
    - ``top_item_share``: the share of the entities that have the most frequent item;
    - ``entity_coverage``: the share of the entities of ``input_sql`` that have results;
    - ``catalog_coverage``: the share of the items of ``catalog_sql`` that are among the results;
    - ``reject_rate``: the share of the output's lines that the load has rejected, from ``loaded``;
    - ``overlap``: the share of an entity's results that are in the slice before, too, averaged over the entities
      that both slices have.

    It runs on PostgreSQL, MySQL and MariaDB, SQLite, DuckDB, and any other database that knows ``LIMIT``.

    :param sql_conn_id: The Airflow connection of the database.
    :param table: The table that was loaded, without its schema.
    :param schema: The table's schema; by default the connection's own.
    :param extra_columns: The slice to look at, as the loader takes it: ``{"run_date": "{{ ds }}"}``; by default, all
        rows.
    :param previous_columns: The slice to compare with, in the same way. By default, where ``extra_columns`` is one
        date, the newest that is older.
    :param column_names: Other names of columns, as the loader takes them.
    :param input_sql: The query that the input was written from. Like ``catalog_sql``, it is one statement, and only
        reads.
    :param catalog_sql: A query that gives all items that could be recommended, as ``item_id`` (for segments all users,
        as ``user_id``), and their ``title``, where the report is to show it.
    :param parameters: Values for the placeholders of ``input_sql`` and ``catalog_sql``, in the driver's own style, as
        the input operator takes them: a dict, of which each query takes those that it names, or a list for both.
    :param loaded: What the loader has returned: ``load.output``. The counts of a mapped loader, a list, are added up.
    :param rejects_table: The loader's rejects table, of the same schema, to name the commonest reasons of the rejects
        if ``reject_rate`` is not as expected.
    :param checks: What has to hold, or else the task fails, with no retry: ``{"entity_coverage": {"geq_to": 0.95}}``.
        Conditions are those of Airflow's SQL checks: ``equal_to``, ``greater_than``, ``geq_to``, ``less_than`` and
        ``leq_to``. Where the slice, ``input_sql`` or ``catalog_sql`` has no rows, what is expected of it does not
        hold. Only ``overlap`` is excused, where there is no slice before.
    :param warn_checks: What should hold; otherwise the task warns.
    :param report_uri: Where to write the report, an HTML page, also when the task fails: a path, ``file:///…``, or
        ``s3://bucket/key``. By default, it goes beside the output of the job that ``loaded`` tells of, on S3; empty
        text is for no report. If it cannot be written, that is logged, and the outcome is the same.
    :return: The figures, those of the slice before under ``previous``, and ``report_uri``, None where there is no
        report. They are in XCom also when the task fails. What of ``warn_checks`` does not hold is in XCom under the
        key ``warned``, in sentences.
    :raises InvalidRequestError: if literal ``checks``, ``warn_checks`` or ``report_uri`` cannot be right.
    """

    aws_hook_class = PersonalizeHook
    ui_color = "#e6f2ea"
    operator_extra_links = (PersonalizeReportLink(),)
    template_fields: Sequence[str] = aws_template_fields(
        "catalog_sql",
        "checks",
        "column_names",
        "extra_columns",
        "input_sql",
        "loaded",
        "parameters",
        "previous_columns",
        "rejects_table",
        "report_uri",
        "schema",
        "sql_conn_id",
        "table",
        "warn_checks",
    )
    template_ext: Sequence[str] = (".sql",)
    template_fields_renderers: ClassVar[dict[str, str]] = {
        **dict.fromkeys(("catalog_sql", "input_sql"), "sql"),
        **dict.fromkeys(("checks", "warn_checks", "column_names", "extra_columns", "previous_columns"), "json"),
        **dict.fromkeys(("loaded", "parameters"), "json"),
    }

    argument_readers: ClassVar[Mapping[str, Reader]] = {
        "sql_conn_id": required(text),
        "table": required(text),
        "schema": text,
        "extra_columns": mapping,
        "previous_columns": mapping,
        "column_names": read_column_names,
        "input_sql": text,
        "catalog_sql": text,
        "parameters": mapping_or_list,
        "loaded": read_loaded,
        "rejects_table": text,
        "checks": read_checks,
        "warn_checks": read_checks,
    }

    def __init__(
        self,
        *,
        sql_conn_id: str,
        table: str,
        schema: str | None = None,
        extra_columns: Mapping[str, Any] | None = None,
        previous_columns: Mapping[str, Any] | None = None,
        column_names: Mapping[str, str | None] | None = None,
        input_sql: str | None = None,
        catalog_sql: str | None = None,
        parameters: Mapping[str, Any] | Sequence[Any] | None = None,
        loaded: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
        rejects_table: str | None = None,
        checks: Mapping[str, Mapping[str, Any]] | None = None,
        warn_checks: Mapping[str, Mapping[str, Any]] | None = None,
        report_uri: str | None = None,
        aws_conn_id: str | None = "aws_default",
        region_name: str | None = None,
        verify: bool | str | None = None,
        botocore_config: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        connection: dict[str, Any] = {"aws_conn_id": aws_conn_id, "region_name": region_name, "verify": verify}
        super().__init__(**connection, botocore_config=botocore_config, **kwargs)
        self.sql_conn_id = sql_conn_id
        self.table = table
        self.schema = schema
        self.extra_columns = extra_columns
        self.previous_columns = previous_columns
        self.column_names = column_names
        self.input_sql = input_sql
        self.catalog_sql = catalog_sql
        self.parameters = parameters
        self.loaded = loaded
        self.rejects_table = rejects_table
        self.checks = checks
        self.warn_checks = warn_checks
        self.report_uri = report_uri
        self.check_literals()
        # Not where the others are read: one that a template got wrong must not keep the verdict back.
        if is_settled(report_uri) and report_uri:
            parse_report_uri(report_uri)

    def conflicts(self, known: Mapping[str, Any]) -> Iterator[str]:
        """Yield an error for each check of a figure that needs a parameter which is not given."""
        for parameter in {"checks", "warn_checks"} & known.keys():
            yield from not_known(parameter, known[parameter], known)

    def execute(self, context: Context) -> dict[str, Any]:
        """
        Compute the figures, write the report, and compare.

        :raises OutputCheckError: if a figure does not meet ``checks``; it is an ``AirflowFailException``, too.
        """
        self.read_arguments()
        loads = add_up(read_loaded("loaded", self.loaded) or ())
        if self.report_uri is None:
            self.report_uri = beside_output(context, self.hook, loads.sources, self.log)
        values = dict(self.extra_columns or {})
        opened = open_table(database_hook(self.sql_conn_id), self.table, self.schema)
        with closing(opened.connection):
            table = OutputTable(opened, values, self.column_names)
            now = table.slice(values)
            before = self._before(table)
            overlap = table.overlap(now.values, before.values) if before else None
            figures = self._figures(table, now, before, overlap, loads)
            nothing = "" if now.rows else f"{self.table} has no rows" + (f" where {now.name}" if now.values else "")
            results = [
                outcome
                for expected, otherwise in ((self.checks, "failed"), (self.warn_checks, "warned"))
                for outcome in outcomes(
                    figures, expected or {}, otherwise, missing=NOT_KNOWN, nothing=nothing, first=before is None
                )
            ]
            self._log_figures(now, before, results)
            send_figures(figures, self.table)
            details = self._details(table, now, loads, results)
            origin = origin_of(context, self, loads.sources) if self.report_uri else None
            page = self._page(table, figures, now, before, overlap, results, details, origin) if origin else None
        if page is None or not write_report(page, str(self.report_uri), self.hook, self.log):
            figures["report_uri"] = None
        note_report(context, self, "Output check", figures["report_uri"], loads.sources, results)
        if failed := [str(outcome) for outcome in results if outcome.state == "failed"]:
            # A task that fails returns nothing, and this is when people look at its figures.
            context["ti"].xcom_push(key="return_value", value=figures)
            raise OutputCheckError(
                table=self.table, failed=failed, figures=figures, report_uri=figures["report_uri"], details=details
            )
        if warned := [str(outcome) for outcome in results if outcome.state == "warned"]:
            context["ti"].xcom_push(key="warned", value=warned)
        return figures

    def _query(self, name: str) -> Query | None:
        sql = getattr(self, name)
        return Query(name, sql, self.parameters) if sql else None

    def _before(self, table: OutputTable) -> Slice | None:
        values = table.slice_before(self.extra_columns or {}, self.previous_columns)
        before = table.slice(values) if values else None
        return before if before and before.rows else None

    def _figures(
        self, table: OutputTable, now: Slice, before: Slice | None, overlap: Overlap | None, loads: Loads
    ) -> dict[str, Any]:
        figures = {**now.figures, "overlap": overlap.mean if overlap else None}
        wanted, items = self._query("input_sql"), self._query("catalog_sql")
        asked, covered = table.covered_entities(wanted, now.values) if wanted else (None, 0)
        catalog, recommended = table.covered_items(items, now.values) if items else (None, 0)
        return {
            "table": self.table,
            **figures,
            "input_entities": asked,
            "covered_entities": covered,
            "entity_coverage": _share(covered, asked),
            "catalog_items": catalog,
            "covered_catalog": recommended,
            "catalog_coverage": _share(recommended, catalog),
            "lines": loads.lines,
            "rejects": loads.rejects,
            "reject_rate": _share(loads.rejects, loads.lines),
            "previous": before.figures if before else None,
            "report_uri": self.report_uri or None,
        }

    def _log_figures(self, now: Slice, before: Slice | None, results: Sequence[Outcome]) -> None:
        self.log.info(
            "%s (%s): rows: %s, entities: %s, items: %s.",
            self.table,
            now.name,
            f"{now.rows:,}",
            f"{now.entities:,}",
            f"{now.items:,}",
        )
        if before:
            self.log.info(
                "Compared with %s: rows: %s, entities: %s.", before.name, f"{before.rows:,}", f"{before.entities:,}"
            )
        else:
            self.log.info("There is no slice before to compare it with.")
        for outcome in results:
            level = self.log.warning if outcome.state in {"failed", "warned"} else self.log.info
            level("%s: %s.", outcome.state.capitalize(), outcome)

    def _details(self, table: OutputTable, now: Slice, loads: Loads, results: Sequence[Outcome]) -> list[str]:
        try:
            details = what_is_missing(
                table,
                now,
                {outcome.figure for outcome in results if outcome.state in {"failed", "warned"}},
                input_query=self._query("input_sql"),
                catalog_query=self._query("catalog_sql"),
                loads=loads,
                rejects_table=self.rejects_table,
            )
        except Exception:
            self.log.exception("The missing ids and the reasons of the rejects could not be looked up.")
            return []
        for sentence in details:
            self.log.warning("%s", sentence)
        return details

    def _page(
        self,
        table: OutputTable,
        figures: Mapping[str, Any],
        now: Slice,
        before: Slice | None,
        overlap: Overlap | None,
        results: Sequence[Outcome],
        details: Sequence[str],
        origin: Origin,
    ) -> str | None:
        top = [item for item, _ in now.top_items]
        items = self._query("catalog_sql")
        try:
            return render_report(
                table=self.table,
                kind=table.kind,
                figures=figures,
                now=now,
                before=before,
                before_top=table.items_of(top, before.values) if before else {},
                overlap=overlap,
                titles=table.titles(items, top) if items else {},
                segments=table.segments(now.values, before.values if before else None)
                if table.kind is USER_SEGMENTS
                else (),
                results=results,
                details=details,
                origin=origin,
                # The last of the queries: one that fails may end the transaction.
                history=self._history(table, now, before, overlap),
            )
        except Exception:
            self.log.exception("The report could not be made.")
            return None

    def _history(self, table: OutputTable, now: Slice, before: Slice | None, overlap: Overlap | None) -> History:
        try:
            return read_history(table, now, before, overlap)
        except Exception:
            self.log.exception("The figures of the slices before could not be looked up.")
            return History()


def _share(part: int, whole: int | None) -> float | None:
    return part / whole if whole else None
