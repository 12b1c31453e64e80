"""Queries on real databases become the CSV of a dataset on S3, whole, or change nothing."""

from __future__ import annotations

import csv
import io
import json
import re
import sqlite3
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import boto3
import pytest
import requests
from airflow.exceptions import AirflowSkipException
from botocore.client import BaseClient
from botocore.exceptions import ClientError

from airflow_provider_personalize.exceptions import InvalidRequestError, ServiceError
from airflow_provider_personalize.sql import dataset_copy, server_csv
from airflow_provider_personalize.transfers import sql_to_personalize_dataset as module
from airflow_provider_personalize.transfers.sql_to_personalize import (
    SqlToPersonalizeDatasetOperator,
    SqlToPersonalizeInputOperator,
    SqlToPersonalizeUserListOperator,
    personalize_schema,
)
from tests.unit.test_dataset import NASTY_IDS

if TYPE_CHECKING:
    from example_dags.demo.postgres import Database

BUCKET = "personalize-data"
DATASET = "arn:aws:personalize:us-east-1:123456789012:dataset/shop/INTERACTIONS"
ENOUGH = "SELECT 'u' || (n % 100) AS user_id, 'i' || n AS item_id, 1700000000 + n AS timestamp FROM numbers"
NUMBERS = "WITH RECURSIVE numbers(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM numbers WHERE n < {}) "


def avro(name: str, *fields: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "record",
        "name": name,
        "namespace": "com.amazonaws.personalize.schema",
        "fields": list(fields),
        "version": "1.0",
    }


def field(name: str, type_: Any = "string", **others: Any) -> dict[str, Any]:
    return {"name": name, "type": type_, **others}


INTERACTIONS = avro("Interactions", field("USER_ID"), field("ITEM_ID"), field("TIMESTAMP", "long"))
ITEMS = avro(
    "Items",
    field("ITEM_ID"),
    field("GENRES", ["string", "null"], categorical=True),
    field("CREATION_TIMESTAMP", "long"),
    field("PRICE", ["double", "null"]),
    field("IN_STOCK", ["boolean", "null"]),
)


class Bucket:
    """A bucket of the stand-in for S3."""

    def __init__(self, client: Any) -> None:
        self.client = client
        client.create_bucket(Bucket=BUCKET)

    def read(self) -> dict[str, bytes]:
        """Every object, its key and its bytes."""
        listed = self.client.list_objects_v2(Bucket=BUCKET).get("Contents", ())
        return {
            entry["Key"]: self.client.get_object(Bucket=BUCKET, Key=entry["Key"])["Body"].read() for entry in listed
        }

    def rows(self) -> list[list[str]]:
        """The rows of every file, as a reader of CSV reads them, without their headers."""
        files = [list(csv.reader(io.StringIO(body.decode(), newline=""))) for body in self.read().values()]
        return [row for rows in files for row in rows[1:]]

    def unfinished(self) -> list[str]:
        """The keys of the uploads that were neither completed nor aborted."""
        return [entry["Key"] for entry in self.client.list_multipart_uploads(Bucket=BUCKET).get("Uploads", ())]


@pytest.fixture
def bucket(moto: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    requests.post(f"{moto}/moto-api/reset", timeout=30).raise_for_status()
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto)
    client = boto3.client("s3")
    yield Bucket(client)
    client.close()


@pytest.fixture
def sqlite(tmp_path, airflow_connection) -> Iterator[sqlite3.Connection]:
    """A SQLite database, as the connection ``lite``."""
    path = tmp_path / "shop.db"
    airflow_connection("lite", json.dumps({"conn_type": "sqlite", "host": str(path)}))
    connection = sqlite3.connect(path)
    yield connection
    connection.close()


@pytest.fixture
def pg(postgres: Database, airflow_connection) -> Database:
    """A PostgreSQL database, as the connection ``pg``."""
    airflow_connection("pg", postgres.uri)
    return postgres


