from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from airflow_provider_personalize.local.catalog import POPULARITY, SIMS, USER_PERSONALIZATION
from airflow_provider_personalize.local.contents import Contents, GroupData
from airflow_provider_personalize.local.data import made
from airflow_provider_personalize.local.errors import JobError
from airflow_provider_personalize.local.holdout import hold_out
from airflow_provider_personalize.local.recommend import Recommender
from airflow_provider_personalize.local.tables import Dataset, assemble
from airflow_provider_personalize.local.training import check_enough, metrics
from airflow_provider_personalize.service.schemas import make_schema

GAIN = "normalized_discounted_cumulative_gain_at_10"


def interactions(*, shuffled: bool = False) -> pd.DataFrame:
    data = made()
    events = data.interactions
    items = data.items.ids[events.items]
    if shuffled:
        items = np.random.default_rng(1).permutation(items)
    return pd.DataFrame(
        {"USER_ID": data.users.ids[events.users], "ITEM_ID": items, "TIMESTAMP": events.columns["TIMESTAMP"]}
    )


def test_structure_is_foretold_better_than_popularity_does_and_chance_is_not() -> None:
    real = Recommender(assemble("real", interactions(), None, None))
    chance = Recommender(assemble("chance", interactions(shuffled=True), None, None))
    popular = metrics(real, POPULARITY)
    assert metrics(real, USER_PERSONALIZATION)[GAIN] > 3 * popular[GAIN] > 0
    assert metrics(real, SIMS)[GAIN] > 2 * popular[GAIN]
    assert metrics(real, USER_PERSONALIZATION)["coverage"] > popular["coverage"]
    assert metrics(chance, USER_PERSONALIZATION)[GAIN] < metrics(chance, POPULARITY)[GAIN]


def test_the_newest_items_of_each_user_are_held_out() -> None:
    rows = [(f"u{user}", f"i{item}", 100 - item) for user in range(3) for item in range(20)]
    rows += [("once", "i0", 1), ("u0", "i7", 500)]
    data: Dataset = assemble(
        "x", pd.DataFrame(rows, columns=["USER_ID", "ITEM_ID", "TIMESTAMP"]).astype(str), None, None
    )
    shown, wanted = hold_out(data)
    named = {data.users.ids[user]: set(data.items.ids[items]) for user, items in wanted.items()}
    assert named == {"u0": {"i0", "i7"}, "u1": {"i0", "i1"}, "u2": {"i0", "i1"}}
    assert shown.weights.nnz == data.weights.nnz - 6


@pytest.mark.parametrize(
    ("users", "each", "reason"),
    [
        (333, 3, "Dataset has fewer than 1000 interactions."),
        (24, 50, "Dataset has fewer than 25 users with at least 2 interactions each."),
    ],
)
def test_too_little(users: int, each: int, reason: str) -> None:
    table = pd.DataFrame({"USER_ID": [f"u{user}" for user in range(users) for _ in range(each)]})
    with pytest.raises(JobError) as caught:
        check_enough(table, None)
    assert caught.value.message == reason


def test_the_newest_row_of_an_item_counts() -> None:
    schema = make_schema({"item_id": "string", "genres": "string"}, "ITEMS", categorical=["genres"])
    contents = Contents(schema)
    contents.take(pd.DataFrame({"ITEM_ID": ["1", "2"], "GENRES": ["a", "b"]}), "FULL")
    contents.take(pd.DataFrame({"ITEM_ID": ["2"], "GENRES": ["c"]}), "INCREMENTAL")
    contents.put({"itemId": "3", "genres": ["d", "e"]})
    rows = contents.rows()
    assert rows.to_dict("list") == {"ITEM_ID": ["1", "2", "3"], "GENRES": ["a", "c", "d|e"]}
    assert contents.rows("PUT").to_dict("list") == {"ITEM_ID": ["3"], "GENRES": ["d|e"]}
    assert list(contents.rows(full_only=True)["GENRES"]) == ["a", "b"]


def test_the_same_rows_are_learned_from_once() -> None:
    group = GroupData("g")
    schema = make_schema({"user_id": "string", "item_id": "string", "timestamp": "long"}, "INTERACTIONS")
    contents = group.datasets["INTERACTIONS"] = Contents(schema)
    contents.take(interactions(), "FULL")
    first = group.recommender()
    assert group.recommender() is first
    contents.take(interactions().head(2_000), "FULL")
    assert group.recommender() is not first
