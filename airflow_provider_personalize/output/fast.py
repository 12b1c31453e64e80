"""
A fast reader for lines of the form that the service was recorded to write. This module is pure.

It reads a line only if every field is known and of the expected form, and leaves all others to
:mod:`~airflow_provider_personalize.output.lines`, so both give the same rows. It makes no Python text of an id: the ids
of many lines stay side by side in one array of bytes, and only their places are computed.

It needs msgspec and numpy, which the extra ``fast`` installs, and is not used where one is missing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING, Any, overload

from airflow_provider_personalize.output.lines import BadLineError, check_ids, padded
from airflow_provider_personalize.output.rows import RELATED_ITEMS, USER_RECOMMENDATIONS, Batch, RowKind

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
        import msgspec
        import numpy

        self._np = numpy
        # Its decoding errors are ValueErrors from 0.21 on; constraint files of Airflow 2.11 may hold an older one.
        self._errors = (ValueError, RecursionError, msgspec.MsgspecError)
        strict: dict[str, Any] = {"forbid_unknown_fields": True, "gc": False}
        source = msgspec.defstruct(
            "Input",
            [
                ("entity", msgspec.Raw, msgspec.field(name=_ENTITY_KEYS[kind])),
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
        Decode the regular ones of some lines.

        :param data: The lines as they stand in the object.
        :param lines: The same, one by one, without those that are blank.
        :return: Their rows, and the indices of the lines that are left for the slower reader.
        """
        everything = Batch(), range(len(lines))
        left: list[int] = []
        try:
            # msgspec does not check the values that it skips.
            if not data.isascii():
                data.decode()
            records = list(map(self._line, lines))
        except UnicodeDecodeError:
            return everything
        except self._errors:
            records = []
            for index, line in enumerate(lines):
                try:
                    records.append(self._line(line))
                except self._errors:
                    left.append(index)
        try:
            return (self._unescape if b"\\" in data else self._columns)(records), left
        except (*self._errors, BadLineError):
            return everything

    def _unescape(self, records: list[Any]) -> Batch:
        """Return the batch of lines of which some have escapes."""
        entities = self._texts(b"[%b]" % b",".join(record.input.entity for record in records))
        lists = [self._texts(record.output.items) for record in records]
        items = list(chain.from_iterable(lists))
        check_ids([*entities, *items], "line")
        counts = list(map(len, lists))
        return self._batch(records, entities, counts, items)

    def _columns(self, records: list[Any]) -> Batch:
        """Return the batch of lines without escapes."""
        np = self._np
        data, starts, sizes = self._joined([record.input.entity for record in records])
        _expect(data[starts] == _QUOTE)
        entities = PackedTexts(data, starts + 1, sizes - 2)

        data, starts, sizes = self._joined([record.output.items for record in records])
        _expect(data[starts] == _BRACKET)
        quotes = np.flatnonzero(data == _QUOTE)
        begins, ends = quotes[::2], quotes[1::2]
        counts = np.diff(np.searchsorted(quotes, starts), append=len(quotes)) >> 1
        filled = np.flatnonzero(counts)
        firsts = (np.cumsum(counts) - counts)[filled]
        # msgspec has made sure that it is JSON. So a list is of texts only if, and only if, nothing stands in front of
        # its first text and behind its last, and a comma, with a space or not, between any two.
        _expect(sizes[counts == 0] == 2)
        _expect(begins[firsts] == starts[filled] + 1)
        _expect(ends[firsts + counts[filled] - 1] == (starts + sizes)[filled] - 2)
        alone = _only_commas(data, begins, ends)
        alone[firsts[1:] - 1] = True
        _expect(alone)
        items = PackedTexts(data, begins + 1, ends - begins - 1)
        return self._batch(records, entities, counts.tolist(), items)

    def _batch(self, records: list[Any], entities: Sequence[str], counts: list[int], items: Sequence[str]) -> Batch:
        return Batch(
            entities=entities,
            counts=counts,
            first_ranks=[1] * len(counts),
            themes=[None] * len(counts),
            items=items,
            scores=self._scores([record.output.scores for record in records], counts),
            relevances=[None] * len(items),
            filters=[record.input.filterValues for record in records],
        )

    def _scores(self, parts: list[Any], counts: list[int]) -> list[float | None]:
        """Return the scores of lines with so many items each."""
        np = self._np
        data, starts, sizes = self._joined(parts)
        listed = data[starts] == _BRACKET
        if not listed.all():
            texts = list(map(bytes, parts))
            _expect(np.array([text == b"null" for text in texts]) | listed)
            data, starts, sizes = self._joined([text if text != b"null" else b"[]" for text in texts])
        commas = np.searchsorted(np.flatnonzero(data == _COMMA), starts)
        given = (np.diff(commas, append=(data == _COMMA).sum()) + (sizes > 2)).tolist()
        scores: list[float | None] = self._numbers(self._one_list(data, starts, sizes))
        if len(scores) != sum(given):
            raise BadLineError("expected numbers only")
        if given == counts:
            return scores
        filled: list[float | None] = []
        start = 0
        for number, count in zip(given, counts, strict=True):
            filled += padded(scores[start : start + number], count, "scores")
            start += number
        return filled

    def _one_list(self, data: Any, starts: Any, sizes: Any) -> Any:
        """Join lists that stand side by side: commas replace the brackets that close them, spaces those that open."""
        ends = (starts + sizes)[sizes > 2] - 1
        if not len(ends):
            return b"[]"
        text = data.copy()
        text[starts] = text[starts + sizes - 1] = _SPACE
        text[ends] = _COMMA
        text[0], text[ends[-1]] = b"[]"
        return text

    def _joined(self, parts: list[Any]) -> tuple[Any, Any, Any]:
        """Return all parts in one array, with the place and the size of each."""
        np = self._np
        sizes = np.fromiter(map(len, parts), dtype=np.int64, count=len(parts))
        return np.frombuffer(b"".join(parts), dtype=np.uint8), np.cumsum(sizes) - sizes, sizes


