"""
Links from a task to the AWS console.

No public text gives the address of a batch job's own page, so a job's link leads to the console's list of the
resources of its region, with the job's ARN in the fragment. The solution's page and the S3 page are as AWS's own
consoles show them.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow.providers.amazon.aws.links.base_aws import BASE_AWS_CONSOLE_LINK, BaseAwsLink

from airflow_provider_personalize.exceptions import InvalidRequestError
from airflow_provider_personalize.service.kinds import solution_arn_of
from airflow_provider_personalize.service.names import parse_arn
from airflow_provider_personalize.uris import parse_s3_uri

if TYPE_CHECKING:
    from airflow_provider_personalize.compat import Context
    from airflow_provider_personalize.service.kinds import ResourceStatus

_PERSONALIZE = BASE_AWS_CONSOLE_LINK + "/personalize/home?region={region_name}#"


class _ConsoleLink(BaseAwsLink):
    """A page of the AWS console; there is no link in a partition whose console's address is not known."""

    def format_link(self, **kwargs: Any) -> str:
        """Fill in the address, each value quoted for the place where it stands."""
        if not kwargs.get("aws_domain"):
            return ""
        return super().format_link(**{name: quote(str(value), safe="/:") for name, value in kwargs.items()})


class PersonalizeJobLink(_ConsoleLink):
    """The batch job in the Personalize console."""

    name = "Personalize job"
    key = "personalize_job"
    format_str = _PERSONALIZE + "{job_arn}"


class PersonalizeSolutionLink(_ConsoleLink):
    """The solution that the job's recommendations come from, in the Personalize console."""

    name = "Personalize solution"
    key = "personalize_solution"
    format_str = _PERSONALIZE + "{solution_arn}"


class PersonalizeOutputLink(_ConsoleLink):
    """The folder that the job writes its output to, in the S3 console."""

    name = "Output in S3"
    key = "personalize_output"
    format_str = BASE_AWS_CONSOLE_LINK + "/s3/buckets/{bucket}?region={region_name}&prefix={prefix}"


#: The links of every task that has to do with one job.
JOB_LINKS = (PersonalizeJobLink(), PersonalizeSolutionLink(), PersonalizeOutputLink())


def persist_job_links(context: Context, operator: Any, job: ResourceStatus) -> None:
    """
    Store what the links of a task need, before the task waits, so that the links work from then on.

    :param context: The task's context.
    :param operator: The task's operator.
    :param job: The job.
    """
    arn = parse_arn(job.arn)
    where = {"region_name": arn.region, "aws_partition": arn.partition}
    PersonalizeJobLink.persist(context=context, operator=operator, job_arn=job.arn, **where)
    if job.solution_version_arn:
        solution_arn = solution_arn_of(job.solution_version_arn)
        PersonalizeSolutionLink.persist(context=context, operator=operator, solution_arn=solution_arn, **where)
    # A link is not worth a task: what leads nowhere is left out.
    with suppress(InvalidRequestError):
        uri = parse_s3_uri(job.output_uri or "", max_length=None)
        folder = uri.key.rstrip("/")
        PersonalizeOutputLink.persist(
            context=context, operator=operator, bucket=uri.bucket, prefix=folder and f"{folder}/", **where
        )
