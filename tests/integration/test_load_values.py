"""Values that a column cannot hold as they are fail the load, in every database; moments stay apart."""

from __future__ import annotations

import json
from contextlib import nullcontext
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from uuid import UUID

import pytest

from airflow_provider_personalize.exceptions import InvalidRequestError, TableMismatchError
from airflow_provider_personalize.targets.sql import postgres as postgres_sink
from tests.integration.load_support import (
    COLUMNS,
    DuckDbTarget,
    MySqlTarget,
    PostgresTarget,
    SqliteTarget,
    line,
    load,
    rows,
)

MODES = ["replace", "replace_slice", "merge", "append"]
EAST = timezone(timedelta(hours=2))
USERS = 32_768


@pytest.fixture
def encodings(target, monkeypatch):
    """The ways in which rows are encoded, in turn: PostgreSQL's with numpy and without."""

    def each():
        yield "fast"
        if isinstance(target, PostgresTarget):
            encoder = postgres_sink.RowEncoder
            monkeypatch.setattr(postgres_sink, "RowEncoder", lambda *args, **kw: encoder(*args, **kw, fast=False))
            yield "plain"

    return each()


def table(target, **types):
    """Create a table with these types in the place of the usual ones, which holds a row."""
    usual = {"user_id": "varchar(99)", "rank": "integer", "item_id": "varchar(99)", "score": "double precision"}
    columns = ", ".join(f"{name} {kind}" for name, kind in (usual | types).items())
    options = " CHARACTER SET utf8mb4" if isinstance(target, MySqlTarget) else ""
    target.execute(f"CREATE TABLE recs ({columns}){options}")
    target.execute("INSERT INTO recs (user_id, rank, item_id, score) VALUES ('old', 1, 'old', 0)")
    return target.read()


def segment(count: int) -> str:
    return json.dumps({"input": {"itemId": "i"}, "output": {"usersList": [f"u{n}" for n in range(count)]}})


@pytest.mark.parametrize("mode", ["replace", "merge", "append"])
def test_ranks_beyond_smallint_are_an_error(target, output, mode):
    target.execute("CREATE TABLE recs (segment varchar(99), rank smallint, user_id varchar(99))")
    load(target, output.write(segment(USERS - 1)), write_mode=mode)
    assert target.execute("SELECT count(*), min(rank), max(rank) FROM recs") == [(USERS - 1, 1, USERS - 1)]
    if isinstance(target, SqliteTarget):
        return  # whose types are hints: its column holds any number
    with pytest.raises(TableMismatchError, match=r"(?i)32,?768|out of range"):
        load(target, output.write(segment(USERS)), write_mode=mode)
    assert target.execute("SELECT count(*), min(rank), max(rank) FROM recs") == [(USERS - 1, 1, USERS - 1)]


@pytest.mark.parametrize("mode", ["replace", "merge", "append"])
def test_scores_beyond_single_precision_are_an_error(target, output, mode, encodings):
    single = "real" if isinstance(target, PostgresTarget | SqliteTarget) else "float"
    before = table(target, score=single)
    if isinstance(target, SqliteTarget):
        return  # whose real is a double
    for encoding in encodings:
        for score in (1e300, 3.5e38, -1e39, 1e-50, 5e-324):
            with pytest.raises(TableMismatchError, match="score"):
                load(target, output.write(line("u", encoding, "b", "c", scores=[0.5, score])), write_mode=mode)
            assert target.read() == before
        load(target, output.write(line("u", encoding, "b", "c", scores=[0.1, 0.0])), write_mode=mode)
        assert [row[3] for row in target.read() if row[0] == "u"] == [pytest.approx(0.1, rel=1e-6), 0.0, None]
        target.execute("DELETE FROM recs WHERE user_id = 'u'")
        before = target.read()


@pytest.mark.parametrize("kind", ["date", "time", "timestamp", "year"])
def test_columns_of_times_take_no_numbers(target, output, kind):
    if isinstance(target, SqliteTarget) or (kind == "year" and not isinstance(target, MySqlTarget)):
        return  # whose types are hints; who has no such type
    target.execute(f"CREATE TABLE recs (user_id varchar(99), rank {kind}, item_id varchar(99), score double precision)")
    with pytest.raises(TableMismatchError, match=r"rank|integer"):
        load(target, output.write(line("u", "a")))
    assert target.execute("SELECT count(*) FROM recs") == [(0,)]