def _only_commas(data: Any, begins: Any, ends: Any) -> Any:
    """Return for each text but the first whether only a comma, or a comma and a space, stands before it."""
    gaps = begins[1:] - ends[:-1]
    after = ends[:-1] + 1
    return (data[after] == _COMMA) & ((gaps == 2) | (gaps == 3) & (data[after + 1] == _SPACE))


def pack_texts(text: str) -> PackedTexts | None:
    """
    Return the texts of a piece of a JSON list, as ``"a","b", "c"``, where all are regular and have no escapes.

    :param text: The piece, without brackets, and without a comma at either end.
    :return: The texts; None where numpy is missing or anything is not regular, which JSON may be all the same.
    """
    try:
        import numpy as np
    except ImportError:
        return None
    data = np.frombuffer(text.encode(), dtype=np.uint8)
    quotes = np.flatnonzero(data == _QUOTE)
    begins, ends = quotes[::2], quotes[1::2]
    regular = (
        len(quotes)
        and len(begins) == len(ends)
        and quotes[0] == 0
        and quotes[-1] == len(data) - 1
        and "\\" not in text
        and not (data < _SPACE).any()
        and _only_commas(data, begins, ends).all()
    )
    return PackedTexts(data, begins + 1, ends - begins - 1) if regular else None


def _expect(conditions: Any) -> None:
    if not conditions.all():
        raise BadLineError("expected a regular line")


@lru_cache
def fast_decoder(kind: RowKind) -> FastDecoder | None:
    """Return the decoder for a kind; None without msgspec and numpy, and for a kind that has few lines."""
    if kind not in _ENTITY_KEYS:
        return None
    try:
        return FastDecoder(kind)
    except ImportError:
        return None
