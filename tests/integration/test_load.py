"""Output files become rows of real databases: every write mode, every promise that all of them give."""

from __future__ import annotations

import json
import sqlite3
import threading

import pytest

from airflow_provider_personalize.exceptions import (
    InvalidRequestError,
    MissingOutputError,
    TableMismatchError,
    TooManyRejectsError,
)
from tests.integration.load_support import (
    COLUMNS,
    DuckDbTarget,
    SqliteTarget,
    line,
    load,
    rows,
)

NASTY = [
    "plain",
    " space ",
    "quote \" and ' quote",
    "back\\slash \\n \\u0041 \\N",
    "tab\tnewline\nreturn\r",
    "comma, semicolon; {} [] %s %% $1 \\.",
    "\x01\x1f\x7f\x85\u2028\u2029\ufeff",
    "Zoë 日本 \U0001f642\U0001f468\u200d\U0001f469",
    "x" * 256,
    "007",
    "null",
    "",
]
EXTRA = {"run_date": "2026-11-22"}
JOB_ARN = "arn:aws:personalize:us-east-1:123456789012:batch-inference-job/nightly"


def test_the_result_says_what_was_loaded(target, output):
    uri = output.write(line("u", "a", "b"), line("v"), "", line("w", "c"))
    size = len((output.folder / "users.json.out").read_bytes())
    result = load(target, uri)
    assert result.pop("seconds") > 0
    assert result == {"job_arn": None, "files": 1, "lines": 3, "rows": 3, "rejects": 0, "bytes": size}
    assert target.read() == rows("u", "a", "b") + rows("w", "c")


def test_any_id_arrives_unchanged(target, output):
    load(target, output.write(*(line(value, *NASTY) for value in NASTY)))
    assert target.read() == sorted((row for value in NASTY for row in rows(value, *NASTY)), key=repr)


def test_any_name_is_only_a_name(target, output, request):
    names = {"user_id": 'us"er %s', "rank": "select", "item_id": "item; DROP TABLE recs", "score": "sc'ore ? `"}
    if "mysql-connector" in request.node.name:
        with pytest.raises(InvalidRequestError, match="MySQL Connector"):
            load(target, output.write(line("u", "a")), column_names=names)
        names["user_id"] = names["user_id"].replace("%s", "%d %%")
    load(
        target, output.write(line("u", "a")), table='we"ird % ? table', column_names=names, extra_columns={'a"b%': "x"}
    )
    quoted = ", ".join('"' + name.replace('"', '""') + '"' for name in [*names.values(), 'a"b%'])
    sql = f'SELECT {quoted} FROM "we""ird % ? table"'
    assert target.execute(sql) == [("u", 1, "a", 1.0, "x")]


@pytest.mark.parametrize(
    ("lines", "columns", "expected"),
    [
        (
            [
                '{"input":{"itemId":"1"},"output":{"recommendedItems":["2"],"theme":"T","itemsThemeRelevanceScores":[0.5]}}'
            ],
            "item_id, rank, related_item_id, score, theme, theme_relevance",
            [("1", 1, "2", None, "T", 0.5)],
        ),
        (
            ['{"input":{"itemId":"1"},"output":{"recommendedItems":["2","3"],"scores":[0.25]}}'],
            "item_id, rank, related_item_id, score, theme, theme_relevance",
            [("1", 1, "2", 0.25, None, None), ("1", 2, "3", None, None, None)],
        ),
        (
            [
                '{"input":{"itemAttributes":"ITEMS.g = \\"C\\""},"output":{"usersList":["u","v"]},"error":null}',
                '{"itemAttributes":"ITEMS.g = \\"D\\"","output":{"recommendedUsers":["u"]}}',
            ],
            "segment, rank, user_id",
            [('ITEMS.g = "C"', 1, "u"), ('ITEMS.g = "C"', 2, "v"), ('ITEMS.g = "D"', 1, "u")],
        ),
    ],
    ids=["themes", "related items", "segments"],
)
def test_each_kind_of_rows_has_its_columns(target, output, lines, columns, expected):
    load(target, output.write(*lines))
    assert target.execute(f"SELECT {columns} FROM recs ORDER BY 1, 2") == expected


