"""The last words of a Postgres that closed while it was written to."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest
from loops import LOOPS

from pgguard.net.transports import Outlet, RelayProtocol, ServerProtocol
from pgguard.net.unread import unread

WORDS = b"FATAL, and why"


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


class Login:
    """The relayed login of a core's server; what it hears is its end, where `ends` says so."""

    def __init__(self, core: Core, *, ends: bool) -> None:
        self.core = core
        self.ends = ends

    def connected(self, _server: object, out: Outlet) -> None:
        self.core.out = out

    def from_server(self, _server: object, data: bytes) -> tuple[str, bytes] | None:
        self.core.heard.append("in the login" if self.ends else data)
        return ("login", data) if self.ends else None

    def lost(self, _server: object, error: BaseException | None) -> None:
        self.core.lost(error)


async def say_and_close(
    core: Core, family: str, how: str, reports: list[Any], relay: Login | None = None
) -> None:
    """The other side speaks and resets the connection; then we write, before anything is read."""
    here, there = pair(family)
    here.setblocking(False)
    server: Any = core
    login: Any = "login"

    def report(_: object, error: BaseException) -> None:
        reports.append(error)

    protocol: asyncio.Protocol = ServerProtocol(server, login, b"", report)
    if relay is not None:
        protocol = RelayProtocol(server, relay, report)  # type: ignore[arg-type]
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


@pytest.mark.parametrize(
    ("ends", "heard"),
    [(False, [WORDS, "lost"]), (True, ["in the login", WORDS, "lost"])],
    ids=["its reason", "its last message and more"],
)
@pytest.mark.parametrize("how", ["write", "eof"])
@pytest.mark.parametrize("loop", LOOPS)
def test_a_login_that_breaks_off_hears_what_was_said_before(
    loop: str, how: str, ends: bool, heard: list[object]
) -> None:
    reports: list[Any] = []
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        core = Core()
        runner.run(say_and_close(core, "tcp", how, reports, Login(core, ends=ends)))
    assert core.heard == heard
    assert reports == []


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
