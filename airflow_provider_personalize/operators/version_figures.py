"""The figures of a solution version: its metrics, and how they compare with those of others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_provider_personalize.exceptions import InvalidRequestError
from airflow_provider_personalize.hooks.personalize import PersonalizeHook
from airflow_provider_personalize.quality.thresholds import TO_BASELINE, TO_PREVIOUS, Checks, Outcome, outcomes
from airflow_provider_personalize.service.kinds import SOLUTION_VERSION, State, read_status, solution_arn_of
from airflow_provider_personalize.service.waits import Logger


def measure(
    hook: PersonalizeHook,
    version_arn: str,
    *,
    baseline_solution_arn: str | None,
    pass_tags: Mapping[str, str] | None,
    log: Logger,
) -> dict[str, Any]:
    """
    Return the figures of a solution version, as ``PersonalizeSolutionVersionCheckOperator`` returns them.

    :param hook: The hook to ask with.
    :param version_arn: The version.
    :param baseline_solution_arn: A solution to compare with.
    :param pass_tags: The tags of versions that have passed.
    :param log: The task's logger.
    :raises InvalidRequestError: if the version is not ACTIVE.
    """
    described = hook.describe_version(version_arn)
    status = read_status(SOLUTION_VERSION, described)
    if status.state is not State.SUCCEEDED:
        reason = f" ({status.failure_reason})" if status.failure_reason else ""
        raise InvalidRequestError(
            f"solution_version_arn: expected an ACTIVE solution version, got one in {status.status}{reason}. "
            f"{version_arn}",
            may_pass=status.state is State.RUNNING,
        )
    metrics = hook.metrics_of(version_arn)
    previous = _measured(hook, _version_before(hook, version_arn, pass_tags, log))
    newest = hook.newest_active_version(baseline_solution_arn) if baseline_solution_arn else None
    baseline = _measured(hook, newest)
    compared = {
        f"{name}{suffix}": value / other["metrics"][name]
        for suffix, other in ((TO_PREVIOUS, previous), (TO_BASELINE, baseline))
        if other
        for name, value in metrics.items()
        if other["metrics"].get(name)
    }
    return {
        "solution_version_arn": version_arn,
        "metrics": metrics,
        **compared,
        "training_hours": described.get("trainingHours"),
        "previous": previous,
        "baseline": baseline,
    }


def _measured(hook: PersonalizeHook, version_arn: str | None) -> dict[str, Any] | None:
    if version_arn is None:
        return None
    return {"solution_version_arn": version_arn, "metrics": hook.metrics_of(version_arn)}


def _version_before(
    hook: PersonalizeHook, version_arn: str, pass_tags: Mapping[str, str] | None, log: Logger
) -> str | None:
    versions = hook.versions_of(solution_arn_of(version_arn))
    place = next((n for n, version in enumerate(versions) if version.arn == version_arn), len(versions))
    older = [version for version in versions[place + 1 :] if version.state is State.SUCCEEDED]
    passed = hook.first_with_tags(older, pass_tags) if pass_tags else None
    found = passed or next(iter(older), None)
    if found is None:
        log.info("There is no version before to compare with.")
        return None
    log.info("Comparing with the version before%s: %s", " that has passed" if passed else "", found.arn)
    return found.arn


def judged(figures: Mapping[str, Any], checks: Checks, otherwise: str) -> list[Outcome]:
    """
    Return whether the figures of a version meet what is expected of them.

    :param figures: What :func:`measure` returns.
    :param checks: What is expected.
    :param otherwise: The state of a figure that does not meet it: ``failed`` or ``warned``.
    """
    there = ", ".join(sorted(figures["metrics"]))
    missing = {
        name: "the metric is missing, or 0 in what it is compared with"
        if name.endswith((TO_PREVIOUS, TO_BASELINE))
        else f"the metrics of this recipe are {there}"
        for name in checks
    }
    known = {**figures["metrics"], **{name: figures.get(name) for name in checks if name not in figures["metrics"]}}
    return outcomes(known, checks, otherwise, missing=missing, first=figures["previous"] is None)
