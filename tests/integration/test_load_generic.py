"""Sinks on connections of other settings than usual, and the generic one on a database whose DDL is transactional."""

from __future__ import annotations

import json
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_personalize.exceptions import TableMismatchError, TooManyRejectsError
from airflow_provider_personalize.sql import opening
from airflow_provider_personalize.sql.query import database_hook
from tests.integration.load_support import COLUMNS, MySqlTarget, PostgresTarget, line, load, rows

if TYPE_CHECKING:
    from example_dags.demo.postgres import Database

EXTRAS: list[dict[str, Any]] = [{}, {"cursor": "dictcursor"}, {"autocommit": True}]
NASTY = ["a\\b", "tab\there", "line\nbreak", "\\N", "quote ' \"", "\\", "\\'", "\x1a\r"]


@pytest.fixture(params=EXTRAS, ids=lambda extra: next(iter(extra), "plain"))
def generic(request, postgres: Database, airflow_connection, monkeypatch) -> PostgresTarget:
    """PostgreSQL as any database that has no sink of its own: others do not see a table before it is committed."""
    # The hook's URL for SQLAlchemy, through which this sink looks at tables, asks for psycopg 3 where it is installed.
    psycopg = pytest.importorskip("psycopg", reason="needs psycopg 3")
    monkeypatch.setattr(opening, "database_of", lambda connection: "other")
    separator = "&" if "?" in postgres.uri else "?"
    extra = "".join(f"{separator}{name}={value}" for name, value in request.param.items())
    if "autocommit" in request.param:
        monkeypatch.setattr(
            "airflow.providers.postgres.hooks.postgres.PostgresHook.get_conn",
            lambda self: psycopg.connect(postgres.uri.partition("?")[0], autocommit=True),
        )
        extra = ""
    return PostgresTarget(postgres, airflow_connection("target", f"{postgres.uri}{extra}"))


@pytest.mark.parametrize("write_mode", ["replace", "append", "merge", "replace_slice"])
def test_the_first_load_creates_its_table_and_the_next_ones_find_it(write_mode, generic, output):
    if write_mode == "replace_slice":
        extra = {"extra_columns": {"run_date": "2026-11-22"}}
        tail = ("2026-11-22",)
    else:
        extra, tail = {}, ()
    uri = output.write(line("u1", "a", "b"))
    for _ in range(2):
        load(generic, uri, write_mode=write_mode, **extra)
        assert generic.read() == [(*row, *tail) for row in rows("u1", "a", "b")]
    uri = output.write(line("u2", "c"), name="other.json.out")
    load(generic, uri, write_mode=write_mode, **extra)
    kept = rows("u1", "a", "b") if write_mode in {"append", "merge"} else []
    assert generic.read() == [(*row, *tail) for row in [*kept, *rows("u2", "c")]]


def test_a_load_is_one_transaction_of_the_generic_sink(generic, output):
    generic.execute(f"CREATE TABLE recs ({COLUMNS}, CHECK (item_id <> 'bad'))")
    load(generic, output.write(line("u1", "a")))
    with pytest.raises(TableMismatchError):
        load(generic, output.write(line("u2", "b", "bad")))
    assert generic.read() == rows("u1", "a")
    with pytest.raises(TooManyRejectsError):
        load(generic, output.write(line("u2", "b"), "no JSON"), rejects_table="rejects")
    assert generic.read() == rows("u1", "a")
    assert generic.execute("SELECT text FROM rejects") == [("no JSON",)]


def test_an_existing_table_is_still_looked_at_by_the_generic_sink(generic, output):
    generic.execute("CREATE TABLE recs (user_id bigint, rank int, item_id text, score float)")
    with pytest.raises(TableMismatchError, match="would change ids"):
        load(generic, output.write(line("u1", "a")))


