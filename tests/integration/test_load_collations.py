"""Ids and slices that a column's collation, or its character set, would take for the same stay apart."""

from __future__ import annotations

from contextlib import suppress

import pytest

from airflow_provider_personalize.exceptions import OutputCheckError
from tests.integration.load_support import DuckDbTarget, MySqlTarget, PostgresTarget, line, load
from tests.integration.test_delta import counts, delta
from tests.integration.test_output_check import Pushed, check

ALIKE = ["a", "A", "a ", "á", "ä"]
#: As the extension citext: compared without regard to capitals.
FOLDED = """
    CREATE TYPE folded;
    CREATE FUNCTION folded_in(cstring) RETURNS folded LANGUAGE internal IMMUTABLE STRICT AS 'textin';
    CREATE FUNCTION folded_out(folded) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'textout';
    CREATE FUNCTION folded_recv(internal) RETURNS folded LANGUAGE internal IMMUTABLE STRICT AS 'textrecv';
    CREATE FUNCTION folded_send(folded) RETURNS bytea LANGUAGE internal IMMUTABLE STRICT AS 'textsend';
    CREATE TYPE folded (
        INPUT = folded_in, OUTPUT = folded_out, RECEIVE = folded_recv, SEND = folded_send, LIKE = text, CATEGORY = 'S'
    );
    CREATE CAST (folded AS text) WITHOUT FUNCTION AS IMPLICIT;
    CREATE CAST (text AS folded) WITHOUT FUNCTION AS ASSIGNMENT;
    CREATE FUNCTION same(folded, folded) RETURNS boolean LANGUAGE sql IMMUTABLE STRICT
        AS 'SELECT lower($1::text) = lower($2::text)';
    CREATE OPERATOR = (LEFTARG = folded, RIGHTARG = folded, FUNCTION = same);
"""
COLLATION = "CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level1', deterministic = false)"


@pytest.fixture(params=["postgres", "sqlite", "mysql", "mysql-files", "mysql-connector", "duckdb"])
def target(request, open_database):
    return open_database(request.param)


@pytest.fixture
def kinds(target):
    """Types of text to which some of the ids are the same."""
    if isinstance(target, MySqlTarget):
        sets = ["utf8mb4 COLLATE utf8mb4_general_ci", "latin1", "utf8mb4 COLLATE utf8mb4_bin"]
        return [f"varchar(99) CHARACTER SET {kind}" for kind in sets]
    if isinstance(target, PostgresTarget):
        target.execute(FOLDED)
        kinds = ["folded"]
        with suppress(Exception):  # of a server that was built without ICU
            target.execute(COLLATION)
            kinds += ["text COLLATE loose", "varchar(99) COLLATE loose"]
        return kinds
    collations = ["nocase.noaccent"] if isinstance(target, DuckDbTarget) else ["NOCASE", "RTRIM"]
    return [f"text COLLATE {collation}" for collation in collations]


def table(target, kind):
    target.execute("DROP TABLE IF EXISTS recs")
    target.execute(
        f"CREATE TABLE recs (user_id {kind}, rank integer, item_id {kind}, score double precision, run {kind})"
    )


def slices_stay_apart(target, output, kind):
    table(target, kind)
    for value in [*ALIKE, *ALIKE]:
        load(target, output.write(line("u", value)), write_mode="replace_slice", extra_columns={"run": value})
    assert sorted(row[-1] for row in target.read()) == sorted(ALIKE), kind


def entities_stay_apart(target, output, kind):
    table(target, kind)
    for user in [*ALIKE, *ALIKE]:
        load(target, output.write(line(user, user)), write_mode="merge")
    assert sorted(row[0] for row in target.read()) == sorted(ALIKE), kind
    load(target, output.write(line("a")), write_mode="merge")
    assert sorted(row[0] for row in target.read()) == sorted(ALIKE[1:]), kind


def test_slices_stay_apart(target, output, kinds):
    for kind in kinds:
        slices_stay_apart(target, output, kind)


def test_entities_stay_apart_in_a_merge(target, output, kinds):
    for kind in kinds:
        entities_stay_apart(target, output, kind)


def test_what_has_changed_goes_by_the_characters(target, output, kinds, tmp_path):
    for kind in kinds:
        table(target, kind)
        for day, items in (("2026-11-21", ALIKE), ("2026-11-22", ALIKE[::-1])):
            lines = [line(user, *items) for user in ALIKE]
            load(target, output.write(*lines), write_mode="replace_slice", extra_columns={"run": day})
        for more, found in (({}, len(ALIKE)), ({"exact": True}, len(ALIKE)), ({"what": "items"}, 0)):
            slices = {"extra_columns": {"run": "2026-11-22"}, "previous_columns": {"run": "2026-11-21"}}
            assert counts(delta(target, tmp_path, **slices, **more)) == (0, found, 0), kind


def test_the_output_check_goes_by_the_characters(target, output, kinds):
    for kind in kinds:
        table(target, kind)
        for day, users in (("2026-11-21", ALIKE), ("2026-11-22", ALIKE[1:])):
            # Each user has one item more than the user before.
            lines = [line(user, *ALIKE[: 1 + number]) for number, user in enumerate(users)]
            load(target, output.write(*lines), write_mode="replace_slice", extra_columns={"run": day})
        target.execute("DROP TABLE IF EXISTS people")
        target.execute(f"CREATE TABLE people (user_id {kind}, title {kind})")
        for value in [*ALIKE, "elsewhere"]:
            target.execute(f"INSERT INTO people VALUES ('{value}', 'title of {value}')")
        ti = Pushed()
        with pytest.raises(OutputCheckError) as caught:
            check(
                target,
                ti,
                extra_columns={"run": "2026-11-22"},
                previous_columns={"run": "2026-11-21"},
                input_sql="SELECT user_id FROM people",
                catalog_sql="SELECT user_id AS item_id, title FROM people",
                checks={"entity_coverage": {"equal_to": 1}, "catalog_coverage": {"equal_to": 1}},
                report_uri=str(output.folder / "page.html"),
            )
        figures = caught.value.figures
        assert (figures["rows"], figures["entities"], figures["items"]) == (10, 4, 4), kind
        assert (figures["top_item"], figures["top_item_share"]) == ("a", 1.0), kind
        assert (figures["covered_entities"], figures["input_entities"]) == (4, 6), kind
        assert (figures["covered_catalog"], figures["catalog_items"]) == (4, 6), kind
        # All that they have now, they had before.
        assert figures["overlap"] == 1.0, kind
        assert caught.value.details == [
            "Without results, the first 2: 'a', 'elsewhere'.",
            "Recommended to nobody, the first 2: 'elsewhere', 'ä'.",
        ], kind
        page = (output.folder / "page.html").read_text(encoding="utf-8")
        assert all(f"title of {item}" in page for item in ALIKE[:4]), kind
