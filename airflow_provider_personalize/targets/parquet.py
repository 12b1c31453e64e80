"""
Rows as Parquet files: the format that lakes and warehouses take in.

:class:`ParquetFiles` writes batches, and is all that another target needs which loads from Parquet. It needs pyarrow
and numpy, which the extra ``parquet`` installs, and imports them when the first batch comes.

Files have row groups of :data:`GROUP_ROWS` rows, compressed by zstd, and are of the same bytes for the same rows. Ids
that :mod:`~airflow_provider_personalize.output.fast` has read go into Arrow as they lie in memory: no Python text is
made of one. What all rows of a line share is kept once for each line until it is written.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_personalize.exceptions import InvalidRequestError
from airflow_provider_personalize.output.fast import PackedTexts
from airflow_provider_personalize.output.rows import Batch, Column, Reject
from airflow_provider_personalize.s3.folders import NewFiles
from airflow_provider_personalize.targets.plan import type_of
from airflow_provider_personalize.targets.rejects import REJECT_COLUMNS

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa

#: The rows of a row group, and about how many bytes its ids may have before it is closed early.
GROUP_ROWS, GROUP_BYTES = 1 << 18, 32 << 20
#: Bytes from which on another file is begun.
FILE_BYTES = 256 << 20
#: Ids are written by a dictionary if each occurs at least so often, on average, in the first row group.
_REPEATED = 4

#: Rows of a :class:`RowFile` that are written at once.
_ROWS = 10_000


def column_types(columns: Iterable[Column], extra: Mapping[str, Any]) -> dict[str, str]:
    """
    Return the columns of the files with their types, in this package's words (see :func:`.plan.type_of`).

    :param columns: The columns of the rows.
    :param extra: The same value for every row, by column.
    """
    return {column.name: column.type for column in columns} | {name: type_of(value) for name, value in extra.items()}


def arrow_type(kind: str) -> pa.DataType:
    """Return Arrow's type for one of this package's."""
    import pyarrow as pa

    types = {
        "text": pa.string(),
        "integer": pa.int32(),
        "bigint": pa.int64(),
        "double": pa.float64(),
        "boolean": pa.bool_(),
        "date": pa.date32(),
        "timestamp": pa.timestamp("us"),
        "timestamptz": pa.timestamp("us", "UTC"),
    }
    return types[kind]


class ParquetFiles:
    """
    Write batches of rows into Parquet files, ``<name>-00000.parquet`` and so on; none where there are no rows.

    ::

        with new_files(folder, client) as files:
            parquet = ParquetFiles(files, "part-00000", columns, {"run_date": date(2026, 11, 22)})
            parquet.write(batches)
            parquet.finish()
            uris = files.publish()

    :param files: Where files are begun and, when all is well, published.
    :param name: What the names of the files begin with.
    :param columns: The columns of the rows.
    :param extra: The same value for every row, by column; these columns come last.
    """

    def __init__(
        self, files: NewFiles, name: str, columns: Sequence[Column], extra: Mapping[str, Any] | None = None
    ) -> None:
        #: How many files were begun.
        self.count = 0
        self._files = files
        self._name = name
        self._columns = list(columns)
        self._extra = dict(extra or {})
        self._fields = {column.field for column in columns}
        self._group: list[_Piece] = []
        self._rows = self._bytes = 0
        self._writer: Any = None
        self._sink: Any = None

    def write(self, batches: Iterable[Batch]) -> None:
        """Write the rows of these batches."""
        for batch in batches:
            for piece in batch.pieces(GROUP_ROWS):
                if piece.items:
                    self._add(piece)

    def finish(self) -> None:
        """Complete the last file."""
        if self._group:
            self._write_group()
        self._end_file()

    def _add(self, batch: Batch) -> None:
        import numpy as np

        shared = {name: _texts(batch.line_texts(name)) for name in _SHARED & self._fields}
        own: dict[str, Any] = {}
        counts = np.array(batch.counts, dtype=np.int64)
        if "item" in self._fields:
            own["item"] = _texts(batch.items)
            self._bytes += own["item"].nbytes
        if "rank" in self._fields:
            before = np.cumsum(counts) - counts - np.array(batch.first_ranks, dtype=np.int64)
            own["rank"] = _fixed((np.arange(len(batch.items)) - np.repeat(before, counts)).astype(np.int32))
        for name, values in (("score", batch.scores), ("relevance", batch.relevances)):
            if name in self._fields:
                own[name] = _doubles(values)
        self._group.append(_Piece(counts, shared, own))
        self._rows += len(batch.items)
        if self._rows >= GROUP_ROWS or self._bytes >= GROUP_BYTES:
            self._write_group()

    def _write_group(self) -> None:
        import numpy as np
        import pyarrow as pa

        counts = np.concatenate([piece.counts for piece in self._group])
        arrays = []
        for column in self._columns:
            if column.field in _SHARED:
                lines = pa.concat_arrays([piece.shared[column.field] for piece in self._group]).dictionary_encode()
                places = lines.indices.take(_fixed(np.repeat(np.arange(len(counts)), counts)))
                arrays.append(pa.DictionaryArray.from_arrays(places, lines.dictionary))
            else:
                arrays.append(pa.concat_arrays([piece.own[column.field] for piece in self._group]))
        arrays += [_constant(name, value, self._rows) for name, value in self._extra.items()]
        table = pa.table(arrays, names=list(column_types(self._columns, self._extra)))
        self._group.clear()
        self._rows = self._bytes = 0
        if self._writer is None:
            self._begin_file(table)
        self._writer.write_table(table)
        if self._sink.tell() >= FILE_BYTES:
            self._end_file()

    def _begin_file(self, table: pa.Table) -> None:
        import pyarrow.parquet as pq

        self._sink = self._files.create(f"{self._name}-{self.count:05}.parquet")
        self.count += 1
        plain = {column.name for column in self._columns if column.field in {"score", "relevance"}}
        for column in self._columns:
            if column.field == "item" and len(table[column.name].unique()) * _REPEATED > len(table):
                plain.add(column.name)
        self._writer = pq.ParquetWriter(
            self._sink,
            table.schema,
            compression="zstd",
            use_dictionary=[name for name in table.column_names if name not in plain],
            # Readers get texts, however they are written.
            store_schema=False,
        )

    def _end_file(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


class _Piece(NamedTuple):
    """
    The rows of a batch, in Arrow.

    :param counts: How many rows each line has.
    :param shared: What the rows of a line share, line by line, by field.
    :param own: What each row has, by field.
    """

    counts: np.ndarray[Any, Any]
    shared: dict[str, Any]
    own: dict[str, Any]


_SHARED = frozenset({"entity", "theme", "filter_values"})


class RowFile:
    """
    Write rows, few enough to come as tuples, into one Parquet file; none where there are no rows.

    :param files: Where to.
    :param name: The name of the file.
    :param types: The columns with their types: ``text`` or ``bigint``.
    """

    def __init__(self, files: NewFiles, name: str, types: Mapping[str, str]) -> None:
        self._files = files
        self._name = name
        self._types = dict(types)
        self._rows: list[tuple[Any, ...]] = []
        self._writer: Any = None

    def add(self, row: tuple[Any, ...]) -> None:
        """Add a row."""
        self._rows.append(row)
        if len(self._rows) == _ROWS:
            self._write()

    def finish(self) -> bool:
        """Complete the file, and return whether there is one."""
        if self._rows:
            self._write()
        if self._writer is None:
            return False
        self._writer.close()
        return True

    def _write(self) -> None:
        import numpy as np
        import pyarrow as pa
        import pyarrow.parquet as pq

        schema = pa.schema([(column, arrow_type(kind)) for column, kind in self._types.items()])
        columns = [
            _texts(values) if kind == "text" else _fixed(np.array(values, dtype=np.int64))
            for values, kind in zip(zip(*self._rows, strict=True), self._types.values(), strict=True)
        ]
        self._rows.clear()
        if self._writer is None:
            self._writer = pq.ParquetWriter(
                self._files.create(self._name), schema, compression="zstd", store_schema=False
            )
        self._writer.write_table(pa.table(columns, schema=schema))


def write_rejects(files: NewFiles, name: str, source: str, rejects: Iterable[Reject]) -> bool:
    """
    Write rejected lines into a Parquet file, and return whether there are any; without, there is no file.

    :param files: Where to.
    :param name: The name of the file.
    :param source: What was loaded.
    :param rejects: The lines.
    """
    file = RowFile(files, name, REJECT_COLUMNS)
    for reject in rejects:
        file.add((source, *reject))
    return file.finish()


# Into Arrow. ``pa.array`` would do, too, but imports pandas first, which takes longer than a million rows.


def _texts(values: Sequence[str | None]) -> pa.Array:
    """Return texts as an array of Arrow's."""
    import numpy as np
    import pyarrow as pa

    count = len(values)
    if count and isinstance(values, PackedTexts):
        # The texts lie in one piece of memory, with something between any two. So it is seen as twice as many texts,
        # of which every other one is taken.
        ends = np.empty(2 * count, dtype=np.int32)
        ends[::2] = values.starts
        ends[1::2] = values.starts + values.sizes
        buffers = [None, pa.py_buffer(ends), pa.py_buffer(values.data)]
        everything = pa.Array.from_buffers(pa.string(), 2 * count - 1, buffers)
        return everything.take(_fixed(np.arange(0, 2 * count - 1, 2, dtype=np.int32)))
    encoded = [b"" if text is None else text.encode() for text in values]
    ends = np.zeros(count + 1, dtype=np.int32)
    np.cumsum(np.fromiter(map(len, encoded), dtype=np.int32, count=count), out=ends[1:])
    valid = np.fromiter((text is not None for text in values), dtype=bool, count=count)
    buffers = [_bitmap(valid), pa.py_buffer(ends), pa.py_buffer(b"".join(encoded))]
    return pa.Array.from_buffers(pa.string(), count, buffers)


