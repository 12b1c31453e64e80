"""What is expected of figures, and whether they keep to it. Pure."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from airflow_provider_personalize.arguments import is_settled, mapping
from airflow_provider_personalize.exceptions import InvalidRequestError

#: The figures that can be checked, and what is given for each to be known.
FIGURES: Mapping[str, str | None] = {
    "rows": None,
    "entities": None,
    "items": None,
    "min_results": None,
    "mean_results": None,
    "max_results": None,
    "top_item_share": None,
    "overlap": None,
    "entity_coverage": "input_sql",
    "catalog_coverage": "catalog_sql",
    "reject_rate": "loaded",
}
#: The words of Airflow's own SQL checks.
_CONDITIONS: Mapping[str, tuple[str, Callable[[float, float], bool]]] = {
    "equal_to": ("=", operator.eq),
    "greater_than": (">", operator.gt),
    "geq_to": ("≥", operator.ge),
    "less_than": ("<", operator.lt),
    "leq_to": ("≤", operator.le),
}
#: Figures between 0 and 1.
SHARES = frozenset({"top_item_share", "overlap", "entity_coverage", "catalog_coverage", "reject_rate"})


class Outcome(NamedTuple):
    """
    What one condition came to.

    :param figure: The figure, one of :data:`FIGURES`.
    :param expected: What was expected of it, in words.
    :param value: The figure's value; None where it is not known.
    :param state: ``passed``, ``warned``, ``failed``, or ``unknown``.
    """

    figure: str
    expected: str
    value: float | None
    state: str

    def __str__(self) -> str:
        got = "is not known" if self.value is None else f"is {in_words(self.figure, self.value)}"
        return f"{self.figure} {got}, expected {self.expected}"


def in_words(figure: str, value: float) -> str:
    """Write a figure's value: a share as a percentage."""
    if figure not in SHARES:
        return f"{value:,.1f}".removesuffix(".0")
    # So many digits that what is not all, or not nothing, does not look so.
    digits = 1 if 0.001 <= value <= 0.999 or value in {0, 1} else 4
    return f"{100 * value:.{digits}f} %"


Checks = Mapping[str, Mapping[str, float]]


def read_checks(parameter: str, checks: Mapping[str, Any] | None, given: Iterable[str]) -> Checks:
    """
    Make sure that checks can be made.

    :param parameter: What the checks are called.
    :param checks: ``{figure: {condition: number}}``.
    :param given: Which of the parameters that figures need are given.
    :raises InvalidRequestError: if one cannot.
    """
    read: dict[str, dict[str, float]] = {}
    for figure, given_conditions in (checks or {}).items():
        conditions = given_conditions
        if isinstance(conditions, str):
            conditions = mapping(f"{parameter}, {figure}", conditions)
        if figure not in FIGURES:
            raise InvalidRequestError(f"{parameter}: expected figures among {', '.join(FIGURES)}, got {figure!r}.")
        if (needed := FIGURES[figure]) and needed not in given:
            raise InvalidRequestError(f"{parameter}: {figure} is known only with {needed}: give it, too.")
        if not isinstance(conditions, Mapping) or not conditions or not set(conditions) <= set(_CONDITIONS):
            raise InvalidRequestError(
                f"{parameter}: expected conditions for {figure} such as {{'geq_to': 0.9}}, of "
                f"{', '.join(_CONDITIONS)}, got {conditions!r}."
            )
        try:
            read[figure] = {name: _number(number) for name, number in conditions.items()}
        except (TypeError, ValueError):
            raise InvalidRequestError(
                f"{parameter}: expected numbers to compare {figure} with, got {dict(conditions)!r}."
            ) from None
    return read


def settled_checks(checks: Mapping[str, Any] | None) -> dict[str, Any]:
    """Put a condition that says nothing in the place of each that a template has yet to give."""
    anything = {"geq_to": 0.0}
    return {
        figure: {name: number if is_settled(number) else 0.0 for name, number in conditions.items()}
        if isinstance(conditions, Mapping) and is_settled(conditions)
        else conditions
        if is_settled(conditions)
        else anything
        for figure, conditions in (checks or {}).items()
    }


def _number(value: Any) -> float:
    number = float(value)
    if isinstance(value, bool) or not math.isfinite(number):
        raise ValueError(value)
    return number


def outcomes(figures: Mapping[str, Any], checks: Checks, otherwise: str) -> list[Outcome]:
    """
    Compare figures with what is expected of them.

    :param figures: The values, None where one is not known.
    :param checks: What is expected.
    :param otherwise: The state of what does not keep to it: ``failed`` or ``warned``.
    """
    found = []
    for figure, conditions in checks.items():
        value = figures.get(figure)
        expected = " and ".join(f"{_CONDITIONS[name][0]} {in_words(figure, n)}" for name, n in conditions.items())
        kept = value is None or all(_CONDITIONS[name][1](value, number) for name, number in conditions.items())
        state = "unknown" if value is None else "passed" if kept else otherwise
        found.append(Outcome(figure, expected, value, state))
    return found
