"""Bytes in pieces of any size, cut into pieces of whole lines; one of bounded size, whatever comes. Pure."""

from __future__ import annotations

import logging
import re
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
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
#: How much of a gzip member is looked at first, in bytes. What lies behind its end is copied, so that with more of it
#: many small members would take time by the square of their number.
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


@dataclass
class GiantLine:
    """
    One line that is too long for memory. A context manager, which deletes the file in the end.

    :param file: A temporary file with the line, without its newline, at its start.
    :param number: The line's number in the object, from 1.
    :param offset: Where it begins in the object, in bytes.
    """

    file: IO[bytes]
    number: int
    offset: int

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.file.close()


def gunzip(uri: str, blocks: Iterable[bytes]) -> Iterator[bytes]:
    """
    Decompress an object where its first bytes say that it is gzip; else pass it through.

    It may be several gzip members, one after the other. What lies behind the last is taken as gzip(1) does: zeros are
    padding, and anything else is ignored with a warning.

    :param uri: What the object is called in a message.
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
    """Put small pieces together: each that is handed on costs some work of its own."""
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
    """Decompress some bytes of a member, to pieces of bounded size."""
    while True:
        plain = member.decompress(data, _GUNZIP_STEP)
        if plain:
            yield plain
        data = member.unconsumed_tail
        if member.eof or (not data and len(plain) < _GUNZIP_STEP):
            return


def cut_lines(blocks: Iterable[bytes]) -> Iterator[LineBlock | GiantLine]:
    """
    Cut a stream of bytes at newlines, and at nothing else: ids hold any other separator.

    :param blocks: The bytes, in pieces of any size.
    """
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
        if held > GIANT:
            giant, length, block = _spool(pending, stream)
            yield GiantLine(giant, number, offset)
            number += 1
            offset += length + 1
            pending, held = [], 0
        else:
            block = next(stream, None)
    if held:
        yield LineBlock(b"".join(pending), number, offset)


def _spool(start: list[bytes], stream: Iterator[bytes]) -> tuple[IO[bytes], int, bytes]:
    """
    Write the rest of a line to a temporary file.

    :return: The file, the line's length, and what came after its newline.
    """
    file = tempfile.TemporaryFile(prefix="personalize-line-")  # noqa: SIM115 - the GiantLine closes it
    try:
        file.writelines(start)
        for block in stream:
            line, newline, rest = block.partition(b"\n")
            file.write(line)
            if newline:
                return file, file.tell(), rest
        return file, file.tell(), b""
    except BaseException:
        file.close()
        raise
