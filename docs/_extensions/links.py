"""Make links that lead out of ``docs/`` work on the site, too: there they lead to the repository."""

from __future__ import annotations

import posixpath
import re
from typing import Any

_LINK = re.compile(r"(?<=\]\()(\.\./[^)\s#]*)(#[^)\s]*)?(?=\))")


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Any) -> str:
    """Rewrite the links of one page."""
    folder = posixpath.dirname(page.file.src_uri)
    known = {file.src_uri for file in files}

    def rewrite(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join("docs", folder, match[1]))
        if target.removeprefix("docs/") in known:
            return match[0]
        kind = "blob" if "." in posixpath.basename(target) else "tree"
        return f"{config.repo_url}/{kind}/main/{target}{match[2] or ''}"

    return _LINK.sub(rewrite, markdown)
