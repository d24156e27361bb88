"""Bug class: a session meets a dead server, or is told of its end in other words (R24, R25)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from faults import RESET, Relay
from guard import until
from rawsession import RawSession

if TYPE_CHECKING:
    from collections.abc import Callable

    from guard import RunningGuard

    Start = Callable[..., RunningGuard]

pytestmark = pytest.mark.slow


@pytest.mark.session_mode
def test_a_second_error_came_after_the_servers_own_and_in_vaguer_words(
    guard: RunningGuard, database: Any
) -> None:
    """pgdog#841, PgBouncer, multigres#1233: Postgres's FATAL as it is, once, then the end."""
    with (
        psycopg.connect(database.url, autocommit=True) as admin,
        RawSession.open(guard) as session,
    ):
        admin.execute("SELECT pg_terminate_backend(%s)", [session.pid])
        error = session.error()
        assert (error["S"], error["C"]) == ("FATAL", "57P01")
        assert error["M"] == "terminating connection due to administrator command"
        # File and line are Postgres's own.
        assert {"F", "L", "R"} <= error.keys()
        assert session.ended()
    guard.idle()


def test_a_server_that_had_died_was_given_to_the_next_session(
    start_guard: Start, database: Any
) -> None:
    """pgdog#614, #1318: whoever comes after all were killed meets live ones only."""
    with Relay(database.host, database.port) as far:
        there = f"{database.user}:{database.password}@127.0.0.1:{far.port}/{database.name}"
        guard = start_guard(f"postgresql://{there}?sslmode=disable", limits__connection_limit=3)
        with RawSession.open(guard, application_name="one") as first:
            dead = {first.pid}
            first.query("SELECT 1")
            far.end_all(RESET)
            assert first.error()["C"] == "08006"
        for _ in range(3):
            with guard.connect("one") as session:
                assert session.execute("SELECT 1").fetchone() == (1,)
                assert session.info.backend_pid not in dead
                dead.add(session.info.backend_pid)
        until(lambda: guard.guard.hub.admission.held == 0, "the slots")
