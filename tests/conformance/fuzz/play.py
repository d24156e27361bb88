"""Plays a script to an address and keeps what comes back, as messages that can be compared.

Laws: what is read is read while it is sent, so that nobody waits for the other; every play has an
end; what differs between two sessions of the same server by nature (process number, key, numbers of
temporary objects) is taken out, nothing else. It shares no code with pgguard but message types.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import socket
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conformance.fuzz.script import Script

WITHIN = 6.0
"""Seconds that a play may take; a longer one hangs."""
WITHIN_STARTUP = 2.0
"""The same where both may wait for the rest of a startup packet."""
TERMINATE = b"X\0\0\0\4"
OLD = b"EFATAL:  "
"""An error in the format of protocol 2; no message of today is as long as its next bytes say."""

WAYS = ("whole", "pieces", "bytes")
"""How a script is cut: not at all, at random places, behind each byte."""


@dataclass(frozen=True, slots=True)
class Lane:
    """An address with a database of its own, so that plays at the same time do not meet."""

    name: str
    port: int
    database: bytes
    way: str
    negotiates: bool
    """Both sides speak the same newest protocol version, so that it can be compared."""


async def play(script: Script, lane: Lane) -> list[str]:
    """What came back, one line for each message, the last one says how it ended.

    Of who does not listen nothing is told but that it left.
    """
    loop = asyncio.get_running_loop()
    sock = socket.socket()
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    received = bytearray()
    ready = asyncio.Event()
    try:
        await loop.sock_connect(sock, ("127.0.0.1", lane.port))
        reading = asyncio.create_task(_read(sock, received, ready))
        end = "closed"
        try:
            async with asyncio.timeout(WITHIN_STARTUP if script.unfinished else WITHIN):
                await _send(sock, script, lane, ready)
                if not script.listens:
                    return ["left"]
                await reading
        except TimeoutError:
            end = "hangs"
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
    finally:
        if script.end == "reset":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()
    return [*normal(bytes(received), lane), end]


async def _read(sock: socket.socket, received: bytearray, ready: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    try:
        while True:
            # A reset behind the last byte is an end like any other.
            data = await loop.sock_recv(sock, 65536)
            if not data:
                return
            received += data
            if b"Z\0\0\0\5" in received:
                ready.set()
    except OSError:
        return
    finally:
        ready.set()


async def _send(sock: socket.socket, script: Script, lane: Lane, ready: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    first, rest = script.said
    first = first.replace(b"%LANE%", lane.database)
    tail = TERMINATE if script.end == "terminate" else b""
    parts = {
        "login": [first, rest + tail],
        "end": [first + rest, tail],
        "never": [first + rest + tail],
    }[script.wait]
    with contextlib.suppress(OSError):
        for number, part in enumerate(parts):
            if number:
                await ready.wait()
            for piece in _cut(part, lane.way, script.seed):
                await loop.sock_sendall(sock, piece)
                if lane.way != "whole":
                    await asyncio.sleep(0)
        if script.end == "eof":
            sock.shutdown(socket.SHUT_WR)


def _cut(data: bytes, way: str, seed: str) -> Iterator[bytes]:
    if way == "whole" or not data:
        yield data
        return
    random_ = random.Random(seed)
    at = 0
    while at < len(data):
        # The rest of what is long is not worth a call for each byte.
        size = (
            1 if way == "bytes" and at < 3000 else random_.choice([1, 2, 3, 4, 5, 7, 20, 90, 600])
        )
        yield data[at : at + size]
        at += size


def normal(data: bytes, lane: Lane) -> Iterator[str]:
    """Each message as a line that two sessions can have in common."""
    oids: dict[int, int] = {}
    at = 0
    while len(data) - at >= 5:
        kind, length = struct.unpack_from("!cI", data, at)
        if length < 4 or at + 1 + length > len(data):
            break
        line = _message(kind, data[at + 5 : at + 1 + length], oids, lane)
        if line:
            yield line
        at += 1 + length
    if data.startswith(OLD):
        text = data.removeprefix(OLD).rstrip(b"\n\0").decode()
        yield f"E SFATAL VFATAL C0A000 M{text}"
    elif at < len(data):
        yield f"unfinished: {data[at:]!r}"


def _message(kind: bytes, body: bytes, oids: dict[int, int], lane: Lane) -> str:
    if kind == b"K":
        return f"K key of {len(body) - 4 if lane.negotiates else 'some'} bytes"
    if kind == b"v" and not lane.negotiates:
        count, names = struct.unpack_from("!I", body, 4)[0], body[8:]
        return f"v {names!r}" if count else ""
    if kind == b"A":
        return f"A {body[4:]!r}"
    if kind == b"T":
        return f"T {_columns(body, oids)}"
    if kind in b"EN":
        fields = [field for field in body.split(b"\0") if field[:1] not in (b"F", b"L", b"R", b"")]
        text = b" ".join(fields).decode("utf-8", "backslashreplace")
        if not lane.negotiates:
            text = text.replace("supports 3.0 to 3.2", "supports 3.0 to 3.0")
        return f"{kind.decode()} {re.sub('pg_temp_[0-9]+', 'pg_temp', text)}"
    return f"{kind.decode('latin-1')} {body!r}"


def _columns(body: bytes, oids: dict[int, int]) -> list[object]:
    """The columns, with tables numbered in the order in which they appear."""
    columns: list[object] = []
    at = 2
    while (end := body.find(b"\0", at)) >= 0 and end + 19 <= len(body):
        table, *rest = struct.unpack_from("!IhIhih", body, end + 1)
        if table >= 16384:
            table = oids.setdefault(table, -1 - len(oids))
        columns.append((body[at:end], table, *rest))
        at = end + 19
    return columns
