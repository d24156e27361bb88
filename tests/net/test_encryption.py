"""TLS between a transport and a protocol: bytes, ends and faults, on a transport of paper."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from typing import TYPE_CHECKING, Any

import pytest
from tls import client_context, files, server_context

from pgguard.net.encryption import Encrypted, Tls
from pgguard.net.transports import Outlet

if TYPE_CHECKING:
    from pathlib import Path


class Paper:
    """A transport that only keeps what is asked of it."""

    def __init__(self) -> None:
        self.said = b""
        self.asked: list[str] = []
        self.closing = False
        self.sock: socket.socket | None = None

    def write(self, data: bytes) -> None:
        assert data
        self.said += data

    def is_closing(self) -> bool:
        return self.closing

    def get_extra_info(self, name: str, default: object = None) -> object:
        return self.sock if name == "socket" and self.sock else name or default

    def close(self) -> None:
        self.closing = True
        self.asked.append("close")

    def abort(self) -> None:
        self.closing = True
        self.asked.append("abort")

    def __getattr__(self, name: str) -> Any:
        return lambda: self.asked.append(name)


class Inner(asyncio.Protocol):
    """The core's side; `stays` is its answer to an EOF."""

    def __init__(self, *, stays: bool = False) -> None:
        self.stays = stays
        self.chunks: list[bytes] = []
        self.told: list[str] = []
        self.lost: list[BaseException | None] = []

    def connection_made(self, transport: Any) -> None:
        self.out = Outlet(transport)

    def data_received(self, data: bytes) -> None:
        if data == b"bug":
            raise RuntimeError("a bug of ours")
        self.chunks.append(data)

    def eof_received(self) -> bool:
        self.told.append("eof")
        return self.stays

    def pause_writing(self) -> None:
        self.told.append("pause")

    def resume_writing(self) -> None:
        self.told.append("resume")

    def connection_lost(self, exc: BaseException | None) -> None:
        self.lost.append(exc)


class Side:
    """An `Encrypted` on paper, and its peer in memory."""

    def __init__(self, folder: Path, *, stays: bool = False, before: bytes = b"") -> None:
        pem = files(folder)
        tls = Tls(server_context(pem), None)
        self.peer = Tls(client_context(pem), "localhost")
        for _ in range(4):
            for one, other in ((self.peer, tls), (tls, self.peer)):
                with contextlib.suppress(ssl.SSLWantReadError):
                    one.object.do_handshake()
                other.incoming.write(one.outgoing.read())
        self.raw, self.inner = Paper(), Inner(stays=stays)
        self.protocol = Encrypted(tls, self.inner)
        if before:
            self.peer.write(before)
            tls.incoming.write(self.peer.outgoing.read())
        self.protocol.connection_made(self.raw)  # type: ignore[arg-type]

    def send(self, data: bytes) -> None:
        self.peer.write(data)
        self.protocol.data_received(self.peer.outgoing.read())

    def heard(self) -> bytes:
        """What the peer reads; it ends where the side has said that it does."""
        self.peer.incoming.write(self.raw.said)
        self.raw.said = b""
        data = b""
        try:
            while piece := self.peer.object.read(65536):
                data += piece
        except (ssl.SSLWantReadError, ssl.SSLZeroReturnError):
            pass
        return data


def test_a_chunk_of_many_records_goes_on_as_one(tmp_path: Path) -> None:
    side = Side(tmp_path)
    side.send(b"a" * 30_000)
    assert side.inner.chunks == [b"a" * 30_000]
    side.inner.out.write(b"b" * 30_000)
    assert side.heard() == b"b" * 30_000
    side.inner.out.forward(b"")
    assert side.raw.said == b""


def test_a_record_may_come_byte_by_byte(tmp_path: Path) -> None:
    side = Side(tmp_path)
    side.peer.write(b"hello")
    for byte in side.peer.outgoing.read():
        side.protocol.data_received(bytes([byte]))
    assert side.inner.chunks == [b"hello"]


def test_what_came_with_the_dialogue_is_delivered_first(tmp_path: Path) -> None:
    side = Side(tmp_path, before=b"early")
    side.send(b"late")
    assert side.inner.chunks == [b"early", b"late"]


def test_flow_control_and_questions_pass(tmp_path: Path) -> None:
    side = Side(tmp_path)
    side.protocol.pause_writing()
    side.protocol.resume_writing()
    side.inner.out.pause_reading()
    side.inner.out.resume_reading()
    assert side.inner.told == ["pause", "resume"]
    assert side.raw.asked == ["pause_reading", "resume_reading"]
    assert side.protocol.get_extra_info("socket") == "socket"


