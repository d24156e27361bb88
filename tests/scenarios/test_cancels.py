"""Bug class: a cancel hits somebody else, or is never done (pgbouncer#245, Odyssey's leak)."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from faults import HANG, At, Relay, Toxics
from guard import until
from rawsession import RawSession

from pgguard.wire import codes, frontend
from pgguard.wire.startup import build_cancel

if TYPE_CHECKING:
    from guard import RunningGuard

pytestmark = pytest.mark.slow


def test_a_late_cancel_hit_the_next_client(guard: RunningGuard) -> None:
    """pgbouncer#245, #717: a key ends with its session, and reaches no later one."""
    with RawSession.open(guard, application_name="one") as first:
        pid, secret = first.pid, first.secret
    guard.idle()
    with RawSession.open(guard, application_name="one") as second:
        second.send(frontend.query(b"SELECT pg_sleep(0.3), 'mine'"))
        with socket.create_connection(guard.guard.listen) as late:
            late.sendall(build_cancel(pid, secret))
            assert late.recv(1) == b""
        assert codes.DATA_ROW in [kind for kind, _ in second.until_ready()]


def test_a_cancel_that_was_never_closed_ate_a_slot(start_guard: Any, database: Any) -> None:
    """Odyssey's evil proxy: a cancel that hangs takes none of the client's slots (R22)."""
    with Relay(database.host, database.port) as far:
        there = f"{database.user}:{database.password}@127.0.0.1:{far.port}/{database.name}"
        guard = start_guard(f"postgresql://{there}?sslmode=disable", limits__connection_limit=2)
        with RawSession.open(guard, application_name="one") as first:
            first.send(frontend.query(b"SELECT pg_sleep(0.5), 'mine'"))
            far.up = Toxics(at=At(0, 0, HANG))
            with socket.create_connection(guard.guard.listen) as hanging:
                hanging.sendall(build_cancel(first.pid, first.secret))
                assert codes.DATA_ROW in [kind for kind, _ in first.until_ready()]
                far.up = Toxics()
                with psycopg.connect(guard.url(application_name="one")) as second:
                    assert second.execute("SELECT 2").fetchone() == (2,)
        until(lambda: guard.guard.hub.admission.held == 0, "the slots")