def test_a_slice_without_a_partition_is_an_error(target, output):
    if not isinstance(target, MySqlTarget | PostgresTarget):
        return  # who have no partitions
    target.execute(
        "CREATE TABLE recs (user_id varchar(99), rank int, item_id varchar(99), score double precision, run_date date) "
        + (
            "PARTITION BY LIST (run_date)"
            if isinstance(target, PostgresTarget)
            else "PARTITION BY LIST COLUMNS (run_date) (PARTITION p VALUES IN ('2026-11-21'))"
        )
    )
    slices = {"write_mode": "replace_slice", "extra_columns": {"run_date": "2026-11-22"}}
    with pytest.raises(TableMismatchError, match=r"(?i)partition"):
        load(target, output.write(line("u", "a")), **slices)


def test_relevances_have_the_same_limits(target, output, encodings):
    single = "real" if isinstance(target, PostgresTarget | SqliteTarget) else "float"
    target.execute(
        "CREATE TABLE recs (item_id varchar(9), rank smallint, related_item_id varchar(9), score double precision, "
        f"theme varchar(9), theme_relevance {single})"
    )
    output_of = {"recommendedItems": ["2"], "theme": "T", "itemsThemeRelevanceScores": [1e-60]}
    uri = output.write(json.dumps({"input": {"itemId": "1"}, "output": output_of}))
    if isinstance(target, SqliteTarget):
        load(target, uri)
        assert [row[5] for row in target.read()] == [1e-60]
        return
    for _ in encodings:
        with pytest.raises(TableMismatchError, match="theme_relevance"):
            load(target, uri)
        assert target.read() == []


@pytest.mark.parametrize("mode", ["replace", "merge"])
@pytest.mark.parametrize("kind", ["integer", "bigint", "smallint"])
def test_scores_are_not_rounded_to_whole_numbers(request, target, output, mode, kind):
    before = table(target, score=kind)
    uri = output.write(line("u", "a", "b", scores=[1.0, 0.7]))
    # Only who knows that it is SQLite knows that its integers may have decimals.
    if request.node.callspec.params["target"] == "sqlite":
        load(target, uri, write_mode=mode)
        assert [row[3] for row in target.read() if row[0] == "u"] == [1.0, 0.7]
        return
    with pytest.raises(TableMismatchError, match="score"):
        load(target, uri, write_mode=mode)
    assert target.read() == before


@pytest.mark.parametrize("mode", ["replace", "merge"])
def test_texts_are_not_cut(target, output, mode):
    before = table(target, item_id="varchar(3)")
    for item in ("abcd", "abc ", "日本語 ", "abc    "):
        if isinstance(target, SqliteTarget | DuckDbTarget):  # which keep more than the type says
            load(target, output.write(line("u", item)), write_mode=mode)
            assert [row[2] for row in target.read() if row[0] == "u"] == [item]
            continue
        with pytest.raises(TableMismatchError):
            load(target, output.write(line("u", item)), write_mode=mode)
        assert target.read() == before
    load(target, output.write(line("u", "ab ", "日本語")), write_mode=mode)
    assert [row[2] for row in target.read() if row[0] == "u"] == ["ab ", "日本語"]


@pytest.mark.parametrize("target", ["postgres", "mysql", "mysql-files"], indirect=True)
@pytest.mark.parametrize("mode", ["replace", "merge"])
def test_ids_that_char_would_change_are_an_error(target, output, mode):
    before = table(target, item_id="char(3)")
    items = ["a", "ab", "abc "] if isinstance(target, PostgresTarget) else ["ab ", "a  ", "abc "]
    for item in items:
        with pytest.raises(TableMismatchError, match="item_id"):
            load(target, output.write(line("u", "abc", item)), write_mode=mode)
        assert target.read() == before
    load(target, output.write(line("u", "abc")), write_mode=mode)
    assert [row[2] for row in target.read() if row[0] == "u"] == ["abc"]


@pytest.mark.parametrize("target", ["mysql", "mysql-files", "mysql-connector"], indirect=True)
@pytest.mark.parametrize("mode", ["replace", "merge"])
def test_characters_that_a_column_has_not_are_an_error(target, output, mode):
    before = table(target, item_id="varchar(9) CHARACTER SET latin1")
    with pytest.raises(TableMismatchError, match="refused"):
        load(target, output.write(line("u", "é", "日本")), write_mode=mode)
    assert target.read() == before


