"""What a client sends ahead, while its session has no server (transparency T4).

Laws: it is kept in order and bounded, the socket is not read beyond; a client that has already
said Terminate is gone, and nothing of what it sent is executed.
"""

from __future__ import annotations

from struct import Struct

HELD_LIMIT = 65536
"""Bytes that a session without a server may send ahead."""

_TERMINATE = b"X\0\0\0\4"
_header = Struct(">BI").unpack_from


def has_left(held: bytes) -> bool:
    """Whether a Terminate is among the messages that wait for a server."""
    if _TERMINATE not in held:
        return False
    pos = 0
    while len(held) - pos >= 5:
        kind, length = _header(held, pos)
        if kind == _TERMINATE[0]:
            return True
        pos += 1 + length
    return False
