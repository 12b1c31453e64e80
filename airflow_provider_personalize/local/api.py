"""The operations of Amazon Personalize's batch side."""

from __future__ import annotations

import base64
import binascii
import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import botocore.session
from botocore.exceptions import UnknownRegionError

from airflow_provider_personalize.exceptions import InvalidRequestError
from airflow_provider_personalize.local.catalog import Catalog, Recipe
from airflow_provider_personalize.local.checks import (
    check_filter_use,
    check_job,
    check_recipe,
    check_tags,
    or_invalid,
)
from airflow_provider_personalize.local.errors import ApiError
from airflow_provider_personalize.local.expressions import parse_filter
from airflow_provider_personalize.local.faults import JOB_FAULTS, Faults
from airflow_provider_personalize.local.filters import check_filter
from airflow_provider_personalize.local.guard import decode_json
from airflow_provider_personalize.local.jobs import Job, Jobs
from airflow_provider_personalize.local.model import check_request, service_model
from airflow_provider_personalize.local.recommend import Recommender
from airflow_provider_personalize.service.kinds import (
    ACTIVE,
    BATCH_INFERENCE_JOB,
    BATCH_JOBS,
    ResourceKind,
)

_PAGE = 100
#: Filters that stand ready, where the data have their columns.
READY_FILTERS = {
    "genres": "INCLUDE ItemID WHERE Items.GENRES IN ($GENRES)",
    "not-yet-seen": 'EXCLUDE ItemID WHERE Interactions.EVENT_TYPE IN ("*")',
    "activity": "INCLUDE UserID WHERE Users.ACTIVITY IN ($ACTIVITY)",
}
_SUMMARY_KEYS = frozenset({"name", "status", "failureReason", "creationDateTime", "lastUpdatedDateTime", "jobName"})

Request = dict[str, Any]
Answer = dict[str, Any]


class Region:
    """
    What one region holds.

    :param name: The region, as ``us-east-1``.
    :param now: When the stand-in started.
    :param recommender: Whose columns the ready filters need.
    """

    def __init__(self, name: str, now: float, recommender: Recommender) -> None:
        self.name = name
        self.catalog = Catalog(botocore.session.get_session().get_partition_for_region(name), name, now)
        self.filters: dict[str, Answer] = {}
        self.tags: dict[str, list[dict[str, str]]] = {}
        for filter_name, expression in READY_FILTERS.items():
            try:
                check_filter(parse_filter(expression), recommender.data)
            except InvalidRequestError:
                continue
            self.add_filter(filter_name, expression, now)

    def add_filter(self, name: str, expression: str, now: float) -> str:
        """Keep a filter, and give its ARN."""
        arn = self.catalog.arn("filter", name)
        # Assumption: a filter is ACTIVE at once; the service takes a moment.
        self.filters[arn] = {
            "name": name,
            "filterArn": arn,
            "datasetGroupArn": self.catalog.dataset_group_arn,
            "filterExpression": expression,
            "status": ACTIVE,
            "creationDateTime": now,
            "lastUpdatedDateTime": now,
        }
        return arn


