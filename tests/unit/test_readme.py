"""What the README and the docs show and name has to be there: code, policies, links, parameters, errors."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import posixpath
import re
import tomllib
from pathlib import Path

import pytest

pytest.importorskip("airflow", reason="the parameters that the docs name are those of Airflow's classes")

from airflow_provider_personalize import exceptions
from airflow_provider_personalize.error_base import DOCS
from airflow_provider_personalize.output.rows import ROW_KINDS
from airflow_provider_personalize.service.kinds import KINDS
from airflow_provider_personalize.targets.plan import WRITE_MODES
from tests import house
from tests.unit.test_contract import operator_classes
from tests.unit.test_exceptions import EXAMPLES

ROOT = Path(__file__).parents[2]
PATHS = [
    *sorted((ROOT / "docs").rglob("*.md")),
    *(ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "CHANGELOG")),
]
PAGES = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in PATHS}
#: The pages for users, as one.
ALL = "\n".join(text for name, text in PAGES.items() if name not in {"CONTRIBUTING.md", "CHANGELOG.md"})
README = PAGES["README.md"]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT, HATCH = PYPROJECT["project"], PYPROJECT["tool"]["hatch"]
#: The code that calls the service.
CALLS = "\n".join(
    path.read_text(encoding="utf-8") for path in (ROOT / "airflow_provider_personalize" / "hooks").glob("*.py")
)
DAGS = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "example_dags").glob("*.py")}

OPERATORS = {cls.__name__: cls for cls in operator_classes()}
ERRORS = {
    name: value
    for name, value in vars(exceptions).items()
    if inspect.isclass(value) and issubclass(value, exceptions.PersonalizeError)
}
#: Which operators the pages with tables of parameters are about.
TOLD_ON = {
    "docs/reference/input.md": ["SqlToPersonalizeInputOperator"],
    "docs/reference/dataset.md": ["SqlToPersonalizeDatasetOperator"],
    "docs/reference/jobs.md": ["PersonalizeCreateBatchInferenceJobOperator", "PersonalizeBatchInferenceJobSensor"],
    "docs/reference/training.md": [
        "PersonalizeCreateSolutionVersionOperator",
        "PersonalizeSolutionVersionCheckOperator",
    ],
    "docs/reference/data-jobs.md": [
        "PersonalizeCreateDatasetImportJobOperator",
        "PersonalizeCreateDatasetExportJobOperator",
        "PersonalizeCreateDataDeletionJobOperator",
    ],
    "docs/reference/output.md": ["PersonalizeToSqlOperator"],
    "docs/reference/warehouses.md": ["PersonalizeToSqlOperator"],
    "docs/reference/check.md": ["PersonalizeOutputCheckOperator"],
}


def blocks(language, text=ALL):
    """The fenced blocks of a language, also those inside a list."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL)
    assert found, f"no block of {language}"
    return [inspect.cleandoc(f"\n{body}") if indent else body for indent, body in found]


def section(page, title):
    """The text below a heading, up to the next one of the same level or a higher one."""
    found = re.search(rf"^(#+) {re.escape(title)}\n(.*)", PAGES[page], re.MULTILINE | re.DOTALL)
    assert found, f"{page} has no section {title!r}"
    return re.split(rf"^#{{1,{len(found[1])}}} ", found[2], maxsplit=1, flags=re.MULTILINE)[0]


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


def prose(page):
    return re.sub(r"```.*?```", "", PAGES[page], flags=re.DOTALL)