@pytest.fixture
def service(monkeypatch):
    """What the service answers about the dataset: ``{operation: answer or error}``."""
    answers: dict[str, Any] = {
        "DescribeDataset": {"dataset": {"datasetType": "INTERACTIONS", "schemaArn": "arn:schema"}},
        "DescribeSchema": {"schema": {"schema": json.dumps(INTERACTIONS)}},
        "ListDatasetImportJobs": {"datasetImportJobs": []},
    }
    real = BaseClient._make_api_call

    def answer(client, operation, request):
        if client.meta.service_model.service_name != "personalize":
            return real(client, operation, request)
        found = answers[operation]
        if isinstance(found, str):
            raise ClientError({"Error": {"Code": found, "Message": "no"}}, operation)
        return found

    monkeypatch.setattr(BaseClient, "_make_api_call", answer)
    return answers


def operator(sql: str, conn_id: str, **kwargs: Any) -> SqlToPersonalizeDatasetOperator:
    arguments = {"s3_uri": f"s3://{BUCKET}/data", "aws_conn_id": None, "task_id": "prepare"} | kwargs
    return SqlToPersonalizeDatasetOperator(sql=sql, sql_conn_id=conn_id, **arguments)


def run(sql: str, conn_id: str, **kwargs: Any) -> str:
    return operator(sql, conn_id, **kwargs).execute({})


def problems_of(sql: str, conn_id: str, **kwargs: Any) -> list[str]:
    with pytest.raises(InvalidRequestError) as caught:
        run(sql, conn_id, **kwargs)
    return caught.value.problems


@pytest.fixture
def only_the_server_writes(monkeypatch):
    """The rows must not come through the driver."""
    monkeypatch.setattr(dataset_copy, "stream_query", None)


def test_what_postgresql_writes_by_itself(pg, bucket, only_the_server_writes):
    pg.execute("CREATE TABLE ids (n int, id text)")
    for number, user in enumerate(NASTY_IDS):
        pg.execute("INSERT INTO ids VALUES (%s, %s)", (number, user))
    sql = (
        "SELECT to_timestamp(1700000000.9) AS timestamp, n AS item_id, id AS user_id FROM ids, generate_series(1, 100) "
        "ORDER BY n -- all of them"
    )
    assert run(sql, "pg", schema=INTERACTIONS, import_mode="INCREMENTAL") == f"s3://{BUCKET}/data/"
    [(key, body)] = bucket.read().items()
    assert key == "data/part-00000.csv"
    assert body.startswith(b"USER_ID,ITEM_ID,TIMESTAMP\n")
    assert bucket.rows() == [[user, str(n), "1700000000"] for n, user in enumerate(NASTY_IDS) for _ in range(100)]
    assert bucket.client.head_object(Bucket=BUCKET, Key=key)["ContentType"] == "text/csv"
    assert bucket.unfinished() == []


EVERY_TYPE = """
    SELECT * FROM (VALUES
        ('a'::text, {genres}, TIMESTAMPTZ '2024-02-29 14:30:15.9+02', 9.50::numeric, true),
        ('b', NULL, '2024-02-29 12:30:15Z', NULL, false),
        ('c', {genres}, 'epoch', 1e-7, NULL)
    ) AS v(item_id, genres, creation_timestamp, price, in_stock)
"""


@pytest.mark.parametrize(
    ("genres", "expected"),
    [
        ("'Comedy'", "Comedy"),
        ("'say \"hi\", you'", 'say "hi", you'),
        ('\'["a", "b,c"]\'', "a|b,c"),
        ("ARRAY['a', 'b,c']", "a|b,c"),
        ("'[\"a\", 1]'::jsonb", "a|1"),
        ("7", "7"),
        ("7.0::numeric", "7"),
    ],
)
def test_postgresqls_types(pg, bucket, genres, expected):
    run(EVERY_TYPE.format(genres=genres), "pg", schema=ITEMS)
    a, b, c = bucket.rows()
    assert a == ["a", expected, "1709209815", "9.50", "true"]
    assert b == ["b", "", "1709209815", "", "false"]
    assert [c[0], c[1], c[2], float(c[3]), c[4]] == ["c", expected, "0", 1e-7, ""]


