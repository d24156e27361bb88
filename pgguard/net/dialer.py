"""Connections to Postgres: connect, log in, hand the socket to the core; probes and cancels.

Laws: nothing is assumed about how Postgres cuts its bytes; every step has a time limit; whatever
goes wrong becomes ServerUnavailable with Postgres's own error where there is one; not one byte is
said in plain text where TLS is required.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import ssl
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

from pgguard.core import loginevents
from pgguard.core.login import Method
from pgguard.core.relay import not_relayed
from pgguard.core.server_login import UNBOUND, Binding, ServerLogin, probe_method
from pgguard.errors import ProtocolViolation, ServerUnavailable
from pgguard.net import unix
from pgguard.net.certificates import ALPN, Encryption, why
from pgguard.net.channel import Channel, TlsChannel, is_waiting
from pgguard.net.loop import tune
from pgguard.net.transports import RelayProtocol, ServerProtocol
from pgguard.settings import values
from pgguard.wire.codes import BACKEND_LOGIN_LIMIT, PROTOCOL_3_0, SSL_REQUEST
from pgguard.wire.scan import Framer
from pgguard.wire.startup import build_cancel, build_request, build_startup

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pgguard.core.hub import Hub
    from pgguard.core.relay import Relay
    from pgguard.core.secrets import Secret
    from pgguard.core.server import Server

T = TypeVar("T")

CHUNK = 65536
GREETING_LIMIT = 1 << 20
"""Bytes that Postgres may say before ReadyForQuery."""
CANCEL_TIMEOUT = 10.0
QUEUE_FULL = 0.02
"""Seconds until a socket that takes nobody at the moment is tried again."""
PROBES = 2
"""At once: whoever connects, and be it under a thousand names, takes no more from Postgres."""


@dataclass(slots=True, frozen=True)
class Address:
    """Where Postgres listens, and with which TLS; None is plain text."""

    host: str
    port: int
    connect_timeout: float = 15.0
    encryption: Encryption | None = None

    def __str__(self) -> str:
        return str(values.Address(self.host, self.port))

    @property
    def identifies(self) -> bool:
        """Whether Postgres may know us by our uid or our certificate."""
        shows = self.encryption is not None and self.encryption.shows
        return shows or values.is_directory(self.host)

    @property
    def binding(self) -> str:
        """`channel_binding` of the URL."""
        return self.encryption.binding if self.encryption is not None else "prefer"


async def connect(address: Address) -> socket.socket:
    """A connected, non-blocking socket. Raises ServerUnavailable."""
    if values.is_directory(address.host):
        return await _connect_unix(str(address))
    loop = asyncio.get_running_loop()
    error: OSError | None = None
    try:
        found = await _resolve(address.host, address.port)
    except OSError as failure:
        raise ServerUnavailable(f'cannot resolve "{address.host}": {failure.strerror}') from failure
    for family, kind, protocol, _, target in found:
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setblocking(False)
            tune(sock, str(target[0]))
            await loop.sock_connect(sock, target)
        except OSError as failure:
            sock.close()
            error = failure
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    # The text that a loop gives such an error is its own, and has the address again.
    reason = os.strerror(error.errno) if error and error.errno else str(error or "no address")
    raise ServerUnavailable(f"cannot connect to {address}: {reason}")


async def _connect_unix(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        while True:
            try:
                sock.connect(unix.target(path))
            except BlockingIOError:
                # Its queue is full (unix(7)); nothing says when it is not any more.
                await asyncio.sleep(QUEUE_FULL)
            else:
                return sock
    except OSError as error:
        sock.close()
        raise ServerUnavailable(f"cannot connect to {path}: {error.strerror or error}") from error
    except BaseException:
        sock.close()
        raise


Found = list[tuple[Any, Any, int, str, Any]]
"""As getaddrinfo(3) has it: family, type, protocol, canonical name, address."""


async def _resolve(host: str, port: int) -> Found:
    """Where a name leads. The loop asks a thread, for which an address in digits need not wait."""
    digits = _in_digits(host, port)
    if digits is not None:
        return digits
    return await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)


@lru_cache(16)
def _in_digits(host: str, port: int) -> Found | None:
    wanted = socket.AI_NUMERICHOST
    try:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=wanted)
    except OSError:
        return None


async def open_channel(address: Address) -> Channel:
    """A connection, in TLS where that is wanted. Raises ServerUnavailable, OSError."""
    # As with libpq: nobody is on the way of a unix socket.
    tls = None if values.is_directory(address.host) else address.encryption
    try:
        sock = await connect(address)
    except ServerUnavailable:
        if tls is not None:
            # What comes back may have TLS.
            tls.declined = False
        raise
    if tls is None or tls.declined:
        return Channel(sock)
    try:
        if tls.direct or await _accepts_tls(sock, tls):
            return await _encrypted(sock, address.host, tls)
    except BaseException:
        sock.close()
        raise
    return Channel(sock)


async def _accepts_tls(sock: socket.socket, tls: Encryption) -> bool:
    """The answer to SSLRequest, in libpq's words where it is the wrong one."""
    channel = Channel(sock)
    await channel.send(build_request(SSL_REQUEST))
    answer = await channel.receive(1)
    if answer == b"S":
        if is_waiting(sock):
            # CVE-2021-23222: whoever put it there would have it taken for Postgres's word.
            raise ServerUnavailable("received unencrypted data after SSL response", temporary=False)
        return True
    if answer == b"N" and tls.mode == "prefer":
        tls.declined = True
        return False
    if answer == b"N":
        reason = f"server does not support SSL, but SSL was required ({tls.mode})"
        raise ServerUnavailable(reason, temporary=False)
    if answer:
        raise ServerUnavailable("server sent an error response during SSL exchange")
    raise ServerUnavailable("Postgres closed the connection during SSL exchange")


