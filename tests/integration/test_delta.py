"""What has changed between two slices of a table goes into a file; compared by real databases."""

from __future__ import annotations

import csv
import inspect
import json
import random
from datetime import UTC, datetime, timedelta, timezone
from types import SimpleNamespace

import pytest

from airflow_provider_personalize.exceptions import InvalidRequestError
from airflow_provider_personalize.failures import told_to_airflow
from airflow_provider_personalize.transfers.personalize_delta import PersonalizeDeltaOperator
from tests.integration.load_support import PostgresTarget, SqliteTarget, line, load

YESTERDAY, TODAY = {"run_date": "2026-11-21"}, {"run_date": "2026-11-22"}
DATABASES = pytest.mark.parametrize(
    "target", ["postgres", "sqlite", "mysql", "mysql-connector", "duckdb", "generic"], indirect=True
)
SQLITE = pytest.mark.parametrize("target", ["sqlite"], indirect=True)
#: Ids that a collation, a driver or a format could change.
ODD = [
    "a",
    "A",
    "a ",
    "ä",
    "a\u0308",
    "007",
    "7",
    "q\"uo'te",
    "back\\slash",
    "%s",
    "🎬",
    "x" * 256,
    "a,b",
    "two\nlines",
    "",
]


def delta(target, folder, rendered=None, context=None, **kwargs):
    """Run the operator; gives what it returns."""
    arguments = {
        "table": "recs",
        "sql_conn_id": target.conn_id,
        "aws_conn_id": None,
        "extra_columns": TODAY,
        "target_uri": (folder / "changes.jsonl").as_uri(),
    }
    operator = PersonalizeDeltaOperator(task_id="delta", **(arguments | kwargs))
    for name, value in (rendered or {}).items():
        setattr(operator, name, value)
    execute = told_to_airflow(inspect.unwrap(type(operator).execute))
    return execute(operator, context or {})


def counts(done):
    return done["new"], done["changed"], done["gone"]


def load_slices(target, output, before, now, **kwargs):
    """Load two slices of users and their items; None stands for an input without a user."""
    for slice_of, users in ((YESTERDAY, before), (TODAY, now)):
        lines = [line(user, *items) for user, items in users.items()]
        load(target, output.write(*lines), write_mode="replace_slice", extra_columns=slice_of, **kwargs)


def read(folder, name="changes.jsonl"):
    return [json.loads(text) for text in (folder / name).read_text(encoding="utf-8").split("\n") if text]


@DATABASES
@pytest.mark.parametrize("exact", [False, True])
def test_finds_what_a_comparison_in_python_finds(target, output, tmp_path, exact):
    """Items in another order are a change, and so is one more; ids that look alike are others."""
    draw = random.Random(3)
    items = [f"i{number}" for number in range(9)] + ODD[:-1]
    users = [*ODD, None, *(str(number) for number in range(300))]
    before = {user: draw.sample(items, draw.randint(1, 6)) for user in users if draw.random() < 0.9}
    now = {user: list(before.get(user) or draw.sample(items, 3)) for user in users if draw.random() < 0.9}
    for listed in now.values():
        if draw.random() < 0.3:
            draw.shuffle(listed)
        if draw.random() < 0.1:
            listed.append("more")
    now["007"], before["007"] = ["a", "A"], ["A", "a"]
    now["7"], before["7"] = ["a "], ["a"]
    load_slices(target, output, before, now)

    done = delta(target, tmp_path, exact=exact)

    wanted = dict.fromkeys(now.keys() - before.keys(), "new") | dict.fromkeys(before.keys() - now.keys(), "gone")
    wanted |= {user: "changed" for user in now.keys() & before.keys() if now[user] != before[user]}
    found = read(tmp_path)
    scores = [{"scores": [1 / rank for rank in range(1, len(row["items"]) + 1)]} if exact else {} for row in found]
    assert found == [
        {"user_id": row["user_id"], "change": wanted[row["user_id"]], "items": now.get(row["user_id"], []), **more}
        for row, more in zip(found, scores, strict=True)
    ]
    assert sorted(map(repr, wanted)) == sorted(repr(row["user_id"]) for row in found)
    assert counts(done) == tuple(list(wanted.values()).count(change) for change in ("new", "changed", "gone"))
    assert done["previous"] == YESTERDAY
    assert done["target_uri"] == (tmp_path / "changes.jsonl").as_uri()
    first = (tmp_path / "changes.jsonl").read_bytes()
    assert done["bytes"] == len(first)
    delta(target, tmp_path, exact=exact)
    assert (tmp_path / "changes.jsonl").read_bytes() == first, "a retry writes the same file"


