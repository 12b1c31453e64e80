"""
The polling that all waits of one AWS connection share in a triggerer's process.

A thousand triggers with a client each would cost the triggerer seconds of CPU and hundreds of megabytes, and as many
API calls a minute. So the waits of one connection share one client, used from a few threads (building a client, and
reading an answer, would block the event loop). The waits for resources of one parent, as the batch jobs of one solution
version, share their calls as well: one page of a listing tells of a hundred. Where listing would cost more calls than
describing, each resource is described.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from botocore import xform_name

from airflow_provider_personalize.aws_errors import AWS_ERRORS, answers_to, describe_error, is_expired
from airflow_provider_personalize.compat import triggerer_stats
from airflow_provider_personalize.exceptions import PersonalizeError, UnexpectedAnswerError
from airflow_provider_personalize.hooks.personalize import PersonalizeHook
from airflow_provider_personalize.metrics import POLLS
from airflow_provider_personalize.service.kinds import (
    ResourceKind,
    ResourceStatus,
    Until,
    entries_of,
    read_status,
)
from airflow_provider_personalize.service.names import kind_of
from airflow_provider_personalize.service.statuses import text_at

log = logging.getLogger(__name__)

#: Up to this many waits of one group are always described, one by one.
FEW = 3
#: Lines in one page of a listing, the most that the API gives.
PAGE_SIZE = 100
#: Calls under way at once for each connection. The service answers few reads a second, so more would gain nothing, and
#: reading an answer takes the processor from the event loop.
WORKERS = 2
#: Seconds for which resources are described one by one after a listing that could not be read.
LISTING_PAUSE = 300.0
#: Seconds over which waits that begin at once are spread, at most.
LONGEST_ENTRY = 10.0
#: Waits that are told of their resources before the event loop gets to something else.
BATCH = 50

Seen = ResourceStatus | Exception


@dataclass(eq=False)
class Wait:
    """One trigger's wait for one resource."""

    arn: str
    kind: ResourceKind
    until: Until
    poll_interval: float
    due: float
    group: _Group | None = None
    news: asyncio.Queue[Seen] = field(default_factory=asyncio.Queue)
    last: str | None = None

    def tell(self, seen: Seen) -> None:
        """Pass on what was observed, if it is news."""
        now = seen.status if isinstance(seen, ResourceStatus) else f"{type(seen).__name__}: {seen}"
        if now != self.last:
            self.last = now
            self.news.put_nowait(seen)


@dataclass(eq=False)
class _Group:
    """
    The waits for the same end of resources of one kind, which one listing shows: those of one parent, as the batch jobs
    of one solution version. The parent is None while it is not known, and where there is none.
    """

    kind: ResourceKind
    until: Until
    parent: str | None
    waits: set[Wait] = field(default_factory=set)
    next_due: float = float("inf")
    earlier: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None
    #: How many calls the last listing took; listing pays while there are more waits than that.
    listing_cost: int = 0
    #: When to list again after a listing that could not be read, on the event loop's clock.
    list_from: float = 0.0

    @property
    def can_list(self) -> bool:
        """Whether a listing tells what is waited for: it says nothing of an update."""
        return not (self.until == "updated" and self.kind.tracks_update)


