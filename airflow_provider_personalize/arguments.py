"""
The arguments of operators: checked when the DAG's file is parsed, and read again when templates are rendered.

A template renders everything as text: a mapping as its JSON, or as Python writes it, and nothing as ``None`` or ``""``.
With ``render_template_as_native_obj`` it is the other way round, and a name of digits arrives as a number. Readers
undo both. A reader takes the parameter's name and the value, returns the value that was meant, and raises
:class:`InvalidRequestError` where there is none. Reading what was read before changes nothing.

This module is pure: it imports neither Airflow nor boto3.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date
from operator import index
from typing import Any, ClassVar
from uuid import UUID

from airflow_provider_personalize.exceptions import InvalidRequestError

#: Takes a parameter's name and its value; returns the value that was meant.
Reader = Callable[[str, Any], Any]

_TEMPLATE_MARKS = ("{{", "{%", "{#")
#: What a template renders of nothing.
_NOTHING = frozenset({"", "None", "null"})


def is_settled(value: Any) -> bool:
    """
    Return whether a value is already what it will be when the task runs.

    A template is not, and neither is what Airflow resolves later, as an upstream task's output.

    :param value: An argument as the DAG has it. Of a mapping only the keys count: its readers pass over templates
        among its values.
    """
    match value:
        case str():
            return not any(mark in value for mark in _TEMPLATE_MARKS)
        case Mapping() | list() | tuple():
            return all(map(is_settled, value))
    # What Airflow resolves says what it refers to.
    return not hasattr(value, "iter_references")


def shown(value: Any) -> str:
    """Write a value for a message, cut short."""
    try:
        text = repr(value)
    except RecursionError:
        text = f"a {type(value).__name__} of very many levels"
    return text if len(text) <= 200 else f"{text[:200]}…"


# Readers


def text(parameter: str, value: Any) -> str | None:
    """
    Read text; None where there is none.

    :raises InvalidRequestError: if it is something else, as a list, or a number with decimals: which digits the
        template gave is not known any more.
    """
    match value:
        case None:
            return None
        case str():
            return None if value.strip() in {"", "None"} else value
        case int() | date() | UUID():
            return str(value)
    raise InvalidRequestError(f"{parameter}: expected text, got the {type(value).__name__} {shown(value)}.")


def mapping(parameter: str, value: Any) -> dict[str, Any] | None:
    """Read a mapping, or its text; None where there is none."""
    found = _from_text(parameter, value, "a mapping, as {'name': 'value'}")
    if found is None:
        return None
    if not isinstance(found, Mapping):
        raise InvalidRequestError(
            f"{parameter}: expected a mapping, as {{'name': 'value'}}, got the {type(found).__name__} {shown(value)}."
        )
    if odd := [name for name in found if not isinstance(name, str)]:
        raise InvalidRequestError(f"{parameter}: expected names as text, got {shown(odd[0])} in {shown(value)}.")
    return dict(found)


def texts(parameter: str, value: Any) -> dict[str, str | None] | None:
    """Read a mapping to text, or to None, which a template renders as ``None``; an empty text is not the same."""
    found = mapping(parameter, value)
    return found and {
        name: text(f"{parameter}, {name}", word) if word != "" and is_settled(word) else word
        for name, word in found.items()
    }


def mapping_or_list(parameter: str, value: Any) -> dict[str, Any] | list[Any] | None:
    """Read a mapping or a list, or the text of one; None where there is none."""
    found = _from_text(parameter, value, "a mapping or a list")
    if found is None:
        return None
    if isinstance(found, Mapping):
        return dict(found)
    # What mapped tasks have returned comes as a sequence of Airflow's own, which has no more than that.
    if hasattr(found, "__iter__") and hasattr(found, "__len__"):
        return list(found)
    raise InvalidRequestError(
        f"{parameter}: expected a mapping or a list, got the {type(found).__name__} {shown(value)}."
    )


def whole_number(low: int | None = None, high: int | None = None, *, note: str = "") -> Reader:
    """Make a reader of whole numbers from ``low`` to ``high``; None where there is none."""
    upto = ("" if low is None else f", {low} or more" if high is None else f", {low:,} to {high:,}") + note

    def read(parameter: str, value: Any) -> int | None:
        if value is None or (isinstance(value, str) and value.strip() in _NOTHING):
            return None
        number = _integer(value)
        if number is None or (low is not None and number < low) or (high is not None and number > high):
            raise InvalidRequestError(f"{parameter}: expected a whole number{upto}, got {shown(value)}.")
        return number

    return read


def share(parameter: str, value: Any) -> float:
    """Read a number from 0.0 to 1.0."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise InvalidRequestError(
            f"{parameter}: expected a share from 0.0 to 1.0, as 0.05 for one line in twenty, got {shown(value)}."
        )
    return float(value)


