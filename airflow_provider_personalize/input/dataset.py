"""
From a query's rows to the CSV that a dataset import takes, with everything that is wrong with them.

This module is pure: it imports neither Airflow nor boto3.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from airflow_provider_personalize.arguments import shown
from airflow_provider_personalize.exceptions import InvalidRequestError
from airflow_provider_personalize.input.dataset_values import MAX_CATEGORY_LENGTH, Write, writer
from airflow_provider_personalize.input.values import plain_ids
from airflow_provider_personalize.service.data_requests import ImportMode
from airflow_provider_personalize.service.names import folded
from airflow_provider_personalize.service.recipes import MAX_ID_LENGTH
from airflow_provider_personalize.service.schemas import DatasetSchema, Field

#: The most bytes of one import. The quotas read "100 GB" and "1 GB"; the smaller meaning of that is safe.
MAX_BYTES = {"FULL": 100_000_000_000, "INCREMENTAL": 1_000_000_000}
#: What a training needs: so many interactions, and so many users who have two of them or more.
MIN_INTERACTIONS, MIN_USERS = 1_000, 25
#: Users who are remembered while those with two interactions are counted, so that memory does not grow with the rows.
REMEMBERED_USERS = 200_000
#: Problems that are told in full.
SHOWN_PROBLEMS = 20

#: What UTF-8 has no bytes for, or no database a place: halves of surrogate pairs, and NUL.
_UNWRITABLE = re.compile("[\0\ud800-\udfff]")
_QUOTED = re.compile(r'[,"\r\n]')


@dataclass
class Problems:
    """What is wrong with a load: the first of them in full, and the number of all."""

    count: int = 0
    first: tuple[str, ...] = ()

    def add(self, problem: str) -> None:
        """Add a problem, in words."""
        self.count += 1
        if len(self.first) < SHOWN_PROBLEMS:
            self.first += (problem,)

    def raise_if_any(self) -> None:
        """
        Raise what was found.

        :raises InvalidRequestError: if there is anything, with all of it.
        """
        if not self.count:
            return
        told = "\n".join(f"  {problem}" for problem in self.first)
        more = f"\n  … and {self.count - len(self.first):,} more" if self.count > len(self.first) else ""
        raise InvalidRequestError(
            f"Found {self.count:,} problem{'s' if self.count > 1 else ''} in what the query gives for the dataset; "
            f"nothing was written:\n{told}{more}",
            problems=list(self.first),
            problem_count=self.count,
        )


class _Column(NamedTuple):
    """A field of the schema, and the column of the query that it is filled from."""

    field: Field
    name: str
    position: int
    write: Write


class DatasetRows:
    """
    Rows of a query as rows of a dataset's CSV, in the order of its schema.

    What is wrong is collected, and raised by :meth:`finish`: the rows that go with it are not made.

    :param columns: The names of the query's columns, told in any case and with or without underscores.
    :param schema: The dataset's schema.
    :param now: The time, in seconds since the epoch: no moment is far beyond it.
    """

    def __init__(self, columns: Sequence[str], schema: DatasetSchema, *, now: float | None = None) -> None:
        self.schema = schema
        self.now = time.time() if now is None else now
        #: What is wrong so far.
        self.problems = Problems()
        #: How many rows there were so far.
        self.rows = 0
        self._users = _Users()
        self.columns = list(self._match(list(columns)))
        #: Whether the columns are not those of the schema, so that there is no use in reading all rows.
        self.is_hopeless = bool(self.problems.count)

    @property
    def header(self) -> bytes:
        """The first line of each file: the names of the fields, which are never quoted."""
        return (",".join(field.name for field in self.schema.fields) + "\n").encode()

    @property
    def user_position(self) -> int | None:
        """Which field holds the users whose interactions are still to be counted; None where nothing is."""
        if self.schema.dataset_type != "INTERACTIONS" or self._users.is_known:
            return None
        return next((n for n, column in enumerate(self.columns) if column.field.name == "USER_ID"), None)

    def encode(self, rows: Sequence[Sequence[Any]], *, in_order: bool = False) -> bytes:
        """
        Return rows as CSV; what is wrong with them is added to :attr:`problems`.

        :param rows: The next rows of the query, as the database's driver gives them.
        :param in_order: Whether their values stand in the schema's order, and not in that of the query's columns.
        """
        first_row = self.rows + 1
        self.rows += len(rows)
        texts = []
        for index, column in enumerate(self.columns):
            position = index if in_order else column.position
            texts.append(self._texts(column, [row[position] for row in rows], first_row))
        users = self.user_position
        if users is not None:
            self.count_users(texts[users])
        if self.problems.count:
            return b""
        quoted = [_quote(column) for column in texts]
        return ("\n".join(map(",".join, zip(*quoted, strict=True))) + "\n").encode() if rows else b""

    def add_rows(self, rows: int) -> None:
        """Count rows that were found to be good without being encoded here."""
        self.rows += rows

    def count_users(self, users: Sequence[Any]) -> None:
        """Count the interactions of users, a user for each."""
        self._users.count(users)

    def finish(self, size: int, *, import_mode: ImportMode = "FULL", has_other_data: bool = False) -> list[str]:
        """
        Judge the whole load, and return what is worth a warning.

        :param size: How many bytes were written.
        :param import_mode: How they will be imported, which decides how many they may be.
        :param has_other_data: Whether the dataset holds data besides, so that few of them may be enough.
        :raises InvalidRequestError: with everything that is wrong.
        """
        if size > MAX_BYTES[import_mode]:
            remedy = "; import all of it with importMode FULL" if import_mode == "INCREMENTAL" else ""
            self.problems.add(
                f"expected at most {MAX_BYTES[import_mode]:,} bytes, as one {import_mode} import takes, got {size:,}; "
                f"leave out old rows or columns that the model does not need{remedy}."
            )
        few = [] if self.is_hopeless or self.schema.dataset_type != "INTERACTIONS" else list(self._too_few())
        if not has_other_data:
            for problem in few:
                self.problems.add(problem)
        self.problems.raise_if_any()
        return few if has_other_data else []

    def _too_few(self) -> Iterator[str]:
        remedy = "let the query reach further back in time, or leave fewer rows out."
        if self.rows < MIN_INTERACTIONS:
            yield f"expected at least {MIN_INTERACTIONS:,} interactions, as training needs, got {self.rows:,}; {remedy}"
        if self._users.is_exact and (users := self._users.with_two) < MIN_USERS:
            yield (
                f"expected at least {MIN_USERS} users with 2 interactions or more, as training needs, got {users:,}; "
                f"{remedy}"
            )

    def _match(self, names: list[str]) -> Iterator[_Column]:
        wanted = {folded(field.name): field for field in self.schema.fields}
        found: dict[str, list[int]] = {}
        for index, name in enumerate(names):
            found.setdefault(folded(name), []).append(index)
        for key, field in wanted.items():
            positions = found.get(key, [])
            if len(positions) > 1:
                self.problems.add(
                    f"Column {names[positions[0]]}: expected one column for {field.name}, got {len(positions)}; leave "
                    "the others out of the query, or give them an alias."
                )
            elif not positions:
                null = f", or NULL AS {field.name.lower()}" if field.nullable else ""
                self.problems.add(
                    f"Column {field.name}: expected a column for this field of the schema, got none among "
                    f"{', '.join(names)}; give one the alias {field.name.lower()}{null}."
                )
            else:
                yield _Column(field, names[positions[0]], positions[0], writer(field, self.now))
        for key, positions in found.items():
            if key not in wanted:
                self.problems.add(
                    f"Column {names[positions[0]]}: expected columns of the schema "
                    f"({', '.join(field.name for field in self.schema.fields)}), got one that it does not have; leave "
                    "it out of the query, or add the field to the schema."
                )

    def _texts(self, column: _Column, values: list[Any], first_row: int) -> Sequence[str]:
        if (texts := _at_once(column.field, values)) is not None:
            return texts
        texts = []
        for row, value in enumerate(values, first_row):
            text = ""
            try:
                if value is not None and value != "":
                    text = column.write(value)
                if not text:
                    _check_null(column.field, value)
            except ValueError as error:
                self.problems.add(f"Row {row}, column {column.name}: {error}")
            texts.append(text)
        return texts


def _check_null(field: Field, value: Any) -> None:
    """Make sure that a field may be without a value: an empty text or list is as good as none in CSV."""
    if field.nullable:
        return
    got = (
        "null or an empty text" if value is None or value == "" else f"the empty {type(value).__name__} {shown(value)}"
    )
    remedy = "" if field.is_id or field.name == "TIMESTAMP" else f', or let the schema have ["{field.type}", "null"]'
    raise ValueError(f"expected a value, got {got}; leave such rows out, or coalesce them in the query{remedy}.")


def _at_once(field: Field, values: list[Any]) -> Sequence[str] | None:
    """Return values that are plainly good as text, all of them by a few calls that run in C; else None."""
    types = set(map(type, values))
    if field.is_id:
        return plain_ids(values) or (values if types == {str} and _are_ids(values) else None)
    if types == {int} and field.type in {"long", "string"} and not field.is_timestamp and field.name != "IMPRESSION":
        return list(map(str, values)) if min(values) >= -(2**63) and max(values) < 2**63 else None
    if types == {str} and field.type == "string" and field.name != "IMPRESSION":
        text = "\n".join(values)
        is_plain = text.isascii() and "\0" not in text and all(values)
        if is_plain and (field.textual or ("[" not in text and max(map(len, values)) <= MAX_CATEGORY_LENGTH)):
            return values
    return None


def _are_ids(values: list[str]) -> bool:
    return (
        max(map(len, values)) <= MAX_ID_LENGTH
        and all(map(str.strip, values))
        and not _UNWRITABLE.search("".join(values))
    )


def _quote(texts: Sequence[str]) -> Sequence[str]:
    """Quote the texts of a column that CSV would not take as one value."""
    if not _QUOTED.search("\0".join(texts)):
        return texts
    return ['"' + text.replace('"', '""') + '"' if _QUOTED.search(text) else text for text in texts]


class _Users:
    """Counts the users with two interactions, until there are enough of them."""

    def __init__(self) -> None:
        self._seen: Counter[int] = Counter()
        self.with_two = 0
        #: Whether every user was remembered.
        self.is_exact = True

    @property
    def is_known(self) -> bool:
        """Whether there are enough."""
        return self.with_two >= MIN_USERS

    def count(self, users: Sequence[Any]) -> None:
        for user, times in Counter(users).items():
            key = hash(user)
            if key not in self._seen and len(self._seen) >= REMEMBERED_USERS:
                self.is_exact = False
                continue
            before = self._seen[key]
            self._seen[key] = before + times
            self.with_two += before < 2 <= before + times
