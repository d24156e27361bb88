"""A frontend port before a hub whose Postgres trusts everybody, for visitors on raw sockets."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any

from core_fakes import FakeNet, hub_settings

from pgguard.core.hub import Hub
from pgguard.core.login import Method
from pgguard.net.listener import Listener, bind
from pgguard.net.loop import Tasks
from pgguard.wire.codes import PROTOCOL_3_0
from pgguard.wire.startup import build_startup

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator

    from pgguard.core.session import Session
    from pgguard.net.certificates import Entrance

STARTUP = build_startup(PROTOCOL_3_0, {"user": "app", "database": "db", "application_name": "a"})
AUTHENTICATED = b"R\0\0\0\x08\0\0\0\0"


class TrustingNet(FakeNet):
    """Postgres trusts everybody, and is never connected."""

    hub: Hub

    def read_role(self, session: object) -> bool:
        return False

    def probe(self, user: str, database: str) -> None:
        asyncio.get_running_loop().call_soon(self.hub.upstream.probed, user, database, Method.TRUST)


class Port:
    """A listener before a hub; a cancel that it carries out ends when it `may_end`."""

    def __init__(
        self,
        sockets: list[socket.socket] | None = None,
        entrance: Entrance | None = None,
        descriptors: int = 0,
    ) -> None:
        net = TrustingNet()
        self.hub = net.hub = Hub(hub_settings(), net, clock=time.monotonic)
        self.faults: list[tuple[str, BaseException]] = []
        self.cancels: list[tuple[int, bytes]] = []
        self.may_end = asyncio.Event()
        self.may_end.set()
        self.tasks = Tasks(lambda *fault: self.faults.append(fault))
        self.sockets = sockets or bind("127.0.0.1", 0, what="--listen")
        self.address = self.sockets[0].getsockname()
        self.listener = Listener(
            self.hub,
            self.sockets,
            self.tasks,
            lambda *fault: self.faults.append(fault),
            self._cancel,
            entrance,
            descriptors,
        )

    async def _cancel(self, pid: int, secret: bytes) -> None:
        self.cancels.append((pid, secret))
        await self.may_end.wait()

    async def connect(self, *pieces: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(*self.address)
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
        return reader, writer

    @property
    def sessions(self) -> list[Session]:
        return sorted(self.hub.sessions, key=lambda session: session.id)


@contextlib.asynccontextmanager
async def listening(**settings: Any) -> AsyncIterator[Port]:
    """A port for the length of the block, of which no fault is left; see `Port`."""
    port = Port(**settings)
    port.listener.start()
    yield port
    await port.listener.stop()
    port.hub.abort()
    await asyncio.sleep(0.01)
    await port.tasks.cancel()
    assert port.faults == []


def rest(sock: socket.socket) -> bytes:
    """All that comes on a blocking socket until its end."""
    data = b""
    with contextlib.suppress(OSError):
        while piece := sock.recv(4096):
            data += piece
    return data
