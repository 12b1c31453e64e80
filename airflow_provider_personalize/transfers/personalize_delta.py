"""What has changed in loaded output, into a file for whoever wants nothing but that."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.amazon.aws.operators.base_aws import AwsBaseOperator
from airflow.providers.amazon.aws.utils.mixins import aws_template_fields

from airflow_provider_personalize.arguments import (
    ReadArguments,
    Reader,
    flag,
    form,
    mapping,
    one_of,
    required,
    text,
)
from airflow_provider_personalize.compat import Context
from airflow_provider_personalize.exceptions import InvalidRequestError
from airflow_provider_personalize.hooks.personalize import PersonalizeHook
from airflow_provider_personalize.lineage import Amount, query_lineage
from airflow_provider_personalize.operators.mixins import PersonalizeTaskMixin
from airflow_provider_personalize.output.rows import read_column_names
from airflow_provider_personalize.quality.change_lines import FORMATS, ChangeLines, Format, change_lines
from airflow_provider_personalize.quality.changes import CHANGES, WHATS, ComparedTable, What
from airflow_provider_personalize.s3.folders import OneFile, delete_files, has_file, new_files
from airflow_provider_personalize.sql.opening import open_table
from airflow_provider_personalize.sql.query import database_hook
from airflow_provider_personalize.uris import folder_of, parse_file_uri

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage


class PersonalizeDeltaOperator(ReadArguments, PersonalizeTaskMixin, AwsBaseOperator[PersonalizeHook]):
    """
    Write what has changed in loaded output since the slice before to one file; where nothing has, there is no file.

    An entity (user, item or segment) is new, gone, or has changed where its list has other items, or the same ones in
    another order. The database compares: PostgreSQL, MySQL, MariaDB, SQLite and DuckDB in one pass, by a hash of
    64 bits for each list; any other database, and those with ``exact``, by the rows themselves. Where there is no slice
    before, all is new.

    The file appears when it is complete. A retry writes the same bytes. A file that an earlier run has left at
    ``target_uri`` is replaced, or deleted where nothing has changed.

    Assets in ``outlets`` get what is returned as their event's ``extra``.

    :param sql_conn_id: The Airflow connection of the database.
    :param table: The table that was loaded, without its schema.
    :param target_uri: The file: ``s3://bucket/folder/name`` or ``file:///folder/name``.
    :param schema: The table's schema; by default the connection's own.
    :param extra_columns: The slice of now, as the loader takes it: ``{"run_date": "{{ ds }}"}``; by default, all rows.
    :param previous_columns: The slice to compare with, in the same way. By default, where ``extra_columns`` is one
        date, the newest that is older.
    :param column_names: Other names of columns, as the loader takes them.
    :param what: ``entities``: the lists of those that are new or have changed, and who is gone. ``items``: the items
        that are new in a list, and those that are gone from it; their ranks do not count.
    :param exact: Whether to compare rows and not hashes. Scores then count, too, unless ``compare_scores`` is False.
    :param compare_scores: Whether a list has changed, too, where a score has; the scores are then in the file. By
        default, as ``exact`` says.
    :param format: ``jsonl``: a line for each entity, with its ``items``, or for each item. ``csv``: a row for each
        item. ``braze``: the columns UPDATED_AT, EXTERNAL_ID and PAYLOAD of Braze's Cloud Data Ingestion, as CSV where
        ``target_uri`` ends in ``.csv``, else as JSON Lines. ``pinpoint``: Amazon Pinpoint's endpoints, by their ``Id``.
    :param attribute: What Braze and Pinpoint call the attribute that holds the list; with ``items``, there are two of
        them, which end in ``_new`` and ``_gone``.
    :param updated_at: Whether Braze's lines have an UPDATED_AT, which is the run's date. Tables have to have one; files
        that Braze takes from S3 by itself must not.
    :param allow_empty: Whether the slice of now may have no rows, so that everybody is gone. By default it is an error.
    :return: ``table``, ``what``, the counts ``new``, ``changed`` and ``gone`` (of entities, or of items), ``previous``
        (the slice before, None where there is none), ``target_uri`` (None where there is no file), ``bytes`` and
        ``seconds``.
    """

    aws_hook_class = PersonalizeHook
    ui_color = "#e6f2ea"
    template_fields: Sequence[str] = aws_template_fields(
        "attribute",
        "column_names",
        "extra_columns",
        "format",
        "previous_columns",
        "schema",
        "sql_conn_id",
        "table",
        "target_uri",
        "what",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {
        "column_names": "json",
        "extra_columns": "json",
        "previous_columns": "json",
    }
    argument_readers: ClassVar[Mapping[str, Reader]] = {
        "sql_conn_id": required(text),
        "table": required(text),
        "target_uri": required(form(parse_file_uri)),
        "schema": text,
        "extra_columns": mapping,
        "previous_columns": mapping,
        "column_names": read_column_names,
        "what": required(one_of(WHATS)),
        "exact": flag,
        "compare_scores": flag,
        "format": required(one_of(FORMATS)),
        "attribute": required(text),
        "updated_at": flag,
        "allow_empty": flag,
    }

    def __init__(
        self,
        *,
        sql_conn_id: str,
        table: str,
        target_uri: str,
        schema: str | None = None,
        extra_columns: Mapping[str, Any] | None = None,
        previous_columns: Mapping[str, Any] | None = None,
        column_names: Mapping[str, str | None] | None = None,
        what: What = "entities",
        exact: bool = False,
        compare_scores: bool | None = None,
        format: Format = "jsonl",
        attribute: str = "recommendations",
        updated_at: bool = True,
        allow_empty: bool = False,
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
        self.target_uri = target_uri
        self.schema = schema
        self.extra_columns = extra_columns
        self.previous_columns = previous_columns
        self.column_names = column_names
        self.what = what
        self.exact = exact
        self.compare_scores = compare_scores
        self.format = format
        self.attribute = attribute
        self.updated_at = updated_at
        self.allow_empty = allow_empty
        self._read_table: str | None = None
        self._written: Amount | None = None
        self.check_literals()

    def conflicts(self, known: Mapping[str, Any]) -> Iterator[str]:
        """Yield an error for each combination of arguments that cannot be right."""
        if known.get("what") == "items" and known.get("compare_scores"):
            yield "compare_scores is for what='entities': items are new or gone, whatever their scores."
        if known.get("previous_columns") and known.get("previous_columns") == known.get("extra_columns"):
            same = known["extra_columns"]
            yield f"previous_columns: expected another slice than extra_columns, got the same, {same}."

    def execute(self, context: Context) -> dict[str, Any]:
        """Compare the slices, and write the file."""
        self.read_arguments()
        started = time.monotonic()
        place, name = folder_of(parse_file_uri(self.target_uri))
        kind = "text/csv" if self._is_csv else "application/x-ndjson"
        now = dict(self.extra_columns or {})
        opened = open_table(database_hook(self.sql_conn_id), self.table, self.schema)
        with closing(opened.connection), new_files(place, self._s3_client, content_type=kind) as files:
            self._read_table = opened.quoted
            scores = self._scores_count
            table = ComparedTable(opened, now, self.column_names, scores=scores)
            previous = table.slice_before(now, self.previous_columns) or None
            file = OneFile(files, name)
            lines = self._lines(file, table, context, scores=scores)
            table.changes(now, previous, lines.add, what=self.what, exact=bool(self.exact))
            lines.close()
            counts: dict[str, int] = {change: lines.counts[change] for change in CHANGES}
            # Whether a slice has rows is asked where that is not clear by now: it may take as long as the comparison.
            if not (counts["new"] or counts["changed"]):
                self._check_rows(table, now)
            if previous and not (counts["changed"] or counts["gone"] or table.has_rows(previous)):
                previous = None
            if file.publish():
                self._written = Amount(sum(counts.values()), file.bytes, 1)
            elif has_file(name, place, self._s3_client):
                self.log.info("Nothing has changed: deleting the file of an earlier run.")
                delete_files([self.target_uri], place, self._s3_client)
        done: dict[str, Any] = {
            "table": self.table,
            "what": self.what,
            **counts,
            "previous": previous and {name: str(value) for name, value in previous.items()},
            "target_uri": self.target_uri if self._written else None,
            "bytes": file.bytes,
            "seconds": round(time.monotonic() - started, 3),
        }
        self._log_counts(done)
        for outlet in self.outlets:
            context["outlet_events"][outlet].extra.update(done)
        return done

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> OperatorLineage[Any, Any]:
        """Return which table was compared, and where the changes went, for OpenLineage."""
        sql = f"SELECT * FROM {self._read_table}"  # noqa: S608 (it is only parsed)
        return query_lineage(self.sql_conn_id, None, sql, output_uri=self.target_uri, written=self._written)

    @property
    def _is_csv(self) -> bool:
        return self.format == "csv" or (self.format == "braze" and self.target_uri.lower().endswith(".csv"))

    @property
    def _scores_count(self) -> bool:
        if self.what == "items":
            return False
        return bool(self.exact if self.compare_scores is None else self.compare_scores)

    def _s3_client(self) -> Any:
        # A new hook: this one keeps the connection that it has read, and its client.
        return self.aws_hook_class(**self._hook_parameters).s3_client()

    def _check_rows(self, table: ComparedTable, now: Mapping[str, Any]) -> None:
        if self.allow_empty or table.has_rows(now):
            return
        where = " where " + ", ".join(f"{name} = {value}" for name, value in now.items()) if now else ""
        raise InvalidRequestError(
            f"extra_columns: expected a slice that has rows, got none in {self.table}{where}. "
            "Load it first, or correct its values. If everybody may be gone, say so by allow_empty."
        )

    def _lines(self, file: OneFile, table: ComparedTable, context: Context, *, scores: bool) -> ChangeLines:
        return change_lines(
            file.write,
            self.format,
            what=self.what,
            columns=(table.entity, table.item),
            attribute=self.attribute,
            updated_at=_run_moment(context) if self.updated_at else None,
            is_csv=self._is_csv,
            scores=scores,
        )

    def _log_counts(self, done: Mapping[str, Any]) -> None:
        before = done["previous"]
        since = ", ".join(f"{name} = {value}" for name, value in before.items()) if before else "nothing, a first slice"
        found = ", ".join(f"{change}: {done[change]:,}" for change in CHANGES)
        self.log.info("Of %s in %s, compared with %s: %s.", self.what, self.table, since, found)
        if done["target_uri"]:
            self.log.info("Wrote %s bytes to %s.", f"{done['bytes']:,}", self.target_uri)
        else:
            self.log.info("Nothing has changed: there is no file.")


def _run_moment(context: Context) -> str:
    """Return when the run was due, which is the same for every try, in UTC."""
    run = context.get("dag_run")
    found = (getattr(run, name, None) for name in ("run_after", "data_interval_end", "logical_date"))
    moment = next((moment for moment in found if isinstance(moment, datetime)), datetime.now(UTC))
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