@pytest.mark.parametrize("type_", ["timestamptz", "timestamp", "date", "bigint", "numeric", "text"])
def test_timestamps_of_postgresql(pg, bucket, type_):
    value = "1709164800" if type_ in {"bigint", "numeric"} else "2024-02-29 00:00:00"
    pg.execute(f"ALTER DATABASE {pg.name} SET timezone = 'UTC'")
    run(
        f"SELECT 'i' AS item_id, '{value}'::{type_} AS creation_timestamp, 1.0 AS price, NULL::text AS genres, "
        "true AS in_stock",
        "pg",
        schema=ITEMS,
    )
    assert bucket.rows() == [["i", "", "1709164800", "1.0", "true"]]


@pytest.mark.parametrize("type_", ["date", "timestamp", "timestamptz"])
def test_a_moment_that_is_a_mistake_is_told_as_it_stands(pg, bucket, type_, only_the_server_writes):
    sql = (
        f"SELECT v::{type_} AS creation_timestamp, 'i' AS item_id, NULL::text AS genres, 1.0 AS price, "
        "true AS in_stock FROM (VALUES ('9999-12-31'), ('1969-12-31'), ('infinity')) AS t(v)"
    )
    with pytest.raises(InvalidRequestError) as caught:
        run(sql, "pg", schema=ITEMS)
    future, past, never = caught.value.problems
    assert re.search(r"Row 1, .* got '9999-12-31.*', which is in the future", future)
    assert re.search(r"Row 2, .* expected a moment since 1970, got '1969-12-31", past)
    assert re.search(r"Row 3, .* got 'infinity'", never)


def test_metadata_may_be_any_moment(pg, bucket, only_the_server_writes):
    schema = avro("Users", field("USER_ID"), field("BORN", "long"), field("UNTIL", "long"))
    run("SELECT 'u' AS user_id, date '1950-01-01' AS born, date '9999-12-31' AS until", "pg", schema=schema)
    assert bucket.rows() == [["u", "-631152000", "253402214400"]]


@pytest.mark.parametrize("nullable", ["long", ["long", "null"]])
def test_metadata_that_is_never_is_no_moment(pg, bucket, only_the_server_writes, nullable):
    schema = avro("Users", field("USER_ID"), field("UNTIL", nullable))
    sql = "SELECT 'u' AS user_id, v::timestamptz AS until FROM (VALUES {}) AS t(v)"
    values = "('2026-11-22'), ('infinity'), ('-infinity')" + (", (NULL)" if nullable != "long" else "")
    assert problems_of(sql.format(values), "pg", schema=schema) == [
        "Row 2, column until: expected a whole number, got 'infinity'; cast the column in the query.",
        "Row 3, column until: expected a whole number, got '-infinity'; cast the column in the query.",
    ]
    assert bucket.read() == {}


def test_parameters_are_bound(pg, bucket, only_the_server_writes):
    sql = "SELECT %(id)s AS user_id, 100 %% 7 AS age"
    schema = avro("Users", field("USER_ID"), field("AGE", "int"))
    nasty = "'; DROP TABLE x; -- \\' $$ %s"
    run(sql, "pg", schema=schema, parameters={"id": nasty})
    assert bucket.rows() == [[nasty, "2"]]


@pytest.mark.parametrize(
    "sql", ["SELECT 1 AS user_id; DROP TABLE x", "COPY x TO PROGRAM 'true'", "SELECT 1) TO STDOUT; DROP TABLE x; --"]
)
def test_nothing_but_one_query(pg, bucket, sql):
    pg.execute("CREATE TABLE x (a int)")
    with pytest.raises(Exception, match=r"sql: expected one|syntax error|closed"):
        run(sql, "pg", schema=avro("Users", field("USER_ID"), field("AGE", "int")))
    assert pg.execute("SELECT count(*) FROM x") == [(0,)]


