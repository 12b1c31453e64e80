"""Output of every form of line that there is, in every wrapping, for each kind of rows."""

from __future__ import annotations

import gzip
from collections.abc import Callable

from airflow_provider_personalize.output.rows import RELATED_ITEMS, USER_RECOMMENDATIONS, USER_SEGMENTS
from tests.integration.load_support import line
from tests.unit.test_output import DEEP
from tests.unit.test_output_agrees import FRAMES, ODD

#: Where each kind is the kind of the load, since a line of it comes first.
FIRST = {
    USER_RECOMMENDATIONS: line("first", "a"),
    RELATED_ITEMS: '{"input": {"itemId": "first"}, "output": {"recommendedItems": ["a"], "scores": null}}',
    USER_SEGMENTS: '{"input": {"itemId": "first"}, "output": {"usersList": ["a"]}, "error": null}',
}
FORMS = [
    (
        '{"input":{"userId":"891","itemList":["27"],"filterValues":{"G":"\\"horror\\"", "A": "b"}},'
        '"output":{"recommendedItems":["27","101"],"scores":[0.48421,0.28133]}}'
    ),
    '{"input":{},"output":{"recommendedItems":["1"]}}',
    (
        '{"input":{"itemId":"40"},"output":{"recommendedItems":["36","50"],"theme":"Strong lead",'
        '"itemsThemeRelevanceScores":[0.199,null]}}'
    ),
    '{"input": {"itemAttributes": "ITEMS.CATEGORY_L1 = \\"tools\\""}, "output": {"usersList": ["2131"]}}',
    '{"itemAttributes": "ITEMS.genres = \\"Comedy\\"", "output": {"recommendedUsers": ["25"]}}',
    '{"input":{"userId":"4638"}, "output": {"recommendedItems": ["296", "1"]}, {"scores": [0.0009785, 0.000976]}}',
    '{"input": {"itemId": "105"}, "output": {"recommendedItems": ["106"]}, }',
    '{"input":{"userId":"u"},"output":{"recommendedItems":["a","b","c","d","e"],"scores":[1,null,NaN,"NaN"]},"error":""}',
    '{"input":{"userId":"\\ud83d\\ude00"},"output":{"recommendedItems":["\\"\\\\\\n\\t,","é\u2028\x85","]},["]}}',
    '{"input":{"userId":"none"},"output":{"recommendedItems":[]}}',
    '{"input":{"userId":"x"},"output":{"recommendedItems":[]},"error":"User error: Required fields"}',
    '{"input":{"userId":"u"},"output":null,"error":"a\\u0000b\\ud800%s"}' % ("c" * 5_000),
    '{"input":{"userId":"x"},"output":{"recommendedItems":["a",5]}}',
    '{"input":{"userId":"x"},"output":{"recommendedItems":["a"],"scores":[1,2]}}',
    *(nested.decode() for nested in DEEP if len(nested) < 2_000),
    *(frame % value for frame in FRAMES for value in ODD if len(value) < 10_000),
]


def output_of_all_forms(first: str, wanted: Callable[[bytes], bool] = bool) -> dict[str, bytes]:
    """
    Return objects of all forms of lines, in all wrappings.

    :param first: The line that each of them begins with.
    :param wanted: Says of a line whether it is among them.
    """
    lines = list(filter(wanted, (text.encode("utf-8", "surrogatepass") for text in [first, *FORMS])))
    odd = [first.encode(), b"\xff\x00{", b" \t" + first.encode() + b" \r", b"", b"\xa0", b"nope", b"\x0b\x0c", b"end"]
    return {
        "a.json.out": b"\n".join(lines),
        "b CRLF {1}.json.out": b"\r\n".join(odd) + b"\r\n",
        "c.json.out": b"\xef\xbb\xbf" + b"\n \n\n\xef\xbb\xbf".join([b"nope", *odd]) + b"\n\n",
        "d.json.out.gz": gzip.compress(b"\n".join(odd)) + b"\0\0" + gzip.compress(b"\n" + first.encode()) + b"garbage",
        "e.json.out": gzip.compress(b"\xef\xbb\xbfbad\n" + b"\n".join(lines[:20])),
        "f.json.out": b"",
        "g.json.out": b"\xef\xbb\xbf",
        "h.json.out": b"\xef\xbb\xbf\n\n",
    }
