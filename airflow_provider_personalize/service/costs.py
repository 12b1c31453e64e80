"""
What a job is expected to cost: what was counted, multiplied by a price that the user gives.

This module is pure: it imports neither Airflow nor boto3. The package ships no price. AWS's prices differ by region and
change, and whether a batch job is billed by its lines or by its results is told differently in two places.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from airflow_provider_personalize.exceptions import InvalidRequestError

#: The section of Airflow's configuration that holds the prices.
SECTION = "personalize"
#: Results for each line where a request names no number: the service's default.
DEFAULT_NUM_RESULTS = 25
#: Bytes of a gigabyte, as prices for data mean it.
GIGABYTE = 1_000_000_000


@dataclass(frozen=True)
class Prices:
    """
    The user's prices, in whatever currency they are; None where no price was given, so that nothing is estimated.

    The fields are named as the options of Airflow's configuration are, without the ``price_``.

    :param per_1000_results: For 1,000 results of a batch job.
    :param per_training_hour: For one hour of training, as the service counts them (``trainingHours``).
    :param per_gb_imported: For 10⁹ bytes that are imported.
    """

    per_1000_results: float | None = None
    per_training_hour: float | None = None
    per_gb_imported: float | None = None

    def of_results(self, results: int) -> float | None:
        """Return what a batch job with so many results costs; None where there is no price."""
        return _times(self.per_1000_results, results / 1000)

    def of_training(self, hours: float) -> float | None:
        """Return what so many billed training hours cost; None where there is no price."""
        return _times(self.per_training_hour, hours)

    def of_import(self, size: int) -> float | None:
        """Return what the import of so many bytes costs; None where there is no price."""
        return _times(self.per_gb_imported, size / GIGABYTE)


def _times(price: float | None, amount: float) -> float | None:
    return None if price is None else round(price * amount, 6)


def read_prices(option: Callable[[str], str | None]) -> Prices:
    """
    Read the user's prices.

    :param option: Returns the text of an option of the section :data:`SECTION`, as ``price_per_1000_results``; None or
        an empty text where it is not set.
    :raises InvalidRequestError: if a price is not a number, zero or more.
    """
    found: dict[str, float] = {}
    for name in Prices.__dataclass_fields__:
        text = (option(f"price_{name}") or "").strip()
        if not text:
            continue
        try:
            price = float(text)
        except ValueError:
            price = -1.0
        if not (math.isfinite(price) and price >= 0):
            raise InvalidRequestError(
                f"[{SECTION}] price_{name}: expected a number, 0 or more, as 0.05, got {text!r}. Nothing is estimated."
            )
        found[name] = price
    return Prices(**found)


def written(amount: float) -> str:
    """Return an amount as a person would write it: two places, and more where it would be nothing otherwise."""
    return f"{amount:,.2f}" if amount >= 0.1 or not amount else f"{amount:.2g}"
