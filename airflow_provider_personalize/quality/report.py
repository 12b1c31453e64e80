"""The report: a page that shows at a glance whether output is good enough to use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from airflow_provider_personalize.exceptions import InvalidRequestError
from airflow_provider_personalize.output.rows import RELATED_ITEMS, USER_SEGMENTS, RowKind
from airflow_provider_personalize.quality.figures import Overlap, Slice
from airflow_provider_personalize.quality.thresholds import Outcome, format_figure
from airflow_provider_personalize.uris import FileUri, S3Uri, parse_uri_or_path

#: The most bars of a plot.
_BARS = 25
#: States of a check, the worst first.
_STATES = ("failed", "warned", "passed", "unknown")
_WORDS = {RELATED_ITEMS: ("items", "related items"), USER_SEGMENTS: ("segments", "users")}


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
    results: Sequence[Outcome],
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
    :param results: The outcomes of the checks.
    :param details: What is missing, in sentences.
    :return: One HTML page that loads nothing else.
    """
    entities, items = _WORDS.get(kind, ("users", "items"))
    state_of = _tile_states(results)
    return _page(
        "report.html",
        table=table,
        slice=now.name,
        before=before.name if before else None,
        figures=figures,
        entities=entities,
        items=items,
        verdict=_verdict(results),
        state_of=state_of,
        results=results,
        details=details,
        format_figure=format_figure,
        result_bars=_result_bars(now),
        top_bars=_top_bars(now, before, before_top, titles),
        overlap_bars=_overlap_bars(overlap),
    )


def render_model_report(
    *,
    figures: Mapping[str, Any],
    results: Sequence[Outcome],
) -> str:
    """
    Return the report on a solution version as HTML.

    :param figures: What the check of the version returns.
    :param results: The outcomes of the checks.
    :return: One HTML page that loads nothing else.
    """
    state_of = _tile_states(results)
    previous, baseline = figures["previous"] or {}, figures["baseline"] or {}
    rows = [
        {
            "name": name,
            "value": value,
            "before": previous.get("metrics", {}).get(name),
            "baseline": baseline.get("metrics", {}).get(name),
            "state": state_of.get(name, ""),
        }
        for name, value in sorted(figures["metrics"].items())
    ]
    return _page(
        "model_report.html",
        version=figures["solution_version_arn"].partition(":solution/")[2],
        training_hours=figures["training_hours"],
        previous=previous.get("solution_version_arn", "").rpartition("/")[2],
        baseline=baseline.get("solution_version_arn", "").partition(":solution/")[2],
        verdict=_verdict(results),
        rows=rows,
        results=results,
        format_figure=format_figure,
    )


def _page(template: str, **values: Any) -> str:
    from jinja2 import Environment, FileSystemLoader

    templates = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True)
    return templates.get_template(template).render(**values)


def _verdict(results: Sequence[Outcome]) -> str:
    states = {outcome.state for outcome in results}
    return next((state for state in _STATES[:2] if state in states), "passed")


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


def _result_bars(now: Slice) -> list[dict[str, Any]]:
    """Return how many entities have how many results, in bars of equal width."""
    if not now.results:
        return []
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
    bars = []
    for item, count in now.top_items:
        earlier = before_top.get(item, 0) / before.entities if before and before.entities else None
        bars.append({"label": titles.get(item, item), "share": count / now.entities, "before": earlier})
    return bars


def _overlap_bars(overlap: Overlap | None) -> list[dict[str, Any]]:
    """Return how many entities had which share of their results before, in tenths."""
    if not overlap or not overlap.lists:
        return []
    counts = [0] * 10
    for (size, shared), entities in overlap.lists.items():
        counts[min(9, 10 * shared // size)] += entities
    return _scaled([{"label": f"{10 * n} to {10 * n + 10} %", "count": count} for n, count in enumerate(counts)])


def _scaled(bars: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the bars with their heights, as shares of the highest."""
    highest = max(bar["count"] for bar in bars) or 1
    return [bar | {"height": bar["count"] / highest} for bar in bars]
