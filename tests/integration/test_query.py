"""Queries only read, whatever their text says, and their values are what the database means by them."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from airflow_provider_personalize.exceptions import InvalidLineError, InvalidRequestError
from airflow_provider_personalize.input.rows import InputRows
from airflow_provider_personalize.sql.query import database_hook, read_only, single_statement, stream_query
from tests.integration.load_support import MySqlTarget
from tests.integration.warehouses import RedshiftTarget

if TYPE_CHECKING:
    from example_dags.demo.postgres import Database


@pytest.fixture(params=["psycopg", "psycopg2"])
def pg(request, postgres: Database, airflow_connection, monkeypatch) -> Database:
    """A PostgreSQL database, as the connection ``db``, through one driver and the other."""
    pytest.importorskip(request.param)
    monkeypatch.setattr(
        "airflow.providers.postgres.hooks.postgres.USE_PSYCOPG3", request.param == "psycopg", raising=False
    )
    airflow_connection("db", postgres.uri)
    with closing(database_hook("db").get_conn()) as connection:
        if type(connection).__module__.partition(".")[0] != request.param:
            pytest.skip(f"this version of the PostgreSQL provider does not use {request.param}")
    postgres.execute("CREATE TABLE precious (id int)")
    return postgres


@pytest.fixture
def mysql(mariadb_port, airflow_connection) -> MySqlTarget:
    target = MySqlTarget(mariadb_port, "mysql", "db")
    target.execute("CREATE OR REPLACE DATABASE query_test CHARACTER SET utf8mb4")
    target = MySqlTarget(mariadb_port, "query_test", "db")
    airflow_connection("db", mysql_connection(mariadb_port))
    return target


def mysql_connection(port: int, **extra: Any) -> str:
    return json.dumps(
        {
            "conn_type": "mysql",
            "host": "127.0.0.1",
            "port": port,
            "login": "root",
            "schema": "query_test",
            "extra": {"charset": "utf8mb4", **extra},
        }
    )


@pytest.fixture
def sqlite(tmp_path, airflow_connection) -> Any:
    path = tmp_path / "shop.db"
    airflow_connection("db", json.dumps({"conn_type": "sqlite", "host": str(path)}))
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE precious (id int)")
        yield connection


@pytest.fixture
def duck(tmp_path, airflow_connection) -> Any:
    """A function that executes SQL in a DuckDB file, and gives the rows."""
    duckdb = pytest.importorskip("duckdb")
    path = str(tmp_path / "shop.duckdb")
    airflow_connection("db", json.dumps({"conn_type": "duckdb", "host": path}))

    def execute(sql: str) -> list[Any]:
        with duckdb.connect(path) as connection:
            return connection.execute(sql).fetchall()

    execute("CREATE TABLE precious (id int)")
    return execute


def read(sql: str, parameters: Any = None) -> list[tuple[Any, ...]]:
    with stream_query(database_hook("db"), sql, parameters) as query:
        return [tuple(row) for batch in query for row in batch.rows()]


def lines(sql: str, parameters: Any = None, **kwargs: Any) -> list[dict[str, Any]]:
    """The lines that a query makes."""
    with stream_query(database_hook("db"), sql, parameters) as query:
        made = InputRows(query.columns, **kwargs)
        return [
            json.loads(f"{encoded.before}{text}{encoded.after}")
            for batch in query
            for encoded in [made.encode(batch.rows())]
            for text in encoded.texts
        ]


BEHIND = [
    "{};",
    "SELECT 1; {}",
    "SELECT 1; {} --",
    "SELECT 1; COMMIT; {}",
    "SELECT 1; ROLLBACK; BEGIN READ WRITE; {}; COMMIT",
    "SELECT 1; COMMIT; SET default_transaction_read_only = off; BEGIN; {}; COMMIT; SELECT 1",
    "SELECT 1; SET TRANSACTION READ WRITE; {}",
    "CLOSE ALL; COMMIT; {}",
    "SELECT 1 -- ;\n; {}",
    "SELECT 1 /* ; /* */ */; {}",
    "SELECT 1 /* /* */ ' */; {} -- '",
    "SELECT $$;$$; {}",
    "SELECT $a$ $$ $a$; {} -- $$",
    "SELECT ';', ''';'; {}",
    "SELECT '\\'; {} -- '",
    "SELECT E'\\'', ';'; {} -- '",
    "SELECT E'a'\n'\\'' || '\\'; {} -- '",
    "SELECT E'a' --x\n\n'\\'' || '\\'; {} -- '",
    'SELECT 1 AS "a;""b"; {}',
    "SELECT 1 AS \u00a0$$; {} --$$",
    "SELECT 1 AS a$$; {} --$$",
    "SELECT U&'\\'; {} -- '",
]


@pytest.mark.parametrize(
    "value",
    [
        "timestamp '20000-01-01'",
        "date '0044-03-15 BC'",
        "date 'infinity'",
        "timestamp 'infinity'",
        "timestamptz '-infinity'",
    ],
)
def test_a_value_that_python_has_not_is_an_error_that_no_retry_mends(pg, value):
    with pytest.raises(InvalidRequestError, match=r"sql: expected values .* cast the column to text") as caught:
        read(f"SELECT {value}")
    assert not caught.value.may_pass


@pytest.mark.parametrize("does", ["DROP TABLE precious", "COPY precious TO PROGRAM 'touch {path}'"])
def test_what_stands_behind_a_query_is_never_run_on_postgresql(does, pg, tmp_path):
    tmp_path.chmod(0o777)
    for text in BEHIND:
        with pytest.raises(InvalidRequestError, match=r"^sql: expected"):
            read(text.format(does.format(path=tmp_path / "written")))
        assert pg.execute("SELECT * FROM precious") == [], text
        assert not (tmp_path / "written").exists(), text


def test_the_server_itself_takes_one_statement_and_no_more(pg, monkeypatch):
    monkeypatch.setattr("airflow_provider_personalize.sql.query.single_statement", lambda sql, connection: sql)
    for text in BEHIND:
        with pytest.raises(Exception, match=r"(?i)syntax|multi|unterminated|cannot open|invalid Unicode"):
            read(text.format("DROP TABLE precious"))
        assert pg.execute("SELECT * FROM precious") == []


@pytest.mark.parametrize(
    "sql",
    [
        "WITH gone AS (DELETE FROM precious RETURNING id) SELECT 1 AS id FROM gone",
        "SELECT id FROM precious FOR UPDATE",
        "SELECT set_config('transaction_read_only', 'off', false)",
        "SELECT id INTO other FROM precious",
        "INSERT INTO precious VALUES (1) RETURNING id",
        "SELECT write_it()",
        "CALL write_it_too()",
        "EXPLAIN ANALYZE DELETE FROM precious",
        "DO $$ BEGIN DELETE FROM precious; END $$",
        "VACUUM precious",
        "COMMIT",
    ],
)
def test_one_statement_that_writes_is_refused_by_postgresql(sql, pg):
    pg.execute("INSERT INTO precious VALUES (7)")
    pg.execute(
        "CREATE FUNCTION write_it() RETURNS int LANGUAGE plpgsql AS "
        "$$ BEGIN INSERT INTO precious VALUES (1); RETURN 1; END $$"
    )
    pg.execute(
        "CREATE PROCEDURE write_it_too() LANGUAGE plpgsql AS "
        "$$ BEGIN COMMIT; SET TRANSACTION READ WRITE; DELETE FROM precious; COMMIT; END $$"
    )
    with pytest.raises(
        Exception, match=r"(?i)read-only|expected one query|query has to|before any query|INTO|data-modifying"
    ):
        read(sql)
    assert pg.execute("SELECT * FROM precious") == [(7,)]


PLAIN = [
    ("SELECT 1;", 1),
    ("SELECT 1 ; ; -- done;", 1),
    ("-- first; a comment\n/* and; another */ SELECT 1 /* after; */;\n", 1),
    ("SELECT ';' -- it's\n", ";"),
    ("(SELECT 1)", 1),
    ("WITH a AS (SELECT 1 AS i) SELECT i FROM a", 1),
    ("VALUES (1)", 1),
    ("SELECT 'it''s; so'", "it's; so"),
    ("SELECT '%'", "%"),
]
POSTGRES = [
    ("TABLE one", 1),
    ("SELECT $$; '$$", "; '"),
    ("SELECT $do$ $$ ; $do$", " $$ ; "),
    (r"SELECT E'\';'", "';"),
    (r"SELECT '\'", "\\"),
    ("SELECT 1 /* a /* nested; */ one */", 1),
    ('SELECT 1 AS "a;b"', 1),
    ("SELECT 'a'\n';'", "a;"),
    ("SELECT 7 % 4", 3),
]


def test_one_query_works_however_it_is_written_on_postgresql(pg):
    pg.execute("CREATE TABLE one AS SELECT 1")
    for sql, value in PLAIN + POSTGRES:
        assert read(sql) == [(value,)], sql
    with closing(database_hook("db").get_conn()) as connection:
        read_only(connection)
        cursor = connection.cursor()
        for sql, _ in PLAIN + POSTGRES:
            cursor.execute(f"SELECT count(*) FROM ({single_statement(sql, connection)}) AS asked")
            assert cursor.fetchall() == [(1,)], sql


def test_backslashes_are_read_as_postgresql_does_without_standard_strings(pg):
    pg.execute(f"ALTER DATABASE {pg.name} SET standard_conforming_strings = off")
    assert read(r"SELECT 'a\'; b'") == [("a'; b",)]
    with pytest.raises(InvalidRequestError, match="one statement"):
        read(r"SELECT '\\'; DROP TABLE precious; --'")
    assert pg.execute("SELECT * FROM precious") == []


def test_empty_parameters_are_none_on_postgresql(pg):
    for parameters in (None, {}, (), []):
        assert read("SELECT 'a%b' WHERE 'abc' LIKE 'a%'", parameters) == [("a%b",)]
        assert read("SELECT 'x' LIKE '%s', '%(id)s'", parameters) == [(False, "%(id)s")]


def test_parameters_are_bound_on_postgresql(pg):
    text = "it's %s; DROP TABLE precious; -- $1 \\"
    assert read("SELECT %s::text, '%%'", [text]) == [(text, "%")]
    assert read("SELECT %(id)s::text -- %%", {"id": text}) == [(text,)]


def test_a_connection_that_commits_by_itself_only_reads_too(postgres, airflow_connection, monkeypatch):
    postgres.execute("CREATE SEQUENCE numbers")
    separator = "&" if "?" in postgres.uri else "?"
    psycopg = pytest.importorskip("psycopg")

    class Hook:
        def get_conn(self):
            return psycopg.connect(postgres.uri.partition(separator)[0], autocommit=True)

    with stream_query(Hook(), "SELECT generate_series(1, 3)") as query:
        assert [row for batch in query for row in batch.rows()] == [(1,), (2,), (3,)]
    with (
        pytest.raises(psycopg.errors.ReadOnlySqlTransaction),
        stream_query(Hook(), "SELECT nextval('numbers')"),
    ):
        pass


@pytest.mark.parametrize("client", ["mysqlclient", "mysql-connector-python"])
def test_queries_only_read_on_mysql(client, mysql, airflow_connection, tmp_path):
    airflow_connection("db", mysql_connection(mysql.port, client=client))
    mysql.execute("CREATE TABLE precious (id int) ENGINE=InnoDB")
    mysql.execute("INSERT INTO precious VALUES (7)")
    mysql.execute("CREATE PROCEDURE sneak() BEGIN COMMIT; DELETE FROM precious; COMMIT; SELECT 1; END")
    mysql.execute("CREATE FUNCTION gone() RETURNS int BEGIN DELETE FROM precious; RETURN 1; END")
    written = tmp_path / "written"
    tmp_path.chmod(0o777)
    for sql in [
        "SELECT 1; DROP TABLE precious",
        "SELECT 1; COMMIT; SET SESSION TRANSACTION READ WRITE; DELETE FROM precious; COMMIT",
        "SELECT 1 -- ;\n; DROP TABLE precious",
        "SELECT '\\''; DROP TABLE precious; -- '",
        "SELECT 1 # ' \n; DROP TABLE precious; -- '",
        "SELECT 1 --' \n; DROP TABLE precious",
        "SELECT 1 /*!99999999 ' */; DROP TABLE precious -- '",
        f"SELECT 1 INTO OUTFILE '{written}'",
        f"SELECT 1into OUTFILE '{written}'",
        f"SELECT 1e5into OUTFILE '{written}'",
        f"SELECT 1 /*!50000 INTO OUTFILE '{written}' */",
        f"SELECT 1 /*M! INTO DUMPFILE '{written}' */",
        "CALL sneak()",
        "SELECT gone()",
        "DELETE FROM precious RETURNING id",
        "DROP TABLE precious",
    ]:
        with pytest.raises(Exception, match=r"(?i)expected|read.only|syntax|unknown column"):
            read(sql)
        assert mysql.execute("SELECT * FROM precious") == [(7,)], sql
        assert not written.exists(), sql
    for sql, value in [*PLAIN[:-3], (r"SELECT '\';'", "';"), ('SELECT "a;b"', "a;b"), ("SELECT 1 # ; it's", 1)]:
        assert read(sql) == [(value,)], sql
    for parameters in ({}, (), [], None):
        assert read("SELECT 'a%b' WHERE 'abc' LIKE 'a%'", parameters) == [("a%b",)]
    assert read("SELECT %s", ["it's; %"]) == [("it's; %",)]


def test_the_mode_of_mysql_decides_what_a_string_is(mysql, airflow_connection):
    mysql.execute("CREATE TABLE precious (id int)")
    modes = "NO_BACKSLASH_ESCAPES,PAD_CHAR_TO_FULL_LENGTH"
    hook = database_hook("db", {"init_command": f"SET sql_mode='{modes}'"})
    with stream_query(hook, r"SELECT '\'") as query:
        assert [row for batch in query for row in batch.rows()] == [("\\",)]
    with (
        pytest.raises(InvalidRequestError, match="one statement"),
        stream_query(hook, r"SELECT '\'; DROP TABLE precious; -- '"),
    ):
        pass
    mysql.execute("CREATE TABLE padded (id char(10))")
    mysql.execute("INSERT INTO padded VALUES ('a')")
    with stream_query(hook, "SELECT id FROM padded") as query:
        assert [row for batch in query for row in batch.rows()] == [("a",)]


def test_queries_only_read_on_sqlite(sqlite, tmp_path):
    for sql in [
        "SELECT 1; DROP TABLE precious",
        "WITH a AS (SELECT 1) INSERT INTO precious SELECT * FROM a RETURNING id",
        "INSERT INTO precious VALUES (1) RETURNING id",
        "DROP TABLE precious",
        "PRAGMA user_version = 7",
        "PRAGMA query_only = OFF",
        "PRAGMA journal_mode = WAL",
        f"VACUUM INTO '{tmp_path / 'copy.db'}'",
        f"ATTACH '{tmp_path / 'copy.db'}' AS copy",
    ]:
        with pytest.raises(Exception, match=r"expected one|readonly|read-only"):
            read(sql)
    assert sqlite.execute("SELECT * FROM precious").fetchall() == []
    assert sqlite.execute("PRAGMA user_version").fetchall() == [(0,)]
    assert not (tmp_path / "copy.db").exists()
    for sql, value in [*PLAIN[:4], *PLAIN[5:], ("SELECT 1 AS [it's; so]", 1)]:
        assert read(sql) == [(value,)], sql
    for parameters in ({}, (), [], None):
        assert read("SELECT 'a%b'", parameters) == [("a%b",)]


def test_queries_only_read_on_duckdb(duck, tmp_path):
    for sql in [
        "SELECT 1; DROP TABLE precious",
        "SELECT $$;$$; DROP TABLE precious",
        "SELECT 1; COMMIT; DROP TABLE precious",
        "INSERT INTO precious VALUES (1) RETURNING id",
        "WITH new AS (INSERT INTO precious VALUES (1) RETURNING id) SELECT id FROM new",
        f"COPY precious TO '{tmp_path / 'written'}'",
        f"ATTACH '{tmp_path / 'written'}'",
        "DROP TABLE precious",
    ]:
        with pytest.raises(Exception, match=r"(?i)expected|read-only|parser"):
            read(sql)
    assert duck("SELECT * FROM precious") == []
    assert not (tmp_path / "written").exists()
    for sql, value in [*PLAIN, ("FROM range(1)", 0), ("SELECT $$; '$$", "; '")]:
        assert read(sql) == [(value,)], sql
    for parameters in ({}, (), [], None):
        assert read("SELECT 'a%b'", parameters) == [("a%b",)]
    assert read("SELECT ?", ["?"]) == [("?",)]


class Elsewhere:
    """A connection of a driver that nothing is known of."""


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1; DROP TABLE x",
        "SELECT '\\'; DROP TABLE x; -- '",
        "SELECT `'`; DROP TABLE x -- '",
        "SELECT $$'$$; DROP TABLE x -- '",
        "SELECT 1 /* /* */; DROP TABLE x -- */",
        "SELECT * INTO new FROM x",
        "WITH a AS (SELECT 1) DELETE FROM x",
        "EXEC sneak",
        "",
        " ; ",
    ],
)
def test_other_databases_get_one_query(sql):
    with pytest.raises(InvalidRequestError, match=r"^catalog_sql: expected"):
        single_statement(sql, Elsewhere(), parameter="catalog_sql")


@pytest.mark.parametrize(
    ("sql", "query"),
    [
        ("\nSELECT 'a;b' FROM x ; -- done\n", "SELECT 'a;b' FROM x"),
        ("SELECT 'it\\'s' FROM x;", "SELECT 'it\\'s' FROM x"),
        ("SELECT [it's] FROM x", "SELECT [it's] FROM x"),
        ('SELECT "update", x.i FROM x', 'SELECT "update", x.i FROM x'),
    ],
)
def test_other_databases_get_their_own_strings(sql, query):
    assert single_statement(sql, Elsewhere()) == query


ARRAYS = r"""
    CREATE TYPE citext;
    CREATE FUNCTION ci_in(cstring) RETURNS citext LANGUAGE internal IMMUTABLE STRICT AS 'textin';
    CREATE FUNCTION ci_out(citext) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'textout';
    CREATE TYPE citext (INPUT = ci_in, OUTPUT = ci_out, LIKE = text, CATEGORY = 'S');
    CREATE TYPE mood AS ENUM ('sad', 'very, "happy"', 'NULL', '{odd}');
    CREATE DOMAIN short AS text CHECK (length(value) < 20);
    CREATE DOMAIN shorts AS text[];
    CREATE DOMAIN amount AS numeric(10, 2);
    CREATE DOMAIN padded AS char(6);
    CREATE TYPE pair AS (a int, b text);
