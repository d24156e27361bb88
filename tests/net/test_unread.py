"""The last words of a Postgres that closed while it was written to."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest
import uvloop

from pgguard.net.transports import Outlet, ServerProtocol
from pgguard.net.unread import unread

WORDS = b"FATAL, and why"
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


class Core:
    """Server and hub in one."""

    def __init__(self, *, stumbles: bool = False) -> None:
        self.hub = self
        self.stumbles = stumbles
        self.out: Outlet
        self.heard: list[object] = []
        self.over = asyncio.Event()

    def server_connected(self, _server: object, out: Outlet, _login: object) -> None:
        self.out = out

    def receive(self, data: bytes) -> None:
        self.heard.append(data)
        if self.stumbles:
            raise ZeroDivisionError("a bug of ours")

    def eof(self) -> bool:
        return False

    def lost(self, _error: BaseException | None) -> None:
        self.heard.append("lost")
        self.over.set()


def pair(family: str) -> tuple[socket.socket, socket.socket]:
    if family == "unix":
        return socket.socketpair()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        there = socket.create_connection(listening.getsockname())
        here, _ = listening.accept()
    return here, there


async def say_and_close(core: Core, family: str, how: str, reports: list[Any]) -> None:
    """The other side speaks and resets the connection; then we write, before anything is read."""
    here, there = pair(family)
    here.setblocking(False)
    login: Any = "login"
    protocol = ServerProtocol(core, login, b"", lambda _, error: reports.append(error))  # type: ignore[arg-type]
    await asyncio.get_running_loop().connect_accepted_socket(lambda: protocol, here)
    core.out.write(b"never read")
    there.recv(1)
    there.sendall(WORDS)
    there.close()
    if how == "write":
        core.out.write(b"more")
        core.out.write(b"and more")
    else:
        core.out.write_eof()
    async with asyncio.timeout(5):
        await core.over.wait()


@pytest.mark.parametrize("how", ["write", "eof"])
@pytest.mark.parametrize("family", ["tcp", "unix"])
@pytest.mark.parametrize("loop", LOOPS)
def test_a_write_that_fails_does_not_swallow_what_was_said_before(
    loop: str, family: str, how: str
) -> None:
    reports: list[Any] = []
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        core = Core()
        runner.run(say_and_close(core, family, how, reports))
    assert core.heard == [WORDS, "lost"]
    assert reports == []


@pytest.mark.parametrize("loop", LOOPS)
def test_who_stumbles_over_the_last_words_still_learns_of_the_loss(loop: str) -> None:
    reports: list[Any] = []
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        core = Core(stumbles=True)
        runner.run(say_and_close(core, "tcp", "write", reports))
    assert core.heard == [WORDS, "lost"]
    assert [type(error) for error in reports] == [ZeroDivisionError]


class Wire:
    """A transport of which only the socket is known."""

    def __init__(self, sock: object) -> None:
        self.sock = sock

    def get_extra_info(self, _name: str) -> object:
        return self.sock


def test_of_what_is_not_over_only_what_is_there_is_read() -> None:
    here, there = socket.socketpair()
    with here, there:
        there.sendall(b"so far")
        transport: Any = Wire(here)
        assert unread(transport) == b"so far"
        assert unread(transport) == b""
    for gone in (None, here):
        transport = Wire(gone)
        assert unread(transport) == b""
