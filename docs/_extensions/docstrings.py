"""Turn the roles and directives of the package's docstrings into Markdown, for the reference that the site shows."""

from __future__ import annotations

import re
from typing import Any

import griffe

_ROLE = re.compile(r":(?:class|func|meth|mod|data|attr|exc|obj):`(~?)([^`]+)`")
_SEE_ALSO = re.compile(r"^\.\. seealso:: (\S+)$", re.MULTILINE)
#: What running an operator returns stands in its class's docstring, where a parser expects no such field.
_RETURN = re.compile(r"^:return: (.*(?:\n +.*)*)\n?", re.MULTILINE)
_LINK = re.compile(r"`([^`<]+) <(https?://[^>]+)>`_+")


def _short(match: re.Match[str]) -> str:
    name = match[2].rpartition(".")[2] if match[1] else match[2]
    return f"`{name}`"


class Roles(griffe.Extension):
    """Rewrite each docstring once it is loaded."""

    def on_instance(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Rewrite one object's docstring."""
        if obj.docstring:
            text = _ROLE.sub(_short, obj.docstring.value)
            text = _LINK.sub(r"[\1](\2)", text)
            text = _SEE_ALSO.sub(r"See also <\1>.", text)
            if obj.is_class and (found := _RETURN.search(text)):
                text = _RETURN.sub("", text)
                returns = " ".join(found[1].split())
                before, field, after = text.partition("\n:")
                text = f"{before}\nReturns {returns}\n{field}{after}"
            obj.docstring.value = text
