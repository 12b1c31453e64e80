"""Loaded output is compared with its input, the catalog and the slice before; by real databases."""

from __future__ import annotations

import inspect
import json
import re
from contextlib import closing
from pathlib import Path

import pytest

from airflow_provider_personalize.compat import AirflowFailException
from airflow_provider_personalize.exceptions import InvalidRequestError, OutputCheckError, TableMismatchError
from airflow_provider_personalize.failures import told_to_airflow
from airflow_provider_personalize.operators.output_check import PersonalizeOutputCheckOperator
from airflow_provider_personalize.quality import history
from airflow_provider_personalize.quality.figures import OutputTable
from airflow_provider_personalize.quality.queries import Query
from tests.integration.load_support import line, load

YESTERDAY, TODAY = {"run_date": "2026-11-21"}, {"run_date": "2026-11-22"}
DATABASES = pytest.mark.parametrize("target", ["postgres", "sqlite", "mysql", "duckdb", "generic"], indirect=True)
POSTGRES = pytest.mark.parametrize("target", ["postgres"], indirect=True)


class Pushed(dict):
    """What a task pushes to XCom."""

    def xcom_push(self, key, value):
        self[key] = value


def check(target, ti=None, rendered=None, **kwargs):
    """Run the check; gives what it returns. ``rendered`` is what templates came to."""
    arguments = {"table": "recs", "sql_conn_id": target.conn_id, "aws_conn_id": None} | kwargs
    operator = PersonalizeOutputCheckOperator(task_id="check", **arguments)
    for name, value in (rendered or {}).items():
        setattr(operator, name, value)
    # Airflow 2 wraps execute() in a check that works on the main thread only.
    execute = told_to_airflow(inspect.unwrap(type(operator).execute))
    return execute(operator, {"ti": Pushed() if ti is None else ti})


@pytest.fixture
def two_nights(target, output):
    """Two slices. Of tonight's results, u had 2 of 3 before, v none of 1, and w was not there."""
    for night, lines in (
        (YESTERDAY, [line("u", "a", "b"), line("v", "a"), line("gone", "a", "b")]),
        (TODAY, [line("u", "a", "b", "c"), line("v", "c"), line("w", "a", "c", "d", "e")]),
    ):
        load(target, output.write(*lines), write_mode="replace_slice", extra_columns=night)
    target.execute("CREATE TABLE people (user_id integer, name varchar(9))")
    target.execute("CREATE TABLE subscribers (user_id varchar(9))")
    target.execute("INSERT INTO subscribers VALUES ('u'), ('v'), ('w'), ('x'), ('x'), (NULL)")
    target.execute("CREATE TABLE items (item_id varchar(9), title varchar(20))")
    target.execute("INSERT INTO items VALUES ('a', 'Apple <&> %s'), ('b', 'Bean'), ('c', NULL), ('never', 'Never')")


@DATABASES
def test_the_figures_are_those_of_the_slice(target, two_nights):
    figures = check(
        target,
        extra_columns=TODAY,
        input_sql="SELECT user_id FROM subscribers -- all of them;\n;",
        catalog_sql="SELECT item_id AS ITEMID, title FROM items WHERE title <> '%' OR title IS NULL",
        loaded={"lines": 5, "rejects": 2},
    )
    previous = figures.pop("previous")
    assert figures == {
        "table": "recs",
        "slice": {"run_date": "2026-11-22"},
        "rows": 8,
        "entities": 3,
        "items": 5,
        "min_results": 1,
        "mean_results": 8 / 3,
        "max_results": 4,
        "top_item": "c",
        "top_item_share": 1.0,
        "overlap": (2 / 3 + 0) / 2,
        "input_entities": 4,
        "covered_entities": 3,
        "entity_coverage": 0.75,
        "catalog_items": 4,
        "covered_catalog": 3,
        "catalog_coverage": 0.75,
        "lines": 5,
        "rejects": 2,
        "reject_rate": 0.4,
        "report_uri": None,
    }
    assert previous["slice"] == {"run_date": "2026-11-21"}
    assert (previous["rows"], previous["entities"], previous["top_item"]) == (5, 3, "a")


@DATABASES
def test_ids_that_the_input_has_as_numbers_are_found(target, output):
    load(target, output.write(line("7", "a"), line("12", "a")))
    target.execute("CREATE TABLE people (user_id integer)")
    target.execute("INSERT INTO people VALUES (7), (8), (12)")
    figures = check(target, input_sql="SELECT user_id FROM people")
    assert (figures["covered_entities"], figures["input_entities"]) == (2, 3)


@POSTGRES
def test_without_a_slice_all_rows_count_and_nothing_is_compared(target, two_nights):
    figures = check(target)
    assert (figures["rows"], figures["entities"], figures["previous"], figures["overlap"]) == (13, 4, None, None)


@POSTGRES
@pytest.mark.parametrize(
    ("extra", "previous", "compared_with"),
    [
        (TODAY, None, {"run_date": "2026-11-21"}),
        (YESTERDAY, None, None),
        (YESTERDAY, TODAY, {"run_date": "2026-11-22"}),
        (TODAY, {"run_date": "2026-11-20"}, None),
        ({"run_date": "2026-11-22T02:00:00"}, None, {"run_date": "2026-11-22"}),
    ],
)
def test_the_slice_before_is_the_newest_older_date_or_the_one_given(target, two_nights, extra, previous, compared_with):
    found = check(target, extra_columns=extra, previous_columns=previous)["previous"]
    assert (found and found["slice"]) == compared_with


