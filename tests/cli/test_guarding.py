"""What the commands that start a guard share."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pgguard.cli.guarding import (
    ANY_PORT,
    on_free_ports,
    print_summary,
    say,
    with_values,
    write_reports,
)
from pgguard.report.summary import Outcome, RunSummary
from pgguard.settings import Address, Settings, load

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

SUMMARY = RunSummary(
    outcome=Outcome.NOTHING,
    started=0.0,
    ended=1.0,
    sessions=0,
    statements=0,
    unknown=0,
    unknown_statements=0,
    dropped=0,
    bypassed=0,
    one_client=False,
    reason="because",
)


def test_our_lines_are_marked_and_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    say("hello")
    assert capsys.readouterr() == ("", "pgguard: hello\n")


def test_values_are_changed_without_changing_the_settings_they_came_from() -> None:
    before = Settings()
    after = with_values(before, {"limits.total": 7, "limits.serial": True, "run.keep": 2})
    assert (after.limits.total, after.limits.serial, after.run.keep) == (7, True, 2)
    assert before == Settings()
    assert after.limits.connection_limit == before.limits.connection_limit


def test_ports_are_free_ones_unless_somebody_chose_them(tmp_path: Path) -> None:
    env = {"PGGUARD_HTTP__ADDRESS": "127.0.0.1:7777"}
    loaded = load(config=None, env=env, flags={}, cwd=tmp_path)
    settings = on_free_ports(loaded)
    assert settings.listen.address == ANY_PORT
    assert settings.http.address == Address("127.0.0.1", 7777)


def test_a_runs_directory_holds_both_reports(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    report = write_reports(SUMMARY, {"exit_code": 0}, tmp_path)
    assert report == "findings.json"
    assert json.loads((tmp_path / report).read_text())["run"] == {"exit_code": 0}
    text = (tmp_path / "summary.txt").read_text()
    assert text.startswith("nothing came through pgguard: because\n")
    print_summary(SUMMARY, report)
    assert capsys.readouterr() == ("", text)
