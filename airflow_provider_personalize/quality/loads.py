"""What loaders returned, added up. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from airflow_provider_personalize.arguments import mapping_or_list, shown
from airflow_provider_personalize.exceptions import InvalidRequestError


class Loads(NamedTuple):
    """
    What one load has come to, or several together.

    :param lines: How many lines of output were read.
    :param rejects: How many of the lines were rejected.
    :param sources: The ARNs of the jobs that were loaded; empty where one was loaded by its ``output_uri``.
    """

    lines: int = 0
    rejects: int = 0
    sources: tuple[str, ...] = ()


def read_loaded(parameter: str, value: Any) -> list[Mapping[str, Any]] | None:
    """
    Return what a loader has returned as a list: of one, or of all that a mapped loader has returned; or None.

    :param parameter: The parameter's name, for errors.
    :param value: A dict, a list of dicts, or the text of one. None in a list stands for a loader that was skipped.
    :raises InvalidRequestError: if it is not what a loader returns.
    """
    found = mapping_or_list(parameter, value)
    if found is None:
        return None
    each = [one for one in ([found] if isinstance(found, Mapping) else found) if one is not None]
    for one in each:
        counts = [one.get("lines"), one.get("rejects")] if isinstance(one, Mapping) else [None]
        if not all(isinstance(count, int) and count >= 0 for count in counts):
            raise InvalidRequestError(
                f"{parameter}: expected what the loader has returned, a dict with lines and rejects, or a list of "
                f"those, got {shown(one)}. Give it load.output."
            )
    return each


def add_up(loads: Iterable[Mapping[str, Any]]) -> Loads:
    """Return the sum of what loaders have returned."""
    loads = list(loads)
    sources = [one.get("job_arn") for one in loads]
    return Loads(
        lines=sum(one["lines"] for one in loads),
        rejects=sum(one["rejects"] for one in loads),
        sources=tuple(map(str, sources)) if all(sources) else (),
    )
