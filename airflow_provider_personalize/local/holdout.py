"""The newest items of each user, held out of a training so that it can be judged by them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd  # type: ignore[import-untyped]

from airflow_provider_personalize.local.tables import Dataset

#: The share of each user's items that is held out.
_HELD_OUT = 0.1


def hold_out(data: Dataset) -> tuple[Dataset, dict[int, np.ndarray]]:
    """
    Return the data without the newest items of each user, and the positions of those by the user's.

    :param data: All of the data.
    """
    shown = data.weights.copy().tocsr()
    newest = _newest(data)
    wanted: dict[int, np.ndarray] = {}
    for user in np.flatnonzero(np.diff(shown.indptr) >= 2).tolist():
        begin, end = shown.indptr[user], shown.indptr[user + 1]
        items = shown.indices[begin:end]
        count = max(1, int(len(items) * _HELD_OUT))
        held = np.argsort(newest[begin:end], kind="stable")[len(items) - count :]
        wanted[user] = items[held].copy()
        shown.data[begin + held] = 0
    shown.eliminate_zeros()
    return Dataset(data.name, data.users, data.items, shown, data.interactions), wanted


def _newest(data: Dataset) -> np.ndarray:
    """Return when each user met each item last, in the order of the weights; chance stands in where nobody knows."""
    weights = data.weights
    if "TIMESTAMP" not in data.interactions.columns:
        chance: np.ndarray = np.random.default_rng(1).random(weights.nnz)
        return chance
    seconds = pd.to_numeric(pd.Series(data.interactions.columns["TIMESTAMP"]), errors="coerce").fillna(0).to_numpy()
    count = weights.shape[1]
    events = data.interactions.users.astype(np.int64) * count + data.interactions.items
    pairs = np.repeat(np.arange(weights.shape[0], dtype=np.int64), np.diff(weights.indptr)) * count + weights.indices
    last = pd.Series(seconds).groupby(events).max()
    newest: Any = last.reindex(pairs).fillna(0).to_numpy()
    return np.asarray(newest)
