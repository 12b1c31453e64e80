"""
What the tasks of a load's parts hand over to the task that publishes them, and whether it belongs together. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, Self, TypeVar

from airflow_provider_personalize.arguments import shown
from airflow_provider_personalize.exceptions import InvalidRequestError
from airflow_provider_personalize.output.rows import ROW_KINDS, RowKind
from airflow_provider_personalize.targets.counts import LoadCounts


class LoadPart(NamedTuple):
    """
    One part of a load, staged in a table of SQL.

    :param source: What is loaded, as the plan has it.
    :param part: The number of the part, from 0.
    :param parts: How many parts there are.
    :param staged: The table that it was staged in.
    :param kind: The name of its kind of rows, None where none of its lines told it.
    :param columns: The names of the columns that take its rows, none where its kind is not known.
    :param counts: What it has come to.
    :param files: How many objects it has read.
    :param bytes: How many bytes they have.
    :param seconds: How long that took.
    :param job_arn: The job's ARN, None where the output was given by its URI.
    """

    source: str
    part: int
    parts: int
    staged: str
    kind: str | None
    columns: Sequence[str]
    counts: LoadCounts
    files: int
    bytes: int
    seconds: float
    job_arn: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return what the task returns."""
        return {
            "job_arn": self.job_arn,
            "files": self.files,
            **self.counts._asdict(),
            "bytes": self.bytes,
            "seconds": self.seconds,
            "part": self.part,
            "parts": self.parts,
            "source": self.source,
            "staged": self.staged,
            "kind": self.kind,
            "columns": list(self.columns),
        }

    @classmethod
    def of(cls, value: Any) -> Self:
        """
        Read what a task has returned.

        :raises InvalidRequestError: if it is something else.
        """
        try:
            given = dict(value)
            counts = LoadCounts(*(int(given.pop(name)) for name in LoadCounts._fields))
            return cls(**given, counts=counts)
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidRequestError(
                "loads: expected what PersonalizeToSqlOperator's tasks have returned for their parts, as load.output "
                f"of a task with parts, got {shown(value)}."
            ) from error

    @property
    def row_kind(self) -> RowKind | None:
        """The kind of the rows."""
        return next((kind for kind in ROW_KINDS if kind.name == self.kind), None)


def all_parts(values: Any) -> list[LoadPart]:
    """
    Return the parts of one load in their order.

    :param values: What their tasks have returned.
    :raises InvalidRequestError: if one is missing, or does not belong to the others.
    """
    parts = map(LoadPart.of, [values] if isinstance(values, Mapping) else values or ())
    return complete(
        parts,
        alike={"staged": ("table and slice", "Give all of them the same table, schema and extra_columns")},
        alike_where_told={"columns": ("columns", "Give their tasks the same column_names, and clear them")},
    )


class Part(Protocol):
    """What the task of a part tells of it, whatever the target."""

    @property
    def source(self) -> str:
        """What is loaded."""

    @property
    def part(self) -> int:
        """The number of the part, from 0."""

    @property
    def parts(self) -> int:
        """How many parts there are."""

    @property
    def kind(self) -> str | None:
        """The name of its kind of rows, None where none of its lines told it."""


PartT = TypeVar("PartT", bound=Part)


def complete(
    parts: Iterable[PartT],
    *,
    alike: Mapping[str, tuple[str, str]],
    alike_where_told: Mapping[str, tuple[str, str]],
) -> list[PartT]:
    """
    Return the parts of a load in their order, if they are all of it and belong together.

    :param parts: The parts.
    :param alike: What all of them have to have the same value of: ``{attribute: (what it is, what to do)}``.
    :param alike_where_told: The same for those parts whose lines have told their kind of rows.
    :raises InvalidRequestError: if one is missing, there twice, or does not belong to the others.
    """
    parts = sorted(parts, key=lambda part: part.part)
    if not parts:
        raise InvalidRequestError("loads: expected what the tasks of the parts have returned, got nothing.")
    first = parts[0]
    _check_alike(parts, {"source": ("output", "Publish each load by a task of its own")})
    _check_alike(parts, {"parts": ("number of parts", "Clear their tasks"), **alike})
    numbers = [part.part for part in parts]
    if missing := sorted(set(range(first.parts)) - set(numbers)):
        raise InvalidRequestError(
            f"loads: expected all {first.parts} parts of {first.source}, got none for part {_listed(missing)}. Let a "
            "task load each of them (part from 0 to parts - 1), and hand over what all of them have returned."
        )
    if twice := sorted({number for number in numbers if numbers.count(number) > 1}):
        raise InvalidRequestError(f"loads: expected each part once, got part {_listed(twice)} more than once.")
    telling = [part for part in parts if part.kind is not None]
    _check_alike(telling, {"kind": ("kind of rows", "Publish each kind into a table of its own"), **alike_where_told})
    return parts


def _check_alike(parts: Sequence[Part], attributes: Mapping[str, tuple[str, str]]) -> None:
    for part in parts[1:]:
        for name, (what, remedy) in attributes.items():
            one, other = getattr(parts[0], name), getattr(part, name)
            if one != other:
                raise InvalidRequestError(
                    f"loads: expected the same {what} in all parts, got {one!r} in part {parts[0].part} and {other!r} "
                    f"in part {part.part}. {remedy}. Nothing was published."
                )


def _listed(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, numbers))
