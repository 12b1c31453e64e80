"""What PostgreSQL's catalogue says of a target."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from airflow_provider_personalize.sql.table import VALUE
from airflow_provider_personalize.sql.values import ColumnType

#: The server's own types of text. How they are compared, their collation says.
_EXACT_TEXTS = frozenset({"text", "character varying", "character", "name", '"char"'})

#: The columns of a table. A domain is told by what it is made of, since that says what it holds. What an insert leaves
#: out, the column's default fills, or its domain's, or a trigger before the insert; else it is NULL, and COPY does not
#: ask the domain whether it may be.
COLUMNS_SQL = f"""
SELECT a.attname, format_type(a.atttypid, a.atttypmod), t.typname, t.typcategory, t.typsend::text,
    (WITH RECURSIVE made (oid, modifier, kind, base) AS (
        SELECT t.oid, CASE t.typtype WHEN 'd' THEN t.typtypmod ELSE a.atttypmod END, t.typtype, t.typbasetype
        UNION ALL
        SELECT b.oid, CASE WHEN made.modifier >= 0 OR b.typtype <> 'd' THEN made.modifier ELSE b.typtypmod END,
            b.typtype, b.typbasetype
        FROM made JOIN pg_type b ON b.oid = made.base WHERE made.kind = 'd'
    ) SELECT format_type(oid, modifier) FROM made WHERE kind <> 'd'),
    EXISTS (SELECT 1 FROM pg_collation c
        WHERE c.oid = a.attcollation AND to_jsonb(c) ->> 'collisdeterministic' = 'false'),
    NOT (a.attnotnull OR t.typnotnull) OR a.atthasdef OR a.attidentity <> '' OR t.typdefault IS NOT NULL
        OR EXISTS (SELECT 1 FROM pg_trigger WHERE tgrelid = a.attrelid AND tgtype & 7 = 7 AND tgenabled <> 'D'),
    a.attidentity = 'a' OR coalesce(to_jsonb(a) ->> 'attgenerated', '') <> ''
FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
WHERE a.attrelid = to_regclass({VALUE}) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""
#: Whether binary COPY goes into the table: not into a view, nor past its policies. And what may keep rows in or out of
#: it: whether a view, a DELETE trigger, and the rules that put something else in the place of an INSERT or a DELETE.
TABLE_SQL = f"""
SELECT c.relkind IN ('r', 'p') AND NOT row_security_active(c.oid), c.relkind IN ('r', 'p'),
    EXISTS (SELECT 1 FROM pg_trigger WHERE tgrelid = c.oid AND tgtype & 11 = 11 AND tgenabled <> 'D'),
    ARRAY(SELECT rulename::text FROM pg_rewrite WHERE ev_class = c.oid AND is_instead AND ev_type = '3'),
    ARRAY(SELECT rulename::text FROM pg_rewrite WHERE ev_class = c.oid AND is_instead AND ev_type = '4')
FROM pg_class c WHERE c.oid = to_regclass({VALUE})
"""


class PgTable(NamedTuple):
    """What the catalogue says of the target as a whole."""

    takes_copy: bool = True
    is_table: bool = True
    watches_deletes: bool = False
    insert_rules: Sequence[str] = ()
    delete_rules: Sequence[str] = ()


class PgType(NamedTuple):
    """
    What the catalogue says of a column's type: its name, category, what sends it, and what it is made of; and whether
    its collation takes different texts for the same.
    """

    name: str
    category: str
    send: str
    base: str
    folds: bool

    @property
    def is_exact(self) -> bool:
        """Whether texts are the same only if their characters are: of types of extensions, as citext, who knows."""
        return self.category != "S" or (ColumnType(self.base).name in _EXACT_TEXTS and not self.folds)
