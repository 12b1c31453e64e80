"""
The figures of loaded output. The database computes them, and returns a few rows for each question.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from typing import Any

from airflow_provider_personalize.exceptions import InvalidRequestError
from airflow_provider_personalize.output.rows import RELATED_ITEMS, USER_RECOMMENDATIONS, USER_SEGMENTS, RowKind
from airflow_provider_personalize.quality.queries import Query
from airflow_provider_personalize.quality.slices import Overlap, Slice
from airflow_provider_personalize.service.names import folded
from airflow_provider_personalize.sql.table import VALUE, SqlTable

#: How many of the most frequent items are looked at.
TOP_ITEMS = 10
#: How many ids without results, and how many reasons of rejects, are named.
NAMED = 10
#: A kind's columns that tell it from the others, the most telling kind first.
_KINDS = (RELATED_ITEMS, USER_SEGMENTS, USER_RECOMMENDATIONS)
#: What an input query calls the entities of each kind.
_INPUT_COLUMNS = {
    USER_RECOMMENDATIONS: ("user_id",),
    RELATED_ITEMS: ("item_id",),
    USER_SEGMENTS: ("item_id", "item_attributes"),
}


class OutputTable:
    """
    A table of loaded output.

    :param table: The table, through an open connection.
    :param values: The values that its slices will be looked for by.
    :param column_names: Other names of columns, as the loader takes them.
    :raises InvalidRequestError: if there is no such table, or it does not have the columns of any kind of output.
    """

    def __init__(
        self,
        table: SqlTable,
        values: Mapping[str, Any] | None = None,
        column_names: Mapping[str, str | None] | None = None,
    ) -> None:
        self._table = table
        table.begin_reading(values or {})
        if not table.look():
            raise table.mismatch("expected it to exist, but it does not. Load it first.")
        self.kind, self.entity, self.item = self._columns(dict(column_names or {}))
        self._rank = self._found("rank", column_names or {})

    def _found(self, column: str, names: Mapping[str, str | None]) -> str | None:
        name = names.get(column, column)
        return name if name and self._table.fold(name) in self._table.existing else None

    def _columns(self, names: dict[str, str | None]) -> tuple[RowKind, str, str]:
        for kind in _KINDS:
            found = {
                column.field: name
                for column in kind.columns
                if (name := names.get(column.name, column.name)) and self._table.fold(name) in self._table.existing
            }
            if "entity" in found and "item" in found:
                return kind, found["entity"], found["item"]
        raise self._table.mismatch(
            "expected the columns that the loader makes (user_id and item_id; item_id and related_item_id; or segment "
            f"and user_id), or other names for them in column_names; it has {', '.join(self._table.existing)}."
        )

    def slice(self, values: Mapping[str, Any]) -> Slice:
        """Return what a slice holds; without values, what the whole table holds."""
        where, bound = self._where(values)
        entity, item = self._table.exact(self.entity), self._table.exact(self.item)
        table = f"FROM {self._table.quoted}{where}"
        # An entity of several lists, as of lines with other filter values, may have an item several times. Only then
        # are items counted the long way.
        repeats = f"CASE WHEN COUNT(*) > MAX({self._table.quote(self._rank)}) THEN 1 ELSE 0 END" if self._rank else "1"
        results = self._query(
            "SELECT results, COUNT(*), SUM(repeats) FROM ("
            f"SELECT COUNT(*) AS results, {repeats} AS repeats {table} GROUP BY {entity}) counted "
            "GROUP BY results ORDER BY results",
            bound,
        )
        [(items,)] = self._query(f"SELECT COUNT(*) FROM (SELECT DISTINCT {item} AS i {table}) items", bound)
        return Slice(
            dict(values),
            {int(n): int(count) for n, count, _ in results},
            int(items),
            self._most(self.item, values, entities=any(int(repeated) for _, _, repeated in results)),
        )

    def value_before(self, column: str, value: Any) -> Any:
        """Return the greatest value of a column that is less than this one; None where there is none."""
        return next(iter(self.values_before(column, value, {}, 1)), None)

    def values_before(self, column: str, value: Any, beside: Mapping[str, Any], limit: int) -> list[Any]:
        """
        Return the greatest values of a column that are less than this one, the greatest first.

        :param column: The column.
        :param value: The value.
        :param beside: The values that other columns have.
        :param limit: The most values to return.
        """
        name = self._table.quote(column)
        where, bound = self._where(beside)
        rows = self._query(
            f"SELECT DISTINCT {name} FROM {self._table.quoted}{where} {'AND' if where else 'WHERE'} "
            f"{name} < {self._table.cast(VALUE, column)} ORDER BY {name} DESC LIMIT {limit:d}",
            [*bound, self._table.bound(self._table.held(column, value))],
        )
        return [before for (before,) in rows]

    def slice_before(self, values: Mapping[str, Any], given: Mapping[str, Any] | None) -> Mapping[str, Any]:
        """
        Return the values of the slice to compare one with: those given; or else, where the slice is one date, those of
        the newest one that is older. There are none where there is no such slice.
        """
        if given or len(values) != 1:
            return dict(given or {})
        [(name, value)] = values.items()
        before = self.value_before(name, value) if is_date(value) else None
        return {} if before is None else {name: before}

    def items_of(self, items: Iterable[str], values: Mapping[str, Any]) -> dict[str, int]:
        """Return how many entities of a slice have each of these items."""
        return self._counts(self.item, items, values, entities=True)

    def segments(
        self, values: Mapping[str, Any], before: Mapping[str, Any] | None
    ) -> list[tuple[str, int, int | None]]:
        """
        Return the entities of a slice that have the most results, each with their number in it, and in one before.

        :param values: The slice.
        :param before: The slice before, if any.
        """
        most = self._most(self.entity, values)
        earlier = self._counts(self.entity, [entity for entity, _ in most], before) if before else None
        return [(entity, count, earlier.get(entity, 0) if earlier is not None else None) for entity, count in most]

    def _most(self, column: str, values: Mapping[str, Any], *, entities: bool = False) -> list[tuple[str, int]]:
        """Return the most frequent values of a column in a slice, as text, each with the number of its rows."""
        end = f"ORDER BY n DESC, e LIMIT {TOP_ITEMS}"
        return self._numbers(column, *self._where(values), end, entities=entities)

    def _counts(
        self, column: str, texts: Iterable[str], values: Mapping[str, Any], *, entities: bool = False
    ) -> dict[str, int]:
        """Return how many rows of a slice have each of these values in a column, compared as text."""
        wanted = list(texts)
        if not wanted:
            return {}
        where, bound = self._where(values)
        where = f"{where} {'AND' if where else 'WHERE'} {self._is_among(column, wanted)}"
        return dict(self._numbers(column, where, [*bound, *wanted], entities=entities))

    def _numbers(
        self, column: str, where: str, bound: list[Any], end: str = "", *, entities: bool
    ) -> list[tuple[str, int]]:
        """Return how many rows, or how many different entities, have each value of a column, as text."""
        each = f"DISTINCT {self._table.exact(self.entity)} AS x, " if entities else ""
        return _pairs(
            self._query(
                f"SELECT CAST(e AS {self._table.text_cast}), n FROM (SELECT e, COUNT(*) AS n FROM ("
                f"SELECT {each}{self._table.exact(column)} AS e FROM {self._table.quoted}{where}) every_row "
                f"GROUP BY e) counted {end}",
                bound,
            )
        )

    def _is_among(self, column: str, wanted: Sequence[str]) -> str:
        """Return the condition that a column is one of some texts, which are to be bound."""
        return f"{self._table.exact_text(column)} IN ({', '.join([self._table.exact_value] * len(wanted))})"

    def covered_entities(self, query: Query, values: Mapping[str, Any]) -> tuple[int, int]:
        """Return how many entities the input's query returns, and how many of them have results in a slice."""
        return self._covered(query, _INPUT_COLUMNS[self.kind], self.entity, values)

    def covered_items(self, query: Query, values: Mapping[str, Any]) -> tuple[int, int]:
        """Return how many items the catalog's query returns, and how many of them are in a slice."""
        return self._covered(query, (self._catalog_column,), self.item, values)

    def missing_entities(self, query: Query, values: Mapping[str, Any]) -> list[str]:
        """Return the first entities of the input's query that have no results in a slice."""
        return self._missing(query, _INPUT_COLUMNS[self.kind], self.entity, values)

    def missing_items(self, query: Query, values: Mapping[str, Any]) -> list[str]:
        """Return the first items of the catalog's query that are not in a slice."""
        return self._missing(query, (self._catalog_column,), self.item, values)

    @property
    def _catalog_column(self) -> str:
        return "user_id" if self.kind is USER_SEGMENTS else "item_id"

    def titles(self, query: Query, items: Iterable[str]) -> dict[str, str]:
        """Return the titles of items, where the catalog's query has a column ``title``."""
        columns = self._columns_of(query)
        title = _find(columns, ("title",))
        wanted = list(items)
        if title is None or not wanted:
            return {}
        item = _find(columns, (self._catalog_column,)) or columns[0]
        query.run(
            self._table,
            f"SELECT CAST({self._table.quote(item)} AS {self._table.text_cast}), {self._table.quote(title)} FROM ",
            f" WHERE {self._is_among(item, wanted)}",
            wanted,
        )
        return {str(item): str(title) for item, title in self._table.cursor.fetchall() if title is not None}

    def reject_reasons(self, rejects_table: str, sources: Sequence[str]) -> list[tuple[str, int]]:
        """
        Return the commonest reasons why lines were rejected, each with the number of lines.

        :param rejects_table: The loader's rejects table.
        :param sources: The ARNs of the jobs that were loaded; if empty, the newest load of the table is looked at.
        """
        table = self._table.qualified(rejects_table)
        where = ""
        if sources:
            where = f" WHERE {self._table.quote('source')} IN ({', '.join([VALUE] * len(sources))})"
        elif _find(self._table.columns_of(table), ("loaded_at",)):
            loaded_at = self._table.quote("loaded_at")
            where = f" WHERE {loaded_at} = (SELECT MAX({loaded_at}) FROM {table})"
        reason = self._table.quote("reason")
        return _pairs(
            self._query(
                f"SELECT {reason}, COUNT(*) AS n FROM {table}{where} GROUP BY {reason} ORDER BY n DESC, {reason} "
                f"LIMIT {NAMED}",
                list(sources),
            )
        )

    def overlap(self, values: Mapping[str, Any], before: Mapping[str, Any]) -> Overlap:
        """
        Return how each entity's results compare with those of an earlier slice.

        Where results are for everybody (Popularity-Count without keys), the entity is NULL, and it is compared, too.
        """
        entity, item, target = self._table.exact(self.entity), self._table.exact(self.item), self._table.quoted
        where, bound = self._where(values)
        where_before, bound_before = self._where(before)
        columns = f"{entity} AS e, {item} AS i"
        self._table.begin_comparing(groups=True)
        # Grouped and not joined: NULL is a group, too, and not every database is fast in joining without an index.
        rows = self._query(
            "SELECT results, shared, COUNT(*) FROM ("
            "SELECT SUM(n) AS results, SUM(CASE WHEN b > 0 THEN n ELSE 0 END) AS shared FROM ("
            "SELECT e, i, SUM(side) AS n, COUNT(*) - SUM(side) AS b FROM ("
            f"SELECT {columns}, 1 AS side FROM {target}{where} UNION ALL "
            f"SELECT {columns}, 0 AS side FROM {target}{where_before}) every_row GROUP BY e, i) results_of_both "
            "GROUP BY e HAVING SUM(n) > 0 AND SUM(b) > 0) compared GROUP BY results, shared",
            [*bound, *bound_before],
        )
        return Overlap({(int(size), int(shared)): int(entities) for size, shared, entities in rows})

    def _covered(self, query: Query, names: Sequence[str], column: str, values: Mapping[str, Any]) -> tuple[int, int]:
        [(all_of_them, covered)] = self._beside_slice(
            "SELECT COUNT(*), COUNT(there.e) FROM ", "", query, names, column, values
        )
        return int(all_of_them), int(covered)

    def _missing(self, query: Query, names: Sequence[str], column: str, values: Mapping[str, Any]) -> list[str]:
        select = f"SELECT CAST(wanted.e AS {self._table.text_cast}) FROM "
        end = f" WHERE there.e IS NULL ORDER BY wanted.e LIMIT {NAMED}"
        return [str(one) for (one,) in self._beside_slice(select, end, query, names, column, values)]

    def _beside_slice(
        self, select: str, end: str, query: Query, names: Sequence[str], column: str, values: Mapping[str, Any]
    ) -> list[tuple[Any, ...]]:
        """Select from the ids of a query (``wanted.e``), joined with those of a slice (``there.e``)."""
        columns = self._columns_of(query)
        asked = _find(columns, names)
        if asked is None:
            raise InvalidRequestError(
                f"{query.name}: expected a query with a column {' or '.join(names)}, got one with "
                f"{', '.join(columns)}. Rename a column with AS."
            )
        where, bound = self._where(values)
        query.run(
            self._table,
            f"{select}({self._ids(asked)} FROM ",
            f" WHERE {self._table.quote(asked)} IS NOT NULL) wanted LEFT JOIN "
            f"({self._ids(column)} FROM {self._table.quoted}{where}) there "
            f"ON there.k = wanted.k AND there.e = wanted.e{end}",
            bound,
        )
        rows: list[tuple[Any, ...]] = self._table.cursor.fetchall()
        return rows

    def _ids(self, column: str) -> str:
        """Return the beginning of a query for the different ids of a column, compared as text."""
        text = self._table.exact_text(column)
        return f"SELECT DISTINCT {self._table.short_key(text)} AS k, {text} AS e"

    def _columns_of(self, query: Query) -> list[str]:
        query.run(self._table, "SELECT * FROM ", " WHERE 1 = 0")
        return self._table.result_columns()

    def _where(self, values: Mapping[str, Any]) -> tuple[str, list[Any]]:
        for name in values:
            if self._table.fold(name) not in self._table.existing:
                raise self._table.mismatch(f"expected a column {name}; it has {', '.join(self._table.existing)}.")
        condition, bound = self._table.matches(values)
        return (f" WHERE {condition}" if condition else ""), bound

    def _query(self, sql: str, values: list[Any]) -> list[tuple[Any, ...]]:
        self._table.execute(sql, values)
        rows: list[tuple[Any, ...]] = self._table.cursor.fetchall()
        return rows


def _find(columns: Iterable[str], names: Iterable[str]) -> str | None:
    """Return the column that has one of these names, in any case, with underscores or without; or None."""
    wanted = set(map(folded, names))
    return next((column for column in columns if folded(column) in wanted), None)


def _pairs(rows: Iterable[Sequence[Any]]) -> list[tuple[str, int]]:
    return [(str(item), int(entities)) for item, entities in rows]


def is_date(value: Any) -> bool:
    """Return whether a value is a date or a time, so that an earlier one can be looked for."""
    if isinstance(value, date):
        return True
    try:
        datetime.fromisoformat(str(value))
    except ValueError:
        return False
    return True
