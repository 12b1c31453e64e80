"""The dataset group and the solutions that stand ready in every region that is not empty."""

from __future__ import annotations

from typing import Any

from airflow_provider_personalize.local.catalog import DAY, READY_GROUP, READY_TAGS, SOLUTIONS
from airflow_provider_personalize.local.drafts import Learned
from airflow_provider_personalize.local.resources import Region
from airflow_provider_personalize.service.kinds import DATASET_GROUP, SOLUTION, SOLUTION_VERSION
from airflow_provider_personalize.service.names import digest
from airflow_provider_personalize.service.statuses import ACTIVE, CREATE_FAILED, CREATE_IN_PROGRESS


def stock(region: Region, now: float, group_content: Any, recommender: Any) -> None:
    """
    Put the dataset group and the solutions into a region that stand ready.

    :param region: The region.
    :param now: When the stand-in started, in seconds since the epoch.
    :param group_content: What the dataset group holds.
    :param recommender: What the solution versions have learned.
    """
    group_arn = region.arn(DATASET_GROUP.arn_type, READY_GROUP)
    region.add(DATASET_GROUP, group_arn, {"name": READY_GROUP}, now - 2000 * DAY, content=group_content, ready=True)
    for name, (recipe, versions) in SOLUTIONS.items():
        solution_arn = region.arn(SOLUTION.arn_type, name)
        trains_itself = len(versions) > 1
        common = {
            "performHPO": False,
            "performAutoML": False,
            "recipeArn": recipe.arn(region.partition),
            "datasetGroupArn": group_arn,
            "solutionConfig": {},
        }
        fields = common | {"name": name, "performAutoTraining": trains_itself}
        region.add(SOLUTION, solution_arn, fields, now - (versions[0][0] + 1) * DAY, ready=True)
        for number, (age, status) in enumerate(versions, start=1):
            begun = now - age * DAY
            ended = begun if status == CREATE_IN_PROGRESS else begun + 0.05 * DAY
            version = region.add(
                SOLUTION_VERSION,
                f"{solution_arn}/{digest([name, number])}",
                common
                | {
                    "name": name,
                    "solutionArn": solution_arn,
                    "trainingMode": "FULL",
                    "trainingType": "AUTOMATIC" if trains_itself else "MANUAL",
                    "trainingHours": round((ended - begun) / 3600, 3),
                },
                begun,
                content=Learned(recipe, recommender) if status == ACTIVE else None,
                ready=True,
            )
            version.settled, version.updated = status, ended
            if status == ACTIVE:
                region.tags[version.arn] = [{"tagKey": key, "tagValue": value} for key, value in READY_TAGS.items()]
            if status == CREATE_FAILED:
                # Assumption: the text; no recorded one was found.
                version.failure_reason = "Internal error: the training did not end."
