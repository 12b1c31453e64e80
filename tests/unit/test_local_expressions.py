from __future__ import annotations

import pytest

from airflow_provider_personalize.exceptions import InvalidRequestError
from airflow_provider_personalize.local.expressions import Condition, Placeholder, parse_filter, parse_item_attributes


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
    ],
)
def test_filters_that_are_none(text: str) -> None:
    with pytest.raises(InvalidRequestError, match=r"^filterExpression: expected"):
        parse_filter(text)