@POSTGRES
def test_a_slice_that_is_no_date_has_none_before(target, output):
    for campaign in ("spring", "summer"):
        load(target, output.write(line("u", "a")), write_mode="append", extra_columns={"campaign": campaign})
    assert check(target, extra_columns={"campaign": "summer"})["previous"] is None


@POSTGRES
def test_dates_compare_as_dates(target, output):
    target.execute("CREATE TABLE recs (run_date date, user_id text, rank int, item_id text, score float8)")
    for night in (YESTERDAY, TODAY):
        load(target, output.write(line("u", "a")), write_mode="replace_slice", extra_columns=night)
    figures = check(target, extra_columns=TODAY)
    assert figures["previous"]["slice"] == {"run_date": "2026-11-21"}
    assert figures["overlap"] == 1.0


@POSTGRES
def test_what_fails_names_each_figure_and_leaves_the_figures_behind(target, two_nights):
    pushed = Pushed()
    with pytest.raises(AirflowFailException) as raised:
        check(
            target,
            ti=pushed,
            extra_columns=TODAY,
            input_sql="SELECT user_id FROM subscribers",
            checks={
                "entity_coverage": {"geq_to": 0.9},
                "min_results": {"geq_to": "1", "leq_to": 3},
                "top_item_share": {"less_than": 1},
            },
            warn_checks={"rows": {"greater_than": 1000}},
        )
    error = raised.value
    assert isinstance(error, OutputCheckError)
    assert error.failed == [
        "entity_coverage is 75.0 %, expected ≥ 90.0 %",
        "top_item_share is 100.0 %, expected < 100.0 %",
    ]
    assert all(sentence in str(raised.value) for sentence in error.failed)
    assert pushed["return_value"] == error.figures
    assert pushed["return_value"]["entity_coverage"] == 0.75


@POSTGRES
def test_what_warns_lets_the_task_succeed(target, two_nights, log):
    ti = Pushed()
    check(target, ti, extra_columns=TODAY, warn_checks={"overlap": {"geq_to": 0.5}, "rows": {"equal_to": 8}})
    assert ti["warned"] == ["overlap is 33.3 %, expected ≥ 50.0 %"]
    story = log()
    assert "Warned: overlap is 33.3 %, expected ≥ 50.0 %." in story
    assert "Passed: rows is 8, expected = 8." in story


@POSTGRES
def test_a_figure_that_nothing_tells_is_passed_over(target, two_nights, log):
    check(target, extra_columns=YESTERDAY, checks={"overlap": {"geq_to": 0.5}})
    assert "Unknown: overlap is not known, expected ≥ 50.0 %." in log()


@POSTGRES
def test_an_empty_slice_has_figures_too(target, two_nights, tmp_path):
    report = tmp_path / "report.html"
    with pytest.raises(AirflowFailException, match="rows is 0, expected > 0"):
        check(
            target,
            extra_columns={"run_date": "2026-11-23"},
            checks={"rows": {"greater_than": 0}},
            input_sql="SELECT user_id FROM subscribers WHERE user_id = 'nobody'",
            report_uri=str(report),
        )
    assert "Not good enough" in report.read_text()


@POSTGRES
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"checks": {"coverage": {"geq_to": 1}}}, "checks: expected figures among rows, .* got 'coverage'"),
        ({"warn_checks": {"rows": {"at_least": 1}}}, "warn_checks: expected conditions for rows .*at_least"),
        ({"checks": {"rows": {}}}, "checks: expected conditions for rows"),
        ({"checks": {"rows": {"geq_to": "many"}}}, "expected numbers to compare rows with, got .*many"),
        ({"checks": {"entity_coverage": {"geq_to": 1}}}, "entity_coverage is known only with input_sql"),
        ({"checks": {"reject_rate": {"leq_to": 0}}}, "reject_rate is known only with loaded"),
        ({"input_sql": "SELECT name FROM people"}, "input_sql: expected a query with a column user_id, got .* name"),
        ({"catalog_sql": "SELECT title FROM items"}, "catalog_sql: expected a query with a column item_id"),
    ],
)
def test_what_cannot_be_checked_is_said(target, two_nights, arguments, message):
    with pytest.raises(InvalidRequestError, match=message):
        check(target, extra_columns=TODAY, **arguments)


@POSTGRES
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"table": "nowhere"}, "nowhere cannot take these rows: expected it to exist"),
        ({"table": "items"}, "expected the columns that the loader makes .* it has item_id, title"),
        ({"extra_columns": {"night": "x"}}, "expected a column night; it has"),
    ],
)
def test_a_table_that_is_none_of_ours_is_told(target, two_nights, arguments, message):
    with pytest.raises(TableMismatchError, match=message):
        check(target, **arguments)


@POSTGRES
def test_slices_without_statistics_are_not_compared_row_by_row(target, two_nights):
    from airflow_provider_personalize.sql.opening import open_table
    from airflow_provider_personalize.sql.query import database_hook

    opened = open_table(database_hook(target.conn_id), "recs", None)
    with closing(opened.connection):
        table = OutputTable(opened)
        statements = []
        opened.execute = lambda sql, values=(): (
            statements.append((sql, values)),
            type(opened).execute(opened, sql, values),
        )
        table.overlap(TODAY, YESTERDAY)
        table.covered_entities(Query("input_sql", "SELECT user_id FROM subscribers"), TODAY)
        opened.execute = type(opened).execute.__get__(opened)
        plans = []
        for sql, values in statements:
            opened.execute(f"EXPLAIN {sql}", values)
            plans.append(str(opened.cursor.fetchall()))
    assert any("Join" in plan for plan in plans)
    assert not any("Nested Loop" in plan for plan in plans)


