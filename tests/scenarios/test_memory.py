"""Bug class: results are piled up for who does not read, buffers never shrink (R6, R7, R8)."""

from __future__ import annotations

import socket
import tracemalloc
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from guard import until
from rawsession import RawSession

from pgguard.wire import codes, frontend

if TYPE_CHECKING:
    from collections.abc import Iterator

    from guard import RunningGuard

    from pgguard.app import Guard


pytestmark = pytest.mark.slow

ROWS, ROW = 40_000, 1_000
RECEIVED = 64 * 1024
BOUND = 1 << 20
"""Bytes that pgguard itself may keep for one client; what sockets hold is the system's affair."""


def test_a_result_that_nobody_reads_was_piled_up(guard: RunningGuard, database: Any) -> None:
    """proxysql#1232, #527, #1796: of 40 MB few wait in pgguard, and all come once they are read."""
    with (
        psycopg.connect(database.url, autocommit=True) as admin,
        RawSession.open(guard) as session,
    ):
        session.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVED)
        text = f"SELECT repeat('x', {ROW}) FROM generate_series(1, {ROWS})"
        session.send(frontend.query(text.encode()))

        def settled() -> int:
            """What is kept, once it has not changed while Postgres was asked again and again."""
            before = guard.ask(kept)
            for _ in range(200):
                admin.execute("SELECT 1")
            return before if guard.ask(kept) == before else 0

        assert until(settled, "what waits for the client") < BOUND
        kinds = [kind for kind, _ in session.until_ready()]
        assert kinds.count(codes.DATA_ROW) == ROWS
    guard.idle()


def kept(guard: Guard) -> int:
    """Bytes in the write buffer of the only session."""
    (session,) = guard.hub.places
    size: int = session.out._transport.get_write_buffer_size()
    return size


@pytest.fixture
def tracing() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


@pytest.mark.usefixtures("tracing")
def test_a_buffer_stayed_as_large_as_the_largest_message(guard: RunningGuard) -> None:
    """pg_doorman: eight sessions, each with a text, a value and a row of 2 MB behind it."""
    sessions = [RawSession.open(guard) for _ in range(8)]
    large = b"x" * 2_000_000
    before = tracemalloc.get_traced_memory()[0]
    for session in sessions:
        session.query(f"SELECT length('{large.decode()}')")
        session.send(
            frontend.parse_message(b"", b"SELECT $1::text")
            + frontend.bind_message(b"", b"", [large])
            + frontend.execute_message(b"")
            + frontend.sync()
        )
        assert len(session.until_ready()[2][1]) > len(large)
    # Less than one of the 24 large messages is left, and what tests read with is small again.
    until(lambda: tracemalloc.get_traced_memory()[0] - before < 1_500_000, "the memory")
    for session in sessions:
        session.socket.close()
    guard.idle()
