"""PostgreSQL as people set it up: poolers, policies, triggers, rules, odd encodings, either driver."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

import pytest

from airflow_provider_personalize.exceptions import TableMismatchError, TooManyRejectsError
from airflow_provider_personalize.s3 import download
from tests.integration.load_support import COLUMNS, PostgresTarget, line, load, rows

MODES = ["replace", "replace_slice", "merge", "append"]
EXTRA = {"run_date": "2026-11-22"}


@pytest.fixture(params=["psycopg", "psycopg2"])
def driver(request, monkeypatch):
    """The driver that Airflow's hook connects with."""
    hooks = pytest.importorskip("airflow.providers.postgres.hooks.postgres")
    if request.param == "psycopg" and not getattr(hooks, "USE_PSYCOPG3", False):
        pytest.skip("Airflow's PostgreSQL provider knows no psycopg 3 here")
    monkeypatch.setattr(hooks, "USE_PSYCOPG3", request.param == "psycopg", raising=False)
    return request.param


@pytest.fixture
def target(postgres, airflow_connection, driver):
    return PostgresTarget(postgres, airflow_connection("target", postgres.uri))


@contextmanager
def pgbouncer(folder, database):
    """Run PgBouncer in transaction mode before a database, and yield its port."""
    binary = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    if binary is None:
        pytest.skip("needs pgbouncer: apt-get install pgbouncer")
    server = urlsplit(database.uri)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = folder / "pgbouncer.ini"
    settings.write_text(
        f"[databases]\n{database.name} = host=127.0.0.1 port={server.port} user=postgres\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n"
        "pool_mode = transaction\ndefault_pool_size = 1\n"
    )
    as_user = []
    if os.geteuid() == 0:  # as which it does not run
        folder.chmod(0o755)
        for above in folder.parents[:3]:
            with suppress(OSError):
                above.chmod(above.stat().st_mode | 0o011)
        as_user = ["-u", "nobody"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([binary, *as_user, str(settings)], stdout=log, stderr=log)
    try:
        for _ in range(300):
            assert process.poll() is None, (folder / "log").read_text()
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=0.1):
                break
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.1)
        yield port
    finally:
        process.terminate()
        process.wait(30)


def test_a_pooler_of_transactions_takes_one_load_after_the_other(tmp_path, target, output, airflow_connection):
    target.execute("CREATE TABLE other (user_id text, rank numeric, item_id char(1), score numeric)")
    with pgbouncer(tmp_path, target.database) as port:
        uri = target.database.uri.replace(f":{target.database.server.port}/", f":{port}/")
        pooled = PostgresTarget(target.database, airflow_connection("pooled", uri))
        for number in range(4):
            for mode in MODES:
                one = output.write(line("u", str(number)), line("v"), name=f"{mode}{number}.out")
                load(pooled, one, write_mode=mode, extra_columns=EXTRA, table=f"recs_{mode}")
            load(pooled, output.write(line("u", str(number))), table="other")
            with pytest.raises(TooManyRejectsError):
                load(pooled, output.write(*["nope"] * 20), write_mode="merge", rejects_table="rejected")
    for mode in ("replace", "replace_slice", "merge"):
        assert target.execute(f"SELECT user_id, item_id FROM recs_{mode}") == [("u", "3")]
    assert target.execute("SELECT item_id FROM recs_append ORDER BY 1") == [(str(n),) for n in range(4)]
    assert target.execute("SELECT item_id FROM other") == [("3",)]
    assert target.execute("SELECT count(*) FROM rejected") == [(20,)]
    assert target.execute("SELECT relname FROM pg_class WHERE relname = 'personalize_stage'") == []


