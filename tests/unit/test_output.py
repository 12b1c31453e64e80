"""What each form of an output line becomes, and why one is set apart."""

from __future__ import annotations

import gc
import gzip
import json
from itertools import chain, repeat

import pytest

from airflow_provider_personalize.exceptions import InvalidLineError
from airflow_provider_personalize.output import blocks, giant
from airflow_provider_personalize.output import reader as output
from airflow_provider_personalize.output.fast import FastDecoder
from airflow_provider_personalize.output.reader import OutputReader
from airflow_provider_personalize.output.rows import (
    RELATED_ITEMS,
    USER_RECOMMENDATIONS,
    USER_SEGMENTS,
    Batch,
    Column,
    Reject,
)
from tests.output_forms import FORMS

USER = {"input": {"userId": "u"}, "output": {"recommendedItems": ["a", "b"], "scores": [0.5, 0.25]}, "error": None}


def read(data: bytes, *, kind=None, fast=True, block=7):
    """Read one object in blocks of a few bytes: its kind, rows and rejects."""
    rejects: list[Reject] = []
    reader = OutputReader(kind, on_reject=rejects.append, fast=fast)
    pieces = [data[start : start + block] for start in range(0, len(data), block)]
    rows = [row for batch in reader.read("s3://b/x.out", pieces) for row in batch.rows(reader.kind.columns)]
    assert reader.rows == len(rows)
    assert reader.rejects == len(rejects)
    return reader, rows, rejects


@pytest.fixture(params=[True, False], ids=["fast", "plain"])
def fast(request):
    """Both ways to read."""
    return request.param


@pytest.mark.parametrize(("line", "kind", "rows"), FORMS)
def test_every_form(line, kind, rows, fast):
    reader, got, rejects = read(line.encode(), fast=fast)
    assert (reader.kind, got, rejects) == (kind, rows, [])
    assert reader.lines == 1


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("nope", "expected JSON, got Expecting value: line 1 column 1 (char 0)"),
        ("[1]", "expected an object, got [1]"),
        (
            '{"input":{"userId":"x"},"output":{"recommendedItems":[]},"error":"User error: Required fields"}',
            "the service reports an error: User error: Required fields",
        ),
        ('{"input":{"userId":"x"},"output":null,"error":null}', "expected an object at output, got null"),
        ('{"input":{"userId":"x"}}', "expected an object at output, got nothing"),
        ('{"output":{"recommendedItems":["1"]}}', "expected an object at input, got nothing"),
        (
            '{"input":{"userId":"x"},"output":{}}',
            "expected one of recommendedItems, usersList and recommendedUsers in output, got none of them",
        ),
        (
            '{"input":{"itemId":"x"},"output":{"usersList":["a"],"recommendedItems":["b"]}}',
            (
                "expected one of recommendedItems, usersList and recommendedUsers in output, got recommendedItems and "
                "usersList"
            ),
        ),
        (
            '{"input":{"userId":"x"},"output":{"recommendedItems":"a"}}',
            'expected a list at output.recommendedItems, got "a"',
        ),
        (
            '{"input":{"userId":"x"},"output":{"recommendedItems":["a",5]}}',
            "expected text at output.recommendedItems[1], got 5",
        ),
        ('{"input":{"userId":5},"output":{"recommendedItems":["a"]}}', "expected text at input.userId, got 5"),
        ('{"input":{},"output":{"usersList":["a"]}}', "expected itemId or itemAttributes in input, got neither"),
        (
            '{"input":{"userId":"x"},"output":{"recommendedItems":["a\\u0000"]}}',
            'expected text without NUL characters at output.recommendedItems[0], got "a\\u0000"',
        ),
        (
            '{"input":{"userId":"x"},"output":{"recommendedItems":["\\ud800"]}}',
            'expected text at output.recommendedItems[0], got half a surrogate pair in "\\ud800"',
        ),
        (
            '{"input":{"userId":"x"},"output":{"recommendedItems":["a"],"scores":[1,2]}}',
            "expected at most 1 numbers at output.scores, one for each item, got 2",
        ),
        (
            '{"input":{"userId":"x"},"output":{"recommendedItems":["a"],"scores":[Infinity]}}',
            "expected a finite number at output.scores[0], got Infinity",
        ),
        (
            '{"input":{"userId":"x"},"output":{"recommendedItems":["a"],"scores":[true]}}',
            "expected a finite number at output.scores[0], got true",
        ),
        (
            '{"input":{"itemId":"x"},"output":{"recommendedItems":["a"]}}',
            "expected user recommendations, as the lines before it, got related items: one load takes one kind of rows",
        ),
    ],
)
def test_a_bad_line_is_set_apart_with_its_place(line, reason, fast):
    good = json.dumps(USER)
    reader, rows, rejects = read(f"{good}\n\n{line}\n{good}\n".encode(), fast=fast)
    assert rejects == [Reject("s3://b/x.out", 3, len(good) + 2, reason, line)]
    assert rows == [("u", 1, "a", 0.5), ("u", 2, "b", 0.25)] * 2
    assert reader.lines == 3


