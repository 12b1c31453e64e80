"""
How a load becomes a table: one transaction, the same steps in every database.

A sink declares its database's dialect and overrides the steps that this database can do better. Identifiers are quoted,
always; values are bound, always.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from importlib import import_module
from itertools import islice
from typing import Any, ClassVar

from airflow_provider_personalize.batch.rows import Batch, Column
from airflow_provider_personalize.exceptions import InvalidRequestError, TableMismatchError, TooManyRejectsError
from airflow_provider_personalize.sinks.load import Load, Result, TableColumn, staged_rows, type_of
from airflow_provider_personalize.sinks.values import (
    ColumnType,
    UnfitValueError,
    check_singles,
    check_texts,
    check_whole,
)

#: The table, beside the target, that says which loads were appended already.
LEDGER = "personalize_loads"
#: Rows in one call of the driver, where a sink has nothing better than inserts.
INSERT_ROWS = 10_000
#: Stands for a bound value in the SQL that sinks build; no identifier can hold it.
VALUE = "\0"


class Sink:
    """
    Load rows into one table, all or nothing.

    :param hook: The Airflow hook of the connection.
    :param connection: What its ``get_conn()`` gave; the sink closes it.
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
    #: Whether a column of text loses the spaces that it has no place for, in silence.
    cuts_spaces: ClassVar[bool] = False
    #: What quotes an identifier; doubled inside.
    quote_mark: ClassVar[str] = '"'
    #: How the driver wants a bound value written.
    placeholder: str = "?"
    #: What ends the creation of a table, as a character set.
    table_options: ClassVar[str] = ""
    #: The type to cast to for text.
    text_cast: ClassVar[str] = "text"
    #: Whether a CREATE TABLE commits what was done before it, and cannot be rolled back.
    ddl_commits: ClassVar[bool] = False

    def __init__(self, hook: Any, connection: Any, load: Load) -> None:
        self.hook = hook
        self.connection = connection
        self.load = load
        self.cursor = self.open_cursor()
        self.target = self.qualified(load.table)
        self.existing: Mapping[str, TableColumn] = {}
        #: How many rows the database says it took, or None where its driver does not tell.
        self.taken: int | None = None

    @property
    def refusals(self) -> tuple[type[Exception], ...]:
        """The driver's errors that say that values do not fit a column or a constraint."""
        module = import_module(self.driver)
        return tuple(getattr(module, name) for name in ("DataError", "IntegrityError") if hasattr(module, name))

    @property
    def driver(self) -> str:
        """The name of the driver's module."""
        return type(self.connection).__module__.partition(".")[0]

    # The steps

    def publish(self, batches: Iterator[Batch], result: Result) -> tuple[int, int, int] | None:
        """
        Load the batches in one transaction.

        :param batches: The rows; taken one by one.
        :param result: What the reading comes to.
        :return: None; or, where ``append`` finds that this source was loaded before, and so does nothing, the lines,
            rows and rejects of then.
        :raises TableMismatchError: if the target cannot take the rows. Nothing was written.
        :raises TooManyRejectsError: if there are too many rejects. Nothing was published; the rejects table has them.
        """
        try:
            self.begin()
            self.lock()
            self.prepare()
            self.create_others()
            if self.ddl_commits:
                self.connection.commit()
                self.begin()
            if self.load.write_mode == "append" and (before := self._ledger()) is not None:
                self.connection.rollback()
                return before
            self.write(self.checked(batches))
            result.settle()
            self.finish()
            self.check_taken(result.rows)
            if self.load.write_mode == "append":
                self._note(result)
            self._keep(result)
            self.connection.commit()
        except TooManyRejectsError:
            self.connection.rollback()
            self.begin()
            if not self.ddl_commits:
                self.create_others()
            self._keep(result)
            self.connection.commit()
            raise
        except BaseException as error:
            # The connection may be what failed; the database then rolls back by itself.
            with suppress(Exception):
                self.connection.rollback()
            if isinstance(error, self.refusals):
                raise self.mismatch(f"the database refused them: {str(error).strip()}") from error
            raise
        finally:
            with suppress(Exception):
                self.connection.close()
        return None

    def open_cursor(self) -> Any:
        """Open the cursor that all statements go through."""
        return self.connection.cursor()

    def begin(self) -> None:
        """Begin a transaction, where the driver does not by itself."""

    def begin_reading(self) -> None:
        """Begin a transaction that reads only, and sees the same state of the database from its first statement on."""

    def lock(self) -> None:
        """Wait for other loads of the same table, without keeping readers out."""

    def prepare(self) -> None:
        """Create the target, or make sure that it can take the rows."""
        wanted = {column.name: column.type for column in self.load.columns}
        wanted |= {name: type_of(value) for name, value in self.load.extra.items()}
        if not self.look():
            if twin := self._twin():
                raise self.mismatch(
                    f"expected the table's name alone, got {self.load.table!r}. Set schema={twin[0]!r} and "
                    f"table={twin[1]!r}."
                )
            if not self.load.create_table:
                raise self.mismatch(
                    "expected it to exist, since create_table=False, but it does not. Create it, or set "
                    "create_table=True."
                )
            self.create(self.target, wanted)
            self.look()
        existing = self.existing
        ours = {self.fold(name) for name in wanted}
        if missing := sorted(ours - set(existing)):
            raise self.mismatch(
                f"expected the columns {', '.join(wanted)}; it has {', '.join(existing)}, and so lacks "
                f"{', '.join(missing)}. Add the columns, or rename or leave out ours with column_names."
            )
        if needed := sorted(name for name, column in existing.items() if name not in ours and not column.optional):
            raise self.mismatch(
                f"its columns {', '.join(needed)} are NOT NULL without a default, and nothing fills them. Give them a "
                "default, or a value in extra_columns."
            )
        if computed := sorted(name for name, column in existing.items() if name in ours and column.computed):
            raise self.mismatch(
                f"its columns {', '.join(computed)} are filled by the database alone (GENERATED). Give ours other "
                "names or leave them out with column_names, or make them plain columns."
            )
        self.check_types()
        for name, value in self.load.extra.items():
            self.held(name, value)

    def look(self) -> bool:
        """Look at the target's columns, and tell whether there is such a table."""
        columns = self.describe()
        self.existing = {self.fold(name): column for name, column in (columns or {}).items()}
        return columns is not None

    def _twin(self) -> tuple[str, str] | None:
        """Give schema and table where the table's name, which there is not, has both in it."""
        given, target = self.load, self.target
        *_, schema, table = ["", *(part.strip(self.quote_mark) for part in given.table.split("."))]
        if not (schema and table):
            return None
        try:
            self.load = replace(given, schema=schema, table=table)
            self.target = self.qualified(table)
            return (schema, table) if self.describe() or self.has_schema(schema) else None
        except TableMismatchError:
            return schema, table
        except Exception:  # noqa: BLE001 (some databases have no other answer for a schema that is not there)
            return None
        finally:
            self.load, self.target = given, target

    def has_schema(self, name: str) -> bool:
        """Tell whether there is such a schema, as far as the database has a word for it."""
        return False

    def check_types(self) -> None:
        """Make sure that ids go into columns of text (as a number, ``007`` would be ``7``), and no number is a flag."""
        for column in self.load.columns:
            kind = self.existing[self.fold(column.name)].type
            if column.role == "filter_values":
                continue  # JSON, which a column of JSON holds as well as one of text.
            if column.type == "text" and kind and not ColumnType(kind).is_text:
                raise self.mismatch(
                    f"its column {column.name} is of type {kind}, which would change ids such as '007'. Make it text."
                )
            if column.type != "text" and kind.lower() in {"bool", "boolean"}:
                raise self.mismatch(f"its column {column.name} is of type {kind}, which holds no numbers.")

    def checked(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """
        Pass batches through; values that their columns would change in silence are an error.

        Nothing is looked at for columns that hold all that may come, as those that this package creates.
        """
        checks = [(column, check) for column in self.load.columns if (check := self.check_for(column))]
        return self._checked(batches, checks) if checks else batches

    def check_for(self, column: Column) -> Callable[[Iterable[Any]], None] | None:
        """Give what raises UnfitValueError for values that the column would change in silence; None for nothing."""
        kind = self.column_type(column.name)
        if column.type == "text" and self.cuts_spaces and (kind.length or kind.is_padded):
            return partial(check_texts, column=kind)
        if column.type == "double":
            return check_singles if kind.is_single else check_whole if kind.is_integer else None
        return None

    def _checked(
        self, batches: Iterator[Batch], checks: Sequence[tuple[Column, Callable[[Iterable[Any]], None]]]
    ) -> Iterator[Batch]:
        for batch in batches:
            for column, check in checks:
                try:
                    check(batch.entities if column.role == "entity" else batch.column(column.role))
                except UnfitValueError as error:
                    raise self.unfit(column.name, error) from error
            yield batch

    def check_taken(self, rows: int) -> None:
        """Make sure that the database took as many rows as were sent."""
        if self.taken is not None and self.taken != rows:
            raise self.mismatch(
                f"the database took {self.taken} of {rows} rows: a trigger or a rule of the table drops the others, or "
                "puts them elsewhere. Take it away, or load into the table that the rows belong to."
            )

    def describe(self) -> Mapping[str, TableColumn] | None:
        """Give the target's columns by name, or None where there is no such table."""
        raise NotImplementedError

    def write(self, batches: Iterator[Batch]) -> None:
        """Make room and write the rows: into the target, or, to merge, aside first."""
        if self.load.write_mode == "merge":
            self.create_stage()
            columns = self.stage_columns
            names = [self.quote(column.role) for column in columns]
            self.insert(STAGE, names, staged_rows(batches, columns))
            return
        self.delete_old()
        tail = self.tail
        names = [self.quote(name) for name in self.target_names]
        rows = (row + tail for batch in batches for row in batch.rows(self.load.columns))
        self.taken = self.insert(self.target, names, rows)

    def finish(self) -> None:
        """Bring what was written aside into the target."""
        if self.load.write_mode == "merge":
            self.merge_stage()

    # What steps are made of

    @property
    def target_names(self) -> list[str]:
        """The target's columns that are written, those of ``extra_columns`` last."""
        return [*(column.name for column in self.load.columns), *self.load.extra]

    def delete_old(self) -> None:
        """Delete what this load's rows take the place of."""
        if self.load.write_mode == "replace":
            self.execute(f"DELETE FROM {self.target}")
        elif self.load.write_mode == "replace_slice":
            condition, values = self.matches(self.load.extra)
            self.execute(f"DELETE FROM {self.target} WHERE {condition}", values)

    def matches(self, values: Mapping[str, Any]) -> tuple[str, list[Any]]:
        """Write that columns of the target have these values; give that, and what is to be bound."""
        conditions = []
        bound: list[Any] = []
        for name, value in values.items():
            conditions.append(f"{self.quote(name)} IS NULL" if value is None else self.equals(name))
            bound += [self.bound(self.held(name, value))] * conditions[-1].count(VALUE)
        return " AND ".join(conditions), bound

    @property
    def tail(self) -> tuple[Any, ...]:
        """The values of ``extra_columns`` as they are bound, for the end of each row."""
        return tuple(self.bound(self.held(name, value)) for name, value in self.load.extra.items())

    def insert(self, table: str, names: list[str], rows: Iterator[tuple[Any, ...]]) -> int | None:
        """Insert rows by the driver's ``executemany``; give how many the database took, or None if it does not tell."""
        marks = ", ".join([VALUE] * len(names))
        sql = self.with_placeholders(f"INSERT INTO {table} ({', '.join(names)}) VALUES ({marks})")
        taken: int | None = 0
        while chunk := list(islice(rows, INSERT_ROWS)):
            self.cursor.executemany(sql, chunk)
            taken = self.counted(taken)
        return taken

    def counted(self, before: int | None = 0) -> int | None:
        """Add what the last statement has taken to what those before it have; None where the driver does not tell."""
        count = self.cursor.rowcount
        return None if before is None or count is None or count < 0 else before + int(count)

    @property
    def stage_columns(self) -> tuple[Column, ...]:
        """The columns of the stage: those of the load, and the rank even where the target has none."""
        columns = self.load.columns
        return columns if self.load.column("rank") else (*columns, Column("rank", "integer", "rank"))

    def create_stage(self) -> None:
        """Create a table of this connection alone, which is gone when it closes, however it ends."""
        columns = ", ".join(f"{self.quote(column.role)} {self.types[column.type]}" for column in self.stage_columns)
        self.execute(f"CREATE TEMPORARY TABLE {STAGE} ({columns}){self.table_options}")

    def merge_stage(self) -> None:
        """Delete the rows of every entity in the stage, and put the stage's rows in their place."""
        entity = self.load.column("entity")
        assert entity is not None  # noqa: S101 (checked by the operator)
        name = self.quote(entity.name)
        staged = self.quote("entity")
        self.execute(
            f"DELETE FROM {self.target} WHERE {name} IN "
            f"(SELECT {self.cast(staged, entity.name)} FROM {STAGE} WHERE {staged} IS NOT NULL)"
        )
        self.execute(
            f"DELETE FROM {self.target} WHERE {name} IS NULL AND EXISTS (SELECT 1 FROM {STAGE} WHERE {staged} IS NULL)"
        )
        self.insert_stage()

    def insert_stage(self) -> None:
        """Insert the stage's rows into the target."""
        names = ", ".join(map(self.quote, self.target_names))
        values = [
            *(self.staged(column) for column in self.load.columns),
            *(self.cast(VALUE, name) for name in self.load.extra),
        ]
        self.execute(
            f"INSERT INTO {self.target} ({names}) SELECT {', '.join(values)} FROM {STAGE} "
            f"WHERE {self.quote('rank')} > 0",
            list(self.tail),
        )
        self.taken = self.counted()

    def staged(self, column: Column) -> str:
        """Turn a column of the stage into the target's type."""
        return self.cast(self.quote(column.role), column.name)

    # Ledger and rejects

    def create_others(self) -> None:
        """Create the ledger and the table for rejects, where they are wanted and missing."""
        if self.load.write_mode == "append":
            self.create(self.qualified(LEDGER), _LEDGER_COLUMNS, if_missing=True)
        if self.load.rejects_table:
            self.create(self.qualified(self.load.rejects_table), _REJECT_COLUMNS, if_missing=True)

    def _ledger(self) -> tuple[int, int, int] | None:
        names = ", ".join(map(self.quote, ("lines", "rows", "rejects")))
        self.execute(
            f"SELECT {names} FROM {self.qualified(LEDGER)} WHERE {self.quote('load_id')} = {VALUE}", [self.load.id]
        )
        row = self.cursor.fetchone()
        return (row[0], row[1], row[2]) if row else None

    def _note(self, result: Result) -> None:
        values = [self.load.id, self.load.table, self.load.source, result.lines, result.rows, result.rejects]
        columns = ", ".join(map(self.quote, _LEDGER_COLUMNS))
        marks = ", ".join([VALUE] * len(values))
        self.execute(f"INSERT INTO {self.qualified(LEDGER)} ({columns}) VALUES ({marks}, CURRENT_TIMESTAMP)", values)

    def _keep(self, result: Result) -> None:
        """Put the rejects into their table, in place of those of an earlier try."""
        if not self.load.rejects_table:
            return
        table = self.qualified(self.load.rejects_table)
        self.execute(f"DELETE FROM {table} WHERE {self.quote('source')} = {VALUE}", [self.load.source])
        # One value for all rows of a load, in UTC. A table that an earlier version made has no such column.
        loaded_at = self.bound(datetime.now(UTC).replace(tzinfo=None))
        names = list(_REJECT_COLUMNS)
        tail = (loaded_at,) if names[-1] in map(str.lower, self.columns_of(table)) else ()
        rows = ((self.load.source, *reject, *tail) for reject in result.rejected())
        self.insert(table, [self.quote(name) for name in names[: 6 + len(tail)]], rows)

    # Dialect

    def execute(self, sql: str, values: list[Any] | None = None) -> None:
        """Execute one statement; each :data:`VALUE` in it stands for one of the values."""
        if values:
            self.cursor.execute(self.with_placeholders(sql), values)
        else:
            self.cursor.execute(sql)

    def columns_of(self, table: str) -> list[str]:
        """Give the names of a table's columns, as the database writes them; the table's name is quoted already."""
        self.execute(f"SELECT * FROM {table} WHERE 1 = 0")
        return self.result_columns()

    def result_columns(self) -> list[str]:
        """Give the names of the columns of the statement that was executed last, and end it."""
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


_LEDGER_COLUMNS = {
    "load_id": "key",
    "table_name": "text",
    "source": "text",
    "lines": "bigint",
    "rows": "bigint",
    "rejects": "bigint",
    "loaded_at": "timestamp",
}
_REJECT_COLUMNS = {
    "source": "text",
    "object": "text",
    "line": "bigint",
    "byte_offset": "bigint",
    "reason": "text",
    "text": "text",
    "loaded_at": "timestamp",
}
#: What the temporary table is called that a merge writes to first. No quoting: it is this package's own.
STAGE = "personalize_stage"
