"""
Output as Parquet files, part by part: what a task writes, and what it says of that to the task which publishes.

Names follow from what is written and which part of it, so a part that is written again replaces its own files.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from types import TracebackType
from typing import Any, Self

from airflow_provider_personalize.exceptions import InvalidRequestError
from airflow_provider_personalize.output.rows import Batch, Column, Reject
from airflow_provider_personalize.s3.folders import new_files
from airflow_provider_personalize.s3.objects import StoredObject
from airflow_provider_personalize.service.names import digest
from airflow_provider_personalize.targets.base import Capabilities
from airflow_provider_personalize.targets.counts import LoadCounts
from airflow_provider_personalize.targets.extras import need
from airflow_provider_personalize.targets.parquet import ParquetFiles, RowFile, column_types, write_rejects
from airflow_provider_personalize.targets.parts import complete
from airflow_provider_personalize.targets.plan import LoadPlan
from airflow_provider_personalize.uris import FileUri, S3Uri

#: Folders for what is no data. Engines that read all of a prefix pass over names that begin so.
REJECTS, WITHOUT_ROWS = "_rejects/", "_without_rows/"
#: How much of a name may tell a reader what it is of.
_READABLE = 100


@dataclass(frozen=True)
class ParquetPart:
    """
    What became of one part: what the task that wrote it returns, for the task that publishes.

    :param source: What was loaded.
    :param part: The number of the part, from 0.
    :param parts: How many parts there are.
    :param kind: The kind of the rows; None where no line told it.
    :param columns: The columns of the files with their types.
    :param extra_columns: The same value for every row, by column, as text.
    :param entity: The column of the users, items or segments; None where it was left out.
    :param counts: What the part has come to.
    :param data_files: The URIs of the files.
    :param rejects_file: The URI of the file with the rejected lines, where there are any.
    :param without_rows_file: The URI of the file with the entities whose lists are empty, where there are any.
    """

    source: str
    part: int
    parts: int
    kind: str | None
    columns: Mapping[str, str]
    extra_columns: Mapping[str, str | None]
    entity: str | None
    counts: LoadCounts
    data_files: Sequence[str] = ()
    rejects_file: str | None = None
    without_rows_file: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return it as XCom takes it."""
        told = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "counts"}
        return {**self.counts._asdict(), **told, "data_files": list(self.data_files), "columns": dict(self.columns)}

    @classmethod
    def of(cls, value: Any) -> ParquetPart:
        """
        Read what :meth:`as_dict` has returned, with more beside it.

        :raises InvalidRequestError: if it is something else.
        """
        try:
            counts = LoadCounts(*(int(value[name]) for name in LoadCounts._fields))
            return cls(counts=counts, **{name: value[name] for name in cls.__dataclass_fields__ if name != "counts"})
        except (KeyError, TypeError, ValueError):
            raise InvalidRequestError(
                "loads: expected what PersonalizeToParquetOperator has returned (one task's, or a list of all its "
                f"mapped tasks'), got {str(value)[:200]!r}."
            ) from None


def as_text(value: Any) -> str:
    """Return a value of ``extra_columns`` as text: moments as ISO 8601 has them."""
    return value.isoformat() if isinstance(value, date) else str(value)


def extra_texts(extra: Mapping[str, Any]) -> dict[str, str | None]:
    """Return ``extra_columns`` as the task that publishes compares them."""
    return {name: None if value is None else as_text(value) for name, value in extra.items()}


def all_parts(values: Iterable[Any]) -> list[ParquetPart]:
    """
    Return the parts of one load in their order.

    :param values: What the tasks that wrote them have returned.
    :raises InvalidRequestError: if one is missing, or does not belong to the others.
    """
    same_arguments = "Give their tasks the same arguments, and clear them"
    return complete(
        map(ParquetPart.of, values),
        alike={"extra_columns": ("extra_columns", same_arguments)},
        alike_where_told={"columns": ("columns", same_arguments)},
    )


