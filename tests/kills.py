"""
Tasks that import, train, update, delete and forget, and that kill their own process once, each at another point of its
way.

``tests/integration/test_kills.py`` runs each part of a try in a process of its own.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from airflow_provider_personalize.hooks.resources import PersonalizeResourceHook
from airflow_provider_personalize.operators.data import (
    PersonalizeCreateDataDeletionJobOperator,
    PersonalizeCreateDatasetImportJobOperator,
)
from airflow_provider_personalize.operators.resources import (
    PersonalizeCreateCampaignOperator,
    PersonalizeDeleteResourceOperator,
)
from airflow_provider_personalize.operators.training import PersonalizeCreateSolutionVersionOperator

#: Their calls, of which one is to be made.
CALLS = {
    "import": "CreateDatasetImportJob",
    "training": "CreateSolutionVersion",
    "campaign": "UpdateCampaign",
    "deletion": "DeleteFilter",
    "forgetting": "CreateDataDeletionJob",
}
#: Where each half dies: by its own hand, but for ``while_deferred``, where what runs the trigger is killed.
POINTS = {
    "sync": ("before_call", "after_call", "while_waiting", "before_return"),
    "deferred": ("before_call", "after_call", "while_deferred", "before_resume"),
}

BASE = "arn:aws:personalize:us-east-1:123456789012:"
GROUP = f"{BASE}dataset-group/kills"
DATASET = f"{BASE}dataset/kills/USERS"
SOLUTION = f"{BASE}solution/kills"
ROLE = "arn:aws:iam::123456789012:role/personalize-local"
DATA = "s3://personalize-local/kills/users.csv"
FORGOTTEN = "s3://personalize-local/kills/forgotten.csv"
VERSIONS = f"{BASE}solution/popularity-count"


class Cell(NamedTuple):
    """One death: of what is done, in which half, at which point."""

    kind: str
    half: str
    point: str

    @property
    def task_id(self) -> str:
        return "_".join(self)


def cells_of(kind: str, half: str) -> list[Cell]:
    return [Cell(kind, half, point) for point in POINTS[half]]


#: The DAGs: each pair of a kind and a half; and what tells most, for every run of the tests.
DAGS = {f"kills_{kind}_{half}": cells_of(kind, half) for kind in CALLS for half in POINTS}
DAGS["kills"] = [
    Cell("import", "sync", "after_call"),
    Cell("import", "deferred", "before_resume"),
    Cell("training", "sync", "after_call"),
    Cell("training", "deferred", "while_deferred"),
    Cell("campaign", "sync", "while_waiting"),
    Cell("campaign", "deferred", "after_call"),
    Cell("deletion", "sync", "after_call"),
    Cell("deletion", "deferred", "before_resume"),
]


def set_up(client: Callable[[str], Any], cells: Iterable[Cell]) -> str:
    """Make all that the cells need, and return the version that campaigns are of."""
    personalize = client("personalize")
    body = "USER_ID,AGE\n" + "".join(f"u{number},{number}\n" for number in range(30))
    client("s3").put_object(Bucket="personalize-local", Key="kills/users.csv", Body=body.encode())
    client("s3").put_object(Bucket="personalize-local", Key="kills/forgotten.csv", Body=b"USER_ID\nu1\n")
    fields = [{"name": "USER_ID", "type": "string"}, {"name": "AGE", "type": "int"}]
    schema = {
        "type": "record",
        "name": "Users",
        "namespace": "com.amazonaws.personalize.schema",
        "fields": fields,
        "version": "1.0",
    }
    schema_arn = personalize.create_schema(name="kills", schema=json.dumps(schema))["schemaArn"]
    personalize.create_dataset_group(name="kills")
    _until_active(personalize, "dataset_group", datasetGroupArn=GROUP)
    personalize.create_dataset(name="kills", schemaArn=schema_arn, datasetGroupArn=GROUP, datasetType="USERS")
    personalize.create_solution(
        name="kills",
        datasetGroupArn=f"{BASE}dataset-group/personalize-local",
        recipeArn="arn:aws:personalize:::recipe/aws-popularity-count",
        performAutoTraining=False,
    )
    _until_active(personalize, "dataset", datasetArn=DATASET)
    _until_active(personalize, "solution", solutionArn=SOLUTION)
    version = personalize.list_solution_versions(solutionArn=VERSIONS)["solutionVersions"][0]["solutionVersionArn"]
    for cell in cells:
        if cell.kind == "campaign":
            personalize.create_campaign(name=cell.task_id, solutionVersionArn=version)
        elif cell.kind == "deletion":
            personalize.create_filter(
                name=cell.task_id,
                datasetGroupArn=GROUP,
                filterExpression='EXCLUDE ItemID WHERE Interactions.EVENT_TYPE IN ("*")',
            )
    for cell in cells:
        if cell.kind == "campaign":
            _until_active(personalize, "campaign", campaignArn=f"{BASE}campaign/{cell.task_id}")
        elif cell.kind == "deletion":
            _until_active(personalize, "filter", filterArn=f"{BASE}filter/{cell.task_id}")
    return version


def _until_active(personalize: Any, noun: str, **arn: str) -> None:
    while True:
        answer = getattr(personalize, f"describe_{noun}")(**arn)
        status = next(value for key, value in answer.items() if key != "ResponseMetadata")["status"]
        if status == "ACTIVE":
            return
        assert not status.endswith("FAILED"), answer
        time.sleep(0.1)


def what_was_done(client: Callable[[str], Any], cells: Iterable[Cell], calls: dict[str, int]) -> dict[str, int]:
    """Return how often each kind was done, by what the service has, or, where that does not tell, by the calls."""
    personalize = client("personalize")
    imports = personalize.list_dataset_import_jobs()["datasetImportJobs"]
    versions = personalize.list_solution_versions(solutionArn=SOLUTION)["solutionVersions"]
    for cell in cells:
        if cell.kind == "campaign":
            campaign = personalize.describe_campaign(campaignArn=f"{BASE}campaign/{cell.task_id}")["campaign"]
            assert (campaign["minProvisionedTPS"], campaign["status"]) == (2, "ACTIVE")
    left = {one["name"] for one in personalize.list_filters(datasetGroupArn=GROUP)["Filters"]}
    assert left.isdisjoint(cell.task_id for cell in cells)
    return {
        "import": len(imports),
        "training": len(versions),
        "campaign": calls.get("UpdateCampaign", 0),
        "deletion": calls.get("DeleteFilter", 0),
        "forgetting": len(personalize.list_data_deletion_jobs()["dataDeletionJobs"]),
    }


def mark_of(run_id: str, cell: Cell) -> Path:
    """Return the file that says that a task has died."""
    return Path(os.environ["CRASH_MARKS"]) / f"{run_id}.{cell.task_id}"


def die_once(run_id: str, cell: Cell, point: str, **_: object) -> None:
    """Kill this process with SIGKILL, the first time that the task comes to its point."""
    mark = mark_of(run_id, cell)
    if cell.point == point and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)


class DyingHook(PersonalizeResourceHook):
    """Dies before its call is sent, between the answer and the next line, or when it is about to wait."""

    def get_client_type(self, *args, **kwargs):
        client = super().get_client_type(*args, **kwargs)
        die, call = self.die, CALLS[self.kind]
        client.meta.events.register_first(f"before-send.personalize.{call}", partial(die, "before_call"))
        client.meta.events.register_first(f"after-call.personalize.{call}", partial(die, "after_call"))
        return client

    def wait_for_job(self, *args, **kwargs):
        self.die("while_waiting")
        return super().wait_for_job(*args, **kwargs)


class Dying:
    """What an operator has that dies once, where its cell says."""

    aws_hook_class = DyingHook
    cell: Cell

    def execute(self, context, **_: object):
        # Airflow 2 hands over a sentinel, by which it tells whether it is the one who calls.
        die = self._dying(context)
        arn = super().execute(context)
        die("before_return")
        return arn

    def execute_complete(self, context, event=None, **kwargs):
        self._dying(context)("before_resume")
        return super().execute_complete(context, event, **kwargs)

    def _dying(self, context):
        self.hook.die, self.hook.kind = partial(die_once, context["ti"].run_id, self.cell), self.cell.kind
        return self.hook.die


class DyingImport(Dying, PersonalizeCreateDatasetImportJobOperator):
    """Imports."""


class DyingTraining(Dying, PersonalizeCreateSolutionVersionOperator):
    """Trains."""


class DyingUpdate(Dying, PersonalizeCreateCampaignOperator):
    """Updates a campaign that is there."""


class DyingDeletion(Dying, PersonalizeDeleteResourceOperator):
    """Deletes."""


class DyingForgetting(Dying, PersonalizeCreateDataDeletionJobOperator):
    """Has a user forgotten."""


def task_of(cell: Cell, version: str) -> Any:
    """Return the task of a cell; the version is that of the campaigns."""
    common = {
        "task_id": cell.task_id,
        "wait_for_completion": True,
        "deferrable": cell.half == "deferred",
        "poll_interval": 0.2,
    }
    match cell.kind:
        case "import":
            made: Any = DyingImport(dataset_arn=DATASET, data_location=DATA, role_arn=ROLE, **common)
        case "training":
            made = DyingTraining(solution_arn=SOLUTION, **common)
        case "campaign":
            more = {"min_provisioned_tps": 2, "if_exists": "update"}
            made = DyingUpdate(name=cell.task_id, solution_version_arn=version, **more, **common)
        case "forgetting":
            made = DyingForgetting(dataset_group_arn=GROUP, data_location=FORGOTTEN, role_arn=ROLE, **common)
        case _:
            made = DyingDeletion(resource_arn=f"{BASE}filter/{cell.task_id}", **common)
    made.cell = cell
    return made
