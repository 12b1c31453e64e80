"""What is PostgreSQL's own of a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from airflow_provider_personalize.exceptions import InvalidRequestError
from airflow_provider_personalize.sql.drivers import Database
from airflow_provider_personalize.sql.pgcatalog import COLUMNS_SQL, TABLE_SQL, PgTable, PgType
from airflow_provider_personalize.sql.statements import read_only
from airflow_provider_personalize.sql.table import VALUE, SqlTable, TableColumn
from airflow_provider_personalize.sql.values import ColumnType, UnfitValueError, server_text

#: PostgreSQL cuts longer names short, in silence.
NAME_MAX = 63
#: The first version that has hashes of 64 bits.
_HASHES_SINCE = 110_000


#: Settings that cost more than they save where all rows of two slices are compared.
_HINDERING = ("jit", "enable_mergejoin")
#: What gives a transaction's statements memory for many groups, unless they have it.
_MORE_MEMORY = (
    "SELECT set_config('work_mem', "
    "greatest(pg_size_bytes(current_setting('work_mem')), 64 * 1024 * 1024) / 1024 || 'kB', true)"
)


class PostgresTable(SqlTable):
    """A table of PostgreSQL, through psycopg 2 or 3."""

    database: ClassVar[Database] = "postgres"
    placeholder = "%s"
    types: ClassVar[Mapping[str, str]] = {**SqlTable.types, "timestamptz": "timestamptz"}
    singles: ClassVar[frozenset[str]] = frozenset({"real"})

    def __init__(self, hook: Any, connection: Any, name: str, schema: str | None = None) -> None:
        connection.rollback()
        connection.autocommit = False
        if hasattr(connection, "prepare_threshold"):
            # A pooler may hand the next transaction another session, which has not prepared the statement.
            connection.prepare_threshold = None
        if hasattr(connection, "set_client_encoding"):
            connection.set_client_encoding("UTF8")
        super().__init__(hook, connection, name, schema)
        #: The types of the table's columns, and what it is as a whole.
        self.pg_types: dict[str, PgType] = {}
        self.facts = PgTable()

    def open_cursor(self) -> Any:
        """Return a cursor that gives tuples, whatever the connection is set to."""
        if hasattr(self.connection, "row_factory"):
            from psycopg.rows import tuple_row

            return self.connection.cursor(row_factory=tuple_row)
        from psycopg2.extensions import cursor  # type: ignore[import-untyped]

        return self.connection.cursor(cursor_factory=cursor)

    def begin_reading(self, values: Mapping[str, Any]) -> None:
        """Only read, take one snapshot for all statements, and compare slices as the large sets that they are."""
        read_only(self.connection)
        self.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        # Until the table's next ANALYZE, a slice that was just loaded is thought to have a row or none, and each of its
        # rows would be compared with each of the other slice's.
        self._switch_off("enable_nestloop")

    def _switch_off(self, *settings: str) -> None:
        """Switch settings off for this transaction. Not all that resembles PostgreSQL has them, nor each version."""
        self.execute(
            "SELECT set_config(name, 'off', true) FROM pg_catalog.pg_settings "
            f"WHERE name IN ({', '.join([VALUE] * len(settings))})",
            settings,
        )

    def describe(self) -> Mapping[str, TableColumn] | None:
        """Return the columns, from the catalogue, and note how each is written."""
        self.execute(COLUMNS_SQL, [self.quoted])
        columns = {}
        for name, full_type, type_name, category, send, base, folds, optional, computed in self.cursor.fetchall():
            columns[name] = TableColumn(full_type, optional, computed)
            self.pg_types[name] = PgType(type_name, category, send, base, folds)
        if columns:
            self.execute(TABLE_SQL, [self.quoted])
            self.facts = PgTable(*self.cursor.fetchone())
        return columns or None

    def has_schema(self, name: str) -> bool:
        """Return whether the catalogue has the schema."""
        self.execute(f"SELECT 1 FROM pg_namespace WHERE nspname = {VALUE}", [name])
        return self.cursor.fetchone() is not None

    def quote(self, name: str) -> str:
        """Return an identifier in quotes, unless PostgreSQL would cut it short."""
        if len(name.encode()) > NAME_MAX:
            raise InvalidRequestError(
                f"Expected a name of at most {NAME_MAX} bytes, as PostgreSQL takes, got {name!r}."
            )
        return super().quote(name)

    def column_type(self, name: str) -> ColumnType:
        """Return what a column can hold; a domain holds what it is made of."""
        return ColumnType(self.pg_types[name].base, self.singles)

    def held(self, name: str, value: Any) -> Any:
        """Return a value as its column holds it; single precision may round, since PostgreSQL compares in that type."""
        try:
            return self.column_type(name).hold(value)
        except UnfitValueError as error:
            raise self.unfit(name, f"would change {value!r} of extra_columns: {error}") from error

    hashes: ClassVar[bool] = True

    def begin_comparing(self, *, groups: bool) -> None:
        """
        Give the statements memory for their groups; compiling them first would take longer than it saves. How few lists
        have changed the planner cannot know: to join them with all rows of now, it would put these in order.

        A join of all rows is faster with less memory, which makes it one of many small parts.
        """
        self._switch_off(*_HINDERING)
        if groups:
            self.execute(_MORE_MEMORY)

    joins_in_full: ClassVar[bool] = True
    finds_among: ClassVar[bool] = True

    def among(self, text: str) -> str:
        """Return a condition that the server looks up in a hash table: the list is a constant to it."""
        return f"{text} = ANY(CAST({VALUE} AS text[]))"

    def differ(self, values: Mapping[str, Any], others: Mapping[str, Any]) -> bool:
        """Ask the server whether a column that both name would have other values."""
        shared = [name for name in values if name in others and None not in (values[name], others[name])]
        if not shared:
            return False
        bound = [self.bound(self.held(name, side[name])) for name in shared for side in (values, others)]
        self.execute(
            f"SELECT {' OR '.join(f'{self._typed(name)} <> {self._typed(name)}' for name in shared)}",
            bound,
        )
        return bool(self.cursor.fetchone()[0])

    def _typed(self, name: str) -> str:
        return f"CAST({VALUE} AS {self.existing[name].type})"

    def exact(self, column: str) -> str:
        """Return the column in the collation that compares bytes, where its own, or its type, does not."""
        return self.quote(column) if self.pg_types[column].is_exact else self.exact_text(column)

    def exact_text(self, column: str) -> str:
        """Return the same, in the collation that compares bytes."""
        return f'{super().exact_text(column)} COLLATE "C"'

    def hash_of_rows(self, condition: str, text: str, numbers: Sequence[str]) -> str:
        """Return the sum of PostgreSQL's own 64-bit hashes, each of which has the row's numbers for its seed."""
        rank, *doubles = numbers
        hashed = f"hashtextextended({text}, CAST({rank} AS bigint))"
        for double in doubles:
            hashed = f"hashfloat8extended(coalesce(CAST({double} AS float8), 'NaN'), {hashed})"
        if self.version < _HASHES_SINCE:
            hashed = f"('x' || substr(md5(concat_ws(' ', {', '.join([*numbers, text])})), 1, 16))::bit(64)::bigint"
        return f"sum({hashed}) FILTER (WHERE {condition})"

    @property
    def version(self) -> int:
        """The server's version, as 180004."""
        connection = self.connection
        return int(connection.info.server_version if hasattr(connection, "info") else connection.server_version)

    def cast(self, value: str, column: str) -> str:
        """Convert explicitly; but a text that is too long for its column is an error, where a cast would cut it."""
        return value if self.pg_types[column].category == "S" else f"CAST({value} AS {self.existing[column].type})"

    def bound(self, value: Any) -> Any:
        """Return every value as text, which the server converts to the column's type."""
        return server_text(value)