def test_scores_are_exact(target, output):
    scores = [0.1 + 0.2, 5e-324, 1.7976931348623157e308, -2.5, 0.0152238, 1 / 3]
    load(target, output.write(line("u", *"abcdef", scores=scores)))
    got = [row[3] for row in target.read()]
    assert [score.hex() for score in got] == [score.hex() for score in scores]


def test_replace_leaves_exactly_this_jobs_rows(target, output):
    load(target, output.write(line("old", "a"), line("u", "z")))
    load(target, output.write(line("u", "b")))
    load(target, output.write(line("u", "b")))
    assert target.read() == rows("u", "b")


def test_replace_by_nothing_leaves_nothing(target, output):
    load(target, output.write(line("u", "b")))
    result = load(target, output.write(""))
    assert target.read() == []
    assert (result["lines"], result["rows"]) == (0, 0)


def test_replace_slice_touches_only_the_slice(target, output):
    uri = output.write(line("u", "a"))
    for extra in (
        {"run_date": "2026-11-21", "n": 1},
        {"run_date": "2026-11-22", "n": 1},
        {"run_date": "2026-11-22", "n": 2},
    ):
        load(target, uri, write_mode="replace_slice", extra_columns=extra)
    load(
        target,
        output.write(line("v", "b")),
        write_mode="replace_slice",
        extra_columns={"run_date": "2026-11-22", "n": 1},
    )
    assert target.read() == [
        ("u", 1, "a", 1.0, "2026-11-21", 1),
        ("u", 1, "a", 1.0, "2026-11-22", 2),
        ("v", 1, "b", 1.0, "2026-11-22", 1),
    ]


def test_a_slice_can_be_null(target, output):
    target.execute(f"CREATE TABLE recs ({COLUMNS}, run_date text)")
    target.execute("INSERT INTO recs VALUES ('x', 1, 'y', 0, NULL), ('x', 1, 'y', 0, '1')")
    load(target, output.write(line("u", "a")), write_mode="replace_slice", extra_columns={"run_date": None})
    assert target.read() == [("u", 1, "a", 1.0, None), ("x", 1, "y", 0.0, "1")]


def test_merge_replaces_what_the_job_covers(target, output):
    load(
        target,
        output.write(line("u", "a", "b", "c"), line("v", "a"), line("gone", "a"), line(None, "p"), line("kept", "k")),
    )
    output.write(line("u", "d"), line("gone"), name="1.out")
    output.write(line("v", "e", "f"), line(None, "q"), line("new", "n"), name="2.out")
    (output.folder / "users.json.out").unlink()
    load(target, output.uri, write_mode="merge")
    assert target.read() == sorted(
        rows("u", "d") + rows("v", "e", "f") + rows(None, "q") + rows("new", "n") + rows("kept", "k"), key=repr
    )


def test_an_entity_of_several_files_has_the_rows_of_all(target, output):
    load(target, output.write(line("u", "old"), line("kept", "k")))
    (output.folder / "users.json.out").unlink()
    output.write(line("u", "a"), name="1.out")
    output.write(line("u", "b"), name="2.out")
    load(target, output.uri, write_mode="merge")
    assert target.read() == rows("kept", "k") + rows("u", "a") + rows("u", "b")


def test_merge_works_without_the_rank(target, output):
    load(target, output.write(line("u", "a"), line("v", "b")), column_names={"rank": None})
    load(target, output.write(line("u", "c"), line("v")), column_names={"rank": None}, write_mode="merge")
    assert target.read() == [("u", "c", 1.0)]


def test_append_happens_once(target, output):
    first = output.write(line("u", "a"), name="1.out")
    assert load(target, first, write_mode="append")["rows"] == 1
    again = load(target, first, write_mode="append")
    assert (again["lines"], again["rows"], again["rejects"]) == (1, 1, 0)
    second = output.write(line("u", "b"), name="2.out")
    load(target, second, write_mode="append")
    load(target, first, write_mode="append")
    assert target.read() == rows("u", "a") + rows("u", "b")


