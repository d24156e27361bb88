"""What `--version` says."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING

from pgguard.cli import run_command, versions

if TYPE_CHECKING:
    import pytest


def test_version_prints_pgguard_python_loop_and_parser(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run_command(["--version"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == versions.version_lines()
    assert lines[0] == f"pgguard {versions.package_version('pgguard')}"
    assert lines[1] == f"Python {platform.python_version()}"
    assert lines[2].startswith("event loop ")
    assert lines[3].startswith("pglast ")
    assert lines[3].endswith("(grammar of PostgreSQL 18)")


def test_the_loop_is_the_one_that_the_variable_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGGUARD_LOOP", "asyncio")
    assert versions.version_lines()[2] == "event loop asyncio"


def test_a_package_that_is_not_installed_has_no_version() -> None:
    assert versions.package_version("no-such-package-here") is None
