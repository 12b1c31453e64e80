"""Import, export and deletion jobs against the stand-in: what is on the service and in the bucket afterwards."""

from __future__ import annotations

import inspect
import json
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from airflow_provider_personalize.compat import AirflowFailException, TaskDeferred
from airflow_provider_personalize.exceptions import (
    InvalidRequestError,
    JobConflictError,
    JobFailedError,
    PersonalizeError,
    ServiceError,
)
from airflow_provider_personalize.hooks.personalize import PersonalizeHook
from airflow_provider_personalize.operators.data import (
    PersonalizeCreateDataDeletionJobOperator,
    PersonalizeCreateDatasetExportJobOperator,
    PersonalizeCreateDatasetImportJobOperator,
)
from tests.integration.test_jobs import both_halves, context, event_of, jobs, resume, run_through

ROLE = "arn:aws:iam::123456789012:role/personalize"
BUCKET = "personalize-local"
ROWS = "USER_ID,ITEM_ID,TIMESTAMP\n" + "".join(f"u{n % 40},f{n % 9},{1_700_000_000 + n}\n" for n in range(200))
FIELDS = {"USER_ID": "string", "ITEM_ID": "string", "TIMESTAMP": "long"}


@pytest.fixture
def shop(local, monkeypatch):
    """A dataset group with a dataset of interactions, both ACTIVE, and files to import."""
    client = PersonalizeHook(aws_conn_id=None, region_name=local.region).conn
    schema = {
        "type": "record",
        "name": "Interactions",
        "namespace": "com.amazonaws.personalize.schema",
        "fields": [{"name": name, "type": kind} for name, kind in FIELDS.items()],
        "version": "1.0",
    }
    group = client.create_dataset_group(name="shop")["datasetGroupArn"]
    _until_active(lambda: client.describe_dataset_group(datasetGroupArn=group)["datasetGroup"])
    schema_arn = client.create_schema(name="interactions", schema=json.dumps(schema))["schemaArn"]
    dataset = client.create_dataset(
        name="interactions", schemaArn=schema_arn, datasetGroupArn=group, datasetType="INTERACTIONS"
    )["datasetArn"]
    _until_active(lambda: client.describe_dataset(datasetArn=dataset)["dataset"])
    s3 = local.s3(local.region)
    for key, body in (("rows/a.csv", ROWS), ("forget/users.csv", "USER_ID\nu1\nu2\n"), ("bad/a.csv", "USER_ID\nu1\n")):
        s3.put_object(Bucket=BUCKET, Key=key, Body=body.encode())
    return SimpleNamespace(local=local, client=client, s3=s3, group=group, dataset=dataset, schema=schema_arn)


def _until_active(describe):
    until = time.monotonic() + 20
    while describe()["status"] != "ACTIVE":
        assert time.monotonic() < until
        time.sleep(0.02)


COMMON = {"task_id": "job", "role_arn": ROLE, "poll_interval": 0.1}


def importing(shop, **changes):
    arguments = {"dataset_arn": shop.dataset, "data_location": f"s3://{BUCKET}/rows/", **COMMON, **changes}
    return PersonalizeCreateDatasetImportJobOperator(**arguments)


def exporting(shop, **changes):
    arguments = {"dataset_arn": shop.dataset, "output_uri": f"s3://{BUCKET}/out/", "ingestion_mode": "ALL"}
    return PersonalizeCreateDatasetExportJobOperator(**{**arguments, **COMMON, **changes})


def forgetting(shop, **changes):
    arguments = {"dataset_group_arn": shop.group, "data_location": f"s3://{BUCKET}/forget/", **COMMON, **changes}
    return PersonalizeCreateDataDeletionJobOperator(**arguments)


every_kind = pytest.mark.parametrize("make", [importing, exporting, forgetting])


def exported(shop):
    """The rows of the dataset, as an export writes them."""
    name = f"look-{time.monotonic_ns()}"
    exporting(shop, output_uri=f"s3://{BUCKET}/{name}/", wait_for_completion=True).execute(context(run_id=name))
    [key] = [one["Key"] for one in shop.s3.list_objects_v2(Bucket=BUCKET, Prefix=f"{name}/")["Contents"]]
    return shop.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read().decode().splitlines()[1:]