def _doubles(values: Sequence[float | None]) -> pa.Array:
    """Return numbers as an array of doubles, null for None; none of them is NaN."""
    import numpy as np

    try:
        return _fixed(np.frombuffer(struct.pack(f"{len(values)}d", *values)))
    except struct.error:
        numbers = np.array(values, dtype=np.float64)
        return _fixed(numbers, ~np.isnan(numbers))


def _fixed(values: np.ndarray[Any, Any], valid: np.ndarray[Any, Any] | None = None) -> pa.Array:
    """Return numbers as an array of Arrow's; null where they are not valid."""
    import pyarrow as pa

    kind = pa.from_numpy_dtype(values.dtype)
    nulls = None if valid is None else _bitmap(valid)
    return pa.Array.from_buffers(kind, len(values), [nulls, pa.py_buffer(values)])


def _bitmap(valid: np.ndarray[Any, Any]) -> pa.Buffer | None:
    """Return Arrow's bitmap of what is valid, or None where all is."""
    import numpy as np
    import pyarrow as pa

    return None if valid.all() else pa.py_buffer(np.packbits(valid, bitorder="little"))


def _constant(name: str, value: Any, count: int) -> pa.Array:
    """Return the same value so many times."""
    import numpy as np
    import pyarrow as pa

    word = type_of(value)
    kind = arrow_type(word)
    if value is None:
        return pa.nulls(count, kind)
    match word:
        case "text":
            return pa.DictionaryArray.from_arrays(_fixed(np.zeros(count, dtype=np.int32)), _texts([str(value)]))
        case "boolean":
            bits = np.packbits(np.full(count, value), bitorder="little")
            return pa.Array.from_buffers(kind, count, [None, pa.py_buffer(bits)])
        case "date":
            value = (value - date(1970, 1, 1)).days
        case "timestamp" | "timestamptz":
            value = (value - datetime(1970, 1, 1, tzinfo=UTC if value.tzinfo else None)) // timedelta(microseconds=1)
    try:
        values = np.full(count, value, dtype=np.float64 if word == "double" else f"i{kind.bit_width // 8}")
    except OverflowError as error:
        raise InvalidRequestError(
            f"extra_columns: expected a value that Parquet can hold for {name}, got {value!r}: {error}."
        ) from error
    return pa.Array.from_buffers(kind, count, [None, pa.py_buffer(values)])