def test_append_keeps_what_was_there(target, output):
    target.execute(f"CREATE TABLE recs ({COLUMNS})")
    target.execute("INSERT INTO recs VALUES ('x', 1, 'y', 0)")
    load(target, output.write(line("u", "a")), write_mode="append", create_table=False)
    assert target.read() == [*rows("u", "a"), ("x", 1, "y", 0.0)]


def test_appended_output_that_changes_is_other_output(target, output):
    load(target, output.write(line("u", "a")), write_mode="append")
    load(target, output.write(line("u", "bb")), write_mode="append")
    assert target.read() == rows("u", "a") + rows("u", "bb")


def test_too_many_rejects_change_nothing_and_are_kept(target, output):
    load(target, output.write(line("u", "a")))
    uri = output.write(line("v", "b"), "nope", line("w", error="User error: no such user"), line("x", "c"))
    for _ in range(2):
        with pytest.raises(TooManyRejectsError, match=r"(?s)2 of 4 lines are unusable.*table rejected") as raised:
            load(target, uri, rejects_table="rejected", max_reject_rate=0.4)
        assert (raised.value.rejects, raised.value.lines) == (2, 4)
        assert target.read() == rows("u", "a")
        kept = target.execute("SELECT object, line, byte_offset, reason, text FROM rejected ORDER BY line")
        assert [row[:2] for row in kept] == [(uri, 2), (uri, 3)]
        assert kept[0][2:] == (
            len(line("v", "b")) + 1,
            "expected JSON, got Expecting value: line 1 column 1 (char 0)",
            "nope",
        )
        assert kept[1][3] == "the service reports an error: User error: no such user"


def test_a_few_rejects_are_kept_beside_the_load(target, output):
    uri = output.write(line("v", "b"), "nope")
    assert load(target, uri, rejects_table="rejected", max_reject_rate=0.5)["rejects"] == 1
    assert target.read() == rows("v", "b")
    assert [row[0] for row in target.execute("SELECT text FROM rejected")] == ["nope"]


def test_mended_output_takes_its_rejects_away(target, output):
    (output.folder / "users.json.out").write_text("nope")
    with pytest.raises(TooManyRejectsError):
        load(target, output.uri, rejects_table="rejected", column_names={})
    (output.folder / "users.json.out").write_text(line("u", "a"))
    load(target, output.uri, rejects_table="rejected")
    assert target.read() == rows("u", "a")


@pytest.mark.parametrize(
    ("ddl", "arguments", "message"),
    [
        ("user_id text, rank integer, item_id text", {}, "lacks score"),
        (f"{COLUMNS}, owner text NOT NULL", {}, "owner are NOT NULL without a default"),
        (COLUMNS, {"extra_columns": EXTRA}, "lacks run_date"),
        (COLUMNS, {"column_names": {"item_id": "item"}}, "lacks item"),
        (None, {"create_table": False}, "create_table=False"),
    ],
)
def test_a_table_that_does_not_fit_is_an_error(target, output, ddl, arguments, message):
    if ddl:
        target.execute(f"CREATE TABLE recs ({ddl})")
    with pytest.raises(TableMismatchError, match=message):
        load(target, output.write(line("u", "a")), **arguments)
    if ddl:
        assert target.read() == []


@pytest.mark.parametrize("target", ["sqlite", "mysql", "duckdb", "generic"], indirect=True)
def test_a_number_is_no_place_for_an_id(target, output):
    target.execute(f"CREATE TABLE recs ({COLUMNS.replace('item_id text', 'item_id integer')})")
    with pytest.raises(TableMismatchError, match=r"item_id is of type .*'007'"):
        load(target, output.write(line("u", "1")))


def test_a_table_with_more_columns_fits(target, output):
    target.execute(f"CREATE TABLE recs (note text, {COLUMNS}, owner text NOT NULL DEFAULT 'me')")
    load(target, output.write(line("u", "a")))
    assert target.read() == [(None, "u", 1, "a", 1.0, "me")]


