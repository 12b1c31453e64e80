"""Which rows of an Iceberg table a load replaces, and files without them."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

from airflow_provider_personalize.targets.parquet import GROUP_ROWS
from airflow_provider_personalize.targets.parquet_parts import ParquetPart

if TYPE_CHECKING:
    import pyarrow as pa
    from pyiceberg.expressions import BooleanExpression
    from pyiceberg.io import FileIO
    from pyiceberg.manifest import DataFile
    from pyiceberg.table import FileScanTask, Table

#: How many entities are looked for at once.
ENTITIES = 2_000_000


def slice_filter(extra: Mapping[str, str | None]) -> tuple[BooleanExpression, BooleanExpression]:
    """Return the filter of the rows where columns have these values, given as text, and that of all other rows."""
    from pyiceberg import expressions

    of: Any = expressions
    equal: list[Any] = []
    other: list[Any] = []
    for name, value in extra.items():
        if value is None:
            equal.append(of.IsNull(name))
            other.append(of.NotNull(name))
        else:
            equal.append(of.EqualTo(name, value))
            other.append(of.Or(of.NotEqualTo(name, value), of.IsNull(name)))
    return (equal[0], other[0]) if len(equal) == 1 else (of.And(*equal), of.Or(*other))


class CoveredEntities:
    """
    The users, items or segments that a load covers, with or without rows.

    :param io: Reads the files.
    :param parts: The parts of the load.
    :param column: The column that holds them.
    """

    def __init__(self, io: FileIO, parts: Sequence[ParquetPart], column: str) -> None:
        self.column = column
        self._io = io
        self._files = [(uri, column) for part in parts for uri in part.data_files]
        self._files += [(part.without_rows_file, "entity") for part in parts if part.without_rows_file]
        # What one piece holds is read once; more are read again for each file, so that memory stays bounded.
        self._only: pa.Array | None = None

    def mask(self, entities: pa.ChunkedArray) -> pa.ChunkedArray:
        """Return for each entity whether the load covers it; null is one, too."""
        import pyarrow as pa
        import pyarrow.compute as pc

        found = pa.chunked_array([pa.repeat(pa.scalar(False), len(entities))])
        for piece in self._pieces():
            found = pc.or_(found, pc.is_in(entities, value_set=piece.cast(entities.type)))
        return found

    def _pieces(self) -> Iterator[pa.Array]:
        if self._only is not None:
            yield self._only
            return
        pieces = self._read()
        first, second = next(pieces, None), next(pieces, None)
        if second is None:
            self._only = first
        yield from chain((piece for piece in (first, second) if piece is not None), pieces)

    def _read(self) -> Iterator[pa.Array]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        held: list[Any] = []
        count = 0
        for uri, column in self._files:
            with self._io.new_input(uri).open() as stream:
                file = pq.ParquetFile(stream)
                for group in range(file.num_row_groups):
                    values = file.read_row_group(group, columns=[column]).column(0).unique()
                    held.append(values)
                    count += len(values)
                    if count >= ENTITIES:
                        yield pa.concat_arrays(held).unique()
                        held, count = [], 0
        if held:
            yield pa.concat_arrays(held).unique()


def new_file(
    table: Table, task: FileScanTask, kept_rows: BooleanExpression, covered: CoveredEntities | None
) -> DataFile | None:
    """
    Write a file of a table anew without the rows that a load replaces.

    :param table: The table.
    :param task: The file, with what was deleted from it.
    :param kept_rows: The filter of the rows that stay.
    :param covered: The entities whose rows go.
    :return: The file itself where all rows stay, the new one, or None where none stay.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq
    from pyiceberg.io.pyarrow import ArrowScan, parquet_files_to_data_files

    scan = ArrowScan(table.metadata, table.io, table.schema(), kept_rows)
    rows: pa.Table = scan.to_table([task])
    if covered is not None and len(rows):
        import pyarrow.compute as pc

        rows = rows.filter(pc.invert(covered.mask(rows.column(covered.column))))
    if len(rows) == task.file.record_count and not task.delete_files:
        return task.file
    if not len(rows):
        return None
    # The columns' ids are left out: as with the load's own files, the names tell which column is which.
    rows = rows.cast(pa.schema([pa.field(name.name, name.type) for name in rows.schema]))
    uri = table.location_provider().new_data_location(f"personalize-{secrets.token_hex(16)}.parquet")
    with table.io.new_output(uri).create() as sink:
        pq.write_table(rows, sink, row_group_size=GROUP_ROWS, compression="zstd", store_schema=False)
    [written] = parquet_files_to_data_files(table.io, table.metadata, iter([uri]))
    return written
