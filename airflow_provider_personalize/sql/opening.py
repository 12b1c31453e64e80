"""Opening a table: the connection comes first, and tells by its driver which dialect to speak."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from airflow_provider_personalize.sql.drivers import Database, database_of
from airflow_provider_personalize.sql.table import SqlTable

#: The dialect of each database: its module in this package, and its class. Only the one that is needed is imported.
DIALECTS: dict[Database, tuple[str, str]] = {
    "postgres": ("postgres", "PostgresTable"),
    "mysql": ("mysql", "MySqlTable"),
    "sqlite": ("sqlite", "SqliteTable"),
    "duckdb": ("duckdb", "DuckDbTable"),
    "redshift": ("redshift", "RedshiftTable"),
    "snowflake": ("snowflake", "SnowflakeTable"),
    "other": ("generic", "GenericTable"),
}


def open_table(hook: Any, table: str, schema: str | None = None) -> SqlTable:
    """
    Open a connection, and return the table that is to be used through it; the caller closes its connection.

    :param hook: A ``DbApiHook``. One may hand out connections of one driver or of another.
    :param table: The table's name; it need not exist yet.
    :param schema: The table's schema, or None for the connection's own.
    """
    connection = hook.get_conn()
    try:
        dialect: type[SqlTable] = dialect_of(database_of(connection))
        return dialect(hook, connection, table, schema)
    except BaseException:
        connection.close()
        raise


def dialect_of(database: Database) -> type[SqlTable]:
    """Return the class of a database's tables."""
    module, name = DIALECTS[database]
    dialect: type[SqlTable] = getattr(import_module(f"{__package__}.{module}"), name)
    return dialect
