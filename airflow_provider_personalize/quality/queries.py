"""Users' queries, with their parameters, inside the statements that compute figures."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from airflow_provider_personalize.exceptions import InvalidRequestError
from airflow_provider_personalize.sql.statements import single_statement
from airflow_provider_personalize.sql.table import VALUE, SqlTable

#: A named value in a query with parameters, for drivers whose placeholder is ``%s``.
_NAMED = re.compile(r"%(?:\(([^)]*)\)|%)")
#: A named value for DuckDB, which refuses values that the query does not name.
_DOLLAR_NAMED = re.compile(r"\$(\w+)")
#: Begins the names of this package's own values.
_OWN = "personalize_"


class Query(NamedTuple):
    """
    A query that the user gave.

    :param name: The parameter that it was given as.
    :param sql: Its text.
    :param parameters: Values for its placeholders, in the driver's own style; an empty collection is the same as None.
    """

    name: str
    sql: str
    parameters: Mapping[str, Any] | Sequence[Any] | None = None

    def run(self, table: SqlTable, before: str, after: str = "", values: Sequence[Any] = ()) -> None:
        """
        Execute a statement in which this query is a table called ``asked``.

        :param table: A table whose connection executes it.
        :param before: The statement before the query. It has no bound values.
        :param after: The statement after the query.
        :param values: The values to bind in what follows.
        """
        query = f"({single_statement(self.sql, table.connection, parameter=self.name)}) asked"
        if not self.parameters:
            table.execute(f"{before}{query}{after}", list(values))
            return
        with table.drivers_style():
            before, named = table.with_placeholders(before), isinstance(self.parameters, Mapping)
            if named and table.placeholder != "%s":
                table.cursor.execute(*self._named(table, before, query, after, values))
                return
            if named:
                query, bound = self._in_order(query)
            else:
                bound = list(self.parameters)
            table.cursor.execute(f"{before}{query}{table.with_placeholders(after)}", [*bound, *values])

    def _in_order(self, query: str) -> tuple[str, list[Any]]:
        """
        Return a query with unnamed values in place of named ones, and their values in order. A statement has values of
        one style only, and those of this package have no names.
        """
        names = [name for name in _NAMED.findall(query) if name]
        return _NAMED.sub(lambda found: "%" if found[1] else "%%", query), [self._value(name) for name in names]

    def _named(
        self, table: SqlTable, before: str, query: str, after: str, values: Sequence[Any]
    ) -> tuple[str, dict[str, Any]]:
        """Return a statement and its values with names for this package's own, in another style than ``%(name)s``."""
        dollar = table.database == "duckdb"
        own = {f"{_OWN}{number}": value for number, value in enumerate(values)}
        pieces = after.split(VALUE)
        after = pieces[0] + "".join(
            f"{'$' if dollar else ':'}{name}{piece}" for name, piece in zip(own, pieces[1:], strict=True)
        )
        given = dict(self.parameters) if isinstance(self.parameters, Mapping) else {}
        if dollar:
            given = {name: self._value(name) for name in _DOLLAR_NAMED.findall(query) if name in given}
        return f"{before}{query}{after}", {**given, **own}

    def _value(self, name: str) -> Any:
        assert isinstance(self.parameters, Mapping)  # noqa: S101 (the caller has looked)
        if name not in self.parameters:
            raise InvalidRequestError(
                f"parameters: expected a value for %({name})s of {self.name}, got values for "
                f"{', '.join(map(str, self.parameters))}. "
                "In a query with parameters, write %% for a % that is no placeholder."
            )
        return self.parameters[name]
