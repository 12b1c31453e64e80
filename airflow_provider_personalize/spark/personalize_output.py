"""
A PySpark application: the output of a batch job as Parquet, or in a table of Iceberg.

Submit this file as it is, to ``spark-submit``, EMR Serverless or Glue. It needs PySpark 3.3 or newer on Python 3.9 or
newer, boto3 for ``--job-arn``, and Iceberg's runtime (1.4 or newer) for ``--table``. It imports nothing of the package
around it, which no worker of a cluster has, and so is longer than a module should be. What it says of a line is what
``output/lines.py`` says, and the job's objects are those of ``s3/job_objects.py``: the tests hold them together.

Python reads every line once, in parallel, and Spark keeps what it says on the executors' disks. So the rejected lines
are judged before anything is published. ``posexplode`` and the writing are Spark's own.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import re
import sys
import time
import uuid
import zlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

# The rows

USERS, ITEMS, SEGMENTS = "user recommendations", "related items", "user segments"
#: The columns of each kind of rows, and what each holds, with its type.
COLUMNS = {
    USERS: {"user_id": "entity", "rank": "rank", "item_id": "item", "score": "score"},
    ITEMS: {
        "item_id": "entity",
        "rank": "rank",
        "related_item_id": "item",
        "score": "score",
        "theme": "theme",
        "theme_relevance": "relevance",
    },
    SEGMENTS: {"segment": "entity", "rank": "rank", "user_id": "item"},
}
TYPES = {"rank": "int", "score": "double", "relevance": "double"}  # and all others are of text
#: What the executors make of the lines: a record for each line, and one at the end of each split of an object.
RECORD = (
    "status string, object string, split long, number long, offset long, kind string, entity string, "
    "items array<string>, scores array<double>, theme string, relevances array<double>, filters string, "
    "reason string, text string"
)
LINE, REJECT, END, DAMAGED = "line", "reject", "end", "damaged"
LEVELS, REJECT_TEXT, BOM, GZIP = 100, 1_000, b"\xef\xbb\xbf", b"\x1f\x8b"
WRITE_MODES = ("replace", "replace_slice", "merge", "append")
EXTENSIONS = "org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions"
#: The snapshot's property that holds the load's id, as PersonalizeToIcebergOperator notes it, and how often a commit
#: that conflicts is tried again.
LEDGER, TRIES = "personalize.load-id", 10

_LOOSE_SCORES = re.compile(r'\}\s*,\s*\{\s*("scores"\s*:\s*\[[^\]]*\])\s*\}')
_GLOB = re.compile(r"[{}\[\]*?\\]")
_LAST_COMMA = re.compile(r",\s*\}\s*\Z")
_ESCAPED = re.compile(rb"\\.", re.DOTALL)
_NO_MARKS = bytes(byte for byte in range(256) if byte not in b'"[]{}')
_OUTPUT_LINE = re.compile(
    rb'\s*(?:\xef\xbb\xbf)?\s*\{\s*(?:"(?:input|output|error)"\s*:|"itemAttributes"\s*:\s*"(?:[^"\\]|\\.)*"\s*,\s*"output")'
)


_INPUT_LINE = re.compile(
    rb'\s*(?:\xef\xbb\xbf)?\s*\{\s*(?:\}|"(?:userId|itemId|itemList|itemAttributes|filterValues)"\s*:)'
)


class LoadError(Exception):
    """A load that cannot be: what was expected, what came, and what to do."""


class BadLineError(ValueError):
    """A line that gives no rows."""


# One line, on an executor


def read_line(raw: bytes, wanted: str | None) -> tuple[Any, ...]:
    """Return what a line of the wanted kind says: kind, entity, items, scores, theme, relevances and filterValues."""
    if raw.count(b"[") + raw.count(b"{") > LEVELS:
        _check_levels(raw)
    line = _parse(_decoded(raw).removeprefix("\ufeff"))
    if not isinstance(line, dict):
        raise BadLineError(f"expected an object, got {_shown(line)}")
    if line.get("error") not in (None, ""):
        told = line["error"]
        raise BadLineError(f"the service reports an error: {told if isinstance(told, str) else _shown(told)}")
    source = line.get("input")
    if "input" not in line and isinstance(line.get("itemAttributes"), str):
        source = {key: line.get(key) for key in ("itemAttributes", "filterValues")}
    if not isinstance(source, dict):
        raise BadLineError(f"expected an object at input, got {_at(line, 'input')}")
    output = line.get("output")
    if not isinstance(output, dict):
        raise BadLineError(f"expected an object at output, got {_at(line, 'output')}")
    present = [key for key in ("recommendedItems", "usersList", "recommendedUsers") if output.get(key) is not None]
    if len(present) != 1:
        found = " and ".join(present) or "none of them"
        raise BadLineError(f"expected one of recommendedItems, usersList and recommendedUsers in output, got {found}")
    items = output[present[0]]
    if not isinstance(items, list):
        raise BadLineError(f"expected a list at output.{present[0]}, got {_shown(items)}")
    kind, entity = _entity(source, present[0] != "recommendedItems")
    theme, relevances = output.get("theme"), output.get("itemsThemeRelevanceScores")
    if kind != ITEMS:
        theme = relevances = None
    if theme is not None:
        _check_id(theme, "output.theme")
    for index, item in enumerate(items):
        _check_id(item, f"output.{present[0]}", index)
    scores = _numbers(output.get("scores", line.get("scores")), len(items), "output.scores")
    relevances = _numbers(relevances, len(items), "output.itemsThemeRelevanceScores")
    if wanted not in (None, kind):
        raise BadLineError(f"expected {wanted}, as the lines before it, got {kind}: one load takes one kind of rows")
    filters = source.get("filterValues")
    return (
        kind,
        entity,
        items,
        scores,
        theme,
        relevances,
        None if filters is None else json.dumps(filters, sort_keys=True),
    )


def _decoded(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        at = error.start
        raise BadLineError(f"expected UTF-8, got the byte 0x{raw[at]:02x} at byte {at} of the line") from None


def _check_levels(raw: bytes) -> None:
    depth = 0
    for mark in b"".join(_ESCAPED.sub(b"", raw).translate(None, _NO_MARKS).split(b'"')[::2]):
        depth += 1 if mark in b"[{" else -1
        if depth > LEVELS:
            raise BadLineError(f"expected JSON of at most {LEVELS} levels, got more")


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        mended = _LAST_COMMA.sub("}", _LOOSE_SCORES.sub(r"}, \1", text))
        if mended != text:
            try:
                return json.loads(mended)
            except ValueError:
                pass
        raise BadLineError(f"expected JSON, got {error}") from None


def _entity(source: dict[str, Any], users: bool) -> tuple[str, str | None]:
    keys = ("itemId", "itemAttributes") if users else ("userId", "itemId")
    key = next((key for key in keys if source.get(key) is not None), None)
    if key is None:
        if users:
            raise BadLineError("expected itemId or itemAttributes in input, got neither")
        return USERS, None
    _check_id(source[key], f"input.{key}")
    return (SEGMENTS if users else USERS if key == "userId" else ITEMS), source[key]


def _check_id(value: Any, where: str, index: int | None = None) -> None:
    if isinstance(value, str) and "\0" not in value:
        try:
            value.encode()
        except UnicodeEncodeError:
            pass
        else:
            return
    where = where if index is None else f"{where}[{index}]"
    if not isinstance(value, str):
        raise BadLineError(f"expected text at {where}, got {_shown(value)}")
    if "\0" in value:
        raise BadLineError(f"expected text without NUL characters at {where}, got {_shown(value)}")
    raise BadLineError(f"expected text at {where}, got half a surrogate pair in {_shown(value)}")


def _numbers(values: Any, count: int, where: str) -> list[float | None] | None:
    if values is None:
        return None
    if not isinstance(values, list):
        raise BadLineError(f"expected a list at {where}, got {_shown(values)}")
    doubles = [_number(value, f"{where}[{index}]") for index, value in enumerate(values)]
    if len(doubles) > count:
        raise BadLineError(f"expected at most {count} numbers at {where}, one for each item, got {len(doubles)}")
    return doubles + [None] * (count - len(doubles))


def _number(value: Any, where: str) -> float | None:
    if isinstance(value, float) and math.isfinite(value):
        return value
    is_nan = isinstance(value, float) and math.isnan(value)
    if value is None or is_nan or (isinstance(value, str) and value.strip().lower() in ("", "nan", "null", "none")):
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            pass
    raise BadLineError(f"expected a finite number at {where}, got {_shown(value)}")


def _at(line: dict[str, Any], key: str) -> str:
    return _shown(line[key]) if key in line else "nothing"


def _shown(value: Any) -> str:
    shown = json.dumps(value)
    return shown if len(shown) <= 100 else f"{shown[:100]}…"


def _storable(text: str) -> str:
    return text[:REJECT_TEXT].encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")[:REJECT_TEXT]


# One split of an object, on an executor


def read_lines(
    rows: Iterable[tuple[str, int, bytes | None]], uris: dict[str, str], with_bom: set[str], kind: str | None
) -> Iterator[tuple[Any, ...]]:
    """
    Yield the records of lines, which come as the object's path, the split's first byte and the line.

    Spark does not say where in the object a line stands. Lines of a split come in their order, so each is counted from
    the split's first, and a record at its end says how many lines and bytes the split has.
    """
    place = None
    number = offset = 0
    for path, split, raw in rows:
        if (path, split) != place:
            if place:
                yield (END, uris[place[0]], place[1], number, offset, *[None] * 9)
            place, number, offset = (path, split), 0, 0
        if raw is None:
            yield (DAMAGED, uris[path], split, number, offset, *[None] * 9)
            continue
        if number == split == 0 and uris[path] in with_bom:  # Hadoop has taken it away.
            raw = BOM + raw
        number, start, offset = number + 1, offset, offset + len(raw) + 1
        line = bytes(raw).lstrip(b" \t\r")
        if not line or line.isspace():
            continue
        try:
            said = read_line(line, kind)
            yield (LINE, uris[path], split, number, start, *said, None, None)
        except BadLineError as error:
            text = bytes(raw[: 4 * REJECT_TEXT]).decode("utf-8", "backslashreplace").rstrip("\r")
            yield (
                *(REJECT, uris[path], split, number, start, *[None] * 7),
                *(_storable(str(error)), _storable(text)),
            )
    if place:
        yield (END, uris[place[0]], place[1], number, offset, *[None] * 9)


def cut_whole(rows: Iterable[tuple[str, bytes]]) -> Iterator[tuple[str, int, bytes | None]]:
    """Yield the lines of objects that come whole, decompressed where they are gzip; None where that is damaged."""
    for path, content in rows:
        pending: list[bytes] = []
        try:
            for piece in _plain(bytes(content)):
                first, *lines = piece.split(b"\n")
                pending.append(first)
                for line in lines:
                    yield path, 0, b"".join(pending)
                    pending = [line]
        except (zlib.error, EOFError):
            yield path, 0, None
        else:
            if rest := b"".join(pending):
                yield path, 0, rest


def _plain(data: bytes) -> Iterator[bytes]:
    if not data.startswith(GZIP):
        yield data
        return
    place = 0
    # What lies behind the last member is padding where it is zeros, and ignored where it is anything else.
    while data.startswith(GZIP, place):
        member = zlib.decompressobj(wbits=31)
        while not member.eof:
            piece = data[place : place + (1 << 16)]
            if not piece:
                raise EOFError
            place += len(piece)
            yield member.decompress(piece)
        place -= len(member.unused_data)
        while data.startswith(b"\0", place):
            place += 1


# Objects, on the driver


class Stored(NamedTuple):
    """An object: its URI, its path as Spark writes it, its size, and when it was written, in milliseconds."""

    uri: str
    path: str
    size: int
    modified: int

    @property
    def name(self) -> str:
        """The part of the URI behind the last slash."""
        return self.uri.rpartition("/")[2]

    @property
    def folder(self) -> str:
        """The part of the URI before that."""
        return self.uri[: -len(self.name)]


class Files:
    """What Hadoop's file systems hold: ``s3://`` or ``s3a://``, ``file://`` and all others that the cluster knows."""

    def __init__(self, spark: Any) -> None:
        self._jvm = spark._jvm  # PySpark has no other way to them
        self._settings = spark._jsc.hadoopConfiguration()

    def _open(self, uri: str) -> tuple[Any, Any]:
        path = self._jvm.org.apache.hadoop.fs.Path(path_of(uri))
        return path.getFileSystem(self._settings), path

    def list(self, uri: str, deep: bool = True) -> list[Stored]:
        """Return the object of this URI, or all objects under a prefix that ends in a slash, by name."""
        system, path = self._open(uri)
        if not system.exists(path):
            return []
        found, listed = [], system.listFiles(path, deep)
        while listed.hasNext():
            status = listed.next()
            text = status.getPath().toString()
            found.append(Stored(uri_of(text), text, status.getLen(), status.getModificationTime()))
        return sorted(found)

    def beginning(self, item: Stored, length: int) -> bytes:
        """Return an object's first bytes."""
        system, path = self._open(item.uri)
        stream = system.open(path)
        try:
            return bytes(self._jvm.org.apache.commons.io.IOUtils.toByteArray(stream, min(length, item.size)))
        finally:
            stream.close()

    def delete(self, uri: str) -> None:
        """Delete a folder, where it is there."""
        system, path = self._open(uri)
        system.delete(path, True)


