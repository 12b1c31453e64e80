"""Rows of a query become a dataset's CSV, exactly, or an error that names every problem."""

from __future__ import annotations

import csv
import io
import json
import uuid
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_personalize.exceptions import InvalidRequestError
from airflow_provider_personalize.input import dataset_blocks
from airflow_provider_personalize.input.dataset import DatasetRows
from airflow_provider_personalize.input.dataset_blocks import DatasetBlocks
from airflow_provider_personalize.input.dataset_values import DATES
from airflow_provider_personalize.input.values import InexactFloat, id_text
from airflow_provider_personalize.service.schemas import DatasetSchema, Field

NOW = 1_760_000_000.0
USER, ITEM, MOMENT = Field("USER_ID", "string"), Field("ITEM_ID", "string"), Field("TIMESTAMP", "long")
INTERACTIONS = DatasetSchema("INTERACTIONS", (USER, ITEM, MOMENT))
GENRES = Field("GENRES", "string", nullable=True, categorical=True)
ITEMS = DatasetSchema(
    "ITEMS",
    (
        ITEM,
        GENRES,
        Field("ABOUT", "string", nullable=True, textual=True),
        Field("PRICE", "double", nullable=True),
        Field("YEAR", "int", nullable=True),
        Field("IN_STOCK", "boolean", nullable=True),
    ),
)
NASTY_IDS = [
    "plain",
    " space before and after ",
    "quote \" and ' quote",
    "back\\slash \\n \\u0041",
    "tab\tnewline\nreturn\r",
    "comma, semicolon; {} [] %s %% $1",
    "\x01\x1f\x7f\x85\u2028\u2029\ufeff",
    "Zoë 日本 \U0001f642\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "x" * 256,
    "007",
    "null",
    "\\.",
]


def parsed(data):
    """What a reader of CSV reads."""
    return list(csv.reader(io.StringIO(data.decode(), newline=""), strict=True))


def written(columns, rows, schema=ITEMS):
    """The rows of the CSV, parsed; there must be no problem."""
    dataset = DatasetRows(columns, schema, now=NOW)
    data = dataset.encode(rows)
    assert dataset.problems.first == ()
    return parsed(data)


def value_of(field, value):
    """What one value becomes."""
    key = USER if field.name == "ITEM_ID" else ITEM
    schema = DatasetSchema("ITEMS", (key, field))
    [[_, text]] = written([key.name, field.name], [("i", value)], schema)
    return text


def problem_of(field, value):
    """What is said of one value that cannot be written."""
    key = USER if field.name == "ITEM_ID" else ITEM
    dataset = DatasetRows([key.name, field.name], DatasetSchema("ITEMS", (key, field)), now=NOW)
    dataset.encode([("i", "x")] * 0)
    dataset.add_rows(41)
    dataset.encode([("i", value)])
    with pytest.raises(InvalidRequestError) as caught:
        dataset.finish(10)
    [problem] = caught.value.problems
    assert problem.startswith(f"Row 42, column {field.name}: expected ")
    return problem


def test_columns_are_told_by_their_names_and_stand_in_the_schemas_order():
    rows = written(
        ["ts", "Item_Id", "userId"], [(5, "i", "u")], DatasetSchema("INTERACTIONS", (USER, ITEM, Field("TS", "long")))
    )
    assert rows == [["u", "i", "5"]]


def test_the_header_is_not_quoted():
    assert DatasetRows(["ITEMID", "userid", "Timestamp"], INTERACTIONS).header == b"USER_ID,ITEM_ID,TIMESTAMP\n"


def test_ids_come_through_character_for_character():
    rows = [(user, user, 1_700_000_000) for user in NASTY_IDS]
    assert written(["user_id", "item_id", "timestamp"], rows, INTERACTIONS) == [[u, u, "1700000000"] for u in NASTY_IDS]