def test_bytes_that_are_no_text_are_kept_as_escapes(fast):
    _, _, rejects = read(b'\xff\x00{"a"\n' + json.dumps(USER).encode(), kind=USER_RECOMMENDATIONS, fast=fast)
    assert rejects == [
        Reject("s3://b/x.out", 1, 0, "expected UTF-8, got the byte 0xff at byte 0 of the line", '\\xff\\x00{"a"')
    ]


def test_the_text_of_a_reject_is_cut_short():
    _, _, rejects = read(b"x" * 5_000, kind=USER_RECOMMENDATIONS)
    assert rejects[0].text == "x" * 1_000


@pytest.mark.parametrize(
    "wrap",
    [
        pytest.param(b"\n".join, id="no newline at the end"),
        pytest.param(lambda lines: b"\r\n".join(lines) + b"\r\n", id="CRLF"),
        pytest.param(lambda lines: b"\n \n\n".join(lines) + b"\n\n", id="blank lines"),
        pytest.param(lambda lines: b"\xef\xbb\xbf" + b"\n\xef\xbb\xbf".join(lines), id="byte order marks"),
        pytest.param(lambda lines: gzip.compress(b"\n".join(lines)), id="gzip"),
        pytest.param(lambda lines: b"".join(gzip.compress(line + b"\n") for line in lines), id="gzip of many members"),
    ],
)
def test_every_wrapping(wrap, fast):
    lines = [json.dumps({**USER, "input": {"userId": str(n)}}).encode() for n in range(50)]
    reader, rows, rejects = read(wrap(lines), fast=fast)
    assert rejects == []
    assert reader.lines == 50
    assert rows == [
        (str(n), rank, item, score) for n in range(50) for rank, item, score in ((1, "a", 0.5), (2, "b", 0.25))
    ]


def test_nothing_but_a_newline_ends_a_line(fast):
    separators = ["\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u2029"]
    line = {"input": {"userId": "u"}, "output": {"recommendedItems": [f"a{s}b" for s in separators if ord(s) > 31]}}
    _, rows, rejects = read(json.dumps(line, ensure_ascii=False).encode(), fast=fast)
    assert [row[2] for row in rows] == ["a\x85b", "a\u2028b", "a\u2029b"]
    assert rejects == []


GOOD = json.dumps(USER).encode()
ROWS = [("u", 1, "a", 0.5), ("u", 2, "b", 0.25)]
#: JSON, each nested more deeply than one of the parsers takes, or than another one does.
NESTED = [
    opened * depth + inside + closed * depth
    for depth in (101, 400, 1_000, 1_500, 100_000)
    for opened, inside, closed in (
        (b"[", b"1", b"]"),
        (b'{"a":', b"1", b"}"),
        (b'[{"a":', b"null", b"}]"),
        (b"[", b"", b""),
        (b'{"a":', b"", b""),
    )
]
DEEP = [
    *NESTED,
    *(b'{"input":{"userId":"u"},"output":{"recommendedItems":["a"]},"more":%b}' % nested for nested in NESTED),
    *(b'{"input":{"userId":"u"},"output":{"recommendedItems":["a"],"scores":%b}}' % nested for nested in NESTED),
    *(b'{"input":{"userId":"u"},"output":{"recommendedItems":%b}}' % nested for nested in NESTED),
    *(b'{"input":{"userId":%b},"output":{"recommendedItems":["a"]}}' % nested for nested in NESTED),
    *(b'{"input":{"userId":"u","filterValues":%b},"output":{"recommendedItems":["a"]}}' % n for n in NESTED),
    *(b'{"input":{"userId":"u"},"output":null,"error":%b}' % nested for nested in NESTED),
]


