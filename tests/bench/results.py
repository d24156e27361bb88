"""`results`: 100 MB of results through the guard: what a megabyte costs, and how fast it comes.

Many small rows in one result, results of 1,000 rows one after the other, and single values of
10 MB; the first and the last also with TLS on the client's side. The reader knows next to nothing
of the protocol, so that it does not set the pace. All targets take their turn in every round;
reader, proxy and server share one processor, so the rates are those of all three together; the
floors of processor time and the best rates are compared.
"""

from __future__ import annotations

import contextlib
import platform
import socket
import ssl
import struct
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.bench import measure, peers
from tests.bench.cpu import QUIET
from tests.conformance import harness

if TYPE_CHECKING:
    from collections.abc import Iterator

MEGABYTE = 1_000_000
VOLUME = 100, 10
"""Megabytes in one turn."""

ROW = 60
"""Bytes of a small row on the wire, roughly."""

VALUE = 10
"""Megabytes of a large value."""

BARS = {
    ("small rows", "PgBouncer"): 2.2,
    ("1,000 rows", "PgBouncer"): 2.5,
    ("values of 10 MB", "PgBouncer"): 0.85,
    ("values of 10 MB", "uvloop relay"): 1.2,
    ("small rows in TLS", "PgBouncer"): 2.0,
    ("values of 10 MB in TLS", "PgBouncer"): 1.2,
}
"""Highest ratio of processor time, by shape and by what it is beside: PgBouncer and the guard look
at every row, the one in C and the other in an interpreter; the relay looks at nothing."""

RATE_BARS = {
    ("small rows", "direct"): 0.7,
    ("1,000 rows", "direct"): 0.7,
    ("values of 10 MB", "direct"): 0.45,
    ("small rows in TLS", "PgBouncer"): 0.8,
    ("values of 10 MB in TLS", "PgBouncer"): 0.8,
}
"""Lowest ratio of rates. A large value costs Postgres so little that one more process on the same
processor, and be it a relay, halves its rate."""

PROTOCOL, SSL_REQUEST = 196608, 80877103


class Reader:
    """A session that is let in without a password and only counts what it gets."""

    def __init__(self, peer: peers.Peer) -> None:
        address = peer.address
        self._socket = socket.create_connection((address.host, address.port), timeout=60)
        if peer.encrypts:
            self._socket.sendall(struct.pack("!II", 8, SSL_REQUEST))
            if self._socket.recv(1) != b"S":
                raise AssertionError(f"{peer.name} does not speak TLS")
            self._socket = _context().wrap_socket(self._socket)
        words = f"user\0{address.user}\0database\0{address.database}\0\0".encode()
        self._socket.sendall(struct.pack("!II", len(words) + 8, PROTOCOL) + words)
        self._buffer = bytearray(1 << 18)
        self.until_ready()

    def query(self, text: str) -> int:
        """Bytes of the whole answer."""
        body = text.encode() + b"\0"
        self._socket.sendall(b"Q" + struct.pack("!I", len(body) + 4) + body)
        return self.until_ready()

    def until_ready(self) -> int:
        """Bytes up to a ReadyForQuery with which a piece ends; texts here hold no such bytes."""
        count, tail = 0, b""
        while tail != b"Z\0\0\0\5I":
            size = self._socket.recv_into(self._buffer)
            if not size:
                raise AssertionError(f"closed: {bytes(self._buffer[:200])!r}")
            count += size
            tail = (tail + self._buffer[max(0, size - 6) : size])[-6:]
        return count

    def close(self) -> None:
        self._socket.close()


@dataclass(frozen=True, slots=True)
class Load:
    """One shape of results: the query, and how often it is asked in a turn."""

    shape: str
    query: str
    times: int

    def run(self, reader: Reader) -> int:
        return sum(reader.query(self.query) for _ in range(self.times))


def loads(volume: int) -> list[Load]:
    """The shapes, each of `volume` megabytes in a turn."""
    rows = "SELECT n, md5(n::text) FROM small LIMIT {}".format
    count = volume * MEGABYTE // ROW
    return [
        Load("small rows", rows(count), 1),
        Load("1,000 rows", rows(1000), count // 1000),
        Load("values of 10 MB", f"SELECT repeat('x', {VALUE * MEGABYTE})", volume // VALUE or 1),
    ]


def run(checks: harness.Checks, short: bool) -> None:
    """In plain text, then in TLS; the short form has a tenth of the volume and wider bars."""
    checks.note(f"Python {platform.python_version()}, {platform.python_compiler()}")
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(peers.postgres(QUIET, trust=True))
        files = stack.enter_context(peers.certificate())
        processor = stack.enter_context(measure.pinned_self())
        measure.pin(server.pid, processor)
        direct = peers.Peer(f"direct (Postgres {server.version})", server.address, 0)
        Reader(direct).query(
            f"CREATE TABLE small AS SELECT n FROM generate_series(1, {2 * 10**6}) n; ANALYZE small"
        )
        for encrypted in (None, files):
            with _targets(server.address, encrypted) as targets:
                for load in loads(VOLUME[short]):
                    _measure(checks, [direct, *targets], load, encrypted is not None, short)


@contextlib.contextmanager
def _targets(server: harness.Address, files: peers.Path | None) -> Iterator[list[peers.Peer]]:
    """The relay, PgBouncer and the guard, which take their clients in TLS if there are files."""
    with contextlib.ExitStack() as stack:
        targets = [stack.enter_context(peers.relay(server))]
        targets.append(stack.enter_context(peers.pgbouncer(server, certificate=files)))
        guard = stack.enter_context(harness.Guard(server, peers.guard_settings(files)))
        targets.append(peers.Peer("pgguard", guard.address, guard.pid, files is not None))
        yield targets


def _measure(
    checks: harness.Checks, targets: list[peers.Peer], load: Load, encrypted: bool, short: bool
) -> None:
    """The table and the claims of one shape, if there are any."""
    shape = f"{load.shape} in TLS" if encrypted else load.shape
    names = [target.name for target in targets]
    bars = []
    for bars_of, what in ((BARS, "price"), (RATE_BARS, "rate")):
        for (of, beside), at in bars_of.items():
            other = next(name for name in names if name.startswith(beside))
            if of == shape:
                bars.append(measure.Bar(shape, at, names[-1], other, what))
    if not bars:
        return
    by_name = {target.name: target for target in targets}

    def take(name: str) -> tuple[float, float]:
        pid = by_name[name].pid
        # A new session each time: how the bytes come depends on where its buffers lie.
        reader = Reader(by_name[name])
        before = measure.processor_us(pid) if pid else 0.0
        started = time.perf_counter()
        megabytes = load.run(reader) / MEGABYTE
        took = time.perf_counter() - started
        after = measure.processor_us(pid) if pid else 0.0
        reader.close()
        return (after - before) / megabytes, megabytes / took

    turns = measure.compare(names, take, bars, short)
    checks.note(f"{shape}, {len(turns[names[0]].rates)} rounds of {VOLUME[short]} MB")
    rows = [
        [name, f"{took.price:.0f}" if took.price else "-", f"{took.rate:.0f}"]
        for name, took in turns.items()
    ]
    checks.table(["target", "µs/MB, floor", "MB/s, best"], rows)
    for bar in bars:
        bar.claim(checks, turns, short)


def _context() -> ssl.SSLContext:
    """TLS that believes anybody: what is measured is not whom we trust."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context
