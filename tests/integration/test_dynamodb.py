"""
The output of a job in a table of DynamoDB: on dynalite, which keeps DynamoDB's limits, and, what it lacks, on moto.
"""

from __future__ import annotations

import json
import os
import random
import signal
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from types import SimpleNamespace

import boto3
import pytest
import requests
from botocore.awsrequest import AWSResponse

from airflow_provider_personalize.compat import AirflowFailException, TaskDeferred
from airflow_provider_personalize.exceptions import (
    InvalidRequestError,
    ServiceError,
    TableMismatchError,
    TooManyRejectsError,
)
from airflow_provider_personalize.hooks.personalize import PersonalizeHook
from airflow_provider_personalize.targets.dynamodb import calls as calls_module
from airflow_provider_personalize.targets.dynamodb import importing, repeats
from airflow_provider_personalize.targets.dynamodb import items as items_module
from tests.integration.dynamodb_support import Tables, dynalite
from tests.integration.load_support import line

ODD = [
    "'",
    '"',
    "\\",
    "a\tb\n",
    "é",
    "😀",
    "\u2028",
    " x ",
    "\x01",
    "null",
    "0",
    "x" * 256,
    "漢" * 256,
    "{}",
    '"},{"S":"',
]


@pytest.fixture(scope="session")
def dynalite_url():
    with dynalite() as url:
        yield url


@pytest.fixture
def tables(dynalite_url, airflow_connection):
    """The tables of a dynalite; none is there."""
    conn_id = airflow_connection("dynamo", json.dumps({"conn_type": "aws", "extra": {"endpoint_url": dynalite_url}}))
    found = Tables(dynalite_url, conn_id)
    for name in found.names():
        found.client.delete_table(TableName=name)
    while found.names():
        time.sleep(0.02)
    return found