class Api:
    """
    Answers requests; every region that is asked for is there.

    :param jobs: The jobs of every region.
    :param faults: What is to go wrong with the next jobs.
    :param recommender: Whose columns filters may name.
    :param job_seconds: How long a job takes.
    :param quota: How many jobs of a kind may be pending or in progress in a region.
    """

    def __init__(self, jobs: Jobs, faults: Faults, recommender: Recommender, *, job_seconds: float, quota: int) -> None:
        self.jobs = jobs
        self.faults = faults
        self.recommender = recommender
        self.job_seconds = job_seconds
        self.quota = quota
        self._started = jobs.clock.now()
        self._lock = threading.RLock()
        self._regions: dict[str, Region] = {}
        self._operations: dict[str, Callable[[Region, Request], Answer]] = {
            "CreateFilter": self._create_filter,
            "ListTagsForResource": self._list_tags,
        }
        for kind in BATCH_JOBS:
            self._operations |= {
                kind.create_operation: partial(self._create_job, kind),
                kind.describe_operation: partial(self._describe_job, kind),
                kind.list_operation: partial(self._list_jobs, kind),
            }
        for noun, table in (
            ("Solution", lambda region: region.catalog.solutions),
            ("SolutionVersion", lambda region: region.catalog.versions),
            ("Recipe", lambda region: region.catalog.recipes),
            ("Filter", lambda region: region.filters),
        ):
            self._operations |= {
                f"Describe{noun}": partial(self._describe, noun, table),
                f"List{noun}s": partial(self._list, noun, table),
            }

    def reset(self) -> None:
        """Forget what was created in every region."""
        with self._lock:
            self._regions.clear()

    def region(self, name: str) -> Region:
        """Give a region, which is made when it is first asked for."""
        with self._lock:
            if name not in self._regions:
                try:
                    self._regions[name] = Region(name, self._started, self.recommender)
                except UnknownRegionError:
                    raise ApiError("UnrecognizedClientException", f"There is no region {name!r}.") from None
            return self._regions[name]

    def answer(self, operation: str, region: str, body: bytes) -> Answer:
        """
        Answer one request.

        :param operation: The API operation.
        :param region: The region that it was signed for.
        :param body: The request, as JSON.
        :raises ApiError: if the answer is an error.
        """
        if operation not in service_model().operation_names:
            raise ApiError("UnknownOperationException", f"Amazon Personalize has no operation {operation}.")
        if operation not in self._operations:
            raise ApiError(
                "UnknownOperationException",
                f"The local stand-in does not have {operation}; it has {', '.join(sorted(self._operations))}.",
            )
        try:
            request = decode_json(body or b"{}")
        except ValueError as error:
            raise ApiError("SerializationException", f"The request is not JSON: {error}") from None
        return self._operations[operation](self.region(region), check_request(operation, request))

    # Jobs

    def _create_job(self, kind: ResourceKind, region: Region, request: Request) -> Answer:
        version_arn = request["solutionVersionArn"]
        check_job(kind, request)
        arn = region.catalog.arn(kind.arn_type, request["jobName"])
        with self._lock:
            # Assumption: a taken name is reported before all that the rest of the request may be wrong in.
            if arn in self.jobs.by_arn:
                raise ApiError("ResourceAlreadyExistsException", f"Another resource with Arn {arn} already exists.")
            version = _found(region.catalog.versions, version_arn)
            if version["status"] != ACTIVE:
                raise ApiError(
                    "ResourceInUseException",
                    f"The solution version {version_arn} is {version['status']}, not {ACTIVE}.",
                )
            recipe = region.catalog.recipe_of(version_arn)
            check_recipe(kind, recipe, request, region.name, self.recommender.data.items)
            expression = self._filter_expression(kind, recipe, region, request)
            running = self.jobs.running(kind, region.catalog.arn(kind.arn_type, ""))
            if running >= self.quota:
                raise ApiError(
                    "LimitExceededException",
                    f"More than {self.quota} resources with PENDING or IN_PROGRESS status.",
                )
            self.jobs.add(
                kind,
                arn,
                running,
                request=request,
                recipe=recipe,
                seconds=self.job_seconds,
                filter_expression=expression,
                fault=self.faults.take(JOB_FAULTS, kind.create_operation),
            )
            region.tags[arn] = request.get("tags", [])
        return {kind.arn_field: arn}

    @staticmethod
    def _filter_expression(kind: ResourceKind, recipe: Recipe, region: Region, request: Request) -> str | None:
        if "filterArn" not in request:
            return None
        expression: str = _found(region.filters, request["filterArn"])["filterExpression"]
        check_filter_use(kind, recipe, parse_filter(expression))
        return expression

    def _describe_job(self, kind: ResourceKind, region: Region, request: Request) -> Answer:
        job = _found(self._jobs_of(kind, region), request[kind.arn_field])
        described = job.describe(self.jobs.clock.now())
        if kind is BATCH_INFERENCE_JOB:
            described.setdefault("batchInferenceJobMode", "BATCH_INFERENCE")
        return {kind.response_key: described}

    def _list_jobs(self, kind: ResourceKind, region: Region, request: Request) -> Answer:
        now = self.jobs.clock.now()
        version = request.get("solutionVersionArn")
        jobs = [
            (job.number, job)
            for job in self._jobs_of(kind, region).values()
            if version in (None, job.request["solutionVersionArn"])
        ]
        keys = {*_SUMMARY_KEYS, kind.arn_field, "solutionVersionArn", "batchInferenceJobMode"}
        page, token = _page(jobs, request)
        summaries = [{key: value for key, value in job.describe(now).items() if key in keys} for job in page]
        return {kind.list_key: summaries} | token

    def _jobs_of(self, kind: ResourceKind, region: Region) -> dict[str, Job]:
        prefix = region.catalog.arn(kind.arn_type, "")
        return {arn: job for arn, job in list(self.jobs.by_arn.items()) if arn.startswith(prefix)}

    # Everything else

    def _create_filter(self, region: Region, request: Request) -> Answer:
        check_tags(request)
        if request["datasetGroupArn"] != region.catalog.dataset_group_arn:
            raise ApiError("ResourceNotFoundException", f"Resource Arn {request['datasetGroupArn']} does not exist.")
        expression = or_invalid(parse_filter, request["filterExpression"])
        or_invalid(partial(check_filter, data=self.recommender.data), expression)
        with self._lock:
            arn = region.catalog.arn("filter", request["name"])
            if arn in region.filters:
                raise ApiError("ResourceAlreadyExistsException", f"Another resource with Arn {arn} already exists.")
            region.tags[arn] = request.get("tags", [])
            return {"filterArn": region.add_filter(request["name"], request["filterExpression"], self.jobs.clock.now())}

    def _list_tags(self, region: Region, request: Request) -> Answer:
        arn = request["resourceArn"]
        known = (*region.catalog.solutions, *region.catalog.versions, *region.filters, *region.tags)
        if arn not in known:
            raise ApiError("ResourceNotFoundException", f"Resource Arn {arn} does not exist.")
        return {"tags": region.tags.get(arn, [])}

    @staticmethod
    def _describe(noun: str, table: Callable[[Region], dict[str, Answer]], region: Region, request: Request) -> Answer:
        key = noun[0].lower() + noun[1:]
        return {key: _found(table(region), request[f"{key}Arn"])}

    @staticmethod
    def _list(noun: str, table: Callable[[Region], dict[str, Answer]], region: Region, request: Request) -> Answer:
        model = service_model().operation_model(f"List{noun}s").output_shape
        list_key = next(name for name, shape in model.members.items() if shape.type_name == "list")
        keys = model.members[list_key].member.members.keys()
        owners = {key: request[key] for key in ("solutionArn", "datasetGroupArn") if key in request}
        if "solutionArn" in owners and noun == "SolutionVersion":
            _found(region.catalog.solutions, owners["solutionArn"])
        if request.get("domain"):
            # The recipes of the stand-in are those of custom solutions, not of a domain.
            return {list_key: []}
        rows = [
            (number, row)
            for number, row in enumerate(table(region).values())
            if all(row.get(key) == value for key, value in owners.items())
        ]
        page, token = _page(rows, request)
        return {list_key: [{key: row[key] for key in keys if key in row} for row in page]} | token


def _found(table: Mapping[str, Any], arn: str) -> Any:
    if arn not in table:
        raise ApiError("ResourceNotFoundException", f"Resource Arn {arn} does not exist.")
    return table[arn]


def _page(rows: list[tuple[int, Any]], request: Request) -> tuple[list[Any], Answer]:
    """
    Cut one page out of numbered rows, newest first; a token names the last row, so that new ones do not shift pages.
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
