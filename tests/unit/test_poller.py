"""How many calls shared polling makes, and how soon it tells."""

from __future__ import annotations

import asyncio
import selectors

import pytest

pytest.importorskip("airflow", reason="the poller's client is Airflow's")

from botocore.exceptions import ClientError, EndpointConnectionError

from airflow_provider_personalize.aws_errors import as_personalize_error, is_transient
from airflow_provider_personalize.exceptions import ServiceError
from airflow_provider_personalize.service.kinds import CAMPAIGN, KINDS, ResourceStatus, State, read_status
from airflow_provider_personalize.triggers import poller as poller_module
from airflow_provider_personalize.triggers.poller import JobPoller, shared_poller

BASE = "arn:aws:personalize:us-east-1:123456789012:"


def version(number):
    return f"{BASE}solution/s/{number}"


def arn(number):
    return f"{BASE}batch-inference-job/job-{number}"


class Service(JobPoller):
    """A poller whose calls are answered from a dict, and counted."""

    def __init__(self, jobs, old_jobs=0):
        super().__init__({})
        self.jobs = jobs
        self.old = [self.summary(f"old-{n}", version(0), "ACTIVE") for n in range(old_jobs)]
        self.calls = []
        self.errors = {}

    @staticmethod
    def summary(number, solution_version, status):
        return {"batchInferenceJobArn": arn(number), "solutionVersionArn": solution_version, "status": status}

    async def _call(self, operation, request):
        self.calls.append((operation, request))
        await asyncio.sleep(0)
        if error := self.errors.get(operation):
            if is_transient(error):
                raise error
            raise as_personalize_error(error, operation=operation)
        if operation == "DescribeBatchInferenceJob":
            number = request["batchInferenceJobArn"].rpartition("-")[2]
            solution_version, status = self.jobs[int(number)]
            return {"batchInferenceJob": self.summary(number, solution_version, status)}
        wanted = request.get("solutionVersionArn")
        rows = self.old + [self.summary(number, *job) for number, job in self.jobs.items()]
        rows = [row for row in rows if wanted in (None, row["solutionVersionArn"])]
        start = int(request.get("nextToken", 0))
        page = rows[start : start + request["maxResults"]]
        token = {"nextToken": str(start + 100)} if start + 100 < len(rows) else {}
        return {"batchInferenceJobs": page, **token}

    def counted(self, operation):
        return sum(called == operation for called, _ in self.calls)


async def first_seen(poller, number, hint=None, interval=0.2):
    looks = poller.watch(arn(number), poll_interval=interval, parent_arn=hint)
    try:
        return await anext(looks)
    finally:
        await looks.aclose()


async def until_active(poller, number, hint=None, interval=0.2):
    looks = poller.watch(arn(number), poll_interval=interval, parent_arn=hint)
    try:
        async for seen in looks:
            if isinstance(seen, ResourceStatus) and seen.status == "ACTIVE":
                return asyncio.get_running_loop().time()
    finally:
        await looks.aclose()


class Timeless(asyncio.SelectorEventLoop):
    """An event loop whose clock leaps to what is due next, so that its times are exact, however busy the machine is."""

    def __init__(self):
        super().__init__(Leaping(self))
        self.now = 0.0

    def time(self):
        return self.now


class Leaping(selectors.DefaultSelector):
    def __init__(self, loop):
        super().__init__()
        self.loop = loop

    def select(self, timeout=None):
        ready = super().select(None if timeout is None else 0)
        if not ready:
            self.loop.now += timeout
        return ready


def run(work):
    async def bounded():
        async with asyncio.timeout(300):
            await work

    with asyncio.Runner(loop_factory=Timeless) as runner:
        runner.run(bounded())


@pytest.mark.parametrize("hinted", [True, False])
def test_a_thousand_waits_share_their_calls(hinted):
    async def work():
        service = Service({n: (version(n % 3), "ACTIVE") for n in range(1000)})
        waits = (first_seen(service, n, version(n % 3) if hinted else None, 1.0) for n in range(1000))
        seen = await asyncio.gather(*waits)
        assert {status.arn for status in seen} == {arn(n) for n in range(1000)}
        assert len(service.calls) <= 30
        await service.close()

    run(work())