@pytest.mark.parametrize("mode", MODES)
def test_row_level_security_is_kept_to(target, output, airflow_connection, mode):
    role = f"loader_{target.database.name}"
    target.execute(
        f"CREATE TABLE recs ({COLUMNS}, run_date date); INSERT INTO recs VALUES ('theirs', 1, 'x', 0, '2026-11-22');"
        f"ALTER TABLE recs ENABLE ROW LEVEL SECURITY; CREATE ROLE {role} LOGIN;"
        f"GRANT ALL ON recs TO {role}; GRANT ALL ON SCHEMA public TO {role};"
        f"CREATE POLICY ours ON recs TO {role} USING (user_id <> 'theirs')"
    )
    loader = PostgresTarget(
        target.database, airflow_connection("loader", target.database.uri.replace("postgres@", f"{role}@"))
    )
    try:
        for item in ("a", "b"):
            result = load(
                loader, output.write(line("u", item), name=f"{item}.out"), write_mode=mode, extra_columns=EXTRA
            )
            assert result["rows"] == 1
        items = [row[2] for row in target.read() if row[0] == "u"]
        assert items == (["a", "b"] if mode == "append" else ["b"])
        before = target.read()
        with pytest.raises(Exception, match="row-level security policy"):
            load(loader, output.write(line("theirs", "c")), write_mode=mode, extra_columns=EXTRA)
        assert target.read() == before
        assert ("theirs", 1, "x") in [row[:3] for row in before]
    finally:
        target.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "column",
    ["rank integer GENERATED ALWAYS AS IDENTITY", "rank integer GENERATED ALWAYS AS (1) STORED"],
)
def test_identity_and_generated_columns_are_named_with_the_remedy(target, output, mode, column):
    target.execute(f"CREATE TABLE recs ({COLUMNS.replace('rank integer', column)}, run_date date)")
    with pytest.raises(TableMismatchError, match=r"columns rank are filled by the database.*column_names"):
        load(target, output.write(line("u", "a")), write_mode=mode, extra_columns=EXTRA)
    load(
        target,
        output.write(line("u", "a")),
        write_mode=mode,
        extra_columns=EXTRA,
        column_names={"rank": None},
    )
    assert target.execute("SELECT user_id, rank, item_id FROM recs") == [("u", 1, "a")]


def test_an_identity_column_by_default_takes_ours(target, output):
    target.execute(f"CREATE TABLE recs ({COLUMNS.replace('integer', 'integer GENERATED BY DEFAULT AS IDENTITY')})")
    load(target, output.write(line("u", "a", "b")))
    assert target.read() == rows("u", "a", "b")


@pytest.mark.parametrize("mode", MODES)
def test_what_a_domain_or_a_trigger_fills_may_be_left_out(target, output, mode):
    target.execute(
        f"""
        CREATE DOMAIN country AS text DEFAULT 'nz' NOT NULL;
        CREATE TABLE recs ({COLUMNS}, run_date date, sold_in country NOT NULL, owner text NOT NULL);
        CREATE FUNCTION own() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.owner := ''us''; RETURN NEW; END';
        CREATE TRIGGER own BEFORE INSERT ON recs FOR EACH ROW EXECUTE PROCEDURE own();
        """
    )
    load(target, output.write(line("u", "a")), write_mode=mode, extra_columns=EXTRA)
    assert target.execute("SELECT user_id, item_id, sold_in, owner FROM recs") == [("u", "a", "nz", "us")]
    target.execute("ALTER TABLE recs DISABLE TRIGGER own")
    with pytest.raises(TableMismatchError, match="owner are NOT NULL without a default"):
        load(target, output.write(line("v", "a"), name="v.out"), write_mode=mode, extra_columns=EXTRA)
    assert target.execute("SELECT user_id FROM recs") == [("u",)]