@pytest.mark.parametrize(
    "value", [7, -7, 2**70, 7.0, Decimal("7.00"), Decimal("1E+3"), uuid.UUID(int=1), "007", " a ", "a|b"]
)
def test_an_id_is_written_as_the_input_operator_writes_it(value):
    assert value_of(ITEM, value) == id_text(value)
    # Beside values of other types, too.
    dataset = DatasetRows(["item_id", "x"], DatasetSchema("ITEMS", (ITEM, Field("X", "int"))))
    assert [row[0] for row in parsed(dataset.encode([("a", 1), (value, 2), (7, 3)]))] == ["a", id_text(value), "7"]


@pytest.mark.parametrize("value", [None, "", " ", "x" * 257, True, 1.5, float("nan"), b"x", "a\0b", "\ud800"])
def test_what_is_no_id(value):
    problem_of(ITEM, value)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (datetime(2024, 2, 29, 12, 30, 15, 999_999, tzinfo=UTC), 1709209815),
        (datetime(2024, 2, 29, 14, 30, 15, tzinfo=timezone(timedelta(hours=2))), 1709209815),
        (datetime(2024, 2, 29, 12, 30, 15), 1709209815),
        (date(2024, 2, 29), 1709164800),
        (1709209815, 1709209815),
        (1709209815.7, 1709209815),
        (Decimal("1709209815.700"), 1709209815),
        ("1709209815", 1709209815),
        ("1709209815.7", 1709209815),
        ("2024-02-29 12:30:15", 1709209815),
        ("2024-02-29T12:30:15.999Z", 1709209815),
        ("2024-02-29 14:30:15+02:00", 1709209815),
        ("2024-02-29", 1709164800),
        (0, 0),
        (int(NOW) + 60, int(NOW) + 60),
    ],
)
def test_timestamps_of_any_type_are_epoch_seconds(value, seconds):
    assert value_of(MOMENT, value) == str(seconds)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (1_700_000_000_000, "which looks like milliseconds; divide by 1,000 in the query"),
        ("1700000000000", "which looks like milliseconds"),
        (1_700_000_000_000_000, "which looks like microseconds"),
        (2024_02_29, "got int 20240229, which looks like a date; make it one in the query"),
        ("20240229", "got '20240229', which looks like a date"),
        (Decimal("20240229.0"), "which looks like a date"),
        (2001_02_28_23_59, "got int 200102282359, which looks like a date; make it one in the query"),
        ("20231231235959", "got '20231231235959', which looks like a date"),
        (2023_13_31_00_00_00, "which looks like microseconds"),
        (InexactFloat(1_700_000_000.0), "too large for this type to be exact; cast the column to double precision"),
        (int(NOW) + 3600, "which is in the future"),
        (datetime(2099, 1, 1), "got datetime 2099-01-01 00:00:00, which is in the future"),
        (date(9999, 12, 31), "got date 9999-12-31, which is in the future"),
        ("9999-12-31 23:59:59+00", "got '9999-12-31 23:59:59+00', which is in the future"),
        (-1, "expected a moment since 1970, got int -1"),
        (datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC), "expected a moment since 1970"),
        ("yesterday", "got 'yesterday'"),
        (float("nan"), "got float nan"),
        (Decimal("Infinity"), "got Decimal Infinity"),
        (True, "got bool True"),
        (None, "expected a value, got null or an empty text; leave such rows out"),
    ],
)
def test_what_is_no_timestamp(value, said):
    assert said in problem_of(MOMENT, value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (["a", "b c"], "a|b c"),
        (("a",), "a"),
        ('["a", "b,c", 3, 4.0, true]', "a|b,c|3|4|true"),
        ("[1]", "1"),
        ("Action|Comedy", "Action|Comedy"),
        ("[not json", "[not json"),
        ('say "hi", you', 'say "hi", you'),
        ([], ""),
        ("[]", ""),
        (None, ""),
        ("", ""),
        (True, "true"),
        (3, "3"),
        (Decimal("3.50"), "3.50"),
        (date(2024, 2, 29), "2024-02-29"),
        ("x" * 1000, "x" * 1000),
        (["x" * 1000, "y" * 1000], "x" * 1000 + "|" + "y" * 1000),
    ],
)
def test_categories(value, text):
    assert value_of(GENRES, value) == text


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("x" * 1001, "expected a category of at most 1,000 characters, got 1,001"),
        (["x" * 1001], "at most 1,000 characters"),
        ("[" * 100_000, "at most 1,000 characters, got 100,000"),
        ("a|" + "x" * 1001, "at most 1,000 characters"),
        (["a|b"], "expected a category without '|', which stands between several, got 'a|b'"),
        ('["a|b"]', "without '|'"),
        (["a", None], "got NoneType None in"),
        (["a", ""], "got ''"),
        ([["a"]], "got list ['a']"),
        (b"a", "expected a category, got bytes b'a'"),
        ("a\0", "NUL"),
    ],
)
def test_what_is_no_category(value, said):
    assert said in problem_of(GENRES, value)


