"""What the lines of an entity become: an item, or several, as the JSON that DynamoDB's API and its imports take."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, time
from decimal import Decimal
from itertools import chain, groupby
from typing import Any, NamedTuple
from uuid import UUID

from airflow_provider_personalize.arguments import mapping
from airflow_provider_personalize.exceptions import InvalidRequestError, TableMismatchError
from airflow_provider_personalize.output.rows import USER_SEGMENTS, Batch, RowKind

#: What DynamoDB takes, in bytes: of an item, and of the value of a partition key.
ITEM_BYTES, KEY_BYTES = 400 * 1024, 2048
#: About how much of a segment goes into one item. A page of a query has 1 MB.
CHUNK_BYTES = 256 * 1024
#: More results than this are more than an item holds, however short they are.
_MOST_RESULTS = ITEM_BYTES // 2
#: The smallest and the largest magnitude of DynamoDB's numbers.
_LEAST, _MOST = 1e-130, 9.99e125

#: The attributes that the loader names; no other one may have these names.
RESULTS, SCORES, THEME, RELEVANCES = "items", "scores", "theme", "theme_relevance"
LOAD_ID, EXPIRES_AT = "load_id", "expires_at"
ATTRIBUTES = (RESULTS, SCORES, THEME, RELEVANCES, LOAD_ID, EXPIRES_AT)
_TABLE_NAME = re.compile(r"[a-zA-Z0-9_.-]{3,255}")
#: The sort key of segments, by default: the number of the chunk, from 0.
CHUNK = "chunk"


class Piece(NamedTuple):
    """
    A line, or a part of a giant one.

    :param entity: The user, item or segment; None where the input was empty.
    :param first_rank: The rank of its first result: 1 where a line begins.
    :param results: The results, in order.
    :param scores: The score of each, or None.
    :param theme: The line's theme, or None.
    :param relevances: The relevance of each result to it, or None.
    """

    entity: str | None
    first_rank: int
    results: Sequence[str]
    scores: Sequence[float | None]
    theme: str | None
    relevances: Sequence[float | None]


def pieces_of(batches: Iterable[Batch]) -> Iterator[Piece]:
    """Yield the lines of batches, and giant ones piece by piece."""
    for batch in batches:
        results, start = list(batch.items), 0
        for entity, count, first_rank, theme in zip(
            batch.entities, batch.counts, batch.first_ranks, batch.themes, strict=True
        ):
            end = start + count
            yield Piece(
                entity, first_rank, results[start:end], batch.scores[start:end], theme, batch.relevances[start:end]
            )
            start = end


def by_line(pieces: Iterable[Piece]) -> Iterator[Iterator[Piece]]:
    """Group the pieces by the line that they are of."""
    number = 0

    def line_of(piece: Piece) -> int:
        nonlocal number
        number += piece.first_rank == 1
        return number

    return (group for _, group in groupby(pieces, key=line_of))


class ItemFormat:
    """
    How an entity's results are written.

    :param table: The table, for errors.
    :param kind: The kind of rows.
    :param partition_key: The attribute that takes the entity.
    :param sort_key: The table's sort key, or None. Segments have the number of the chunk there.
    :param constants: What all items have: ``{attribute: value}``.
    """

    def __init__(
        self, table: str, kind: RowKind, partition_key: str, sort_key: str | None, constants: Mapping[str, Any]
    ) -> None:
        self.table = table
        self.partition_key = partition_key
        self.sort_key = sort_key
        #: Whether the results of one entity are spread over items.
        self.is_chunked = kind is USER_SEGMENTS
        self._has_scores = any(column.field == "score" for column in kind.columns)
        self._column = kind.columns[0].name
        self._before = f"{{{_quoted(partition_key)}:{{{_S}"
        written = {name: attribute_value(f"extra_attributes, {name}", value) for name, value in constants.items()}
        # The braces around them are the item's own.
        self._after = "".join(f",{_quoted(name)}:{_json(value)}" for name, value in written.items()) + "}"

    def check(self, piece: Piece) -> None:
        """
        Make sure that an item can be made of a line, or that a piece can be a part of one.

        :raises TableMismatchError: if not.
        """
        entity = piece.entity
        if not entity:
            shown = "none: its input was empty" if entity is None else "an empty one"
            raise self._mismatch(
                f"a key has to have a value, and a line has {shown}. Give the job an input with a {self._column} in "
                "each line, or load this output into a table of SQL"
            )
        if len(entity) > KEY_BYTES // 4 and (size := len(entity.encode())) > KEY_BYTES:
            raise self._mismatch(
                f"a partition key takes {KEY_BYTES:,} bytes, and {self._named(entity)} has {size:,}. Write it shorter, "
                "or load this output into a table of SQL"
            )
        for number in filter(None, chain(piece.scores, piece.relevances)):
            if not _LEAST <= abs(number) <= _MOST:
                raise self._mismatch(
                    f"its numbers go from {_LEAST} to {_MOST}, and {self._named(entity)} has the score {number!r}. "
                    "Load this output into a table of SQL"
                )
        if not self.is_chunked and 4 * sum(map(len, piece.results)) + 24 * len(piece.results) > ITEM_BYTES:
            self.item(piece)

    def items(self, pieces: Iterator[Piece]) -> Iterator[str]:
        """
        Yield the items of one entity.

        :param pieces: All that is of it, in order.
        :raises TableMismatchError: if DynamoDB cannot hold one.
        """
        first = next(pieces)
        if not self.is_chunked:
            yield self.item(self._joined(first, pieces))
            return
        for number, results in enumerate(_chunks(first, pieces)):
            yield self.item(first._replace(results=results), number)

    def item(self, piece: Piece, chunk: int | None = None) -> str:
        """
        Return the item of an entity.

        :param piece: The entity, and all its results or those of one chunk.
        :param chunk: The number of the chunk.
        :raises TableMismatchError: if DynamoDB cannot hold it.
        """
        parts = [self._before, _quoted(str(piece.entity)), "}"]
        if chunk is not None:
            parts += [",", _quoted(str(self.sort_key)), f':{{"N":"{chunk}"}}']
        parts += [f',"{RESULTS}":{{"L":[', _texts(piece.results), "]}"]
        if self._has_scores:
            parts += [f',"{SCORES}":{{"L":[', _numbers(piece.scores), "]}"]
        if piece.theme is not None:
            parts += [f',"{THEME}":', _json(attribute_value(THEME, piece.theme))]
        if any(number is not None for number in piece.relevances):
            parts += [f',"{RELEVANCES}":{{"L":[', _numbers(piece.relevances), "]}"]
        parts.append(self._after)
        item = "".join(parts)
        # What is stored is never more than its JSON, which is quick to measure.
        if 4 * len(item) > ITEM_BYTES and (size := stored_bytes(json.loads(item))) > ITEM_BYTES:
            raise self._mismatch(
                f"an item takes {ITEM_BYTES:,} bytes, and that of {self._named(piece.entity)} would have {size:,}, "
                f"with {len(piece.results):,} results. Ask the job for fewer (num_results), or load this output into a "
                "table of SQL"
            )
        return item

    def _joined(self, first: Piece, others: Iterator[Piece]) -> Piece:
        """Return one piece for all that is of an entity."""
        every = [first]
        for piece in others:
            every.append(piece)
            if (count := sum(len(one.results) for one in every)) > _MOST_RESULTS:
                raise self._mismatch(
                    f"an item takes {ITEM_BYTES:,} bytes, and that of {self._named(first.entity)} would have more, "
                    f"with {count:,} results or more. Ask the job for fewer (num_results), or load this output "
                    "into a table of SQL"
                )
        if len(every) == 1:
            return first
        themes = {piece.theme for piece in every}
        return Piece(
            first.entity,
            1,
            [result for piece in every for result in piece.results],
            [score for piece in every for score in piece.scores],
            # Where the themes of the lines differ, each result has its own line's.
            first.theme if len(themes) == 1 else [piece.theme for piece in every for _ in piece.results],  # type: ignore[arg-type]
            [number for piece in every for number in piece.relevances],
        )

    def _named(self, entity: str | None) -> str:
        text = str(entity)
        return f"{self._column} {text if len(text) <= 300 else text[:300] + '…'!r}"

    def _mismatch(self, reason: str) -> TableMismatchError:
        return TableMismatchError(table=self.table, reason=reason)


def _chunks(first: Piece, others: Iterator[Piece]) -> Iterator[list[str]]:
    """Yield the results in lists for one item each. Where they are cut depends on nothing but the results."""
    chunk: list[str] = []
    size = 0
    for text in chain.from_iterable(piece.results for piece in chain([first], others)):
        length = len(text.encode()) + len(_BETWEEN_TEXTS)
        if chunk and size + length > CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
        chunk.append(text)
        size += length
    # A segment without users has a chunk without users: so its earlier ones are replaced.
    yield chunk


_S = '"S":'
_BETWEEN_TEXTS, _BETWEEN_NUMBERS = '"},{"S":"', '"},{"N":"'


def _texts(texts: Sequence[str]) -> str:
    if not texts:
        return ""
    joined = _BETWEEN_TEXTS.join(texts)
    # Most ids need no escape, which is told at once for all of them.
    if joined.count('"') == 4 * (len(texts) - 1) and "\\" not in joined and joined.isprintable():
        return f'{{"S":"{joined}"}}'
    return ",".join(f"{{{_S}{_quoted(text)}}}" for text in texts)


def _numbers(numbers: Sequence[float | None]) -> str:
    if not numbers:
        return ""
    if None in numbers:
        text = ",".join('{"NULL":true}' if number is None else f'{{"N":"{number!r}"}}' for number in numbers)
    else:
        text = f'{{"N":"{_BETWEEN_NUMBERS.join(map(repr, numbers))}"}}'
    return text


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def attribute_value(name: str, value: Any) -> dict[str, Any]:
    """
    Return a value as DynamoDB's API takes it: ``{"S": "text"}``.

    :param name: What has the value, for the error.
    :param value: Text, a number, True, False, None, a date, a time, a UUID; or a list or mapping of such.
    :raises InvalidRequestError: if it is something else.
    """
    found: dict[str, Any] = {}
    match value:
        case None:
            found = {"NULL": True}
        case bool():
            found = {"BOOL": value}
        case str():
            found = {"S": value}
        case int() | float() | Decimal() if value == 0 or _LEAST <= abs(float(value)) <= _MOST:
            found = {"N": str(value)}
        case date() | time():
            found = {"S": value.isoformat()}
        case UUID():
            found = {"S": str(value)}
        case list() | tuple():
            found = {"L": [attribute_value(name, one) for one in value]}
        case Mapping() if all(isinstance(key, str) for key in value):
            found = {"M": {key: attribute_value(name, one) for key, one in value.items()}}
    if found:
        return found
    raise InvalidRequestError(
        f"{name}: expected text, a finite number, True, False, None, a date, a time, a UUID, or a list or mapping of "
        f"such, got {value!r} of type {type(value).__name__}."
    )


def stored_bytes(item: Mapping[str, Any]) -> int:
    """Return how many bytes DynamoDB counts for an item, or for a map in one: names and values."""
    return sum(len(name.encode()) + _value_bytes(value) for name, value in item.items())


def _value_bytes(value: Mapping[str, Any]) -> int:
    [(kind, content)] = value.items()
    size = 1
    match kind:
        case "S":
            size = len(content.encode())
        case "N":
            digits = content.partition("e")[0].replace(".", "").lstrip("-0").rstrip("0")
            size = (len(digits) + 1) // 2 + 1 + content.startswith("-")
        case "L":
            size = 3 + sum(1 + _value_bytes(one) for one in content)
        case "M":
            size = 3 + len(content) + stored_bytes(content)
    return size


def check_table_name(name: str, *, parameter: str = "table_name") -> None:
    """
    Check that it can be the name of a table, or its ARN.

    :raises InvalidRequestError: if not.
    """
    if not _TABLE_NAME.fullmatch(name) and not name.startswith("arn:"):
        raise InvalidRequestError(
            f"{parameter}: expected 3 to 255 letters, digits, '_', '-' and '.', got {name!r} ({len(name)} characters)."
        )


def read_attributes(parameter: str, value: Any) -> dict[str, Any] | None:
    """
    Read what all items have: values that DynamoDB can hold, under names that the loader does not use.

    :raises InvalidRequestError: if it is something else.
    """
    found = mapping(parameter, value)
    for name, content in (found or {}).items():
        if name in ATTRIBUTES or not name:
            raise InvalidRequestError(
                f"{parameter}: expected other names than {', '.join(ATTRIBUTES)}, which the loader gives, got {name!r}."
            )
        attribute_value(f"{parameter}, {name}", content)
    return found
