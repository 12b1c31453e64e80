"""Queries on real databases become input lines on S3, whole, or change nothing."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Barrier, Thread
from typing import TYPE_CHECKING, Any

import boto3
import pytest
import requests
from airflow.exceptions import AirflowSkipException
from botocore.awsrequest import AWSResponse
from botocore.client import BaseClient
from botocore.exceptions import ClientError

from airflow_provider_personalize.exceptions import (
    InvalidLineError,
    InvalidRequestError,
    PersonalizeError,
    ServiceError,
)
from airflow_provider_personalize.s3.multipart import MultipartFiles
from airflow_provider_personalize.s3.uploads import PART_BYTES
from airflow_provider_personalize.sql.query import database_hook, stream_query
from airflow_provider_personalize.transfers.sql_to_personalize import SqlToPersonalizeInputOperator
from airflow_provider_personalize.uris import parse_s3_uri

if TYPE_CHECKING:
    from example_dags.demo.postgres import Database

PREFIX = parse_s3_uri("s3://personalize-input/in/")
NASTY_IDS = [
    "plain",
    " space before and after ",
    "quote \" and ' quote",
    "back\\slash \\n \\u0041",
    "tab\tnewline\nreturn\r",
    "comma, semicolon; {} [] %s %% $1",
    "\x01\x1f\x7f\x85\u2028\u2029\ufeff",
    "Zoë 日本 \U0001f642\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "x" * 256,
    "007",
    "null",
]


class Bucket:
    """A bucket of the stand-in for S3."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.name = "personalize-input"
        client.create_bucket(Bucket=self.name)

    def put(self, key: str, body: bytes = b"") -> None:
        self.client.put_object(Bucket=self.name, Key=key, Body=body)

    def read(self, prefix: str = "") -> dict[str, bytes]:
        """Every object under the prefix: its key without the prefix, and its bytes."""
        listed = self.client.list_objects_v2(Bucket=self.name, Prefix=prefix).get("Contents", ())
        return {
            entry["Key"].removeprefix(prefix): self.client.get_object(Bucket=self.name, Key=entry["Key"])["Body"].read()
            for entry in listed
        }

    def lines(self, prefix: str = "in/") -> list[dict[str, Any]]:
        """Every line under the prefix, parsed."""
        return [json.loads(line) for body in self.read(prefix).values() for line in body.splitlines()]

    def unfinished(self) -> list[str]:
        """The keys of the uploads that were neither completed nor aborted."""
        return [entry["Key"] for entry in self.client.list_multipart_uploads(Bucket=self.name).get("Uploads", ())]


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


def run(sql: str, conn_id: str, **kwargs: Any) -> str:
    arguments = {"s3_uri": "s3://personalize-input/in/", "aws_conn_id": None} | kwargs
    return SqlToPersonalizeInputOperator(task_id="prepare", sql=sql, sql_conn_id=conn_id, **arguments).execute({})


def upload(client: Any, *batches: list[str], **kwargs: Any) -> None:
    with MultipartFiles(client, PREFIX, **kwargs) as files:
        for lines in batches:
            files.write(lines)
        files.publish()


def test_nasty_ids_of_postgresql_arrive_unchanged(pg, bucket):
    pg.execute("CREATE TABLE users (n int, id text)")
    for number, user in enumerate(NASTY_IDS):
        pg.execute("INSERT INTO users VALUES (%s, %s)", (number, user))
    assert run("SELECT id AS user_id FROM users ORDER BY n", "pg") == "s3://personalize-input/in/"
    assert bucket.lines() == [{"userId": user} for user in NASTY_IDS]
    assert list(bucket.read("in/")) == ["part-00000.json"]
    assert bucket.unfinished() == []


def test_nasty_ids_of_sqlite_arrive_unchanged(sqlite, bucket):
    sqlite.execute("CREATE TABLE users (id TEXT)")
    sqlite.executemany("INSERT INTO users VALUES (?)", [(user,) for user in NASTY_IDS])
    sqlite.commit()
    run("SELECT id AS userId FROM users ORDER BY rowid", "lite")
    assert bucket.lines() == [{"userId": user} for user in NASTY_IDS]


def test_numbers_of_postgresql_go_out_as_whole_numbers(pg, bucket):
    run(
        "SELECT id AS user_id FROM (VALUES (1, 123), (2, 123.00), (3, 9223372036854775807), (4, 1e30)) v(n, id)",
        "pg",
    )
    ids = ["123", "123", "9223372036854775807", "1" + "0" * 30]
    assert bucket.lines() == [{"userId": user} for user in ids]
    for kind in ("int", "bigint", "double precision", "real"):
        run(f"SELECT 123::{kind} AS user_id", "pg")
        assert bucket.lines() == [{"userId": "123"}], kind
    run("SELECT '00000000-0000-0000-0000-00000000000a'::uuid AS user_id", "pg")
    assert bucket.lines() == [{"userId": "00000000-0000-0000-0000-00000000000a"}]


