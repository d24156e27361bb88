"""Accept connections, negotiate on the raw socket, hand over to the core.

A connection begins with eight bytes: SSLRequest and GSSENCRequest are answered `N`, each at most
once; a CancelRequest is carried out and ends without an answer; anything else is the head of a
startup packet and goes to the session with the socket. Laws: not one byte too many is read before
the session owns the socket; one bad peer never delays another; EMFILE backs off.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from typing import TYPE_CHECKING

from pgguard.errors import ProtocolViolation, SettingsError
from pgguard.net.loop import is_loopback, tune
from pgguard.net.transports import SessionProtocol
from pgguard.wire.codes import CANCEL_REQUEST, GSSENC_REQUEST, MAX_CANCEL_KEY_LENGTH, SSL_REQUEST
from pgguard.wire.startup import CancelRequest, decode_packet

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pgguard.core.hub import Hub
    from pgguard.net.loop import Tasks

log = logging.getLogger("pgguard.net")

BACKLOG = 1024
NO_DESCRIPTORS = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
PAUSE_WITHOUT_DESCRIPTORS = 0.2
COMPLAIN_EVERY = 10.0


def bind(host: str, port: int, *, what: str) -> list[socket.socket]:
    """Listening sockets on every address that `host` means.

    Raises SettingsError when the port is taken, naming it and the way out.
    """
    sockets: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        for family, _, _, _, address in dict.fromkeys(found):
            sock = socket.socket(family, socket.SOCK_STREAM)
            sockets.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.bind(address)
            sock.listen(BACKLOG)
            sock.setblocking(False)
            if port == 0:
                break
    except OSError as error:
        for sock in sockets:
            sock.close()
        raise SettingsError(
            f"cannot listen on {host}:{port}: {error.strerror or error}",
            where=what,
            hint=f"another program has that port; choose another with {what} HOST:PORT, port 0 "
            "takes a free one"
            if error.errno == errno.EADDRINUSE
            else "",
        ) from error
    return sockets


class Listener:
    """The frontend port."""

    def __init__(
        self,
        hub: Hub,
        sockets: list[socket.socket],
        tasks: Tasks,
        report: Callable[[str, BaseException], None],
        cancel: Callable[[int, bytes], Awaitable[None]],
    ) -> None:
        self._hub = hub
        self._sockets = sockets
        self._tasks = tasks
        self._report = report
        self._cancel = cancel
        self._accepting: list[asyncio.Task[None]] = []
        self._complained_at = float("-inf")

    def start(self) -> None:
        for sock in self._sockets:
            name = f"accept {sock.getsockname()[:2]}"
            self._accepting.append(self._tasks.spawn(self._accept(sock), name))

    async def stop(self) -> None:
        """Accept no more; the connections that there are go on."""
        for task in self._accepting:
            task.cancel()
        await asyncio.gather(*self._accepting, return_exceptions=True)
        for sock in self._sockets:
            sock.close()

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, peer = await loop.sock_accept(listening)
            except OSError as error:
                if error.errno not in NO_DESCRIPTORS:
                    continue
                self._complain(error)
                await asyncio.sleep(PAUSE_WITHOUT_DESCRIPTORS)
                continue
            self._tasks.spawn(self._welcome(sock, str(peer[0]), int(peer[1])), "negotiate")

    def _complain(self, error: OSError) -> None:
        now = self._hub.clock()
        if now - self._complained_at >= COMPLAIN_EVERY:
            self._complained_at = now
            log.warning("no descriptors left to accept connections: %s", error.strerror)

    async def _welcome(self, sock: socket.socket, address: str, port: int) -> None:
        loop = asyncio.get_running_loop()
        try:
            tune(sock, address)
            async with asyncio.timeout(self._hub.settings.login_timeout):
                head = await self._negotiate(sock)
        except (OSError, TimeoutError, EOFError, ProtocolViolation):
            sock.close()
            return
        except BaseException:
            sock.close()
            raise
        session = self._hub.open_session(address, port, loopback=is_loopback(address))
        try:
            await loop.connect_accepted_socket(
                lambda: SessionProtocol(session, head, self._report), sock
            )
        except BaseException:
            sock.close()
            session.lost(None)
            raise

    async def _negotiate(self, sock: socket.socket) -> bytes:
        """The first eight bytes that are neither request nor cancel."""
        loop = asyncio.get_running_loop()
        allowed = {SSL_REQUEST, GSSENC_REQUEST}
        while True:
            head = await _read_exactly(sock, 8)
            length, code = int.from_bytes(head[:4], "big"), int.from_bytes(head[4:], "big")
            if length == 8 and code in allowed:
                allowed.discard(code)
                await loop.sock_sendall(sock, b"N")
                continue
            if code == CANCEL_REQUEST:
                if not 12 < length <= 12 + MAX_CANCEL_KEY_LENGTH:
                    raise ProtocolViolation("invalid length of cancel request packet")
                request = decode_packet(head + await _read_exactly(sock, length - 8))
                if isinstance(request, CancelRequest):
                    await self._cancel(request.pid, request.secret)
                raise EOFError
            return head


async def _read_exactly(sock: socket.socket, size: int) -> bytes:
    loop = asyncio.get_running_loop()
    data = b""
    while len(data) < size:
        piece = await loop.sock_recv(sock, size - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data
