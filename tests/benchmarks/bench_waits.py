"""
What waits cost a triggerer: CPU to start, the event loop's longest stall, memory, API calls.

    python tests/benchmarks/bench_waits.py [--waits 1000] [--peer-waits 200] [--interval 20]

The waits run in one process, as in a triggerer, against the stand-in in another: of one kind, and of seven kinds at
once (batch inference, batch segment, import, export and deletion jobs, solution versions, campaigns). Beside them, the
same measured for the trigger that the Amazon provider would have one write: a subclass of its
``AwsBaseWaiterTrigger``. Each way runs in a process of its own. The figures: CPU seconds from the first trigger's start
until every job was looked at once; the longest time in which the event loop ran nothing else; resident memory at the
end less that at the start, after all imports; calls that the stand-in counted in one poll interval.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

WAYS = {"ours": "PersonalizeJobTrigger", "mixed": "… of seven kinds", "peer": "AwsBaseWaiterTrigger"}
BOUNDS = {"cpu_s": 3.0, "block_ms": 100.0, "memory_mb": 30.0, "calls": 30}


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def state() -> dict:
    with urllib.request.urlopen(f"{os.environ['AWS_ENDPOINT_URL']}/_local/state") as answer:
        return json.load(answer)


def calls() -> int:
    return sum(state()["calls"].values())


def make_trigger(way: str, job_arn: str, interval: float):
    if way != "peer":
        from airflow_provider_personalize.triggers.personalize import PersonalizeJobTrigger

        return PersonalizeJobTrigger(job_arn, poll_interval=interval, deadline=time.time() + 3600, aws_conn_id=None)
    return peer_class()(
        serialized_fields={"job_arn": job_arn},
        waiter_name="job_active",
        waiter_args={"batchInferenceJobArn": job_arn},
        failure_message="failed",
        status_message="status",
        status_queries=["batchInferenceJob.status"],
        return_value=job_arn,
        waiter_delay=int(interval),
        waiter_max_attempts=100,
        aws_conn_id=None,
    )


def peer_class():
    from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook
    from airflow.providers.amazon.aws.triggers.base import AwsBaseWaiterTrigger

    waiters = Path(os.environ["BENCH_WAITERS"])

    class Hook(AwsBaseHook):
        waiter_path = waiters

        def __init__(self, *args, **kwargs):
            super().__init__(*args, **{**kwargs, "client_type": "personalize"})

    class Trigger(AwsBaseWaiterTrigger):
        aws_hook_class = Hook

        def hook(self):
            return Hook(aws_conn_id=None)

    return Trigger


async def heartbeat(gaps: list[float]) -> None:
    last = time.perf_counter()
    while True:
        await asyncio.sleep(0.005)
        now = time.perf_counter()
        gaps.append(now - last - 0.005)
        last = now


async def measure(way: str, job_arns: list[str], interval: float) -> dict[str, float]:
    # One wait first, so that what a triggerer has loaded anyway is not counted.
    warm = asyncio.create_task(anext(make_trigger(way, job_arns[0], interval).run()))
    await asyncio.sleep(interval * 1.5)
    warm.cancel()
    await asyncio.gather(warm, return_exceptions=True)
    gaps: list[float] = []
    beat = asyncio.create_task(heartbeat(gaps))
    memory, cpu, before = resident_mb(), time.process_time(), calls()
    tasks = [asyncio.create_task(anext(make_trigger(way, arn, interval).run())) for arn in job_arns]
    started = time.monotonic()
    await asyncio.sleep(interval)
    while way == "peer" and await asyncio.to_thread(calls) - before < len(job_arns):
        await asyncio.sleep(0.5)
    result = {
        "waits": len(tasks),
        "cpu_s": time.process_time() - cpu,
        "start_s": time.monotonic() - started,
        "memory_mb": resident_mb() - memory,
        "block_ms": max(gaps) * 1000,
    }
    first = await asyncio.to_thread(calls)
    await asyncio.sleep(interval)
    result["calls"] = await asyncio.to_thread(calls) - first
    result["calls_first_interval"] = first - before
    if any(task.done() for task in tasks):
        raise AssertionError(f"a wait ended early: {next(task for task in tasks if task.done())}")
    for task in [*tasks, beat]:
        task.cancel()
    await asyncio.gather(*tasks, beat, return_exceptions=True)
    return result


def prepare(local, waits: int) -> list[str]:
    """Make jobs that never end, three solution versions' worth."""
    import boto3

    names = ("user-personalization", "popularity-count", "hrnn")
    versions = [arn for name, arn in local.solution_version_arns.items() if name in names] or list(
        local.solution_version_arns.values()
    )[:1]
    client = boto3.client("personalize", endpoint_url=local.url, **KEYS)

    def create(number: int) -> str:
        return client.create_batch_inference_job(
            jobName=f"wait-{number}",
            solutionVersionArn=versions[number % len(versions)],
            roleArn="arn:aws:iam::123456789012:role/personalize",
            jobInput={"s3DataSource": {"path": "s3://personalize-local/in/"}},
            jobOutput={"s3DataDestination": {"path": "s3://personalize-local/out/"}},
        )["batchInferenceJobArn"]

    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(create, range(waits)))


