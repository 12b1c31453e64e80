"""
Links from a task to the AWS console.

No public text gives the address of a batch job's own page, so a job's link leads to the console's list of the
resources of its region, with the job's ARN in the fragment. The solution's page and the S3 page are as AWS's own
consoles show them.

A task on the stand-in has links to the stand-in's own pages, since AWS's console knows nothing of what is there.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import quote, urlsplit

from airflow.providers.amazon.aws.links.base_aws import BASE_AWS_CONSOLE_LINK, BaseAwsLink

from airflow_provider_personalize.exceptions import InvalidRequestError
from airflow_provider_personalize.service.kinds import solution_arn_of
from airflow_provider_personalize.service.names import parse_arn
from airflow_provider_personalize.uris import parse_s3_uri

if TYPE_CHECKING:
    from airflow_provider_personalize.compat import Context
    from airflow_provider_personalize.service.kinds import ResourceStatus

_PERSONALIZE = BASE_AWS_CONSOLE_LINK + "/personalize/home?region={region_name}#"


#: The account of AWS's own examples, which nobody has: the stand-in's.
_EXAMPLE_ACCOUNT = "123456789012"


class ConsoleLink(BaseAwsLink):
    """A page of the AWS console; there is no link in a partition whose console's address is not known."""

    #: What the stand-in's console is asked for.
    stand_in_query: ClassVar[str]

    def format_link(self, **kwargs: Any) -> str:
        """Fill in the address, each value quoted for the place where it stands."""
        stand_in = str(kwargs.pop("stand_in", None) or "")
        quoted = {name: quote(str(value), safe="/:") for name, value in kwargs.items()}
        if stand_in.startswith(("http://", "https://")):
            return f"{stand_in.rstrip('/')}/_local/console?{self.stand_in_query.format(**quoted)}"
        return super().format_link(**quoted) if kwargs.get("aws_domain") else ""


class PersonalizeJobLink(ConsoleLink):
    """The batch job in the Personalize console."""

    name = "Personalize job"
    key = "personalize_job"
    format_str = _PERSONALIZE + "{job_arn}"
    stand_in_query = "arn={job_arn}"


class PersonalizeSolutionLink(ConsoleLink):
    """The solution that the job's recommendations come from, in the Personalize console."""

    name = "Personalize solution"
    key = "personalize_solution"
    format_str = _PERSONALIZE + "{solution_arn}"
    stand_in_query = "arn={solution_arn}"


class PersonalizeOutputLink(ConsoleLink):
    """The folder that the job writes its output to, in the S3 console."""

    name = "Output in S3"
    key = "personalize_output"
    format_str = BASE_AWS_CONSOLE_LINK + "/s3/buckets/{bucket}?region={region_name}&prefix={prefix}"
    stand_in_query = "bucket={bucket}&prefix={prefix}"


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
    if stand_in := stand_in_of(operator, arn.account):
        where["stand_in"] = stand_in
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


def job_url(operator: Any, arn: str) -> str:
    """
    Return the address at which a job, or any other resource, can be looked at; empty where none is known.

    :param operator: The operator that works with it.
    :param arn: Its ARN.
    """
    where = parse_arn(arn)
    return PersonalizeJobLink().format_link(
        job_arn=arn,
        region_name=where.region,
        aws_domain=PersonalizeJobLink.get_aws_domain(where.partition),
        stand_in=stand_in_of(operator, where.account),
    )


def stand_in_of(operator: Any, account: str) -> str | None:
    """Return the address of the stand-in, where a task works on it: the endpoint of its connection."""
    if account != _EXAMPLE_ACCOUNT:
        return None
    with suppress(Exception):
        endpoint = str(operator.hook.polling_client.meta.endpoint_url)
        if not (urlsplit(endpoint).hostname or "").endswith((".amazonaws.com", ".amazonaws.com.cn")):
            return endpoint
    return None
