"""
A query's rows on their way into the CSV of a dataset: written by the database's server where it can, else by us.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from airflow_provider_personalize.input.dataset import DatasetRows
from airflow_provider_personalize.input.dataset_blocks import Block, DatasetBlocks
from airflow_provider_personalize.s3.multipart import MultipartFiles
from airflow_provider_personalize.service.schemas import DatasetSchema
from airflow_provider_personalize.sql.dataset import csv_expressions
from airflow_provider_personalize.sql.query import RowBatch, stream_query
from airflow_provider_personalize.sql.server_csv import server_csv
from airflow_provider_personalize.sql.write_behind import WriteBehind

if TYPE_CHECKING:
    from airflow.providers.common.sql.hooks.sql import DbApiHook

#: Bytes of CSV that one fetch aims at, and its most rows.
BATCH_BYTES, BATCH_ROWS = 1_000_000, 50_000
#: Seconds between two lines of progress in the log.
LOG_INTERVAL = 5.0


class DatasetCopy:
    """
    Copies a query's rows into files of CSV.

    :param schema: What the rows have to be.
    :param files: Where they go.
    :param max_bytes: Bytes from which on there is no use in writing more.
    :param log: The task's log, which is told how far it is.
    """

    def __init__(self, schema: DatasetSchema, files: MultipartFiles, *, max_bytes: int, log: Any) -> None:
        self._schema = schema
        self._files = files
        self._max_bytes = max_bytes
        self._log = log
        #: How many bytes the rows are, those included that were not written for being too many.
        self.size = 0
        self._started = self._logged = time.monotonic()

    def run(self, database: DbApiHook, sql: str, parameters: Any) -> DatasetRows:
        """
        Copy all rows, and return what was found of them; what is wrong with them is for the caller to raise.

        :param database: The database's hook.
        :param sql: The query, one statement.
        :param parameters: Values for its placeholders.
        """
        with server_csv(database, sql, parameters) as query:
            if query:
                rows = self._begin([column.name for column in query.columns])
                expressions = csv_expressions(rows, [column.oid for column in query.columns])
                if expressions:
                    blocks = DatasetBlocks(rows)
                    with WriteBehind[bytes, Block](lambda data: self._write(blocks.encode(data), rows)) as writer:
                        query.copy(expressions, writer.put)
                    return rows
        with stream_query(database, sql, parameters) as stream:
            rows = self._begin(stream.columns)
            with WriteBehind[RowBatch, Block](lambda batch: self._encode(batch, rows)) as writer:
                for batch in stream:
                    if (done := writer.put(batch)) and done.data:
                        stream.batch_rows = max(1, min(BATCH_ROWS, BATCH_BYTES * done.rows // len(done.data)))
                    if rows.is_hopeless:
                        # Of the rows, the first are enough to tell what else is wrong.
                        break
        return rows

    def _begin(self, columns: list[str]) -> DatasetRows:
        rows = DatasetRows(columns, self._schema)
        self._files.header = rows.header
        return rows

    def _encode(self, batch: RowBatch, rows: DatasetRows) -> Block:
        values = batch.rows()
        return self._write(Block(rows.encode(values), len(values)), rows)

    def _write(self, block: Block, rows: DatasetRows) -> Block:
        self.size += len(block.data)
        if block.data and self.size <= self._max_bytes:
            self._files.write_block(*block)
        if (now := time.monotonic()) - self._logged > LOG_INTERVAL:
            self._logged = now
            rate = rows.rows / (now - self._started)
            self._log.info("Wrote %s rows so far (%s rows/s)", f"{rows.rows:,}", f"{rate:,.0f}")
        return block
