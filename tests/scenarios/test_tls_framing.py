"""Bug class: TLS records larger than a reader waits for, writes that copy the rest (R29)."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

import pytest
from rawsession import RawSession
from tls import SSL, client_context, files

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from pathlib import Path

    from guard import RunningGuard

    Start = Callable[..., RunningGuard]

pytestmark = pytest.mark.slow

OVERHEAD = 256
"""What a record may have beside its data (RFC 8446, 5.2)."""


class RecordingTls:
    """TLS by hand over a socket; `records` are the lengths of the records that came."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        self._sock = sock
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._object = context.wrap_bio(self._in, self._out, server_hostname="127.0.0.1")
        self._seen = bytearray()
        self.records: list[int] = []
        self._until(self._object.do_handshake)

    def _until(self, do: Callable[[], Any]) -> Any:
        while True:
            try:
                return do()
            except ssl.SSLWantReadError:
                self._flush()
                if not (data := self._sock.recv(65536)):
                    raise EOFError from None
                self._count(data)
                self._in.write(data)
            finally:
                self._flush()

    def _flush(self) -> None:
        if data := self._out.read():
            self._sock.sendall(data)

    def _count(self, data: bytes) -> None:
        self._seen += data
        while len(self._seen) >= 5:
            size = int.from_bytes(self._seen[3:5], "big")
            if len(self._seen) < 5 + size:
                return
            self.records.append(size)
            del self._seen[: 5 + size]

    def sendall(self, data: bytes) -> None:
        self._object.write(data)
        self._flush()

    def recv(self, size: int) -> bytes:
        data: bytes = self._until(lambda: self._object.read(size))
        return data

    def close(self) -> None:
        self._sock.close()


def test_a_reader_hung_on_a_record_of_more_than_8_kb(
    start_guard: Start, database: Any, tmp_path: Path
) -> None:
    """supavisor#993, odyssey#1231: libpq's asynchronous calls do not see what is behind a record
    that came in part. One row of any size comes in small records, all of it."""
    pem = files(tmp_path / "guard")
    guard = start_guard(database.url, listen__cert=str(pem.cert), listen__key=str(pem.key))
    tls: list[RecordingTls] = []

    class TlsSession(RawSession):
        def __init__(self, address: tuple[str, int]) -> None:
            super().__init__(address)
            self.socket.sendall(SSL)
            assert self.socket.recv(1) == b"S"
            tls.append(RecordingTls(self.socket, client_context(pem)))
            self.socket = tls[0]  # type: ignore[assignment]

    with TlsSession.open(guard) as session:
        for length in (8_000, 8_193, 2_000_000):
            row = session.query(f"SELECT repeat('x', {length})")[1][1]
            assert len(row) == length + 6
    assert sum(tls[0].records) > 2_000_000
    assert max(tls[0].records) <= 8_192 + OVERHEAD
    guard.idle()
