"""
Reads the bytes of a job's output into batches of rows, and sets invalid lines apart.

This module is pure: it imports neither Airflow nor boto3. :mod:`.blocks` cuts bytes into lines, :mod:`.lines` reads one
line, and :mod:`.giant` one that is too long for memory. With the extra ``fast`` installed, :mod:`.fast` reads the lines
of the form that the service was recorded to write, to the same rows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain

from airflow_provider_personalize.output.blocks import GiantLine, LineBlock, cut_lines, gunzip
from airflow_provider_personalize.output.fast import fast_decoder
from airflow_provider_personalize.output.giant import read_giant
from airflow_provider_personalize.output.lines import BadLineError, read_line
from airflow_provider_personalize.output.rows import Batch, Line, Reject, RowKind

#: How much of a rejected line is kept, in characters.
REJECT_TEXT = 1_000
#: A line, but for what JSON allows before it.
_LINE = re.compile(rb"[^ \t\r\n].*")


class OutputReader:
    """
    Read output objects, one after the other, into batches of rows.

    All rows of a load go into one table, so all lines have to be of one kind. Where the kind is not given, the first
    good line decides; a line of another kind is set apart.

    :param kind: The kind of rows, where it is known beforehand.
    :param on_reject: Called with each line that is set apart.
    :param fast: Whether to use what the extra ``fast`` installs; by default, where it is there.

    :ivar lines: How many lines were read so far, blank ones not counted.
    :ivar rows: How many rows they gave.
    :ivar rejects: How many lines were set apart.
    """

    def __init__(
        self,
        kind: RowKind | None = None,
        *,
        on_reject: Callable[[Reject], object] = lambda _: None,
        fast: bool = True,
    ) -> None:
        self.kind = kind
        self.lines = self.rows = self.rejects = 0
        self._on_reject = on_reject
        self._fast = fast

    def read(self, uri: str, blocks: Iterable[bytes]) -> Iterator[Batch]:
        """
        Read one object.

        :param uri: What the object is called in rejects.
        :param blocks: Its bytes, in pieces of any size; gzip is recognised by its first bytes.
        :raises InvalidLineError: if it is gzip, and damaged or cut short.
        """
        for part in cut_lines(gunzip(uri, blocks)):
            batches = self._read_giant(uri, part) if isinstance(part, GiantLine) else self._read_lines(uri, part)
            for batch in batches:
                self.rows += len(batch.items)
                yield batch

    def _read_lines(self, uri: str, part: LineBlock) -> Iterator[Batch]:
        lines = [line for line in _LINE.findall(part.data) if not line.isspace()]
        left: Sequence[int] = range(len(lines))
        if self._fast and self.kind and lines and (decoder := fast_decoder(self.kind)):
            batch, left = decoder.batch(part.data, lines)
            if batch.entities:
                self.lines += len(batch.entities)
                yield batch
        if checked := list(self._check_lines(uri, part, lines, left)):
            yield Batch.of(checked)

    def _check_lines(self, uri: str, part: LineBlock, lines: list[bytes], indices: Sequence[int]) -> Iterator[Line]:
        """Read the lines of these indices one by one, and set apart the invalid ones."""
        bad: dict[int, str] = {}
        for index in indices:
            self.lines += 1
            try:
                yield self._of_kind(read_line(lines[index]))
            except BadLineError as error:
                bad[index] = str(error)
        if bad:
            self._find_rejects(uri, part, bad)

    def _find_rejects(self, uri: str, part: LineBlock, bad: dict[int, str]) -> None:
        """Set apart the lines of these indices. Blank lines count for a line's number."""
        number, after = part.number, 0
        for index, match in enumerate(_lines_in(part.data)):
            if index in bad:
                start = part.data.rfind(b"\n", 0, match.start()) + 1
                number += part.data.count(b"\n", after, start)
                after = start
                self._reject(uri, number, part.offset + start, bad[index], part.data[start : match.end()])

    def _read_giant(self, uri: str, part: GiantLine) -> Iterator[Batch]:
        with part:
            pieces = read_giant(part.file, fast=self._fast)
            try:
                first = next(pieces, None)
                if first is not None:
                    self._of_kind(first)
            except BadLineError as error:
                self.lines += 1
                part.file.seek(0)
                self._reject(uri, part.number, part.offset, str(error), part.file.read(4 * REJECT_TEXT))
                return
            if first is None:  # a blank line
                return
            self.lines += 1
            rank = 1
            for piece in chain([first], pieces):
                yield Batch.of([piece], rank)
                rank += len(piece.items)

    def _of_kind(self, line: Line) -> Line:
        if self.kind is None:
            self.kind = line.kind
        elif line.kind is not self.kind:
            raise BadLineError(
                f"expected {self.kind.name}, as the lines before it, got {line.kind.name}: "
                "one load takes one kind of rows"
            )
        return line

    def _reject(self, uri: str, number: int, offset: int, reason: str, raw: bytes) -> None:
        self.rejects += 1
        text = raw[: 4 * REJECT_TEXT].decode("utf-8", "backslashreplace").rstrip("\r")
        self._on_reject(Reject(uri, number, offset, _storable(reason), _storable(text)))


def _lines_in(data: bytes) -> Iterator[re.Match[bytes]]:
    """Yield the lines that are not blank, without spending time on the blank ones."""
    return (match for match in _LINE.finditer(data) if not match[0].isspace())


def _storable(text: str) -> str:
    """Shorten a text, and escape what no database takes: NUL characters, and halves of surrogate pairs."""
    return text[:REJECT_TEXT].encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")[:REJECT_TEXT]
