"""Accept connections, negotiate on the raw socket, hand over to the core.

A connection begins with eight bytes: SSLRequest is answered `S` where there is a certificate and
else, like GSSENCRequest, `N`, each at most once; a CancelRequest is carried out and ends without an
answer; anything else is the head of a startup packet and goes to the session with the socket. Laws:
not one byte too many is read before the session or TLS owns the socket; one bad peer never delays
another; EMFILE backs off.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
import ssl
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from pgguard.core.types import LOCAL
from pgguard.errors import LoginRefused, ProtocolViolation, SettingsError
from pgguard.net.certificates import ALPN, Entrance, why
from pgguard.net.channel import Channel, TlsChannel, is_waiting
from pgguard.net.crowd import REFUSING, Crowd, no_room
from pgguard.net.greeting import Greetings
from pgguard.net.loop import is_loopback, tune
from pgguard.net.transports import SessionProtocol
from pgguard.wire.backend import error_response
from pgguard.wire.codes import (
    CANCEL_REQUEST,
    GSSENC_REQUEST,
    MAX_CANCEL_KEY_LENGTH,
    MAX_STARTUP_PACKET_LENGTH,
    SSL_REQUEST,
)
from pgguard.wire.startup import CancelRequest, StartupMessage, decode_packet

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pgguard.core.hub import Hub
    from pgguard.net.loop import Tasks

log = logging.getLogger("pgguard.net")

BACKLOG = 1024
AT_ONCE = 8
"""Connections that are accepted before others have their turn."""
NO_DESCRIPTORS = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
PAUSE_WITHOUT_DESCRIPTORS = 0.2
COMPLAIN_EVERY = 10.0
REFUSE_WITHIN = 5.0
"""Seconds that a connection gets to come to where it can be told that there is no room."""
TLS_RECORD = 0x16
"""The first byte of a handshake; as that of a length it would be 352 MiB."""
LAST_WORDS = 0.25
"""Seconds that those who have just connected get when nobody is accepted any more."""
LINGER = 1.0
"""Seconds in which a peer may read why it is refused, before what it still sends resets that."""


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
        entrance: Entrance | None = None,
        descriptors: int = 0,
    ) -> None:
        """`descriptors` is the limit of the process; 0 = not known."""
        self._crowd = Crowd(hub, descriptors)
        self._hub = hub
        self._sockets = sockets
        self._tasks = tasks
        self._report = report
        self._cancel = cancel
        self._entrance = entrance or Entrance()
        self._pauses: dict[socket.socket, asyncio.TimerHandle] = {}
        """Where nobody is accepted for a while, and when that ends."""
        self._welcoming: set[asyncio.Task[None]] = set()
        self._greetings = Greetings(hub, self._crowd, tasks, report, self._cancel_as)
        self._near: set[socket.socket] = set()
        """Where only this machine can come, so that every connection is tuned alike."""
        self._complained_at = float("-inf")

    def start(self) -> None:
        for listening in self._sockets:
            if listening.family != socket.AF_UNIX:
                address = str(listening.getsockname()[0])
                if is_loopback(address):
                    # What is accepted inherits it.
                    tune(listening, address)
                    self._near.add(listening)
            self._listen(listening)

    def _listen(self, listening: socket.socket) -> None:
        self._pauses.pop(listening, None)
        asyncio.get_running_loop().add_reader(listening, self._accept, listening)

    async def stop(self) -> None:
        """Accept no more; the connections that there are go on.

        Whoever had connected before, and says soon who it is, still gets an answer of the core.
        """
        loop = asyncio.get_running_loop()
        sockets, self._sockets = self._sockets, []
        for listening in sockets:
            loop.remove_reader(listening)
            if listening in self._pauses:
                self._pauses.pop(listening).cancel()
            with contextlib.suppress(OSError):
                while True:
                    sock, peer = _let_in(listening)
                    self._meet(listening, sock, peer)
            listening.close()
        await self._greetings.end(LAST_WORDS)
        if self._welcoming:
            await asyncio.wait(self._welcoming, timeout=LAST_WORDS)

    def _accept(self, listening: socket.socket) -> None:
        """Somebody knocks: let in who has come, a few at a time."""
        for _ in range(AT_ONCE):
            try:
                sock, peer = _let_in(listening)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno not in NO_DESCRIPTORS:
                    continue
                self._complain("no descriptors left to accept connections: %s", error.strerror)
                self._crowd.drop_one()
                loop = asyncio.get_running_loop()
                loop.remove_reader(listening)
                self._pauses[listening] = loop.call_later(
                    PAUSE_WITHOUT_DESCRIPTORS, self._listen, listening
                )
                return
            self._meet(listening, sock, peer)

    def _meet(self, listening: socket.socket, sock: socket.socket, peer: Any) -> None:
        # Over a unix socket nobody has an address.
        unix = not isinstance(peer, tuple)
        address, port = (LOCAL, 0) if unix else (str(peer[0]), int(peer[1]))
        if not unix and listening not in self._near:
            with contextlib.suppress(OSError):
                tune(sock, address)
        if self._crowd.has_room():
            if unix or self._entrance.context is None:
                # Nothing will be encrypted: the transport has the socket from the first byte on.
                self._greetings.meet(sock, address, port)
                return
            welcome = self._welcome(sock, address, port, self._hub.clock())
            task = self._tasks.spawn(welcome, "negotiate")
            self._welcoming.add(task)
            task.add_done_callback(self._welcoming.discard)
            self._crowd.enter(sock, partial(_show_out, sock, task))
        else:
            self._complain("no room for more connections: %s", self._crowd.describe())
            self._turn_away(sock, address)

    def _turn_away(self, sock: socket.socket, address: str) -> None:
        if self._crowd.refusing < REFUSING:
            self._crowd.refusing += 1
            self._tasks.spawn(self._tell_no_room(sock, address), "refuse")
        else:
            sock.close()

    async def _tell_no_room(self, sock: socket.socket, address: str) -> None:
        """The answer comes where it is expected; who wants to cancel still may."""
        sock.setblocking(False)
        try:
            async with asyncio.timeout(REFUSE_WITHIN):
                channel, _ = await self._negotiate(Channel(sock), address)
                await _refuse(channel, no_room())
        except (OSError, TimeoutError, EOFError, ProtocolViolation):
            pass
        finally:
            self._crowd.refusing -= 1
            sock.close()

    def _complain(self, what: str, why: str | None) -> None:
        now = self._hub.clock()
        if now - self._complained_at >= COMPLAIN_EVERY:
            self._complained_at = now
            log.warning(what, why)

    async def _cancel_as(self, packet: bytes) -> None:
        request = decode_packet(packet)
        if isinstance(request, CancelRequest):
            await self._cancel(request.pid, request.secret)

    async def _welcome(self, sock: socket.socket, address: str, port: int, since: float) -> None:
        loop = asyncio.get_running_loop()
        try:
            sock.setblocking(False)
            async with asyncio.timeout(self._hub.settings.login_timeout):
                channel, head = await self._negotiate(Channel(sock), address)
        except (OSError, TimeoutError, EOFError, ProtocolViolation):
            sock.close()
            return
        except BaseException:
            sock.close()
            raise
        finally:
            self._crowd.leave(sock)
        session = self._hub.open_session(address, port, loopback=is_loopback(address))
        # The whole way in has one time limit.
        session.since = since
        session.binding = channel.shown
        try:
            await loop.connect_accepted_socket(
                lambda: channel.protocol(SessionProtocol(session, head, self._report)), sock
            )
        except BaseException:
            sock.close()
            session.lost(None)
            raise

    async def _negotiate(self, channel: Channel, address: str) -> tuple[Channel, bytes]:
        """The first eight bytes that are neither request nor cancel, and where they came.

        Raises EOFError where there is nothing more to say.
        """
        allowed = {SSL_REQUEST, GSSENC_REQUEST}
        while True:
            head = await _read_exactly(channel, 4)
            direct = head[0] == TLS_RECORD and len(allowed) == 2 and self._has_tls(channel)
            if not (direct or 8 <= int.from_bytes(head, "big") <= MAX_STARTUP_PACKET_LENGTH + 4):
                # As Postgres: no packet has that length, and nothing more is waited for.
                raise EOFError
            head += await _read_exactly(channel, 4)
            length, code = int.from_bytes(head[:4], "big"), int.from_bytes(head[4:], "big")
            if length == 8 and code in allowed:
                allowed.discard(code)
                if code == SSL_REQUEST and self._has_tls(channel):
                    channel = await self._answer_tls(channel, address)
                else:
                    await channel.send(b"N")
            elif direct:
                channel = await self._encrypt(channel, address, head)
            elif code == CANCEL_REQUEST:
                await self._take_cancel(channel, head, length)
            elif self._entrance.required and not channel.tls and address != LOCAL:
                await self._refuse_plain(channel, address, head, length)
            elif channel.lacks_certificate:
                await _read_startup(channel, head, length)
                await _refuse(channel, _refusal("connection requires a valid client certificate"))
            else:
                return channel, head

    def _has_tls(self, channel: Channel) -> bool:
        """As with Postgres there is none over unix sockets: nobody is on that way."""
        plain = not channel.tls and channel.sock.family != socket.AF_UNIX
        return self._entrance.context is not None and plain

    async def _answer_tls(self, channel: Channel, address: str) -> Channel:
        if is_waiting(channel.sock):
            # CVE-2021-23214: it would be taken for something said in TLS.
            await _refuse(
                channel,
                error_response(
                    severity="FATAL",
                    sqlstate="08P01",
                    message="received unencrypted data after SSL request",
                    detail="This could be either a client-software bug or evidence of an attempted"
                    " man-in-the-middle attack.",
                ),
            )
        await channel.send(b"S")
        return await self._encrypt(channel, address)

    async def _encrypt(self, plain: Channel, address: str, head: bytes = b"") -> Channel:
        """TLS on the socket; `head` is what a direct connection has said of it."""
        assert self._entrance.context is not None
        task = asyncio.current_task()
        assert task is not None
        # From here on nothing can be said in plain text.
        self._crowd.change(plain.sock, task.cancel)
        channel = TlsChannel(plain.sock, self._entrance.context, None, head)
        channel.shown = self._entrance.end_point
        try:
            await channel.handshake()
        except OSError as error:
            reason = why(error) if isinstance(error, ssl.SSLError) else error.strerror
            log.warning("TLS with a client at %s failed: %s", address, reason)
            await _refuse(plain, b"")
        if head and channel.alpn != ALPN:
            log.warning("TLS with a client at %s failed: direct, without ALPN", address)
            raise EOFError
        return channel

    async def _take_cancel(self, channel: Channel, head: bytes, length: int) -> None:
        if not 12 < length <= 12 + MAX_CANCEL_KEY_LENGTH:
            raise ProtocolViolation("invalid length of cancel request packet")
        packet = head + await _read_exactly(channel, length - 8)
        self._crowd.leave(channel.sock)
        await self._cancel_as(packet)
        if channel.tls:
            channel.close()
        raise EOFError

    async def _refuse_plain(self, channel: Channel, address: str, head: bytes, length: int) -> None:
        """In the words with which Postgres refuses whom no line of pg_hba.conf lets in."""
        names = await _read_startup(channel, head, length)
        user = names.get("user", "")
        message = (
            f'no pg_hba.conf entry for host "{address}", user "{user}", '
            f'database "{names.get("database") or user}", no encryption'
        )
        hint = "pgguard: listen.tls = require takes nobody without TLS"
        await _refuse(channel, _refusal(message, hint))


def _let_in(listening: socket.socket) -> tuple[socket.socket, Any]:
    """Raises OSError: nobody is there any more, or nobody can be let in."""
    return listening.accept()


def _show_out(sock: socket.socket, task: asyncio.Task[None]) -> None:
    """Make room: say why, as far as that goes at once, and end the negotiation."""
    with contextlib.suppress(OSError):
        sock.send(no_room())
    task.cancel()


async def _refuse(channel: Channel, answer: bytes) -> NoReturn:
    """Say it, wait until it has been read, and end the connection: raises EOFError."""
    if answer:
        await channel.send(answer)
    channel.sock.shutdown(socket.SHUT_WR)
    async with asyncio.timeout(LINGER):
        while await channel.receive(4096):
            pass
    raise EOFError


def _refusal(message: str, hint: str = "") -> bytes:
    return error_response(severity="FATAL", sqlstate="28000", message=message, hint=hint)


async def _read_startup(channel: Channel, head: bytes, length: int) -> dict[str, str]:
    """The parameters of who is about to be refused. Raises EOFError and ProtocolViolation."""
    if not 8 <= length <= MAX_STARTUP_PACKET_LENGTH + 4:
        raise ProtocolViolation("invalid length of startup packet")
    try:
        packet = decode_packet(head + await _read_exactly(channel, length - 8))
    except (ProtocolViolation, LoginRefused):
        raise EOFError from None
    return packet.parameters if isinstance(packet, StartupMessage) else {}


async def _read_exactly(channel: Channel, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = await channel.receive(size - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data
