"""The demo's conftest tells `pgguard demo` how each test came out, once, whoever ran it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from pgguard.launch import suite

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

TESTS = """
import pytest

@pytest.fixture
def broken():
    raise OSError("FATAL:  sorry, too many clients already")

def test_passes(): pass
def test_fails(): assert 1 == 2
def test_is_not_even_begun(broken): pass
"""


@pytest.mark.parametrize("workers", [0, 2], ids=["alone", "two workers"])
def test_each_outcome_is_one_line(tmp_path: Path, workers: int) -> None:
    for name in ("conftest.py", "pytest.ini"):
        shutil.copy(suite.FOLDER / name, tmp_path)
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_it.py").write_text(TESTS)
    told = tmp_path / "outcomes"
    command = [sys.executable, "-m", "pytest", "-p", "xdist", "-n", str(workers), "-q"]
    done = subprocess.run(
        [*command, "-c", tmp_path / "pytest.ini", "--rootdir", tmp_path, tmp_path / "tests"],
        env=suite.suite_env({}, "postgresql://nowhere", told),
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 1, done.stdout
    lines = [json.loads(line) for line in told.read_text().splitlines()]
    assert {line["file"] for line in lines} == {"test_it.py"}
    assert sorted((line["test"], line["outcome"]) for line in lines) == [
        ("test_fails", "failed"),
        ("test_is_not_even_begun", "failed"),
        ("test_passes", "passed"),
    ]
    outcomes = suite.Outcomes(told)
    assert outcomes.read() == ["test_it.py"]
    assert outcomes.files["test_it.py"].refusal == "FATAL:  sorry, too many clients already"
