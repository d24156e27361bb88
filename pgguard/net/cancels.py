"""Cancel requests of clients on their way to Postgres: few at once, and each of use.

Laws: a request goes on only while that session's statement runs, looked at when its turn has come;
one of a session is on its way at a time, and those that wait behind it are one; whatever hangs is
given up (reliability R21, R22). Nothing is kept for a request that names no session.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from pgguard.net.dialer import CANCEL_TIMEOUT
from pgguard.pool.servers import ServerState

if TYPE_CHECKING:
    from pgguard.core.hub import Hub
    from pgguard.core.server import Server
    from pgguard.core.session import Session
    from pgguard.net.dialer import Dialer
    from pgguard.net.loop import Tasks

POLL = 0.005
"""Seconds between two looks at a cancel that is kept."""
AT_ONCE = 16
"""Connections to Postgres for cancels of clients; as many again for our own."""


class Cancels:
    """All cancels of one guard."""

    def __init__(self, hub: Hub, dialer: Dialer, tasks: Tasks) -> None:
        self._hub = hub
        self._dialer = dialer
        self._tasks = tasks
        self._room = asyncio.Semaphore(AT_ONCE)
        self._own_room = asyncio.Semaphore(AT_ONCE)
        self._next: dict[Session, asyncio.Task[None]] = {}
        """Those that wait for their turn."""
        self._flying: dict[Session, asyncio.Task[None]] = {}

    async def of_server(self, server: Server) -> None:
        """Our own wish to end what runs there."""
        async with self._own_room:
            await self._dialer.cancel(server.pid, server.secret_key)
        server.cancelling = False

    async def request(self, pid: int, secret: bytes) -> None:
        """A client's CancelRequest; returns when Postgres has taken it, or it is given up."""
        session = self._hub.keys.find(pid, secret)
        if session is None:
            return
        task = self._next.get(session)
        if task is None:
            work = self._send(session, pid, secret)
            task = self._next[session] = self._tasks.spawn(work, "cancel request")
        await asyncio.wait([task], timeout=CANCEL_TIMEOUT)

    async def _send(self, session: Session, pid: int, secret: bytes) -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            if before := self._flying.get(session):
                await asyncio.wait([before])
            async with self._room:
                # Whoever asks from now on means what runs then.
                del self._next[session]
                self._flying[session] = task
                server = self._hub.cancel_request(pid, secret)
                if server is not None:
                    try:
                        await self._dialer.cancel(server.pid, server.secret_key)
                    finally:
                        self._hub.cancel_sent(server)
                elif session.server is not None:
                    await _until_sent(session.server)
        finally:
            for tasks in (self._next, self._flying):
                if tasks.get(session) is task:
                    del tasks[session]


async def _until_sent(server: Server) -> None:
    """A cancel that is kept until the session's statement runs behind a text of ours is on its way
    for as long: whoever sent it may take what runs after the answer for safe from it."""
    deadline = asyncio.get_running_loop().time() + CANCEL_TIMEOUT
    while (server.cancel_later or server.cancelling) and server.state is not ServerState.CLOSED:
        if asyncio.get_running_loop().time() > deadline:
            return
        await asyncio.sleep(POLL)
