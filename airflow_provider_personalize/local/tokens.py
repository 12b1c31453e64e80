"""The tokens of expressions, and the lists of values that stand in for placeholders."""

from __future__ import annotations

import re
from dataclasses import dataclass

from airflow_provider_personalize.exceptions import InvalidRequestError

#: A number, in an expression and in a cell.
NUMBER = r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"


class Placeholder(str):
    """The name of a placeholder, without the dollar sign, in the place of a value."""

    __slots__ = ()


_TOKEN = re.compile(
    rf"""(?P<string>"(?:[^"\\]|\\.)*")
      | (?P<number>{NUMBER})(?![\w.])
      | (?P<placeholder>\$\w+)
      | (?P<word>[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)?)(?![\w.])
      | (?P<sign><=|>=|!=|==|[=<>(),|])
    """,
    re.VERBOSE | re.DOTALL | re.ASCII,
)


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    position: int


def _unquoted(text: str) -> str:
    # Assumption: a backslash inside a quoted value stands before a quote or another backslash.
    return re.sub(r"\\(.)", r"\1", text[1:-1], flags=re.DOTALL)


def _past_space(text: str, position: int) -> int:
    return len(text) - len(text[position:].lstrip())


class Tokens:
    """The tokens of one expression, to be taken one by one."""

    def __init__(self, text: str, what: str) -> None:
        self.text = text
        self.what = what
        self.tokens: list[_Token] = []
        position = _past_space(text, 0)
        while position < len(text):
            match = _TOKEN.match(text, position)
            if match is None or match.lastgroup is None:
                raise self.error("a word, a sign or a quoted value", position)
            self.tokens.append(_Token(match.lastgroup, match[match.lastgroup], match.start(match.lastgroup)))
            position = _past_space(text, match.end())
        self.next = 0

    def error(self, expected: str, position: int | None = None) -> InvalidRequestError:
        """Build the error for the next token, or for a position."""
        if position is None:
            position = self.tokens[self.next].position if self.next < len(self.tokens) else len(self.text)
        found = repr(self.text[position : position + 20]) if position < len(self.text) else "the end"
        return InvalidRequestError(f"{self.what}: expected {expected} at character {position + 1}, got {found}.")

    def accept(self, *texts: str) -> str | None:
        """Take the next token if it is one of these words or signs, whatever its case."""
        if self.next < len(self.tokens):
            token = self.tokens[self.next]
            if token.kind in ("word", "sign") and token.text.upper() in texts:
                self.next += 1
                return token.text.upper()
        return None

    def expect(self, *texts: str) -> str:
        """Take the next token, which has to be one of these."""
        taken = self.accept(*texts)
        if taken is None:
            raise self.error(" or ".join(texts))
        return taken

    def end(self) -> None:
        """Make sure that nothing is left."""
        if self.next < len(self.tokens):
            raise self.error("the end")

    def value(self, *, placeholders: bool) -> str:
        """Take a quoted value, a number or a placeholder."""
        token = self.tokens[self.next] if self.next < len(self.tokens) else None
        kinds = ("string", "number", "placeholder") if placeholders else ("string", "number")
        if token is None or token.kind not in kinds:
            raise self.error('a value like "Comedy" or a number')
        self.next += 1
        if token.kind == "placeholder":
            return Placeholder(token.text[1:])
        return _unquoted(token.text) if token.kind == "string" else token.text

    def values(self, *, stop: str, placeholders: bool = False) -> list[str]:
        """Take values separated by commas."""
        taken = [self.value(placeholders=placeholders)]
        while self.accept(","):
            taken.append(self.value(placeholders=placeholders))
        if stop:
            self.expect(stop)
        return taken


def parse_values(name: str, text: str) -> list[str]:
    """
    Parse the values of one placeholder.

    :param name: The placeholder, without the dollar sign.
    :param text: What an input line has for it in its ``filterValues``.
    :raises InvalidRequestError: if it is not a list of quoted values.
    """
    tokens = Tokens(text if isinstance(text, str) else "", f"filterValues.{name}")
    values = tokens.values(stop="")
    tokens.end()
    return values