class JobPoller:
    """
    Look at resources on behalf of many waits.

    :param hook_parameters: What :class:`~airflow_provider_personalize.hooks.personalize.PersonalizeHook` takes.
    """

    def __init__(self, hook_parameters: Mapping[str, Any]) -> None:
        self.users = 0
        self._hook_parameters = dict(hook_parameters)
        self._threads = ThreadPoolExecutor(WORKERS, thread_name_prefix="personalize-poll")
        self._groups: dict[tuple[ResourceKind, Until, str | None], _Group] = {}
        self._client: Any = None
        self._stats = triggerer_stats()
        self._building = asyncio.Lock()
        self._may_list = True

    async def watch(
        self, arn: str, *, poll_interval: float, until: Until = "active", parent_arn: str | None = None
    ) -> AsyncGenerator[Seen, None]:
        """
        Yield what is observed of a resource: each change of status, and each new trouble in looking.

        :param arn: The resource.
        :param poll_interval: Seconds in which the resource is looked at once.
        :param until: What is waited for.
        :param parent_arn: The resource whose listing shows this one, if it is known already, which saves a call.
        """
        # The first look comes late, since whoever waits has just looked; and at a random moment, so that waits which
        # begin together, as after a restart, neither call together nor each for itself.
        due = asyncio.get_running_loop().time() + poll_interval * random.uniform(0.5, 1.0)  # noqa: S311
        # Until then there is time: thousands that begin at once would hold up the event loop.
        await asyncio.sleep(random.uniform(0, min(poll_interval / 4, LONGEST_ENTRY)))  # noqa: S311
        wait = Wait(arn, kind_of(arn), until, poll_interval, due)
        self._enter(wait, parent_arn)
        try:
            while True:
                yield await wait.news.get()
        finally:
            self._leave(wait)

    async def look(self, arn: str, until: Until = "active") -> ResourceStatus:
        """
        Look at one resource now.

        :raises ServiceError: if the service refuses to answer.
        :raises UnexpectedAnswerError: if the answer does not describe this resource.
        """
        kind = kind_of(arn)
        return read_status(kind, await self._call(kind.describe_operation, {kind.arn_field: arn}), until, arn=arn)

    async def close(self) -> None:
        """End the polling, and close the client's connections."""
        for group in list(self._groups.values()):
            if group.task:
                group.task.cancel()
        self._threads.shutdown(wait=False)
        if self._client is not None:
            self._client.close()

    def _enter(self, wait: Wait, parent: str | None) -> None:
        key = wait.kind, wait.until, parent
        group = self._groups.setdefault(key, _Group(*key))
        group.waits.add(wait)
        wait.group = group
        if group.task is None:
            group.task = asyncio.get_running_loop().create_task(self._poll_on(group))
        if wait.due < group.next_due:
            group.earlier.set()

    def _leave(self, wait: Wait) -> None:
        group = wait.group
        if group is None:
            return
        group.waits.discard(wait)
        wait.group = None
        if not group.waits:
            self._groups.pop((group.kind, group.until, group.parent), None)
            if group.task is not None and group.task is not asyncio.current_task():
                group.task.cancel()

    async def _poll_on(self, group: _Group) -> None:
        loop = asyncio.get_running_loop()
        while group.waits:
            group.next_due = min(wait.due for wait in group.waits)
            group.earlier.clear()
            if (pause := group.next_due - loop.time()) > 0:
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await group.earlier.wait()
                continue
            try:
                await self._poll(group)
            except Exception as error:
                # Whatever one look ends in, nobody else looks on behalf of this group's waits.
                log.exception("A look at each %s of %s failed; the next one comes.", group.kind.words, group.parent)
                for wait in [wait for wait in group.waits if wait.due <= loop.time()]:
                    wait.due = loop.time() + wait.poll_interval
                    wait.tell(error)

    async def _poll(self, group: _Group) -> None:
        now = asyncio.get_running_loop().time()
        seen: dict[str, Seen] = {}
        may_list = self._may_list and group.can_list and now >= group.list_from
        if may_list and len(group.waits) > max(FEW, group.listing_cost):
            seen = await self._list(group)
        due = {wait.arn for wait in group.waits if wait.due <= now} - seen.keys()
        looks = (self.look_or_trouble(arn, group.until) for arn in due)
        seen.update(zip(due, await asyncio.gather(*looks), strict=True))
        now = asyncio.get_running_loop().time()
        for number, wait in enumerate(list(group.waits), 1):
            if number % BATCH == 0:
                # All that wake up would run in one go, and write their logs, before the loop got to anything else.
                await asyncio.sleep(0)
            if (what := seen.get(wait.arn)) is None:
                continue
            # A little less than the interval, never more: a wait ends within one interval of its job.
            wait.due = now + wait.poll_interval * random.uniform(0.85, 1.0)  # noqa: S311
            wait.tell(what)
            if group.parent is None and isinstance(what, ResourceStatus) and what.parent_arn:
                self._leave(wait)
                self._enter(wait, what.parent_arn)

    async def look_or_trouble(self, arn: str, until: Until = "active") -> Seen:
        """Look at one resource now, and return the error if there is one."""
        try:
            return await self.look(arn, until)
        except Exception as error:  # noqa: BLE001
            # Whoever waits must hear of it, whatever it is: a wait that nobody polls for would last to its deadline.
            return error

    async def _list(self, group: _Group) -> dict[str, Seen]:
        """Look for a group's resources in the service's list, as long as that costs less than describing them."""
        wanted = {wait.arn for wait in group.waits}
        budget = len(wanted)
        seen: dict[str, Seen] = {}
        request: dict[str, Any] = {"maxResults": PAGE_SIZE}
        if group.parent is not None and group.kind.list_filter:
            request[group.kind.list_filter] = group.parent
        group.listing_cost = 0
        while group.listing_cost < budget:
            try:
                page = await self._call(group.kind.list_operation, request)
                entries = entries_of(group.kind, page)
            except PersonalizeError as error:
                # Describing needs another permission than listing, and has another answer, so it may still work.
                log.warning("%s. Each is described, since they cannot be listed.", describe_error(error).rstrip("."))
                self._may_list = error.may_pass
                group.list_from = asyncio.get_running_loop().time() + LISTING_PAUSE
                break
            except Exception as error:  # noqa: BLE001
                seen.update(dict.fromkeys(wanted, error))
                break
            group.listing_cost += 1
            for summary in entries:
                # A line that cannot be read is passed over: what no line tells of is described.
                with suppress(UnexpectedAnswerError):
                    status = read_status(group.kind, summary, group.until)
                    if status.arn in wanted:
                        seen[status.arn] = status
                        wanted.discard(status.arn)
            token = text_at(page, "nextToken")
            if not wanted or not token:
                break
            request["nextToken"] = token
        return seen

    async def _call(self, operation: str, request: dict[str, Any]) -> dict[str, Any]:
        async with self._building:
            if self._client is None:
                # Airflow's connections are to be had from the event loop's own helper threads only.
                from asgiref.sync import sync_to_async

                self._client = await sync_to_async(self._build_client)()
        POLLS.send(1, stats=self._stats, operation=operation)
        client = self._client
        method: Callable[..., dict[str, Any]] = getattr(client, xform_name(operation))
        arn = next(iter(request.values())) if operation.startswith("Describe") else None
        try:
            with answers_to(operation, region=client.meta.region_name, arn=arn):
                return await asyncio.get_running_loop().run_in_executor(self._threads, lambda: method(**request))
        except AWS_ERRORS as error:
            if is_expired(error):
                # The next call builds a client anew, from the connection as it is then.
                self._client = None
            raise

    def _build_client(self) -> Any:
        return PersonalizeHook(**self._hook_parameters).polling_client


_pollers: dict[tuple[asyncio.AbstractEventLoop, str], JobPoller] = {}


@asynccontextmanager
async def shared_poller(hook_parameters: Mapping[str, Any]) -> AsyncIterator[JobPoller]:
    """
    Return the poller of an AWS connection on this event loop. It is closed when its last user leaves.

    :param hook_parameters: What :class:`~airflow_provider_personalize.hooks.personalize.PersonalizeHook` takes.
    """
    key = (asyncio.get_running_loop(), json.dumps(hook_parameters, sort_keys=True, default=str))
    poller = _pollers.setdefault(key, JobPoller(hook_parameters)) if key not in _pollers else _pollers[key]
    poller.users += 1
    try:
        yield poller
    finally:
        poller.users -= 1
        if not poller.users:
            del _pollers[key]
            await poller.close()