@dataclass
class PartName:
    """
    What a part's files are called after.

    :param source: What is loaded: a job's ARN, or the URI and version of other output.
    :param objects: The output objects of the part.
    :param part: The number of the part, from 0.
    :param parts: How many parts there are.
    """

    source: str
    objects: Sequence[StoredObject]
    part: int
    parts: int

    def stem(self, columns: Mapping[str, str], extra: Mapping[str, str | None]) -> str:
        """
        Return what the names of the files begin with: the same for the same content, and for no other.

        A table may refer to a file, so that other content must not come under its name. Another version of pyarrow
        writes other bytes.
        """
        import pyarrow

        readable = re.sub(r"[^A-Za-z0-9-]+", "-", self.source.partition("#")[0].rstrip("/").rpartition("/")[2]).strip(
            "-"
        )
        content = [self.source, list(columns.items()), dict(extra), pyarrow.__version__]
        tail = digest([content, [[item.uri, item.size, item.etag] for item in self.objects], self.part, self.parts], 12)
        words = [f"part-{self.part:05}-of-{self.parts:05}", readable[:_READABLE], tail]
        return "-".join(word for word in words if word)


@dataclass
class ParquetTarget:
    """
    One part of output as Parquet files. It is a target of its own: it is published when its files are complete.

    :param plan: What is to be loaded, and how.
    :param place: The folder that takes the files.
    :param name: What they are called after.
    :param client: Returns an S3 client with credentials that hold; called only where one is needed.
    """

    plan: LoadPlan
    place: S3Uri | FileUri
    name: PartName
    client: Callable[[], Any]
    data_files: list[str] = field(default_factory=list)
    rejects_file: str | None = None
    without_rows_file: str | None = None

    capabilities = Capabilities(frozenset({"replace"}), all_or_nothing=True, parts=False)

    def __enter__(self) -> Self:
        need("parquet", "numpy", "pyarrow.parquet")
        self._data = new_files(self.place, self.client)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._data.__exit__(kind, error, traceback)

    @property
    def extra(self) -> dict[str, str | None]:
        """The values of ``extra_columns``, as text."""
        return extra_texts(self.plan.extra)

    @property
    def rejects_kept_in(self) -> str | None:
        """The URI of the file with the rejected lines."""
        return f"{self.place}{REJECTS}{self._stem}.parquet"

    def prepare(self, columns: tuple[Column, ...]) -> None:
        """Find out what the files are called."""
        self.columns = columns
        self.types = column_types(columns, self.plan.extra)
        self._stem = self.name.stem(self.types, self.extra)

    def loaded_before(self) -> None:
        """Return None: files that were written before are written again."""

    def stage(self, part: int, batches: Iterator[Batch], rejects: Iterable[Reject]) -> None:
        """Write the rows; nobody sees the files yet."""
        self._rejects = rejects
        parquet = ParquetFiles(self._data, self._stem, self.columns, self.plan.extra)
        without_rows = RowFile(self._data, f"{WITHOUT_ROWS}{self._stem}.parquet", {"entity": "text"})
        parquet.write(_noting(batches, without_rows))
        parquet.finish()
        self._has_more = without_rows.finish()

    def publish(self, counts: LoadCounts) -> None:
        """Let the files appear, those of the rejected lines first."""
        self.discard()
        published = self._data.publish()
        if self._has_more:
            self.without_rows_file = next(uri for uri in published if uri.startswith(f"{self.place}{WITHOUT_ROWS}"))
            published.remove(self.without_rows_file)
        self.data_files = published

    def discard(self) -> None:
        """Let the file of the rejected lines appear, and no other."""
        if next(iter(self._rejects), None) is None:
            return
        with new_files(self.place, self.client) as files:
            write_rejects(files, f"{REJECTS}{self._stem}.parquet", self.plan.source, self._rejects)
            [self.rejects_file] = files.publish()


def _noting(batches: Iterable[Batch], without_rows: RowFile) -> Iterator[Batch]:
    """Pass batches on, and note the entities whose lists are empty: a merge takes away the rows that they had."""
    for batch in batches:
        if 0 in batch.counts:
            for entity, count in zip(batch.entities, batch.counts, strict=True):
                if not count:
                    without_rows.add((entity,))
        yield batch
