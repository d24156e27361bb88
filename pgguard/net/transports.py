"""Sockets of sessions and servers, as asyncio Protocols that do nothing but hand bytes to the core.

Laws: `data_received` *is* the core's bound method, so that no frame lies between loop and core;
whatever the core raises ends this one connection, is counted and reported, and nobody else notices.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from pgguard.net.encryption import Encrypted
from pgguard.net.unread import unread

if TYPE_CHECKING:
    from pgguard.core.relay import Relay
    from pgguard.core.server import Server
    from pgguard.core.server_login import ServerLogin
    from pgguard.core.session import Session

Report = Callable[[str, BaseException], None]

HUNG_UP = getattr(select, "POLLRDHUP", 0)
"""Linux: a FIN is seen although nothing is read. Errors and resets are reported in any case."""


class Outlet:
    """A transport as the core wants it: what is said to a closed connection is swallowed.

    uvloop raises RuntimeError between the end of a socket and `connection_lost`.
    """

    __slots__ = ("_still", "_transport", "forward")

    def __init__(self, transport: asyncio.BaseTransport) -> None:
        self._still = False
        """The core wants nothing read."""
        # uvloop's transports do not inherit from asyncio.Transport, but are such.
        self._transport = cast("asyncio.Transport", transport)
        self.forward = self._transport.write

    def write(self, data: bytes, /) -> None:
        self._carefully(self._transport.write, data)

    def close(self) -> None:
        self._transport.close()

    def abort(self) -> None:
        self._transport.abort()

    def write_eof(self) -> None:
        self._carefully(self._transport.write_eof)

    def pause_reading(self) -> None:
        self._still = True
        self._carefully(self._transport.pause_reading)

    def resume_reading(self) -> None:
        self._still = False
        self._carefully(self._transport.resume_reading)

    def rest(self) -> None:
        """Let the others have their turn: uvloop reads a socket that is never empty up to 32 times
        before it looks at anything else."""
        if not self._still:
            self._carefully(self._transport.pause_reading)
            asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on(self) -> None:
        if not self._still:
            self._carefully(self._transport.resume_reading)

    def gone(self) -> bool:
        return self._has(HUNG_UP)

    def was_reset(self) -> bool:
        return self._has(0)

    def _has(self, events: int) -> bool:
        """Whether one of the events stands at the socket, or an error or a reset."""
        sock = self._transport.get_extra_info("socket")
        if sock is None or self._transport.is_closing():
            return True
        poll = select.poll()
        poll.register(sock.fileno(), events)
        return bool(poll.poll(0))

    def _carefully(self, say: Callable[..., object], *what: bytes) -> None:
        try:
            say(*what)
        except RuntimeError:
            if not self._transport.is_closing():
                raise
        except OSError:
            # asyncio's own loop lets out what a socket says that the other side has reset.
            self._transport.abort()


class SessionProtocol(asyncio.Protocol):
    """A frontend connection; `head` is what the listener has read of it already."""

    __slots__ = ("_head", "_report", "data_received", "session")

    def __init__(self, session: Session, head: bytes, report: Report) -> None:
        self.session = session
        self._head = head
        self._report = report
        self.data_received = session.receive  # type: ignore[method-assign]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        outlet = Outlet(transport)
        # Before anything else: the loop may deliver more bytes before the listener runs again.
        self.session.adopt(outlet)
        try:
            self.session.receive(self._head)
        except Exception as error:  # noqa: BLE001  here the loops would leave it open
            self._report(repr(self.session), error)
            outlet.abort()

    def pause_writing(self) -> None:
        self.session.pause_writing()

    def resume_writing(self) -> None:
        self.session.resume_writing()

    def eof_received(self) -> bool:
        return self.session.eof()

    def connection_lost(self, exc: BaseException | None) -> None:
        if exc is not None and not isinstance(exc, OSError):
            self._report(repr(self.session), exc)
        self.session.lost(exc)


class ServerProtocol(asyncio.Protocol):
    """A backend connection that has logged in; `rest` came behind its ReadyForQuery."""

    __slots__ = ("_ended", "_login", "_report", "_transport", "data_received", "server")

    def __init__(self, server: Server, login: ServerLogin, rest: bytes, report: Report) -> None:
        self.server = server
        self._login: tuple[ServerLogin, bytes] | None = (login, rest)
        self._report = report
        self._transport: asyncio.BaseTransport
        self._ended = False
        self.data_received = server.receive  # type: ignore[method-assign]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert self._login is not None
        login, rest = self._login
        self._login = None
        self._transport = transport
        outlet = Outlet(transport)
        try:
            self.server.hub.server_connected(self.server, outlet, login)
            if rest:
                self.server.receive(rest)
        except Exception as error:  # noqa: BLE001  here the loops would leave it open
            self._report(repr(self.server), error)
            outlet.abort()

    def pause_writing(self) -> None:
        self.server.pause_writing()

    def resume_writing(self) -> None:
        self.server.resume_writing()

    def eof_received(self) -> bool:
        self._ended = True
        return self.server.eof()

    def connection_lost(self, exc: BaseException | None) -> None:
        if exc is not None and not isinstance(exc, OSError):
            self._report(repr(self.server), exc)
        elif not self._ended:
            self._hear_out()
        self.server.lost(exc)

    def _hear_out(self) -> None:
        """A write has failed: Postgres closed while the client was writing, and said why."""
        words = _last_words(self._transport)
        if words:
            try:
                self.server.receive(words)
            except Exception as error:  # noqa: BLE001  the loss must be reported all the same
                self._report(repr(self.server), error)


class RelayProtocol(asyncio.Protocol):
    """A backend connection on which a session's client logs in; then a ServerProtocol follows."""

    __slots__ = ("_ended", "_outlet", "_relay", "_report", "_server", "_successor", "_transport")

    def __init__(self, server: Server, relay: Relay, report: Report) -> None:
        self._server = server
        self._relay = relay
        self._report = report
        self._transport: asyncio.Transport
        self._successor: ServerProtocol | None = None
        self._ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._outlet = Outlet(transport)
        self._carefully(self._relay.connected, self._server, self._outlet)

    def data_received(self, data: bytes) -> None:
        self._carefully(self._hear, data)

    def _hear(self, data: bytes) -> None:
        over = self._relay.from_server(self._server, data)
        if over is not None:
            login, rest = over
            self._successor = ServerProtocol(self._server, login, rest, self._report)
            self._transport.set_protocol(self._successor)
            self._successor.connection_made(self._transport)

    def _carefully(self, do: Callable[..., object], *what: object) -> None:
        try:
            do(*what)
        except Exception as error:  # noqa: BLE001  a bug of ours ends this connection alone
            self._report(repr(self._server), error)
            self._outlet.abort()

    def eof_received(self) -> bool:
        self._ended = True
        return False

    def connection_lost(self, exc: BaseException | None) -> None:
        if not self._ended and (words := _last_words(self._transport)):
            # Postgres closed while the client was answering it, and said why.
            self._carefully(self._hear, words)
        if self._successor is not None:
            self._successor.connection_lost(exc)
        else:
            self._relay.lost(self._server, exc)


def _last_words(transport: asyncio.BaseTransport) -> bytes:
    """What has come and was not read, up to the end of the connection."""
    return transport.unread() if isinstance(transport, Encrypted) else unread(transport)