def test_impressions_are_ids():
    field = Field("IMPRESSION", "string", nullable=True)
    assert value_of(field, ["a", 7, Decimal("8.0")]) == "a|7|8"
    assert value_of(field, "[1, 2]") == "1|2"
    assert value_of(field, "1|2") == "1|2"
    assert "at most 256 characters" in problem_of(field, ["x" * 257])


@pytest.mark.parametrize(
    ("type_", "value", "text"),
    [
        ("boolean", True, "true"),
        ("boolean", False, "false"),
        ("boolean", 1, "true"),
        ("boolean", "FALSE", "false"),
        ("boolean", "t", "true"),
        ("int", 3, "3"),
        ("int", Decimal("3.0"), "3"),
        ("int", "-3", "-3"),
        ("long", 2**62, str(2**62)),
        ("long", datetime(2024, 2, 29, 12, 30, 15), "1709209815"),
        ("float", 1.5, "1.5"),
        ("double", Decimal("0.10"), "0.10"),
        ("double", Decimal("1E-7"), "0.0000001"),
        ("double", 3, "3"),
        ("double", "2.5", "2.5"),
        ("double", " 1E+3 ", "1E+3"),
        ("double", InexactFloat(2.0**24), "16777216.0"),
        ("double", 1.7e308, "1.7e+308"),
        # As PostgreSQL writes the largest real.
        ("float", 3.4028235e38, "3.4028235e+38"),
        ("double", None, ""),
    ],
)
def test_numbers_and_booleans(type_, value, text):
    assert value_of(Field("X", type_, nullable=True), value) == text


@pytest.mark.parametrize(
    ("type_", "value", "said"),
    [
        ("double", float("nan"), "got float nan"),
        ("double", float("inf"), "got float inf"),
        ("double", "Infinity", "got 'Infinity'"),
        ("double", Decimal("NaN"), "got Decimal NaN"),
        ("double", "much", "expected a number, got 'much'"),
        ("double", True, "got bool True"),
        ("double", "\u0661\u0662", "expected a number, got '\u0661\u0662'"),
        ("double", "1e309", "expected a number that the type double holds, got '1e309'"),
        ("double", Decimal("1E+400"), "that the type double holds, got Decimal 1E+400"),
        pytest.param("double", 10**400, "that the type double holds", id="400 digits"),
        (
            "float",
            1e39,
            'holds, got float 1e+39, which is too large; leave such rows out or let the schema have the type "double"',
        ),
        (
            "int",
            2**31,
            'as the type int holds, got int 2147483648; leave such rows out or let the schema have the type "long"',
        ),
        ("long", 2**63, "as the type long holds"),
        ("int", 1.5, "expected a whole number, got float 1.5"),
        ("long", 2.0**53, "got float 9007199254740992.0, which is too large for this type to be exact"),
        ("long", InexactFloat(2.0**24), "cast the column to double precision or to a whole number"),
        ("boolean", "maybe", "expected true or false, got 'maybe'"),
        ("boolean", 2, "expected true or false, got int 2"),
        (
            "double",
            None,
            'coalesce them in the query, or let the schema have ["double", "null"]',
        ),
    ],
)
def test_what_is_no_number_and_no_boolean(type_, value, said):
    assert said in problem_of(Field("X", type_), value)