@POSTGRES
def test_nothing_is_written_to_the_database(target, two_nights):
    with pytest.raises(Exception, match="read-only transaction"):
        check(target, input_sql="SELECT lo_create(0) AS user_id")


@POSTGRES
def test_segments_and_related_items_are_told_by_their_columns(target, output):
    segments = [
        '{"input": {"itemId": "i1"}, "output": {"usersList": ["u", "v"]}, "error": null}',
        '{"input": {"itemId": "i2"}, "output": {"usersList": ["u"]}, "error": null}',
    ]
    load(target, output.write(*segments), table="segments", column_names={"segment": "launch"})
    figures = check(
        target,
        table="segments",
        column_names={"segment": "launch"},
        input_sql="SELECT * FROM (VALUES ('i1'), ('i2'), ('i3')) AS new (item_id)",
        catalog_sql="SELECT * FROM (VALUES ('u'), ('v'), ('w'), ('x')) AS people (user_id)",
    )
    assert (figures["entity_coverage"], figures["catalog_coverage"], figures["top_item"]) == (2 / 3, 0.5, "u")

    related = '{"input": {"itemId": "i1"}, "output": {"recommendedItems": ["i2", "i3"]}, "error": null}'
    load(target, output.write(related), table="related")
    figures = check(target, table="related", input_sql="SELECT 'i1' AS item_id")
    assert (figures["entities"], figures["items"], figures["entity_coverage"]) == (1, 2, 1.0)


@DATABASES
def test_the_report_shows_what_a_person_has_to_see(target, two_nights, tmp_path):
    report = tmp_path / "night" / "report.html"
    with pytest.raises(AirflowFailException, match=re.escape(report.as_uri())):
        check(
            target,
            extra_columns=TODAY,
            input_sql="SELECT user_id FROM subscribers",
            catalog_sql="SELECT item_id, title FROM items",
            loaded={"lines": 3, "rejects": 0},
            checks={"entity_coverage": {"geq_to": 0.9}},
            warn_checks={"overlap": {"geq_to": 0.1}},
            report_uri=report.as_uri(),
        )
    page = report.read_text(encoding="utf-8")
    assert "Not good enough" in page
    for text in ("recs · run_date = 2026-11-22", "3 of 4", "75.0 %", "Apple &lt;&amp;&gt; %s", "1 to 4"):
        assert text in page
    # Everybody has c, which nobody had before; u and w have a, which all three had before.
    shares = re.findall(r'<i style="width: ([\d.]+)%"></i><u style="left: ([\d.]+)%">', page)
    assert shares[:2] == [("100.0", "0.0"), ("66.67", "100.0")]
    # One with 1 result, none with 2, one with 3, one with 4.
    assert re.findall(r'title="(\d+): (\d+)"', page) == [("1", "1"), ("2", "0"), ("3", "1"), ("4", "1")]
    assert re.findall(r'title="([\d to]+ %): (\d+)"', page)[0] == ("0 to 10 %", "1")
    assert ("60 to 70 %", "1") in re.findall(r'title="([\d to]+ %): (\d+)"', page)


def trends(page):
    """Return the columns of the trends: ``{figure: [(slice, value), …]}``, the oldest first."""
    charts = re.findall(r'aria-label="(\w+): ([^"]*)"', page)
    return {figure: [tuple(bar.split(": ")) for bar in re.split(r", (?=2026)", bars)] for figure, bars in charts}


@DATABASES
def test_the_report_shows_the_last_ten_slices(target, output, tmp_path):
    nights = [f"2026-11-{day:02}" for day in range(3, 16)]
    for number, night in enumerate(nights):
        lines = [line(f"u{user}", "a", *(f"i{number}{n}" for n in range(2))) for user in range(number + 1)]
        for country, some in (("at", lines), ("ch", lines[:1])):
            extra = {"run_date": night, "country": country}
            load(target, output.write(*some), write_mode="replace_slice", extra_columns=extra)
    report = tmp_path / "page.html"
    check(target, extra_columns={"run_date": nights[-2], "country": "at"}, report_uri=str(report))
    shown = trends(report.read_text(encoding="utf-8"))
    assert [night for night, _ in shown["rows"]] == nights[2:12]
    assert [value for _, value in shown["entities"]] == [str(number) for number in range(3, 13)]
    assert [value for _, value in shown["rows"]] == [str(3 * number) for number in range(3, 13)]
    # One of three results stays. The oldest that is shown is compared, too.
    assert [value for _, value in shown["overlap"]] == ["33.3 %"] * 10
    check(target, extra_columns={"country": "at"}, report_uri=str(report))
    assert not trends(report.read_text(encoding="utf-8"))


@POSTGRES
def test_slices_that_take_too_long_are_left_out_of_the_trend(target, output, tmp_path, monkeypatch):
    for day in range(1, 6):
        extra = {"run_date": f"2026-11-{day:02}"}
        load(target, output.write(line("u", "a")), write_mode="replace_slice", extra_columns=extra)
    clock = iter(range(0, 1000, 20))
    monkeypatch.setattr(history, "monotonic", lambda: next(clock))
    report = tmp_path / "page.html"
    check(target, extra_columns={"run_date": "2026-11-05"}, report_uri=str(report))
    page = report.read_text(encoding="utf-8")
    assert [night for night, _ in trends(page)["rows"]] == ["2026-11-04", "2026-11-05"]
    assert "the earlier ones were left out" in page


