"""The recipes that the stand-in knows, and the solutions that stand ready in every region."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from airflow_provider_personalize.service.kinds import (
    ACTIVE,
    BATCH_INFERENCE_JOB,
    BATCH_SEGMENT_JOB,
    CREATE_FAILED,
    CREATE_IN_PROGRESS,
    ResourceKind,
)
from airflow_provider_personalize.service.names import Arn, digest

ACCOUNT = "123456789012"
#: The regions that have themes.
THEME_REGIONS = ("us-east-1", "us-west-2", "ap-northeast-1")
_DAY = 24 * 60 * 60


@dataclass(frozen=True)
class Recipe:
    """
    One of the service's algorithms, as far as batch jobs go.

    :param name: The name, as ``aws-sims``.
    :param type: The API's ``recipeType``.
    :param job_kind: The kind of job that it serves; None where it has no batch side.
    :param required: The keys that a line of input must have.
    :param max_lines: The most lines that a file of input may have.
    """

    name: str
    type: str
    job_kind: ResourceKind | None
    required: tuple[str, ...] = ()
    max_lines: int = 50_000_000

    @property
    def explores(self) -> bool:
        """Whether it takes an ``itemExplorationConfig``."""
        return self.name.startswith("aws-user-personalization")

    def arn(self, partition: str) -> str:
        """Give its ARN, which names neither region nor account."""
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
RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipe, _ in SOLUTIONS.values()}


class Catalog:
    """
    Recipes, solutions and solution versions of one region, as the API describes them, by ARN.

    :param partition: The region's partition, as ``aws``.
    :param region: The region.
    :param now: When the stand-in started, in seconds since the epoch.
    """

    def __init__(self, partition: str, region: str, now: float) -> None:
        self.partition = partition
        self.region = region
        self.dataset_group_arn = self.arn("dataset-group", "personalize-local")
        self.recipes: dict[str, dict[str, Any]] = {}
        self.solutions: dict[str, dict[str, Any]] = {}
        self.versions: dict[str, dict[str, Any]] = {}
        self._recipe_of: dict[str, Recipe] = {}
        long_ago = now - 2000 * _DAY
        for recipe in RECIPES.values():
            self.recipes[recipe.arn(partition)] = {
                "name": recipe.name,
                "recipeArn": recipe.arn(partition),
                "algorithmArn": f"arn:{partition}:personalize:::algorithm/{recipe.name}",
                "featureTransformationArn": f"arn:{partition}:personalize:::feature-transformation/{recipe.name}",
                "status": ACTIVE,
                "description": f"{recipe.name}, as the local stand-in has it.",
                "recipeType": recipe.type,
                "creationDateTime": long_ago,
                "lastUpdatedDateTime": long_ago,
            }
        for name, (recipe, versions) in SOLUTIONS.items():
            self._add_solution(name, recipe, versions, now)

    def arn(self, resource_type: str, name: str) -> str:
        """Give the ARN of a resource of this region."""
        return str(Arn(self.partition, self.region, ACCOUNT, resource_type, name))

    def recipe_of(self, version_arn: str) -> Recipe:
        """Give the recipe of a solution version."""
        return self._recipe_of[version_arn]

    def _add_solution(self, name: str, recipe: Recipe, versions: tuple[tuple[float, str], ...], now: float) -> None:
        solution_arn = self.arn("solution", name)
        common = {
            "solutionArn": solution_arn,
            "name": name,
            "performHPO": False,
            "performAutoML": False,
            "recipeArn": recipe.arn(self.partition),
            "datasetGroupArn": self.dataset_group_arn,
            "solutionConfig": {},
        }
        created = now - (versions[0][0] + 1) * _DAY
        for number, (age, status) in enumerate(versions, start=1):
            version_arn = f"{solution_arn}/{digest([name, number])}"
            begun = now - age * _DAY
            ended = begun if status == CREATE_IN_PROGRESS else begun + 0.05 * _DAY
            self.versions[version_arn] = common | {
                "solutionVersionArn": version_arn,
                "trainingMode": "FULL",
                "trainingType": "AUTOMATIC" if len(versions) > 1 else "MANUAL",
                "trainingHours": round((ended - begun) / 3600, 3),
                "status": status,
                "creationDateTime": begun,
                "lastUpdatedDateTime": ended,
            }
            if status == CREATE_FAILED:
                # Assumption: the text; no recorded one was found.
                self.versions[version_arn]["failureReason"] = "Internal error: the training did not end."
            self._recipe_of[version_arn] = recipe
        latest = self.versions[version_arn]
        self.solutions[solution_arn] = common | {
            "performAutoTraining": len(versions) > 1,
            "status": ACTIVE,
            "creationDateTime": created,
            "lastUpdatedDateTime": created,
            "latestSolutionVersion": {
                key: latest[key]
                for key in (
                    "solutionVersionArn",
                    "status",
                    "trainingMode",
                    "trainingType",
                    "creationDateTime",
                    "lastUpdatedDateTime",
                    "failureReason",
                )
                if key in latest
            },
        }