@pytest.fixture(params=["mysqlclient", "mysql-connector-python"])
def mysql(request, mariadb_port, airflow_connection) -> MySqlTarget:
    """MariaDB whose strings know no backslash, through a connection that commits each statement by itself."""
    MySqlTarget(mariadb_port, "mysql", "").execute("CREATE OR REPLACE DATABASE modes CHARACTER SET utf8mb4")
    connection = {"conn_type": "mysql", "host": "127.0.0.1", "port": mariadb_port, "login": "root", "schema": "modes"}
    extra = {"client": request.param, "allow_local_infile": True}
    target = MySqlTarget(mariadb_port, "modes", airflow_connection("target", json.dumps(connection | {"extra": extra})))
    target.client = request.param  # type: ignore[attr-defined]
    return target


@pytest.fixture
def no_backslashes(mariadb_port):
    target = MySqlTarget(mariadb_port, "mysql", "")
    [(before,)] = target.execute("SELECT @@global.sql_mode")
    target.execute(f"SET GLOBAL sql_mode = '{before},NO_BACKSLASH_ESCAPES'")
    yield
    target.execute(f"SET GLOBAL sql_mode = '{before}'")


@pytest.mark.parametrize("local_infile", [True, False])
def test_ids_arrive_as_they_are_whatever_the_mode_of_mysql(local_infile, mysql, no_backslashes, output):
    mysql.hook_params = {"local_infile": local_infile}
    extra = {"extra_columns": {"note": "b\\s"}}
    uri = output.write(*(line(user, user) for user in NASTY))
    for write_mode in ("replace", "merge", "replace_slice", "append"):
        mysql.execute("DROP TABLE IF EXISTS recs")
        for _ in range(2):
            load(mysql, uri, write_mode=write_mode, **extra)
            found = mysql.execute("SELECT user_id, item_id, note FROM recs")
            assert sorted(found) == sorted((user, user, "b\\s") for user in NASTY), write_mode


def test_load_data_leaves_nothing_in_the_temporary_folder(mysql, output, tmp_path, monkeypatch):
    """While the server waits for a lock, a kill would leave what is there then."""
    mysql.hook_params = {"local_infile": True}
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    mysql.execute(f"CREATE TABLE recs ({COLUMNS}) ENGINE=InnoDB CHARACTER SET utf8mb4")
    uri = output.write(line("u1", "a"))
    import MySQLdb

    waiting = (
        "SELECT count(*) FROM information_schema.processlist "
        "WHERE info RLIKE '^(LOAD DATA|INSERT INTO .recs)' AND db = %s"
    )
    with (
        closing(MySQLdb.connect(host="127.0.0.1", port=mysql.port, user="root", db=mysql.name)) as other,
        ThreadPoolExecutor(1) as pool,
    ):
        other.cursor().execute("SELECT * FROM recs FOR UPDATE")
        loading = pool.submit(load, mysql, uri, write_mode="append")
        deadline = time.monotonic() + 30
        while mysql.execute(waiting, [mysql.name]) != [(1,)]:
            assert not loading.done(), loading.exception()
            assert time.monotonic() < deadline, "the rows were never seen to wait"
        found = list((tmp_path / "temporary").iterdir())
        other.rollback()
        loading.result()
    assert found == []
    assert mysql.read() == rows("u1", "a")


@pytest.mark.parametrize("kind", ["sqlite", "duckdb", "generic"], indirect=False)
def test_a_sink_that_reads_cannot_write(kind, tmp_path, airflow_connection, monkeypatch):
    pytest.importorskip(f"airflow.providers.{kind}.hooks.{kind}" if kind == "duckdb" else "sqlite3")
    if kind == "generic":
        monkeypatch.setattr(opening, "database_of", lambda connection: "other")
    conn_type = "duckdb" if kind == "duckdb" else "sqlite"
    airflow_connection("target", json.dumps({"conn_type": conn_type, "host": str(tmp_path / "target.db")}))
    table = opening.open_table(database_hook("target"), "recs")
    with closing(table.connection):
        table.begin_reading({})
        with pytest.raises(Exception, match=r"(?i)read-?only"):
            table.execute("CREATE TABLE written (i int)")
