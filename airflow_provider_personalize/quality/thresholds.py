"""What is expected of figures, those of output and those of models, and whether they meet it. Pure."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from airflow_provider_personalize.arguments import is_settled, mapping, shown
from airflow_provider_personalize.exceptions import InvalidRequestError

#: The figures that can be checked, each with the parameter that it is computed from, if any.
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
#: Why a figure of output is not known, where it is not.
NOT_KNOWN: Mapping[str, str] = {
    "entity_coverage": "input_sql gives no ids",
    "catalog_coverage": "catalog_sql gives no ids",
    "reject_rate": "what was loaded has no lines",
    "overlap": "the slice before has none of the same entities",
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
#: What a metric's name ends in where it is a model's metric divided by that of the version before, or of the baseline.
TO_PREVIOUS, TO_BASELINE = "_to_previous", "_to_baseline"
_METRIC = re.compile(r"[a-z][a-z0-9_]*", re.ASCII)
#: Conditions that a slice without rows does not meet, unless they are about 0.
_FROM_BELOW = frozenset({"equal_to", "greater_than", "geq_to"})


class Outcome(NamedTuple):
    """
    Whether a figure met what was expected of it.

    :param figure: The figure, one of :data:`FIGURES`.
    :param expected: What was expected of it, in words.
    :param value: The figure's value; None where it is not known.
    :param state: ``passed``, ``warned``, ``failed``, or ``unknown``.
    :param reason: Why the figure is not known or there are no rows, if so.
    """

    figure: str
    expected: str
    value: float | None
    state: str
    reason: str = ""

    def __str__(self) -> str:
        got = "is not known" if self.value is None else f"is {format_figure(self.figure, self.value)}"
        return f"{self.figure} {got}, expected {self.expected}{self.reason and f' ({self.reason})'}"


def format_figure(figure: str, value: float) -> str:
    """Return a figure's value for people: a share as a percentage."""
    if figure not in FIGURES:
        # A model's metric, of which the digits behind the point are what tells two models apart.
        return f"{value:.4f}".rstrip("0").rstrip(".")
    if figure not in SHARES:
        return f"{value:,.1f}".removesuffix(".0")
    # With so many digits that 99.99 % does not look like 100 %, nor 0.01 % like none.
    digits = 1 if 0.001 <= value <= 0.999 or value in {0, 1} else 4
    return f"{100 * value:.{digits}f} %"


Checks = Mapping[str, Mapping[str, float]]


def read_checks(parameter: str, value: Any) -> Checks:
    """
    Return checks, ``{figure: {condition: number}}``, or the text of that, as numbers. Templates are left out.

    :param parameter: The parameter's name, for errors.
    :param value: The parameter's value.
    :raises InvalidRequestError: if it is not a dict of checks.
    """
    return _read(parameter, value, lambda figure: figure in FIGURES, f"figures among {', '.join(FIGURES)}")


def read_metric_checks(parameter: str, value: Any) -> Checks:
    """
    Return checks of a model's metrics, ``{metric: {condition: number}}``, or the text of that, as numbers.

    Which metrics there are depends on the recipe, so only the form of a name is checked.

    :param parameter: The parameter's name, for errors.
    :param value: The parameter's value.
    :raises InvalidRequestError: if it is not a dict of checks.
    """
    expected = "the names of metrics, as coverage or precision_at_10_to_previous"
    return _read(parameter, value, lambda name: bool(_METRIC.fullmatch(name)), expected)


def _read(parameter: str, value: Any, is_known: Callable[[str], bool], expected: str) -> Checks:
    read: dict[str, dict[str, float]] = {}
    for figure, conditions in (mapping(parameter, value) or {}).items():
        if not is_settled(figure) or not is_settled(conditions):
            continue
        if not is_known(figure):
            raise InvalidRequestError(f"{parameter}: expected {expected}, got {figure!r}.")
        if not isinstance(conditions, Mapping) or not conditions or not set(conditions) <= set(_CONDITIONS):
            raise InvalidRequestError(
                f"{parameter}: expected conditions for {figure} such as {{'geq_to': 0.9}}, of "
                f"{', '.join(_CONDITIONS)}, got {shown(conditions)}."
            )
        read[figure] = {
            name: _number(parameter, figure, name, number) for name, number in conditions.items() if is_settled(number)
        }
    return read


def not_known(parameter: str, checks: Checks, known: Mapping[str, Any]) -> Iterator[str]:
    """
    Yield an error for each check whose figure cannot be computed without a parameter that is not given.

    :param parameter: The parameter's name, for errors.
    :param checks: The checks.
    :param known: The arguments whose value is known.
    """
    for figure in checks:
        needed = FIGURES[figure]
        if needed and needed in known and known[needed] is None:
            yield f"{parameter}: {figure} is known only with {needed}: give it, too."


def _number(parameter: str, figure: str, condition: str, value: Any) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise InvalidRequestError(
            f"{parameter}: expected numbers to compare {figure} with, got {{{condition!r}: {shown(value)}}}."
        )
    if figure in SHARES and not 0 <= number <= 1:
        raise InvalidRequestError(
            f"{parameter}: {figure} is a share: expected a number from 0 to 1 to compare it with, got "
            f"{{{condition!r}: {value!r}}}. 95 % is 0.95."
        )
    return number


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
    Return whether figures meet what is expected of them.

    A figure that is not known does not meet what is expected of it. Only a comparison with what was before is excused,
    where there was nothing.

    :param figures: The figures' values, None where one is not known.
    :param checks: What is expected.
    :param otherwise: The state of a figure that does not meet it: ``failed`` or ``warned``.
    :param missing: Why figures are not known.
    :param nothing: Why there are no rows, as the reason of what fails; empty where there are some. Without rows, not
        even an upper bound is met.
    :param first: Whether there is no slice, or no version, before.
    """
    found = []
    for figure, conditions in checks.items():
        value = figures.get(figure)
        expected = " and ".join(f"{_CONDITIONS[name][0]} {format_figure(figure, n)}" for name, n in conditions.items())
        kept = value is not None and all(_CONDITIONS[name][1](value, number) for name, number in conditions.items())
        if nothing and not _FROM_BELOW & set(conditions):
            kept = False
        excused = (figure == "overlap" or figure.endswith(TO_PREVIOUS)) and first and not nothing
        state = "passed" if kept else "unknown" if excused else otherwise
        reason = nothing or (missing.get(figure, "") if value is None else "")
        found.append(Outcome(figure, expected, value, state, reason if state == otherwise else ""))
    return found
