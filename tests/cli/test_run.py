"""How `pgguard run` may be called, what it makes of settings; integration/test_run.py runs it."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from pgguard.cli import run as run_module
from pgguard.cli import run_command
from pgguard.cli.run import _failed_classes, _limits, _policy, _report
from pgguard.errors import SettingsError
from pgguard.findings import Finding
from pgguard.launch.environment import Rewritten
from pgguard.report.summary import Outcome, RunSummary
from pgguard.settings import load


def test_help_lists_what_exists_and_nothing_that_does_not(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run_command(["run", "--help"]) == 0
    out = capsys.readouterr().out
    for option in ("--upstream", "--embedded", "--setup", "--fail-on", "--report", "--listen"):
        assert option in out
    assert "--no-inject" not in out


def test_reports_are_a_format_and_a_path() -> None:
    assert _report("json=a=b.json") == ("json", Path("a=b.json"))
    for text in ("json", "json=", "=x", "odd=x"):
        with pytest.raises(click.UsageError):
            _report(text)
    with pytest.raises(SettingsError, match="not in this version"):
        _report("junit=x")


@pytest.mark.parametrize(
    ("env", "given", "limit"),
    [
        ({}, None, None),
        ({}, 25, 25),
        ({}, 3, 3),
        ({"PGGUARD_LIMITS__CONNECTION_LIMIT": "5"}, 25, 5),
        ({"PGGUARD_LIMITS__CONNECTION_LIMIT": "5"}, 3, 3),
        ({"PGGUARD_PRESET": "production"}, 60, 50),
    ],
)
def test_the_limit_of_a_url_applies_and_lowers_what_the_settings_say(
    env: dict[str, str], given: int | None, limit: int | None, tmp_path: Path
) -> None:
    loaded = load(config=None, env=env, flags={}, cwd=tmp_path)
    values = _limits(loaded, Rewritten({}, connection_limit=given))
    assert values.get("limits.connection_limit") == limit


def test_the_timeout_of_a_url_applies_too(tmp_path: Path) -> None:
    loaded = load(config=None, env={}, flags={}, cwd=tmp_path)
    assert _limits(loaded, Rewritten({}, pool_timeout=1.5)) == {"limits.pool_timeout": 1.5}


def test_a_policy_counts_the_findings_of_its_classes() -> None:
    findings = [
        Finding(code=code, title="", client="", remedy="")
        for code in ("PGG101", "PGG101", "PGG301", "PGG106")
    ]
    summary = RunSummary(
        Outcome.NOT_HELD, 0.0, 1.0, 1, 1, 0, 0, 0, 0, one_client=False, findings=findings
    )
    assert _failed_classes(summary, ["unscoped", "by_id", "exhaustion"]) == {
        "unscoped": 2,
        "exhaustion": 1,
    }
    assert _policy(summary) == "unscoped,exhaustion"


def test_importing_the_command_imports_no_guard() -> None:
    assert run_module.command.name == "run"
    assert "asyncio" not in vars(run_module)
