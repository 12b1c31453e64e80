"""What the operators of resources that are made once and kept have in common: they wait, and find what is there."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, ClassVar, Literal

from airflow.providers.amazon.aws.operators.base_aws import AwsBaseOperator
from airflow.providers.amazon.aws.utils.mixins import aws_template_fields

from airflow_provider_personalize.arguments import ReadArguments, Reader, flag, form, one_of, required
from airflow_provider_personalize.compat import Context
from airflow_provider_personalize.exceptions import ResourceConflictError
from airflow_provider_personalize.hooks.resources import PersonalizeResourceHook
from airflow_provider_personalize.links.personalize import persist_job_links
from airflow_provider_personalize.operators.mixins import ResourceWaiterMixin
from airflow_provider_personalize.service.definitions import (
    api_field,
    as_it_becomes,
    check_name,
    resource_differences,
    unchangeable,
    update_request,
)
from airflow_provider_personalize.service.kinds import CREATE_PENDING, State, Until, read_status
from airflow_provider_personalize.service.names import kind_of
from airflow_provider_personalize.service.statuses import INACTIVE
from airflow_provider_personalize.service.waits import DEFAULT_POLL_INTERVAL, DEFAULT_TIMEOUT, in_seconds, left_running
from airflow_provider_personalize.triggers.events import job_arn_from_event

#: What to do where there is such a resource already.
IfExists = Literal["reuse", "update", "fail"]


class PersonalizeResourceOperator(
    ReadArguments, ResourceWaiterMixin, AwsBaseOperator[PersonalizeResourceHook], abstract=True
):
    """
    Do something with a resource, and wait for it; what its creation, deletion, start and stop have in common.

    :param deferrable: Whether to wait in the triggerer, without holding a worker. As in the Amazon provider, it implies
        ``wait_for_completion``.
    :param poll_interval: Seconds, or a timedelta, between two looks at the resource.
    :param timeout: Seconds, or a timedelta, until the wait gives up; ``execution_timeout`` shortens it.
    :param aws_conn_id: The Airflow connection of type Amazon Web Services.
    :param region_name: The region; by default the connection's.
    :param verify: Whether to verify TLS certificates, or the file or folder of CA certificates to verify them against.
    :param botocore_config: Options for botocore's client.
    :return: The resource's ARN.
    """

    aws_hook_class = PersonalizeResourceHook
    template_fields: Sequence[str] = aws_template_fields()
    argument_readers: ClassVar[Mapping[str, Reader]] = {"wait_for_completion": flag, "deferrable": flag}

    def __init__(
        self,
        *,
        deferrable: bool | None = None,
        poll_interval: float | timedelta = DEFAULT_POLL_INTERVAL,
        timeout: float | timedelta = DEFAULT_TIMEOUT,
        aws_conn_id: str | None = "aws_default",
        region_name: str | None = None,
        verify: bool | str | None = None,
        botocore_config: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            aws_conn_id=aws_conn_id,
            region_name=region_name,
            verify=verify,
            botocore_config=botocore_config,
            **kwargs,
        )
        self.deferrable = self._deferrable_or_default(deferrable)
        self.poll_interval = in_seconds(poll_interval, "poll_interval")
        self.timeout = in_seconds(timeout, "timeout")
        self._awaited: tuple[str, Until] | None = None

    wait_for_completion: bool

    def _wait(self, context: Context, arn: str, until: Until) -> None:
        """Wait, here or in the triggerer, if asked to."""
        if not (self.deferrable or self.wait_for_completion) or not (kind_of(arn).has_status or until == "gone"):
            return
        self._awaited = arn, until
        deadline = self._deadline(context, self.timeout)
        if not self.deferrable:
            self.hook.wait_for_job(arn, poll_interval=self.poll_interval, deadline=deadline, until=until)
            return
        self.defer(
            trigger=self._job_trigger(
                arn, poll_interval=self.poll_interval, deadline=deadline, solution_version_arn=None, until=until
            ),
            method_name="execute_complete",
            kwargs={"until": until},
        )

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None, until: Until = "active") -> str:
        """Resume after the trigger: return the ARN, or raise what the synchronous wait would have raised."""
        return job_arn_from_event(event, self.log, until)

    def on_kill(self) -> None:
        """Log that the resource goes on without the task."""
        if self._awaited:
            self.log.warning("%s", left_running(*self._awaited))


class PersonalizeCreateResourceOperator(PersonalizeResourceOperator, abstract=True):
    """
    Create a resource, or find the one that is there; what the kinds have in common.

    What is there under the same name is used if it was made from the same definition. Of what the task leaves to the
    service, nothing is compared. So a task that runs twice makes one resource.

    A subclass sets ``resource_kind``, and in ``request_fields`` the arguments of its request with their readers; its
    constructor names all arguments.

    :param name: The resource's name.
    :param if_exists: What to do if there is a resource of this name: ``reuse`` it, unless it differs, which is an error
        that names the differences; ``update`` it where it differs, as far as the API can; or ``fail``.
    :param wait_for_completion: Whether to wait until the resource is ACTIVE, and until an update is done.
    """

    #: The arguments of the create request, beside the name, and their readers.
    request_fields: ClassVar[Mapping[str, Reader]] = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Let the arguments of the request be read, and all but the flags among them be templates."""
        cls.argument_readers = {
            "name": required(form(check_name)),
            "if_exists": required(one_of(("reuse", "update", "fail"))),
            **cls.request_fields,
            **PersonalizeResourceOperator.argument_readers,
        }
        words = [field for field, read in cls.request_fields.items() if read is not flag]
        cls.template_fields = aws_template_fields("if_exists", "name", *words)
        super().__init_subclass__(**kwargs)

    def __init__(
        self, *, name: str, if_exists: IfExists = "reuse", wait_for_completion: bool = False, **kwargs: Any
    ) -> None:
        fields = {field: kwargs.pop(field) for field in self.request_fields}
        super().__init__(**kwargs)
        self.name = name
        self.if_exists = if_exists
        self.wait_for_completion = wait_for_completion
        for field, value in fields.items():
            setattr(self, field, value)
        self.check_literals()

    def build_request(self) -> dict[str, Any]:
        """Return the create request: what was given, under the API's names."""
        given = {field: getattr(self, field) for field in self.request_fields}
        request = {api_field(field): value for field, value in given.items() if value is not None}
        if tags := request.pop("tags", None):
            request["tags"] = [{"tagKey": key, "tagValue": value} for key, value in tags.items()]
        return {"name": self.name, **request}

    def check_request(self, request: dict[str, Any]) -> None:
        """Check what the resource is to be made from, or changed to, before anything is."""

    def execute(self, context: Context) -> str:
        """Create the resource or find it; wait for it if asked to."""
        self.read_arguments()
        kind, request = self.resource_kind, self.build_request()
        found = self.hook.find_resource(kind, request)
        if found is None:
            self.log.info("Asking for a %s: %s", kind.words, json.dumps(request))
            self.check_request(request)
            arn = self.hook.create_resource(kind, request)
            if arn is not None:
                persist_job_links(context, self, read_status(kind, {kind.arn_field: arn, "status": CREATE_PENDING}))
                self._wait(context, arn, "active")
                return arn
            found = self.hook.find_resource(kind, request) or {}
        elif self.if_exists == "fail":
            raise self._conflict(found, "if_exists='fail' was asked for: give another name, or if_exists='reuse'")
        return self._use(context, found, request)

    def _use(self, context: Context, found: dict[str, Any], request: dict[str, Any]) -> str:
        """Use a resource that is there, after an update where it differs and that is asked for."""
        kind = self.resource_kind
        status = read_status(kind, found)
        if status.state is State.FAILED and status.status != INACTIVE:
            is_going = status.status.startswith("DELETE")
            todo = "run the task again when it is gone" if is_going else "delete it first"
            why = f" ({status.failure_reason.rstrip('.')})" if status.failure_reason else ""
            raise self._conflict(found, f"it is {status.status}{why}: {todo}")
        described, is_updating = as_it_becomes(kind, found)
        differing = resource_differences(kind, request, described)
        if differing:
            self._check_can_update(found, differing)
            self.check_request(request)
            self.hook.update_resource(status.arn, update_request(kind, status.arn, request, described, differing))
        else:
            self.log.info("Found the %s %s, %s: using it. %s", kind.words, status.name, status.status, status.arn)
        persist_job_links(context, self, status)
        if status.status != INACTIVE or differing:
            self._wait(context, status.arn, "updated" if differing or is_updating else "active")
        return status.arn

    def _check_can_update(self, found: dict[str, Any], differing: dict[str, tuple[Any, Any]]) -> None:
        if self.if_exists != "update":
            can = " or set if_exists='update'" if not unchangeable(self.resource_kind, differing) else ""
            todo = f"give another name{can}" if can else "give another name, or delete it first"
            raise self._conflict(found, f"it was made from another definition: {todo}", differing)
        if fixed := unchangeable(self.resource_kind, differing):
            raise self._conflict(
                found,
                f"the service cannot change {', '.join(fixed)} of a {self.resource_kind.words}: give another name, or "
                "delete it first",
                differing,
            )

    def _conflict(
        self, found: dict[str, Any], reason: str, differing: dict[str, tuple[Any, Any]] | None = None
    ) -> ResourceConflictError:
        status = read_status(self.resource_kind, found)
        error = ResourceConflictError(
            kind=self.resource_kind.words, name=status.name, arn=status.arn, reason=reason, differences=differing
        )
        error.may_pass = status.status.startswith("DELETE")
        return error
