"""A connection to Postgres that ends while it is handed over: its descriptor is closed once."""

from __future__ import annotations

import asyncio
import socket
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import uvloop

from pgguard.net.channel import Channel
from pgguard.net.dialer import Address, Dialer
from pgguard.net.transports import Outlet

if TYPE_CHECKING:
    from collections.abc import Callable


class Core:
    """A hub and a server that want to be rid of each other at once."""

    def __init__(self) -> None:
        self.hub, self.session = self, None
        self.over = asyncio.Event()

    def server_connected(self, _server: object, out: Outlet, _login: object) -> None:
        out.abort()

    def receive(self, _data: bytes) -> None: ...

    def lost(self, _error: BaseException | None) -> None:
        self.over.set()


@pytest.mark.parametrize("factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_the_descriptor_of_a_connection_that_ends_at_once_is_closed_once(
    factory: Callable[[], asyncio.AbstractEventLoop], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, other = socket.socketpair()
    ours.setblocking(False)

    async def logged_in(*_: Any) -> tuple[Channel, Any, bytes]:
        return Channel(ours), SimpleNamespace(), b""

    async def dial() -> None:
        core = Core()
        dialer = Dialer(core, Address("localhost", 1), lambda *_: None)  # type: ignore[arg-type]
        monkeypatch.setattr(dialer, "_login", logged_in)
        await dialer.dial(core, {})  # type: ignore[arg-type]
        await core.over.wait()

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(dial())
    # The transport has closed it. Whoever still knew its number would close a stranger's.
    assert ours.fileno() == -1
    other.close()


def test_nothing_is_raised_by_a_goodbye_to_who_has_reset() -> None:
    class Reset(asyncio.Transport):
        aborted = False

        def write_eof(self) -> None:
            raise OSError(107, "Transport endpoint is not connected")

        def abort(self) -> None:
            self.aborted = True

    transport = Reset()
    Outlet(transport).write_eof()
    assert transport.aborted
