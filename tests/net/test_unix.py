"""Unix sockets as Postgres has them: what is alive is respected, what is dead is replaced."""

from __future__ import annotations

import errno
import os
import socket
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from pgguard.errors import SettingsError
from pgguard.net import unix
from pgguard.net.unix import UnixSocket, listener_at, peer_of, target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

NAME = ".s.PGSQL.6433"


def listen(directory: Path | str, port: int = 6433) -> UnixSocket:
    return UnixSocket(str(directory), port, backlog=5, what="listen.unix")


def reach(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(target(path))


def let_go(made: UnixSocket) -> None:
    made.sock.close()
    made.remove()


@pytest.fixture
def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.fixture
def other_pid() -> Iterator[int]:
    """A process that lives, and is neither we nor our parent."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process.pid
        process.communicate(b"\n")


def refused(directory: Path | str) -> SettingsError:
    with pytest.raises(SettingsError) as caught:
        listen(directory)
    assert caught.value.where == "listen.unix"
    return caught.value


def test_the_socket_has_the_name_and_the_rights_of_those_of_postgres(sockets: Path) -> None:
    made = listen(sockets)
    assert made.path == f"{sockets}/{NAME}"
    assert stat.S_IMODE((sockets / NAME).stat().st_mode) == 0o777
    lock = sockets / f"{NAME}.lock"
    lines = lock.read_text().splitlines()
    assert (lines[0], lines[3], lines[4]) == (str(os.getpid()), "6433", str(sockets))
    assert stat.S_IMODE(lock.stat().st_mode) == 0o600
    let_go(made)
    assert list(sockets.iterdir()) == []


def test_one_that_somebody_listens_on_is_taken_and_stays(sockets: Path) -> None:
    made = listen(sockets)
    error = refused(sockets)
    assert f"cannot listen on {sockets}/{NAME}: process {os.getpid()} listens there" in str(error)
    assert "another directory or port" in error.hint
    (sockets / f"{NAME}.lock").unlink()
    assert "listens there" in str(refused(sockets))
    reach(made.path)
    let_go(made)
    assert list(sockets.iterdir()) == []


def test_one_that_was_left_behind_is_replaced(sockets: Path, dead_pid: int) -> None:
    left = socket.socket(socket.AF_UNIX)
    left.bind(f"{sockets}/{NAME}")
    left.close()
    (sockets / f"{NAME}.lock").write_text(f"{dead_pid}\n/data\n")
    made = listen(sockets)
    assert listener_at(made.path) == f"process {os.getpid()} listens there"
    let_go(made)


@pytest.mark.parametrize("own", [os.getpid, os.getppid, int])
def test_our_own_number_in_a_lock_is_from_an_earlier_life(
    sockets: Path, own: Callable[[], int]
) -> None:
    (sockets / f"{NAME}.lock").write_text(f"{own()}\n/data\n")
    let_go(listen(sockets))
    assert list(sockets.iterdir()) == []


def test_a_lock_of_a_process_that_lives_is_respected(sockets: Path, other_pid: int) -> None:
    # A postmaster of its own, standing alone, writes its pid negative.
    (sockets / f"{NAME}.lock").write_text(f"-{other_pid}\n/data\n")
    assert f"process {other_pid} has it (lock file {sockets}/" in str(refused(sockets))


def test_a_lock_that_cannot_be_read_is_named(sockets: Path) -> None:
    (sockets / f"{NAME}.lock").write_text("nonsense\n")
    assert f"{NAME}.lock is no lock file: remove it" in str(refused(sockets))


def test_what_somebody_else_has_put_there_is_not_removed(sockets: Path) -> None:
    made = listen(sockets)
    (sockets / NAME).unlink()
    (sockets / NAME).write_text("of somebody else")
    let_go(made)
    assert [path.name for path in sockets.iterdir()] == [NAME]


def test_a_directory_that_is_not_there_is_named_with_the_remedy(sockets: Path) -> None:
    error = refused(sockets / "none")
    assert f"cannot listen on {sockets}/none/{NAME}: No such file or directory" in str(error)
    assert error.hint == "make the directory first"


def test_a_path_that_is_too_long_is_named_with_the_remedy(sockets: Path) -> None:
    deep = sockets / ("d" * 100)
    deep.mkdir()
    error = refused(deep)
    assert "too long (maximum 107 bytes)" in str(error)
    assert "/tmp" in error.hint
    assert list(deep.iterdir()) == []


def test_a_name_in_the_abstract_namespace_leaves_no_file() -> None:
    name = f"@pgguard-test-{os.getpid()}"
    made = listen(name)
    reach(made.path)
    assert "Address already in use" in str(refused(name))
    let_go(made)
    with pytest.raises(ConnectionRefusedError):
        reach(made.path)


def test_who_is_behind_a_socket_is_known(sockets: Path) -> None:
    made = listen(sockets)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(made.path)
        accepted, _ = made.sock.accept()
        with accepted:
            assert peer_of(accepted) == (os.getpid(), os.getuid())
    let_go(made)


def test_a_system_that_cannot_say_who_says_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(unix.socket, "SO_PEERCRED")
    with socket.socket(socket.AF_UNIX) as client:
        assert peer_of(client) is None


def test_a_listener_whose_queue_is_full_is_still_one(sockets: Path) -> None:
    made = UnixSocket(str(sockets), 6433, backlog=0, what="listen.unix")
    waiting = [socket.socket(socket.AF_UNIX) for _ in range(3)]
    failed = 0
    for client in waiting:
        client.setblocking(False)
        try:
            client.connect(made.path)
        except OSError as error:
            failed += error.errno == errno.EAGAIN
    assert failed
    assert listener_at(made.path) == "another program listens there"
    for client in waiting:
        client.close()
    let_go(made)