def test_a_query_cannot_write(pg, bucket):
    pg.execute("CREATE TABLE x (a int)")
    pg.execute("CREATE FUNCTION sneak() RETURNS int LANGUAGE sql AS 'INSERT INTO x VALUES (1) RETURNING a'")
    with pytest.raises(Exception, match="read-only transaction"):
        run("SELECT 'u' AS user_id, sneak() AS age", "pg", schema=avro("Users", field("USER_ID"), field("AGE", "int")))
    assert pg.execute("SELECT count(*) FROM x") == [(0,)]
    assert bucket.read() == {}
    assert bucket.unfinished() == []


def test_sqlite(sqlite, bucket):
    sqlite.execute("CREATE TABLE items (id, genres, at, price, stock)")
    sqlite.executemany(
        "INSERT INTO items VALUES (?, ?, ?, ?, ?)",
        [
            (7, '["a", "b"]', "2024-02-29 12:30:15", 9.5, 1),
            ("b", None, 1709209815, None, 0),
            ("c,d", "a|b", "2024-02-29T14:30:15+02:00", 3, None),
        ],
    )
    sqlite.commit()
    sql = "SELECT id AS itemId, genres, at AS creationTimestamp, price, stock AS in_stock FROM items ORDER BY rowid"
    run(sql, "lite", schema=json.dumps(ITEMS), dataset_type="items")
    assert bucket.rows() == [
        ["7", "a|b", "1709209815", "9.5", "true"],
        ["b", "", "1709209815", "", "false"],
        ["c,d", "a|b", "1709209815", "3", ""],
    ]


def test_mysql(mariadb_port, bucket, airflow_connection):
    connection = {"conn_type": "mysql", "host": "127.0.0.1", "port": mariadb_port, "login": "root", "schema": "mysql"}
    airflow_connection("maria", json.dumps(connection))
    sql = (
        "SELECT 'é' AS item_id, '[\"a\",\"b\"]' AS genres, TIMESTAMP '2024-02-29 12:30:15' AS creation_timestamp, "
        "CAST(9.50 AS DECIMAL(6, 2)) AS price, 1 = 1 AS in_stock"
    )
    run(sql, "maria", schema=ITEMS)
    assert bucket.rows() == [["é", "a|b", "1709209815", "9.50", "true"]]
    made = personalize_schema("maria", sql, "ITEMS", categorical=["genres"])
    assert {entry["name"]: entry["type"] for entry in made["fields"]}["CREATION_TIMESTAMP"] == "long"


WRONG = """
    SELECT 'u' || n AS user_id, CASE WHEN n = 2 THEN repeat('x', 257) ELSE 'i' END AS item_id,
        CASE n WHEN 3 THEN NULL WHEN 4 THEN 1700000000000 WHEN 5 THEN -1 ELSE 1700000000 END AS timestamp
    FROM generate_series(1, 1000) n ORDER BY n
"""


@pytest.mark.parametrize("path", ["server", "driver"])
def test_all_problems_are_told_and_nothing_is_left_behind(pg, bucket, path, monkeypatch):
    if path == "driver":
        monkeypatch.setattr(dataset_copy, "csv_expressions", lambda rows, oids: None)
    bucket.client.put_object(Bucket=BUCKET, Key="data/part-00000.csv", Body=b"of an earlier run")
    problems = problems_of(WRONG, "pg", schema=INTERACTIONS)
    assert problems[0].startswith("Row 2, column item_id: expected an id of at most 256 characters, got 257")
    assert problems[1].startswith("Row 3, column timestamp: expected a value, got null")
    assert problems[2].startswith("Row 4, column timestamp: expected epoch seconds, got ")
    assert problems[3].startswith("Row 5, column timestamp: expected a moment since 1970")
    assert problems[4].startswith("expected at least 25 users with 2 interactions or more, as training needs, got 0")
    assert len(problems) == 5
    assert bucket.read() == {"data/part-00000.csv": b"of an earlier run"}
    assert bucket.unfinished() == []


