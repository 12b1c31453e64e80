"""What is expected of figures, and whether they keep to it. Pure."""

from __future__ import annotations

import json
import math
import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

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
#: Conditions that nothing at all does not keep to, unless they say 0 themselves.
_FROM_BELOW = frozenset({"equal_to", "greater_than", "geq_to"})


class Outcome(NamedTuple):
    """
    What one condition came to.

    :param figure: The figure, one of :data:`FIGURES`.
    :param expected: What was expected of it, in words.
    :param value: The figure's value; None where it is not known.
    :param state: ``passed``, ``warned``, ``failed``, or ``unknown``.
    :param reason: Why there was nothing to look at, where there was nothing.
    """

    figure: str
    expected: str
    value: float | None
    state: str
    reason: str = ""

    def __str__(self) -> str:
        got = "is not known" if self.value is None else f"is {in_words(self.figure, self.value)}"
        return f"{self.figure} {got}, expected {self.expected}{self.reason and f' ({self.reason})'}"


def in_words(figure: str, value: float) -> str:
    """Write a figure's value: a share as a percentage."""
    if figure not in SHARES:
        return f"{value:,.1f}".removesuffix(".0")
    # So many digits that what is not all, or not nothing, does not look so.
    digits = 1 if 0.001 <= value <= 0.999 or value in {0, 1} else 4
    return f"{100 * value:.{digits}f} %"


Checks = Mapping[str, Mapping[str, float]]


def read_checks(parameter: str, checks: Any, given: Iterable[str]) -> Checks:
    """
    Return the checks with their numbers read, and refuse what cannot be checked.

    A template that is not rendered yet, a name or a number, is left out.

    :param parameter: What the checks are called.
    :param checks: ``{figure: {condition: number}}``, or that as JSON, as a template of the whole renders it.
    :param given: Which of the parameters that figures need are given.
    :raises InvalidRequestError: if one cannot be checked.
    """
    if isinstance(checks, str) and checks.strip() and not is_template(checks):
        try:
            checks = json.loads(checks)
        except ValueError:
            raise _unlike_checks(parameter, checks) from None
    if not checks or is_template(checks):
        return {}
    if not isinstance(checks, Mapping):
        raise _unlike_checks(parameter, checks)
    read: dict[str, dict[str, float]] = {}
    for figure, conditions in checks.items():
        if is_template(figure) or is_template(conditions):
            continue
        if figure not in FIGURES:
            raise InvalidRequestError(f"{parameter}: expected figures among {', '.join(FIGURES)}, got {figure!r}.")
        if (needed := FIGURES[figure]) and needed not in given:
            raise InvalidRequestError(f"{parameter}: {figure} is known only with {needed}: give it, too.")
        if not isinstance(conditions, Mapping) or not conditions or not _are_conditions(conditions):
            raise InvalidRequestError(
                f"{parameter}: expected conditions for {figure} such as {{'geq_to': 0.9}}, of "
                f"{', '.join(_CONDITIONS)}, got {conditions!r}."
            )
        read[figure] = {
            name: _number(parameter, figure, name, number)
            for name, number in conditions.items()
            if not is_template(name) and not is_template(number)
        }
    return read


def is_template(value: Any) -> bool:
    """Tell whether a value is known only when the task runs: a Jinja template, or another task's XCom."""
    return ("{{" in value or "{%" in value) if isinstance(value, str) else hasattr(value, "iter_references")


def _are_conditions(names: Iterable[Any]) -> bool:
    return all(is_template(name) or name in _CONDITIONS for name in names)


def _number(parameter: str, figure: str, condition: str, value: Any) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise InvalidRequestError(
            f"{parameter}: expected numbers to compare {figure} with, got {{{condition!r}: {value!r}}}."
        )
    if figure in SHARES and not 0 <= number <= 1:
        raise InvalidRequestError(
            f"{parameter}: {figure} is a share: expected a number from 0 to 1 to compare it with, got "
            f"{{{condition!r}: {value!r}}}. 95 % is 0.95."
        )
    return number


def _unlike_checks(parameter: str, value: Any) -> InvalidRequestError:
    return InvalidRequestError(
        f"{parameter}: expected a dict of figures and conditions, such as {{'entity_coverage': {{'geq_to': 0.95}}}}, "
        f"got {value!r}."
    )


def outcomes(
    figures: Mapping[str, Any],
    checks: Checks,
    otherwise: str,
    *,
    missing: Mapping[str, str],
    nothing: str = "",
    first: bool = False,
) -> list[Outcome]:
    """
    Compare figures with what is expected of them.

    A figure that is not known, for want of something to look at, is not what was expected. Only where there is no
    slice before, what compares with it is passed over.

    :param figures: The values, None where one is not known.
    :param checks: What is expected.
    :param otherwise: The state of what does not keep to it: ``failed`` or ``warned``.
    :param missing: Why figures are not known.
    :param nothing: Why there are no rows at all, where there are none. No upper bound holds for nothing.
    :param first: Whether there is no slice before.
    """
    found = []
    for figure, conditions in checks.items():
        value = figures.get(figure)
        expected = " and ".join(f"{_CONDITIONS[name][0]} {in_words(figure, n)}" for name, n in conditions.items())
        kept = value is not None and all(_CONDITIONS[name][1](value, number) for name, number in conditions.items())
        if nothing and not _FROM_BELOW & set(conditions):
            kept = False
        excused = figure == "overlap" and first and not nothing
        state = "passed" if kept else "unknown" if excused else otherwise
        reason = nothing or (missing.get(figure, "") if value is None else "")
        found.append(Outcome(figure, expected, value, state, reason if state == otherwise else ""))
    return found
