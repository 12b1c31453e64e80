"""What the README and CONTRIBUTING show and name has to be there: the example's code, policies, links, parameters."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import re
import textwrap
import tomllib
from pathlib import Path

import pytest

pytest.importorskip("airflow", reason="the parameters that the README names are those of Airflow's classes")

from airflow_provider_personalize import exceptions
from airflow_provider_personalize.operators import batch as operators
from airflow_provider_personalize.operators import output_check
from airflow_provider_personalize.output.rows import ROW_KINDS
from airflow_provider_personalize.sensors import batch as sensors
from airflow_provider_personalize.targets.plan import WRITE_MODES
from airflow_provider_personalize.transfers import personalize_to_sql, sql_to_personalize

ROOT = Path(__file__).parents[2]
PAGES = {name: (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")}
README = PAGES["README.md"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

SHOWN = re.compile(
    r'<!-- (?P<path>\S+): from "(?P<first>[^"]+)" to (?:"(?P<end>[^"]+)"|the end) -->\n```python\n(?P<code>.*?)```\n',
    re.DOTALL,
)
OPERATORS = {
    name: cls
    for module in (operators, output_check, sensors, sql_to_personalize, personalize_to_sql)
    for name, cls in vars(module).items()
    if inspect.isclass(cls) and cls.__module__ == module.__name__ and not cls.__subclasses__()
}
#: Which operators the sections with tables of parameters are about.
SECTIONS = {
    "Input: from a query to S3": ["SqlToPersonalizeInputOperator"],
    "Jobs: paid for once": ["PersonalizeCreateBatchInferenceJobOperator", "PersonalizeBatchInferenceJobSensor"],
    "Output: from S3 into a table": ["PersonalizeToSqlOperator"],
    "Good enough to use?": ["PersonalizeOutputCheckOperator"],
}


def blocks(language):
    """The README's fenced blocks of a language, also those inside a list."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```$", README, re.MULTILINE | re.DOTALL)
    assert found, f"no block of {language}"
    return [inspect.cleandoc(f"\n{body}") if indent else body for indent, body in found]


def section(title):
    _, found, rest = README.partition(f"\n## {title}\n")
    assert found, f"no section {title!r}"
    return rest.partition("\n## ")[0]


def tables(text):
    """The tables of a text: a list of rows, each a list of cells; the header is the first row."""
    found = re.findall(r"(?:^ *\|.*\n)+", text, re.MULTILINE)
    rows = [[[cell.strip() for cell in line.strip().strip("|").split("|")] for line in t.splitlines()] for t in found]
    return [[row for row in table if set("".join(row)) - set("- ")] for table in rows]


def names(cell):
    return re.findall(r"`([^`]+)`", cell)


def parameters(cls):
    constructors = [vars(base)["__init__"] for base in cls.__mro__ if "__init__" in vars(base)]
    return {name for function in constructors for name in inspect.signature(inspect.unwrap(function)).parameters}


