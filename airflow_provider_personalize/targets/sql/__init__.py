"""Tables of SQL databases as targets: one module for each database that takes rows faster than by inserts."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from airflow_provider_personalize.exceptions import InvalidRequestError
from airflow_provider_personalize.sql.drivers import Database
from airflow_provider_personalize.sql.opening import open_table
from airflow_provider_personalize.sql.table import SqlTable
from airflow_provider_personalize.targets.counts import LoadCounts
from airflow_provider_personalize.targets.plan import LoadPlan
from airflow_provider_personalize.targets.sql.base import SqlTarget

if TYPE_CHECKING:
    from airflow_provider_personalize.targets.sql.pgparts import PostgresParts

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


def open_parts(
    hook: Any,
    plan: LoadPlan,
    table: str,
    *,
    schema: str | None = None,
    create_table: bool = True,
    rejects_table: str | None = None,
    parts: Sequence[LoadCounts] = (),
    objects: Sequence[str] = (),
) -> PostgresParts:
    """
    Open a connection, and return the table as one that takes a load in parts. Entering and leaving it closes it.

    :param parts: What each part has come to, for the task that publishes them.
    :param objects: The objects of the part, for a task that stages one.
    :raises InvalidRequestError: if it is not a table of PostgreSQL.
    """
    opened = open_table(hook, table, schema)
    try:
        _check_postgres(opened)
        target: type[PostgresParts] = import_module(f"{__name__}.pgparts").PostgresParts
        return target(
            opened, plan, create_table=create_table, rejects_table=rejects_table, parts=parts, objects=objects
        )
    except BaseException:
        opened.connection.close()
        raise


def _check_postgres(table: SqlTable) -> None:
    if table.database != "postgres":
        raise InvalidRequestError(
            f"parts: expected a table of PostgreSQL, which takes a load in parts, got one of {table.driver}. Load all "
            "of it in one task, without parts."
        )


def target_of(database: Database) -> type[SqlTarget]:
    """Return the class of a database's targets."""
    module, name = TARGETS[database]
    target: type[SqlTarget] = getattr(import_module(f"{__name__}.{module}"), name)
    return target