@pytest.fixture
def soon(monkeypatch):
    """Pauses that are short."""
    monkeypatch.setattr(calls_module, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(calls_module, "LONGEST_PAUSE", 0.01)


def item(user, *items, scores=None, key="user_id"):
    return {key: user, "items": list(items), "scores": scores or [1 / n for n in range(1, len(items) + 1)]}


def segment(name, *users):
    return json.dumps({"input": {"itemId": name}, "output": {"usersList": users}})


def ordered(*items):
    return sorted(items, key=repr)


# What an item holds


def test_an_item_for_each_user_with_its_lists_in_order(tables, output):
    output.write(line("u", "b", "a", "c"), line("v"), line("w", "a", scores=[0.5]), line("x", "a", "b", scores=[1e-12]))
    done = tables.load(output_uri=output.uri)
    assert tables.read("recs") == ordered(
        item("u", "b", "a", "c"),
        {"user_id": "v", "items": [], "scores": []},
        item("w", "a", scores=[0.5]),
        item("x", "a", "b", scores=[1e-12, None]),
    )
    ids = {one["load_id"] for one in tables.read("recs", without=())}
    assert ids == {done["load_id"]}
    counts = {name: done[name] for name in ("files", "lines", "rows", "rejects", "items", "table_name", "job_arn")}
    assert counts == {
        "files": 1, "lines": 4, "rows": 6, "rejects": 0, "items": 4, "table_name": "recs", "job_arn": None,
    }  # fmt: skip


@pytest.mark.parametrize("escaped", [True, False])
def test_any_id_comes_through_character_by_character(tables, output, escaped):
    lines = [json.dumps(json.loads(line(odd, *ODD)), ensure_ascii=escaped) for odd in ODD]
    output.write(*lines)
    tables.load(output_uri=output.uri)
    assert tables.read("recs") == ordered(*(item(odd, *ODD) for odd in ODD))


def test_related_items_have_their_theme_and_other_names_for_their_keys(tables, output):
    related = {"recommendedItems": ["b", "c"], "scores": [0.5, None]}
    themed = related | {"theme": 'A "theme"', "itemsThemeRelevanceScores": [0.25]}
    output.write(
        *(json.dumps({"input": {"itemId": name}, "output": out}) for name, out in (("i", related), ("j", themed)))
    )
    tables.create("recs", "sku:S", "model:N")
    tables.load(
        output_uri=output.uri, partition_key="sku", sort_key="model", extra_attributes={"model": 3, "note": ["a", None]}
    )
    plain = {"items": ["b", "c"], "scores": [0.5, None], "model": 3.0, "note": ["a", None]}
    assert tables.read("recs") == ordered(
        {"sku": "i", **plain}, {"sku": "j", **plain, "theme": 'A "theme"', "theme_relevance": [0.25, None]}
    )


def test_items_expire_at_the_same_time_in_each_part_and_retry(tables, output, log):
    output.write(line("u", "a"))
    tables.create("recs", "user_id:S")
    start = datetime(2026, 11, 22, tzinfo=UTC)
    context = {"dag_run": SimpleNamespace(start_date=start)}
    for _ in range(2):
        tables.load(context, output_uri=output.uri, ttl=timedelta(days=7), extra_attributes={"run_date": start.date()})
    assert tables.read("recs") == [
        item("u", "a") | {"run_date": "2026-11-22", "expires_at": (start + timedelta(days=7)).timestamp()}
    ]


def test_what_was_there_stays_unless_the_output_covers_it(tables, output):
    output.write(line("u", "old", "older"), line("v", "old"))
    tables.load(output_uri=output.uri)
    output.write(line("u", "new"), line("w"))
    tables.load(output_uri=output.uri)
    assert tables.read("recs") == ordered(item("u", "new"), item("v", "old"), item("w"))


@pytest.mark.parametrize("noted", [1 << 22, 0], ids=["noted", "too many to note"])
def test_an_entity_of_several_lines_has_the_results_of_all_of_them(tables, output, monkeypatch, noted):
    """As the rows of a table of SQL: those of all lines, one after the other, however far apart the lines are."""
    monkeypatch.setattr(repeats, "_MOST_NOTED", noted)
    monkeypatch.setattr(repeats, "_IN_MEMORY", 50)
    lines = [line(f"u{number}", f"i{number}") for number in range(200)]
    output.write(line("twice", "a", "b"), *lines, name="0.json.out")
    output.write(*lines[:30], line("twice", "c", scores=[0.25], extra=1), name="1.json.out")
    done = tables.load(output_uri=output.uri)
    expected = [item(f"u{number}", f"i{number}") for number in range(30, 200)]
    expected += [item(f"u{number}", *[f"i{number}"] * 2, scores=[1.0, 1.0]) for number in range(30)]
    assert tables.read("recs") == ordered(*expected, item("twice", "a", "b", "c", scores=[1.0, 0.5, 0.25]))
    assert (done["lines"], done["items"]) == (232, 201)


def test_mapped_parts_are_the_same_as_one_load(tables, output):
    for number in range(5):
        bad = ["no JSON"] * (number == 2)
        output.write(
            *bad, *(line(f"u{number}-{n}", "a", f"i{n}") for n in range(7 * number)), name=f"{number}.json.out"
        )
    one = tables.load(output_uri=output.uri, max_reject_rate=0.5, table_name="one")
    parts = [
        tables.load(output_uri=output.uri, max_reject_rate=0.5, table_name="four", part=part, parts=4)
        for part in range(4)
    ]
    assert tables.read("four", without=()) == tables.read("one", without=())
    for name in ("files", "lines", "rows", "rejects", "items", "bytes"):
        assert sum(part[name] for part in parts) == one[name]


# Segments


def test_segments_lie_in_chunks_and_a_shorter_one_leaves_none_behind(tables, output, monkeypatch):
    monkeypatch.setattr(items_module, "CHUNK_BYTES", 60_000)
    # More than a megabyte: the line is read in pieces.
    users = [f"user-{number:095}" for number in range(12_000)]
    output.write(segment("big", *users), segment("small", "u"), segment("none"), segment("other", *users[:4_000]))
    tables.load(output_uri=output.uri)
    items = tables.read("recs")
    assert {one["segment"]: 0 for one in items} == {"big": 0, "small": 0, "none": 0, "other": 0}

    def users_of(name):
        chunks = sorted((one["chunk"], one["items"]) for one in tables.read("recs") if one["segment"] == name)
        assert [number for number, _ in chunks] == list(range(len(chunks)))
        assert all(sum(map(len, found)) < 60_000 for _, found in chunks)
        return len(chunks), [user for _, found in chunks for user in found]

    chunks, found = users_of("big")
    assert chunks > 4
    assert found == users
    output.write(segment("big", *users[:5_000]), segment("small"))
    tables.load(output_uri=output.uri)
    assert users_of("big")[1] == users[:5_000]
    assert users_of("small") == (1, [])
    assert users_of("other")[1] == users[:4_000]


# What is refused, and leaves the table as it was


def huge(key):
    return line(key, *(f"{n:0250}" for n in range(1800)))


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([line("u", "a"), huge("big one")], "409,600 bytes, and that of user_id 'big one'"),
        # More than a megabyte is read in pieces.
        ([line("u", "a"), line("giant", *(f"{n:0250}" for n in range(6000)))], "that of user_id 'giant'"),
        ([line("u", "a"), line(None, "b")], "its input was empty"),
        ([line("u", "a"), line("", "b")], "an empty one"),
        ([line("u", "a"), line("ü" * 1100, "b")], "2,048 bytes, and user_id"),
        ([line("u", "a"), line("v", "b", scores=[1e-200])], "has the score 1e-200"),
    ],
    ids=["large", "giant", "no key", "empty key", "long key", "tiny score"],
)
def test_an_item_that_dynamodb_cannot_hold_is_named(tables, output, lines, words):
    output.write(line("u", "before"))
    tables.load(output_uri=output.uri)
    output.write(*lines)
    with pytest.raises(TableMismatchError, match=words) as caught:
        tables.load(output_uri=output.uri)
    assert isinstance(caught.value, AirflowFailException)
    assert tables.read("recs") == [item("u", "before")]


