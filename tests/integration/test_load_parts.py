"""PostgreSQL in parallel: tasks stage the parts of a slice, and one task attaches it as a partition, or none does."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import re
import signal
import textwrap
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from airflow_provider_personalize.exceptions import InvalidRequestError, TableMismatchError, TooManyRejectsError
from airflow_provider_personalize.targets.sql import pgparts, pgstream
from airflow_provider_personalize.transfers.personalize_to_sql import PersonalizeToSqlOperator
from tests.integration.load_support import COLUMNS, line, load
from tests.integration.test_example_dags import run_dag

POSTGRES = pytest.mark.parametrize("target", ["postgres"], indirect=True)
TODAY = {"run_date": "2026-11-22"}
SLICE = {"write_mode": "replace_slice", "extra_columns": TODAY}
KEY = "PRIMARY KEY (run_date, user_id, rank)"
TABLE = f"CREATE TABLE recs ({COLUMNS}, run_date date, {KEY}) PARTITION BY LIST (run_date)"


def write(output, users=60, objects=5, bad=2):
    """Write objects of different sizes, with some lines that are none."""
    draw = random.Random(1)
    for number in range(objects):
        lines = [line(f"u'{number}-{user}", *draw.sample("abcdefgh", 3)) for user in range(users * (number + 1) // 3)]
        lines[3:3] = ["not JSON"] * bad
        output.write(*lines, name=f"{number}.json.out")
    return output.uri


def stage(target, uri, part, parts=2, **kwargs):
    return load(target, uri, part=part, parts=parts, **(SLICE | {"max_reject_rate": 0.5} | kwargs))


def publish(target, loads, **kwargs):
    return load(target, loads=loads, **(SLICE | {"max_reject_rate": 0.5} | kwargs))


def rejects(target):
    found = target.execute("SELECT source, object, line, byte_offset, reason, text FROM rejected")
    return sorted(row[1:] for row in found), {row[0].partition("#")[0] for row in found}


def staged(target):
    return target.execute(
        "SELECT relname FROM pg_class WHERE relname LIKE 'recs\\_%' AND relkind = 'r' AND NOT relispartition"
    )


@POSTGRES
@pytest.mark.parametrize("table", [None, TABLE], ids=["made", "with a key"])
def test_the_sum_of_the_parts_is_one_load(target, output, table):
    uri = write(output)
    if table:
        target.execute(table)
        target.execute("CREATE TABLE whole (LIKE recs)")
        target.execute("CREATE TABLE earlier PARTITION OF recs FOR VALUES IN ('2026-11-21')")
        target.execute("INSERT INTO earlier VALUES ('old', 1, 'a', 1, '2026-11-21')")
    kept = {"rejects_table": "rejected"}
    parts = [stage(target, uri, part, 3, **kept) for part in range(3)]
    if table is None:
        assert target.execute("SELECT to_regclass('recs')") == [(None,)], "nobody sees a part"
    else:
        assert target.execute("SELECT count(*) FROM recs") == [(1,)]
    done = publish(target, list(reversed(parts)), **kept)

    whole = load(target, uri, table="whole", rejects_table="rejected_whole", **SLICE, max_reject_rate=0.5)
    assert {name: done[name] for name in ("files", "lines", "rows", "rejects", "bytes", "job_arn")} == {
        name: whole[name] for name in ("files", "lines", "rows", "rejects", "bytes", "job_arn")
    }
    wanted = target.read("whole") + ([("old", 1, "a", 1.0, target.read("earlier")[0][4])] if table else [])
    assert target.read() == sorted(wanted, key=repr)
    one = sorted(target.execute("SELECT object, line, byte_offset, reason, text FROM rejected_whole"))
    assert rejects(target)[0] == one
    assert len(one) == 10
    assert staged(target) == []
    columns = [
        column
        for (column,) in target.execute(
            "SELECT attname::text FROM pg_attribute WHERE NOT attisdropped AND attnum > 0 AND attrelid = ("
            "SELECT inhrelid FROM pg_inherits WHERE inhparent = 'recs'::regclass "
            "AND inhrelid <> coalesce(to_regclass('earlier'), 0)) ORDER BY attnum"
        )
    ]
    assert columns == ["user_id", "rank", "item_id", "score", "run_date"]

    # Whatever runs again finds it published.
    assert publish(target, parts, **kept)["rows"] == done["rows"]
    assert stage(target, uri, 0, 3, **kept)["rows"] == parts[0]["rows"]
    assert target.read() == sorted(wanted, key=repr)
    assert staged(target) == []


@POSTGRES
def test_a_part_that_is_staged_again_replaces_what_it_has_staged(target, output):
    uri = write(output)
    kept = {"rejects_table": "rejected"}
    parts = [stage(target, uri, part, **kept) for part in (0, 1, 1)]
    done = publish(target, [parts[0], parts[2]], **kept)
    assert target.execute("SELECT count(*) FROM recs") == [(done["rows"],)]
    assert len(rejects(target)[0]) == done["rejects"] == 10
    # What the parts did not send with each row is no default of the table's afterwards.
    assert target.execute("SELECT DISTINCT run_date::text FROM recs") == [("2026-11-22",)]
    assert target.execute("SELECT count(*) FROM pg_attrdef") == [(0,)]


@POSTGRES
@pytest.mark.parametrize(("before", "parts"), [(3, 2), (2, 3)])
def test_parts_are_staged_again_as_another_number_of_parts(target, output, before, parts):
    uri = write(output, bad=0)
    for part in range(before):
        stage(target, uri, part, before)
    done = publish(target, [stage(target, uri, part, parts) for part in range(parts)])
    assert target.execute("SELECT count(*), count(DISTINCT (user_id, rank)) FROM recs") == [(done["rows"],) * 2]
    assert target.execute("SELECT count(*) FROM personalize_loads") == [(1,)]


@POSTGRES
def test_a_part_that_has_rows_no_more_leaves_none(target, output):
    output.write(*(line(f"u{number}", "a") for number in range(9)), name="a.out")
    output.write(line("v", "a"), name="b.out")
    output.write("bad" * 99, name="c.out")
    first = [stage(target, output.uri, part, 2) for part in (0, 1)]
    assert [part["rows"] for part in first] == [9, 1]
    parts = [stage(target, output.uri, part, 3) for part in range(3)]
    assert sorted(part["rows"] for part in parts) == [0, 1, 9]
    assert publish(target, parts)["rows"] == 10
    assert target.execute("SELECT count(*) FROM recs") == [(10,)]


@POSTGRES
@pytest.mark.parametrize("day", ["2026-11-22", None])
@pytest.mark.parametrize("rank", ["integer", "numeric"], ids=["straight", "aside"])
def test_a_try_that_comes_after_the_publication_adds_nothing(target, output, monkeypatch, rank, day):
    target.execute(
        f"CREATE TABLE recs (user_id text, rank {rank}, item_id text, score double precision, run_date date) "
        "PARTITION BY LIST (run_date)"
    )
    uri = write(output, bad=0)
    day = {"extra_columns": {"run_date": day}}
    prepare = pgparts._Part.prepare
    done = []

    def late(part, columns):
        if not done:
            done.append(None)
            done[:] = [publish(target, [stage(target, uri, part, **day) for part in (0, 1)], **day)]
        prepare(part, columns)

    monkeypatch.setattr(pgparts._Part, "prepare", late)
    again = stage(target, uri, 0, **day)
    assert 0 < again["rows"] < done[0]["rows"]
    assert target.execute("SELECT count(*) FROM recs") == [(done[0]["rows"],)]
    assert target.execute("SELECT count(*) FROM personalize_loads") == [(1,)]


@POSTGRES
def test_rejects_are_judged_over_all_parts(target, output):
    output.write(*["bad"] * 3, line("u", "a"), name="a.out")
    output.write(*(line(f"v{number}", "a") for number in range(60)), name="b.out")
    parts = [stage(target, output.uri, part, max_reject_rate=0.05, rejects_table="rejected") for part in (0, 1)]
    with pytest.raises(TooManyRejectsError, match="3 of 64 lines"):
        publish(target, parts, max_reject_rate=0.01, rejects_table="rejected")
    assert target.execute("SELECT to_regclass('recs')") == [(None,)]
    assert staged(target) == []
    assert len(rejects(target)[0]) == 3
    parts = [stage(target, output.uri, part, rejects_table="rejected") for part in (0, 1)]
    assert publish(target, parts, max_reject_rate=0.05)["rows"] == 61


@POSTGRES
def test_parts_without_a_good_line_or_without_an_object(target, output):
    related = {"input": {"itemId": "1"}, "output": {"recommendedItems": ["2"]}, "error": None}
    output.write(json.dumps(related), name="a.out")
    output.write("bad", name="b.out")
    parts = [stage(target, output.uri, part, 3) for part in range(3)]
    assert [part["kind"] for part in parts] == ["related items", None, None]
    assert publish(target, parts)["rows"] == 1
    assert target.execute("SELECT item_id, related_item_id FROM recs") == [("1", "2")]


@POSTGRES
class TestWhatIsFoundAtPublishing:
    @pytest.fixture
    def parts(self, target, output):
        return [stage(target, write(output), part) for part in (0, 1)]

    def refused(self, target, loads, match, **kwargs):
        with pytest.raises(InvalidRequestError, match=match):
            publish(target, loads, **kwargs)
        assert target.execute("SELECT to_regclass('recs')") == [(None,)]

    def test_a_part_is_missing(self, target, parts):
        self.refused(target, parts[1:], "expected all 2 parts of .* got none for part 0")
        self.refused(target, [parts[0], *parts], "got part 0 more than once")
        self.refused(target, [], "got nothing")
        self.refused(target, [{"rows": 1}], "expected what PersonalizeToSqlOperator's tasks have returned")

    def test_a_part_is_of_another_load(self, target, parts, output):
        other = stage(target, output.write(line("u", "a"), name="x.out"), 1)
        self.refused(target, [parts[0], other], "expected the same output in all parts")
        elsewhere = stage(target, output.uri, 1, extra_columns={"run_date": "2026-11-20"})
        self.refused(
            target, [parts[0], elsewhere | {"source": parts[0]["source"]}], "the same table and slice in all parts"
        )
        self.refused(target, parts, "another one. Give this task", extra_columns={"run_date": "2026-11-20"})

    def test_parts_disagree(self, target, parts):
        self.refused(target, [parts[0], parts[1] | {"kind": "user segments"}], "the same kind of rows in all parts")
        self.refused(target, [parts[0], parts[1] | {"columns": ["a"]}], "the same columns in all parts")
        self.refused(target, parts, "expected the columns of the parts", column_names={"item_id": "movie"})

    def test_something_else_was_staged(self, target, parts):
        self.refused(target, [parts[0], parts[1] | {"rows": 7}], "expected 7 rows staged by part 1")


@POSTGRES
@pytest.mark.parametrize(
    ("setup", "match"),
    [
        (f"CREATE TABLE recs ({COLUMNS}, run_date date)", "and it is not partitioned. .* PARTITION BY LIST"),
        (f"CREATE TABLE recs ({COLUMNS}, run_date date) PARTITION BY RANGE (run_date)", "partitioned by RANGE"),
        (f"CREATE TABLE recs ({COLUMNS}, run_date date) PARTITION BY LIST (rank)", "partitioned by LIST over rank"),
        (
            f"{TABLE}; CREATE TABLE old PARTITION OF recs FOR VALUES IN ('2026-11-20', '2026-11-22')",
            "its partition old",
        ),
        (
            f"{TABLE}; CREATE TABLE o PARTITION OF recs DEFAULT; INSERT INTO o VALUES ('u', 1, 'a', 1, '2026-11-22')",
            "default partition has rows where run_date = 2026-11-22",
        ),
    ],
)
def test_a_table_that_cannot_take_parts_says_what_it_would_take(target, output, setup, match):
    target.execute(setup)
    with pytest.raises(TableMismatchError, match=match):
        stage(target, write(output), 0)
    assert staged(target) == []


@pytest.mark.parametrize("target", ["sqlite"], indirect=True)
def test_another_database_says_so(target, output):
    with pytest.raises(InvalidRequestError, match="parts: expected a table of PostgreSQL"):
        stage(target, write(output), 0)


def test_what_cannot_be_right_is_said_when_the_dag_is_parsed():
    common = {"task_id": "load", "sql_conn_id": "db", "table": "recs", "output_uri": "file:///x/"}
    with pytest.raises(InvalidRequestError, match="parts: expected write_mode='replace_slice'"):
        PersonalizeToSqlOperator(**common, parts=2)
    with pytest.raises(InvalidRequestError, match="part: expected a number from 0 to parts - 1"):
        PersonalizeToSqlOperator(**common, **SLICE, part=2, parts=2)
    with pytest.raises(InvalidRequestError, match="expected it without job_arn and output_uri"):
        PersonalizeToSqlOperator(**common, **SLICE, loads=[{}])


def killed(where, target, uri, **arguments):
    """Run the loader in a process of its own that kills itself at some point."""

    def die(*_, **__):
        os.kill(os.getpid(), signal.SIGKILL)

    def messages(chunks):
        for number, message in enumerate(send(chunks)):
            yield message
            if number == 2:
                die()

    send = pgstream._messages
    place, name, instead = {
        "copy": (pgstream, "_messages", messages),
        "note": (pgparts.LoadRecords, "note", die),
        "attach": (pgparts.PostgresParts, "_forget_notes", die),
    }[where]

    def run():
        setattr(place, name, instead)
        load(target, uri, **(SLICE | {"max_reject_rate": 0.5} | arguments))

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL


@POSTGRES
def test_the_kill_matrix(target, output):
    """Wherever a task is killed, readers see nothing of the slice, and the retries give one load."""
    target.execute(TABLE)
    target.execute("CREATE TABLE whole (LIKE recs)")
    uri = write(output, users=600, bad=0)

    def seen():
        return target.execute("SELECT count(*) FROM recs")[0][0]

    killed("copy", target, uri, part=0, parts=2)
    parts = [stage(target, uri, 1)]
    killed("note", target, uri, part=0, parts=2)
    assert seen() == 0
    parts.append(stage(target, uri, 0))
    killed("attach", target, None, loads=parts)
    assert seen() == 0

    over, counts = threading.Event(), set()

    def read():
        while not over.wait(0.01):
            counts.add(seen())

    reader = threading.Thread(target=read)
    reader.start()
    try:
        done = publish(target, parts)
    finally:
        over.set()
        reader.join()
    whole = load(target, uri, table="whole", **SLICE)
    assert counts <= {0, whole["rows"]}
    assert seen() == whole["rows"] == done["rows"]
    assert target.read() == target.read("whole")


@POSTGRES
def test_parts_at_the_same_time(target, output):
    uri = write(output, users=300)
    parts = {}
    threads = [
        threading.Thread(target=lambda part=part: parts.update({part: stage(target, uri, part, 3)}))
        for part in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    done = publish(target, list(parts.values()))
    assert target.execute("SELECT count(*), count(DISTINCT (user_id, rank)) FROM recs") == [(done["rows"],) * 2]


@POSTGRES
def test_the_dag_of_the_reference_runs(target, output, airflow_db, airflow_connection, tmp_path, monkeypatch):
    page = (Path(__file__).parents[2] / "docs" / "reference" / "output.md").read_text(encoding="utf-8")
    [code] = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    airflow_connection("warehouse", target.database.uri)
    head = """
from datetime import UTC, datetime
from airflow_provider_personalize.transfers.personalize_to_sql import PersonalizeToSqlOperator
try:
    from airflow.sdk import DAG
except ImportError:
    from airflow import DAG
with DAG("parts", schedule="@daily", start_date=datetime(2026, 1, 1, tzinfo=UTC), catchup=False):
"""
    code = code.replace("job_arn=recommend.output", f"output_uri={write(output, bad=0)!r}")
    path = tmp_path / "page.py"
    path.write_text(head + textwrap.indent(code, "    "), encoding="utf-8")
    monkeypatch.setattr("airflow.settings.DAGS_FOLDER", str(tmp_path))
    assert run_dag(path, datetime(2026, 3, 1, 2, tzinfo=UTC)).state == "success"
    [(rows, first)] = target.execute("SELECT count(*), min(run_date) FROM recommendations")
    assert (rows, str(first)) == (900, "2026-03-01")
