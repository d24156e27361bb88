"""Where a message ends: framing for the cold phases (login, cancel, service connection).

Laws: any segmentation gives the same messages; a length is checked as soon as its bytes are there
and before its message is kept; nothing but `ProtocolViolation` is raised. The hot loops live in
`core/` and use the same limits. Manual: "Message Formats" and "Formatting of Data Types".
"""

from __future__ import annotations

from struct import Struct, unpack
from typing import TYPE_CHECKING

from pgguard.errors import ProtocolViolation
from pgguard.wire.codes import MAX_STARTUP_PACKET_LENGTH

if TYPE_CHECKING:
    from collections.abc import Sequence

_HEADER = Struct(">BI")
_pack_header = _HEADER.pack
_unpack_header = _HEADER.unpack_from
_length = Struct(">i").unpack_from


def message(type_: int, body: bytes = b"") -> bytes:
    """A whole message of either direction: type byte, length word, body."""
    return _pack_header(type_, len(body) + 4) + body


def bad_length(type_: int, length: int, limit: int, peer: str) -> ProtocolViolation:
    """The violation of a message whose length word is not within 4..`limit`."""
    return ProtocolViolation(
        f"invalid message length {length} of type {bytes((type_,))!r}, expected 4 to {limit}",
        peer=peer,
    )


class Framer:
    """Cuts a stream into (type, body).

    `limits` holds the largest length word for each of the 256 types, `peer` is who sends. A message
    that is whole is handed out even when what follows it is broken: the violation comes with the
    next call.
    """

    __slots__ = ("_buffer", "_limits", "_peer")

    def __init__(self, limits: Sequence[int], peer: str) -> None:
        self._buffer = bytearray()
        self._limits = limits
        self._peer = peer

    @property
    def rest(self) -> bytes:
        """What has not been handed out: to be given to whoever reads on."""
        return bytes(self._buffer)

    def push(self, data: bytes) -> None:
        """Add bytes without handing out anything."""
        self._buffer += data

    def take(self) -> tuple[int, bytes] | None:
        """The next message, or None when it is not whole yet."""
        buffer = self._buffer
        if len(buffer) < 5:
            return None
        type_, length = _unpack_header(buffer)
        if not 4 <= length <= self._limits[type_]:
            raise bad_length(type_, length, self._limits[type_], self._peer)
        if len(buffer) <= length:
            return None
        body = bytes(buffer[5 : length + 1])
        del buffer[: length + 1]
        return type_, body

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """Add bytes and hand out every message that is whole now."""
        self._buffer += data
        messages: list[tuple[int, bytes]] = []
        try:
            while (found := self.take()) is not None:
                messages.append(found)
        except ProtocolViolation:
            if not messages:
                raise
        return messages


class StartupFramer:
    """Cuts packets without type byte, each returned with its length word, one at a time.

    Which framing follows depends on what a packet says (after a StartupMessage come typed messages,
    after SSLRequest perhaps TLS), so what stands behind it stays in `rest`.
    """

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    @property
    def rest(self) -> bytes:
        """What has not been handed out. Must be empty when SSLRequest or GSSENCRequest is answered:
        bytes sent before the answer would pass for encrypted ones (CVE-2021-23214)."""
        return bytes(self._buffer)

    def feed(self, data: bytes) -> list[bytes]:
        """Add bytes; at most one packet, the next one with the next call (`feed(b"")` will do)."""
        buffer = self._buffer
        buffer += data
        if len(buffer) < 4:
            return []
        length = int.from_bytes(buffer[:4], "big")
        if not 8 <= length <= MAX_STARTUP_PACKET_LENGTH + 4:
            raise ProtocolViolation("invalid length of startup packet")
        if len(buffer) < length:
            return []
        packet = bytes(buffer[:length])
        del buffer[:length]
        return [packet]


class Cursor:
    """Reads a body from the front; every inner length is checked against what is left."""

    __slots__ = ("_body", "_peer", "_position")

    def __init__(self, body: bytes, peer: str) -> None:
        self._body = body
        self._peer = peer
        self._position = 0

    def violation(self, what: str) -> ProtocolViolation:
        return ProtocolViolation(f"invalid message format: {what}", peer=self._peer)

    def take(self, count: int) -> bytes:
        """The next `count` bytes."""
        start = self._position
        stop = start + count
        if count < 0 or stop > len(self._body):
            raise self.violation(f"{count} bytes expected, {len(self._body) - start} left")
        self._position = stop
        return self._body[start:stop]

    def int16(self) -> int:
        """An Int16 that counts something: never negative, up to 65,535."""
        return int.from_bytes(self.take(2), "big")

    def int16s(self) -> tuple[int, ...]:
        """A counted list of Int16."""
        data = self.take(2 * self.int16())
        return unpack(f">{len(data) // 2}H", data)

    def int32(self) -> int:
        return int.from_bytes(self.take(4), "big", signed=True)

    def uint32(self) -> int:
        return int.from_bytes(self.take(4), "big")

    def string(self) -> bytes:
        """The next String, without its NUL."""
        end = self._body.find(0, self._position)
        if end < 0:
            raise self.violation("string without terminator")
        start = self._position
        self._position = end + 1
        return self._body[start:end]

    def value(self) -> bytes | None:
        """A value with its length in front, None for NULL."""
        length = self.int32()
        return None if length == -1 else self.take(length)

    def values(self) -> list[bytes | None]:
        """A counted list of values. Each takes four bytes or more, so a count that lies is found
        before anything is made of it. A catalogue has a hundred thousand: one loop, no calls."""
        count = self.int16()
        body, stop, end = self._body, self._position, len(self._body)
        found: list[bytes | None] = []
        for _ in range(count):
            start = stop + 4
            if start > end:
                raise self.violation(f"4 bytes expected, {end - stop} left")
            (length,) = _length(body, stop)
            stop = start
            if length == -1:
                found.append(None)
                continue
            stop += length
            if length < 0 or stop > end:
                raise self.violation(f"{length} bytes expected, {end - start} left")
            found.append(body[start:stop])
        self._position = stop
        return found

    def rest(self) -> bytes:
        """All that is left."""
        return self.take(len(self._body) - self._position)

    def end(self) -> None:
        """Nothing may be left."""
        if self._position != len(self._body):
            raise self.violation(f"{len(self._body) - self._position} bytes too many")
