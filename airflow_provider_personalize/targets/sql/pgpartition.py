"""Whether a table of PostgreSQL can take a slice as a new partition."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from airflow_provider_personalize.sql.postgres import PostgresTable
from airflow_provider_personalize.sql.table import VALUE

#: The first version that attaches a partition beside open readers.
SINCE = 120_000
#: How a table is partitioned: its strategy, and the name of the first column of its key, which an expression has not;
#: and the INSERT triggers that rows of an attached table pass by.
_TABLE_SQL = f"""
SELECT c.relkind::text, p.partstrat::text, a.attname,
    ARRAY(SELECT tgname::text FROM pg_trigger WHERE tgrelid = c.oid AND NOT tgisinternal AND tgtype & 4 = 4)
FROM pg_class c LEFT JOIN pg_partitioned_table p ON p.partrelid = c.oid
LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = p.partattrs[0]
WHERE c.oid = to_regclass({VALUE})
"""
#: The partitions but the default one: their names, and which rows they take.
_PARTITIONS_SQL = f"""
SELECT c.relname, pg_get_partition_constraintdef(c.oid) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = to_regclass({VALUE}) AND pg_get_expr(c.relpartbound, c.oid) <> 'DEFAULT'
"""


class Partitioned(NamedTuple):
    """
    A table that is partitioned by LIST.

    :param key: The column that it is partitioned by.
    :param is_attached: Whether the slice is a partition already, attached by an earlier try.
    """

    key: str
    is_attached: bool


def look_at(table: PostgresTable, extra: Mapping[str, Any], partition: str) -> Partitioned:
    """
    Make sure that a table can take a slice as a new partition, and return how.

    :param table: The table, which has been looked at.
    :param extra: The slice: columns and their values.
    :param partition: The name that the new partition has.
    :raises TableMismatchError: if it cannot; the reason says what it would take.
    """
    names = " or ".join(extra)
    remedy = (
        f"Let create_table make it, or create it as CREATE TABLE … PARTITION BY LIST ({next(iter(extra))}); or load "
        "the slice in one task, without parts"
    )
    if table.version < SINCE:
        raise table.mismatch(
            "parts need PostgreSQL 12 or newer, which attaches partitions beside readers. Load the slice in one task."
        )
    table.execute(_TABLE_SQL, [table.quoted])
    kind, strategy, key, triggers = table.cursor.fetchone()
    if kind != "p" or strategy != "l" or key not in extra:
        how = {"l": f"by LIST over {key or 'an expression'}", "r": "by RANGE", "h": "by HASH"}.get(strategy)
        raise table.mismatch(
            f"to load it in parts takes a table that is partitioned by LIST over {names}, and it is "
            f"{f'partitioned {how}' if how else 'not partitioned'}. {remedy}."
        )
    if triggers or table.facts.insert_rules or not table.facts.takes_copy:
        what = "triggers" if triggers else "rules" if table.facts.insert_rules else "row-level security"
        raise table.mismatch(
            f"a table that is attached passes its {what} by{': ' + ', '.join(triggers) if triggers else ''}. Load the "
            "slice in one task, without parts."
        )
    taken_by = _partition_of(table, key, table.held(key, extra[key]))
    if taken_by is not None and taken_by != partition:
        raise table.mismatch(
            f"to load it in parts takes a new slice, and its partition {taken_by} takes the rows where {key} = "
            f"{extra[key]} already. Load the slice in one task, without parts; or drop that partition first."
        )
    if taken_by is None:
        condition, values = table.matches({key: extra[key]})
        if table.count(condition, values):
            raise table.mismatch(
                f"to load it in parts takes a new slice, and its default partition has rows where {key} = "
                f"{extra[key]}. Load the slice in one task, without parts; or delete these rows first."
            )
    return Partitioned(key, taken_by == partition)


def _partition_of(table: PostgresTable, key: str, value: Any) -> str | None:
    """Return the name of the partition that takes a value of the key, or None."""
    table.execute(_PARTITIONS_SQL, [table.quoted])
    partitions = table.cursor.fetchall()
    if not partitions:
        return None
    # What the server itself says of a partition's rows, asked about one row that has nothing but this value.
    tests = ", ".join(f"({constraint})" for _, constraint in partitions)
    row = f"SELECT CAST({VALUE} AS {table.existing[key].type}) AS {table.quote(key)}"
    table.execute(f"SELECT ARRAY[{tests}] FROM ({row}) asked", [table.bound(value)])
    [found] = table.cursor.fetchone()
    return next((name for (name, _), is_its in zip(partitions, found, strict=True) if is_its), None)
