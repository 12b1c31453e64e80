"""Every form of an output line that gives rows, with these rows: for the parser's tests, and for every target's."""

from __future__ import annotations

import pytest

from airflow_provider_personalize.output.rows import RELATED_ITEMS, USER_RECOMMENDATIONS, USER_SEGMENTS

#: The line, the kind of its rows, and the rows.
FORMS = [
    pytest.param(
        '{"input":{"userId":"4638"},"output":{"recommendedItems":["63992","115149"],'
        '"scores":[0.0152238,0.0069081]},"error":null}',
        USER_RECOMMENDATIONS,
        [("4638", 1, "63992", 0.0152238), ("4638", 2, "115149", 0.0069081)],
        id="user personalization, recorded",
    ),
    pytest.param(
        '{"input":{"userId":"891","itemList":["27","886","101"],"filterValues":{"G":"\\"horror\\""}},'
        '"output":{"recommendedItems":["27","101","886"],"scores":[0.48421,0.28133,0.23446]}}',
        USER_RECOMMENDATIONS,
        [("891", 1, "27", 0.48421), ("891", 2, "101", 0.28133), ("891", 3, "886", 0.23446)],
        id="personalized ranking",
    ),
    pytest.param(
        '{"input": {"itemId": "105"}, "output": {"recommendedItems": ["106", "107", "49"]}}',
        RELATED_ITEMS,
        [("105", n, item, None, None, None) for n, item in enumerate(["106", "107", "49"], 1)],
        id="related items without scores",
    ),
    pytest.param(
        '{"input": {"itemId": "105"}, "output": {"recommendedItems": ["106"], "scores": []}}',
        RELATED_ITEMS,
        [("105", 1, "106", None, None, None)],
        id="empty scores",
    ),
    pytest.param(
        '{"input": {"itemId": "105"}, "output": {"recommendedItems": ["106"], "scores": null}}',
        RELATED_ITEMS,
        [("105", 1, "106", None, None, None)],
        id="null scores",
    ),
    pytest.param(
        '{"input":{},"output":{"recommendedItems":["1"]}}',
        USER_RECOMMENDATIONS,
        [(None, 1, "1", None)],
        id="empty input",
    ),
    pytest.param(
        '{"input":{"itemId":"40"},"output":{"recommendedItems":["36","50"],"theme":"Movies with a strong female '
        'lead","itemsThemeRelevanceScores":[0.199,0.183]}}',
        RELATED_ITEMS,
        [
            ("40", 1, "36", None, "Movies with a strong female lead", 0.199),
            ("40", 2, "50", None, "Movies with a strong female lead", 0.183),
        ],
        id="themes",
    ),
    pytest.param(
        '{"input": {"itemId": "B00"}, "output": {"usersList": ["A3Q4", "A1GG"]}, "error": null}',
        USER_SEGMENTS,
        [("B00", 1, "A3Q4"), ("B00", 2, "A1GG")],
        id="item affinity, recorded",
    ),
    pytest.param(
        '{"input": {"itemAttributes": "ITEMS.CATEGORY_L1 = \\"tools\\""}, "output": {"usersList": ["2131"]}}',
        USER_SEGMENTS,
        [('ITEMS.CATEGORY_L1 = "tools"', 1, "2131")],
        id="item-attribute affinity, recorded",
    ),
    pytest.param(
        '{"input": {"itemId": "105"}, "output": {"recommendedUsers": ["106", "107"]}}',
        USER_SEGMENTS,
        [("105", 1, "106"), ("105", 2, "107")],
        id="item affinity, documented",
    ),
    pytest.param(
        '{"itemAttributes": "ITEMS.genres = \\"Comedy\\"", "output": {"recommendedUsers": ["25"]}}',
        USER_SEGMENTS,
        [('ITEMS.genres = "Comedy"', 1, "25")],
        id="item-attribute affinity, documented without a wrapper",
    ),
    pytest.param(
        '{"input":{"userId":"4638"}, "output": {"recommendedItems": ["296", "1"]}, {"scores": [0.0009785, 0.000976]}}',
        USER_RECOMMENDATIONS,
        [("4638", 1, "296", 0.0009785), ("4638", 2, "1", 0.000976)],
        id="scores as a sibling object",
    ),
    pytest.param(
        '{"input": {"itemId": "105"}, "output": {"recommendedItems": ["106"]}, }',
        RELATED_ITEMS,
        [("105", 1, "106", None, None, None)],
        id="trailing comma",
    ),
    pytest.param(
        '{"input":{"userId":"u"},"output":{"recommendedItems":["a","b","c","d","e"],'
        '"scores":[1,null,NaN,"NaN"]},"error":""}',
        USER_RECOMMENDATIONS,
        [("u", 1, "a", 1.0), ("u", 2, "b", None), ("u", 3, "c", None), ("u", 4, "d", None), ("u", 5, "e", None)],
        id="scores of all sorts, and too few",
    ),
    pytest.param(
        '{"input":{"userId":"\\u2028 \\ud83d\\ude00"},'
        '"output":{"recommendedItems":["\\"\\\\\\n\\t,","é\u2028\x85","]},["]}}',
        USER_RECOMMENDATIONS,
        [
            ("\u2028 😀", 1, '"\\\n\t,', None),
            ("\u2028 😀", 2, "é\u2028\x85", None),
            ("\u2028 😀", 3, "]},[", None),
        ],
        id="any character",
    ),
]
