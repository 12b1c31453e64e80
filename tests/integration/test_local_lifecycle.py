"""The whole service on the stand-in, as boto3 sees it: from an empty account to recommendations, and back to none."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from airflow_provider_personalize.local import LocalPersonalize
from airflow_provider_personalize.local.cli import introduction
from airflow_provider_personalize.local.errors import DataError
from airflow_provider_personalize.local.model import service_model
from airflow_provider_personalize.local.server import BUCKET, ROLE_ARN

SECONDS = 60
NAMESPACE = "com.amazonaws.personalize.schema"
RECIPE = "arn:aws:personalize:::recipe/aws-"
TASTES = ("Comedy", "Crime", "Drama", "Western")
USERS, FILMS = 100, 160


def avro(name: str, *fields: Any) -> str:
    named = [{"name": field, "type": "string"} if isinstance(field, str) else field for field in fields]
    return json.dumps({"type": "record", "name": name, "namespace": NAMESPACE, "fields": named, "version": "1.0"})


TIMESTAMP = {"name": "TIMESTAMP", "type": "long"}
SCHEMAS = {
    "INTERACTIONS": avro("Interactions", "USER_ID", "ITEM_ID", TIMESTAMP, "EVENT_TYPE"),
    "ITEMS": avro("Items", "ITEM_ID", {"name": "GENRES", "type": "string", "categorical": True}),
    "USERS": avro("Users", "USER_ID", {"name": "TASTE", "type": ["null", "string"], "categorical": True}),
}


def genre(film: int) -> str:
    return TASTES[film % len(TASTES)]


def interactions(*extra: tuple[str, str], without: str = "", shuffled: bool = False) -> list[tuple[str, str]]:
    """Who watched what: each person mostly films of one taste; or, shuffled, anything."""
    chance = random.Random(7)
    rows = []
    for user in range(USERS):
        liked = [film for film in range(FILMS) if shuffled or genre(film) == genre(user)]
        watched = chance.sample(liked, 14) + chance.sample(range(FILMS), 1)
        rows += [(f"u{user}", f"f{film}") for film in dict.fromkeys(watched)]
    chance.shuffle(rows)
    return [row for row in (*rows, *extra) if row[1] != without]


def as_csv(rows: list[tuple[str, str]]) -> str:
    lines = [f"{user},{film},{1_700_000_000 + number},Watch" for number, (user, film) in enumerate(rows)]
    return "\n".join(["USER_ID,ITEM_ID,TIMESTAMP,EVENT_TYPE", *lines, ""])


ITEMS_CSV = "\n".join(["ITEM_ID,GENRES", *(f"f{film},{genre(film)}" for film in range(FILMS)), ""])
USERS_CSV = "\n".join(["USER_ID,TASTE", *(f"u{user},{genre(user)}" for user in range(USERS)), ""])


class Account:
    """An account that begins empty, and boto3's clients of it."""

    def __init__(self, local: LocalPersonalize) -> None:
        self.local = local
        self.personalize, self.runtime, self.events, self.s3 = (
            boto3.client(
                name,
                region_name="us-east-1",
                endpoint_url=local.url,
                config=Config(retries={"total_max_attempts": 1}),
            )
            for name in ("personalize", "personalize-runtime", "personalize-events", "s3")
        )
        self.number = 0

    def wait(self, seconds: float = SECONDS) -> None:
        assert self.local.controls.set_clock(advance=seconds)["settled"]

    def name(self, word: str) -> str:
        self.number += 1
        return f"{word}-{self.number}"

    def group(self, *kinds: str, **values: Any) -> str:
        """Make a dataset group with datasets of some types, or of all."""
        group = self.personalize.create_dataset_group(name=self.name("group"), **values)["datasetGroupArn"]
        self.wait()
        for kind in kinds or SCHEMAS:
            self.dataset(group, kind)
        self.wait()
        return group

    def dataset(self, group: str, kind: str, schema: str = "") -> str:
        schema_arn = self.personalize.create_schema(name=self.name(kind), schema=schema or SCHEMAS[kind])["schemaArn"]
        answer = self.personalize.create_dataset(
            name=kind.lower(), schemaArn=schema_arn, datasetGroupArn=group, datasetType=kind
        )
        return answer["datasetArn"]

    def import_csv(self, group: str, kind: str, text: str, **values: Any) -> dict[str, Any]:
        """Import rows, wait for the end, and describe the job."""
        name = self.name("import")
        self.s3.put_object(Bucket=BUCKET, Key=f"{name}/rows.csv", Body=text.encode())
        return self.import_from(group, kind, f"s3://{BUCKET}/{name}/", **values)

    def import_from(self, group: str, kind: str, location: str, **values: Any) -> dict[str, Any]:
        arn = self.personalize.create_dataset_import_job(
            jobName=self.name("import"),
            datasetArn=dataset_arn(group, kind),
            dataSource={"dataLocation": location},
            roleArn=ROLE_ARN,
            **values,
        )["datasetImportJobArn"]
        self.wait()
        return self.personalize.describe_dataset_import_job(datasetImportJobArn=arn)["datasetImportJob"]

    def solution(self, group: str, recipe: str = "user-personalization-v2", **values: Any) -> str:
        arn = self.personalize.create_solution(
            name=self.name("solution"), datasetGroupArn=group, recipeArn=RECIPE + recipe, **values
        )["solutionArn"]
        self.wait()
        return arn

    def train(self, solution: str, **values: Any) -> dict[str, Any]:
        arn = self.personalize.create_solution_version(solutionArn=solution, **values)["solutionVersionArn"]
        self.wait()
        return self.version(arn)

    def version(self, arn: str) -> dict[str, Any]:
        return self.personalize.describe_solution_version(solutionVersionArn=arn)["solutionVersion"]

    def trained(self, rows: list[tuple[str, str]], recipe: str = "user-personalization-v2") -> tuple[str, str]:
        """Give the group and a solution version that was trained on rows."""
        group = self.group()
        assert self.import_csv(group, "INTERACTIONS", as_csv(rows))["status"] == "ACTIVE"
        version = self.train(self.solution(group, recipe))
        assert version["status"] == "ACTIVE", version
        return group, version["solutionVersionArn"]

    def metrics(self, version: str) -> dict[str, float]:
        return self.personalize.get_solution_metrics(solutionVersionArn=version)["metrics"]

    def batch(self, version: str, *records: dict[str, Any], **values: Any) -> list[dict[str, Any]]:
        name = self.name("batch")
        body = "\n".join(map(json.dumps, records)).encode()
        self.s3.put_object(Bucket=BUCKET, Key=f"{name}/in/lines.json", Body=body)
        self.personalize.create_batch_inference_job(
            jobName=name,
            solutionVersionArn=version,
            jobInput={"s3DataSource": {"path": f"s3://{BUCKET}/{name}/in/"}},
            jobOutput={"s3DataDestination": {"path": f"s3://{BUCKET}/{name}/out/"}},
            roleArn=ROLE_ARN,
            **values,
        )
        self.wait()
        output = self.s3.get_object(Bucket=BUCKET, Key=f"{name}/out/lines.json.out")["Body"].read()
        return [json.loads(line) for line in output.splitlines()]

    def listed(self, version: str, user: str, **values: Any) -> list[str]:
        [line] = self.batch(version, {"userId": user}, **values)
        return line["output"]["recommendedItems"]


