"""
Validates a job's input before the job is paid for: its objects, its lines, and the request that names them.

This module is pure: it imports neither Airflow nor boto3, and is given names, sizes and bytes. One call of a regular
expression accepts a run of lines that are good at first sight; only the others are parsed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from airflow_provider_personalize.input.line_checks import (
    FILTER_VALUE,
    KNOWN_KEYS,
    MAX_LINE_BYTES,
    Repeats,
    good_lines,
    is_utf8,
    value_problem,
)
from airflow_provider_personalize.input.objects import neighbours, without_output
from airflow_provider_personalize.input.problems import Problems
from airflow_provider_personalize.output.blocks import GiantLine, cut_lines
from airflow_provider_personalize.service.expressions import Filter
from airflow_provider_personalize.service.kinds import BATCH_INFERENCE_JOB, BATCH_SEGMENT_JOB, ResourceKind
from airflow_provider_personalize.service.recipes import (
    ATTRIBUTES,
    LINE_KEYS,
    MAX_BYTES,
    MAX_FILES,
    MAX_LINES,
    MAX_THEME_ITEMS,
    RANKING,
    Keys,
    Recipe,
    describe_keys,
)
from airflow_provider_personalize.service.requests import MAX_SEGMENT_USERS
from airflow_provider_personalize.uris import S3Uri, parse_s3_uri

#: The most results that any public text names, for a single request. Whether a batch job takes more is not known.
USUAL_RESULTS = 500


class InputCheck(Problems):
    """
    Collects what is wrong with a job before it is created: give it the parts, then call :meth:`raise_for_problems`.

    :param recipe: The recipe of the job's solution version; None where it is not known, so that every form of a line
        passes.
    :param placeholders: The placeholders of the job's filter, which every line has to give values for.
    :param optional_placeholders: Those that a line may leave out, as far as is known: what lacks is a warning.
    :param themes: Whether the job makes themes.
    :param new_recipe: Whether the recipe is one that this package does not know: what its lines hold is its own.
    :param max_shown: How many problems are kept; all are counted.
    """

    def __init__(
        self,
        recipe: Recipe | None = None,
        *,
        placeholders: Iterable[str] = (),
        optional_placeholders: Iterable[str] = (),
        themes: bool = False,
        new_recipe: bool = False,
        max_shown: int = 20,
    ) -> None:
        super().__init__(max_shown)
        self.recipe = recipe
        self.placeholders = frozenset(placeholders)
        self.optional_placeholders = frozenset(optional_placeholders)
        self.themes = themes
        self.new_recipe = new_recipe
        #: How many lines were checked, and how many of them hold nothing.
        self.lines = self.blank_lines = 0
        self._choices = (recipe.lines if recipe else ()) or (*LINE_KEYS, Keys())
        self._good = good_lines(self._choices, [self.placeholders | self.optional_placeholders])
        self._missing_told = False
        # Without these, a second line of the same entity says the same as the first.
        may_repeat = self.placeholders or self.optional_placeholders or RANKING in self._choices
        self._repeats = Repeats() if may_repeat else None

    @property
    def filled_lines(self) -> int:
        """How many of the lines that were checked hold something, and so ask for something."""
        return self.lines - self.blank_lines

    def check_objects(
        self, input_uri: str, objects: Iterable[tuple[str, int]], output_uri: str | None = None
    ) -> list[str]:
        """
        Check which objects a job would read.

        :param input_uri: The job's ``input_uri``.
        :param objects: Key and size, in bytes, of every object whose key begins with that of the URI.
        :param output_uri: The job's ``output_uri``.
        :return: The keys of the objects whose lines are input: neither empty ones, nor other jobs' output.
        """
        prefix = parse_s3_uri(input_uri, parameter="input_uri", max_length=None)
        # Empty objects are folders, as the S3 console makes them, or markers, as Spark's _SUCCESS: they have no lines.
        sizes = {key: size for key, size in objects if size}
        keys = without_output(sizes, output_uri)
        if left_out := sizes.keys() - keys:
            self.warn(
                input_uri,
                f"expected input only, got {len(left_out):,} object(s) that jobs have written, as {min(left_out)}, "
                "which were not checked. The service may read them: better give input and output folders of their own.",
            )
        files, total = len(keys), sum(map(sizes.__getitem__, keys))
        strange = neighbours(prefix.key, keys)
        for key in strange:
            self.add(
                str(S3Uri(prefix.bucket, key)),
                f"expected every object to lie in {input_uri}/, got a neighbour's, since a path is a prefix: end "
                "input_uri in '/' if it is a folder, or keep the neighbour elsewhere.",
            )
        named: dict[str, str] = {}
        for key in keys if not strange else ():
            name = key.rpartition("/")[2]
            if (other := named.setdefault(name, key)) != key:
                self.add(
                    str(S3Uri(prefix.bucket, key)),
                    f"expected each object to have a name of its own, got the name of {other}, too: the output of both "
                    f"would be {name}.out, and one of them lost. Rename one, or make two jobs of them.",
                )
        if not files:
            self.add(input_uri, "expected the job's input there, got nothing; check the path, or run its task first.")
        if files > MAX_FILES:
            self.add(input_uri, f"expected at most {MAX_FILES:,} files, got {files:,}; put more lines into each.")
        if total > MAX_BYTES:
            self.add(input_uri, f"expected at most {MAX_BYTES:,} bytes in all, got {total:,}; make several jobs of it.")
        return keys

    def check_lines(self, uri: str, chunks: Iterable[bytes], *, whole: bool = True) -> None:
        """
        Check the lines of one object, as they stream.

        :param uri: The object's URI.
        :param chunks: Its bytes, cut anywhere.
        :param whole: Whether these are all of its bytes; where not, the last line may be cut off.
        """
        number, before = 0, self.filled_lines
        for block in cut_lines(chunks, MAX_LINE_BYTES):
            if isinstance(block, GiantLine):
                self.add(f"{uri}, line {number + 1}", f"expected a line below {MAX_LINE_BYTES:,} bytes, got a longer.")
                break
            text = block.data
            if not text.endswith(b"\n"):
                if not whole:
                    break
                text += b"\n"
            if self._repeats and (found := self._repeats.look(uri, text, number)):
                self.warn(
                    found[0],
                    f"{found[1]}, with other filterValues or another itemList. Only the loader's filter_values_column "
                    "tells the rows of such lines apart, and only by their filterValues; lists take jobs of their own.",
                )
            position = 0
            utf8 = is_utf8(text)
            while position < len(text):
                good = self._good.match(text, position) if utf8 else None
                end = good.end() if good else position
                number += text.count(b"\n", position, end)
                if end == len(text):
                    break
                position = text.index(b"\n", end) + 1
                number += 1
                raw = text[end:position].strip()
                if not raw:
                    self.blank_lines += 1
                elif reason := self._line_problem(raw):
                    self.add(f"{uri}, line {number}", reason)
        self.lines += number
        filled = self.filled_lines - before
        most = self.recipe.max_lines if self.recipe else MAX_LINES
        if filled > most:
            name = self.recipe.name if self.recipe else "any recipe"
            self.add(uri, f"expected at most {most:,} lines for {name}, got {filled:,}; split the file.")
        if self.themes and self.filled_lines > MAX_THEME_ITEMS >= before:
            self.add(uri, f"expected at most {MAX_THEME_ITEMS} items in a job with themes; this file goes beyond.")

    def check_request(self, kind: ResourceKind, request: Mapping[str, Any]) -> None:
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
            if isinstance(results, int) and results > USUAL_RESULTS:
                self.warn(
                    "num_results",
                    f"no public text names a maximum for batch inference; a single request takes {USUAL_RESULTS}, and "
                    f"this job asks for {results:,}.",
                )
            self._check_config(request.get("batchInferenceJobConfig") or {})
            if self.themes and recipe and not recipe.themes:
                self.add("batch_inference_job_mode", f"themes need aws-similar-items, got {recipe.name}.")

    def check_filter(self, kind: ResourceKind, found: Filter) -> None:
        """
        Check that a filter goes with the job.

        :param kind: The kind of job.
        :param found: The filter.
        """
        if found.of_interactions and self.recipe and self.recipe.lines == (ATTRIBUTES,):
            self.add(
                "filter_arn",
                f"expected a filter that looks at Users only, for {self.recipe.name}, got one that "
                "looks at Interactions.",
            )
        wanted = "userid" if kind is BATCH_SEGMENT_JOB else "itemid"
        if found.entities and wanted not in found.entities:
            self.warn(
                "filter_arn",
                f"a {kind.words} takes filters on {'UserID' if wanted == 'userid' else 'ItemID'}, "
                "and this one is on the other.",
            )

    def _check_config(self, config: Mapping[str, Any]) -> None:
        place = "batch_inference_job_config"
        for name, value in (config.get("itemExplorationConfig") or {}).items():
            if name not in {"explorationWeight", "explorationItemAgeCutOff"}:
                continue
            most = {"explorationWeight": 1.0}.get(name)
            number = _number(value) if isinstance(value, str) else None
            if number is None or number < 0 or (most is not None and number > most):
                upto = f" from 0 to {most:g}" if most is not None else " from 0"
                self.add(f"{place}, {name}", f"expected a number{upto}, as text like '0.3', got {value!r}.")
        for name, value in (config.get("rankingInfluence") or {}).items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
                self.add(f"{place}, {name}", f"expected a number from 0.0 to 1.0, got {value!r}.")

    def _line_problem(self, raw: bytes) -> str | None:
        """Return what is wrong with a line, or None."""
        try:
            return self._problem(raw)
        except RecursionError:
            return f"expected JSON of some levels, got {raw[:50]!r}…, which is nested too deeply."

    def _problem(self, raw: bytes) -> str | None:
        try:
            line = json.loads(raw.decode())
        except ValueError as error:
            return f"expected JSON in UTF-8, got {raw[:100]!r} ({error}); write one object to a line, without a BOM."
        if not isinstance(line, dict):
            return f"expected a JSON object, got {raw[:100]!r}."
        # A key that no recipe knows is left to the service; one that another recipe knows is a mistake.
        given = Keys(line) - {"filterValues"}
        keys = given & KNOWN_KEYS or given
        if keys not in self._choices and not (self.new_recipe and given):
            needed = f" for {self.recipe.name}" if self.recipe else ""
            return f"expected {describe_keys(self._choices)}{needed}, got {describe_keys((given,))}."
        for key in sorted(keys & KNOWN_KEYS):
            if reason := value_problem(key, line[key]):
                return f"{key}: {reason}"
        values = line.get("filterValues")
        return self._filter_problem({} if values is None else values)

    def _warn_of_missing(self, names: list[str]) -> None:
        if self._missing_told:
            return
        self._missing_told = True
        self._good = good_lines(self._choices, [self.placeholders | self.optional_placeholders, self.placeholders])
        self.warn(
            "filterValues",
            f"some lines give no values for {', '.join(f'${name}' for name in names)} of the filter's EXCLUDE. Whether "
            "they may be left out is told differently in two places, so it is left to the service.",
        )

    def _filter_problem(self, values: Any) -> str | None:
        if not isinstance(values, dict):
            return f"filterValues: expected an object, got {values!r}."
        if missing := sorted(self.placeholders - values.keys()):
            return (
                f"filterValues: expected values for the filter's {', '.join(f'${name}' for name in missing)}, got "
                f"{sorted(values)}; name the column in filter_values of the task that writes the input."
            )
        if missing := sorted(self.optional_placeholders - values.keys()):
            self._warn_of_missing(missing)
        for name, value in values.items():
            if not isinstance(value, str) or not FILTER_VALUE.fullmatch(value):
                return (
                    f'filterValues, {name}: expected each value in escaped quotes, as "\\"horror\\",\\"comedy\\"", got '
                    f"{json.dumps(value)[:100]}."
                )
        return None


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