def test_a_few_waits_are_described():
    async def work():
        service = Service({n: (version(1), "ACTIVE") for n in range(3)}, old_jobs=5000)
        await asyncio.gather(*(first_seen(service, n, version(1)) for n in range(3)))
        assert service.counted("ListBatchInferenceJobs") == 0
        assert service.counted("DescribeBatchInferenceJob") == 3
        await service.close()

    run(work())


def test_listing_gives_way_where_it_would_cost_more_calls_than_describing():
    """Ten waits, and five thousand old jobs of the same solution version that no list can leave out."""

    async def work():
        service = Service({n: (version(0), "CREATE IN_PROGRESS") for n in range(10)}, old_jobs=5000)
        waits = [asyncio.create_task(until_active(service, n, version(0))) for n in range(10)]
        await asyncio.sleep(10.0)
        listed = service.counted("ListBatchInferenceJobs")
        assert 0 < listed <= 10
        assert service.counted("DescribeBatchInferenceJob") >= 10 * 10 / 0.2
        service.jobs = {n: (version(0), "ACTIVE") for n in range(10)}
        await asyncio.gather(*waits)
        assert service.counted("ListBatchInferenceJobs") == listed
        await service.close()

    run(work())


@pytest.mark.parametrize("count", [1, 50])
def test_a_wait_ends_within_an_interval_of_its_job(count):
    async def work():
        interval = 0.5
        service = Service({n: (version(1), "CREATE IN_PROGRESS") for n in range(count)})
        waits = [asyncio.create_task(until_active(service, n, version(1), interval)) for n in range(count)]
        await asyncio.sleep(0.8)
        service.jobs = {n: (version(1), "ACTIVE") for n in range(count)}
        ended = asyncio.get_running_loop().time()
        told = await asyncio.gather(*waits)
        assert max(told) - ended <= interval
        await service.close()

    run(work())


def test_who_may_not_list_is_described_to():
    async def work():
        service = Service({n: (version(1), "ACTIVE") for n in range(20)})
        service.errors["ListBatchInferenceJobs"] = ClientError(
            {"Error": {"Code": "AccessDeniedException", "Message": "no"}}, "ListBatchInferenceJobs"
        )
        await asyncio.gather(*(first_seen(service, n, version(1)) for n in range(20)))
        assert service.counted("ListBatchInferenceJobs") == 1
        assert service.counted("DescribeBatchInferenceJob") == 20
        await service.close()

    run(work())


def test_trouble_that_passes_is_told_and_waited_out():
    async def work():
        service = Service({1: (version(1), "ACTIVE")})
        service.errors["DescribeBatchInferenceJob"] = EndpointConnectionError(endpoint_url="http://nowhere")
        looks = service.watch(arn(1), poll_interval=0.1, parent_arn=version(1))
        assert isinstance(await anext(looks), EndpointConnectionError)
        service.errors.clear()
        assert (await anext(looks)).status == "ACTIVE"
        await looks.aclose()
        await service.close()

    run(work())


def test_a_refusal_is_told():
    async def work():
        service = Service({1: (version(1), "ACTIVE")})
        service.errors["DescribeBatchInferenceJob"] = ClientError(
            {"Error": {"Code": "ResourceNotFoundException", "Message": "no such job"}}, "DescribeBatchInferenceJob"
        )
        seen = await first_seen(service, 1, version(1))
        assert isinstance(seen, ServiceError)
        assert seen.code == "ResourceNotFoundException"
        await service.close()

    run(work())


def test_an_error_that_nobody_foresaw_is_told_too():
    async def work():
        service = Service({})
        seen = await first_seen(service, 1, version(1))
        assert isinstance(seen, KeyError)
        await service.close()

    run(work())


def test_one_poller_serves_a_connection_and_is_closed_after_its_last_wait():
    async def work():
        one = {"aws_conn_id": "a", "region_name": "eu-west-1", "verify": None, "config": {"read_timeout": 7}}
        async with shared_poller(one) as first, shared_poller(dict(one)) as second:
            assert first is second
            async with shared_poller(one | {"region_name": "eu-west-2"}) as other:
                assert other is not first
            assert len(poller_module._pollers) == 1
        assert not poller_module._pollers
        with pytest.raises(RuntimeError, match="shutdown"):
            first._threads.submit(int)

    run(work())


