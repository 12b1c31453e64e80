"""What is Snowflake's own of a table."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from airflow_provider_personalize.sql.drivers import Database
from airflow_provider_personalize.sql.table import VALUE, SqlTable, TableColumn
from airflow_provider_personalize.sql.warehouse import COLUMNS_SQL, described

_PLAIN = re.compile(r"[a-z_][a-z0-9_$]*")


class _Exact(str):
    """A name as Snowflake has it."""

    __slots__ = ()


class SnowflakeTable(SqlTable):
    """
    A table of Snowflake.

    A name in lower case is taken as it is written without quotes, which is in upper case, as its users do; any other
    name is taken as it is.
    """

    database: ClassVar[Database] = "snowflake"
    placeholder = "%s"
    types: ClassVar[Mapping[str, str]] = {
        **SqlTable.types,
        "text": "varchar",
        "timestamp": "timestamp_ntz",
        "timestamptz": "timestamp_tz",
    }
    fraction: ClassVar[int] = 9
    text_cast: ClassVar[str] = "varchar"

    def __init__(self, hook: Any, connection: Any, name: str, schema: str | None = None) -> None:
        connection.autocommit(False)
        super().__init__(hook, connection, name, schema)

    def open_cursor(self) -> Any:
        """Return a cursor that gives tuples, whatever the connection is set to."""
        from snowflake.connector.cursor import SnowflakeCursor

        return self.connection.cursor(SnowflakeCursor)

    def begin_reading(self, values: Mapping[str, Any]) -> None:
        """Do nothing: Snowflake has no transaction that only reads, and each statement sees a state of its own."""

    def fold(self, name: str) -> str:
        """Return the name as the catalogue has it."""
        return name.upper() if _PLAIN.fullmatch(name) and not isinstance(name, _Exact) else name

    def quote(self, name: str) -> str:
        """Return an identifier in quotes, as the catalogue has it."""
        return super().quote(self.fold(name))

    def describe(self) -> Mapping[str, TableColumn] | None:
        """Return the columns, from the catalogue."""
        self.execute(COLUMNS_SQL, [self.fold(self.name), self.schema and self.fold(self.schema)])
        return described(self.cursor.fetchall())

    def has_schema(self, name: str) -> bool:
        """Return whether the catalogue has the schema."""
        self.execute(f"SELECT 1 FROM information_schema.schemata WHERE schema_name = {VALUE}", [self.fold(name)])
        return self.cursor.fetchone() is not None

    def result_columns(self) -> list[str]:
        """Return the names of the columns as Snowflake has them: a query may name one ``"userId"``, in quotes."""
        return [_Exact(name) for name in super().result_columns()]
