"""The report: a page that shows at a glance whether output is good enough to use."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from airflow_provider_personalize.exceptions import InvalidRequestError
from airflow_provider_personalize.output.rows import RELATED_ITEMS, USER_SEGMENTS, RowKind
from airflow_provider_personalize.quality.history import History
from airflow_provider_personalize.quality.slices import Overlap, Slice
from airflow_provider_personalize.quality.thresholds import Outcome, format_figure
from airflow_provider_personalize.uris import FileUri, S3Uri, parse_uri_or_path

#: The most bars of a histogram.
_BARS = 10
#: How many jobs of a mapped loader are named.
_NAMED = 5
#: States of a check, the worst first.
_STATES = ("failed", "warned", "passed", "unknown")
_VERDICTS = {"passed": "Good enough to use", "warned": "Look before you use it", "failed": "Not good enough"}
_WORDS = {RELATED_ITEMS: ("items", "related items"), USER_SEGMENTS: ("segments", "users")}


class Made(NamedTuple):
    """
    Something that a report comes from: a run, a job.

    :param name: Its name.
    :param url: Where it can be looked at; empty where nothing is known.
    """

    name: str
    url: str = ""


class Origin(NamedTuple):
    """
    Where a report comes from.

    :param made_at: When it was made.
    :param run: The DAG run, with an empty name where it is not known.
    :param resources: The jobs that were loaded, or the solution version that is checked.
    """

    made_at: datetime
    run: Made = Made("")
    resources: Sequence[Made] = ()

    def rows(self, noun: str) -> Iterator[tuple[str, Made]]:
        """Yield terms with what they stand for; only addresses of web pages are kept."""
        more = len(self.resources) - _NAMED
        shown = [*self.resources[:_NAMED], *([Made(f"and {more:,} more")] if more > 0 else [])]
        for term, one in (("Run", self.run), *((noun, each) for each in shown)):
            if one.name:
                yield term, one if one.url.startswith(("https://", "http://")) else Made(one.name)
        yield "Made", Made(f"{self.made_at:%Y-%m-%d %H:%M} UTC")


def render_report(
    *,
    table: str,
    kind: RowKind,
    figures: Mapping[str, Any],
    now: Slice,
    before: Slice | None,
    before_top: Mapping[str, int],
    overlap: Overlap | None,
    titles: Mapping[str, str],
    segments: Sequence[tuple[str, int, int | None]],
    results: Sequence[Outcome],
    origin: Origin,
    history: History = History(),  # noqa: B008 (it never changes)
    details: Sequence[str] = (),
) -> str:
    """
    Return the report as HTML.

    :param table: The table's name.
    :param kind: The kind of its rows.
    :param figures: All figures.
    :param now: The slice that is judged.
    :param before: The slice that it is compared with, if any.
    :param before_top: How many entities of the slice before have each item that is now among the most frequent.
    :param overlap: How both overlap, if there is one before.
    :param titles: Titles of items.
    :param segments: The entities with the most results, each with their number now and before; shown of segments.
    :param results: The outcomes of the checks.
    :param origin: Where the report comes from.
    :param history: The figures of the slices before.
    :param details: What is missing, in sentences.
    :return: One HTML page that loads nothing else.
    """
    entities, items = _WORDS.get(kind, ("users", "items"))
    state_of = _tile_states(results)
    # Who is in the most segments says nothing; how large the segments are does.
    is_segments = kind is USER_SEGMENTS
    with_top = not is_segments or "top_item_share" in state_of
    return _page(
        "report.html",
        heading=f"{table} · {now.name}",
        noun="Job",
        origin=origin,
        before=before.name if before else None,
        figures=figures,
        entities=entities,
        items=items,
        state_of=state_of,
        results=results,
        details=details,
        tiles=list(_tiles(figures, entities, items, with_top=with_top)),
        # Where each segment is shown with its size, a histogram of the sizes says nothing more.
        histograms=_histograms(now, overlap, entities, with_results=len(segments) < now.entities),
        top_bars=[] if is_segments else _top_bars(now, before, before_top, titles),
        segment_bars=_segment_bars(segments) if is_segments else [],
        history=history,
        trends=_trends(history, but=() if with_top else ("top_item_share",)),
    )


def render_model_report(
    *,
    figures: Mapping[str, Any],
    results: Sequence[Outcome],
    origin: Origin,
) -> str:
    """
    Return the report on a solution version as HTML.

    :param figures: What the check of the version returns.
    :param results: The outcomes of the checks.
    :param origin: Where the report comes from.
    :return: One HTML page that loads nothing else.
    """
    previous, baseline = figures["previous"] or {}, figures["baseline"] or {}
    compared = ((previous.get("metrics", {}), "before"), (baseline.get("metrics", {}), "by the baseline"))
    rows = [
        {
            "name": name,
            "value": value,
            "before": compared[0][0].get(name),
            "others": [f"{format_figure(name, other[name])} {words}" for other, words in compared if name in other],
        }
        for name, value in sorted(figures["metrics"].items(), key=_by_number)
    ]
    return _page(
        "model_report.html",
        heading=figures["solution_version_arn"].partition(":solution/")[2],
        noun="Solution version",
        origin=origin,
        training_hours=figures["training_hours"],
        previous=previous.get("solution_version_arn", "").rpartition("/")[2],
        baseline=baseline.get("solution_version_arn", "").partition(":solution/")[2],
        rows=rows,
        results=results,
    )


def _by_number(metric: tuple[str, float]) -> tuple[str, int]:
    """Return what a metric is sorted by: ``precision_at_5`` comes before ``precision_at_10``."""
    words, _, number = metric[0].rpartition("_")
    return (words, int(number)) if number.isdecimal() else (metric[0], 0)


def _page(template: str, *, origin: Origin, noun: str, results: Sequence[Outcome], **values: Any) -> str:
    from jinja2 import Environment, FileSystemLoader

    states = {outcome.state for outcome in results}
    verdict = next((state for state in _STATES[:2] if state in states), "passed")
    values |= {
        "format_figure": format_figure,
        "origin_rows": list(origin.rows(noun)),
        "results": results,
        "verdict": verdict,
        "verdict_words": _VERDICTS[verdict] if results else "Nothing was expected of it",
    }
    templates = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True)
    return templates.get_template(template).render(values)


def parse_report_uri(uri: Any) -> S3Uri | FileUri:
    """
    Return the place that a report goes to.

    :param uri: A path, ``file:///…`` or ``s3://bucket/key``.
    :raises InvalidRequestError: if it is none of these.
    """
    place = parse_uri_or_path(uri, parameter="report_uri")
    if isinstance(place, S3Uri) and not place.key.rstrip("/"):
        raise InvalidRequestError(f"report_uri: expected s3://bucket/key, got {uri!r}, which has no key.")
    return place


def _tile_states(results: Sequence[Outcome]) -> dict[str, str]:
    """Return each figure's worst state; the three figures of an entity's results share one."""
    states: dict[str, str] = {}
    for outcome in sorted(results, key=lambda outcome: _STATES.index(outcome.state)):
        states.setdefault("mean_results" if outcome.figure.endswith("_results") else outcome.figure, outcome.state)
    return states


def _tiles(
    figures: Mapping[str, Any], entities: str, items: str, *, with_top: bool
) -> Iterator[tuple[str, Sequence[str]]]:
    """Yield the figures that are shown large, each with notes."""
    if figures["entity_coverage"] is not None:
        covered, asked = figures["covered_entities"], figures["input_entities"]
        yield "entity_coverage", [f"{covered:,} of {asked:,} {entities} of the input have results"]
    low, high = figures["min_results"], figures["max_results"]
    each = f"{low:,} for each of the {entities}" if low == high else f"{low:,} to {high:,} for each of the {entities}"
    yield "mean_results", [each] if figures["rows"] else []
    if figures["catalog_coverage"] is not None:
        covered, there = figures["covered_catalog"], figures["catalog_items"]
        yield "catalog_coverage", [f"{covered:,} of {there:,} {items} of the catalog are in the results"]
    else:
        yield "items", [f"different {items} in the results"]
    before = (figures["previous"] or {}).get("top_item_share")
    if with_top:
        shown = "" if before is None else f"{format_figure('top_item_share', before)} before"
        yield "top_item_share", [f"of the {entities} have the most frequent of the {items}", shown]
    if figures["overlap"] is not None:
        yield "overlap", ["of the results were there before, on average"]
    if figures["reject_rate"] is not None:
        yield "reject_rate", [f"{figures['rejects']:,} of {figures['lines']:,} lines were rejected"]


def _histograms(now: Slice, overlap: Overlap | None, entities: str, *, with_results: bool) -> list[dict[str, Any]]:
    """Return the histograms: bars, or a sentence where there would be one alone."""
    charts = []
    if now.results and with_results:
        same = f"All {entities} ({now.entities:,}) have the same number of results: {max(now.results):,}."
        charts.append(
            {
                "title": f"Results for each of the {entities}",
                "about": f"How many {entities} have how many results.",
                "figure": "mean_results",
                "sentence": same if len(now.results) == 1 else "",
                "bars": _result_bars(now),
            }
        )
    if overlap and overlap.lists:
        bars = _overlap_bars(overlap)
        filled = [bar for bar in bars if bar["count"]]
        same = (
            f"All {entities} that both slices have ({overlap.entities:,}) share {filled[0]['label']} of their results."
        )
        charts.append(
            {
                "title": "Shared with the slice before",
                "about": f"How many {entities} had which share of their results before.",
                "figure": "overlap",
                "sentence": same if len(filled) == 1 else "",
                "bars": bars,
            }
        )
    return charts


def _result_bars(now: Slice) -> list[dict[str, Any]]:
    """Return how many entities have how many results, in bars of equal width."""
    low, high = min(now.results), max(now.results)
    width = -(-(high - low + 1) // _BARS)
    bars = []
    for start in range(low, high + 1, width):
        end = min(start + width - 1, high)
        count = sum(entities for number, entities in now.results.items() if start <= number <= end)
        bars.append({"label": f"{start:,}" if start == end else f"{start:,} to {end:,}", "count": count})
    return _scaled(bars)


def _top_bars(
    now: Slice, before: Slice | None, before_top: Mapping[str, int], titles: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Return the share of the entities that have each of the most frequent items, now and before."""
    whole = before.entities if before else 0
    shares = [
        (titles.get(item, item), count / now.entities, before_top.get(item, 0) / whole if whole else None)
        for item, count in now.top_items
    ]
    # So that they can be told apart also where the most frequent item is a rare one.
    highest = max((max(share, earlier or 0) for _, share, earlier in shares), default=1)
    return [
        {
            "label": label,
            "share": share,
            "width": share / highest,
            "before": None if earlier is None else earlier / highest,
        }
        for label, share, earlier in shares
    ]


