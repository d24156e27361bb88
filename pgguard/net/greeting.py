"""The first words of a connection that will not be encrypted, on its transport.

A client asks for encryption, is told that there is none, and sends its startup packet; or it wants
something canceled. Laws: each request for encryption is answered at most once; a length that no
packet has ends the connection without a word, as with Postgres; whatever follows goes to the
session unread.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from pgguard.wire.codes import (
    CANCEL_REQUEST,
    GSSENC_REQUEST,
    MAX_CANCEL_KEY_LENGTH,
    MAX_STARTUP_PACKET_LENGTH,
    SSL_REQUEST,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    Begin = Callable[[asyncio.Transport, bytes], None]

CANCEL_LENGTHS = range(13, 12 + MAX_CANCEL_KEY_LENGTH + 1)
"""Bytes of a CancelRequest."""


class Greeting(asyncio.Protocol):
    """One connection before anybody knows whose it is.

    `begin` gets the transport and the head of a startup packet, and puts another protocol in this
    one's place; then it has `begun`. `over` is done when there is nothing more to say: with a
    whole CancelRequest if that was said, else with b"".
    """

    __slots__ = ("_allowed", "_begin", "_head", "begun", "over", "transport")

    def __init__(self, begin: Begin) -> None:
        self._begin = begin
        self._head = b""
        self._allowed = {SSL_REQUEST, GSSENC_REQUEST}
        self.transport: asyncio.Transport
        self.begun = False
        self.over: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do not inherit from asyncio.Transport, but are such.
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        head = self._head + data
        while not self.over.done() and len(head) >= 4:
            length = int.from_bytes(head[:4], "big")
            if not 8 <= length <= MAX_STARTUP_PACKET_LENGTH + 4:
                self._end(b"")
                return
            if len(head) < 8:
                break
            code = int.from_bytes(head[4:8], "big")
            if length == 8 and code in self._allowed:
                self._allowed.discard(code)
                self.transport.write(b"N")
                head = head[8:]
            elif code != CANCEL_REQUEST:
                self.begun = True
                self._end(b"")
                self._begin(self.transport, head)
                return
            elif length not in CANCEL_LENGTHS or len(head) >= length:
                self._end(head[:length] if length in CANCEL_LENGTHS else b"")
                return
            else:
                break
        self._head = head

    def connection_lost(self, exc: BaseException | None) -> None:
        self._end(b"")

    def _end(self, said: bytes) -> None:
        if not self.over.done():
            self.over.set_result(said)
