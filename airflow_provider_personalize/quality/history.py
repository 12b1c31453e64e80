"""
How the figures of a slice came about: those of the slices before it, by their dates.

The database computes them anew from the rows that are still there, so nothing has to be kept beside the table. One
slice is looked at after the other, the newest first, and no further one once that has taken a while; each gives a few
rows, whatever its size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from time import monotonic
from typing import Any, NamedTuple

from airflow_provider_personalize.quality.figures import OutputTable, is_date
from airflow_provider_personalize.quality.slices import Overlap, Slice

#: The most slices of a trend, the one that is judged among them.
SLICES = 10
#: After so many seconds, no further slice is read.
SECONDS = 30.0


class Moment(NamedTuple):
    """
    One slice of a trend.

    :param label: Its date, as the table has it.
    :param figures: Its figures, by their names; None where one is not known.
    """

    label: str
    figures: Mapping[str, float | None]


class History(NamedTuple):
    """
    The last slices of a table.

    :param moments: The slices, the oldest first, the one that is judged last; fewer than two are no trend.
    :param column: The column that tells them apart.
    :param is_cut: Whether some of the last ten were left out, since to read them would have taken too long.
    """

    moments: Sequence[Moment] = ()
    column: str = ""
    is_cut: bool = False


def read_history(
    table: OutputTable,
    now: Slice,
    before: Slice | None,
    overlap: Overlap | None,
    *,
    seconds: float = SECONDS,
) -> History:
    """
    Return the figures of the last ten slices, where exactly one value of the slice that is judged is a date.

    :param table: The table.
    :param now: The slice that is judged.
    :param before: The slice that it is compared with, if any.
    :param overlap: How both overlap.
    :param seconds: For how long to look at earlier slices.
    """
    dated = [name for name, value in now.values.items() if is_date(value)]
    if len(dated) != 1 or not now.rows:
        return History()
    [column] = dated
    beside = {name: value for name, value in now.values.items() if name != column}
    dates = table.values_before(column, now.values[column], beside, SLICES)
    # The eleventh is read only for the overlap of the tenth with it.
    slices = [now.values, *({**beside, column: date} for date in dates), None]
    until = monotonic() + seconds
    moments: list[Moment] = []
    for values, earlier in list(pairwise(slices))[:SLICES]:
        if moments and monotonic() > until:
            break
        assert values is not None  # noqa: S101 (only the last is)
        known = next((one for one in (now, before) if one is not None and one.values == values), None)
        is_known = values is now.values and before is not None and before.values == earlier
        shared = overlap if is_known else table.overlap(values, earlier) if earlier else None
        moments.insert(0, _moment(column, known or table.slice(values), shared))
    return History(moments, column, is_cut=len(moments) < min(len(dates) + 1, SLICES))


def _moment(column: str, one: Slice, shared: Overlap | None) -> Moment:
    figures: dict[str, Any] = {**one.figures, "overlap": shared.mean if shared else None}
    return Moment(
        str(one.values[column]),
        {name: figures[name] for name in ("rows", "entities", "items", "mean_results", "top_item_share", "overlap")},
    )