@pytest.mark.parametrize("target", ["mysql"], indirect=True)
def test_merging_one_long_list_into_another_is_not_quadratic(target, output):
    for _ in range(2):
        load(target, output.write(segment(60_000)), write_mode="merge")
    assert target.execute("SELECT count(*) FROM recs") == [(60_000,)]


@pytest.mark.parametrize("target", ["sqlite"], indirect=True)
def test_sqlites_string_is_a_number(target, output):
    table(target, item_id="STRING")
    with pytest.raises(TableMismatchError, match="STRING"):
        load(target, output.write(line("u", "007")))


@pytest.mark.parametrize("target", ["sqlite"], indirect=True)
def test_sqlite_writes_no_score_short(target, output):
    table(target, score="text")
    with pytest.raises(TableMismatchError, match="has more digits"):
        load(target, output.write(line("u", "a", scores=[0.1 + 0.2])))


@pytest.mark.parametrize("target", ["postgres"], indirect=True)
@pytest.mark.parametrize("mode", MODES)
def test_numbers_keep_their_digits_in_numeric(target, output, mode):
    table(target, rank="numeric", score="numeric", run="integer")
    scores = [0.1 + 0.2, 0.12345678901234566, 1e-20, 123456789.12345679]
    load(target, output.write(line("u", *"abcd", scores=scores)), write_mode=mode, extra_columns={"run": 1})
    found = target.execute("SELECT rank, score::text FROM recs WHERE user_id = 'u' ORDER BY rank")
    assert [(int(rank), float(score)) for rank, score in found] == list(enumerate(scores, 1))


@pytest.mark.parametrize("target", ["postgres"], indirect=True)
@pytest.mark.parametrize(
    ("types", "word"),
    [
        ({"rank": "boolean"}, "rank"),
        ({"rank": "bit(3)"}, "rank"),
        ({"rank": "numeric(1, 0)"}, "overflow"),
        ({"score": "numeric(2, 1)"}, "overflow"),
        ({"score": "whole"}, "score"),
        ({"rank": "little"}, "out of range"),
        ({"item_id": "name"}, "item_id"),
        ({"item_id": '"char"'}, "item_id"),
        ({"item_id": "short"}, "item_id|too long"),
    ],
)
@pytest.mark.parametrize("mode", ["replace", "merge"])
def test_no_type_of_postgres_changes_a_value(target, output, types, word, mode):
    target.execute("CREATE DOMAIN whole AS bigint; CREATE DOMAIN little AS smallint; CREATE DOMAIN short AS varchar(3)")
    target.execute(f"CREATE TABLE recs ({', '.join(f'{n} {types.get(n, k)}' for n, k in map(str.split, PLAIN))})")
    items = [f"{'x' * 70}{number}" for number in range(40_000 if "little" in types.values() else 12)]
    with pytest.raises(TableMismatchError, match=word):
        load(target, output.write(line("u", *items, scores=[12.5])), write_mode=mode)
    assert target.read() == []


PLAIN = ["user_id text", "rank integer", "item_id text", "score float8"]

MOMENTS = [
    ("datetimes", datetime(2026, 11, 22, 10, tzinfo=EAST), datetime(2026, 11, 22, 10, tzinfo=UTC)),
    ("fractions", datetime(2026, 11, 22, 10, 0, 0, 100_000), datetime(2026, 11, 22, 10, 0, 0, 200_000)),
    ("times", time(10, tzinfo=EAST), time(10, tzinfo=UTC)),
    ("decimals", Decimal("0.12345678901234567890"), Decimal("0.12345678901234567891")),
    ("durations", timedelta(hours=1), timedelta(hours=1, microseconds=1)),
    ("uuids", UUID(int=1), UUID(int=2)),
    ("dates", date(2026, 11, 22), date(2026, 11, 23)),
    ("integers", 2**53, 2**53 + 1),
    ("floats", 0.1, 0.1 + 2**-55),
    ("texts", "a", "A"),
    ("spaces", "a", "a "),
    ("truth", True, False),
]


def test_each_extra_value_has_its_own_slice(target, output):
    for what, one, other in MOMENTS:
        for value in (one, other, other, one):
            load(target, output.write(line("u", "a", "b")), write_mode="replace_slice", extra_columns={"moment": value})
            load(target, output.write(line("u", "c")), write_mode="replace_slice", extra_columns={"moment": value})
        found = target.read()
        assert [row[2] for row in found] == ["c", "c"], what
        assert len({repr(row[-1]) for row in found}) == 2, what
        target.execute("DROP TABLE recs")


