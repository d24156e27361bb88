"""The commit hook: what pre-commit installs and types is what there is."""

from __future__ import annotations

import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from commands import environment

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).parents[2]
SCHEMA = ROOT / "tests/fixtures/scopes/booking.schema.sql"


@pytest.fixture(scope="module")
def hook() -> dict[str, Any]:
    hooks = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text("utf-8"))
    return {entry["id"]: entry for entry in hooks}["pgguard-check"]


def test_the_hook_has_what_pre_commit_asks_for(hook: dict[str, Any]) -> None:
    assert {"id", "name", "entry", "language"} <= set(hook)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert hook["additional_dependencies"] == extras["optional-dependencies"]["embedded"]


def test_the_hook_fails_a_commit_that_is_not_scoped(hook: dict[str, Any], tmp_path: Path) -> None:
    """pre-commit appends the user's `args` and the files to `entry`."""

    def committed(files: Sequence[str]) -> int:
        program, *words = shlex.split(hook["entry"])
        assert program == "pgguard"
        line = [sys.executable, "-m", program, *words, "--schema", str(SCHEMA), *files]
        return subprocess.run(line, cwd=tmp_path, env=environment(), capture_output=True).returncode

    tmp_path.joinpath("good.sql").write_text("SELECT * FROM bookings WHERE tenant_id = $1;")
    tmp_path.joinpath("bad.sql").write_text("SELECT * FROM bookings;")
    assert committed(["good.sql"]) == 0
    assert committed(["good.sql", "bad.sql"]) == 70
