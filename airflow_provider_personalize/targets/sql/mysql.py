"""MySQL and MariaDB: ``LOAD DATA LOCAL INFILE`` where the connection allows it, else inserts of many rows."""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Iterator, Mapping
from importlib import import_module
from itertools import islice
from typing import Any, ClassVar

from airflow_provider_personalize.exceptions import InvalidRequestError, PersonalizeError
from airflow_provider_personalize.targets.plan import Load, TableColumn
from airflow_provider_personalize.targets.sql.base import STAGE, VALUE, Sink
from airflow_provider_personalize.targets.sql.values import has_zone

CONNECTOR = "mysql.connector"
#: Seconds to wait for another load of the same table.
LOCK_TIMEOUT = 24 * 60 * 60
#: Rows in one file for LOAD DATA: some ten megabytes.
FILE_ROWS = 200_000

#: What the temporary table is called that holds each entity of a merge once.
_ENTITIES = "personalize_entities"
#: Codes of the servers' errors for a value that does not fit its column (out of range, cut, no number or date, not of
#: its character set, too long) or a CHECK.
_REFUSALS = frozenset({1264, 1265, 1292, 1366, 1367, 1406, 3819, 4025})
#: Drops the mode in which a backslash is one: files for LOAD DATA, and values that MySQL Connector binds, are escaped.
_ESCAPING = "REPLACE(@@sql_mode, 'NO_BACKSLASH_ESCAPES', '')"
_TEXT_TYPE = re.compile("char|text")
_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r", "\x1a": "\\Z"})