def prepare_mixed(local, waits: int) -> list[str]:
    """Make what never ends, of seven kinds: as many solution versions and campaigns as there may be, and jobs."""
    import boto3

    client = boto3.client("personalize", endpoint_url=local.url, **KEYS)
    group, role = local.dataset_group_arns["personalize-local"], "arn:aws:iam::123456789012:role/personalize"
    fields = [{"name": name, "type": "string"} for name in ("USER_ID", "ITEM_ID")]
    schema = {
        "type": "record",
        "name": "Interactions",
        "namespace": "com.amazonaws.personalize.schema",
        "fields": [*fields, {"name": "TIMESTAMP", "type": "long"}],
        "version": "1.0",
    }
    schema_arn = client.create_schema(name="bench", schema=json.dumps(schema))["schemaArn"]
    dataset = client.create_dataset(
        name="bench", schemaArn=schema_arn, datasetGroupArn=group, datasetType="INTERACTIONS"
    )["datasetArn"]
    # What has been made so far is there from now on.
    local.controls.set_clock(advance=1e7)
    solutions, versions = local.solution_arns, local.solution_version_arns
    place = {"path": "s3://personalize-local/in/"}
    there = {"jobInput": {"s3DataSource": place}, "jobOutput": {"s3DataDestination": place}, "roleArn": role}
    source = {"dataSource": {"dataLocation": "s3://personalize-local/in/"}, "roleArn": role}
    arns = [
        client.create_solution_version(solutionArn=solutions["user-personalization"], trainingMode="FULL")
        for _ in range(20)
    ]
    arns += [
        client.create_campaign(name=f"bench-{number}", solutionVersionArn=versions["user-personalization"])
        for number in range(5)
    ]
    jobs = [
        lambda name: client.create_batch_inference_job(
            jobName=name, solutionVersionArn=versions["user-personalization"], **there
        ),
        lambda name: client.create_batch_segment_job(
            jobName=name, solutionVersionArn=versions["item-affinity"], **there
        ),
        lambda name: client.create_dataset_import_job(jobName=name, datasetArn=dataset, **source),
        lambda name: client.create_dataset_export_job(
            jobName=name, datasetArn=dataset, jobOutput=there["jobOutput"], roleArn=role
        ),
        lambda name: client.create_data_deletion_job(jobName=name, datasetGroupArn=group, **source),
    ]
    with ThreadPoolExecutor(8) as pool:
        arns += pool.map(lambda number: jobs[number % len(jobs)](f"mixed-{number}"), range(waits - len(arns)))
    return [next(value for key, value in answer.items() if key.endswith("Arn")) for answer in arns]


KEYS = {"aws_access_key_id": "local", "aws_secret_access_key": "local", "region_name": "us-east-1"}
WAITERS = {
    "version": 2,
    "waiters": {
        "job_active": {
            "operation": "DescribeBatchInferenceJob",
            "delay": 60,
            "maxAttempts": 100,
            "acceptors": [
                {"matcher": "path", "argument": "batchInferenceJob.status", "expected": "ACTIVE", "state": "success"}
            ],
        }
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--waits", type=int, nargs="+", default=[1000])
    parser.add_argument("--peer-waits", type=int, default=200)
    parser.add_argument("--interval", type=float, default=20.0)
    parser.add_argument("--child", nargs=2, metavar=("WAY", "FILE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        way, file = options.child
        job_arns = json.loads(Path(file).read_text())
        print(json.dumps(asyncio.run(measure(way, job_arns, options.interval))))
        return

    import tempfile

    from airflow_provider_personalize.local import LocalPersonalize

    with (
        tempfile.TemporaryDirectory() as folder,
        LocalPersonalize(port=0, job_seconds=1e6, quota=10**9) as local,
    ):
        waiters = Path(folder) / "personalize.json"
        waiters.write_text(json.dumps(WAITERS))
        jobs = Path(folder) / "jobs.json"
        # First, since it puts the stand-in's clock forward.
        mixed = prepare_mixed(local, max(options.waits))
        every = prepare(local, max(*options.waits, options.peer_waits))
        print(f"{'way':<24}{'waits':>7}{'CPU s':>9}{'stall ms':>10}{'memory MB':>11}{'calls/interval':>16}")
        ours = [(way, waits) for way in ("ours", "mixed") for waits in options.waits]
        for way, waits in [*ours, ("peer", options.peer_waits)]:
            if not waits:
                continue
            jobs.write_text(json.dumps((mixed if way == "mixed" else every)[-waits:]))
            environment = {
                **os.environ,
                **local.environment,
                "AIRFLOW_HOME": folder,
                "BENCH_WAITERS": str(waiters),
                "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
            }
            arguments = ["--child", way, str(jobs), "--interval", str(options.interval)]
            out = subprocess.run(
                [sys.executable, __file__, *arguments],
                env=environment,
                stdout=subprocess.PIPE,
                check=True,
                text=True,
            ).stdout
            row = json.loads(out.splitlines()[-1])
            print(
                f"{WAYS[way]:<24}{row['waits']:>7}{row['cpu_s']:>9.2f}{row['block_ms']:>10.1f}"
                f"{row['memory_mb']:>11.1f}{row['calls']:>16}",
                flush=True,
            )
    print(f"bounds for 1,000 waits: {BOUNDS}")


if __name__ == "__main__":
    main()