@pytest.mark.parametrize("kind", ["timestamp", "datetime", "timestamp(6)", "varchar(40)"])
@pytest.mark.parametrize("write", [lambda value: value, datetime.isoformat], ids=["datetime", "text"])
def test_moments_stay_apart_in_columns_that_are_there(target, output, kind, write):
    if kind == "datetime" and not isinstance(target, MySqlTarget | SqliteTarget):
        return
    target.execute(f"CREATE TABLE recs ({COLUMNS}, moment {kind})")
    moments = [datetime(2026, 11, 22, 10, tzinfo=EAST), datetime(2026, 11, 22, 10, tzinfo=UTC)]
    for _ in range(2):
        for moment in moments:
            load(
                target,
                output.write(line("u", "a")),
                write_mode="replace_slice",
                extra_columns={"moment": write(moment)},
            )
    assert target.execute("SELECT count(*), count(DISTINCT moment) FROM recs") == [(2, 2)]


@pytest.mark.parametrize("target", ["postgres", "mysql", "mysql-files", "mysql-connector", "duckdb"], indirect=True)
@pytest.mark.parametrize("mode", MODES)
def test_an_extra_value_that_does_not_fit_is_an_error(target, output, mode):
    uri = output.write(line("u", "a"))
    for kind, value in [
        ("numeric(6, 2)", Decimal("0.125")),
        ("numeric(6, 2)", "0.125"),
        ("date", datetime(2026, 11, 22, 10)),
        ("date", "2026-11-22T10:00:00+00:00"),
        ("date", datetime(2026, 11, 22, tzinfo=EAST)),
        ("time", datetime(2026, 11, 22, 10)),
        ("time", time(10, tzinfo=EAST)),
        ("integer", 0.5),
        ("smallint", 40_000),
        ("timestamp", "2026-11-22T10:00:00.1234567"),
    ]:
        before = table(target, moment=kind)
        with pytest.raises(TableMismatchError):
            load(target, uri, write_mode=mode, extra_columns={"moment": value})
        assert target.read() == before
        target.execute("DROP TABLE recs")


@pytest.mark.parametrize("target", ["postgres", "mysql", "mysql-connector"], indirect=True)
def test_an_extra_value_is_neither_rounded_nor_cut(target, output):
    uri = output.write(line("u", "a"))
    for kind, value in [
        ("timestamp(0)", datetime(2026, 11, 22, 10, 0, 0, 500_000)),
        ("timestamp(3)", "2026-11-22T10:00:00.000001"),
        ("varchar(2)", "abc"),
        ("varchar(2)", "ab "),
        ("char(3)", "ab "),
    ]:
        before = table(target, moment=kind)
        with pytest.raises(TableMismatchError, match="moment of type"):
            load(target, uri, write_mode="replace_slice", extra_columns={"moment": value})
        assert target.read() == before
        target.execute("DROP TABLE recs")


@pytest.mark.parametrize("kind", ["date", "timestamp", "varchar(40)"])
def test_the_logical_date_as_airflow_writes_it_fits(target, output, kind):
    target.execute(f"CREATE TABLE recs ({COLUMNS}, moment {kind})")
    for _ in range(2):
        for day in (21, 22):
            extra = {"moment": f"2026-11-{day}T00:00:00+00:00"}
            load(target, output.write(line("u", "a")), write_mode="replace_slice", extra_columns=extra)
    assert target.execute("SELECT count(*), count(DISTINCT moment) FROM recs") == [(2, 2)]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), Decimal("NaN"), ["a"], {"a": 1}, b"a", object()])
def test_extra_values_that_have_no_one_form_are_refused(target, output, value):
    with pytest.raises(InvalidRequestError, match=r"extra_columns: expected .* for moment"):
        load(target, output.write(line("u", "a")), extra_columns={"moment": value})


@pytest.mark.parametrize("mode", ["replace", "append"])
def test_generated_columns_of_our_names_are_named(target, output, mode):
    ddl = "rank integer, item_id varchar(9), score double precision, user_id varchar(9) GENERATED ALWAYS AS ('x')"
    target.execute(f"CREATE TABLE recs ({ddl}{'' if isinstance(target, DuckDbTarget) else ' STORED'})")
    with pytest.raises(TableMismatchError, match=r"user_id.*(?i:generated)"):
        load(target, output.write(line("u", "a")), write_mode=mode)
    assert target.read() == []