@pytest.fixture(params=["as any line", "as a giant"])
def size(request, monkeypatch):
    """Read a line as any other, or as one that is too long for memory."""
    if request.param == "as a giant":
        monkeypatch.setattr(blocks, "GIANT", 1)
        monkeypatch.setattr(giant, "STEP", 48)
    return request.param


@pytest.mark.usefixtures("size")
@pytest.mark.parametrize("kind", [None, USER_RECOMMENDATIONS], ids=["unknown", "known"])
@pytest.mark.parametrize("place", ["first", "between", "last", "alone"])
def test_a_deeply_nested_line_is_set_apart_wherever_it_stands(place, kind, fast):
    before, after = {"first": (0, 1), "between": (1, 1), "last": (1, 0), "alone": (0, 0)}[place]
    for line in [*NESTED[:15], *DEEP[len(NESTED) :: 4]]:
        data = b"\n".join([*[GOOD] * before, line, *[GOOD] * after])
        _, rows, rejects = read(data, kind=kind or (None if before or after else USER_RECOMMENDATIONS), fast=fast)
        assert rows == ROWS * (before + after)
        (reject,) = rejects
        assert (reject.line, reject.byte_offset) == (1 + before, before * (len(GOOD) + 1))
        assert "expected JSON" in reject.reason
        assert reject.text == line[:1_000].decode()


@pytest.mark.usefixtures("size")
def test_as_many_levels_as_are_taken_are_taken_from_any_depth_of_calls(fast):
    """Brackets within texts are none; neither is an escaped quote the end of a text."""
    nested = b"[" * 99 + b'"' + b'[{\\"' * 300 + b'"' + b"]" * 99
    line = b'{"input":{"userId":"u"},"output":{"recommendedItems":["a","b"],"scores":[0.5,0.25]},"more":%b}' % nested

    def deeper(calls):
        return read(line, kind=USER_RECOMMENDATIONS, fast=fast) if not calls else deeper(calls - 1)

    _, rows, rejects = deeper(500)
    assert (rows, rejects) == (ROWS, [])


@pytest.mark.usefixtures("size")
@pytest.mark.parametrize(
    ("line", "rows"),
    [
        ('{"input":{"userId":"u"},"output":{"recommendedItems":["a"],"scores":[1e999]}}', None),
        ('{"input":{"userId":"u"},"output":{"recommendedItems":["a"],"scores":[-1e999]}}', None),
        ('{"input":{"userId":"u"},"output":{"recommendedItems":["a"],"scores":[1e-999]}}', [("u", 1, "a", 0.0)]),
        ('{"input":{"userId":"u"},"output":{"recommendedItems":["a"],"scores":[%s]}}' % ("1" * 400), None),
        ('{"input":{"userId":"u"},"output":{"recommendedItems":["a"],"scores":[%s]}}' % ("1" * 5_000), None),
        ('{"input":{"userId":"u"},"output":{"recommendedItems":["a"],"scores":[-Infinity]}}', None),
        ('{"input":{"userId":"u"},"output":{"recommendedItems":["a"],"scores":[NaN]}}', [("u", 1, "a", None)]),
        ('{"input":{"userId":%s},"output":{"recommendedItems":["a"]}}' % ("1" * 5_000), None),
        ('{"input":{"userId":"u"},"output":{"recommendedItems":["a"]},"more":%s}' % ("1" * 5_000), None),
        (
            '{"input":{"userId":"x","userId":"u"},"output":{"recommendedItems":["x"],"recommendedItems":["a"]}}',
            [("u", 1, "a", None)],
        ),
        ('{"input":{"userId":"\\ud800"},"output":{"recommendedItems":["a"]}}', None),
        ('{"input":{"userId":"u"},"output":{"recommendedItems":["\\udc00\\ud800"]}}', None),
        ('{"input":{"userId":"u"},"output":{"recommendedItems":["\\u0000"]}}', None),
        ('\ufeff{"input":{"userId":"u"},"output":{"recommendedItems":["a"]}}\r', [("u", 1, "a", None)]),
        (' \t{"input":{"userId":"u"},"output":{"recommendedItems":["a"]}} \r', [("u", 1, "a", None)]),
        ('\x0b{"input":{"userId":"u"},"output":{"recommendedItems":["a"]}}', None),
        ("\ufeff", None),
        ("\xa0", None),
        (" \t\x0b\x0c\r", []),
    ],
)
def test_what_json_leaves_open_is_rows_or_a_reject_with_its_reason(line, rows, fast):
    reader, got, rejects = read(line.encode() + b"\n" + GOOD, kind=USER_RECOMMENDATIONS, fast=fast)
    assert got == [*(rows or []), *ROWS]
    assert len(rejects) == (rows is None)
    assert reader.lines == 1 + (rows != [])
    assert all(reject.reason.startswith("expected ") for reject in rejects)