@DATABASES
def test_many_changes_are_written_like_few(target, output, tmp_path, monkeypatch):
    """More entities than are kept in memory are read by one statement instead of two."""
    before = {user: ["a", "b"] for user in [*ODD, None, *map(str, range(20))]}
    now = {user: ["b", "a"] for user in [*ODD[1:], None, *map(str, range(1, 21))]}
    load_slices(target, output, before, now)
    few = delta(target, tmp_path)
    written = (tmp_path / "changes.jsonl").read_bytes()
    monkeypatch.setattr("airflow_provider_personalize.quality.changes.MAX_KEPT", 3)

    assert counts(delta(target, tmp_path)) == counts(few) == (1, len(now) - 1, 2)
    assert (tmp_path / "changes.jsonl").read_bytes() == written


@DATABASES
@pytest.mark.parametrize("exact", [False, True])
def test_scores_of_single_precision_count_with_all_their_digits(target, output, tmp_path, exact):
    """MySQL and MariaDB write six digits of a float, where these two scores are the same."""
    earlier, later = 0.12345670163631439, 0.12345679104328156
    kind = "real" if isinstance(target, (PostgresTarget, SqliteTarget)) else "float"
    names = {"rank": "place"}
    target.execute(
        f"CREATE TABLE recs (run_date varchar(10), user_id varchar(9), place integer, item_id varchar(9), score {kind})"
    )
    for slice_of, score in ((YESTERDAY, earlier), (TODAY, later)):
        lines = [line("u", "a", scores=[score]), line("none", "a", scores=[None])]
        load(target, output.write(*lines), write_mode="replace_slice", extra_columns=slice_of, column_names=names)
    done = delta(target, tmp_path, exact=exact, compare_scores=True, column_names=names)
    assert counts(done) == (0, 1, 0)
    [row] = read(tmp_path)
    assert row["scores"] == [pytest.approx(later, rel=1e-8)]


@DATABASES
def test_scores_count_where_they_are_asked_for(target, output, tmp_path):
    for slice_of, score in ((YESTERDAY, 0.5), (TODAY, 0.4)):
        lines = [line("u", "a", scores=[score]), line("same", "a", scores=[0.1]), line("none", "a", scores=[None])]
        load(target, output.write(*lines), write_mode="replace_slice", extra_columns=slice_of)
    assert counts(delta(target, tmp_path)) == (0, 0, 0)
    assert counts(delta(target, tmp_path, exact=True, compare_scores=False)) == (0, 0, 0)
    assert not (tmp_path / "changes.jsonl").exists()
    for asked in ({"compare_scores": True}, {"exact": True}):
        assert counts(delta(target, tmp_path, **asked)) == (0, 1, 0)
        assert read(tmp_path) == [{"user_id": "u", "change": "changed", "items": ["a"], "scores": [0.4]}]


@DATABASES
def test_an_entity_of_several_lines_has_all_their_rows(target, output, tmp_path):
    """Rows that are there twice do not cancel each other out."""
    for slice_of, item in ((YESTERDAY, "a"), (TODAY, "b")):
        lines = [line("u", item), line("u", item), line("same", "a"), line("same", "b")]
        load(target, output.write(*lines), write_mode="replace_slice", extra_columns=slice_of)
    assert counts(delta(target, tmp_path)) == (0, 1, 0)
    assert read(tmp_path) == [{"user_id": "u", "change": "changed", "items": ["b", "b"]}]


@DATABASES
def test_items(target, output, tmp_path):
    load_slices(
        target,
        output,
        {"u": ["a", "b", "c"], "v": ["a"], "w": ["x", "y", "x"], None: ["n"]},
        {"u": ["d", "b", "a"], "t": ["a", "A", "a"], "w": ["y", "x"], None: ["N"]},
    )
    done = delta(target, tmp_path, what="items")
    assert counts(done) == (4, 0, 3)
    found = [(row["user_id"], row["item_id"], row["change"], row["rank"]) for row in read(tmp_path)]
    assert sorted(found, key=repr) == sorted(
        [
            (None, "N", "new", 1),
            (None, "n", "gone", None),
            ("t", "a", "new", 1),
            ("t", "A", "new", 2),
            ("u", "d", "new", 1),
            ("u", "c", "gone", None),
            ("v", "a", "gone", None),
        ],
        key=repr,
    )


