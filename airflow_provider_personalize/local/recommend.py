"""
Recommendations by collaborative filtering, trained when they are first asked for.

Users and items are placed in one space by alternating least squares (the ``implicit`` library). All that is random is
seeded: the same data give the same lists on the same machine.
"""

from __future__ import annotations

import re
from contextlib import AbstractContextManager
from functools import cached_property
from threading import RLock
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import csr_matrix, diags  # type: ignore[import-untyped]

from airflow_provider_personalize.local.holdout import hold_out
from airflow_provider_personalize.local.tables import SEPARATOR, Dataset

_FACTORS = 32
_ITERATIONS = 12
_REGULARIZATION = 0.1
#: How sure the average interaction makes us, where never having met makes sure by 1. With these four, ten
#: recommendations hold 1.8 times as many of MovieLens's hidden ratings as the ten most popular films do.
_CONFIDENCE = 3.5
_SEED = 20180522
#: From how many users the scores of a user without interactions are taken.
_SAMPLE = 200
#: How steeply scores fall from the first item to the last; chosen so that they resemble the recorded ones.
_STEEPNESS = 8.0


class Ranked(NamedTuple):
    """
    Positions of items or users, best first, and their scores, where the recipe gives any.
    """

    positions: np.ndarray
    scores: np.ndarray | None = None


def one_thread() -> AbstractContextManager[Any]:
    """
    Keep the linear algebra library to one thread for a while: with more, small products take six times as long.
    """
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    limits: AbstractContextManager[Any] = threadpool_limits(1, "blas")
    return limits


def best(scores: np.ndarray, count: int, allowed: np.ndarray | None = None) -> np.ndarray:
    """
    Return the positions of the highest scores, best first; of equal scores, the lower position comes first.

    :param scores: A score for each position.
    :param count: How many at most.
    :param allowed: Which positions may come into the list; all where it is None.
    """
    candidates = np.arange(len(scores)) if allowed is None else np.flatnonzero(allowed)
    values = scores[candidates]
    if count < len(values):
        # The threshold keeps every tie, so that the stable sort below decides among them.
        threshold = np.partition(values, len(values) - count)[len(values) - count]
        keep = values >= threshold
        candidates, values = candidates[keep], values[keep]
    return candidates[np.argsort(-values, kind="stable")][:count]


def shares(scores: np.ndarray) -> np.ndarray:
    """Turn scores into shares that add up to 1, as the recorded scores of one list of the whole catalog do."""
    # Assumption: the service's scores are shares over all items (or over the given ones, in a ranking).
    powers: np.ndarray = np.exp((scores - scores.max()) * _STEEPNESS)
    powers /= powers.sum()
    return powers