@pytest.mark.usefixtures("size")
def test_a_reject_is_text_that_every_database_takes(fast):
    line = b'{"input":{"userId":"u"},"output":null,"error":"a\\u0000b\\ud800%b"}' % (b"c" * 5_000)
    _, _, (reject,) = read(line, kind=USER_RECOMMENDATIONS, fast=fast)
    assert reject.reason.startswith("the service reports an error: a\\x00b\\ud800ccc")
    assert len(reject.reason) == 1_000
    reject.reason.encode()


@pytest.mark.parametrize("kind", [None, USER_RECOMMENDATIONS], ids=["unknown", "known"])
@pytest.mark.parametrize("blank", [b"\n", b"\r\n", b" \n", b"\t \x0b\x0c\r\n"])
def test_blank_lines_are_passed_over_by_none_of_the_parsers(blank, kind, fast, monkeypatch):
    """Neither parser sees them, so that any number of them takes next to no time; but they count."""
    seen: list[bytes] = []
    plain, decode = output.read_line, FastDecoder.batch
    monkeypatch.setattr(output, "read_line", lambda raw: seen.append(raw) or plain(raw))
    monkeypatch.setattr(FastDecoder, "batch", lambda self, data, lines: seen.extend(lines) or decode(self, data, lines))
    data = blank * 70_000 + GOOD + b"\n" + blank * 5 + b"nope\n" + blank * 70_000 + GOOD
    reader, rows, rejects = read(data, kind=kind, fast=fast, block=1 << 19)
    assert rows == ROWS * 2
    assert (reader.lines, rejects[0].line, len(rejects)) == (3, 70_007, 1)
    assert rejects[0].byte_offset == data.index(b"nope")
    assert set(seen) == {GOOD, b"nope"}
    assert len(seen) <= 6


def test_a_giant_blank_line_is_no_line(monkeypatch, fast):
    monkeypatch.setattr(blocks, "GIANT", 1_000)
    monkeypatch.setattr(giant, "LIMIT", 10_000)
    reader, rows, rejects = read(b" " * 50_000 + b"\n" + GOOD, kind=USER_RECOMMENDATIONS, fast=fast, block=512)
    assert (reader.lines, rows, rejects) == (1, ROWS, [])


def test_giant_lines_may_be_many(monkeypatch):
    """One after the other, whatever their number: no part of the way grows with it."""
    monkeypatch.setattr(blocks, "GIANT", 64)
    pieces = chain.from_iterable(repeat((b"x" * 100, b"\n"), 20_000))
    count = 0
    for part in blocks.cut_lines(pieces):
        with part:
            count += 1
    assert (count, part.number, part.offset) == (20_000, 20_000, 101 * 19_999)


@pytest.mark.parametrize(
    ("behind", "users", "warned"),
    [
        pytest.param(b"", 1, False, id="nothing"),
        pytest.param(b"\0" * 1_000_000, 1, False, id="zeros"),
        pytest.param(gzip.compress(b"\n" + GOOD), 2, False, id="a member"),
        pytest.param(b"\0" * 512 + gzip.compress(b"\n" + GOOD) + b"\0" * 512, 2, False, id="a padded member"),
        pytest.param(b"garbage", 1, True, id="garbage"),
        pytest.param(b"\0\0garbage" + gzip.compress(GOOD), 1, True, id="padded garbage"),
        pytest.param(b"\x1f", 1, True, id="half a magic number"),
        pytest.param(gzip.compress(b"") * 3_000 + gzip.compress(b"\n" + GOOD), 2, False, id="many empty members"),
    ],
)
@pytest.mark.parametrize("block", [1, 7, 1 << 19])
def test_what_lies_behind_gzip_is_taken_as_gzip_does(behind, users, warned, block, caplog):
    data = gzip.compress(GOOD) + behind
    _, rows, rejects = read(data if block > 1 else data[:100_000], kind=USER_RECOMMENDATIONS, block=block)
    assert (rows, rejects) == (ROWS * users, [])
    assert ["s3://b/x.out: ignored what lies behind" in message for message in caplog.messages] == [True] * warned