def test_a_constraint_that_refuses_a_row_refuses_the_load(target, output):
    target.execute(
        f"CREATE TABLE recs ({COLUMNS.replace('user_id text', 'user_id varchar(99)')}, PRIMARY KEY (user_id, rank))"
    )
    load(target, output.write(line("u", "a")))
    with pytest.raises(TableMismatchError, match="refused"):
        load(target, output.write(line("u", "b"), line("u", "c")))
    assert target.read() == rows("u", "a")
    if not isinstance(target, DuckDbTarget):  # see DuckDbSink
        load(target, output.write(line("u", "b", "c")), write_mode="merge")
        assert target.read() == rows("u", "b", "c")


def test_giant_lines_are_loaded(target, output):
    users = [f"user {n}" for n in range(120_000)]
    segment = json.dumps({"input": {"itemId": "i"}, "output": {"usersList": users}, "error": None})
    broken = segment.replace('"error": null', '"error": "late"')
    result = load(target, output.write(segment, broken), max_reject_rate=0.5)
    assert (result["rows"], result["rejects"]) == (120_000, 1)
    assert target.execute("SELECT * FROM recs WHERE rank IN (1, 120000) ORDER BY rank") == [
        ("i", 1, "user 0"),
        ("i", 120_000, "user 119999"),
    ]
    assert target.execute("SELECT count(*), count(DISTINCT user_id), max(rank) FROM recs") == [
        (120_000, 120_000, 120_000)
    ]


@pytest.mark.parametrize("target", ["postgres", "sqlite"], indirect=True)
def test_two_loads_of_one_slice_end_as_one_of_them(target, output):
    one = output.write(*(line(f"u{n}", "one") for n in range(2_000)), name="1.out")
    two = output.write(*(line(f"u{n}", "two") for n in range(2_000)), name="2.out")
    load(target, one, write_mode="replace_slice", extra_columns=EXTRA)
    errors = []

    def run(uri, extra):
        try:
            load(target, uri, write_mode="replace_slice", extra_columns=extra)
        except Exception as error:  # noqa: BLE001 - the test looks at it
            errors.append(error)

    threads = [threading.Thread(target=run, args=(uri, EXTRA)) for uri in (one, two, one, two)]
    threads.append(threading.Thread(target=run, args=(one, {"run_date": "2026-11-23"})))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    found = target.execute("SELECT run_date, item_id, count(*) FROM recs GROUP BY 1, 2 ORDER BY 1, 2")
    assert found[0] in [("2026-11-22", "one", 2_000), ("2026-11-22", "two", 2_000)]
    assert found[1:] == [("2026-11-23", "one", 2_000)]


def test_all_out_files_of_a_folder_are_loaded_and_no_other(target, output):
    import gzip

    output.write(line("u", "a"), name="1.json.out")
    (output.folder / "sub").mkdir()
    (output.folder / "sub" / "2.json.out.gz").write_bytes(gzip.compress(line("v", "b").encode()))
    output.write("not output", name="_CHECK")
    output.write("not output", name="input.json")
    assert load(target, output.uri)["files"] == 2
    assert target.read() == rows("u", "a") + rows("v", "b")


