"""
A table, the connection that leads to it, and how its database wants to be spoken to.

Identifiers are quoted, always; values are bound, always.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from typing import Any, ClassVar, NamedTuple

from airflow_provider_personalize.exceptions import InvalidRequestError, TableMismatchError
from airflow_provider_personalize.sql.drivers import Database, driver_of
from airflow_provider_personalize.sql.values import ColumnType, UnfitValueError

#: Stands for a bound value in the SQL that this package builds; no identifier can hold it.
VALUE = "\0"


class TableColumn(NamedTuple):
    """
    A column of a table.

    :param type: Its type in the database's words.
    :param optional: Whether an insert may leave it out.
    :param computed: Whether the database alone fills it.
    """

    type: str
    optional: bool
    computed: bool = False


class SqlTable:
    """
    A table of a database, through an open connection. A subclass declares its database's dialect.

    :param hook: The Airflow hook of the connection.
    :param connection: The open connection.
    :param name: The table's name, without its schema.
    :param schema: The table's schema, or None for the connection's own.
    """

    #: The database whose dialect this is.
    database: ClassVar[Database] = "other"
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
    #: Whether a column of text loses the spaces that it has no place for, in silence.
    cuts_spaces: ClassVar[bool] = False

    def __init__(self, hook: Any, connection: Any, name: str, schema: str | None = None) -> None:
        self.hook = hook
        self.connection = connection
        self.name = name
        self.schema = schema
        self.driver = driver_of(connection)
        self.cursor = self.open_cursor()
        #: The table's name as SQL has it: in quotes, with its schema.
        self.quoted = self.qualified(name)
        #: The table's columns by their folded names, once :meth:`look` has looked.
        self.existing: Mapping[str, TableColumn] = {}

    # The connection

    def open_cursor(self) -> Any:
        """Return the cursor that all statements go through."""
        return self.connection.cursor()

    def begin_reading(self, values: Mapping[str, Any]) -> None:
        """
        Let the connection only read from now on, and see the same state of the database in all its statements.

        :param values: The values that rows will be looked for by.
        """
        raise NotImplementedError

    def execute(self, sql: str, values: Sequence[Any] = ()) -> None:
        """Execute one statement; each :data:`VALUE` in it stands for one of the values."""
        if values:
            self.cursor.execute(self.with_placeholders(sql), list(values))
        else:
            self.cursor.execute(sql)

    def with_placeholders(self, sql: str) -> str:
        """Return a statement with bound values as the driver wants them; a ``%`` in an identifier is no placeholder."""
        if self.placeholder == "%s":
            sql = sql.replace("%", "%%")
        return sql.replace(VALUE, self.placeholder)

    def drivers_style(self) -> AbstractContextManager[None]:
        """Return a context in which bound values are written as the driver wants them of users."""
        return nullcontext()

    def is_refusal(self, error: BaseException) -> bool:
        """Return whether an error of the driver says that values do not fit a column or a constraint."""
        module = import_module(self.driver)
        names = ("DataError", "IntegrityError")
        return isinstance(error, tuple(getattr(module, name) for name in names if hasattr(module, name)))

    # Names

    def fold(self, name: str) -> str:
        """Return what the database compares a name by."""
        return name

    def quote(self, name: str) -> str:
        """Return an identifier in quotes."""
        if not name or VALUE in name:
            raise InvalidRequestError(f"Expected the name of a table or column, got {name!r}.")
        return f"{self.quote_mark}{name.replace(self.quote_mark, 2 * self.quote_mark)}{self.quote_mark}"

    def qualified(self, table: str) -> str:
        """Return the quoted name of a table of the same schema."""
        return f"{self.quote(self.schema)}.{self.quote(table)}" if self.schema else self.quote(table)

    # Tables

    def describe(self) -> Mapping[str, TableColumn] | None:
        """Return the table's columns by their names, or None where there is no such table."""
        raise NotImplementedError

    def look(self) -> bool:
        """Look at the table's columns, and return whether there is such a table."""
        columns = self.describe()
        self.existing = {self.fold(name): column for name, column in (columns or {}).items()}
        return columns is not None

    def has_schema(self, name: str) -> bool:
        """Return whether there is such a schema, as far as the database has a word for it."""
        return False

    def twin(self) -> tuple[str, str] | None:
        """Return schema and table where the table's name, which does not exist, has both in it; otherwise None."""
        given = self.name, self.schema, self.quoted
        *_, schema, table = ["", *(part.strip(self.quote_mark) for part in self.name.split("."))]
        if not (schema and table):
            return None
        try:
            self.name, self.schema = table, schema
            self.quoted = self.qualified(table)
            return (schema, table) if self.describe() or self.has_schema(schema) else None
        except TableMismatchError:
            return schema, table
        except Exception:  # noqa: BLE001 (some databases have no other answer for a schema that is not there)
            return None
        finally:
            self.name, self.schema, self.quoted = given

    def create(self, name: str, columns: Mapping[str, str], *, if_missing: bool = False) -> None:
        """
        Create a table.

        :param name: The table's qualified name.
        :param columns: ``{name: type}``, with this package's types; ``key`` makes a short text the primary key.
        :param if_missing: Whether to do nothing where there is such a table.
        """
        types = {**self.types, "key": "varchar(64) NOT NULL PRIMARY KEY"}
        defined = ", ".join(f"{self.quote(column)} {types[kind]}" for column, kind in columns.items())
        self.execute(f"CREATE TABLE {'IF NOT EXISTS ' if if_missing else ''}{name} ({defined}){self.table_options}")

    def columns_of(self, name: str) -> list[str]:
        """Return the names of a table's columns, as the database writes them; its own name is quoted already."""
        self.execute(f"SELECT * FROM {name} WHERE 1 = 0")
        return self.result_columns()

    def result_columns(self) -> list[str]:
        """Return the names of the columns of the statement that was executed last, and end it."""
        names = [str(column[0]) for column in self.cursor.description]
        self.cursor.fetchall()
        return names

    # Values

    def cast(self, value: str, column: str) -> str:
        """Return an expression of the type of a column of the table, where the database does not convert by itself."""
        return value

    def exact(self, column: str) -> str:
        """
        Return a column of the table as what is compared by nothing but its characters: to many a collation capitals,
        accents or spaces at the end do not count.
        """
        return self.quote(column)

    #: A bound value as it is compared with :meth:`exact`.
    exact_value: ClassVar[str] = VALUE

    def equals(self, column: str) -> str:
        """Return the condition that a column of the table equals a bound value, character for character."""
        name, exact = self.quote(column), self.exact(column)
        # The column by itself is what the database has an index of, or partitions.
        same = f"{name} = {self.cast(VALUE, column)}"
        return same if exact == name else f"({same} AND {exact} = {self.exact_value})"

    def matches(self, values: Mapping[str, Any]) -> tuple[str, list[Any]]:
        """Return the condition that columns of the table have these values, and what is to be bound in it."""
        conditions = []
        bound: list[Any] = []
        for name, value in values.items():
            conditions.append(f"{self.quote(name)} IS NULL" if value is None else self.equals(name))
            bound += [self.bound(self.held(name, value))] * conditions[-1].count(VALUE)
        return " AND ".join(conditions), bound

    def count(self, condition: str, values: Sequence[Any] = ()) -> int:
        """Return how many rows of the table meet a condition."""
        self.execute(f"SELECT COUNT(*) FROM {self.quoted} WHERE {condition}", values)
        return int(self.cursor.fetchone()[0])

    def column_type(self, name: str) -> ColumnType:
        """Return what a column of the table can hold."""
        return ColumnType(self.existing[self.fold(name)].type or "", self.singles, self.fraction)

    def held(self, name: str, value: Any) -> Any:
        """
        Return a value of ``extra_columns`` as its column holds it.

        :raises TableMismatchError: if the column would change it: a later load would then not find its own slice, or
            find another one's.
        """
        try:
            return self.column_type(name).hold(value, exact_singles=True)
        except UnfitValueError as error:
            raise self.unfit(name, f"would change {value!r} of extra_columns: {error}") from error

    def bound(self, value: Any) -> Any:
        """Return a value of ``extra_columns`` as the driver takes it."""
        return value

    # Comparing rows

    def exact_text(self, column: str) -> str:
        """Return a column as text that is compared, and put in order, by nothing but its characters."""
        return f"CAST({self.quote(column)} AS {self.text_cast})"

    def exact_number(self, column: str) -> str:
        """Return a column of numbers with all the digits that it holds, however it is read."""
        return self.quote(column)

    #: Whether :meth:`hash_of_rows` works.
    hashes: ClassVar[bool] = False
    #: What ends a subquery so that the database makes it by itself, and an index of it for a join, where it would
    #: otherwise merge it into the query around it, and go through all rows again for each one that it joins.
    keeps_apart: ClassVar[str] = ""

    def begin_comparing(self, *, groups: bool) -> None:
        """
        Prepare this transaction for statements that compare all rows of two slices.

        :param groups: Whether they make a group of each entity.
        """

    def differ(self, values: Mapping[str, Any], others: Mapping[str, Any]) -> bool:
        """Return whether it is certain that no row of the table has both these values and those."""
        return False

    def short_key(self, text: str) -> str:
        """
        Return what rows are joined by beside a text that is the same in both.

        :param text: An :meth:`exact_text` that is not NULL.
        """
        return "0"

    #: Whether ``FULL JOIN`` is the fastest way to what is on one side only.
    joins_in_full: ClassVar[bool] = False
    #: Whether :meth:`among` is a fast way to some of the rows.
    finds_among: ClassVar[bool] = False

    def among(self, text: str) -> str:
        """
        Return the condition that a text is one of a list of texts, which is to be bound as one value.

        :param text: An :meth:`exact_text`.
        """
        raise NotImplementedError

    def hash_of_rows(self, condition: str, text: str, numbers: Sequence[str]) -> str:
        """
        Return an aggregate that is another one where rows differ, but for one case in 2 to the power of 64.

        The order in which the database goes through the rows does not count. It is NULL where there are no rows.

        :param condition: Which rows count.
        :param text: A text of each row, not NULL.
        :param numbers: Numbers of each row: a whole one, and doubles, which may be NULL.
        """
        raise NotImplementedError

    # Errors

    def unfit(self, name: str, reason: object) -> TableMismatchError:
        """Return the error that says that a column does not hold a value as it is."""
        kind = self.existing[self.fold(name)].type
        return self.mismatch(f"its column {name} of type {kind}: {reason}. Change the column's type.")

    def mismatch(self, reason: str) -> TableMismatchError:
        """Return the error that says why the table cannot take the rows."""
        name = f"{self.schema}.{self.name}" if self.schema else self.name
        return TableMismatchError(table=name, reason=reason)