@pytest.mark.parametrize(
    "behind",
    [b"\x1f\x8b", b"\x1f\x8b\x08\x00", gzip.compress(GOOD)[:-1], b"\0" + gzip.compress(GOOD)[:30]],
    ids=["magic", "head", "all but a byte", "padded"],
)
def test_a_later_gzip_member_that_is_cut_short_is_an_error(behind):
    with pytest.raises(InvalidLineError, match=r"s3://b/x\.out: expected gzip from beginning to end"):
        read(gzip.compress(GOOD) + behind, kind=USER_RECOMMENDATIONS)


def test_small_gzip_members_are_read_together():
    """As many as fit: what a piece costs that is handed on does not grow with the number of members."""
    data = gzip.compress(GOOD + b"\n") * 2_000
    pieces = list(blocks.gunzip("x", [data]))
    assert b"".join(pieces) == (GOOD + b"\n") * 2_000
    assert len(pieces) == 1


@pytest.mark.parametrize("cut", [-1, -9, 20])
def test_gzip_that_is_cut_short_is_an_error(cut):
    data = gzip.compress(json.dumps(USER).encode() * 20)[:cut]
    with pytest.raises(InvalidLineError, match=r"s3://b/x\.out: expected gzip from beginning to end"):
        read(data, kind=USER_RECOMMENDATIONS)


def test_an_empty_list_is_a_line_without_rows(fast):
    line = b'{"input":{"userId":"u"},"output":{"recommendedItems":[],"scores":[]},"error":null}'
    reader, rows, rejects = read(line, fast=fast)
    assert (reader.kind, reader.lines, rows, rejects) == (USER_RECOMMENDATIONS, 1, [], [])


def test_batches_split_and_mark_what_they_hold():
    batch = Batch(
        entities=["u", "v", "w"],
        counts=[2, 0, 3],
        first_ranks=[1, 1, 5],
        themes=[None] * 3,
        items=["a", "b", "c", "d", "e"],
        scores=[0.1, 0.2, 0.3, 0.4, None],
        relevances=[None] * 5,
    )
    columns = USER_RECOMMENDATIONS.columns
    rows = list(batch.rows(columns))
    assert rows == [("u", 1, "a", 0.1), ("u", 2, "b", 0.2), ("w", 5, "c", 0.3), ("w", 6, "d", 0.4), ("w", 7, "e", None)]
    for size in range(1, 7):
        pieces = list(batch.pieces(size))
        assert all(len(piece.items) <= size for piece in pieces)
        assert [row for piece in pieces for row in piece.rows(columns)] == rows
    assert list(batch.with_rank_zero_rows().rows(columns)) == [*rows, ("v", 0, "", None)]


@pytest.fixture
def small_steps(monkeypatch):
    """Make a giant of any line longer than 64 bytes, and read it 48 bytes at a time."""
    monkeypatch.setattr(blocks, "GIANT", 64)
    monkeypatch.setattr(giant, "STEP", 48)


@pytest.mark.usefixtures("small_steps")
def test_a_giant_line_leaves_nothing_behind(fast):
    """What is in a circle stays until the garbage collector comes, and a circle held megabytes of each line."""
    line = json.dumps({"input": {"itemId": "i"}, "output": {"usersList": ["user"] * 50}, "error": None}).encode()
    gc.collect()
    gc.disable()
    try:
        read(b"\n".join([line] * 3), fast=fast)
        # Not isinstance(), which would ask every object that there is for its class, and so wake Airflow's lazy ones.
        assert not [found for found in gc.get_objects() if type(found) is giant._LongList]
    finally:
        gc.enable()


@pytest.mark.usefixtures("small_steps")
def test_a_giant_line_is_read_in_pieces():
    users = [f'{n},"]\\' for n in range(500)]
    line = {"input": {"itemId": "i"}, "output": {"usersList": users}, "error": None}
    short = {"input": {"itemId": "j"}, "output": {"usersList": ["x"]}}
    data = "\n".join(map(json.dumps, [short, line, line, short])).encode()
    reader, rows, rejects = read(data)
    expected = [("i", rank, user) for rank, user in enumerate(users, 1)]
    assert rejects == []
    assert rows == [("j", 1, "x"), *expected, *expected, ("j", 1, "x")]
    assert reader.lines == 4