def path_of(uri: str) -> str:
    """Return a URI as Hadoop takes it, which knows no escapes; those of a file's URI are undone."""
    return unquote(uri) if uri.startswith("file:") else uri


def uri_of(path: str) -> str:
    """Return the URI of a path that Hadoop shows."""
    return Path("/" + path[5:].lstrip("/")).as_uri() if path.startswith("file:") else path


def objects_at(files: Files, uri: str) -> list[Stored]:
    """Return the output at a URI: one object, or all ``.out`` and ``.out.gz`` objects under a prefix."""
    found = files.list(uri)
    if uri.endswith("/"):
        found = [item for item in found if item.name.endswith((".out", ".out.gz"))]
    if not found:
        raise LoadError(f"output_uri: expected output at {uri}, got no object whose name ends in .out or .out.gz.")
    return found


def objects_of_job(files: Files, job: dict[str, Any]) -> list[Stored]:
    """Return the output of a job: one object for each object of its input, and no other."""
    source = job["jobInput"]["s3DataSource"]["path"]
    source += "" if "/" in source.partition("://")[2] else "/"
    target = job["jobOutput"]["s3DataDestination"]["path"].rstrip("/") + "/"
    listed = [item for item in files.list(source[: source.rindex("/") + 1]) if item.uri.startswith(source)]
    names = {item.name for item in listed}
    outputs = {target, *(item.folder for item in listed if item.name == "_CHECK")}
    is_under = target.startswith(source) and target != source.rstrip("/") + "/"
    created = job["creationDateTime"].timestamp() * 1000 if job.get("creationDateTime") else None

    def is_input(item: Stored) -> bool:
        if item.name == "_CHECK" or not item.name:
            return False
        is_out = item.name.endswith(".out")
        if not is_out and not (is_under and item.uri.startswith(target)):
            return True
        if is_out and item.folder in outputs and item.name[:-4] in names:
            return False
        if not item.size:
            return True
        beginning = files.beginning(item, 16 << 10)
        if _OUTPUT_LINE.match(beginning):
            return False
        return bool(_INPUT_LINE.match(beginning)) or created is None or item.modified <= created

    inputs = [item for item in listed if is_input(item)]
    if not inputs:
        raise LoadError(f"Expected the job's input at {source}, which tells its output, got none. Put it back.")
    found = {item.uri: item for item in files.list(target, deep=False)}
    expected: dict[str, str] = {}
    for item in sorted(inputs, key=lambda item: not item.size):
        uri = f"{target}{item.name}.out"
        if item.size and uri in expected:
            raise LoadError(
                f"{expected[uri]} and {item.uri} have the same name, so the output of one is lost at {uri}."
            )
        if item.size and uri not in found:
            raise LoadError(f"Expected the object {uri}, the output of {item.uri}, but it does not exist.")
        expected.setdefault(uri, item.uri)
    return [found[uri] for uri in expected if uri in found]


