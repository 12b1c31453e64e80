"""
The pictures of the documentation, taken anew in a real browser: what ``make pictures`` runs.

It starts what ``make airflow`` starts, has the examples make what the pictures show, and writes ``docs/images``. A
picture that cannot be taken leaves the old one where it is, and the command fails.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

from playwright.sync_api import Browser, Page, expect, sync_playwright

from example_dags.demo.data import fill, fill_history
from example_dags.demo.runs import Run
from example_dags.demo.stack import AIRFLOW_3, Stack
from tests.system.test_browser import (
    BROWSER,
    ROOT,
    expect_state,
    field,
    login,
    open_form,
    trigger,
)

IMAGES = ROOT / "docs" / "images"
NIGHTLY, SIMILAR, ON_DEMAND = "nightly_email_list", "similar_items_catalog", "batch_on_demand"
#: The task that asks a person, when it waits for the answer.
WAITING = {("approve", "deferred"), ("approve", "awaiting_input")}
#: For how long to wait until a page shows what it should, in milliseconds.
PATIENCE = 90_000
#: How wide a page is in the documentation, in pixels.
WIDTH = 1280

Take = TypeVar("Take", bound=Callable[["Shop", Page], bytes])
#: What takes each picture, by the picture's name, in the order in which they are taken.
PICTURES: dict[str, Callable[[Shop, Page], bytes]] = {}


def picture(name: str) -> Callable[[Take], Take]:
    """Register the function that takes a picture."""

    def register(take: Take) -> Take:
        PICTURES[name] = take
        return take

    return register


class Shop:
    """The running stack, with what the pictures need to have happened."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.nightly: Run

    def prepare(self) -> None:
        """Have the similar items, ten nights before tonight, and tonight's list."""
        fill(self.stack.warehouse)
        fill_history(self.stack.warehouse)
        self.stack.import_connections()
        self.stack.wait_for_ui()
        for dag_id in (NIGHTLY, SIMILAR, ON_DEMAND):
            self.stack.wait_for_dag(dag_id)
        for dag_id in (SIMILAR, NIGHTLY):
            print(f"  {dag_id} runs", flush=True)
            self._first(dag_id)
        self._earlier_nights()
        print(f"  {NIGHTLY} runs once more, after nights to compare with", flush=True)
        self.nightly = self.stack.trigger(NIGHTLY)
        self.end(self.nightly)

    def page(self, name: str) -> str:
        """Return the address of one of the two pages that the nightly list has written."""
        [page] = (self.stack.state / "previews").glob(f"{name}_*.html")
        return page.as_uri()

    def _first(self, dag_id: str) -> None:
        """Turn a DAG on, and wait for the run that its schedule begins."""
        self.stack.unpause(dag_id)
        found: list[tuple[str, ...]] = []

        def has_begun() -> bool:
            found[:] = self.stack.metadata.execute("SELECT run_id FROM dag_run WHERE dag_id = %s", [dag_id])
            return bool(found)

        self.stack.processes["standalone"].wait_until(has_begun)
        self.end(Run(self.stack.metadata, self.stack.home, dag_id, found[0][0]))

    def end(self, run: Run) -> None:
        """Wait for the end of a run, which has to be a good one."""
        run.wait(check=self.stack.check)
        if run.state != "success":
            raise SystemExit(f"{run.dag_id} is {run.state}: {run.tasks()}")

    def _earlier_nights(self) -> None:
        """Make ten nights before tonight of tonight's rows: further back, more is from the list of somebody else."""
        [(tonight,)] = self.stack.warehouse.execute("SELECT max(run_date)::date FROM recommendations")
        for back in range(1, 12):
            self.stack.warehouse.execute(
                """
                INSERT INTO recommendations (run_date, user_id, rank, item_id, score)
                SELECT DISTINCT ON (one.user_id, item) %(night)s, one.user_id, one.rank, item, one.score
                FROM recommendations AS one
                JOIN LATERAL (SELECT abs(hashtext(one.user_id || 'x' || one.rank)) %% 100 AS dice) AS thrown ON true
                JOIN LATERAL (
                    SELECT user_id FROM subscribers WHERE user_id > one.user_id ORDER BY user_id LIMIT 1
                ) AS neighbour ON true
                JOIN recommendations AS other
                    ON other.user_id = neighbour.user_id AND other.rank = one.rank AND other.run_date = one.run_date
                JOIN LATERAL (SELECT CASE WHEN dice < %(changed)s THEN other.item_id ELSE one.item_id END AS item)
                    AS chosen ON true
                WHERE one.run_date = %(tonight)s AND abs(hashtext(one.user_id || %(night)s)) %% 100 >= %(left_out)s
                """,
                {
                    "tonight": str(tonight),
                    "night": str(tonight - timedelta(days=back)),
                    "changed": min(9 * back, 70),
                    "left_out": back % 4,
                },
            )


