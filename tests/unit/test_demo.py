"""Two users can run the demo on one machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be another user")
def test_another_user_is_not_in_the_way(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Two databases are started by two users, one after the other, with one folder for temporary files."""
    import shutil
    import tempfile

    shared = Path(tempfile.mkdtemp(prefix="shared-"))
    try:
        shared.chmod(0o1777)
        program = (
            "import os, sys; from pathlib import Path; from example_dags.demo.postgres import Postgres;"
            "from example_dags.demo.processes import Processes;"
            "state = Path(sys.argv[1]); state.mkdir();"
            "processes = Processes(state / 'logs', os.environ);"
            "server = Postgres(state / 'data', processes).start();"
            "print(server.database('postgres').execute('SELECT 1')); server.stop(); processes.close()"
        )
        for user in ("root", "nobody"):
            run = subprocess.run(
                [sys.executable, "-c", program, str(shared / user)],
                cwd=ROOT,
                env={**os.environ, "TMPDIR": str(shared), "HOME": str(shared), "PYTHONPATH": str(ROOT)},
                user=user,
                capture_output=True,
                text=True,
                check=False,
                timeout=120,
            )
            assert run.returncode == 0, run.stderr
            assert run.stdout == "[(1,)]\n"
    finally:
        shutil.rmtree(shared)


def test_a_folder_of_somebody_else_is_left_to_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from example_dags.demo.run import _default_state

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert _default_state() == Path(".demo")
    Path(".demo").mkdir()
    assert _default_state() == Path(".demo")
    monkeypatch.setattr(os, "getuid", lambda: Path(".demo").stat().st_uid + 1)
    assert _default_state() == tmp_path / "home" / ".personalize-demo"
