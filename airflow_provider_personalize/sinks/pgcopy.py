"""
Rows in PostgreSQL's binary COPY format.

The format is that of PostgreSQL's manual, "COPY, Binary Format": a header, then each row as its number of fields, then
each field as its length (-1 for NULL) and its bytes. The order of fields is ours to choose, and puts first what a
line's rows share, last the item, between them what has a fixed size; so numpy places each part of many rows in a few
calls. Without numpy (of the extra ``fast``) the same bytes are made one by one.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from airflow_provider_personalize.batch.fast import PackedTexts
from airflow_provider_personalize.batch.rows import Batch, Column

if TYPE_CHECKING:
    import numpy as np

HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = b"\xff\xff"
NULL = b"\xff\xff\xff\xff"
#: How many rows are encoded at once.
ENCODED_ROWS = 1 << 16

#: Formats of what has a fixed size, by the type's name in ``pg_type``, for :mod:`struct` and numpy alike.
FIXED = {"int2": "h", "int4": "i", "int8": "q", "float4": "f", "float8": "d"}
#: Types whose binary form is their text.
TEXTS = frozenset({"text", "varchar", "bpchar"})

_ORDER = ("entity", "theme", "rank", "score", "relevance", "item")


def copy_order(columns: Iterable[Column]) -> list[Column]:
    """Give the columns in the order in which their fields are written, after those of constants."""
    return sorted(columns, key=lambda column: _ORDER.index(column.role))


def field(value: bytes | None) -> bytes:
    """Write one field."""
    return NULL if value is None else struct.pack(">i", len(value)) + value


class RowEncoder:
    """
    Encode batches.

    :param columns: The columns, in :func:`copy_order`.
    :param types: The target's type of each, as ``pg_type`` names it: one of :data:`TEXTS` or :data:`FIXED`.
    :param constants: The same fields for every row, in front of the others; in binary, None for NULL.
    :param fast: Whether to use numpy where it is installed.
    """

    def __init__(
        self, columns: Sequence[Column], types: Sequence[str], constants: Sequence[bytes | None] = (), *, fast: bool = True
    ) -> None:
        self._roles = {column.role: kind for column, kind in zip(columns, types, strict=True)}
        self._head = struct.pack(">h", len(columns) + len(constants)) + b"".join(map(field, constants))
        self._encode: Callable[[Batch], bytes | memoryview] = self._one_by_one
        if fast and "item" in self._roles:
            try:
                import numpy  # noqa: PLC0415 (optional)
            except ImportError:
                return
            self._np = numpy
            self._encode = self._at_once

    def __call__(self, batches: Iterable[Batch]) -> Iterator[bytes | memoryview]:
        """Give the whole COPY stream, header and trailer included."""
        yield HEADER
        for batch in batches:
            for piece in batch.pieces(ENCODED_ROWS):
                if piece.items:
                    yield self._encode(piece)
        yield TRAILER

    def _prefixes(self, batch: Batch) -> list[bytes]:
        """Give what begins each row of each line: what all rows share, and what those of the line share."""
        head = self._head
        if "entity" in self._roles:
            lines = [head + field(None if entity is None else entity.encode()) for entity in batch.entities]
        else:
            lines = [head] * len(batch.entities)
        if "theme" in self._roles:
            return [
                line + field(None if theme is None else theme.encode())
                for line, theme in zip(lines, batch.themes, strict=True)
            ]
        return lines

    def _doubles(self, batch: Batch) -> list[tuple[str, Sequence[float | None]]]:
        given = {"score": batch.scores, "relevance": batch.relevances}
        return [(FIXED[self._roles[role]], values) for role, values in given.items() if role in self._roles]

    def _one_by_one(self, batch: Batch) -> bytes:
        parts: list[bytes] = []
        rank = struct.Struct(f">i{FIXED[self._roles['rank']]}") if "rank" in self._roles else None
        doubles = [(struct.Struct(f">i{code}"), values) for code, values in self._doubles(batch)]
        row = 0
        for prefix, count, first in zip(self._prefixes(batch), batch.counts, batch.first_ranks, strict=True):
            for number in range(first, first + count):
                parts.append(prefix)
                if rank:
                    parts.append(rank.pack(rank.size - 4, number))
                for packer, values in doubles:
                    value = values[row]
                    parts.append(NULL if value is None else packer.pack(packer.size - 4, value))
                if "item" in self._roles:
                    parts.append(field(batch.items[row].encode()))
                row += 1
        return b"".join(parts)

    def _at_once(self, batch: Batch) -> memoryview:
        np = self._np
        rows = len(batch.items)
        counts = np.array(batch.counts)
        line = np.repeat(np.arange(len(counts)), counts)
        prefixes, prefix_sizes = _joined(np, self._prefixes(batch))
        prefix_starts = (np.cumsum(prefix_sizes) - prefix_sizes)[line]
        prefix_sizes = prefix_sizes[line]
        items, item_starts, item_sizes = _encoded(np, batch.items)

        # Between prefix and item: fields of a fixed size, but for NULLs, so one layout for each pattern of NULLs.
        doubles = [(code, _numbers(np, values)) for code, values in self._doubles(batch)]
        pattern = np.zeros(rows, dtype=np.int8)
        for bit, (_, values) in enumerate(doubles):
            pattern |= np.isnan(values).astype(np.int8) << bit
        layouts = [self._layout(doubles, number) for number in range(1 << len(doubles))]
        fixed_sizes = np.array([layout.itemsize for layout in layouts])[pattern]

        sizes = prefix_sizes + fixed_sizes + item_sizes
        starts = np.cumsum(sizes) - sizes
        out = np.empty(int(sizes.sum()), dtype=np.uint8)
        _place(np, out, starts, prefixes, prefix_starts, prefix_sizes)
        _place(np, out, starts + prefix_sizes + fixed_sizes, items, item_starts, item_sizes)
        ranks = np.arange(rows) - (np.cumsum(counts) - counts - np.array(batch.first_ranks))[line]
        for number, layout in enumerate(layouts):
            chosen = np.flatnonzero(pattern == number)
            if not len(chosen):
                continue
            block = np.empty(len(chosen), dtype=layout)
            if "rank" in self._roles:
                block["rank_size"] = layout["rank"].itemsize
                block["rank"] = ranks[chosen]
            for bit, (_, values) in enumerate(doubles):
                if number >> bit & 1:
                    block[f"size{bit}"] = -1
                else:
                    block[f"size{bit}"] = layout[f"value{bit}"].itemsize
                    block[f"value{bit}"] = values[chosen]
            block["item_size"] = item_sizes[chosen]
            target = _window(np, out, layout.itemsize)
            target[(starts + prefix_sizes)[chosen]] = block.view(target.dtype)
        return memoryview(out)

    def _layout(self, doubles: list[tuple[str, Any]], pattern: int) -> np.dtype[Any]:
        fields = []
        if "rank" in self._roles:
            fields += [("rank_size", ">i4"), ("rank", ">" + FIXED[self._roles["rank"]])]
        for bit, (code, _) in enumerate(doubles):
            fields.append((f"size{bit}", ">i4"))
            if not pattern >> bit & 1:
                fields.append((f"value{bit}", ">" + code))
        return self._np.dtype([*fields, ("item_size", ">i4")])


def _joined(np: Any, parts: list[bytes]) -> tuple[Any, Any]:
    """Give all parts in one array, and the size of each."""
    sizes = np.fromiter(map(len, parts), dtype=np.int64, count=len(parts))
    return np.frombuffer(b"".join(parts), dtype=np.uint8), sizes


def _encoded(np: Any, texts: Sequence[str]) -> tuple[Any, Any, Any]:
    """Give all texts in UTF-8 in one array, and the place and size of each."""
    if isinstance(texts, PackedTexts):
        return texts.data, texts.starts, texts.sizes
    data, sizes = _joined(np, [text.encode() for text in texts])
    return data, np.cumsum(sizes) - sizes, sizes


def _numbers(np: Any, values: Sequence[float | None]) -> Any:
    """Give numbers as an array, NaN for None."""
    try:
        return np.frombuffer(struct.pack(f"{len(values)}d", *values))
    except struct.error:
        return np.array(values, dtype=float)


def _window(np: Any, data: Any, size: int) -> Any:
    """See an array of bytes as overlapping values of some bytes each: the n-th begins at byte n."""
    return np.ndarray((len(data) - size + 1,), dtype=f"V{size}", buffer=data, strides=(1,))


def _place(np: Any, out: Any, targets: Any, data: Any, starts: Any, sizes: Any) -> None:
    """Copy strings of different sizes from places in one array to places in another, those of one size at once."""
    for size in np.flatnonzero(np.bincount(sizes)).tolist():
        if size:
            chosen = np.flatnonzero(sizes == size)
            _window(np, out, size)[targets[chosen]] = _window(np, data, size)[starts[chosen]]