def test_lists_and_filter_values_of_postgresql(pg, bucket):
    run(
        """
        SELECT 'u1' AS "userId", ARRAY['a"b', 'c'] AS item_list, ARRAY['horror', 'comedy'] AS genres, 1995 AS year
        UNION ALL SELECT 'u2', ARRAY['d'], ARRAY['drama'], NULL::int + 1 WHERE false
        """,
        "pg",
        filter_values={"GENRES": "genres", "YEAR": "year"},
    )
    assert bucket.lines() == [
        {
            "userId": "u1",
            "itemList": ['a"b', "c"],
            "filterValues": {"GENRES": '"horror","comedy"', "YEAR": '"1995"'},
        }
    ]
    run("SELECT 'u' AS user_id, '[1, \"b\"]'::jsonb AS item_list", "pg")
    assert bucket.lines() == [{"userId": "u", "itemList": ["1", "b"]}]


def test_lists_and_filter_values_of_sqlite_are_json_text(sqlite, bucket):
    run(
        "SELECT 'u' AS user_id, json_array('a', 7) AS item_list, json_array('horror', 'comedy') AS genres",
        "lite",
        filter_values={"GENRES": "genres"},
    )
    assert bucket.lines() == [{"userId": "u", "itemList": ["a", "7"], "filterValues": {"GENRES": '"horror","comedy"'}}]


def test_a_connection_that_asks_for_rows_as_dicts(postgres, airflow_connection, bucket):
    airflow_connection("pg", f"{postgres.uri}{'&' if '?' in postgres.uri else '?'}cursor=dictcursor")
    run("SELECT 'g' AS genre, n AS user_id FROM generate_series(1, 3) n", "pg", filter_values={"G": "genre"})
    assert bucket.lines() == [{"userId": str(n), "filterValues": {"G": '"g"'}} for n in (1, 2, 3)]


def test_parameters_are_bound_and_without_them_a_percent_sign_is_itself(pg, sqlite, bucket):
    run("SELECT %(id)s::text AS user_id", "pg", parameters={"id": "it's %"})
    assert bucket.lines() == [{"userId": "it's %"}]
    run("SELECT 'x' AS user_id WHERE 'abc' LIKE 'a%'", "pg")
    assert bucket.lines() == [{"userId": "x"}]
    run("SELECT ? AS user_id", "lite", parameters=["it's ?"])
    assert bucket.lines() == [{"userId": "it's ?"}]


def sizes(bucket: Bucket) -> dict[str, int]:
    return {name: body.count(b"\n") for name, body in bucket.read("in/").items()}


NUMBERS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {}) SELECT {} FROM n"


def test_files_split_at_the_quota_of_the_recipe(sqlite, bucket):
    run(NUMBERS.format(1001, "i AS item_id"), "lite")
    assert sizes(bucket) == {"part-00000.json": 500, "part-00001.json": 500, "part-00002.json": 1}
    assert bucket.lines() == [{"itemId": str(i)} for i in range(1, 1002)]

    run(NUMBERS.format(1001, "i AS item_id"), "lite", recipe="aws-similar-items")
    assert sizes(bucket) == {"part-00000.json": 1001}

    run(NUMBERS.format(21, "'ITEMS.year = ' || i AS item_attributes"), "lite")
    assert sizes(bucket) == {"part-00000.json": 10, "part-00001.json": 10, "part-00002.json": 1}

    run(NUMBERS.format(5, "i AS user_id"), "lite", max_lines_per_file=2)
    assert sizes(bucket) == {"part-00000.json": 2, "part-00001.json": 2, "part-00002.json": 1}
    assert bucket.lines() == [{"userId": str(i)} for i in range(1, 6)]


def test_more_files_than_a_job_takes_are_refused_before_any_appears(bucket):
    with pytest.raises(InvalidRequestError, match=r"than 3 files of 2 lines can hold.*recipe"):
        upload(bucket.client, ["a"] * 6, ["b"], max_lines=2, max_files=3)
    assert bucket.read() == {}
    assert bucket.unfinished() == []


