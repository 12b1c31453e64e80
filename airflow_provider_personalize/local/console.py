"""The stand-in's own console: a page for each resource and for each folder of S3, where the tasks' links lead."""

from __future__ import annotations

import json
from html import escape
from itertools import islice
from typing import Any
from urllib.parse import parse_qs, quote, urlencode

from botocore.exceptions import BotoCoreError, ClientError

from airflow_provider_personalize.exceptions import InvalidRequestError
from airflow_provider_personalize.local.api import Api
from airflow_provider_personalize.local.errors import ApiError
from airflow_provider_personalize.service.names import kind_of, parse_arn
from airflow_provider_personalize.uris import S3Uri, parse_s3_uri

#: The most objects of a folder that are shown.
_SHOWN = 200
#: Nothing is fetched, and nothing runs, whatever a name or a reason says.
HEADERS = (
    ("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
)
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 900px; margin: 32px auto; padding: 0 16px; overflow-wrap: anywhere; }}
h1 {{ font-size: 22px; margin: 0 0 4px; }}
table {{ border-collapse: collapse; width: 100%; }}
td {{ padding: 5px 16px 5px 0; vertical-align: top; border-top: 1px solid #8884; }}
td:first-child {{ white-space: nowrap; }}
</style></head><body><h1>{title}</h1><p>{about} In the stand-in for Amazon Personalize.</p><table>{rows}</table></body></html>
"""  # noqa: E501


def answer(api: Api, query: str) -> tuple[int, str]:
    """
    Return the page of a resource (``arn=…``) or of a folder (``bucket=…&prefix=…``), with its HTTP status.

    :param api: Personalize.
    :param query: The request's query string.
    """
    asked = {name: values[-1] for name, values in parse_qs(query).items()}
    try:
        if "bucket" in asked:
            return _folder(api, asked["bucket"], asked.get("prefix", ""))
        return _resource(api, asked.get("arn", ""))
    except (ApiError, BotoCoreError, ClientError, InvalidRequestError) as error:
        return 404, _page("There is no such thing here", str(error), {})


def _resource(api: Api, arn: str) -> tuple[int, str]:
    kind = kind_of(arn)
    body = json.dumps({kind.arn_field: arn}).encode()
    found = api.answer(kind.describe_operation, parse_arn(arn).region, body)[kind.response_key]
    return 200, _page(str(found.get("name") or found.get(kind.name_field) or arn), kind.words.capitalize() + ".", found)


def _folder(api: Api, bucket: str, prefix: str) -> tuple[int, str]:
    pages = api.s3("us-east-1").get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    listed = list(islice((item for page in pages for item in page.get("Contents", ())), _SHOWN + 1))
    more = f" The first {_SHOWN} objects." if len(listed) > _SHOWN else ""
    rows = {item["Key"]: f"{item['Size']:,} bytes" for item in listed[:_SHOWN]}
    return 200, _page(f"s3://{bucket}/{prefix}", f"{'A folder' if rows else 'An empty folder'}.{more}", rows)


def _page(title: str, about: str, fields: dict[str, Any]) -> str:
    rows = "".join(f"<tr><td>{escape(name)}</td><td>{_shown(value)}</td></tr>" for name, value in fields.items())
    return _PAGE.format(title=escape(title), about=escape(about), rows=rows)


def _shown(value: Any) -> str:
    """Return a value as HTML: an ARN of a resource and a place on S3 lead to their pages."""
    if isinstance(value, dict):
        return "<br>".join(f"{escape(str(name))}: {_shown(inner)}" for name, inner in value.items())
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    if text.startswith("s3://"):
        try:
            place: S3Uri = parse_s3_uri(text, max_length=None)
        except InvalidRequestError:
            return escape(text)
        address = urlencode({"bucket": place.bucket, "prefix": place.key}, quote_via=quote)
    elif ":personalize:" in text and ":::" not in text:
        address = urlencode({"arn": text}, quote_via=quote)
    else:
        return escape(text)
    return f'<a href="?{escape(address)}">{escape(text)}</a>'
