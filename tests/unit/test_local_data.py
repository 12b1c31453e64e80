from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from airflow_provider_personalize.local.data import from_csv, made, movielens
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
    assert set(data.interactions.columns["EVENT_TYPE"]) == {"Watch", "Purchase"}


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
        (
            "user_id;item_id;timestamp\n1;2;3\n",
            "line 1: expected commas between the columns USER_ID, ITEM_ID, got semicolons",
        ),
        ("USER_ID\tITEM_ID\n1\t2\n", "line 1: expected commas between the columns USER_ID, ITEM_ID, got tabs"),
        ("USER_ID,ITEM_ID,user_id\n1,2,3\n", "line 1: expected each column once, got USER_ID more than once"),
        ("USER_ID,ITEM_ID\n1,2\n,2\n", "line 3, column USER_ID: expected an id, got nothing"),
        ("USER_ID,ITEM_ID\n1,2\n\n3, \n", "line 4, column ITEM_ID: expected an id, got nothing"),
        ('USER_ID,ITEM_ID\n"a\nb",2\n"",2\n', "line 4, column USER_ID: expected an id, got nothing"),
        (f"USER_ID,ITEM_ID\n{'x' * 257},2\n", "line 2, column USER_ID: expected an id of at most 256 characters, got"),
        (
            "USER_ID,ITEM_ID,TIMESTAMP\n1,2,3\n1,2,2026-11-22T10:00:00Z\n",
            "line 3, column TIMESTAMP: expected whole seconds since 1970 (as 1790000000), got '2026-11-22T10:00:00Z'",
        ),
        ("USER_ID,ITEM_ID,TIMESTAMP\n1,2,\n", "line 2, column TIMESTAMP: expected whole seconds since 1970"),
        ("USER_ID,ITEM_ID,TIMESTAMP\n1,2,nan\n", "line 2, column TIMESTAMP: expected whole seconds since 1970"),
        (
            "USER_ID,ITEM_ID,TIMESTAMP\n1,2,1790000000000\n",
            "line 2, column TIMESTAMP: expected whole seconds since 1970 (as 1790000000), got '1790000000000', which",
        ),
        ("USER_ID,ITEM_ID,EVENT_VALUE\n1,2,four\n", "line 2, column EVENT_VALUE: expected a number or nothing"),
        ("USER_ID,ITEM_ID,EVENT_VALUE\n1,2,inf\n", "line 2, column EVENT_VALUE: expected a number or nothing"),
        ("USER_ID,ITEM_ID\n1,2,3\n", "line 2: expected 2 columns, as in the header, got 3"),
        ("USER_ID,ITEM_ID\n1,2\n3\n", "line 3: expected 2 columns, as in the header, got 1"),
        ('USER_ID,ITEM_ID\n1,"2\n', "line 2: expected rows of CSV, got: unexpected end of data"),
    ],
)
def test_files_that_are_not_what_was_expected(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path / "x.csv", text)
    with pytest.raises(DataError) as caught:
        from_csv(path)
    separator = ", " if message.startswith("line ") else ": "
    assert caught.value.message.startswith(f"{path}{separator}{message}")


@pytest.mark.parametrize(
    ("file", "text", "problem"),
    [
        ("items", "ITEM_ID,GENRES\na,War\n,Drama\n", "line 3, column ITEM_ID: expected an id, got nothing"),
        (
            "items",
            "ITEM_ID,CREATION_TIMESTAMP\na,\nb,2026-01-01\n",
            "line 3, column CREATION_TIMESTAMP: expected whole",
        ),
        ("items", "ITEM_ID;GENRES\na;War\n", "line 1: expected commas between the columns ITEM_ID, got semicolons"),
        ("users", "USER_ID,PLAN\n1,gold\n  ,gold\n", "line 3, column USER_ID: expected an id, got nothing"),
    ],
)
def test_the_other_files_are_looked_at_too(tmp_path: Path, file: str, text: str, problem: str) -> None:
    interactions = write(tmp_path / "interactions", "USER_ID,ITEM_ID\n1,a\n")
    path = write(tmp_path / file, text)
    with pytest.raises(DataError) as caught:
        from_csv(interactions, **{file: path})
    assert caught.value.message.startswith(f"{path}, {problem}")


def test_files_as_spreadsheets_write_them(tmp_path: Path) -> None:
    header = "\ufeffUser_Id,Item_Id,Timestamp,Event_Value,Event_Type\r\n"
    text = f'{header}"a, ""b""\n",x,1790000000.0,,"Buy"\r\n\r\nü,x,0,1,\r\n'
    data = from_csv(write(tmp_path / "interactions.csv", text))
    assert data.users.ids.tolist() == ['a, "b"\n', "ü"]
    assert data.interactions.columns["EVENT_TYPE"].tolist() == ["Buy", ""]


def test_a_newcomers_scores_are_like_everybody_elses(tmp_path: Path) -> None:
    """On one's own data, whatever their size, what is not known of a user does not make the scores others."""
    data = made()
    ids, items = data.users.ids, data.items.ids
    rows = [f"{ids[user]},{items[item]}" for user, item in zip(*data.weights.nonzero(), strict=True)]
    few = "".join(f"u{user},i{(user * 7 + step * step) % 30}\n" for user in range(40) for step in range(1, 9))
    for text in ("\n".join(rows), few):
        recommender = Recommender(from_csv(write(tmp_path / "own.csv", f"USER_ID,ITEM_ID\n{text}\n")))
        known = np.array(
            [recommender.for_user(user, 10, None, hide_known=True).scores for user in recommender.data.users.ids]
        )
        newcomer = recommender.for_user("nobody", 10, None, hide_known=True).scores
        assert newcomer is not None
        assert newcomer.tolist() == sorted(newcomer, reverse=True)
        for place in (0, 4, 9):
            low, high = np.quantile(known[:, place], [0.05, 0.95])
            assert low <= newcomer[place] <= high
        ranked = [
            np.asarray(recommender.rank(user, np.arange(20)).scores)[0]
            for user in (*recommender.data.users.ids, "nobody")
        ]
        assert min(ranked[:-1]) <= ranked[-1] <= max(ranked[:-1])


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
