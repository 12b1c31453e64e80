"""Which objects of S3 are a job's output, and that their bytes arrive, whatever the connection does."""

from __future__ import annotations

import http.client
import http.server
import json
import re
import threading
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import boto3
import pytest
import requests

from airflow_provider_personalize.exceptions import (
    InvalidRequestError,
    JobFailedError,
    MissingOutputError,
    ServiceError,
)
from airflow_provider_personalize.hooks.personalize import PersonalizeHook
from airflow_provider_personalize.s3 import download
from airflow_provider_personalize.s3.job_objects import objects_of_job
from airflow_provider_personalize.s3.objects import list_objects, read_error
from airflow_provider_personalize.spark import personalize_output
from airflow_provider_personalize.spark.personalize_output import Stored
from airflow_provider_personalize.uris import parse_s3_uri
from tests.integration.load_support import SqliteTarget, line, load, rows

JOB = "arn:aws:personalize:us-east-1:123456789012:batch-inference-job/nightly"
SEGMENTS = "arn:aws:personalize:us-east-1:123456789012:batch-segment-job/nightly"


@pytest.fixture
def s3(moto, monkeypatch):
    requests.post(f"{moto}/moto-api/reset", timeout=30).raise_for_status()
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto)
    with closing(boto3.client("s3")) as client:
        client.create_bucket(Bucket="source")
        client.create_bucket(Bucket="out")
        yield client


@pytest.fixture
def target(tmp_path, airflow_connection):
    path = tmp_path / "target.db"
    return SqliteTarget(path, airflow_connection("target", json.dumps({"conn_type": "sqlite", "host": str(path)})))


@pytest.fixture
def put(s3):
    def put(uri: str, *lines: str) -> None:
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        s3.put_object(Bucket=bucket, Key=key, Body="\n".join(lines).encode())

    return put


@pytest.fixture
def job(monkeypatch):
    """The description that the service gives of any job: changed by the test, read by the hook."""
    description = {
        "jobName": "nightly",
        "batchInferenceJobArn": JOB,
        "batchSegmentJobArn": SEGMENTS,
        "status": "ACTIVE",
        "jobInput": {"s3DataSource": {"path": "s3://source/users/"}},
        "jobOutput": {"s3DataDestination": {"path": "s3://out/recs/"}},
    }
    monkeypatch.setattr(PersonalizeHook, "describe_job", lambda self, arn: description)

    def change(source="s3://source/users/", destination="s3://out/recs/", **more):
        description["jobInput"]["s3DataSource"]["path"] = source
        description["jobOutput"]["s3DataDestination"]["path"] = destination
        description.update(more)

    return change


@pytest.mark.usefixtures("job")
def test_only_this_jobs_output_is_read(target, put):
    put("s3://source/users/")
    put("s3://source/users/1.json", "{}")
    put("s3://source/users/2.json", "{}")
    put("s3://source/users/_SUCCESS")
    put("s3://out/recs/1.json.out", line("u", "a"))
    put("s3://out/recs/2.json.out", line("v", "b"))
    put("s3://out/recs/3.json.out", line("neighbour", "x"))
    put("s3://out/recs/old/1.json.out", line("old", "x"))
    put("s3://out/recs/_CHECK", "not output")
    result = load(target, job_arn=JOB)
    assert (result["job_arn"], result["files"], result["rows"]) == (JOB, 2, 2)
    assert target.read() == rows("u", "a") + rows("v", "b")


@pytest.mark.parametrize(
    ("source", "destination", "inputs", "outputs"),
    [
        pytest.param("s3://source/users", "s3://out/recs", ["users/1.json"], ["recs/1.json.out"], id="no slashes"),
        pytest.param(
            "s3://source/users",
            "s3://out",
            ["users.json", "users_2/b.json"],
            ["users.json.out", "b.json.out"],
            id="a prefix",
        ),
        pytest.param(
            "s3://source/users.json", "s3://out/recs/", ["users.json"], ["recs/users.json.out"], id="an object"
        ),
        pytest.param("s3://source/", "s3://source/recs/", ["1.json"], ["recs/1.json.out"], id="output under input"),
        pytest.param("s3://source/a b/", "s3://out/ü+%/", ["a b/é.json"], ["ü+%/é.json.out"], id="any characters"),
    ],
)
def test_paths_of_all_sorts(target, put, job, source, destination, inputs, outputs):
    job(source, destination)
    for number, key in enumerate(inputs):
        put(f"s3://source/{key}", "{}")
        put(f"{'/'.join(destination.split('/')[:3])}/{outputs[number]}", line(f"u{number}", "a"))
    load(target, job_arn=JOB)
    assert [row[0] for row in target.read()] == [f"u{number}" for number in range(len(inputs))]


