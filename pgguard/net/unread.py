"""What a lost connection has still to say: loops give up reading when a write fails.

Linux keeps what came before a reset, also after the reset has been seen by a write. Laws: called in
`connection_lost`, where both loops still hold the descriptor; never waits, never raises.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

CHUNK = 1 << 18
LIMIT = 16 << 20
"""Bytes; more than a receive buffer holds (tcp(7), tcp_rmem), so that nobody can go on for ever."""


def unread(transport: asyncio.BaseTransport) -> bytes:
    """The bytes that wait in the kernel, up to the end of the connection."""
    known = transport.get_extra_info("socket")
    pieces: list[bytes] = []
    size = 0
    if known is None or known.fileno() < 0:
        return b""
    # Not through the loop's own object: that of uvloop only looks like a socket.
    with suppress(OSError), socket.socket(fileno=os.dup(known.fileno())) as sock:
        sock.setblocking(False)
        while size < LIMIT and (piece := sock.recv(CHUNK)):
            pieces.append(piece)
            size += len(piece)
    return b"".join(pieces)
