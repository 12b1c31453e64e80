"""A real Airflow, with its scheduler, triggerer, dag-processor and workers, and everything around it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from example_dags.demo.stack import Stack


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The stack that ``make demo`` runs on, for one module's tests; its jobs take 6 seconds."""
    from example_dags.demo.stack import Stack

    with Stack(tmp_path_factory.mktemp("stack"), job_seconds=6) as stack:
        yield stack