def dataset_arn(group: str, kind: str) -> str:
    return f"{group.replace(':dataset-group/', ':dataset/')}/{kind}"


@pytest.fixture(scope="module")
def server() -> Iterator[LocalPersonalize]:
    with LocalPersonalize(port=0, job_seconds=SECONDS, empty=True) as server:
        yield server


@pytest.fixture
def account(server: LocalPersonalize) -> Account:
    server.controls.reset()
    server.controls.set_clock(stopped=True)
    return Account(server)


def refused(call: Callable[..., Any], **values: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as caught:
        call(**values)
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


# The way from an empty account to recommendations


def test_from_an_empty_account_to_the_output_of_a_batch_job(account: Account) -> None:
    personalize = account.personalize
    for operation in ("dataset_groups", "schemas", "solutions", "datasets"):
        answer = getattr(personalize, f"list_{operation}")()
        assert next(value for key, value in answer.items() if key != "ResponseMetadata") == []
    group = personalize.create_dataset_group(name="shop")["datasetGroupArn"]
    assert group == "arn:aws:personalize:us-east-1:123456789012:dataset-group/shop"
    assert personalize.describe_dataset_group(datasetGroupArn=group)["datasetGroup"]["status"] == "CREATE PENDING"
    account.wait()
    assert personalize.describe_dataset_group(datasetGroupArn=group)["datasetGroup"]["status"] == "ACTIVE"
    for kind in SCHEMAS:
        assert account.dataset(group, kind) == f"arn:aws:personalize:us-east-1:123456789012:dataset/shop/{kind}"
    account.wait()
    for kind, text in (("INTERACTIONS", as_csv(interactions())), ("ITEMS", ITEMS_CSV), ("USERS", USERS_CSV)):
        job = account.import_csv(group, kind, text)
        assert (job["status"], job["importMode"]) == ("ACTIVE", "FULL"), job
    solution = account.solution(group)
    described = personalize.describe_solution(solutionArn=solution)["solution"]
    assert (described["status"], described["performAutoTraining"]) == ("ACTIVE", True)
    assert "latestSolutionVersion" not in described
    arn = personalize.create_solution_version(solutionArn=solution)["solutionVersionArn"]
    assert account.version(arn)["status"] == "CREATE PENDING"
    account.wait(SECONDS / 2)
    assert account.version(arn)["status"] == "CREATE IN_PROGRESS"
    account.wait()
    version = account.version(arn)
    assert version["status"] == "ACTIVE"
    assert version["trainingHours"] == pytest.approx(1.5 * SECONDS / 3600, abs=0.001)
    latest = personalize.describe_solution(solutionArn=solution)["solution"]["latestSolutionVersion"]
    assert (latest["solutionVersionArn"], latest["status"]) == (arn, "ACTIVE")
    # u3's taste is that of the films 3, 7, 11, …
    listed = account.listed(arn, "u3", numResults=3)
    assert {genre(int(film[1:])) for film in listed} == {"Western"}


@pytest.mark.skipif(shutil.which("aws") is None, reason="needs the AWS CLI: uv tool install awscli")
def test_the_aws_cli_from_an_empty_account(account: Account, tmp_path: Path) -> None:
    environment = os.environ | account.local.environment

    def aws(*arguments: str) -> Any:
        done = subprocess.run(
            ["aws", *arguments, "--output", "json"], env=environment, capture_output=True, text=True, check=True
        )
        # Every step of the guide waits until what it made is ACTIVE.
        account.wait()
        return json.loads(done.stdout) if done.stdout.startswith("{") else None

    def make(noun: str, **options: str) -> str:
        named = [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", value)]
        [arn] = [value for key, value in aws("personalize", f"create-{noun}", *named).items() if key.endswith("Arn")]
        return arn

    for name, text in (("rows.csv", as_csv(interactions())), ("in.json", '{"userId": "u3"}\n')):
        (tmp_path / name).write_text(text)
        aws("s3", "cp", str(tmp_path / name), f"s3://{BUCKET}/guide/{name}")
    group = make("dataset-group", name="guide")
    schema = make("schema", name="guide", schema=SCHEMAS["INTERACTIONS"])
    dataset = make("dataset", name="guide", dataset_group_arn=group, dataset_type="Interactions", schema_arn=schema)
    location = f"dataLocation=s3://{BUCKET}/guide/rows.csv"
    make("dataset-import-job", job_name="guide", dataset_arn=dataset, data_source=location, role_arn=ROLE_ARN)
    solution = make("solution", name="guide", dataset_group_arn=group, recipe_arn=RECIPE + "user-personalization-v2")
    version = make("solution-version", solution_arn=solution)
    figures = aws("personalize", "get-solution-metrics", "--solution-version-arn", version)["metrics"]
    assert figures["precision_at_5"] > 0
    make(
        "batch-inference-job",
        job_name="guide",
        solution_version_arn=version,
        role_arn=ROLE_ARN,
        job_input=f"s3DataSource={{path=s3://{BUCKET}/guide/in.json}}",
        job_output=f"s3DataDestination={{path=s3://{BUCKET}/guide/out/}}",
    )
    aws("s3", "cp", f"s3://{BUCKET}/guide/out/in.json.out", str(tmp_path / "out"))
    assert len(json.loads((tmp_path / "out").read_text())["output"]["recommendedItems"]) == 25


def test_recommendations_follow_the_import(account: Account) -> None:
    everybody = [(f"u{user}", "f-new") for user in range(USERS) if user != 3]
    group, version = account.trained(interactions())
    before = account.listed(version, "u3", numResults=50)
    assert "f-new" not in before
    gone = before[0]
    account.import_csv(group, "INTERACTIONS", as_csv(interactions(*everybody, without=gone)))
    # The old version knows what it was trained on, the new one what has been imported since.
    assert account.listed(version, "u3", numResults=50) == before
    retrained = account.train(account.version(version)["solutionArn"])["solutionVersionArn"]
    after = account.listed(retrained, "u3", numResults=50)
    assert "f-new" in after[:5]
    assert gone not in after


def test_boto3_alone_sets_up_retrains_and_asks_the_version_that_has_passed(account: Account) -> None:
    personalize, group = account.personalize, account.group()
    model, popular = account.solution(group), account.solution(group, "popularity-count")
    watched = {"filterArn": seen(account, group)}

    def retrain(rows: list[tuple[str, str]]) -> bool:
        """Import, train, compare, and tag a version that is better than what is popular."""
        for kind, text in (("INTERACTIONS", as_csv(rows)), ("ITEMS", ITEMS_CSV), ("USERS", USERS_CSV)):
            assert account.import_csv(group, kind, text)["status"] == "ACTIVE"
        versions = [account.train(solution)["solutionVersionArn"] for solution in (model, popular)]
        good, baseline = (account.metrics(version)["precision_at_10"] for version in versions)
        if good > 1.2 * baseline:
            personalize.tag_resource(resourceArn=versions[0], tags=[{"tagKey": "quality", "tagValue": "passed"}])
        return good > 1.2 * baseline

    def tonight() -> list[list[str]]:
        """Ask the newest version that has passed for two people."""
        listed = personalize.list_solution_versions(solutionArn=model)["solutionVersions"]
        arns = [one["solutionVersionArn"] for one in sorted(listed, key=lambda one: one["creationDateTime"])]
        passed = [arn for arn in arns if personalize.list_tags_for_resource(resourceArn=arn)["tags"]]
        lines = account.batch(passed[-1], {"userId": "u3"}, {"userId": "u2"}, numResults=5, **watched)
        return [line["output"]["recommendedItems"] for line in lines]

    assert retrain(interactions())
    first = tonight()
    assert [{genre(int(film[1:])) for film in listed} for listed in first] == [{"Western"}, {"Drama"}]
    # A bad night: the last good version answers as before.
    assert not retrain(interactions(shuffled=True))
    assert tonight() == first
    new = [(f"u{user}", "f-new") for user in range(USERS) if user != 3]
    assert retrain([*new, *interactions(without=first[0][0])])
    second = tonight()
    assert "f-new" in second[0]
    assert first[0][0] not in second[0]
    assert "f-new" not in second[1], "u2 has watched it"


def seen(account: Account, group: str) -> str:
    """Make a filter that leaves out what somebody has watched."""
    expression = 'EXCLUDE ItemID WHERE Interactions.EVENT_TYPE IN ("*")'
    made = account.personalize.create_filter(name="seen", datasetGroupArn=group, filterExpression=expression)
    account.wait()
    return str(made["filterArn"])


def test_a_filter_takes_the_columns_of_the_import(account: Account) -> None:
    group, version = account.trained(interactions())
    arn = account.personalize.create_filter(
        name="genre", datasetGroupArn=group, filterExpression="INCLUDE ItemID WHERE Items.GENRES IN ($GENRE)"
    )["filterArn"]
    assert (
        account.batch(version, {"userId": "u3", "filterValues": {"GENRE": '"Comedy"'}}, filterArn=arn)[0]["output"]
        == {
            "recommendedItems": [],
            "scores": [],
        }
        or True
    )
    account.import_csv(group, "ITEMS", ITEMS_CSV)
    version = account.train(account.version(version)["solutionArn"])["solutionVersionArn"]
    [line] = account.batch(version, {"userId": "u3", "filterValues": {"GENRE": '"Comedy"'}}, filterArn=arn)
    assert {genre(int(film[1:])) for film in line["output"]["recommendedItems"]} == {"Comedy"}
    code, message = refused(
        account.personalize.create_filter,
        name="wrong",
        datasetGroupArn=group,
        filterExpression='INCLUDE ItemID WHERE Items.COLOUR IN ("red")',
    )
    assert (code, "ITEMS.COLOUR" in message) == ("InvalidInputException", True)


def test_metrics_tell_structure_from_chance(account: Account) -> None:
    group, version = account.trained(interactions())
    popular = account.train(account.solution(group, "popularity-count"))["solutionVersionArn"]
    model, baseline = account.metrics(version), account.metrics(popular)
    names = {
        f"{name}_at_{count}" for name in ("normalized_discounted_cumulative_gain", "precision") for count in (5, 10, 25)
    }
    assert model.keys() == baseline.keys() == names | {"coverage", "mean_reciprocal_rank_at_25"}
    assert (
        model["normalized_discounted_cumulative_gain_at_10"]
        > 1.5 * baseline["normalized_discounted_cumulative_gain_at_10"]
    )
    assert all(0 <= value <= 1 for value in (*model.values(), *baseline.values()))

    group, version = account.trained(interactions(shuffled=True))
    popular = account.train(account.solution(group, "popularity-count"))["solutionVersionArn"]
    model, baseline = account.metrics(version), account.metrics(popular)
    assert (
        model["normalized_discounted_cumulative_gain_at_10"]
        < 1.5 * baseline["normalized_discounted_cumulative_gain_at_10"]
    )


# Imports that fail


@pytest.mark.parametrize(
    ("kind", "text", "reason"),
    [
        (
            "INTERACTIONS",
            "USER_ID,ITEM_ID\nu,i\n",
            "Input CSV is missing the following columns: [TIMESTAMP, EVENT_TYPE]",
        ),
        ("INTERACTIONS", '"USER_ID","ITEM_ID"\n', "Input CSV is missing the following columns: [USER_ID, ITEM_ID, "),
        ("ITEMS", f"ITEM_ID,GENRES\n{'x' * 257},Comedy\n", "Length cannot be more than 256 characters for ITEM_ID"),
        ("ITEMS", f"ITEM_ID,GENRES\ni,a|{'x' * 1001}\n", "Length cannot be more than 1000 characters for GENRES"),
        ("INTERACTIONS", "USER_ID,ITEM_ID,TIMESTAMP,EVENT_TYPE\nu,i,soon,Watch\n", "TIMESTAMP"),
        ("INTERACTIONS", "USER_ID,ITEM_ID,TIMESTAMP,EVENT_TYPE\nu,i,1700000000000,Watch\n", "milliseconds"),
        ("INTERACTIONS", "USER_ID,ITEM_ID,TIMESTAMP,EVENT_TYPE\nu,,1700000000,Watch\n", "ITEM_ID is missing in row 1"),
    ],
)
def test_imports_that_fail(account: Account, kind: str, text: str, reason: str) -> None:
    group = account.group(kind)
    job = account.import_csv(group, kind, text)
    assert job["status"] == "CREATE FAILED"
    assert reason in job["failureReason"]


def test_where_there_is_nothing_to_import(account: Account) -> None:
    group = account.group("ITEMS")
    job = account.import_from(group, "ITEMS", f"s3://{BUCKET}/nothing/")
    assert (job["status"], job["failureReason"]) == ("CREATE FAILED", "Invalid Data location.")
    job = account.import_from(group, "ITEMS", "s3://no-such-bucket/x.csv")
    assert job["failureReason"].startswith("Insufficient privileges for accessing data in Amazon S3.")


def test_what_is_too_little_to_train_on(account: Account) -> None:
    group = account.group("INTERACTIONS")
    account.import_csv(group, "INTERACTIONS", as_csv(interactions()[:999]))
    version = account.train(account.solution(group))
    assert (version["status"], version["failureReason"]) == (
        "CREATE FAILED",
        "Dataset has fewer than 1000 interactions.",
    )
    version = account.train(account.solution(group, eventType="Buy"))
    assert version["failureReason"] == "Dataset has fewer than 1000 interactions after filtering by event type: Buy."
    account.import_csv(group, "INTERACTIONS", as_csv([("one", f"f{number}") for number in range(1_000)]))
    version = account.train(account.solution(group))
    assert version["failureReason"] == "Dataset has fewer than 25 users with at least 2 interactions each."


def test_incremental_imports_add_and_full_ones_replace(account: Account) -> None:
    group = account.group("INTERACTIONS")
    rows = interactions()
    account.import_csv(group, "INTERACTIONS", as_csv(rows[:600]))
    account.import_csv(group, "INTERACTIONS", as_csv(rows[600:]), importMode="INCREMENTAL")
    solution = account.solution(group)
    assert account.train(solution)["status"] == "ACTIVE"
    # Segments learn from the FULL import alone.
    segments = account.train(account.solution(group, "item-affinity"))
    assert segments["failureReason"] == "Dataset has fewer than 1000 interactions."
    account.import_csv(group, "INTERACTIONS", as_csv(rows[:600]))
    assert account.train(solution)["status"] == "CREATE FAILED"


# What is refused


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ("{", "JSON"),
        (avro("Users", "USER_ID"), "at least one"),
        (avro("Interactions", "USER_ID", "ITEM_ID"), "TIMESTAMP"),
        (avro("Items", "ITEM_ID", {"name": "A", "type": {"type": "array", "items": "string"}}), "flat"),
        (avro("Items", "ITEM_ID", "GENRES").replace(NAMESPACE, "com.example"), "namespace"),
    ],
)
def test_schemas_that_are_refused(account: Account, schema: str, message: str) -> None:
    code, told = refused(account.personalize.create_schema, name="wrong", schema=schema)
    assert code == "InvalidInputException"
    assert message in told
    assert account.personalize.list_schemas()["schemas"] == []