@pytest.mark.usefixtures("small_steps")
@pytest.mark.parametrize(
    ("tail", "reason"),
    [
        ('"],"error":"late"}', "the service reports an error: late"),
        ('"]},"error":"late"}', "the service reports an error: late"),
        ('\\u0000"]}}', "expected text without NUL characters"),
        ('",7]}}', "expected text at the list"),
        ('",]}}', "expected JSON"),
        ('"}}', "expected JSON"),
        ('"]}', "expected JSON"),
        ('"], "scores": [0.5, "x"]}}', "expected a finite number"),
    ],
)
def test_a_giant_line_gives_no_row_before_its_end_is_known_to_be_good(tail, reason):
    start = '{"input":{"itemId":"i"},"output":{"usersList":["' + '","'.join(map(str, range(200)))
    if "late" in tail:
        tail = tail.replace('"],"error"', '"]},"error"')
    good = '{"input": {"itemId": "j"}, "output": {"usersList": ["x"]}}'
    reader, rows, rejects = read(f"{good}\n{start}{tail}\n{good}".encode())
    assert rows == [("j", 1, "x")] * 2
    assert (rejects[0].line, rejects[0].byte_offset) == (2, len(good) + 1)
    assert rejects[0].reason.startswith(reason)
    assert rejects[0].text == (start + tail)[:1000]
    assert reader.lines == 3


FILTERED = Column("for", "text", "filter_values")


def filter_column(data: bytes, kind=None, fast=True):
    reader = OutputReader(kind, fast=fast)
    columns = (USER_SEGMENTS.columns[0], FILTERED)
    found = [row for batch in reader.read("s3://b/x.out", [data]) for row in batch.rows(columns)]
    assert reader.rejects == 0
    return found


@pytest.mark.parametrize("giants", [False, True])
@pytest.mark.parametrize(
    ("filters", "text"),
    [
        ({"B": '"x"', "A": '"\u65e5","\\\\"'}, '{"A": "\\"\\u65e5\\",\\"\\\\\\\\\\"", "B": "\\"x\\""}'),
        ({}, "{}"),
        (None, None),
        ({"B": [1], "A": None}, '{"A": null, "B": [1]}'),
    ],
)
@pytest.mark.parametrize("key", ["userId", "itemId", "itemAttributes"])
def test_filter_values_go_with_each_row_of_their_line(fast, filters, text, key, giants, request):
    if giants:
        request.getfixturevalue("small_steps")
    results = "usersList" if key == "itemAttributes" else "recommendedItems"
    lines = [
        {"input": {key: "e", "filterValues": filters}, "output": {results: ["a", "b" * 60, "c"]}},
        {"input": {key: "f"}, "output": {results: ["d"]}},
    ]
    data = "\n".join(map(json.dumps, lines)).encode()
    kind = {"userId": USER_RECOMMENDATIONS, "itemId": RELATED_ITEMS, "itemAttributes": USER_SEGMENTS}[key]
    assert filter_column(data, kind, fast) == [("e", text)] * 3 + [("f", None)]


def test_filter_values_of_a_line_without_a_wrapper():
    line = {"itemAttributes": "e", "filterValues": {"A": '"x"'}, "output": {"recommendedUsers": ["u"]}}
    assert filter_column(json.dumps(line).encode()) == [("e", '{"A": "\\"x\\""}')]


def test_batches_with_filter_values_split_and_mark():
    line = {"input": {"userId": "u", "filterValues": {}}, "output": {"recommendedItems": ["a", "b", "c"]}}
    empty = {"input": {"userId": "v", "filterValues": {"A": "x"}}, "output": {"recommendedItems": []}}
    data = "".join(f"{json.dumps(one)}\n" for one in (line, empty, line)).encode()
    (batch,) = OutputReader(USER_RECOMMENDATIONS, fast=False).read("s3://b/x.out", [data])
    columns = (Column("item_id", "text", "item"), FILTERED)
    rows = list(batch.rows(columns))
    assert rows == [(item, "{}") for item in "abcabc"]
    for size in range(1, 8):
        assert [row for piece in batch.pieces(size) for row in piece.rows(columns)] == rows
    assert list(batch.with_rank_zero_rows().rows(columns)) == [*rows, ("", None)]