def test_a_missing_object_is_named(target, put, job):
    put("s3://source/users/1.json", "{}")
    put("s3://source/users/2.json", "{}")
    put("s3://out/recs/1.json.out", line("u", "a"))
    with pytest.raises(MissingOutputError, match=r"s3://out/recs/2.json.out.*s3://source/users/2.json"):
        load(target, job_arn=JOB)
    assert target.execute("SELECT name FROM sqlite_master") == []


def test_input_that_is_gone_is_an_error(target, put, job):
    put("s3://out/recs/1.json.out", line("u", "a"))
    with pytest.raises(MissingOutputError, match=r"s3://source/users/.*none is left.*output_uri, as 's3://out/recs/'"):
        load(target, job_arn=JOB)


def test_input_of_one_name_in_two_folders_is_an_error(target, put, job):
    put("s3://source/users/a/1.json", "{}")
    put("s3://source/users/b/1.json", "{}")
    put("s3://out/recs/1.json.out", line("u", "a"))
    with pytest.raises(
        InvalidRequestError, match=r"s3://source/users/a/1.json and s3://source/users/b/1.json have the same name"
    ):
        load(target, job_arn=JOB)


def test_a_job_that_is_not_done_is_an_error(target, s3, job):
    job(status="CREATE IN_PROGRESS")
    with pytest.raises(InvalidRequestError, match=r"expected a job that is ACTIVE.*CREATE IN_PROGRESS"):
        load(target, job_arn=JOB)
    job(status="CREATE FAILED", failureReason="no such thing")
    with pytest.raises(JobFailedError, match=r"no such thing"):
        load(target, job_arn=JOB)


def test_a_segment_job_tells_its_kind_even_without_a_line(target, put, job):
    put("s3://source/users/1.json", "{}")
    put("s3://out/recs/1.json.out", "")
    load(target, job_arn=SEGMENTS)
    assert target.execute("SELECT name FROM pragma_table_info('recs')") == [("segment",), ("rank",), ("user_id",)]


def test_append_is_once_per_job_whatever_its_objects(target, put, job):
    put("s3://source/users/1.json", "{}")
    put("s3://out/recs/1.json.out", line("u", "a"))
    load(target, job_arn=JOB, write_mode="append")
    put("s3://out/recs/1.json.out", line("u", "other"))
    load(target, job_arn=JOB, write_mode="append")
    assert target.read() == rows("u", "a")
    load(target, job_arn=SEGMENTS.replace("segment", "inference") + "-2", write_mode="append")
    assert target.read() == rows("u", "a") + rows("u", "other")


def test_an_object_or_a_prefix_by_its_uri(target, put):
    put("s3://out/recs/1.json.out", line("u", "a"))
    put("s3://out/recs/2.json.out", line("v", "b"))
    put("s3://out/recs/_CHECK", "not output")
    put("s3://out/recs-2/3.json.out", line("w", "c"))
    load(target, "s3://out/recs/")
    assert target.read() == rows("u", "a") + rows("v", "b")
    load(target, "s3://out/recs/2.json.out")
    assert target.read() == rows("v", "b")
    for uri in ("s3://out/nothing/", "s3://out/recs/3.json.out", "s3://out/recs"):
        with pytest.raises(MissingOutputError, match=uri):
            load(target, uri)


def test_a_bucket_that_is_not_there_is_named(target, s3):
    with pytest.raises(MissingOutputError, match=r"s3://nowhere/x/.*no such bucket"):
        load(target, "s3://nowhere/x/")


