"""What the catalogues of warehouses have in common: the standard's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from airflow_provider_personalize.sql.table import VALUE, TableColumn

#: The columns of a table, by its name and its schema, or None for the connection's own.
COLUMNS_SQL = (
    "SELECT column_name, data_type, character_maximum_length, numeric_precision, numeric_scale, is_nullable, "
    f"column_default FROM information_schema.columns WHERE table_name = {VALUE} "
    f"AND table_schema = coalesce({VALUE}, current_schema()) ORDER BY ordinal_position"
)
_WITH_DIGITS = frozenset({"numeric", "decimal", "number"})


def described(rows: Iterable[tuple[Any, ...]]) -> Mapping[str, TableColumn] | None:
    """Return the columns of a table by their names, or None where there is no such table."""
    columns = {}
    for name, kind, length, precision, scale, nullable, default in rows:
        full = str(kind).lower()
        if length is not None:
            full = f"{full}({length})"
        elif full in _WITH_DIGITS and precision is not None:
            full = f"{full}({precision},{scale or 0})"
        columns[str(name)] = TableColumn(full, nullable == "YES" or default is not None)
    return columns or None
