"""The lines of a load that are rejected."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from typing import Self

from airflow_provider_personalize.output.rows import Reject

#: How many rejected lines an error shows, and how much of each one's text, in characters.
EXAMPLES, EXAMPLE_TEXT = 5, 200
#: The columns that keep a rejected line, with their types in this package's words.
REJECT_COLUMNS = {
    "source": "text",
    "object": "text",
    "line": "bigint",
    "byte_offset": "bigint",
    "reason": "text",
    "text": "text",
}


def example(reject: Reject) -> str:
    """Return a rejected line in words, cut short."""
    text = reject.text if len(reject.text) <= EXAMPLE_TEXT else f"{reject.text[:EXAMPLE_TEXT]}…"
    return f"{reject.object}, line {reject.line} (byte {reject.byte_offset}): {reject.reason}: {text}"


class Rejects:
    """
    The rejected lines: the first few at hand, all of them in a temporary file. A context manager.

    :param keep: Whether to keep all of them, or only the first few.
    """

    def __init__(self, *, keep: bool) -> None:
        self.examples: list[str] = []
        # __exit__() closes it.
        self._file = tempfile.TemporaryFile("w+", encoding="utf-8", prefix="personalize-") if keep else None  # noqa: SIM115

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._file:
            self._file.close()

    def add(self, reject: Reject) -> None:
        """Keep a line."""
        if len(self.examples) < EXAMPLES:
            self.examples.append(example(reject))
        if self._file:
            self._file.write(json.dumps(reject) + "\n")

    def __iter__(self) -> Iterator[Reject]:
        """Iterate over all lines that were kept, from the first."""
        if self._file:
            self._file.seek(0)
            for line in self._file:
                yield Reject(*json.loads(line))