@POSTGRES
def test_a_trend_that_cannot_be_made_hides_nothing(target, two_nights, tmp_path, monkeypatch, log):
    monkeypatch.setattr(OutputTable, "values_before", lambda self, *_: self._query("SELECT 1 / 0", []))
    report = tmp_path / "page.html"
    figures = check(target, extra_columns=TODAY, previous_columns=YESTERDAY, report_uri=str(report))
    assert figures["report_uri"] == str(report)
    assert not trends(report.read_text(encoding="utf-8"))
    assert "The figures of the slices before could not be looked up." in log()


@POSTGRES
def test_the_report_of_segments_shows_their_sizes_and_not_who_is_in_most(target, output, tmp_path):
    for night, sizes in ((YESTERDAY, {"i1": 1, "i2": 4}), (TODAY, {"i1": 2, "i2": 1, "i3": 2})):
        lines = [
            json.dumps({"input": {"itemId": item}, "output": {"usersList": [f"u{n}" for n in range(size)]}})
            for item, size in sizes.items()
        ]
        load(target, output.write(*lines), write_mode="replace_slice", extra_columns=night)
    report = tmp_path / "page.html"
    check(target, extra_columns=TODAY, report_uri=str(report))
    page = report.read_text(encoding="utf-8")
    assert "Most frequent" not in page
    assert "top_<wbr>item_<wbr>share" not in page
    bars = r'title="(i\d)">.*?<em>(\d)</em>.*?width: ([\d.]+)%"></i><u style="left: ([\d.]+)%">'
    assert re.findall(bars, page, re.DOTALL) == [
        ("i1", "2", "50.0", "25.0"),
        ("i3", "2", "50.0", "0.0"),
        ("i2", "1", "25.0", "100.0"),
    ]
    check(target, extra_columns=TODAY, report_uri=str(report), checks={"top_item_share": {"leq_to": 1}})
    assert "top_<wbr>item_<wbr>share" in report.read_text(encoding="utf-8")


@POSTGRES
def test_the_most_frequent_item_has_the_longest_bar_however_rare_it_is(target, output, tmp_path):
    lines = [line(f"u{n}", *(["a"] if n < 2 else []), f"i{n}") for n in range(10)]
    load(target, output.write(*lines))
    report = tmp_path / "page.html"
    check(target, report_uri=str(report))
    bars = re.findall(r"<em>([\d.]+ %)</em>.*?width: ([\d.]+)%", report.read_text(encoding="utf-8"), re.DOTALL)
    assert bars[:2] == [("20.0 %", "100.0"), ("10.0 %", "50.0")]


@POSTGRES
def test_a_chart_of_one_bar_is_a_sentence(target, output, tmp_path):
    for night in (YESTERDAY, TODAY):
        lines = output.write(line("u", "a"), line("v", "a"))
        load(target, lines, write_mode="replace_slice", extra_columns=night)
    report = tmp_path / "page.html"
    check(target, extra_columns=TODAY, report_uri=str(report))
    page = report.read_text(encoding="utf-8")
    assert "All users (2) have the same number of results: 1." in page
    assert "All users that both slices have (2) share 90 to 100 % of their results." in page
    assert '<bdi>a</bdi> is the only one: <span class="value">100.0 %</span> of the users have it.' in page
    assert 'class="track"' not in page


@POSTGRES
def test_the_report_says_where_it_comes_from(target, two_nights, tmp_path, monkeypatch):
    class Task(Pushed):
        dag_id, run_id = "nightly", 'x" onclick="alert(1)'
        log_url = "https://airflow.example.com/dags/nightly/runs/x%22/tasks/check?try_number=1"

    arn = "arn:aws:personalize:eu-west-1:123456789012:batch-inference-job/nightly-2026"
    loads = [{"lines": 1, "rejects": 0, "job_arn": f"{arn}-{n}"} for n in range(7)]
    report = tmp_path / "page.html"
    arguments = {"extra_columns": TODAY, "loaded": loads, "report_uri": str(report), "region_name": "eu-west-1"}
    check(target, ti=Task(), **arguments)
    page = report.read_text(encoding="utf-8")
    links = re.findall(r'href="([^"]+)"[^>]*>([^<]+)<', page)
    assert links[0] == ("https://airflow.example.com/dags/nightly/runs/x%22", "nightly · x&#34; onclick=&#34;alert(1)")
    console = "https://console.aws.amazon.com/personalize/home?region=eu-west-1#"
    assert links[1:] == [(f"{console}{arn}-{n}", f"nightly-2026-{n}") for n in range(5)]
    assert "and 2 more" in page
    assert re.search(r"<dt>Made</dt><dd>20\d\d-\d\d-\d\d \d\d:\d\d UTC</dd>", page)
    # What is no page of the web is no link, and the stand-in's jobs are not in the AWS console.
    monkeypatch.setattr(Task, "log_url", "javascript:alert(1)")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    check(target, ti=Task(), **arguments)
    links = re.findall(r'href="([^"]+)"', report.read_text(encoding="utf-8"))
    assert links == [f"http://127.0.0.1:1/_local/console?arn={arn}-{n}" for n in range(5)]


@POSTGRES
def test_the_report_goes_to_s3(target, two_nights, local):
    import boto3

    client = boto3.client("s3")
    client.create_bucket(Bucket="reports")
    check(target, extra_columns=TODAY, report_uri="s3://reports/night/check.html")
    stored = client.get_object(Bucket="reports", Key="night/check.html")
    assert stored["ContentType"] == "text/html; charset=utf-8"
    assert b"Nothing was expected of it" in stored["Body"].read()


def failure(target, **kwargs):
    """Run a check that fails; give the error."""
    with pytest.raises(AirflowFailException) as raised:
        check(target, **kwargs)
    assert isinstance(raised.value, OutputCheckError)
    return raised.value