class MySqlSink(Sink):
    """
    Load into MySQL or MariaDB, through any of their drivers. The target has to be of a transactional engine.

    What this cannot promise: CREATE TABLE commits by itself there, so a load that fails may leave a table behind that
    it has created, empty.
    """

    placeholder = "%s"
    quote_mark: ClassVar[str] = "`"
    types: ClassVar[Mapping[str, str]] = {
        **Sink.types,
        "double": "double",
        "timestamp": "datetime(6)",
        "timestamptz": "datetime(6)",
    }
    # Any other collation takes some ids for the same that are not.
    table_options: ClassVar[str] = " CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
    ddl_commits: ClassVar[bool] = True
    text_cast: ClassVar[str] = "char"
    singles: ClassVar[frozenset[str]] = frozenset({"float"})
    fraction: ClassVar[int] = 0
    cuts_spaces: ClassVar[bool] = True

    def __init__(self, hook: Any, connection: Any, load: Load) -> None:
        hook.set_autocommit(connection, False)
        super().__init__(hook, connection, load)

    def is_refusal(self, error: BaseException) -> bool:
        """Know the codes, too, that drivers take for operational errors."""
        return super().is_refusal(error) or (bool(error.args) and error.args[0] in _REFUSALS)

    def open_cursor(self) -> Any:
        """Open a cursor that gives tuples, whatever the connection is set to."""
        if self.driver == "MySQLdb":
            from MySQLdb.cursors import Cursor  # type: ignore[import-untyped]

            return self.connection.cursor(Cursor)
        if self.driver == "pymysql":
            return self.connection.cursor(import_module("pymysql.cursors").Cursor)
        return self.connection.cursor(buffered=True) if self.driver == CONNECTOR else self.connection.cursor()

    @property
    def driver(self) -> str:
        """The name of the driver's module: MySQL Connector's has two parts."""
        driver = super().driver
        return CONNECTOR if driver == "mysql" else driver

    def with_placeholders(self, sql: str) -> str:
        """Leave a ``%`` as it is for MySQL Connector, which knows no way to write one but that."""
        return sql.replace(VALUE, "%s") if self.driver == CONNECTOR else super().with_placeholders(sql)

    def quote(self, name: str) -> str:
        """Quote an identifier, but for one that MySQL Connector would put a value into."""
        if self.driver == CONNECTOR and "%s" in name:
            raise InvalidRequestError(
                f"Expected a name that MySQL Connector can write, got {name!r}, with %s in it. Use mysqlclient."
            )
        return super().quote(name)

    def begin(self) -> None:
        """Make a value that does not fit an error, whatever the server's mode, and text UTF-8."""
        self.execute("SET NAMES utf8mb4")
        self._set_zone()
        self.execute(f"SET SESSION sql_mode = CONCAT_WS(',', NULLIF({_ESCAPING}, ''), 'STRICT_ALL_TABLES')")

    def begin_reading(self) -> None:
        """Take one snapshot for all statements."""
        self.execute("SET NAMES utf8mb4 COLLATE utf8mb4_bin")
        self._set_zone()
        self.execute(f"SET SESSION sql_mode = {_ESCAPING}")
        self.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")

    def _set_zone(self) -> None:
        """Let TIMESTAMP columns take values for UTC, as which a moment with a zone goes in."""
        if any(map(has_zone, self.load.extra.values())):
            self.execute("SET time_zone = '+00:00'")

    def lock(self) -> None:
        """Take the named lock of the target until the connection ends."""
        self.execute("SELECT database()")
        schema = self.load.schema or self.cursor.fetchone()[0]
        name = hashlib.sha256(f"airflow-provider-personalize {schema}.{self.load.table}".encode()).hexdigest()
        self.execute(f"SELECT GET_LOCK({VALUE}, {LOCK_TIMEOUT})", [name])
        if self.cursor.fetchone()[0] != 1:
            raise PersonalizeError(
                f"Another load of {self.load.table} has held its lock for {LOCK_TIMEOUT} s. Look for a load that hangs."
            )

    def describe(self) -> Mapping[str, TableColumn] | None:
        """Read the columns from the information schema; refuse an engine without transactions."""
        where = f"WHERE table_schema = coalesce({VALUE}, database()) AND table_name = {VALUE}"
        names = [self.load.schema, self.load.table]
        self.execute(
            f"SELECT t.engine, e.transactions FROM information_schema.tables t "
            f"LEFT JOIN information_schema.engines e ON e.engine = t.engine {where}",
            names,
        )
        found = self.cursor.fetchone()
        if found and found[0] and found[1] != "YES":
            raise self.mismatch(
                f"its engine {found[0]} has no transactions, so a load could not be all or nothing. Make it InnoDB: "
                f"ALTER TABLE {self.target} ENGINE = InnoDB."
            )
        self.execute(
            "SELECT column_name, column_type, is_nullable = 'YES' OR column_default IS NOT NULL OR extra <> '', "
            "extra LIKE '%VIRTUAL%' OR extra LIKE '%STORED%' OR extra LIKE '%PERSISTENT%' "
            f"FROM information_schema.columns {where} ORDER BY ordinal_position",
            names,
        )
        return {
            _text(name): TableColumn(_text(kind), bool(optional), bool(computed))
            for name, kind, optional, computed in self.cursor.fetchall()
        } or None

    def has_schema(self, name: str) -> bool:
        """Ask the information schema."""
        self.execute(f"SELECT 1 FROM information_schema.schemata WHERE schema_name = {VALUE}", [name])
        return self.cursor.fetchone() is not None

    def fold(self, name: str) -> str:
        """Give the name in lower case: columns' names differ by more than that."""
        return name.lower()

    def merge_stage(self) -> None:
        """Delete by a join, which these servers do better than by IN, with each entity once: some have many rows."""
        entity = self.load.column("entity")
        assert entity is not None  # noqa: S101 (checked by the operator)
        name, staged = f"{self.target}.{self.quote(entity.name)}", f"{_ENTITIES}.{self.quote('entity')}"
        # By digests, since to these servers texts are the same that differ in spaces at the end.
        self.execute(
            f"CREATE TEMPORARY TABLE {_ENTITIES} (digest binary(32) PRIMARY KEY, {self.quote('entity')} text, "
            f"KEY entity ({self.quote('entity')}(191))){self.table_options}"
        )
        self.execute(
            f"INSERT IGNORE INTO {_ENTITIES} SELECT UNHEX(SHA2({self.quote('entity')}, 256)), {self.quote('entity')} "
            f"FROM {STAGE} WHERE {self.quote('entity')} IS NOT NULL"
        )
        self.execute(
            f"DELETE {self.target} FROM {self.target} JOIN {_ENTITIES} "
            f"ON {name} = {staged} AND CAST({name} AS BINARY) = CAST({staged} AS BINARY)"
        )
        self.execute(f"SELECT 1 FROM {STAGE} WHERE {self.quote('entity')} IS NULL LIMIT 1")
        if self.cursor.fetchall():
            self.execute(f"DELETE FROM {self.target} WHERE {name} IS NULL")
        self.insert_stage()

    def insert(self, table: str, names: list[str], rows: Iterator[tuple[Any, ...]]) -> int | None:
        """Write rows into a file for LOAD DATA where client and server allow that."""
        # MySQL Connector opens no file that has no name.
        if not getattr(self.hook, "local_infile", False) or self.driver == CONNECTOR:
            return super().insert(table, names, rows)
        sql = self.with_placeholders(
            f"LOAD DATA LOCAL INFILE {VALUE} INTO TABLE {table} CHARACTER SET utf8mb4 ({', '.join(names)})"
        )
        taken: int | None = 0
        while chunk := list(islice(rows, FILE_ROWS)):
            # A file without a name: whoever is killed leaves no ids behind in the temporary folder.
            with tempfile.TemporaryFile("w", encoding="utf-8", newline="") as file:
                file.writelines("\t".join(map(_in_file, row)) + "\n" for row in chunk)
                file.flush()
                file.seek(0)
                self.cursor.execute(sql, [f"/dev/fd/{file.fileno()}"])
                taken = self.counted(taken)
            # With LOCAL, what would be an error is a warning, and the value is changed or the row left out.
            self.execute("SHOW WARNINGS")
            if warning := self.cursor.fetchone():
                raise self.mismatch(f"the database refused them: {_text(warning[2])}")
        return taken

    def equals(self, column: str) -> str:
        """Compare the bytes of texts, too: most collations take ``a``, ``A`` and ``a`` with a space for the same."""
        name, kind = self.quote(column), self.existing[self.fold(column)].type.lower()
        same = f"{name} = {VALUE}"
        return f"({same} AND CAST({name} AS BINARY) = CAST({VALUE} AS BINARY))" if _TEXT_TYPE.search(kind) else same


def _text(value: Any) -> str:
    """Give what some drivers give as bytes."""
    return value.decode() if isinstance(value, (bytes, bytearray)) else str(value)


def _in_file(value: Any) -> str:
    if value is None:
        return "\\N"
    if isinstance(value, bool):
        return str(int(value))
    return str(value).translate(_ESCAPES)