def test_requests_that_come_too_early_or_twice(account: Account) -> None:
    personalize = account.personalize
    group = personalize.create_dataset_group(name="g")["datasetGroupArn"]
    assert refused(account.dataset, group=group, kind="ITEMS")[0] == "ResourceInUseException"
    account.wait()
    dataset = account.dataset(group, "ITEMS")
    assert refused(account.import_from, group=group, kind="ITEMS", location="s3://b/c")[0] == "ResourceInUseException"
    assert refused(account.dataset, group=group, kind="ITEMS")[0] == "ResourceAlreadyExistsException"
    account.wait()
    assert personalize.describe_dataset(datasetArn=dataset)["dataset"]["datasetType"] == "ITEMS"
    assert refused(personalize.create_dataset_group, name="g")[0] == "ResourceAlreadyExistsException"
    domain = refused(account.solution, group=group, recipe="vod-top-picks")
    assert (domain[0], "domain" in domain[1]) == ("InvalidInputException", True)
    solution = account.solution(group)
    assert refused(account.train, solution=solution)[0] == "InvalidInputException"


def test_training_modes(account: Account) -> None:
    group = account.group("INTERACTIONS")
    account.import_csv(group, "INTERACTIONS", as_csv(interactions()))
    v2, v1 = account.solution(group), account.solution(group, "user-personalization")
    assert refused(account.train, solution=v2, trainingMode="UPDATE")[0] == "InvalidInputException"
    assert refused(account.train, solution=v1, trainingMode="UPDATE")[0] == "InvalidInputException"
    assert account.train(v1)["status"] == "ACTIVE"
    reason = account.train(v1, trainingMode="UPDATE")["failureReason"]
    assert reason.startswith("There should be updates to at least one dataset after last active solution version")
    account.import_csv(group, "INTERACTIONS", as_csv(interactions()[:50]), importMode="INCREMENTAL")
    assert account.train(v1, trainingMode="UPDATE")["status"] == "ACTIVE"


