"""TLS handshakes that nobody means to finish, or finishes only to misuse what comes of it.

Each is one connection of the flood: cut short, byte by byte, garbage, reset in the middle, without
ALPN, renegotiated in the wrong version, or whole with nonsense in TLS behind it. It is conducted in
memory, so that every byte that is sent is chosen here. Laws: those of `attack`.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random

    from tests.conformance.harness import Address

REQUEST = struct.pack("!II", 8, 80877103)
RECORDS = (
    b"\x16\x03\x01\xff\xff",
    b"\x16\x03\x01\x00\x00",
    b"\x16\x03\x01\x40\x00" + bytes(100),
    b"\x15\x03\x03\x00\x02\x02\x28",
    b"\x17\x03\x03\x00\x20" + bytes(32),
    b"\x80\x2e\x01\x00\x02" + bytes(41),
    b"GET / HTTP/1.1\r\n\r\n",
    b"Q\0\0\0\x0dSELECT 1\0",
)
"""Heads of records that announce too much, nothing, an alert, data, SSL 2; and no record at all."""
SLOWLY = 60
"""Bytes that come one by one."""
WAYS = ("cut", "slow", "garbage", "reset", "spoiled", "direct", "nonsense")


class Handshake:
    """A client's side in memory, on a socket of its own."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = _context().wrap_bio(self._in, self._out)

    def next(self) -> bytes:
        """What the handshake says now; nothing once it is whole."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self._tls.do_handshake()
        return self._out.read()

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def hear(self) -> None:
        data = await self._reader.read(65536)
        if not data:
            raise EOFError
        self._in.write(data)

    async def finish(self) -> None:
        while True:
            with contextlib.suppress(ssl.SSLWantReadError):
                self._tls.do_handshake()
                await self.send(self._out.read())
                return
            await self.send(self._out.read())
            await self.hear()

    async def say(self, data: bytes) -> None:
        """In TLS, once the handshake is whole."""
        self._tls.write(data)
        await self.send(self._out.read())

    def leave(self, rng: random.Random) -> None:
        """With a FIN or with a RST."""
        if rng.random() < 0.5:
            sock = self._writer.get_extra_info("socket")
            with contextlib.suppress(OSError, AttributeError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._writer.transport.abort()
        else:
            self._writer.close()


@cache
def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def begin(sock: socket.socket) -> None:
    """Half of a ClientHello, and no more, on a blocking socket; it may be shown out meanwhile."""
    hello = ssl.MemoryBIO()
    tls = _context().wrap_bio(ssl.MemoryBIO(), hello)
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    sock.settimeout(1.0)
    with contextlib.suppress(OSError):
        sock.sendall(REQUEST)
        sock.recv(1)
        sock.sendall(hello.read(100))


async def attack(address: Address, rng: random.Random) -> int:
    """One connection, from its request to its end; returns how many messages it has sent."""
    reader, writer = await asyncio.open_connection(address.host, address.port)
    shake = Handshake(reader, writer)
    way = rng.choice(WAYS)
    try:
        if way != "direct":
            await shake.send(REQUEST)
            await reader.readexactly(1)
        await _conduct(shake, way, rng)
        if rng.random() < 0.5:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(rng.random()):
                    await reader.read(65536)
    finally:
        shake.leave(rng)
    return 2


async def _conduct(shake: Handshake, way: str, rng: random.Random) -> None:
    if way == "garbage":
        await shake.send(rng.choice([*RECORDS, rng.randbytes(rng.choice([1, 5, 300, 20_000]))]))
        return
    hello = shake.next()
    if way == "cut":
        await shake.send(hello[: rng.randrange(1, len(hello))])
    elif way == "slow":
        for at in range(min(SLOWLY, len(hello))):
            await shake.send(hello[at : at + 1])
            await asyncio.sleep(0.01)
    elif way == "spoiled":
        at = rng.randrange(len(hello))
        await shake.send(hello[:at] + rng.randbytes(1) + hello[at + 1 :])
    elif way == "reset":
        await shake.send(hello)
        if rng.random() < 0.5:
            await shake.hear()
            last = shake.next()
            await shake.send(last[: rng.randrange(len(last) + 1)])
    else:
        await shake.send(hello)
        await shake.hear()
        await shake.finish()
        await shake.say(rng.choice([b"", b"\0", rng.randbytes(50), REQUEST, bytes(20_000)]))