class Recommender:
    """
    Everything that the recipes ask of one dataset.

    :param data: What to learn from.
    """

    def __init__(self, data: Dataset) -> None:
        self.data = data
        self._lock = RLock()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=RLock())

    def train(self) -> None:
        """Train now rather than when the first job needs it."""
        _ = self._factors, self.popularity, self._unit_factors, self._unit_columns

    @cached_property
    def trial(self) -> tuple[Recommender, dict[int, np.ndarray]]:
        """What was learned from the data without the newest items of each user, and those items' positions."""
        with self._lock:
            shown, wanted = hold_out(self.data)
            return Recommender(shown), wanted

    @cached_property
    def _factors(self) -> tuple[np.ndarray, np.ndarray]:
        with self._lock:
            if "_factors" in self.__dict__:
                return self._factors
            from implicit.als import AlternatingLeastSquares  # type: ignore[import-untyped]

            with one_thread():
                model = AlternatingLeastSquares(
                    factors=_FACTORS,
                    iterations=_ITERATIONS,
                    regularization=_REGULARIZATION,
                    random_state=_SEED,
                )
                weights = self.data.weights
                model.fit(weights * (_CONFIDENCE / weights.data.mean()), show_progress=False)
            return np.asarray(model.user_factors), np.asarray(model.item_factors)

    @cached_property
    def popularity(self) -> np.ndarray:
        """How many users each item was met by."""
        return np.bincount(self.data.weights.indices, minlength=len(self.data.items)).astype(np.float32)

    @cached_property
    def _standing(self) -> np.ndarray:
        """Popularity between 0 and 1, on a scale of logarithms."""
        logarithms: np.ndarray = np.log1p(self.popularity)
        logarithms /= max(float(logarithms.max()), 1e-9)
        return logarithms

    @cached_property
    def _unit_factors(self) -> np.ndarray:
        factors: np.ndarray = self._factors[1] / np.maximum(
            np.linalg.norm(self._factors[1], axis=1, keepdims=True), 1e-9
        )
        return factors

    @cached_property
    def _unit_columns(self) -> csr_matrix:
        """Items (rows) by users, each row of length 1: the product of two rows is the cosine of the two items."""
        rows = self.data.weights.T.tocsr()
        lengths = np.sqrt(np.asarray(rows.multiply(rows).sum(axis=1)).ravel())
        return diags(1 / np.maximum(lengths, 1e-9)) @ rows

    def known_items(self, user: int) -> np.ndarray:
        """Return the positions of the items that a user has met."""
        weights = self.data.weights
        known: np.ndarray = weights.indices[weights.indptr[user] : weights.indptr[user + 1]]
        return known

    def _known_user(self, user_id: str) -> int | None:
        """Return the position of a user, None for one without interactions."""
        user = self.data.users.index.get(user_id)
        return None if user is None or not len(self.known_items(user)) else user

    def _tastes(self, user: int) -> np.ndarray:
        """Score every item for a user by the user's own taste."""
        user_factors, item_factors = self._factors
        scores: np.ndarray = item_factors @ user_factors[user]
        return scores

    @cached_property
    def _newcomer(self) -> tuple[np.ndarray, np.ndarray]:
        """
        Score every item for a user without interactions: tastes, and shares.

        The order is that of popularity; the scores are those that others have at the same place of their lists, on
        average, so that they can be compared.
        """
        known = np.flatnonzero(np.diff(self.data.weights.indptr))
        sample = known[:: max(1, len(known) // _SAMPLE)]
        order = best(self._standing, len(self.data.items))
        tastes, parts = np.zeros((2, len(self.data.items)))
        for user in sample:
            scores = self._tastes(user)
            unknown = np.delete(shares(scores), self.known_items(user))
            tastes[order] += np.sort(scores)[::-1] / len(sample)
            parts[order[: len(unknown)]] += np.sort(unknown)[::-1] / len(sample)
        return tastes, parts

    def for_user(
        self, user_id: str, count: int, allowed: np.ndarray | None, *, hide_known: bool, popularity_weight: float = 0.0
    ) -> Ranked:
        """
        Recommend items to a user; popular ones to a user without interactions.

        :param user_id: The user.
        :param count: How many items at most.
        :param allowed: Which items a filter lets through; all where it is None.
        :param hide_known: Whether to leave out what the user has met.
        :param popularity_weight: How much popularity is to count, from 0 to 1.
        """
        user = self._known_user(user_id)
        if user is None:
            positions = best(self._standing, count, allowed)
            return Ranked(positions, self._newcomer[1][positions])
        scores = self._tastes(user) + popularity_weight * self._standing
        if hide_known:
            allowed = np.ones(len(scores), dtype=bool) if allowed is None else allowed.copy()
            allowed[self.known_items(user)] = False
        positions = best(scores, count, allowed)
        return Ranked(positions, shares(scores)[positions])

    def popular(self, count: int, allowed: np.ndarray | None) -> Ranked:
        """Return the items that most users have met."""
        return Ranked(best(self.popularity, count, allowed))

    def rank(self, user_id: str, positions: np.ndarray) -> Ranked:
        """
        Order given items for a user.

        :param user_id: The user.
        :param positions: The items.
        """
        if not len(positions):
            return Ranked(positions, np.empty(0))
        user = self._known_user(user_id)
        scores = (self._newcomer[0] if user is None else self._tastes(user))[positions]
        order = np.argsort(-scores, kind="stable")
        return Ranked(positions[order], shares(scores)[order])

    def similar(self, item: int, count: int, allowed: np.ndarray | None) -> Ranked:
        """Return the items nearest to an item in the space of tastes (the recipe Similar-Items)."""
        return self._nearest(self._unit_factors @ self._unit_factors[item], item, count, allowed)

    def together(self, item: int, count: int, allowed: np.ndarray | None) -> Ranked:
        """Return the items that the same users have met (the recipe SIMS)."""
        scores = np.asarray((self._unit_columns @ self._unit_columns[item].T).todense()).ravel()
        return self._nearest(scores, item, count, allowed)

    @cached_property
    def _unit_words(self) -> csr_matrix:
        """Items (rows) by what their columns say, each row of length 1, rare words counting more."""
        columns = self.data.items.columns.values()
        words = [
            set(re.findall(r"\w+", " ".join(cells).replace(SEPARATOR, " ").casefold()))
            for cells in zip(*(column.tolist() for column in columns), strict=True)
        ] or [set()] * len(self.data.items)
        number = {word: place for place, word in enumerate(sorted(set().union(*words)))}
        rows = np.repeat(np.arange(len(words)), [len(said) for said in words])
        places = np.array([number[word] for said in words for word in sorted(said)], dtype=np.int64)
        rarity = np.log1p(len(words) / np.maximum(np.bincount(places, minlength=len(number)), 1))
        matrix = csr_matrix((rarity[places], (rows, places)), shape=(len(words), len(number)))
        lengths = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
        return (diags(1 / np.maximum(lengths, 1e-9)) @ matrix).tocsr()

    def alike(self, item: int, count: int, allowed: np.ndarray | None) -> Ranked:
        """Return the items that are described in the same words (the recipe Semantic-Similarity)."""
        # Assumption: words in common stand for meaning, which the service has a language model compare.
        scores = np.asarray((self._unit_words @ self._unit_words[[item]].T).todense()).ravel()
        return self._nearest(scores, item, count, allowed)

    def _nearest(self, scores: np.ndarray, item: int, count: int, allowed: np.ndarray | None) -> Ranked:
        allowed = np.ones(len(scores), dtype=bool) if allowed is None else allowed.copy()
        allowed[item] = False
        return Ranked(best(scores, count, allowed))

    def users_for(self, items: np.ndarray, count: int, allowed: np.ndarray | None) -> Ranked:
        """
        Return the users with most affinity to some items.

        :param items: The items' positions; none gives no users.
        :param count: How many users at most.
        :param allowed: Which users a filter lets through; all where it is None.
        """
        if not len(items):
            return Ranked(np.empty(0, dtype=np.int64))
        user_factors, item_factors = self._factors
        return Ranked(best(user_factors @ item_factors[items].mean(axis=0), count, allowed))