def test_columns_that_are_not_the_schemas_and_the_first_rows_beside(pg, bucket):
    problems = problems_of(
        "SELECT NULL::text AS user_id, 'x' AS thing FROM generate_series(1, 9)", "pg", schema=INTERACTIONS
    )
    assert [problem.split(":")[0] for problem in problems] == [
        "Column ITEM_ID",
        "Column TIMESTAMP",
        "Column thing",
        *(f"Row {n}, column user_id" for n in range(1, 10)),
    ]


def test_many_rows_go_into_several_files_and_each_has_the_header(pg, bucket, monkeypatch):
    monkeypatch.setattr(module, "FILE_BYTES", 3_000_000)
    monkeypatch.setattr(server_csv, "BLOCK_BYTES", 500_000)
    sql = (
        "SELECT 'u' || n AS user_id, repeat('x', 40) AS item_id, 1700000000 AS timestamp "
        "FROM generate_series(1, 150000) n"
    )
    run(sql, "pg", schema=INTERACTIONS, import_mode="INCREMENTAL")
    files = bucket.read()
    assert list(files) == ["data/part-00000.csv", "data/part-00001.csv", "data/part-00002.csv"]
    assert all(body.startswith(b"USER_ID,ITEM_ID,TIMESTAMP\nu") and body.endswith(b"\n") for body in files.values())
    assert [row[0] for row in bucket.rows()] == [f"u{n}" for n in range(1, 150_001)]


def test_too_few_interactions(sqlite, bucket, service, log):
    sql = NUMBERS.format(9) + ENOUGH
    [rows, users] = problems_of(sql, "lite", dataset_arn=DATASET)
    assert rows.startswith("expected at least 1,000 interactions, as training needs, got 10")
    assert users.startswith("expected at least 25 users with 2 interactions or more, as training needs, got 0")
    assert bucket.read() == {}
    service["ListDatasetImportJobs"] = {"datasetImportJobs": [{"status": "CREATE FAILED"}, {"status": "ACTIVE"}]}
    run(sql, "lite", dataset_arn=DATASET)
    assert len(bucket.rows()) == 10
    assert "expected at least 1,000 interactions" in log()


def test_too_few_interactions_where_nobody_may_look(sqlite, bucket, service, log):
    service["ListDatasetImportJobs"] = "AccessDeniedException"
    run(NUMBERS.format(9) + ENOUGH, "lite", dataset_arn=DATASET)
    assert "Whether the dataset holds data already could not be seen" in log()


def test_the_schema_of_the_dataset(sqlite, bucket, service):
    # Of a domain: what the service has taken is not judged again.
    service["DescribeSchema"] = {"schema": {"schema": json.dumps(INTERACTIONS | {"namespace": "of.the.domain"})}}
    run(NUMBERS.format(999) + ENOUGH, "lite", dataset_arn=DATASET)
    assert bucket.rows()[0] == ["u0", "i0", "1700000000"]
    with pytest.raises(InvalidRequestError, match="dataset_type: expected INTERACTIONS, as the dataset has, got ITEMS"):
        run(NUMBERS.format(999) + ENOUGH, "lite", dataset_arn=DATASET, dataset_type="ITEMS")
    service["DescribeDataset"] = "ResourceNotFoundException"
    with pytest.raises(ServiceError, match="DescribeDataset"):
        run(NUMBERS.format(999) + ENOUGH, "lite", dataset_arn=DATASET)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "Expected exactly one of schema and dataset_arn"),
        ({"schema": INTERACTIONS, "dataset_arn": DATASET}, "Expected exactly one of schema and dataset_arn"),
        ({"schema": INTERACTIONS, "dataset_type": "ITEMS"}, "the service would refuse this schema for ITEMS"),
        ({"schema": avro("Items", field("ITEM_ID"))}, "ITEMS needs at least one field beside ITEM_ID"),
        (
            {"schema": INTERACTIONS, "dataset_type": "ACTIONS"},
            "dataset_type: expected one of INTERACTIONS, ITEMS, USERS",
        ),
        ({"dataset_arn": "arn:aws:s3:::x"}, "dataset_arn: expected an ARN of Amazon Personalize"),
        ({"schema": INTERACTIONS, "import_mode": "SOME"}, "import_mode: expected one of FULL, INCREMENTAL"),
    ],
)
def test_mistakes_are_told_where_the_dag_is_parsed(arguments, said):
    with pytest.raises(InvalidRequestError) as caught:
        operator("SELECT 1", "pg", **arguments)
    assert said in str(caught.value)


