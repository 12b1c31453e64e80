"""Whether a table can take the rows: its columns, their types, and how many rows it says that it took."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

from airflow_provider_personalize.output.rows import Batch, Column
from airflow_provider_personalize.sql.table import SqlTable
from airflow_provider_personalize.sql.values import (
    ColumnType,
    UnfitValueError,
    check_singles,
    check_texts,
    check_whole,
)
from airflow_provider_personalize.targets.plan import LoadPlan, type_of

#: Raises UnfitValueError for a value that a column would change.
ValueCheck = Callable[[Iterable[Any]], None]


#: Types that take a number for something else: MySQL's year takes 1 for 2001.
_NO_NUMBERS = frozenset({"bool", "boolean", "date", "datetime", "time", "timestamp", "year"})


class TableChecks:
    """
    What is made sure of before, while and after rows go into a table.

    :param table: The table.
    :param plan: What is to be loaded, and how.
    :param create_table: Whether to create the table where it is missing.
    """

    def __init__(self, table: SqlTable, plan: LoadPlan, *, create_table: bool) -> None:
        self.table = table
        self.plan = plan
        self.create_table = create_table
        #: The columns that take the rows.
        self.columns: tuple[Column, ...] = ()
        #: How many rows the database says it took, or None where its driver does not tell.
        self.taken: int | None = None

    def check_table(self) -> None:
        """Create the table, or make sure that it can take the rows."""
        table = self.table
        wanted = {column.name: column.type for column in self.columns}
        wanted |= {name: type_of(value) for name, value in self.plan.extra.items()}
        if not table.look():
            self._create(wanted)
        existing = table.existing
        ours = {table.fold(name) for name in wanted}
        if missing := sorted(ours - set(existing)):
            raise table.mismatch(
                f"expected the columns {', '.join(wanted)}; it has {', '.join(existing)}, and so lacks "
                f"{', '.join(missing)}. Add the columns, or rename or leave out ours with column_names."
            )
        if needed := sorted(name for name, column in existing.items() if name not in ours and not column.optional):
            raise table.mismatch(
                f"its columns {', '.join(needed)} are NOT NULL without a default, and nothing fills them. Give them a "
                "default, or a value in extra_columns."
            )
        if computed := sorted(name for name, column in existing.items() if name in ours and column.computed):
            raise table.mismatch(
                f"its columns {', '.join(computed)} are filled by the database alone (GENERATED). Give ours other "
                "names or leave them out with column_names, or make them plain columns."
            )
        self.check_types()
        for name, value in self.plan.extra.items():
            table.held(name, value)

    def _create(self, columns: dict[str, str]) -> None:
        table = self.table
        if twin := table.twin():
            raise table.mismatch(
                f"expected the table's name alone, got {table.name!r}. Set schema={twin[0]!r} and table={twin[1]!r}."
            )
        if not self.create_table:
            raise table.mismatch(
                "expected it to exist, since create_table=False, but it does not. Create it, or set create_table=True."
            )
        table.create(table.quoted, columns)
        table.look()

    def check_types(self) -> None:
        """
        Make sure that ids go into columns of text (as a number, ``007`` would be ``7``), and that no number becomes a
        flag or a date.
        """
        for column in self.columns:
            kind = self.table.existing[self.table.fold(column.name)].type
            if column.field == "filter_values":
                continue  # JSON, which a column of JSON holds as well as one of text.
            if column.type == "text" and kind and not ColumnType(kind).is_text:
                raise self.table.mismatch(
                    f"its column {column.name} is of type {kind}, which would change ids such as '007'. Make it text."
                )
            if column.type != "text" and ColumnType(kind).name in _NO_NUMBERS:
                raise self.table.mismatch(f"its column {column.name} is of type {kind}, which holds no numbers.")

    def checked(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """
        Pass batches through; values that their columns would change in silence are an error.

        Columns that hold all values, as those that this package creates, are not looked at.
        """
        checks = [(column, check) for column in self.columns if (check := self.check_for(column))]
        return self._checked(batches, checks) if checks else batches

    def check_for(self, column: Column) -> ValueCheck | None:
        """Return what refuses values that the column would change in silence; None where it holds all."""
        kind = self.table.column_type(column.name)
        if column.type == "text" and self.table.cuts_spaces and (kind.length or kind.is_padded):
            return partial(check_texts, column=kind)
        if column.type == "double":
            return check_singles if kind.is_single else check_whole if kind.is_integer else None
        return None

    def _checked(self, batches: Iterator[Batch], checks: Sequence[tuple[Column, ValueCheck]]) -> Iterator[Batch]:
        for batch in batches:
            for column, check in checks:
                try:
                    check(batch.entities if column.field == "entity" else batch.column(column.field))
                except UnfitValueError as error:
                    raise self.table.unfit(column.name, error) from error
            yield batch

    def check_taken(self, rows: int) -> None:
        """Make sure that the database took as many rows as were sent."""
        if self.taken is not None and self.taken != rows:
            raise self.table.mismatch(
                f"the database took {self.taken} of {rows} rows: a trigger or a rule of the table drops the others, or "
                "puts them elsewhere. Take it away, or load into the table that the rows belong to."
            )
