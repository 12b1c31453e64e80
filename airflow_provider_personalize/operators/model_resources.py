"""The operators that create what recommends: solutions, campaigns, recommenders and metric attributions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any, ClassVar

from airflow_provider_personalize.arguments import (
    Reader,
    flag,
    form,
    mapping,
    mapping_or_list,
    required,
    text,
    whole_number,
)
from airflow_provider_personalize.exceptions import InvalidRequestError
from airflow_provider_personalize.operators.mixins import passed_on
from airflow_provider_personalize.operators.resource_base import IfExists, PersonalizeCreateResourceOperator
from airflow_provider_personalize.service.definitions import is_domain_recipe
from airflow_provider_personalize.service.kinds import CAMPAIGN, METRIC_ATTRIBUTION, RECOMMENDER, SOLUTION
from airflow_provider_personalize.service.names import parse_arn_of, parse_solution_version_arn
from airflow_provider_personalize.service.requests import read_tags
from airflow_provider_personalize.service.waits import DEFAULT_POLL_INTERVAL, DEFAULT_TIMEOUT


def read_metrics(parameter: str, value: Any) -> list[Any] | None:
    """
    Read a list of metrics, or its text; None where there is none.

    :raises InvalidRequestError: if it is something else, or a metric has no name.
    """
    found = mapping_or_list(parameter, value)
    if isinstance(found, dict) or not all(isinstance(one, Mapping) and "metricName" in one for one in found or ()):
        raise InvalidRequestError(
            f"{parameter}: expected a list of {{'eventType': …, 'metricName': …, 'expression': …}}, got {value!r}."
        )
    return found


class PersonalizeCreateSolutionOperator(PersonalizeCreateResourceOperator):
    """
    Create a solution, or find the one that is there. It is trained by its versions.

    Every other parameter is that of
    :class:`~airflow_provider_personalize.operators.resource_base.PersonalizeCreateResourceOperator`.

    :param dataset_group_arn: The dataset group.
    :param recipe_arn: The recipe.
    :param perform_auto_training: Whether the service trains by itself, which is billed. It is always sent, since the
        API's own default is true.
    :param perform_hpo: Whether to optimize hyperparameters.
    :param perform_auto_ml: Whether the service chooses the recipe.
    :param perform_incremental_update: Whether the service updates the newest version incrementally.
    :param event_type: The type of the events to train on.
    :param solution_config: The API's ``solutionConfig``.
    :param tags: Tags: ``{key: value}``, at most 200; or the API's list of ``tagKey`` and ``tagValue``.

    .. seealso:: https://docs.aws.amazon.com/personalize/latest/dg/API_CreateSolution.html
    """

    resource_kind = SOLUTION
    request_fields: ClassVar[Mapping[str, Reader]] = {
        "dataset_group_arn": required(form(parse_arn_of("dataset-group"))),
        "recipe_arn": required(text),
        "perform_auto_training": required(flag),
        "perform_hpo": flag,
        "perform_auto_ml": flag,
        "perform_incremental_update": flag,
        "event_type": text,
        "solution_config": mapping,
        "tags": read_tags,
    }

    def __init__(
        self,
        *,
        name: str,
        dataset_group_arn: str,
        recipe_arn: str,
        perform_auto_training: bool = False,
        perform_hpo: bool | None = None,
        perform_auto_ml: bool | None = None,
        perform_incremental_update: bool | None = None,
        event_type: str | None = None,
        solution_config: dict[str, Any] | None = None,
        tags: dict[str, str] | None = None,
        if_exists: IfExists = "reuse",
        wait_for_completion: bool = False,
        deferrable: bool | None = None,
        poll_interval: float | timedelta = DEFAULT_POLL_INTERVAL,
        timeout: float | timedelta = DEFAULT_TIMEOUT,
        aws_conn_id: str | None = "aws_default",
        region_name: str | None = None,
        verify: bool | str | None = None,
        botocore_config: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**passed_on(locals()))

    def conflicts(self, known: Mapping[str, Any]) -> Iterator[str]:
        """Yield a problem if the recipe is one of a domain."""
        if is_domain_recipe(known.get("recipe_arn") or ""):
            yield (
                f"recipe_arn: expected a recipe for solutions, got one of a domain, which recommenders are made from: "
                f"{known['recipe_arn']}"
            )


class PersonalizeCreateCampaignOperator(PersonalizeCreateResourceOperator):
    """
    Create a campaign, or find the one that is there; it is billed while it is there.

    Every other parameter is that of
    :class:`~airflow_provider_personalize.operators.resource_base.PersonalizeCreateResourceOperator`.

    :param solution_version_arn: The solution version, which has to be ACTIVE.
    :param min_provisioned_tps: The requests a second that are provided for, and billed, at least.
    :param campaign_config: The API's ``campaignConfig``.
    :param tags: Tags: ``{key: value}``, at most 200; or the API's list of ``tagKey`` and ``tagValue``.

    .. seealso:: https://docs.aws.amazon.com/personalize/latest/dg/API_CreateCampaign.html
    """

    resource_kind = CAMPAIGN
    request_fields: ClassVar[Mapping[str, Reader]] = {
        "solution_version_arn": required(form(parse_solution_version_arn)),
        "min_provisioned_tps": whole_number(1),
        "campaign_config": mapping,
        "tags": read_tags,
    }

    def __init__(
        self,
        *,
        name: str,
        solution_version_arn: str,
        min_provisioned_tps: int | str | None = None,
        campaign_config: dict[str, Any] | None = None,
        tags: dict[str, str] | None = None,
        if_exists: IfExists = "reuse",
        wait_for_completion: bool = False,
        deferrable: bool | None = None,
        poll_interval: float | timedelta = DEFAULT_POLL_INTERVAL,
        timeout: float | timedelta = DEFAULT_TIMEOUT,
        aws_conn_id: str | None = "aws_default",
        region_name: str | None = None,
        verify: bool | str | None = None,
        botocore_config: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**passed_on(locals()))

    def check_request(self, request: dict[str, Any]) -> None:
        """Make sure that the solution version is ACTIVE."""
        self.hook.check_version_is_active(request["solutionVersionArn"])


class PersonalizeCreateRecommenderOperator(PersonalizeCreateResourceOperator):
    """
    Create a recommender of a domain's recipe, or find the one that is there.

    Every other parameter is that of
    :class:`~airflow_provider_personalize.operators.resource_base.PersonalizeCreateResourceOperator`.

    :param dataset_group_arn: The dataset group.
    :param recipe_arn: The recipe.
    :param recommender_config: The API's ``recommenderConfig``.
    :param tags: Tags: ``{key: value}``, at most 200; or the API's list of ``tagKey`` and ``tagValue``.

    .. seealso:: https://docs.aws.amazon.com/personalize/latest/dg/API_CreateRecommender.html
    """

    resource_kind = RECOMMENDER
    request_fields: ClassVar[Mapping[str, Reader]] = {
        "dataset_group_arn": required(form(parse_arn_of("dataset-group"))),
        "recipe_arn": required(text),
        "recommender_config": mapping,
        "tags": read_tags,
    }

    def __init__(
        self,
        *,
        name: str,
        dataset_group_arn: str,
        recipe_arn: str,
        recommender_config: dict[str, Any] | None = None,
        tags: dict[str, str] | None = None,
        if_exists: IfExists = "reuse",
        wait_for_completion: bool = False,
        deferrable: bool | None = None,
        poll_interval: float | timedelta = DEFAULT_POLL_INTERVAL,
        timeout: float | timedelta = DEFAULT_TIMEOUT,
        aws_conn_id: str | None = "aws_default",
        region_name: str | None = None,
        verify: bool | str | None = None,
        botocore_config: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**passed_on(locals()))

    def conflicts(self, known: Mapping[str, Any]) -> Iterator[str]:
        """Yield a problem unless the recipe is one of a domain."""
        if known.get("recipe_arn") and not is_domain_recipe(known["recipe_arn"]):
            yield f"recipe_arn: expected a recipe of a domain, got one for solutions: {known['recipe_arn']}"


class PersonalizeCreateMetricAttributionOperator(PersonalizeCreateResourceOperator):
    """
    Create a metric attribution, or find the one that is there.

    Every other parameter is that of
    :class:`~airflow_provider_personalize.operators.resource_base.PersonalizeCreateResourceOperator`.

    :param dataset_group_arn: The dataset group.
    :param metrics: The metrics: the API's list of ``eventType``, ``metricName`` and ``expression``.
    :param metrics_output_config: The API's ``metricsOutputConfig``: the role, and where on S3 the metrics go.

    .. seealso:: https://docs.aws.amazon.com/personalize/latest/dg/API_CreateMetricAttribution.html
    """

    resource_kind = METRIC_ATTRIBUTION
    request_fields: ClassVar[Mapping[str, Reader]] = {
        "dataset_group_arn": required(form(parse_arn_of("dataset-group"))),
        "metrics": required(read_metrics),
        "metrics_output_config": required(mapping),
    }

    def __init__(
        self,
        *,
        name: str,
        dataset_group_arn: str,
        metrics: list[dict[str, str]],
        metrics_output_config: dict[str, Any],
        if_exists: IfExists = "reuse",
        wait_for_completion: bool = False,
        deferrable: bool | None = None,
        poll_interval: float | timedelta = DEFAULT_POLL_INTERVAL,
        timeout: float | timedelta = DEFAULT_TIMEOUT,
        aws_conn_id: str | None = "aws_default",
        region_name: str | None = None,
        verify: bool | str | None = None,
        botocore_config: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**passed_on(locals()))
