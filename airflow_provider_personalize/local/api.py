"""The operations of Amazon Personalize, answered from what each region holds."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import botocore.session
from botocore.exceptions import UnknownRegionError

from airflow_provider_personalize.exceptions import InvalidRequestError
from airflow_provider_personalize.local.catalog import READY_GROUP, describe_recipes
from airflow_provider_personalize.local.changes import (
    apply_update,
    check_deletable,
    check_updatable,
    in_use,
    new_fields,
    remove,
)
from airflow_provider_personalize.local.contents import GroupData
from airflow_provider_personalize.local.data_drafts import DATA_DRAFTS
from airflow_provider_personalize.local.drafts import AS_LONG_AS_A_JOB, SHORTLY, Call, Draft, find_active, new_arn
from airflow_provider_personalize.local.errors import ApiError
from airflow_provider_personalize.local.expressions import parse_filter
from airflow_provider_personalize.local.faults import JOB_FAULTS, Faults
from airflow_provider_personalize.local.filters import check_filter
from airflow_provider_personalize.local.guard import decode_json
from airflow_provider_personalize.local.jobs import CREATION_STOP, DELETION, START, STOP, Jobs, Words
from airflow_provider_personalize.local.limits import check_limits
from airflow_provider_personalize.local.live import LIVE
from airflow_provider_personalize.local.model import check_request, service_model
from airflow_provider_personalize.local.model_drafts import MODEL_DRAFTS, find_learned
from airflow_provider_personalize.local.pages import page_of
from airflow_provider_personalize.local.recommend import Recommender
from airflow_provider_personalize.local.resources import Region, Resource, described, summary
from airflow_provider_personalize.local.stock import stock
from airflow_provider_personalize.local.tags import Tags
from airflow_provider_personalize.local.validation import validate_tags
from airflow_provider_personalize.service.kinds import (
    BATCH_INFERENCE_JOB,
    DATASET_GROUP,
    FILTER,
    KINDS,
    METRIC_ATTRIBUTION,
    RECOMMENDER,
    SOLUTION,
    SOLUTION_VERSION,
    ResourceKind,
)
from airflow_provider_personalize.service.statuses import ACTIVE, INACTIVE

#: Filters that stand ready, where the data have their columns.
READY_FILTERS = {
    "genres": "INCLUDE ItemID WHERE Items.GENRES IN ($GENRES)",
    "not-yet-seen": 'EXCLUDE ItemID WHERE Interactions.EVENT_TYPE IN ("*")',
    "activity": "INCLUDE UserID WHERE Users.ACTIVITY IN ($ACTIVITY)",
}
_DRAFTS = DATA_DRAFTS | MODEL_DRAFTS
_IN_CREATION = ("CREATE PENDING", "CREATE IN_PROGRESS")

Request = dict[str, Any]
Answer = dict[str, Any]


class Api:
    """
    Answers requests; every region that is asked for is there.

    :param jobs: The jobs of every region.
    :param faults: What is to go wrong with the next jobs.
    :param recommender: What the solutions that stand ready have learned; None where none are to stand ready.
    :param job_seconds: How long a job takes.
    :param quota: How many jobs of a kind may be pending or in progress in a region.
    :param s3: Returns an S3 client of a region.
    :param refuse_version_names: Whether a second solution version of a name is refused, or the name ignored.
    """

    def __init__(
        self,
        jobs: Jobs,
        faults: Faults,
        recommender: Recommender | None,
        *,
        job_seconds: float,
        quota: int,
        s3: Callable[[str], Any] | None = None,
        refuse_version_names: bool = True,
    ) -> None:
        self.jobs = jobs
        self.faults = faults
        self.recommender = recommender
        self.job_seconds = job_seconds
        self.quota = quota
        self.refuse_version_names = refuse_version_names
        self._s3 = s3
        self._started = jobs.clock.now()
        self.lock = threading.RLock()
        self._regions: dict[str, Region] = {}
        tags = Tags()
        self._operations: dict[str, Callable[[Region, Request], Answer]] = {
            "DescribeRecipe": self._describe_recipe,
            "ListRecipes": self._list_recipes,
            "GetSolutionMetrics": self._metrics,
            "ListMetricAttributionMetrics": self._list_metrics,
            "StopSolutionVersionCreation": self._stop_version,
            "StartRecommender": partial(self._switch, START, INACTIVE),
            "StopRecommender": partial(self._switch, STOP, ACTIVE),
            "TagResource": tags.add,
            "UntagResource": tags.remove,
            "ListTagsForResource": tags.list,
        }
        for kind in KINDS:
            self._operations |= {
                kind.create_operation: partial(self._create, kind),
                kind.describe_operation: partial(self._describe, kind),
                kind.list_operation: partial(self._list, kind),
            }
            if kind.update_operation:
                self._operations[kind.update_operation] = partial(self._update, kind)
            if kind.delete_operation:
                self._operations[kind.delete_operation] = partial(self._delete, kind)

    @property
    def now(self) -> float:
        """The time by the stand-in's clock."""
        return self.jobs.clock.now()

    def s3(self, region: str) -> Any:
        """Return an S3 client of a region."""
        return self._s3(region) if self._s3 else None

    def reset(self) -> None:
        """Forget what was created in every region."""
        with self.lock:
            self._regions.clear()

    def region(self, name: str) -> Region:
        """Return a region, which is made when it is first asked for."""
        with self.lock:
            if name not in self._regions:
                try:
                    partition = botocore.session.get_session().get_partition_for_region(name)
                except UnknownRegionError:
                    raise ApiError("UnrecognizedClientException", f"There is no region {name!r}.") from None
                self._regions[name] = region = Region(name, partition)
                if self.recommender:
                    self._stock(region, self.recommender)
            return self._regions[name]

    def regions(self) -> list[Region]:
        """Return the regions that have been asked for."""
        with self.lock:
            return list(self._regions.values())

    def _stock(self, region: Region, recommender: Recommender) -> None:
        stock(region, self._started, GroupData(READY_GROUP, recommender), recommender)
        group_arn = region.arn(DATASET_GROUP.arn_type, READY_GROUP)
        for name, expression in READY_FILTERS.items():
            try:
                check_filter(parse_filter(expression), recommender.data)
            except InvalidRequestError:
                continue
            fields = {"name": name, "datasetGroupArn": group_arn, "filterExpression": expression}
            region.add(FILTER, region.arn(FILTER.arn_type, name), fields, self._started, ready=True)

    def answer(self, operation: str, region: str, body: bytes, service: str = "personalize") -> Answer:
        """
        Answer one request.

        :param operation: The API operation.
        :param region: The region that it was signed for.
        :param body: The request, as JSON.
        :param service: ``personalize``, ``personalize-runtime`` or ``personalize-events``.
        :raises ApiError: if the answer is an error.
        """
        if operation not in service_model(service).operation_names:
            raise ApiError("UnknownOperationException", f"Amazon Personalize has no operation {operation}.")
        live = LIVE.get(operation) if service != "personalize" else None
        if live is None and (service != "personalize" or operation not in self._operations):
            raise ApiError(
                "UnknownOperationException",
                f"The local stand-in does not have {operation}; it has {', '.join(sorted(self._operations))}.",
            )
        try:
            request = decode_json(body or b"{}")
        except ValueError as error:
            raise ApiError("SerializationException", f"The request is not JSON: {error}") from None
        checked = check_request(operation, request, service)
        # What takes seconds to work out does not keep other requests waiting.
        if operation == "GetSolutionMetrics":
            return self._metrics(self.region(region), checked)
        if live:
            return live(Call(self, self.region(region), checked))
        with self.lock:
            return self._operations[operation](self.region(region), checked)

    # Every kind

    def _create(self, kind: ResourceKind, region: Region, request: Request) -> Answer:
        validate_tags(request)
        arn = new_arn(kind, region, request)
        # Assumption: a taken name is reported before all that the rest of the request may be wrong in.
        if arn in region.resources:
            raise ApiError("ResourceAlreadyExistsException", f"Another resource with Arn {arn} already exists.")
        draft = _DRAFTS[kind](Call(self, region, request))
        running = self.jobs.running(kind, region.arn(kind.arn_type, ""))
        check_limits(kind, region, draft.fields, running, self.quota)
        resource = region.add(kind, arn, draft.fields, self.now, content=draft.content)
        if draft.share:
            self._start(resource, draft, running, self.faults.take(JOB_FAULTS, kind.create_operation))
        region.tags[arn] = request.get("tags", [])
        return {kind.arn_field: arn} | draft.answer

    def _start(self, resource: Resource, draft: Draft, running: int, fault: Any) -> None:
        """Let the creation of a resource take its time."""
        kind = resource.kind
        values: dict[str, Any] = {
            "request": resource.fields,
            "seconds": self.job_seconds * draft.share,
            "fault": fault,
            "words": draft.words,
        } | draft.job
        if not draft.job:
            # A batch job's work is what the jobs know by themselves.
            values["work"] = partial(draft.work, resource) if draft.work else _nothing
        if kind.is_job or kind is SOLUTION_VERSION:
            resource.change = self.jobs.add(kind, resource.arn, running, **values)
        else:
            resource.change = self.jobs.change(kind, resource.arn, **values)

    def _describe(self, kind: ResourceKind, region: Region, request: Request) -> Answer:
        resource = region.find(kind, request[kind.arn_field])
        answer = described(kind, resource, self.now)
        if kind is BATCH_INFERENCE_JOB:
            answer.setdefault("batchInferenceJobMode", "BATCH_INFERENCE")
        if kind is SOLUTION and (versions := region.made_from(resource.arn, SOLUTION_VERSION)):
            latest = versions[-1].describe(self.now)
            keys = service_model().shape_for("SolutionVersionSummary").members
            answer["latestSolutionVersion"] = {key: value for key, value in latest.items() if key in keys}
        return {kind.response_key: answer}

    def _list(self, kind: ResourceKind, region: Region, request: Request) -> Answer:
        owner = request.get(kind.list_filter) if kind.list_filter else None
        if owner and kind is SOLUTION_VERSION:
            region.find(SOLUTION, owner)
        rows = [(one.number, one) for one in region.of(kind) if owner in (None, one.fields.get(kind.list_filter or ""))]
        page, token = page_of(rows, request)
        return {kind.list_key: [summary(kind, one, self.now) for one in page]} | token

    def _update(self, kind: ResourceKind, region: Region, request: Request) -> Answer:
        resource = check_updatable(region, kind, request[kind.arn_field], self.now)
        changed = new_fields(Call(self, region, request), resource)

        def work() -> None:
            with self.lock:
                apply_update(region, resource, changed, self.now)

        if kind.tracks_update:
            fault = self.faults.take(JOB_FAULTS, f"Update{kind.noun}")
            share = AS_LONG_AS_A_JOB if resource.content or kind.noun == "Campaign" else SHORTLY
            resource.update = self.jobs.change(
                kind, resource.arn, request=changed, seconds=self.job_seconds * share, work=work, fault=fault
            )
        else:
            work()
        return {kind.arn_field: resource.arn}

    def _delete(self, kind: ResourceKind, region: Region, request: Request) -> Answer:
        resource = region.find(kind, request[kind.arn_field])
        check_deletable(region, resource, self.now)
        if not kind.has_status:
            remove(region, resource)
            return {}

        def work() -> None:
            with self.lock:
                remove(region, resource)

        self._change(resource, DELETION, work)
        return {}

    def _change(self, resource: Resource, words: Words, work: Callable[[], None], share: float = SHORTLY) -> None:
        resource.change = self.jobs.change(
            resource.kind,
            resource.arn,
            request=resource.fields,
            seconds=self.job_seconds * share,
            words=words,
            work=work,
        )
        if resource.arn in self.jobs.by_arn:
            self.jobs.by_arn[resource.arn] = resource.change

    # Some kinds

    def _stop_version(self, region: Region, request: Request) -> Answer:
        version = region.find(SOLUTION_VERSION, request["solutionVersionArn"])
        if (status := version.status(self.now)) not in _IN_CREATION:
            raise in_use(f"The solution version {version.arn} is {status}: only what is being created can be stopped.")
        if version.change:
            self.jobs.call_off(version.change)

        def work() -> None:
            version.content = None

        self._change(version, CREATION_STOP, work)
        return {}

    def _switch(self, words: Words, status: str, region: Region, request: Request) -> Answer:
        recommender = region.find(RECOMMENDER, request["recommenderArn"])
        if (found := recommender.status(self.now)) != status:
            raise in_use(f"The recommender {recommender.arn} is {found}, not {status}.")
        self._change(recommender, words, _nothing, AS_LONG_AS_A_JOB)
        return {"recommenderArn": recommender.arn}

    def _metrics(self, region: Region, request: Request) -> Answer:
        arn = request["solutionVersionArn"]
        with self.lock:
            learned = find_learned(Call(self, region, request), arn)
        return {"solutionVersionArn": arn, "metrics": learned.metrics}

    def _list_metrics(self, region: Region, request: Request) -> Answer:
        attribution = find_active(region, METRIC_ATTRIBUTION, request.get("metricAttributionArn", ""), self.now)
        page, token = page_of(list(enumerate(attribution.fields["metrics"])), request)
        return {"metrics": page} | token

    def _describe_recipe(self, region: Region, request: Request) -> Answer:
        recipes = describe_recipes(region.partition, self._started)
        if request["recipeArn"] not in recipes:
            raise ApiError("ResourceNotFoundException", f"Resource Arn {request['recipeArn']} does not exist.")
        return {"recipe": recipes[request["recipeArn"]]}

    def _list_recipes(self, region: Region, request: Request) -> Answer:
        recipes = describe_recipes(region.partition, self._started).values()
        found = [one for one in recipes if one.get("domain") == request.get("domain")]
        page, token = page_of(list(enumerate(found)), request)
        keys = service_model().shape_for("RecipeSummary").members
        return {"recipes": [{key: one[key] for key in keys if key in one} for one in page]} | token


def _nothing() -> None:
    """Do nothing, when the time has come."""