def test_an_item_just_below_the_limit_is_taken(tables, output):
    output.write(line("u", *(f"{n:0250}" for n in range(1550))))
    tables.load(output_uri=output.uri)
    assert [len(one["items"]) for one in tables.read("recs")] == [1550]


@pytest.mark.parametrize("lines", [["no JSON", line("u", "new")], ["no JSON"]], ids=["some", "all"])
def test_too_many_rejects_write_nothing(tables, output, lines):
    output.write(line("u", "old"))
    tables.load(output_uri=output.uri)
    output.write(*lines)
    with pytest.raises(TooManyRejectsError, match="no JSON"):
        tables.load(output_uri=output.uri)
    assert tables.read("recs") == [item("u", "old")]
    done = tables.load(output_uri=output.uri, max_reject_rate=1.0)
    assert done["rejects"] == 1
    assert tables.read("recs") == [item("u", "new" if len(lines) > 1 else "old")]


@pytest.mark.parametrize(
    ("keys", "lines", "words"),
    [
        (["user_id:N"], [line("1", "a")], r"got the partition key user_id \(N, a number\)"),
        (["id:S"], [line("u", "a")], "Set partition_key"),
        (["user_id:S", "chunk:N"], [line("u", "a")], "no sort key, got .* sort key chunk"),
        (["segment:S"], [segment("s", "u")], r"sort key chunk \(N\)"),
        (["segment:S", "chunk:S"], [segment("s", "u")], r"chunk \(S, text\)"),
    ],
)
def test_a_table_with_other_keys_is_refused(tables, output, keys, lines, words):
    tables.create("recs", *keys)
    output.write(*lines)
    with pytest.raises(TableMismatchError, match=words):
        tables.load(output_uri=output.uri)
    assert tables.read("recs") == []


