"""
The fast way through lines that look as the service was recorded to write them. Pure.

It reads a line only if every field of it is known and of the expected form, and leaves any other to
:mod:`~airflow_provider_personalize.batch.lines`; so it can be faster without meaning anything else. Ids stay the bytes
that they are in the object, side by side, and nothing is made of them but their places, for many lines at once.

It needs msgspec and numpy, of the extra ``fast``, and does nothing where one is missing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING, Any, overload

from airflow_provider_personalize.batch.lines import BadLineError, check_ids
from airflow_provider_personalize.batch.rows import RELATED_ITEMS, USER_RECOMMENDATIONS, Batch, RowKind

if TYPE_CHECKING:
    import numpy as np

_ENTITY_KEYS = {USER_RECOMMENDATIONS: "userId", RELATED_ITEMS: "itemId"}
_BRACKET, _QUOTE, _COMMA, _SPACE = b'[", '


class PackedTexts(Sequence[str]):
    """
    Texts that lie in one piece of UTF-8, each at its place.

    :param data: The bytes.
    :param starts: Where each text begins.
    :param sizes: How many bytes it has.
    """

    __slots__ = ("data", "sizes", "starts")

    def __init__(self, data: np.ndarray[Any, Any], starts: np.ndarray[Any, Any], sizes: np.ndarray[Any, Any]) -> None:
        self.data = data
        self.starts = starts
        self.sizes = sizes

    def __len__(self) -> int:
        return len(self.starts)

    def __iter__(self) -> Iterator[str]:
        data = self.data.tobytes()
        for start, end in zip(self.starts.tolist(), (self.starts + self.sizes).tolist(), strict=True):
            yield data[start:end].decode()

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> PackedTexts: ...
    def __getitem__(self, index: int | slice) -> str | PackedTexts:
        if isinstance(index, slice):
            return PackedTexts(self.data, self.starts[index], self.sizes[index])
        start = self.starts[index]
        return bytes(self.data[start : start + self.sizes[index]]).decode()


class FastDecoder:
    """
    Decode regular lines of one kind.

    :param kind: The kind: user recommendations or related items.
    """

    def __init__(self, kind: RowKind) -> None:
        import msgspec  # noqa: PLC0415 (optional)
        import numpy  # noqa: PLC0415 (optional)

        self._np = numpy
        strict: dict[str, Any] = {"forbid_unknown_fields": True, "gc": False}
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
                ("items", msgspec.Raw, msgspec.field(name="recommendedItems")),
                ("scores", msgspec.Raw, msgspec.Raw(b"null")),
            ],
            **strict,
        )
        line = msgspec.defstruct("Line", [("input", source), ("output", output), ("error", None, None)], **strict)
        self._line = msgspec.json.Decoder(line).decode
        self._texts = msgspec.json.Decoder(list[str]).decode
        self._numbers = msgspec.json.Decoder(list[float | None]).decode

    def batch(self, data: bytes, lines: Sequence[bytes]) -> tuple[Batch, Sequence[int]]:
        """
        Decode what is regular.

        :param data: The lines as they stand in the object.
        :param lines: The same, one by one.
        :return: Their rows, and the indices of the lines that are left for a closer look.
        """
        everything = Batch(), range(len(lines))
        left: list[int] = []
        try:
            # msgspec does not look into what it passes over.
            if not data.isascii():
                data.decode()
            records = list(map(self._line, lines))
        except UnicodeDecodeError:
            return everything
        except ValueError:
            records = []
            for index, line in enumerate(lines):
                try:
                    records.append(self._line(line))
                except ValueError:
                    left.append(index)
        try:
            return self._columns(records, escaped=b"\\" in data), left
        except (ValueError, BadLineError):
            return everything

    def _columns(self, records: list[Any], *, escaped: bool) -> Batch:
        parts = [bytes(record.output.items) for record in records]
        if any(part[0] != _BRACKET for part in parts):
            raise BadLineError("expected lists")
        parts = [part[1:-1] for part in parts]
        items: Sequence[str]
        if escaped:
            lists = [self._texts(b"[%b]" % part) for part in parts]
            counts = list(map(len, lists))
            items = list(chain.from_iterable(lists))
            entities = [record.input.entity for record in records]
            check_ids([*items, *entities], "output")
        else:
            counts = [part.count(b'"') >> 1 for part in parts]
            items = self._packed(b",".join(filter(None, parts)))
            entities = [record.input.entity for record in records]
        return Batch(
            entities=entities,
            counts=counts,
            first_ranks=[1] * len(counts),
            themes=[None] * len(counts),
            items=items,
            scores=self._scores([bytes(record.output.scores) for record in records], counts),
            relevances=[None] * len(items),
        )

    def _packed(self, text: bytes) -> PackedTexts:
        """Find the strings in ``"a","b", "c"``, which is known to be JSON and to have no escapes."""
        np = self._np
        data = np.frombuffer(text, dtype=np.uint8)
        quotes = np.flatnonzero(data == _QUOTE)
        begins, ends = quotes[::2], quotes[1::2]
        if len(data):
            gaps = begins[1:] - ends[:-1]
            after = ends[:-1] + 1
            wide = after[gaps != 2]
            regular = (
                len(quotes)
                and quotes[0] == 0
                and quotes[-1] == len(data) - 1
                and (data[after] == _COMMA).all()
                and (gaps <= 3).all()
                and (data[wide + 1] == _SPACE).all()
            )
            if not regular:
                raise BadLineError("expected texts and commas")
        return PackedTexts(data, begins + 1, ends - begins - 1)

    def _scores(self, parts: list[bytes], counts: list[int]) -> list[float | None]:
        """Read the scores of lines with so many items each."""
        inner = [part[1:-1] if part[0] == _BRACKET else b"" for part in parts]
        if any(part[0] != _BRACKET and part != b"null" for part in parts):
            raise BadLineError("expected lists")
        given = [part.count(b",") + 1 if part else 0 for part in inner]
        scores: list[float | None] = self._numbers(b"[%b]" % b",".join(filter(None, inner)))
        if len(scores) != sum(given):
            raise BadLineError("expected numbers only")
        if given == counts:
            return scores
        if any(number > count for number, count in zip(given, counts, strict=True)):
            raise BadLineError("expected no more scores than items")
        padded: list[float | None] = []
        start = 0
        for number, count in zip(given, counts, strict=True):
            padded += scores[start : start + number]
            padded += [None] * (count - number)
            start += number
        return padded


@lru_cache
def fast_decoder(kind: RowKind) -> FastDecoder | None:
    """Give the decoder for a kind, or None: without msgspec and numpy, or for a kind that has few lines anyway."""
    if kind not in _ENTITY_KEYS:
        return None
    try:
        return FastDecoder(kind)
    except ImportError:
        return None
