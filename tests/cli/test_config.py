"""`pgguard config`."""

from __future__ import annotations

import json
import tomllib
from typing import TYPE_CHECKING

import pytest

from pgguard.cli import run_command
from pgguard.settings import schema

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_show_prints_toml_that_reads_back(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "pgguard.toml").write_text('[limits]\ntotal = 12\noverrides = [{client = "a"}]\n')
    assert run_command(["config", "show"]) == 0
    text = capsys.readouterr().out
    assert tomllib.loads(text)["limits"]["total"] == 12
    (folder / "pgguard.toml").write_text(text)
    assert run_command(["config", "show"]) == 0
    assert capsys.readouterr().out == text


def test_show_names_every_key_and_with_origin_its_source(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "pgguard.toml").write_text("\n[limits]\ntotal = 12\n")
    monkeypatch.setenv("PGGUARD_PRESET", "ci")
    assert run_command(["config", "show", "--origin"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(schema.fields())
    origins = {line.rpartition("  # ")[0].strip(): line.rpartition("  # ")[2] for line in lines}
    assert origins["limits.total = 12"] == "pgguard.toml:3"
    assert origins['preset = "ci"'] == "PGGUARD_PRESET"
    assert origins["limits.connection_limit = 10"] == "preset ci"
    assert origins["# http.token is not set"] == "default"


def test_show_masks_secrets(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGGUARD_UPSTREAM", "postgresql://u:s3cret@h/d")
    monkeypatch.setenv("PGGUARD_AUTH__USERS", '{"u": "s3cret"}')
    monkeypatch.setenv("PGGUARD_HTTP__TOKEN", "s3cret")
    assert run_command(["config", "show", "--origin"]) == 0
    text = capsys.readouterr().out
    assert "s3cret" not in text
    assert "postgresql://u:***@h:5432/d" in text


def test_check_says_that_settings_are_valid(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "pgguard.toml").write_text("preset = 'ci'")
    assert run_command(["config", "check"]) == 0
    assert capsys.readouterr().out == f"settings are valid ({folder / 'pgguard.toml'})\n"


def test_check_says_where_settings_were_found(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_command(["config", "check"]) == 0
    assert capsys.readouterr().out == "settings are valid (no settings file; defaults)\n"
    monkeypatch.setenv("PGGUARD_PRESET", "ci")
    assert run_command(["config", "check"]) == 0
    assert capsys.readouterr().out == "settings are valid (no settings file, PGGUARD_PRESET)\n"


def test_check_prints_every_problem_and_exits_with_2(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "other.toml").write_text("limits.total = 'x'\nzebra = 1\nlog.level = 'x'\n")
    assert run_command(["config", "check", "--config", "other.toml"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    places = [line.split(": ")[1] for line in err.splitlines()]
    assert places == ["other.toml:1", "other.toml:2", "other.toml:3"]


def test_schema_prints_the_json_schema(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["config", "schema"]) == 0
    assert json.loads(capsys.readouterr().out) == schema.json_schema()