def test_a_missing_table_is_not_made_where_that_is_not_wanted(tables, output):
    output.write(line("u", "a"))
    with pytest.raises(TableMismatchError, match="there is no such table"):
        tables.load(output_uri=output.uri, create_table=False)
    assert tables.names() == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"table_name": "a b"}, "table_name: expected 3 to 255"),
        ({"extra_attributes": {"items": 1}}, "expected other names than items"),
        ({"extra_attributes": {"day": object()}}, "extra_attributes, day: expected text"),
        ({"mode": "new_table"}, "expected staging_uri"),
        ({"mode": "new_table", "staging_uri": "s3://b/x/", "parts": 2}, "expected parts=1"),
        ({"part": 2, "parts": 2}, "part: expected less than parts"),
        ({"partition_key": "scores"}, "other names than"),
        ({"partition_key": "day", "extra_attributes": {"day": 1}}, "partition_key: expected a name"),
        ({"mode": "replace"}, "mode: expected one of put, new_table"),
        ({"ttl": "7 days"}, "ttl: expected seconds"),
        ({"job_arn": "arn:aws:personalize:us-east-1:123456789012:batch-inference-job/x"}, "exactly one of job_arn"),
    ],
)
def test_what_cannot_be_right_is_said_when_the_dag_is_parsed(arguments, words):
    from airflow_provider_personalize.transfers.personalize_to_dynamodb import PersonalizeToDynamoDbOperator

    with pytest.raises(InvalidRequestError, match=words):
        PersonalizeToDynamoDbOperator(**{"task_id": "t", "table_name": "recs", "output_uri": "s3://b/x/", **arguments})


@pytest.mark.parametrize(
    ("arguments", "written", "words"),
    [
        ({"sort_key": "model"}, line("u", "a"), "a key that extra_attributes gives"),
        ({"sort_key": "model", "extra_attributes": {"model": None}}, line("u", "a"), "text or a number"),
        ({"sort_key": "n", "extra_attributes": {"n": 1}}, segment("s", "u"), "number of a segment's chunk"),
    ],
)
def test_a_sort_key_that_has_no_value_is_refused(tables, output, arguments, written, words):
    output.write(written)
    with pytest.raises(InvalidRequestError, match=words):
        tables.load(output_uri=output.uri, **arguments)
    assert tables.names() == []


# A busy table


class Busy:
    """Answers some of the writes as a table that is too busy: refused, unprocessed in part or in whole, dropped."""

    def __init__(self, tables, monkeypatch, choose):
        make = PersonalizeHook.dynamodb_client
        self.tables = tables
        self.choose = choose
        self.sizes = []

        def client(hook):
            made = make(hook)
            made.meta.events.register_last("before-send.dynamodb.BatchWriteItem", self.answer)
            return made

        monkeypatch.setattr(PersonalizeHook, "dynamodb_client", client)

    def answer(self, request, **_):
        body = json.loads(request.body)
        [(table, requests)] = body["RequestItems"].items()
        self.sizes.append((len(requests), len(request.body)))
        match self.choose():
            case "throttled":
                kind = "com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException"
                return self.answered(400, {"__type": kind, "message": "slow"})
            case "broken":
                return self.answered(500, {"__type": "InternalServerError", "message": "broken"})
            case "unprocessed":
                return self.answered(200, {"UnprocessedItems": body["RequestItems"]})
            case "in part":
                self.tables.client.batch_write_item(RequestItems={table: requests[:1]})
                return self.answered(200, {"UnprocessedItems": {table: requests[1:]} if requests[1:] else {}})
        return None

    @staticmethod
    def answered(status, body):
        raw = SimpleNamespace(stream=lambda: iter([json.dumps(body).encode()]))
        return AWSResponse("", status, {}, raw)


def test_throttling_and_unprocessed_items_are_waited_out(tables, output, monkeypatch, soon):
    answers = ["throttled", "broken", "unprocessed", "in part", None, None]
    busy = Busy(tables, monkeypatch, partial(random.Random(7).choice, answers))
    output.write(*(line(f"u{number}", *ODD, f"i{number}") for number in range(1_000)))
    assert tables.load(output_uri=output.uri)["items"] == 1_000
    assert tables.read("recs") == ordered(*(item(f"u{number}", *ODD, f"i{number}") for number in range(1_000)))
    assert len(busy.sizes) > 60
    assert max(count for count, _ in busy.sizes) == 25


def test_a_table_that_stays_busy_ends_in_an_error_that_may_pass(tables, output, monkeypatch, soon):
    output.write(line("u", "a"))
    tables.load(output_uri=output.uri)
    Busy(tables, monkeypatch, lambda: "unprocessed")
    monkeypatch.setattr(calls_module, "PATIENCE", 0.05)
    with pytest.raises(ServiceError, match="more write capacity") as caught:
        tables.load(output_uri=output.uri)
    assert caught.value.may_pass


