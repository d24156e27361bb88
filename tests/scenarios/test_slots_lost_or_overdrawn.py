"""Bug class: a slot is given back never, twice, or to nobody (reliability R30 to R34)."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from guard import until
from rawsession import RawSession

from pgguard.wire import frontend

if TYPE_CHECKING:
    from collections.abc import Callable

    from guard import RunningGuard

    Start = Callable[..., RunningGuard]

pytestmark = pytest.mark.slow


@pytest.mark.session_mode
def test_a_permit_was_lost_at_each_hand_over_until_nothing_moved(
    start_guard: Start, database: Any
) -> None:
    """pg_doorman 3.5.2: a hundred hand-overs of two slots, good ends and bad ones in turn."""
    guard = start_guard(database.url, limits__connection_limit=2)
    held = [RawSession.open(guard, application_name="one") for _ in range(2)]
    for turn in range(100):
        waiter = RawSession.log_in(guard, application_name="one")
        until(lambda: guard.client("one").share.waiting == 1, "the waiter")
        leaving = held.pop(0)
        if turn % 4 == 0:
            leaving.send(frontend.terminate())
        elif turn % 4 == 1:
            leaving.reset()
        elif turn % 4 == 2:
            leaving.send(frontend.query(b"SELECT pg_terminate_backend(pg_backend_pid())"))
        leaving.socket.close()
        waiter.until_ready()
        held.append(waiter)
    assert guard.client("one").share.peak == 2
    for session in held:
        session.socket.close()
    guard.idle()
    assert guard.guard.hub.admission.held == 0


def test_nobody_was_served_once_clients_exceeded_the_pool(
    start_guard: Start, database: Any
) -> None:
    """pgdog#1361, odyssey#1225: thirty at once before three slots; all are served, three at most.

    Postgres is asked how many there were, at every statement.
    """
    guard = start_guard(database.url, limits__connection_limit=3)
    count = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE application_name = 'many' AND datname = current_database()"
    )
    seen: list[int] = []

    def work() -> None:
        with guard.connect("many") as session:
            row = session.execute(count).fetchone()
            assert row is not None
            seen.append(row[0])

    threads = [threading.Thread(target=work) for _ in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(seen) == 30
    assert max(seen) <= 3
    guard.idle()


@pytest.mark.session_mode
def test_a_slot_was_lost_when_its_owner_left_while_it_was_granted(
    start_guard: Start, database: Any
) -> None:
    """pgbouncer#1238: holder and waiter end in the same moment, whoever is first."""
    guard = start_guard(database.url, limits__connection_limit=1)
    for turn in range(40):
        holder = RawSession.open(guard, application_name="one")
        waiter = RawSession.log_in(guard, application_name="one")
        until(lambda: guard.client("one").share.waiting == 1, "the waiter")
        ends = [holder, waiter] if turn % 2 else [waiter, holder]
        for session in ends:
            session.reset()
    with guard.connect("one") as session_after:
        assert session_after.execute("SELECT 1").fetchone() == (1,)
    guard.idle()
    assert guard.guard.hub.admission.held == 0
    with psycopg.connect(database.url) as admin:
        query = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'one'"
        assert admin.execute(query).fetchone() == (0,)