@picture("output_report.png")
def _output_report(shop: Shop, page: Page) -> bytes:
    page.set_viewport_size({"width": 1140, "height": 800})
    page.goto(shop.page("recommendations"))
    # What was expected follows, and is small print beside the rest.
    top = page.get_by_role("heading", name="What was expected").bounding_box()
    height = top["y"] - 30 if top else 800
    return page.screenshot(full_page=True, clip={"x": 0, "y": 0, "width": 1140, "height": height})


@picture("reports_tab.png")
def _reports_tab(shop: Shop, page: Page) -> bytes:
    page.goto(f"/dags/{NIGHTLY}/runs/{shop.nightly.run_id}")
    page.get_by_role("link", name="Reports", exact=True).click()
    report = page.frame_locator("iframe[title=Reports]").frame_locator("iframe")
    expect(report.get_by_role("heading", level=1)).to_be_visible()
    return page.screenshot()


@picture("email_preview.png")
def _email_preview(shop: Shop, page: Page) -> bytes:
    page.set_viewport_size({"width": 1140, "height": 1120})
    page.goto(shop.page("email_list"))
    return page.screenshot()


@picture("personalize_page.png")
def _personalize_page(shop: Shop, page: Page) -> bytes:
    page.goto("/")
    page.get_by_role("link", name="Personalize", exact=True).click()
    shown = page.frame_locator("iframe[title=Personalize]")
    expect(shown.get_by_role("row").filter(has_text=NIGHTLY).first).to_be_visible()
    return page.screenshot()


@picture("batch_on_demand_form.png")
def _form(shop: Shop, page: Page) -> bytes:
    page.set_viewport_size({"width": WIDTH, "height": 1080})
    form = open_form(page)
    field(form, "num_results").fill("4")
    field(form, "num_results").blur()
    return page.screenshot()


@picture("batch_on_demand_grid.png")
def _grid(shop: Shop, page: Page) -> bytes:
    open_form(page)
    shop.end(Run(shop.stack.metadata, shop.stack.home, ON_DEMAND, trigger(page)))
    expect_state(page, "Success")
    return page.screenshot()


@picture("approve.png")
def _approve(shop: Shop, page: Page) -> bytes:
    page.set_viewport_size({"width": WIDTH, "height": 1160})
    # More titles than there are: the check warns.
    run = shop.stack.trigger(NIGHTLY, params={"top_n": 26})
    run.wait(until=lambda task: (task.task_id, task.state) in WAITING, check=shop.stack.check)
    page.goto(f"/dags/{NIGHTLY}/runs/{run.run_id}/tasks/approve/required_actions")
    expect(page.get_by_role("button", name="Reject")).to_be_visible()
    return page.screenshot()


def take_all(shop: Shop, browser: Browser, names: list[str]) -> list[str]:
    """Take pictures, write those that could be taken, and return the names of the others."""
    page = login(shop.stack, browser)
    page.set_default_timeout(PATIENCE)
    failed = []
    for name in names:
        page.set_viewport_size({"width": WIDTH, "height": 860})
        try:
            taken = PICTURES[name](shop, page)
        except Exception as error:  # noqa: BLE001 - the others are worth taking
            print(f"  {name} was not taken: {error}", file=sys.stderr, flush=True)
            page.screenshot(path=shop.stack.state / name)
            failed.append(name)
            continue
        (IMAGES / name).write_bytes(taken)
        print(f"  {name}", flush=True)
    page.context.close()
    return failed


def main() -> int:
    """Take the pictures that the command line names, or all of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help=f"some of {', '.join(PICTURES)}; all of them by default")
    names = parser.parse_args().names or list(PICTURES)
    if unknown := set(names) - set(PICTURES):
        parser.error(f"expected names of pictures ({', '.join(PICTURES)}), got {', '.join(sorted(unknown))}")
    if not BROWSER or not AIRFLOW_3:
        print("Pictures need Airflow 3.1 or newer, and Chromium or Chrome: apt-get install chromium", file=sys.stderr)
        return 1
    expect.set_options(timeout=PATIENCE)
    # A folder that other users may enter, as PostgreSQL's does where we are root.
    state = Path(tempfile.mkdtemp(prefix="pictures-"))
    dags = state / "dags"
    dags.mkdir()
    for name in (f"{NIGHTLY}.py", f"{SIMILAR}.py", f"{ON_DEMAND}.py", "templates"):
        (dags / name).symlink_to(ROOT / "example_dags" / name)
    stack = Stack(state, job_seconds=1, ui=True, standalone=True, dags_folder=dags)
    print("  Airflow starts", flush=True)
    with stack, sync_playwright() as playwright:
        shop = Shop(stack)
        shop.prepare()
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--disable-gpu"])
        failed = take_all(shop, browser, names)
        browser.close()
    if failed:
        print(f"What was seen in place of {', '.join(failed)} is in {state}.", file=sys.stderr)
    else:
        shutil.rmtree(state, ignore_errors=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
