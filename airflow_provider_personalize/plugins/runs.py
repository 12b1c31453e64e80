"""Which run made a job, and what a check said of it: by what the operators note in XCom."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote

from airflow_provider_personalize.links.personalize import PersonalizeJobLink
from airflow_provider_personalize.links.reports import PersonalizeReportLink
from airflow_provider_personalize.service.names import name_prefix

#: The key under which a create operator notes what its job is made of and what it may cost.
COUNTS = "counts"
#: The most notes that are read: years of nights.
MOST_NOTES = 20_000
_CLOCK_SKEW = timedelta(hours=1)

#: A task instance: the ids of its DAG, its run and itself, and its map index.
TaskKey = tuple[str, str, str, int]


@dataclass(frozen=True)
class Maker:
    """The task that made a job. ``cost`` is its estimate, where there are prices."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    cost: float | None = None

    @property
    def path(self) -> str:
        """The address of the task's page, from that of Airflow's UI on."""
        parts = ["dags", self.dag_id, "runs", self.run_id, "tasks", self.task_id]
        if self.map_index >= 0:
            parts += ["mapped", str(self.map_index)]
        return "/".join(quote(part, safe="") for part in parts)


def makers_of(names: Mapping[str, str], since: datetime | None) -> dict[str, Maker]:
    """
    Return the tasks that made resources, by ARN.

    Tasks that wait for a job, or load it, note it, too. The one that made it has given its name, which begins with the
    ids of DAG and task; where the name does not tell, it is the one that noted it first.

    :param names: The resources' names by their ARNs.
    :param since: When the oldest of them was made.
    """
    costs: dict[TaskKey, Any] = {}
    noted: dict[str, list[TaskKey]] = {}
    for key, task, value in _notes((PersonalizeJobLink.key, COUNTS), since):
        if key == COUNTS:
            costs[task] = value.get("estimated_cost")
        elif (arn := str(value.get("job_arn"))) in names:
            noted.setdefault(arn, []).append(task)
    found = {}
    for arn, tasks in noted.items():
        task = next(
            (task for task in tasks if names[arn].startswith(name_prefix(task[0], task[2], task[3]))), tasks[-1]
        )
        cost = costs.get(task)
        found[arn] = Maker(*task, cost if isinstance(cost, int | float) else None)
    return found


def verdicts_on(since: datetime | None) -> dict[str, str]:
    """
    Return the newest verdict of a check on each resource that one was about, by ARN.

    :param since: When the oldest resource was made.
    """
    found: dict[str, str] = {}
    for _, _, value in _notes((PersonalizeReportLink.key,), since):
        about, verdict = value.get("about"), value.get("verdict")
        if verdict in {"passed", "warned", "failed"} and isinstance(about, list):
            # The newest comes first.
            found = {arn: verdict for arn in about if isinstance(arn, str)} | found
    return found


def _notes(keys: Collection[str], since: datetime | None) -> Iterator[tuple[str, TaskKey, dict[str, Any]]]:
    """Yield notes under these keys with the tasks that made them, the newest first."""
    from airflow.models.xcom import XComModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    columns = (XComModel.dag_id, XComModel.run_id, XComModel.task_id, XComModel.map_index)
    query = select(XComModel.key, *columns, XComModel.value).where(XComModel.key.in_(keys))
    if since is not None:
        query = query.where(XComModel.timestamp >= since - _CLOCK_SKEW)
    with create_session() as session:
        rows = session.execute(query.order_by(XComModel.timestamp.desc()).limit(MOST_NOTES)).all()
    for row in rows:
        value = XComModel.deserialize_value(row)
        if isinstance(value, dict):
            yield row.key, (row.dag_id, row.run_id, row.task_id, row.map_index), value