#: Types of ids that are no text, with ids as the loader gives them, and the same ids written as other literals.
ID_TYPES = pytest.mark.parametrize(
    ("kind", "ids"),
    [
        ("bigint", ["7", "12", "9007199254740993"]),
        ("uuid", [f"00000000-0000-4000-8000-00000000000{n}" for n in "abc"]),
        ("numeric(20)", ["7", "12", "9007199254740993"]),
        ("char(9)", ["a", "b", "c"]),
    ],
)


@POSTGRES
@ID_TYPES
@pytest.mark.parametrize("query_type", ["own", "text"])
def test_ids_that_are_no_text_are_compared_as_the_text_that_they_are(target, output, kind, ids, query_type):
    # The loader takes no column that fills its ids up with spaces; one can become that afterwards.
    loaded = "text" if kind == "char(9)" else kind
    target.execute(f"CREATE TABLE recs (user_id {loaded}, rank int, item_id {loaded}, score float8, run_date date)")
    one, two, three = ids
    for night, lines in ((YESTERDAY, [line(one, two)]), (TODAY, [line(one, two, three), line(two, two)])):
        load(target, output.write(*lines), write_mode="replace_slice", extra_columns=night)
    target.execute(f"ALTER TABLE recs ALTER user_id TYPE {kind}, ALTER item_id TYPE {kind}")
    asked = kind if query_type == "own" else "text"
    target.execute(f"CREATE TABLE people (user_id {asked})")
    target.execute(f"CREATE TABLE things (item_id {asked}, title text)")
    for each in ids:
        target.execute("INSERT INTO people VALUES (%s)", [each])
        target.execute("INSERT INTO things VALUES (%s, %s)", [each, f"title of {each}"])
    arguments = {
        "extra_columns": TODAY,
        "input_sql": "SELECT user_id FROM people",
        "catalog_sql": "SELECT item_id, title FROM things",
        "report_uri": str(output.folder / "page.html"),
    }
    figures = check(target, **arguments)
    assert (figures["covered_entities"], figures["input_entities"]) == (2, 3)
    assert (figures["covered_catalog"], figures["catalog_items"]) == (2, 3)
    assert (figures["top_item"], figures["overlap"]) == (two, 0.5)
    # The one who had it is all there were: a mark at 100 %.
    page = (output.folder / "page.html").read_text(encoding="utf-8")
    assert f"title of {two}" in page
    assert "left: 100.0%" in page
    error = failure(target, **arguments, checks={"entity_coverage": {"geq_to": 1}, "catalog_coverage": {"geq_to": 1}})
    assert error.details == [
        f"Without results, the first 1: {three!r}.",
        f"Recommended to nobody, the first 1: {one!r}.",
    ]
    # The page has them, too.
    text = (output.folder / "page.html").read_text(encoding="utf-8").replace("&#39;", "'")
    assert all(sentence in text for sentence in error.details)


@pytest.mark.parametrize("target", ["mysql", "duckdb", "sqlite"], indirect=True)
def test_numbers_that_are_ids_are_compared_elsewhere_too(target, output):
    target.execute("CREATE TABLE people (user_id bigint)")
    target.execute("INSERT INTO people VALUES (7), (8), (12)")
    target.execute("CREATE TABLE recs (user_id bigint, item_id bigint)")
    target.execute("INSERT INTO recs VALUES (7, 1), (12, 1)")
    figures = check(target, input_sql="SELECT CAST(user_id AS char(9)) AS user_id FROM people")
    assert (figures["covered_entities"], figures["input_entities"], figures["top_item"]) == (2, 3, "1")


ENDS = ["-- all", "; -- all", ";", "/* all; of them */;", " ; /* a */ -- b\n", "-- it's; (all\n;\n-- of them"]


@DATABASES
def test_a_query_may_end_in_semicolons_and_comments(target, two_nights):
    for end in ENDS:
        figures = check(
            target,
            extra_columns=TODAY,
            input_sql=f"SELECT user_id FROM subscribers {end}",
            catalog_sql=f"SELECT item_id, ';' AS x /* the title; */, title FROM items {end}",
        )
        assert (figures["input_entities"], figures["catalog_items"]) == (4, 4), end


#: How each database's driver names values, and has them in order.
NAMED = {"postgres": "%({})s", "mysql": "%({})s", "sqlite": ":{}", "duckdb": "${}", "generic": ":{}"}
ORDERED = {"postgres": "%s", "mysql": "%s", "sqlite": "?", "duckdb": "?", "generic": "?"}


@DATABASES
@pytest.mark.parametrize("named", [True, False])
def test_the_queries_take_parameters(target, two_nights, tmp_path, request, named):
    kind = request.node.callspec.params["target"]
    mark = NAMED[kind].format("one") if named else ORDERED[kind]
    other = NAMED[kind].format("other") if named else ORDERED[kind]
    percent = "%%" if "%" in mark else "%"
    report = tmp_path / "page.html"
    figures = check(
        target,
        extra_columns=TODAY,
        input_sql=f"SELECT user_id FROM subscribers WHERE user_id <> {mark} AND user_id NOT LIKE {other}; -- but one",
        catalog_sql=f"SELECT item_id, title FROM items WHERE item_id <> {mark} AND title LIKE 'A{percent}' "
        f"AND title <> {other}",
        parameters={"one": "x", "other": "v", "unused": 1} if named else ["x", "v"],
        report_uri=str(report),
        warn_checks={"entity_coverage": {"geq_to": 0.9}, "catalog_coverage": {"leq_to": 0.9}},
    )
    assert (figures["covered_entities"], figures["input_entities"]) == (2, 2)
    assert (figures["covered_catalog"], figures["catalog_items"]) == (1, 1)
    assert "Apple" in report.read_text(encoding="utf-8")


