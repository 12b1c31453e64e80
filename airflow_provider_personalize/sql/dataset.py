"""
What the types of a query's columns mean for a dataset: the schema that suits them, and how PostgreSQL writes them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from airflow_provider_personalize.exceptions import InvalidRequestError
from airflow_provider_personalize.input.dataset import DatasetRows
from airflow_provider_personalize.service.schemas import Field, make_schema
from airflow_provider_personalize.sql.query import QueryRows, database_hook, stream_query
from airflow_provider_personalize.sql.server_csv import server_csv

if TYPE_CHECKING:
    from airflow.providers.common.sql.hooks.sql import DbApiHook

# PostgreSQL's types, by their OIDs.
_BOOLEAN = frozenset({16})
_INTEGERS = frozenset({20, 21, 23})  # bigint, smallint, integer
_TEXTS = frozenset({25, 1042, 1043, 2950})  # text, char(n), varchar, uuid
_NUMBERS = frozenset({700, 701, 1700})  # real, double precision, numeric
_MOMENTS = frozenset({1082, 1114, 1184})  # date, timestamp, timestamptz
_AVRO_OF_OID: Mapping[int, str] = {
    16: "boolean", 20: "long", 21: "int", 23: "int", 700: "float", 701: "double", 1700: "double",
    1082: "long", 1114: "long", 1184: "long",
}  # fmt: skip
#: What the values that drivers give are; what is not here is text, and so is what is of several kinds.
_AVRO_OF_PYTHON: Sequence[tuple[type | tuple[type, ...], str]] = (
    (bool, "boolean"),
    (int, "long"),
    ((int, float, Decimal), "double"),
    (date, "long"),
)


def personalize_schema(
    sql_conn_id: str,
    sql: str,
    dataset_type: str,
    categorical: Collection[str] = (),
    textual: Collection[str] = (),
    *,
    parameters: Any = None,
    hook_params: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """
    Return the Avro schema of a dataset that takes a query's rows, as a dict: what CreateSchema takes as JSON.

    The types are the database's own: PostgreSQL is asked for them, elsewhere the values of the first rows tell. Fields
    are named after the columns; timestamps and dates become epoch seconds (``long``). Metadata may be null, as may the
    reserved fields of which the service says so.

    :param sql_conn_id: The Airflow connection of the database.
    :param sql: The query, one ``SELECT``.
    :param dataset_type: ``INTERACTIONS``, ``ITEMS`` or ``USERS``.
    :param categorical: The columns whose text is a category, or several.
    :param textual: The columns whose text is prose (of items alone).
    :param parameters: Values for the query's own placeholders, in the driver's style.
    :param hook_params: Further arguments for the database's hook.
    :raises InvalidRequestError: if the columns make no schema that the service takes, with all that is wrong.
    """
    columns = _avro_types(database_hook(sql_conn_id, hook_params), sql, parameters)
    marks = {"categorical": _names("categorical", categorical), "textual": _names("textual", textual)}
    return make_schema(columns, dataset_type, **marks).as_avro()


def csv_expressions(rows: DatasetRows, oids: Sequence[int]) -> list[str] | None:
    """
    Return how PostgreSQL writes each field of a dataset, in SQL; None where not all of them are its to write.

    What it writes has to be what is written of the driver's values, too; so it is left what both write alike.

    :param rows: The dataset's rows; their columns are called c0, c1 and so on.
    :param oids: The columns' types.
    """
    expressions = [_expression(column.field, f"c{column.position}", oids[column.position]) for column in rows.columns]
    known = [expression for expression in expressions if expression is not None]
    return known if len(known) == len(rows.schema.fields) else None


def _expression(field: Field, column: str, oid: int) -> str | None:
    if oid in _MOMENTS and field.type == "long":
        # Exact for all that is no mistake, and twice as fast as what extract gives since PostgreSQL 14, a numeric.
        seconds = f"floor(date_part('epoch', {column}))::bigint"
        # What has no seconds, as 'infinity', or is a mistake here, as the year 9999, is told as what it is; and so is
        # what has seconds that could be a date's digits.
        has_seconds = f"isfinite({column})"
        if field.is_timestamp:
            has_seconds = f"{column} > '1971-01-01' AND {column} < '5000-01-01'"
        return f"CASE WHEN {has_seconds} THEN {seconds}::text ELSE {column}::text END"
    known = {"int": _INTEGERS, "long": _INTEGERS, "boolean": _BOOLEAN}.get(field.type, _INTEGERS | _NUMBERS)
    if field.type == "string":
        known = _TEXTS | _INTEGERS if field.is_id else _TEXTS | _INTEGERS | _BOOLEAN
    if oid not in known:
        return None
    # As text, a boolean is written out, and char(n) loses its padding.
    return f"{column}::text" if oid in _BOOLEAN or oid == 1042 else column


def _names(parameter: str, names: Collection[str]) -> Collection[str]:
    if isinstance(names, str):
        raise InvalidRequestError(f"{parameter}: expected a list of columns, got the text {names!r}.")
    return names


def _avro_types(hook: DbApiHook, sql: str, parameters: Any) -> dict[str, str]:
    """Return the columns of a query, and the Avro types that hold their values."""
    with server_csv(hook, sql, parameters) as query:
        if query:
            return _named((column.name, _AVRO_OF_OID.get(column.oid, "string")) for column in query.columns)
    with stream_query(hook, sql, parameters) as rows:
        return _told_by_values(rows)


def _named(columns: Iterable[tuple[str, str]]) -> dict[str, str]:
    types: dict[str, str] = {}
    for name, type_ in columns:
        if name in types:
            raise InvalidRequestError(f"sql: expected each column once, got {name!r} twice; give one an alias.")
        types[name] = type_
    return types


def _told_by_values(query: QueryRows) -> dict[str, str]:
    batch = next(iter(query), None)
    if batch is None:
        raise InvalidRequestError(
            "sql: expected at least one row, since this database tells the columns' types by their values, got none. "
            "Run the query without what leaves all rows out, or write the schema by hand."
        )
    values = zip(*batch.rows(), strict=True)
    return _named(zip(query.columns, map(_type_of_values, values), strict=True))


def _type_of_values(values: Sequence[Any]) -> str:
    given = [value for value in values if value is not None]
    for types, avro in _AVRO_OF_PYTHON:
        if given and all(isinstance(value, types) for value in given):
            return avro
    return "string"
