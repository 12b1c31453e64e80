"""
Problems of a job's request and input, collected to be reported all together.

This module is pure: it imports neither Airflow nor boto3.
"""

from __future__ import annotations

from typing import NamedTuple

from airflow_provider_personalize.exceptions import InvalidRequestError


class Problem(NamedTuple):
    """
    One thing that is wrong, or a warning.

    :param location: Where: an object's URI and the line's number, or a parameter.
    :param reason: What was expected, what came, and what to do.
    """

    location: str
    reason: str

    def __str__(self) -> str:
        return f"{self.location}: {self.reason}"


class Problems:
    """
    Problems and warnings.

    :param max_shown: How many problems are kept; all are counted.
    """

    def __init__(self, max_shown: int = 20) -> None:
        self.max_shown = max_shown
        #: The first problems.
        self.problems: list[Problem] = []
        #: What the service may accept, but hardly anybody intends; one of a kind.
        self.warnings: list[Problem] = []
        #: The number of all problems.
        self.count = 0

    def add(self, location: str, reason: str) -> None:
        """Count a problem, and keep it if it is among the first."""
        self.count += 1
        if self.count <= self.max_shown:
            self.problems.append(Problem(location, reason))

    def warn(self, location: str, reason: str) -> None:
        """Keep a warning."""
        self.warnings.append(Problem(location, reason))

    def raise_for_problems(self) -> None:
        """
        Raise an error if there are problems.

        :raises InvalidRequestError: with the problems that were kept, and the number of all.
        """
        if not self.count:
            return
        shown = "\n".join(f"  {problem}" for problem in self.problems)
        more = f"\n  … and {self.count - len(self.problems):,} more" if self.count > len(self.problems) else ""
        raise InvalidRequestError(
            f"Found {self.count:,} problem{'s' if self.count > 1 else ''} in the job's request and input; nothing was "
            f"submitted:\n{shown}{more}",
            problems=list(self.problems),
            count=self.count,
        )
