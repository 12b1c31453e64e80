"""The fast and the streaming parser against a plain one, written down here once more: the same rows and rejects."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from airflow_provider_personalize.output import blocks, giant
from airflow_provider_personalize.output.lines import LEVELS
from airflow_provider_personalize.output.reader import OutputReader
from airflow_provider_personalize.output.rows import RELATED_ITEMS, USER_RECOMMENDATIONS, USER_SEGMENTS

ROLES = {"userId": USER_RECOMMENDATIONS, "itemId": RELATED_ITEMS}


def plain(line: bytes):
    """Return a line's kind and rows (entity, rank, item, score), read by ``json`` alone; None where the line is bad."""
    try:
        text = line.decode().removeprefix("\ufeff")
        # Of keys that come twice, the last one counts, but levels count everywhere.
        if levels(json.loads(text, object_pairs_hook=lambda pairs: [value for _, value in pairs])) > LEVELS:
            return None
        parsed = json.loads(text)
        if parsed.get("error") not in (None, ""):
            return None
        source, output = parsed["input"], parsed["output"]
        results = [key for key in ("recommendedItems", "usersList", "recommendedUsers") if output.get(key) is not None]
        (key,) = results
        keys = ("userId", "itemId") if key == "recommendedItems" else ("itemId", "itemAttributes")
        present = [name for name in keys if source.get(name) is not None]
        if key != "recommendedItems":
            kind, entity = USER_SEGMENTS, source[present[0]]
        else:
            kind, entity = (ROLES[present[0]], source[present[0]]) if present else (USER_RECOMMENDATIONS, None)
        ids = [*output[key], *([] if entity is None else [entity])]
        scores = output.get("scores")
        scores = [] if scores is None else scores
        theme = output.get("theme") if kind is RELATED_ITEMS else None
        if theme is not None:
            ids.append(theme)
        if not isinstance(output[key], list) or not isinstance(scores, list) or len(scores) > len(output[key]):
            return None
        if any("\0" in value or (not value.encode() and value) for value in ids):
            return None
        doubles = []
        for score in scores:
            if (
                score is None
                or score != score
                or (isinstance(score, str) and score.strip().lower() in ("", "nan", "null", "none"))
            ):
                doubles.append(None)
            elif isinstance(score, (int, float)) and not isinstance(score, bool) and math.isfinite(float(score)):
                doubles.append(float(score))
            else:
                return None
        doubles += [None] * (len(output[key]) - len(doubles))
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, OverflowError, RecursionError):
        return None
    pairs = zip(output[key], doubles, strict=True)
    return kind, [(entity, rank, item, score) for rank, (item, score) in enumerate(pairs, 1)]


def levels(parsed) -> int:
    """Count the levels of lists."""
    count, level = 0, [parsed]
    while level := [value for value in level if isinstance(value, list)]:
        count += 1
        level = [inner for value in level for inner in value]
    return count


ids = st.one_of(
    st.from_regex(r"[A-Za-z0-9]{1,8}", fullmatch=True),
    st.text(st.characters(exclude_categories=()), max_size=6),
    st.sampled_from(
        ['","', "],[", '"', "\\", "\\\\", "", ",", "}, {", "NaN", "\x7f", "\u2028", "é" * 90, "\0", "\ud800"]
    ),
)
scores = st.one_of(
    st.floats(),
    st.integers(),
    st.sampled_from([None, "NaN", "x", True, 10**400, 0.0152238, 1e-320, [], {}]),
)
junk = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=3)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
    max_leaves=5,
)
inputs = st.one_of(
    st.fixed_dictionaries({"userId": ids}),
    st.fixed_dictionaries({"itemId": ids}, optional={"itemList": st.lists(ids, max_size=3), "filterValues": junk}),
    st.fixed_dictionaries({"itemAttributes": ids}),
    st.fixed_dictionaries({}, optional={"userId": junk, "itemId": junk}),
    junk,
)
outputs = st.one_of(
    st.fixed_dictionaries(
        {"recommendedItems": st.lists(ids, max_size=8)},
        optional={"scores": st.lists(st.one_of(st.floats(0, 1), scores), max_size=9)},
    ),
    st.fixed_dictionaries({"usersList": st.lists(ids, max_size=30)}, optional={"scores": st.none()}),
    st.fixed_dictionaries(
        {}, optional={"recommendedItems": junk, "usersList": junk, "recommendedUsers": st.lists(ids), "scores": junk}
    ),
    junk,
)
records = st.one_of(
    st.fixed_dictionaries({"input": inputs, "output": outputs}, optional={"error": st.one_of(st.none(), junk)}),
    st.fixed_dictionaries({}, optional={"input": inputs, "output": outputs, "error": junk, "more": junk}),
)


