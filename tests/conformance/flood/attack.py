"""Random connections: bytes, startups, passwords, cancels, TLS, and messages once logged in.

Everything follows from the seed and the number of the connection, but for the keys and nonces of
the server and for what the scheduler does. Laws: a connection ends whatever the other side does,
in `PATIENCE` seconds at most; nothing here waits for an answer that need not come.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import struct
from collections import Counter
from typing import TYPE_CHECKING

from tests.conformance.flood import handshakes
from tests.conformance.rawsession import CANCEL, PROTOCOL, RawSession, ServerError

if TYPE_CHECKING:
    from tests.conformance.harness import Address

PATIENCE = 20.0
SSL, GSSENC = 80877103, 80877104
GONE = (OSError, EOFError, ServerError, TimeoutError, AssertionError, RuntimeError)
"""How a connection may end, as its client sees it; uvloop raises RuntimeError after its end."""

KNOWN = b"QPBDECSHFdcfp"
"""Frontend types without Terminate."""
TEXTS = (
    b"SELECT 1",
    b"BEGIN",
    b"ROLLBACK",
    b"SELECT 1/0",
    b"SELECT repeat('x', 100000)",
    b"SELECT pg_sleep(0.002)",
    b"COPY (SELECT generate_series(1, 100)) TO STDOUT",
    b"COPY pg_temp.t FROM STDIN",
    b"CREATE TEMP TABLE t (x text)",
    b"LISTEN flood",
    b"NOTIFY flood",
    b"SET application_name = 'another'",
    b"PREPARE p AS SELECT 1",
    b"SELECT 1; SELECT 2; SELECT 3",
    b"SELECT " + b"(" * 500 + b"1" + b")" * 500,
    b"SELECT 1" + b" + 1" * 3000,
    b"SELECT '" + b"x" * 100_000 + b"'",
)
NAMES = ("user", "database", "application_name", "options", "client_encoding", "replication")
NAMES += ("connection_limit", "pool_timeout", "_pq_.x", "pgguard.client", "DateStyle", "")
WEIGHTS = {
    "logged in": 55,
    "bytes": 12,
    "startup": 12,
    "password": 12,
    "cancel": 12,
    "encryption": 5,
    "handshake": 12,
    "silent": 8,
    "stopped reader": 2,
}
BIG = 1 / 4_000
STOPPED = "SELECT n, repeat('x', 992) FROM generate_series(1, 100000) n"
"""100 MB that nobody reads."""


class Attackers:
    """All of them; `sent` counts messages by the kind of connection, `opened` connections."""

    def __init__(self, address: Address, seed: int, per_login: int) -> None:
        self._address = address
        self._seed = seed
        self._per_login = per_login
        self._logins = asyncio.Semaphore(12)
        """Logged in at once: the slots of Postgres are not what is flooded here."""
        self._keys: list[tuple[int, bytes]] = []
        self.sent: Counter[str] = Counter()
        self.opened: Counter[str] = Counter()
        self.unexpected: list[str] = []

    async def one(self, number: int, kind: str = "") -> None:
        """The connection of that number, from its beginning to its end; by itself of any kind."""
        rng = random.Random(f"{self._seed}/{number}")
        kind = kind or rng.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        attack = getattr(self, "_" + kind.replace(" ", "_"))
        self.opened[kind] += 1
        try:
            async with asyncio.timeout(PATIENCE):
                await attack(rng)
        except GONE:
            pass
        except Exception as error:
            self.unexpected.append(f"{kind}: {error!r}"[:300])

    async def _logged_in(self, rng: random.Random) -> None:
        async with self._logins:
            session = await self._open(rng)
            reading = asyncio.ensure_future(_drain(session))
            try:
                for _ in range(rng.randint(1, self._per_login)):
                    messages = [_message(rng) for _ in range(rng.randint(1, 30))]
                    for piece in _cut(rng, b"".join(messages)):
                        session.write(piece)
                        await session._writer.drain()
                    self.sent["logged in"] += len(messages)
                    if reading.done():
                        break
                    if rng.random() < 0.3:
                        await asyncio.sleep(0.001)
            finally:
                self._keys.remove((session.pid, session.secret))
                reading.cancel()
                _end(session, rng)

    async def _open(self, rng: random.Random) -> RawSession:
        name = f"flood {rng.randrange(5_000)}" if rng.random() < 0.5 else "flood"
        session = await RawSession.open(self._address, application_name=name)
        self._keys.append((session.pid, session.secret))
        return session

    async def _stopped_reader(self, rng: random.Random) -> None:
        async with self._logins:
            session = await self._open(rng)
            self.sent["stopped reader"] += 1
            try:
                session.send(b"Q", STOPPED.encode() + b"\0")
                await asyncio.sleep(rng.random())
            finally:
                self._keys.remove((session.pid, session.secret))
                _end(session, rng)

    async def _bytes(self, rng: random.Random) -> None:
        await self._say("bytes", rng, rng.randbytes(rng.choice([1, 7, 8, 50, 3000])))

    async def _startup(self, rng: random.Random) -> None:
        """A startup packet of any kind, and messages that nobody has asked for behind it."""
        body = b"".join(_text(rng, name) + b"\0" + _value(rng) for name in _some(rng))
        known = [PROTOCOL, PROTOCOL, PROTOCOL + 2, PROTOCOL + 9999]
        version = rng.choice([*known, rng.getrandbits(32)])
        length = len(body) + 9 if rng.random() < 0.9 else rng.getrandbits(32)
        packet = struct.pack("!II", length, version) + body + b"\0"
        count = rng.choice([0, 0, 1, 5])
        packet += b"".join(_message(rng) for _ in range(count))
        await self._say("startup", rng, packet, 1 + count)

    async def _password(self, rng: random.Random) -> None:
        """A wrong password, of a user that there is or of one that there is not."""
        user = self._address.user if rng.random() < 0.5 else f"nobody{rng.randrange(1_000)}"
        wrong = type(self._address)(
            self._address.host, self._address.port, user, "wrong", self._address.database
        )
        session = await RawSession.dial(wrong)
        self.sent["password"] += 3
        try:
            await session.authenticate()
        finally:
            _end(session, rng)

    async def _cancel(self, rng: random.Random) -> None:
        pid, secret = rng.getrandbits(31), rng.randbytes(4)
        if self._keys and rng.random() < 0.5:
            pid, secret = rng.choice(self._keys)
        elif self._keys and rng.random() < 0.5:
            pid = rng.choice(self._keys)[0]
        packet = struct.pack("!III", 12 + len(secret), CANCEL, pid) + secret
        if rng.random() < 0.2:
            packet = packet[: rng.randrange(1, len(packet))]
        await self._say("cancel", rng, packet)

    async def _encryption(self, rng: random.Random) -> None:
        requests = [struct.pack("!II", 8, rng.choice([SSL, GSSENC])) for _ in range(3)]
        more = rng.randbytes(rng.choice([0, 5, 300]))
        await self._say("encryption", rng, b"".join(requests) + more, 4)

    async def _handshake(self, rng: random.Random) -> None:
        self.sent["handshake"] += await handshakes.attack(self._address, rng)

    async def _silent(self, rng: random.Random) -> None:
        """Nothing at all, or a byte now and then."""
        reader, writer = await asyncio.open_connection(self._address.host, self._address.port)
        try:
            for _ in range(rng.randrange(1, 8)):
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(rng.random()):
                        await reader.readexactly(1)
                if rng.random() < 0.3:
                    self.sent["silent"] += 1
                    writer.write(b"\0")
        finally:
            writer.transport.abort()

    async def _say(self, kind: str, rng: random.Random, data: bytes, messages: int = 1) -> None:
        """Send it, look for a moment at what comes, and go."""
        reader, writer = await asyncio.open_connection(self._address.host, self._address.port)
        try:
            for piece in _cut(rng, data):
                writer.write(piece)
                await writer.drain()
            self.sent[kind] += messages
            if rng.random() < 0.5:
                writer.write_eof()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.5 * rng.random()):
                    while await reader.read(65536):
                        pass
        finally:
            writer.transport.abort()


def _end(session: RawSession, rng: random.Random) -> None:
    """However it pleases; uvloop forgets the socket of what has ended."""
    with contextlib.suppress(OSError, AttributeError, RuntimeError):
        session.vanish(rng.choice(["fin", "reset", "terminate"]))


async def _drain(session: RawSession) -> None:
    with contextlib.suppress(OSError, RuntimeError):
        while await session._reader.read(65536):
            pass


def _message(rng: random.Random) -> bytes:
    """One message: mostly of a known type and with a true length."""
    luck = rng.random()
    if luck < 0.0005:
        return b"X\0\0\0\4"
    if luck < 0.001:
        return rng.randbytes(5) + rng.randbytes(rng.randrange(20))
    body = _body(rng)
    if luck < 0.002:
        return bytes([rng.choice(KNOWN)]) + rng.randbytes(4) + body
    kind = rng.randrange(256) if luck < 0.003 else rng.choice(KNOWN)
    return bytes([kind]) + struct.pack("!I", len(body) + 4) + body


def _body(rng: random.Random) -> bytes:
    luck = rng.random()
    if luck < BIG:
        return _big(rng) + b"\0"
    if luck < 0.1:
        return rng.choice(TEXTS) + b"\0"
    if luck < 0.2:
        return b"\0" + rng.choice(TEXTS[:8]) + b"\0\0\0"
    if luck < 0.3:
        return b""
    if luck < 0.4:
        return b"\0\0\0\0\0\0\0\0"
    return rng.randbytes(rng.choice([1, 2, 4, 4, 5, 9, 17, 40, 200]))


def _big(rng: random.Random) -> bytes:
    """A text that is work to read, up to 400 kB, and the same only once."""
    number, times = rng.randrange(10**9), rng.choice([1_000, 5_000, 12_000, 40_000])
    head = b"SELECT %d" % number
    shapes = (
        b" FROM pg_class WHERE oid = 1" + b" OR oid = 2" * times,
        b" IN (" + b"1," * times + b"2)",
        b" UNION ALL SELECT 1" * min(times, 5_000),
        b"::int" * times,
        b" - 1" * times,
        b" + (" * min(times, 5_000) + b"1" + b")" * min(times, 5_000),
        b", '" + b"\xff" * times + b"'",
        b" FROM " + b"pg_class a, " * min(times, 1_000) + b"pg_class b",
    )
    return head + rng.choice(shapes)


def _cut(rng: random.Random, data: bytes) -> list[bytes]:
    """The bytes whole, in a few pieces, or one by one."""
    luck = rng.random()
    if luck < 0.5 or len(data) < 2:
        return [data]
    if luck < 0.97 or len(data) > 200:
        cuts = sorted(rng.sample(range(1, len(data)), min(len(data) - 1, rng.randint(1, 5))))
        ends = [*cuts, len(data)]
        return [data[start:end] for start, end in zip([0, *cuts], ends, strict=True)]
    return [data[at : at + 1] for at in range(len(data))]


def _some(rng: random.Random) -> list[str]:
    return [rng.choice(NAMES) for _ in range(rng.randrange(6))]


def _text(rng: random.Random, name: str) -> bytes:
    return name.encode() if rng.random() < 0.9 else rng.randbytes(10)


def _value(rng: random.Random) -> bytes:
    luck = rng.random()
    if luck < 0.5:
        return b"pgguard\0"
    if luck < 0.8:
        return os.urandom(rng.choice([1, 10, 60])).replace(b"\0", b"x") + b"\0"
    return b"x" * rng.choice([64, 1000, 9000]) + b"\0"
