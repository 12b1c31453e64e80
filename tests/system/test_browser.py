"""
Airflow in a real browser: somebody logs in, fills in the form of ``batch_on_demand``, follows the run to its rows,
approves a list of ``nightly_email_list``, and looks at what tasks have written and at what there is in Personalize.

Airflow is what ``airflow standalone`` starts. A task that waits is looked at while the stand-in's clock stands still,
so no page has to be opened in time. The pages that were seen are kept in the folder that the environment variable
``SCREENSHOTS`` names, or in ``.state/screenshots``.
"""

from __future__ import annotations

import json
import os
import shutil
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright
from playwright.sync_api import TimeoutError as NotInTimeError

from example_dags.demo.data import fill
from example_dags.demo.runs import Run
from example_dags.demo.stack import AIRFLOW_3, USER, Stack

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

pytestmark = [
    pytest.mark.skipif(not AIRFLOW_3, reason="the pages are those of Airflow 3"),
    pytest.mark.skipif(not BROWSER, reason="needs Chromium or Chrome: apt-get install chromium"),
]

ROOT = Path(__file__).parents[2]
SCREENSHOTS = Path(os.environ.get("SCREENSHOTS") or ROOT / ".state" / "screenshots")
DAG = "batch_on_demand"
#: For how long to wait until a page shows what it should, in milliseconds; a run takes about half a minute.
PATIENCE = 240_000

NIGHTLY = "nightly_email_list"
#: The fields' titles, as somebody sees them all at once.
TITLES = [
    *("Kind of job", "Solution", "Number of results", "Where the ids come from", "Query", "Folder on S3", "Filter"),
    *("Values for the filter", "Exploration", "Table", "What to do with the rows that are there", "Label"),
]
#: What the tasks are called.
NAMES = {"check": "Check the form", "inference": "Make recommendations", "load": "Load the rows"} | {
    "show": "Show ten of the rows"
}


@pytest.fixture(scope="module")
def stack(state: Path) -> Iterator[Stack]:
    """Airflow with its UI, three DAGs and the company's data."""
    dags = state / "dags"
    dags.mkdir()
    (dags / f"{DAG}.py").symlink_to(ROOT / "example_dags" / f"{DAG}.py")
    (dags / "templates").symlink_to(ROOT / "example_dags" / "templates")
    # It runs when the test says so.
    nightly = (ROOT / "example_dags" / f"{NIGHTLY}.py").read_text(encoding="utf-8")
    (dags / f"{NIGHTLY}.py").write_text(nightly.replace('schedule="0 2 * * *"', "schedule=None"), encoding="utf-8")
    (dags / "pages.py").symlink_to(ROOT / "tests" / "system" / "dags" / "pages.py")
    people = {"AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin,viewer:viewer,nobody:"}
    with Stack(state, job_seconds=2, ui=True, standalone=True, dags_folder=dags, environment=people) as stack:
        fill(stack.warehouse)
        stack.import_connections()
        stack.wait_for_ui()
        stack.wait_for_dag(DAG)
        yield stack


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        # Playwright adds what else keeps it from calling home, and --no-sandbox, which root needs.
        flags = ["--disable-gpu", "--disable-quic", "--disable-sync"]
        browser = playwright.chromium.launch(executable_path=BROWSER, args=flags)
        yield browser
        browser.close()


