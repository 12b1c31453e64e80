"""
The pages that people judge by, in a real browser, at three widths and in both modes.

Every rule is measured in the browser: nothing is cut or hangs over, rows are filled, figures stay on one line, text
stands out from what is behind it, and script in a name is text. The pages are made of the worst that their texts can
be. The pages that were seen are kept in the folder that the environment variable ``SCREENSHOTS`` names, or in
``.state/screenshots``.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from jinja2 import Environment, FileSystemLoader
from playwright.sync_api import Browser, sync_playwright

from airflow_provider_personalize.output.rows import RELATED_ITEMS, USER_RECOMMENDATIONS, USER_SEGMENTS
from airflow_provider_personalize.quality.history import History, Moment
from airflow_provider_personalize.quality.report import Made, Origin, render_model_report, render_report
from airflow_provider_personalize.quality.slices import Overlap, Slice
from airflow_provider_personalize.quality.thresholds import Outcome, outcomes

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

pytestmark = pytest.mark.skipif(not BROWSER, reason="needs Chromium or Chrome: apt-get install chromium")

SCREENSHOTS = Path(os.environ.get("SCREENSHOTS") or Path(__file__).parents[2] / ".state" / "screenshots")
TEMPLATES = Path(__file__).parents[2] / "example_dags" / "templates"
SIZES = (400, 800, 1280)

SCRIPT = "<script>window.ran = 1</script>"
#: What a title, an id or a name may be; none of it may do anything.
TEXTS = [
    SCRIPT,
    '"><img src=x onerror="window.ran = 2">',
    "' onmouseover='window.ran = 3",
    "javascript:window.ran=4//{{ 7 * 7 }}${7 * 7}</title></style></textarea>" + SCRIPT,
    "x" * 256,
    "Dr. Strangelove or: How I Learned to Stop Worrying and Love the Bomb, in the cut of the director (1964)",
    "\u202eright to left",
    "👩‍👩‍👧‍👦 Família",
    "Nul \x00 and tab \t",
    "Amadeus (1984)",
]
ORIGIN = Origin(
    datetime(2026, 11, 22, 2, 14, tzinfo=UTC),
    Made(f"nightly · {SCRIPT}", "https://airflow.example.com/dags/nightly/runs/x%22"),
    [Made("nightly-email-list-recommend-2026-11-22-ab12cd34", "javascript:window.ran=5"), *[Made("j" * 63)] * 8],
)


def report(kind=USER_RECOMMENDATIONS, state="failed", texts=TEXTS, checks=None, **results):
    """Return the report of a slice with these texts as its items; it has results for 671,000 users, or as given."""
    counts = {int(number.removeprefix("of_")): count for number, count in results.items()} or {
        1: 100,
        **{n: 10 * n for n in range(5, 25)},
        25: 670_000,
    }
    values = {"run_date": "2026-11-22"}
    now = Slice(values, counts, 1_234_567, [(text, sum(counts.values()) // (n + 1)) for n, text in enumerate(texts)])
    before = Slice({"run_date": "2026-11-21"}, counts, 12, now.top_items)
    overlap = Overlap({(10, shared): 7**shared for shared in range(9)})
    figures = {
        "table": "recommendations",
        **now.figures,
        "overlap": overlap.mean,
        "input_entities": now.entities + 1,
        "covered_entities": now.entities,
        "entity_coverage": 1.0,
        "catalog_items": 9_066_123,
        "covered_catalog": 0,
        "catalog_coverage": 0.0,
        "lines": now.entities,
        "rejects": 1,
        "reject_rate": 0.00001,
        "previous": before.figures,
    }
    expected = {"entity_coverage": {"geq_to": 0.9999}, "overlap": {"geq_to": 0.1}, "rows": {"geq_to": 10**12}}
    moments = [
        Moment(f"2026-11-{day}T00:00:00+00:00", {"rows": day * 10**9, "overlap": day / 23}) for day in range(13, 23)
    ]
    return render_report(
        table=f"recommendations{SCRIPT}",
        kind=kind,
        figures=figures,
        now=now,
        before=before,
        before_top=dict(now.top_items),
        overlap=overlap,
        titles={},
        segments=[(text, 10 + n, n) for n, text in enumerate(texts)],
        results=outcomes(figures, expected if checks is None else checks, state, missing={}),
        details=[f"Without results, the first 10: {', '.join(map(repr, TEXTS))}."],
        origin=ORIGIN,
        history=History(moments, "run_date", is_cut=True),
    )


def model():
    """Return the report of a solution version."""
    names = [f"normalized_discounted_cumulative_gain_at_{n}" for n in (5, 10, 25)]
    metrics = {name: 0.1 + n / 7 for n, name in enumerate([*names, "coverage", "precision_at_5"])}
    other = {"solution_version_arn": f"arn:aws:personalize:r:1:solution/{SCRIPT}/v", "metrics": metrics}
    figures = {**other, "training_hours": 1.7, "previous": other, "baseline": other}
    results = [
        Outcome(f"{names[0]}_to_previous", "≥ 0.9", 1.0, "passed"),
        Outcome("coverage", "≥ 0.9", 0.1, "warned"),
        Outcome(SCRIPT, "≥ 0.9", None, "unknown", "the metrics of this recipe are others"),
    ]
    return render_model_report(figures=figures, results=results, origin=ORIGIN)


def emails(count=632, texts=TEXTS):
    """Return the preview of emails with these texts as names and titles."""
    templates = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True)
    genres = ["Action|Sci-Fi", None, "Drama", SCRIPT, "(no genres listed)", "Comedy|Romance"]
    picks = [
        {"rank": n + 1, "item_id": text, "title": text, "genres": genres[n % 6], "art": n * 97, "because": text}
        for n, text in enumerate([*texts, None])
    ]
    shown = [{"name": text, "email": f"{text}@example.com", "picks": picks[n:]} for n, text in enumerate(texts)]
    shown += [{"name": None, "email": None, "picks": picks[-1:]}] if texts else []
    summary = {"emails": count, "recommendations": 1_234_567_890, "titles": 562, "unsubscribed": 39}
    template = templates.get_template("email_preview.html")
    return template.render(run_date="2026-11-22", shown=shown, **summary)


PAGES = {
    "emails": emails,
    "emails_none": lambda: emails(0, []),
    "report_users": report,
    "report_related": lambda: report(RELATED_ITEMS, "warned"),
    "report_segments": lambda: report(USER_SEGMENTS, checks={}, of_25=7, of_24=1, of_1=2),
    "report_one": lambda: report(state="passed", texts=[SCRIPT], checks={"overlap": {"geq_to": 0}}, of_1=1),
    "report_model": model,
}

#: What is wrong with a page, in sentences.
MEASURE = r"""
() => {
  const wrong = [];
  const name = element =>
    `${element.tagName} ${element.className} "${element.textContent.trim().slice(0, 40)}"`;
  const root = document.documentElement;
  if (root.scrollWidth > innerWidth) wrong.push(`the page is ${root.scrollWidth} px wide in ${innerWidth} px`);

  const numbers = text => text.match(/[\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const behind = element => {
    for (; element; element = element.parentElement) {
      const style = getComputedStyle(element), [r, g, b, a = 1] = numbers(style.backgroundColor);
      if (style.backgroundImage !== "none") return null;
      if (a === 1) return [r, g, b];
      if (a > 0) return null;
    }
    return [255, 255, 255];
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement, range = document.createRange();
    range.selectNodeContents(walker.currentNode);
    const box = range.getBoundingClientRect();
    if (!walker.currentNode.data.trim() || !box.width || element.closest("script, style, [hidden], svg")) continue;
    if (box.left < -1 || box.right > innerWidth + 1)
      wrong.push(`${name(element)} hangs over: ${box.left} to ${box.right}`);
    for (let around = element; around !== document.body; around = around.parentElement) {
      const outer = around.getBoundingClientRect();
      if (getComputedStyle(around).display.startsWith("inline")) continue;
      if (!outer.width || box.right <= outer.right + 1) continue;
      wrong.push(`${name(element)} hangs over ${name(around)}`);
      break;
    }
    const style = getComputedStyle(element), [r, g, b, a = 1] = numbers(style.color), paper = behind(element);
    let opacity = a;
    for (let around = element; around; around = around.parentElement) opacity *= getComputedStyle(around).opacity;
    if (!paper) { wrong.push(`what is behind ${name(element)} is no plain colour`); continue; }
    const seen = [r, g, b].map((v, i) => v * opacity + paper[i] * (1 - opacity));
    const [low, high] = [light(seen), light(paper)].sort((x, y) => x - y), contrast = (high + .05) / (low + .05);
    if (contrast < 4.5) wrong.push(`${name(element)} has a contrast of ${contrast.toFixed(2)}`);
    if (parseFloat(style.fontSize) < 11) wrong.push(`${name(element)} is ${style.fontSize} high`);
  }

  for (const value of document.querySelectorAll(".tile b, .value, em, .trend b")) {
    const rows = new Set([...value.getClientRects()].map(box => Math.round(box.top)));
    if (rows.size > 1 || value.getBoundingClientRect().height > 2 * parseFloat(getComputedStyle(value).fontSize))
      wrong.push(`${name(value)} stands on more than one line`);
  }
  for (const row of document.querySelectorAll(".tiles, .cards, .numbers")) {
    const outer = row.getBoundingClientRect(), ends = {}, starts = {};
    for (const child of row.children) {
      const box = child.getBoundingClientRect(), top = Math.round(box.top);
      ends[top] = Math.max(ends[top] ?? 0, box.right);
      starts[top] = Math.min(starts[top] ?? 9999, box.left);
    }
    for (const top in ends)
      if (outer.right - ends[top] > 2 || starts[top] - outer.left > 2)
        wrong.push(`a hole in ${row.className} at ${top} px`);
  }
  return wrong;
}
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        flags = ["--disable-gpu", "--disable-quic", "--disable-sync"]
        browser = playwright.chromium.launch(executable_path=BROWSER, args=flags)
        yield browser
        browser.close()


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_right_at_every_width_and_in_both_modes(browser: Browser, tmp_path: Path, name: str) -> None:
    path = tmp_path / f"{name}.html"
    path.write_text(PAGES[name](), encoding="utf-8")
    wrong: list[str] = []
    for mode in ("light", "dark"):
        with browser.new_context(color_scheme=mode, viewport={"width": 1280, "height": 800}) as context:  # type: ignore[arg-type]
            page = context.new_page()
            asked: list[str] = []
            page.on("request", lambda request, asked=asked: asked.append(request.url))
            page.on("dialog", lambda dialog: pytest.fail(dialog.message))
            for width in SIZES:
                page.set_viewport_size({"width": width, "height": 800})
                page.goto(path.as_uri())
                page.screenshot(path=SCREENSHOTS / f"{name}_{width}_{mode}.png", full_page=True, animations="disabled")
                wrong += [f"{width} px, {mode}: {sentence}" for sentence in page.evaluate(MEASURE)]
            for element in page.get_by_text("onmouseover").all():
                element.hover()
            assert page.evaluate("window.ran") is None
            assert set(asked) == {path.as_uri()}, "it loads nothing else"
            assert SCRIPT in page.locator("body").inner_text() or name == "emails_none"
            assert page.locator("a[href]").evaluate_all("all => all.map(one => one.protocol)") in ([], ["https:"])
    assert not wrong, "\n".join(wrong)


def test_the_search_says_what_it_covers_and_when_nothing_is_found(browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / "emails.html"
    path.write_text(emails(), encoding="utf-8")
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(path.as_uri())
        found, cards, search = page.locator("output"), page.locator("article:visible"), page.get_by_role("searchbox")
        at_first = "11 of 632 emails, the most typical first. The search covers these 11."
        assert (found.inner_text(), cards.count()) == (at_first, 11)
        search.fill(" AMADEUS ")
        assert (found.inner_text(), cards.count()) == ("10 of these 11 emails. The other 621 are not on this page.", 10)
        search.fill("dr. strangelove")
        assert cards.count() == 6
        # What stands in every email is not what somebody looks for.
        search.fill("Unsubscribe <b>")
        nothing = "Nothing found: none of these 11 emails has “Unsubscribe <b>”. The other 621 are not on this page."
        assert (found.inner_text(), cards.count()) == (nothing, 0)
        search.fill("")
        assert (found.inner_text(), cards.count()) == (at_first, 11)
        assert page.evaluate("window.ran") is None
        path.write_text(emails(11), encoding="utf-8")
        page.reload()
        assert found.inner_text() == "All 11 emails, the most typical first. The search covers all of them."
        path.write_text(emails(0, []), encoding="utf-8")
        page.reload()
        assert "Nobody gets an email for 2026-11-22" in page.locator("main").inner_text()
        assert search.count() == 0
