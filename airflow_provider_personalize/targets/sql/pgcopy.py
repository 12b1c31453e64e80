"""
Rows in PostgreSQL's binary COPY format.

The format is that of PostgreSQL's manual, "COPY, Binary Format": a header, then each row as its number of fields, then
each field as its length (-1 for NULL) and its bytes. The order of fields is ours to choose, and puts first what a
line's rows share, last the item, between them what has a fixed size; so numpy places each part of many rows in a few
calls. Without numpy (of the extra ``fast``) the same bytes are made one by one.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import add
from typing import Any

from airflow_provider_personalize.output.fast import PackedTexts
from airflow_provider_personalize.output.rows import Batch, Column
from airflow_provider_personalize.sql.values import UnfitValueError, check_singles, unfit_single

HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER = b"\xff\xff"
NULL = b"\xff\xff\xff\xff"
#: How many rows are encoded at once.
ENCODED_ROWS = 1 << 16

#: Formats of what has a fixed size, by the type's name in ``pg_type``, for :mod:`struct` and numpy alike.
FIXED = {"int2": "h", "int4": "i", "int8": "q", "float4": "f", "float8": "d"}
#: Types whose binary form is their text. That of bpchar is, too, but with spaces that the server adds.
TEXTS = frozenset({"text", "varchar"})
#: The greatest rank that a type holds, for types too small for ranks of some millions.
_RANK_MAX = {"int2": 2**15 - 1}

_ORDER = ("entity", "theme", "filter_values", "rank", "score", "relevance", "item")


def copy_order(columns: Iterable[Column]) -> list[Column]:
    """Return the columns in the order in which their fields are written, after those of constants."""
    return sorted(columns, key=lambda column: _ORDER.index(column.field))


def field(value: bytes | None) -> bytes:
    """Return the bytes of a field."""
    return NULL if value is None else struct.pack(">i", len(value)) + value


class RowEncoder:
    """
    Encode batches.

    :param columns: The columns, in :func:`copy_order`.
    :param types: The target's type of each, as ``pg_type`` names it: one of :data:`TEXTS` or :data:`FIXED`.
    :param constants: The same fields for every row, in front of the others; in binary, None for NULL.
    :param lengths: How many characters the columns of a limited length take, by field. The server cuts spaces beyond
        it in silence, and refuses anything else.
    :param fast: Whether to use numpy where it is installed.
    """

    def __init__(
        self,
        columns: Sequence[Column],
        types: Sequence[str],
        constants: Sequence[bytes | None] = (),
        lengths: Mapping[str, int] | None = None,
        *,
        fast: bool = True,
    ) -> None:
        self._names = {column.field: column.name for column in columns}
        self._lengths = dict(lengths or {})
        self._rank_max = _RANK_MAX.get(dict(zip(self._names, types, strict=True)).get("rank", ""))
        self._line_fields = [column.field for column in columns if column.field in {"entity", "theme", "filter_values"}]
        self._kinds = {column.field: kind for column, kind in zip(columns, types, strict=True)}
        self._head = struct.pack(">h", len(columns) + len(constants)) + b"".join(map(field, constants))
        self._encode: Callable[[Batch], bytes | memoryview] = self._one_by_one
        if fast and "item" in self._kinds:
            try:
                import numpy
            except ImportError:
                return
            self._np = numpy
            self._encode = self._at_once

    def __call__(self, batches: Iterable[Batch]) -> Iterator[bytes | memoryview]:
        """
        Yield the whole COPY stream, with its header and trailer.

        :raises UnfitValueError: if a value does not fit its column: in binary, the server would not notice.
        """
        yield HEADER
        for batch in batches:
            for piece in batch.pieces(ENCODED_ROWS):
                if piece.items:
                    self._check(piece)
                    yield self._encode(piece)
        yield TRAILER

    def _check(self, batch: Batch) -> None:
        """Make sure that ranks and lengths fit; numbers are looked at where they are encoded."""
        if self._rank_max and (rank := max(map(add, batch.first_ranks, batch.counts)) - 1) > self._rank_max:
            raise self._unfit("rank", f"the rank {rank} is beyond its {self._rank_max}")
        for name, length in self._lengths.items():
            texts = batch.items if name == "item" else batch.line_texts(name)
            if isinstance(texts, PackedTexts) and texts.sizes.max() <= length:
                continue
            for text in texts:
                if text is not None and len(text) > length and not text[length:].strip(" "):
                    raise self._unfit(name, f"{text!r} has more than its {length} characters")

    def _unfit(self, name: str, reason: object) -> UnfitValueError:
        return UnfitValueError(f"its column {self._names[name]}: {reason}")

    def _prefixes(self, batch: Batch) -> list[bytes]:
        """Return the beginning of each line's rows: what all rows share, and what the line's rows share."""
        lines = [self._head] * len(batch.counts)
        for name in self._line_fields:
            fields = (field(None if text is None else text.encode()) for text in batch.line_texts(name))
            lines = [line + text for line, text in zip(lines, fields, strict=True)]
        return lines

    def _one_by_one(self, batch: Batch) -> bytes:
        parts: list[bytes] = []
        rank = struct.Struct(f">i{FIXED[self._kinds['rank']]}") if "rank" in self._kinds else None
        doubles = [
            (struct.Struct(f">i{FIXED[self._kinds[name]]}"), values)
            for name, values in (("score", batch.scores), ("relevance", batch.relevances))
            if name in self._kinds
        ]
        for name, values in (("score", batch.scores), ("relevance", batch.relevances)):
            if self._kinds.get(name) == "float4":
                try:
                    check_singles(values)
                except UnfitValueError as error:
                    raise self._unfit(name, error) from error
        row = 0
        for prefix, count, first in zip(self._prefixes(batch), batch.counts, batch.first_ranks, strict=True):
            for number in range(first, first + count):
                parts.append(prefix)
                if rank:
                    parts.append(rank.pack(rank.size - 4, number))
                for packer, values in doubles:
                    value = values[row]
                    parts.append(NULL if value is None else packer.pack(packer.size - 4, value))
                if "item" in self._kinds:
                    parts.append(field(batch.items[row].encode()))
                row += 1
        return b"".join(parts)

    def _at_once(self, batch: Batch) -> memoryview:
        np = self._np
        counts = np.array(batch.counts)
        # What the rows of a line share is written once for each line, then copied to each row.
        shared = _Layout(np, len(counts), self._head)
        for name in self._line_fields:
            shared.text(batch.line_texts(name))
        prefix, starts, sizes = shared.build()

        rows = _Layout(np, len(batch.items))
        rows.piece(prefix, np.repeat(starts, counts), np.repeat(sizes, counts))
        if "rank" in self._kinds:
            before = np.cumsum(counts) - counts - np.array(batch.first_ranks)
            rows.number(self._kinds["rank"], np.arange(len(batch.items)) - np.repeat(before, counts))
        for name, values in (("score", batch.scores), ("relevance", batch.relevances)):
            if name in self._kinds:
                numbers = _doubles(np, values)
                if self._kinds[name] == "float4":
                    numbers = self._singles(name, numbers)
                rows.number(self._kinds[name], numbers, nullable=True)
        rows.text(batch.items)
        return memoryview(rows.build()[0])

    def _singles(self, name: str, numbers: Any) -> Any:
        """Return numbers in single precision, which the greatest and the smallest doubles do not fit."""
        np = self._np
        with np.errstate(over="ignore", under="ignore"):
            singles = numbers.astype("f4")
        unfit = (np.isinf(singles) & ~np.isinf(numbers)) | ((singles == 0) & (numbers != 0))
        if unfit.any():
            error = unfit_single(float(numbers[unfit][0]))
            raise self._unfit(name, error) from error
        return singles


class _Layout:
    """
    Many rows in one array of bytes, made of parts: numbers, which have a fixed size, and pieces, which have any.

    :param np: The module numpy.
    :param count: How many rows there are.
    :param head: What begins each row.
    """

    def __init__(self, np: Any, count: int, head: bytes = b"") -> None:
        self._np = np
        self._count = count
        self._fixed: list[tuple[str, Any]] = [(f"V{len(head)}", head)] if head else []
        self._pieces: list[tuple[Any, Any, Any]] = []

    def number(self, kind: str, values: Any, *, nullable: bool = False) -> None:
        """Add a field of a type in :data:`FIXED`; NaN is NULL where that may be."""
        np = self._np
        code = f">{FIXED[kind]}"
        size = np.dtype(code).itemsize
        nulls = np.isnan(values) if nullable else np.False_
        if not nulls.any():
            self._fixed += [(">i4", size), (code, values)]
            return
        self._fixed.append((">i4", np.where(nulls, -1, size)))
        data = values.astype(code).view(np.uint8)
        self.piece(data, np.arange(self._count) * size, np.where(nulls, 0, size))

    def text(self, texts: Sequence[str | None]) -> None:
        """Add a field of text; None is NULL."""
        np = self._np
        if isinstance(texts, PackedTexts):
            self._fixed.append((">i4", texts.sizes))
            self.piece(texts.data, texts.starts, texts.sizes)
            return
        encoded = [b"" if text is None else text.encode() for text in texts]
        sizes = np.fromiter(map(len, encoded), dtype=np.int64, count=self._count)
        nulls = np.fromiter((text is None for text in texts), dtype=bool, count=self._count)
        self._fixed.append((">i4", np.where(nulls, -1, sizes)))
        self.piece(np.frombuffer(b"".join(encoded), dtype=np.uint8), np.cumsum(sizes) - sizes, sizes)

    def piece(self, data: Any, starts: Any, sizes: Any) -> None:
        """Add bytes from an array, for each row its own."""
        self._end_block()
        self._pieces.append((data, starts, sizes))

    def _end_block(self) -> None:
        """Put the fixed parts since the last piece together."""
        if self._fixed:
            codes = [(f"f{number}", code) for number, (code, _) in enumerate(self._fixed)]
            block = self._np.empty(self._count, dtype=codes)
            for (name, _), (_, values) in zip(codes, self._fixed, strict=True):
                block[name] = values
            self._pieces.append((block, None, block.itemsize))
            self._fixed = []

    def build(self) -> tuple[Any, Any, Any]:
        """Return all rows in one array, with the place and size of each."""
        np = self._np
        self._end_block()
        row_sizes = np.zeros(self._count, dtype=np.int64)
        for _, _, sizes in self._pieces:
            row_sizes += sizes
        ends = np.cumsum(row_sizes)
        row_starts = ends - row_sizes
        out = np.empty(int(ends[-1]) if self._count else 0, dtype=np.uint8)
        place = row_starts.copy()
        for data, starts, sizes in self._pieces:
            if starts is None:
                target = _window(np, out, sizes)
                target[place] = data.view(target.dtype)
            else:
                _place(np, out, place, data, starts, sizes)
            place += sizes
        return out, row_starts, row_sizes


def _doubles(np: Any, values: Sequence[float | None]) -> Any:
    """Return numbers as an array, NaN for None."""
    try:
        return np.frombuffer(struct.pack(f"{len(values)}d", *values))
    except struct.error:
        return np.array(values, dtype=float)


def _window(np: Any, data: Any, size: int) -> Any:
    """Return a view of an array of bytes as overlapping values: the n-th begins at byte n."""
    return np.ndarray((len(data) - size + 1,), dtype=f"V{size}", buffer=data, strides=(1,))


def _place(np: Any, out: Any, targets: Any, data: Any, starts: Any, sizes: Any) -> None:
    """Copy strings of different sizes from places in one array to places in another, those of one size at once."""
    for size in np.flatnonzero(np.bincount(sizes)).tolist():
        if size:
            chosen = np.flatnonzero(sizes == size)
            _window(np, out, size)[targets[chosen]] = _window(np, data, size)[starts[chosen]]