def flag(parameter: str, value: Any) -> bool | None:
    """Read True or False, which no text stands for: any text would be taken for True."""
    if value is None or isinstance(value, bool):
        return value
    raise InvalidRequestError(f"{parameter}: expected True or False, got the {type(value).__name__} {shown(value)}.")


def one_of(choices: Iterable[str]) -> Reader:
    """Make a reader of one of a few words."""
    choices = tuple(choices)

    def read(parameter: str, value: Any) -> str | None:
        word = text(parameter, value)
        if word is not None and word not in choices:
            raise InvalidRequestError(f"{parameter}: expected one of {', '.join(choices)}, got {shown(value)}.")
        return word

    return read


def form(check: Callable[..., Any]) -> Reader:
    """Make a reader of text that a function takes as ``check(value, parameter=…)``, and raises if it does not."""

    def read(parameter: str, value: Any) -> str | None:
        word = text(parameter, value)
        if word is not None:
            check(word, parameter=parameter)
        return word

    return read


def required(read: Reader) -> Reader:
    """Make a reader that refuses what stands for no value."""

    def read_something(parameter: str, value: Any) -> Any:
        found = read(parameter, value)
        if found is None:
            raise InvalidRequestError(f"{parameter}: expected a value, got {shown(value)}, which stands for none.")
        return found

    return read_something


# Operators


class ReadArguments:
    """An operator that says how its arguments are read."""

    #: The reader of each argument.
    argument_readers: ClassVar[Mapping[str, Reader]] = {}
    template_fields: Sequence[str]

    def conflicts(self, known: Mapping[str, Any]) -> Iterator[str]:
        """
        Yield a problem for each combination of arguments that cannot be right.

        :param known: The arguments whose value is known and right by itself.
        """
        yield from ()

    def check_literals(self) -> None:
        """
        Check what is known when the DAG's file is parsed; called at the end of the constructor.

        :raises InvalidRequestError: with all that is wrong.
        """
        # A subclass has more to set, and calls this again; a mapped task's values come when it runs.
        if self.argument_readers.keys() - vars(self).keys() or getattr(self, "_BaseOperator__from_mapped", False):
            return
        self._read({name for name in self.argument_readers if self._is_settled(name)})

    def read_arguments(self) -> None:
        """
        Put what was meant in the place of what was rendered; called at the start of ``execute``.

        :raises InvalidRequestError: with all that is wrong.
        """
        for name, value in self._read(self.argument_readers).items():
            setattr(self, name, value)

    def _is_settled(self, name: str) -> bool:
        # What is not templated stays as it is.
        return name not in self.template_fields or is_settled(getattr(self, name))

    def _read(self, names: Iterable[str]) -> dict[str, Any]:
        known, problems = {}, []
        for name, read in self.argument_readers.items():
            if name in names:
                try:
                    known[name] = read(name, getattr(self, name))
                except InvalidRequestError as error:
                    problems.append(error.message)
        problems += self.conflicts(known)
        if len(problems) == 1:
            raise InvalidRequestError(problems[0])
        if problems:
            listed = "\n".join(f"  {problem}" for problem in problems)
            raise InvalidRequestError(
                f"Found {len(problems)} problems in the arguments; nothing was done:\n{listed}", problems=problems
            )
        return known


def exactly_one(known: Mapping[str, Any], *names: str) -> Iterator[str]:
    """Yield a problem unless exactly one of these arguments was given, as far as all of them are known."""
    if known.keys() >= set(names) and sum(bool(known[name]) for name in names) != 1:
        got = " and ".join(shown(known[name]) for name in names)
        yield f"Expected exactly one of {' and '.join(names)}, got {got}."


def _from_text(parameter: str, value: Any, wanted: str) -> Any:
    """Return what a text stands for; anything that is no text is returned as it is."""
    if not isinstance(value, str):
        return value
    stripped = value.strip()
    if stripped in _NOTHING:
        return None
    for parse in (json.loads, ast.literal_eval):
        try:
            return parse(stripped)
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            continue
    raise InvalidRequestError(
        f"{parameter}: expected {wanted}, or a template that renders to its JSON, as "
        f"'{{{{ … | tojson }}}}', got the text {shown(value)}."
    )


def _integer(value: Any) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    try:
        return int(value) if isinstance(value, str) else index(value)
    except (TypeError, ValueError):
        return None
