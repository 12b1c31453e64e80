"""The pages of a listing."""

from __future__ import annotations

import base64
import binascii
from typing import Any

from airflow_provider_personalize.local.errors import ApiError

_PAGE = 100


def page_of(rows: list[tuple[int, Any]], request: dict[str, Any]) -> tuple[list[Any], dict[str, str]]:
    """
    Return one page of numbered rows, newest first, and the token of the next page.

    A token names the last row of its page, so that new rows do not shift pages.

    :param rows: The rows, each with its number.
    :param request: The request, with ``nextToken`` and ``maxResults``.
    :raises ApiError: ``InvalidNextTokenException`` if the token is none.
    """
    # Assumption: lists are in the order of creation, newest first, and a page has 100 rows where nothing is said.
    last = None
    if token := request.get("nextToken"):
        try:
            last = int(base64.urlsafe_b64decode(token.encode()).decode().removeprefix("after:"))
        except (ValueError, binascii.Error):
            raise ApiError("InvalidNextTokenException", "The nextToken is not one of this list's.") from None
    rows = sorted((row for row in rows if last is None or row[0] < last), key=lambda row: -row[0])
    size = request.get("maxResults") or _PAGE
    page = rows[:size]
    if len(rows) <= size:
        return [row for _, row in page], {}
    return [row for _, row in page], {"nextToken": base64.urlsafe_b64encode(f"after:{page[-1][0]}".encode()).decode()}