async def _encrypted(sock: socket.socket, host: str, tls: Encryption) -> Channel:
    channel = TlsChannel(sock, tls.context, host)
    try:
        await channel.handshake()
    except ssl.SSLError as error:
        raise ServerUnavailable(f"SSL error: {why(error)}", temporary=False) from error
    if tls.direct and channel.alpn != ALPN:
        reason = "direct SSL connection was established without ALPN protocol negotiation extension"
        raise ServerUnavailable(reason, temporary=False)
    return channel


async def _messages(channel: Channel, framer: Framer) -> list[tuple[int, bytes]]:
    # What cannot be a message behind those handed out last is found before more is waited for.
    messages = framer.feed(b"")
    while not messages:
        try:
            data = await channel.receive(CHUNK)
        except ssl.SSLError as error:
            # In TLS 1.3 a server says only now that it does not take our certificate.
            raise ServerUnavailable(f"SSL error: {why(error)}", temporary=False) from error
        if not data:
            raise ServerUnavailable("Postgres closed the connection during login")
        messages = framer.feed(data)
    return messages


async def log_in(
    channel: Channel,
    parameters: dict[str, str],
    secret: Secret | None,
    *,
    salted: dict[Any, bytes] | None = None,
    mode: str = "prefer",
) -> tuple[ServerLogin, bytes]:
    """Our login for `parameters["user"]`; what came behind ReadyForQuery is returned too.

    `mode` is `channel_binding`. Raises ServerUnavailable, ProtocolViolation, OSError.
    """
    binding = Binding(channel.end_point, mode) if channel.tls or mode != "prefer" else UNBOUND
    login = ServerLogin(parameters["user"], secret, salted=salted, binding=binding)
    framer = Framer(BACKEND_LOGIN_LIMIT, "server")
    await channel.send(build_startup(PROTOCOL_3_0, parameters))
    rest: list[bytes] = []
    while not login.done:
        for kind, body in await _messages(channel, framer):
            if login.done:
                rest.append(bytes([kind]) + (len(body) + 4).to_bytes(4, "big") + body)
                continue
            answer = login.receive(kind, body)
            if answer is not None:
                await channel.send(answer)
        if sum(map(len, login.greeting)) > GREETING_LIMIT:
            raise ProtocolViolation("login of more than 1 MiB", peer="server")
    return login, b"".join(rest) + framer.rest