def test_a_file_stays_below_the_most_bytes(bucket):
    upload(bucket.client, ["0123456789"], ["a"] * 30, ["b" * 24, "c"], max_bytes=25)
    bodies = bucket.read("in/")
    assert b"".join(bodies.values()) == b"0123456789\n" + b"a\n" * 30 + b"b" * 24 + b"\nc\n"
    assert max(map(len, bodies.values())) <= 25
    assert all(body.endswith(b"\n") for body in bodies.values())
    with pytest.raises(InvalidLineError, match=r"at most 25 bytes, .*got 26"):
        upload(bucket.client, ["b" * 25], max_bytes=25)


def test_a_rerun_replaces_what_was_there_and_leaves_no_stale_part(sqlite, bucket):
    bucket.put("in/")  # The S3 console makes a folder like this.
    bucket.put("in-other/part-00000.json", b"a neighbour's")
    run(NUMBERS.format(1001, "i AS item_id"), "lite")
    run(NUMBERS.format(3, "i AS item_id"), "lite")
    assert bucket.read() == {
        "in/": b"",
        "in/part-00000.json": b'{"itemId": "1"}\n{"itemId": "2"}\n{"itemId": "3"}\n',
        "in-other/part-00000.json": b"a neighbour's",
    }


@pytest.mark.parametrize("key", ["in/users.json", "in/part-0.json", "in/old/part-00000.json"])
def test_other_objects_under_the_prefix_are_an_error_and_stay(key, sqlite, bucket):
    bucket.put(key, b"precious")
    with pytest.raises(InvalidRequestError, match=f"nothing but earlier part files.*{key}"):
        run("SELECT 1 AS user_id", "lite")
    assert bucket.read() == {key: b"precious"}


def test_a_missing_slash_is_added(sqlite, bucket):
    assert run("SELECT 1 AS user_id", "lite", s3_uri="s3://personalize-input/a/b") == "s3://personalize-input/a/b/"
    assert list(bucket.read()) == ["a/b/part-00000.json"]


BAD_ROW = """
    SELECT CASE i WHEN {row} THEN {value} ELSE repeat('x', 200) || i END AS user_id FROM generate_series(1, {rows}) i
"""


@pytest.mark.parametrize(
    ("sql", "error", "message"),
    [
        (BAD_ROW.format(row=90_000, value="NULL", rows=100_000), InvalidLineError, "Row 90000 .* null"),
        (BAD_ROW.format(row=90_000, value="(1 / (i - i))::text", rows=100_000), Exception, "division by zero"),
        ("SELECT i AS customer FROM generate_series(1, 9) i", InvalidRequestError, "got \\['customer'\\]"),
        ("SELECT 1 AS user_id WHERE false", InvalidRequestError, "at least one row.*allow_empty"),
        ("SELECT * FROM nowhere", Exception, "nowhere"),
    ],
)
def test_whatever_fails_leaves_what_was_there(sql, error, message, pg, bucket):
    run("SELECT i AS user_id FROM generate_series(1, 5) i", "pg", max_lines_per_file=2)
    before = bucket.read()
    assert len(before) == 3
    with pytest.raises(error, match=message):
        run(sql, "pg")
    assert bucket.read() == before
    assert bucket.unfinished() == []
    sessions = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    deadline = time.monotonic() + 60
    while pg.execute(sessions) != [(0,)]:
        assert time.monotonic() < deadline, "the failed task's database session is still open"
        time.sleep(0.05)


