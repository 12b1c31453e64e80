"""Rows of a query become lines of input, exactly, or an error that names the row."""

from __future__ import annotations

import json
import uuid
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_personalize.exceptions import InvalidLineError, InvalidRequestError
from airflow_provider_personalize.input.rows import InputRows, encode_ids, plain_ids
from airflow_provider_personalize.service.recipes import batch_recipe


def encode(columns, rows, **kwargs):
    """The lines that the rows become."""
    texts, before, after = InputRows(columns, **kwargs).encode(rows)
    return [f"{before}{text}{after}" for text in texts]


def lines(columns, rows, **kwargs):
    """The lines that the rows become, parsed."""
    encoded = encode(columns, rows, **kwargs)
    text = "".join(encoded)
    assert text.count("\n") == len(encoded) == len(rows)
    assert len(text.splitlines()) == len(rows)
    return [json.loads(line) for line in encoded]


@pytest.mark.parametrize("column", ["user_id", "userId", "USERID", "UserID", "USER_ID", "User_Id"])
def test_a_user_column_in_any_spelling_is_the_user_id(column):
    assert lines([column], [("a",)]) == [{"userId": "a"}]


def test_each_form_of_a_line():
    assert lines(["item_id"], [("a",)]) == [{"itemId": "a"}]
    assert lines(["ITEM_LIST", "user_id"], [(["1", "2"], "u")]) == [{"userId": "u", "itemList": ["1", "2"]}]
    expression = 'ITEMS.genres = "Comedy" AND ITEMS.genres = "Action"'
    assert lines(["item_attributes"], [(expression,)]) == [{"itemAttributes": expression}]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (123, "123"),
        (-5, "-5"),
        (2**70, str(2**70)),
        (123.0, "123"),
        (Decimal(123), "123"),
        (Decimal("123.000"), "123"),
        (Decimal("1E+3"), "1000"),
        (Decimal(10) ** 30, "1" + "0" * 30),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        ("123.0", "123.0"),
        ("007", "007"),
        (" padded ", " padded "),
        ("x" * 256, "x" * 256),
        ("🙂" * 256, "🙂" * 256),
    ],
)
def test_ids_go_out_as_text_exactly(value, text):
    assert lines(["user_id"], [(value,)]) == [{"userId": text}]
    # Beside values of other types, in one batch, it is the same.
    assert lines(["user_id"], [("a",), (value,), (7,)]) == [{"userId": "a"}, {"userId": text}, {"userId": "7"}]


@given(
    st.lists(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=256).filter(
            str.strip
        )
    )
)
def test_any_text_comes_through_unharmed(ids):
    assert lines(["user_id"], [(value,) for value in ids]) == [{"userId": value} for value in ids]
    rows = [(value, [value, value]) for value in ids]
    assert lines(["user_id", "item_list"], rows) == [{"userId": u, "itemList": items} for u, items in rows]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "null"),
        ("", "blank"),
        (" \t\u3000", "blank"),
        ("x" * 257, "at most 256 characters, got 257"),
        (True, "bool True"),
        (b"x", "bytes b'x'"),
        (1.5, "float 1.5"),
        (Decimal("1.5"), "1.5"),
        (float("nan"), "nan"),
        (float("inf"), "inf"),
        (Decimal("NaN"), "NaN"),
        (2.0**53, "too large for this type to be exact"),
        ([1], "list"),
    ],
)
@pytest.mark.parametrize("neighbour", ["text", 7])
def test_what_is_no_id_is_an_error_with_its_row(value, reason, neighbour):
    rows = [(neighbour,)] * 10
    rows[6] = (value,)
    with pytest.raises(InvalidLineError, match=reason) as caught:
        InputRows(["User_Id"]).encode(rows, first_row=1001)
    assert caught.value.location == "Row 1007 of the query, column User_Id"