def test_no_task_is_left_behind():
    async def work():
        service = Service({n: (version(n), "ACTIVE") for n in range(5)})
        await asyncio.gather(*(first_seen(service, n) for n in range(5)))
        await asyncio.sleep(0.05)
        assert not service._groups
        assert asyncio.all_tasks() == {asyncio.current_task()}
        await service.close()

    run(work())


class Resources(JobPoller):
    """A poller over resources of one kind: their descriptions by ARN."""

    def __init__(self, kind, described):
        super().__init__({})
        self.kind = kind
        self.described = described
        self.calls = []

    async def _call(self, operation, request):
        self.calls.append((operation, request))
        await asyncio.sleep(0)
        if operation == self.kind.describe_operation:
            arn = request[self.kind.arn_field]
            if arn not in self.described:
                error = ClientError({"Error": {"Code": "ResourceNotFoundException", "Message": "none"}}, operation)
                raise as_personalize_error(error, operation=operation)
            return {self.kind.response_key: self.described[arn]}
        parent = request.get(self.kind.list_filter)
        lines = [
            {key: value for key, value in one.items() if key in {self.kind.arn_field, "status"}}
            for one in self.described.values()
            if parent in (None, read_status(self.kind, one).parent_arn)
        ]
        start = int(request.get("nextToken", 0))
        token = {"nextToken": str(start + 100)} if start + 100 < len(lines) else {}
        return {self.kind.list_key: lines[start : start + 100], **token}


async def first(poller, arn, **more):
    looks = poller.watch(arn, poll_interval=1.0, **more)
    try:
        return await anext(looks)
    finally:
        await looks.aclose()


def resources(kind, count, **more):
    middle = "group/" if kind.arn_parts == 2 else ""
    arns = [f"{BASE}{kind.arn_type}/{middle}{n}" for n in range(count)]
    parent = {kind.list_filter: BASE + "some/parent"} if kind.list_filter else {}
    return {arn: {kind.arn_field: arn, "status": "ACTIVE", **parent, **more} for arn in arns}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.noun)
def test_waits_for_every_kind_share_their_calls(kind):
    async def work():
        service = Resources(kind, resources(kind, 300))
        parents = {arn: read_status(kind, described).parent_arn for arn, described in service.described.items()}
        seen = await asyncio.gather(*(first(service, arn, parent_arn=parents[arn]) for arn in parents))
        assert {status.arn: status.state for status in seen} == dict.fromkeys(parents, State.SUCCEEDED)
        # A few that enter first are described; three pages tell of the others.
        assert len(service.calls) <= 30
        filters = {name for operation, request in service.calls if "List" in operation for name in request}
        assert filters <= {"maxResults", "nextToken", kind.list_filter}
        await service.close()

    run(work())


def test_an_update_is_described_since_no_listing_tells_of_it():
    async def work():
        service = Resources(CAMPAIGN, resources(CAMPAIGN, 20, latestCampaignUpdate={"status": "CREATE PENDING"}))
        seen = await asyncio.gather(*(first(service, arn, until="updated") for arn in service.described))
        assert {status.status for status in seen} == {"CREATE PENDING"}
        assert {operation for operation, _ in service.calls} == {"DescribeCampaign"}
        seen = await asyncio.gather(*(first(service, arn) for arn in service.described))
        assert {status.state for status in seen} == {State.SUCCEEDED}
        await service.close()

    run(work())


def test_what_a_listing_leaves_out_is_described_and_so_found_to_be_gone():
    async def work():
        service = Resources(CAMPAIGN, resources(CAMPAIGN, 20, status="DELETE IN_PROGRESS"))
        arn, *others = service.described
        del service.described[arn]
        parent = BASE + "some/parent"
        waits = (first(service, each, until="gone", parent_arn=parent) for each in [arn, *others])
        gone, *waiting = await asyncio.gather(*waits)
        assert (type(gone), gone.code) == (ServiceError, "ResourceNotFoundException")
        assert {status.state for status in waiting} == {State.RUNNING}
        await service.close()

    run(work())
