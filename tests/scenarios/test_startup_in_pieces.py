"""Bug class: a start-up packet, or a server's login, that comes in pieces (reliability R2, R36)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from faults import Relay, Toxics
from guard import until
from rawsession import RawSession
from tls import SSL

from pgguard.wire import codes, frontend
from pgguard.wire.codes import PROTOCOL_3_0
from pgguard.wire.startup import build_startup

if TYPE_CHECKING:
    from collections.abc import Callable

    from guard import RunningGuard

    Start = Callable[..., RunningGuard]

pytestmark = pytest.mark.slow


def piecemeal(guard: RunningGuard, session: RawSession, data: bytes) -> None:
    """Each byte alone: the next one is sent when the guard's loop has turned twice since."""
    for byte in data:
        session.send(bytes([byte]))
        for _ in range(2):
            guard.ask(lambda _: None)


def test_a_start_up_byte_by_byte_behind_a_refused_tls_was_refused(guard: RunningGuard) -> None:
    """pgbouncer#1058, #1407 and 1.18, measured: each byte is a segment of its own."""
    there = guard.guard.upstream
    with RawSession(guard.guard.listen) as session:
        piecemeal(guard, session, SSL)
        assert session.socket.recv(1) == b"N"
        words = {"user": there.user, "database": there.database}
        piecemeal(guard, session, build_startup(PROTOCOL_3_0, words))
        session._authenticate(there.password or "")
        session.until_ready()
        assert session.query("SELECT 1")
    guard.idle()


def test_a_query_in_the_segment_of_the_last_password_was_lost(guard: RunningGuard) -> None:
    """pgbouncer#1446, supavisor#858: what comes right behind a login is answered after it."""
    with RawSession.log_in(guard) as session:
        session.send(frontend.query(b"SELECT 1") * 2)
        for _ in range(3):
            assert session.until_ready()[-1] == (codes.READY_FOR_QUERY, b"I")
    guard.idle()


@pytest.mark.parametrize("size", [1, 3])
def test_a_server_whose_bytes_came_three_at_a_time_let_nobody_in(
    start_guard: Start, database: Any, size: int
) -> None:
    """PgBouncer 1.18, measured: SCRAM and the greeting in segments of any size."""
    with Relay(database.host, database.port, down=Toxics(slice=size)) as far:
        there = f"{database.user}:{database.password}@127.0.0.1:{far.port}/{database.name}"
        guard = start_guard(f"postgresql://{there}?sslmode=disable")
        with guard.connect("one") as session:
            assert session.execute("SELECT 1").fetchone() == (1,)
        until(lambda: guard.guard.hub.admission.held == 0, "the slots")