@both_halves
def test_rows_come_in_go_out_and_are_forgotten(shop, deferrable):
    waits = {"wait_for_completion": True, "deferrable": deferrable}
    arn = run_through(importing(shop, **waits, tags={"team": "shop"}), context())
    assert arn.startswith("arn:aws:personalize:us-east-1:123456789012:dataset-import-job/nightly-recommend-")
    assert shop.client.describe_dataset_import_job(datasetImportJobArn=arn)["datasetImportJob"]["status"] == "ACTIVE"
    assert shop.client.list_tags_for_resource(resourceArn=arn)["tags"] == [{"tagKey": "team", "tagValue": "shop"}]
    assert sorted(exported(shop)) == sorted(ROWS.splitlines()[1:])

    arn = run_through(forgetting(shop, **waits), context())
    job = shop.client.describe_data_deletion_job(dataDeletionJobArn=arn)["dataDeletionJob"]
    assert job["status"] == "COMPLETED"
    assert {row.split(",")[0] for row in exported(shop)} == {f"u{n}" for n in range(40)} - {"u1", "u2"}


@pytest.mark.parametrize(("mode", "times"), [("FULL", 1), ("INCREMENTAL", 2)])
def test_an_import_replaces_or_adds(shop, mode, times):
    importing(shop, wait_for_completion=True).execute(context())
    importing(shop, wait_for_completion=True, import_mode=mode).execute(context(run_id="manual__2"))
    assert len(exported(shop)) == times * 200


def test_the_modes_and_the_key_arrive(shop):
    arn = importing(shop, import_mode="INCREMENTAL", publish_attribution_metrics_to_s3=True).execute(context())
    described = shop.client.describe_dataset_import_job(datasetImportJobArn=arn)["datasetImportJob"]
    assert (described["importMode"], described["publishAttributionMetricsToS3"]) == ("INCREMENTAL", True)
    key = "arn:aws:kms:us-east-1:123456789012:key/a"
    arn = exporting(shop, ingestion_mode="BULK", output_kms_key_arn=key).execute(context())
    described = shop.client.describe_dataset_export_job(datasetExportJobArn=arn)["datasetExportJob"]
    assert described["ingestionMode"] == "BULK"
    assert described["jobOutput"]["s3DataDestination"] == {"path": f"s3://{BUCKET}/out/", "kmsKeyArn": key}


@every_kind
def test_a_retry_finds_its_job_and_another_run_makes_its_own(shop, make):
    arns = {make(shop).execute(context(try_number=n)) for n in (1, 2, 3)}
    assert [job["arn"] for job in jobs(shop.local)] == list(arns)
    make(shop).execute(context(run_id="manual__2"))
    assert len(jobs(shop.local)) == 2


@every_kind
@pytest.mark.parametrize(("fault", "if_job_exists"), [("drop_after", "reuse"), ("drop_after", "new")])
def test_an_answer_that_is_lost_makes_no_second_job(shop, make, fault, if_job_exists):
    operator = make(shop, if_job_exists=if_job_exists)
    shop.local.controls.add_fault(fault, operation=operator.resource_kind.create_operation)
    arn = operator.execute(context())
    assert [job["arn"] for job in jobs(shop.local)] == [arn]


@every_kind
def test_a_task_that_is_killed_while_deferred_finds_its_job(shop, make):
    """The retry begins anew, once while the job runs and once between the event and the resume."""
    shop.local.controls.set_clock(stopped=True)
    with pytest.raises(TaskDeferred) as first:
        make(shop, deferrable=True).execute(context())
    with pytest.raises(TaskDeferred) as second:
        make(shop, deferrable=True).execute(context(try_number=2))
    shop.local.controls.set_clock(stopped=False)
    event_of(first.value.trigger)
    arn = make(shop, deferrable=True).execute(context(try_number=3))
    operator = make(shop, deferrable=True)
    assert resume(operator, second.value, event_of(second.value.trigger), context()) == arn
    assert [job["arn"] for job in jobs(shop.local)] == [arn]