def test_a_query_without_rows(sqlite, bucket):
    sql = "SELECT 'i' AS item_id, 1 AS price WHERE 1 = 0"
    schema = avro("Items", field("ITEM_ID"), field("PRICE", "int"))
    with pytest.raises(InvalidRequestError, match="sql: expected at least one row, got none"):
        run(sql, "lite", schema=schema)
    with pytest.raises(AirflowSkipException):
        run(sql, "lite", schema=schema, allow_empty=True)
    assert bucket.read() == {}
    assert bucket.unfinished() == []


@pytest.mark.parametrize("conn_id", ["pg", "lite"])
def test_a_list_of_users_for_a_data_deletion_job(conn_id, pg, sqlite, bucket):
    sql = "SELECT 'u,1' AS userId UNION ALL SELECT 'u2' ORDER BY 1"
    result = SqlToPersonalizeUserListOperator(
        task_id="forget", sql=sql, sql_conn_id=conn_id, s3_uri=f"s3://{BUCKET}/forget/", aws_conn_id=None
    ).execute({})
    assert result == f"s3://{BUCKET}/forget/"
    assert bucket.read() == {"forget/part-00000.csv": b'USER_ID\n"u,1"\nu2\n'}


def test_ids_are_those_of_the_input_operator(pg, bucket):
    sql = "SELECT v AS user_id FROM (VALUES (1, 7.00), (2, 1e20), (3, 12)) AS t(n, v) ORDER BY n"
    common = {"sql_conn_id": "pg", "aws_conn_id": None}
    SqlToPersonalizeInputOperator(task_id="a", sql=sql, s3_uri=f"s3://{BUCKET}/in/", **common).execute({})
    SqlToPersonalizeUserListOperator(task_id="b", sql=sql, s3_uri=f"s3://{BUCKET}/out/", **common).execute({})
    files = bucket.read()
    ids = [json.loads(line)["userId"] for line in files["in/part-00000.json"].splitlines()]
    assert files["out/part-00000.csv"].decode().split() == ["USER_ID", *ids]


def test_a_schema_for_a_query_of_postgresql(pg):
    sql = """
        SELECT 1::bigint AS item_id, 'x'::text AS genres, ''::varchar AS description, 1.5::numeric AS price,
            2::smallint AS seasons, true AS in_stock, now() AS created, ARRAY['a'] AS "castNames" WHERE false
    """
    made = personalize_schema("pg", sql, "ITEMS", categorical=["genres", "castNames"], textual=["Description"])
    assert made["name"] == "Items"
    assert made["fields"] == [
        field("ITEM_ID"),
        field("GENRES", ["string", "null"], categorical=True),
        field("DESCRIPTION", ["string", "null"], textual=True),
        field("PRICE", ["double", "null"]),
        field("SEASONS", ["int", "null"]),
        field("IN_STOCK", ["boolean", "null"]),
        field("CREATED", ["long", "null"]),
        field("CAST_NAMES", ["string", "null"], categorical=True),
    ]


def test_a_schema_for_a_query_of_sqlite(sqlite):
    sql = "SELECT 'u' AS user_id, 1 AS item_id, 5 AS timestamp, 'x' AS event_type, 1.5 AS event_value, 2 AS steps"
    made = personalize_schema("lite", sql, "interactions")
    assert {entry["name"]: entry["type"] for entry in made["fields"]} == {
        "USER_ID": "string",
        "ITEM_ID": "string",
        "TIMESTAMP": "long",
        "EVENT_TYPE": "string",
        "EVENT_VALUE": ["double", "null"],
        "STEPS": ["long", "null"],
    }
    with pytest.raises(InvalidRequestError, match="expected at least one row"):
        personalize_schema("lite", f"{sql} WHERE 1 = 0", "INTERACTIONS")


