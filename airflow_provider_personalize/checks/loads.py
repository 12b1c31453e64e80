"""What loaders returned, added up. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from airflow_provider_personalize.exceptions import InvalidRequestError


@dataclass(frozen=True)
class Loads:
    """
    What one loader returned, or several together.

    :param lines: How many lines of output they have read.
    :param rejects: How many of those they have set apart.
    :param sources: The jobs that they have loaded; empty where one was not named by its ARN.
    """

    lines: int = 0
    rejects: int = 0
    sources: tuple[str, ...] = ()


def read_loads(loaded: Any) -> Loads:
    """
    Add up what loaders returned.

    :param loaded: What one has returned, or a list of that, as the output of a mapped loader is; or either as JSON, as
        a template renders it. None in a list stands for a loader that was skipped.
    :raises InvalidRequestError: if it is anything else.
    """
    if isinstance(loaded, str) and loaded.strip():
        try:
            loaded = json.loads(loaded)
        except ValueError:
            raise _unlike_loads(loaded) from None
    if not loaded:
        return Loads()
    if not isinstance(loaded, Mapping) and (isinstance(loaded, (str, bytes)) or not isinstance(loaded, Iterable)):
        raise _unlike_loads(loaded)
    each = [loaded] if isinstance(loaded, Mapping) else [one for one in loaded if one is not None]
    for one in each:
        counts = [one.get("lines"), one.get("rejects")] if isinstance(one, Mapping) else [None]
        if not all(isinstance(count, int) and count >= 0 for count in counts):
            raise _unlike_loads(one)
    sources = [one.get("job_arn") for one in each]
    return Loads(
        lines=sum(one["lines"] for one in each),
        rejects=sum(one["rejects"] for one in each),
        sources=tuple(map(str, sources)) if all(sources) else (),
    )


def _unlike_loads(value: Any) -> InvalidRequestError:
    return InvalidRequestError(
        "loaded: expected what the loader has returned, a dict with lines and rejects, or a list of those, got "
        f"{value!r}. Give it load.output."
    )