def test_large_items_go_in_calls_that_dynamodb_takes(tables, output, monkeypatch):
    busy = Busy(tables, monkeypatch, lambda: None)
    output.write(*(line(f"u{n}", *(f"{n:04}-{i:0240}" for i in range(1200))) for n in range(30)))
    tables.load(output_uri=output.uri)
    assert sum(count for count, _ in busy.sizes) == 30
    assert max(size for _, size in busy.sizes) < 16 << 20


# Killed


def killed_load(tables, output, writes, monkeypatch):
    """Load in a process that dies, by SIGKILL, when it is about to send its n-th call."""
    child = os.fork()
    if not child:
        try:
            # dynalite itself would die of a call that is cut off, so none is on its way.
            monkeypatch.setattr(calls_module, "THREADS", 1)
            left = iter(range(writes - 1, -1, -1))
            write = calls_module.DynamoDbCalls.write
            monkeypatch.setattr(
                calls_module.DynamoDbCalls,
                "write",
                lambda self, requests: write(self, requests) if next(left) else os.kill(os.getpid(), signal.SIGKILL),
            )
            tables.load(output_uri=output.uri)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_killed_load_leaves_whole_items_and_its_retry_the_table_of_an_undisturbed_one(tables, output, monkeypatch):
    output.write(*(line(f"u{number}", "old", "older") for number in range(0, 400, 2)))
    tables.load(output_uri=output.uri)
    old, new = item("u", "old", "older"), item("u", "new", scores=[1.0])
    output.write(*(line(f"u{number}", "new") for number in range(400)), line("u7", "again"))
    for writes in (1, 5, 14, 16):
        killed_load(tables, output, writes, monkeypatch)
        found = tables.read("recs")
        assert all(one | {"user_id": "u"} in (old, new) for one in found)
        assert len(found) < 400
    tables.load(output_uri=output.uri)
    expected = [item(f"u{number}", "new") for number in range(400) if number != 7]
    assert tables.read("recs") == ordered(*expected, item("u7", "new", "again", scores=[1.0, 1.0]))


# A table of its own


@pytest.fixture
def imported(moto, airflow_connection):
    """The tables of a moto, where none is there, and a bucket."""
    requests.post(f"{moto}/moto-api/reset", timeout=30).raise_for_status()
    conn_id = airflow_connection("dynamo", json.dumps({"conn_type": "aws", "extra": {"endpoint_url": moto}}))
    found = Tables(moto, conn_id)
    found.s3 = boto3.client("s3", endpoint_url=moto)
    found.s3.create_bucket(Bucket="staging")
    return found


def new_table(tables, output, **more):
    return tables.load(
        **{"output_uri": output.uri, "mode": "new_table", "staging_uri": "s3://staging/loads/", **more},
        poll_interval=0.05,
    )


def staged(tables):
    return tables.s3.list_objects_v2(Bucket="staging").get("Contents", [])


def test_a_new_table_is_imported_whole_and_nothing_staged_is_left(imported, output, monkeypatch):
    monkeypatch.setattr(importing, "FILE_BYTES", 2_000)
    # moto's parser of imports takes no odd ids.
    ids = ["é", "a b", "😀"]
    output.write(*(line(f"u{number}", *ids) for number in range(300)), line("u1", "again", scores=[0.5]), "no JSON")
    done = new_table(imported, output, max_reject_rate=0.5, ttl=timedelta(days=1))
    found = {one["user_id"]: one["items"] for one in imported.read("recs")}
    assert found == {f"u{number}": ids for number in range(300)} | {"u1": [*ids, "again"]}
    assert (done["items"], done["lines"], done["rejects"]) == (300, 302, 1)
    assert staged(imported) == []
    ttl = imported.client.describe_time_to_live(TableName="recs")["TimeToLiveDescription"]
    assert (ttl["TimeToLiveStatus"], ttl["AttributeName"]) == ("ENABLED", "expires_at")


