"""What filters let through, on data small enough to be read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from airflow_provider_personalize.exceptions import InvalidRequestError
from airflow_provider_personalize.local.data import from_csv
from airflow_provider_personalize.local.expressions import parse_filter
from airflow_provider_personalize.local.filters import Filter, check_filter
from airflow_provider_personalize.local.tables import Dataset

INTERACTIONS = """\
USER_ID,ITEM_ID,TIMESTAMP,EVENT_TYPE,EVENT_VALUE,DEVICE
ann,a,100,Click,,phone
ann,a,200,Purchase,9.5,phone
ann,b,300,Click,,desk
ann,c,400,watch,1,desk
bob,b,500,Purchase,20,phone
bob,d,600,Click,,phone
cid,d,700,Watch,3,
"""
ITEMS = """\
ITEM_ID,GENRES,PRICE,STUDIO
a,Comedy|Drama,10,X
b,Drama,20.0,X
c,Comedy,5,Y
d,War,1e1,
e,,,Y
"""
USERS = "USER_ID,AGE,PLAN\nann,30,Premium\nbob,17,Basic\ncid,,Basic\n"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder: Path = tmp_path_factory.mktemp("csv")
    files = []
    for name, text in (("interactions", INTERACTIONS), ("items", ITEMS), ("users", USERS)):
        (folder / name).write_text(text)
        files.append(folder / name)
    return from_csv(*files)


def through(data: Dataset, expression: str, **record: Any) -> str:
    """The ids that come through, in order, as one word (of users: their first letters)."""
    check_filter(parse_filter(expression), data)
    mask = Filter(expression, data).mask(record)
    ids = data.items.ids if "itemid" in expression.lower() else data.users.ids
    return "".join(sorted(str(id_)[0] for id_ in ids[mask]))


@pytest.mark.parametrize(
    ("expression", "items"),
    [
        ('INCLUDE ItemID WHERE Items.GENRES IN ("Comedy")', "ac"),
        ('EXCLUDE ItemID WHERE Items.GENRES IN ("Comedy")', "bde"),
        # Any INCLUDE takes, any EXCLUDE leaves out, in whatever order they stand.
        ('INCLUDE ItemID WHERE Items.GENRES IN ("Comedy") | INCLUDE ItemID WHERE Items.GENRES IN ("War")', "acd"),
        (
            (
                'EXCLUDE ItemID WHERE Items.STUDIO IN ("X") | INCLUDE ItemID WHERE Items.GENRES IN ("Comedy")'
                ' | INCLUDE ItemID WHERE Items.GENRES IN ("War")'
            ),
            "cd",
        ),
        (
            (
                'INCLUDE ItemID WHERE Items.GENRES IN ("Comedy") | EXCLUDE ItemID WHERE Items.STUDIO IN ("X")'
                ' | INCLUDE ItemID WHERE Items.GENRES IN ("War") | EXCLUDE ItemID WHERE Items.PRICE = 10'
            ),
            "c",
        ),
        ('EXCLUDE ItemID WHERE Items.STUDIO IN ("X") | EXCLUDE ItemID WHERE Items.GENRES IN ("War")', "ce"),
        # AND binds tighter than OR.
        ('INCLUDE ItemID WHERE Items.STUDIO = "Y" OR Items.STUDIO = "X" AND Items.PRICE > 10', "bce"),
        ("include itemid where items.price <= 10", "acd"),
        ("INCLUDE ItemID WHERE ITEMS.Price < 10", "c"),
        ("INCLUDE ItemID WHERE Items.PRICE >= 1E1 AND Items.PRICE < (2e1)", "ad"),
        ("INCLUDE ItemID WHERE Items.PRICE = 20", "b"),
        ('INCLUDE ItemID WHERE Items.GENRES NOT IN ("Drama", "War")', "ce"),
        ('INCLUDE ItemID WHERE Items.GENRES IN ("*")', "abcd"),
        ('INCLUDE ItemID WHERE Items.GENRES NOT IN ("*")', "e"),
        ('INCLUDE ItemID WHERE Items.GENRES IN ("comedy")', ""),
        # What the user did.
        ('INCLUDE ItemID WHERE Interactions.EVENT_TYPE IN ("Purchase")', "a"),
        ('INCLUDE ItemID WHERE interactions.event_type IN ("WATCH")', "c"),
        ('INCLUDE ItemID WHERE Interactions.EVENT_TYPE = "click"', "ab"),
        ('EXCLUDE ItemID WHERE Interactions.EVENT_TYPE IN ("Purchase", "watch")', "bde"),
        ('INCLUDE ItemID WHERE Interactions.EVENT_TYPE NOT IN ("Purchase")', "bcde"),
        ('INCLUDE ItemID WHERE Interactions.EVENT_TYPE IN ("*")', "abc"),
        ('INCLUDE ItemID WHERE Interactions.EVENT_TYPE NOT IN ("*")', "de"),
        ("INCLUDE ItemID WHERE Interactions.EVENT_VALUE > 5", "a"),
        ('INCLUDE ItemID WHERE Interactions.DEVICE IN ("desk") OR Interactions.TIMESTAMP < 150', "abc"),
        (
            (
                'INCLUDE ItemID WHERE Items.GENRES IN ("War")'
                ' | INCLUDE ItemID WHERE Interactions.EVENT_TYPE IN ("Click")'
                ' | EXCLUDE ItemID WHERE Interactions.EVENT_TYPE IN ("Purchase")'
            ),
            "bd",
        ),
    ],
)
def test_items_for_ann(data: Dataset, expression: str, items: str) -> None:
    assert through(data, expression, userId="ann") == items


@pytest.mark.parametrize("user", ["zoe", None])
def test_whom_the_data_do_not_hold_has_done_nothing(data: Dataset, user: str | None) -> None:
    record = {"userId": user} if user else {}
    assert through(data, 'EXCLUDE ItemID WHERE Interactions.EVENT_TYPE IN ("*")', **record) == "abcde"
    assert through(data, 'INCLUDE ItemID WHERE Interactions.EVENT_TYPE IN ("Click")', **record) == ""
    only_adults = 'INCLUDE ItemID WHERE Items.GENRES IN ("War") IF CurrentUser.AGE > 18'
    assert through(data, only_adults, **record) == "abcde"


@pytest.mark.parametrize(
    ("user", "items"),
    [("ann", "cde"), ("bob", "abcd"), ("cid", "abcde")],
)
def test_a_clause_that_depends_on_the_user(data: Dataset, user: str, items: str) -> None:
    expression = (
        'EXCLUDE ItemID WHERE Items.STUDIO IN ("X") IF CurrentUser.PLAN = "Premium" AND CurrentUser.AGE >= 18'
        ' | INCLUDE ItemID WHERE Items.GENRES IN ("*") IF CurrentUser.AGE < 18'
    )
    assert through(data, expression, userId=user) == items


def test_what_the_current_item_has(data: Dataset) -> None:
    same = "INCLUDE ItemID WHERE Items.GENRES IN CurrentItem.GENRES"
    assert [through(data, same, itemId=item) for item in "abdez"] == ["abc", "ab", "d", "", ""]
    other = "INCLUDE ItemID WHERE Items.STUDIO NOT IN (CurrentItem.STUDIO)"
    assert [through(data, other, itemId=item) for item in "acd"] == ["cde", "abd", "abcde"]
    cheaper = "EXCLUDE ItemID WHERE Items.PRICE >= CurrentItem.PRICE"
    assert [through(data, cheaper, itemId=item) for item in "abc"] == ["ce", "acde", "e"]


def test_placeholders(data: Dataset) -> None:
    expression = (
        'INCLUDE ItemID WHERE Items.GENRES IN ($GENRES, "War") | EXCLUDE ItemID WHERE Items.PRICE > $most'
        " IF CurrentUser.PLAN = $PLAN"
    )
    values = {"GENRES": '"Comedy","x"', "most": "9", "PLAN": '"Premium"'}
    assert through(data, expression, userId="ann", filterValues=values) == "c"
    assert through(data, expression, userId="bob", filterValues=values) == "acd"
    with pytest.raises(InvalidRequestError, match="expected values for the filter's PLAN, most"):
        through(data, expression, userId="ann", filterValues={"GENRES": '"Comedy"'})


@pytest.mark.parametrize(
    ("expression", "users"),
    [
        ('INCLUDE UserID WHERE Users.PLAN IN ("Basic")', "bc"),
        ("EXCLUDE UserID WHERE Users.AGE < $AGE", "ac"),
        ('INCLUDE UserID WHERE Interactions.EVENT_TYPE IN ("Purchase")', "ab"),
        ('INCLUDE UserID WHERE Interactions.EVENT_TYPE IN ("watch", "nothing")', "ac"),
        ("EXCLUDE UserID WHERE Interactions.EVENT_TYPE IN ($TYPE)", "b"),
        ('INCLUDE UserID WHERE Interactions.EVENT_TYPE NOT IN ("Click")', "c"),
        (
            (
                "INCLUDE UserID WHERE Users.AGE > 18 | INCLUDE UserID WHERE Interactions.EVENT_VALUE = 3"
                ' | EXCLUDE UserID WHERE Interactions.DEVICE IN ("desk")'
            ),
            "c",
        ),
    ],
)
def test_users(data: Dataset, expression: str, users: str) -> None:
    values = {"AGE": "18", "TYPE": '"watch","nothing"'}
    assert through(data, expression, itemId="a", filterValues=values) == users


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        (
            'INCLUDE ItemID WHERE Items.COLOUR IN ("red")',
            "ITEMS.COLOUR: no such column; there are GENRES, PRICE, STUDIO",
        ),
        (
            'INCLUDE ItemID WHERE Interactions.COLOUR IN ("red")',
            "INTERACTIONS.COLOUR: no such column; there are DEVICE",
        ),
        ("INCLUDE ItemID WHERE Items.GENRES IN CurrentItem.COLOUR", "CURRENTITEM.COLOUR: no such column"),
        ("INCLUDE ItemID WHERE Items.PRICE > 1 IF CurrentUser.COLOUR = 1", "CURRENTUSER.COLOUR: no such column"),
        ("INCLUDE ItemID WHERE Users.AGE > 1", "expected columns of ITEMS or INTERACTIONS for ITEMID, got USERS.AGE"),
        (
            "INCLUDE UserID WHERE Items.PRICE > 1",
            "expected columns of USERS or INTERACTIONS for USERID, got ITEMS.PRICE",
        ),
        ("INCLUDE UserID WHERE Users.AGE > 1 IF CurrentUser.AGE > 1", "IF CurrentUser only in filters of items"),
    ],
)
def test_filters_that_the_data_cannot_answer(data: Dataset, expression: str, problem: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        check_filter(parse_filter(expression), data)
    assert problem in caught.value.message
