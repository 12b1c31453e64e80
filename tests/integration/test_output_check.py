"""Loaded output is compared with its input, the catalog and the slice before; by real databases."""

from __future__ import annotations

import inspect
import re

import pytest

from airflow_provider_personalize.compat import AirflowFailException
from airflow_provider_personalize.exceptions import InvalidRequestError, OutputCheckError, TableMismatchError
from airflow_provider_personalize.operators.output_check import PersonalizeOutputCheckOperator
from tests.integration.load_support import line, load

YESTERDAY, TODAY = {"run_date": "2026-11-21"}, {"run_date": "2026-11-22"}
DATABASES = pytest.mark.parametrize("target", ["postgres", "sqlite", "mysql", "duckdb", "generic"], indirect=True)
POSTGRES = pytest.mark.parametrize("target", ["postgres"], indirect=True)


class Pushed(dict):
    """What a task pushes to XCom."""

    def xcom_push(self, key, value):
        self[key] = value


def check(target, ti=None, **kwargs):
    """Run the check; gives what it returns."""
    arguments = {"table": "recs", "sql_conn_id": target.conn_id, "aws_conn_id": None} | kwargs
    operator = PersonalizeOutputCheckOperator(task_id="check", **arguments)
    return inspect.unwrap(type(operator).execute)(operator, {"ti": Pushed() if ti is None else ti})


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
    error = raised.value.__cause__
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
    check(target, extra_columns=TODAY, warn_checks={"overlap": {"geq_to": 0.5}, "rows": {"equal_to": 8}})
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


@POSTGRES
def test_the_report_goes_to_s3(target, two_nights, local):
    import boto3

    client = boto3.client("s3")
    client.create_bucket(Bucket="reports")
    check(target, extra_columns=TODAY, report_uri="s3://reports/night/check.html")
    stored = client.get_object(Bucket="reports", Key="night/check.html")
    assert stored["ContentType"] == "text/html; charset=utf-8"
    assert b"Nothing was expected of it" in stored["Body"].read()
