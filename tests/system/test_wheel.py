"""The built wheel, in a fresh environment: what a user installs, with nothing of this checkout in reach."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from email.message import Message
from email.parser import BytesParser
from html.parser import HTMLParser
from pathlib import Path

import markdown
import pytest

ROOT = Path(__file__).parents[2]
NAME = "airflow-provider-personalize"


def uv(*arguments: str | Path) -> None:
    subprocess.run([sys.executable, "-m", "uv", "--quiet", *arguments], cwd=ROOT, check=True, timeout=600)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    uv("build", "--wheel", "--out-dir", folder)
    [path] = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with the wheel, what it needs, and PostgreSQL's provider for the examples."""
    folder = tmp_path_factory.mktemp("fresh")
    uv("venv", "--python", sys.executable, folder / "venv")
    python = folder / "venv" / "bin" / "python"
    uv("pip", "install", "--python", python, f"{NAME}[postgres] @ {wheel.as_uri()}")
    return python


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW_", "PYTHON"))}
    home = tmp_path_factory.mktemp("home")
    return kept | {"AIRFLOW_HOME": str(home), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}


def run(python: Path, environment: dict[str, str], *arguments: str) -> str:
    # From a folder that holds nothing to import by accident.
    command = [python, *arguments]
    done = subprocess.run(
        command,
        cwd=environment["AIRFLOW_HOME"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def rows(python: Path, environment: dict[str, str], *arguments: str) -> list[dict[str, str]]:
    """Return what a command of Airflow prints as JSON. It is the last line, since the log goes to the same place."""
    printed: list[dict[str, str]] = json.loads(
        run(python, environment, "-m", "airflow", *arguments, "--output", "json").splitlines()[-1]
    )
    return printed


def test_it_holds_the_package_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"airflow_provider_personalize"}
    beside_code = ("py.typed", "quality/report.html", "plugins/static/ui.css", "plugins/templates/jobs.html")
    assert {f"airflow_provider_personalize/{name}" for name in beside_code} <= set(names)
    assert any(name.endswith("/licenses/LICENSE") for name in names)


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    """What the wheel tells PyPI."""
    with zipfile.ZipFile(wheel) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        return BytesParser().parsebytes(archive.read(name))


def test_the_description_has_no_relative_link(metadata: Message) -> None:
    """On PyPI there is no file beside the README: pictures and links lead to the repository, at the version's tag."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    description = metadata.get_payload(decode=True).decode()
    pages = f"{dict(project_urls(metadata))['Source']}/blob/v{metadata['Version']}/"
    pictures = pages.replace("//github.com/", "//raw.githubusercontent.com/").replace("/blob/", "/")
    expected = []
    for is_picture, target in Targets(readme).found:
        is_relative = not re.match(r"[a-z]+:|#", target)
        expected.append((is_picture, f"{pictures if is_picture else pages}{target}" if is_relative else target))
        if is_relative:
            assert (ROOT / target.partition("#")[0]).exists(), target
    assert any(target.startswith(pages) for _, target in expected)
    assert Targets(description).found == expected
    # All else is as it was, the code that is shown too.
    assert description.replace(pictures, "").replace(pages, "") == readme


class Targets(HTMLParser):
    """Where the links and pictures of a page lead, each with whether it is a picture's."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[bool, str]] = []
        self.feed(markdown.markdown(text, extensions=["fenced_code", "md_in_html", "tables"]))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        target = dict(attrs).get({"a": "href", "img": "src"}.get(tag, ""))
        if target:
            self.found.append((tag == "img", target))


def project_urls(metadata: Message) -> list[tuple[str, str]]:
    return [tuple(value.split(", ", 1)) for value in metadata.get_all("Project-URL", [])]


#: What each extra alone brings of the packages that only some of them need.
BROUGHT = {
    "parquet": {"pyarrow"},
    "iceberg": {"pyarrow", "pyiceberg", "apache-airflow-providers-apache-iceberg"},
    "dynamodb": set(),
    "redshift": {"pyarrow"},
    "snowflake": {"pyarrow", "snowflake-connector-python", "apache-airflow-providers-snowflake"},
    "spark": {"pyarrow", "apache-airflow-providers-apache-spark"},
}
#: Modules of the packages that only an extra brings.
MODULES = ("pyarrow", "pyiceberg", "snowflake", "pyspark", "redshift_connector", "duckdb", "pandas", "numpy")


def test_the_base_package_needs_little(metadata: Message) -> None:
    needed = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert {re.split(r"[<>=!~ \[]", line)[0] for line in needed} == {
        "apache-airflow",
        "apache-airflow-providers-amazon",
        "apache-airflow-providers-common-sql",
        "boto3",
    }


@pytest.mark.parametrize("extra", BROUGHT)
def test_an_extra_installs_alone_on_the_newest_airflow(wheel: Path, python: Path, tmp_path: Path, extra: str) -> None:
    """It is resolved, not installed: the newest Airflow is the one in the fresh environment, whose extra is another."""
    wanted = tmp_path / "in.txt"
    wanted.write_text(f"{NAME}[{extra}] @ {wheel.as_uri()}\n")
    uv("pip", "compile", "--python", python, "--no-header", "--no-annotate", "-o", tmp_path / "out.txt", wanted)
    found = dict(
        line.split("==") for line in (tmp_path / "out.txt").read_text().splitlines() if re.match(r"[\w.-]+==", line)
    )
    script = "import importlib.metadata; print(importlib.metadata.version('apache-airflow'))"
    newest = subprocess.run([python, "-c", script], capture_output=True, text=True, check=True).stdout.strip()
    assert found["apache-airflow"] == newest
    only_some = set().union(*BROUGHT.values())
    assert only_some & found.keys() == BROUGHT[extra]


def test_transfers_import_no_package_of_an_extra(python: Path, environment: dict[str, str]) -> None:
    script = (
        "import importlib, json, pkgutil, sys, airflow_provider_personalize.transfers as transfers\n"
        "from airflow_provider_personalize.targets import sql\n"
        "from airflow_provider_personalize.spark import personalize_output\n"
        "for module in pkgutil.iter_modules(transfers.__path__):\n"
        "    importlib.import_module(f'{transfers.__name__}.{module.name}')\n"
        f"print(json.dumps([name for name in {MODULES} if name in sys.modules]))"
    )
    assert json.loads(run(python, environment, "-c", script).splitlines()[-1]) == []


def test_a_missing_extra_is_named(python: Path, environment: dict[str, str]) -> None:
    script = (
        "from airflow_provider_personalize.targets.sql import staging_at\n"
        "try:\n    staging_at('s3://bucket/', None, None, None)\n"
        "except Exception as error:\n    print(error)"
    )
    assert f"pip install '{NAME}[parquet]'" in run(python, environment, "-c", script)


def test_it_says_where_everything_is(metadata: Message) -> None:
    urls = dict(project_urls(metadata))
    assert set(urls) == {"Documentation", "Changelog", "Source", "Issues"}
    assert all(url.startswith("https://") for url in urls.values())


def test_airflow_lists_the_provider(python: Path, environment: dict[str, str]) -> None:
    listed = rows(python, environment, "providers", "list")
    assert [row["package_name"] for row in listed].count(NAME) == 1


def test_airflow_shows_the_provider(python: Path, environment: dict[str, str], wheel: Path) -> None:
    [shown] = rows(python, environment, "providers", "get", NAME)
    assert shown["Provider"] == NAME
    assert shown["Version"] == wheel.name.split("-")[1]


def test_the_examples_import_without_an_error(python: Path, environment: dict[str, str]) -> None:
    environment = environment | {"AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "example_dags")}
    run(python, environment, "-m", "airflow", "db", "migrate")
    run(python, environment, "-m", "airflow", "dags", "reserialize")
    assert rows(python, environment, "dags", "list-import-errors") == []
    assert {row["dag_id"] for row in rows(python, environment, "dags", "list")} == {
        path.stem for path in (ROOT / "example_dags").glob("*.py")
    }


def test_the_stand_in_says_which_extra_it_needs(python: Path, environment: dict[str, str]) -> None:
    command = [python.with_name("personalize-local"), "--port", "0"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=180)
    assert done.returncode == 1
    assert f"pip install '{NAME}[local]'" in done.stderr
    assert "Traceback" not in done.stderr