def test_many_small_objects_are_read_in_order(target, put):
    for number in range(150):
        put(f"s3://out/recs/{number:03}.out", line(f"u{number:03}", "a"))
    assert load(target, "s3://out/recs/")["files"] == 150
    assert [row[0] for row in target.execute("SELECT user_id FROM recs ORDER BY rowid")] == [
        f"u{n:03}" for n in range(150)
    ]


class Cutting(http.server.ThreadingHTTPServer):
    """Passes requests on to S3's stand-in, but ends some answers in the middle."""

    daemon_threads = True

    def __init__(self, endpoint: str) -> None:
        self.endpoint = urlsplit(endpoint)
        self.cuts = 0
        self.ranges: list[str] = []
        self.refuse = 0
        super().__init__(("127.0.0.1", 0), Handler)


class Handler(http.server.BaseHTTPRequestHandler):
    server: Cutting

    def do_GET(self) -> None:
        upstream = http.client.HTTPConnection(self.server.endpoint.netloc)
        upstream.request("GET", self.path, headers=dict(self.headers))
        answer = upstream.getresponse()
        body = answer.read()
        upstream.close()
        wanted = self.headers.get("Range")
        if wanted and self.server.refuse:
            self.server.refuse -= 1
            self.send_error(503)
            return
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            self.send_header(name, value)
        self.end_headers()
        if wanted and self.server.cuts and len(body) > 2000:
            self.server.cuts -= 1
            self.server.ranges.append(wanted)
            body = body[: len(body) // 2]
            self.close_connection = True
        elif wanted:
            self.server.ranges.append(wanted)
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def cutting(moto, s3, monkeypatch):
    with Cutting(moto) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setattr(download, "growing_pause", lambda *args, **kwargs: 0.01)
        yield server
        server.shutdown()
        thread.join()


def test_a_connection_that_drops_is_resumed_where_it_dropped(target, put, cutting, monkeypatch):
    monkeypatch.setattr(download, "PART", 50_000)
    lines = [line(f"u{number}", "a", "b") for number in range(3_000)]
    put("s3://out/recs/1.out", *lines)
    cutting.cuts = 6
    cutting.refuse = 2
    assert load(target, "s3://out/recs/1.out")["rows"] == 6_000
    assert cutting.cuts == 0
    assert len(set(cutting.ranges)) == len(cutting.ranges), "a part that had begun was asked for again from its start"
    assert target.execute("SELECT count(DISTINCT user_id) FROM recs") == [(3_000,)]


def test_a_connection_that_stays_broken_changes_nothing(target, put, cutting):
    put("s3://out/recs/1.out", line("u", "a"))
    load(target, "s3://out/recs/1.out")
    put("s3://out/recs/1.out", line("u", "b"))
    cutting.refuse = 10**6
    with pytest.raises(Exception, match=r"503"):
        load(target, "s3://out/recs/1.out", botocore_config={"retries": {"total_max_attempts": 1}})
    assert target.read() == rows("u", "a")


def test_an_object_that_changes_while_it_is_read_is_an_error(target, put, s3, monkeypatch):
    monkeypatch.setattr(download, "PART", 50_000)
    put("s3://out/recs/1.out", *(line(f"u{number}", "a", "b") for number in range(3_000)))
    fetch = download.fetch

    def replaced(client, item, start, end):
        if start:
            put("s3://out/recs/1.out", "other")
        return fetch(client, item, start, end)

    monkeypatch.setattr(download, "fetch", replaced)
    with pytest.raises(MissingOutputError, match=r"deleted or replaced while the load was reading"):
        load(target, "s3://out/recs/1.out")
    assert target.execute("SELECT name FROM sqlite_master") == []


def test_a_refusal_says_what_to_allow():
    error = read_error(
        "GetObject",
        parse_s3_uri("s3://out/recs/1.out"),
        _client_error("AccessDenied", 403),
    )
    assert isinstance(error, ServiceError)
    assert "s3:ListBucket on the bucket out and s3:GetObject" in str(error)


def _client_error(code: str, status: int):
    from botocore.exceptions import ClientError

    return ClientError(
        {"Error": {"Code": code, "Message": "Access Denied"}, "ResponseMetadata": {"HTTPStatusCode": status}},
        "GetObject",
    )


def test_the_temporary_files_are_gone(target, put, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    put("s3://out/recs/1.out", line("u", "a"), "nope")
    load(target, "s3://out/recs/1.out", max_reject_rate=0.5, rejects_table="rejected")
    assert list(Path(tmp_path / "tmp").iterdir()) == []


class S3Files:
    """What the application for Spark has Hadoop list, listed by boto3."""

    def __init__(self, client) -> None:
        self.client = client

    def list(self, uri: str, deep: bool = True) -> list[Stored]:
        found = list_objects(self.client, parse_s3_uri(uri), deep=deep)
        return sorted(
            Stored(item.uri, item.uri, item.size, int(item.modified.timestamp() * 1000))
            for item in found
            if not item.uri.endswith("/")
        )

    def beginning(self, item: Stored, length: int) -> bytes:
        place = parse_s3_uri(item.uri)
        return self.client.get_object(Bucket=place.bucket, Key=place.key)["Body"].read(length)


BEGUN = datetime(2026, 11, 24, 3, tzinfo=UTC)


@pytest.mark.parametrize("created", [None, BEGUN, datetime(2099, 1, 1, tzinfo=UTC)], ids=["", "before", "after"])
@pytest.mark.parametrize(
    ("source", "destination", "inputs", "outputs", "others"),
    [
        pytest.param(
            "json_input.json", "", ["json_input.json"], ["json_input.json.out"], ["x.json.out"], id="the root"
        ),
        pytest.param(
            "json_input.json",
            "",
            ["json_input.json"],
            ["json_input.json.out"],
            ["json_input.json.out.out", "json_input.json.out.out.out"],
            id="the root, thrice",
        ),
        pytest.param(
            "", "", ["a.json", "b.json"], ["a.json.out", "b.json.out"], ["gone.json.out"], id="all of the root"
        ),
        pytest.param("", "recs/", ["a.json", "c/b.json"], ["recs/a.json.out", "recs/b.json.out"], [], id="under all"),
        pytest.param("in/", "in/", ["in/a.json"], ["in/a.json.out"], ["in/gone.json.out"], id="one folder"),
        pytest.param("in", "in/", ["in/a.json"], ["in/a.json.out"], ["in/gone.json.out"], id="one folder, no slash"),
        pytest.param("in/", "in", ["in/a.json"], ["in/a.json.out"], ["in/a.json.out.out"], id="one folder, slash"),
        pytest.param(
            "in/users_",
            "in/",
            ["in/users_0_part_00", "in/users_1_part_00"],
            ["in/users_0_part_00.out", "in/users_1_part_00.out"],
            ["in/users_0_part_00.out.out", "in/users_gone.out", "in/other.out"],
            id="a prefix of names",
        ),
        pytest.param("in", "in-recs/", ["in/a"], ["in-recs/a.out"], ["in-recs/b.out", "in-old/a.out"], id="neighbours"),
        pytest.param(
            "in/",
            "in/recs/2/",
            ["in/a.json", "in/recs/b.json"],
            ["in/recs/2/a.json.out", "in/recs/2/b.json.out"],
            ["in/recs/1/a.json.out", "in/recs/2/gone.json.out", "in/recs/2/old/a.json.out", "in/recs/a.json.out.out"],
            id="every night's folder under the input",
        ),
        pytest.param(
            "in/day/", "in/", ["in/day/a"], ["in/a.out"], ["in/b.out", "in/day/old.out"], id="input under output"
        ),
        pytest.param("in/", "in/", ["in/a.out"], ["in/a.out.out"], ["in/gone.out"], id="input is called .out"),
        pytest.param("in/", "in/r/", ["in/a", "in/b.out"], ["in/r/a.out", "in/r/b.out.out"], [], id="some .out"),
        pytest.param("in/a.out", "in/", ["in/a.out"], ["in/a.out.out"], ["in/a.out.out.out"], id="one called .out"),
    ],
)
def test_input_and_output_beside_one_another(
    target, s3, put, job, source, destination, inputs, outputs, others, created
):
    """Whatever other jobs, and this one, have left: the job's own output is loaded, and missed where it is missing."""
    job(f"s3://out/{source}", f"s3://out/{destination}", **({"creationDateTime": created} if created else {}))
    for key in others:
        put(f"s3://out/{key}", line("another", "x"))
        put(f"s3://out/{key.rpartition('/')[0]}/_CHECK".replace("out//", "out/"), "not output")
    folder = f"{destination.rstrip('/')}/" if destination else ""
    put(f"s3://out/{folder}_CHECK", "not output")
    put(f"s3://out/{folder}_CHECK.out", line("another", "x"))
    for number, (key, output) in enumerate(zip(inputs, outputs, strict=True)):
        put(f"s3://out/{key}", json.dumps({"userId": f"u{number}"}))
        put(f"s3://out/{output}", line(f"u{number}", "a"))
    assert load(target, job_arn=JOB)["files"] == len(inputs)
    assert target.read() == [row for number in range(len(inputs)) for row in rows(f"u{number}", "a")]
    description = PersonalizeHook().describe_job(JOB)
    found = personalize_output.objects_of_job(S3Files(s3), description)
    assert {item.uri for item in found} == {f"s3://out/{output}" for output in outputs}
    for output in outputs:
        s3.delete_object(Bucket="out", Key=output)
        with pytest.raises(MissingOutputError, match=re.escape(f"s3://out/{output},")):
            objects_of_job(s3, description)
        with pytest.raises(personalize_output.LoadError, match=re.escape(f"s3://out/{output},")):
            personalize_output.objects_of_job(S3Files(s3), description)
        put(f"s3://out/{output}", line("u", "a"))


def test_what_lies_under_the_output_and_came_after_the_job_is_no_input(target, put, job):
    job("s3://out/in/", "s3://out/in/recs/", creationDateTime=BEGUN)
    put("s3://out/in/a.json", "{}")
    put("s3://out/in/recs/a.json.out", line("u", "a"))
    put("s3://out/in/recs/report.html", "<html>")
    load(target, job_arn=JOB)
    assert target.read() == rows("u", "a")


def test_a_job_that_ran_twice_at_one_place(target, put, job):
    """The second run's input had the first one's output in it, and the service answered that, too: with errors."""
    job("s3://out/users", "s3://out/")
    put("s3://out/users.json", '{"userId": "u"}')
    put("s3://out/users.json.out", line("u", "a"))
    put("s3://out/users.json.out.out", '{"input": {}, "output": null, "error": "User error: no userId"}')
    put("s3://out/_CHECK.out", '{"input": {}, "output": null, "error": "User error: no userId"}')
    assert load(target, job_arn=JOB)["rejects"] == 0
    assert target.read() == rows("u", "a")


def test_empty_objects_of_one_name_have_nothing_to_lose(target, put, job):
    job("s3://source/users/", "s3://out/recs/")
    for folder in "ab":
        put(f"s3://source/users/{folder}/_SUCCESS")
        put(f"s3://source/users/{folder}/part-{folder}", "{}")
        put(f"s3://out/recs/part-{folder}.out", line(folder, "x"))
    put("s3://out/recs/_SUCCESS.out")
    load(target, job_arn=JOB)
    assert target.read() == rows("a", "x") + rows("b", "x")


def test_no_more_of_a_bucket_is_listed_than_is_needed(target, put, job, s3):
    job("s3://source/users/", "s3://out/")
    put("s3://source/users/users.json", "{}")
    put("s3://out/users.json.out", line("u", "a"))
    for number in range(3):
        put(f"s3://out/users.json.d/{number}", "another")
    listed: list[tuple[str, str | None]] = []
    client = boto3.client("s3")
    client.meta.events.register(
        "provide-client-params.s3.ListObjectsV2",
        lambda params, **_: listed.append((params["Prefix"], params.get("Delimiter"))),
    )
    with closing(client):
        found = objects_of_job(client, PersonalizeHook().describe_job(JOB))
    assert [item.uri for item in found] == ["s3://out/users.json.out"]
    assert listed == [("users/", None), ("users.json.out", "/")]