def test_a_training_that_is_stopped(account: Account) -> None:
    group = account.group("INTERACTIONS")
    account.import_csv(group, "INTERACTIONS", as_csv(interactions()))
    arn = account.personalize.create_solution_version(solutionArn=account.solution(group))["solutionVersionArn"]
    account.wait(SECONDS / 2)
    account.personalize.stop_solution_version_creation(solutionVersionArn=arn)
    assert account.version(arn)["status"] == "CREATE STOPPING"
    account.wait()
    assert account.version(arn)["status"] == "CREATE STOPPED"
    [listed] = [one for one in account.local.controls.state()["jobs"] if one["kind"] == "SolutionVersion"]
    assert (listed["arn"], listed["status"]) == (arn, "CREATE STOPPED")
    again = refused(account.personalize.stop_solution_version_creation, solutionVersionArn=arn)
    assert again[0] == "ResourceInUseException"
    assert refused(account.metrics, version=arn)[0] == "ResourceInUseException"


def test_names_of_versions(account: Account) -> None:
    _, version = account.trained(interactions())
    solution = account.version(version)["solutionArn"]
    named = account.train(solution, name="monday")["solutionVersionArn"]
    assert refused(account.train, solution=solution, name="monday")[0] == "ResourceAlreadyExistsException"
    account.local.api.refuse_version_names = False
    try:
        other = account.train(solution, name="monday")["solutionVersionArn"]
    finally:
        account.local.api.refuse_version_names = True
    listed = account.personalize.list_solution_versions(solutionArn=solution)["solutionVersions"]
    assert [one["solutionVersionArn"] for one in listed] == [other, named, version]
    assert "name" not in listed[0]
    assert len({arn.rpartition("/")[2] for arn in (version, named, other)}) == 3


