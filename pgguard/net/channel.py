"""A connected socket before a transport owns it, in plain text or encrypted.

The first words of a connection (negotiation, login, look-ups, cancels) are a dialogue on the raw
socket; TLS runs in memory beside it. Laws: `start_tls` is never used; what has been read and not
been asked for yet goes on to the protocol that takes over; closing is the owner's.
"""

from __future__ import annotations

import asyncio
import errno
import ssl
from contextlib import suppress
from typing import TYPE_CHECKING

from pgguard.net.encryption import Encrypted, Tls
from pgguard.wire.binding import end_point

if TYPE_CHECKING:
    import socket

CHUNK = 65536


class Channel:
    """A connection in plain text."""

    __slots__ = ("shown", "sock")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.shown = b""
        """What a login of the other side is bound to: the end point of our own certificate."""

    @property
    def tls(self) -> str:
        """The version of TLS, `TLSv1.3`; empty in plain text."""
        return ""

    @property
    def end_point(self) -> bytes:
        """What a login over it to the other side can be bound to; empty without TLS."""
        return b""

    @property
    def lacks_certificate(self) -> bool:
        """Whether the other side was asked for a certificate and has shown none."""
        return False

    async def send(self, data: bytes) -> None:
        """Raises OSError."""
        await asyncio.get_running_loop().sock_sendall(self.sock, data)

    async def receive(self, size: int) -> bytes:
        """At most `size` bytes; none at the end. Raises OSError."""
        return await asyncio.get_running_loop().sock_recv(self.sock, size)

    def protocol(self, inner: asyncio.Protocol) -> asyncio.Protocol:
        """What takes the socket over, so that `inner` gets what the channel would have got."""
        return inner

    def close(self) -> None:
        self.sock.close()


class TlsChannel(Channel):
    """A connection in TLS; `handshake` comes first.

    `head` is what has been read of the other side's first record already. A server gives no
    `host`; a client gives the name for SNI and, where the context says so, for the check.
    """

    __slots__ = ("_tls",)

    def __init__(
        self, sock: socket.socket, context: ssl.SSLContext, host: str | None, head: bytes = b""
    ) -> None:
        super().__init__(sock)
        self._tls = Tls(context, host)
        self._tls.incoming.write(head)

    @property
    def tls(self) -> str:
        return self._tls.object.version() or ""

    @property
    def end_point(self) -> bytes:
        return end_point(self._tls.object.getpeercert(binary_form=True) or b"")

    @property
    def lacks_certificate(self) -> bool:
        tls = self._tls.object
        return tls.context.verify_mode is not ssl.CERT_NONE and tls.getpeercert() is None

    @property
    def alpn(self) -> str | None:
        """The protocol that both have agreed on."""
        return self._tls.object.selected_alpn_protocol()

    async def handshake(self) -> None:
        """Raises ssl.SSLError, once the other side has been told, and OSError."""
        while True:
            try:
                self._tls.object.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
                if not await self._fill():
                    reason = "closed during the TLS handshake"
                    raise ConnectionResetError(errno.ECONNRESET, reason) from None
            except ssl.SSLError:
                with suppress(OSError):
                    await self._flush()
                raise
            else:
                await self._flush()
                return

    async def send(self, data: bytes) -> None:
        self._tls.write(data)
        await self._flush()

    async def receive(self, size: int) -> bytes:
        while True:
            try:
                return self._tls.object.read(size)
            except ssl.SSLZeroReturnError:
                return b""
            except ssl.SSLWantReadError:
                await self._flush()
                if not await self._fill():
                    return b""

    def protocol(self, inner: asyncio.Protocol) -> asyncio.Protocol:
        return Encrypted(self._tls, inner)

    def close(self) -> None:
        """Say so if there is room for it, and close."""
        self._tls.finish()
        with suppress(OSError):
            self.sock.send(self._tls.outgoing.read())
        super().close()

    async def _fill(self) -> bool:
        data = await super().receive(CHUNK)
        self._tls.incoming.write(data)
        return bool(data)

    async def _flush(self) -> None:
        data = self._tls.outgoing.read()
        if data:
            await super().send(data)


def is_waiting(sock: socket.socket) -> bool:
    """Whether bytes, or the end, are there to be read from a non-blocking socket."""
    from socket import MSG_PEEK

    try:
        sock.recv(1, MSG_PEEK)
    except BlockingIOError:
        return False
    return True
