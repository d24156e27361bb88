"""The first words of a connection, at every split of what the client says."""

from __future__ import annotations

from typing import Any

import pytest

from pgguard.net.greeting import Greeting
from pgguard.wire.codes import CANCEL_REQUEST, GSSENC_REQUEST, PROTOCOL_3_0, SSL_REQUEST
from pgguard.wire.startup import build_request, build_startup

STARTUP = build_startup(PROTOCOL_3_0, {"user": "app"})
CANCEL = (16).to_bytes(4, "big") + CANCEL_REQUEST.to_bytes(4, "big") + b"\0\0\0\7abcd"
SSL, GSS = build_request(SSL_REQUEST), build_request(GSSENC_REQUEST)


class Transport:
    """What was written to it."""

    def __init__(self) -> None:
        self.written = b""
        self.closed = False

    def write(self, data: bytes) -> None:
        self.written += data

    def close(self) -> None:
        self.closed = True


class FakeHost:
    """What it was told: the heads of startup packets, and the end."""

    def __init__(self) -> None:
        self.begun: list[bytes] = []
        self.ended: bytes | None = None

    def begin(self, greeting: Greeting, head: bytes) -> None:
        self.begun.append(head)

    def over(self, greeting: Greeting, said: bytes) -> None:
        assert self.ended is None
        self.ended = said


def hear(*pieces: bytes) -> tuple[bytes, list[bytes], bytes | None]:
    """What was answered, what a session began with, and what was said at the end (None = it
    has not come)."""

    host = FakeHost()
    greeting = Greeting(host, "127.0.0.1", 5000, 0.0)
    transport: Any = Transport()
    greeting.connection_made(transport)
    for piece in pieces:
        if host.begun:
            # Another protocol has the transport now.
            host.begun[0] += piece
        else:
            greeting.data_received(piece)
    return transport.written, host.begun, host.ended


@pytest.mark.parametrize(
    ("said", "answered", "session", "end"),
    [
        (STARTUP, b"", [STARTUP], None),
        (SSL + STARTUP, b"N", [STARTUP], None),
        (GSS + SSL + STARTUP + b"more", b"NN", [STARTUP + b"more"], None),
        # Asked for once more it is a version of the protocol, and the session's to refuse.
        (SSL + SSL, b"N", [SSL], None),
        (CANCEL, b"", [], CANCEL),
        (SSL + CANCEL + b"more", b"N", [], CANCEL),
        (CANCEL[:-1], b"", [], None),
        (SSL[:6], b"", [], None),
    ],
)
def test_at_every_split(
    said: bytes, answered: bytes, session: list[bytes], end: bytes | None
) -> None:
    assert hear(said) == (answered, session, end)
    assert hear(*(said[at : at + 1] for at in range(len(said)))) == (answered, session, end)
    for at in range(1, len(said)):
        assert hear(said[:at], said[at:]) == (answered, session, end), at


@pytest.mark.parametrize("length", [0, 4, 7, 10005, 1 << 31, 0x16030102])
def test_a_length_that_no_packet_has_ends_it_without_a_word(length: int) -> None:
    assert hear(length.to_bytes(4, "big")) == (b"", [], b"")


@pytest.mark.parametrize("length", [8, 12, 269])
def test_a_cancel_request_of_a_wrong_length_is_none(length: int) -> None:
    packet = length.to_bytes(4, "big") + CANCEL_REQUEST.to_bytes(4, "big") + bytes(300)
    assert hear(packet) == (b"", [], b"")


def test_who_leaves_without_a_word_has_said_nothing() -> None:
    host = FakeHost()
    greeting = Greeting(host, "127.0.0.1", 5000, 0.0)
    greeting.connection_lost(None)
    greeting.connection_lost(ConnectionResetError())
    assert host.ended == b""


@pytest.mark.parametrize("connected", [True, False])
def test_who_makes_room_is_told_why_as_soon_as_that_can_be_said(connected: bool) -> None:
    host = FakeHost()
    greeting = Greeting(host, "127.0.0.1", 5000, 0.0)
    transport: Any = Transport()
    if connected:
        greeting.connection_made(transport)
    greeting.show_out()
    assert host.ended == b""
    if not connected:
        greeting.connection_made(transport)
    assert b"53300" in transport.written
    assert transport.closed
    greeting.data_received(STARTUP)
    assert host.begun == []
