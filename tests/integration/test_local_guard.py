"""Whom the stand-in takes orders from, and what it does with requests that are none."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import boto3
import pytest

from airflow_provider_personalize.local import LocalPersonalize
from airflow_provider_personalize.local.errors import ApiError
from airflow_provider_personalize.local.guard import Guard
from airflow_provider_personalize.local.server import BUCKET

TARGET = {"X-Amz-Target": "AmazonPersonalize.ListRecipes", "Content-Type": "application/x-amz-json-1.1"}
JOB_SECONDS = 60
SIGNED = "AWS4-HMAC-SHA256 Credential=local/20261122/{}/{}/aws4_request, SignedHeaders=host, Signature=0"
S3 = {"Authorization": SIGNED.format("us-east-1", "s3")}


@pytest.fixture(scope="module")
def service() -> Iterator[LocalPersonalize]:
    with LocalPersonalize(port=0, job_seconds=JOB_SECONDS, sample="made") as service:
        yield service


def ask(
    service: LocalPersonalize, method: str, path: str, headers: dict[str, str], body: bytes = b""
) -> tuple[int, bytes]:
    """Send a request with exactly these headers, and a Host and length where they have none."""
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=30)
    try:
        connection.putrequest(method, path, skip_host="Host" in headers, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name, value)
        if "Content-Length" not in headers and "Transfer-Encoding" not in headers:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def raw(service: LocalPersonalize, request: bytes, *, finished: bool = True) -> bytes:
    """Send bytes, and give what comes back until the connection closes."""
    with socket.create_connection(("127.0.0.1", service.port), timeout=30) as connection:
        connection.sendall(request)
        if finished:
            connection.shutdown(socket.SHUT_WR)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
        return answer


ORDERS = [
    ("POST", "/", TARGET),
    ("POST", "/_local/reset", {}),
    ("GET", "/_local/state", {}),
    ("PUT", f"/{BUCKET}/planted", S3),
]


@pytest.mark.parametrize(("method", "path", "headers"), ORDERS)
@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "LocalHost", "[::1]"])
def test_its_own_names(service: LocalPersonalize, method: str, path: str, headers: dict[str, str], name: str) -> None:
    host = f"{name}:{service.port}"
    for origin in ({}, {"Origin": f"http://{host}"}):
        status, _ = ask(service, method, path, headers | {"Host": host} | origin)
        assert status == 200


def keys(service: LocalPersonalize) -> list[str]:
    return [found["Key"] for found in service.s3("us-east-1").list_objects_v2(Bucket=BUCKET).get("Contents", ())]


@pytest.mark.parametrize(("method", "path", "headers"), ORDERS)
@pytest.mark.parametrize(
    "strange",
    [
        {"Host": "evil.example:{port}"},
        {"Host": "evil.example"},
        {"Host": "localhost"},
        {"Host": "127.0.0.1:{other}"},
        {"Host": "127.0.0.1.evil.example:{port}"},
        {"Host": "localhost:{port}.evil.example"},
        {"Host": "localhost:{port},evil.example"},
        {"Host": "10.0.0.7:{port}"},
        {"Host": "evil.example:{port}@127.0.0.1:{port}"},
        {"Origin": "https://evil.example"},
        {"Origin": "http://127.0.0.1:{other}"},
        {"Origin": "https://127.0.0.1:{port}"},
        {"Origin": "http://evil.example:{port}"},
        {"Origin": "http://bucket.s3.amazonaws.com"},
        {"Origin": "http://[::1"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
        {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors"},
    ],
)
def test_strangers(
    service: LocalPersonalize, method: str, path: str, headers: dict[str, str], strange: dict[str, str]
) -> None:
    # Every stand-in of a process has the same S3, so objects of other tests may be there.
    before, keys_before = service.controls.state(), keys(service)
    other = service.port - 1
    status, body = ask(
        service,
        method,
        path,
        headers | {key: value.format(port=service.port, other=other) for key, value in strange.items()},
    )
    assert status == 403
    assert json.loads(body)["__type"] == "AccessDeniedException"
    after = service.controls.state()
    assert (after["calls"], after["jobs"]) == (before["calls"], before["jobs"])
    assert keys(service) == keys_before


def test_a_name_that_leads_here_is_no_way_to_the_controls(service: LocalPersonalize) -> None:
    """S3's virtual-hosted style is for S3 alone."""
    for host in ("personalize.us-east-1.amazonaws.com", f"x.localhost:{service.port}"):
        assert ask(service, "POST", "/_local/reset", {"Host": host})[0] == 403
        assert ask(service, "POST", "/", TARGET | {"Host": host})[0] == 403
    service.s3("us-east-1").put_object(Bucket=BUCKET, Key="found", Body=b"x")
    status, body = ask(service, "GET", "/found", S3 | {"Host": f"{BUCKET}.s3.amazonaws.com"})
    assert (status, body) == (200, b"x")