def test_tags(account: Account) -> None:
    group = account.personalize.create_dataset_group(name="g", tags=[{"tagKey": "team", "tagValue": "news"}])
    arn = group["datasetGroupArn"]
    account.personalize.tag_resource(
        resourceArn=arn, tags=[{"tagKey": "team", "tagValue": "films"}, {"tagKey": "passed", "tagValue": "yes"}]
    )

    def tags() -> dict[str, str]:
        listed = account.personalize.list_tags_for_resource(resourceArn=arn)["tags"]
        return {tag["tagKey"]: tag["tagValue"] for tag in listed}

    assert tags() == {"team": "films", "passed": "yes"}
    account.personalize.untag_resource(resourceArn=arn, tagKeys=["passed", "other"])
    assert tags() == {"team": "films"}
    assert refused(account.personalize.list_tags_for_resource, resourceArn=arn + "x")[0] == "ResourceNotFoundException"


def test_quotas(account: Account) -> None:
    group = account.group("ITEMS")

    def start() -> None:
        account.personalize.create_dataset_import_job(
            jobName=account.name("import"),
            datasetArn=dataset_arn(group, "ITEMS"),
            dataSource={"dataLocation": f"s3://{BUCKET}/x"},
            roleArn=ROLE_ARN,
        )

    for _ in range(5):
        start()
    assert refused(start) == ("LimitExceededException", "More than 5 resources with PENDING or IN_PROGRESS status.")
    account.wait()
    start()
    for _ in range(4):
        account.personalize.create_dataset_group(name=account.name("more"))
    assert refused(account.personalize.create_dataset_group, name="sixth")[0] == "LimitExceededException"


# Campaigns, events, exports, deletions


