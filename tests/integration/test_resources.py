"""The operators of resources against the stand-in: what is in an account afterwards, and what is refused."""

from __future__ import annotations

import json

import boto3
import pytest

from airflow_provider_personalize.compat import AirflowFailException
from airflow_provider_personalize.exceptions import InvalidRequestError, ResourceConflictError, ServiceError
from airflow_provider_personalize.operators import resources as operators
from airflow_provider_personalize.sensors.resources import PersonalizeResourceSensor
from tests.integration.test_jobs import ROLE, context, run_through

BASE = "arn:aws:personalize:us-east-1:123456789012:"
RECIPE = "arn:aws:personalize:::recipe/aws-user-personalization-v2"
modes = pytest.mark.parametrize("deferrable", [False, True], ids=["sync", "deferred"])


def avro(name, *fields):
    return {
        "type": "record",
        "name": name,
        "namespace": "com.amazonaws.personalize.schema",
        "fields": [{"name": field, "type": "string"} if isinstance(field, str) else field for field in fields],
        "version": "1.0",
    }


GENRES = {"name": "GENRES", "type": ["string", "null"], "categorical": True}
YEAR = {"name": "YEAR", "type": ["int", "null"]}
ITEMS = avro("Items", "ITEM_ID", GENRES)


@pytest.fixture
def account(local):
    return boto3.client("personalize", region_name="us-east-1")


def run(operator, ctx=None, **changes):
    arguments = {"task_id": "make", "wait_for_completion": True, "poll_interval": 0.05, "timeout": 30} | changes
    return run_through(getattr(operators, f"Personalize{operator}Operator")(**arguments), ctx or context())


def make(noun, name="shop", **changes):
    return run(f"Create{noun}", name=name, **changes)


def delete(arn, **changes):
    return run("DeleteResource", resource_arn=arn, **changes)


@pytest.fixture
def group(account):
    return make("DatasetGroup")


def metrics(**expressions):
    return [{"eventType": "watch", "metricName": name, "expression": word} for name, word in expressions.items()]


OUTPUT = {"roleArn": ROLE, "s3DataDestination": {"path": "s3://personalize-local/metrics/"}}


def requests(local, group):
    """What to make of each kind, and another definition of it."""
    version = local.solution_version_arns["user-personalization"]
    another = local.solution_version_arns["personalized-ranking"]
    in_group = {"dataset_group_arn": group}
    return {
        "Schema": ({"schema": ITEMS}, {"schema": avro("Items", "ITEM_ID", GENRES, YEAR)}),
        "DatasetGroup": ({"tags": {"team": "shop"}}, {"domain": "ECOMMERCE"}),
        "Solution": (
            in_group | {"recipe_arn": RECIPE, "solution_config": {"eventValueThreshold": "0.5"}},
            in_group | {"recipe_arn": RECIPE, "event_type": "watch"},
        ),
        "EventTracker": (in_group, None),
        "Campaign": (
            {"solution_version_arn": version, "min_provisioned_tps": 1},
            {"solution_version_arn": another, "min_provisioned_tps": "2"},
        ),
        "MetricAttribution": (
            in_group | {"metrics": metrics(watched="SUM(DatasetType.INTERACTIONS)"), "metrics_output_config": OUTPUT},
            in_group | {"metrics": metrics(watched="COUNT(*)"), "metrics_output_config": OUTPUT},
        ),
    }


NOUNS = ["Schema", "DatasetGroup", "Solution", "EventTracker", "Campaign", "MetricAttribution"]


@modes
@pytest.mark.parametrize("noun", NOUNS)
def test_made_twice_is_one_and_another_definition_is_told(local, account, group, noun, deferrable):
    same, other = requests(local, group)[noun]
    arn = make(noun, "one", deferrable=deferrable, **same)
    assert make(noun, "one", deferrable=deferrable, **same) == arn
    key = {"EventTracker": "event_trackers", "MetricAttribution": "metric_attributions"}.get(noun)
    listing = getattr(account, f"list_{key}" if key else f"list_{noun_words(noun)}s")()
    [found] = [value for value in listing.values() if isinstance(value, list)]
    assert [one["name"] for one in found].count("one") == 1
    with pytest.raises(ResourceConflictError, match="if_exists='fail'"):
        make(noun, "one", if_exists="fail", **same)
    if other:
        with pytest.raises(ResourceConflictError, match="another definition") as caught:
            make(noun, "one", **other)
        assert isinstance(caught.value, AirflowFailException)
        assert caught.value.differences
        assert all(field in str(caught.value) for field in caught.value.differences)


