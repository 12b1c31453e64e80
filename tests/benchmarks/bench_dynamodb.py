"""
What it costs a client to put output into DynamoDB, beside boto3's own ``batch_writer``.

    python tests/benchmarks/bench_dynamodb.py [--lines 20000] [--results 25] [--runs 3]

Both send the same items to a server that takes everything and keeps nothing, in a process of its own. Ours is
``PersonalizeToDynamoDbOperator.execute``: it reads the lines twice, checks each, and puts them. The other one parses
each line with ``json``, and puts it into ``batch_writer()``, which sends 25 items a call, one call after the other. The
figure is the CPU of the client's process for an item, imports not counted; medians of the runs, which take turns.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import socketserver
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from support import airflow_environment, measured, run_alone

WAYS = ("batch_writer", "ours")
_KEYS = {
    "KeySchema": [{"AttributeName": "user_id", "KeyType": "HASH"}],
    "AttributeDefinitions": [{"AttributeName": "user_id", "AttributeType": "S"}],
    "TableStatus": "ACTIVE",
}


def write_lines(path: Path, lines: int, results: int) -> None:
    """Write lines as the service does."""
    draw = random.Random(1)
    with path.open("w") as out:
        for user in range(lines):
            output = {
                "recommendedItems": [str(draw.randrange(1, 100_000)) for _ in range(results)],
                "scores": sorted((round(draw.random() / 20, 7) for _ in range(results)), reverse=True),
            }
            out.write(json.dumps({"input": {"userId": str(user)}, "output": output, "error": None}) + "\n")


class _Taker(socketserver.StreamRequestHandler):
    """Answers as a DynamoDB that takes everything."""

    def handle(self) -> None:
        while head := self.rfile.readline():
            headers = b""
            while (line := self.rfile.readline()) not in (b"\r\n", b""):
                headers += line
            length = re.search(rb"(?i)^content-length: *(\d+)", headers, re.MULTILINE)
            self.rfile.read(int(length[1]) if length and head.startswith(b"POST") else 0)
            is_write = b"BatchWriteItem" in headers
            body = json.dumps({"UnprocessedItems": {}} if is_write else {"Table": _KEYS}).encode()
            self.wfile.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.0\r\n"
                b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
            )


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True


def serve() -> None:
    """Print the port, and answer until the process is ended."""
    with _Server(("127.0.0.1", 0), _Taker) as server:
        print(server.server_address[1], flush=True)
        server.serve_forever()


def put_by_batch_writer(path: Path) -> None:
    """Put the lines as one would by hand."""
    from decimal import Decimal

    import boto3

    with boto3.resource("dynamodb").Table("recs").batch_writer() as writer, path.open() as lines:
        for line in lines:
            found = json.loads(line, parse_float=Decimal)
            output = found["output"]
            writer.put_item(
                Item={
                    "user_id": found["input"]["userId"],
                    "items": output["recommendedItems"],
                    "scores": output["scores"],
                    "load_id": "0123456789abcdef",
                }
            )


def put(way: str, path: Path) -> None:
    """Put the lines in one way, and print the CPU, the seconds and the memory that it took."""
    if way == "ours":
        from airflow_provider_personalize.transfers.personalize_to_dynamodb import PersonalizeToDynamoDbOperator

        operator = PersonalizeToDynamoDbOperator(
            task_id="load", table_name="recs", output_uri=path.as_uri(), aws_conn_id=None, region_name="us-east-1"
        )

        def work() -> None:
            operator.execute({})
    else:
        import boto3  # noqa: F401

        def work() -> None:
            put_by_batch_writer(path)

    begun = time.process_time()
    figures = measured(work)
    print(json.dumps({**figures, "cpu": time.process_time() - begun}))


def main() -> None:
    """Take turns, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=20_000)
    parser.add_argument("--results", type=int, default=25)
    parser.add_argument("--runs", type=int, default=3)
    chosen = parser.parse_args()
    command = [sys.executable, __file__, "serve"]
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server,
    ):
        try:
            assert server.stdout
            environment = airflow_environment(Path(folder)) | {
                "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.stdout.readline().strip()}",
                "AWS_ACCESS_KEY_ID": "bench",
                "AWS_SECRET_ACCESS_KEY": "bench",
                "AWS_DEFAULT_REGION": "us-east-1",
                "AWS_EC2_METADATA_DISABLED": "true",
            }
            path = Path(folder) / "users.json.out"
            write_lines(path, chosen.lines, chosen.results)
            found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
            for _ in range(chosen.runs):
                for way in WAYS:
                    found[way].append(run_alone(__file__, "put", way, str(path), environment=environment))
        finally:
            server.kill()
    print(f"{chosen.lines:,} items of {chosen.results} results")
    print(f"{'':14}{'CPU an item':>14}{'seconds':>10}{'memory':>10}")
    for way in WAYS:
        cpu, seconds, memory = (
            statistics.median(run[name] for run in found[way]) for name in ("cpu", "seconds", "memory")
        )
        print(f"{way:14}{cpu / chosen.lines * 1e6:11.0f} µs{seconds:9.2f} s{memory:7.0f} MB")
    ratio = statistics.median(a["cpu"] / b["cpu"] for a, b in zip(found["ours"], found["batch_writer"], strict=True))
    print(f"ours / batch_writer: {ratio:.2f} of the CPU")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve"]:
            serve()
        case ["put", way, path]:
            put(way, Path(os.fspath(path)))
        case _:
            main()