@pytest.mark.parametrize(
    ("value", "ids"),
    [
        (["a", 1, Decimal("2.0")], ["a", "1", "2"]),
        (("a", "b"), ["a", "b"]),
        ('["a", 1, 2.0, "\\u00e9\\n"]', ["a", "1", "2", "é\n"]),
        (" [12345678901234567890.0]", ["12345678901234567890"]),
    ],
)
def test_an_item_list_is_an_array_or_json_text(value, ids):
    assert lines(["user_id", "item_list"], [("u", value)]) == [{"userId": "u", "itemList": ids}]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("27,886", "JSON array"),
        ("{27,886}", "JSON array"),
        ('["27", ', "JSON array"),
        ("[" * 100_000, "JSON array"),
        (27, "int 27"),
        (None, "NoneType"),
        ([], "empty list"),
        (["a", None], "null"),
        ('["a", ""]', "blank"),
        ('[["a"]]', "list"),
        ("[true]", "bool"),
    ],
)
def test_what_is_no_item_list_is_an_error_with_its_row(value, reason):
    with pytest.raises(InvalidLineError, match=reason) as caught:
        InputRows(["user_id", "item_list"]).encode([("a", ["1"]), ("b", value)])
    assert caught.value.location == "Row 2 of the query, column item_list"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("horror", '"horror"'),
        (["horror", "comedy"], '"horror","comedy"'),
        ('["horror", "comedy"]', '"horror","comedy"'),
        ("horror,comedy", '"horror,comedy"'),
        ("[sic", '"[sic"'),
        ("[" * 100_000, f'"{"[" * 100_000}"'),
        ("", '""'),
        (7, '"7"'),
        (7.0, '"7"'),
        (7.5, '"7.5"'),
        (Decimal("7.50"), '"7.50"'),
        (1e-7, '"0.0000001"'),
        ([1, "a"], '"1","a"'),
    ],
)
def test_filter_values_are_quoted_as_the_service_wants_them(value, text):
    # Numbers that are equal, and values seen before, must not stand in for one another.
    rows = [("u", "other"), ("u", value), ("u", value)]
    expected = [{"userId": "u", "filterValues": {"GENRES": t}} for t in ('"other"', text, text)]
    assert lines(["user_id", "Genres"], rows, filter_values={"GENRES": "genres"}) == expected


def test_the_bytes_of_filter_values_are_those_of_the_documentation():
    encoded = encode(["user_id", "g"], [("891", ["horror", "comedy"])], filter_values={"GENRES": "g"})
    assert encoded == ['{"userId": "891", "filterValues": {"GENRES": "\\"horror\\",\\"comedy\\""}}\n']


def test_several_placeholders_and_one_column_twice():
    filter_values = {"MIN": "year", "MAX": "YEAR", "ME": "user_id"}
    (line,) = lines(["user_id", "year"], [("u", 1995)], filter_values=filter_values)
    assert line["filterValues"] == {"MIN": '"1995"', "MAX": '"1995"', "ME": '"u"'}


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "null"),
        ([], "empty list"),
        (["a", None], "null"),
        ('say "hi"', "double quotes"),
        ("AC\\DC", "backslashes"),
        (True, "bool"),
        (b"a", "bytes"),
        (float("nan"), "nan"),
    ],
)
def test_what_is_no_filter_value_is_an_error_with_its_row(value, reason):
    rows = InputRows(["user_id", "g"], filter_values={"GENRES": "g"})
    with pytest.raises(InvalidLineError, match=reason) as caught:
        rows.encode([("a", "x"), ("b", value)])
    assert caught.value.location == "Row 2 of the query, column g"


def test_an_expression_that_the_service_does_not_take_is_an_error_with_its_row():
    rows = InputRows(["item_attributes"])
    with pytest.raises(InvalidLineError, match=r"at character 16.*'OR'") as caught:
        rows.encode([('ITEMS.a = "x"',), ('ITEMS.ab = "x" OR ITEMS.b = 1',)], first_row=5)
    assert caught.value.location == "Row 6 of the query, column item_attributes"


@pytest.mark.parametrize(
    ("columns", "kwargs", "message"),
    [
        ([], {}, "got \\[\\]"),
        (["customer"], {}, "'customer'.*AS user_id"),
        (["user_id", "name"], {}, "\\['name'\\] say nothing"),
        (["user_id", "item_id"], {}, "userId with itemList"),
        (["item_list"], {}, "got \\['item_list'\\]"),
        (["user_id", "userId"], {}, "one column for userId"),
        (["user_id"], {"filter_values": {"G": "genre"}}, "one column 'genre'"),
        (["user_id", "G", "g"], {"filter_values": {"G": "Gg"}}, "one column 'Gg'"),
        (["user_id", "g"], {"filter_values": {"$G": "g"}}, "without the \\$"),
        (["genre"], {"filter_values": {"G": "genre"}}, "got \\['genre'\\]"),
        (["item_id"], {"recipe": batch_recipe("aws-user-personalization")}, "aws-user-personalization \\(userId\\)"),
        (["user_id"], {"recipe": batch_recipe("aws-personalized-ranking")}, "userId with itemList"),
    ],
)
def test_columns_that_make_no_line(columns, kwargs, message):
    with pytest.raises(InvalidRequestError, match=message):
        InputRows(columns, **kwargs)


