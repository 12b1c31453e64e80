"""Prepare the package's docstrings for the reference that the site shows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import griffe

_ROLE = re.compile(r":(?:class|func|meth|mod|data|attr|exc|obj):`(~?)([^`]+)`")
_SEE_ALSO = re.compile(r"^\.\. seealso:: (\S+)$", re.MULTILINE)
#: What running an operator returns stands in its class's docstring, where a parser expects no such field.
_RETURN = re.compile(r"^:return: (.*(?:\n +.*)*)\n?", re.MULTILINE)
_PARAMETER = re.compile(r"^:param (\w+): .*(?:\n +.*)*\n?", re.MULTILINE)
_LINK = re.compile(r"`([^`<]+) <(https?://[^>]+)>`_+")
#: In the code a class documents only its own parameters; the site shows all of them in one table.
_ELSEWHERE = re.compile(r"^(?:Every other parameter is that|Parameters are those) of\s+\S+\n+", re.MULTILINE)


class Docstrings(griffe.Extension):
    """Turn roles and directives into Markdown, and give each class the parameters of its bases."""

    def on_package(self, *, pkg: griffe.Module, **kwargs: Any) -> None:
        """Rewrite the docstrings of a package, once all of it is loaded."""
        objects = list(_objects(pkg))
        classes = [found for found in objects if found.is_class and found.docstring]
        described = {found.path: found.docstring.value for found in classes}
        for found in classes:
            found.docstring.value = _with_inherited(found, described)
        for found in objects:
            if found.docstring:
                found.docstring.value = _as_markdown(found)


def _objects(parent: griffe.Object) -> Iterator[griffe.Object]:
    yield parent
    for member in parent.members.values():
        if not member.is_alias:
            yield from _objects(member)


def _with_inherited(cls: griffe.Class, described: dict[str, str]) -> str:
    """Return a class's docstring with the parameters that only its bases describe, and put them into its signature."""
    text = described[cls.path]
    if cls.path.split(".")[1] not in {"operators", "sensors", "transfers"}:
        return text
    known = set(_PARAMETER.findall(text))
    for base in (base for base in cls.mro() if base.path in described):
        _inherit_signature(cls, base)
        for match in _PARAMETER.finditer(described[base.path]):
            if match[1] not in known:
                known.add(match[1])
                text = f"{text.rstrip()}\n{match[0].rstrip()}\n"
    return _ELSEWHERE.sub("", text)


def _inherit_signature(cls: griffe.Class, base: griffe.Class) -> None:
    theirs = base.members.get("__init__")
    if theirs is None:
        return
    if "__init__" not in cls.members:
        cls.set_member("__init__", griffe.Function("__init__", parameters=griffe.Parameters(*theirs.parameters)))
        return
    ours = cls.members["__init__"].parameters
    rest = [parameter for parameter in ours if parameter.kind is griffe.ParameterKind.var_keyword]
    named = [parameter for parameter in ours if parameter not in rest]
    known = {parameter.name for parameter in ours}
    cls.members["__init__"].parameters = griffe.Parameters(
        *named, *(parameter for parameter in theirs.parameters if parameter.name not in known), *rest
    )


def _as_markdown(found: griffe.Object) -> str:
    text = _ROLE.sub(lambda match: f"`{match[2].rpartition('.')[2] if match[1] else match[2]}`", found.docstring.value)
    text = _LINK.sub(r"[\1](\2)", text)
    text = _SEE_ALSO.sub(r"See also <\1>.", text)
    if found.is_class and (returned := _RETURN.search(text)):
        text = _RETURN.sub("", text)
        before, field, after = text.partition("\n:")
        text = f"{before.rstrip()}\n\nReturns {' '.join(returned[1].split())}\n{field}{after}"
    return text
