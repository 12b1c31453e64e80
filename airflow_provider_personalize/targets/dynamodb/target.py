"""DynamoDB as a target of the loader: all of the output is looked at first, and read again to be written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from itertools import chain
from types import TracebackType
from typing import Any, Protocol, Self

from airflow_provider_personalize.output.rows import Batch, Column, Reject, RowKind
from airflow_provider_personalize.service.waits import Logger
from airflow_provider_personalize.targets.base import Capabilities
from airflow_provider_personalize.targets.counts import LoadCounts
from airflow_provider_personalize.targets.dynamodb.calls import CALL_ITEMS, BatchWriter, DynamoDbCalls
from airflow_provider_personalize.targets.dynamodb.items import ItemFormat, Piece, by_line, pieces_of
from airflow_provider_personalize.targets.dynamodb.repeats import HeldBack, RepeatedEntities, Repeats
from airflow_provider_personalize.targets.dynamodb.table import Keys, Table
from airflow_provider_personalize.targets.plan import LoadPlan

#: For so many segments together, the chunks that they do not have any more are deleted.
_SEGMENTS = 500


class Sink(Protocol):
    """What takes the items of a load: a table that is there, or the files of an import."""

    def prepare(self, keys: Keys) -> None:
        """Make sure that a table of these keys can take items."""

    def take(self, entities: Iterator[tuple[str, Iterator[str]]], counts: LoadCounts) -> int:
        """
        Take all items.

        :param entities: Each entity, and its items.
        :param counts: What the load has come to.
        :return: How many items there were.
        """


class ExistingTable:
    """
    A table that items are put into, each in the place of what its key held. Readers see old and new items meanwhile.

    :param calls: The calls for it.
    :param log: Where to log.
    :param create: Whether to make it where it is missing.
    :param expiring: Whether items expire.
    """

    def __init__(self, calls: DynamoDbCalls, log: Logger, *, create: bool, expiring: bool) -> None:
        self._calls = calls
        self._table = Table(calls, log)
        self._create = create
        self._expiring = expiring
        self._is_new = False

    def prepare(self, keys: Keys) -> None:
        """Make sure that the table has these keys."""
        self._keys = keys
        self._is_new = self._table.prepare(keys, create=self._create, expiring=self._expiring)

    def take(self, entities: Iterator[tuple[str, Iterator[str]]], counts: LoadCounts) -> int:
        """Put all items; then, of each segment, delete the chunks that it does not have any more."""
        count = 0
        last_chunks: list[tuple[str, int]] = []
        with BatchWriter(self._calls) as writer:
            for entity, items in entities:
                before = count
                for item in items:
                    writer.put(item)
                    count += 1
                if self._keys.is_chunked and not self._is_new:
                    last_chunks.append((entity, count - before - 1))
                    if len(last_chunks) == _SEGMENTS:
                        self._delete_later(writer, last_chunks)
            writer.drain()
            self._delete_later(writer, last_chunks)
        return count

    def _delete_later(self, writer: BatchWriter, last_chunks: list[tuple[str, int]]) -> None:
        # All new chunks are written first, so a reader who finds no old one any more has all of these.
        writer.drain()
        for entity, last in last_chunks:
            writer.submit(self._delete_behind, entity, last)
        writer.drain()
        last_chunks.clear()

    def _delete_behind(self, entity: str, last: int) -> None:
        requests = self._table.later_chunks(self._keys, entity, last)
        for start in range(0, len(requests), CALL_ITEMS):
            self._calls.write(requests[start : start + CALL_ITEMS])


class DynamoDbTarget:
    """
    One item for each entity; of a segment, as many as it needs.

    Staging looks at all lines without writing anything: there may be too many rejects, or a line of which no item can
    be made. Publishing reads them again, and writes. An entity that stands in several lines has the results of all of
    them, in one item; so these lines wait until all others are written.

    :param table: The table's name.
    :param plan: What is loaded. Its write mode is ``merge``, as each item takes the place of that entity's earlier one.
    :param kind: The kind of rows.
    :param keys: The table's keys.
    :param constants: What all items have.
    :param sink: What takes the items.
    :param again: Reads all lines again.
    """

    capabilities = Capabilities(frozenset({"merge"}), all_or_nothing=False, parts=False)
    rejects_kept_in = None

    def __init__(
        self,
        table: str,
        plan: LoadPlan,
        kind: RowKind,
        *,
        keys: Keys,
        constants: Mapping[str, Any],
        sink: Sink,
        again: Callable[[], Iterator[Batch]],
    ) -> None:
        self.plan = plan
        #: How many items were written.
        self.items = 0
        self._keys = keys
        self._format = ItemFormat(table, kind, keys.partition, keys.sort, constants)
        self._sink = sink
        self._again = again
        self._stack = ExitStack()
        self._repeated = RepeatedEntities(set())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Let go of what was held back."""
        self._stack.close()

    def prepare(self, columns: tuple[Column, ...]) -> None:
        """Make sure that the table has the right keys."""
        self._sink.prepare(self._keys)

    def loaded_before(self) -> LoadCounts | None:
        """Return None: what was put before is put again, and stays the same."""
        return None

    def stage(self, part: int, batches: Iterator[Batch], rejects: Iterable[Reject]) -> None:
        """Look at all lines, and find the entities that stand in several of them."""
        with Repeats() as repeats:
            for line in by_line(self._checked(batches)):
                repeats.add(self._looked_at(line).entity)
            self._repeated = repeats.find()

    def publish(self, counts: LoadCounts) -> None:
        """Read all lines again, and write them."""
        self.items = self._sink.take(self._entities(), counts)

    def discard(self) -> None:
        """Do nothing: nothing was written yet."""

    def _checked(self, batches: Iterator[Batch]) -> Iterator[Piece]:
        for piece in pieces_of(batches):
            self._format.check(piece)
            yield piece

    def _looked_at(self, line: Iterator[Piece]) -> Piece:
        first = next(line)
        following = next(line, None)
        if following is not None and not self._format.is_chunked:
            # All of a giant line is one item, or none.
            for _ in self._format.items(chain([first, following], line)):
                pass
        else:
            for _ in line:
                pass
        return first

    def _entities(self) -> Iterator[tuple[str, Iterator[str]]]:
        held_back = self._stack.enter_context(HeldBack())
        for line in by_line(pieces_of(self._again())):
            first = next(line)
            if first.entity in self._repeated:
                for piece in chain([first], line):
                    held_back.add(piece)
            else:
                yield str(first.entity), self._format.items(chain([first], line))
        for entity in held_back.by_entity():
            first = next(entity)
            yield str(first.entity), self._format.items(chain([first], entity))
