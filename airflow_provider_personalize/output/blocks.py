"""
Bytes that come in pieces of any size, decompressed and cut into blocks of whole lines.

Input and output are cut by the same function. Memory stays bounded, whatever comes. This module is pure.
"""

from __future__ import annotations

import logging
import re
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from itertools import chain
from types import TracebackType
from typing import IO, NamedTuple, Self

from airflow_provider_personalize.exceptions import InvalidLineError

#: A line longer than this, in bytes, is a giant: it goes to a temporary file instead of memory.
GIANT = 1 << 20
#: The most that is decompressed at once, in bytes.
_GUNZIP_STEP = 1 << 20
#: The least that is handed on at once, but for the last, in bytes.
_PIECE = 1 << 18
#: How many bytes of a gzip member are decompressed first. What lies behind its end is copied, so larger steps would
#: make many small members take time by the square of their number.
_FIRST_STEP = 1 << 12
_GZIP_MAGIC = b"\x1f\x8b"
_ZEROS = re.compile(rb"\0*")

log = logging.getLogger(__name__)


class LineBlock(NamedTuple):
    """
    Some whole lines.

    :param data: Their bytes, newlines included; only the object's last line may lack its own.
    :param number: The first one's number in the object, from 1.
    :param offset: Where it begins in the object, in bytes.
    """

    data: bytes
    number: int
    offset: int


class GiantLine:
    """
    One line that is too long for memory.

    A context manager: entering it copies the line to a temporary file, leaving it deletes that file. Before, no more of
    the line is read than has come.

    :param start: How the line begins.
    :param stream: What comes after that: the rest of the line, and whatever follows it.
    :param number: The line's number in the object, from 1.
    :param offset: Where it begins in the object, in bytes.

    :ivar file: The temporary file with the line, without its newline, at its start.
    :ivar length: How many bytes the line has, without its newline.
    :ivar rest: What has come after the newline.
    """

    def __init__(self, start: list[bytes], stream: Iterator[bytes], number: int, offset: int) -> None:
        self.number = number
        self.offset = offset
        self.file: IO[bytes]
        self.length = 0
        self.rest = b""
        self._start = start
        self._stream = stream

    def __enter__(self) -> Self:
        self.file = tempfile.TemporaryFile(prefix="personalize-line-")
        try:
            self.file.writelines(self._start)
            self._start.clear()
            for block in self._stream:
                line, newline, rest = block.partition(b"\n")
                self.file.write(line)
                if newline:
                    self.rest = rest
                    break
        except BaseException:
            self.file.close()
            raise
        self.length = self.file.tell()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.file.close()


def gunzip(uri: str, blocks: Iterable[bytes]) -> Iterator[bytes]:
    """
    Decompress an object where its first bytes say that it is gzip; else pass it through.

    It may hold several gzip members, one after the other. What lies behind the last is treated as gzip(1) treats it:
    zeros are padding, and anything else is ignored with a warning.

    :param uri: The object's URI, for messages.
    :param blocks: Its bytes.
    :raises InvalidLineError: if the data is damaged or cut short.
    """
    stream = iter(blocks)
    head = b""
    for block in stream:
        head += block
        if len(head) >= len(_GZIP_MAGIC):
            break
    if not head.startswith(_GZIP_MAGIC):
        if head:
            yield head
        yield from stream
        return
    try:
        yield from _gathered(_inflate(uri, chain([head], stream)))
    except (zlib.error, EOFError) as error:
        raise InvalidLineError(
            location=uri, reason=f"expected gzip from beginning to end, got {error}. Fetch or upload the object again."
        ) from error


def _inflate(uri: str, blocks: Iterator[bytes]) -> Iterator[bytes]:
    member = None
    step = _FIRST_STEP
    rest = b""
    for block in blocks:
        data = rest + block
        rest = b""
        place = 0
        while place < len(data):
            if member is None:
                place = _ZEROS.match(data, place).end()  # type: ignore[union-attr]
                magic = data[place : place + len(_GZIP_MAGIC)]
                if magic != _GZIP_MAGIC:
                    if _GZIP_MAGIC.startswith(magic):
                        rest = magic
                        break
                    log.warning("%s: ignored what lies behind the end of its gzip data.", uri)
                    return
                member, step = zlib.decompressobj(wbits=31), _FIRST_STEP
            piece = data[place : place + step]
            place += len(piece)
            step *= 2
            yield from _plain(member, piece)
            if member.eof:
                place -= len(member.unused_data)
                member = None
    if member is not None:
        raise EOFError("an end in the middle")
    if rest:
        log.warning("%s: ignored what lies behind the end of its gzip data.", uri)


def _gathered(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Join small pieces: each one that is handed on costs some work of its own."""
    pending: list[bytes] = []
    held = 0
    for piece in pieces:
        pending.append(piece)
        held += len(piece)
        if held >= _PIECE:
            yield b"".join(pending)
            pending, held = [], 0
    yield b"".join(pending)


def _plain(member: zlib._Decompress, data: bytes) -> Iterator[bytes]:
    """Decompress some bytes of a member, and yield pieces of bounded size."""
    while True:
        plain = member.decompress(data, _GUNZIP_STEP)
        if plain:
            yield plain
        data = member.unconsumed_tail
        if member.eof or (not data and len(plain) < _GUNZIP_STEP):
            return


def cut_lines(blocks: Iterable[bytes], longest: int | None = None) -> Iterator[LineBlock | GiantLine]:
    """
    Cut a stream of bytes at newlines, and at nothing else: ids hold any other separator.

    Whoever takes a giant line and wants what follows has to enter it before the next is asked for.

    :param blocks: The bytes, in pieces of any size.
    :param longest: The most bytes of a line that is no giant; by default :data:`GIANT`.
    """
    longest = GIANT if longest is None else longest
    pending: list[bytes] = []
    held = 0
    number, offset = 1, 0
    stream = iter(blocks)
    block = next(stream, None)
    while block is not None:
        end = block.rfind(b"\n") + 1
        if end:
            data = b"".join([*pending, block[:end]])
            yield LineBlock(data, number, offset)
            number += data.count(b"\n")
            offset += len(data)
            pending, held = [], 0
        pending.append(block[end:])
        held += len(block) - end
        if held > longest:
            giant = GiantLine(pending, stream, number, offset)
            yield giant
            number += 1
            offset += giant.length + 1
            block = giant.rest
            pending, held = [], 0
        else:
            block = next(stream, None)
    if held:
        yield LineBlock(b"".join(pending), number, offset)
