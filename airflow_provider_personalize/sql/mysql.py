"""What is MySQL's and MariaDB's own of a table."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, ClassVar

from airflow_provider_personalize.exceptions import InvalidRequestError
from airflow_provider_personalize.sql.drivers import Database
from airflow_provider_personalize.sql.statements import read_only
from airflow_provider_personalize.sql.table import VALUE, SqlTable, TableColumn
from airflow_provider_personalize.sql.values import has_zone

CONNECTOR = "mysql.connector"
#: Drops the mode in which a backslash is one: files for LOAD DATA, and values that MySQL Connector binds, are escaped.
ESCAPING_MODE = "REPLACE(@@sql_mode, 'NO_BACKSLASH_ESCAPES', '')"

#: Codes of the servers' errors for a value that does not fit its column (out of range, cut, no number or date, not of
#: its character set, too long), no partition or a CHECK.
_REFUSALS = frozenset({1264, 1265, 1292, 1366, 1367, 1406, 1526, 3819, 4025})
_TEXT_TYPE = re.compile("char|text")


def bytes_of(text: str) -> str:
    """Return the bytes of a text in one encoding, whatever the character set of its column."""
    return f"CAST(CONVERT({text} USING utf8mb4) AS BINARY)"


class MySqlTable(SqlTable):
    """A table of MySQL or MariaDB, through any of their drivers."""

    database: ClassVar[Database] = "mysql"
    placeholder = "%s"
    quote_mark: ClassVar[str] = "`"
    types: ClassVar[Mapping[str, str]] = {
        **SqlTable.types,
        "double": "double",
        "timestamp": "datetime(6)",
        "timestamptz": "datetime(6)",
    }
    # Any other collation takes some ids for the same that are not.
    table_options: ClassVar[str] = " CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
    text_cast: ClassVar[str] = "char"
    singles: ClassVar[frozenset[str]] = frozenset({"float"})
    fraction: ClassVar[int] = 0
    cuts_spaces: ClassVar[bool] = True

    def __init__(self, hook: Any, connection: Any, name: str, schema: str | None = None) -> None:
        hook.set_autocommit(connection, False)
        super().__init__(hook, connection, name, schema)

    def is_refusal(self, error: BaseException) -> bool:
        """Return the same, with the codes that drivers take for operational errors."""
        return super().is_refusal(error) or (bool(error.args) and error.args[0] in _REFUSALS)

    def open_cursor(self) -> Any:
        """Return a cursor that gives tuples, whatever the connection is set to."""
        if self.driver == CONNECTOR:
            return self.connection.cursor(buffered=True)
        if self.driver in {"MySQLdb", "pymysql"}:
            return self.connection.cursor(import_module(f"{self.driver}.cursors").Cursor)
        return self.connection.cursor()

    def with_placeholders(self, sql: str) -> str:
        """Return the same, with each ``%`` as it is for MySQL Connector, which knows no other way to write one."""
        return sql.replace(VALUE, "%s") if self.driver == CONNECTOR else super().with_placeholders(sql)

    def quote(self, name: str) -> str:
        """Return an identifier in quotes, unless MySQL Connector would put a value into it."""
        if self.driver == CONNECTOR and "%s" in name:
            raise InvalidRequestError(
                f"Expected a name that MySQL Connector can write, got {name!r}, with %s in it. Use mysqlclient."
            )
        return super().quote(name)

    def begin_reading(self, values: Mapping[str, Any]) -> None:
        """Only read, and take one snapshot for all statements."""
        read_only(self.connection)
        self.execute("SET NAMES utf8mb4 COLLATE utf8mb4_bin")
        self.set_zone(values)
        self.execute(f"SET SESSION sql_mode = {ESCAPING_MODE}")
        self.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")

    def set_zone(self, values: Mapping[str, Any]) -> None:
        """Set the session's time zone to UTC if one of these values has a time zone, as it is then written in UTC."""
        if any(map(has_zone, values.values())):
            self.execute("SET time_zone = '+00:00'")

    def describe(self) -> Mapping[str, TableColumn] | None:
        """Return the columns, from the information schema."""
        self.execute(
            "SELECT column_name, column_type, is_nullable = 'YES' OR column_default IS NOT NULL OR extra <> '', "
            "extra LIKE '%VIRTUAL%' OR extra LIKE '%STORED%' OR extra LIKE '%PERSISTENT%' "
            f"FROM information_schema.columns WHERE table_schema = coalesce({VALUE}, database()) "
            f"AND table_name = {VALUE} ORDER BY ordinal_position",
            [self.schema, self.name],
        )
        return {
            as_text(name): TableColumn(as_text(kind), bool(optional), bool(computed))
            for name, kind, optional, computed in self.cursor.fetchall()
        } or None

    def engine_without_transactions(self) -> str | None:
        """Return the name of the table's storage engine where it has no transactions; otherwise None."""
        self.execute(
            "SELECT t.engine, e.transactions FROM information_schema.tables t "
            "LEFT JOIN information_schema.engines e ON e.engine = t.engine "
            f"WHERE table_schema = coalesce({VALUE}, database()) AND table_name = {VALUE}",
            [self.schema, self.name],
        )
        found = self.cursor.fetchone()
        return as_text(found[0]) if found and found[0] and found[1] != "YES" else None

    def is_view(self) -> bool:
        """Return whether it is a view."""
        self.execute(
            f"SELECT 1 FROM information_schema.views WHERE table_schema = coalesce({VALUE}, database()) "
            f"AND table_name = {VALUE}",
            [self.schema, self.name],
        )
        return self.cursor.fetchone() is not None

    def has_schema(self, name: str) -> bool:
        """Return whether the information schema has the schema."""
        self.execute(f"SELECT 1 FROM information_schema.schemata WHERE schema_name = {VALUE}", [name])
        return self.cursor.fetchone() is not None

    def fold(self, name: str) -> str:
        """Return the name in lower case: columns' names differ by more than that."""
        return name.lower()

    hashes: ClassVar[bool] = True
    keeps_apart: ClassVar[str] = f" LIMIT {2**64 - 1}"

    exact_value: ClassVar[str] = bytes_of(VALUE)

    def exact(self, column: str) -> str:
        """Return the bytes of a column of text: to most collations ``a``, ``A`` and ``a`` with a space are the same."""
        is_text = _TEXT_TYPE.search(self.existing[self.fold(column)].type.lower())
        return self.exact_text(column) if is_text else self.quote(column)

    def exact_text(self, column: str) -> str:
        """Return the bytes of the text, since in most collations spaces at the end, or capitals, do not count."""
        return bytes_of(self.quote(column))

    def exact_number(self, column: str) -> str:
        """Return single precision as a double: the server writes six digits of it, which is not all it has."""
        return f"({self.quote(column)} + 0E0)" if self.column_type(column).is_single else self.quote(column)

    def short_key(self, text: str) -> str:
        """Return a number, of which the server makes an index for a join; of long texts it makes none."""
        return f"CAST({_hashed(text)} AS UNSIGNED)"

    def hash_of_rows(self, condition: str, text: str, numbers: Sequence[str]) -> str:
        """Return the sum of the first 64 bits of MD5 sums; as DECIMAL, which takes it whole."""
        rank, *doubles = numbers
        values = ", ".join([rank, *(f"COALESCE({double}, '')" for double in doubles), text])
        hashed = _hashed(f"CONCAT_WS(' ', {values})")
        return f"SUM(CASE WHEN {condition} THEN CAST({hashed} AS DECIMAL(20)) END)"


def _hashed(text: str) -> str:
    return f"CONV(LEFT(MD5({text}), 16), 16, 10)"


def as_text(value: Any) -> str:
    """Return a text that some drivers give as bytes."""
    return value.decode() if isinstance(value, (bytes, bytearray)) else str(value)