def test_texts_of_items_come_through():
    text = 'First line,\n"second" line\r\n' + "long " * 1000
    assert value_of(Field("ABOUT", "string", textual=True), text) == text


def test_every_problem_of_the_columns_is_told_at_once():
    dataset = DatasetRows(["userId", "user_id", "ts"], INTERACTIONS)
    assert dataset.is_hopeless
    with pytest.raises(InvalidRequestError) as caught:
        dataset.finish(0)
    twice, item, moment, unknown = caught.value.problems
    assert twice.startswith("Column userId: expected one column for USER_ID, got 2; leave the others out")
    assert item == (
        "Column ITEM_ID: expected a column for this field of the schema, got none among userId, user_id, ts; give one "
        "the alias item_id."
    )
    assert moment.startswith("Column TIMESTAMP: expected a column for this field of the schema, got none")
    assert unknown.startswith("Column ts: expected columns of the schema (USER_ID, ITEM_ID, TIMESTAMP), got one that")


def test_the_first_20_problems_are_told_and_all_are_counted():
    dataset = DatasetRows(["user_id", "item_id", "timestamp"], INTERACTIONS, now=NOW)
    for _ in range(3):
        assert dataset.encode([(None, "i", -1)] * 500) == b""
    with pytest.raises(InvalidRequestError, match=r"Found 3,001 problems in .*; nothing was written:") as caught:
        dataset.finish(10)
    assert caught.value.problem_count == 3001
    assert len(caught.value.problems) == 20
    assert "… and 2,981 more" in str(caught.value)


def interactions(rows, users):
    dataset = DatasetRows(["user_id", "item_id", "timestamp"], INTERACTIONS, now=NOW)
    for start in range(0, rows, 100):
        dataset.encode([(f"u{n % users}", "i", 5) for n in range(start, min(start + 100, rows))])
    return dataset


def test_enough_interactions_are_enough():
    assert interactions(1000, 500).finish(10) == []
    # The 25th user with two comes late.
    assert interactions(1025, 1000).finish(10) == []


@pytest.mark.parametrize(
    ("rows", "users", "said"),
    [
        (999, 100, "expected at least 1,000 interactions, as training needs, got 999"),
        (1000, 24, "expected at least 25 users with 2 interactions or more, as training needs, got 24"),
        (1024, 1000, "expected at least 25 users with 2 interactions or more, as training needs, got 24"),
    ],
)
def test_too_few_interactions_are_an_error_or_a_warning_beside_others(rows, users, said):
    with pytest.raises(InvalidRequestError) as caught:
        interactions(rows, users).finish(10)
    assert said in str(caught.value)
    [warning] = interactions(rows, users).finish(10, has_other_data=True)
    assert said in warning


def test_users_are_remembered_up_to_a_bound(monkeypatch):
    """Beyond it, nobody can say that there are too few."""
    monkeypatch.setattr("airflow_provider_personalize.input.dataset.REMEMBERED_USERS", 100)
    assert interactions(2000, 1990).finish(10) == []


def test_too_many_bytes():
    dataset = interactions(1000, 100)
    with pytest.raises(InvalidRequestError, match=r"expected at most 100,000,000,000 bytes, as one FULL import takes"):
        dataset.finish(100_000_000_001)
    dataset = interactions(1000, 100)
    with pytest.raises(
        InvalidRequestError, match=r"at most 1,000,000,000 bytes, as one INCREMENTAL .* importMode FULL"
    ):
        dataset.finish(1_000_000_001, import_mode="INCREMENTAL")


# Blocks that a server writes

EVENTS = DatasetSchema(
    "INTERACTIONS",
    (
        USER,
        ITEM,
        MOMENT,
        Field("EVENT_TYPE", "string"),
        Field("EVENT_VALUE", "float", nullable=True),
        Field("IMPRESSION", "string", nullable=True),
        Field("DEVICE", "string", nullable=True, categorical=True),
        Field("STEPS", "int", nullable=True),
        Field("SEEN", "boolean", nullable=True),
    ),
)


