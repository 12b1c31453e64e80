"""Which database a connection leads to, and through which driver: the one place that tells one from the other."""

from __future__ import annotations

from typing import Any, Literal

#: The databases that this package knows more of than SQLAlchemy says.
Database = Literal["postgres", "mysql", "sqlite", "duckdb", "redshift", "snowflake", "other"]

#: The database of each driver, by the driver's module.
_DATABASES: dict[str, Database] = {
    "psycopg": "postgres",
    "psycopg2": "postgres",
    "MySQLdb": "mysql",
    "mysql.connector": "mysql",
    "pymysql": "mysql",
    "sqlite3": "sqlite",
    "duckdb": "duckdb",
    "redshift_connector": "redshift",
    "snowflake.connector": "snowflake",
}
#: Modules that connections are defined in, where that is not the driver's own.
_MODULES = {"mysql": "mysql.connector", "_duckdb": "duckdb", "snowflake": "snowflake.connector"}


def driver_of(connection: Any) -> str:
    """
    Return the name of the module of a connection's driver, as it is imported.

    :param connection: The connection, or a cursor of it.
    """
    module = type(connection).__module__.partition(".")[0]
    return _MODULES.get(module, module)


def database_of(connection: Any) -> Database:
    """
    Return the database that a connection leads to.

    Redshift through a driver of PostgreSQL, whose catalogue and COPY it has not, is ``other``.

    :param connection: The connection, of any driver.
    """
    database = _DATABASES.get(driver_of(connection), "other")
    return "other" if database == "postgres" and not is_postgres(connection) else database


def is_postgres(connection: Any) -> bool:
    """
    Return whether a server is PostgreSQL 10 or newer. Redshift calls itself version 8.

    :param connection: A connection of psycopg 2 or 3.
    """
    version = connection.info.server_version if hasattr(connection, "info") else connection.server_version
    return bool(version >= 100_000)
