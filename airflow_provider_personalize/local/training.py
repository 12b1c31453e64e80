"""The training of a solution version: whether there is enough data, and how good the result is."""

from __future__ import annotations

import numpy as np
import pandas as pd  # type: ignore[import-untyped]

from airflow_provider_personalize.local.catalog import POPULARITY, SEMANTIC_SIMILARITY, SIMS, Recipe
from airflow_provider_personalize.local.contents import GroupData
from airflow_provider_personalize.local.errors import JobError
from airflow_provider_personalize.local.recommend import Recommender, one_thread

MIN_INTERACTIONS, MIN_USERS = 1_000, 25
#: How many users are asked about at most.
_MOST_USERS = 2_000
_LISTED = 25


def train(group: GroupData, recipe: Recipe, event_type: str | None) -> Recommender:
    """
    Train on what a dataset group holds.

    :param group: The group's datasets.
    :param recipe: The recipe.
    :param event_type: The type of event that the solution learns from, where it names one.
    :raises JobError: with what becomes the ``failureReason``, where there is too little.
    """
    # Segments learn from bulk data alone: what was put one by one, or imported since, is missing in silence.
    full_only = recipe.type == "USER_SEGMENTATION"
    with group.lock:
        if not group.is_ready:
            check_enough(group.interactions(event_type, full_only=full_only), event_type)
        recommender = group.recommender(event_type, full_only=full_only)
    recommender.train()
    return recommender


def check_enough(interactions: pd.DataFrame, event_type: str | None) -> None:
    """
    Make sure that there is enough to learn from.

    :raises JobError: with the recorded words, if there is not.
    """
    if len(interactions) < MIN_INTERACTIONS:
        after = f" after filtering by event type: {event_type}" if event_type else ""
        raise JobError(f"Dataset has fewer than {MIN_INTERACTIONS} interactions{after}.")
    if (interactions["USER_ID"].value_counts() >= 2).sum() < MIN_USERS:
        raise JobError(f"Dataset has fewer than {MIN_USERS} users with at least 2 interactions each.")


def metrics(recommender: Recommender, recipe: Recipe) -> dict[str, float]:
    """
    Return the metrics of a recipe on data that it was not trained on: the newest tenth of what each user met.

    :param recommender: What was learned.
    :param recipe: The recipe.
    """
    # Assumption: how the service holds out and asks; what a user has met before is left out of every list here.
    trial, wanted = recommender.trial
    figures: dict[str, list[float]] = {}
    listed: set[int] = set()
    with one_thread():
        for user in list(wanted)[:: max(1, len(wanted) // _MOST_USERS)]:
            allowed = np.ones(len(trial.data.items), dtype=bool)
            known = trial.known_items(user)
            allowed[known] = False
            positions = _listed(recipe, trial, user, int(known[-1]), allowed)
            listed.update(positions.tolist())
            for name, value in _figures(np.isin(positions, wanted[user]), len(wanted[user])).items():
                figures.setdefault(name, []).append(value)
    means = {name: round(float(np.mean(values)), 4) for name, values in figures.items()}
    return {"coverage": round(len(listed) / max(1, int((recommender.popularity > 0).sum())), 4)} | means


def _listed(recipe: Recipe, trial: Recommender, user: int, item: int, allowed: np.ndarray) -> np.ndarray:
    """Return what a recipe lists for a user, or for an item that the user met."""
    if recipe is POPULARITY or recipe.type.startswith("POPULAR"):
        return trial.popular(_LISTED, allowed).positions
    if recipe is SIMS:
        return trial.together(item, _LISTED, allowed).positions
    if recipe is SEMANTIC_SIMILARITY:
        return trial.alike(item, _LISTED, allowed).positions
    if recipe.type == "RELATED_ITEMS":
        return trial.similar(item, _LISTED, allowed).positions
    return trial.for_user(trial.data.users.ids[user], _LISTED, allowed, hide_known=False).positions


def _figures(hits: np.ndarray, wanted: int) -> dict[str, float]:
    places = np.flatnonzero(hits) + 1
    figures = {"mean_reciprocal_rank_at_25": float(1 / places[0]) if len(places) else 0.0}
    for count in (5, 10, 25):
        found = places[places <= count]
        ideal = (1 / np.log2(np.arange(1, min(wanted, count) + 1) + 1)).sum()
        figures[f"normalized_discounted_cumulative_gain_at_{count}"] = float((1 / np.log2(found + 1)).sum() / ideal)
        figures[f"precision_at_{count}"] = len(found) / count
    return figures