@pytest.mark.parametrize("mode", MODES)
def test_a_domain_that_is_never_null_is_not_left_out(target, output, mode):
    # COPY would put a NULL there, which the domain does not allow.
    target.execute(f"CREATE DOMAIN country AS text NOT NULL; CREATE TABLE recs ({COLUMNS}, run_date date, c country)")
    with pytest.raises(TableMismatchError, match="its columns c are NOT NULL without a default"):
        load(target, output.write(line("u", "a")), write_mode=mode, extra_columns=EXTRA)
    load(target, output.write(line("u", "a")), write_mode=mode, extra_columns=EXTRA | {"c": "nz"})
    assert target.execute("SELECT user_id, c FROM recs") == [("u", "nz")]


def test_autocommit_of_the_connection_does_not_matter(postgres, airflow_connection, output, monkeypatch, driver):
    # Airflow's hook hands a connection's extras to the driver; psycopg 2 knows this one as an attribute alone.
    target = PostgresTarget(postgres, airflow_connection("target", postgres.uri))
    from airflow.providers.postgres.hooks.postgres import PostgresHook

    connect = PostgresHook.get_conn

    def with_autocommit(self):
        connection = connect(self)
        connection.autocommit = True
        return connection

    monkeypatch.setattr(PostgresHook, "get_conn", with_autocommit)
    load(target, output.write(line("u", "a")))
    for mode in ("replace", "merge"):
        with pytest.raises(TooManyRejectsError):
            load(target, output.write(line("u", "b"), "nope"), write_mode=mode)
        assert target.read() == rows("u", "a")


def test_the_extra_autocommit_changes_nothing(postgres, airflow_connection, output):
    hooks = pytest.importorskip("airflow.providers.postgres.hooks.postgres")
    if not getattr(hooks, "USE_PSYCOPG3", False):
        pytest.skip("psycopg 2 does not know the extra")
    extra = {"conn_type": "postgres", "host": "127.0.0.1", "port": postgres.server.port, "login": "postgres"}
    extra |= {"schema": postgres.name, "extra": {"autocommit": True}}
    target = PostgresTarget(postgres, airflow_connection("target", json.dumps(extra)))
    load(target, output.write(line("u", "a")))
    for mode in ("replace", "merge", "append"):
        with pytest.raises(TooManyRejectsError):
            load(target, output.write(line("u", "b"), "nope"), write_mode=mode)
        assert target.read() == rows("u", "a")


@pytest.mark.parametrize("mode", MODES)
def test_a_database_without_an_encoding_takes_the_rows(postgres_server, airflow_connection, output, mode, driver):
    name = f"ascii_{mode}_{driver}"
    postgres_server._alone(
        f"CREATE DATABASE {name} ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
    )
    try:
        database = postgres_server.database(name)
        target = PostgresTarget(database, airflow_connection("target", database.uri))
        target.execute("CREATE TABLE other (user_id varchar(9), rank numeric, item_id char(3), score real)")
        load(target, output.write(line("Zoë", "é日本")), write_mode=mode, extra_columns={"tag": "ü"}, rejects_table="r")
        if mode != "replace_slice":
            load(target, output.write(line("u", "abc")), write_mode=mode, table="other")
        shown = "encode(user_id::bytea, 'hex'), encode(item_id::bytea, 'hex'), encode(tag::bytea, 'hex')"
        assert target.execute(f"SELECT {shown} FROM recs") == [
            tuple(text.encode().hex() for text in ("Zoë", "é日本", "ü"))
        ]
        with pytest.raises(TableMismatchError, match="lacks nope"):
            load(target, output.write(line("u", "a")), extra_columns={"nope": 1})
    finally:
        postgres_server.drop(name)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("ddl", "message"),
    [
        ("CREATE RULE elsewhere AS ON DELETE TO recs DO INSTEAD NOTHING", "elsewhere"),
        (
            """
            CREATE FUNCTION keeps() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
            CREATE TRIGGER keeps BEFORE DELETE ON recs FOR EACH ROW EXECUTE FUNCTION keeps()
            """,
            "1 rows are still there",
        ),
    ],
)
def test_rows_that_a_delete_does_not_delete_are_missed(target, output, mode, ddl, message):
    target.execute(f"CREATE TABLE recs ({COLUMNS}, run_date date)")
    target.execute("INSERT INTO recs VALUES ('u', 1, 'old', 1, '2026-11-22')")
    target.execute(ddl)
    before = target.read()
    if mode == "append":
        load(target, output.write(line("u", "a")), write_mode=mode, extra_columns=EXTRA)
        assert len(target.read()) == 2
        return
    with pytest.raises(TableMismatchError, match=message):
        load(target, output.write(line("u", "a")), write_mode=mode, extra_columns=EXTRA)
    assert target.read() == before