def describe_job(arn: str, region: str | None) -> dict[str, Any]:
    """Return what the service says of a job that has ended well."""
    import boto3

    client = boto3.client("personalize", region_name=region or arn.split(":")[3])
    key = "batchSegmentJob" if ":batch-segment-job/" in arn else "batchInferenceJob"
    describe = client.describe_batch_segment_job if key == "batchSegmentJob" else client.describe_batch_inference_job
    job: dict[str, Any] = describe(**{f"{key}Arn": arn})[key]
    if job["status"] != "ACTIVE":
        raise LoadError(f"job_arn: expected a job that is ACTIVE, got one that is {job['status']}. {arn}")
    return job


# The load, on the driver


class Output:
    """
    The records of a job's output, which Spark keeps on disks while they are used.

    :param spark: The session.
    :param objects: The objects.
    :param kind: The kind of rows, where it is known; else the first good line tells.
    """

    def __init__(self, spark: Any, objects: Sequence[Stored], kind: str | None) -> None:
        self._spark = spark
        self._files = Files(spark)
        self._objects = objects
        self.kind = kind or self._first_kind() or USERS
        self.records = spark.createDataFrame(self._read(objects, self.kind), RECORD, verifySchema=False)
        self.lines = self.rows = self.rejects = 0

    def __enter__(self) -> Output:  # noqa: PYI034 (Self came with Python 3.11)
        from pyspark import StorageLevel

        self.records.persist(StorageLevel.DISK_ONLY)
        return self

    def __exit__(self, *error: object) -> None:
        self.records.unpersist()

    def _first_kind(self) -> str | None:
        for item in self._objects:
            if found := self._read([item], None).filter(lambda record: record[0] == LINE).take(1):
                return str(found[0][5])
        return None

    def _read(self, objects: Sequence[Stored], kind: str | None) -> Any:
        """Return the records of some objects. Those that are gzip, by their first bytes, are read by one task each."""
        with ThreadPoolExecutor(16) as pool:
            heads = dict(zip(objects, pool.map(lambda item: self._files.beginning(item, 3), objects)))
        whole = [item for item, head in heads.items() if head.startswith(GZIP) or (head == BOM and item.size == 3)]
        split = [item for item in set(objects).difference(whole) if item.size]
        with_bom = {item.uri for item in split if heads[item] == BOM}
        uris = {form: item.uri for item in objects for form in self._forms(item)}
        found = self._spark.sparkContext.emptyRDD()
        if split:
            rows = self._spark.read.option("lineSep", "\n").text([_GLOB.sub(r"\\\g<0>", item.path) for item in split])
            rows = rows.selectExpr("input_file_name()", "input_file_block_start()", "cast(value AS binary)")
            found = rows.rdd.map(tuple)
        if whole:
            rows = self._spark.read.format("binaryFile").load([_GLOB.sub(r"\\\g<0>", item.path) for item in whole])
            rows = rows.select("path", "content")
            found = found.union(rows.rdd.mapPartitions(cut_whole))
        return found.mapPartitions(lambda rows: read_lines(rows, uris, with_bom, kind))

    def _forms(self, item: Stored) -> set[str]:
        """Return how Spark may write an object's path, by its version."""
        jvm = self._spark._jvm
        forms = {item.path, jvm.org.apache.hadoop.fs.Path(item.path).toUri().toString()}
        return forms | {form.replace("file:/", "file:///", 1) for form in forms if not form.startswith("file:///")}

    def count(self) -> Any:
        """Read everything and count it. Return the rejects, each with its place in its object, as a DataFrame."""
        from pyspark.sql import functions as f

        counted = self.records.groupBy("object", "split", "status").agg(
            f.count("*").alias("records"),
            f.coalesce(f.sum(f.size("items")), f.lit(0)).alias("rows"),
            f.sum("number").alias("number"),
            f.sum("offset").alias("offset"),
        )
        bases: list[tuple[str, int, int, int]] = []
        seen: dict[str, tuple[int, int]] = {}
        for row in sorted(counted.collect()):
            if row.status == DAMAGED:
                raise LoadError(f"{row.object}: expected gzip from beginning to end. Fetch or upload the object again.")
            if row.status == END:
                number, offset = seen.get(row.object, (0, 0))
                bases.append((row.object, row.split, number, offset))
                seen[row.object] = number + row.number, offset + row.offset
            else:
                self.lines += row.records
                self.rows += max(row.rows, 0) if row.status == LINE else 0
                self.rejects += row.records if row.status == REJECT else 0
        if missing := [item.uri for item in self._objects if item.size and item.uri not in seen]:
            raise LoadError(
                f"Spark has passed over {', '.join(missing[:5])}: it reads no object whose name begins with '_' or "
                "'.'. Give the object, and the input that led to it, another name, or load it with another operator."
            )
        places = self._spark.createDataFrame(bases, "object string, split long, base long, base_offset long")
        return (
            self.records.where(f.col("status") == REJECT)
            .join(f.broadcast(places), ["object", "split"])
            .selectExpr("object", "base + number AS line", "base_offset + offset AS byte_offset", "reason", "text")
        )

    def frame(self, names: dict[str, str | None], filters: str | None, extra: dict[str, Any]) -> Any:
        """Return the rows under the target's names."""
        from pyspark.sql import functions as f

        exploded = self.records.where(f.col("status") == LINE).select(
            "*", f.posexplode("items").alias("position", "item")
        )
        made = {
            "entity": f.col("entity"),
            "rank": f.col("position") + 1,
            "item": f.col("item"),
            "score": f.col("scores")[f.col("position")],
            "theme": f.col("theme"),
            "relevance": f.col("relevances")[f.col("position")],
        }
        columns = [
            made[held].alias(str(name))
            for column, held in COLUMNS[self.kind].items()
            if (name := names.get(column, column)) is not None
        ]
        columns += [f.col("filters").alias(filters)] if filters else []
        columns += [literal(value).alias(name) for name, value in extra.items()]
        return exploded.select(*columns)


