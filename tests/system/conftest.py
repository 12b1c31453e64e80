"""A real Airflow, with its scheduler, triggerer, dag-processor and workers, and everything around it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from example_dags.demo.stack import Stack


@pytest.fixture(scope="module")
def state() -> Iterator[Path]:
    """A folder that other users may enter, as PostgreSQL's does where we are root; pytest shuts its own to them."""
    folder = Path(tempfile.mkdtemp(prefix="stack-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def stack(state: Path) -> Iterator[Stack]:
    """The stack that ``make demo`` runs on, for one module's tests; its jobs take 6 seconds."""
    from example_dags.demo.stack import Stack

    with Stack(state, job_seconds=6) as stack:
        yield stack
