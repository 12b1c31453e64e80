"""Tables of SQL databases as targets: one module for each database that takes rows faster than by inserts."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from airflow_provider_personalize.sql.drivers import Database
from airflow_provider_personalize.sql.opening import open_table
from airflow_provider_personalize.targets.plan import LoadPlan
from airflow_provider_personalize.targets.sql.base import SqlTarget

#: The target of each database: its module in this package, and its class. Only the one that is needed is imported.
TARGETS: dict[Database, tuple[str, str]] = {
    "postgres": ("postgres", "PostgresTarget"),
    "mysql": ("mysql", "MySqlTarget"),
    "sqlite": ("sqlite", "SqliteTarget"),
    "duckdb": ("duckdb", "DuckDbTarget"),
    "other": ("generic", "GenericTarget"),
}


def open_target(
    hook: Any,
    plan: LoadPlan,
    table: str,
    *,
    schema: str | None = None,
    create_table: bool = True,
    rejects_table: str | None = None,
) -> SqlTarget:
    """
    Open a connection, and return the table as a target of the connection's database. Entering and leaving it closes it.

    :param hook: A ``DbApiHook``.
    :param plan: What is to be loaded, and how.
    :param table: The table's name.
    :param schema: The table's schema, or None for the connection's own.
    :param create_table: Whether to create the table where it is missing.
    :param rejects_table: The table of the same schema that takes rejected lines, or None.
    """
    opened = open_table(hook, table, schema)
    try:
        target = target_of(opened.database)
        return target(opened, plan, create_table=create_table, rejects_table=rejects_table)
    except BaseException:
        opened.connection.close()
        raise


def target_of(database: Database) -> type[SqlTarget]:
    """Return the class of a database's targets."""
    module, name = TARGETS[database]
    target: type[SqlTarget] = getattr(import_module(f"{__name__}.{module}"), name)
    return target
