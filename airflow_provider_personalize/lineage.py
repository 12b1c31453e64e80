"""
What tasks read and write, told to OpenLineage.

Airflow's openlineage provider calls the operators' ``get_openlineage_facets_on_…`` methods, and nothing else does. So
what comes with that provider is imported when they are called, and where it is not installed, never.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_personalize.sql.query import database_hook
from airflow_provider_personalize.uris import FileUri, parse_uri

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage
    from openlineage.client.event_v2 import InputDataset, OutputDataset

log = logging.getLogger(__name__)


class Amount(NamedTuple):
    """How much was read or written: the rows or lines, and of objects or files their bytes and their number."""

    rows: int
    bytes: int | None = None
    files: int | None = None


@dataclass
class LoadLineage:
    """
    What OpenLineage is told of a load. What the load failed before is None.

    :param source_uri: Where the output lies that is loaded.
    :param table: The table that takes it, as SQL names it.
    :param columns: The table's columns: ``{name: type}``.
    :param read: How much was read.
    :param written: How many rows were written.
    """

    source_uri: str | None = None
    table: str | None = None
    columns: Mapping[str, str] | None = None
    read: Amount | None = None
    written: Amount | None = None


def query_lineage(
    conn_id: str, hook_params: Mapping[str, Any] | None, sql: str, *, output_uri: str, written: Amount | None
) -> OperatorLineage[Any, Any]:
    """
    Return what a query reads, and where its rows go.

    :param conn_id: The Airflow connection of the database.
    :param hook_params: Further arguments of its hook.
    :param sql: The query.
    :param output_uri: The S3 prefix that takes the lines.
    :param written: How much was written; None where nothing was, or not yet.
    """
    lineage = _tables_of(conn_id, hook_params, sql)
    lineage.outputs = [_place_written(output_uri, written)]
    return lineage


def job_lineage(input_uri: str | None, output_uri: str | None) -> OperatorLineage[Any, Any]:
    """Return where a job reads and writes; None where it does not."""
    from airflow.providers.openlineage.extractors import OperatorLineage

    return OperatorLineage(
        inputs=[_place_read(input_uri, None)] if input_uri else [],
        outputs=[_place_written(output_uri, None)] if output_uri else [],
    )


def load_lineage(
    conn_id: str, load: LoadLineage, hook_params: Mapping[str, Any] | None = None
) -> OperatorLineage[Any, Any]:
    """
    Return which output was loaded into which table, with the table's columns.

    :param conn_id: The Airflow connection of the database.
    :param load: What is told of the load.
    :param hook_params: Further arguments of the database's hook.
    """
    from airflow.providers.openlineage.extractors import OperatorLineage

    # What the hook and the parser tell of any query: the name is then the same as where other tasks read the table.
    query = f"SELECT * FROM {load.table}"  # noqa: S608 (it is only parsed)
    tables = _tables_of(conn_id, hook_params, query).inputs if load.table else []
    for found in tables:
        found.facets = _columns(load.columns or {}) | (found.facets or {})
    return OperatorLineage(
        inputs=[_place_read(load.source_uri, load.read)] if load.source_uri else [],
        outputs=[_written(found.namespace, found.name, load.written, found.facets) for found in tables],
    )


def files_lineage(load: LoadLineage, target_uri: str | None) -> OperatorLineage[Any, Any]:
    """
    Return which output was written into which folder, with the files' columns.

    :param load: What is told of the load.
    :param target_uri: The folder; None where nothing was written. One that is neither on S3 nor on a disk is not told.
    """
    if target_uri and target_uri.startswith(("s3://", "file:")):
        return place_lineage(load, *_named(target_uri))
    lineage = place_lineage(load, "", "")
    lineage.outputs = []
    return lineage


def place_lineage(load: LoadLineage, namespace: str, name: str) -> OperatorLineage[Any, Any]:
    """
    Return which output was loaded into what is no table of SQL, with the columns there.

    :param load: What is told of the load.
    :param namespace: OpenLineage's namespace of what took it.
    :param name: Its name there.
    """
    from airflow.providers.openlineage.extractors import OperatorLineage

    return OperatorLineage(
        inputs=[_place_read(load.source_uri, load.read)] if load.source_uri else [],
        outputs=[_written(namespace, name, load.written, _columns(load.columns or {}))],
    )


def _tables_of(conn_id: str, hook_params: Mapping[str, Any] | None, sql: str) -> OperatorLineage[Any, Any]:
    """Return the tables that a query reads, with their columns; none where the database's hook has no OpenLineage."""
    from airflow.providers.openlineage.extractors import OperatorLineage
    from airflow.providers.openlineage.sqlparser import get_openlineage_facets_with_sql

    try:
        hook = database_hook(conn_id, hook_params)
        found = get_openlineage_facets_with_sql(hook=hook, sql=sql, conn_id=conn_id, database=None)
        if found:
            found.inputs = _of_database(found.inputs, hook.get_connection(conn_id).schema)
    except Exception as error:  # noqa: BLE001 (the places on S3 are told all the same)
        log.warning("OpenLineage is told of no tables, since %s could not be asked for them: %s", conn_id, error)
        found = None
    return found or OperatorLineage()


def _of_database(tables: list[Any], database: str | None) -> list[Any]:
    """
    Return the tables without those of other databases that have the name of one in the connection's own.

    MySQL's hook has no schema to look into by default, so a table is found in every database that has one of that name.
    """

    def is_own(table: Any) -> bool:
        return bool(table.name.startswith(f"{database}."))

    own = {table.name.rpartition(".")[2] for table in tables if is_own(table)}
    return [table for table in tables if is_own(table) or table.name.rpartition(".")[2] not in own]


def _columns(types: Mapping[str, str]) -> dict[str, Any]:
    from openlineage.client.facet_v2 import schema_dataset

    fields = [schema_dataset.SchemaDatasetFacetFields(name=name, type=kind) for name, kind in types.items()]
    return {"schema": schema_dataset.SchemaDatasetFacet(fields=fields)} if fields else {}


def _named(uri: str) -> tuple[str, str]:
    """
    Return the namespace and the name of an S3 URI, or of a file's.

    A folder loses the slash at its end, so that a task that writes it and one that reads it name the same dataset.
    """
    place = parse_uri(uri)
    if isinstance(place, FileUri):
        return "file", str(place.path)
    return f"s3://{place.bucket}", place.key.rstrip("/") or "/"


def _place_read(uri: str, amount: Amount | None) -> InputDataset:
    from openlineage.client.event_v2 import InputDataset
    from openlineage.client.facet_v2 import input_statistics_input_dataset

    namespace, name = _named(uri)
    if amount is None:
        return InputDataset(namespace, name)
    statistics = input_statistics_input_dataset.InputStatisticsInputDatasetFacet(
        rowCount=amount.rows, size=amount.bytes, fileCount=amount.files
    )
    return InputDataset(namespace, name, inputFacets={"inputStatistics": statistics})


def _place_written(uri: str, amount: Amount | None) -> OutputDataset:
    return _written(*_named(uri), amount)


def _written(
    namespace: str, name: str, amount: Amount | None, facets: Mapping[str, Any] | None = None
) -> OutputDataset:
    from openlineage.client.event_v2 import OutputDataset
    from openlineage.client.facet_v2 import output_statistics_output_dataset

    dataset = OutputDataset(namespace, name, facets=dict(facets or {}))
    if amount is not None:
        statistics = output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(
            rowCount=amount.rows, size=amount.bytes, fileCount=amount.files
        )
        dataset.outputFacets = {"outputStatistics": statistics}
    return dataset
