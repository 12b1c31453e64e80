"""Stores and proxies that answer a range with something else: right rows or a clear error, and an end in any case."""

from __future__ import annotations

import http.server
import json
import os
import re
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress

import boto3
import pytest
import urllib3
from botocore.config import Config

from airflow_provider_personalize.exceptions import MissingOutputError, PersonalizeError, ServiceError
from airflow_provider_personalize.s3 import download
from airflow_provider_personalize.s3.download import fetch, read_objects
from airflow_provider_personalize.s3.objects import StoredObject, list_objects
from airflow_provider_personalize.s3.reading import Reading
from airflow_provider_personalize.uris import parse_s3_uri
from tests.integration.load_support import PostgresTarget, SqliteTarget, line, load, rows

ETAG = '"0123456789abcdef"'
URI = "s3://out/recs/1.out"
LINES = [line(f"u{number:04}", "a", "b") for number in range(1_000)]
DATA = "\n".join(LINES).encode()
#: Three parts and a bit.
PART = len(DATA) * 3 // 10
#: The loader's own tries of a part in a row.
TRIES = download.FETCH_TRIES


class Server(http.server.ThreadingHTTPServer):
    """
    One object, which is listed as it is; how it answers a GET is the test's.

    :ivar answer: Called with the handler, the first byte asked for, and the one after the last.
    :ivar requests: The ranges that were asked for.
    """

    daemon_threads = True

    def __init__(self) -> None:
        self.answer: Callable[[Handler, int, int], object] = good
        self.requests: list[str] = []
        self.let_go = threading.Event()
        super().__init__(("127.0.0.1", 0), Handler)

    def handle_error(self, *args: object) -> None:
        """Say nothing: clients that hang up are what is tested."""


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if "list-type=2" in self.path:
            listed = f"<Key>recs/1.out</Key><Size>{len(DATA)}</Size><ETag>{ETAG}</ETag>"
            body = f"<ListBucketResult><Contents>{listed}</Contents><IsTruncated>false</IsTruncated></ListBucketResult>"
            self.send(200, body.encode())
            return
        wanted = self.headers["Range"]
        self.server.requests.append(wanted)
        first, last = map(int, re.fullmatch(r"bytes=(\d+)-(\d+)", wanted).groups())
        self.server.answer(self, first, last + 1)

    def send(self, status: int, body: bytes, *, length: int | None = -1, **headers: str) -> None:
        """Answer; without a length, in chunks."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if length is None:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(len(body) if length < 0 else length))
        self.end_headers()
        if length is None:
            pieces = [body[at : at + 10_000] for at in range(0, len(body), 10_000)]
            body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in [*pieces, b""])
        self.wfile.write(body)
        if length is not None and 0 <= length != len(body):
            self.close_connection = True

    def log_message(self, *args: object) -> None:
        """Say nothing."""


def told(first: int, after: int, total: int = len(DATA)) -> dict[str, str]:
    return {"Content_Range": f"bytes {first}-{after - 1}/{total}", "ETag": ETAG}


def good(handler: Handler, first: int, after: int) -> None:
    handler.send(206, DATA[first:after], **told(first, after))


def whole(handler: Handler, first: int, after: int) -> None:
    handler.send(200, DATA, ETag=ETAG)


def whole_in_chunks(handler: Handler, first: int, after: int) -> None:
    handler.send(200, DATA, length=None, ETag=ETAG)


def whole_with_the_headers_of_a_range(handler: Handler, first: int, after: int) -> None:
    handler.send(206, DATA, length=None, **told(first, after))


def empty(handler: Handler, first: int, after: int) -> None:
    handler.send(206, b"", **told(first, after))


def empty_in_chunks(handler: Handler, first: int, after: int) -> None:
    handler.send(206, b"", length=None, **told(first, after))


def empty_range(handler: Handler, first: int, after: int) -> None:
    handler.send(206, b"", **told(first, first))


def empty_range_in_chunks(handler: Handler, first: int, after: int) -> None:
    handler.send(206, b"", length=None, **told(first, first))


def nothing(handler: Handler, first: int, after: int) -> None:
    handler.send(204, b"")


def another_range(handler: Handler, first: int, after: int) -> None:
    handler.send(206, DATA[: after - first], **told(0 if first else 1, after - first + (not first)))


def no_content_range(handler: Handler, first: int, after: int) -> None:
    handler.send(206, DATA[first:after], ETag=ETAG)


def more_than_asked(handler: Handler, first: int, after: int) -> None:
    handler.send(206, DATA[first : after + 10] + b"x", **told(first, after + 11))


def a_longer_body(handler: Handler, first: int, after: int) -> None:
    handler.send(206, DATA[first:after] + b"more", length=None, **told(first, after))


def a_length_of_its_own(handler: Handler, first: int, after: int) -> None:
    handler.send(206, DATA[first : after - 5], **told(first, after))


def a_login_page(handler: Handler, first: int, after: int) -> None:
    handler.send(200, b"<html>Please log in</html>", Content_Type="text/html")


def a_login_page_in_chunks(handler: Handler, first: int, after: int) -> None:
    handler.send(200, b"<html>Please log in</html>", length=None, Content_Type="text/html")


def another_total(handler: Handler, first: int, after: int) -> None:
    handler.send(206, DATA[first:after], **told(first, after, len(DATA) + 7))


def another_etag(handler: Handler, first: int, after: int) -> None:
    handler.send(206, DATA[first:after], **told(first, after) | {"ETag": '"other"'})


def in_chunks(handler: Handler, first: int, after: int) -> None:
    handler.send(206, DATA[first:after], length=None, **told(first, after))


def a_little_less(handler: Handler, first: int, after: int) -> None:
    after = min(after, first + 7_000)
    handler.send(206, DATA[first:after], **told(first, after))


def short_in_chunks(handler: Handler, first: int, after: int) -> None:
    """End well, but before the end: the connection's own length does not tell."""
    handler.send(206, DATA[first : (first + after + 1) // 2], **told(first, after), length=None)


def weak_etag(handler: Handler, first: int, after: int) -> None:
    handler.send(206, DATA[first:after], **told(first, after) | {"ETag": f"W/{ETAG}"})


def dropped(handler: Handler, first: int, after: int) -> None:
    body = DATA[first : (first + after + 1) // 2]
    handler.send(206, body, length=after - first, **told(first, after))


WRONG = [
    whole_with_the_headers_of_a_range,
    empty,
    empty_in_chunks,
    empty_range,
    empty_range_in_chunks,
    nothing,
    another_range,
    no_content_range,
    more_than_asked,
    a_longer_body,
    a_length_of_its_own,
    a_login_page,
    a_login_page_in_chunks,
]
REPLACED = [another_total, another_etag]
RIGHT = [good, in_chunks, a_little_less, short_in_chunks, weak_etag, dropped]


@pytest.fixture
def server(monkeypatch) -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setattr(download, "PART", PART)
        monkeypatch.setattr(download, "growing_pause", lambda *args, **kwargs: 0.001)
        yield server
        server.let_go.set()
        server.shutdown()
        thread.join()


@pytest.fixture
def client(server):
    with closing(boto3.client("s3", config=Config(retries={"total_max_attempts": 1}))) as client:
        yield client


@pytest.fixture
def target(tmp_path, airflow_connection):
    path = tmp_path / "target.db"
    return SqliteTarget(path, airflow_connection("target", json.dumps({"conn_type": "sqlite", "host": str(path)})))


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("personalize-")]


def all_rows() -> list[tuple[object, ...]]:
    return [row for number in range(len(LINES)) for row in rows(f"u{number:04}", "a", "b")]


@pytest.mark.parametrize("answer", RIGHT)
def test_what_was_asked_for_is_taken_however_it_comes(server, target, answer):
    server.answer = answer
    assert load(target, URI)["rows"] == 2 * len(LINES)
    assert target.read() == all_rows()


@pytest.mark.parametrize("answer", [*WRONG, whole, whole_in_chunks])
def test_a_wrong_answer_that_passes_leaves_right_rows(server, target, answer):
    """Three wrong answers of every part, one after the other, and then a good one."""
    wrong: dict[int, int] = {}

    def sometimes(handler: Handler, first: int, after: int) -> None:
        wrong[first] = wrong.get(first, 0) + 1
        (answer if wrong[first] <= 3 else good)(handler, first, after)

    server.answer = sometimes
    assert load(target, URI)["rows"] == 2 * len(LINES)
    assert target.read() == all_rows()


@pytest.mark.parametrize("answer", [*WRONG, whole, whole_in_chunks])
def test_a_wrong_answer_that_stays_is_an_error(server, target, answer):
    server.answer = good
    load(target, URI)
    server.requests.clear()
    server.answer = answer
    with pytest.raises(ServiceError, match=r"(?i)expected.*got.*GetObject on s3://out/recs/1\.out(?s:.*)endpoint_url"):
        load(target, URI, table="recs", write_mode="append")
    assert target.read() == all_rows()
    assert len(server.requests) <= 4 * TRIES
    for thread in threads():
        thread.join(30)
    assert threads() == []


@pytest.mark.parametrize("answer", REPLACED)
def test_another_object_in_its_place_is_an_error(server, target, answer):
    server.answer = answer
    with pytest.raises(MissingOutputError, match=r"s3://out/recs/1\.out.*replaced while the load was reading"):
        load(target, URI)
    assert target.execute("SELECT name FROM sqlite_master") == []


@pytest.mark.parametrize("answer", [whole, whole_in_chunks])
def test_an_object_of_one_part_is_taken_from_its_whole(server, target, monkeypatch, answer):
    monkeypatch.setattr(download, "PART", len(DATA) + 1)
    server.answer = answer
    assert load(target, URI)["rows"] == 2 * len(LINES)
    assert target.read() == all_rows()
    assert len(server.requests) == 1


@pytest.mark.parametrize("answer", [whole, whole_in_chunks])
def test_the_beginning_is_taken_from_the_whole(server, client, answer):
    """As for a sample of the input: what comes behind it is not even read."""
    server.answer = answer
    assert fetch(client, StoredObject(URI, len(DATA), ETAG), 0, 1_000, tries=1) == DATA[:1_000]


def test_a_whole_object_that_drops_is_begun_again(server, client):
    def first_half(handler: Handler, first: int, after: int) -> None:
        server.answer = whole
        handler.send(200, DATA[: len(DATA) // 2], length=len(DATA), ETag=ETAG)

    server.answer = first_half
    assert fetch(client, StoredObject(URI, len(DATA), ETAG), 0, len(DATA)) == DATA


def test_a_whole_object_that_always_drops_is_given_up(server, client):
    server.answer = lambda handler, first, after: handler.send(200, DATA[:9_000], length=len(DATA), ETag=ETAG)
    with pytest.raises(Exception, match=r"9000 read"):
        fetch(client, StoredObject(URI, len(DATA), ETAG), 0, len(DATA))
    assert len(server.requests) == TRIES


@pytest.mark.parametrize("how", ["closed", "left from elsewhere"])
@pytest.mark.parametrize("attempts", [1, 5], ids=["without botocore's retries", "with botocore's retries"])
def test_leaving_ends_the_requests(server, monkeypatch, how, attempts):
    """The first part comes, the next ones never do."""
    monkeypatch.setitem(fetch.__kwdefaults__, "tries", 10**9)
    asked = threading.Event()

    def refuse(handler: Handler, first: int, after: int) -> None:
        if not first:
            good(handler, first, after)
            return
        asked.set()
        handler.send(503, b"") if attempts > 1 else empty(handler, first, after)

    server.answer = refuse
    with closing(boto3.client("s3", config=Config(retries={"total_max_attempts": attempts}))) as client:
        with Reading() as reading:
            objects = read_objects(lambda: client, [StoredObject(URI, len(DATA), ETAG)], reading)
            _, blocks = next(objects)
            assert DATA.startswith(next(blocks))
            assert asked.wait(30)
            if how == "closed":
                del blocks
                objects.close()
        for thread in threads():
            thread.join(30)
        assert threads() == []


@pytest.mark.skipif(not hasattr(urllib3.HTTPResponse, "shutdown"), reason="urllib3 before 2.3 cannot be woken")
def test_leaving_does_not_wait_for_a_server_that_says_nothing_more(server, client):
    silent = threading.Event()

    def stop_in_the_middle(handler: Handler, first: int, after: int) -> None:
        if not first:
            good(handler, first, after)
            return
        with suppress(OSError):
            handler.send(206, DATA[first : first + 10], length=after - first, **told(first, after))
        silent.set()
        server.let_go.wait(120)

    server.answer = stop_in_the_middle
    objects = read_objects(lambda: client, [StoredObject(URI, len(DATA), ETAG)])
    _, blocks = next(objects)
    next(blocks)
    assert silent.wait(30)
    del blocks
    objects.close()
    for thread in threads():
        thread.join(30)
    assert threads() == []


class StoppedError(Exception):
    """What a signal raises, as execution_timeout does."""


@pytest.fixture(params=["sqlite", "postgres"])
def any_target(request, target, airflow_connection):
    """A target that reads on the task's thread, and one that reads ahead on another."""
    # Before the signal: an import that it interrupts leaves half a module behind.
    pytest.importorskip("numpy")
    if request.param == "sqlite":
        return target
    database = request.getfixturevalue("postgres")
    return PostgresTarget(database, airflow_connection("target", database.uri))


def test_execution_timeout_ends_a_load_that_gets_nowhere(server, any_target, monkeypatch):
    monkeypatch.setitem(fetch.__kwdefaults__, "tries", 10**9)
    done = threading.Event()

    def stop(*args: object) -> None:
        raise StoppedError

    def refuse(handler: Handler, first: int, after: int) -> None:
        if first >= 2 * PART and len(server.requests) > 50 and not done.is_set():
            done.set()
            os.kill(os.getpid(), signal.SIGUSR1)
        (empty if first >= 2 * PART else good)(handler, first, after)

    server.answer = refuse
    before = signal.signal(signal.SIGUSR1, stop)
    try:
        with pytest.raises(StoppedError):
            load(any_target, URI)
    finally:
        signal.signal(signal.SIGUSR1, before)
    for thread in threads():
        thread.join(30)
    assert threads() == []


@pytest.mark.usefixtures("server")
def test_a_list_that_is_cut_off_is_an_error(client, monkeypatch):
    """boto3 takes a page without a token for the last one."""
    page = b"<ListBucketResult><Contents><Key>recs/1.out</Key><Size>1</Size></Contents><IsTruncated>true</IsTruncated>"
    monkeypatch.setattr(
        Handler, "do_GET", lambda handler: handler.send(200, page + b"</ListBucketResult>", Content_Type="text/xml")
    )
    with pytest.raises(PersonalizeError, match=r"without the token.*ListObjectsV2 on s3://out/recs/"):
        list(list_objects(client, parse_s3_uri("s3://out/recs/")))
