"""A fault of the core in the very moment in which a connection is handed over to it."""

from __future__ import annotations

import asyncio
import socket
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import uvloop

from pgguard.net.transports import ServerProtocol, SessionProtocol

if TYPE_CHECKING:
    from collections.abc import Callable


class Core:
    """Session, server and hub in one; it stumbles over whatever it is given."""

    def __init__(self) -> None:
        self.hub = self
        self.over = asyncio.Event()

    def adopt(self, _out: object) -> None: ...

    def server_connected(self, *_: object) -> None:
        self.receive(b"")

    def receive(self, _data: bytes) -> None:
        raise ZeroDivisionError("a bug of ours")

    def lost(self, _error: BaseException | None) -> None:
        self.over.set()


def session_of(core: Any, report: Any) -> asyncio.Protocol:
    return SessionProtocol(core, b"head", report)


def server_of(core: Any, report: Any) -> asyncio.Protocol:
    login: Any = SimpleNamespace()
    return ServerProtocol(core, login, b"", report)


@pytest.mark.parametrize("factory", [asyncio.new_event_loop, uvloop.new_event_loop])
@pytest.mark.parametrize("make", [session_of, server_of])
def test_it_ends_that_connection_and_is_reported(
    factory: Callable[[], asyncio.AbstractEventLoop], make: Callable[[Any, Any], asyncio.Protocol]
) -> None:
    reports: list[BaseException] = []
    ours, other = socket.socketpair()
    ours.setblocking(False)

    async def hand_over() -> None:
        core = Core()
        protocol = make(core, lambda _where, error: reports.append(error))
        await asyncio.get_running_loop().connect_accepted_socket(lambda: protocol, ours)
        async with asyncio.timeout(5):
            await core.over.wait()

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(hand_over())
    assert [type(error) for error in reports] == [ZeroDivisionError]
    assert other.recv(1) == b""
    other.close()