def as_postgres_writes(rows):
    """CSV as PostgreSQL's COPY writes it."""

    def value(text):
        if text is None:
            return ""
        special = text == "" or text == "\\." or any(sign in text for sign in ',"\r\n')
        return '"' + text.replace('"', '""') + '"' if special else text

    return "".join(",".join(map(value, row)) + "\n" for row in rows).encode()


words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
usual = st.text("abcxyz0189", min_size=1, max_size=8)
event = st.tuples(
    st.one_of(usual, usual, words, st.none(), st.just("x" * 256), st.just("é" * 250), st.just("x" * 257)),
    usual,
    st.one_of(
        st.integers(0, int(NOW)).map(str),
        st.sampled_from(["1700000000000", "-1", "9999999999", "", "0", "007", "12.5", "infinity", str(int(NOW) + 299)]),
        st.sampled_from(["20240229", "20240230", "19000101", "20991231", "202402291230"]),
    ),
    st.one_of(usual, words),
    st.one_of(
        st.none(),
        st.floats(allow_nan=True).map(str),
        st.sampled_from(["NaN", "Infinity", "1e+20", "1.50", "1e+39", "9" * 39]),
    ),
    st.one_of(st.none(), st.sampled_from(["a|b", "a| |b", "a||b", "[1]", "[1, 2]", '["a|b"]', "y" * 257])),
    st.one_of(st.none(), words, st.sampled_from(["[1]", '["a"]', "z" * 1000, "z" * 1001, "ü" * 600])),
    st.one_of(st.none(), st.integers(-(2**40), 2**40).map(str)),
    st.one_of(st.none(), st.sampled_from(["true", "false"])),
)


@settings(deadline=None)
@given(st.lists(st.lists(event, min_size=1, max_size=8), min_size=1, max_size=4))
def test_blocks_and_rows_agree(batches):
    """Whatever the order of the query's columns: the server writes the schema's."""
    columns = [field.name for field in reversed(EVENTS.fields)]
    by_rows, by_blocks = (DatasetRows(columns, EVENTS, now=NOW) for _ in range(2))
    blocks = DatasetBlocks(by_blocks)
    for rows in batches:
        expected = by_rows.encode([row[::-1] for row in rows])
        block = blocks.encode(as_postgres_writes(rows))
        assert block.rows == len(rows)
        if not by_rows.problems.count:
            assert parsed(block.data) == parsed(expected)
    assert by_blocks.problems == by_rows.problems
    assert by_blocks.rows == by_rows.rows
    if not by_rows.problems.count:
        assert by_blocks.finish(1, has_other_data=True) == by_rows.finish(1, has_other_data=True)


seconds = st.integers(0, int(NOW)).filter(lambda number: number not in DATES)
plain = st.tuples(usual, usual, seconds.map(str), usual, st.none(), st.none(), usual, st.none(), st.just("true"))


@settings(deadline=None)
@given(st.lists(plain, min_size=1, max_size=30))
def test_plain_blocks_go_on_as_they_are(rows):
    """Were they taken apart, the speed would be gone, and no other test would say so."""
    pytest.importorskip("numpy")
    dataset = DatasetRows([field.name for field in EVENTS.fields], EVENTS, now=NOW)
    dataset.encode = None
    block = as_postgres_writes(rows)
    assert DatasetBlocks(dataset).encode(block).data is block


@pytest.mark.parametrize("rows", [[], [("a", "i", "5")], [("a, b", "i", "5"), ("b", "i", "5")]])
def test_blocks_without_numpy(rows, monkeypatch):
    monkeypatch.setattr(dataset_blocks, "_numpy", lambda: None)
    dataset = DatasetRows(["user_id", "item_id", "timestamp"], INTERACTIONS, now=NOW)
    assert parsed(DatasetBlocks(dataset).encode(as_postgres_writes(rows)).data) == [list(row) for row in rows]


def test_problems_are_json():
    """They travel between processes."""
    dataset = DatasetRows(["a"], INTERACTIONS)
    with pytest.raises(InvalidRequestError) as caught:
        dataset.finish(0)
    json.dumps(caught.value.values)
