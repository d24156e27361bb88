"""Processes behind loopback ports, found in a procfs made of files."""

from __future__ import annotations

import os
import socket
import sys
from typing import TYPE_CHECKING

import pytest

from pgguard.net.peer import Peers, ask_kernel, command_of

if TYPE_CHECKING:
    from pathlib import Path

GUARD = 6433
WORKER = "pytest-xdist worker"
HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid\n"


class Procfs:
    """As much of /proc as is read."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "net").mkdir()
        (root / "net/tcp").write_text(HEAD)
        (root / "self").mkdir()

    def connect(self, port: int, inode: int, peer: int = GUARD, table: str = "tcp") -> None:
        line = f" 0: 0100007F:{port:04X} 0100007F:{peer:04X} 01 0:0 00:0 0 1000 0 {inode} 1\n"
        path = self.root / "net" / table
        path.write_text((path.read_text() if path.exists() else HEAD) + line)

    def run(self, pid: int, *inodes: int, words: str = "pytest", environ: str = "") -> None:
        (self.root / str(pid) / "fd").mkdir(parents=True)
        for number, inode in enumerate(inodes, 3):
            (self.root / str(pid) / "fd" / str(number)).symlink_to(f"socket:[{inode}]")
        (self.root / str(pid) / "cmdline").write_text(words.replace(" ", "\0") + "\0")
        (self.root / str(pid) / "environ").write_text(environ.replace(" ", "\0") + "\0")


@pytest.fixture
def proc(tmp_path: Path) -> Procfs:
    return Procfs(tmp_path)


def test_many_ports_are_found_in_one_pass(proc: Procfs) -> None:
    proc.connect(5001, 91)
    proc.connect(5002, 92)
    proc.connect(5003, 93, table="tcp6")
    proc.run(10, 91, 93, words="/usr/bin/pytest tests/a.py")
    proc.run(11, 92, 77)
    found = Peers(proc.root).find([5001, 5002, 5003, 5004], GUARD)
    assert {port: info.pid for port, info in found.items()} == {5001: 10, 5002: 11, 5003: 10}
    assert found[5001].command == "pytest tests/a.py"


def test_a_socket_that_is_open_twice_is_found_once(proc: Procfs) -> None:
    proc.connect(5001, 91)
    proc.run(10, 91, 91)
    assert Peers(proc.root).find([5001], GUARD)[5001].pid == 10


def test_a_port_that_the_kernel_knows_needs_no_table(proc: Procfs) -> None:
    proc.connect(5002, 92)
    proc.run(10, 91)
    proc.run(11, 92)
    asked = {5001: 91}
    found = Peers(proc.root, lambda port, _: asked.get(port)).find([5001, 5002], GUARD)
    assert {port: info.pid for port, info in found.items()} == {5001: 10, 5002: 11}


def test_a_port_that_the_kernel_does_not_know_is_not_looked_for(proc: Procfs) -> None:
    # In a flood most who came have left before anybody could look, and the tables are long.
    proc.connect(5001, 91)
    proc.run(10, 91)
    assert Peers(proc.root, lambda *_: 0).find([5001], GUARD) == {}


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_the_kernel_says_which_socket_a_port_is(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as server:
        peer = server.getsockname()[1]
        with socket.create_connection((host, peer)) as client:
            port = client.getsockname()[1]
            assert ask_kernel(port, peer) == os.fstat(client.fileno()).st_ino
            assert ask_kernel(port, peer + 1 if peer < 65535 else 1) == 0


def test_a_port_that_is_connected_elsewhere_is_not_ours(proc: Procfs) -> None:
    proc.connect(5001, 91, peer=5432)
    proc.run(10, 91)
    assert Peers(proc.root).find([5001], GUARD) == {}


def test_the_worker_of_a_test_runner_is_read_from_the_environment(proc: Procfs) -> None:
    proc.connect(5001, 91)
    proc.run(10, 91, environ="HOME=/root PYTEST_XDIST_WORKER=gw3 X")
    assert Peers(proc.root).find([5001], GUARD)[5001].worker == "gw3"


def test_who_connected_before_is_looked_at_first(proc: Procfs) -> None:
    proc.connect(5001, 91)
    proc.run(10, 91)
    peers = Peers(proc.root)
    peers.find([5001], GUARD)
    proc.run(7, 92)
    proc.run(12, 92)
    proc.connect(5002, 92)
    (proc.root / "10/fd/9").symlink_to("socket:[92]")
    assert peers.find([5002], GUARD)[5002].pid == 10


def test_nobody_is_found_without_procfs(tmp_path: Path) -> None:
    assert Peers(tmp_path / "nowhere").find([5001], GUARD) == {}


def test_a_process_that_ends_meanwhile_is_passed_over(proc: Procfs) -> None:
    proc.connect(5001, 91)
    proc.run(10, 91)
    (proc.root / "10/cmdline").unlink()
    proc.run(11, 91)
    assert Peers(proc.root).find([5001], GUARD).keys() <= {5001}
    (proc.root / "12").mkdir()
    assert Peers(proc.root).find([5002], GUARD) == {}


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["/usr/bin/python", "-m", "pytest"], "pytest"),
        (["/usr/bin/python3.11", "-u", "/a/.venv/bin/pytest", "-q", "t.py"], "pytest -q t.py"),
        (["python3", "-u", "-c", "import sys;exec(eval(sys.stdin.readline()))"], WORKER),
        (["python3", "-c", "print(1)"], "python3 -c print(1)"),
        (["node", "--password", "hush", "/a/app.js", "run"], "app.js run"),
        (["node", "--password=hush", "app.js"], "app.js"),
        (["python3"], "python3"),
        (["/usr/bin/psql", "-c", "x"], "psql -c x"),
        (["psql", "postgresql://u:hush@h/d", "-c", "x"], "psql -c x"),
        (["app", "PGPASSWORD=hush"], "app"),
        ([""], "?"),
        ([], "?"),
        (["x" * 200], "x" * 80),
    ],
)
def test_a_command_is_shown_without_what_may_be_secret(words: list[str], shown: str) -> None:
    assert command_of(words) == shown


def test_this_very_process_is_found() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        socket.create_connection(listening.getsockname()) as ours,
        listening.accept()[0],
    ):
        port, peer = ours.getsockname()[1], listening.getsockname()[1]
        found = {port: info.pid for port, info in Peers().find([port], peer).items()}
        assert found == ({port: os.getpid()} if sys.platform == "linux" else {})