def literal(value: Any) -> Any:
    """Return a value of ``extra_columns`` as a column: text, a whole number, a double or a boolean."""
    from pyspark.sql import functions as f

    kind = "boolean" if isinstance(value, bool) else {int: "bigint", float: "double"}.get(type(value), "string")
    return f.lit(value).cast(kind)


class IcebergTable:
    """
    A table of Iceberg, in a catalog that Spark's settings name.

    :param spark: The session.
    :param name: Its name, as ``catalog.database.table``.
    :param load_id: What a snapshot's summary keeps of the load, so that it is appended once.
    """

    def __init__(self, spark: Any, name: str, load_id: str) -> None:
        self._spark = spark
        self._parts = name.split(".")
        if len(self._parts) < 3:
            self._parts.insert(0, spark.catalog.currentCatalog())
        self.name = ".".join(map(quoted, self._parts))
        self._load_id = load_id

    def prepare(self, rows: Any, extra: dict[str, Any]) -> Any:
        """Create the table where it is missing, partitioned by the extra columns; return the rows as its columns."""
        if not self._spark.catalog.tableExists(self.name):
            columns = ", ".join(f"{quoted(field.name)} {field.dataType.simpleString()}" for field in rows.schema)
            parts = f" PARTITIONED BY ({', '.join(map(quoted, extra))})" if extra else ""
            self._spark.sql(f"CREATE TABLE IF NOT EXISTS {self.name} ({columns}) USING iceberg{parts}")
        types = {field.name: field.dataType.simpleString() for field in self._spark.table(self.name).schema}
        if missing := [name for name in rows.columns if name not in types]:
            raise LoadError(
                f"{self.name}: expected the columns {', '.join(rows.columns)}; it lacks {', '.join(missing)}. Add "
                "them, or rename or leave out ours with column_names."
            )
        for field in rows.schema:
            ours, its = field.dataType.simpleString(), types[field.name]
            if field.name not in extra and its != ours and (ours, its) != ("int", "bigint"):
                raise LoadError(
                    f"{self.name}: its column {field.name} is of type {its}, which cannot hold {ours} as it is."
                )
        chosen = []
        for name, its in types.items():
            column = literal(extra[name]) if name in extra else rows[name] if name in rows.columns else literal(None)
            chosen.append(column.cast(its).alias(name))
        held = self._spark.range(1).select(*(literal(extra[name]).cast(types[name]).isNull() for name in extra)).first()
        for (name, value), is_null in zip(extra.items(), held):
            if is_null and value is not None:
                raise LoadError(f"extra_columns: expected a {types[name]} for {name}, got {value!r}.")
        return rows.select(*chosen)

    def loaded_before(self) -> bool:
        """Return whether a snapshot that the table's readers see, or have seen, holds this load."""
        found = self._spark.sql(
            f"SELECT 1 FROM {self.name}.snapshots s JOIN {self.name}.history h ON s.snapshot_id = h.snapshot_id "
            f"WHERE s.summary['{LEDGER}'] = '{self._load_id}' LIMIT 1"
        )
        return bool(found.take(1))

    def write(self, rows: Any, mode: str, extra: dict[str, Any], entity: str | None, entities: Any) -> bool:
        """Publish the rows by one commit that readers see. Return False where they were appended before."""
        from pyspark.sql import functions as f

        if mode in ("replace", "replace_slice"):
            condition = f.lit(True)
            for name, value in extra.items() if mode == "replace_slice" else ():
                condition = condition & f.col(name).eqNullSafe(literal(value))
            self._writer(rows, self.name).overwrite(condition)
            return True
        for tries_left in reversed(range(TRIES)):
            if mode == "append" and self.loaded_before():
                return False
            branch = f"personalize_{self._load_id[:16]}_{uuid.uuid4().hex}"
            self._drop_branches(f"personalize_{self._load_id[:16]}_")
            self._spark.sql(f"ALTER TABLE {self.name} CREATE BRANCH {branch}")
            try:
                if mode == "merge":
                    entities.createOrReplaceTempView("personalize_entities")
                    self._spark.sql(
                        f"DELETE FROM {self.name}.branch_{branch} WHERE {quoted(str(entity))} IN "
                        "(SELECT entity FROM personalize_entities WHERE entity IS NOT NULL)"
                    )
                    if entities.where("entity IS NULL").take(1):
                        self._spark.sql(f"DELETE FROM {self.name}.branch_{branch} WHERE {quoted(str(entity))} IS NULL")
                self._writer(rows, f"{self.name}.branch_{branch}").append()
                self._call(f"fast_forward('{'.'.join(self._parts[1:])}', 'main', '{branch}')")
            except Exception as error:
                # Somebody else has written to the table since: once more, from what it holds now.
                if "not an ancestor" not in str(error).lower():
                    raise
                if not tries_left:
                    raise LoadError(
                        f"The table {self.name} was changed by others each of the {TRIES} times that this load was to "
                        "be committed, so nothing was published. Run it again when they are done, or let them take "
                        "turns."
                    ) from error
            else:
                return True
            finally:
                with suppress(Exception):
                    self._spark.sql(f"ALTER TABLE {self.name} DROP BRANCH IF EXISTS {branch}")
        return False

    def _call(self, procedure: str) -> None:
        self._spark.sql(f"CALL {quoted(self._parts[0])}.system.{procedure}").collect()

    def _drop_branches(self, prefix: str) -> None:
        """Drop what a try that was killed has left."""
        for row in self._spark.sql(f"SELECT name FROM {self.name}.refs WHERE type = 'BRANCH'").collect():
            if row.name.startswith(prefix):
                self._spark.sql(f"ALTER TABLE {self.name} DROP BRANCH IF EXISTS {row.name}")

    def _writer(self, rows: Any, name: str) -> Any:
        # All rows of a load are of one partition: sent to the task that has it, one task would write all.
        writer = rows.writeTo(name).option("distribution-mode", "none")
        return writer.option(f"snapshot-property.{LEDGER}", self._load_id)


