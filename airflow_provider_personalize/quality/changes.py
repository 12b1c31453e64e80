"""
What has changed in loaded output since the slice before. The database compares the slices, and returns what differs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args

from airflow_provider_personalize.quality.figures import OutputTable
from airflow_provider_personalize.sql.stream import stream_rows
from airflow_provider_personalize.sql.table import SqlTable

Change = Literal["new", "changed", "gone"]
What = Literal["entities", "items"]
#: An entity as it is joined, and put in order: a NULL would not be joined to another one.
_KEY = "COALESCE(e, '') AS e, CASE WHEN e IS NULL THEN 1 ELSE 0 END AS z"
CHANGES: tuple[Change, ...] = get_args(Change)
WHATS: tuple[What, ...] = get_args(What)
#: The most entities that are kept in memory until their rows are read, about 25 MB of them.
MAX_KEPT = 100_000


class ChangedRow(NamedTuple):
    """
    One row of what has changed.

    :param entity: The user, item or segment; None where the input was empty.
    :param change: What has become of the entity, or, of ``items``, of the item.
    :param rank: The rank, None where the entity or the item is gone.
    :param item: The item, None where the entity is gone.
    :param score: Its score, None where there is none or where scores do not count.
    """

    entity: str | None
    change: Change
    rank: int | None
    item: str | None
    score: float | None


class ComparedTable(OutputTable):
    """
    A table of loaded output whose slices are compared.

    Ids are compared by their characters, whatever the collation of their columns.

    :param table: The table, through an open connection.
    :param values: The values that its slices will be looked for by.
    :param column_names: Other names of columns, as the loader takes them.
    :param scores: Whether scores count.
    """

    def __init__(
        self,
        table: SqlTable,
        values: Mapping[str, Any] | None = None,
        column_names: Mapping[str, str | None] | None = None,
        *,
        scores: bool = False,
    ) -> None:
        super().__init__(table, values, column_names)
        self._score = self._found("score", column_names or {}) if scores else None
        if scores and self._score is None:
            raise table.mismatch("expected a column of scores to compare, but it has none. Leave compare_scores out.")

    def has_rows(self, values: Mapping[str, Any]) -> bool:
        """Return whether a slice has rows."""
        where, bound = self._where(values)
        return bool(self._query(f"SELECT 1 FROM {self._table.quoted}{where} LIMIT 1", bound))

    def changes(
        self,
        now: Mapping[str, Any],
        before: Mapping[str, Any] | None,
        consume: Callable[[Iterable[ChangedRow]], None],
        *,
        what: What = "entities",
        exact: bool = False,
    ) -> None:
        """
        Compare two slices, and hand on what differs.

        Of an entity that is new or has changed come all rows of now, by rank; of one that is gone comes a single row.
        The rows are in the order of the entities, which is that of their bytes.

        :param now: The slice of now.
        :param before: The slice before; None where there is none, so that all is new.
        :param consume: Takes some of the rows.
        :param what: ``entities`` whose lists have changed; or ``items`` that are new in a list, or gone from it.
        :param exact: Whether to compare the rows themselves. Otherwise a hash of 64 bits stands for each list, where
            the database has one.
        """
        self._table.begin_comparing(groups=what == "entities")
        if what == "items" and before is not None and self._table.joins_in_full:
            sql, values = self._joined_items(now, before)
            stream_rows(self._table, sql, values, lambda found: consume(self._read(found)))
            return
        rows, values = self._rows(now, before)
        if what == "items":
            sql = self._items(rows)
        elif before is None:
            sql = f"SELECT {_KEY}, 1, 0, r, i, s FROM ({rows}) every_row ORDER BY 1, 2, r, i"
        else:
            compared = self._by_rows(rows) if exact or not self._table.hashes else self._by_hash(rows)
            if self._table.finds_among and self._few(compared, values, now, consume):
                return
            rows_of_now, more = self._rows(now, None)
            sql, values = self._lists(compared, rows_of_now), values + more
        stream_rows(self._table, sql, values, lambda found: consume(self._read(found)))

    def _few(
        self,
        compared: str,
        values: Sequence[Any],
        now: Mapping[str, Any],
        consume: Callable[[Iterable[ChangedRow]], None],
    ) -> bool:
        """
        Hand on what differs, by two statements: one finds the entities, the other reads their rows. PostgreSQL runs
        each of them in several processes, as it would not run one statement that joins both. Return False, and hand on
        nothing, if more entities differ than :data:`MAX_KEPT`.
        """
        kept: dict[tuple[str, bool], tuple[int, int]] = {}

        def keep(found: Iterable[Sequence[Any]]) -> None:
            for entity, is_null, n, b in found:
                if len(kept) <= MAX_KEPT:
                    kept[entity, bool(int(is_null))] = int(n), int(b)

        stream_rows(self._table, f"SELECT {_KEY}, n, b FROM ({compared}) found", values, keep)
        if len(kept) > MAX_KEPT:
            return False
        # Sorted by their bytes, as the database sorts the others; no entity (NULL) comes after the empty text.
        gone = deque(sorted((key for key, (n, _) in kept.items() if not n), key=lambda key: (key[0].encode(), key[1])))

        def lists(found: Iterable[Sequence[Any]]) -> Iterator[Sequence[Any]]:
            for entity, is_null, rank, item, score in found:
                key = entity, bool(int(is_null))
                if key in kept:
                    yield from gone_until((entity.encode(), key[1]))
                    yield (entity, is_null, *kept[key], rank, item, score)

        def gone_until(place: tuple[bytes, bool] | None) -> Iterator[Sequence[Any]]:
            while gone and (place is None or (gone[0][0].encode(), gone[0][1]) < place):
                key = gone.popleft()
                yield (*key, *kept[key], None, None, None)

        if len(gone) < len(kept):
            rows_of_now, bound = self._rows(now, None)
            among = self._table.among("COALESCE(e, '')")
            sql = f"SELECT {_KEY}, r, i, s FROM ({rows_of_now}) every_row_of_now WHERE {among} ORDER BY 1, 2, r, i"
            entities = [entity for (entity, _), (n, _) in kept.items() if n]
            stream_rows(self._table, sql, [*bound, entities], lambda found: consume(self._read(lists(found))))
        consume(self._read(gone_until(None)))
        return True

    def _rows(self, now: Mapping[str, Any], before: Mapping[str, Any] | None) -> tuple[str, list[Any]]:
        """Return the query for the rows of one slice or of two, ``side`` 1 and 0, and what is to be bound in it."""
        rank = self._table.quote(self._rank) if self._rank else "0"
        score = self._table.exact_number(self._score) if self._score else "NULL"
        entity, item = self._table.exact_text(self.entity), self._table.exact_text(self.item)
        columns = f"{entity} AS e, {rank} AS r, {item} AS i, {score} AS s"

        def rows(side: str, where: str) -> str:
            return f"SELECT {columns}, {side} AS side FROM {self._table.quoted}{where}"

        where_now, bound_now = self._where(now)
        if before is None:
            return rows("1", where_now), bound_now
        where_before, bound_before = self._where(before)
        if self._table.differ(now, before):
            # One pass over the table instead of two.
            condition = where_now.removeprefix(" WHERE ")
            either = f" WHERE {condition} OR {where_before.removeprefix(' WHERE ')}"
            return rows(f"CASE WHEN {condition} THEN 1 ELSE 0 END", either), [*bound_now, *bound_now, *bound_before]
        return f"{rows('1', where_now)} UNION ALL {rows('0', where_before)}", [*bound_now, *bound_before]

    def _by_hash(self, rows: str) -> str:
        """Return the query for the entities whose lists have other hashes; ``n`` and ``b`` say where they have any."""
        numbers = ["r", *(["s"] if self._score else [])]
        now, before = (self._table.hash_of_rows(f"side = {side}", "i", numbers) for side in (1, 0))
        return (
            f"SELECT e, CASE WHEN {now} IS NULL THEN 0 ELSE 1 END AS n, CASE WHEN {before} IS NULL THEN 0 ELSE 1 END "
            f"AS b FROM ({rows}) every_row GROUP BY e "
            f"HAVING {now} IS NULL OR {before} IS NULL OR {now} <> {before}"
        )

    def _by_rows(self, rows: str) -> str:
        """Return the query for the entities whose rows are others, with the numbers of their rows."""
        columns = "e, r, i" + (", s" if self._score else "")
        return (
            "SELECT e, SUM(now_rows) AS n, SUM(before_rows) AS b FROM ("
            f"SELECT {columns}, SUM(side) AS now_rows, COUNT(*) - SUM(side) AS before_rows FROM ({rows}) every_row "
            f"GROUP BY {columns}) same_rows GROUP BY e "
            "HAVING SUM(CASE WHEN now_rows <> before_rows THEN 1 ELSE 0 END) > 0"
        )

    def _lists(self, compared: str, rows_of_now: str) -> str:
        """Return the query for the rows that entities have now."""
        key, apart = self._table.short_key("COALESCE(e, '')"), self._table.keeps_apart
        return (
            "SELECT c.e, c.z, c.n, c.b, t.r, t.i, t.s "
            f"FROM (SELECT {_KEY}, n, b, {key} AS k FROM ({compared}) found) c "
            f"LEFT JOIN (SELECT {_KEY}, r, i, s, {key} AS k FROM ({rows_of_now}) every_row_of_now{apart}) t "
            "ON t.k = c.k AND t.e = c.e AND t.z = c.z ORDER BY c.e, c.z, t.r, t.i"
        )

    def _items(self, rows: str) -> str:
        """Return the query for the items that are in one of the slices only, those that are new first."""
        return (
            f"SELECT {_KEY}, SUM(side) AS n, COUNT(*) - SUM(side) AS b, MIN(r) AS r, i, MIN(s) AS s "
            f"FROM ({rows}) every_row GROUP BY every_row.e, i HAVING SUM(side) = 0 OR SUM(side) = COUNT(*) "
            "ORDER BY 1, 2, CASE WHEN SUM(side) = 0 THEN 1 ELSE 0 END, MIN(r), i"
        )

    def _joined_items(self, now: Mapping[str, Any], before: Mapping[str, Any]) -> tuple[str, list[Any]]:
        """Return the same query as a join, which takes a third of the time where it can be spread over processes."""
        (new, bound), (old, more) = self._rows(now, None), self._rows(before, None)
        side = f"SELECT {_KEY}, i, r, s FROM"
        return (
            "SELECT COALESCE(x.e, y.e), COALESCE(x.z, y.z), COUNT(x.e) AS n, COUNT(y.e) AS b, "
            "COALESCE(MIN(x.r), MIN(y.r)) AS r, COALESCE(x.i, y.i) AS i, COALESCE(MIN(x.s), MIN(y.s)) AS s "
            f"FROM ({side} ({new}) rows_of_now) x FULL JOIN ({side} ({old}) rows_before) y "
            "ON x.e = y.e AND x.z = y.z AND x.i = y.i WHERE x.e IS NULL OR y.e IS NULL "
            "GROUP BY 1, 2, 6 ORDER BY 1, 2, CASE WHEN COUNT(x.e) = 0 THEN 1 ELSE 0 END, MIN(x.r), MIN(y.r), i"
        ), [*bound, *more]

    def _read(self, rows: Iterable[Sequence[Any]]) -> Iterator[ChangedRow]:
        has_rank, changes = bool(self._rank), dict[tuple[Any, Any], Change]()
        for entity, is_null, now, before, rank, item, score in rows:
            change = changes.get((now, before))
            if change is None:
                # Numbers, or their text.
                n, b = int(now), int(before)
                change = changes[now, before] = "changed" if n and b else "new" if n else "gone"
            is_gone = change == "gone"
            yield ChangedRow(
                None if int(is_null) else entity,
                change,
                int(rank) if has_rank and not is_gone else None,
                None if is_gone and not item else item,
                None if score is None or score == "" else float(score),
            )