def noun_words(noun):
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in noun).lstrip("_")


def dataset(group, kind="ITEMS", name="items", schema=ITEMS, **changes):
    schema_arn = make("Schema", f"{name}-{len(schema['fields'])}", schema=schema)
    return make("Dataset", name, dataset_group_arn=group, schema_arn=schema_arn, dataset_type=kind, **changes)


def test_a_second_dataset_of_a_type_is_an_error(account, group):
    arn = dataset(group)
    assert dataset(group, "items") == arn
    with pytest.raises(ResourceConflictError, match="name: that one has 'items', this task asks for 'films'"):
        dataset(group, name="films")
    assert len(account.list_datasets(datasetGroupArn=group)["datasets"]) == 1


@modes
def test_a_dataset_gets_a_new_schema(account, group, deferrable):
    arn = dataset(group)
    assert (
        dataset(group, schema=avro("Items", "ITEM_ID", GENRES, YEAR), if_exists="update", deferrable=deferrable) == arn
    )
    described = account.describe_dataset(datasetArn=arn)["dataset"]
    assert described["schemaArn"].endswith("schema/items-3")
    assert described["latestDatasetUpdate"]["status"] == "ACTIVE"


@modes
@pytest.mark.parametrize("lost", [False, True], ids=["undisturbed", "killed"])
def test_a_campaign_is_brought_in_line(local, account, group, deferrable, lost):
    same, other = requests(local, group)["Campaign"]
    recipe = local.solution_version_arns["user-personalization"]
    other = other | {"solution_version_arn": recipe}
    arn = make("Campaign", **same)
    if lost:
        # An earlier try has asked for the update already: it is waited for, not asked for again.
        account.update_campaign(campaignArn=arn, minProvisionedTPS=2)
    assert make("Campaign", if_exists="update", deferrable=deferrable, **other) == arn
    campaign = account.describe_campaign(campaignArn=arn)["campaign"]
    assert (campaign["minProvisionedTPS"], campaign["latestCampaignUpdate"]["status"]) == (2, "ACTIVE")


def test_metrics_and_automatic_training_are_brought_in_line(local, account, group):
    for noun in ("MetricAttribution", "Solution"):
        same, _ = requests(local, group)[noun]
        arn = make(noun, **same)
        if noun == "MetricAttribution":
            make(noun, if_exists="update", **same | {"metrics": metrics(clicked="SUM(DatasetType.INTERACTIONS)")})
            listed = account.list_metric_attribution_metrics(metricAttributionArn=arn)["metrics"]
            assert [one["metricName"] for one in listed] == ["clicked"]
        else:
            assert account.describe_solution(solutionArn=arn)["solution"]["performAutoTraining"] is False
            wanted = {"autoTrainingConfig": {"schedulingExpression": "rate(7 days)"}}
            changed = same | {"perform_auto_training": True, "solution_config": same["solution_config"] | wanted}
            make(noun, if_exists="update", **changed)
            solution = account.describe_solution(solutionArn=arn)["solution"]
            assert solution["performAutoTraining"] is True
            assert solution["solutionConfig"] == {"eventValueThreshold": "0.5"} | wanted


def test_what_no_update_can_change_is_told(local, group):
    same, other = requests(local, group)["Solution"]
    make("Solution", **same)
    with pytest.raises(ResourceConflictError, match="cannot change eventType of a solution"):
        make("Solution", if_exists="update", **other)


@pytest.mark.parametrize(
    ("noun", "changes", "told"),
    [
        ("Schema", {"schema": avro("Items", "ITEM_ID")}, "at least one field beside"),
        ("Schema", {"schema": ITEMS | {"namespace": "shop"}}, "namespace"),
        ("Solution", {"dataset_group_arn": BASE + "dataset-group/g", "recipe_arn": "aws-ecomm-popular"}, "of a domain"),
        ("Recommender", {"dataset_group_arn": BASE + "dataset-group/g", "recipe_arn": RECIPE}, "recipe of a domain"),
        ("DatasetGroup", {"name": "my shop"}, "name: expected 1 to 63"),
    ],
)
def test_what_cannot_be_right_is_refused_at_once(noun, changes, told):
    with pytest.raises(InvalidRequestError, match=told):
        getattr(operators, f"PersonalizeCreate{noun}Operator")(**{"task_id": "make", "name": "shop"} | changes)


