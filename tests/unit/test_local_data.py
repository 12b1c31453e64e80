from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from airflow_provider_personalize.local.data import from_csv, movielens
from airflow_provider_personalize.local.errors import DataError
from airflow_provider_personalize.local.recommend import Recommender, best


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_movielens() -> None:
    data = movielens()
    assert (len(data.users), len(data.items), data.weights.nnz) == (671, 9066, 100_004)
    star_wars = data.items.index["260"]
    assert data.items.columns["TITLE"][star_wars] == "Star Wars: Episode IV - A New Hope"
    assert data.items.columns["YEAR"][star_wars] == "1977"
    assert data.items.cell("GENRES", star_wars) == {"Action", "Adventure", "Sci-Fi"}
    assert data.items.where("GENRES", lambda genres: {"Action", "Sci-Fi"} <= genres)[star_wars]
    assert set(data.users.columns["ACTIVITY"]) == {"low", "medium", "high"}


def test_ones_own_files(tmp_path: Path) -> None:
    data = from_csv(
        write(
            tmp_path / "interactions.csv",
            "\ufeffuser_id,ITEM_ID,TIMESTAMP,EVENT_VALUE\n007,a,1,2.5\n007,a,2,1\nNA,b,3,\n☃,b,4,4\n",
        ),
        write(tmp_path / "items.csv", "ITEM_ID,GENRES\nb,Comedy|Drama\nnew,War\n"),
        write(tmp_path / "users.csv", "USER_ID,PLAN\n007,gold\n"),
    )
    assert data.users.ids.tolist() == ["007", "NA", "☃"]
    assert data.items.ids.tolist() == ["a", "b", "new"]
    assert data.weights.toarray().tolist() == [[3.5, 0, 0], [0, 1, 0], [0, 4, 0]]
    assert data.items.where("GENRES", lambda genres: "Drama" in genres).tolist() == [False, True, False]
    assert data.items.cell("GENRES", 0) == frozenset()
    assert data.users.columns["PLAN"].tolist() == ["gold", "", ""]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("USER_ID,item\n1,2\n", "expected the columns USER_ID, ITEM_ID, got USER_ID, ITEM; ITEM_ID is missing"),
        ("USER_ID,ITEM_ID\n", "expected rows below the header, got none"),
        ("", "expected a CSV file in UTF-8 with a header, got: No columns"),
    ],
)
def test_files_that_are_not_what_was_expected(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path / "x.csv", text)
    with pytest.raises(DataError) as caught:
        from_csv(path)
    assert caught.value.message.startswith(f"{path}: {message}")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.csv: expected a CSV file .*No such file"):
        from_csv(tmp_path / "none.csv")


def test_an_item_that_nobody_met_is_not_popular_and_a_user_without_interactions_gets_what_is(tmp_path: Path) -> None:
    data = from_csv(
        write(tmp_path / "interactions.csv", "USER_ID,ITEM_ID\n1,a\n2,a\n3,a\n1,b\n2,c\n3,c\n"),
        write(tmp_path / "items.csv", "ITEM_ID,GENRES\nnew,War\n"),
        write(tmp_path / "users.csv", "USER_ID,PLAN\nguest,free\n"),
    )
    recommender = Recommender(data)
    assert data.items.ids[recommender.popular(4, None).positions].tolist() == ["a", "c", "b", "new"]
    for user in ("guest", "nobody"):
        ranked = recommender.for_user(user, 2, None, hide_known=True)
        assert data.items.ids[ranked.positions].tolist() == ["a", "c"]


def test_training_is_the_same_each_time() -> None:
    lists = []
    for _ in range(2):
        recommender = Recommender(movielens())
        lists.append(recommender.for_user("1", 25, None, hide_known=True).positions.tolist())
    assert lists[0] == lists[1]


def test_the_best_of_scores_in_order_and_ties_by_position() -> None:
    scores = np.array([1.0, 3.0, 2.0, 3.0, 2.0, 0.0])
    assert best(scores, 4).tolist() == [1, 3, 2, 4]
    assert best(scores, 3).tolist() == [1, 3, 2]
    assert best(scores, 99).tolist() == [1, 3, 2, 4, 0, 5]
    assert best(scores, 3, scores < 3).tolist() == [2, 4, 0]
    assert best(scores, 3, scores > 9).tolist() == []
