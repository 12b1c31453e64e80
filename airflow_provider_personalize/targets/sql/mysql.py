"""MySQL and MariaDB: ``LOAD DATA LOCAL INFILE`` where the connection allows it, else inserts of many rows."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from itertools import islice
from typing import Any, ClassVar

from airflow_provider_personalize.exceptions import PersonalizeError
from airflow_provider_personalize.sql.mysql import CONNECTOR, ESCAPING_MODE, MySqlTable, as_text, bytes_of
from airflow_provider_personalize.sql.table import VALUE
from airflow_provider_personalize.targets.sql.base import STAGE, SqlTarget

#: Seconds to wait for another load of the same table.
LOCK_TIMEOUT = 24 * 60 * 60
#: Rows in one file for LOAD DATA: some ten megabytes.
FILE_ROWS = 200_000

#: What the temporary table is called that holds each entity of a merge once.
_ENTITIES = "personalize_entities"
_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r", "\x1a": "\\Z"})


class MySqlTarget(SqlTarget):
    """
    Load into MySQL or MariaDB, through any of their drivers. The target has to be of a transactional engine.

    What this cannot promise: CREATE TABLE commits by itself there, so a load that fails may leave a table behind that
    it has created, empty.
    """

    table: MySqlTable
    ddl_commits: ClassVar[bool] = True

    def begin(self) -> None:
        """Set the session so that a value that does not fit is an error, and text is UTF-8."""
        self.table.execute("SET NAMES utf8mb4")
        self.table.set_zone(self.plan.extra)
        self.table.execute(f"SET SESSION sql_mode = CONCAT_WS(',', NULLIF({ESCAPING_MODE}, ''), 'STRICT_ALL_TABLES')")

    def lock(self) -> None:
        """Take the named lock of the target until the connection ends."""
        self.table.execute("SELECT database()")
        schema = self.table.schema or self.table.cursor.fetchone()[0]
        name = hashlib.sha256(f"airflow-provider-personalize {schema}.{self.table.name}".encode()).hexdigest()
        self.table.execute(f"SELECT GET_LOCK({VALUE}, {LOCK_TIMEOUT})", [name])
        if self.table.cursor.fetchone()[0] != 1:
            raise PersonalizeError(
                f"Another load of {self.table.name} has held its lock for {LOCK_TIMEOUT} s. Look for a load that hangs."
            )

    def check_table(self) -> None:
        """Make sure, too, that the table's storage engine has transactions."""
        if engine := self.table.engine_without_transactions():
            raise self.table.mismatch(
                f"its engine {engine} has no transactions, so a load could not be all or nothing. Make it InnoDB: "
                f"ALTER TABLE {self.table.quoted} ENGINE = InnoDB."
            )
        super().check_table()

    @property
    def may_show_others(self) -> bool:
        """Whether it is a view, which takes rows that it does not show."""
        return self.table.is_view()

    def merge_stage(self) -> None:
        """Delete by a join, which these servers do better than by IN, with each entity once: some have many rows."""
        target, entity = self.table.quoted, self.table.quote("entity")
        name, staged = f"{target}.{self.table.quote(self.entity.name)}", f"{_ENTITIES}.{entity}"
        # By digests, since these servers take texts for equal that differ only in spaces at the end.
        self.table.execute(
            f"CREATE TEMPORARY TABLE {_ENTITIES} (digest binary(32) PRIMARY KEY, {entity} text, "
            f"KEY entity ({entity}(191))){self.table.table_options}"
        )
        self.table.execute(
            f"INSERT IGNORE INTO {_ENTITIES} SELECT UNHEX(SHA2({entity}, 256)), {entity} "
            f"FROM {STAGE} WHERE {entity} IS NOT NULL"
        )
        self.table.execute(
            f"DELETE {target} FROM {target} JOIN {_ENTITIES} "
            f"ON {name} = {staged} AND {bytes_of(name)} = {bytes_of(staged)}"
        )
        self.table.execute(f"SELECT 1 FROM {STAGE} WHERE {entity} IS NULL LIMIT 1")
        if self.table.cursor.fetchall():
            self.table.execute(f"DELETE FROM {target} WHERE {name} IS NULL")
        self.insert_stage()

    def insert(self, into: str, names: list[str], rows: Iterator[tuple[Any, ...]]) -> int | None:
        """Insert rows by LOAD DATA, from a file, where the connection allows that."""
        # MySQL Connector opens no file that has no name.
        if not getattr(self.table.hook, "local_infile", False) or self.table.driver == CONNECTOR:
            return super().insert(into, names, rows)
        sql = self.table.with_placeholders(
            f"LOAD DATA LOCAL INFILE {VALUE} INTO TABLE {into} CHARACTER SET utf8mb4 ({', '.join(names)})"
        )
        taken: int | None = 0
        while chunk := list(islice(rows, FILE_ROWS)):
            # A file without a name: a load that is killed leaves no ids behind in the temporary folder.
            with tempfile.TemporaryFile("w", encoding="utf-8", newline="") as file:
                file.writelines("\t".join(map(_in_file, row)) + "\n" for row in chunk)
                file.flush()
                file.seek(0)
                self.table.cursor.execute(sql, [f"/dev/fd/{file.fileno()}"])
                taken = self.counted(taken)
            # With LOCAL, what would be an error is a warning, and the value is changed or the row left out.
            self.table.execute("SHOW WARNINGS")
            if warning := self.table.cursor.fetchone():
                raise self.table.mismatch(f"the database refused them: {as_text(warning[2])}")
        return taken


def _in_file(value: Any) -> str:
    if value is None:
        return "\\N"
    if isinstance(value, bool):
        return str(int(value))
    return str(value).translate(_ESCAPES)
