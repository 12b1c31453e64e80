"""The grammar of item attributes, and what a filter asks values for."""

from __future__ import annotations

import pytest

from airflow_provider_personalize.service.expressions import filter_placeholders, item_attributes_problem, read_filter
from tests.expression_examples import REFUSED, TAKEN


@pytest.mark.parametrize("expression", [expression for expression, _ in TAKEN])
def test_what_the_stand_in_takes_is_taken(expression):
    assert item_attributes_problem(expression) is None


@pytest.mark.parametrize("expression", REFUSED)
def test_what_the_stand_in_refuses_is_refused(expression):
    assert item_attributes_problem(expression)


@pytest.mark.parametrize(
    "expression",
    [
        'ITEMS.genres = "Comedy"',
        'ITEMS.genres = "Comedy" AND ITEMS.genres = "Action"',
        'ITEMS.CATEGORY_L1 = "tools"',
        "ITEMS.year = 1995",
        "ITEMS.price = -1.5 AND ITEMS.stock=10",
        ' Items.a="x"\tand\nitems.b = "y" ',
        'ITEMS.title = "Say \\"hi\\" OR IN (x) != \'y\'"',
        'ITEMS.title = ""',
    ],
)
def test_what_the_service_takes(expression):
    assert item_attributes_problem(expression) is None


@pytest.mark.parametrize(
    ("expression", "character", "found"),
    [
        ('ITEMS.a = "x" OR ITEMS.b = "y"', 15, "'OR'"),
        ('ITEMS.a IN ("x", "y")', 9, "'IN'"),
        ('ITEMS.a != "x"', 9, "'!='"),
        ('ITEMS.a <> "x"', 9, "'<>'"),
        ("ITEMS.a > 5", 9, "'>'"),
        ('ITEMS.a == "x"', 9, "'=='"),
        ("ITEMS.a = 'x'", 11, '"\'"'),
        ("ITEMS.a = Comedy", 11, "'Comedy'"),
        ("ITEMS.a = 19th", 11, "'19th'"),
        ('ITEMS.a = "x', 11, "'\"'"),
        ('ITEMS.a = "x" ITEMS.b = "y"', 15, "'ITEMS.b'"),
        ('NOT ITEMS.a = "x"', 1, "'NOT'"),
        ('(ITEMS.a = "x")', 1, "'('"),
        ('USERS.a = "x"', 1, "'USERS.a'"),
        ('a = "x"', 1, "'a'"),
        ('ITEMS.a.b = "x"', 1, "'ITEMS.a.b'"),
        ("ITEMS.a = $VALUE", 11, "'$VALUE'"),
        ('ITEMS.a = "x" AND', 18, "its end"),
        ("ITEMS.a =", 10, "its end"),
        ("ITEMS.a", 8, "its end"),
        ("  ", 3, "its end"),
        ("", 1, "its end"),
    ],
)
def test_what_it_does_not_take_is_pointed_at(expression, character, found):
    problem = item_attributes_problem(expression)
    assert problem is not None
    assert f"at character {character} of" in problem
    assert f"got {found};" in problem


@pytest.mark.parametrize(
    ("expression", "required", "optional"),
    [
        ("INCLUDE ItemID WHERE Items.GENRES IN ($GENRES)", {"GENRES"}, set()),
        ("EXCLUDE ItemID WHERE Items.YEAR < $max_1 | INCLUDE ItemID WHERE Items.G IN ($A,$B)", {"A", "B"}, {"max_1"}),
        ("INCLUDE ItemID WHERE Items.G IN ($A)|exclude ItemID WHERE Items.G IN ($A, $B)", {"A"}, {"B"}),
        ('include ItemID WHERE Items.G = "a|EXCLUDE" AND Items.H IN ($A)', {"A"}, set()),
        ('EXCLUDE ItemID WHERE Items.PRICE IN ("$5", "a \\" $x")', set(), set()),
        ('EXCLUDE ItemID WHERE Interactions.event_type IN ("*")', set(), set()),
    ],
)
def test_placeholders_stand_outside_of_quoted_text(expression, required, optional):
    found = read_filter(expression)
    assert (found.required, found.optional) == (required, optional)
    assert filter_placeholders(expression) == required | optional


@pytest.mark.parametrize(
    ("expression", "entities", "of_interactions"),
    [
        ('EXCLUDE ItemID WHERE INTERACTIONS.event_type IN ("*")', {"itemid"}, True),
        ('INCLUDE UserID WHERE Users.A = "Interactions.B"', {"userid"}, False),
        ("INCLUDE UserID WHERE Users.interactions IN ($I)", {"userid"}, False),
    ],
)
def test_what_a_filter_is_about(expression, entities, of_interactions):
    found = read_filter(expression)
    assert (found.entities, found.of_interactions) == (entities, of_interactions)
