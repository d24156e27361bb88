"""Bug class: a client has gone and what it held stays held (reliability R16, R23)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from guard import until
from rawsession import RawSession

from pgguard.wire import codes, frontend

if TYPE_CHECKING:
    from collections.abc import Callable

    from guard import RunningGuard

    Start = Callable[..., RunningGuard]

pytestmark = pytest.mark.slow


def test_a_terminate_in_a_transaction_blocked_all_that_wanted_its_lock(
    start_guard: Start, database: Any
) -> None:
    """pgdog#848: the transaction ends with its session, and the only slot is free again."""
    guard = start_guard(database.url, limits__connection_limit=1)
    with RawSession.open(guard, application_name="one") as session:
        session.query("CREATE TABLE t (a int)")
        session.query("BEGIN; INSERT INTO t VALUES (1); LOCK TABLE t")
        session.send(frontend.terminate())
        with guard.connect("one") as following:
            assert following.execute("SELECT count(*) FROM t").fetchone() == (0,)
    guard.idle()


@pytest.mark.session_mode
def test_a_zombie_that_read_nothing_kept_its_server(start_guard: Start, database: Any) -> None:
    """supavisor#1060, #595, odyssey#1221: who leaves with a result unread leaves nothing behind."""
    guard = start_guard(database.url, limits__connection_limit=1)
    large = b"SELECT repeat('x', 1000) FROM generate_series(1, 200000)"
    with psycopg.connect(database.url, autocommit=True) as admin:
        for leave in (RawSession.reset, lambda session: session.socket.close()):
            session = RawSession.open(guard, application_name="one")
            session.send(frontend.query(large))
            until(lambda pid=session.pid: waits_for(admin, pid) == "ClientWrite", "a full network")
            leave(session)
            with guard.connect("one") as following:
                assert following.execute("SELECT 1").fetchone() == (1,)
            assert waits_for(admin, session.pid) is None
    guard.idle()


@pytest.mark.session_mode
def test_a_client_that_left_the_queue_was_served_all_the_same(
    start_guard: Start, database: Any
) -> None:
    """supavisor#783, #824: its place goes to who is still there, and nothing of it runs."""
    guard = start_guard(database.url, limits__connection_limit=1)
    with psycopg.connect(database.url, autocommit=True) as admin:
        admin.execute("CREATE TABLE t (a int)")
        with RawSession.open(guard, application_name="one") as holder:
            gone = RawSession.log_in(guard, application_name="one")
            gone.send(frontend.query(b"INSERT INTO t VALUES (1)"))
            until(lambda: guard.client("one").share.waiting == 1, "who leaves")
            with RawSession.log_in(guard, application_name="one") as patient:
                until(lambda: guard.client("one").share.waiting == 2, "who stays")
                gone.reset()
                until(lambda: guard.client("one").share.waiting == 1, "one place less")
                holder.send(frontend.terminate())
                patient.until_ready()
                assert codes.DATA_ROW in [kind for kind, _ in patient.query("SELECT 1")]
        assert admin.execute("SELECT a FROM t").fetchall() == []
    guard.idle()


def waits_for(admin: psycopg.Connection[Any], pid: int) -> str | None:
    """What a backend waits for; None once there is no such backend, or it waits for nothing."""
    query = "SELECT wait_event FROM pg_stat_activity WHERE pid = %s"
    row = admin.execute(query, [pid]).fetchone()
    return row[0] if row else None