"""


LISTS = [
    ("ARRAY['a', 'b,c', 'd\"e', 'f\\g', ' h ', 'NULL', '{i}', 'j''k']::citext[]", None),
    ("ARRAY['a', 'b,c', 'd\"e', 'f\\g', ' h ', 'NULL', '{i}', 'j''k']::short[]", None),
    ("ARRAY['a', 'b,c', 'd\"e', 'f\\g', ' h ', 'NULL', '{i}', 'j''k']::text[]", None),
    ("ARRAY['a', 'b,c', 'd\"e', 'f\\g', ' h ', 'NULL', '{i}', 'j''k']::shorts", None),
    ("ARRAY['sad', 'very, \"happy\"', 'NULL', '{odd}']::mood[]", ["sad", 'very, "happy"', "NULL", "{odd}"]),
    ("ARRAY['00000000-0000-0000-0000-00000000000a']::uuid[]", ["00000000-0000-0000-0000-00000000000a"]),
    ("'[0:1]={a,b}'::citext[]", ["a", "b"]),
    ("ARRAY[7, 12.50]::amount[]", ["7", "12.50"]),
    ("ARRAY['a', 'b c']::char(6)[]", ["a", "b c"]),
    ("ARRAY['a', 'b c']::padded[]", ["a", "b c"]),
    ("ARRAY['a']::name[]", ["a"]),
    ("ARRAY[1, 2]::int8[]", ["1", "2"]),
    ("'1 2'::int2vector", ["1", "2"]),
    ("ARRAY['10.0.0.1']::inet[]::text[]", ["10.0.0.1/32"]),
    ("ARRAY['$1.50']::money[]", ["$1.50"]),
    ("ARRAY[(1, 'a')]::pair[]", ["(1,a)"]),
]


def test_arrays_of_whatever_type_are_lists_on_postgresql(pg):
    pg.execute(ARRAYS)
    for array, items in LISTS:
        _expect_list(array, items)


def _expect_list(array: str, items: list[str] | None) -> None:
    items = items or ["a", "b,c", 'd"e', "f\\g", " h ", "NULL", "{i}", "j'k"]
    if "amount" not in array:
        sql = f"SELECT 'u' AS user_id, {array} AS item_list"
        assert lines(sql) == [{"userId": "u", "itemList": items}]
    values = [item for item in items if '"' not in item and "\\" not in item]
    if values == items:
        sql = f"SELECT 'u' AS user_id, {array} AS genres"
        quoted = ",".join(f'"{item}"' for item in items)
        assert lines(sql, filter_values={"G": "genres"}) == [{"userId": "u", "filterValues": {"G": quoted}}]


NO_LISTS = [
    ("'{a,NULL}'::citext[]", "Row 1 .*got null"),
    ("'{{a,b},{c,d}}'::citext[]", r"Row 1 .*got list \['a', 'b'\]"),
    ("'{{a,b},{c,d}}'::text[]", r"Row 1 .*got list \['a', 'b'\]"),
    ("'{}'::citext[]", "Row 1 .*empty list"),
    ("ARRAY[true]::bool[]", "Row 1 .*got bool True"),
]


def test_arrays_that_are_no_lists_of_values_are_refused(pg):
    pg.execute(ARRAYS)
    for array, message in NO_LISTS:
        with pytest.raises(InvalidLineError, match=message):
            lines(f"SELECT 'u' AS user_id, {array} AS item_list")
        with pytest.raises(InvalidLineError, match=message):
            lines(f"SELECT 'u' AS user_id, {array} AS genres", filter_values={"G": "genres"})


def test_what_looks_like_an_array_and_is_text_stays_text(pg):
    assert lines("SELECT '{a,b}' AS user_id, '{c,d}'::text AS genre", filter_values={"G": "genre"}) == [
        {"userId": "{a,b}", "filterValues": {"G": '"{c,d}"'}}
    ]


def test_padded_ids_go_out_as_they_were_meant(pg):
    pg.execute("CREATE DOMAIN padded AS char(10)")
    sql = "SELECT 'a b'::char(10) AS user_id, ' c'::padded AS genre, NULL::char(3) AS more WHERE {}"
    assert lines(sql.format("true").replace("NULL", "'x'"), filter_values={"G": "genre", "M": "more"}) == [
        {"userId": "a b", "filterValues": {"G": '" c"', "M": '"x"'}}
    ]
    with pytest.raises(InvalidLineError, match=r"column more: .*got null"):
        lines(sql.format("true"), filter_values={"G": "genre", "M": "more"})
    assert lines(sql.format("false"), filter_values={"G": "genre", "M": "more"}) == []


def test_arrays_of_duckdb(duck):
    duck("CREATE TYPE mood AS ENUM ('sad', 'a,b')")
    sql = "SELECT 'u' AS user_id, {} AS item_list"
    assert lines(sql.format("['sad', 'a,b']::mood[]")) == [{"userId": "u", "itemList": ["sad", "a,b"]}]
    assert lines(sql.format("['a', '{b}']::text[2]")) == [{"userId": "u", "itemList": ["a", "{b}"]}]
    for bad in ("[['a']]", "['a', NULL]"):
        with pytest.raises(InvalidLineError, match="Row 1"):
            lines(sql.format(bad))


def test_sets_of_mysql_are_lists(mysql, airflow_connection):
    mysql.execute("CREATE TABLE tastes (id int, genres set('horror', 'comedy', 'drama') NOT NULL, kind enum('x'))")
    mysql.execute("INSERT INTO tastes VALUES (1, 'horror,drama', 'x')")
    # MySQL Connector makes a set of it, which has lost the order.
    for client, genres in (("mysqlclient", ["horror", "drama"]), ("mysql-connector-python", ["drama", "horror"])):
        airflow_connection("db", mysql_connection(mysql.port, client=client))
        assert lines("SELECT id AS user_id, genres FROM tastes", filter_values={"G": "genres"}) == [
            {"userId": "1", "filterValues": {"G": f'"{genres[0]}","{genres[1]}"'}}
        ], client
        assert lines("SELECT id AS user_id, genres AS item_list FROM tastes") == [
            {"userId": "1", "itemList": genres}
        ], client


def expect_exact_singles(columns: str, limit: int) -> None:
    """Ids in a column of single precision go out up to a limit, and are refused from there on."""
    sql = f"SELECT {columns} AS user_id FROM singles WHERE id = "
    assert lines(f"{sql}{limit - 1}") == [{"userId": str(limit - 1)}]
    for number in (limit, 123456789):
        with pytest.raises(InvalidLineError, match="too large for this type to be exact; cast the column to double"):
            lines(f"{sql}{number}")
        with pytest.raises(InvalidLineError, match="too large for this type to be exact"):
            lines(
                f"SELECT 'u' AS user_id, {columns} AS year FROM singles WHERE id = {number}",
                filter_values={"Y": "year"},
            )


def test_ids_that_single_precision_does_not_hold_are_refused_by_postgresql(pg):
    pg.execute("CREATE DOMAIN single AS real; CREATE TABLE singles (id int, a real, b single, c real[])")
    for number in (2**24 - 1, 2**24, 123456789):
        pg.execute(f"INSERT INTO singles VALUES ({number}, {number}, {number}, ARRAY[{number}])")
    expect_exact_singles("a", 2**24)
    expect_exact_singles("b", 2**24)
    with pytest.raises(InvalidLineError, match="too large for this type to be exact"):
        lines("SELECT 'u' AS user_id, c AS item_list FROM singles WHERE id = 123456789")
    # The remedy works, and tells what was stored.
    assert lines("SELECT a::float8 AS user_id FROM singles WHERE id = 123456789") == [{"userId": "123456792"}]
    assert lines("SELECT a::bigint AS user_id FROM singles WHERE id = 123456789") == [{"userId": "123456792"}]


def test_ids_that_single_precision_does_not_hold_are_refused_by_duckdb(duck):
    duck("CREATE TABLE singles (id integer, a float)")
    for number in (2**24 - 1, 2**24, 123456789):
        duck(f"INSERT INTO singles VALUES ({number}, {number})")
    expect_exact_singles("a", 2**24)
    assert lines("SELECT a::double AS user_id FROM singles WHERE id = 123456789") == [{"userId": "123456792"}]
    for several in ("[a]", "[a]::float[1]", "array_value(a)"):
        sql = f"SELECT 'u' AS user_id, {several} AS item_list FROM singles WHERE id = "
        assert lines(f"{sql}{2**24 - 1}") == [{"userId": "u", "itemList": ["16777215"]}]
        with pytest.raises(InvalidLineError, match="too large for this type to be exact"):
            lines(f"{sql}123456789")


def test_ids_of_redshift_through_its_own_driver(postgres, airflow_connection, monkeypatch):
    airflow_connection("db", json.dumps({"conn_type": "redshift"}))
    RedshiftTarget(postgres, "db", monkeypatch)
    postgres.execute("CREATE TABLE singles (id int, a real)")
    for number in (2**24 - 1, 2**24, 123456789):
        postgres.execute(f"INSERT INTO singles VALUES ({number}, {number})")
    expect_exact_singles("a", 2**24)
    assert lines("SELECT 'a b'::char(10) AS user_id") == [{"userId": "a b"}]


@pytest.mark.parametrize("client", ["mysqlclient", "mysql-connector-python"])
def test_ids_of_which_mysql_writes_six_digits_are_refused(mysql, airflow_connection, client):
    airflow_connection("db", mysql_connection(mysql.port, client=client))
    mysql.execute("CREATE TABLE singles (id int, a float)")
    for number in (10**6 - 1, 10**6, 123456789):
        mysql.execute(f"INSERT INTO singles VALUES ({number}, {number})")
    expect_exact_singles("a", 10**6)
    assert lines("SELECT CAST(a AS DOUBLE) AS user_id FROM singles WHERE id = 123456789") == [{"userId": "123456792"}]
