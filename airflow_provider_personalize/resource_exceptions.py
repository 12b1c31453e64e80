"""
The error over a resource that is there already. :mod:`~airflow_provider_personalize.exceptions` has it too, with all
others.

This module is pure: it imports neither Airflow nor boto3.
"""

from __future__ import annotations

from typing import Any

from airflow_provider_personalize.error_base import PersonalizeError, clause, ending_in, see_runbook


class ResourceConflictError(PersonalizeError):
    """
    A resource stands where another one was asked for, and cannot stand in for it.

    :param kind: What kind of resource it is, in words, as ``dataset group``.
    :param name: Its name.
    :param arn: Its ARN.
    :param reason: Why it cannot be used, and what to do.
    :param differences: What differs: ``{field: (that resource's, the one asked for)}``.
    """

    may_pass = False
    kind: str
    name: str
    arn: str
    reason: str
    differences: dict[str, tuple[Any, Any]]

    def __init__(
        self, *, kind: str, name: str, arn: str, reason: str, differences: dict[str, tuple[Any, Any]] | None = None
    ) -> None:
        differences = differences or {}
        rows = "".join(
            f"\n  {field}: that one has {theirs!r}, this task asks for {ours!r}"
            for field, (theirs, ours) in sorted(differences.items())
        )
        message = (
            f"There is a {kind} {name!r} already, and {clause(reason)}.{rows}\n{see_runbook('ResourceConflictError')}"
        )
        super().__init__(
            ending_in(f"{message} The {kind}:", arn),
            kind=kind,
            name=name,
            arn=arn,
            reason=reason,
            differences=differences,
        )