def slug(heading):
    """The anchor that a heading gets."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


def test_the_dags_are_shown_as_they_are():
    shown = list(SHOWN.finditer(README))
    assert len(shown) == README.count("<!-- example_dags/") > 1
    for match in shown:
        lines = (ROOT / match["path"]).read_text(encoding="utf-8").splitlines()
        firsts = [n for n, line in enumerate(lines) if line.startswith(match["first"])]
        ends = [n for n, line in enumerate(lines) if line.startswith(match["end"])] if match["end"] else [len(lines)]
        assert (len(firsts), len(ends)) == (1, 1), f"expected one line each that begins as in {match[0][:150]}"
        code = textwrap.dedent("\n".join(lines[firsts[0] : ends[0]]).rstrip() + "\n")
        assert match["code"] == code, f"{match['path']} has changed. Put this into the README instead:\n\n{code}"


def test_policies_and_connections_are_json():
    for block in blocks("json"):
        found = json.loads(block)
        for statement in found["Statement"] if "Statement" in found else found if isinstance(found, list) else ():
            assert {"Effect", "Action"} < set(statement)


def test_python_calls_the_operators_as_they_are():
    seen = set()
    for block in blocks("python"):
        for call in (node for node in ast.walk(ast.parse(block)) if isinstance(node, ast.Call)):
            name = ast.unparse(call.func).removesuffix(".partial")
            if name in OPERATORS:
                seen.add(name)
                assert {keyword.arg for keyword in call.keywords} <= parameters(OPERATORS[name])
    assert len(seen) > 3


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", PAGES[page], flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)]+)\)", text):
        path, _, anchor = target.partition("#")
        if path.startswith("https://"):
            continue
        assert (ROOT / path).exists(), target
        if anchor:
            other = PAGES[path] if path else PAGES[page]
            assert anchor in map(slug, re.findall(r"^#+ (.+)$", other, re.MULTILINE)), target


@pytest.mark.parametrize("page", PAGES)
def test_every_make_command_is_there(page):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"(?:^|`)make ([a-z-]+)", PAGES[page], re.MULTILINE)) <= targets


def test_every_module_that_it_names_is_there():
    modules = set(re.findall(r"`(airflow_provider_personalize(?:\.\w+)+)`", README))
    assert len(modules) > 5
    for module in modules:
        importlib.import_module(module)


def test_every_operator_is_named():
    told = {name for table in tables(section("What is in it")) for row in table for name in names(row[0])}
    assert set(OPERATORS) <= told


@pytest.mark.parametrize("title", SECTIONS)
def test_every_parameter_is_there(title):
    taken = set().union(*(parameters(OPERATORS[name]) for name in SECTIONS[title]))
    told = {n for table in tables(section(title)) if table[0][0] == "parameter" for row in table for n in names(row[0])}
    assert told
    assert told <= taken


def test_rows_and_write_modes_are_as_they_are():
    found = {table[0][0]: table[1:] for table in tables(section("Output: from S3 into a table"))}
    assert [names(row[1]) for row in found["kind"]] == [[c.name for c in kind.columns] for kind in ROW_KINDS]
    assert [row[0] for row in found["kind"]] == [kind.name for kind in ROW_KINDS]
    assert [names(row[0])[0] for row in found["`write_mode`"]] == list(WRITE_MODES)


def test_every_error_has_its_remedy():
    types = {
        name
        for name, value in vars(exceptions).items()
        if inspect.isclass(value) and issubclass(value, exceptions.PersonalizeError)
    }
    told = {name for table in tables(section("When something goes wrong")) for row in table for name in names(row[0])}
    assert types - {"PersonalizeError"} <= told


def test_the_variables_are_those_of_the_dag():
    dag = (ROOT / "example_dags" / "nightly_email_list.py").read_text(encoding="utf-8")
    [table] = tables(section("From the demo to AWS"))
    assert {names(row[0])[0] for row in table[1:]} == set(re.findall(r"var\.value\.get\('(\w+)'", dag))


def test_the_faults_are_those_of_the_stand_in():
    pytest.importorskip("moto", reason="the stand-in needs the extra local")
    from airflow_provider_personalize.local import faults

    text = section("The local stand-in").partition("Answers:")[2].partition("- **")[0]
    assert set(names(text)) == set(faults.NAMES)


def test_the_versions_are_those_of_the_package():
    extras = {name: needs for name, needs in PROJECT["optional-dependencies"].items() if name not in {"dev", "local"}}
    listed = [*PROJECT["dependencies"], *(need for needs in extras.values() for need in needs)]
    # An extra may take in another one, by this package's own name.
    floors = dict(requirement.split(">=") for requirement in listed if not requirement.startswith(PROJECT["name"]))
    [table] = tables(section("Versions"))
    told = {(names(row[0]) or [row[0]])[0]: row[1] for row in table[1:]}
    assert told == floors | {"Python": PROJECT["requires-python"].removeprefix(">=")}


def test_the_extras_are_those_of_the_package():
    [table] = tables(section("Install"))
    assert {name for row in table for name in names(row[0])} == set(PROJECT["optional-dependencies"])
    for page in PAGES.values():
        for extras in re.findall(r"airflow-provider-personalize\[([\w,]+)\]", page):
            assert set(extras.split(",")) <= set(PROJECT["optional-dependencies"])
