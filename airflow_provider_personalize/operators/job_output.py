"""How a load finds the output of a batch job: by the job's ARN, or by the URI where it lies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from airflow.providers.amazon.aws.utils.mixins import AwsBaseHookMixin

from airflow_provider_personalize.compat import Context
from airflow_provider_personalize.exceptions import InvalidRequestError
from airflow_provider_personalize.hooks.personalize import PersonalizeHook
from airflow_provider_personalize.lineage import LoadLineage
from airflow_provider_personalize.links.personalize import persist_job_links
from airflow_provider_personalize.output.rows import USER_SEGMENTS, RowKind
from airflow_provider_personalize.s3.job_objects import objects_of_job
from airflow_provider_personalize.s3.objects import StoredObject, objects_at
from airflow_provider_personalize.service.kinds import BATCH_SEGMENT_JOB, State, read_status
from airflow_provider_personalize.service.names import digest, job_kind_of


class JobOutput(NamedTuple):
    """
    Output that is to be loaded.

    :param uri: Where it lies, as the job or ``output_uri`` says.
    :param objects: Its objects, or files.
    :param kind: The kind of its rows, where the job tells it; otherwise the lines do.
    :param job_arn: The job that wrote it, where that is known.
    """

    uri: str
    objects: Sequence[StoredObject]
    kind: RowKind | None = None
    job_arn: str | None = None

    @property
    def size(self) -> int:
        """Return its size in bytes."""
        return sum(item.size for item in self.objects)

    def version(self) -> str:
        """Return what identifies it: the job's ARN, or the URI with a digest that changes with the objects."""
        return self.job_arn or f"{self.uri}#{digest([[item.uri, item.version()] for item in self.objects], 16)}"


class JobOutputMixin(AwsBaseHookMixin[PersonalizeHook]):
    """A transfer that loads the output of the job ``job_arn``, or what lies at ``output_uri``."""

    job_arn: str | None
    output_uri: str | None
    #: What OpenLineage is told of the load: as much as is known, also where it fails.
    loaded: LoadLineage
    _s3: Any = None

    def s3_client(self) -> Any:
        """Return the client of S3. It is created once: that takes longer than loading 100,000 rows."""
        self._s3 = self._s3 or self.hook.s3_client()
        return self._s3

    def job_output(self, context: Context) -> JobOutput:
        """
        Return the output to load.

        :param context: The task's context; the links of the job are noted in it.
        :raises InvalidRequestError: if the job is not ACTIVE yet.
        :raises JobFailedError: if it failed.
        :raises MissingOutputError: if output is missing.
        """
        if self.output_uri:
            self.loaded.source_uri = self.output_uri
            return JobOutput(self.output_uri, objects_at(self.s3_client, self.output_uri))
        job_arn = str(self.job_arn)
        job_kind = job_kind_of(job_arn)
        description = self.hook.describe_job(job_arn)
        uri = self.loaded.source_uri = description["jobOutput"]["s3DataDestination"]["path"]
        status = read_status(job_kind, description)
        persist_job_links(context, self, status._replace(arn=job_arn))
        status.raise_if_failed()
        if status.state is not State.SUCCEEDED:
            raise InvalidRequestError(
                f"job_arn: expected a job that is ACTIVE, got one that is {status.status}. Wait for it with a sensor, "
                f"or with the create operator's deferrable or wait_for_completion. {job_arn}",
                may_pass=True,
            )
        return JobOutput(
            uri,
            objects_of_job(self.s3_client(), description),
            USER_SEGMENTS if job_kind is BATCH_SEGMENT_JOB else None,
            job_arn,
        )