@pytest.mark.parametrize(
    ("columns", "recipe", "most"),
    [
        (["user_id"], None, 50_000_000),
        (["user_id", "item_list"], None, 50_000_000),
        (["item_id"], None, 500),
        (["item_id"], "aws-item-affinity", 500),
        (["item_id"], "arn:aws:personalize:::recipe/aws-similar-items", 50_000_000),
        (["item_attributes"], None, 10),
    ],
)
def test_how_many_lines_a_file_may_have(columns, recipe, most):
    assert InputRows(columns, recipe=batch_recipe(recipe) if recipe else None).max_lines == most


@pytest.mark.parametrize(
    "recipe", ["aws-trending-now", "arn:aws:personalize:::recipe/aws-next-best-action", "aws-simlar-items", "sims", "x"]
)
def test_a_recipe_without_batch_jobs_is_refused_with_those_that_have_them(recipe):
    with pytest.raises(InvalidRequestError, match=r"aws-similar-items.*got"):
        batch_recipe(recipe)


@given(st.lists(st.text(max_size=300) | st.integers() | st.booleans() | st.none(), min_size=1, max_size=5))
def test_ids_taken_at_once_are_those_taken_one_by_one(values):
    plain = plain_ids(values)
    if plain is not None:
        assert [f'"{text}"' for text in plain] == encode_ids(values)


@pytest.mark.parametrize("values", [["a"], ["a", "b-1"], ["x" * 256, "~!#"], [1, -2, 10**30]])
def test_plain_ids_are_taken_at_once(values):
    assert list(plain_ids(values)) == list(map(str, values))


@pytest.mark.parametrize(
    "values",
    [[], [""], ["a", ""], ["", "a"], ["a", "", "b"], ['a"b'], ["a\\b"], ["a b"], ["é"], ["a\x7f"], [True], ["x" * 257]],
)
def test_what_is_not_plain_is_left_to_a_closer_look(values):
    assert plain_ids(values) is None


@pytest.mark.parametrize(
    ("character", "name"), [("\0", r"NUL \(U\+0000\) at position 1"), ("\ud83d", r"U\+D83D"), ("\udc00", r"U\+DC00")]
)
def test_characters_that_no_line_can_hold_name_their_row_and_column(character, name):
    bad = f"b{character}"
    rows = [["a" * 9, 1], [bad, 2], ["\U0001f642", 3]]
    with pytest.raises(InvalidLineError, match=rf"^Row 8 of the query, column User_ID: expected an id.*{name}"):
        InputRows(["User_ID"]).encode([[user] for user, _ in rows], first_row=7)
    with pytest.raises(InvalidLineError, match=rf"^Row 8 of the query, column User_ID: .*{name}"):
        InputRows(["User_ID", "g"], filter_values={"G": "g"}).encode(rows, first_row=7)
    for column, value in (("item_list", [bad]), ("item_list", json.dumps([bad])), ("genre", bad), ("genre", [bad])):
        filter_values = {"G": "genre"} if column == "genre" else None
        with pytest.raises(InvalidLineError, match=rf"^Row 2 of the query, column {column}: .*{name}"):
            InputRows(["user_id", column], filter_values=filter_values).encode(
                [["u", ["x"]], ["u", value]] if column == "item_list" else [["u", "x"], ["u", value]]
            )
    with pytest.raises(InvalidLineError, match=rf"^Row 1 of the query, column item_attributes: .*{name}"):
        InputRows(["item_attributes"]).encode([[f'ITEMS.genre = "{bad}"']])


def test_halves_that_meet_from_two_rows_are_halves():
    with pytest.raises(InvalidLineError, match=r"^Row 1 of the query.*U\+D83D"):
        InputRows(["user_id"]).encode([["a\ud83d"], ["\ude42b"]])
