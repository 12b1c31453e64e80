"""
What makes a job's input invalid, found before the job is paid for: its objects, its lines and the request.

This module is pure: it imports neither Airflow nor boto3. Whoever reads the input hands over names, sizes and bytes.
Runs of lines that are plainly good are taken by one call of a regular expression; only the others are parsed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import permutations
from typing import Any, NamedTuple

from airflow_provider_personalize.batch.expressions import item_attributes_problem
from airflow_provider_personalize.batch.recipes import (
    LINE_KEYS,
    MAX_BYTES,
    MAX_FILES,
    MAX_ID_LENGTH,
    MAX_LINES,
    MAX_THEME_ITEMS,
    Keys,
    Recipe,
    describe_keys,
)
from airflow_provider_personalize.exceptions import InvalidRequestError
from airflow_provider_personalize.naming import parse_s3_uri
from airflow_provider_personalize.resources import BATCH_INFERENCE_JOB, BATCH_SEGMENT_JOB, JobKind

#: The most users of one line of a segment job.
MAX_SEGMENT_USERS = 5_000_000
#: Bytes from which on a line cannot be meant: the longest list of the longest ids is far shorter.
MAX_LINE_BYTES = 16_000_000

# A plainly good id begins with a byte that no blank character begins with, and has no escapes. Whatever else may be
# good is for the parser to say. Possessive repeats (*+) do not backtrack, so a run may have any length.
_GOOD_ID = rb'"[!#-\[\]-~\xc3-\xdf\xe4-\xf4][^"\\\x00-\x1f]{0,%d}+"' % (MAX_ID_LENGTH - 1)
_GOOD_VALUE: Mapping[str, bytes] = {
    "userId": _GOOD_ID,
    "itemId": _GOOD_ID,
    "itemList": rb"\[(?:%b, ?)*+%b\]" % (_GOOD_ID, _GOOD_ID),
}
_KNOWN_KEYS = Keys().union(*LINE_KEYS)
_GOOD_FILTER_VALUE = rb'"(?:\\"[^"\\\x00-\x1f]*+\\",)*+\\"[^"\\\x00-\x1f]*+\\""'
_FILTER_VALUE = re.compile(r'(?:"[^"\\]*",\s*)*"[^"\\]*"')


class Problem(NamedTuple):
    """
    One thing that is wrong.

    :param location: Where: an object's URI and the line's number, or a parameter.
    :param reason: What was expected, what came, and what to do.
    """

    location: str
    reason: str

    def __str__(self) -> str:
        return f"{self.location}: {self.reason}"


class InputCheck:
    """
    Collects what is wrong with a job before it is created: hand it the parts, then :meth:`raise_for_problems`.

    :param recipe: The recipe of the job's solution version; None where it is not known, so that every form of a line
        passes.
    :param placeholders: The placeholders of the job's filter, which every line has to give values for.
    :param themes: Whether the job makes themes.
    :param max_shown: How many problems are kept; all are counted.
    """

    def __init__(
        self,
        recipe: Recipe | None = None,
        *,
        placeholders: Iterable[str] = (),
        themes: bool = False,
        max_shown: int = 20,
    ) -> None:
        self.recipe = recipe
        self.placeholders = frozenset(placeholders)
        self.themes = themes
        self.max_shown = max_shown
        #: The first problems.
        self.problems: list[Problem] = []
        #: How many problems there are.
        self.count = 0
        #: How many lines were checked.
        self.lines = 0
        self._choices = (recipe.lines if recipe else ()) or (*LINE_KEYS, Keys())
        self._good = re.compile(rb"(?:%b)*+" % b"|".join(self._good_lines()))

    def add(self, location: str, reason: str) -> None:
        """Count a problem, and keep it while there are few."""
        self.count += 1
        if self.count <= self.max_shown:
            self.problems.append(Problem(location, reason))

    def raise_for_problems(self) -> None:
        """
        Raise where something is wrong.

        :raises InvalidRequestError: with the problems that were kept, and the number of all.
        """
        if not self.count:
            return
        shown = "\n".join(f"  {problem}" for problem in self.problems)
        more = f"\n  … and {self.count - len(self.problems):,} more" if self.count > len(self.problems) else ""
        raise InvalidRequestError(
            f"Found {self.count:,} problem{'s' if self.count > 1 else ''} in the job's request and input; nothing was "
            f"submitted:\n{shown}{more}",
            problems=list(self.problems),
            count=self.count,
        )

    def check_objects(self, input_uri: str, objects: Iterable[tuple[str, int]]) -> None:
        """
        Check which objects a job would read.

        :param input_uri: The job's ``input_uri``.
        :param objects: Key and size, in bytes, of every object whose key begins with that of the URI.
        """
        prefix = parse_s3_uri(input_uri, parameter="input_uri", max_length=None)
        folder = prefix.key if prefix.key.endswith("/") or not prefix.key else f"{prefix.key}/"
        files = total = 0
        for key, size in objects:
            if not size:
                continue  # A folder, as the S3 console makes one, or a marker, as Spark's _SUCCESS: no lines to miss.
            files += 1
            total += size
            location = f"s3://{prefix.bucket}/{key}"
            if key != prefix.key and not key.startswith(folder):
                self.add(
                    location,
                    f"expected every object to lie in {input_uri}/, got a neighbour's, since a path is a prefix: end "
                    "input_uri in '/' if it is a folder, or keep the neighbour elsewhere.",
                )
        if not files:
            self.add(input_uri, "expected the job's input there, got nothing; check the path, or run its task first.")
        if files > MAX_FILES:
            self.add(input_uri, f"expected at most {MAX_FILES:,} files, got {files:,}; put more lines into each.")
        if total > MAX_BYTES:
            self.add(input_uri, f"expected at most {MAX_BYTES:,} bytes in all, got {total:,}; make several jobs of it.")

    def check_lines(self, uri: str, chunks: Iterable[bytes], *, whole: bool = True) -> None:
        """
        Check the lines of one object, as they stream.

        :param uri: The object's URI.
        :param chunks: Its bytes, cut anywhere.
        :param whole: Whether these are all of its bytes; where not, the last line may be cut off.
        """
        number = 0
        for text in _whole_lines(chunks, whole=whole):
            if text is None:
                self.add(f"{uri}, line {number + 1}", f"expected a line below {MAX_LINE_BYTES:,} bytes, got a longer.")
                break
            position = 0
            utf8 = _is_utf8(text)
            while position < len(text):
                good = self._good.match(text, position) if utf8 else None
                end = good.end() if good else position
                number += text.count(b"\n", position, end)
                if end == len(text):
                    break
                position = text.index(b"\n", end) + 1
                number += 1
                if reason := self._line_problem(text[end:position]):
                    self.add(f"{uri}, line {number}", reason)
        self.lines += number
        most = self.recipe.max_lines if self.recipe else MAX_LINES
        if number > most:
            name = self.recipe.name if self.recipe else "any recipe"
            self.add(uri, f"expected at most {most:,} lines for {name}, got {number:,}; split the file.")
        if self.themes and self.lines > MAX_THEME_ITEMS >= self.lines - number:
            self.add(uri, f"expected at most {MAX_THEME_ITEMS} items in a job with themes; this file goes beyond.")

    def check_request(self, kind: JobKind, request: Mapping[str, Any]) -> None:
        """
        Check what a create request asks of the recipe.

        :param kind: The kind of job.
        :param request: The request, as the API takes it.
        """
        recipe = self.recipe
        if recipe and recipe.kind != kind:
            uses = f"is for a {recipe.kind.words}; use that one's operator" if recipe.kind else "has no batch jobs"
            self.add(
                "solution version",
                f"expected a recipe for a {kind.words}, got {recipe.name}, which {uses}, or a solution with another "
                "recipe.",
            )
        results = request.get("numResults")
        most = MAX_SEGMENT_USERS if kind is BATCH_SEGMENT_JOB else None
        if results is not None and (not isinstance(results, int) or results < 1 or (most and results > most)):
            upto = f"1 to {most:,}" if most else "1 or more"
            self.add("num_results", f"expected a whole number, {upto}, got {results!r}.")
        if kind is BATCH_INFERENCE_JOB:
            self._check_config(request.get("batchInferenceJobConfig") or {})
            if self.themes and recipe and not recipe.themes:
                self.add("batch_inference_job_mode", f"themes need aws-similar-items, got {recipe.name}.")

    def _check_config(self, config: Mapping[str, Any]) -> None:
        place = "batch_inference_job_config"
        for name, value in (config.get("itemExplorationConfig") or {}).items():
            most = {"explorationWeight": 1.0}.get(name)
            number = _number(value) if isinstance(value, str) else None
            if number is None or number < 0 or (most is not None and number > most):
                upto = f" from 0 to {most:g}" if most is not None else " from 0"
                self.add(f"{place}, {name}", f"expected a number{upto}, as text like '0.3', got {value!r}.")
        for name, value in (config.get("rankingInfluence") or {}).items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
                self.add(f"{place}, {name}", f"expected a number from 0.0 to 1.0, got {value!r}.")

    def _good_lines(self) -> Iterator[bytes]:
        """Give a pattern for each form of a line that is good at first sight."""
        filters = [b""]
        if self.placeholders:
            orders = permutations(sorted(self.placeholders)) if len(self.placeholders) <= 3 else ()
            filters = [
                rb', ?"filterValues": ?\{%b\}'
                % rb", ?".join(rb'"%b": ?%b' % (name.encode(), _GOOD_FILTER_VALUE) for name in order)
                for order in orders
            ]
        if Keys() in self._choices and not self.placeholders:
            yield rb"\{ ?\}\r?\n"
        for keys in self._choices:
            if keys and keys <= _GOOD_VALUE.keys():
                pairs = [rb'"%b": ?%b' % (key.encode(), _GOOD_VALUE[key]) for key in _GOOD_VALUE if key in keys]
                for values in filters:
                    yield rb"\{%b%b\}\r?\n" % (rb", ?".join(pairs), values)

    def _line_problem(self, raw: bytes) -> str | None:
        """Say what is wrong with a line, or None."""
        raw = raw.strip()
        if not raw:
            return None
        try:
            line = json.loads(raw.decode())
        except ValueError as error:
            return f"expected JSON in UTF-8, got {raw[:100]!r} ({error}); write one object to a line, without a BOM."
        if not isinstance(line, dict):
            return f"expected a JSON object, got {raw[:100]!r}."
        # What no recipe knows is the service's to judge; what another recipe knows tells of a mistake.
        given = Keys(line) - {"filterValues"}
        keys = given & _KNOWN_KEYS or given
        if keys not in self._choices:
            needed = f" for {self.recipe.name}" if self.recipe else ""
            return f"expected {describe_keys(self._choices)}{needed}, got {describe_keys((given,))}."
        for key in sorted(keys):
            if reason := _value_problem(key, line[key]):
                return f"{key}: {reason}"
        return self._filter_problem(line.get("filterValues") or {})

    def _filter_problem(self, values: Any) -> str | None:
        if not isinstance(values, dict):
            return f"filterValues: expected an object, got {values!r}."
        if missing := sorted(self.placeholders - values.keys()):
            return (
                f"filterValues: expected values for the filter's {', '.join(f'${name}' for name in missing)}, got "
                f"{sorted(values)}; name the column in filter_values of the task that writes the input."
            )
        for name, value in values.items():
            if not isinstance(value, str) or not _FILTER_VALUE.fullmatch(value):
                return (
                    f'filterValues, {name}: expected each value in escaped quotes, as "\\"horror\\",\\"comedy\\"", got '
                    f"{json.dumps(value)[:100]}."
                )
        return None


def _whole_lines(chunks: Iterable[bytes], *, whole: bool) -> Iterator[bytes | None]:
    """Give the chunks cut at ends of lines, or None, and no more, after a line beyond all measure."""
    rest: list[bytes] = []
    held = 0
    for chunk in chunks:
        end = chunk.rfind(b"\n") + 1
        if end:
            yield b"".join((*rest, chunk[:end]))
            rest, held = [], 0
        rest.append(chunk[end:])
        held += len(chunk) - end
        if held > MAX_LINE_BYTES:
            yield None
            return
    if held and whole:
        yield b"".join((*rest, b"\n"))


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _value_problem(key: str, value: Any) -> str | None:
    match key:
        case "itemAttributes":
            if isinstance(value, str):
                return item_attributes_problem(value)
            return f"expected an expression as text, got {json.dumps(value)[:100]}."
        case "itemList":
            if not isinstance(value, list) or not value:
                return f"expected a list of item ids, got {json.dumps(value)[:100]}."
            return next(filter(None, map(_id_problem, value)), None)
        case _:
            return _id_problem(value)


def _id_problem(value: Any) -> str | None:
    if not isinstance(value, str):
        return f'expected an id as text, as "123", got {json.dumps(value)[:100]}.'
    if not value.strip():
        return f"expected an id, got the blank text {value!r}; leave such lines out."
    if len(value) > MAX_ID_LENGTH:
        return f"expected at most {MAX_ID_LENGTH} characters, got {len(value)}: {value[:50]!r}…"
    return None


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
