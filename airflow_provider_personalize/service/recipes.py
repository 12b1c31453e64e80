"""
The recipes with batch jobs, one row each: what a line of input must hold, and the service's quotas.

This module is pure: it imports neither Airflow nor boto3.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from airflow_provider_personalize.exceptions import InvalidRequestError
from airflow_provider_personalize.service.kinds import BATCH_INFERENCE_JOB, BATCH_SEGMENT_JOB, ResourceKind

#: The most input files of one job.
MAX_FILES = 1_000
#: The most bytes of a job's input, all files together. The quota reads "1 GB"; the smaller meaning of that is safe.
MAX_BYTES = 1_000_000_000
#: The most bytes of one input file, which follows.
MAX_FILE_BYTES = MAX_BYTES
#: The most lines of one input file of an inference job.
MAX_LINES = 50_000_000
#: The most lines of one input file for Item-Affinity.
MAX_ITEM_AFFINITY_LINES = 500
#: The most lines of one input file for Item-Attribute-Affinity.
MAX_ITEM_ATTRIBUTE_LINES = 10
#: The most items of a job that makes themes.
MAX_THEME_ITEMS = 100
#: The most characters of an id.
MAX_ID_LENGTH = 256

#: The keys that a line holds; ``filterValues`` may stand beside them in every line.
Keys = frozenset[str]

USER = Keys({"userId"})
ITEM = Keys({"itemId"})
RANKING = Keys({"userId", "itemList"})
ATTRIBUTES = Keys({"itemAttributes"})
NOTHING = Keys()
#: Every set of keys that some recipe takes and that a query can give.
LINE_KEYS = (USER, ITEM, RANKING, ATTRIBUTES)


class Recipe(NamedTuple):
    """
    A recipe, as batch jobs see it.

    :param name: The recipe's name, as in its ARN ``arn:aws:personalize:::recipe/<name>``.
    :param kind: The kind of job that takes it, or None where it has no batch job.
    :param lines: The sets of keys that a line may hold.
    :param max_lines: The most lines of one input file.
    :param themes: Whether it can make themes.
    """

    name: str
    kind: ResourceKind | None
    lines: tuple[Keys, ...] = ()
    max_lines: int = MAX_LINES
    themes: bool = False


#: Every recipe that is known, by name.
RECIPES: Mapping[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe("aws-user-personalization-v2", BATCH_INFERENCE_JOB, (USER,)),
        Recipe("aws-user-personalization", BATCH_INFERENCE_JOB, (USER,)),
        Recipe("aws-hrnn", BATCH_INFERENCE_JOB, (USER,)),
        Recipe("aws-hrnn-metadata", BATCH_INFERENCE_JOB, (USER,)),
        Recipe("aws-hrnn-coldstart", BATCH_INFERENCE_JOB, (USER,)),
        Recipe("aws-popularity-count", BATCH_INFERENCE_JOB, (USER, ITEM, NOTHING)),
        Recipe("aws-personalized-ranking-v2", BATCH_INFERENCE_JOB, (RANKING,)),
        Recipe("aws-personalized-ranking", BATCH_INFERENCE_JOB, (RANKING,)),
        Recipe("aws-similar-items", BATCH_INFERENCE_JOB, (ITEM,), themes=True),
        Recipe("aws-sims", BATCH_INFERENCE_JOB, (ITEM,)),
        # Since 2025-11-30; up to 10 million items of a dataset.
        Recipe("aws-semantic-similarity", BATCH_INFERENCE_JOB, (ITEM,)),
        Recipe("aws-item-affinity", BATCH_SEGMENT_JOB, (ITEM,), MAX_ITEM_AFFINITY_LINES),
        Recipe("aws-item-attribute-affinity", BATCH_SEGMENT_JOB, (ATTRIBUTES,), MAX_ITEM_ATTRIBUTE_LINES),
        Recipe("aws-trending-now", None),
        Recipe("aws-next-best-action", None),
    )
}


#: What can be the name of a recipe, or its ARN.
_RECIPE = re.compile(r"(?:arn:[a-z\d-]+:personalize:[^:]*:[^:]*:recipe/)?aws-[a-z\d]+(?:-[a-z\d]+)*", re.ASCII)
_VERSION = re.compile(r"-v\d+$", re.ASCII)


def find_recipe(name_or_arn: str) -> Recipe | None:
    """
    Find a recipe by its name or ARN; None where it is not in :data:`RECIPES`, as a newer one would not be.

    :param name_or_arn: The recipe, as ``aws-sims`` or ``arn:aws:personalize:::recipe/aws-sims``.
    """
    return RECIPES.get(name_or_arn.rpartition("recipe/")[2])


def batch_recipe(name_or_arn: str, *, parameter: str = "recipe") -> Recipe | None:
    """
    Return the recipe of that name or ARN, or None if this package does not know it.

    :raises InvalidRequestError: if it has no batch job, or cannot be the name of a recipe, or is a slip of the pen.
    """
    name = name_or_arn.rpartition("recipe/")[2]
    recipe = find_recipe(name_or_arn)
    if recipe is None and _RECIPE.fullmatch(name_or_arn) and not _is_slip(name):
        return None
    if recipe is None or recipe.kind is None:
        names = ", ".join(recipe.name for recipe in RECIPES.values() if recipe.kind)
        raise InvalidRequestError(f"{parameter}: expected one with batch jobs ({names}), got {name_or_arn!r}.")
    return recipe


def _is_slip(name: str) -> bool:
    """Return whether a name is a misspelling of a known one, and not a new version of a recipe."""
    from difflib import get_close_matches  # Few DAG files need it.

    unversioned = {_VERSION.sub("", known) for known in RECIPES}
    return _VERSION.sub("", name) not in unversioned and bool(get_close_matches(name, [*RECIPES, *unversioned], 1, 0.9))


def describe_keys(choices: tuple[Keys, ...]) -> str:
    """Put sets of keys in words, as ``userId with itemList, or itemId``."""
    return ", or ".join(" with ".join(sorted(keys, reverse=True)) or "nothing" for keys in choices)


def default_max_lines(keys: Keys) -> int:
    """
    Return how many lines in a file every recipe with such lines takes.

    Lines with an itemId do for Item-Affinity and for related items alike, so the smaller quota is the safe one.

    :param keys: The keys of each line, without ``filterValues``.
    """
    return min(recipe.max_lines for recipe in RECIPES.values() if keys in recipe.lines)


def takes_updates(name: str) -> bool:
    """
    Return whether a recipe has the training mode ``UPDATE``.

    :param name: The recipe's name, as ``aws-user-personalization``.
    """
    return name in {"aws-user-personalization", "aws-hrnn-coldstart"}