def quoted(name: str) -> str:
    """Return an identifier in backticks."""
    return "`" + name.replace("`", "``") + "`"


def read_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(description="Load the output of a batch job of Amazon Personalize.")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--job-arn", help="an ACTIVE job: its input objects tell which output is its own")
    source.add_argument("--output-uri", help="an object, or a prefix that ends in '/'")
    parser.add_argument("--target-uri", help="where Parquet goes: a prefix that ends in '/'")
    parser.add_argument("--table", help="instead, a table of Iceberg, as catalog.database.table")
    parser.add_argument("--write-mode", choices=WRITE_MODES, default="replace", help="what the table holds afterwards")
    parser.add_argument("--extra-columns", type=json.loads, default={}, help="JSON: the same value in every row")
    parser.add_argument("--column-names", type=json.loads, default={}, help="JSON: other names; null leaves one out")
    parser.add_argument("--filter-values-column", help="a column for each line's filterValues, as JSON")
    parser.add_argument("--max-reject-rate", type=float, default=0.0, help="the share of lines that may be unusable")
    parser.add_argument("--rejects-uri", help="where rejects go as Parquet; with --target-uri, by default beside it")
    parser.add_argument("--region-name", help="the job's region, where it is not the ARN's")
    # Glue hands over arguments of its own.
    args, _ = parser.parse_known_args(arguments)
    known = {name for columns in COLUMNS.values() for name in columns}
    for wrong, reason in (
        ((args.target_uri is None) == (args.table is None), "expected one of --target-uri and --table."),
        (args.target_uri and not args.target_uri.endswith("/"), "--target-uri: expected a prefix that ends in '/'."),
        (not 0 <= args.max_reject_rate <= 1, "--max-reject-rate: expected a share from 0.0 to 1.0."),
        (not isinstance(args.extra_columns, dict), "--extra-columns: expected a JSON object."),
        (not isinstance(args.column_names, dict), "--column-names: expected a JSON object."),
        (set(args.column_names) - known, f"--column-names: expected names among {', '.join(sorted(known))}."),
        (args.target_uri and args.write_mode != "replace", "--write-mode: Parquet has no table; give it with --table."),
        (args.write_mode == "replace_slice" and not args.extra_columns, "replace_slice: expected --extra-columns."),
    ):
        if wrong:
            parser.error(reason)
    return args


