"""
Parquet files into an Iceberg table: all of a load by one commit, which shows one new snapshot.

A commit says what becomes of each data file: those of the load come in, those whose rows they replace go, and a file of
which only some rows go is written anew without them. Readers see the snapshot before it or the one after. What a commit
is to do is worked out from the table as it is; if somebody else has committed meanwhile, it is worked out again.

It needs pyiceberg, which the extra ``iceberg`` installs.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow_provider_personalize.exceptions import InvalidRequestError, PersonalizeError
from airflow_provider_personalize.output.rows import Reject
from airflow_provider_personalize.service.names import digest
from airflow_provider_personalize.service.waits import Logger, growing_pause
from airflow_provider_personalize.targets.counts import LoadCounts
from airflow_provider_personalize.targets.iceberg_rows import CoveredEntities, new_file, slice_filter
from airflow_provider_personalize.targets.iceberg_schema import check_table, mismatch, new_schema, new_spec
from airflow_provider_personalize.targets.parquet_parts import ParquetPart
from airflow_provider_personalize.targets.plan import WriteMode
from airflow_provider_personalize.targets.rejects import EXAMPLES, example

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.manifest import DataFile
    from pyiceberg.table import FileScanTask, Table, Transaction

#: How often a commit is tried while others commit to the same table, for about a minute in all.
TRIES = 10
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 10.0
#: The properties of a snapshot that note the load: its id, what was loaded, and its counts.
LOAD_ID, SOURCE, COUNTS = "personalize.load-id", "personalize.source", "personalize.{}"
_NAME_MAPPING = "schema.name-mapping.default"


class Published(NamedTuple):
    """
    What became of a load.

    :param is_new: Whether anything was committed now; False where the table holds the load already.
    :param snapshot_id: The table's snapshot that holds it; None for a table without any.
    :param location: Where the table lies.
    """

    is_new: bool
    snapshot_id: int | None
    location: str


class _Change(NamedTuple):
    """
    What a commit does.

    :param added: The URIs of the load's files that come in.
    :param dropped: The files of the table that go.
    :param rewritten: The files without the rows that go.
    """

    added: Sequence[str]
    dropped: Sequence[DataFile]
    rewritten: Sequence[DataFile]


@dataclass
class IcebergLoad:
    """
    The publication of a load.

    :param catalog: The catalog.
    :param name: The table's name, with its namespace.
    :param parts: The parts of the load, of which at least one has its columns.
    :param write_mode: What the table holds after the load.
    :param log: Where to log.
    """

    catalog: Catalog
    name: str
    parts: Sequence[ParquetPart]
    write_mode: WriteMode
    log: Logger
    _rewritten: dict[tuple[str, ...], DataFile | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # A part without a good line may not know the kind of the others' rows.
        self._told = next((part for part in self.parts if part.kind), self.parts[0])
        self._extra = dict(self._told.extra_columns)
        self._uris = [uri for part in self.parts for uri in part.data_files]
        self._counts = LoadCounts.total(part.counts for part in self.parts)
        source = self.parts[0].source
        if self.write_mode == "replace_slice" and not self._extra:
            raise InvalidRequestError(
                "write_mode='replace_slice' replaces where extra_columns match: expected extra_columns in the tasks "
                "that wrote the Parquet files, got none."
            )
        self._notes = {
            LOAD_ID: digest(source, 32),
            SOURCE: source,
            **{COUNTS.format(name): str(count) for name, count in self._counts._asdict().items()},
        }
        if self.write_mode == "merge" and self._told.entity is None:
            raise InvalidRequestError(
                "write_mode='merge' needs the column of the users, items or segments: do not leave it out in "
                "column_names of the tasks that wrote the Parquet files."
            )

    def publish(self) -> Published:
        """
        Commit the load, unless the table holds it already.

        :raises TableMismatchError: if the table cannot take the files.
        :raises PersonalizeError: if others keep on committing to the table.
        """
        from pyiceberg.exceptions import (
            CommitFailedException,
            CommitStateUnknownException,
            TableAlreadyExistsError,
            ValidationException,
            WaitingForLockException,
        )

        conflicts = (CommitFailedException, CommitStateUnknownException, TableAlreadyExistsError)
        reason = ""
        for tried in range(TRIES):
            if tried:
                pause = growing_pause(tried, first=FIRST_PAUSE, longest=LONGEST_PAUSE)
                self.log.info("The commit to %s is tried again in %.1f s: %s", self.name, pause, reason)
                time.sleep(pause)
            try:
                return self._publish()
            except (*conflicts, ValidationException, WaitingForLockException) as error:
                reason = f"{type(error).__name__}: {error}"
        raise PersonalizeError(
            f"The table {self.name} was changed by others each of the {TRIES} times that this load was to be "
            "committed, so nothing was published. Run this task again when they are done, or let them take turns (a "
            f"pool, or max_active_runs=1). The last conflict: {reason}"
        )

    def _publish(self) -> Published:
        from pyiceberg.exceptions import NoSuchTableError

        try:
            table = self.catalog.load_table(self.name)
        except NoSuchTableError:
            return self._create()
        check_table(table, self.name, self._told.columns, self._extra)
        snapshot = table.current_snapshot()
        if self.write_mode == "append" and (before := self._appended_before(table)) is not None:
            return Published(is_new=False, snapshot_id=before, location=table.location())
        change = self._change(table)
        if not any(change):
            return Published(
                is_new=False, snapshot_id=snapshot.snapshot_id if snapshot else None, location=table.location()
            )
        # Were pyiceberg to repeat the commit by itself, it would apply what was worked out from an earlier state.
        table.metadata.properties["commit.retry.num-retries"] = "0"
        transaction = table.transaction()
        if table.name_mapping() is None:
            transaction.set_properties({_NAME_MAPPING: table.schema().name_mapping.model_dump_json()})
        self._stage(transaction, change)
        transaction.commit_transaction()
        return self._done(table)

    def _create(self) -> Published:
        """Create the table with the load's rows in it: nobody sees it empty."""
        from pyiceberg.exceptions import NamespaceAlreadyExistsError, NoSuchNamespaceError

        namespace = self.name.rpartition(".")[0]
        try:
            self.catalog.load_namespace_properties(namespace)
        except NoSuchNamespaceError:
            with suppress(NamespaceAlreadyExistsError):
                self.catalog.create_namespace(namespace)
                self.log.info("Created the namespace %s.", namespace)
        schema = new_schema(self._told.columns)
        transaction = self.catalog.create_table_transaction(
            self.name, schema=schema, partition_spec=new_spec(schema, self._extra)
        )
        mapping = transaction.table_metadata.schema().name_mapping.model_dump_json()
        transaction.set_properties({_NAME_MAPPING: mapping})
        if self._uris:
            self._stage(transaction, _Change(self._uris, (), ()))
        transaction.commit_transaction()
        self.log.info("Created the table %s, partitioned by %s.", self.name, ", ".join(self._extra) or "nothing")
        return self._done(self.catalog.load_table(self.name))

    def _done(self, table: Table) -> Published:
        table = table.refresh()
        snapshot = table.current_snapshot()
        used = {file.file_path for file in self._rewritten.values() if file}
        live = {task.file.file_path for task in table.scan().plan_files()} if used else set()
        for path in used - live:
            # It was written for a try that met a conflict.
            table.io.delete(path)
        return Published(True, snapshot.snapshot_id if snapshot else None, table.location())

    def _appended_before(self, table: Table) -> int | None:
        """Return the snapshot that appended the same source, or None."""
        load_id = self._notes[LOAD_ID]
        current = table.current_snapshot()
        while current is not None:
            summary = current.summary.additional_properties if current.summary else {}
            if summary.get(LOAD_ID) == load_id:
                return current.snapshot_id
            current = table.snapshot_by_id(current.parent_snapshot_id) if current.parent_snapshot_id else None
        return None

    # What a commit does

    def _change(self, table: Table) -> _Change:
        """Work out what the commit has to do to the table as it is."""
        from pyiceberg.expressions import AlwaysTrue

        if self.write_mode == "append":
            return _Change(self._uris, (), ())
        # A file of the load that is in the table already stays as it is: its name says what is in it.
        is_slice = self.write_mode == "replace_slice"
        wanted, kept_rows = slice_filter(self._extra) if is_slice else (AlwaysTrue(), AlwaysTrue())
        present: set[str] = set()
        tasks = []
        for task in table.scan(row_filter=wanted).plan_files():
            if task.file.file_path in self._uris:
                present.add(task.file.file_path)
            else:
                tasks.append(task)
        dropped: list[DataFile] = []
        rewritten: list[DataFile] = []
        for task, without in self._without_old_rows(table, tasks, kept_rows):
            if without is task.file:
                continue
            dropped.append(task.file)
            if without is not None:
                rewritten.append(without)
        return _Change([uri for uri in self._uris if uri not in present], dropped, rewritten)

    def _without_old_rows(
        self, table: Table, tasks: Iterable[FileScanTask], kept_rows: Any
    ) -> Iterator[tuple[FileScanTask, DataFile | None]]:
        """Yield each file with what takes its place: itself, another one with fewer rows, or None."""
        from pyiceberg.expressions import AlwaysTrue

        covered: CoveredEntities | None = None
        for task in tasks:
            whole = self.write_mode == "replace" or (
                self.write_mode == "replace_slice" and isinstance(task.residual, AlwaysTrue)
            )
            if whole:
                yield task, None
                continue
            # Another try need not write it again: the same file with the same deletes has the same rows left.
            key = (task.file.file_path, *sorted(file.file_path for file in task.delete_files))
            if key not in self._rewritten:
                if self.write_mode == "merge" and covered is None:
                    covered = CoveredEntities(table.io, self.parts, str(self._told.entity))
                self._rewritten[key] = new_file(table, task, kept_rows, covered)
            yield task, self._rewritten[key]

    def _stage(self, transaction: Transaction, change: _Change) -> None:
        from pyiceberg.io.pyarrow import parquet_files_to_data_files

        io = transaction._table.io
        update = transaction.update_snapshot(snapshot_properties=self._notes)
        producer = update.overwrite() if change.dropped else update.fast_append()
        try:
            added = list(parquet_files_to_data_files(io, transaction.table_metadata, iter(change.added)))
        except (TypeError, ValueError) as error:
            raise mismatch(self.name, str(error)) from error
        except FileNotFoundError as error:
            raise InvalidRequestError(
                f"loads: expected all files that the tasks have written, but one is gone. Clear these tasks. ({error})"
            ) from error
        with producer:
            for file in (*added, *change.rewritten):
                producer.append_data_file(file)
            for file in change.dropped:
                producer.delete_data_file(file)


def reject_examples(catalog: Catalog, parts: Iterable[ParquetPart]) -> Iterator[str]:
    """Yield the first rejected lines of a load, in words for an error. A file is read when its lines are asked for."""
    return islice(_rejects(catalog, parts), EXAMPLES)


def _rejects(catalog: Catalog, parts: Iterable[ParquetPart]) -> Iterator[str]:
    import pyarrow.parquet as pq
    from pyiceberg.io import load_file_io

    for uri in filter(None, (part.rejects_file for part in parts)):
        with load_file_io(catalog.properties, uri).new_input(uri).open() as stream:
            first = next(pq.ParquetFile(stream).iter_batches(EXAMPLES))
        yield from (example(Reject(*list(row.values())[1:])) for row in first.to_pylist())