#: What JSON parsers differ in: levels, the size of numbers, keys that come twice, halves of surrogate pairs.
ODD = [
    *("[" * depth + "1" + "]" * depth for depth in (3, 97, 98, 99, 100, 101, 600, 20_000)),
    *('{"a":' * depth + "1" + "}" * depth for depth in (3, 98, 99, 101, 600, 20_000)),
    *("[" * 1_000, '{"a":' * 1_000, '[{"a":' * 1_000),
    *("1e999", "-1e999", "1e-999", "1" * 400, "1" * 5_000, "0." + "1" * 5_000, "NaN", "Infinity", "-Infinity", "-0"),
    *('"\\ud800"', '"\\u0000"', '["\\udc00", "a"]', "[NaN, 1e999]", '["a",]', "[,]", "{}", "[]", "[[]]", '[["a"]]'),
]
FRAMES = [
    "%s",
    '{"input":{"userId":%s},"output":{"recommendedItems":["a"]}}',
    '{"input":{"itemId":"u","filterValues":%s},"output":{"recommendedItems":["a"]}}',
    '{"input":{"userId":"u","itemList":%s},"output":{"recommendedItems":["a"]}}',
    '{"input":{"userId":"u"},"output":{"recommendedItems":%s}}',
    '{"input":{"itemId":"u"},"output":{"usersList":%s}}',
    '{"input":{"itemId":"u"},"output":{"recommendedItems":["a"],"scores":[%s]}}',
    '{"input":{"userId":"u"},"output":{"recommendedItems":["a"],"scores":%s}}',
    '{"input":{"userId":"u"},"output":{"recommendedItems":["a"]},"error":%s}',
    '{"input":{"userId":"u"},"output":{"recommendedItems":["a"]},"more":%s}',
    '{"input":{"userId":"u","userId":%s},"output":{"recommendedItems":["a"]}}',
    '{"input":{"itemId":"u"},"output":{"recommendedItems":["b"],"recommendedItems":%s}}',
    '{"input":{"itemId":"u"},"output":{"recommendedItems":["b"]},"error":%s,"error":null}',
]
odd_lines = st.builds(
    lambda frame, value, before, after: (before + frame % value + after).encode("utf-8", "surrogatepass"),
    st.sampled_from(FRAMES),
    st.sampled_from(ODD),
    st.sampled_from(["", "", "\ufeff", " ", "\t\r", "\x0b", "\xa0", "\ufeff\ufeff"]),
    st.sampled_from(["", "", "\r", "  ", "\x0c", "\xa0", "\0"]),
)
blank_lines = st.text(" \t\r\x0b\x0c", max_size=4).map(str.encode)


@st.composite
def lines(draw):
    """Draw a line: JSON in any spelling, sometimes damaged by a byte put in, taken out or changed."""
    odd = draw(st.integers(0, 5))
    if odd < 2:
        return draw(blank_lines if odd else odd_lines)
    record = draw(records)
    separators = draw(st.sampled_from([(",", ":"), (", ", ": "), (" , ", " : ")]))
    text = json.dumps(record, separators=separators, ensure_ascii=draw(st.booleans()))
    data = text.encode("utf-8", "surrogatepass").replace(b"\n", b" ")
    if draw(st.integers(0, 3)) == 0 and data:
        at = draw(st.integers(0, len(data) - 1))
        keep = draw(st.integers(0, 1))
        data = data[:at] + draw(st.binary(max_size=2)).replace(b"\n", b" ") + data[at + keep :]
    return data.removeprefix(b"\x1f\x8b")  # that would be gzip


def read(data: list[bytes], *, kind, fast):
    rejects = []
    reader = OutputReader(kind, on_reject=lambda reject: rejects.append((reject.line, reject.byte_offset)), fast=fast)
    rows = [
        row
        for batch in reader.read("x", [b"\n".join(data)])
        for row in zip(*(batch.column(role) for role in ("entity", "rank", "item", "score")), strict=True)
    ]
    return sorted(rows, key=repr), rejects, reader.lines


def expected(data: list[bytes], kind):
    rows, rejects, offset, count = [], [], 0, 0
    for number, line in enumerate(data, 1):
        if line.strip():
            count += 1
            found = plain(line)
            if found and found[0] is kind:
                rows += found[1]
            else:
                rejects.append((number, offset))
        offset += len(line) + 1
    return sorted(rows, key=repr), rejects, count


@pytest.mark.parametrize("fast", [True, False], ids=["fast", "plain"])
@pytest.mark.parametrize("kind", [USER_RECOMMENDATIONS, RELATED_ITEMS, USER_SEGMENTS], ids=repr)
@settings(max_examples=150, deadline=None)
@given(data=st.lists(lines(), max_size=6))
def test_lines_agree_with_the_plain_reading(data, kind, fast):
    assert read(data, kind=kind, fast=fast) == expected(data, kind)


#: Pieces of its scores are texts, which stand for none.
TEXTS_FOR_SCORES = json.dumps(
    {"input": {"userId": "u"}, "output": {"recommendedItems": [*"abcdefgh"], "scores": [0.5, *["NaN"] * 6, 0.25]}}
).encode()


@pytest.mark.parametrize("fast", [True, False], ids=["fast", "plain"])
@pytest.mark.parametrize("kind", [USER_RECOMMENDATIONS, RELATED_ITEMS, USER_SEGMENTS], ids=repr)
@settings(max_examples=150, deadline=None)
@given(data=st.lists(lines(), max_size=4))
@example(data=[TEXTS_FOR_SCORES])
def test_giant_lines_agree_with_the_plain_reading(data, kind, fast):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "GIANT", 1)
        patch.setattr(giant, "STEP", 24)
        assert read(data, kind=kind, fast=fast) == expected(data, kind)


@pytest.mark.parametrize("kind", [USER_RECOMMENDATIONS, RELATED_ITEMS, USER_SEGMENTS], ids=repr)
@pytest.mark.parametrize("frame", FRAMES)
def test_every_odd_value_is_read_alike_in_every_place(frame, kind):
    data = [
        line for value in ODD for line in ((frame % value).encode(), b"", b"\xef\xbb\xbf" + (frame % value).encode())
    ]
    wanted = expected(data, kind)
    assert read(data, kind=kind, fast=True) == wanted
    assert read(data, kind=kind, fast=False) == wanted
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "GIANT", 1)
        patch.setattr(giant, "STEP", 24)
        data = [line for line in data if len(line) < 3_000]
        wanted = expected(data, kind)
        assert read(data, kind=kind, fast=True) == wanted
        assert read(data, kind=kind, fast=False) == wanted