def run(spark: Any, args: argparse.Namespace) -> dict[str, Any]:
    """Load, and return the counts."""
    started, files = time.monotonic(), Files(spark)
    if args.job_arn:
        objects = objects_of_job(files, describe_job(args.job_arn, args.region_name))
        kind = SEGMENTS if ":batch-segment-job/" in args.job_arn else None
    else:
        objects, kind = objects_at(files, args.output_uri), None
    versions = json.dumps([[item.uri, item.size, item.modified] for item in objects])
    source = args.job_arn or f"{args.output_uri}#{hashlib.sha256(versions.encode()).hexdigest()[:16]}"
    load_id = hashlib.sha256(json.dumps(source).encode()).hexdigest()[:32]
    name = (
        args.job_arn.rpartition("/")[2] if args.job_arn else hashlib.sha256(args.output_uri.encode()).hexdigest()[:16]
    )
    rejects_uri = args.rejects_uri or (f"{args.target_uri}_rejects/" if args.target_uri else None)
    data_files: list[str] = []
    with Output(spark, objects, kind) as output:
        rows = output.frame(args.column_names, args.filter_values_column, args.extra_columns)
        if len(set(rows.columns)) < len(rows.columns) or not rows.columns:
            raise LoadError(f"Expected one or more columns, each name once, got {', '.join(rows.columns)}.")
        entity_column, entity = next(iter(COLUMNS[output.kind])), None
        if args.write_mode == "merge" and (entity := args.column_names.get(entity_column, entity_column)) is None:
            raise LoadError(f"merge needs the column {entity_column}: do not leave it out in column_names.")
        table = IcebergTable(spark, args.table, load_id) if args.table else None
        if table:
            rows = table.prepare(rows, args.extra_columns)
        settle(output, output.count(), files, args.max_reject_rate, source, rejects_uri and f"{rejects_uri}{name}/")
        if table:
            entities = output.records.where(f"status = '{LINE}'").select("entity").distinct()
            if not table.write(rows, args.write_mode, args.extra_columns, entity, entities):
                print(f"{source} was appended to {args.table} before: nothing to do.")
        else:
            rows.write.mode("overwrite").option("compression", "zstd").parquet(f"{args.target_uri}{name}/")
            data_files = [item.uri for item in files.list(f"{args.target_uri}{name}/") if item.name.startswith("part-")]
    return {
        "job_arn": args.job_arn,
        "files": len(objects),
        "lines": output.lines,
        "rows": output.rows,
        "rejects": output.rejects,
        "bytes": sum(item.size for item in objects),
        "seconds": round(time.monotonic() - started, 3),
        "target_uri": args.target_uri,
        "data_files": data_files,
    }


