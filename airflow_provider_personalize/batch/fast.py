"""
The fast way through lines that look as the service was recorded to write them. Pure.

It reads a line only if every field of it is known and of the expected type, and leaves any other to
:mod:`~airflow_provider_personalize.batch.lines`; so it can be faster without meaning anything else. It needs msgspec,
of the extra ``fast`` (Airflow 3 brings it along), and does nothing where that is missing.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from itertools import chain
from typing import Any

from airflow_provider_personalize.batch.lines import Line
from airflow_provider_personalize.batch.rows import RELATED_ITEMS, USER_RECOMMENDATIONS, Batch, RowKind

_ENTITY_KEYS = {USER_RECOMMENDATIONS: "userId", RELATED_ITEMS: "itemId"}


class FastDecoder:
    """
    Decode regular lines of one kind.

    :param kind: The kind.
    :param decode: A typed decoder, which raises ``ValueError`` for any other line.
    """

    def __init__(self, kind: RowKind, decode: Callable[[bytes], Any]) -> None:
        self._kind = kind
        self._decode = decode

    def batch(self, data: bytes, lines: list[bytes]) -> Batch | None:
        """
        Decode lines into a batch, or give None where one or more of them are not regular.

        :param data: The lines as they stand in the object.
        :param lines: The same, one by one.
        """
        if b"\\u0000" in data:
            return None
        try:
            records = list(map(self._decode, lines))
        except ValueError:
            return None
        items = [record.output.items for record in records]
        scores = [record.output.scores for record in records]
        counts = list(map(len, items))
        if [len(given) if given is not None else -1 for given in scores] != counts:
            scores = [
                given if given is not None and len(given) == count else _padded(given, count)
                for given, count in zip(scores, counts, strict=True)
            ]
            if None in scores:
                return None
        rows = sum(counts)
        return Batch(
            entities=[record.input.entity for record in records],
            counts=counts,
            first_ranks=[1] * len(counts),
            themes=[None] * len(counts),
            items=list(chain.from_iterable(items)),
            scores=list(chain.from_iterable(scores)),
            relevances=[None] * rows,
        )

    def line(self, raw: bytes) -> Line | None:
        """Decode one line, or give None where it is not regular."""
        if b"\\u0000" in raw:
            return None
        try:
            record = self._decode(raw)
        except ValueError:
            return None
        items = record.output.items
        scores = _padded(record.output.scores, len(items))
        if scores is None:
            return None
        return Line(self._kind, record.input.entity, items, scores, None, [None] * len(items))


def _padded(scores: list[float] | None, count: int) -> list[float | None] | None:
    """Fill up with None to as many as there are items; None where there are more."""
    given = scores or []
    return None if len(given) > count else [*given, *[None] * (count - len(given))]


@lru_cache
def fast_decoder(kind: RowKind) -> FastDecoder | None:
    """Give the decoder for a kind, or None where there is none: no msgspec, or a kind that has few lines anyway."""
    try:
        import msgspec  # noqa: PLC0415 (optional)
    except ImportError:
        return None
    if kind not in _ENTITY_KEYS:
        return None
    strict = {"forbid_unknown_fields": True, "gc": False}
    source = msgspec.defstruct(
        "Input",
        [
            ("entity", str, msgspec.field(name=_ENTITY_KEYS[kind])),
            ("itemList", list[str] | None, None),
            ("filterValues", dict[str, str] | None, None),
        ],
        **strict,
    )
    output = msgspec.defstruct(
        "Output",
        [
            ("items", list[str], msgspec.field(name="recommendedItems")),
            ("scores", list[float | None] | None, None),
        ],
        **strict,
    )
    line = msgspec.defstruct("Line", [("input", source), ("output", output), ("error", None, None)], **strict)
    return FastDecoder(kind, msgspec.json.Decoder(line).decode)
