"""The recipes that the stand-in knows, and the solutions that stand ready in every region that is not empty."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from airflow_provider_personalize.service.kinds import (
    BATCH_INFERENCE_JOB,
    BATCH_SEGMENT_JOB,
    ResourceKind,
)
from airflow_provider_personalize.service.statuses import ACTIVE, CREATE_FAILED, CREATE_IN_PROGRESS

#: The dataset group that the ready solutions belong to.
READY_GROUP = "personalize-local"
#: The tags of the solution versions that stand ready, which the example DAGs ask for.
READY_TAGS = {"quality": "passed"}
#: The regions that have themes.
THEME_REGIONS = ("us-east-1", "us-west-2", "ap-northeast-1")
DAY = 24 * 60 * 60


@dataclass(frozen=True)
class Recipe:
    """
    One of the service's algorithms.

    :param name: The name, as ``aws-sims``.
    :param type: The API's ``recipeType``.
    :param job_kind: The kind of job that it serves; None where it has no batch side.
    :param required: The keys that a line of input must have.
    :param max_lines: The most lines that a file of input may have.
    :param domain: The domain whose recommenders it is for; None where it is for solutions.
    """

    name: str
    type: str
    job_kind: ResourceKind | None
    required: tuple[str, ...] = ()
    max_lines: int = 50_000_000
    domain: str | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        # There is one of each, which others are compared with.
        return _recipe_named, (self.name,)

    @property
    def updates(self) -> bool:
        """Whether it can be trained with the mode UPDATE."""
        return self.name in {"aws-user-personalization", "aws-hrnn-coldstart"}

    @property
    def explores(self) -> bool:
        """Whether it takes an ``itemExplorationConfig``."""
        return self.name.startswith("aws-user-personalization")

    def arn(self, partition: str) -> str:
        """Return its ARN, which names neither region nor account."""
        return f"arn:{partition}:personalize:::recipe/{self.name}"


_USER, _LIST, _ITEM = ("userId",), ("userId", "itemList"), ("itemId",)
USER_PERSONALIZATION = Recipe("aws-user-personalization-v2", "USER_PERSONALIZATION", BATCH_INFERENCE_JOB, _USER)
USER_PERSONALIZATION_V1 = Recipe("aws-user-personalization", "USER_PERSONALIZATION", BATCH_INFERENCE_JOB, _USER)
HRNN = Recipe("aws-hrnn", "USER_PERSONALIZATION", BATCH_INFERENCE_JOB, _USER)
HRNN_METADATA = Recipe("aws-hrnn-metadata", "USER_PERSONALIZATION", BATCH_INFERENCE_JOB, _USER)
HRNN_COLDSTART = Recipe("aws-hrnn-coldstart", "USER_PERSONALIZATION", BATCH_INFERENCE_JOB, _USER)
POPULARITY = Recipe("aws-popularity-count", "USER_PERSONALIZATION", BATCH_INFERENCE_JOB)
RANKING = Recipe("aws-personalized-ranking", "PERSONALIZED_RANKING", BATCH_INFERENCE_JOB, _LIST)
RANKING_V2 = Recipe("aws-personalized-ranking-v2", "PERSONALIZED_RANKING", BATCH_INFERENCE_JOB, _LIST)
SIMILAR_ITEMS = Recipe("aws-similar-items", "RELATED_ITEMS", BATCH_INFERENCE_JOB, _ITEM)
SIMS = Recipe("aws-sims", "RELATED_ITEMS", BATCH_INFERENCE_JOB, _ITEM)
SEMANTIC_SIMILARITY = Recipe("aws-semantic-similarity", "RELATED_ITEMS", BATCH_INFERENCE_JOB, _ITEM)
ITEM_AFFINITY = Recipe("aws-item-affinity", "USER_SEGMENTATION", BATCH_SEGMENT_JOB, _ITEM, 500)
ATTRIBUTE_AFFINITY = Recipe(
    "aws-item-attribute-affinity", "USER_SEGMENTATION", BATCH_SEGMENT_JOB, ("itemAttributes",), 10
)
# Assumption: the recipeType of these two, for which no recorded answer was found.
TRENDING_NOW = Recipe("aws-trending-now", "POPULAR_ITEMS", None)
NEXT_BEST_ACTION = Recipe("aws-next-best-action", "PERSONALIZED_ACTIONS", None)

_VIDEO, _SHOP = "VIDEO_ON_DEMAND", "ECOMMERCE"
#: The recipes of domains. Assumption: their recipeType, for which no recorded answer was found.
DOMAIN_RECIPES = (
    Recipe("aws-vod-top-picks", "USER_PERSONALIZATION", None, _USER, domain=_VIDEO),
    Recipe("aws-vod-most-popular", "POPULAR_ITEMS", None, domain=_VIDEO),
    Recipe("aws-vod-trending-now", "POPULAR_ITEMS", None, domain=_VIDEO),
    Recipe("aws-vod-because-you-watched-x", "RELATED_ITEMS", None, _ITEM, domain=_VIDEO),
    Recipe("aws-vod-more-like-x", "RELATED_ITEMS", None, _ITEM, domain=_VIDEO),
    Recipe("aws-ecomm-recommended-for-you", "USER_PERSONALIZATION", None, _USER, domain=_SHOP),
    Recipe("aws-ecomm-popular-items-by-purchases", "POPULAR_ITEMS", None, domain=_SHOP),
    Recipe("aws-ecomm-popular-items-by-views", "POPULAR_ITEMS", None, domain=_SHOP),
    Recipe("aws-ecomm-customers-who-viewed-x-also-viewed", "RELATED_ITEMS", None, _ITEM, domain=_SHOP),
    Recipe("aws-ecomm-frequently-bought-together", "RELATED_ITEMS", None, _ITEM, domain=_SHOP),
)

#: The solutions, at least one of each recipe: name → recipe and, for each version, its age in days and its status,
#: oldest first.
SOLUTIONS: dict[str, tuple[Recipe, tuple[tuple[float, str], ...]]] = {
    "user-personalization": (USER_PERSONALIZATION, ((6, ACTIVE),)),
    "user-personalization-v1": (USER_PERSONALIZATION_V1, ((6, ACTIVE),)),
    "popularity-count": (POPULARITY, ((6, ACTIVE),)),
    "personalized-ranking": (RANKING, ((6, ACTIVE),)),
    "personalized-ranking-v2": (RANKING_V2, ((6, ACTIVE),)),
    "similar-items": (SIMILAR_ITEMS, ((6, ACTIVE),)),
    "sims": (SIMS, ((6, ACTIVE),)),
    "semantic-similarity": (SEMANTIC_SIMILARITY, ((6, ACTIVE),)),
    "item-affinity": (ITEM_AFFINITY, ((6, ACTIVE),)),
    "item-attribute-affinity": (ATTRIBUTE_AFFINITY, ((6, ACTIVE),)),
    "hrnn": (HRNN, ((400, ACTIVE),)),
    "hrnn-metadata": (HRNN_METADATA, ((400, ACTIVE),)),
    "hrnn-coldstart": (HRNN_COLDSTART, ((400, ACTIVE),)),
    # Trains by itself every week: one version has just failed, the newest still trains.
    "retrained-weekly": (
        USER_PERSONALIZATION,
        ((15, ACTIVE), (8, ACTIVE), (1, CREATE_FAILED), (0.02, CREATE_IN_PROGRESS)),
    ),
    "trending-now": (TRENDING_NOW, ((6, ACTIVE),)),
    "next-best-action": (NEXT_BEST_ACTION, ((6, ACTIVE),)),
}
RECIPES: dict[str, Recipe] = {
    recipe.name: recipe for recipe in (*(recipe for recipe, _ in SOLUTIONS.values()), *DOMAIN_RECIPES)
}


def _recipe_named(name: str) -> Recipe:
    return RECIPES[name]


def recipe_of(arn: str) -> Recipe | None:
    """Return the recipe of an ARN, None where there is no such recipe."""
    _, _, name = arn.partition(":recipe/")
    return RECIPES.get(name)


def describe_recipes(partition: str, now: float) -> dict[str, dict[str, Any]]:
    """Return every recipe as the API describes it, by its ARN."""
    created = now - 2000 * DAY
    return {
        recipe.arn(partition): {
            "name": recipe.name,
            "recipeArn": recipe.arn(partition),
            "algorithmArn": f"arn:{partition}:personalize:::algorithm/{recipe.name}",
            "featureTransformationArn": f"arn:{partition}:personalize:::feature-transformation/{recipe.name}",
            "status": ACTIVE,
            "description": f"{recipe.name}, as the local stand-in has it.",
            "recipeType": recipe.type,
            "creationDateTime": created,
            "lastUpdatedDateTime": created,
        }
        | ({"domain": recipe.domain} if recipe.domain else {})
        for recipe in RECIPES.values()
    }