@DATABASES
def test_a_first_slice_is_all_new_and_one_without_changes_leaves_no_file(target, output, tmp_path):
    users = {"u": ["a", "b"], "v": ["c"]}
    load(
        target,
        output.write(*(line(*user, *items) for user, items in zip([["u"], ["v"]], users.values(), strict=True))),
        write_mode="replace_slice",
        extra_columns=YESTERDAY,
    )
    for previous in (None, {"run_date": "2026-11-01"}):
        done = delta(target, tmp_path, extra_columns=YESTERDAY, previous_columns=previous)
        assert counts(done) == (2, 0, 0)
        assert done["previous"] is None
        assert read(tmp_path) == [
            {"user_id": "u", "change": "new", "items": ["a", "b"]},
            {"user_id": "v", "change": "new", "items": ["c"]},
        ]
    load_slices(target, output, users, users)
    done = delta(target, tmp_path)
    assert counts(done) == (0, 0, 0)
    assert done["target_uri"] is None
    assert done["bytes"] == 0
    assert not (tmp_path / "changes.jsonl").exists(), "the file of the run before would be taken for this one's"


@DATABASES
@pytest.mark.parametrize("kind", [None, "timestamp", "varchar(40)"])
@pytest.mark.parametrize("write", [lambda value: value, datetime.isoformat], ids=["datetime", "text"])
def test_a_slice_of_a_moment_with_a_zone_is_not_its_own_slice_before(target, output, tmp_path, kind, write):
    """A column without a zone holds it as UTC, in which it may be of the day before."""
    if kind:
        columns = "user_id varchar(9), rank integer, item_id varchar(9), score double precision"
        target.execute(f"CREATE TABLE recs ({columns}, moment {kind})")
    moments = [write(datetime(2026, 11, day, 1, tzinfo=timezone(timedelta(hours=2)))) for day in (21, 22)]
    for moment, item in zip(moments, "ab", strict=True):
        load(target, output.write(line("u", item)), write_mode="replace_slice", extra_columns={"moment": moment})
    assert counts(delta(target, tmp_path, extra_columns={"moment": moments[1]})) == (0, 1, 0)
    assert read(tmp_path) == [{"user_id": "u", "change": "changed", "items": ["b"]}]


@DATABASES
def test_a_slice_without_rows_is_an_error_unless_everybody_may_be_gone(target, output, tmp_path):
    load(target, output.write(line("u", "a")), write_mode="replace_slice", extra_columns=YESTERDAY)
    with pytest.raises(InvalidRequestError, match="none in recs where run_date = 2026-11-22"):
        delta(target, tmp_path)
    assert not list(tmp_path.glob("*change*"))
    assert counts(delta(target, tmp_path, allow_empty=True)) == (0, 0, 1)
    assert read(tmp_path) == [{"user_id": "u", "change": "gone", "items": []}]


@DATABASES
@pytest.mark.parametrize("kind", ["related", "segments"])
def test_other_kinds_and_names(target, output, tmp_path, kind):
    def written(entity, *items):
        if kind == "related":
            return json.dumps({"input": {"itemId": entity}, "output": {"recommendedItems": items}, "error": None})
        return json.dumps({"input": {"itemId": entity}, "output": {"usersList": items}, "error": None})

    for slice_of, item in ((YESTERDAY, "x"), (TODAY, "y")):
        lines = [written("1", item, "z"), written("2", "z")]
        names = {"item_id": "Shop Item"} if kind == "related" else {"user_id": "Shop Item"}
        load(target, output.write(*lines), write_mode="replace_slice", extra_columns=slice_of, column_names=names)
    entity = "Shop Item" if kind == "related" else "segment"
    done = delta(target, tmp_path, column_names=names)
    assert counts(done) == (0, 1, 0)
    assert read(tmp_path) == [{entity: "1", "change": "changed", "items": ["y", "z"]}]


CONTEXT = {"dag_run": SimpleNamespace(run_after=datetime(2026, 11, 22, 3, tzinfo=UTC))}


