"""What has changed, as the lines of a file, in the formats that tools take. Pure."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from json.encoder import encode_basestring_ascii
from typing import Literal, get_args

from airflow_provider_personalize.quality.changes import Change, ChangedRow, What

Format = Literal["jsonl", "csv", "braze", "pinpoint"]
FORMATS: tuple[Format, ...] = get_args(Format)


class ChangeLines:
    """
    Writes rows of changes as lines; :meth:`close` ends the last one.

    A line is written while its rows come, so a list of any length takes no memory.

    :param write: Takes pieces of text.
    """

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write
        #: How many entities, or items, have changed in which way.
        self.counts: Counter[Change] = Counter()

    def add(self, rows: Iterable[ChangedRow]) -> None:
        """Write some rows, in the order of their entities."""
        raise NotImplementedError

    def close(self) -> None:
        """End the last line."""


class RowLines(ChangeLines):
    """
    A line of each row.

    :param line: Returns the line of a row.
    :param header: The first line.
    :param what: What is counted.
    """

    def __init__(
        self, write: Callable[[str], object], line: Callable[[ChangedRow], str], *, what: What, header: str = ""
    ) -> None:
        super().__init__(write)
        self._line = line
        self._header = header
        self._counts_rows = what == "items"
        self._entity: tuple[str | None] | None = None

    def add(self, rows: Iterable[ChangedRow]) -> None:
        """Write a line of each."""
        lines = []
        for row in rows:
            if self._counts_rows or self._entity != (row.entity,):
                self._entity = (row.entity,)
                self.counts[row.change] += 1
            lines.append(self._line(row))
        if lines:
            self._write(self._header + "".join(lines))
            self._header = ""


class ListLines(ChangeLines):
    """
    A line of each entity, an object with a list, or with one of what is new and another one of what is gone.

    :param before: Returns what a line has before the lists, from the entity and what has become of it.
    :param after: What a line has after the lists.
    :param lists: The names of the lists: one; or two, of what is new and of what is gone.
    :param empty: What stands for the list of an entity that is gone.
    :param encode: Returns JSON as it stands inside the line.
    :param scores: The name of a list of scores after the others, or None.
    :param header: The first line.
    """

    def __init__(
        self,
        write: Callable[[str], object],
        before: Callable[[str | None, Change], str],
        after: str,
        lists: tuple[str, ...],
        *,
        empty: str = "[]",
        encode: Callable[[str], str] = str,
        scores: str | None = None,
        header: str = "",
    ) -> None:
        super().__init__(write)
        self._before, self._after, self._empty, self._encode = before, after, empty, encode
        self._names = [encode(json.dumps(name)) for name in lists]
        self._scores_name = scores
        self._scores: list[float | None] = []
        self._header = header
        self._entity: tuple[str | None] | None = None
        self._list = -1

    def add(self, rows: Iterable[ChangedRow]) -> None:
        """Write the rows into the lists of their entities."""
        text = []
        for row in rows:
            if self._entity != (row.entity,):
                text.append(self._end() + self._header + self._before(row.entity, row.change))
                self._entity, self._header = (row.entity,), ""
                if len(self._names) == 1:
                    self.counts[row.change] += 1
            if len(self._names) > 1:
                self.counts[row.change] += 1
            elif row.change == "gone":
                continue
            wanted = 1 if len(self._names) > 1 and row.change == "gone" else 0
            text.append("," if wanted == self._list else self._open_until(wanted))
            text.append(self._encode(_json_text(row.item)))
            if self._scores_name:
                self._scores.append(row.score)
        self._write("".join(text))

    def close(self) -> None:
        """End the last line."""
        self._write(self._end())

    def _open_until(self, wanted: int) -> str:
        text = ""
        while self._list < wanted:
            text += "" if self._list < 0 else "],"
            self._list += 1
            text += f"{self._names[self._list]}:["
        return text

    def _end(self) -> str:
        if self._entity is None:
            return ""
        text = f"{self._names[0]}:{self._empty}" if self._list < 0 else self._open_until(len(self._names) - 1) + "]"
        if self._scores_name:
            text += f",{json.dumps(self._scores_name)}:{json.dumps(self._scores)}"
            self._scores.clear()
        self._list = -1
        return f"{text}{self._after}\n"


def change_lines(
    write: Callable[[str], object],
    style: Format,
    *,
    what: What,
    columns: tuple[str, str],
    attribute: str,
    updated_at: str | None,
    is_csv: bool,
    scores: bool,
) -> ChangeLines:
    """
    Return what writes changes in a format.

    :param write: Takes pieces of text.
    :param style: The format.
    :param what: Whether entities have changed, or items.
    :param columns: The names of the columns of entities and of items.
    :param attribute: What Braze and Pinpoint call the list.
    :param updated_at: Braze's UPDATED_AT, or None to leave it out.
    :param is_csv: Whether Braze's file is CSV.
    :param scores: Whether scores are written, too, in JSON Lines and CSV.
    """
    entity, item = columns
    lists = (attribute,) if what == "entities" else (f"{attribute}_new", f"{attribute}_gone")
    match style:
        case "csv":
            names = [entity, "change", "rank", item, *(["score"] if scores else [])]
            header = ",".join(map(_in_quotes, names)) + "\n"
            return RowLines(write, lambda row: _csv_line(row, scores=scores), what=what, header=header)
        case "jsonl" if what == "items":
            return RowLines(write, lambda row: _json_line(row, entity, item), what=what)
        case "jsonl":
            key = json.dumps(entity)
            return ListLines(
                write,
                lambda name, change: f'{{{key}:{_json_text(name)},"change":"{change}",',
                "}",
                ("items",),
                scores="scores" if scores else None,
            )
        case "pinpoint":
            return ListLines(write, lambda name, _: f'{{"Id":{_json_text(name)},"Attributes":{{', "}}", lists)
        case "braze" if is_csv:
            names = [*([] if updated_at is None else ["UPDATED_AT"]), "EXTERNAL_ID", "PAYLOAD"]
            stamp = "" if updated_at is None else f"{updated_at},"
            return ListLines(
                write,
                lambda name, _: f'{stamp}{_in_quotes(name)},"{{',
                '}"',
                lists,
                empty="null",
                encode=lambda text: text.replace('"', '""'),
                header=",".join(names) + "\n",
            )
    stamp = "" if updated_at is None else f'"UPDATED_AT":{json.dumps(updated_at)},'
    return ListLines(
        write,
        lambda name, _: f'{{{stamp}"EXTERNAL_ID":{_json_text(name)},"PAYLOAD":"{{',
        '}"}',
        lists,
        empty="null",
        encode=lambda text: json.dumps(text)[1:-1],
    )


def _json_text(text: str | None) -> str:
    """Return a text as JSON, in a fraction of the time of ``json.dumps``, which is made for anything."""
    return "null" if text is None else encode_basestring_ascii(text)


def _in_quotes(text: str | None) -> str:
    return "" if text is None else '"' + text.replace('"', '""') + '"'


def _csv_line(row: ChangedRow, *, scores: bool) -> str:
    rank = "" if row.rank is None else row.rank
    score = "" if row.score is None else repr(row.score)
    end = f",{score}" if scores else ""
    return f"{_in_quotes(row.entity)},{row.change},{rank},{_in_quotes(row.item)}{end}\n"


def _json_line(row: ChangedRow, entity: str, item: str) -> str:
    line = {entity: row.entity, item: row.item, "change": row.change, "rank": row.rank}
    return json.dumps(line, separators=(",", ":")) + "\n"