@DATABASES
@pytest.mark.parametrize("nothing", [{}, [], None])
def test_empty_parameters_are_none(target, two_nights, nothing):
    sql = "SELECT user_id FROM subscribers WHERE user_id NOT LIKE 'x%'"
    assert check(target, extra_columns=TODAY, input_sql=sql, parameters=nothing)["input_entities"] == 3


@POSTGRES
def test_a_parameter_that_is_not_given_is_named(target, two_nights):
    with pytest.raises(InvalidRequestError, match=r"parameters: expected a value for %\(id\)s of input_sql, .* other"):
        check(target, input_sql="SELECT %(id)s AS user_id", parameters={"other": 1})


WRITING = [
    "SELECT '1' AS user_id, '1' AS item_id) asked; COMMIT; DROP TABLE subscribers; --",
    "SELECT '1' AS user_id, '1' AS item_id) asked; DROP TABLE subscribers; SELECT * FROM (SELECT 1",
    "SELECT user_id, user_id AS item_id FROM subscribers; DELETE FROM subscribers",
    "DELETE FROM subscribers",
    "COMMIT",
]


@DATABASES
@pytest.mark.parametrize("name", ["input_sql", "catalog_sql"])
def test_the_queries_only_read_whatever_they_say(target, two_nights, name):
    before = target.read("subscribers")
    assert len(before) == 6
    for text in WRITING:
        with pytest.raises(Exception, match=rf"{name}: expected one|Parser Error"):
            check(target, extra_columns=TODAY, **{name: text})
        assert target.read("subscribers") == before, text


@DATABASES
@pytest.mark.parametrize("checks", [{"reject_rate": {"leq_to": 0.1}}, {"reject_rate": {"leq_to": 0.35}}])
def test_the_counts_of_mapped_loads_are_added_up(target, two_nights, checks):
    loads = [{"lines": 5, "rejects": 2, "job_arn": None}, None, {"lines": 5, "rejects": 1, "job_arn": None}]
    figures = check(target, extra_columns=TODAY, loaded=loads)
    assert (figures["lines"], figures["rejects"], figures["reject_rate"]) == (10, 3, 0.3)
    assert check(target, extra_columns=TODAY, loaded=json.dumps(loads))["reject_rate"] == 0.3
    assert check(target, extra_columns=TODAY, loaded=tuple(loads))["reject_rate"] == 0.3
    if checks["reject_rate"]["leq_to"] < 0.3:
        assert failure(target, loaded=loads, checks=checks).failed == ["reject_rate is 30.0 %, expected ≤ 10.0 %"]
    else:
        check(target, loaded=loads, checks=checks)


@POSTGRES
@pytest.mark.parametrize("loaded", ["s3://b/out/", 7, [7], {"lines": 1}, [{"lines": "many", "rejects": 0}], [[]]])
def test_what_no_loader_returned_is_refused(target, two_nights, loaded):
    with pytest.raises(
        InvalidRequestError, match=r"loaded: expected (what the loader has returned|a mapping or a list)"
    ):
        check(target, loaded=loaded)


TOMORROW = {"run_date": "2026-11-23"}


@POSTGRES
@pytest.mark.parametrize(
    ("arguments", "checks", "failed"),
    [
        ({"extra_columns": TOMORROW}, {"rows": {"leq_to": 100}}, "rows is 0, expected ≤ 100"),
        ({"extra_columns": TOMORROW}, {"max_results": {"less_than": 9}}, "max_results is 0, expected < 9"),
        ({"extra_columns": TOMORROW}, {"top_item_share": {"leq_to": 0.9}}, "top_item_share is not known"),
        ({"extra_columns": TOMORROW}, {"overlap": {"geq_to": 0.1}}, "overlap is not known"),
        ({"extra_columns": {"run_date": "1999-01-01"}}, {"overlap": {"geq_to": 0.1}}, "overlap is not known"),
        (
            {"extra_columns": TOMORROW, "loaded": {"lines": 5, "rejects": 0}},
            {"reject_rate": {"leq_to": 0.1}},
            "reject_rate is 0.0 %, expected ≤ 10.0 %",
        ),
    ],
)
def test_an_empty_slice_fails_what_is_checked(target, two_nights, arguments, checks, failed):
    [sentence] = failure(target, checks=checks, **arguments).failed
    assert sentence.startswith(failed)
    assert sentence.endswith(f"(recs has no rows where run_date = {arguments['extra_columns']['run_date']})")
    # Who says that nothing is right has it so.
    check(target, extra_columns=TOMORROW, checks={"rows": {"equal_to": 0}, "entities": {"geq_to": 0, "leq_to": 5}})


@DATABASES
@pytest.mark.parametrize(
    ("arguments", "figure", "reason"),
    [
        ({"input_sql": "SELECT user_id FROM subscribers WHERE 1 = 0"}, "entity_coverage", "input_sql gives no ids"),
        ({"input_sql": "SELECT NULL AS user_id"}, "entity_coverage", "input_sql gives no ids"),
        ({"catalog_sql": "SELECT item_id FROM items WHERE 1 = 0"}, "catalog_coverage", "catalog_sql gives no ids"),
        ({"loaded": {"lines": 0, "rejects": 0}}, "reject_rate", "what was loaded has no lines"),
        ({"loaded": []}, "reject_rate", "what was loaded has no lines"),
    ],
)
def test_nothing_to_compare_with_fails_what_is_checked(target, two_nights, log, arguments, figure, reason):
    expected = {figure: {"leq_to": 1}}
    sentence = f"{figure} is not known, expected ≤ 100.0 % ({reason})"
    assert failure(target, extra_columns=TODAY, checks=expected, **arguments).failed == [sentence]
    log()
    check(target, extra_columns=TODAY, warn_checks=expected, **arguments)
    assert f"Warned: {sentence}" in log()


