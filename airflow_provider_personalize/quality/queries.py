"""The user's queries inside the statements that compute figures, with their parameters."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_provider_personalize.exceptions import InvalidRequestError
from airflow_provider_personalize.sql.statements import single_statement
from airflow_provider_personalize.targets.sql.base import VALUE, Sink

#: What the drivers of ``%s`` take for a named value, in a query that has parameters.
_NAMED = re.compile(r"%(?:\(([^)]*)\)|%)")
#: What DuckDB takes for one; it refuses values that the query does not name.
_DOLLAR_NAMED = re.compile(r"\$(\w+)")
#: The modules of its driver.
DUCKDB = frozenset({"duckdb", "_duckdb"})
#: Begins the names of this package's own values.
_OWN = "personalize_"


@dataclass(frozen=True)
class Query:
    """
    A query that the user gave.

    :param name: The parameter that it was given as.
    :param sql: Its text.
    :param parameters: Values for its placeholders, in the driver's own style; empty ones are none.
    """

    name: str
    sql: str
    parameters: Mapping[str, Any] | Sequence[Any] | None = None

    def run(self, sink: Sink, before: str, after: str = "", values: Sequence[Any] = ()) -> None:
        """
        Execute a statement in which this query is a table called ``asked``.

        :param sink: Where.
        :param before: The statement up to the query. It has no bound values.
        :param after: What follows.
        :param values: The bound values in there.
        """
        query = f"({single_statement(self.sql, sink.connection, parameter=self.name)}) asked"
        if not self.parameters:
            sink.execute(f"{before}{query}{after}", list(values))
            return
        before, named = sink.with_placeholders(before), isinstance(self.parameters, Mapping)
        if named and sink.placeholder != "%s":
            sink.cursor.execute(*self._named(sink, before, query, after, values))
            return
        if named:
            query, bound = self._in_order(query)
        else:
            bound = list(self.parameters)
        sink.cursor.execute(f"{before}{query}{sink.with_placeholders(after)}", [*bound, *values])

    def _in_order(self, query: str) -> tuple[str, list[Any]]:
        """Turn named values into unnamed ones: a statement has all of one style, and this package's have none."""
        names = [name for name in _NAMED.findall(query) if name]
        return _NAMED.sub(lambda found: "%" if found[1] else "%%", query), [self._value(name) for name in names]

    def _named(
        self, sink: Sink, before: str, query: str, after: str, values: Sequence[Any]
    ) -> tuple[str, dict[str, Any]]:
        """Name this package's own values, where the driver's style is another one than ``%(name)s``."""
        dollar = sink.driver in DUCKDB
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
                f"{', '.join(map(str, self.parameters))}. A % that is none is written %% in a query with parameters."
            )
        return self.parameters[name]
