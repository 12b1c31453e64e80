"""Checks a create request, and the input that it names, before anything is paid for."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from typing import Any

from airflow_provider_personalize.aws_errors import describe_error
from airflow_provider_personalize.exceptions import MissingOutputError
from airflow_provider_personalize.hooks.personalize import PersonalizeHook
from airflow_provider_personalize.input.validation import InputCheck
from airflow_provider_personalize.operators.costs import FEW_LISTED, HASTY, JobInput
from airflow_provider_personalize.s3.download import fetch, read_objects
from airflow_provider_personalize.s3.objects import StoredObject, list_objects
from airflow_provider_personalize.service.expressions import Filter, read_filter
from airflow_provider_personalize.service.kinds import ResourceKind
from airflow_provider_personalize.service.recipes import find_recipe
from airflow_provider_personalize.service.statuses import text_at
from airflow_provider_personalize.uris import parse_s3_uri

#: A sample: so many files, and so many bytes of each.
SAMPLE_FILES, SAMPLE_BYTES = 5, 256 << 10


def preflight(hook: PersonalizeHook, kind: ResourceKind, request: Mapping[str, Any], *, whole: bool) -> JobInput | None:
    """
    Check a create request, and the input that it names, against the recipe of its solution version.

    What cannot be read, as for want of a permission, is logged and left to the service: a check must not keep a job
    from being created that would succeed.

    :param hook: The connection.
    :param kind: The kind of job.
    :param request: The create request.
    :param whole: Whether to read all of the input, as a stream, or a sample of it.
    :return: The input, with its lines counted where all of it was read; None where it was out of reach.
    :raises InvalidRequestError: if something is wrong, with all that is.
    """
    log, started = hook.log, time.monotonic()
    recipe_arn, filter_ = "", Filter()
    with _unless_out_of_reach(log, "recipe"):
        version = hook.polling_client.describe_solution_version(solutionVersionArn=request["solutionVersionArn"])
        recipe_arn = version["solutionVersion"].get("recipeArn", "")
    if request.get("filterArn"):
        with _unless_out_of_reach(log, "filter"):
            found = hook.polling_client.describe_filter(filterArn=request["filterArn"])["filter"]
            filter_ = read_filter(found.get("filterExpression", ""))
    recipe = find_recipe(recipe_arn)
    check = InputCheck(
        recipe,
        placeholders=filter_.required,
        optional_placeholders=filter_.optional,
        themes=request.get("batchInferenceJobMode") == "THEME_GENERATION",
        new_recipe=bool(recipe_arn) and recipe is None,
    )
    if check.new_recipe:
        log.warning("The recipe %s is new to this package: lines are checked for what every recipe takes.", recipe_arn)
    check.check_request(kind, request)
    check.check_filter(kind, filter_)
    found = None
    with _unless_out_of_reach(log, "input"):
        # All of the input is read with patience; a sample that takes long is not worth it.
        client = hook.s3_client() if whole else hook.s3_client(**HASTY)
        objects = _check_objects(client, check, request, whole=whole)
        found = JobInput(objects, _check_lines(client, check, objects, whole=whole))
    for warning in check.warnings:
        log.warning("%s", warning)
    check.raise_for_problems()
    log.info(
        "Checked the request and %s lines of input (%s) in %.1f s: nothing is wrong.",
        f"{check.lines:,}",
        "all of it" if whole else "a sample",
        time.monotonic() - started,
    )
    return found


@contextmanager
def _unless_out_of_reach(log: Any, what: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # noqa: BLE001 (whatever it is, the job itself may do well)
        log.warning("The job's %s could not be checked, and is left to the service: %s", what, describe_error(error))


def _check_objects(client: Any, check: InputCheck, request: Mapping[str, Any], *, whole: bool) -> list[StoredObject]:
    input_uri = request["jobInput"]["s3DataSource"]["path"]
    place = parse_s3_uri(input_uri, parameter="input_uri", max_length=None)
    try:
        listed = islice(list_objects(client, place), None if whole else FEW_LISTED)
        objects = {parse_s3_uri(item.uri, max_length=None).key: item for item in listed}
    except MissingOutputError:
        check.add(input_uri, f"expected the job's input there, but there is no bucket {place.bucket}; check the path.")
        return []
    # A request that is checked before its output is settled has none.
    target = text_at(request, "jobOutput", "s3DataDestination", "path")
    keys = check.check_objects(
        input_uri,
        ((key, item.size) for key, item in objects.items()),
        target if target and parse_s3_uri(target, max_length=None).bucket == place.bucket else None,
    )
    return [objects[key] for key in keys]


def _check_lines(client: Any, check: InputCheck, objects: list[StoredObject], *, whole: bool) -> int | None:
    """Check the lines, and return how many hold something; None where only a part of them was read."""
    if whole:
        for uri, blocks in read_objects(lambda: client, objects):
            check.check_lines(uri, blocks)
        return check.filled_lines
    for item in objects[:SAMPLE_FILES]:
        beginning = fetch(client, item, 0, min(item.size, SAMPLE_BYTES), tries=1)
        check.check_lines(item.uri, [beginning], whole=item.size <= SAMPLE_BYTES)
    is_all = len(objects) <= SAMPLE_FILES and all(item.size <= SAMPLE_BYTES for item in objects)
    return check.filled_lines if is_all else None
