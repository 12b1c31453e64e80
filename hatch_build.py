"""Make the README that PyPI shows: its links and pictures lead to the repository, at the version that is built."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

try:
    from hatchling.metadata.plugin.interface import MetadataHookInterface
except ImportError:  # the tests need only absolute_links()
    MetadataHookInterface = object

#: The target of a link or a picture that is neither an address nor a place on the same page.
_RELATIVE = re.compile(r"(!?)(\[[^\]]*\])\((?!https?://|#)([^)\s]+)\)")


def absolute_links(text: str, repository: str, version: str) -> str:
    """
    Return a page whose links lead to the files of a release.

    :param text: The page, as Markdown, of the root of the repository.
    :param repository: The address of the repository.
    :param version: The version, whose tag is ``v`` and the version. A tag does not move, so its links do not break.
    """

    def absolute(match: re.Match[str]) -> str:
        picture, label, target = match.groups()
        return f"{picture}{label}({repository}/{'raw' if picture else 'blob'}/v{version}/{target})"

    return _RELATIVE.sub(absolute, text)


class ReadmeHook(MetadataHookInterface):
    """Give the README to the metadata of the package."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set the field ``readme``."""
        readme = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        code = (Path(self.root) / "airflow_provider_personalize" / "__init__.py").read_text(encoding="utf-8")
        version = re.search(r'__version__ = "(.+)"', code)[1]
        metadata["readme"] = {
            "content-type": "text/markdown",
            "text": absolute_links(readme, metadata["urls"]["Source"], version),
        }