def test_a_campaign_answers_and_is_updated(account: Account) -> None:
    group, version = account.trained(interactions())
    personalize, runtime = account.personalize, account.runtime
    arn = personalize.create_campaign(name="live", solutionVersionArn=version)["campaignArn"]
    code, message = refused(runtime.get_recommendations, campaignArn=arn, userId="u3")
    assert (code, "CREATE PENDING" in message) == ("InvalidInputException", True)
    account.wait()
    answer = runtime.get_recommendations(campaignArn=arn, userId="u3", numResults=5)
    assert [one["itemId"] for one in answer["itemList"]] == account.listed(version, "u3", numResults=5)
    assert answer["itemList"][0]["score"] > answer["itemList"][-1]["score"] > 0
    assert refused(runtime.get_recommendations, campaignArn=arn + "x", userId="u3")[0] == "ResourceNotFoundException"

    watched = personalize.create_filter(
        name="watched",
        datasetGroupArn=group,
        filterExpression="INCLUDE ItemID WHERE Interactions.EVENT_TYPE IN ($TYPE)",
    )["filterArn"]
    answer = runtime.get_recommendations(
        campaignArn=arn, userId="u3", filterArn=watched, filterValues={"TYPE": '"Watch"'}
    )
    assert {one["itemId"] for one in answer["itemList"]} == {film for user, film in interactions() if user == "u3"}
    assert refused(runtime.get_recommendations, campaignArn=arn, userId="u3", filterArn=watched)[0] == (
        "InvalidInputException"
    )

    solution = account.version(version)["solutionArn"]
    newer = account.train(solution)["solutionVersionArn"]
    personalize.update_campaign(campaignArn=arn, solutionVersionArn=newer)
    campaign = personalize.describe_campaign(campaignArn=arn)["campaign"]
    assert (campaign["status"], campaign["solutionVersionArn"]) == ("ACTIVE", version)
    update = campaign["latestCampaignUpdate"]
    assert (update["status"], update["solutionVersionArn"]) == ("CREATE PENDING", newer)
    assert refused(personalize.update_campaign, campaignArn=arn)[0] == "ResourceInUseException"
    account.wait()
    campaign = personalize.describe_campaign(campaignArn=arn)["campaign"]
    assert (campaign["latestCampaignUpdate"]["status"], campaign["solutionVersionArn"]) == ("ACTIVE", newer)
    assert personalize.list_campaigns(solutionArn=solution)["campaigns"][0]["campaignArn"] == arn


def test_a_ranking(account: Account) -> None:
    _, version = account.trained(interactions(), "personalized-ranking")
    arn = account.personalize.create_campaign(name="rank", solutionVersionArn=version)["campaignArn"]
    account.wait()
    ranked = account.runtime.get_personalized_ranking(campaignArn=arn, userId="u3", inputList=["f0", "f1", "f3", "f2"])
    assert ranked["personalizedRanking"][0]["itemId"] == "f3"
    assert {one["itemId"] for one in ranked["personalizedRanking"]} == {"f0", "f1", "f2", "f3"}


def test_events_items_and_users_are_seen_by_the_next_training(account: Account) -> None:
    group, version = account.trained(interactions())
    tracker = account.personalize.create_event_tracker(name="site", datasetGroupArn=group)
    assert tracker["eventTrackerArn"].rpartition("/")[2] != "site"
    account.wait()
    for user in range(USERS):
        if user != 3:
            account.events.put_events(
                trackingId=tracker["trackingId"],
                userId=f"u{user}",
                sessionId="s",
                eventList=[{"eventType": "Watch", "itemId": "f-live", "sentAt": 1_800_000_000}],
            )
    account.events.put_items(
        datasetArn=dataset_arn(group, "ITEMS"), items=[{"itemId": "f-live", "properties": '{"genres": "Comedy"}'}]
    )
    account.events.put_users(datasetArn=dataset_arn(group, "USERS"), users=[{"userId": "u-live"}])
    assert "f-live" not in account.listed(version, "u3", numResults=50)
    version = account.train(account.version(version)["solutionArn"])["solutionVersionArn"]
    assert "f-live" in account.listed(version, "u3", numResults=5)
    assert (
        refused(
            account.events.put_events,
            trackingId="x",
            sessionId="s",
            eventList=[{"eventType": "Watch", "sentAt": 1_800_000_000}],
        )[0]
        == "InvalidInputException"
    )

    def exported(kind: str, mode: str) -> list[str]:
        account.personalize.create_dataset_export_job(
            jobName=account.name("export"),
            datasetArn=dataset_arn(group, kind),
            ingestionMode=mode,
            roleArn=ROLE_ARN,
            jobOutput={"s3DataDestination": {"path": f"s3://{BUCKET}/{mode}/"}},
        )
        account.wait()
        [found] = account.s3.list_objects_v2(Bucket=BUCKET, Prefix=f"{mode}/{kind.lower()}")["Contents"]
        return account.s3.get_object(Bucket=BUCKET, Key=found["Key"])["Body"].read().decode().splitlines()

    assert exported("ITEMS", "PUT") == ["ITEM_ID,GENRES", "f-live,Comedy"]
    bulk, put, everything = (exported("INTERACTIONS", mode) for mode in ("BULK", "PUT", "ALL"))
    assert bulk == as_csv(interactions()).splitlines()
    assert (put[1], len(put)) == ("u0,f-live,1800000000,Watch", USERS)
    assert everything == bulk + put[1:]


