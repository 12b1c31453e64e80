"""Which run made a job, and what a check said of it: by what the operators note in XCom, and by the job's name."""

from __future__ import annotations

import re
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
#: How far AWS's clock and Airflow's may be apart where that tells one run from the next.
_NAMED_SKEW = timedelta(minutes=2)

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


def makers_by_name(created: Mapping[str, datetime]) -> dict[str, Maker]:
    """
    Return the tasks that gave jobs their names, by name; without those that cannot be told from another one.

    A derived name tells DAG, task and map index, and its digest covers the run. So the run is the one that was going on
    when the job was created, where there was only one.

    :param created: When the jobs were created, by name.
    """
    from airflow.models.dag import DagModel
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import TaskInstance
    from airflow.utils.session import create_session
    from sqlalchemy import or_, select

    if not created:
        return {}
    earliest, latest = min(created.values()) - _NAMED_SKEW, max(created.values()) + _NAMED_SKEW
    by_prefix: dict[str, list[tuple[TaskKey, datetime, datetime]]] = {}
    with create_session() as session:
        # A long id is cut, but not as short as this.
        begins = {
            dag_id: name_prefix(dag_id, "")[:16].rstrip("-_") for dag_id in session.scalars(select(DagModel.dag_id))
        }
        dags = [dag_id for dag_id, begin in begins.items() if any(name.startswith(begin) for name in created)]
        task = TaskInstance
        rows = session.execute(
            select(task.dag_id, task.run_id, task.task_id, task.map_index, DagRun.start_date, DagRun.end_date)
            .join(DagRun, (DagRun.dag_id == task.dag_id) & (DagRun.run_id == task.run_id))
            .where(task.dag_id.in_(dags), DagRun.start_date <= latest)
            .where(or_(DagRun.end_date.is_(None), DagRun.end_date >= earliest))
            .order_by(DagRun.start_date.desc())
            .limit(MOST_NOTES)
        ).all()
    for row in rows:
        key = (row.dag_id, row.run_id, row.task_id, row.map_index)
        prefix = name_prefix(row.dag_id, row.task_id, row.map_index)
        by_prefix.setdefault(prefix, []).append((key, row.start_date, row.end_date or latest))
    found = {}
    for name, moment in created.items():
        tasks = [
            task
            for prefix, each in by_prefix.items()
            if name.startswith(prefix)
            for task, began, ended in each
            if began - _NAMED_SKEW <= moment <= ended + _NAMED_SKEW and _gave_name(task, name)
        ]
        if len(tasks) == 1:
            found[name] = Maker(*tasks[0])
    return found


def _gave_name(task: TaskKey, name: str) -> bool:
    """Return whether a job's name is one that was derived from that task."""
    dag_id, _, task_id, map_index = task
    prefix = name_prefix(dag_id, task_id, map_index)
    index = f"{map_index}-" if map_index >= 0 else ""
    return name.startswith(prefix) and bool(re.fullmatch(rf"{index}[0-9a-f]{{12}}(-\d+)?", name[len(prefix) :]))


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