def test_an_upload_that_is_refused_leaves_what_was_there(bucket):
    bucket.put("in/part-00000.json", b"before")
    client = boto3.client("s3")
    sent = []

    def refuse_the_third(request, **_):
        sent.append(request.url)
        if len(sent) == 3:
            return AWSResponse(request.url, 403, {}, _Body(b"<Error><Code>AccessDenied</Code></Error>"))
        return None

    client.meta.events.register("before-send.s3.UploadPart", refuse_the_third)
    lines = ["x" * 999] * (PART_BYTES // 1000 + 1)
    with pytest.raises(ServiceError, match=r"(?s)AccessDenied.*UploadPart.*s3:PutObject"):
        upload(client, *[lines] * 6)
    client.close()
    assert len(sent) >= 3
    assert bucket.read() == {"in/part-00000.json": b"before"}
    assert bucket.unfinished() == []


class _Body:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def stream(self) -> Iterator[bytes]:
        yield self._data


def test_a_file_of_several_parts_arrives_whole(pg, bucket):
    run("SELECT repeat('x', 240) || i AS user_id FROM generate_series(1, 80000) i", "pg")
    (body,) = bucket.read("in/").values()
    assert len(body) > 2 * PART_BYTES
    assert body == b"".join(b'{"userId": "%s%d"}\n' % (b"x" * 240, i) for i in range(1, 80_001))


def test_unfinished_uploads_of_a_killed_run_are_aborted_and_others_are_not(sqlite, bucket):
    for key in ("in/part-00003.json", "in/video.mp4", "elsewhere/part-00000.json"):
        bucket.client.create_multipart_upload(Bucket=bucket.name, Key=key)
    run("SELECT 1 AS user_id", "lite")
    assert sorted(bucket.unfinished()) == ["elsewhere/part-00000.json", "in/video.mp4"]


def test_of_two_runs_at_once_the_earlier_one_says_so_and_nothing_is_mixed(bucket):
    with MultipartFiles(bucket.client, PREFIX, max_lines=1) as first:
        first.write(["a", "a", "a"])
        with MultipartFiles(bucket.client, PREFIX, max_lines=1) as second:
            second.write(["b", "b"])
            second.publish()
        with pytest.raises(PersonalizeError, match=r"(?s)Another run.*prefix of its own.*s3://personalize-input/in/"):
            first.publish()
    assert bucket.read("in/") == {"part-00000.json": b"b\n", "part-00001.json": b"b\n"}
    assert bucket.unfinished() == []


def test_a_run_that_has_uploaded_nothing_yet_sees_the_other_one_too(bucket):
    with MultipartFiles(bucket.client, PREFIX) as first:
        with MultipartFiles(bucket.client, PREFIX) as second:
            first.write(["a"])
            second.write(["b"])
            with pytest.raises(PersonalizeError, match="Another run"):
                first.publish()
            second.publish()
        with pytest.raises(PersonalizeError, match="Another run"):
            first.delete_parts()
    assert bucket.read("in/") == {"part-00000.json": b"b\n"}
    assert bucket.unfinished() == []


def test_of_two_runs_that_begin_together_one_goes_on(bucket):
    """Each has looked for others before either says that it is there, and neither is over before both have said so."""
    both_looked, both_began = Barrier(2, timeout=30), Barrier(2, timeout=30)
    published, refused = [], []

    def run_one(name: str) -> None:
        client, created = boto3.client("s3"), []

        def wait_for_the_other(**_: Any) -> None:
            if not created:
                created.append(1)
                both_looked.wait()

        client.meta.events.register("before-send.s3.CreateMultipartUpload", wait_for_the_other)
        files = MultipartFiles(client, PREFIX)
        try:
            try:
                files.__enter__()
            finally:
                both_began.wait()
            with files_of(files):
                files.write([name])
                files.publish()
            published.append(name)
        except PersonalizeError as error:
            refused.append(str(error))
        finally:
            client.close()

    @contextmanager
    def files_of(files: MultipartFiles) -> Iterator[None]:
        try:
            yield
        finally:
            files.__exit__(None, None, None)

    threads = [Thread(target=run_one, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    [error] = refused
    assert error.startswith("Another run")
    assert bucket.read("in/") == {"part-00000.json": f"{published[0]}\n".encode()}
    assert bucket.unfinished() == []


def test_a_killed_run_does_not_block_the_next_one(sqlite, bucket):
    killed = MultipartFiles(bucket.client, PREFIX).__enter__()
    killed.write(["x"])
    assert bucket.unfinished() != []
    run("SELECT 1 AS user_id", "lite")
    assert bucket.lines() == [{"userId": "1"}]
    assert bucket.unfinished() == []
    killed.__exit__(None, None, None)


def test_a_store_that_lists_no_uploads_is_no_other_run(sqlite, bucket, monkeypatch):
    def refuse(self, operation, arguments, *, call=BaseClient._make_api_call):
        if operation == "ListMultipartUploads":
            raise ClientError({"Error": {"Code": "AccessDenied"}}, operation)
        return call(self, operation, arguments)

    monkeypatch.setattr(BaseClient, "_make_api_call", refuse)
    run("SELECT 1 AS user_id", "lite")
    assert bucket.lines() == [{"userId": "1"}]


EXPIRED = b"<Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message></Error>"


@pytest.mark.parametrize("operation", ["CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"])
def test_credentials_that_expire_are_renewed_and_the_request_is_sent_again(operation, sqlite, bucket, monkeypatch):
    """The first key expires after some requests; the task gets another one where it got the first."""
    seen = []

    def expire(self, asked, arguments, *, call=BaseClient._make_api_call):
        key = self._request_signer._credentials.access_key
        if asked == operation and key == "testing":
            seen.append(asked)
            monkeypatch.setenv("AWS_ACCESS_KEY_ID", "renewed")
            raise ClientError({"Error": {"Code": "ExpiredToken", "Message": "It has expired."}}, asked)
        return call(self, asked, arguments)

    monkeypatch.setattr(BaseClient, "_make_api_call", expire)
    run(NUMBERS.format(1001, "i AS item_id"), "lite")
    monkeypatch.undo()
    assert seen
    assert bucket.lines() == [{"itemId": str(i)} for i in range(1, 1002)]
    assert bucket.unfinished() == []


def test_a_part_whose_credentials_expire_twice_is_sent_until_it_arrives(bucket):
    client = boto3.client("s3")
    bodies = []

    def expire(request, **_):
        bodies.append(request.body)
        return AWSResponse(request.url, 400, {}, _Body(EXPIRED)) if len(bodies) <= 2 else None

    client.meta.events.register("before-send.s3.UploadPart", expire)
    upload(client, ["a", "b"])
    client.close()
    assert len(bodies) == 3
    assert bucket.read("in/") == {"part-00000.json": b"a\nb\n"}


def test_an_empty_result_can_skip_the_branch_and_leaves_an_empty_prefix(sqlite, bucket):
    run(NUMBERS.format(5, "i AS user_id"), "lite", max_lines_per_file=2)
    with pytest.raises(AirflowSkipException, match="no rows"):
        run("SELECT 1 AS user_id WHERE 1 = 0", "lite", allow_empty=True)
    assert bucket.read() == {}


def test_a_missing_bucket_is_named(sqlite, bucket):
    with pytest.raises(ServiceError, match=r"(?s)NoSuchBucket.*s3://no-such-bucket/in/.*Check the bucket"):
        run("SELECT 1 AS user_id", "lite", s3_uri="s3://no-such-bucket/in/")


def test_files_are_encrypted_with_the_key_that_was_asked_for(sqlite, bucket):
    key = "arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"
    run("SELECT 1 AS user_id", "lite", kms_key_arn=key, extra_args={"Metadata": {"owner": "shop"}})
    head = bucket.client.head_object(Bucket=bucket.name, Key="in/part-00000.json")
    assert (head["ServerSideEncryption"], head["SSEKMSKeyId"]) == ("aws:kms", key)
    assert head["Metadata"] == {"owner": "shop"}


def test_postgresql_sends_rows_as_they_are_asked_for(postgres, airflow_connection):
    # A billion rows: whoever asks for all of them runs into the timeout, or out of memory.
    separator = "&" if "?" in postgres.uri else "?"
    airflow_connection("pg", f"{postgres.uri}{separator}options=-c%20statement_timeout%3D5s")
    with stream_query(database_hook("pg"), "SELECT generate_series(1, 1000000000::bigint) AS user_id") as query:
        assert query.columns == ["user_id"]
        batches = iter(query)
        first = next(batches)
        query.batch_rows = 10
        second = next(batches)
        # Rows are made of what was fetched, in any order; another thread may do that at any time.
        assert [row[0] for row in second.rows()] == list(range(first.size + 1, first.size + 11))
        assert [row[0] for row in first.rows()] == list(range(1, first.size + 1))


def test_several_statements_on_postgresql_are_explained(pg, bucket):
    with pytest.raises(InvalidRequestError, match=r"expected one statement, got another .*SELECT 1.*settings"):
        run("SET work_mem = '64MB'; SELECT 1 AS user_id", "pg")


@pytest.mark.parametrize(
    ("connection", "message"),
    [
        ({"conn_type": "aws"}, "'other' of type 'aws', whose AwsGenericHook runs no SQL|AwsBaseHook runs no SQL"),
        ({"conn_type": "teradata"}, "type 'teradata'.*apache-airflow-providers-teradata"),
    ],
)
def test_a_connection_that_is_no_database_is_named(connection, message, bucket, airflow_connection):
    airflow_connection("other", json.dumps(connection))
    with pytest.raises(InvalidRequestError, match=message):
        run("SELECT 1 AS user_id", "other")


def test_wrong_arguments_are_refused_before_the_query_runs(sqlite, bucket):
    with pytest.raises(InvalidRequestError, match="s3_uri: expected an S3 URI"):
        run("SELECT 1 AS user_id", "lite", s3_uri="bucket/in")
    with pytest.raises(InvalidRequestError, match="recipe: expected one"):
        run("SELECT 1 AS user_id", "lite", recipe="aws-trending-now")
    with pytest.raises(InvalidRequestError, match="max_lines_per_file: expected a whole number, 1 or more, got 0"):
        run("SELECT 1 AS user_id", "lite", max_lines_per_file=0)
    with pytest.raises(InvalidRequestError, match="aws-sims \\(itemId\\), got \\['user_id'\\]"):
        run("SELECT 1 AS user_id", "lite", recipe="aws-sims")
    assert bucket.read() == {}