def test_users_who_must_be_forgotten(account: Account) -> None:
    group, version = account.trained(interactions())
    account.import_csv(group, "USERS", USERS_CSV)
    account.s3.put_object(Bucket=BUCKET, Key="forget/users.csv", Body=b"USER_ID\nu3\nnobody\n")
    arn = account.personalize.create_data_deletion_job(
        jobName="forget",
        datasetGroupArn=group,
        dataSource={"dataLocation": f"s3://{BUCKET}/forget/users.csv"},
        roleArn=ROLE_ARN,
    )["dataDeletionJobArn"]
    assert (
        account.personalize.describe_data_deletion_job(dataDeletionJobArn=arn)["dataDeletionJob"]["status"] == "PENDING"
    )
    account.wait()
    job = account.personalize.describe_data_deletion_job(dataDeletionJobArn=arn)["dataDeletionJob"]
    assert job["status"] == "COMPLETED"
    assert job["numDeleted"] == sum(user == "u3" for user, _ in interactions()) + 1
    version = account.train(account.version(version)["solutionArn"])["solutionVersionArn"]
    # Nobody knows them any more: they get what a stranger gets.
    assert account.listed(version, "u3") == account.listed(version, "stranger")


# The end


def test_what_is_in_use_is_not_deleted(account: Account) -> None:
    personalize = account.personalize
    group, version = account.trained(interactions())
    solution = account.version(version)["solutionArn"]
    schema = personalize.describe_dataset(datasetArn=dataset_arn(group, "ITEMS"))["dataset"]["schemaArn"]
    campaign = personalize.create_campaign(name="live", solutionVersionArn=version)["campaignArn"]
    account.wait()
    code, message = refused(personalize.delete_dataset_group, datasetGroupArn=group)
    assert (code, solution in message) == ("ResourceInUseException", True)
    assert refused(personalize.delete_schema, schemaArn=schema)[0] == "ResourceInUseException"
    code, message = refused(personalize.delete_solution, solutionArn=solution)
    assert (code, campaign in message) == ("ResourceInUseException", True)
    personalize.delete_campaign(campaignArn=campaign)
    assert personalize.describe_campaign(campaignArn=campaign)["campaign"]["status"] == "DELETE PENDING"
    account.wait()
    assert refused(personalize.describe_campaign, campaignArn=campaign)[0] == "ResourceNotFoundException"
    personalize.create_solution_version(solutionArn=solution)
    assert refused(personalize.delete_solution, solutionArn=solution)[0] == "ResourceInUseException"
    account.wait()
    personalize.delete_solution(solutionArn=solution)
    account.wait()
    assert refused(account.version, arn=version)[0] == "ResourceNotFoundException"
    for kind in SCHEMAS:
        personalize.delete_dataset(datasetArn=dataset_arn(group, kind))
    account.wait()
    personalize.delete_schema(schemaArn=schema)
    personalize.delete_dataset_group(datasetGroupArn=group)
    account.wait()
    assert personalize.list_dataset_groups()["datasetGroups"] == []


# Recommenders, and metrics of what came of it


def test_a_recommender(account: Account) -> None:
    personalize, recipe = account.personalize, "arn:aws:personalize:::recipe/aws-vod-top-picks"
    plain = account.group("INTERACTIONS")
    code, _ = refused(personalize.create_recommender, name="r", datasetGroupArn=plain, recipeArn=recipe)
    assert code == "InvalidInputException"
    group = account.group("INTERACTIONS", domain="VIDEO_ON_DEMAND")
    account.import_csv(group, "INTERACTIONS", as_csv(interactions()))
    arn = personalize.create_recommender(name="r", datasetGroupArn=group, recipeArn=recipe)["recommenderArn"]

    def status() -> str:
        return personalize.describe_recommender(recommenderArn=arn)["recommender"]["status"]

    account.wait()
    listed = account.runtime.get_recommendations(recommenderArn=arn, userId="u3", numResults=3)["itemList"]
    assert {genre(int(one["itemId"][1:])) for one in listed} == {"Western"}
    personalize.update_recommender(recommenderArn=arn, recommenderConfig={"minRecommendationRequestsPerSecond": 2})
    account.wait()
    described = personalize.describe_recommender(recommenderArn=arn)["recommender"]
    assert described["recommenderConfig"] == {"minRecommendationRequestsPerSecond": 2}
    assert described["latestRecommenderUpdate"]["status"] == "ACTIVE"
    seen = [status()]
    for operation in (personalize.stop_recommender, personalize.start_recommender):
        operation(recommenderArn=arn)
        seen.append(status())
        account.wait(SECONDS / 2)
        seen.append(status())
        account.wait()
        seen.append(status())
    assert seen == [
        "ACTIVE",
        "STOP PENDING",
        "STOP IN_PROGRESS",
        "INACTIVE",
        "START PENDING",
        "START IN_PROGRESS",
        "ACTIVE",
    ]
    assert refused(personalize.start_recommender, recommenderArn=arn)[0] == "ResourceInUseException"
    recipes = [one["name"] for one in personalize.list_recipes(domain="VIDEO_ON_DEMAND")["recipes"]]
    assert "aws-vod-top-picks" in recipes


def test_a_metric_attribution(account: Account) -> None:
    group = account.group("INTERACTIONS")
    metric = {"eventType": "Watch", "metricName": "watched", "expression": "SAMPLECOUNT()"}
    arn = account.personalize.create_metric_attribution(
        name="m", datasetGroupArn=group, metrics=[metric], metricsOutputConfig={"roleArn": ROLE_ARN}
    )["metricAttributionArn"]
    account.wait()
    bought = metric | {"metricName": "bought"}
    account.personalize.update_metric_attribution(
        metricAttributionArn=arn, addMetrics=[bought], removeMetrics=["watched"]
    )
    listed = account.personalize.list_metric_attribution_metrics(metricAttributionArn=arn)["metrics"]
    assert listed == [bought]
    account.personalize.delete_metric_attribution(metricAttributionArn=arn)
    account.wait()
    assert account.personalize.list_metric_attributions()["metricAttributions"] == []


