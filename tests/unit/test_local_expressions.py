from __future__ import annotations

import pytest

from airflow_provider_personalize.exceptions import InvalidRequestError
from airflow_provider_personalize.local.conditions import CurrentItem
from airflow_provider_personalize.local.expressions import Condition, Placeholder, parse_filter, parse_item_attributes
from tests.expression_examples import REFUSED, TAKEN


@pytest.mark.parametrize(("expression", "conditions"), TAKEN)
def test_what_the_check_takes_is_taken(expression: str, conditions: list[tuple[str, str]]) -> None:
    parsed = parse_item_attributes(expression)
    assert [(condition.column, *condition.values) for condition in parsed] == conditions
    assert {(condition.dataset, condition.sign) for condition in parsed} == {("ITEMS", "=")}


@pytest.mark.parametrize("expression", REFUSED)
def test_what_the_check_refuses_is_refused(expression: str) -> None:
    with pytest.raises(InvalidRequestError, match=r"^itemAttributes: expected"):
        parse_item_attributes(expression)


def test_item_attributes() -> None:
    assert parse_item_attributes('ITEMS.genres = "Comedy" AND items.YEAR=1995') == (
        Condition("ITEMS", "GENRES", "=", ("Comedy",)),
        Condition("ITEMS", "YEAR", "=", ("1995",)),
    )


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('ITEMS.genres IN ("Comedy")', "expected = at character 14, got 'IN"),
        ('ITEMS.genres = "Comedy" OR ITEMS.genres = "Drama"', "expected the end at character 25, got 'OR"),
        ('ITEMS.genres != "Comedy"', "expected = at character 14, got '!="),
        ("ITEMS.genres = Comedy", "expected a value like \"Comedy\" or a number at character 16, got 'Comedy'"),
        ('USERS.age = "3"', "expected ITEMS.<column> at character 1, got 'USERS.age"),
        ('ITEMS.genres = "Comedy', "at character 16, got"),
        ('ITEMS.genres = "Comedy" AND', "at character 28, got the end"),
        ("ITEMS.genres = $GENRE", "at character 16, got '$GENRE'"),
        ("", "expected ITEMS.<column> at character 1, got the end"),
    ],
)
def test_item_attributes_that_the_service_does_not_take(text: str, place: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        parse_item_attributes(text)
    assert place in caught.value.message


def test_quotes_and_signs_inside_a_value_are_its_own() -> None:
    (condition,) = parse_item_attributes(r'ITEMS.title = "a \"quoted\" AND | \\ $x ≠ 鬼滅"')
    assert condition.values == ('a "quoted" AND | \\ $x ≠ 鬼滅',)


@pytest.mark.parametrize(
    ("sign", "values", "cell", "holds"),
    [
        ("IN", ("Comedy", "Drama"), {"Drama", "War"}, True),
        ("IN", ("Comedy",), {"Drama"}, False),
        ("IN", ("Comedy",), set(), False),
        ("NOT IN", ("Comedy",), {"Drama"}, True),
        ("NOT IN", ("Comedy",), {"Drama", "Comedy"}, False),
        ("=", ("comedy",), {"Comedy"}, False),
        ("=", ("1995",), {"1995.0"}, True),
        ("<", ("1990",), {"1989"}, True),
        ("<", ("1990",), {"1990"}, False),
        ("<=", ("1990",), {"1990"}, True),
        (">", ("1990",), {"1990.5"}, True),
        (">=", ("1990",), {"1989"}, False),
        (">", ("1990",), {"unknown"}, False),
        ("=", ("1e3",), {"1000"}, True),
        ("=", (".5",), {"0.50"}, True),
        ("=", ("9007199254740993",), {"9007199254740992"}, False),
        ("=", ("1000",), {"1_000"}, False),
        (">", ("1",), {"NaN"}, False),
        ("IN", ("*",), {"Drama"}, True),
        ("IN", ("*",), set(), False),
        ("NOT IN", ("*",), {"Drama"}, False),
        ("NOT IN", ("*",), set(), True),
    ],
)
def test_conditions(sign: str, values: tuple[str, ...], cell: set[str], holds: bool) -> None:
    assert Condition("ITEMS", "X", sign, values).holds(frozenset(cell)) is holds


def test_filter() -> None:
    expression = parse_filter(
        'include ItemID where Items.GENRES in ($GENRES, "War") AND Items.YEAR >= 1990 OR Items.TITLE NOT IN ("Jaws")'
        ' | EXCLUDE ItemID WHERE Interactions.event_type IN ("*")'
    )
    first, second = expression.clauses
    assert (first.include, second.include) == (True, False)
    assert first.any_of == (
        (
            Condition("ITEMS", "GENRES", "IN", (Placeholder("GENRES"), "War")),
            Condition("ITEMS", "YEAR", ">=", ("1990",)),
        ),
        (Condition("ITEMS", "TITLE", "NOT IN", ("Jaws",)),),
    )
    assert second.any_of == ((Condition("INTERACTIONS", "EVENT_TYPE", "IN", ("*",)),),)
    assert expression.entity == "ITEMID"
    assert expression.placeholders == {"GENRES"}


def test_what_is_asked_of_the_current_item_and_the_current_user() -> None:
    (clause,) = parse_filter(
        "INCLUDE ItemID WHERE Items.PRICE < currentitem.PRICE AND Items.GENRE NOT IN CurrentItem.genre"
        " AND items.stock >= ($STOCK) if CurrentUser.AGE > 18 and currentuser.plan = $PLAN"
    ).clauses
    assert clause.any_of == (
        (
            Condition("ITEMS", "PRICE", "<", (CurrentItem("PRICE"),)),
            Condition("ITEMS", "GENRE", "NOT IN", (CurrentItem("GENRE"),)),
            Condition("ITEMS", "STOCK", ">=", (Placeholder("STOCK"),)),
        ),
    )
    assert isinstance(clause.any_of[0][0].values[0], CurrentItem)
    assert clause.if_user == (
        Condition("CURRENTUSER", "AGE", ">", ("18",)),
        Condition("CURRENTUSER", "PLAN", "=", (Placeholder("PLAN"),)),
    )


def test_filled_placeholders() -> None:
    expression = parse_filter("INCLUDE ItemID WHERE Items.GENRES IN ($GENRES) AND Items.YEAR > $YEAR")
    filled = expression.filled({"GENRES": '"horror","sci, \\"fi\\""', "YEAR": "1990", "OTHER": "!"})
    assert [condition.values for condition in filled.conditions] == [("horror", 'sci, "fi"'), ("1990",)]


def test_a_quoted_value_that_looks_like_a_placeholder_is_none() -> None:
    expression = parse_filter('INCLUDE ItemID WHERE Items.TITLE IN ("$9.99", $TITLE)')
    assert expression.placeholders == {"TITLE"}
    assert expression.filled({"TITLE": '"$TITLE"'}).conditions[0].values == ("$9.99", "$TITLE")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "expected values for the filter's GENRES"),
        ({"genres": '"horror"'}, "expected values for the filter's GENRES"),
        ({"GENRES": "horror"}, "filterValues.GENRES: expected a value"),
        ({"GENRES": '"horror" "comedy"'}, "filterValues.GENRES: expected the end at character 10"),
        ({"GENRES": ""}, "filterValues.GENRES: expected a value"),
    ],
)
def test_placeholders_without_proper_values(values: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message.replace("(", r"\(")):
        parse_filter("INCLUDE ItemID WHERE Items.GENRES IN ($GENRES)").filled(values)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "INCLUDE ItemID",
        "INCLUDE ItemID WHERE Items.GENRES",
        "INCLUDE ItemID WHERE Items.GENRES IN ()",
        "INCLUDE ItemID WHERE Items.GENRES IN ($A) IF CurrentUser.AGE > 3 OR CurrentUser.AGE < 1",
        "INCLUDE ItemID WHERE Items.GENRES IN ($A) | INCLUDE UserID WHERE Users.AGE > 3",
        "INCLUDE Title WHERE Items.GENRES IN ($A)",
        "INCLUDE ItemID WHERE CurrentUser.AGE > 3",
        "INCLUDE ItemID WHERE Items.GENRES IN ($A) IF Users.AGE > 3",
        "INCLUDE ItemID WHERE Items.GENRES IN $A",
        'INCLUDE ItemID WHERE Items.GENRES = ("a", "b")',
        'INCLUDE ItemID WHERE Items.GENRES IN ("a") |',
        "INCLUDE ItemID WHERE Interactions.EVENT_TYPE IN CurrentItem.EVENT_TYPE",
    ],
)
def test_filters_that_are_none(text: str) -> None:
    with pytest.raises(InvalidRequestError, match=r"^filterExpression: expected"):
        parse_filter(text)
