"""How one kind of database takes rows fast, and publishes them all at once."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from airflow_provider_personalize.targets.plan import Load
from airflow_provider_personalize.targets.sql.base import Sink


def open_sink(hook: Any, load: Load) -> Sink:
    """
    Open a connection, and choose the sink by what was opened: a hook may hand out one driver's or another's.

    :param hook: A ``DbApiHook``.
    :param load: What to load.
    """
    connection = hook.get_conn()
    try:
        return _sink_class(connection)(hook, connection, load)
    except BaseException:
        connection.close()
        raise


#: The sink of each driver: its module here and its name. Only that one is imported.
_SINKS = {
    "psycopg": ("postgres", "PostgresSink"),
    "psycopg2": ("postgres", "PostgresSink"),
    "sqlite3": ("sqlite", "SqliteSink"),
    "MySQLdb": ("mysql", "MySqlSink"),
    "mysql": ("mysql", "MySqlSink"),
    "pymysql": ("mysql", "MySqlSink"),
    "duckdb": ("duckdb", "DuckDbSink"),
    "_duckdb": ("duckdb", "DuckDbSink"),
}
_ANY = ("generic", "GenericSink")


def _sink_class(connection: Any) -> type[Sink]:
    module, name = _SINKS.get(type(connection).__module__.partition(".")[0], _ANY)
    if module == "postgres" and not _is_postgres(connection):
        module, name = _ANY
    chosen: type[Sink] = getattr(import_module(f"{__name__}.{module}"), name)
    return chosen


def _is_postgres(connection: Any) -> bool:
    """Tell PostgreSQL from what speaks its protocol and calls itself version 8, as Redshift does."""
    version = connection.info.server_version if hasattr(connection, "info") else connection.server_version
    return bool(version >= 100_000)
