"""Tables of SQL databases as targets: one module for each database that takes rows faster than by inserts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from airflow_provider_personalize.exceptions import InvalidRequestError
from airflow_provider_personalize.service.waits import Logger
from airflow_provider_personalize.sql.drivers import Database
from airflow_provider_personalize.targets.counts import LoadCounts
from airflow_provider_personalize.targets.extras import need
from airflow_provider_personalize.targets.plan import LoadPlan
from airflow_provider_personalize.uris import parse_s3_uri

if TYPE_CHECKING:
    from airflow_provider_personalize.sql.table import SqlTable
    from airflow_provider_personalize.targets.sql.base import SqlTarget
    from airflow_provider_personalize.targets.sql.pgparts import PostgresParts
    from airflow_provider_personalize.targets.sql.staged import Staging

#: The target of each database: its module in this package, and its class. Only the one that is needed is imported.
TARGETS: dict[Database, tuple[str, str]] = {
    "postgres": ("postgres", "PostgresTarget"),
    "mysql": ("mysql", "MySqlTarget"),
    "sqlite": ("sqlite", "SqliteTarget"),
    "duckdb": ("duckdb", "DuckDbTarget"),
    "redshift": ("redshift", "RedshiftTarget"),
    "snowflake": ("snowflake", "SnowflakeTarget"),
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
    staging: Staging | None = None,
) -> SqlTarget:
    """
    Open a connection, and return the table as a target of the connection's database. Entering and leaving it closes it.

    :param hook: A ``DbApiHook``.
    :param plan: What is to be loaded, and how.
    :param table: The table's name.
    :param schema: The table's schema, or None for the connection's own.
    :param create_table: Whether to create the table where it is missing.
    :param rejects_table: The table of the same schema that takes rejected lines, or None.
    :param staging: Where rows lie as Parquet until a warehouse has copied them, or None.
    :raises InvalidRequestError: if the database has no use for ``staging``.
    """
    from airflow_provider_personalize.sql.opening import open_table

    opened = open_table(hook, table, schema)
    try:
        kind = target_of(opened.database)
        target = kind(opened, plan, create_table=create_table, rejects_table=rejects_table)
        return _staged_at(target, staging, opened.driver) if staging else target
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
    from airflow_provider_personalize.sql.opening import open_table

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


def warn_of(hook: Any, log: Logger) -> None:
    """Warn of a load into a warehouse that this package was never run on."""
    if name := {"redshift": "Redshift", "snowflake": "Snowflake"}.get(str(getattr(hook, "conn_type", ""))):
        log.warning(
            "Loading into %s was never run on the service itself: its statements were executed on a substitute, and "
            "parsed in its dialect. Compare the first load with its counts, and please report what differs.",
            name,
        )


def staging_at(
    uri: str | None, role: str | None, client: Callable[[], Any], credentials: Callable[[], Any]
) -> Staging | None:
    """
    Return where rows lie as Parquet until a warehouse has copied them; None where no URI is given.

    :param uri: A prefix on S3, with or without the ``/`` at its end.
    :param role: What lets the warehouse read there; by default, the credentials.
    :param client: Returns an S3 client with credentials that hold.
    :param credentials: Returns AWS credentials that hold.
    :raises InvalidRequestError: if what writes Parquet is not installed.
    """
    if not uri:
        return None
    need("parquet", "numpy", "pyarrow.parquet")
    from airflow_provider_personalize.targets.sql.staged import Staging

    return Staging(parse_s3_uri(f"{uri.rstrip('/')}/", parameter="staging_uri"), client, credentials, role)


def _staged_at(target: SqlTarget, staging: Staging, driver: str) -> SqlTarget:
    from airflow_provider_personalize.targets.sql.staged import StagedTarget

    if not isinstance(target, StagedTarget):
        raise InvalidRequestError(
            f"staging_uri: expected a connection of Redshift or Snowflake, which copy from S3, got one of {driver}. "
            "Leave staging_uri out: rows go there without it."
        )
    target.staging = staging
    return target


def target_of(database: Database) -> type[SqlTarget]:
    """Return the class of a database's targets."""
    module, name = TARGETS[database]
    target: type[SqlTarget] = getattr(import_module(f"{__name__}.{module}"), name)
    return target
