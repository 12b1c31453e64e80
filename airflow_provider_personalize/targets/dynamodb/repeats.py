"""Entities that stand in several lines: found in a first reading, and held back in a second one until all is read."""

from __future__ import annotations

import json
import sqlite3
import tempfile
from array import array
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import groupby
from typing import IO, Self

from airflow_provider_personalize.targets.dynamodb.items import Piece

#: Into how many files hashes are sorted, how many lie in memory before that, and how many repeated ones are noted.
_FILES, _IN_MEMORY, _MOST_NOTED = 64, 1 << 20, 1 << 22


class Repeats:
    """
    Finds which entities stand in more than one line, by their hashes. A context manager.

    Memory does not grow with the lines: hashes beyond the first million lie in temporary files. Two entities of one
    hash count as repeated, which costs a detour and changes nothing.
    """

    def __init__(self) -> None:
        self._hashes = [array("q") for _ in range(_FILES)]
        self._files: list[IO[bytes]] = []
        self._in_memory = 0
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def add(self, entity: str | None) -> None:
        """Note that a line has this entity."""
        number = hash(entity)
        self._hashes[number % _FILES].append(number)
        self._in_memory += 1
        if self._in_memory >= _IN_MEMORY:
            self._to_files()

    def find(self) -> RepeatedEntities:
        """Return those that were added more than once."""
        found: set[int] = set()
        for index, hashes in enumerate(self._hashes):
            if self._files:
                self._files[index].seek(0)
                hashes.frombytes(self._files[index].read())
            if len(seen := set(hashes)) < len(hashes):
                for number in hashes:
                    if number in seen:
                        seen.discard(number)
                    else:
                        found.add(number)
            self._hashes[index] = array("q")
            if len(found) > _MOST_NOTED:
                return RepeatedEntities(None)
        return RepeatedEntities(found)

    def _to_files(self) -> None:
        if not self._files:
            self._files = [
                # __exit__() closes them.
                self._stack.enter_context(tempfile.TemporaryFile(prefix="personalize-"))  # noqa: SIM115
                for _ in range(_FILES)
            ]
        for file, hashes in zip(self._files, self._hashes, strict=True):
            hashes.tofile(file)
            del hashes[:]
        self._in_memory = 0


class RepeatedEntities:
    """
    The entities that stand in several lines.

    :param hashes: Their hashes; None where they are too many to note, so that any one may be among them.
    """

    def __init__(self, hashes: set[int] | None) -> None:
        self._hashes = hashes

    def __contains__(self, entity: str | None) -> bool:
        return self._hashes is None or hash(entity) in self._hashes


class HeldBack:
    """Pieces of lines in a temporary file, to be had again by entity. A context manager."""

    def __init__(self) -> None:
        # A database without a name is a temporary file, which is gone when it is closed.
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("CREATE TABLE piece (number INTEGER PRIMARY KEY, entity TEXT, content TEXT)")
        self._database.execute("BEGIN")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._database.close()

    def add(self, piece: Piece) -> None:
        """Hold a piece back."""
        content = json.dumps(piece._replace(results=list(piece.results)))
        self._database.execute("INSERT INTO piece (entity, content) VALUES (?, ?)", (piece.entity, content))

    def by_entity(self) -> Iterator[Iterator[Piece]]:
        """Yield what was held back of each entity, in the order in which it came."""
        found = self._database.execute("SELECT content FROM piece ORDER BY entity, number")
        pieces = (Piece(*json.loads(content)) for (content,) in found)
        return (group for _, group in groupby(pieces, key=lambda piece: piece.entity))
