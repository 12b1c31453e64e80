"""What a filter lets through, given the data and a line of the input."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np

from airflow_provider_personalize.exceptions import InvalidRequestError
from airflow_provider_personalize.local.conditions import ANY, Clause, Condition, CurrentItem, FilterExpression
from airflow_provider_personalize.local.errors import RecordError
from airflow_provider_personalize.local.expressions import parse_filter
from airflow_provider_personalize.local.tables import Columns, Dataset, Tables

#: The datasets whose columns a filter of these may name.
_DATASETS = {"ITEMID": ("ITEMS", "INTERACTIONS"), "USERID": ("USERS", "INTERACTIONS")}


def check_column(table: Columns, condition: Condition) -> None:
    """
    Make sure that a column exists.

    :raises InvalidRequestError: if not.
    """
    if condition.column not in table.columns:
        raise InvalidRequestError(
            f"{condition.dataset}.{condition.column}: no such column; there are "
            f"{', '.join(sorted(table.columns)) or 'none'}."
        )


def check_filter(expression: FilterExpression, data: Dataset | Tables) -> None:
    """
    Make sure that the data have what a filter asks for.

    :raises InvalidRequestError: if a column does not exist, or is none of what the filter may ask about.
    """
    tables = {"ITEMS": data.items, "USERS": data.users, "CURRENTUSER": data.users, "INTERACTIONS": data.interactions}
    wanted = _DATASETS[expression.entity]
    for condition in expression.conditions:
        if condition.dataset != "CURRENTUSER" and condition.dataset not in wanted:
            raise InvalidRequestError(
                f"filterExpression: expected columns of {' or '.join(wanted)} for {expression.entity}, got "
                f"{condition.dataset}.{condition.column}."
            )
        if expression.entity == "USERID" and condition.dataset == "CURRENTUSER":
            raise InvalidRequestError("filterExpression: expected IF CurrentUser only in filters of items.")
        if not _is_any_event(condition):
            check_column(tables[condition.dataset], condition)
        for value in condition.values:
            if isinstance(value, CurrentItem):
                check_column(data.items, Condition("CURRENTITEM", str(value), "IN", ()))


def _is_any_event(condition: Condition) -> bool:
    """Return whether it is the one question about events that can be answered where they have no types, too."""
    return (condition.dataset, condition.column) == ("INTERACTIONS", "EVENT_TYPE") and condition.values == (ANY,)


class Filter:
    """
    A filter over the data.

    :param text: The filter's expression.
    :param data: The data.
    """

    def __init__(self, text: str, data: Dataset) -> None:
        self.expression = parse_filter(text)
        self.data = data
        self._mask = lru_cache(maxsize=16)(self._make_mask)

    @property
    def about_interactions(self) -> bool:
        """Whether it speaks of interactions."""
        return any(condition.dataset == "INTERACTIONS" for condition in self.expression.conditions)

    def mask(self, record: Mapping[str, Any]) -> np.ndarray:
        """
        Return for each item (or user) whether it is let through.

        :param record: The line of input.
        :raises RecordError: if its ``filterValues`` are none.
        :raises InvalidRequestError: if one of them is missing, or is not a list of quoted values.
        """
        values = record.get("filterValues") or {}
        if not isinstance(values, dict) or not all(isinstance(value, str) for value in values.values()):
            raise RecordError("filterValues: expected an object whose values are strings")
        return self._mask(
            tuple(sorted((name, value) for name, value in values.items() if name in self.expression.placeholders)),
            _position(self.data.users.index, record.get("userId")) if self.expression.about_user else None,
            _position(self.data.items.index, record.get("itemId")) if self.expression.about_item else None,
        )

    def _make_mask(self, values: tuple[tuple[str, str], ...], user: int | None, item: int | None) -> np.ndarray:
        # The data may lack a column that a dataset has been given since.
        check_filter(self.expression, self.data)
        filled = self.expression.filled(dict(values))
        size = len(self.data.items if filled.entity == "ITEMID" else self.data.users)
        clauses = [clause for clause in filled.clauses if self._applies(clause, user)]
        included = [self._matching(clause, size, user, item) for clause in clauses if clause.include]
        allowed = np.logical_or.reduce(included) if included else np.ones(size, dtype=bool)
        for clause in clauses:
            if not clause.include:
                allowed = allowed & ~self._matching(clause, size, user, item)
        allowed.flags.writeable = False
        return allowed

    def _applies(self, clause: Clause, user: int | None) -> bool:
        # Assumption: of a user whom the data do not hold, no IF is true.
        return not clause.if_user or (
            user is not None
            and all(condition.holds(self.data.users.cell(condition.column, user)) for condition in clause.if_user)
        )

    def _matching(self, clause: Clause, size: int, user: int | None, item: int | None) -> np.ndarray:
        matching = np.zeros(size, dtype=bool)
        for group in clause.any_of:
            every = np.ones(size, dtype=bool)
            for condition in group:
                every &= self._where(condition, clause.entity, size, user, item)
            matching |= every
        return matching

    def _where(self, condition: Condition, entity: str, size: int, user: int | None, item: int | None) -> np.ndarray:
        if condition.dataset == "INTERACTIONS":
            return self._where_interactions(condition, entity, size, user)
        table = self.data.items if condition.dataset == "ITEMS" else self.data.users
        if any(isinstance(value, CurrentItem) for value in condition.values):
            (column,) = condition.values
            cell = frozenset[str]() if item is None else self.data.items.cell(column, item)
            condition = replace(condition, values=tuple(sorted(cell)))
        return table.where(condition.column, condition.holds)

    def _where_interactions(self, condition: Condition, entity: str, size: int, user: int | None) -> np.ndarray:
        """
        Return which items the user had such an event with, or which users had such an event with any item.
        """
        # Assumption: each condition may be fulfilled by another event, and NOT IN means that none is of these.
        events = self.data.interactions
        positive = condition.positive
        if _is_any_event(positive):
            chosen = np.ones(len(events.users), dtype=bool)
        else:
            chosen = events.where(positive.column, positive.holds)
        found = np.zeros(size, dtype=bool)
        if entity == "USERID":
            found[events.users[chosen]] = True
        elif user is not None:
            own = events.of(user)
            found[events.items[own[chosen[own]]]] = True
        return found if positive is condition else ~found


def _position(index: Mapping[str, int], id_: Any) -> int | None:
    return index.get(id_) if isinstance(id_, str) else None
