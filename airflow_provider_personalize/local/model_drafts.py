"""Drafts of solutions, solution versions, campaigns, recommenders, metric attributions and batch jobs."""

from __future__ import annotations

from functools import partial

from airflow_provider_personalize.local.catalog import Recipe, recipe_of
from airflow_provider_personalize.local.contents import GroupData
from airflow_provider_personalize.local.drafts import (
    AS_LONG_AS_A_JOB,
    Call,
    Draft,
    Drafter,
    Learned,
    find_active,
    without_tags,
)
from airflow_provider_personalize.local.errors import ApiError, JobError
from airflow_provider_personalize.local.expressions import parse_filter
from airflow_provider_personalize.local.resources import Resource
from airflow_provider_personalize.local.training import train
from airflow_provider_personalize.local.validation import (
    invalid,
    validate_filter_use,
    validate_job_request,
    validate_recipe,
)
from airflow_provider_personalize.service.kinds import (
    BATCH_INFERENCE_JOB,
    BATCH_SEGMENT_JOB,
    CAMPAIGN,
    DATASET_GROUP,
    FILTER,
    METRIC_ATTRIBUTION,
    RECOMMENDER,
    SOLUTION,
    SOLUTION_VERSION,
    ResourceKind,
)
from airflow_provider_personalize.service.statuses import ACTIVE

MAX_METRICS = 10


def _recipe(arn: str) -> Recipe:
    recipe = recipe_of(arn)
    if recipe is None:
        raise ApiError("ResourceNotFoundException", f"Resource Arn {arn} does not exist.")
    return recipe


def _solution(call: Call) -> Draft:
    find_active(call.region, DATASET_GROUP, call.request["datasetGroupArn"], call.now)
    if "recipeArn" not in call.request:
        # Assumption: AutoML, which the service has given up for this, is not tried here.
        raise invalid("A solution needs a recipeArn.")
    recipe = _recipe(call.request["recipeArn"])
    if recipe.domain:
        raise invalid(f"The recipe {recipe.name} is for recommenders of the domain {recipe.domain}, not for solutions.")
    # The service trains by itself unless it is told not to; the stand-in only says so, and trains when asked.
    defaults = {"performHPO": False, "performAutoML": False, "performAutoTraining": True, "solutionConfig": {}}
    return Draft(defaults | without_tags(call.request))


def _solution_version(call: Call) -> Draft:
    solution = find_active(call.region, SOLUTION, call.request["solutionArn"], call.now)
    versions = call.region.made_from(solution.arn, SOLUTION_VERSION)
    name = call.request.get("name")
    if name and call.api.refuse_version_names and name in {one.fields.get("name") for one in versions}:
        # Assumption: it is not known whether the service refuses a taken name or ignores it.
        raise ApiError("ResourceAlreadyExistsException", f"Another solution version with the name {name} exists.")
    recipe = _recipe(solution.fields["recipeArn"])
    mode = call.request.get("trainingMode", "FULL")
    trained = [one for one in versions if one.fields["trainingMode"] == "FULL" and one.status(call.now) == ACTIVE]
    if mode == "UPDATE" and not recipe.updates:
        raise invalid(f"The recipe {recipe.name} does not support the training mode UPDATE.")
    if mode == "UPDATE" and not trained:
        raise invalid("The training mode UPDATE needs an ACTIVE solution version of the training mode FULL.")
    if mode == "AUTOTRAIN":
        raise invalid("The training mode AUTOTRAIN is for solution versions that the service creates by itself.")
    group: GroupData = call.region.find(DATASET_GROUP, solution.fields["datasetGroupArn"]).content
    if not group.is_ready and "INTERACTIONS" not in group.datasets:
        raise invalid("The dataset group has no INTERACTIONS dataset to train on.")

    def work(version: Resource) -> None:
        seen = group.version
        if mode == "UPDATE" and trained[-1].content.version == seen:
            raise JobError(
                "There should be updates to at least one dataset after last active solution version with training "
                "mode set to FULL"
            )
        version.content = Learned(recipe, train(group, recipe, solution.fields.get("eventType")), seen)
        # Assumption: what is billed is the time that the training took, by the stand-in's clock.
        version.fields["trainingHours"] = round((call.now - version.created) / 3600, 3)

    inherited = {
        key: value
        for key, value in solution.fields.items()
        if key in {"performHPO", "performAutoML", "recipeArn", "eventType", "datasetGroupArn", "solutionConfig"}
    }
    fields = inherited | without_tags(call.request) | {"trainingMode": mode, "trainingType": "MANUAL"}
    return Draft(fields, share=AS_LONG_AS_A_JOB, work=work)


