"""Who connected lately is found again without a thread, and nobody is taken for somebody else."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from faults import LOCALHOST

from pgguard.net.lately import DESCRIPTORS, KEPT, Kernel, Lately
from pgguard.pool.identity import ProcessInfo

if TYPE_CHECKING:
    from collections.abc import Iterator

GUARD = 6433


class Procfs:
    """As much of /proc as is read; the inode of a port is its number."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.asked: list[int] = []

    def ask(self, port: int, peer_port: int) -> int:
        assert peer_port == GUARD
        self.asked.append(port)
        return port

    def run(self, pid: int, *ports: int, words: str = "pytest") -> ProcessInfo:
        directory = self.root / str(pid) / "fd"
        directory.mkdir(parents=True)
        for number, port in enumerate(ports, 3):
            (directory / str(number)).symlink_to(f"socket:[{port}]")
        (self.root / str(pid) / "cmdline").write_text(words)
        return ProcessInfo(pid, words)


@pytest.fixture
def proc(tmp_path: Path) -> Procfs:
    return Procfs(tmp_path)


@pytest.fixture
def lately(proc: Procfs) -> Iterator[Lately]:
    one = Lately(proc.root, proc.ask)
    yield one
    one.close()


def test_whoever_connected_lately_is_found_again(proc: Procfs, lately: Lately) -> None:
    first, second = proc.run(10, 5001), proc.run(11, 5002, 5003)
    lately.remember(first)
    lately.remember(second)
    assert lately.find(5003, GUARD) == second
    assert lately.find(5001, GUARD) == first
    assert lately.find(5009, GUARD) is None


def test_nothing_is_asked_while_nobody_is_known(proc: Procfs, lately: Lately) -> None:
    assert lately.find(5001, GUARD) is None
    assert proc.asked == []


def test_a_process_that_runs_something_else_now_is_looked_for_anew(
    proc: Procfs, lately: Lately
) -> None:
    lately.remember(proc.run(10, 5001))
    (proc.root / "10" / "cmdline").write_text("node vitest.mjs")
    assert lately.find(5001, GUARD) is None
    assert lately._processes == {}


def test_a_process_that_has_ended_is_forgotten(proc: Procfs, lately: Lately) -> None:
    lately.remember(proc.run(10, 5001))
    (proc.root / "10" / "fd" / "3").unlink()
    assert lately.find(5001, GUARD) is None
    assert lately._processes == {}


def test_a_process_that_is_gone_when_it_is_to_be_remembered_is_not(lately: Lately) -> None:
    lately.remember(ProcessInfo(10, "pytest"))
    assert lately._processes == {}


def test_few_are_kept_and_those_that_come_often(proc: Procfs, lately: Lately) -> None:
    for pid in range(1, KEPT + 1):
        lately.remember(proc.run(pid, 5000 + pid))
    assert lately.find(5001, GUARD) is not None
    lately.remember(proc.run(99, 6000))
    assert len(lately._processes) == KEPT
    assert lately.find(5001, GUARD) is not None
    assert lately.find(5002, GUARD) is None


def test_no_more_than_some_descriptors_are_read(proc: Procfs, lately: Lately) -> None:
    many = range(7001, 7001 + 2 * DESCRIPTORS)
    lately.remember(proc.run(10, *many))
    found = sum(lately.find(port, GUARD) is not None for port in many)
    assert found == DESCRIPTORS


def test_the_kernel_names_a_socket_and_a_process_that_ended_has_none() -> None:
    lately, kernel = Lately(), Kernel()
    with socket.create_server((LOCALHOST, 0)) as listening:
        port = listening.getsockname()[1]
        code = f"import socket; s = socket.create_connection(('127.0.0.1', {port})); input()"
        child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)
        accepted, peer = listening.accept()
        with accepted:
            inode = kernel.inode(peer[1], port)
            links = [str(one.readlink()) for one in Path(f"/proc/{child.pid}/fd").iterdir()]
            assert f"socket:[{inode}]" in links
            info = ProcessInfo(child.pid, "child")
            lately.remember(info)
            assert lately.find(peer[1], port) == info
            assert kernel.inode(1, port) == 0
            child.communicate(b"\n")
            assert lately.find(peer[1], port) is None
    kernel.close()
    lately.close()
