"""What the tests of DynamoDB share: a server that keeps its limits, tables to load into, and the loader."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest
from boto3.dynamodb.types import TypeDeserializer

from airflow_provider_personalize.transfers.personalize_to_dynamodb import PersonalizeToDynamoDbOperator

#: Where `.ci/run` installs it: no Python package is it.
INSTALLED = Path(__file__).parents[2] / ".state/node/node_modules/.bin/dynalite"


@contextmanager
def dynalite() -> Iterator[str]:
    """Run a dynalite, and yield its URL. Where there is none, the test is skipped."""
    command = shutil.which("dynalite") or (str(INSTALLED) if INSTALLED.exists() else None)
    if command is None or shutil.which("node") is None:
        pytest.skip("needs dynalite, a DynamoDB that keeps the limits: npm install --prefix .state/node dynalite")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryFile() as log:
        arguments = [command, "--port", str(port), "--createTableMs", "0", "--deleteTableMs", "0"]
        process = subprocess.Popen(arguments, stdout=log, stderr=log)
        try:
            for _ in range(600):
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                assert process.poll() is None, "dynalite has ended"
                time.sleep(0.05)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()
            process.wait()


class Tables:
    """
    The tables of a DynamoDB.

    :param url: Its URL.
    :param conn_id: The Airflow connection that leads there.
    """

    def __init__(self, url: str, conn_id: str) -> None:
        self.conn_id = conn_id
        self.client = boto3.client("dynamodb", endpoint_url=url, region_name="us-east-1")

    def create(self, name: str, *keys: str) -> None:
        """Make a table with keys written as ``user_id:S``, the partition key first."""
        pairs = [key.split(":") for key in keys]
        self.client.create_table(
            TableName=name,
            KeySchema=[
                {"AttributeName": key, "KeyType": role}
                for (key, _), role in zip(pairs, ("HASH", "RANGE")[: len(pairs)], strict=True)
            ],
            AttributeDefinitions=[{"AttributeName": key, "AttributeType": kind} for key, kind in pairs],
            BillingMode="PAY_PER_REQUEST",
        )
        while self.client.describe_table(TableName=name)["Table"]["TableStatus"] != "ACTIVE":
            time.sleep(0.02)

    def names(self) -> list[str]:
        """Return the names of the tables."""
        return self.client.list_tables()["TableNames"]

    def read(self, name: str, *, without: tuple[str, ...] = ("load_id",)) -> list[dict[str, Any]]:
        """Return a table's items in a fixed order, their numbers as floats, without some attributes."""
        pages = self.client.get_paginator("scan").paginate(TableName=name, ConsistentRead=True)
        items = [_plain(item) for page in pages for item in page["Items"]]
        return sorted(({key: item[key] for key in item if key not in without} for item in items), key=repr)

    def load(self, context: dict[str, Any] | None = None, **arguments: Any) -> dict[str, Any]:
        """Load, and return what the operator returns."""
        operator = PersonalizeToDynamoDbOperator(
            **{"task_id": "load", "table_name": "recs", "aws_conn_id": self.conn_id, **arguments}
        )
        return operator.execute(context or {})


def _plain(item: dict[str, Any]) -> dict[str, Any]:
    def plain(value: Any) -> Any:
        match value:
            case list():
                return [plain(one) for one in value]
            case dict():
                return {key: plain(one) for key, one in value.items()}
            case bool() | str() | None:
                return value
        return float(value)

    return {name: plain(TypeDeserializer().deserialize(value)) for name, value in item.items()}