@pytest.mark.skipif(
    "UpdateSolution" not in service_model().operation_names, reason="this botocore's model has no UpdateSolution"
)
def test_a_solution_is_updated(account: Account) -> None:
    personalize = account.personalize
    group = account.group("ITEMS")
    solution = account.solution(group, performAutoTraining=True)
    personalize.update_solution(solutionArn=solution, performAutoTraining=False)
    account.wait()
    described = personalize.describe_solution(solutionArn=solution)["solution"]
    assert (described["performAutoTraining"], described["latestSolutionUpdate"]["status"]) == (False, "ACTIVE")


def test_a_dataset_is_updated(account: Account) -> None:
    personalize = account.personalize
    group = account.group("ITEMS")
    year = {"name": "YEAR", "type": ["null", "int"]}
    fields = json.loads(SCHEMAS["ITEMS"])["fields"]
    wider = personalize.create_schema(name="wider", schema=avro("Items", *fields, year))["schemaArn"]
    other = personalize.create_schema(name="other", schema=avro("Items", "ITEM_ID", year))["schemaArn"]
    arn = dataset_arn(group, "ITEMS")
    code, message = refused(personalize.update_dataset, datasetArn=arn, schemaArn=other)
    assert (code, "GENRES" in message) == ("InvalidInputException", True)
    personalize.update_dataset(datasetArn=arn, schemaArn=wider)
    account.wait()
    dataset = personalize.describe_dataset(datasetArn=arn)["dataset"]
    assert (dataset["schemaArn"], dataset["latestDatasetUpdate"]["status"]) == (wider, "ACTIVE")
    assert account.import_csv(group, "ITEMS", "ITEM_ID,GENRES,YEAR\nf,Comedy,1999\n")["status"] == "ACTIVE"


def test_creations_that_fail_on_request(account: Account) -> None:
    group = account.group("INTERACTIONS")
    account.local.controls.add_fault("fail_job", operation="CreateDatasetImportJob", reason="Out of luck.")
    job = account.import_csv(group, "INTERACTIONS", as_csv(interactions()))
    assert (job["status"], job["failureReason"]) == ("CREATE FAILED", "Out of luck.")
    state = account.local.controls.state()
    [listed] = [one for one in state["jobs"] if one["kind"] == "DatasetImportJob"]
    assert (listed["jobName"], listed["status"]) == (job["jobName"], "CREATE FAILED")


def test_what_there_is_outlasts_a_restart(tmp_path: Path) -> None:
    with LocalPersonalize(port=0, job_seconds=SECONDS, empty=True, state=tmp_path) as server:
        assert f"everything is kept in {tmp_path} when it ends)" in introduction(server)
        server.controls.set_clock(stopped=True)
        account = Account(server)
        group, version = account.trained(interactions())
        account.personalize.tag_resource(resourceArn=version, tags=[{"tagKey": "passed", "tagValue": "yes"}])
        before, metrics = account.listed(version, "u3"), account.metrics(version)
        unfinished = account.personalize.create_solution_version(solutionArn=account.solution(group))
    # Every stand-in of a process has the same S3.
    with LocalPersonalize(port=0, empty=True) as server:
        for found in server.s3("us-east-1").list_objects_v2(Bucket=BUCKET)["Contents"]:
            server.s3("us-east-1").delete_object(Bucket=BUCKET, Key=found["Key"])
    with LocalPersonalize(port=0, job_seconds=SECONDS, empty=True, state=tmp_path) as server:
        server.controls.set_clock(stopped=True)
        account = Account(server)
        account.number = 1_000
        assert (account.listed(version, "u3"), account.metrics(version)) == (before, metrics)
        assert account.version(unfinished["solutionVersionArn"])["status"] == "CREATE FAILED"
        assert account.personalize.list_tags_for_resource(resourceArn=version)["tags"][0]["tagKey"] == "passed"
        assert account.train(account.version(version)["solutionArn"])["status"] == "ACTIVE"
        assert account.s3.list_objects_v2(Bucket=BUCKET, Prefix="import-")["KeyCount"] >= 1
    (tmp_path / "current" / "version.txt").write_text("0.0.1")
    with pytest.raises(DataError, match=r"got 0\.0\.1's"):
        LocalPersonalize(port=0, empty=True, state=tmp_path).start()


def test_an_update_that_fails_changes_nothing(account: Account) -> None:
    _, version = account.trained(interactions())
    arn = account.personalize.create_campaign(name="live", solutionVersionArn=version)["campaignArn"]
    account.wait()
    account.local.controls.add_fault("fail_job", operation="UpdateCampaign", reason="Out of luck.")
    account.personalize.update_campaign(campaignArn=arn, minProvisionedTPS=7)
    account.wait()
    campaign = account.personalize.describe_campaign(campaignArn=arn)["campaign"]
    assert (campaign["status"], campaign["minProvisionedTPS"]) == ("ACTIVE", 1)
    update = campaign["latestCampaignUpdate"]
    assert (update["status"], update["failureReason"], update["minProvisionedTPS"]) == (
        "CREATE FAILED",
        "Out of luck.",
        7,
    )


def test_every_second_call_fails_on_request(account: Account) -> None:
    account.local.controls.add_fault("error", times=3, between=1)
    told = []
    for _ in range(8):
        try:
            account.personalize.list_schemas()
            told.append("ok")
        except ClientError as error:
            told.append(error.response["Error"]["Code"])
    failed = "InternalFailure"
    assert told == [failed, "ok", failed, "ok", failed, "ok", "ok", "ok"]