@pytest.fixture
def page(stack: Stack, browser: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    """The page of the DAG, after the login; what it shows at the end of the test is kept."""
    page = login(stack, browser)
    page.get_by_test_id("nav-dags-link").click()
    page.get_by_test_id("dag-id").get_by_text(DAG, exact=True).click()
    yield page
    keep(page, request.node.name)
    page.context.close()


def login(stack: Stack, browser: Browser, user: str = USER) -> Page:
    """Log somebody in; the password is the name."""
    (stack.home / "passwords.json").write_text(json.dumps({name: name for name in (USER, "viewer", "nobody")}))
    context = browser.new_context(
        base_url=stack.ui_url, viewport={"width": 1280, "height": 860}, locale="en-US", timezone_id="UTC"
    )
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    page.goto("/")
    page.get_by_label("Username").fill(user)
    page.get_by_label("Password").fill(user)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(lambda url: "/auth/" not in url)
    return page


def keep(page: Page | Locator, name: str) -> None:
    """Keep a screenshot."""
    page.screenshot(path=SCREENSHOTS / f"{name}.png", animations="disabled")


def open_form(page: Page) -> Locator:
    """Open the form and see that its fields are there."""
    form = page.get_by_role("dialog")
    # Airflow may render the page anew until all its data has come, and the form is gone with it: then once more.
    for patience in (10_000, 20_000, PATIENCE):
        page.goto(f"/dags/{DAG}")
        page.wait_for_load_state("networkidle")
        try:
            page.get_by_test_id("trigger-dag-button").click(timeout=patience)
            expect(form.locator("[data-state=open] label")).to_contain_text(TITLES, timeout=patience)
            break
        except (NotInTimeError, AssertionError):
            if patience == PATIENCE:
                raise
    return form


def field(form: Locator, name: str) -> Locator:
    """Give the input of a param."""
    return form.locator(f"[name=element_{name}]")


def trigger(page: Page) -> str:
    """Press the form's button, and give the id of the run whose page opens."""
    page.get_by_test_id("trigger-dag-submit").click()
    page.wait_for_url("**/runs/*")
    return page.url.rpartition("/")[2]


def open_task(page: Page, run_id: str, task_id: str) -> None:
    """Click on a task of a run in the grid; the tab stays the one that was looked at."""
    page.get_by_test_id(f"grid-{run_id}-{task_id}").click()
    expect(page.get_by_test_id("header-card").get_by_role("heading", name=NAMES[task_id], exact=True)).to_be_visible()


def expect_state(page: Page, state: str) -> None:
    """Wait until the run or the task that is looked at is in a state."""
    expect(page.get_by_test_id("header-card").get_by_test_id("state-badge")).to_have_text(state)


def expect_log(page: Page, *lines: str) -> None:
    """Wait until the log of the task that is looked at has some lines, in this order."""
    page.get_by_role("link", name="Logs", exact=True).click()
    log = page.get_by_test_id("virtualized-list")
    for line in lines:
        expect(log).to_contain_text(line)
    text = log.inner_text()
    places = [text.index(line) for line in lines]
    assert places == sorted(places)


def expect_links(page: Page, links: dict[str, str]) -> None:
    """Wait until the task that is looked at has these extra links, by their names and addresses."""
    page.get_by_role("link", name="Details", exact=True).click()
    for name, address in links.items():
        link = page.get_by_role("link", name=name, exact=True)
        expect(link).to_be_visible()
        assert link.get_attribute("href") == address


def control(stack: Stack, name: str, **values: Any) -> Any:
    """Ask the stand-in how it is, or to do something."""
    body = json.dumps(values).encode() if values else None
    request = urllib.request.Request(f"{stack.endpoint_url}/_local/{name}", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def runs(stack: Stack) -> int:
    [(count,)] = stack.metadata.execute("SELECT count(*) FROM dag_run WHERE dag_id = %s", [DAG])
    return int(count)


def test_from_the_form_to_the_rows(stack: Stack, page: Page) -> None:
    form = open_form(page)
    form.locator("#element_job").click()
    expect(page.get_by_role("option")).to_have_text(
        ["Recommendations (batch inference)", "User segments (batch segment)"]
    )
    page.get_by_role("option", name="Recommendations").click()
    field(form, "solution").fill("user-personalization")
    field(form, "num_results").fill("4")
    keep(page, "form")
    field(form, "table").fill("picked")
    field(form, "label").fill("from the browser")
    control(stack, "clock", stopped=True)
    run_id = trigger(page)

    open_task(page, run_id, "inference")
    expect_state(page, "Deferred")
    [job] = control(stack, "state")["jobs"]
    folder = job["jobOutput"]["s3DataDestination"]["path"].removeprefix("s3://personalize-local/")
    console = f"{stack.endpoint_url}/_local/console"
    solution = "arn:aws:personalize:us-east-1:123456789012:solution/user-personalization"
    links = {
        "Personalize job": f"{console}?arn={job['arn']}",
        "Personalize solution": f"{console}?arn={solution}",
        "Output in S3": f"{console}?bucket=personalize-local&prefix={folder}",
    }
    expect_links(page, links)
    expect_state(page, "Deferred")
    keep(page, "deferred")

    control(stack, "clock", stopped=False)
    expect_state(page, "Success")
    with page.expect_popup() as opened:
        page.get_by_role("link", name="Personalize job", exact=True).click()
    expect(opened.value.get_by_role("heading", name=job["jobName"])).to_be_visible()
    opened.value.close()
    page.get_by_role("link", name=run_id).click()
    expect_state(page, "Success")
    badges = page.get_by_role("row").get_by_test_id("state-badge")
    expect(badges.filter(has_text="Success")).to_have_count(7)
    expect(badges.filter(has_text="Skipped")).to_have_count(1)
    keep(page, "grid")

    open_task(page, run_id, "inference")
    expect_log(
        page,
        "/user-personalization/",
        "Checked the request and 632 lines of input",
        "lines: 632, results: 2,528 (4 for each line)",
        f"Created the batch inference job {job['jobName']}: {job['arn']}",
        f"{job['jobName']} is ACTIVE",
    )
    expect_links(page, links)
    open_task(page, run_id, "load")
    expect_log(page, "Loading 1 object(s)", "into picked", "Published.", "lines: 632, rows: 2,528", "rejects: 0")
    keep(page, "log")
    expect_links(page, links)
    open_task(page, run_id, "show")
    expect_log(page, "rank: 1", "in the table picked of the connection postgres_default", "SELECT * FROM")

    assert runs(stack) == 1
    assert stack.warehouse.execute(
        "SELECT count(*), count(DISTINCT user_id), min(rank), max(rank), min(label), max(label) FROM picked"
    ) == [(632 * 4, 632, 1, 4, "from the browser", "from the browser")]


def test_what_is_wrong_is_said_in_sentences(stack: Stack, page: Page) -> None:
    before = control(stack, "state")["create_calls"]
    form = open_form(page)
    field(form, "num_results").fill("")
    expect(form.get_by_text("This field is required")).to_be_visible()
    expect(page.get_by_test_id("trigger-dag-submit")).to_be_disabled()
    field(form, "num_results").fill("0")
    field(form, "num_results").blur()
    expect(field(form, "num_results")).to_have_value("1")

    form.locator("#element_job").click()
    page.get_by_role("option", name="User segments").click()
    field(form, "exploration_weight").fill("0.5")
    field(form, "table").fill("a; DROP TABLE subscribers")
    run_id = trigger(page)
    expect_state(page, "Failed")
    open_task(page, run_id, "check")
    expect_state(page, "Failed")
    expect_log(
        page,
        "Nothing was submitted. Please trigger again:",
        "Table: expected letters, digits and _, got 'a; DROP TABLE subscribers'",
        "Exploration: leave it empty for user segments, which have none.",
    )
    keep(page, "refused")
    assert control(stack, "state")["create_calls"] == before


@pytest.mark.parametrize(
    ("button", "decided", "announced"), [("Reject", "refused", "skipped"), ("Approve", "approved", "success")]
)
def test_a_person_decides_on_the_list(stack: Stack, page: Page, button: str, decided: str, announced: str) -> None:
    stack.wait_for_dag(NIGHTLY)
    stack.unpause(NIGHTLY)
    # More emails than there are results for: the check warns.
    run = stack.trigger(NIGHTLY, params={"top_n": 30})
    run.wait(until=lambda task: task.task_id == "approve" and task.state in ("awaiting_input", "deferred"))
    assert stack.warehouse.execute("SELECT count(*) FROM email_list_decisions") == [(0,)]
    page.goto(f"/dags/{NIGHTLY}/runs/{run.run_id}/tasks/approve/required_actions")
    expect(page.get_by_text("min_results is 25, expected ≥ 30")).to_be_visible()
    expect(page.get_by_role("cell", name="entity_coverage")).to_be_visible()
    keep(page, f"decision_{decided}")
    page.get_by_role("button", name=button, exact=True).click()
    run.wait(check=stack.check)
    assert run.state == "success", run.log("decide")
    [(decision, by, warnings)] = stack.warehouse.execute(
        "SELECT decision, decided_by, warnings FROM email_list_decisions ORDER BY decided_at DESC LIMIT 1"
    )
    assert (decision, by) == (decided, USER)
    assert "min_results is 25, expected ≥ 30" in warnings
    assert f": {decided} ({USER}, " in run.log("decide")
    states = {task.task_id: task.state for task in run.tasks()}
    assert (states["decide"], states["announce"]) == ("success", announced)


@pytest.fixture(scope="module")
def written(stack: Stack) -> Run:
    """A run whose tasks have made a job and written pages, with hostile words in titles and ids."""
    evil = "<script>top.alert('title')</script><img src=x onerror=\"top.alert('id')\">"
    stack.warehouse.execute("CREATE TABLE shown (user_id text, rank integer, item_id text, score double precision)")
    stack.warehouse.execute("INSERT INTO shown VALUES ('1', 1, %s, 0.5), ('2', 1, 'b', 0.5)", [evil])
    stack.warehouse.execute("CREATE TABLE shown_items (item_id text, title text)")
    stack.warehouse.execute("INSERT INTO shown_items VALUES (%s, %s), ('b', 'Bean')", [evil, f"Title {evil}"])
    lines = b'{"userId": "1"}\n{"userId": "2"}\n'
    stack.client("s3").put_object(Bucket="personalize-local", Key="pages/in/users.json", Body=lines)
    stack.wait_for_dag("pages")
    stack.unpause("pages")
    run = stack.trigger("pages", run_id="written")
    run.wait()
    assert run.state == "success"
    return run


def no_dialogs(page: Page) -> list[str]:
    """Return a list that a dialog of the page, as a script that ran would open one, will stand in."""
    seen: list[str] = []
    page.on("dialog", lambda dialog: (seen.append(dialog.message), dialog.dismiss()))
    return seen


def test_the_reports_of_a_run_and_of_a_task_have_a_tab(stack: Stack, browser: Browser, written: Run) -> None:
    page = login(stack, browser, "viewer")
    seen = no_dialogs(page)
    page.goto(f"/dags/pages/runs/{written.run_id}")
    page.get_by_role("link", name="Reports", exact=True).click()
    tab = page.frame_locator("iframe[title=Reports]")
    report = tab.frame_locator("iframe")
    expect(tab.get_by_role("link", name="Output check check")).to_have_attribute("aria-current", "page")
    expect(report.get_by_role("heading", level=1)).to_have_text("Look before you use it")
    expect(report.locator("body")).to_contain_text("Title <script>top.alert('title')</script>")
    keep(page, "tab_report")

    tab.get_by_role("link", name="Emails").click()
    expect(report.get_by_role("heading", name="An email")).to_be_visible()
    # The script of the task's own template runs, the one that came with the data does not.
    expect(report.locator("#own")).to_have_text("own script ran, alone")
    keep(page, "tab_emails")
    with page.context.expect_page() as opened:
        tab.get_by_role("link", name="Open by itself").click()
    alone = opened.value
    expect(alone.locator("#own")).to_have_text("own script ran, alone")
    # It stands in no origin, so what runs there has neither cookie nor API.
    assert alone.evaluate("origin") == "null"

    page.goto(f"/dags/pages/runs/{written.run_id}/tasks/check")
    page.get_by_role("link", name="Reports", exact=True).click()
    expect(tab.locator(".what")).to_have_text("Output check check")
    expect(report.get_by_role("heading", level=1)).to_have_text("Look before you use it")
    page.goto(f"/dags/pages/runs/{written.run_id}/tasks/recommend")
    page.get_by_role("link", name="Reports", exact=True).click()
    expect(tab.get_by_text("This task has written no report")).to_be_visible()
    assert seen == []
    page.context.close()


def test_the_page_personalize(stack: Stack, browser: Browser, written: Run) -> None:
    page = login(stack, browser, "viewer")
    seen = no_dialogs(page)
    page.get_by_role("link", name="Personalize", exact=True).click()
    shown = page.frame_locator("iframe[title=Personalize]")
    job = shown.get_by_role("row").filter(has_text="pages-recommend-")
    expect(job).to_contain_text("batch inference job")
    expect(job).to_contain_text("warned")
    expect(shown.get_by_text("batch inference jobs pending or in progress")).to_be_visible()
    expect(shown.get_by_role("row").filter(has_text="aws-user-personalization").first).to_contain_text("coverage")
    keep(page, "page_personalize")

    page.evaluate("localStorage.setItem('theme', 'dark')")
    page.reload()
    body = shown.locator("body")
    expect(body).to_have_css("background-color", "rgb(17, 17, 17)")
    expect(job).to_be_visible()
    keep(page, "page_personalize_dark")
    page.set_viewport_size({"width": 400, "height": 860})
    page.goto("/personalize/jobs")
    expect(page.get_by_role("heading", name="Personalize", exact=True)).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") == 400
    page.emulate_media(color_scheme="dark")
    keep(page, "page_personalize_narrow_dark")

    page.set_viewport_size({"width": 1280, "height": 860})
    page.goto("/")
    page.get_by_role("link", name="Personalize", exact=True).click()
    job.get_by_role("link", name="pages").click()
    page.wait_for_url(f"**/dags/pages/runs/{written.run_id}/tasks/recommend")
    assert seen == []
    page.context.close()


def test_who_has_no_permission_sees_neither_report_nor_page(stack: Stack, browser: Browser, written: Run) -> None:
    page = login(stack, browser, "nobody")
    of_run = f"dag_id=pages&run_id={written.run_id}"
    for path in ("jobs", f"reports?{of_run}", f"report?{of_run}&task_id=check"):
        answer = page.goto(f"/personalize/{path}")
        assert answer is not None
        assert answer.status == 403
        expect(page.locator("body")).to_contain_text("You may not see this.")
        expect(page.locator("body")).not_to_contain_text("Title")
        expect(page.locator("body")).not_to_contain_text("recommend")
    keep(page, "no_permission")
    page.context.close()
    stranger = browser.new_context(base_url=stack.ui_url)
    assert stranger.request.get("/personalize/jobs").status == 401
    stranger.close()
