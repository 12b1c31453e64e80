"""The tags of resources."""

from __future__ import annotations

from typing import Any

from airflow_provider_personalize.local.errors import ApiError
from airflow_provider_personalize.local.resources import Region
from airflow_provider_personalize.local.validation import validate_tags

_MOST = 50

Request = dict[str, Any]


class Tags:
    """The operations on tags."""

    def add(self, region: Region, request: Request) -> Request:
        """Add tags to a resource; a key that it has already gets the new value."""
        validate_tags(request)
        merged = {tag["tagKey"]: tag for tag in (*_tags_of(region, request), *request["tags"])}
        if len(merged) > _MOST:
            raise ApiError("TooManyTagsException", f"Expected at most {_MOST} tags, got {len(merged)}.")
        region.tags[request["resourceArn"]] = list(merged.values())
        return {}

    def remove(self, region: Region, request: Request) -> Request:
        """Remove tags from a resource; keys that it does not have are passed over."""
        region.tags[request["resourceArn"]] = [
            tag for tag in _tags_of(region, request) if tag["tagKey"] not in request["tagKeys"]
        ]
        return {}

    def list(self, region: Region, request: Request) -> Request:
        """Return the tags of a resource."""
        return {"tags": _tags_of(region, request)}


def _tags_of(region: Region, request: Request) -> list[dict[str, str]]:
    arn = request["resourceArn"]
    if arn not in region.resources:
        raise ApiError("ResourceNotFoundException", f"Resource Arn {arn} does not exist.")
    return region.tags.get(arn, [])
