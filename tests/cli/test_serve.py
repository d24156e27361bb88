"""How `pgguard serve` may be called; integration/test_serve.py runs it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgguard.cli import run_command

if TYPE_CHECKING:
    import pytest


def test_help_lists_the_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["serve", "--help"]) == 0
    out = capsys.readouterr().out
    for option in ("--upstream", "--embedded", "--listen", "--http", "--ready-json", "--config"):
        assert option in out


def test_two_databases_at_once_are_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["serve", "--embedded", "--upstream", "postgres://h"]) == 2
    assert "exclude each other" in capsys.readouterr().err