def test_text_has_to_be_said_to_be_categorical_or_textual(pg):
    with pytest.raises(InvalidRequestError, match='GENRES: text is metadata only with "categorical": true'):
        personalize_schema("pg", "SELECT 'i' AS item_id, 'x'::text AS genres", "ITEMS")
    with pytest.raises(InvalidRequestError, match="categorical: expected a list of columns, got the text 'genres'"):
        personalize_schema("pg", "SELECT 'i' AS item_id, 'x'::text AS genres", "ITEMS", "genres")


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_both_drivers(pg, bucket, driver, monkeypatch):
    """Whichever Airflow's hook takes."""
    connect = pytest.importorskip(driver).connect
    from airflow.providers.postgres.hooks.postgres import PostgresHook

    monkeypatch.setattr(PostgresHook, "get_conn", lambda self: connect(pg.uri))
    monkeypatch.setattr(server_csv, "BLOCK_BYTES", 100)
    sql = (
        "SELECT E'u\"\\n' || n || E'\\r\\n,' AS user_id, %s AS item_id, 1700000000 AS timestamp "
        "FROM generate_series(0, 1999) n"
    )
    run(sql, "pg", schema=INTERACTIONS, parameters=["é"], import_mode="INCREMENTAL")
    assert bucket.rows() == [[f'u"\n{n}\r\n,', "é", "1700000000"] for n in range(2000)]


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_an_error_in_the_midst_of_the_rows_is_the_databases_own(pg, bucket, driver, monkeypatch):
    connect = pytest.importorskip(driver).connect
    from airflow.providers.postgres.hooks.postgres import PostgresHook

    monkeypatch.setattr(PostgresHook, "get_conn", lambda self: connect(pg.uri))
    sql = "SELECT 'u' || 1 / (n - 50000) AS user_id, 1 AS age FROM generate_series(1, 100000) n"
    schema = avro("Users", field("USER_ID"), field("AGE", "int"))
    with pytest.raises(Exception, match="division by zero") as caught:
        run(sql, "pg", schema=schema)
    assert type(caught.value).__name__ == "DivisionByZero"
    assert bucket.read() == {}
    assert bucket.unfinished() == []


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_a_refusal_of_s3_in_the_midst_of_the_rows(pg, bucket, driver, monkeypatch):
    connect = pytest.importorskip(driver).connect
    from airflow.providers.postgres.hooks.postgres import PostgresHook

    monkeypatch.setattr(PostgresHook, "get_conn", lambda self: connect(pg.uri))
    real = BaseClient._make_api_call

    def refuse(client, operation, request):
        if operation == "UploadPart":
            raise ClientError({"Error": {"Code": "AccessDenied", "Message": "no"}}, operation)
        return real(client, operation, request)

    monkeypatch.setattr(BaseClient, "_make_api_call", refuse)
    sql = "SELECT repeat('u', 200) || n AS user_id, 1 AS age FROM generate_series(1, 300000) n"
    with pytest.raises(ServiceError, match="s3:PutObject"):
        run(sql, "pg", schema=avro("Users", field("USER_ID"), field("AGE", "int")))
    assert bucket.read() == {}
    assert bucket.unfinished() == []


def test_a_moment_just_before_the_next_second(pg, bucket):
    sql = """
        SELECT n AS item_id, NULL::text AS genres, 1.0 AS price, true AS in_stock,
            timestamptz '2024-02-29 12:30:15.999999+00' + make_interval(years => n - 60) AS creation_timestamp
        FROM generate_series(15, 61, 23) n
    """
    run(sql, "pg", schema=ITEMS)
    assert [row[2] for row in bucket.rows()] == ["289053015", "1014899415", "1740745815"]
