"""How `pgguard demo` may be called; what it shows is in integration/test_demo.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core_fakes import World

from pgguard.cli import demo, run_command
from pgguard.cli.demo_screen import Crowd
from pgguard.launch import suite
from pgguard.wire import frontend

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_a_mode_that_does_not_exist_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["demo", "--mode", "odd"]) == 2
    assert "'odd' is not one of 'transparent', 'session'" in capsys.readouterr().err


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
    settings = demo._settings(None, "transparent")
    assert settings.limits.connection_limit == demo.CAP
    assert settings.limits.total is None
    assert settings.tenancy.owned == {"booking_add_ons": "booking_id"}
    assert (settings.listen.address.port, settings.http.address.port) == (0, 0)


def test_each_mode_is_that_of_the_demo_whatever_the_settings_say(tmp_path: Path) -> None:
    config = tmp_path / "mine.toml"
    for mode, other in (("transparent", "session"), ("session", "transparent")):
        config.write_text(f'[pool]\nmode = "{other}"')
        assert demo._settings(config, mode).pool.mode == mode


def test_where_connections_keep_their_servers_nobody_waits_long_in_vain() -> None:
    assert demo._settings(None, "session").limits.total_timeout == demo.IN_VAIN
    assert demo._settings(None, "transparent").limits.total_timeout > demo.IN_VAIN


def test_the_crowd_is_who_is_open_who_waits_and_what_is_idle() -> None:
    world = World(connection_limit=2)
    _, busy = world.link(application_name="a.py")
    world.link(application_name="a.py")
    world.link(application_name="b.py")
    waiting = world.enter(application_name="a.py")
    assert busy.session is not None
    world.receive(busy.session, frontend.query(b"SELECT 1"))
    assert demo.crowd_of(world.hub) == Crowd(
        sessions=4, servers=3, waiting=1, idle={"a.py": 1, "b.py": 1}
    )
    world.eof(waiting)
    assert demo.crowd_of(world.hub).waiting == 0
    world.end()


def test_where_nothing_can_be_written_the_report_goes_to_the_temporary_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".pgguard").write_text("in the way")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    directory = demo._directory("20260101T000000Z-1", 20)
    assert directory.is_dir()
    assert directory.parents[1].name.startswith("pgguard-demo-")