def test_the_same_name_for_another_mode_is_a_conflict(shop):
    importing(shop, job_name="nightly").execute(context())
    with pytest.raises(JobConflictError) as caught:
        importing(shop, job_name="nightly", import_mode="INCREMENTAL").execute(context())
    assert caught.value.differences == {"importMode": ("FULL", "INCREMENTAL")}


def test_eight_mapped_imports_share_a_quota_of_five(shop, monkeypatch):
    monkeypatch.setattr(shop.local.api, "job_seconds", 1)
    operators = [importing(shop, deferrable=True, poll_interval=0.5) for _ in range(8)]
    # Airflow 2 wraps execute() in a check that works on the main thread only.
    execute = inspect.unwrap(type(operators[0]).execute)
    for operator in operators:
        monkeypatch.setattr(operator, "execute", execute.__get__(operator), raising=False)
    with ThreadPoolExecutor(8) as pool:
        tasks = [pool.submit(run_through, one, context(map_index=n)) for n, one in enumerate(operators)]
    arns = {task.result() for task in tasks}
    state = shop.local.controls.state()
    assert sorted((job["arn"], job["status"]) for job in state["jobs"]) == sorted((arn, "ACTIVE") for arn in arns)
    assert len(arns) == 8
    assert state["most_running"]["DatasetImportJob"] <= 5
    calls = Counter(c["jobName"] for c in state["create_calls"] if c["operation"] == "CreateDatasetImportJob")
    assert len(calls) == 8
    assert max(calls.values()) <= 10


@both_halves
def test_a_failure_names_the_reason_and_what_to_do(shop, deferrable):
    operator = importing(shop, data_location=f"s3://{BUCKET}/bad/", wait_for_completion=True, deferrable=deferrable)
    with pytest.raises(JobFailedError, match=r"^Input CSV is missing the following columns: \[ITEM_ID") as caught:
        run_through(operator, context())
    assert "in the header of every file" in str(caught.value)


class TestParents:
    """What a job is made from has to be ACTIVE, and nothing is created otherwise."""

    def young_dataset(self, shop):
        client = shop.client
        group = client.create_dataset_group(name="young")["datasetGroupArn"]
        _until_active(lambda: client.describe_dataset_group(datasetGroupArn=group)["datasetGroup"])
        shop.local.controls.add_fault("never_finish", operation="CreateDataset")
        return client.create_dataset(
            name="interactions", schemaArn=shop.schema, datasetGroupArn=group, datasetType="INTERACTIONS"
        )["datasetArn"]

    @pytest.mark.parametrize("make", [importing, exporting])
    def test_a_dataset_that_is_being_made(self, shop, make):
        dataset = self.young_dataset(shop)
        with pytest.raises(InvalidRequestError, match="Expected a dataset that is ACTIVE, got one that is CREATE") as e:
            make(shop, dataset_arn=dataset).execute(context())
        assert e.value.may_pass
        assert not isinstance(e.value, AirflowFailException)
        assert dataset in str(e.value)
        assert jobs(shop.local) == [] or all(job["kind"] == "Dataset" for job in jobs(shop.local))
        assert not shop.client.list_dataset_import_jobs(datasetArn=dataset)["datasetImportJobs"]

    def test_a_group_that_has_failed(self, shop):
        shop.local.controls.add_fault("fail_job", operation="CreateDatasetGroup", reason="no")
        group = shop.client.create_dataset_group(name="young")["datasetGroupArn"]
        until = time.monotonic() + 20
        while shop.client.describe_dataset_group(datasetGroupArn=group)["datasetGroup"]["status"] != "CREATE FAILED":
            assert time.monotonic() < until
            time.sleep(0.02)
        with pytest.raises(AirflowFailException, match="ACTIVE, got one that is CREATE FAILED"):
            forgetting(shop, dataset_group_arn=group).execute(context())

    @every_kind
    def test_none_at_all(self, shop, make):
        arns = {"dataset_arn": shop.dataset.replace("/shop/", "/none/")}
        if make is forgetting:
            arns = {"dataset_group_arn": shop.group + "-none"}
        with pytest.raises(ServiceError, match="ResourceNotFoundException"):
            make(shop, **arns).execute(context())
        assert jobs(shop.local) == []

    def test_one_that_may_not_be_looked_at_is_left_to_the_service(self, shop, log):
        shop.local.controls.add_fault("deny", operation="DescribeDataset")
        arn = importing(shop).execute(context())
        assert [job["arn"] for job in jobs(shop.local)] == [arn]
        assert "left to the service" in log()