@SQLITE
class TestFormats:
    @pytest.fixture(autouse=True)
    def slices(self, target, output):
        self.odd = "q\"uo'te\\\n🎬,\t"
        load_slices(target, output, {"gone": ["a"], "u": ["a", "c"]}, {"u": ["b", "a"], self.odd: [self.odd, "z"]})

    def test_csv(self, target, tmp_path):
        delta(target, tmp_path, format="csv", compare_scores=True)
        with (tmp_path / "changes.jsonl").open(newline="", encoding="utf-8") as file:
            header, *rows = csv.reader(file)
        assert header == ["user_id", "change", "rank", "item_id", "score"]
        assert sorted(rows) == sorted(
            [
                ["gone", "gone", "", "", ""],
                ["u", "changed", "1", "b", "1.0"],
                ["u", "changed", "2", "a", "0.5"],
                [self.odd, "new", "1", self.odd, "1.0"],
                [self.odd, "new", "2", "z", "0.5"],
            ]
        )

    def test_braze(self, target, tmp_path):
        payloads = {
            "gone": {"recommendations": None},
            "u": {"recommendations": ["b", "a"]},
            self.odd: {"recommendations": [self.odd, "z"]},
        }
        delta(target, tmp_path, format="braze", context=CONTEXT)
        rows = read(tmp_path)
        assert all(list(row) == ["UPDATED_AT", "EXTERNAL_ID", "PAYLOAD"] for row in rows)
        assert {row["UPDATED_AT"] for row in rows} == {"2026-11-22T03:00:00Z"}
        assert {row["EXTERNAL_ID"]: json.loads(row["PAYLOAD"]) for row in rows} == payloads

        delta(target, tmp_path, format="braze", target_uri=(tmp_path / "b.csv").as_uri(), context=CONTEXT)
        with (tmp_path / "b.csv").open(newline="", encoding="utf-8") as file:
            header, *found = csv.reader(file)
        assert header == ["UPDATED_AT", "EXTERNAL_ID", "PAYLOAD"]
        assert {name: json.loads(payload) for _, name, payload in found} == payloads

        delta(target, tmp_path, format="braze", what="items", attribute="picks", updated_at=False)
        assert [list(row) for row in read(tmp_path)] == [["EXTERNAL_ID", "PAYLOAD"]] * 3
        assert {row["EXTERNAL_ID"]: json.loads(row["PAYLOAD"]) for row in read(tmp_path)} == {
            "gone": {"picks_new": [], "picks_gone": ["a"]},
            "u": {"picks_new": ["b"], "picks_gone": ["c"]},
            self.odd: {"picks_new": [self.odd, "z"], "picks_gone": []},
        }

    def test_pinpoint(self, target, tmp_path):
        delta(target, tmp_path, format="pinpoint")
        assert {row["Id"]: row["Attributes"] for row in read(tmp_path)} == {
            "gone": {"recommendations": []},
            "u": {"recommendations": ["b", "a"]},
            self.odd: {"recommendations": [self.odd, "z"]},
        }


@SQLITE
def test_on_s3_the_file_appears_when_it_is_complete(local, target, output, tmp_path):
    import boto3

    s3 = boto3.client("s3")
    s3.create_bucket(Bucket="shop")
    load_slices(target, output, {}, {"u": ["a"]})
    uri = "s3://shop/night/changes.jsonl"
    done = delta(target, tmp_path, target_uri=uri, aws_conn_id="aws_default")
    body = s3.get_object(Bucket="shop", Key="night/changes.jsonl")
    assert body["Body"].read() == b'{"user_id":"u","change":"new","items":["a"]}\n'
    assert done["target_uri"] == uri
    assert body["ContentType"] == "application/x-ndjson"
    load_slices(target, output, {"u": ["a"]}, {"u": ["a"]})
    assert delta(target, tmp_path, target_uri=uri, aws_conn_id="aws_default")["target_uri"] is None
    assert "Contents" not in s3.list_objects_v2(Bucket="shop")
    assert not s3.list_multipart_uploads(Bucket="shop").get("Uploads")


@SQLITE
def test_what_cannot_be_right_is_said_before_anything_is_read(target, tmp_path):
    with pytest.raises(InvalidRequestError) as caught:
        delta(
            target,
            tmp_path,
            target_uri="s3://shop/folder/",
            what="users",
            format="xml",
            previous_columns=TODAY,
            compare_scores="yes",
        )
    assert len(caught.value.problems) == 5
    with pytest.raises(InvalidRequestError, match="compare_scores is for what='entities'"):
        delta(target, tmp_path, what="items", compare_scores=True)


@pytest.mark.parametrize("target", ["postgres"], indirect=True)
def test_openlineage_is_told_of_the_table_and_the_file(target, output, tmp_path):
    pytest.importorskip("airflow.providers.openlineage", reason="needs Airflow's openlineage provider")
    load(target, output.write(line("u", "a")), write_mode="replace_slice", extra_columns=TODAY)
    operator = PersonalizeDeltaOperator(
        task_id="delta",
        table="recs",
        sql_conn_id=target.conn_id,
        aws_conn_id=None,
        extra_columns=TODAY,
        target_uri=(tmp_path / "changes.jsonl").as_uri(),
    )
    inspect.unwrap(type(operator).execute)(operator, {})
    told = operator.get_openlineage_facets_on_complete(None)
    assert [table.name for table in told.inputs] == [f"{target.database.name}.public.recs"]
    [file] = told.outputs
    assert (file.namespace, file.name) == ("file", str(tmp_path / "changes.jsonl"))
    assert file.outputFacets["outputStatistics"].rowCount == 1
