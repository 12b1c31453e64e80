"""What one AWS connection has in Amazon Personalize: jobs, trainings, quotas and solutions. It only reads."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from airflow_provider_personalize.aws_errors import AWS_ERRORS, describe_error, is_transient
from airflow_provider_personalize.compat import BaseHook
from airflow_provider_personalize.exceptions import PersonalizeError
from airflow_provider_personalize.hooks.personalize import PersonalizeHook
from airflow_provider_personalize.hooks.versions import CLAIM_TAG
from airflow_provider_personalize.plugins.runs import Maker, makers_by_name, makers_of, verdicts_on
from airflow_provider_personalize.service.kinds import (
    BATCH_INFERENCE_JOB,
    BATCH_SEGMENT_JOB,
    DATASET_IMPORT_JOB,
    SOLUTION,
    SOLUTION_VERSION,
    ResourceKind,
    ResourceStatus,
    State,
    entries_of,
    read_status,
    solution_arn_of,
)
from airflow_provider_personalize.service.statuses import text_at

#: What is listed, each with one call for 100 lines.
SHOWN = (BATCH_INFERENCE_JOB, BATCH_SEGMENT_JOB, DATASET_IMPORT_JOB, SOLUTION_VERSION)
#: The most pages of one listing, and the most jobs that are shown of it all.
MOST_PAGES, MOST_SHOWN = 20, 200
#: For how long a version's tags are remembered, in seconds; its metrics never change.
_TAGS_HOLD = 300
_metrics: dict[str, dict[str, float]] = {}
_tags: dict[str, tuple[float, dict[str, str]]] = {}


@dataclass
class Slots:
    """How many of a kind are pending or in progress, and how many may be."""

    what: str
    used: int
    quota: int


@dataclass
class Job:
    """A job or a training, with the run that made it where that is known."""

    status: ResourceStatus
    made_by: Maker | None = None
    verdict: str = ""

    @property
    def what(self) -> str:
        """Its kind in words."""
        return words_of(self.status.kind)

    @property
    def name(self) -> str:
        """Its name; that of a training is the solution's with the version's id."""
        return self.status.arn.partition("/")[2] if self.status.kind is SOLUTION_VERSION else self.status.name

    @property
    def state(self) -> str:
        """``running``, ``passed`` or ``failed``, as the colours are called."""
        return {State.RUNNING: "running", State.SUCCEEDED: "passed"}.get(self.status.state, "failed")

    @property
    def solution(self) -> str:
        """The name of the solution that it runs on."""
        version = self.status.solution_version_arn
        return solution_arn_of(version).partition("/")[2] if version else ""


@dataclass
class Solution:
    """A solution with its newest version; ``metrics`` and ``tags`` are those of the version, where it has some."""

    name: str
    recipe: str
    version: Job | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    #: The newest ACTIVE version, where the newest one is not.
    active: Job | None = None


@dataclass
class Overview:
    """
    What a connection has.

    :param problems: What could not be looked at, in sentences.
    :param left_out: How many older jobs are not shown; None where not all could be listed.
    """

    conn_id: str
    seen: datetime
    region: str = ""
    jobs: Sequence[Job] = ()
    slots: Sequence[Slots] = ()
    solutions: Sequence[Solution] = ()
    problems: list[str] = field(default_factory=list)
    left_out: int | None = 0


def words_of(kind: ResourceKind) -> str:
    """Return what a person calls one of that kind."""
    return "training" if kind is SOLUTION_VERSION else kind.words


def look(conn_id: str) -> Overview:
    """
    Look at what a connection has. Whatever goes wrong is a sentence in the answer.

    :param conn_id: The Airflow connection.
    """
    overview = Overview(conn_id, datetime.now(UTC))
    try:
        # The hook would take whatever credentials the machine has in place of a connection that is not there.
        BaseHook.get_connection(conn_id)
        hook = PersonalizeHook(aws_conn_id=conn_id)
        client = hook.polling_client
        overview.region = str(client.meta.region_name or "")
    except Exception as error:  # noqa: BLE001 (a connection that is missing or wrong, in whatever words)
        overview.problems.append(_sentence(error))
        return overview
    found: dict[ResourceKind, list[dict[str, Any]]] = {}
    for kind in (*SHOWN, SOLUTION):
        try:
            found[kind], whole = _lines(hook, kind)
            overview.left_out = overview.left_out if whole else None
        except Exception as error:  # noqa: BLE001 (the page shows what there is)
            overview.problems.append(_sentence(error))
            if is_transient(error):
                # Who does not answer now would keep people waiting for each of the others, too.
                break
    jobs = [Job(status) for kind in SHOWN for status in _statuses(kind, found.get(kind, ()), overview.problems)]
    jobs.sort(key=lambda job: job.status.created_at or datetime.min.replace(tzinfo=UTC), reverse=True)
    overview.slots = _slots(jobs)
    overview.solutions = _solutions(hook, found.get(SOLUTION, ()), jobs)
    overview.jobs = jobs[:MOST_SHOWN]
    if overview.left_out is not None:
        overview.left_out = len(jobs) - len(overview.jobs)
    _with_runs(overview)
    # Many of one sentence are one.
    overview.problems = list(dict.fromkeys(overview.problems))
    return overview


def _sentence(error: Exception) -> str:
    if isinstance(error, PersonalizeError):
        return str(error)
    return describe_error(error) if isinstance(error, AWS_ERRORS) else f"{type(error).__name__}: {error}"


def _lines(hook: PersonalizeHook, kind: ResourceKind) -> tuple[list[dict[str, Any]], bool]:
    """Return the lines of a listing, and whether they are all."""
    lines: list[dict[str, Any]] = []
    for number, page in enumerate(hook.pages(kind), 1):
        lines += entries_of(kind, page)
        if number == MOST_PAGES and text_at(page, "nextToken"):
            return lines, False
    return lines, True


def _statuses(kind: ResourceKind, lines: Iterable[Any], problems: list[str]) -> list[ResourceStatus]:
    found = []
    for line in lines:
        try:
            found.append(read_status(kind, line))
        except PersonalizeError as error:
            problems.append(str(error))
    return found


def _slots(jobs: Iterable[Job]) -> list[Slots]:
    running = Counter(job.status.kind for job in jobs if job.status.state is State.RUNNING)
    return [Slots(f"{words_of(kind)}s", running[kind], kind.quota) for kind in SHOWN if kind.quota]


def _solutions(hook: PersonalizeHook, lines: Iterable[Any], jobs: Iterable[Job]) -> list[Solution]:
    """Return the solutions, the one with the newest version first; ``jobs`` are in that order."""
    versions: dict[str, list[Job]] = {}
    for job in jobs:
        if job.status.kind is SOLUTION_VERSION:
            versions.setdefault(solution_arn_of(job.status.arn), []).append(job)
    recipes = {text_at(line, "solutionArn") or "": text_at(line, "recipeArn") or "" for line in lines}
    found = []
    for arn in dict.fromkeys([*versions, *recipes]):
        solution = Solution(arn.partition("/")[2], recipes.get(arn, "").rpartition("/")[2])
        newest = versions.get(arn, [])
        active = next((job for job in newest if job.status.state is State.SUCCEEDED), None)
        if newest:
            solution.version = newest[0]
            solution.active = active if active is not newest[0] else None
        if active:
            solution.metrics, solution.tags = _metrics_of(hook, active.status.arn), _tags_of(hook, active.status.arn)
        found.append(solution)
    return found


def _metrics_of(hook: PersonalizeHook, arn: str) -> dict[str, float]:
    if arn not in _metrics:
        try:
            answer = hook.polling_client.get_solution_metrics(solutionVersionArn=arn)
            _metrics[arn] = {str(name): float(value) for name, value in answer["metrics"].items()}
        except Exception:  # noqa: BLE001 (a page without metrics is better than none)
            return {}
    return _metrics[arn]


def _tags_of(hook: PersonalizeHook, arn: str) -> dict[str, str]:
    asked, known = _tags.get(arn, (float("-inf"), {}))
    if time.monotonic() - asked > _TAGS_HOLD:
        try:
            answer = hook.polling_client.list_tags_for_resource(resourceArn=arn)
            known = {str(tag["tagKey"]): str(tag["tagValue"]) for tag in answer["tags"]}
            known.pop(CLAIM_TAG, None)
        except Exception:  # noqa: BLE001 (the tags say more, but nothing stands on them)
            known = {}
        _tags[arn] = time.monotonic(), known
    return known


def _with_runs(overview: Overview) -> None:
    """Say of each job which run made it, and what a check said of it, as far as Airflow's database knows."""
    shown = [*overview.jobs]
    for solution in overview.solutions:
        shown += [job for job in (solution.version, solution.active) if job is not None]
    if not shown:
        return
    try:
        oldest = min((job.status.created_at for job in shown if job.status.created_at), default=None)
        makers, verdicts = makers_of({job.status.arn: job.status.name for job in shown}, oldest), verdicts_on(oldest)
        # A task that pushes nothing to XCom, or whose XCom was cleared, has given its job a name all the same.
        unknown = {job.status for job in shown if job.status.arn not in makers and job.status.kind.is_job}
        named = makers_by_name({job.name: job.created_at for job in unknown if job.created_at})
    except Exception as error:  # noqa: BLE001 (the jobs are there all the same)
        overview.problems.append(f"The runs that made the jobs could not be looked up ({type(error).__name__}).")
        return
    for job in shown:
        job.made_by = makers.get(job.status.arn) or named.get(job.status.name)
        job.verdict = verdicts.get(job.status.arn, "")