def test_a_new_table_of_segments_has_their_chunks(imported, output):
    output.write(segment("s", *(f"{number:0200}" for number in range(3_000))))
    assert new_table(imported, output)["items"] == 3
    assert [one["chunk"] for one in imported.read("recs")] == [0.0, 1.0, 2.0]


class Killed(BaseException):
    """Stands for the death of the process: nothing of the task runs after it."""


@pytest.mark.parametrize("where", ["staging", "before the call", "after the call", "waiting", "removing", "at the end"])
def test_a_retry_goes_on_with_the_same_import(imported, output, monkeypatch, where):
    output.write(*(line(f"u{number}", "a") for number in range(40)))
    steps = {
        "staging": (importing.NewTable, "_write_note"),
        "before the call": (importing.NewTable, "begin"),
        "after the call": (importing.NewTable, "is_done"),
        "waiting": (importing.NewTable, "_tag"),
        "removing": (importing.NewTable, "_tag"),
        "at the end": (importing.NewTable, "remove_staged"),
    }
    asked = []
    client = PersonalizeHook.dynamodb_client

    def counted(hook):
        made = client(hook)
        made.meta.events.register("before-call.dynamodb.ImportTable", lambda params, **_: asked.append(params["body"]))
        return made

    monkeypatch.setattr(PersonalizeHook, "dynamodb_client", counted)
    cls, name = steps[where]
    method = getattr(cls, name)
    died = []

    def dying(self, *args, **kwargs):
        # What a dead process does not do any more: remove_staged() runs at the beginning, too.
        if not died and (name != "remove_staged" or self.staged):
            if where in {"removing", "at the end"}:
                method(self, *args, **kwargs)
            died.append(where)
            raise Killed
        return method(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(cls, name, dying)
        if where == "staging":
            patch.setattr(cls, "remove_staged", lambda self: None)
        with pytest.raises(Killed):
            new_table(imported, output)
    done = new_table(imported, output)
    assert (done["lines"], done["items"]) == (40, 40)
    assert imported.read("recs") == ordered(*(item(f"u{number}", "a") for number in range(40)))
    assert len(asked) == 1
    assert staged(imported) == []
    assert new_table(imported, output)["items"] == 40
    assert len(asked) == 1


def test_a_new_table_is_waited_for_in_the_triggerer(imported, output, monkeypatch):
    output.write(line("u", "a"))
    with monkeypatch.context() as patch:
        patch.setattr(importing.NewTable, "is_done", lambda self, **_: False)
        with pytest.raises(TaskDeferred) as deferred:
            new_table(imported, output, deferrable=True)
    from airflow_provider_personalize.transfers.personalize_to_dynamodb import PersonalizeToDynamoDbOperator

    resumed = PersonalizeToDynamoDbOperator(
        task_id="load", table_name="recs", output_uri=output.uri, mode="new_table", deferrable=True,
        staging_uri="s3://staging/loads/", poll_interval=0.05, aws_conn_id="dynamo",
    )  # fmt: skip
    kwargs = json.loads(json.dumps(deferred.value.kwargs))
    done = getattr(resumed, deferred.value.method_name)({}, datetime.now(UTC), **kwargs)
    assert (done["items"], done["rows"]) == (1, 1)
    assert imported.read("recs") == [item("u", "a")]
    assert staged(imported) == []


def test_a_table_that_another_load_has_made_is_left_alone(imported, output):
    output.write(line("u", "a"))
    new_table(imported, output)
    output.write(line("u", "b"))
    with pytest.raises(InvalidRequestError, match="a table that is not there"):
        new_table(imported, output)
    assert imported.read("recs") == [item("u", "a")]
    assert staged(imported) == []


def test_an_import_that_fails_leaves_nothing_staged(imported, output, monkeypatch):
    output.write(line("u", "a"))
    monkeypatch.setattr(importing.NewTable, "_write_note", lambda self: None)
    with monkeypatch.context() as patch:
        # The key of the items is not that of the table: each item is an error of the import.
        patch.setattr(importing.Keys, "definition", lambda self: {
            "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
            "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
            "BillingMode": "PAY_PER_REQUEST",
        })  # fmt: skip
        with pytest.raises(ServiceError, match="ImportTable"):
            new_table(imported, output)
    assert staged(imported) == []
