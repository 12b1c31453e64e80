"""
A line that is too long for memory, read in pieces from a file. This module is pure.

Only lists make a line long. So the line is read twice. The first time, each long list is looked through, piece by
piece, and left out: what remains is short, and tells what the line says as any other line would. The second time, the
lists' pieces become rows. So nothing of a line is handed on before all of it is known to be good.
"""

from __future__ import annotations

import codecs
import json
import re
import secrets
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice, repeat
from typing import IO, Any

from airflow_provider_personalize.output.fast import PackedTexts, pack_texts
from airflow_provider_personalize.output.lines import (
    LEVELS,
    RELEVANCES,
    SCORES,
    BadLineError,
    brackets,
    check_count,
    check_ids,
    check_levels,
    numbers,
    parse,
    read_head,
)
from airflow_provider_personalize.output.rows import Line

#: How much of the line is looked at together, in bytes.
STEP = 1 << 19
#: The longest that a line may be apart from its long lists, and that one element of these may be, in characters.
LIMIT = 1 << 23

#: What comes before the next list: anything but brackets and quotes, and whole strings.
_BEFORE_LIST = re.compile(r'(?:[^"\[]++|"(?:[^"\\]++|\\.)*+")*+\[', re.DOTALL)
#: Where a list of texts may end. Inside a text, a quote has a backslash in front of it.
_TEXTS_END = re.compile(r'"\s*\]')
_SPACE = re.compile(r"\s*")
#: In how many places a piece is tried to be cut. More than two are never needed but for a damaged line.
_CUTS = 8

_raw_decode = json.JSONDecoder().raw_decode


@dataclass
class _LongList:
    """
    What the first reading learns about a list that it leaves out.

    :param count: How many elements it has.
    :param no_texts: Why it cannot be a list of ids, or None.
    :param no_numbers: Why it cannot be a list of numbers, or None.
    """

    count: int = 0
    no_texts: BadLineError | None = None
    no_numbers: BadLineError | None = None

    def take(self, piece: Sequence[Any]) -> None:
        """Check the next elements. Packed ones are known to be texts."""
        if self.no_texts is None and not isinstance(piece, PackedTexts):
            try:
                check_ids(list(piece), "the list", self.count)
            except BadLineError as error:
                # Its traceback would hold on to the piece, and in a circle at that.
                self.no_texts = error.with_traceback(None)
        if self.no_numbers is None:
            try:
                numbers(list(piece), "the list", self.count)
            except BadLineError as error:
                self.no_numbers = error.with_traceback(None)
        self.count += len(piece)


def _chunks(file: IO[bytes]) -> Iterator[bytes]:
    file.seek(0)
    return iter(partial(file.read, STEP), b"")


def read_giant(file: IO[bytes], *, fast: bool = True) -> Iterator[Line]:
    """
    Read one line in pieces: one or more lines of the same entity, whose items follow one another. None if it is blank.

    :param file: A file that holds the line and nothing else.
    :param fast: Whether to use what the extra ``fast`` installs, where it is there.
    :raises BadLineError: if it gives no rows; before the first piece.
    """
    if not any(chunk.strip() for chunk in _chunks(file)):
        return
    if sum(map(brackets, _chunks(file))) > LEVELS:
        check_levels(_chunks(file))
    mark = secrets.token_hex(16)
    lists: list[_LongList] = []
    events = _scan(file, mark, fast=fast)
    try:
        while True:
            number, piece = next(events)
            if number == len(lists):
                lists.append(_LongList())
            lists[number].take(piece)
    except StopIteration as end:
        rest: str = end.value
    head = read_head(parse(rest))

    def number_of(values: Any) -> int | None:
        is_long = isinstance(values, list) and len(values) == 2 and values[0] == mark
        return values[1] if is_long else None

    items = number_of(head.items)
    pieces: Iterator[Sequence[Any]]
    if items is None:
        check_ids(head.items, f"output.{head.key}")
        pieces, count = iter([head.items]), len(head.items)
    else:
        if error := lists[items].no_texts:
            raise error
        pieces, count = _pieces(file, mark, items, fast=fast), lists[items].count

    def beside(values: Any, where: str) -> Iterator[float | None] | None:
        if not values:
            numbers(values, where)
            return None
        long = number_of(values)
        if long is None:
            short = numbers(values, where)
            check_count(len(short), count, where)
            return chain(short, repeat(None))
        if error := lists[long].no_numbers:
            raise error
        check_count(lists[long].count, count, where)
        return chain(
            chain.from_iterable(numbers(piece, where) for piece in _pieces(file, mark, long, fast=fast)), repeat(None)
        )

    scores, relevances = beside(head.scores, SCORES), beside(head.relevances, RELEVANCES)
    for piece in pieces:
        yield Line(
            head.kind,
            head.entity,
            piece,
            [None] * len(piece) if scores is None else list(islice(scores, len(piece))),
            head.theme,
            [None] * len(piece) if relevances is None else list(islice(relevances, len(piece))),
            head.filters,
        )


