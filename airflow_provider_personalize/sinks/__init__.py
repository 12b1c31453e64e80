"""How one kind of database takes rows fast, and publishes them all at once."""

from __future__ import annotations

from typing import Any

from airflow_provider_personalize.sinks.base import Load, Sink


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


def _sink_class(connection: Any) -> type[Sink]:
    # Only the module of the one that is needed is imported.
    match type(connection).__module__.partition(".")[0]:
        case "psycopg" | "psycopg2" if _is_postgres(connection):
            from airflow_provider_personalize.sinks.postgres import PostgresSink as Chosen  # noqa: PLC0415
        case "sqlite3":
            from airflow_provider_personalize.sinks.sqlite import SqliteSink as Chosen  # noqa: PLC0415
        case "MySQLdb" | "mysql" | "pymysql":
            from airflow_provider_personalize.sinks.mysql import MySqlSink as Chosen  # noqa: PLC0415
        case "duckdb" | "_duckdb":
            from airflow_provider_personalize.sinks.duckdb import DuckDbSink as Chosen  # noqa: PLC0415
        case _:
            from airflow_provider_personalize.sinks.generic import GenericSink as Chosen  # noqa: PLC0415
    return Chosen


def _is_postgres(connection: Any) -> bool:
    """Tell PostgreSQL from what speaks its protocol and calls itself version 8, as Redshift does."""
    version = connection.info.server_version if hasattr(connection, "info") else connection.server_version
    return bool(version >= 100_000)
