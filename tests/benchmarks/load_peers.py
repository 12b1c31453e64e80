"""
Other ways to bring the benchmark's output lines into PostgreSQL, to measure ours against. None checks a line.

Each takes the file of lines and the database's URI, and fills the table ``loaded``. What they need beyond this
package's ``dev`` extra: ``pip install pyarrow pgpq polars adbc-driver-postgresql``.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

COPY = "COPY loaded (user_id, rank, item_id, score) FROM STDIN (FORMAT {format})"
#: Input lines, expanded to rows by DuckDB.
EXPAND = """
    SELECT input.userId AS user_id, unnest(range(1, len(output.recommendedItems) + 1))::int AS rank,
        unnest(output.recommendedItems) AS item_id, unnest(output.scores) AS score
    FROM read_json(?, format = 'newline_delimited', columns = {
        input: 'STRUCT(userId VARCHAR)', output: 'STRUCT(recommendedItems VARCHAR[], scores DOUBLE[])'})
"""


def copy(uri: str, format: str, chunks: Iterator[Any]) -> None:
    """Send chunks by COPY, while the next are made on another thread."""
    import psycopg

    waiting: queue.Queue[Any] = queue.Queue(2)

    def make() -> None:
        for chunk in chunks:
            waiting.put(chunk)
        waiting.put(None)

    thread = threading.Thread(target=make)
    thread.start()
    with psycopg.connect(uri) as connection, connection.cursor().copy(COPY.format(format=format)) as target:
        while (chunk := waiting.get()) is not None:
            target.write(chunk)
    thread.join()


def expanded_by_duckdb(path: str, rows: int) -> Any:
    import duckdb

    connection = duckdb.connect(config={"threads": 2, "preserve_insertion_order": False})
    return connection.execute(EXPAND, [path]).to_arrow_reader(rows)


def duckdb_pgpq(path: str, uri: str) -> None:
    """DuckDB to Arrow, pgpq to PostgreSQL's binary format, psycopg."""
    from pgpq import ArrowToPostgresBinaryEncoder

    def chunks() -> Iterator[bytes]:
        reader = expanded_by_duckdb(path, 50_000)
        encoder = ArrowToPostgresBinaryEncoder(reader.schema)
        yield encoder.write_header()
        for batch in reader:
            yield encoder.write_batch(batch)
        yield encoder.finish()

    copy(uri, "binary", chunks())


def duckdb_adbc(path: str, uri: str) -> None:
    """DuckDB to Arrow, ADBC's bulk ingest."""
    import adbc_driver_postgresql.dbapi as adbc

    with adbc.connect(uri) as connection, connection.cursor() as cursor:
        cursor.adbc_ingest("loaded", expanded_by_duckdb(path, 50_000), mode="append")
        connection.commit()


def polars_csv(path: str, uri: str) -> None:
    """Polars in pieces of 1 MB, as CSV, psycopg."""
    import polars as pl

    schema = {
        "input": pl.Struct({"userId": pl.String}),
        "output": pl.Struct({"recommendedItems": pl.List(pl.String), "scores": pl.List(pl.Float64)}),
    }

    def chunks() -> Iterator[bytes]:
        with open(path, "rb") as file:  # noqa: PTH123
            while block := file.read(1 << 20) + file.readline():
                lines = pl.read_ndjson(block, schema=schema)
                rows = lines.select(
                    user_id=pl.col("input").struct.field("userId"),
                    rank=pl.int_ranges(1, pl.col("output").struct.field("recommendedItems").list.len() + 1),
                    item_id=pl.col("output").struct.field("recommendedItems"),
                    score=pl.col("output").struct.field("scores"),
                ).explode("rank", "item_id", "score")
                yield rows.write_csv(include_header=False).encode()

    copy(uri, "csv", chunks())


PEERS: dict[str, Callable[[str, str], None]] = {
    "duckdb-pgpq": duckdb_pgpq,
    "duckdb-adbc": duckdb_adbc,
    "polars-csv": polars_csv,
}
