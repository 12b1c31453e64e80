"""What is wrong with a job's input is found before it is paid for, all of it together."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_personalize.exceptions import InvalidRequestError
from airflow_provider_personalize.input.validation import MAX_LINE_BYTES, InputCheck
from airflow_provider_personalize.service.expressions import read_filter
from airflow_provider_personalize.service.kinds import BATCH_INFERENCE_JOB, BATCH_SEGMENT_JOB
from airflow_provider_personalize.service.recipes import RECIPES

USER = RECIPES["aws-user-personalization"]
URI = "s3://bucket/in/users.json"


def problems(data: bytes, recipe=USER, size: int = 7, whole: bool = True, **kwargs) -> list[str]:
    """What is wrong with an object, read in chunks of that size."""
    check = InputCheck(recipe, **kwargs)
    check.check_lines(URI, (data[i : i + size] for i in range(0, len(data), size)), whole=whole)
    assert check.count == len(check.problems)
    return [str(problem) for problem in check.problems]


@pytest.mark.parametrize(
    ("recipe", "line"),
    [
        ("aws-user-personalization", '{"userId": "4638"}'),
        ("aws-user-personalization-v2", '{"userId":"x \\u00e9 \\" \\\\ é"}'),
        ("aws-hrnn", '  { "userId" :\t"日本" } '),
        ("aws-user-personalization", '{"userId": "4638", "note": "what no recipe knows"}'),
        ("aws-popularity-count", "{}"),
        ("aws-popularity-count", '{"itemId": "105"}'),
        ("aws-personalized-ranking", '{"userId": "891", "itemList": ["27", "886", "101"]}'),
        ("aws-personalized-ranking", '{"itemList":["27"],"userId":"891"}'),
        ("aws-similar-items", '{"itemId": "105"}'),
        ("aws-item-affinity", '{"itemId": "105"}'),
        ("aws-item-attribute-affinity", '{"itemAttributes": "ITEMS.g = \\"Comedy\\" AND ITEMS.year = 1995"}'),
    ],
)
def test_lines_of_each_recipe(recipe, line):
    for end in ("\n", "\r\n", ""):
        assert problems(f"{line}{end}".encode(), RECIPES[recipe]) == []
    assert problems(f"{line}\n\n{line}\n".encode(), None) == []


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("4638", "expected a JSON object, got b'4638'"),
        ("user", "expected JSON in UTF-8, got b'user'"),
        ('{"userId": "a"', "expected JSON in UTF-8"),
        ('{"userId": "a"} {"userId": "b"}', "expected JSON in UTF-8"),
        ('{"itemId": "a"}', "expected userId for aws-user-personalization, got itemId."),
        ('{"userid": "a"}', "expected userId for aws-user-personalization, got userid."),
        ('{"userId": "a", "itemList": ["b"]}', "got userId with itemList."),
        ('{"user_id": "a", "filterValues": {}}', "got user_id."),
        ("{}", "got nothing."),
        ('{"userId": 4638}', 'userId: expected an id as text, as "123", got 4638.'),
        ('{"userId": null}', "got null."),
        ('{"userId": ""}', "userId: expected an id, got the blank text ''"),
        ('{"userId": "\u3000\\t"}', "blank text"),
        (f'{{"userId": "{"x" * 257}"}}', "at most 256 characters, got 257"),
    ],
)
def test_what_is_wrong_with_a_line_says_where_and_what(line, reason):
    data = f'{{"userId": "a"}}\n{line}\n{{"userId": "b"}}\n'.encode()
    (problem,) = problems(data)
    assert problem.startswith(f"{URI}, line 2: ")
    assert reason in problem


def test_lists_attributes_and_filter_values():
    ranking = RECIPES["aws-personalized-ranking"]
    assert "list of item ids, got []" in problems(b'{"userId": "a", "itemList": []}', ranking)[0]
    assert "itemList: expected an id as text" in problems(b'{"userId": "a", "itemList": ["b", 7]}', ranking)[0]
    attributes = RECIPES["aws-item-attribute-affinity"]
    assert "at character 9" in problems(b'{"itemAttributes": "ITEMS.a IN (\\"x\\")"}', attributes)[0]
    assert "expression as text, got 7" in problems(b'{"itemAttributes": 7}', attributes)[0]

    good = rb'{"userId": "a", "filterValues": {"B": "\"x\"", "A": "\"x,y\",\"z\""}}'
    assert problems(good, placeholders={"A", "B"}) == []
    assert "the filter's $C, got ['A', 'B']" in problems(good, placeholders={"A", "B", "C"})[0]
    assert "the filter's $A, got []" in problems(b'{"userId": "a"}', placeholders={"A"})[0]
    (problem,) = problems(b'{"userId": "a", "filterValues": {"A": "horror"}}', placeholders={"A"})
    assert "filterValues, A: expected each value in escaped quotes" in problem
    assert problem.endswith('got "horror".')
    for values in ("[]", "0", "false", '""'):
        (problem,) = problems(b'{"userId": "a", "filterValues": %s}' % values.encode())
        assert "filterValues: expected an object, got" in problem
    assert problems(b'{"userId": "a", "filterValues": null}') == []


def test_invalid_utf_8_and_a_byte_order_mark_are_found():
    assert "line 2: expected JSON in UTF-8" in problems(b'{"userId": "a"}\n{"userId": "b\xff"}\n{"userId": "c"}\n')[0]
    assert "without a BOM" in problems(b'\xef\xbb\xbf{"userId": "a"}\n')[0]


odd_ids = st.sampled_from(["x" * 256, "x" * 257, "é" * 256, "\u00a0", "\x85x"])
ids = st.one_of(st.text(max_size=5), odd_ids, st.integers())
good_lines = st.builds(lambda user: json.dumps({"userId": user}, ensure_ascii=False), ids)
broken_lines = st.builds(
    lambda line, at, noise: line[:at] + noise + line[at:], good_lines, st.integers(0, 40), st.text(max_size=2)
)


@given(st.lists(st.one_of(good_lines, good_lines, broken_lines), max_size=8), st.integers(1, 60))
def test_runs_of_good_lines_hide_nothing_from_the_parser(lines, size):
    lines = [line.replace("\n", " ").encode("utf-8", "replace") for line in lines]
    check = InputCheck(USER)
    # One line to an object: whatever its neighbours are, each is judged by itself.
    alone = [number for number, line in enumerate(lines, 1) if check._line_problem(line)]
    together = problems(b"\n".join(lines), size=size)
    assert [int(problem.split("line ")[1].split(":")[0]) for problem in together] == alone


def test_a_sample_may_end_in_the_middle_of_a_line():
    data = b'{"userId": "a"}\n{"userId": "b'
    assert problems(data, whole=False) == []
    assert "line 2" in problems(data)[0]


def test_a_line_without_end_is_not_kept_in_memory():
    chunks = iter([b"x" * 1_000_000] * 10_000)
    check = InputCheck(USER)
    check.check_lines(URI, chunks)
    assert str(check.problems[0]) == f"{URI}, line 1: expected a line below {MAX_LINE_BYTES:,} bytes, got a longer."
    assert len(list(chunks)) > 9_900


@pytest.mark.parametrize(("recipe", "most"), [("aws-item-affinity", 500), ("aws-item-attribute-affinity", 10)])
def test_the_quota_of_lines_in_a_file(recipe, most):
    line = b'{"itemId": "1"}\n' if most == 500 else b'{"itemAttributes": "ITEMS.a = 1"}\n'
    assert problems(line * most, RECIPES[recipe], size=1000) == []
    (problem,) = problems(line * (most + 1), RECIPES[recipe], size=1000)
    assert problem == f"{URI}: expected at most {most} lines for {recipe}, got {most + 1}; split the file."


def test_a_line_that_holds_nothing_counts_for_no_quota():
    line, recipe = b'{"itemAttributes": "ITEMS.a = 1"}\n', RECIPES["aws-item-attribute-affinity"]
    assert problems(line * 5 + b"\n \n" + line * 5 + b"\r\n\n", recipe, size=1000) == []
    (problem,) = problems(line * 6 + b"\n" + line * 6 + b"\n", recipe, size=1000)
    assert problem.endswith("got 12; split the file.")
    check = InputCheck(RECIPES["aws-similar-items"], themes=True)
    for _ in range(2):
        check.check_lines(URI, [b'{"itemId": "1"}\n\n' * 50])
    assert (check.count, check.lines, check.blank_lines) == (0, 200, 100)


def test_themes_take_few_items_over_all_files():
    check = InputCheck(RECIPES["aws-similar-items"], themes=True)
    for _ in range(4):
        check.check_lines(URI, [b'{"itemId": "1"}\n' * 40])
    assert check.lines == 160
    assert [problem.reason for problem in check.problems] == [
        "expected at most 100 items in a job with themes; this file goes beyond."
    ]


def objects(input_uri, *entries):
    check = InputCheck()
    check.check_objects(input_uri, entries)
    return [str(problem) for problem in check.problems]


def test_which_objects_a_job_would_read():
    assert objects("s3://b/in/", ("in/", 0), ("in/part-00000.json", 10)) == []
    assert objects("s3://b/in/users.json", ("in/users.json", 10)) == []
    assert objects("s3://b/", ("users.json", 1_000_000_000)) == []
    (problem,) = objects("s3://b/in", ("in/users.json", 10), ("in_test/users.json", 10))
    assert problem.startswith("s3://b/in_test/users.json: ")
    assert "end input_uri in '/'" in problem
    assert "got nothing" in objects("s3://b/in/")[0]
    assert "got nothing" in objects("s3://b/in/", ("in/", 0))[0]
    assert "got 1,000,000,001" in objects("s3://b/in/", ("in/a", 1_000_000_001))[0]
    assert "bytes in all, got 1,000,000,002" in objects("s3://b/in/", *((f"in/{i}", 500_000_001) for i in range(2)))[0]
    assert "got nothing" in objects("s3://b/in/", ("in/a", 0))[0]
    assert objects("s3://b/in/", ("in/_SUCCESS", 0), ("in/part-00000.json", 10)) == []
    assert objects("s3://b/in/", *((f"in/{i}", 1) for i in range(1000))) == []
    assert "1,000 files, got 1,001" in objects("s3://b/in/", *((f"in/{i}", 1) for i in range(1001)))[0]


@pytest.mark.parametrize("prefix", ["in/users_", "in/users-", "in/use", "in/", "", "in/users_000"])
def test_a_prefix_of_names_is_no_neighbour(prefix):
    keys = ("in/users_0000_part_00", "in/users_0001_part_00")
    assert objects(f"s3://b/{prefix}", *((key, 10) for key in keys)) == []


def test_a_prefix_of_folders_may_be_meant_if_it_ends_in_a_separator():
    assert objects("s3://b/day=", ("day=1/a.json", 10), ("day=2/b.json", 10)) == []
    assert "a neighbour's" in objects("s3://b/in", ("in_test/users.json", 10))[0]
    assert "a neighbour's" in objects("s3://b/users.json", ("users.json", 10), ("users.json.bak", 10))[0]


def test_two_objects_of_one_name_have_one_output():
    (problem,) = objects("s3://b/in/", ("in/DE/part-0.json", 10), ("in/US/part-0.json", 10), ("in/US/part-1.json", 10))
    assert problem.startswith("s3://b/in/US/part-0.json: ")
    assert "the name of in/DE/part-0.json, too" in problem
    assert "part-0.json.out, and one of them lost" in problem
    assert (
        objects("s3://b/in/", ("in/DE/a.json", 10), ("in/US/b.json", 9), *((f"in/{c}/_SUCCESS", 0) for c in "ab")) == []
    )


@pytest.mark.parametrize(
    ("input_uri", "output_uri"), [("s3://b/users.json", "s3://b/"), ("s3://b/", "s3://b"), ("s3://b/u", "s3://b/out/")]
)
def test_output_beside_the_input_is_no_input(input_uri, output_uri):
    check = InputCheck()
    written = [("users.json", 10), ("users.json.out", 10), ("_CHECK", 1)]
    if output_uri.endswith("out/"):
        written = [("users.json", 10), ("uout/_CHECK", 1)]
    assert check.check_objects(input_uri, written, output_uri) == ["users.json"]
    assert check.problems == []
    assert "that jobs have written" in str(check.warnings[0])


@pytest.mark.parametrize(
    ("kind", "recipe", "request_", "expected"),
    [
        (BATCH_INFERENCE_JOB, "aws-user-personalization", {"numResults": 25}, []),
        (BATCH_SEGMENT_JOB, "aws-item-affinity", {"numResults": 5_000_000}, []),
        (BATCH_INFERENCE_JOB, None, {}, []),
        (BATCH_INFERENCE_JOB, "aws-trending-now", {}, ["has no batch jobs"]),
        (BATCH_INFERENCE_JOB, "aws-item-affinity", {}, ["which is for a batch segment job"]),
        (BATCH_SEGMENT_JOB, "aws-sims", {}, ["which is for a batch inference job"]),
        (BATCH_SEGMENT_JOB, "aws-item-affinity", {"numResults": 5_000_001}, ["1 to 5,000,000, got 5000001"]),
        (BATCH_INFERENCE_JOB, "aws-sims", {"numResults": 0}, ["1 or more, got 0"]),
        (
            BATCH_INFERENCE_JOB,
            "aws-user-personalization",
            {
                "batchInferenceJobConfig": {
                    "itemExplorationConfig": {"explorationWeight": "0.3", "explorationItemAgeCutOff": "30"},
                    "rankingInfluence": {"POPULARITY": 0.0, "FRESHNESS": 1},
                }
            },
            [],
        ),
        (
            BATCH_INFERENCE_JOB,
            "aws-user-personalization",
            {
                "batchInferenceJobConfig": {
                    "itemExplorationConfig": {"explorationWeight": "1.5", "explorationItemAgeCutOff": 30},
                    "rankingInfluence": {"POPULARITY": 1.1, "FRESHNESS": "0.5"},
                }
            },
            [
                "explorationWeight: expected a number from 0 to 1, as text like '0.3', got '1.5'",
                "explorationItemAgeCutOff: expected a number from 0, as text like '0.3', got 30",
                "POPULARITY: expected a number from 0.0 to 1.0, got 1.1",
                "FRESHNESS: expected a number from 0.0 to 1.0, got '0.5'",
            ],
        ),
    ],
)
def test_what_the_request_asks_of_the_recipe(kind, recipe, request_, expected):
    check = InputCheck(RECIPES[recipe] if recipe else None)
    check.check_request(kind, request_)
    assert len(check.problems) == len(expected)
    for problem, part in zip(check.problems, expected, strict=True):
        assert part in str(problem)


@pytest.mark.parametrize("levels", [100_000, 3_000])
@pytest.mark.parametrize("beginning", [b"[", b'{"userId": "a", "x": [', b'{"userId": ['])
def test_a_line_that_is_nested_too_deeply_is_a_problem_of_that_line(levels, beginning):
    line = beginning + b"[" * levels + b"]" * levels
    line += {b"[": b"]", b"{": b"]}"}[beginning[:1]]
    found = problems(b'{"userId": "a"}\n' + line + b'\n{"userId": "b"}\n', size=10_000)
    assert [problem.split(": ")[0] for problem in found] == [f"{URI}, line 2"]


@pytest.mark.parametrize("user", ["a\0b", "\0", "a\ud800", "\udfff"])
def test_ids_that_no_table_can_hold(user):
    for recipe, line in (
        (USER, {"userId": user}),
        (RECIPES["aws-personalized-ranking"], {"userId": "a", "itemList": ["b", user]}),
        (RECIPES["aws-item-attribute-affinity"], {"itemAttributes": f'ITEMS.a = "{user}"'}),
    ):
        (problem,) = problems(b"\n" + json.dumps(line).encode(), recipe)
        assert problem.startswith(f"{URI}, line 2: ")
        assert ("a NUL character" if "\0" in user else "half a surrogate pair") in problem
    assert problems(json.dumps({"userId": "\U0001f600"}).encode()) == []


def warnings(data: bytes, recipe=USER, **kwargs) -> list[str]:
    check = InputCheck(recipe, **kwargs)
    check.check_lines(URI, [data])
    assert check.problems == []
    return [str(warning) for warning in check.warnings]


def filtered(user: str, genres: str, **more: str) -> bytes:
    return json.dumps({"userId": user, "filterValues": {"G": f'"{genres}"', **more}}).encode() + b"\n"


def test_an_entity_in_several_lines_with_other_filter_values_is_told_of_once():
    lines = filtered("a", "x") + filtered("b", "x") + filtered("a", "y") + filtered("b", "y")
    (warning,) = warnings(lines, placeholders={"G"})
    assert warning.startswith(f"{URI}, line 3: 'a' stands in {URI}, line 1, too")
    assert "filter_values_column" in warning
    assert warnings(filtered("a", "x") * 2 + filtered("b", "y"), placeholders={"G"}) == []
    assert warnings(b'{"userId": "a"}\n' * 2) == []
    lists = b'{"userId": "a", "itemList": ["1"]}\n{"userId": "a", "itemList": ["2"]}\n'
    assert "another itemList" in warnings(lists, RECIPES["aws-personalized-ranking"])[0]


def test_a_placeholder_of_an_exclude_clause_may_be_missing():
    lines = filtered("a", "x") + filtered("b", "x", H='"y"') + filtered("c", "x") * 3
    (warning,) = warnings(lines, placeholders={"G"}, optional_placeholders={"H"})
    assert "no values for $H of the filter's EXCLUDE" in warning
    assert warnings(filtered("a", "x", H='"y"'), placeholders={"G"}, optional_placeholders={"H"}) == []
    (warning,) = warnings(b'{"userId": "a"}\n' * 3, optional_placeholders={"H"})
    assert "$H" in warning


def test_lines_of_a_new_recipe():
    for line in (b'{"userId": "a"}', b'{"itemId": "a"}', b'{"basket": ["a"]}', b'{"userId": "a", "itemId": "b"}'):
        assert problems(line, None, new_recipe=True) == []
    assert "expected an id as text" in problems(b'{"userId": 7}', None, new_recipe=True)[0]
    assert "expected JSON" in problems(b'{"userId"', None, new_recipe=True)[0]


ON_INTERACTIONS = read_filter('INCLUDE UserID WHERE Interactions.EVENT_TYPE IN ("Purchase")')


def test_item_attribute_affinity_takes_no_filter_on_interactions():
    check = InputCheck(RECIPES["aws-item-attribute-affinity"])
    check.check_filter(BATCH_SEGMENT_JOB, ON_INTERACTIONS)
    assert "filter_arn: expected a filter that looks at Users only" in str(check.problems[0])
    for recipe in ("aws-item-affinity", None):
        check = InputCheck(RECIPES[recipe] if recipe else None)
        check.check_filter(BATCH_SEGMENT_JOB, ON_INTERACTIONS)
        assert (check.problems, check.warnings) == ([], [])


def test_a_filter_on_the_other_entity_is_a_warning():
    check = InputCheck(USER)
    check.check_filter(BATCH_INFERENCE_JOB, ON_INTERACTIONS)
    assert check.problems == []
    assert "takes filters on ItemID" in str(check.warnings[0])


@pytest.mark.parametrize(("results", "told"), [(500, 0), (501, 1), (100_000, 1)])
def test_many_results_are_a_warning(results, told):
    check = InputCheck(USER)
    check.check_request(BATCH_INFERENCE_JOB, {"numResults": results})
    assert (check.problems, len(check.warnings)) == ([], told)


def test_semantic_similarity_takes_items_and_makes_no_themes():
    recipe = RECIPES["aws-semantic-similarity"]
    assert problems(b'{"itemId": "a"}', recipe) == []
    check = InputCheck(recipe, themes=True)
    check.check_request(BATCH_INFERENCE_JOB, {})
    assert "got aws-semantic-similarity" in str(check.problems[0])


def test_themes_need_similar_items():
    check = InputCheck(RECIPES["aws-sims"], themes=True)
    check.check_request(BATCH_INFERENCE_JOB, {})
    assert "themes need aws-similar-items, got aws-sims" in str(check.problems[0])


def test_all_problems_are_reported_together_and_the_many_are_counted():
    check = InputCheck(USER, max_shown=3)
    check.raise_for_problems()
    check.check_request(BATCH_SEGMENT_JOB, {})
    check.check_lines(URI, [b"{}\n" * 1000])
    with pytest.raises(InvalidRequestError) as caught:
        check.raise_for_problems()
    text = str(caught.value)
    assert text.startswith("Found 1,001 problems")
    assert "nothing was submitted" in text
    assert "solution version: " in text
    assert f"{URI}, line 2: " in text
    assert "line 3" not in text
    assert text.endswith("… and 998 more")
    assert caught.value.count == 1001
