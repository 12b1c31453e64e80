"""What the operators, sensors and transfers have in common: all of them, and those that wait for a job."""

from __future__ import annotations

import inspect
import re
from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_provider_personalize.compat import Context, conf
from airflow_provider_personalize.exceptions import JobFailedError, PersonalizeError
from airflow_provider_personalize.failures import final, told_to_airflow
from airflow_provider_personalize.hooks.personalize import PersonalizeHook
from airflow_provider_personalize.links.personalize import JOB_LINKS
from airflow_provider_personalize.service.kinds import ResourceKind, Until
from airflow_provider_personalize.service.waits import deadline_after

if TYPE_CHECKING:
    from airflow.sdk import BaseOperatorLink

    from airflow_provider_personalize.triggers.personalize import PersonalizeJobTrigger


def passed_on(scope: Mapping[str, Any], but: Collection[str] = ()) -> dict[str, Any]:
    """
    Return the arguments that a constructor passes on to its base class.

    An editor completes, and ``inspect.signature`` shows, only what a constructor names. So a concrete class names every
    argument, and this spares it from writing each of them a second time.

    :param scope: The constructor's ``locals()``, taken in its first statements.
    :param but: What is not passed on: its own arguments.
    """
    kept_back = {"self", "kwargs", "own", "__class__", *but}
    return {**scope["kwargs"], **{name: value for name, value in scope.items() if name not in kept_back}}


def name_in_ui(class_name: str) -> str:
    """
    Return what Airflow's UI calls an operator: ``Personalize: create batch inference job``.

    :param class_name: The name of its class.
    """
    words = re.findall(r"[A-Z][a-z]+", class_name.removesuffix("Operator"))
    proper = {"Sql": "SQL", "Parquet": "Parquet", "Iceberg": "Iceberg", "Personalize": "Personalize"}
    named = [proper.get(word, word.lower()) for word in words]
    if named[:1] == ["Personalize"] and named[1:2] != ["to"]:
        named[0] = "Personalize:"
    return " ".join(named).replace("dynamo db", "DynamoDB")


class PersonalizeTaskMixin:
    """
    Something that Airflow runs as a task: what can never succeed fails it at once, whatever its ``retries``.

    Every public method that Airflow calls with the task's context (``execute``, ``poke``, whatever a deferred task
    resumes at) is wrapped when its class is made, so no subclass can forget it.
    """

    #: Whether it creates a job, of the kind ``resource_kind``.
    creates_job: ClassVar[bool] = False
    #: Errors that pass in a retry of this task, though not by themselves.
    mended_by_retry: ClassVar[tuple[type[PersonalizeError], ...]] = ()
    #: What Airflow's UI calls the operator.
    custom_operator_name: str

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Let the errors that leave the class's own methods be told to Airflow, and give the class a name in the UI."""
        super().__init_subclass__(**kwargs)
        cls.custom_operator_name = name_in_ui(cls.__name__)
        for name, method in list(vars(cls).items()):
            is_public = inspect.isfunction(method) and not name.startswith("_")
            if is_public and "context" in inspect.signature(method).parameters:
                setattr(cls, name, told_to_airflow(method))

    def as_airflow_error(self, error: PersonalizeError) -> PersonalizeError:
        """Make an error one that Airflow does not retry, where a retry cannot help."""
        error = with_creator(error, self)
        return error if error.may_pass or isinstance(error, self.mended_by_retry) else final(error)


def with_creator(error: PersonalizeError, task: Any) -> PersonalizeError:
    """
    Return the error of a failed job with the name of the task that created the job, if one is found upstream.

    :param error: The error. Any other error is returned as it is.
    :param task: The task that met it.
    """
    if not isinstance(error, JobFailedError) or error.created_by:
        return error
    creator = _creator_of(task, error)
    if creator is None:
        return error
    named = JobFailedError(**{**error.values, "created_by": creator})
    return named.with_traceback(error.__traceback__)


def _creator_of(task: Any, error: JobFailedError) -> str | None:
    """Find the nearest task upstream, the task itself included, that creates jobs of the failed one's kind."""
    seen: set[str] = set()
    level = [task]
    while level:
        found = [each.task_id for each in level if _creates(each, error.kind)]
        if len(found) > 1:
            # A derived name has the task's id in it.
            found = [task_id for task_id in found if re.sub(r"[^a-zA-Z0-9_-]+", "-", task_id) in error.job_name]
        if found:
            return str(found[0]) if len(found) == 1 else None
        if not task.has_dag():
            return None
        seen.update(each.task_id for each in level)
        level = list({other.task_id: other for each in level for other in each.upstream_list}.values())
        level = [other for other in level if other.task_id not in seen]
    return None


def _creates(task: Any, kind: str) -> bool:
    """Return whether a task, mapped or not, creates jobs of a kind."""
    cls = getattr(task, "operator_class", type(task))
    kind_of_job = getattr(cls, "resource_kind", None)
    return bool(getattr(cls, "creates_job", False) and kind_of_job and kind_of_job.words == kind)


class ResourceWaiterMixin(PersonalizeTaskMixin):
    """Something that waits for one kind of resource, here or in the triggerer, over one AWS connection."""

    aws_hook_class = PersonalizeHook
    ui_color = "#e6f2ea"
    operator_extra_links: Collection[BaseOperatorLink] = JOB_LINKS

    #: The kind of resource; each concrete subclass sets it, unless it takes a resource of any kind.
    resource_kind: ClassVar[ResourceKind]
    takes_any_kind: ClassVar[bool] = False

    aws_conn_id: str | None
    region_name: str | None
    verify: bool | str | None
    botocore_config: dict[str, Any] | None
    execution_timeout: timedelta | None

    def __init_subclass__(cls, *, abstract: bool = False, **kwargs: Any) -> None:
        """
        Refuse, at import, a subclass that names no kind: its tasks would only fail when they run.

        :param abstract: Whether the class is a base that leaves the kind to its own subclasses.
        """
        super().__init_subclass__(**kwargs)
        if not (abstract or cls.takes_any_kind) and not isinstance(getattr(cls, "resource_kind", None), ResourceKind):
            raise TypeError(
                f"{cls.__name__}.resource_kind: expected a row of airflow_provider_personalize.service.kinds."
            )

    @staticmethod
    def _deferrable_or_default(deferrable: bool | None) -> bool:
        if deferrable is None:
            return bool(conf.getboolean("operators", "default_deferrable", fallback=False))
        return deferrable

    def _deadline(self, context: Context, timeout: float) -> float:
        """Return the moment at which a wait of this task gives up, which ``execution_timeout`` may bring forward."""
        return deadline_after(timeout, self.execution_timeout, getattr(context.get("ti"), "start_date", None))

    def _job_trigger(
        self,
        job_arn: str,
        *,
        poll_interval: float,
        deadline: float,
        solution_version_arn: str | None,
        started: float | None = None,
        until: Until = "active",
    ) -> PersonalizeJobTrigger:
        """Build the trigger that goes on with the wait, over the same connection."""
        from airflow_provider_personalize.triggers.personalize import PersonalizeJobTrigger

        return PersonalizeJobTrigger(
            job_arn=job_arn,
            poll_interval=poll_interval,
            deadline=deadline,
            solution_version_arn=solution_version_arn,
            started=started,
            until=until,
            aws_conn_id=self.aws_conn_id,
            region_name=self.region_name,
            verify=self.verify,
            botocore_config=self.botocore_config,
        )
