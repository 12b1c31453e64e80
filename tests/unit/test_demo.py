"""Two users can run the demo on one machine."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest

from example_dags.demo.postgres import Postgres
from example_dags.demo.processes import Processes
from example_dags.demo.run import default_state


def test_a_database_is_started_beside_what_another_user_has_left(monkeypatch: pytest.MonkeyPatch) -> None:
    # Not in pytest's folder, which it shuts to others: where we are root, the server runs as a user of its own.
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    shared = folder / "shared"
    # What somebody else has made there, and nobody else can open for writing.
    (shared / "personalize-demo-postgres.lock").mkdir(parents=True)
    monkeypatch.setattr(tempfile, "tempdir", str(shared))
    processes = Processes(folder / "logs", os.environ)
    try:
        server = Postgres(folder / "data", processes).start()
        assert server.database("postgres").execute("SELECT 1") == [(1,)]
        server.stop()
        assert [path.name for path in shared.iterdir()] == ["personalize-demo-postgres.lock"]
    finally:
        processes.close()
        shutil.rmtree(folder)


def test_a_folder_of_somebody_else_is_left_to_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert default_state() == Path(".demo")
    Path(".demo").mkdir()
    assert default_state() == Path(".demo")
    owner = Path(".demo").stat().st_uid
    monkeypatch.setattr(os, "getuid", lambda: owner + 1)
    assert default_state() == tmp_path / "home" / ".personalize-demo"