@POSTGRES
def test_a_slice_before_of_other_entities_is_no_excuse(target, output):
    for night, user in ((YESTERDAY, "u"), (TODAY, "v")):
        load(target, output.write(line(user, "a")), write_mode="replace_slice", extra_columns=night)
    expected = {"overlap": {"geq_to": 0.1}}
    [sentence] = failure(target, extra_columns=TODAY, checks=expected).failed
    assert "the slice before has none of the same entities" in sentence
    check(target, extra_columns=YESTERDAY, checks=expected)


@DATABASES
def test_the_first_ten_ids_without_results_are_named(target, output):
    load(target, output.write(line("u", "a")))
    target.execute("CREATE TABLE people (user_id varchar(9))")
    for number in range(12):
        target.execute(f"INSERT INTO people VALUES ('v{number:02}'), ('u')")
    error = failure(target, input_sql="SELECT user_id FROM people", checks={"entity_coverage": {"geq_to": 0.5}})
    ids = [f"v{number:02}" for number in range(10)]
    assert error.details == [f"Without results, the first 10: {', '.join(map(repr, ids))}."]
    assert error.details[0] in str(error)


BAD = '{"input": {"userId": "x"}, "output": null, "error": "No such user"}'


@DATABASES
def test_the_commonest_reasons_of_the_rejects_are_named(target, output):
    lines = [line("u", "a"), BAD, "no json", BAD]
    load(target, output.write("[]", name="other.json.out"), table="others", rejects_table="rejected", max_reject_rate=1)
    loaded = load(target, output.write(*lines), rejects_table="rejected", max_reject_rate=1)
    expected = {"reject_rate": {"leq_to": 0.1}}
    error = failure(target, loaded=loaded, rejects_table="rejected", checks=expected)
    [sentence] = error.details
    assert re.search(r"^The commonest reasons of the rejects: .*No such user.* \(2\); .* \(1\)\.$", sentence)
    assert sentence in str(error)
    # Other loads' rejects are not this one's.
    assert len(sentence.split("; ")) == 2
    [other] = failure(target, loaded=loaded, checks=expected).details
    assert "Give the loader's rejects_table" in other


@DATABASES
def test_rejects_say_when_they_were_loaded(target, output):
    from datetime import UTC, datetime, timedelta

    for _ in range(2):
        load(target, output.write(BAD, "no json"), rejects_table="rejected", max_reject_rate=1)
    stamps = [stamp for (stamp,) in target.execute("SELECT loaded_at FROM rejected")]
    assert len(stamps) == 2
    assert len(set(stamps)) == 1
    at = datetime.fromisoformat(str(stamps[0]))
    assert abs(datetime.now(UTC).replace(tzinfo=None) - at) < timedelta(minutes=5)


@DATABASES
def test_a_rejects_table_of_an_earlier_version_goes_on_working(target, output):
    text = "varchar(900)"
    target.execute(
        f"CREATE TABLE rejected (source {text}, object {text}, line bigint, byte_offset bigint, reason {text}, "
        f"{'`text`' if 'mysql' in type(target).__name__.lower() else 'text'} {text})"
    )
    loaded = load(target, output.write(line("u", "a"), BAD), rejects_table="rejected", max_reject_rate=1)
    assert [row[2] for row in target.execute("SELECT * FROM rejected")] == [2]
    error = failure(target, loaded=loaded, rejects_table="rejected", checks={"reject_rate": {"leq_to": 0}})
    assert "No such user" in error.details[0]


@POSTGRES
@pytest.mark.parametrize("report", ["/dev/null/page.html", "s3://no-such-bucket/page.html", "gs://bucket/page.html"])
def test_a_report_that_cannot_be_written_hides_nothing(target, two_nights, local, log, report):
    arguments = {"extra_columns": TODAY, "input_sql": "SELECT user_id FROM subscribers"}
    operator = {"report_uri": "{{ var.value.report }}", **arguments}
    pushed = Pushed()
    error = failure(
        target, ti=pushed, checks={"entity_coverage": {"geq_to": 0.9}}, rendered={"report_uri": report}, **operator
    )
    assert error.failed == ["entity_coverage is 75.0 %, expected ≥ 90.0 %"]
    assert error.report_uri is None
    assert pushed["return_value"] == error.figures
    assert f"The report could not be written to {report}." in log()
    figures = check(target, rendered={"report_uri": report}, checks={"rows": {"geq_to": 1}}, **operator)
    assert (figures["rows"], figures["report_uri"]) == (8, None)


@POSTGRES
def test_a_page_that_cannot_be_made_hides_nothing(target, two_nights, tmp_path, log):
    report = tmp_path / "page.html"
    error = failure(
        target,
        extra_columns=TODAY,
        catalog_sql="SELECT item_id, CAST(1 / (length(title) - length(title)) AS text) AS title FROM items",
        checks={"rows": {"geq_to": 100}},
        report_uri=str(report),
    )
    assert error.failed == ["rows is 8, expected ≥ 100"]
    assert not report.exists()
    assert "The report could not be made." in log()


