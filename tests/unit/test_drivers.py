"""Which database a connection leads to: what the server calls itself, as each driver passes it on."""

from __future__ import annotations

import socket
import socketserver
import struct
import threading
from collections.abc import Iterator
from contextlib import closing
from types import SimpleNamespace
from typing import Any, get_args

import pytest

pytest.importorskip("airflow", reason="a load's parts import Airflow")

from airflow_provider_personalize.sql import drivers
from airflow_provider_personalize.sql.opening import dialect_of
from airflow_provider_personalize.targets.sql import target_of
from airflow_provider_personalize.targets.sql.base import SqlTarget
from airflow_provider_personalize.targets.sql.pgstream import copy_from

#: How a client asks for encryption before it says anything else.
ENCRYPTION_REQUESTS = {80877103, 80877104}


def message(kind: bytes, *fields: bytes) -> bytes:
    """Build a message of PostgreSQL's protocol: its kind, its length, its fields."""
    body = b"".join(fields)
    return kind + struct.pack("!I", len(body) + 4) + body


def parameter(name: str, value: str) -> bytes:
    return message(b"S", name.encode(), b"\0", value.encode(), b"\0")


class Server(socketserver.ThreadingTCPServer):
    """As much of PostgreSQL's server as a connection needs to be opened: it lets in whoever comes."""

    daemon_threads = True

    def __init__(self, version: str) -> None:
        super().__init__(("127.0.0.1", 0), Session)
        self.version = version


class Session(socketserver.StreamRequestHandler):
    server: Server

    def handle(self) -> None:
        while self.startup() in ENCRYPTION_REQUESTS:
            self.wfile.write(b"N")
        settings = {
            "server_version": self.server.version,
            "server_encoding": "UNICODE",
            "client_encoding": "UTF8",
            "DateStyle": "ISO, MDY",
            "integer_datetimes": "on",
            "standard_conforming_strings": "on",
        }
        self.wfile.write(
            message(b"R", struct.pack("!I", 0))
            + b"".join(parameter(*setting) for setting in settings.items())
            + message(b"K", struct.pack("!II", 1, 2))
            + message(b"Z", b"I")
        )
        # Until the client says goodbye.
        self.rfile.read()

    def startup(self) -> int:
        (length,) = struct.unpack("!I", self.rfile.read(4))
        (code,) = struct.unpack("!I", self.rfile.read(length - 4)[:4])
        return int(code)


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with Server(request.param) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
@pytest.mark.parametrize(
    ("server", "database"),
    [
        pytest.param("8.0.2", "other", id="Redshift"),
        pytest.param("9.6.24", "other", id="an old PostgreSQL"),
        pytest.param("10.0", "postgres", id="the oldest PostgreSQL that COPY is used with"),
        pytest.param("16.4 (Debian 16.4-1.pgdg120+1)", "postgres", id="PostgreSQL"),
    ],
    indirect=["server"],
)
def test_redshift_is_told_from_postgresql(server: Server, database: str, driver: str) -> None:
    connect = pytest.importorskip(driver, reason="needs the extra postgres").connect
    host, port = server.server_address
    with closing(connect(host=host, port=port, user="u", dbname="d", password="p")) as connection:
        assert drivers.driver_of(connection) == driver
        assert drivers.database_of(connection) == database


@pytest.mark.parametrize("database", ["sqlite", "duckdb"])
def test_databases_in_files_are_told_by_their_connections(database: str) -> None:
    module = pytest.importorskip({"sqlite": "sqlite3"}.get(database, database), reason="needs the driver")
    with closing(module.connect(":memory:")) as connection:
        assert drivers.driver_of(connection) == module.__name__
        assert drivers.database_of(connection) == database


@pytest.mark.parametrize("database", get_args(drivers.Database))
def test_every_database_has_its_table_and_its_target(database: drivers.Database) -> None:
    assert dialect_of(database).database == database
    assert issubclass(target_of(database), SqlTarget)


def test_a_copy_over_a_unix_socket_has_room_to_be_ahead_of_the_server() -> None:
    """It holds 200 kB by default; what the system allows beyond that may be little."""
    ours, servers = socket.socketpair()

    class Cursor:
        connection = ours

        def copy_expert(self, sql: str, stream: Any) -> None:
            while data := stream.read(8192):
                ours.sendall(data)

    with ours, servers:
        before = ours.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        copy_from(Cursor(), "COPY", [b"rows"])
        assert servers.recv(8) == b"rows"
        assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) > before


def test_snowflake_is_asked_for_the_columns_of_a_query_as_it_names_them() -> None:
    """Without quotes, a query names a column in upper case; in quotes, as it is written there."""
    from airflow_provider_personalize.sql.snowflake import SnowflakeTable

    columns = ["USER_ID", "userId", "user_id", 'a"b']
    table = object.__new__(SnowflakeTable)
    table.cursor = SimpleNamespace(description=[(name,) for name in columns], fetchall=list)
    found = table.result_columns()
    assert found == columns
    assert list(map(table.quote, found)) == ['"USER_ID"', '"userId"', '"user_id"', '"a""b"']
    assert table.quote("user_id") == '"USER_ID"'
