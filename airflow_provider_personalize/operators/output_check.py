"""The operator that tells whether loaded output is good enough to use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import date, datetime
from pathlib import Path
from typing import Any, ClassVar

from airflow.providers.amazon.aws.operators.base_aws import AwsBaseOperator
from airflow.providers.amazon.aws.utils.mixins import aws_template_fields

from airflow_provider_personalize.checks.conditions import Outcome, outcomes, read_checks
from airflow_provider_personalize.checks.figures import OutputTable, Overlap, Slice
from airflow_provider_personalize.checks.report import render_report
from airflow_provider_personalize.compat import AirflowFailException, Context
from airflow_provider_personalize.exceptions import OutputCheckError
from airflow_provider_personalize.hooks.personalize import PersonalizeHook
from airflow_provider_personalize.mixins import PersonalizeTaskMixin
from airflow_provider_personalize.naming import parse_s3_uri
from airflow_provider_personalize.sinks import open_sink
from airflow_provider_personalize.sinks.load import Load
from airflow_provider_personalize.transfers.output_objects import file_path
from airflow_provider_personalize.transfers.query import database_hook


class PersonalizeOutputCheckOperator(PersonalizeTaskMixin, AwsBaseOperator[PersonalizeHook]):
    """
    Look at what was loaded before it is used: compare it with the input, the catalog and the slice before.

    The database computes these figures, in one snapshot; shares are between 0 and 1. An entity is a user, an item or a
    segment, as the table's kind of rows has it, and an item what was recommended for it.

    - ``rows``, ``entities``, ``items``: how many results there are, for how many entities, of how many different items;
    - ``min_results``, ``mean_results``, ``max_results``: of an entity;
    - ``top_item_share``: the share of the entities that have the most frequent item;
    - ``entity_coverage``: the share of the entities of ``input_sql`` that have results;
    - ``catalog_coverage``: the share of the items of ``catalog_sql`` that some entity has;
    - ``reject_rate``: the share of the output's lines that the load has set apart, from ``loaded``;
    - ``overlap``: the share of an entity's results that it had in the slice before, too, averaged over the entities
      that both slices have.

    It runs on PostgreSQL, MySQL and MariaDB, SQLite, DuckDB, and what else knows ``LIMIT``.

    :param sql_conn_id: The Airflow connection of the database.
    :param table: The table that was loaded, without its schema.
    :param schema: The table's schema; by default the connection's own.
    :param extra_columns: The slice to look at, as the loader takes it: ``{"run_date": "{{ ds }}"}``; by default, all
        rows.
    :param previous_columns: The slice to compare with, in the same way. By default, where ``extra_columns`` is one
        date, the newest that is older.
    :param column_names: Other names of columns, as the loader takes them.
    :param input_sql: The query that the input was written from.
    :param catalog_sql: A query that gives all items that could be recommended, as ``item_id`` (for segments all users,
        as ``user_id``), and their ``title``, where the report is to show it.
    :param loaded: What the loader has returned: ``load.output``.
    :param checks: What has to hold, or else the task fails, with no retry: ``{"entity_coverage": {"geq_to": 0.95}}``.
        Conditions are those of Airflow's SQL checks: ``equal_to``, ``greater_than``, ``geq_to``, ``less_than`` and
        ``leq_to``. One on a figure that is not known, for want of a slice before, is passed over.
    :param warn_checks: What should hold; otherwise the task warns.
    :param report_uri: Where to write an HTML page for people, also when the task fails: a path, ``file:///…``, or
        ``s3://bucket/key``.
    :return: The figures, those of the slice before under ``previous``, and ``report_uri``. They are in XCom also when
        the task fails.
    """

    aws_hook_class = PersonalizeHook
    ui_color = "#e6f2ea"
    template_fields: Sequence[str] = aws_template_fields(
        "catalog_sql",
        "checks",
        "column_names",
        "extra_columns",
        "input_sql",
        "loaded",
        "previous_columns",
        "report_uri",
        "schema",
        "sql_conn_id",
        "table",
        "warn_checks",
    )
    template_ext: Sequence[str] = (".sql",)
    template_fields_renderers: ClassVar[dict[str, str]] = {
        "catalog_sql": "sql",
        "checks": "json",
        "column_names": "json",
        "extra_columns": "json",
        "input_sql": "sql",
        "loaded": "json",
        "previous_columns": "json",
        "warn_checks": "json",
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
        loaded: Mapping[str, Any] | None = None,
        checks: Mapping[str, Mapping[str, Any]] | None = None,
        warn_checks: Mapping[str, Mapping[str, Any]] | None = None,
        report_uri: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.sql_conn_id = sql_conn_id
        self.table = table
        self.schema = schema
        self.extra_columns = extra_columns
        self.previous_columns = previous_columns
        self.column_names = column_names
        self.input_sql = input_sql
        self.catalog_sql = catalog_sql
        self.loaded = loaded
        self.checks = checks
        self.warn_checks = warn_checks
        self.report_uri = report_uri

    def execute(self, context: Context) -> dict[str, Any]:
        """
        Compute the figures, write the report, and compare.

        :raises AirflowFailException: if a figure does not keep to ``checks``.
        """
        given = [name for name in ("input_sql", "catalog_sql", "loaded") if getattr(self, name)]
        checks = read_checks("checks", self.checks, given)
        warn_checks = read_checks("warn_checks", self.warn_checks, given)
        load = Load(table=self.table, schema=self.schema, columns=(), source="", extra=dict(self.extra_columns or {}))
        sink = open_sink(database_hook(self.sql_conn_id), load)
        with closing(sink.connection):
            table = OutputTable(sink, self.column_names)
            now = table.slice(load.extra)
            before = self._before(table)
            overlap = table.overlap(now.values, before.values) if before else None
            figures = self._figures(table, now, before, overlap)
            results = [*outcomes(figures, checks, "failed"), *outcomes(figures, warn_checks, "warned")]
            self._tell(now, before, results)
            if self.report_uri:
                top = [item for item, _ in now.top_items]
                page = render_report(
                    table=self.table,
                    kind=table.kind,
                    figures=figures,
                    now=now,
                    before=before,
                    before_top=table.items_of(top, before.values) if before else {},
                    overlap=overlap,
                    titles=table.titles(self.catalog_sql, top) if self.catalog_sql else {},
                    results=results,
                )
                self._write(self.report_uri, page)
        if failed := [str(outcome) for outcome in results if outcome.state == "failed"]:
            # A task that fails returns nothing, and its figures are what one wants to see then.
            context["ti"].xcom_push(key="return_value", value=figures)
            error = OutputCheckError(table=self.table, failed=failed, figures=figures, report_uri=self.report_uri)
            raise AirflowFailException(str(error)) from error
        return figures

    def _before(self, table: OutputTable) -> Slice | None:
        values = dict(self.previous_columns or {})
        if not values and len(self.extra_columns or {}) == 1:
            [(name, value)] = dict(self.extra_columns or {}).items()
            if _is_date(value) and (found := table.value_before(name, value)) is not None:
                values = {name: found}
        before = table.slice(values) if values else None
        return before if before and before.rows else None

    def _figures(self, table: OutputTable, now: Slice, before: Slice | None, overlap: Overlap | None) -> dict[str, Any]:
        figures = {**_texts(now.values), **_of_slice(now), "overlap": overlap.mean if overlap else None}
        asked, covered = table.covered_entities(self.input_sql, now.values) if self.input_sql else (None, 0)
        catalog, recommended = table.covered_items(self.catalog_sql, now.values) if self.catalog_sql else (None, 0)
        lines, rejects = ((self.loaded or {}).get(name, 0) for name in ("lines", "rejects"))
        return {
            "table": self.table,
            **figures,
            "input_entities": asked,
            "covered_entities": covered,
            "entity_coverage": _share(covered, asked),
            "catalog_items": catalog,
            "covered_catalog": recommended,
            "catalog_coverage": _share(recommended, catalog),
            "lines": lines,
            "rejects": rejects,
            "reject_rate": _share(rejects, lines),
            "previous": {**_texts(before.values), **_of_slice(before)} if before else None,
            "report_uri": self.report_uri,
        }

    def _tell(self, now: Slice, before: Slice | None, results: Sequence[Outcome]) -> None:
        self.log.info(
            "%s (%s): %s rows for %s entities, %s different items.",
            self.table,
            now.name,
            f"{now.rows:,}",
            f"{now.entities:,}",
            f"{now.items:,}",
        )
        if before:
            self.log.info(
                "Compared with %s: %s rows for %s.", before.values, f"{before.rows:,}", f"{before.entities:,}"
            )
        else:
            self.log.info("There is no slice before to compare it with.")
        for outcome in results:
            level = self.log.warning if outcome.state in {"failed", "warned"} else self.log.info
            level("%s: %s.", outcome.state.capitalize(), outcome)

    def _write(self, uri: str, page: str) -> None:
        if uri.startswith("s3://"):
            place = parse_s3_uri(uri, parameter="report_uri", max_length=None)
            self.hook.s3_client().put_object(
                Bucket=place.bucket, Key=place.key, Body=page.encode(), ContentType="text/html; charset=utf-8"
            )
        else:
            path = file_path(uri) if uri.startswith("file:") else Path(uri)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(page, encoding="utf-8")
        self.log.info("Wrote the report to %s.", uri)


def _of_slice(part: Slice) -> dict[str, Any]:
    return {
        "rows": part.rows,
        "entities": part.entities,
        "items": part.items,
        "min_results": min(part.results, default=0),
        "mean_results": part.rows / part.entities if part.entities else 0.0,
        "max_results": max(part.results, default=0),
        "top_item": part.top_items[0][0] if part.top_items else None,
        "top_item_share": part.top_item_share,
    }


def _texts(values: Mapping[str, Any]) -> dict[str, Any]:
    return {"slice": {name: str(value) for name, value in values.items()}}


def _share(part: int, whole: int | None) -> float | None:
    return part / whole if whole else None


def _is_date(value: Any) -> bool:
    """Tell whether a value says when: others have no before."""
    if isinstance(value, date):
        return True
    try:
        datetime.fromisoformat(str(value))
    except ValueError:
        return False
    return True