class TestWhatIsSaidWhenTheFileIsParsed:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"checks": {"coverage": {"geq_to": 1}}}, "checks: expected figures among rows, .* got 'coverage'"),
            ({"warn_checks": {"rows": {"at_least": 1}}}, "warn_checks: expected conditions for rows .*at_least"),
            ({"checks": {"rows": 5}}, "checks: expected conditions for rows"),
            ({"checks": {"rows": {"geq_to": "many"}}}, "expected numbers to compare rows with, got .*many"),
            ({"checks": {"rows": {"geq_to": None}}}, "expected numbers to compare rows with"),
            ({"checks": {"rows": {"geq_to": True}}}, "expected numbers to compare rows with"),
            ({"checks": {"rows": {"geq_to": float("nan")}}}, "expected numbers to compare rows with, got .*nan"),
            ({"warn_checks": {"rows": {"leq_to": float("inf")}}}, "expected numbers to compare rows with"),
            ({"checks": {"overlap": {"leq_to": 95}}}, "overlap is a share: expected a number from 0 to 1"),
            ({"checks": [("rows", 1)]}, "checks: expected a mapping"),
            ({"checks": "rows > 1"}, "checks: expected a mapping"),
            ({"checks": {"entity_coverage": {"geq_to": 1}}}, "entity_coverage is known only with input_sql"),
            ({"report_uri": "gs://bucket/page.html"}, "report_uri: expected a path, file:///.*'gs://bucket"),
            ({"report_uri": "https://host/page.html"}, "report_uri: expected a path"),
            ({"report_uri": "s3://bucket"}, "has no key"),
            ({"report_uri": "s3:///key"}, "report_uri: expected an S3 URI"),
            ({"report_uri": "file://host/page.html"}, "report_uri: expected a path"),
        ],
        ids=str,
    )
    def test_literal_mistakes(self, arguments, message):
        with pytest.raises(InvalidRequestError, match=message):
            PersonalizeOutputCheckOperator(task_id="check", table="recs", sql_conn_id="db", **arguments)

    @pytest.mark.parametrize(
        "arguments",
        [
            {"checks": "{{ params.checks }}"},
            {"checks": {"{{ params.figure }}": {"geq_to": 1}, "rows": {"geq_to": "{{ params.top_n }}"}}},
            {"checks": {"rows": {"{{ params.how }}": 1}}},
            {"checks": {"rows": "{{ params.conditions }}"}},
            {"checks": '{"rows": {"geq_to": 1}}'},
            {"checks": {"entity_coverage": {"geq_to": "0.9"}}, "input_sql": "{{ params.sql }}"},
            {"report_uri": "{{ params.folder }}/page.html"},
            {"report_uri": "{% if params.s3 %}s3://b/k{% else %}/home/me/page.html{% endif %}"},
            {"report_uri": "page.html"},
            {"report_uri": "file:///home/me/page.html"},
            {"report_uri": Path("page.html")},
        ],
        ids=str,
    )
    def test_templates_and_what_is_right_are_left_alone(self, arguments):
        operator = PersonalizeOutputCheckOperator(task_id="check", table="recs", sql_conn_id="db", **arguments)
        assert {name: getattr(operator, name) for name in arguments} == arguments

    def test_what_a_template_gave_is_looked_at_when_it_runs(self, tmp_path, airflow_connection):
        target = type("Target", (), {"conn_id": airflow_connection("db", "sqlite:////home/x.db")})
        with pytest.raises(InvalidRequestError, match="checks: expected figures among"):
            check(target, checks="{{ x }}", rendered={"checks": '{"coverage": {"geq_to": 1}}'})


@DATABASES
def test_lists_for_everybody_are_compared_too(target, output):
    for night, items in ((YESTERDAY, ["a", "b"]), (TODAY, ["b", "c", "a", "d"])):
        load(target, output.write(line(None, *items)), write_mode="replace_slice", extra_columns=night)
    figures = check(target, extra_columns=TODAY)
    assert (figures["entities"], figures["rows"], figures["overlap"]) == (1, 4, 0.5)


@DATABASES
@pytest.mark.parametrize("names", [{}, {"rank": None}], ids=["ranks", "no_ranks"])
def test_an_item_that_an_entity_has_in_several_lists_counts_once(target, output, tmp_path, names):
    def filtered(genre, user, *items):
        record = {"userId": user, "filterValues": {"G": genre}}
        return json.dumps({"input": record, "output": {"recommendedItems": items}})

    lines = [filtered(genre, "u", "a", "b") for genre in "xyz"] + [filtered("x", "v", "c"), line(None, "c")]
    for night in (YESTERDAY, TODAY):
        load(target, output.write(*lines), write_mode="replace_slice", extra_columns=night, column_names=names)
    report = tmp_path / "page.html"
    figures = check(
        target,
        extra_columns=TODAY,
        column_names=names,
        checks={"top_item_share": {"leq_to": 0.7}},
        report_uri=str(report),
    )
    assert (figures["entities"], figures["max_results"], figures["top_item"]) == (3, 6, "c")
    assert figures["top_item_share"] == figures["previous"]["top_item_share"] == 2 / 3
    page = report.read_text(encoding="utf-8")
    # The line marks the share before, which is the same.
    assert re.findall(r'<i style="width: ([\d.]+)%"></i><u style="left: ([\d.]+)%">', page)[:2] == [
        ("100.0", "100.0"),
        ("50.0", "50.0"),
    ]


@POSTGRES
def test_a_setting_that_the_server_has_not_is_no_obstacle(target, two_nights, monkeypatch):
    """``jit``, for one, is of PostgreSQL 11."""
    monkeypatch.setattr("airflow_provider_personalize.sql.postgres._HINDERING", ("jit", "of_a_later_version"))
    assert check(target, extra_columns=TODAY)["overlap"] == (2 / 3 + 0) / 2
