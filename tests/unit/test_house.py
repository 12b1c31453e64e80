"""The rooms of the package, their floors, and who may import whom: ``make rooms`` prints what is checked here."""

from __future__ import annotations

import ast

import pytest

from airflow_provider_personalize.get_provider_info import get_provider_info
from tests import house

#: What the modules that a DAG file reaches may import from outside, beside the standard library: what any environment
#: with the Amazon provider has loaded anyway.
CHEAP = ("airflow", "boto3", "botocore", "urllib3")
#: Of Airflow's providers, those that the package cannot do without.
CHEAP_PROVIDERS = ("amazon", "common")
#: The rooms that a DAG file imports.
AIRFLOWS = {"hooks", "links", "operators", "sensors", "transfers", "triggers"}


def test_every_room_stands_somewhere_and_imports_nothing_above_it():
    assert house.misplaced() == []


def test_there_is_no_circle():
    """Among modules or rooms; neither by imports in functions nor by those for type checkers."""
    assert house.circles() == []


def test_nothing_outside_the_stand_in_imports_it():
    assert [
        str(one) for one in house.imports() if house.room_of(one.imported) == "local" != house.room_of(one.importer)
    ] == []


def test_no_module_is_too_long():
    assert house.too_long() == {}


def test_pure_rooms_import_only_pure_rooms():
    pure = set(house.pure())
    assert pure < house.FLOOR.keys()
    assert [
        str(one)
        for one in house.imports()
        if house.room_of(one.importer) in pure and house.room_of(one.imported) not in {*pure, ""}
    ] == []


def transfer_modules():
    return {name for name in house.modules() if house.room_of(name) == "transfers"} - {f"{house.PACKAGE}.transfers"}


@pytest.mark.parametrize("name", sorted(transfer_modules()))
def test_transfers_hold_transfers_only(name):
    """Whatever else a transfer needs has a room of its own."""
    tree = ast.parse(house.modules()[name].read_text(encoding="utf-8"))
    classes = {node.name for node in tree.body if isinstance(node, ast.ClassDef)}
    assert classes
    assert {cls for cls in classes if not cls.endswith("Operator")} == set()


def test_airflow_is_told_of_every_transfer():
    assert {entry["python-module"] for entry in get_provider_info()["transfers"]} == transfer_modules()


def test_a_dag_file_loads_no_data_library_driver_or_server():
    loaded = house.loaded_with(name for name in house.modules() if house.room_of(name) in AIRFLOWS)
    assert {house.room_of(name) for name in loaded} > AIRFLOWS
    assert [
        str(one)
        for one in house.outside_imports()
        if one.at_import and one.importer in loaded and not is_cheap(one.imported)
    ] == []


def test_a_dag_file_loads_nothing_that_only_a_running_task_needs():
    """What reads input or output, or writes datasets, is imported where it is used: see bench_imports.py."""
    chain = ("transfers.sql_to_personalize", "operators.batch", "sensors.batch", "transfers.personalize_to_sql")
    loaded = house.loaded_with(f"{house.PACKAGE}.{name}" for name in chain)
    for name in (
        "input.validation",
        "operators.costs",
        "operators.preflight",
        "output.reader",
        "sql.opening",
        "transfers.sql_to_personalize_dataset",
        "triggers.personalize",
    ):
        assert f"{house.PACKAGE}.{name}" in house.modules()
        assert f"{house.PACKAGE}.{name}" not in loaded


def is_cheap(name):
    if name.startswith("airflow.providers."):
        return name.split(".")[2] in CHEAP_PROVIDERS
    return name.partition(".")[0] in CHEAP


def tree(tmp_path, monkeypatch, **files):
    """A package of these modules, in place of the real one."""
    package = tmp_path / house.PACKAGE
    for name, text in {"__init__": "", **files}.items():
        path = package / f"{name.replace('__', '/', 1) if not name.startswith('__') else name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr(house, "ROOT", tmp_path)


class TestWhatIsWrong:
    """The offending import is named, in whichever form it is written and wherever it stands."""

    @pytest.mark.parametrize(
        "statement",
        [
            f"from {house.PACKAGE}.operators import base",
            f"from {house.PACKAGE}.operators.base import Base",
            f"import {house.PACKAGE}.operators.base",
            f"from {house.PACKAGE} import operators",
            "from ..operators.base import Base",
            "from .. import operators",
        ],
    )
    @pytest.mark.parametrize("where", ["{}", "def later():\n    {}", "if TYPE_CHECKING:\n    {}"])
    def test_an_import_that_leads_up(self, tmp_path, monkeypatch, statement, where):
        tree(
            tmp_path,
            monkeypatch,
            sql____init__="",
            sql__query=where.format(statement),
            operators____init__="",
            operators__base="",
        )
        [wrong] = house.misplaced()
        assert wrong.startswith(f"{house.PACKAGE}/sql/query.py:{where.count(chr(10)) + 1} imports {house.PACKAGE}.")
        assert wrong.endswith(": operators stands above sql")

    def test_a_room_that_is_kept_apart(self, tmp_path, monkeypatch):
        tree(tmp_path, monkeypatch, quality__figures=f"from {house.PACKAGE}.targets import plan", targets__plan="")
        [wrong] = house.misplaced()
        assert wrong.startswith(f"{house.PACKAGE}/quality/figures.py:1 imports {house.PACKAGE}.targets.plan: ")

    def test_a_room_on_no_floor(self, tmp_path, monkeypatch):
        tree(tmp_path, monkeypatch, shed__tools="", uris="")
        assert house.misplaced() == ["shed stands on no floor of tests/house.py"]

    def test_circles_of_modules_and_of_rooms(self, tmp_path, monkeypatch):
        tree(
            tmp_path,
            monkeypatch,
            output__rows=f"def read():\n    from {house.PACKAGE}.output import lines",
            output__lines=f"from {house.PACKAGE}.output import rows",
            hooks__a="",
            hooks__b=f"from {house.PACKAGE}.triggers import c",
            triggers__c=f"from {house.PACKAGE}.hooks import a",
        )
        assert house.circles() == [
            f"{house.PACKAGE}.output.lines -> {house.PACKAGE}.output.rows -> {house.PACKAGE}.output.lines",
            "hooks -> triggers -> hooks",
        ]

    def test_what_is_loaded_with_a_dag_file(self, tmp_path, monkeypatch):
        tree(
            tmp_path,
            monkeypatch,
            operators__load=f"from {house.PACKAGE}.sql import query\ndef run():\n    from {house.PACKAGE} import spark",
            sql____init__="import numpy",
            sql__query="",
            spark="import pyspark",
        )
        loaded = house.loaded_with([f"{house.PACKAGE}.operators.load"])
        assert f"{house.PACKAGE}.spark" not in loaded
        costly = [one for one in house.outside_imports() if one.importer in loaded]
        assert [str(one) for one in costly] == [f"{house.PACKAGE}/sql/__init__.py:1 imports numpy"]

    def test_a_module_that_is_too_long(self, tmp_path, monkeypatch):
        tree(tmp_path, monkeypatch, uris="#\n" * (house.LONGEST + 1), compat="#\n" * house.LONGEST)
        assert house.too_long() == {f"{house.PACKAGE}.uris": house.LONGEST + 1}
