"""How pages are written and noted for Airflow's UI: reports of the checks, and what a DAG's own tasks write."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from airflow_provider_personalize.compat import Context, get_current_context
from airflow_provider_personalize.hooks.personalize import PersonalizeHook
from airflow_provider_personalize.links.personalize import job_url, stand_in_of
from airflow_provider_personalize.links.reports import PersonalizeReportLink
from airflow_provider_personalize.quality.report import Made, Origin, parse_report_uri
from airflow_provider_personalize.quality.thresholds import Outcome
from airflow_provider_personalize.service.names import parse_arn
from airflow_provider_personalize.uris import S3Uri, parse_s3_uri, parse_uri_or_path


def write_report(page: str, uri: str, hook: PersonalizeHook, log: Any) -> bool:
    """
    Write a report, and return whether that was possible; an error is logged and hides no other.

    :param page: The report.
    :param uri: Where to write it: a path, ``file:///…`` or ``s3://bucket/key``.
    :param hook: The hook whose connection S3 is written with.
    :param log: The task's logger.
    """
    try:
        put_page(page, uri, hook)
    except Exception:
        log.exception("The report could not be written to %s.", uri)
        return False
    log.info("Wrote the report to %s.", uri)
    return True


def put_page(page: str, uri: str, hook: PersonalizeHook) -> None:
    """
    Write a page.

    :param page: The page.
    :param uri: Where to write it: a path, ``file:///…`` or ``s3://bucket/key``.
    :param hook: The hook whose connection S3 is written with.
    :raises InvalidRequestError: if the URI is none.
    """
    place = parse_report_uri(uri)
    if isinstance(place, S3Uri):
        hook.s3_client().put_object(
            Bucket=place.bucket, Key=place.key, Body=page.encode(), ContentType="text/html; charset=utf-8"
        )
    else:
        # Not everybody on the machine may see users' ids.
        place.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        place.path.write_text(page, encoding="utf-8")


def publish_page(
    page: str, uri: str, *, title: str, aws_conn_id: str | None = "aws_default", template: str = ""
) -> str:
    """
    Write an HTML page from within a task of any kind, and show it in the tab of the task and of its run.

    :param page: The page, which has to begin with ``<!doctype html>`` and to load nothing else.
    :param uri: Where to write it: a path, ``file:///…`` or ``s3://bucket/key``.
    :param title: What it is, in a word or two.
    :param aws_conn_id: The Airflow connection that S3 is written and read with.
    :param template: The page's template. The scripts that it holds run in the tab; no other one does, whatever the
        page's data brought into it.
    :return: The page's URI, or the path as it was given.
    :raises InvalidRequestError: if the URI is none.
    :raises ServiceError: if S3 does not take the page.
    """
    hook = PersonalizeHook(aws_conn_id=aws_conn_id)
    put_page(page, uri, hook)
    where = _where_is(hook, uri)
    domain = PersonalizeReportLink.get_aws_domain(where.pop("aws_partition"))
    about: dict[str, Any] = {"title": title, "about": [], "verdict": "", "scripts": script_digests(template or "")}
    get_current_context()["ti"].xcom_push(key=PersonalizeReportLink.key, value={**where, **about, "aws_domain": domain})
    return uri


def script_digests(template: str) -> list[str]:
    """
    Return the digests of the scripts in a template, as a content security policy names them.

    :param template: HTML, before data are filled into it. A script that data are filled into has no digest that holds.
    """
    bodies = re.findall(r"<script>(.*?)</script>", template, re.DOTALL | re.IGNORECASE)
    return [f"sha256-{b64encode(sha256(body.encode()).digest()).decode()}" for body in bodies]


def beside_output(context: Context, hook: PersonalizeHook, job_arns: Sequence[str], log: Any) -> str | None:
    """
    Return where the report on a job's output goes: beside that, on S3; None where no job is known.

    :param context: The task's context. Each task that checks the job writes a report of its own.
    :param hook: The hook that the job is looked up with.
    :param job_arns: The jobs that were loaded; the report goes beside the first one's output.
    :param log: The task's logger.
    """
    if not job_arns:
        return None
    try:
        job = hook.get_status(job_arns[0])
        folder = parse_s3_uri(job.output_uri or "", max_length=None)
    except Exception as error:  # noqa: BLE001 (a report is not worth a task)
        log.warning("No report is written: the output's place could not be looked up (%s). Give report_uri.", error)
        return None
    ti: Any = context["ti"]
    words = [job.name, str(getattr(ti, "dag_id", "")), str(getattr(ti, "task_id", ""))]
    if (map_index := getattr(ti, "map_index", -1)) is not None and map_index >= 0:
        words.append(str(map_index))
    name = ".".join(re.sub(r"[^a-zA-Z0-9_-]+", "-", word)[:100] for word in words if word)
    prefix = folder.key.rstrip("/")
    return str(S3Uri(folder.bucket, f"{prefix}/{name}.html" if prefix else f"{name}.html"))


def note_report(
    context: Context,
    operator: Any,
    title: str,
    uri: str | None,
    about: Sequence[str],
    results: Sequence[Outcome],
) -> None:
    """
    Note in XCom where a report is, for its link and for the tab in Airflow's UI, which shows it from there.

    :param context: The task's context.
    :param operator: The task's operator, with the hook that the report was written with.
    :param title: What the report is, in a word or two.
    :param uri: Where it is; None where it was not written.
    :param about: The ARNs of what it is about.
    :param results: The outcomes of the check, which give its verdict.
    """
    states = {outcome.state for outcome in results}
    verdict = next((state for state in ("failed", "warned") if state in states), "passed")
    try:
        where = _where_is(operator.hook, uri)
        if uri and about:
            where["stand_in"] = stand_in_of(operator, parse_arn(about[0]).account)
        PersonalizeReportLink.persist(
            context=context, operator=operator, title=title, about=[*about], verdict=verdict, scripts=[], **where
        )
    except Exception:
        operator.log.exception("Where the report is could not be noted, so the tab does not show it.")


def _where_is(hook: PersonalizeHook, uri: str | None) -> dict[str, Any]:
    """Return what it takes to read a page again, and to make the link to it."""
    region: str | None = hook._region_name
    partition = ""
    if uri and uri.startswith("s3://"):
        with suppress(Exception):
            region, partition = hook.conn_client_meta.region_name, hook.conn_partition
    return {
        "uri": str(parse_uri_or_path(uri)) if uri else "",
        "aws_conn_id": hook.aws_conn_id,
        "region_name": region,
        "aws_partition": partition,
        "verify": hook._verify,
    }


def origin_of(context: Context, operator: Any, arns: Sequence[str]) -> Origin:
    """
    Return where a report comes from, as far as it is known: it is not worth a task.

    :param context: The task's context.
    :param operator: The operator, whose service the resources are of.
    :param arns: The jobs that were loaded, or the solution version that is checked.
    """
    ti = context.get("ti")
    run = Made(" · ".join(str(getattr(ti, name)) for name in ("dag_id", "run_id") if getattr(ti, name, None)))
    with suppress(Exception):
        # The run's own page on Airflow 3, and on Airflow 2 that of the task in the run's grid.
        run = run._replace(url=str(ti.log_url).partition("/tasks/")[0])  # type: ignore[union-attr]
    resources = [Made(arn.partition("/")[2]) for arn in arns]
    with suppress(Exception):
        resources = [Made(arn.partition("/")[2], job_url(operator, arn)) for arn in arns]
    return Origin(datetime.now(UTC), run, resources)