class Dialer:
    """Carries out what the core asks of Postgres."""

    def __init__(
        self, hub: Hub, address: Address, report: Callable[[str, BaseException], None]
    ) -> None:
        self._hub = hub
        self.address = address
        self._report = report
        self._probes = asyncio.Semaphore(PROBES)

    async def dial(self, server: Server, parameters: dict[str, str]) -> None:
        """A server for a session; ends in hub.server_connected or hub.dial_failed."""
        session = server.session
        if session is not None and session.relay is not None:
            await self._relay(server, session.relay, parameters)
            return
        # What we know must not open a door to somebody who has shown nothing: the way in may have
        # been trust when it was looked at, and be none any more.
        secret = session.secret if session is not None else None
        try:
            channel, login, rest = await self._login(parameters, secret)
        except ServerUnavailable as error:
            self._hub.upstream.dial_failed(server, error)
            return
        except asyncio.CancelledError:
            stopped = ServerUnavailable("pgguard is stopping", temporary=False)
            self._hub.upstream.dial_failed(server, stopped)
            raise
        await self._hand_over(server, channel, ServerProtocol(server, login, rest, self._report))

    async def _hand_over(
        self, server: Server, channel: Channel, protocol: asyncio.Protocol
    ) -> None:
        try:
            # Not create_connection: should the connection end as it is made, uvloop would leave the
            # descriptor to both socket and transport, and the second to close it would close that
            # of a stranger.
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: channel.protocol(protocol), channel.sock
            )
        except OSError as error:
            channel.sock.close()
            reason = error.strerror or str(error)
            self._hub.upstream.dial_failed(server, ServerUnavailable(reason))

    async def _relay(self, server: Server, relay: Relay, parameters: dict[str, str]) -> None:
        """A server whose login the session's client conducts: relay.connected, or dial_failed."""
        upstream = self._hub.upstream
        try:
            if self.address.binding == "require":
                raise not_relayed(server.user)
            channel = await self._greeted(parameters)
        except ServerUnavailable as error:
            upstream.dial_failed(server, error)
            return
        except asyncio.CancelledError:
            stopped = ServerUnavailable("pgguard is stopping", temporary=False)
            upstream.dial_failed(server, stopped)
            raise
        await self._hand_over(server, channel, RelayProtocol(server, relay, self._report))

    async def _greeted(self, parameters: dict[str, str]) -> Channel:
        """A connection that has sent its startup packet. Raises ServerUnavailable."""

        async def greet(channel: Channel) -> Channel:
            await channel.send(build_startup(PROTOCOL_3_0, parameters))
            return channel

        return await self._in_time(greet)

    async def _login(
        self, parameters: dict[str, str], secret: Secret | None
    ) -> tuple[Channel, ServerLogin, bytes]:
        """Raises ServerUnavailable and nothing else."""
        salted, mode = self._hub.secrets.salted, self.address.binding

        async def log_in_there(channel: Channel) -> tuple[Channel, ServerLogin, bytes]:
            login, rest = await log_in(channel, parameters, secret, salted=salted, mode=mode)
            return channel, login, rest

        return await self._in_time(log_in_there)

    async def _in_time(self, begin: Callable[[Channel], Awaitable[T]]) -> T:
        """Begin on a new connection, within `upstream.connect_timeout`.

        Raises ServerUnavailable and nothing else; the connection is closed then.
        """
        channel: Channel | None = None
        try:
            async with asyncio.timeout(self.address.connect_timeout):
                channel = await open_channel(self.address)
                return await begin(channel)
        except BaseException as error:
            if channel is not None:
                channel.close()
            if isinstance(error, ServerUnavailable):
                self._ask_again()
                raise
            if isinstance(error, TimeoutError):
                raise ServerUnavailable(
                    f"Postgres at {self.address} did not answer within "
                    f"{self.address.connect_timeout:g} s (upstream.connect_timeout)"
                ) from error
            if isinstance(error, ProtocolViolation):
                raise ServerUnavailable(error.message, temporary=False) from error
            if isinstance(error, OSError):
                raise ServerUnavailable(
                    f"connection lost during login: {error.strerror or 'closed'}"
                ) from error
            raise

    def _ask_again(self) -> None:
        """Postgres may have TLS since a reload, and let in nobody without it."""
        if self.address.encryption is not None:
            self.address.encryption.declined = False

    async def probe(self, user: str, database: str) -> None:
        """How Postgres receives a user: look at its first answer, then leave without a trace.

        A short connection of our own, inside the margin of `limits.total`.
        """
        upstream = self._hub.upstream
        try:
            async with self._probes:
                if not upstream.methods.is_awaited(user, database):
                    return
                async with asyncio.timeout(self.address.connect_timeout):
                    method = await self._method(user, database)
        except ServerUnavailable as error:
            self._ask_again()
            upstream.probe_failed(user, database, error)
        except ProtocolViolation as error:
            upstream.probe_failed(user, database, ServerUnavailable(error.message, temporary=False))
        except (OSError, TimeoutError) as error:
            reason = error.strerror if isinstance(error, OSError) else "no answer in time"
            message = f"Postgres does not answer: {reason or 'no answer in time'}"
            upstream.probe_failed(user, database, ServerUnavailable(message))
        else:
            upstream.probed(user, database, method)

    async def _method(self, user: str, database: str) -> Method:
        """Trust and what takes us for what we are say the same; whom nobody knows tells them
        apart: only trust lets that one in, too."""
        method = await self._first_answer(user, database)
        if method is Method.TRUST and self.address.identifies:
            stranger = f"pgguard_{secrets.token_hex(8)}"
            identified = Method.PEER if values.is_directory(self.address.host) else Method.CERT
            try:
                if await self._first_answer(stranger, database) is not Method.TRUST:
                    return identified
            except ServerUnavailable:
                return identified
        return method

    async def _first_answer(self, user: str, database: str) -> Method:
        channel = await open_channel(self.address)
        try:
            # Without a database it is a physical walsender that asks.
            where = {"database": database} if database else {"replication": "true"}
            if loginevents.are_known(self._hub, database):
                # Where nobody is asked for a password, Postgres goes on without us.
                where["options"] = loginevents.OFF
            await channel.send(build_startup(PROTOCOL_3_0, {"user": user, **where}))
            messages = await _messages(channel, Framer(BACKEND_LOGIN_LIMIT, "server"))
            return probe_method(*messages[0])
        finally:
            channel.close()

    async def cancel(self, pid: int, secret: bytes) -> None:
        """A CancelRequest on a connection of its own; returns when Postgres has closed it."""
        channel: Channel | None = None
        try:
            async with asyncio.timeout(CANCEL_TIMEOUT):
                channel = await open_channel(self.address)
                await channel.send(build_cancel(pid, secret))
                while await channel.receive(64):
                    pass
        except (OSError, TimeoutError, ServerUnavailable):
            # A cancel is a wish: Postgres gives no answer to it either.
            pass
        finally:
            if channel is not None:
                channel.close()
