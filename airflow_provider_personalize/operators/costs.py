"""
Counts what a job is made of before it is paid for, and says what it is expected to cost where the user gave a price.

The objects of an input are listed, which is one request for 1,000 of them. To count lines, all of the input has to be
read, so that is done where a limit or a price needs the number, where ``validate_input`` reads all of it anyway, and
where it takes a few requests only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from airflow_provider_personalize.aws_errors import describe_error
from airflow_provider_personalize.compat import conf
from airflow_provider_personalize.exceptions import InvalidRequestError
from airflow_provider_personalize.hooks.personalize import PersonalizeHook
from airflow_provider_personalize.input.counting import LineCounter
from airflow_provider_personalize.input.objects import without_output
from airflow_provider_personalize.s3.download import PART, read_objects
from airflow_provider_personalize.s3.objects import StoredObject, list_objects
from airflow_provider_personalize.service.costs import DEFAULT_NUM_RESULTS, SECTION, Prices, read_prices, written
from airflow_provider_personalize.service.recipes import MAX_BYTES, MAX_FILES
from airflow_provider_personalize.service.statuses import text_at
from airflow_provider_personalize.uris import parse_s3_uri

#: Input is read to be counted, whether or not anything needs the number, if that takes at most so many requests: 64 MB
#: in one file, in about a second.
FEW_REQUESTS = 16
#: The most objects that are listed where nothing depends on the count: there are too many for a job by then.
FEW_LISTED = 10 * MAX_FILES
#: The client's settings for what is worth seconds and not minutes.
HASTY = {"connect_timeout": 5, "read_timeout": 10, "retries": {"total_max_attempts": 2}}

#: What a job is made of, by names: what a task stores in XCom under the key ``counts``.
Counts = dict[str, Any]


@dataclass(frozen=True)
class JobInput:
    """
    The objects of a job's input.

    :param objects: The objects: neither empty ones, nor other jobs' output.
    :param lines: How many lines they hold; None where they were not counted.
    """

    objects: list[StoredObject]
    lines: int | None = None

    @property
    def bytes(self) -> int:
        """The size of all of them."""
        return sum(item.size for item in self.objects)


def configured_prices(log: Any) -> Prices:
    """
    Return the prices of Airflow's configuration. One that cannot be read is logged: a night is not lost over it.

    :param log: The logger.
    """
    try:
        return read_prices(lambda option: conf.get(SECTION, option, fallback=None))
    except InvalidRequestError as error:
        log.warning("%s", error)
        return Prices()


def count_batch(
    hook: PersonalizeHook,
    request: Mapping[str, Any],
    *,
    seen: JobInput | None,
    max_lines: int | None,
    max_results_total: int | None,
) -> Counts | None:
    """
    Count what a batch job is made of, log it with an estimate where there is a price, and refuse what is too much.

    :param hook: The connection.
    :param request: The create request.
    :param seen: What a check of the input has listed and counted already.
    :param max_lines: The most lines.
    :param max_results_total: The most results of all lines together.
    :return: ``files``, ``bytes``, ``lines``, ``num_results`` (for each line), ``results`` and ``estimated_cost``, each
        None where it is not known; None where the input could not even be listed.
    :raises InvalidRequestError: if there are more lines or results than the limits, or more input than the service
        takes.
    """
    prices = configured_prices(hook.log)
    limited = max_lines is not None or max_results_total is not None
    try:
        found = _counted(hook, request, seen, must=limited, should=prices.per_1000_results is not None)
    except Exception as error:
        if limited:
            raise
        # Whoever sets no limit loses nothing but the figures: the job itself may do well.
        hook.log.info("The job's input was not counted: %s", describe_error(error))
        return None
    per_line = int(request.get("numResults") or DEFAULT_NUM_RESULTS)
    results = None if found.lines is None else found.lines * per_line
    cost = None if results is None else prices.of_results(results)
    if found.lines is None or results is None:
        counted = "not counted, which takes reading all of it: set max_lines, max_results_total or a price for that"
    else:
        counted = f"{found.lines:,}, results: {results:,} ({per_line:,} for each line)"
    hook.log.info("Input: files: %s, bytes: %s, lines: %s", f"{len(found.objects):,}", f"{found.bytes:,}", counted)
    if cost is not None:
        log_estimate(hook.log, cost, f"{results:,} results", "price_per_1000_results")
    if found.lines is not None and results is not None:
        _refuse_too_much(request, found.lines, per_line, max_lines, max_results_total)
    return {
        "files": len(found.objects),
        "bytes": found.bytes,
        "lines": found.lines,
        "num_results": per_line,
        "results": results,
        "estimated_cost": cost,
    }


def count_import(hook: PersonalizeHook, data_location: str) -> Counts | None:
    """
    Count what an import job brings, and log it with an estimate where there is a price.

    :param hook: The connection.
    :param data_location: The file or the folder that is imported.
    :return: ``files``, ``bytes`` and ``estimated_cost``; None where they could not be listed.
    """
    place = parse_s3_uri(data_location, parameter="data_location", max_length=None)
    try:
        sizes = [item.size for item in list_objects(hook.s3_client(**HASTY), place) if item.size]
    except Exception as error:  # noqa: BLE001 (whatever it is, the job itself may do well)
        hook.log.info("What is to be imported was not counted: %s", describe_error(error))
        return None
    cost = configured_prices(hook.log).of_import(sum(sizes))
    hook.log.info("To be imported: files: %s, bytes: %s", f"{len(sizes):,}", f"{sum(sizes):,}")
    if cost is not None:
        log_estimate(hook.log, cost, f"{sum(sizes):,} bytes", "price_per_gb_imported")
    return {"files": len(sizes), "bytes": sum(sizes), "estimated_cost": cost}


def expect_training(hook: PersonalizeHook, solution: Mapping[str, Any]) -> Counts | None:
    """
    Log what a training may cost, by what the solution's latest version took; nobody knows more before it has trained.

    :param hook: The connection.
    :param solution: The solution, as the service describes it.
    :return: What :func:`count_training` returns; None where there is no price, or no version that has trained.
    """
    latest = text_at(solution, "latestSolutionVersion", "solutionVersionArn")
    if latest is None or configured_prices(hook.log).per_training_hour is None:
        return None
    try:
        hours = hook.describe_version(latest).get("trainingHours")
    except Exception as error:  # noqa: BLE001 (an estimate is not worth a training)
        hook.log.info("The latest version's trainingHours could not be looked at: %s", describe_error(error))
        return None
    return count_training(hook.log, hours, of="as the latest version took") if hours else None


def count_training(log: Any, hours: object, *, of: str = "as billed") -> Counts:
    """
    Log what a training costs, where there is a price.

    :param log: The logger.
    :param hours: The hours, as the service says; None where it does not.
    :param of: Which hours they are, in words.
    :return: ``training_hours`` and ``estimated_cost``, each None where it is not known.
    """
    known = float(hours) if isinstance(hours, int | float) else None
    cost = None if known is None else configured_prices(log).of_training(known)
    if cost is not None:
        log_estimate(log, cost, f"{known:g} training hours, {of}", "price_per_training_hour")
    return {"training_hours": known, "estimated_cost": cost}


def log_estimate(log: Any, cost: float, amount: str, option: str) -> None:
    """
    Log what something is expected to cost.

    :param log: The logger.
    :param cost: The estimate.
    :param amount: What it is for, in words.
    :param option: The option that holds the price.
    """
    log.info(
        "Estimated cost: %s for %s, by your [%s] %s. What AWS bills may be counted otherwise.",
        written(cost),
        amount,
        SECTION,
        option,
    )


def _counted(
    hook: PersonalizeHook, request: Mapping[str, Any], seen: JobInput | None, *, must: bool, should: bool
) -> JobInput:
    """Return the job's input, with its lines counted where they must be, should be, or easily are."""
    if seen and seen.lines is not None:
        return seen
    client = hook.s3_client() if must else hook.s3_client(**HASTY)
    uri = request["jobInput"]["s3DataSource"]["path"]
    objects = seen.objects if seen else _objects(client, uri, request, most=None if must else FEW_LISTED)
    found = JobInput(objects)
    if len(objects) > MAX_FILES or found.bytes > MAX_BYTES:
        if must:
            raise InvalidRequestError(
                f"input_uri: expected at most {MAX_FILES:,} files and {MAX_BYTES:,} bytes, which a job takes and which "
                f"can be counted, got {len(objects):,} files and {found.bytes:,} bytes. Nothing was submitted. {uri}"
            )
        return found
    if not (must or should) and sum(-(-item.size // PART) for item in objects) > FEW_REQUESTS:
        return found
    counter = LineCounter()
    for _, blocks in read_objects(lambda: client, objects):
        counter.count(blocks)
    return JobInput(objects, counter.lines)


def _objects(client: Any, uri: str, request: Mapping[str, Any], *, most: int | None) -> list[StoredObject]:
    place = parse_s3_uri(uri, parameter="input_uri", max_length=None)
    listed = islice(list_objects(client, place), most)
    objects = {parse_s3_uri(item.uri, max_length=None).key: item for item in listed if item.size}
    target = text_at(request, "jobOutput", "s3DataDestination", "path")
    beside = target if target and parse_s3_uri(target, max_length=None).bucket == place.bucket else None
    return [objects[key] for key in without_output({key: item.size for key, item in objects.items()}, beside)]


def _refuse_too_much(
    request: Mapping[str, Any], lines: int, per_line: int, max_lines: int | None, max_results_total: int | None
) -> None:
    wrong = []
    if max_lines is not None and lines > max_lines:
        wrong.append(f"max_lines: expected at most {max_lines:,} lines of input, got {lines:,}.")
    if max_results_total is not None and lines * per_line > max_results_total:
        wrong.append(
            f"max_results_total: expected at most {max_results_total:,} results, got {lines * per_line:,} "
            f"(lines: {lines:,}, results for each: {per_line:,})."
        )
    if wrong:
        raise InvalidRequestError(
            f"{' '.join(wrong)} Nothing was submitted. Ask for fewer, or raise the limit. "
            f"{request['jobInput']['s3DataSource']['path']}",
            problems=wrong,
        )