def find_learned(call: Call, version_arn: str) -> Learned:
    """
    Return what a solution version has learned.

    :raises ApiError: if it does not exist, or is not ACTIVE.
    """
    learned: Learned = find_active(call.region, SOLUTION_VERSION, version_arn, call.now).content
    return learned


def _campaign(call: Call) -> Draft:
    learned = find_learned(call, call.request["solutionVersionArn"])
    if learned.recipe.type == "USER_SEGMENTATION":
        raise invalid(f"The recipe {learned.recipe.name} does not support campaigns.")
    version = call.region.find(SOLUTION_VERSION, call.request["solutionVersionArn"])
    owners = {key: version.fields[key] for key in ("solutionArn", "datasetGroupArn")}
    return Draft({"minProvisionedTPS": 1} | without_tags(call.request) | owners, share=AS_LONG_AS_A_JOB)


def _recommender(call: Call) -> Draft:
    group = find_active(call.region, DATASET_GROUP, call.request["datasetGroupArn"], call.now)
    recipe = _recipe(call.request["recipeArn"])
    domain = group.fields.get("domain")
    if not recipe.domain or recipe.domain != domain:
        raise invalid(
            f"A recommender needs a recipe of its dataset group's domain ({domain or 'none'}), got {recipe.name} "
            f"({recipe.domain or 'none'})."
        )

    def work(resource: Resource) -> None:
        resource.content = Learned(recipe, train(group.content, recipe, None), group.content.version)

    return Draft(without_tags(call.request), share=AS_LONG_AS_A_JOB, work=work)


def _metric_attribution(call: Call) -> Draft:
    find_active(call.region, DATASET_GROUP, call.request["datasetGroupArn"], call.now)
    check_metrics(call.request["metrics"])
    return Draft(without_tags(call.request))


def check_metrics(metrics: list[dict[str, str]]) -> None:
    """
    Make sure that the metrics of a metric attribution are few enough, and named once.

    :raises ApiError: ``InvalidInputException`` if not.
    """
    names = [metric["metricName"] for metric in metrics]
    if len(names) > MAX_METRICS or len(names) != len(set(names)):
        raise invalid(f"Expected at most {MAX_METRICS} metrics, each of another name, got {', '.join(names)}.")


def _batch_job(kind: ResourceKind, call: Call) -> Draft:
    validate_job_request(kind, call.request)
    learned = find_learned(call, call.request["solutionVersionArn"])
    validate_recipe(kind, learned.recipe, call.request, call.region.name, learned.recommender.data.items)
    expression: str | None = None
    if "filterArn" in call.request:
        expression = str(call.region.find(FILTER, call.request["filterArn"]).fields["filterExpression"])
        validate_filter_use(kind, learned.recipe, parse_filter(expression))
    job = {"recipe": learned.recipe, "recommender": learned.recommender, "filter_expression": expression}
    return Draft(without_tags(call.request), share=AS_LONG_AS_A_JOB, job=job)


MODEL_DRAFTS: dict[ResourceKind, Drafter] = {
    SOLUTION: _solution,
    SOLUTION_VERSION: _solution_version,
    CAMPAIGN: _campaign,
    RECOMMENDER: _recommender,
    METRIC_ATTRIBUTION: _metric_attribution,
    BATCH_INFERENCE_JOB: partial(_batch_job, BATCH_INFERENCE_JOB),
    BATCH_SEGMENT_JOB: partial(_batch_job, BATCH_SEGMENT_JOB),
}
