"""
The metrics that tasks and the triggerer send through Airflow's own statistics: StatsD, DogStatsD or OpenTelemetry.

:data:`METRICS` is the one list of them; the documentation and the Grafana dashboard are tested against it.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Literal, NamedTuple

from airflow_provider_personalize.compat import Stats

log = logging.getLogger(__name__)

#: What every backend takes in a tag's value.
_ODD = re.compile(r"[^a-zA-Z0-9_.-]+")


class Metric(NamedTuple):
    """
    A metric.

    :param name: Its name, before which Airflow puts the prefix of its configuration, by default ``airflow``.
    :param type: ``counter``; ``gauge``, of which the last value stands; or ``timer``, of seconds.
    :param tags: The names of its tags, where the backend has tags.
    """

    name: str
    type: Literal["counter", "gauge", "timer"]
    tags: tuple[str, ...] = ()

    def send(self, value: float | None, *, stats: Any = None, **tags: object) -> None:
        """
        Send a value. Whatever keeps it from being sent is logged at level DEBUG, and harms no task.

        :param value: The value; None is not sent.
        :param stats: Airflow's statistics, where they are not those of a task.
        :param tags: A value for each tag.
        """
        if value is None:
            return
        if tags.keys() != set(self.tags):
            raise TypeError(f"{self.name}: expected the tags {self.tags}, got {tuple(tags)}.")
        told = {name: _ODD.sub("_", str(tag)) for name, tag in tags.items()}
        stats = stats or Stats
        try:
            if self.type == "counter":
                stats.incr(self.name, int(value), tags=told)
            elif self.type == "gauge":
                stats.gauge(self.name, value, tags=told)
            else:
                stats.timing(self.name, timedelta(seconds=value), tags=told)
        except Exception:
            log.debug("The metric %s could not be sent.", self.name, exc_info=True)


JOB_DURATION = Metric("personalize.job.duration", "timer", ("kind", "state"))
QUOTA_WAIT_DURATION = Metric("personalize.quota_wait.duration", "timer", ("kind", "outcome"))
POLLS = Metric("personalize.polls", "counter", ("operation",))
INPUT_LINES = Metric("personalize.input.lines", "counter", ("kind",))
INPUT_RESULTS = Metric("personalize.input.results", "counter", ("kind",))
LOAD_DURATION = Metric("personalize.load.duration", "timer", ("target",))
LOAD_LINES = Metric("personalize.load.lines", "counter", ("target",))
LOAD_ROWS = Metric("personalize.load.rows", "counter", ("target",))
LOAD_REJECTS = Metric("personalize.load.rejects", "counter", ("target",))
#: Those of an output check, by the names of its figures.
CHECK_FIGURES = {
    figure: Metric(f"personalize.check.{figure}", "gauge", ("table",))
    for figure in ("rows", "entity_coverage", "catalog_coverage", "overlap")
}

#: All of them, by name.
METRICS = {
    metric.name: metric
    for metric in [*(value for value in vars().values() if isinstance(value, Metric)), *CHECK_FIGURES.values()]
}


def send_figures(figures: Mapping[str, float | None], table: str) -> None:
    """
    Send the figures of an output check; those that are not known are None.

    :param figures: The figures, by their names.
    :param table: The table that was checked.
    """
    for figure, metric in CHECK_FIGURES.items():
        metric.send(figures[figure], table=table)