def settle(output: Output, rejects: Any, files: Files, rate: float, source: str, kept_in: str | None) -> None:
    """Keep the rejected lines, and decide whether there are too many of them to publish the others."""
    from pyspark.sql import functions as f

    if kept_in and output.rejects:
        kept = rejects.select(f.lit(source).alias("source"), "*")
        kept.write.mode("overwrite").option("compression", "zstd").parquet(kept_in)
    elif kept_in:
        files.delete(kept_in)
    # Not a product: 0.29 * 100 is less than 29.
    if output.rejects and output.rejects / output.lines > rate:
        examples = [
            f"  {row.object}, line {row.line} (byte {row.byte_offset}): {row.reason}: {row.text[:200]}"
            + ("…" if len(row.text) > 200 else "")
            for row in rejects.orderBy("object", "line").take(5)
        ]
        where = f"All of them are in {kept_in}." if kept_in else "Name --rejects-uri to keep all of them."
        raise LoadError(
            f"{output.rejects} of {output.lines} lines are unusable, more than max_reject_rate={rate} allows, so "
            "nothing was loaded. The first of them:\n" + "\n".join(examples) + f"\n{where} Mend the input and run the "
            "job again, or raise max_reject_rate to load the others."
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Load, and print the counts as JSON in a line of their own."""
    args = read_arguments(arguments)
    try:
        from pyspark import SparkConf
        from pyspark.sql import SparkSession
    except ImportError as error:
        sys.exit(f"PySpark is missing: submit this file with spark-submit, or pip install pyspark. {error}")
    builder = SparkSession.builder.appName("personalize-output")
    if args.table:
        set_before = SparkConf().get("spark.sql.extensions", "")
        names = [name for name in set_before.split(",") if name and name != EXTENSIONS]
        builder = builder.config("spark.sql.extensions", ",".join([*names, EXTENSIONS]))
    print(json.dumps(run(builder.getOrCreate(), args)))


if __name__ == "__main__":
    main()
