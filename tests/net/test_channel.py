"""Dialogues on a raw socket, in plain text and in TLS, up to the hand-over to a transport."""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import TYPE_CHECKING, Any

import pytest
from tls import client_context, server_context

from pgguard.net.channel import Channel, TlsChannel, is_waiting

if TYPE_CHECKING:
    from collections.abc import Callable

    from tls import Files


def pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of a TCP connection, neither of which blocks."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        one = socket.create_connection(listening.getsockname())
        other, _ = listening.accept()
    one.setblocking(False)
    other.setblocking(False)
    return one, other


async def both(pem: Files, host: str = "localhost") -> tuple[TlsChannel, TlsChannel]:
    """A client and a server that have shaken hands."""
    one, other = pair()
    client = TlsChannel(one, client_context(pem), host)
    server = TlsChannel(other, server_context(pem), None)
    try:
        await asyncio.gather(client.handshake(), server.handshake())
    except OSError:
        one.close()
        other.close()
        raise
    return client, server


def test_plain_text_goes_as_it_is(run: Callable[..., Any]) -> None:
    async def talk() -> None:
        one, other = map(Channel, pair())
        assert not is_waiting(other.sock)
        await one.send(b"heylo")
        assert await other.receive(3) == b"hey"
        assert is_waiting(other.sock)
        assert await other.receive(9) == b"lo"
        inner = asyncio.Protocol()
        assert one.protocol(inner) is inner
        assert one.tls == ""
        one.close()
        assert await other.receive(9) == b""
        assert is_waiting(other.sock)
        other.close()

    run(talk())


def test_a_dialogue_in_tls_may_be_read_in_any_pieces(run: Callable[..., Any], pem: Files) -> None:
    async def talk() -> None:
        client, server = await both(pem)
        assert (client.tls, server.tls) == ("TLSv1.3", "TLSv1.3")
        assert client.alpn == server.alpn == "postgresql"
        await client.send(b"a" * 20_000)
        got = b""
        while len(got) < 20_000:
            got += await server.receive(7)
        assert got == b"a" * 20_000
        await server.send(b"x")
        assert await client.receive(9) == b"x"
        client.close()
        assert await server.receive(9) == b""
        server.close()

    run(talk())


def test_no_record_is_larger_than_libpq_can_wait_for(run: Callable[..., Any], pem: Files) -> None:
    async def talk() -> None:
        client, server = await both(pem)
        await server.send(b"a" * 20_000)
        raw = b""
        loop = asyncio.get_running_loop()
        while len(raw) < 20_000:
            raw += await loop.sock_recv(client.sock, 65536)
        while raw:
            size = int.from_bytes(raw[3:5], "big")
            assert size <= 8192 + 256
            raw = raw[5 + size :]
        client.close()
        server.close()

    run(talk())


def test_a_name_that_is_not_in_the_certificate_ends_it(run: Callable[..., Any], pem: Files) -> None:
    async def talk() -> None:
        with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
            await both(pem, "db.example")

    run(talk())


def test_a_peer_that_leaves_in_the_handshake_is_told_of(
    run: Callable[..., Any], pem: Files
) -> None:
    async def talk() -> None:
        one, other = pair()
        other.close()
        client = TlsChannel(one, client_context(pem), "localhost")
        with pytest.raises(OSError, match=r"closed during the TLS handshake|reset by peer"):
            await client.handshake()
        client.close()

    run(talk())


class Echo(asyncio.Protocol):
    """Keeps what comes, answers it, and ends when the other side does."""

    def __init__(self) -> None:
        self.got = b""
        self.over: asyncio.Future[BaseException | None] = asyncio.Future()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.got += data
        self.transport.write(data)

    def connection_lost(self, exc: BaseException | None) -> None:
        self.over.set_result(exc)


def test_what_was_read_too_far_goes_on_to_the_protocol(run: Callable[..., Any], pem: Files) -> None:
    async def talk() -> None:
        client, server = await both(pem)
        await client.send(b"headtail")
        assert await server.receive(4) == b"head"
        echo = Echo()
        loop = asyncio.get_running_loop()
        await loop.connect_accepted_socket(lambda: server.protocol(echo), server.sock)
        assert await client.receive(9) == b"tail"
        await client.send(b"more")
        assert await client.receive(9) == b"more"
        client.close()
        assert await echo.over is None
        assert echo.got == b"tailmore"

    run(talk())