def test_a_watched_table_may_call_a_column_as_the_stage_does(target, output):
    target.execute(
        """
        CREATE TABLE recs (entity text, rank integer, item_id text, score double precision);
        INSERT INTO recs VALUES ('u', 1, 'old', 1), ('v', 1, 'b', 1);
        CREATE FUNCTION sees() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN OLD; END';
        CREATE TRIGGER sees BEFORE DELETE ON recs FOR EACH ROW EXECUTE FUNCTION sees()
        """
    )
    load(target, output.write(line("u", "a")), write_mode="merge", column_names={"user_id": "entity"})
    assert target.read() == [*rows("u", "a"), *rows("v", "b")]


def test_a_rule_that_leads_elsewhere_is_named(target, output):
    target.execute(f"CREATE TABLE recs ({COLUMNS}); CREATE TABLE other ({COLUMNS})")
    target.execute("CREATE RULE elsewhere AS ON INSERT TO recs DO INSTEAD INSERT INTO other VALUES (new.*)")
    with pytest.raises(TableMismatchError, match="elsewhere"):
        load(target, output.write(line("u", "a")), write_mode="merge")
    assert target.read() == target.read("other") == []
    # COPY knows no rules, so these rows are where they were sent.
    load(target, output.write(line("u", "a")))
    assert (target.read(), target.read("other")) == (rows("u", "a"), [])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kept", [True, False])
def test_a_view_is_asked_what_it_shows(target, output, mode, kept):
    insert = "INSERT INTO base VALUES (new.*);" if kept else ""
    target.execute(
        f"CREATE TABLE base ({COLUMNS}, run_date date); CREATE VIEW recs AS SELECT * FROM base;"
        f"CREATE FUNCTION puts() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {insert} RETURN new; END $$;"
        "CREATE TRIGGER puts INSTEAD OF INSERT ON recs FOR EACH ROW EXECUTE FUNCTION puts()"
    )
    uri = output.write(line("u", "a", "b"))
    if kept:
        for _ in range(2):
            load(target, uri, write_mode=mode, extra_columns=EXTRA)
        assert [row[:4] for row in target.read()] == rows("u", "a", "b")
    else:
        with pytest.raises(TableMismatchError, match="took 0 of 2 rows"):
            load(target, uri, write_mode=mode, extra_columns=EXTRA)


def test_an_error_of_the_reading_is_raised_as_it_is(target, output, monkeypatch):
    load(target, output.write(line("u", "a")))
    blocks = download._file_blocks

    def broken(item):
        yield from blocks(item)
        raise TooManyRejectsError(rejects=1, lines=1, max_reject_rate=0.0, examples=[], kept_in=None)

    monkeypatch.setattr(download, "_file_blocks", broken)
    for mode in ("replace", "merge"):
        with pytest.raises(TooManyRejectsError):
            load(target, output.write(*(line(f"u{n}", "b" * 100) for n in range(10_000))), write_mode=mode)
        assert target.read() == rows("u", "a")


def test_a_first_load_into_a_schema_in_the_name_is_refused(target, output):
    target.execute("CREATE SCHEMA s1")
    with pytest.raises(TableMismatchError, match=r"schema='s1' and table='recs'"):
        load(target, output.write(line("u", "a")), table="s1.recs")
    assert target.execute("SELECT tablename FROM pg_tables WHERE tablename LIKE '%recs%'") == []