@pytest.mark.parametrize("notified", [True, False], ids=["close_notify", "FIN alone"])
def test_an_end_of_the_peer_is_told_once_and_closes(tmp_path: Path, notified: bool) -> None:
    side = Side(tmp_path)
    if notified:
        side.peer.finish()
        side.protocol.data_received(side.peer.outgoing.read())
    assert side.protocol.eof_received()
    assert side.inner.told == ["eof"]
    assert side.raw.asked == ["close"]


def test_who_has_sent_everything_still_gets_the_answer(tmp_path: Path) -> None:
    side = Side(tmp_path, stays=True)
    side.peer.write(b"question")
    side.peer.finish()
    side.protocol.data_received(side.peer.outgoing.read())
    assert side.protocol.eof_received()
    assert side.inner.chunks == [b"question"]
    assert side.raw.asked == []
    side.inner.out.write(b"answer")
    assert side.heard() == b"answer"
    side.inner.out.close()
    assert side.raw.asked == ["close"]


def test_half_a_close_leaves_the_other_half(tmp_path: Path) -> None:
    side = Side(tmp_path)
    side.inner.out.write(b"last")
    side.inner.out.write_eof()
    assert side.raw.asked == ["write_eof"]
    assert side.heard() == b"last"
    side.peer.finish()
    with pytest.raises(ssl.SSLZeroReturnError):
        side.peer.object.read(1)


def test_data_is_read_after_our_own_end(tmp_path: Path) -> None:
    side = Side(tmp_path)
    side.inner.out.write_eof()
    side.send(b"still here")
    assert side.inner.chunks == [b"still here"]
    side.inner.out.write(b"never")
    assert side.heard() == b""


def test_a_forged_record_ends_the_connection_with_its_cause(tmp_path: Path) -> None:
    side = Side(tmp_path)
    side.peer.write(b"good")
    record = bytearray(side.peer.outgoing.read())
    record[-1] ^= 1
    side.protocol.data_received(bytes(record))
    assert side.inner.chunks == []
    assert side.raw.asked == ["abort"]
    side.protocol.connection_lost(None)
    (error,) = side.inner.lost
    assert isinstance(error, ssl.SSLError)


def test_what_is_good_before_a_forged_record_is_delivered(tmp_path: Path) -> None:
    side = Side(tmp_path)
    side.peer.write(b"good")
    side.protocol.data_received(side.peer.outgoing.read() + b"\x17\x03\x03\x00\x20" + bytes(32))
    assert side.inner.chunks == [b"good"]
    assert side.raw.asked == ["abort"]


def test_a_bug_of_the_core_ends_the_connection_where_the_loop_would_not(tmp_path: Path) -> None:
    side = Side(tmp_path, before=b"bug")
    assert side.raw.asked == ["abort"]
    side.protocol.connection_lost(None)
    assert [repr(error) for error in side.inner.lost] == ["RuntimeError('a bug of ours')"]
    later = Side(tmp_path)
    with pytest.raises(RuntimeError):
        later.send(b"bug")


def test_nothing_is_said_to_who_is_gone(tmp_path: Path) -> None:
    side = Side(tmp_path)
    side.inner.out.abort()
    side.inner.out.write(b"x")
    side.protocol.connection_lost(None)
    side.inner.out.close()
    assert side.raw.said == b""
    assert side.inner.lost == [None]


def test_nothing_raises_that_is_said_between_a_forged_record_and_the_loss(tmp_path: Path) -> None:
    """What comes from the server meanwhile must not end the server's connection."""
    side = Side(tmp_path)
    side.protocol.data_received(b"\x17\x03\x03\x00\x20" + bytes(32))
    said = side.raw.said
    side.inner.out.forward(b"a reply")
    assert side.raw.asked == ["abort"]
    assert side.raw.said == said


def test_what_comes_behind_close_notify_is_not_piled_up(tmp_path: Path) -> None:
    side = Side(tmp_path, stays=True)
    side.peer.finish()
    side.protocol.data_received(side.peer.outgoing.read())
    for _ in range(16):
        side.protocol.data_received(bytes(65536))
    assert side.protocol._tls.incoming.pending == 0
    assert side.inner.told == ["eof"]
    side.inner.out.write(b"the answer")
    assert side.heard() == b"the answer"


def test_what_was_never_read_is_decrypted_as_far_as_it_came(tmp_path: Path) -> None:
    side = Side(tmp_path)
    here, there = socket.socketpair()
    with here, there:
        side.raw.sock = here
        for word in (b"last ", b"words", b"cut off"):
            side.peer.write(word)
        there.sendall(side.peer.outgoing.read()[:-3])
        there.close()
        assert side.protocol.unread() == b"last words"
        assert side.protocol.unread() == b""
