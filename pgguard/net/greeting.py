"""The first words of a connection that will not be encrypted, on its transport.

A client asks for encryption, is told that there is none, and sends its startup packet; or it wants
something canceled. Laws: each request for encryption is answered at most once; a length that no
packet has ends the connection without a word, as with Postgres; whatever follows goes to the
session unread; one time limit for the whole way in.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol, cast

from pgguard.core.types import LOCAL
from pgguard.errors import ProtocolViolation
from pgguard.net.crowd import no_room
from pgguard.net.loop import is_loopback
from pgguard.net.transports import SessionProtocol
from pgguard.net.unix import peer_of
from pgguard.wire.codes import (
    CANCEL_REQUEST,
    GSSENC_REQUEST,
    MAX_CANCEL_KEY_LENGTH,
    MAX_STARTUP_PACKET_LENGTH,
    SSL_REQUEST,
)

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable

    from pgguard.core.hub import Hub
    from pgguard.core.types import Peer
    from pgguard.net.crowd import Crowd
    from pgguard.net.loop import Tasks

    Report = Callable[[str, BaseException], None]

CANCEL_LENGTHS = range(13, 12 + MAX_CANCEL_KEY_LENGTH + 1)
"""Bytes of a CancelRequest."""
_REQUESTS = frozenset({SSL_REQUEST, GSSENC_REQUEST})


class Host(Protocol):
    """Who goes on with it."""

    def begin(self, greeting: Greeting, head: bytes) -> None:
        """The head of a startup packet has come: put another protocol in the greeting's place."""

    def over(self, greeting: Greeting, said: bytes) -> None:
        """There is nothing more to say: a whole CancelRequest was said, or nothing."""


class Greeting(asyncio.Protocol):
    """One connection before anybody knows whose it is."""

    __slots__ = (
        "_allowed",
        "_ended",
        "_head",
        "_host",
        "address",
        "peer",
        "port",
        "since",
        "transport",
    )

    def __init__(
        self, host: Host, address: str, port: int, since: float, peer: Peer | None = None
    ) -> None:
        self._host = host
        self._head = b""
        self._allowed = _REQUESTS
        self._ended = False
        self.address, self.port, self.peer = address, port, peer
        self.since = since
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do not inherit from asyncio.Transport, but are such.
        self.transport = cast("asyncio.Transport", transport)
        if self._ended:
            self._say_no_room()

    def data_received(self, data: bytes) -> None:
        if self._ended or self.transport is None:
            return
        head = self._head + data if self._head else data
        while len(head) >= 4:
            length = int.from_bytes(head[:4], "big")
            if not 8 <= length <= MAX_STARTUP_PACKET_LENGTH + 4:
                self._end(b"")
                return
            if len(head) < 8:
                break
            code = int.from_bytes(head[4:8], "big")
            if length == 8 and code in self._allowed:
                self._allowed -= {code}
                self.transport.write(b"N")
                head = head[8:]
            elif code != CANCEL_REQUEST:
                self._ended = True
                self._host.begin(self, head)
                return
            elif length not in CANCEL_LENGTHS or len(head) >= length:
                self._end(head[:length] if length in CANCEL_LENGTHS else b"")
                return
            else:
                break
        self._head = head

    def connection_lost(self, exc: BaseException | None) -> None:
        self._end(b"")

    def show_out(self) -> None:
        """Make room: say why, as far as that goes at once."""
        if self.transport is not None and not self._ended:
            self._say_no_room()
        self._end(b"")

    def send_away(self) -> None:
        """It has had its time."""
        if self.transport is not None:
            self.transport.abort()

    def _say_no_room(self) -> None:
        assert self.transport is not None
        self.transport.write(no_room())
        self.transport.close()

    def _end(self, said: bytes) -> None:
        if not self._ended:
            self._ended = True
            self._host.over(self, said)


class Greetings:
    """All of them, and what becomes of each."""

    def __init__(
        self,
        hub: Hub,
        crowd: Crowd,
        tasks: Tasks,
        report: Report,
        cancel: Callable[[bytes], Awaitable[None]],
    ) -> None:
        self._hub = hub
        self._crowd = crowd
        self._tasks = tasks
        self._report = report
        self._cancel = cancel
        self._here: dict[Greeting, None] = {}
        """In order of arrival."""
        self._late: asyncio.TimerHandle | None = None
        """When the first of those that were here has had its time."""
        self._none_left: asyncio.Future[None] | None = None

    def __len__(self) -> int:
        return len(self._here)

    def meet(self, sock: socket.socket, address: str, port: int) -> None:
        """A connection was accepted."""
        peer = None
        if address == LOCAL:
            try:
                peer = peer_of(sock)
            except OSError:
                sock.close()
                return
        greeting = Greeting(self, address, port, self._hub.clock(), peer)
        self._here[greeting] = None
        self._crowd.enter(greeting, greeting.show_out)
        if self._late is None:
            self._look_again(self._hub.settings.login_timeout)
        self._tasks.spawn(self._connect(greeting, sock), "greet")

    async def _connect(self, greeting: Greeting, sock: socket.socket) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(lambda: greeting, sock)
        except BaseException as error:
            self._leave(greeting)
            sock.close()
            if not isinstance(error, OSError):
                raise

    def _leave(self, greeting: Greeting) -> None:
        self._crowd.leave(greeting)
        self._here.pop(greeting, None)
        if self._none_left is not None and not self._here and not self._none_left.done():
            self._none_left.set_result(None)

    def begin(self, greeting: Greeting, head: bytes) -> None:
        self._leave(greeting)
        transport, address = greeting.transport, greeting.address
        assert transport is not None
        session = self._hub.open_session(
            address, greeting.port, loopback=is_loopback(address), peer=greeting.peer
        )
        session.since = greeting.since
        protocol = SessionProtocol(session, head, self._report)
        transport.set_protocol(protocol)
        protocol.connection_made(transport)

    def over(self, greeting: Greeting, said: bytes) -> None:
        self._leave(greeting)
        if greeting.transport is not None and said:
            self._tasks.spawn(self._carry_out(greeting.transport, said), "cancel")
        elif greeting.transport is not None:
            greeting.transport.close()

    async def _carry_out(self, transport: asyncio.Transport, packet: bytes) -> None:
        """As with Postgres the connection ends when the request is on its way."""
        try:
            await self._cancel(packet)
        except ProtocolViolation:
            pass
        finally:
            transport.close()

    def _look_again(self, after: float) -> None:
        self._late = asyncio.get_running_loop().call_later(after, self._look)

    def _look(self) -> None:
        """Send away who has had its time."""
        self._late = None
        now, patience = self._hub.clock(), self._hub.settings.login_timeout
        for greeting in [one for one in self._here if now - one.since >= patience]:
            greeting.send_away()
        left = [patience - (now - one.since) for one in self._here if now - one.since < patience]
        if self._here:
            self._look_again(min(left, default=patience))

    async def end(self, within: float) -> None:
        """Nobody comes any more: whoever has not said in time who it is hears no answer."""
        if self._late is not None:
            self._late.cancel()
        if self._here:
            self._none_left = asyncio.get_running_loop().create_future()
            await asyncio.wait([self._none_left], timeout=within)
        for greeting in list(self._here):
            self.over(greeting, b"")
