"""
Look for bytes that crash the parser, hang it, or make its ways of reading disagree.

    pip install atheris
    python tests/fuzz_output.py -max_total_time=600 [a folder of inputs to begin with and to keep more in]

The arguments are libFuzzer's. Each input is read by the plain, the fast and the streaming parser, whose rows and
rejects have to be the same.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parents[1]))

with atheris.instrument_imports(include=["airflow_provider_personalize.batch"]):
    from airflow_provider_personalize.exceptions import InvalidLineError
    from airflow_provider_personalize.output import blocks, giant
    from airflow_provider_personalize.output.reader import OutputReader
    from airflow_provider_personalize.output.rows import ROW_KINDS

GIANT, STEP = blocks.GIANT, giant.STEP
#: Lines to begin with, beside those of the folder.
SEEDS = [
    b'{"input":{"userId":"1"},"output":{"recommendedItems":["2","3"],"scores":[0.015,6.9e-3]},"error":null}',
    b'{"input": {"itemId": "1"}, "output": {"recommendedItems": ["2", "3"]}, }\n\n{"error": "x"}',
    b'{"input":{"userId":"1"}, "output": {"recommendedItems": ["2", "1"]}, {"scores": [0.0009785, null]}}',
    b'{"itemAttributes": "ITEMS.g = \\"C\\"", "output": {"recommendedUsers": ["\\u00e9", "\\ud83d\\ude00"]}}\r\n',
    b'\xef\xbb\xbf{"input":{"itemId":"4"},"output":{"recommendedItems":["3"],"theme":"t"}}',
]


def read(data: bytes, *, fast: bool, giant_from: int = GIANT, step: int = STEP) -> list[object]:
    """Read an object as each kind of rows, and return all that comes of it."""
    blocks.GIANT, giant.STEP = giant_from, step
    outcome: list[object] = []
    for kind in ROW_KINDS:
        places: list[tuple[int, int]] = []
        reader = OutputReader(
            kind, on_reject=lambda reject, places=places: places.append((reject.line, reject.byte_offset)), fast=fast
        )
        try:
            rows = [row for batch in reader.read("x", [data]) for row in batch.rows(kind.columns)]
        except InvalidLineError:
            outcome.append("damaged gzip")
            continue
        outcome.append((sorted(rows, key=repr), places, reader.lines, reader.rows))
    return outcome


def check(data: bytes) -> None:
    """Read an input in every way."""
    plain = read(data, fast=False)
    for other in (
        read(data, fast=True),
        read(data, fast=False, giant_from=1, step=24),
        read(data, fast=True, giant_from=1, step=24),
    ):
        if repr(other) != repr(plain):
            raise AssertionError(f"{data!r}:\n{plain}\n{other}")


def main() -> None:
    for seed in SEEDS:
        check(seed)
    atheris.Setup(sys.argv, check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
