"""A table of DynamoDB: what its keys have to be, whether it takes the items, and how it is made."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_provider_personalize.exceptions import InvalidRequestError, ServiceError, TableMismatchError
from airflow_provider_personalize.output.rows import USER_SEGMENTS, RowKind
from airflow_provider_personalize.service.waits import Logger, growing_pause
from airflow_provider_personalize.targets.dynamodb.calls import DynamoDbCalls
from airflow_provider_personalize.targets.dynamodb.items import CHUNK, EXPIRES_AT, attribute_value

#: For how many seconds a table that is being made is waited for, and the pauses between two looks.
_PATIENCE, _FIRST_PAUSE, _LONGEST_PAUSE = 600.0, 0.1, 3.0
_TYPES = {"S": "text", "N": "a number", "B": "binary"}


@dataclass(frozen=True)
class Keys:
    """
    The keys of a table.

    :param partition: The partition key, which is text.
    :param sort: The sort key, or None.
    :param sort_type: Its type, ``S`` or ``N``.
    :param is_chunked: Whether it holds the number of a segment's chunk.
    """

    partition: str
    sort: str | None = None
    sort_type: str = "N"
    is_chunked: bool = False

    def definition(self) -> dict[str, Any]:
        """Return the part of a request that makes a table with these keys."""
        keys = [(self.partition, "HASH", "S")]
        if self.sort:
            keys.append((self.sort, "RANGE", self.sort_type))
        return {
            "KeySchema": [{"AttributeName": name, "KeyType": role} for name, role, _ in keys],
            "AttributeDefinitions": [{"AttributeName": name, "AttributeType": kind} for name, _, kind in keys],
            "BillingMode": "PAY_PER_REQUEST",
        }

    def __str__(self) -> str:
        sort = f"the sort key {self.sort} ({self.sort_type})" if self.sort else "no sort key"
        return f"the partition key {self.partition} (S) and {sort}"


def keys_for(
    kind: RowKind, partition_key: str | None, sort_key: str | None, extra_attributes: Mapping[str, Any]
) -> Keys:
    """
    Return the keys that a table needs for a kind of rows.

    :param kind: The kind.
    :param partition_key: The partition key, or None for the name of the entity's column.
    :param sort_key: The sort key, or None for none; of segments, for ``chunk``.
    :param extra_attributes: What all items have. A sort key that is among them has that value.
    :raises InvalidRequestError: if this makes no keys.
    """
    partition = partition_key or kind.columns[0].name
    if kind is USER_SEGMENTS:
        sort = sort_key or CHUNK
        if sort in extra_attributes:
            raise InvalidRequestError(
                f"sort_key: expected a key for the number of a segment's chunk, got {sort!r}, which extra_attributes "
                "gives a value of its own. Leave it out there."
            )
        return Keys(partition, sort, is_chunked=True)
    if sort_key is None:
        return Keys(partition)
    if sort_key not in extra_attributes:
        raise InvalidRequestError(
            f"sort_key: expected a key that extra_attributes gives a value, since each {kind.columns[0].name} is one "
            f"item here, got {sort_key!r}. Give it there, as extra_attributes={{{sort_key!r}: 'nightly'}}, or take a "
            "table without a sort key."
        )
    [(found, value)] = attribute_value(f"extra_attributes, {sort_key}", extra_attributes[sort_key]).items()
    if found not in {"S", "N"} or value == "":
        raise InvalidRequestError(
            f"extra_attributes, {sort_key}: expected text or a number, as a sort key takes, got "
            f"{extra_attributes[sort_key]!r}."
        )
    return Keys(partition, sort_key, found)


class Table:
    """
    A table of DynamoDB.

    :param calls: The calls for it.
    :param log: Where to log what is made, and what is worth a warning.
    """

    def __init__(self, calls: DynamoDbCalls, log: Logger) -> None:
        self.name = calls.table
        self._calls = calls
        self._log = log

    def describe(self) -> dict[str, Any] | None:
        """Return the table's description, or None where there is no such table."""
        try:
            description: dict[str, Any] = self._calls("DescribeTable", TableName=self.name)["Table"]
        except ServiceError as error:
            if error.code == "ResourceNotFoundException":
                return None
            raise
        return description

    def prepare(self, keys: Keys, *, create: bool, expiring: bool) -> bool:
        """
        Make sure that the table is there and has these keys.

        :param keys: The keys.
        :param create: Whether to make the table where it is missing.
        :param expiring: Whether items expire.
        :return: Whether the table was made now.
        :raises TableMismatchError: if it is missing, or has other keys.
        """
        description = self.describe()
        is_new = description is None
        if description is None:
            if not create:
                raise TableMismatchError(
                    table=self.name,
                    reason=f"there is no such table. Make it, with {keys}, or set create_table; or check table_name, "
                    "region_name and the account of aws_conn_id",
                )
            self._create(keys)
        self.check(self._until_active(), keys)
        if expiring:
            self.expire(is_new=is_new)
        return is_new

    def check(self, description: Mapping[str, Any], keys: Keys) -> None:
        """
        Make sure that a table has these keys.

        :raises TableMismatchError: if it has others.
        """
        types = {one["AttributeName"]: one["AttributeType"] for one in description["AttributeDefinitions"]}
        found = {one["KeyType"]: one["AttributeName"] for one in description["KeySchema"]}
        wanted = {"HASH": (keys.partition, "S")} | ({"RANGE": (keys.sort, keys.sort_type)} if keys.sort else {})
        if {role: (name, types[name]) for role, name in found.items()} != wanted:
            has = " and ".join(
                f"the {'partition' if role == 'HASH' else 'sort'} key {name} ({types[name]}, {_TYPES[types[name]]})"
                for role, name in sorted(found.items())
            )
            raise TableMismatchError(
                table=self.name,
                reason=f"expected {keys}, got {has}. Set partition_key and sort_key to the table's own (a sort key "
                "that extra_attributes gives a value holds that value), or take another table",
            )

    def expire(self, *, is_new: bool) -> None:
        """
        See to it that DynamoDB deletes what has expired: set it where the table is new, else warn where it is not set.

        :param is_new: Whether the table was made by this load.
        """
        try:
            if is_new:
                wanted = {"Enabled": True, "AttributeName": EXPIRES_AT}
                self._calls("UpdateTimeToLive", TableName=self.name, TimeToLiveSpecification=wanted)
                return
            answer = self._calls("DescribeTimeToLive", TableName=self.name)
        except ServiceError as error:
            self._log.warning("Whether %s deletes what has expired is not known: %s", self.name, error.message)
            return
        found = answer.get("TimeToLiveDescription", {})
        is_on = found.get("TimeToLiveStatus") in {"ENABLED", "ENABLING"}
        if not is_on or found.get("AttributeName", EXPIRES_AT) != EXPIRES_AT:
            self._log.warning(
                "Items get %s, but the table %s does not delete by it (TTL: %s). Turn it on once: aws dynamodb "
                "update-time-to-live --table-name %s --time-to-live-specification Enabled=true,AttributeName=%s",
                EXPIRES_AT,
                self.name,
                found.get("AttributeName") or found.get("TimeToLiveStatus", "off"),
                self.name,
                EXPIRES_AT,
            )

    def later_chunks(self, keys: Keys, entity: str, last: int) -> list[str]:
        """
        Return the requests that delete a segment's items behind a chunk.

        :param keys: The table's keys.
        :param entity: The segment.
        :param last: The number of the chunk that is the last one now.
        """
        asked: dict[str, Any] = {
            "TableName": self.name,
            "KeyConditionExpression": "#p = :p AND #s > :s",
            "ProjectionExpression": "#p, #s",
            "ExpressionAttributeNames": {"#p": keys.partition, "#s": keys.sort},
            "ExpressionAttributeValues": {":p": {"S": entity}, ":s": {"N": str(last)}},
            "ConsistentRead": True,
        }
        requests = []
        while True:
            answer = self._calls("Query", **asked)
            requests += [json.dumps({"DeleteRequest": {"Key": key}}, ensure_ascii=False) for key in answer["Items"]]
            if not answer.get("LastEvaluatedKey"):
                return requests
            asked["ExclusiveStartKey"] = answer["LastEvaluatedKey"]

    def _create(self, keys: Keys) -> None:
        try:
            self._calls("CreateTable", TableName=self.name, **keys.definition())
            self._log.info("Made the table %s, with %s.", self.name, keys)
        except ServiceError as error:
            # Another part of the same load was quicker.
            if error.code != "ResourceInUseException":
                raise

    def _until_active(self) -> dict[str, Any]:
        until, looks = time.monotonic() + _PATIENCE, 0
        while True:
            looks += 1
            description = self.describe()
            status = description["TableStatus"] if description else "missing"
            if description and status in {"ACTIVE", "UPDATING"}:
                return description
            if status == "DELETING" or time.monotonic() > until:
                raise TableMismatchError(
                    table=self.name, reason=f"expected a table that is ACTIVE, got one that is {status}"
                )
            time.sleep(growing_pause(looks, first=_FIRST_PAUSE, longest=_LONGEST_PAUSE))