def _segment_bars(segments: Sequence[tuple[str, int, int | None]]) -> list[dict[str, Any]]:
    highest = max((max(count, before or 0) for _, count, before in segments), default=1)
    return [
        {
            "label": segment,
            "count": count,
            "share": count / highest,
            "before": None if before is None else before / highest,
        }
        for segment, count, before in segments
    ]


def _overlap_bars(overlap: Overlap) -> list[dict[str, Any]]:
    """Return how many entities had which share of their results before, in tenths."""
    counts = [0] * 10
    for (size, shared), entities in overlap.lists.items():
        counts[min(9, 10 * shared // size)] += entities
    return _scaled([{"label": f"{10 * n} to {10 * n + 10} %", "count": count} for n, count in enumerate(counts)])


def _trends(history: History, but: Collection[str]) -> list[dict[str, Any]]:
    """Return the figures of the last slices, each in columns whose heights begin at 0."""
    if len(history.moments) < 2:
        return []
    trends = []
    for figure in history.moments[0].figures:
        values = [moment.figures[figure] for moment in history.moments]
        known = [value for value in values if value is not None]
        if len(known) < 2 or figure in but:
            continue
        highest = max(known) or 1
        low, high = format_figure(figure, min(known)), format_figure(figure, max(known))
        bars = [
            {"label": moment.label, "value": value, "height": (value or 0) / highest}
            for moment, value in zip(history.moments, values, strict=True)
        ]
        trends.append({"figure": figure, "bars": bars, "range": low if low == high else f"{low} to {high}"})
    return trends


def _scaled(bars: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the bars with their heights, as shares of the highest."""
    bars = list(bars)
    highest = max(bar["count"] for bar in bars) or 1
    return [bar | {"height": bar["count"] / highest} for bar in bars]