def _pieces(file: IO[bytes], mark: str, wanted: int, *, fast: bool) -> Iterator[Sequence[Any]]:
    """Yield the pieces of the n-th long list."""
    return (piece for number, piece in _scan(file, mark, fast=fast) if number == wanted)


class _Window:
    """
    A part of the line's text, from where the reading is.

    :param file: The file; others may read it at the same time.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._offset = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self.text = ""
        self.at_end = False

    def grow(self) -> None:
        """Read the next bytes."""
        self._file.seek(self._offset)
        data = self._file.read(STEP)
        self.at_end = not data
        try:
            self.text += self._decoder.decode(data, final=self.at_end)
        except UnicodeDecodeError as error:
            raise BadLineError(
                f"expected UTF-8 in all of the line, got {error.reason} after byte {self._offset}"
            ) from None
        self._offset += len(data)

    def fill(self) -> None:
        """Read on until there is enough text to look at, or the file ends."""
        while len(self.text) < STEP and not self.at_end:
            self.grow()

    def drop(self, length: int) -> str:
        """Remove and return so many characters from the beginning."""
        text, self.text = self.text[:length], self.text[length:]
        return text


def _scan(file: IO[bytes], mark: str, *, fast: bool) -> Generator[tuple[int, Sequence[Any]], None, str]:
    """
    Go through the line once.

    :param mark: What to put in the place of a long list, with its number: ``["<mark>", 0]``.
    :return: Yields the pieces of long lists, each with its list's number; returns the line without them.
    """
    window = _Window(file)
    rest: list[str] = []
    number = length = 0
    while True:
        window.fill()
        match = _BEFORE_LIST.match(window.text)
        if match is None and not window.at_end:
            if len(window.text) > LIMIT:
                raise BadLineError(f"expected at most {LIMIT} characters besides the lists of results, got more")
            window.grow()
            continue
        before = window.drop(match.end() - 1 if match else len(window.text))
        rest.append(before)
        length += len(before)
        if match is None:
            return "".join(rest)
        window.fill()
        try:
            _, end = _raw_decode(window.text)
        except ValueError:
            if window.at_end:
                rest.append(window.text)
                return "".join(rest)
            window.drop(1)
            for piece in _list(window, fast=fast):
                yield number, piece
            rest.append(f'["{mark}", {number}]')
            number += 1
        else:
            rest.append(window.drop(end))
            length += end
        if length > LIMIT:
            raise BadLineError(f"expected at most {LIMIT} characters besides the lists of results, got more")


def _list(window: _Window, *, fast: bool) -> Iterator[Sequence[Any]]:
    """Yield the elements of a list, whose opening bracket has just been passed, piece by piece."""
    pieces = 0
    while True:
        window.fill()
        texts = window.text.startswith('"', _SPACE.match(window.text).end())  # type: ignore[union-attr]
        # A bracket is rare in ids: most pieces of texts are spared the pattern, which looks at each quote.
        if "]" in window.text and (not texts or _TEXTS_END.search(window.text)):
            try:
                last, end = _raw_decode(f"[{window.text}")
            except ValueError:
                pass
            else:
                if pieces and not last:
                    raise BadLineError("expected JSON, got a long list that ends in a comma")
                window.drop(end - 1)
                yield last
                return
        piece = (_cut(window, '",', fast=fast) if texts else None) or _cut(window, ",", fast=False)
        if piece is not None:
            pieces += 1
            yield piece
        elif window.at_end or len(window.text) > LIMIT:
            raise BadLineError("expected JSON, got a long list that is not")
        else:
            window.grow()


def _cut(window: _Window, separator: str, *, fast: bool) -> Sequence[Any] | None:
    """Remove and return as many whole elements as there are, with the comma after them; None where no cut is found."""
    end = len(window.text)
    for _ in range(_CUTS):
        end = window.text.rfind(separator, 0, end)
        if end < 0:
            break
        text = window.text[: end + len(separator) - 1]
        piece: Sequence[Any] | None = pack_texts(text.lstrip(" ")) if fast else None
        if piece is None:
            try:
                piece = json.loads(f"[{text}]")
            except ValueError:
                continue
        window.drop(end + len(separator))
        return piece
    return None