@pytest.mark.parametrize(("mode", "told"), [("INCREMENTAL", True), ("FULL", False)])
def test_an_incremental_import_is_told_not_to_reach_segments(shop, mode, told, log):
    importing(shop, import_mode=mode).execute(context())
    assert ("Batch segment jobs use only interactions of FULL imports" in log()) is told


@pytest.mark.parametrize(
    ("make", "wrong", "words"),
    [
        (importing, {"dataset_arn": "arn:aws:personalize:us-east-1:123456789012:dataset-group/shop"}, "dataset_arn"),
        (importing, {"dataset_arn": "arn:aws:personalize:us-east-1:123456789012:dataset/shop"}, "dataset_arn"),
        (importing, {"data_location": "rows/"}, "data_location: expected an S3 URI"),
        (importing, {"data_location": "s3://b/" + "x" * 250}, "data_location: expected at most 256"),
        (importing, {"import_mode": "ALL"}, "import_mode: expected one of FULL, INCREMENTAL, got 'ALL'"),
        (importing, {"import_mode": None}, "import_mode: expected a value"),
        (importing, {"publish_attribution_metrics_to_s3": "yes"}, "publish_attribution_metrics_to_s3: expected True"),
        (importing, {"role_arn": "me"}, "role_arn: expected the ARN of the IAM role"),
        (importing, {"tags": {"a": "b" * 257}}, "tags: expected a value"),
        (exporting, {"ingestion_mode": "FULL"}, "ingestion_mode: expected one of BULK, PUT, ALL"),
        (exporting, {"output_kms_key_arn": "alias/a"}, "output_kms_key_arn: expected the ARN of a KMS key"),
        (exporting, {"output_uri": None}, "output_uri: expected a value"),
        (forgetting, {"dataset_group_arn": "shop"}, "dataset_group_arn: expected an ARN"),
        (forgetting, {"dataset_group_arn": "arn:aws:personalize:us-east-1:123456789012:dataset/s/ITEMS"}, "dataset-gr"),
    ],
)
def test_a_wrong_argument_is_told_when_the_dag_is_parsed(make, wrong, words):
    arns = SimpleNamespace(
        dataset="arn:aws:personalize:us-east-1:123456789012:dataset/shop/INTERACTIONS",
        group="arn:aws:personalize:us-east-1:123456789012:dataset-group/shop",
    )
    with pytest.raises(PersonalizeError, match=words):
        make(arns, **wrong)


def test_the_links_are_there_before_the_wait(shop):
    ctx = context()
    with pytest.raises(TaskDeferred):
        exporting(shop, deferrable=True).execute(ctx)
    assert ctx["ti"].pushed["personalize_job"]["job_arn"] == jobs(shop.local)[0]["arn"]
    assert ctx["ti"].pushed["personalize_output"]["prefix"] == "out/"


def test_what_an_import_brings_is_counted_and_estimated(shop, log, monkeypatch):
    monkeypatch.setenv("AIRFLOW__PERSONALIZE__PRICE_PER_GB_IMPORTED", "100000")
    ctx = context()
    PersonalizeCreateDatasetImportJobOperator(
        task_id="load", dataset_arn=shop.dataset, data_location=f"s3://{BUCKET}/rows/", role_arn=ROLE
    ).execute(ctx)
    size = len(ROWS)
    assert ctx["ti"].pushed["counts"] == {"files": 1, "bytes": size, "estimated_cost": round(size / 10_000, 6)}
    assert f"for {size:,} bytes, by your [personalize] price_per_gb_imported." in log()