def anchors(page):
    """The anchors of a page's headings; GitHub and the site make the same of them, as long as no two hyphens meet."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    found = [re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings]
    assert not [anchor for anchor in found if "--" in anchor]
    assert len(found) == len(set(found)), f"{page} has two headings of one name"
    return found


def test_the_readme_is_short():
    assert len(README.encode()) <= 9_000


def test_every_example_is_a_recipe_and_is_shown_from_its_file():
    page = PAGES["docs/recipes.md"]
    shown = re.findall(r'^ *--8<-- "example_dags/(.+)"$', page, re.MULTILINE)
    assert sorted(shown) == sorted(DAGS)
    assert page.count("--8<--") == ALL.count("--8<--") == len(DAGS)
    for name in DAGS:
        assert f"[`example_dags/{name}`](../example_dags/{name})" in page
    [table] = tables(page)
    assert sorted(f"{names(row[0])[0]}.py" for row in table[1:]) == sorted(DAGS)


def test_policies_and_connections_are_json():
    for block in blocks("json"):
        found = json.loads(block)
        for statement in found["Statement"] if "Statement" in found else found if isinstance(found, list) else ():
            assert {"Effect", "Action"} < set(statement)


def test_every_call_is_in_a_policy():
    allowed = set(re.findall(r'"personalize:(\w+)"', PAGES["docs/aws.md"]))
    calls = {operation for kind in KINDS for name, operation in inspect.getmembers(kind) if name.endswith("_operation")}
    calls |= set(re.findall(r'"((?:Get|List|Tag|Untag|Stop)[A-Z]\w+)"', CALLS))
    assert len(calls) > 40
    assert allowed == calls - {None}


def test_python_calls_the_operators_as_they_are():
    seen = set()
    for code in [*blocks("python"), *DAGS.values()]:
        for call in (node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)):
            name = ast.unparse(call.func).removesuffix(".partial")
            if name in OPERATORS:
                seen.add(name)
                assert {keyword.arg for keyword in call.keywords} - {None} <= parameters(OPERATORS[name])
    assert len(seen) > 3


@pytest.mark.parametrize(
    ("page", "tasks"), [("README.md", {"prepare", "recommend"}), ("docs/tutorial.md", {"prepare", "similar"})]
)
def test_the_dags_of_the_first_pages_parse(page, tasks):
    [code] = blocks("python", PAGES[page])
    assert len(code.splitlines()) <= 40
    pytest.importorskip("airflow.sdk", reason="the DAGs of the first pages are written for Airflow 3")
    found = {}
    exec(compile(code, page, "exec"), found)
    assert found["prepare"].dag.task_dict["load"].get_flat_relative_ids(upstream=True) == tasks


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        path, _, anchor = target.partition("#")
        if path.startswith("https://"):
            continue
        other = posixpath.normpath(posixpath.join(posixpath.dirname(page), path)) if path else page
        assert (ROOT / other).exists(), target
        if anchor:
            assert anchor in anchors(other), target


def test_the_map_of_the_house_is_true():
    table = tables(section("docs/design.md", "The map of the house"))[0][1:]
    told = {name.removesuffix(".py"): row[2] == "yes" for row in table for name in names(row[0])}
    there = {house.room_of(module) for module in house.modules()} - {""}
    assert there <= told.keys(), "each room has a row in docs/design.md"
    floors = [house.FLOOR[name] for name in told if name in there]
    assert floors == sorted(floors)
    assert {name for name, is_pure in told.items() if is_pure} & there == set(house.pure()) & there


def test_the_form_is_described_as_it_is():
    titles = re.findall(r'^        title="(.+)",$', DAGS["batch_on_demand.py"], re.MULTILINE)
    described = [row[0].strip("*") for table in tables(PAGES["docs/ui.md"]) for row in table[1:]]
    assert described == titles != []


def test_every_page_is_reached():
    site = (ROOT / ".mkdocs.yml").read_text(encoding="utf-8")
    for page in PAGES:
        if page.startswith("docs/"):
            assert f": {page.removeprefix('docs/')}\n" in site


def test_every_picture_is_shown():
    shown = {Path(target).name for target in re.findall(r"!\[[^\]]+\]\(([^)]+)\)", ALL)}
    assert shown == {path.name for path in (ROOT / "docs" / "images").iterdir()}
    # Read as text: the command needs a browser's driver, which not every environment of these tests has.
    command = (ROOT / "tests" / "system" / "pictures.py").read_text(encoding="utf-8")
    assert shown == set(re.findall(r'^@picture\("(.+)"\)$', command, re.MULTILINE)), "what make pictures takes"


def test_the_readme_of_a_release_leads_to_its_files():
    source = PROJECT["urls"]["Source"]
    text = README
    for rule in HATCH["metadata"]["hooks"]["fancy-pypi-readme"]["substitutions"]:
        text = re.sub(rule["pattern"], rule["replacement"].replace("$HFPR_VERSION", "1.2.3"), text)
    targets = re.findall(r"\]\(([^)]+)\)", text)
    assert targets
    assert all(target.startswith("https://") for target in targets)
    pictures = source.replace("//github.com/", "//raw.githubusercontent.com/") + "/v1.2.3/"
    local = [target.removeprefix(f"{source}/blob/v1.2.3/").removeprefix(pictures) for target in targets]
    assert local == re.findall(r"\]\(([^)]+)\)", README)
    assert all("![" not in line or f"]({pictures}docs/images/" in line for line in text.splitlines())


def test_one_repository_is_named():
    source = PROJECT["urls"]["Source"]
    assert DOCS.startswith(f"{source}/blob/v")
    site = (ROOT / ".mkdocs.yml").read_text(encoding="utf-8")
    assert f"repo_url: {source}\n" in site
    assert f"site_url: {PROJECT['urls']['Documentation']}\n" in site


@pytest.mark.parametrize("page", PAGES)
def test_every_make_command_is_there(page):
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(re.findall(r"(?:^|`)make ([a-z0-9-]+)", PAGES[page], re.MULTILINE)) <= targets


def test_every_module_that_is_named_is_there():
    modules = set(re.findall(r"`(airflow_provider_personalize(?:\.\w+)+)`", ALL))
    assert len(modules) > 5
    for module in modules:
        importlib.import_module(module)


def test_every_class_of_the_reference_is_there():
    generated = re.findall(r"^::: (\S+)$", PAGES["docs/reference/api.md"], re.MULTILINE)
    shown = set()
    for name in generated:
        module, _, attribute = name.rpartition(".")
        try:
            shown |= set(vars(importlib.import_module(name)))
        except ImportError:
            assert hasattr(importlib.import_module(module), attribute), name
            shown.add(attribute)
    assert set(OPERATORS) | set(ERRORS) <= shown


def test_every_operator_is_named():
    reference = section("docs/reference/index.md", "What is in it")
    for text in (reference, section("README.md", "What is in it")):
        told = {n.rpartition(".")[2] for table in tables(text) for row in table for n in names(row[0])}
        # The README writes `…Filter…` where a row has named one in full before.
        patterns = [re.sub("^…", "Personalize(Create)?", re.sub("…$", "Operator", name)) for name in told]
        assert not [name for name in OPERATORS if not any(re.fullmatch(pattern, name) for pattern in patterns)]


def test_the_readme_names_classes_by_where_they_are():
    [table] = tables(section("README.md", "What is in it"))
    for path in [name for row in table for name in names(row[0]) if "." in name]:
        module, _, name = path.rpartition(".")
        assert hasattr(importlib.import_module(f"airflow_provider_personalize.{module}"), name)


def parameter_tables(page):
    return [table for table in tables(PAGES[page]) if table[0][0] == "parameter"]


def test_every_table_of_parameters_is_held_against_its_operators():
    assert {page for page in PAGES if parameter_tables(page)} == set(TOLD_ON)


@pytest.mark.parametrize("page", TOLD_ON)
def test_every_parameter_is_there(page):
    taken = set().union(*(parameters(OPERATORS[name]) for name in TOLD_ON[page]))
    told = {name for table in parameter_tables(page) for row in table for name in names(row[0])}
    assert told
    assert told <= taken


@pytest.mark.parametrize(
    ("page", "parameter", "told"),
    [
        ("docs/reference/jobs.md", "poll_interval", lambda default: f"({default:g})"),
        ("docs/reference/jobs.md", "timeout", lambda default: f"({default / 3600:g} hours)"),
        ("docs/reference/jobs.md", "quota_wait_timeout", lambda default: f"(default: {default / 3600:g} hours)"),
        ("docs/reference/jobs.md", "if_job_exists", lambda default: f'`"{default}"` (the default)'),
        ("docs/reference/jobs.md", "validate_input", lambda default: f'`"{default}"` (the default)'),
        ("docs/reference/output.md", "max_reject_rate", lambda default: f"(default: {default})"),
        ("docs/reference/output.md", "write_mode", lambda default: f"`{default}` (default)"),
    ],
)
def test_the_defaults_that_are_told_are_true(page, parameter, told):
    constructors = [vars(base)["__init__"] for base in OPERATORS[TOLD_ON[page][0]].__mro__ if "__init__" in vars(base)]
    found = [inspect.signature(inspect.unwrap(function)).parameters.get(parameter) for function in constructors]
    default = next(one.default for one in found if one is not None)
    cells = [" ".join(row) for table in tables(PAGES[page]) for row in table if parameter in names(row[0])]
    cells += [" ".join(row) for table in tables(PAGES[page]) if table[0][0] == f"`{parameter}`" for row in table]
    assert told(default) in " ".join(cells)


def test_rows_and_write_modes_are_as_they_are():
    found = {table[0][0]: table[1:] for table in tables(PAGES["docs/reference/output.md"])}
    assert [names(row[1]) for row in found["kind"]] == [[c.name for c in kind.columns] for kind in ROW_KINDS]
    assert [row[0] for row in found["kind"]] == [kind.name for kind in ROW_KINDS]
    assert [names(row[0])[0] for row in found["`write_mode`"]] == list(WRITE_MODES)


@pytest.mark.parametrize("error", sorted(ERRORS.keys() - {"PersonalizeError"}))
def test_every_error_has_its_entry_in_the_runbook(error):
    entry = section("docs/runbook.md", error)
    quoted = " ".join(line.removeprefix("> ") for line in entry.splitlines() if line.startswith("> "))
    assert quoted, "expected the sentence that stands in the log, as > a quotation"
    for answer in (r"\*(Not r|R)etried", r"\b[Cc]lear\*", r"\*Billed\*"):
        assert re.search(answer, entry), f"the entry does not say {answer}"
    message = " ".join(str(ERRORS[error](**EXAMPLES[error])).split())
    pattern = ".*".join(re.escape(part.strip()) for part in quoted.split("…"))
    assert re.search(pattern, message), f"{quoted!r} is not how {message!r} reads"


def test_messages_lead_to_their_entries():
    leading = set()
    for name, values in EXAMPLES.items():
        for page, anchor in re.findall(rf"{re.escape(DOCS)}/(\S+?\.md)#([\w-]+)", str(ERRORS[name](**values))):
            assert anchor in anchors(f"docs/{page}")
            assert anchor == name.lower()
            leading.add(name)
    assert leading >= {
        "JobFailedError",
        "JobConflictError",
        "QuotaTimeoutError",
        "TooManyRejectsError",
        "TableMismatchError",
        "OutputCheckError",
    }


def test_every_link_to_the_docs_in_the_code_leads_somewhere():
    found = set()
    for path in (ROOT / "airflow_provider_personalize").rglob("*.py"):
        found |= set(re.findall(r"\{DOCS\}/(\S+?\.md)#([\w-]+)", path.read_text(encoding="utf-8")))
    assert found
    for page, anchor in found:
        assert anchor in anchors(f"docs/{page}"), (page, anchor)


def test_the_variables_are_those_of_the_examples():
    read = {name: set(re.findall(r"var\.value\.get\('(\w+)'", code)) for name, code in DAGS.items()}
    [table] = tables(section("docs/aws.md", "Variables of the examples"))
    everywhere = set().union(*read.values())
    assert {names(row[0])[0] for row in table[1:]} == everywhere
    for row in table[1:]:
        [variable] = names(row[0])
        readers = {name.removesuffix(".py") for name, variables in read.items() if variable in variables}
        everyone = {name.removesuffix(".py") for name in DAGS}
        said = everyone - set(names(row[2])) if row[2].startswith("all") else set(names(row[2]))
        assert said == readers, variable


def test_the_faults_are_those_of_the_stand_in():
    pytest.importorskip("moto", reason="the stand-in needs the extra local")
    from airflow_provider_personalize.local import faults

    [table] = tables(section("docs/stand-in.md", "Rehearse a bad night"))
    assert {name for row in table[1:] for name in names(row[1])} == set(faults.NAMES)


def test_every_option_of_the_stand_in_is_on_its_page(capsys):
    from airflow_provider_personalize.local.cli import parse_arguments

    with pytest.raises(SystemExit):
        parse_arguments(["--help"])
    options = set(re.findall(r"^  (--[a-z-]+)", capsys.readouterr().out, re.MULTILINE)) - {"--version"}
    [table, *_] = tables(section("docs/stand-in.md", "Start it"))
    assert {name for row in table[1:] for name in names(row[0])} == options


def test_the_versions_are_those_of_the_package():
    extras = {name: needs for name, needs in PROJECT["optional-dependencies"].items() if name not in {"dev", "local"}}
    listed = [*PROJECT["dependencies"], *(need for needs in extras.values() for need in needs)]
    # An extra may take in another one, by this package's own name.
    floors = dict(requirement.split(">=") for requirement in listed if not requirement.startswith(PROJECT["name"]))
    [table] = tables(section("docs/reference/index.md", "Versions"))
    told = {(names(row[0]) or [row[0]])[0]: row[1] for row in table[1:]}
    assert told == floors | {"Python": PROJECT["requires-python"].removeprefix(">=")}


def test_the_extras_are_those_of_the_package():
    [table] = tables(section("README.md", "Install"))
    assert {name for row in table for name in names(row[0])} == set(PROJECT["optional-dependencies"])
    for page in PAGES.values():
        for extras in re.findall(r"airflow-provider-personalize\[([\w,]+)\]", page):
            assert set(extras.split(",")) <= set(PROJECT["optional-dependencies"])