def test_what_is_not_there_is_named(target, output):
    for uri in (output.uri, output.uri + "nope.out"):
        with pytest.raises(MissingOutputError, match=uri):
            load(target, uri)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "exactly one of job_arn and output_uri"),
        ({"output_uri": "s3://b/", "job_arn": JOB_ARN}, "exactly one of job_arn and output_uri"),
        ({"output_uri": "ftp://b/"}, "output_uri: expected"),
        ({"output_uri": "s3://b/", "write_mode": "upsert"}, "write_mode: expected one of"),
        ({"output_uri": "s3://b/", "write_mode": "replace_slice"}, "expected extra_columns"),
        ({"output_uri": "s3://b/", "max_reject_rate": 2}, "max_reject_rate: expected a share from 0.0 to 1.0"),
        ({"output_uri": "s3://b/", "column_names": {"user": "u"}}, "column_names: expected names among"),
        ({"job_arn": "arn:aws:personalize:us-east-1:1:campaign/x"}, "job_arn: expected the ARN of a"),
    ],
)
def test_what_cannot_be_right_is_refused(tmp_path, airflow_connection, arguments, message):
    path = tmp_path / "x.db"
    target = SqliteTarget(path, airflow_connection("target", json.dumps({"conn_type": "sqlite", "host": str(path)})))
    with pytest.raises(InvalidRequestError, match=message):
        load(target, **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"column_names": {"user_id": None}, "write_mode": "merge"}, "needs the column user_id"),
        ({"extra_columns": {"user_id": "x"}}, "each name once"),
        ({"column_names": {"user_id": ""}}, "Expected the name"),
    ],
)
def test_columns_that_make_no_sense_are_refused(target, output, arguments, message):
    with pytest.raises(InvalidRequestError, match=message):
        load(target, output.write(line("u", "a")), **arguments)


def test_a_connection_that_is_no_database_is_refused(airflow_connection, output):
    target = SqliteTarget(output.folder, airflow_connection("target", "aws://"))
    with pytest.raises(InvalidRequestError, match="sql_conn_id: expected the connection of a database"):
        load(target, output.write(line("u", "a")))


def test_sqlite_readers_go_on_during_a_load(tmp_path, airflow_connection, output):
    path = tmp_path / "x.db"
    target = SqliteTarget(path, airflow_connection("target", json.dumps({"conn_type": "sqlite", "host": str(path)})))
    load(target, output.write(line("u", "a")))
    reader = sqlite3.connect(path)
    reader.execute("PRAGMA journal_mode = WAL")
    reader.execute("BEGIN")
    assert reader.execute("SELECT item_id FROM recs").fetchall() == [("a",)]
    load(target, output.write(line("u", "b")))
    assert reader.execute("SELECT item_id FROM recs").fetchall() == [("a",)]
    reader.close()
    assert target.read() == rows("u", "b")


def filtered(user: str, filters: dict[str, str] | None, *items: str) -> str:
    written = json.loads(line(user, *items))
    if filters is not None:
        written["input"]["filterValues"] = filters
    return json.dumps(written)


FILTERS = {"GENRES": '"horror","comedy"', "Ä": '"\U0001f642 \\ \'"'}
#: The same with its keys in another order.
TURNED = dict(reversed(FILTERS.items()))


def test_filter_values_tell_the_rows_of_one_entity_apart(target, output):
    lines = [
        filtered("u", TURNED, "a", "b"),
        filtered("u", {"GENRES": '"drama"'}, "c"),
        filtered("u", None, "d"),
        filtered("v", {}, "e"),
        filtered("w", FILTERS),
    ]
    load(target, output.write(*lines), filter_values_column="for", extra_columns=EXTRA)
    text, drama = json.dumps(FILTERS, sort_keys=True), '{"GENRES": "\\"drama\\""}'
    expected = {
        ("u", 1, "a", text),
        ("u", 2, "b", text),
        ("u", 1, "c", drama),
        ("u", 1, "d", None),
        ("v", 1, "e", "{}"),
    }
    read = 'SELECT user_id, "rank", item_id, "for" FROM recs'
    assert set(target.execute(read)) == expected

    merged = output.write(filtered("u", FILTERS, "x"), filtered("w", FILTERS, "y"), name="merged.out")
    load(target, merged, filter_values_column="for", extra_columns=EXTRA, write_mode="merge")
    assert set(target.execute(read)) == {("u", 1, "x", text), ("v", 1, "e", "{}"), ("w", 1, "y", text)}


def test_without_the_column_filter_values_are_not_loaded(target, output):
    load(target, output.write(filtered("u", FILTERS, "a")))
    assert target.read() == rows("u", "a")


def test_the_column_of_filter_values_needs_a_name_of_its_own(target, output):
    with pytest.raises(InvalidRequestError, match=r"each name once.*filter_values_column"):
        load(target, output.write(filtered("u", FILTERS, "a")), filter_values_column="user_id")