def test_rows_that_a_trigger_drops_are_missed(target, output):
    if not isinstance(target, PostgresTarget | SqliteTarget):
        pytest.skip("no trigger drops a row there")
    table(target)
    if isinstance(target, PostgresTarget):
        target.execute(
            "CREATE FUNCTION drops() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            "IF new.item_id = 'b' THEN RETURN NULL; END IF; RETURN new; END $$;"
            "CREATE TRIGGER drops BEFORE INSERT ON recs FOR EACH ROW EXECUTE FUNCTION drops()"
        )
    else:
        target.execute(
            "CREATE TRIGGER drops BEFORE INSERT ON recs WHEN new.item_id = 'b' BEGIN SELECT RAISE(IGNORE); END"
        )
    before = target.read()
    for mode in ("replace", "merge", "append"):
        with pytest.raises(TableMismatchError, match="took 2 of 3 rows"):
            load(target, output.write(line("u", "a", "b", "c")), write_mode=mode)
        assert target.read() == before
        load(target, output.write(line("old", "a", "c")), write_mode=mode)
        before = target.read()
    assert before == sorted(rows("old", "a", "c") * 2, key=repr)


SETUPS = {
    "kept": (
        f"CREATE TABLE recs ({COLUMNS}, tag text)",
        "CREATE TRIGGER keeps BEFORE DELETE ON recs WHEN old.tag = 't' BEGIN SELECT RAISE(IGNORE); END",
        "1 rows are still there after a DELETE",
    ),
    "replaced": (
        f"CREATE TABLE recs ({COLUMNS}, tag text, UNIQUE (user_id, tag) ON CONFLICT REPLACE)",
        None,
        "took [01] of 2 rows",
    ),
    "not shown": (
        "CREATE TABLE base (user_id varchar(99), `rank` int, item_id varchar(99), score double, tag varchar(9))",
        "CREATE VIEW recs AS SELECT * FROM base WHERE `rank` = 1",
        "took 1 of 2 rows",
    ),
}


@pytest.mark.parametrize("mode", ["replace", "replace_slice", "merge", "append"])
@pytest.mark.parametrize(
    ("target", "case"),
    [("sqlite", "kept"), ("sqlite", "replaced"), ("mysql", "not shown"), ("mysql local_infile", "not shown")],
    indirect=["target"],
)
def test_a_table_that_keeps_or_hides_rows_is_told(target, output, mode, case):
    *statements, message = SETUPS[case]
    for statement in filter(None, statements):
        target.execute(statement)
    target.execute("INSERT INTO recs VALUES ('u', 1, 'old', 1, 't'), ('v', 1, 'b', 1, 'other')")
    before = target.read()
    extra = {"extra_columns": {"tag": "t"}}
    if (mode, case) == ("append", "kept"):
        message = None
    with pytest.raises(TableMismatchError, match=message) if message else nullcontext():
        load(target, output.write(line("u", "a", "b")), write_mode=mode, **extra)
    if message:
        assert target.read() == before
    if case == "not shown":
        for _ in range(2):
            load(target, output.write(line("u", "c")), write_mode=mode, **extra)
        old = {"append": {"old", "b"}, "replace": set()}.get(mode, {"b"})
        assert {row[2] for row in target.read()} == {"c"} | old


def test_a_name_with_the_schema_in_it_is_no_name(target, output):
    if isinstance(target, SqliteTarget):
        schema = "main"
        target.execute(f"CREATE TABLE recs ({COLUMNS})")
    else:
        schema = "s1" if not isinstance(target, MySqlTarget) else target.name
        if schema == "s1":
            target.execute("CREATE SCHEMA s1")
        target.execute(f"CREATE TABLE {schema}.recs ({COLUMNS})")
    for create in (True, False):
        with pytest.raises(TableMismatchError, match=rf"schema='{schema}' and table='recs'"):
            load(target, output.write(line("u", "a")), table=f"{schema}.recs", create_table=create)
    assert target.execute(f"SELECT * FROM {schema}.recs") == []
    load(target, output.write(line("u", "a")), table="v1.recs")
    assert target.read('"v1.recs"') == rows("u", "a")
