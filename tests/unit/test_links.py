"""The addresses that the links lead to, whole."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

pytest.importorskip("airflow", reason="the links are Airflow's")

from airflow_provider_personalize.links.personalize import JOB_LINKS, persist_job_links
from airflow_provider_personalize.service.kinds import BATCH_INFERENCE_JOB, read_status


def addresses(
    partition="aws",
    region="eu-west-1",
    output="s3://shop/out/nightly",
    version="solution/best/1a2b",
    endpoint=None,
    account="123456789012",
):
    """The address of each link, as Airflow renders it from what a task has pushed."""
    base = f"arn:{partition}:personalize:{region}:{account}:"
    job = {
        "batchInferenceJobArn": f"{base}batch-inference-job/nightly-1",
        "status": "ACTIVE",
        "solutionVersionArn": base + version,
        "jobOutput": {"s3DataDestination": {"path": output}},
    }
    pushed = {}
    ti = SimpleNamespace(xcom_push=lambda key, value: pushed.update({key: value}))
    # The Amazon provider of Airflow 2 pushes through the operator.
    operator = SimpleNamespace(do_xcom_push=True, xcom_push=lambda context, key, value: ti.xcom_push(key, value))
    client = SimpleNamespace(meta=SimpleNamespace(endpoint_url=endpoint))
    operator.hook = SimpleNamespace(polling_client=client) if endpoint else None
    persist_job_links({"ti": ti}, operator, read_status(BATCH_INFERENCE_JOB, job))
    return {link.name: link.format_link(**pushed[link.key]) for link in JOB_LINKS if link.key in pushed}


def test_each_leads_to_its_page():
    console, region = "https://console.aws.amazon.com", "region=eu-west-1"
    assert addresses() == {
        "Personalize job": (
            f"{console}/personalize/home?{region}"
            "#arn:aws:personalize:eu-west-1:123456789012:batch-inference-job/nightly-1"
        ),
        "Personalize solution": (
            f"{console}/personalize/home?{region}#arn:aws:personalize:eu-west-1:123456789012:solution/best"
        ),
        "Output in S3": f"{console}/s3/buckets/shop?{region}&prefix=out/nightly/",
    }


@pytest.mark.parametrize(
    ("partition", "region", "domain"),
    [("aws-cn", "cn-north-1", "amazonaws.cn"), ("aws-us-gov", "us-gov-west-1", "amazonaws-us-gov.com")],
)
def test_other_partitions_have_their_own_console(partition, region, domain):
    found = addresses(partition, region)
    assert found["Output in S3"] == f"https://console.{domain}/s3/buckets/shop?region={region}&prefix=out/nightly/"
    assert found["Personalize job"].startswith(f"https://console.{domain}/personalize/home?region={region}#arn:")


def test_where_no_console_is_known_there_is_no_link():
    assert set(addresses("aws-iso", "us-iso-east-1").values()) == {""}


@pytest.mark.parametrize(
    ("output", "prefix"),
    [
        ("s3://shop", ""),
        ("s3://shop/", ""),
        ("s3://shop/out/", "out/"),
        ("s3://shop/a b&c=d#e?f+g%h/", "a%20b%26c%3Dd%23e%3Ff%2Bg%25h/"),
        ("s3://shop/tägl/", "t%C3%A4gl/"),
    ],
)
def test_a_folder_is_quoted(output, prefix):
    link = addresses(output=output)["Output in S3"]
    assert link == f"https://console.aws.amazon.com/s3/buckets/shop?region=eu-west-1&prefix={prefix}"


def test_an_output_that_is_no_folder_has_no_link_and_fails_no_task():
    assert set(addresses(output="nowhere")) == {"Personalize job", "Personalize solution"}


def test_on_the_stand_in_each_leads_to_the_stand_in():
    there = "http://127.0.0.1:5000/_local/console"
    assert addresses(endpoint="http://127.0.0.1:5000", output="s3://shop/out&more/") == {
        "Personalize job": f"{there}?arn=arn:aws:personalize:eu-west-1:123456789012:batch-inference-job/nightly-1",
        "Personalize solution": f"{there}?arn=arn:aws:personalize:eu-west-1:123456789012:solution/best",
        "Output in S3": f"{there}?bucket=shop&prefix=out%26more/",
    }


@pytest.mark.parametrize(
    ("endpoint", "account"),
    [
        ("https://personalize.eu-west-1.amazonaws.com", "123456789012"),
        ("https://vpce-1.personalize.eu-west-1.vpce.amazonaws.com", "210987654321"),
        ("http://proxy.internal:3128", "210987654321"),
        ("javascript:alert(1)", "123456789012"),
    ],
)
def test_everywhere_else_they_lead_to_the_console(endpoint, account):
    found = addresses(endpoint=endpoint, account=account)
    assert {address.partition("?")[0] for address in found.values()} == {
        "https://console.aws.amazon.com/personalize/home",
        "https://console.aws.amazon.com/s3/buckets/shop",
    }
