"""The metrics: what is sent through Airflow's statistics, and that documentation and dashboard know the same names."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from pathlib import Path

import pytest

pytest.importorskip("airflow", reason="metrics go through Airflow's statistics")

from airflow_provider_personalize import metrics
from airflow_provider_personalize.metrics import METRICS, Metric

DOCS = Path(__file__).parents[2] / "docs"


class Backend:
    """What stands for StatsD: keeps what it is sent."""

    def __init__(self):
        self.sent = []

    def incr(self, stat, count=1, rate=1, *, tags=None):
        self.sent.append((stat, count, tags))

    def gauge(self, stat, value, rate=1, delta=False, *, tags=None):
        self.sent.append((stat, value, tags))

    def timing(self, stat, dt, *, tags=None):
        self.sent.append((stat, dt, tags))


def use(monkeypatch, backend):
    """Put a backend where this version of Airflow keeps its own, for tasks and for the triggerer."""
    try:
        from airflow._shared.observability.metrics import stats as triggerers
        from airflow.sdk._shared.observability.metrics import stats as tasks
    except ImportError:
        from airflow.stats import Stats

        monkeypatch.setattr(Stats, "instance", backend)
        return
    for module in (tasks, triggerers):
        monkeypatch.setattr(module, "_backend", backend)


def test_each_kind_of_metric_reaches_airflows_backend(monkeypatch):
    backend = Backend()
    use(monkeypatch, backend)
    metrics.POLLS.send(2, operation="DescribeBatchInferenceJob")
    overlap = metrics.CHECK_FIGURES["overlap"]
    overlap.send(0.25, table='"Shop", a=b')
    overlap.send(None, table="recommendations")
    metrics.JOB_DURATION.send(90.5, kind="BatchInferenceJob", state="succeeded")
    assert backend.sent == [
        ("personalize.polls", 2, {"operation": "DescribeBatchInferenceJob"}),
        ("personalize.check.overlap", 0.25, {"table": "_Shop_a_b"}),
        ("personalize.job.duration", timedelta(seconds=90.5), {"kind": "BatchInferenceJob", "state": "succeeded"}),
    ]


def test_a_backend_that_fails_harms_nothing():
    metrics.POLLS.send(1, stats=object(), operation="ListBatchInferenceJobs")


def test_tags_are_those_that_are_told():
    with pytest.raises(TypeError, match=r"^personalize\.polls: expected the tags \('operation',\), got \('kind',\)\.$"):
        metrics.POLLS.send(1, kind="BatchInferenceJob")


def test_every_metric_is_in_the_list_and_is_sent_somewhere():
    constants = {name for name, value in vars(metrics).items() if isinstance(value, Metric)} | {"send_figures"}
    assert len(METRICS) == len(constants) - 1 + len(metrics.CHECK_FIGURES)
    package = Path(metrics.__file__).parent
    used = set()
    for path in package.rglob("*.py"):
        if path.name != "metrics.py":
            used |= constants & set(re.findall(r"\b[A-Z_]+\b|\bsend_figures\b", path.read_text(encoding="utf-8")))
    assert used == constants


def test_the_documentation_lists_every_metric_with_its_type_and_tags():
    rows = re.findall(
        r"^\| `(personalize\.[a-z_.]+)` \| (\w+) \| ([^|]*) \|",
        (DOCS / "reference" / "metrics.md").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    told = {name: (kind, tuple(re.findall(r"`(\w+)`", tags))) for name, kind, tags in rows}
    assert told == {name: (metric.type, metric.tags) for name, metric in METRICS.items()}


def names_in(query):
    """The metrics of a query, each once; a timer has a sum and a count."""
    return {re.sub("_(sum|count)$", "", name) for name in re.findall(r"\bairflow_personalize_\w+", query)}


def test_the_dashboard_shows_every_metric_and_no_other():
    board = json.loads((DOCS / "grafana" / "personalize.json").read_text(encoding="utf-8"))
    queries = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    tags = {"airflow_" + name.replace(".", "_"): set(metric.tags) for name, metric in METRICS.items()}
    assert set().union(*map(names_in, queries)) == tags.keys()
    # Grouped by a tag that its metric has not, a panel would show nothing.
    for query in queries:
        [name] = names_in(query)
        assert {tag.strip() for group in re.findall(r"by \(([^)]*)\)", query) for tag in group.split(",")} <= tags[name]
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
