"""A session by hand on asyncio: it can stop at any point and vanish in ways that no driver would.

It reads what it needs of the protocol and no more (manual, "Message Formats"; RFC 5802 and 7677
for SCRAM-SHA-256) and shares no code with pgguard, which it tests.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import hashlib
import hmac
import os
import socket
import struct
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from tests.conformance.harness import Address

PROTOCOL = 196608
CANCEL = 80877102
_OK, _SASL, _CONTINUE, _FINAL = 0, 10, 11, 12


class ServerError(Exception):
    """An ErrorResponse; `fields` maps its field letters to their text."""

    def __init__(self, fields: dict[str, str]) -> None:
        self.fields = fields
        super().__init__(f"{fields.get('C')}: {fields.get('M')}")


class RawSession:
    """One session. `notices` collects what came as NoticeResponse."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, address: Address
    ) -> None:
        self._reader, self._writer, self._address = reader, writer, address
        self.notices: list[dict[str, str]] = []
        self.pid, self.secret = 0, b""
        self.negotiated: bytes | None = None
        """The body of NegotiateProtocolVersion, where one came."""

    @classmethod
    async def dial(cls, address: Address, *, version: int = PROTOCOL, **parameters: str) -> Self:
        """Connect and send the startup packet."""
        reader, writer = await asyncio.open_connection(address.host, address.port)
        session = cls(reader, writer, address)
        words = {"user": address.user, "database": address.database, **parameters}
        body = b"".join(f"{name}\0{value}\0".encode() for name, value in words.items()) + b"\0"
        writer.write(struct.pack("!II", len(body) + 8, version) + body)
        return session

    @classmethod
    async def open(cls, address: Address, **parameters: str) -> Self:
        """Connect and log in; returns at ReadyForQuery."""
        session = await cls.dial(address, **parameters)
        try:
            await session.authenticate()
            await session.ready()
        except BaseException:
            session.vanish("fin")
            raise
        return session

    async def authenticate(self) -> None:
        """Answer up to AuthenticationOk, which comes before any waiting."""
        nonce = base64.b64encode(os.urandom(18)).decode()
        bare = f"n=,r={nonce}"
        server_first = ""
        while True:
            kind, body = await self.message()
            if kind == b"v":
                self.negotiated = body
                continue
            if kind == b"E":
                raise ServerError(fields_of(body))
            if kind != b"R":
                raise AssertionError(f"{kind!r} came during authentication")
            (step,) = struct.unpack_from("!I", body)
            if step == _OK:
                return
            if step == _SASL:
                initial = f"n,,{bare}".encode()
                head = b"SCRAM-SHA-256\0" + struct.pack("!I", len(initial))
                self.send(b"p", head + initial)
            elif step == _CONTINUE:
                server_first = body[4:].decode()
                self.send(b"p", _final(self._address.password, bare, server_first))
            elif step != _FINAL:
                raise AssertionError(f"authentication request {step} is not for this session")

    async def ready(self) -> list[tuple[bytes, bytes]]:
        """Everything up to ReadyForQuery; raises the ServerError that came before it or instead."""
        seen: list[tuple[bytes, bytes]] = []
        failed: ServerError | None = None
        while True:
            try:
                kind, body = await self.message()
            except asyncio.IncompleteReadError as gone:
                raise failed or ConnectionResetError("closed") from gone
            if kind == b"E":
                failed = ServerError(fields_of(body))
                if failed.fields.get("V") == "FATAL":
                    raise failed
            elif kind == b"Z":
                if failed:
                    raise failed
                return seen
            else:
                if kind == b"K":
                    self.pid, self.secret = struct.unpack_from("!I", body)[0], body[4:]
                seen.append((kind, body))

    async def query(self, text: str) -> list[tuple[bytes, bytes]]:
        """Run one simple Query."""
        self.send(b"Q", text.encode() + b"\0")
        return await self.ready()

    async def message(self) -> tuple[bytes, bytes]:
        """The next message that is not a notice."""
        while True:
            head = await self._exactly(5)
            kind, length = struct.unpack("!cI", head)
            body = await self._exactly(length - 4)
            if kind != b"N":
                return kind, body
            self.notices.append(fields_of(body))

    async def _exactly(self, size: int) -> bytes:
        """As readexactly, which forgets what came before a reset and had not been read."""
        try:
            return await self._reader.readexactly(size)
        except ConnectionError:
            buffer: bytearray = self._reader._buffer  # type: ignore[attr-defined]
            if len(buffer) < size:
                raise
            data = bytes(buffer[:size])
            del buffer[:size]
            return data

    def send(self, kind: bytes, body: bytes = b"") -> None:
        self._writer.write(kind + struct.pack("!I", len(body) + 4) + body)

    def write(self, data: bytes) -> None:
        """Send bytes that need not be a message."""
        self._writer.write(data)

    async def cancel(self) -> None:
        """A CancelRequest for this session; returns when the other side has closed it."""
        reader, writer = await asyncio.open_connection(self._address.host, self._address.port)
        head = struct.pack("!III", 12 + len(self.secret), CANCEL, self.pid)
        writer.write(head + self.secret)
        await reader.read()
        writer.close()

    async def close(self) -> None:
        """Terminate, and wait for the other side to close too."""
        self.send(b"X")
        await self._reader.read()
        self._writer.close()

    def vanish(self, how: str) -> None:
        """End without a word (`fin`, `reset`) or with one that is not waited for (`terminate`)."""
        if how == "terminate":
            self.send(b"X")
        if how == "reset":
            own = self._writer.get_extra_info("socket")
            with contextlib.suppress(OSError):
                # It may be closed already.
                own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._writer.transport.abort()
        else:
            self._writer.close()


def fields_of(body: bytes) -> dict[str, str]:
    """An ErrorResponse or NoticeResponse by field letter."""
    parts = (part.decode() for part in body.rstrip(b"\0").split(b"\0"))
    return {part[0]: part[1:] for part in parts if part}


@functools.cache
def _salted(password: str, salt: bytes, iterations: int) -> bytes:
    return hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)


def _final(password: str, bare: str, server_first: str) -> bytes:
    words = dict(part.split("=", 1) for part in server_first.split(","))
    salted = _salted(password, base64.b64decode(words["s"]), int(words["i"]))
    key = hmac.digest(salted, b"Client Key", "sha256")
    without_proof = f"c=biws,r={words['r']}"
    signed = ",".join((bare, server_first, without_proof)).encode()
    signature = hmac.digest(hashlib.sha256(key).digest(), signed, "sha256")
    proof = bytes(a ^ b for a, b in zip(key, signature, strict=True))
    return f"{without_proof},p={base64.b64encode(proof).decode()}".encode()