def test_where_it_listens_elsewhere() -> None:
    def passes(guard: Guard, host: str, **more: str) -> bool:
        try:
            guard.check({"HTTP_HOST": host, "REQUEST_METHOD": "POST", **more}, to_s3=False)
        except ApiError as error:
            return error.status != 403
        return True

    named = Guard("192.0.2.7", 4510, ["stand-in.example", "localhost:8080"])
    for host in ("192.0.2.7:4510", "stand-in.example:4510", "localhost:4510", "localhost:8080"):
        assert passes(named, host)
        assert passes(named, host, HTTP_ORIGIN=f"http://{host}")
    for host in ("192.0.2.8:4510", "stand-in.example:80", "other.example:4510", "127.0.0.1:8080"):
        assert not passes(named, host)
    anywhere = Guard("0.0.0.0", 4510)
    for host in ("192.0.2.7:4510", "[2001:db8::7]:4510", "127.0.0.1:4510", f"{socket.gethostname()}:4510"):
        assert passes(anywhere, host)
    for host in ("evil.example:4510", "192.0.2.7:4511", "192.0.2.7.evil.example:4510"):
        assert not passes(anywhere, host)
    assert not passes(anywhere, "192.0.2.7:4510", HTTP_ORIGIN="http://evil.example:4510")
    assert passes(Guard("::1", 80), "[::1]")


def test_a_server_of_another_address(service: LocalPersonalize) -> None:
    with LocalPersonalize(host="0.0.0.0", port=0, sample="made", allowed_hosts=["stand-in.example"]) as everywhere:
        host = f"stand-in.example:{everywhere.port}"
        assert ask(everywhere, "GET", "/_local/state", {"Host": host})[0] == 200
        assert ask(everywhere, "GET", "/_local/state", {"Host": host.replace("in", "out")})[0] == 403
        s3 = boto3.client("s3", endpoint_url=everywhere.url, region_name="us-east-1")
        assert BUCKET in [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]


@pytest.mark.parametrize(
    "path", ["/moto-api/reset", "/moto-api/data.json", "/moto-api", "/%6doto-api/reset", "/moto-api/config"]
)
def test_motos_own_controls_are_left_out(service: LocalPersonalize, path: str) -> None:
    service.s3("us-east-1").put_object(Bucket=BUCKET, Key="kept", Body=b"x")
    for method in ("GET", "POST"):
        status, body = ask(service, method, path, {})
        assert (status, json.loads(body)["__type"]) == (404, "ResourceNotFoundException")
    assert service.s3("us-east-1").get_object(Bucket=BUCKET, Key="kept")["Body"].read() == b"x"


# Requests that are none


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Length": "garbage"},
        {"Content-Length": "-1"},
        {"Content-Length": "+5"},
        {"Content-Length": "1.5"},
        {"Content-Length": "٣".encode().decode("latin-1")},
        {"Content-Length": "9" * 40},
        {"Content-Length": "5, 5"},
        {"X-Amz-Target": "AmazonPersonalize."},
        {"X-Amz-Target": "AmazonPersonalize.NoSuchThing"},
        {"X-Amz-Target": "AmazonPersonalize.ListRecipes.ListRecipes"},
        {"X-Amz-Target": "AmazonPersonalize"},
        {"X-Amz-Target": "amazonpersonalize.ListRecipes"},
        {"X-Amz-Target": "."},
        {"X-Amz-Target": "x"},
        {"X-Amz-Target": "\xff\xfe"},
        {"X-Amz-Target": "x", "Authorization": SIGNED.format("us-east-1", "personalize")},
        {"X-Amz-Target": "", "Authorization": SIGNED.format("us-east-1", "personalize")},
        {"X-Amz-Target": "x", "Authorization": SIGNED.format("us-east-1", "dynamodb")},
        {"Authorization": SIGNED.format("nowhere at all", "personalize"), **TARGET},
        {"Authorization": "nonsense"},
        {"Authorization": "AWS4-HMAC-SHA256 Credential=a/b"},
    ],
)
def test_odd_headers(service: LocalPersonalize, capfd: pytest.CaptureFixture[str], headers: dict[str, str]) -> None:
    status, body = ask(service, "POST", "/", headers)
    assert status == 400
    assert b"Traceback" not in body
    assert json.loads(body)["message"]
    assert "Traceback" not in capfd.readouterr().err


