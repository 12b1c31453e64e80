"""Whether a target can take the rows: its columns, their types, and what it says that it took."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

from airflow_provider_personalize.exceptions import TableMismatchError
from airflow_provider_personalize.output.rows import Batch, Column
from airflow_provider_personalize.targets.plan import TableColumn, type_of
from airflow_provider_personalize.targets.sql.dialect import Dialect
from airflow_provider_personalize.targets.sql.values import (
    ColumnType,
    UnfitValueError,
    check_singles,
    check_texts,
    check_whole,
)


class Target(Dialect):
    """The table that a load goes into."""

    #: Whether a column of text loses the spaces that it has no place for, in silence.
    cuts_spaces: ClassVar[bool] = False
    #: How many rows the database says it took, or None where its driver does not tell.
    taken: int | None = None

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
            if column.field == "filter_values":
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
                    check(batch.entities if column.field == "entity" else batch.column(column.field))
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
