"""What ``make test`` says in its last lines of the tests that it skipped."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

CONFTEST = Path(__file__).parents[1] / "conftest.py"
TESTS = """
import pytest

@pytest.mark.parametrize("number", range(3))
def test_skips(number):
    pytest.skip("needs a thing: apt-get install thing")

@pytest.mark.skipif(True, reason="needs another: make another")
def test_is_marked():
    pass

def test_passes():
    pass
"""


def test_what_was_skipped_is_written_down_with_what_would_have_it_run(tmp_path: Path) -> None:
    shutil.copy(CONFTEST, tmp_path)
    (tmp_path / "test_some.py").write_text(TESTS)
    (tmp_path / "test_module.py").write_text("import pytest\npytest.importorskip('nowhere', reason='needs nowhere')")
    skipped = tmp_path / "skipped"
    skipped.write_text("    1 of an earlier run: needs this\n")
    subprocess.run(
        [sys.executable, "-m", "pytest", "--rootdir", tmp_path, "--numprocesses", "1", tmp_path],
        env=os.environ | {"SKIPPED_TO": str(skipped)},
        check=True,
        capture_output=True,
    )
    assert skipped.read_text().splitlines() == [
        "    1 of an earlier run: needs this",
        f"    3 of {tmp_path}: needs a thing: apt-get install thing",
        f"    1 of {tmp_path}: needs another: make another",
        f"    1 of {tmp_path}: needs nowhere",
    ]
