"""How `pgguard demo` may be called; what it shows is in integration/test_demo.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgguard.cli import demo, run_command
from pgguard.launch import suite

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_a_mode_that_is_not_built_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["demo", "--mode", "transparent"]) == 2
    assert '--mode: "transparent" is not in this version' in capsys.readouterr().err


def test_a_mode_that_does_not_exist_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["demo", "--mode", "odd"]) == 2
    assert "'odd' is not session" in capsys.readouterr().err


def test_a_missing_extra_prints_its_install_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(suite, "find_spec", lambda name: None)
    assert run_command(["demo"]) == 2
    said = capsys.readouterr().err
    assert "-m pip install 'pgguard[demo]'" in said
    assert "needs pytest, pytest-xdist, SQLAlchemy, psycopg: " in said


def test_settings_of_the_place_where_it_is_called_do_not_apply(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pgguard.toml").write_text('[limits]\nconnection_limit = 1\n[log]\nlevel = "odd"')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PGGUARD_LIMITS__TOTAL", "1")
    settings = demo._settings(None)
    assert settings.limits.connection_limit == demo.CAP
    assert settings.limits.total is None
    assert settings.tenancy.owned == {"booking_add_ons": "booking_id"}
    assert (settings.listen.address.port, settings.http.address.port) == (0, 0)


def test_where_nothing_can_be_written_the_report_goes_to_the_temporary_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".pgguard").write_text("in the way")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    directory = demo._directory("20260101T000000Z-1", 20)
    assert directory.is_dir()
    assert directory.parents[1].name.startswith("pgguard-demo-")
