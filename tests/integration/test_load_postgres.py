"""What PostgreSQL's sink promises beyond any database's: readers go on, nothing of the table is lost, whatever dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, date, datetime
from pathlib import Path
from uuid import UUID

import pytest

from airflow_provider_personalize.exceptions import InvalidRequestError, TableMismatchError
from airflow_provider_personalize.s3 import download
from airflow_provider_personalize.targets.sql import postgres as postgres_sink
from tests.integration.load_support import COLUMNS, PostgresTarget, line, load, rows

MODES = ["replace", "replace_slice", "merge", "append"]
EXTRA = {"run_date": "2026-11-22"}


@pytest.fixture
def target(postgres, airflow_connection):
    return PostgresTarget(postgres, airflow_connection("target", postgres.uri))


class Gate:
    """Holds the reading of output back after the first block, until it is opened."""

    def __init__(self, monkeypatch) -> None:
        self.reached = threading.Event()
        self.open = threading.Event()
        blocks = download._file_blocks

        def held(item):
            for block in blocks(item):
                yield block
                self.reached.set()
                assert self.open.wait(60)

        monkeypatch.setattr(download, "_file_blocks", held)


@pytest.fixture
def gate(monkeypatch):
    return Gate(monkeypatch)


def in_thread(function, *args, **kwargs):
    """Run a function on a thread; joining gives its result or raises its error."""
    outcome = []

    def run():
        try:
            outcome.append((function(*args, **kwargs), None))
        except BaseException as error:  # noqa: BLE001 - raised by join()
            outcome.append((None, error))

    thread = threading.Thread(target=run)
    thread.start()

    def join():
        thread.join(60)
        result, error = outcome[0]
        if error:
            raise error
        return result

    return join


def until(target, sql: str, what: str) -> None:
    """Wait until a query of the server gives a row."""
    deadline = time.monotonic() + 60
    while not target.execute(sql):
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def until_it_writes(target) -> None:
    """Wait until the server has a COPY under way in this database."""
    copying = "SELECT pid FROM pg_stat_activity WHERE query LIKE 'COPY%' AND state = 'active'"
    until(target, f"{copying} AND datname = current_database()", "nothing is written")


def lines(count: int, item: str) -> list[str]:
    """Return more lines than one block takes."""
    return [line(f"u{n}", item, "x" * 100) for n in range(count)]


@pytest.mark.parametrize("mode", MODES)
def test_readers_see_all_of_before_until_all_of_after(target, output, gate, mode):
    old = output.write(*lines(100, "old"), name="old.out")
    gate.open.set()
    load(target, old, extra_columns=EXTRA)
    gate.open.clear()
    gate.reached.clear()
    new = output.write(*lines(20_000, "new"), name="new.out")
    join = in_thread(load, target, new, write_mode=mode, extra_columns=EXTRA)
    assert gate.reached.wait(60)
    counts = set()
    until_it_writes(target)
    for _ in range(20):
        counts.update(target.execute("SELECT item_id, count(*) FROM recs WHERE rank = 1 GROUP BY 1"))
    assert counts == {("old", 100)}
    gate.open.set()
    join()
    after = set(target.execute("SELECT item_id, count(*) FROM recs WHERE rank = 1 GROUP BY 1"))
    assert after == ({("old", 100), ("new", 20_000)} if mode == "append" else {("new", 20_000)})


@pytest.mark.parametrize("mode", MODES)
def test_all_that_belongs_to_the_table_survives(target, output, mode):
    target.execute(
        f"""
        CREATE TABLE recs ({COLUMNS}, run_date date, CHECK (rank > 0));
        CREATE INDEX recs_item ON recs (item_id);
        CREATE VIEW best AS SELECT * FROM recs WHERE rank = 1;
        COMMENT ON TABLE recs IS 'ours';
        COMMENT ON COLUMN recs.score IS 'theirs';
        CREATE ROLE reader_{mode};
        GRANT SELECT ON recs TO reader_{mode};
        ALTER TABLE recs SET (fillfactor = 70);
        """
    )
    facts = """
        SELECT c.oid, relacl::text, reloptions, obj_description(c.oid), col_description(c.oid, 4),
            (SELECT array_agg(indexrelid::regclass::text) FROM pg_index WHERE indrelid = c.oid),
            (SELECT array_agg(conname::text) FROM pg_constraint WHERE conrelid = c.oid AND contype = 'c')
        FROM pg_class c WHERE oid = 'recs'::regclass
    """
    before = target.execute(facts)
    load(target, output.write(line("u", "a", "b")), write_mode=mode, extra_columns=EXTRA)
    assert target.execute(facts) == before
    assert target.execute("SELECT item_id, run_date FROM best") == [("a", date(2026, 11, 22))]


@pytest.mark.parametrize("mode", MODES)
def test_columns_of_other_types_take_the_rows(target, output, mode):
    target.execute(
        "CREATE TABLE recs (user_id uuid, rank bigint, item_id integer, score numeric(6, 3), run_date date, "
        "at timestamptz, n smallint, flag boolean, tag varchar(3))"
    )
    user = "6f1b2a8e-9a52-4a2e-8a9e-0a1b2c3d4e5f"
    extra = {
        **EXTRA,
        "at": datetime(2026, 11, 22, tzinfo=UTC),
        "n": 7,
        "flag": True,
        "tag": "abc",
    }
    uri = output.write(line(user, "12", "5"))
    for _ in range(2):
        load(target, uri, write_mode=mode, extra_columns=extra)
    found = target.execute(
        "SELECT user_id::text, rank, item_id, score::text, run_date, at, n, flag, tag FROM recs ORDER BY 2"
    )
    same = (date(2026, 11, 22), datetime(2026, 11, 22, tzinfo=UTC), 7, True, "abc")
    assert found == [(str(UUID(user)), 1, 12, "1.000", *same), (str(UUID(user)), 2, 5, "0.500", *same)]


@pytest.mark.parametrize("mode", MODES)
def test_columns_of_near_types_take_what_fits(target, output, mode):
    target.execute("CREATE TABLE recs (user_id varchar(300), rank smallint, item_id char(3), score real)")
    load(target, output.write(line("u", "abc", "bcd", scores=[0.5])), write_mode=mode, **slice_of(mode, target))
    assert [row[:4] for row in target.read()] == [("u", 1, "abc", 0.5), ("u", 2, "bcd", None)]


def slice_of(mode, target):
    """Return the arguments that only ``replace_slice`` needs, and make the table have the column."""
    if mode != "replace_slice":
        return {}
    target.execute("ALTER TABLE recs ADD run_date date")
    return {"extra_columns": EXTRA}


@pytest.mark.parametrize(
    ("ddl", "message"),
    [
        ("user_id text, rank integer, item_id text, score timestamp", "cannot cast type double precision to timestamp"),
        ("user_id text, rank integer, item_id varchar(3), score float8", "value too long for type character varying"),
        ("user_id text, rank integer, item_id integer, score float8", "invalid input syntax for type integer"),
        ("user_id text, rank integer, item_id text, score float8, CHECK (rank < 2)", "violates check constraint"),
    ],
)
@pytest.mark.parametrize("mode", ["replace", "merge"])
def test_types_that_do_not_take_the_values_are_an_error(target, output, ddl, message, mode):
    target.execute(f"CREATE TABLE recs ({ddl})")
    with pytest.raises(TableMismatchError, match=message):
        load(target, output.write(line("u", "item", "item")), write_mode=mode)
    assert target.read() == []


def test_ids_that_a_number_would_change_are_an_error(target, output):
    target.execute("CREATE TABLE recs (user_id text, rank integer, item_id integer, score float8)")
    with pytest.raises(TableMismatchError, match=r"'007'"):
        load(target, output.write(line("u", "7", "007")))
    assert target.read() == []


def test_a_table_is_created_with_fitting_types(target, output):
    extra = {"s": "x", "i": 1, "f": 0.5, "b": True, "d": date(2026, 11, 22)}
    load(target, output.write(line("u", "a")), extra_columns=extra)
    types = target.execute(
        "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 'recs' "
        "ORDER BY ordinal_position"
    )
    assert types == [
        ("user_id", "text"),
        ("rank", "integer"),
        ("item_id", "text"),
        ("score", "double precision"),
        ("s", "text"),
        ("i", "bigint"),
        ("f", "double precision"),
        ("b", "boolean"),
        ("d", "date"),
    ]
    assert target.read() == [("u", 1, "a", 1.0, "x", 1, 0.5, True, date(2026, 11, 22))]


def test_a_schema_holds_table_ledger_and_rejects(target, output):
    target.execute('CREATE SCHEMA "my ""schema"""')
    load(target, output.write(line("u", "a")), schema='my "schema"', write_mode="append", rejects_table="rejected")
    found = target.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'my \"schema\"' ORDER BY 1")
    assert found == [("personalize_loads",), ("recs",), ("rejected",)]