def test_a_campaign_needs_a_version_that_is_active(local, account):
    solution = local.solution_arns["user-personalization"]
    local.controls.set_clock(stopped=True)
    version = account.create_solution_version(solutionArn=solution)["solutionVersionArn"]
    with pytest.raises(InvalidRequestError, match="got one that is CREATE") as caught:
        make("Campaign", solution_version_arn=version)
    assert caught.value.may_pass
    assert account.list_campaigns()["campaigns"] == []


@modes
def test_deleted_in_order_until_all_is_gone(local, account, group, deferrable):
    schema = make("Schema", "items-2", schema=ITEMS)
    held = dataset(group)
    tracker = make("EventTracker", dataset_group_arn=group)
    for arn, ways in ((schema, [held]), (group, [held, tracker])):
        with pytest.raises(InvalidRequestError) as caught:
            delete(arn)
        assert all(way in str(caught.value) for way in ways)
    for arn in (tracker, held, schema, group):
        assert delete(arn, deferrable=deferrable) == arn
        assert delete(arn, deferrable=deferrable) == arn
        assert run_through(PersonalizeResourceSensor(task_id="wait", resource_arn=arn, until="gone"), context()) == arn
        with pytest.raises(ServiceError, match="does not exist"):
            delete(arn, if_missing="fail")
    names = [one["name"] for one in account.list_dataset_groups()["datasetGroups"]]
    assert "shop" not in names


def test_a_solution_goes_after_its_campaigns(local, account):
    campaign = make("Campaign", solution_version_arn=local.solution_version_arns["user-personalization"])
    with pytest.raises(InvalidRequestError, match="campaign/shop"):
        delete(local.solution_arns["user-personalization"])
    assert delete(campaign) == campaign
    assert account.list_campaigns()["campaigns"] == []


def test_a_version_and_a_job_cannot_be_deleted():
    with pytest.raises(InvalidRequestError, match="can be deleted, got a solution version"):
        operators.PersonalizeDeleteResourceOperator(task_id="t", resource_arn=BASE + "solution/s/1")


@modes
def test_a_recommender_is_stopped_and_started(account, deferrable):
    group = make("DatasetGroup", "video", domain="VIDEO_ON_DEMAND")
    moment = {"name": "TIMESTAMP", "type": "long"}
    dataset(group, "INTERACTIONS", "seen", avro("Interactions", "USER_ID", "ITEM_ID", moment, "EVENT_TYPE"))
    recipe = "arn:aws:personalize:::recipe/aws-vod-most-popular"
    arn = BASE + "recommender/popular"
    import_interactions(account, group)
    assert make("Recommender", "popular", dataset_group_arn=group, recipe_arn=recipe) == arn
    for name, status in (("Stop", "INACTIVE"), ("Stop", "INACTIVE"), ("Start", "ACTIVE"), ("Start", "ACTIVE")):
        assert run(f"{name}Recommender", resource_arn=arn, deferrable=deferrable) == arn
        assert account.describe_recommender(recommenderArn=arn)["recommender"]["status"] == status


def import_interactions(account, group):
    s3 = boto3.client("s3", region_name="us-east-1")
    lines = [f"u{number % 50},f{number % 37},{1_700_000_000 + number},watch" for number in range(1_200)]
    body = "\n".join(["USER_ID,ITEM_ID,TIMESTAMP,EVENT_TYPE", *lines, ""]).encode()
    s3.put_object(Bucket="personalize-local", Key="rows/rows.csv", Body=body)
    job = account.create_dataset_import_job(
        jobName="rows",
        datasetArn=group.replace("dataset-group", "dataset") + "/INTERACTIONS",
        dataSource={"dataLocation": "s3://personalize-local/rows/"},
        roleArn=ROLE,
    )["datasetImportJobArn"]
    run_through(PersonalizeResourceSensor(task_id="wait", resource_arn=job, poke_interval=0.1, timeout=30), context())


def test_a_filter_is_made_once(local, account):
    group = next(one["datasetGroupArn"] for one in account.list_dataset_groups()["datasetGroups"])
    expression = 'EXCLUDE ItemID WHERE Interactions.EVENT_TYPE IN ("*")'
    arn = make("Filter", "unseen", dataset_group_arn=group, filter_expression=expression)
    assert make("Filter", "unseen", dataset_group_arn=group, filter_expression=expression) == arn
    with pytest.raises(ResourceConflictError, match="filterExpression"):
        make("Filter", "unseen", dataset_group_arn=group, filter_expression=expression.replace("EXCLUDE", "INCLUDE"))
    assert delete(arn) == arn
    assert arn not in json.dumps(account.list_filters()["Filters"], default=str)
