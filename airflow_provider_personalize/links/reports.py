"""The link from a check to the page that it has written; Airflow 3.1 and newer also show the page in a tab."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from airflow.providers.amazon.aws.links.base_aws import BASE_AWS_CONSOLE_LINK

from airflow_provider_personalize.exceptions import InvalidRequestError
from airflow_provider_personalize.links.personalize import ConsoleLink
from airflow_provider_personalize.uris import S3Uri, parse_uri_or_path


class PersonalizeReportLink(ConsoleLink):
    """
    The page in the S3 console, or the file itself.

    What is stored for it in XCom is also what the tab is served from, which finds all that it needs there.
    """

    name = "Report"
    key = "personalize_report"
    format_str = BASE_AWS_CONSOLE_LINK + "/s3/object/{bucket}?region={region_name}&prefix={key}"
    stand_in_query = "bucket={bucket}&prefix={key}"

    def format_link(self, **kwargs: Any) -> str:
        """Return the address; empty where no page was written, or nobody knows the console that has it."""
        try:
            place = parse_uri_or_path(kwargs.get("uri"))
        except InvalidRequestError:
            return ""
        if not isinstance(place, S3Uri):
            return f"file://{quote(str(place.path.absolute()))}"
        where = {name: kwargs.get(name) for name in ("stand_in", "aws_domain")}
        return super().format_link(
            **where, region_name=kwargs.get("region_name") or "", bucket=place.bucket, key=place.key
        )
