"""`pgguard doctor`: each line against a set-up that is right and one that is wrong."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pgguard.cli import run_command
from pgguard.cli.doctor import Check, Probed, check_guards, check_limits, examine_all, probe
from pgguard.errors import ServerUnavailable
from pgguard.settings import Settings, parse_url
from pgguard.settings.encryption import Demand

if TYPE_CHECKING:
    from pgguard.launch.embedded import EmbeddedPostgres

CLOSED = "postgresql://u:s3cret@127.0.0.1:1/d"
FREE_PORTS = {"PGGUARD_LISTEN__ADDRESS": "127.0.0.1:0", "PGGUARD_HTTP__ADDRESS": "127.0.0.1:0"}


def checks(folder: Path, name: str, upstream: str | None = None, **env: str) -> list[Check]:
    found = examine_all(None, upstream, {**FREE_PORTS, **env}, folder)
    return [check for check in found if check.name == name]


def test_versions_of_everything_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PGGUARD_LOOP", raising=False)
    (check,) = checks(tmp_path, "versions")
    assert check.level == "ok"
    assert all(word in check.text for word in ("pgguard", "Python", "event loop", "pglast"))


def test_every_wrong_setting_is_a_line_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "pgguard.toml").write_text("zebra = 1\n")
    found = checks(tmp_path, "settings", PGGUARD_LIMITS__TOTL="3")
    assert [(check.level, check.text.split(": ")[0]) for check in found] == [
        ("fail", "pgguard.toml:1"),
        ("fail", "PGGUARD_LIMITS__TOTL"),
    ]
    assert "limits.total" in found[1].remedy


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("limits.pool_timeout = 20", ("its own client's cap", 'Default: "20s".')),
        ("upstream.url = 3", ("The database to guard", "Default: not set.")),
    ],
)
def test_a_wrong_value_is_told_what_its_key_means(
    text: str, words: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "pgguard.toml").write_text(text)
    (check,) = checks(tmp_path, "settings")
    assert all(word in check.remedy for word in words)


def test_a_file_that_is_no_toml_is_a_line(tmp_path: Path) -> None:
    (tmp_path / "pgguard.toml").write_text("= 1\n")
    (check,) = checks(tmp_path, "settings")
    assert (check.level, check.text.split(": ")[0]) == ("fail", "pgguard.toml:1")


def test_good_settings_are_counted(tmp_path: Path) -> None:
    (check,) = checks(tmp_path, "settings")
    assert check.level == "ok"
    assert check.text == "no settings file; given: listen.address, http.address"
    (check,) = (it for it in examine_all(None, None, {}, tmp_path) if it.name == "settings")
    assert check.text == "no settings file; all defaults"


def test_a_dotenv_file_that_could_lead_around_us_is_named(tmp_path: Path) -> None:
    assert [check.level for check in checks(tmp_path, ".env")] == ["ok"]
    (tmp_path / ".env").write_text("A=1\nDATABASE_URL=postgres://u:s3cret@h/d\n")
    (check,) = checks(tmp_path, ".env")
    assert (check.level, check.text) == ("warn", ".env:2 sets DATABASE_URL")
    assert "s3cret" not in check.line()


def test_the_postgres_for_embedded_is_named(tmp_path: Path) -> None:
    (check,) = checks(tmp_path, "embedded")
    assert check.level == "ok"
    assert "Postgres " in check.text


def test_a_wrong_directory_of_binaries_is_a_failure(tmp_path: Path) -> None:
    (check,) = checks(tmp_path, "embedded", PGGUARD_PG_BIN=str(tmp_path))
    assert check.level == "fail"
    assert check.remedy


def test_a_port_that_is_taken_is_named_with_its_holder(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        wire, http = checks(tmp_path, "ports", PGGUARD_LISTEN__ADDRESS=address)
    assert (wire.level, http.level) == ("warn", "ok")
    assert address in wire.text
    assert "listen.address" in wire.remedy
    if Path("/proc/net/tcp").exists():
        assert "pid " in wire.text


def test_without_an_upstream_the_ways_to_name_one_are_given(tmp_path: Path) -> None:
    (check,) = checks(tmp_path, "upstream")
    assert check.level == "warn"
    for way in ("DATABASE_URL", "PGGUARD_UPSTREAM", "--upstream", "--embedded"):
        assert way in check.remedy


def test_a_url_of_another_database_is_named_as_such(tmp_path: Path) -> None:
    (check,) = checks(tmp_path, "upstream", DATABASE_URL="mysql://u:s3cret@h/d")
    assert check.level == "fail"
    assert check.text == "DATABASE_URL: not a Postgres URL but one for mysql:"
    assert "s3cret" not in check.line()


def test_an_upstream_that_is_down_is_a_failure_without_its_password(tmp_path: Path) -> None:
    (check,) = checks(tmp_path, "upstream", CLOSED)
    assert check.level == "fail"
    assert check.text == "postgresql://u:***@127.0.0.1:1/d (from --upstream): Connection refused"
    assert "start Postgres" in check.remedy
    assert "s3cret" not in check.line()


def test_an_upstream_that_answers_is_named_with_its_version_and_limits(
    tmp_path: Path, postgres: EmbeddedPostgres
) -> None:
    version, _ = checks(tmp_path, "upstream", postgres.url)
    assert version.level == "ok"
    assert "Postgres " in version.text
    assert postgres.password not in version.line()
    (limits,) = checks(tmp_path, "limits", postgres.url)
    assert limits.level == "ok"
    assert "max_connections 100" in limits.text


@pytest.mark.parametrize(
    ("part", "other", "remedy"),
    [("/postgres", "/nothing_here", "create the database"), ("pgguard:", "pgguard:x", "password")],
)
def test_what_postgres_refuses_has_a_remedy(
    tmp_path: Path, postgres: EmbeddedPostgres, part: str, other: str, remedy: str
) -> None:
    url = other.join(postgres.url.rsplit(part, 1))
    (check,) = checks(tmp_path, "upstream", url)
    assert check.level == "fail"
    assert remedy in check.remedy


async def test_an_upstream_that_hangs_is_given_up(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"postgresql://u@127.0.0.1:{server.getsockname()[1]}/d"
        with pytest.raises(ServerUnavailable, match=r"no answer within 0\.05 s"):
            await probe(parse_url(url, {}), 0.05, Demand("prefer"))


@pytest.mark.parametrize(
    ("limits", "level", "words"),
    [
        ({}, "ok", "auto gives 22"),
        ({"total": 20}, "ok", "auto gives 22"),
        ({"total": 23}, "warn", "limits.total is 23"),
        ({"connection_limit": 23}, "warn", "limits.connection_limit is 23"),
    ],
)
def test_caps_that_do_not_fit_are_a_warning(limits: dict[str, Any], level: str, words: str) -> None:
    probed = Probed("18.6", [["30", "3", "0"]], [["1", "x"], ["2", "x"]], [])
    check = check_limits(probed, Settings.model_validate({"limits": limits}))
    assert check.level == level
    assert words in check.text + check.remedy


@pytest.mark.parametrize(
    ("limits", "level", "words"),
    [({}, "ok", "auto shares with it"), ({"total": 20}, "warn", "limits.total is 20")],
)
def test_another_guard_is_named(limits: dict[str, Any], level: str, words: str) -> None:
    others: Any = [["1", "x", "pgguard/7@h:1 3/5+0"], ["2", "x", "psql"], ["3", "x", None]]
    probed = Probed("18.6", [["30", "3", "0"]], others, [])
    (check,) = check_guards(probed, Settings.model_validate({"limits": limits}))
    assert check.level == level
    assert "another pgguard at h:1 (pid 7) holds 3 of 5" in check.text
    assert words in check.text + check.remedy


def test_the_status_is_1_when_something_cannot_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("DATABASE_URL", "DATABASE_URL_TEST", "PGHOST", "PGPORT", "PGHOSTADDR"):
        monkeypatch.delenv(name, raising=False)
    assert run_command(["doctor"]) == 0
    assert run_command(["doctor", "--upstream", CLOSED]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[0] for line in lines} <= {"ok", "warn", "fail"}
