"""How the operators that check write their reports."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from airflow_provider_personalize.compat import Context
from airflow_provider_personalize.hooks.personalize import PersonalizeHook
from airflow_provider_personalize.links.personalize import PersonalizeJobLink
from airflow_provider_personalize.quality.report import Made, Origin, parse_report_uri
from airflow_provider_personalize.service.names import parse_arn
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


def origin_of(context: Context, hook: PersonalizeHook, arns: Sequence[str]) -> Origin:
    """
    Return where a report comes from, as far as it is known: it is not worth a task.

    :param context: The task's context.
    :param hook: The hook whose service the resources are of.
    :param arns: The jobs that were loaded, or the solution version that is checked.
    """
    ti = context.get("ti")
    run = Made(" · ".join(str(getattr(ti, name)) for name in ("dag_id", "run_id") if getattr(ti, name, None)))
    with suppress(Exception):
        # The run's own page on Airflow 3, and on Airflow 2 that of the task in the run's grid.
        run = run._replace(url=str(ti.log_url).partition("/tasks/")[0])  # type: ignore[union-attr]
    return Origin(datetime.now(UTC), run, [Made(arn.partition("/")[2], _console_url(hook, arn)) for arn in arns])


def _console_url(hook: PersonalizeHook, arn: str) -> str:
    """Return the address of a resource in the AWS console; empty where the resource is not AWS's own."""
    with suppress(Exception):
        endpoint = urlsplit(str(hook.conn.meta.endpoint_url)).hostname or ""
        if endpoint.endswith((".amazonaws.com", ".amazonaws.com.cn", ".api.aws")):
            where = parse_arn(arn)
            link = PersonalizeJobLink()
            domain = link.get_aws_domain(where.partition)
            return link.format_link(region_name=where.region, aws_domain=domain, job_arn=arn)
    return ""