def test_odd_lengths_of_a_body(service: LocalPersonalize, capfd: pytest.CaptureFixture[str]) -> None:
    start = f"POST /_local/clock HTTP/1.1\r\nHost: 127.0.0.1:{service.port}\r\n".encode()
    for rest, status in (
        (b"\r\n", b"200"),  # no length: no body
        (b'Content-Length: 50\r\n\r\n{"stopped": false}', b"400"),
        (b"Transfer-Encoding: chunked\r\n\r\nzz\r\nnonsense\r\n", b"400"),
        (b"Transfer-Encoding: chunked\r\n\r\n5\r\nab", b"400"),
        (b'Transfer-Encoding: chunked\r\n\r\n12\r\n{"stopped": false}\r\n0\r\n\r\n', b"200"),
        (b"Content-Length: 99999999999\r\n\r\n{}", b"4"),
    ):
        assert raw(service, start + rest).split(b" ", 2)[1].startswith(status), rest
    assert raw(service, b"POST /_local/state HTTP/1.1\r\n\r\n").split(b" ", 2)[1] == b"400"
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("path", ["/_local/clock", f"/{BUCKET}/short"])
def test_who_never_sends_the_rest_is_not_waited_for(
    service: LocalPersonalize, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], path: str
) -> None:
    monkeypatch.setattr("airflow_provider_personalize.local.server._QuietHandler.timeout", 0.2)
    request = f"PUT {path} HTTP/1.1\r\nHost: 127.0.0.1:{service.port}\r\nContent-Length: 50\r\n\r\nabc".encode()
    assert raw(service, request, finished=False).split(b" ", 2)[1] == b"400"
    assert raw(service, b"PUT / HT", finished=False) == b""
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize(
    "body",
    [
        b'{"now": NaN}',
        b'{"now": Infinity}',
        b'{"advance": NaN}',
        b'{"advance": -Infinity}',
        b'{"now": 1e999}',
        b'{"now": 1e300}',
        b'{"now": -1}',
        b'{"now": 253402300800}',
        b'{"advance": 1e12}',
        b'{"advance": -1e12}',
        b'{"now": "1790000000"}',
        b'{"now": true}',
        b'{"advance": [1]}',
        b'{"stopped": "yes"}',
        b'{"stopped": 1, "advance": 5}',
        b'{"now": 1790000000, "advance": NaN}',
        b'{"now": 1790000000, "advance": 1e12}',
        b"[1]",
        b'"x"',
        b"1",
        b"\xff",
        b"[" * 100_000,
    ],
)
def test_clocks_that_are_none(service: LocalPersonalize, capfd: pytest.CaptureFixture[str], body: bytes) -> None:
    service.controls.set_clock(now=1_780_000_000, stopped=True)
    status, answer = ask(service, "POST", "/_local/clock", {}, body)
    assert (status, bool(json.loads(answer)["message"])) == (400, True)
    assert service.controls.clock.now() == 1_780_000_000
    assert "Traceback" not in capfd.readouterr().err
    service.controls.reset()


@pytest.mark.parametrize(
    "body",
    [
        b'{"fault": "deny", "times": true}',
        b'{"fault": "deny", "times": 1.5}',
        b'{"fault": "deny", "times": NaN}',
        b'{"fault": "fail_job", "reason": 7}',
        b'{"fault": "deny", "operation": null}',
        b'{"fault": {}}',
        b'{"fault": ["deny"]}',
        b'{"times": 1}',
    ],
)
def test_faults_that_are_none(service: LocalPersonalize, body: bytes) -> None:
    assert ask(service, "POST", "/_local/faults", {}, body)[0] == 400
    assert service.controls.state()["faults"] == []


@pytest.mark.parametrize("body", [b'{"maxResults": NaN}', b"[" * 100_000, b"\xff\xfe", b'{"maxResults": 1', b"[1]"])
def test_requests_that_are_no_json(service: LocalPersonalize, body: bytes) -> None:
    status, answer = ask(service, "POST", "/", TARGET, body)
    assert (status, json.loads(answer)["__type"]) == (400, "SerializationException")


@pytest.mark.parametrize("changes", [{"job_seconds": float("nan")}, {"job_seconds": float("inf")}, {"quota": 0}])
def test_settings_that_are_none(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(changes))):
        LocalPersonalize(port=0, **changes)


def test_the_console_shows_resources_and_folders_and_runs_nothing(service: LocalPersonalize) -> None:
    def page(query: str) -> tuple[int, str]:
        status, body = ask(service, "GET", f"/_local/console?{query}", {})
        return status, body.decode()

    evil = "<script>alert(1)</script>"
    service.s3("us-east-1").put_object(Bucket=BUCKET, Key=f"seen/{evil}.out", Body=b"12345")
    status, text = page(f"bucket={BUCKET}&prefix=seen/")
    assert (status, "5 bytes" in text, evil in text) == (200, True, False)
    assert "&lt;script&gt;" in text
    arn = service.solution_arns["user-personalization"]
    status, text = page(f"arn={arn}")
    assert (status, "<h1>user-personalization</h1>" in text) == (200, True)
    version = service.solution_version_arns["user-personalization"]
    assert f'<a href="?arn={quote(version, safe="")}">{version}</a>' in text
    for query in ("", "arn=" + arn + "x", "arn=%3Cscript%3E", "bucket=nobody&prefix=", "bucket=%00&prefix=%F0%9F"):
        status, text = page(query)
        assert (status, "<script>" in text) == (404, False)
    # A page of another server may lead here, but not read it.
    away = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert ask(service, "GET", f"/_local/console?arn={arn}", away)[0] == 200
    assert ask(service, "GET", f"/_local/console?arn={arn}", away | {"Sec-Fetch-Mode": "no-cors"})[0] == 403
