"""
The words of a database: its types, its quotes, its placeholders, and what its columns hold.

Identifiers are quoted, always; values are bound, always.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any, ClassVar

from airflow_provider_personalize.exceptions import InvalidRequestError, TableMismatchError
from airflow_provider_personalize.targets.plan import Load, TableColumn
from airflow_provider_personalize.targets.sql.values import ColumnType, UnfitValueError

#: Stands for a bound value in the SQL that sinks build; no identifier can hold it.
VALUE = "\0"


class Dialect:
    """
    A connection to a database, and how to say things to it.

    :param hook: The Airflow hook of the connection.
    :param connection: What its ``get_conn()`` gave.
    :param load: What to load.
    """

    #: The database's words for this package's types, and for those of Python values in ``extra_columns``.
    types: ClassVar[Mapping[str, str]] = {
        "text": "text",
        "integer": "integer",
        "bigint": "bigint",
        "double": "double precision",
        "boolean": "boolean",
        "date": "date",
        "timestamp": "timestamp",
        "timestamptz": "timestamp",
    }
    #: Types of single precision, which also compare a number with the double that was written.
    singles: ClassVar[frozenset[str]] = frozenset()
    #: Digits of a second that a column has whose type names none.
    fraction: ClassVar[int] = 6
    #: What quotes an identifier; doubled inside.
    quote_mark: ClassVar[str] = '"'
    #: How the driver wants a bound value written.
    placeholder: str = "?"
    #: What ends the creation of a table, as a character set.
    table_options: ClassVar[str] = ""
    #: The type to cast to for text.
    text_cast: ClassVar[str] = "text"

    def __init__(self, hook: Any, connection: Any, load: Load) -> None:
        self.hook = hook
        self.connection = connection
        self.load = load
        self.cursor = self.open_cursor()
        self.target = self.qualified(load.table)
        self.existing: Mapping[str, TableColumn] = {}

    @property
    def refusals(self) -> tuple[type[Exception], ...]:
        """The driver's errors that say that values do not fit a column or a constraint."""
        module = import_module(self.driver)
        return tuple(getattr(module, name) for name in ("DataError", "IntegrityError") if hasattr(module, name))

    def is_refusal(self, error: BaseException) -> bool:
        """Tell whether an error is one of :attr:`refusals`."""
        return isinstance(error, self.refusals)

    @property
    def driver(self) -> str:
        """The name of the driver's module."""
        return type(self.connection).__module__.partition(".")[0]

    def open_cursor(self) -> Any:
        """Open the cursor that all statements go through."""
        return self.connection.cursor()

    def matches(self, values: Mapping[str, Any]) -> tuple[str, list[Any]]:
        """Write that columns of the target have these values; give that, and what is to be bound."""
        conditions = []
        bound: list[Any] = []
        for name, value in values.items():
            conditions.append(f"{self.quote(name)} IS NULL" if value is None else self.equals(name))
            bound += [self.bound(self.held(name, value))] * conditions[-1].count(VALUE)
        return " AND ".join(conditions), bound

    def execute(self, sql: str, values: list[Any] | None = None) -> None:
        """Execute one statement; each :data:`VALUE` in it stands for one of the values."""
        if values:
            self.cursor.execute(self.with_placeholders(sql), values)
        else:
            self.cursor.execute(sql)

    def columns_of(self, table: str) -> list[str]:
        """Return the names of a table's columns, as the database writes them; the table's name is quoted already."""
        self.execute(f"SELECT * FROM {table} WHERE 1 = 0")
        return self.result_columns()

    def result_columns(self) -> list[str]:
        """Return the names of the columns of the statement that was executed last, and end it."""
        names = [str(column[0]) for column in self.cursor.description]
        self.cursor.fetchall()
        return names

    def with_placeholders(self, sql: str) -> str:
        """Write bound values as the driver wants them; a ``%`` in an identifier is no placeholder."""
        if self.placeholder == "%s":
            sql = sql.replace("%", "%%")
        return sql.replace(VALUE, self.placeholder)

    def fold(self, name: str) -> str:
        """Give what the database compares names by."""
        return name

    def quote(self, name: str) -> str:
        """Quote an identifier."""
        if not name or VALUE in name:
            raise InvalidRequestError(f"Expected the name of a table or column, got {name!r}.")
        return f"{self.quote_mark}{name.replace(self.quote_mark, 2 * self.quote_mark)}{self.quote_mark}"

    def qualified(self, table: str) -> str:
        """Quote a table's name, with the load's schema where it has one."""
        return f"{self.quote(self.load.schema)}.{self.quote(table)}" if self.load.schema else self.quote(table)

    def cast(self, value: str, column: str) -> str:
        """Turn an expression into the type of a column of the target, where the database does not by itself."""
        return value

    def equals(self, column: str) -> str:
        """Write that a column of the target equals a bound value, character for character."""
        return f"{self.quote(column)} = {self.cast(VALUE, column)}"

    def column_type(self, name: str) -> ColumnType:
        """Give what a column of the target can hold."""
        return ColumnType(self.existing[self.fold(name)].type or "", self.singles, self.fraction)

    def held(self, name: str, value: Any) -> Any:
        """
        Give a value of ``extra_columns`` as its column holds it.

        :raises TableMismatchError: if the column would change it: a later load would then not find its own slice, or
            another one's.
        """
        try:
            return self.column_type(name).hold(value, exact_singles=True)
        except UnfitValueError as error:
            raise self.unfit(name, f"would change {value!r} of extra_columns: {error}") from error

    def bound(self, value: Any) -> Any:
        """Turn a value of ``extra_columns`` into what the driver takes."""
        return value

    def create(self, table: str, columns: Mapping[str, str], *, if_missing: bool = False) -> None:
        """Create a table with these columns: ``{name: type}``; the type ``key`` makes a short text the primary key."""
        types = {**self.types, "key": "varchar(64) NOT NULL PRIMARY KEY"}
        defined = ", ".join(f"{self.quote(name)} {types[kind]}" for name, kind in columns.items())
        self.execute(f"CREATE TABLE {'IF NOT EXISTS ' if if_missing else ''}{table} ({defined}){self.table_options}")

    def unfit(self, name: str, reason: object) -> TableMismatchError:
        """Make the error that says that a column does not hold a value as it is."""
        kind = self.existing[self.fold(name)].type
        return self.mismatch(f"its column {name} of type {kind}: {reason}. Change the column's type.")

    def mismatch(self, reason: str) -> TableMismatchError:
        """Make the error that says why the target cannot take the rows."""
        name = f"{self.load.schema}.{self.load.table}" if self.load.schema else self.load.table
        return TableMismatchError(table=name, reason=reason)
