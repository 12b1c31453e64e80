"""How the operators that check write their reports."""

from __future__ import annotations

from typing import Any

from airflow_provider_personalize.hooks.personalize import PersonalizeHook
from airflow_provider_personalize.quality.report import parse_report_uri
from airflow_provider_personalize.uris import S3Uri


def write_report(page: str, uri: str, hook: PersonalizeHook, log: Any) -> bool:
    """
    Write a report, and return whether that was possible; an error is logged and hides no other.

    :param page: The report.
    :param uri: Where to write it: a path, ``file:///…`` or ``s3://bucket/key``.
    :param hook: The hook whose connection S3 is written with.
    :param log: The task's logger.
    """
    try:
        place = parse_report_uri(uri)
        if isinstance(place, S3Uri):
            hook.s3_client().put_object(
                Bucket=place.bucket, Key=place.key, Body=page.encode(), ContentType="text/html; charset=utf-8"
            )
        else:
            # Not everybody on the machine may see users' ids.
            place.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            place.path.write_text(page, encoding="utf-8")
    except Exception:
        log.exception("The report could not be written to %s.", uri)
        return False
    log.info("Wrote the report to %s.", uri)
    return True