def test_a_partitioned_table_takes_the_rows(target, output):
    target.execute(
        f"CREATE TABLE recs ({COLUMNS}, run_date date) PARTITION BY LIST (run_date);"
        "CREATE TABLE recs_22 PARTITION OF recs FOR VALUES IN ('2026-11-22')"
    )
    load(target, output.write(line("u", "a")), write_mode="replace_slice", extra_columns=EXTRA)
    assert target.execute("SELECT item_id FROM recs_22") == [("a",)]


def test_a_view_takes_the_rows(target, output):
    target.execute(f"CREATE TABLE base ({COLUMNS}); CREATE VIEW recs AS SELECT * FROM base")
    load(target, output.write(line("u", "a")))
    assert target.read("base") == rows("u", "a")


def test_a_latin_1_database_takes_what_it_can(postgres_server, airflow_connection, output):
    postgres_server._alone("CREATE DATABASE latin ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
    database = postgres_server.database("latin")
    try:
        target = PostgresTarget(database, airflow_connection("target", database.uri))
        load(target, output.write(line("Zoë", "é")))
        assert target.read() == rows("Zoë", "é")
        with pytest.raises(TableMismatchError, match=r"no equivalent"):
            load(target, output.write(line("日本", "é")))
        assert target.read() == rows("Zoë", "é")
    finally:
        postgres_server.drop("latin")


def test_a_name_that_would_be_cut_short_is_refused(target, output):
    with pytest.raises(InvalidRequestError, match=r"at most 63 bytes"):
        load(target, output.write(line("u", "a")), table="t" * 64)


def test_other_cursors_of_the_connection_do_not_matter(postgres, airflow_connection, output):
    target = PostgresTarget(postgres, airflow_connection("target", f"{postgres.uri}?cursor=dictcursor"))
    load(target, output.write(line("u", "a")), write_mode="append")
    load(target, output.write(line("u", "a")), write_mode="append", extra_columns={})
    assert target.read() == rows("u", "a")


def test_no_numpy_gives_the_same_table(target, output, monkeypatch):
    uri = output.write(*(line(f"é{n}", "a", "日本", scores=[None, 0.1]) for n in range(50)))
    load(target, uri, extra_columns=EXTRA)
    expected = target.read()
    encoder = postgres_sink.RowEncoder
    monkeypatch.setattr(postgres_sink, "RowEncoder", lambda *args: encoder(*args, fast=False))
    load(target, uri, extra_columns=EXTRA)
    assert target.read() == expected
    assert len(expected) == 100


def test_a_reader_in_a_long_transaction_holds_no_load_up(target, output):
    load(target, output.write(line("u", "a")))
    connection = target.database.connect()
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT * FROM recs")
            load(target, output.write(line("u", "b")))
            cursor.execute("SELECT item_id FROM recs")
            assert cursor.fetchall() == [("b",)]
    finally:
        connection.close()


KILLED = """
import sys, time
from airflow_provider_personalize.s3 import download
blocks = download._file_blocks
def held(item):
    for block in blocks(item):
        yield block
        print("reached", flush=True)
        time.sleep(60)
download._file_blocks = held
from load_support import PostgresTarget, load
target = PostgresTarget(None, "target")
load(target, sys.argv[1], write_mode=sys.argv[2], extra_columns={"run_date": "2026-11-22"})
"""


@pytest.mark.parametrize("mode", MODES)
def test_a_load_that_is_killed_leaves_nothing_and_its_retry_is_as_the_first(target, output, mode):
    old = output.write(*lines(100, "old"), name="old.out")
    load(target, old, extra_columns=EXTRA)
    before = target.read()
    new = output.write(*lines(20_000, "new"), name="new.out")
    path = [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path)}
    process = subprocess.Popen([sys.executable, "-c", KILLED, new, mode], stdout=subprocess.PIPE, env=environment)
    try:
        while b"reached" not in process.stdout.readline():
            assert process.poll() is None
        until_it_writes(target)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert target.read() == before
    load(target, new, write_mode=mode, extra_columns=EXTRA)
    count = len(target.read())
    assert count == (40_200 if mode == "append" else 40_000)
    leftovers = target.execute("SELECT relname FROM pg_class WHERE relname LIKE 'personalize_stage%'")
    assert leftovers == []


