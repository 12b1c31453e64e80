"""A line that is too long for memory, read in pieces from a file. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO

from airflow_provider_personalize.batch.lines import Line, read_line


def read_giant(file: IO[bytes]) -> Iterator[Line]:
    file.seek(0)
    yield read_line(file.read())
