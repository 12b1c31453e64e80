"""Users, items and their interactions, as columns in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from json.encoder import encode_basestring
from typing import Any

import numpy as np
import pandas as pd  # type: ignore[import-untyped]
from scipy.sparse import csr_matrix  # type: ignore[import-untyped]

#: The character between the values of a multi-valued column, as Personalize has it.
SEPARATOR = "|"


class Columns:
    """
    Columns to filter by.

    :param columns: By the column's name in upper case, every value as text, by position; empty where there is none.
    """

    def __init__(self, columns: dict[str, np.ndarray] | None = None) -> None:
        self.columns = columns or {}
        #: Per column, the distinct cells as sets of values, and which of them each position has.
        self._codes: dict[str, tuple[np.ndarray, list[frozenset[str]]]] = {}

    def _coded(self, column: str) -> tuple[np.ndarray, list[frozenset[str]]]:
        if column not in self._codes:
            codes, distinct = pd.factorize(self.columns[column])
            self._codes[column] = codes, [frozenset(filter(None, cell.split(SEPARATOR))) for cell in distinct]
        return self._codes[column]

    def where(self, column: str, holds: Callable[[frozenset[str]], bool]) -> np.ndarray:
        """
        Return for each position whether a predicate holds for its cell; it is asked once for each distinct cell.

        :param column: The column's name in upper case; it has to exist.
        """
        codes, distinct = self._coded(column)
        mask: np.ndarray = np.array([holds(cell) for cell in distinct], dtype=bool)[codes]
        return mask

    def cell(self, column: str, position: int) -> frozenset[str]:
        """Return the values of one position's cell."""
        codes, distinct = self._coded(column)
        values: frozenset[str] = distinct[codes[position]]
        return values


class Entities(Columns):
    """
    The users or the items.

    :param ids: Every id as text, by position.
    :param columns: As in :class:`Columns`.
    """

    def __init__(self, ids: np.ndarray, columns: dict[str, np.ndarray] | None = None) -> None:
        super().__init__(columns)
        self.ids = ids

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def index(self) -> dict[str, int]:
        """The position of each id."""
        return {id_: position for position, id_ in enumerate(self.ids.tolist())}

    @cached_property
    def json_ids(self) -> np.ndarray:
        """Each id as JSON in UTF-8, for lists of millions of them."""
        encoded = np.empty(len(self), dtype=object)
        encoded[:] = [encode_basestring(id_).encode() for id_ in self.ids.tolist()]
        return encoded


class Interactions(Columns):
    """
    The interactions between users and items, one position for each event.

    :param users: The position of each event's user.
    :param items: The position of each event's item.
    :param columns: As in :class:`Columns`.
    """

    def __init__(self, users: np.ndarray, items: np.ndarray, columns: dict[str, np.ndarray] | None = None) -> None:
        super().__init__(columns)
        self.users = users
        self.items = items

    @cached_property
    def _by_user(self) -> tuple[np.ndarray, np.ndarray]:
        order = np.argsort(self.users, kind="stable")
        return order, self.users[order]

    def of(self, user: int) -> np.ndarray:
        """Return the positions of a user's events."""
        order, users = self._by_user
        begin, end = np.searchsorted(users, [user, user + 1])
        events: np.ndarray = order[begin:end]
        return events


@dataclass
class Tables:
    """
    The columns that filters may speak of, where there are no rows yet.

    :param items: Those of the items.
    :param users: Those of the users.
    :param interactions: Those of the events.
    """

    items: Columns
    users: Columns
    interactions: Columns


@dataclass
class Dataset:
    """
    Users, items and their interactions.

    :param name: What it is, in words.
    :param users: The users.
    :param items: The items.
    :param weights: How strongly a user (row) has taken to an item (column); nothing where they never met.
    :param interactions: The events; one without columns for each of the weights where none are given.
    """

    name: str
    users: Entities
    items: Entities
    weights: csr_matrix
    interactions: Interactions = field(default_factory=lambda: Interactions(np.empty(0), np.empty(0)))

    def __post_init__(self) -> None:
        if not len(self.interactions.users):
            users, items = self.weights.nonzero()
            self.interactions = Interactions(users, items)


def assemble(name: str, interactions: pd.DataFrame, items: pd.DataFrame | None, users: pd.DataFrame | None) -> Dataset:
    """
    Build a dataset from tables with Personalize's columns, all of text.

    :param name: What it is, in words.
    :param interactions: ``USER_ID``, ``ITEM_ID`` and any others; ``EVENT_VALUE``, where there is one, is the weight.
    :param items: ``ITEM_ID`` and any others.
    :param users: ``USER_ID`` and any others.
    """
    user_codes, user_ids = pd.factorize(interactions["USER_ID"].astype(object))
    item_codes, item_ids = pd.factorize(interactions["ITEM_ID"].astype(object))
    values: Any = np.ones(len(interactions), dtype=np.float32)
    if "EVENT_VALUE" in interactions.columns:
        numbers = pd.to_numeric(interactions["EVENT_VALUE"], errors="coerce")
        values = numbers.fillna(1).clip(lower=0.1).to_numpy(np.float32)
    known_users = _entities("USER_ID", user_ids, users)
    known_items = _entities("ITEM_ID", item_ids, items)
    # The entities of the interactions come first, so their codes are positions; items nobody has met yet follow.
    weights = csr_matrix((values, (user_codes, item_codes)), shape=(len(known_users), len(known_items)))
    weights.sum_duplicates()
    others = {
        str(column): interactions[column].astype(str).to_numpy(dtype=object)
        for column in interactions.columns
        if column not in ("USER_ID", "ITEM_ID")
    }
    return Dataset(name, known_users, known_items, weights, Interactions(user_codes, item_codes, others))


def _entities(key: str, ids: Any, described: pd.DataFrame | None) -> Entities:
    ids = np.asarray(ids, dtype=object)
    if described is None:
        return Entities(ids)
    described = described.drop_duplicates(key, keep="last").set_index(key)
    described.index = described.index.astype(object)
    met = set(ids.tolist())
    others = [id_ for id_ in described.index.tolist() if id_ not in met]
    ids = np.concatenate([ids, np.array(others, dtype=object)]) if others else ids
    aligned = described.reindex(ids).fillna("").astype(str)
    return Entities(ids, {str(name): aligned[name].to_numpy(dtype=object) for name in aligned.columns})