@pytest.mark.parametrize("mode", ["replace", "merge"])
def test_a_connection_that_is_cut_changes_nothing(target, output, gate, mode):
    gate.open.set()
    load(target, output.write(*lines(100, "old"), name="old.out"))
    before = target.read()
    gate.open.clear()
    gate.reached.clear()
    new = output.write(*lines(20_000, "new"), name="new.out")
    join = in_thread(load, target, new, write_mode=mode)
    assert gate.reached.wait(60)
    cut = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    until_it_writes(target)
    until(target, cut, "there is nobody to cut off")
    gate.open.set()
    with pytest.raises(Exception, match=r"terminat|closed|lost|invalid socket"):
        join()
    assert target.read() == before
    load(target, new, write_mode=mode)
    assert len(target.read()) == 40_000


def test_the_server_restarts_in_the_middle(postgres_server, target, output, gate):
    gate.open.set()
    load(target, output.write(*lines(100, "old"), name="old.out"))
    before = target.read()
    gate.open.clear()
    gate.reached.clear()
    new = output.write(*lines(20_000, "new"), name="new.out")
    join = in_thread(load, target, new)
    assert gate.reached.wait(60)
    until_it_writes(target)
    postgres_server.stop()
    postgres_server.start()
    gate.open.set()
    with pytest.raises(Exception, match=r"terminat|closed|lost|shutting down|invalid socket"):
        join()
    assert target.read() == before
    load(target, new)
    assert len(target.read()) == 40_000


def test_bytes_of_segments_come_through(target, output):
    expression = 'ITEMS.genres = "Comedy" AND ITEMS.title = "\\"\t"'
    segment = {"itemAttributes": expression, "output": {"recommendedUsers": ["é", "b\x01"]}}
    load(target, output.write(json.dumps(segment)))
    assert target.read() == [(expression, 1, "é"), (expression, 2, "b\x01")]


@pytest.mark.parametrize("kind", ["jsonb", "json", "varchar(40)"])
@pytest.mark.parametrize("write_mode", ["replace", "merge"])
def test_filter_values_go_into_a_column_of_json_too(target, output, kind, write_mode):
    target.execute(f"CREATE TABLE recs ({COLUMNS}, filters {kind})")
    written = json.loads(line("u", "a"))
    written["input"]["filterValues"] = {"LONGER": '"é"', "B": '"x"'}
    uri = output.write(json.dumps(written), line("v", "b"))
    load(target, uri, filter_values_column="filters", write_mode=write_mode)
    found = target.execute("SELECT user_id, filters::jsonb ->> 'LONGER', filters::jsonb ->> 'B' FROM recs ORDER BY 1")
    assert found == [("u", '"é"', '"x"'), ("v", None, None)]
