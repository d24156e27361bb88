"""Bug class: one client gets what another one asked for (pgdog#759, pg_doorman#38, supavisor#1164).

Each test is named after what happened elsewhere.
"""

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


@pytest.mark.session_mode
def test_the_rest_of_a_pipeline_was_sent_on_after_the_wait_had_timed_out(
    start_guard: Start, database: Any
) -> None:
    """pgdog#759, pg_doorman#38: nothing that a refused session had sent ahead is executed."""
    guard = start_guard(database.url, limits__connection_limit=1, limits__pool_timeout="1s")
    with psycopg.connect(database.url, autocommit=True) as admin:
        admin.execute("CREATE TABLE t (a int)")
        with guard.connect("one") as holder:
            with RawSession.log_in(guard, application_name="one") as refused:
                refused.send(frontend.query(b"INSERT INTO t VALUES (1)") * 3)
                assert refused.error()["C"] == "53300"
            assert holder.execute("SELECT 'mine'").fetchone() == ("mine",)
        with guard.connect("one") as later:
            assert later.execute("SELECT 'later'").fetchone() == ("later",)
        assert admin.execute("SELECT a FROM t").fetchall() == []
    guard.idle()


def test_half_a_message_reached_the_server_which_was_then_lent_to_another(
    start_guard: Start, database: Any
) -> None:
    """supavisor#1164: the next session has another server, and its own replies."""
    guard = start_guard(database.url, limits__connection_limit=1)
    first = RawSession.open(guard, application_name="one")
    first.send(frontend.query(b"SELECT 1") + frontend.query(b"SELECT 'half'")[:-3])
    first.reset()
    with RawSession.open(guard, application_name="one") as second:
        assert second.pid != first.pid
        rows = [body for kind, body in second.query("SELECT 'whole'") if kind == codes.DATA_ROW]
        assert [row[-5:] for row in rows] == [b"whole"]


def test_a_transaction_was_inherited_by_the_next_client(start_guard: Start, database: Any) -> None:
    """supavisor#1172, Postgres Pro's pool#8: what was left open is rolled back."""
    guard = start_guard(database.url, limits__connection_limit=1)
    with psycopg.connect(database.url, autocommit=True) as admin:
        admin.execute("CREATE TABLE t (a int)")
        with RawSession.open(guard, application_name="one") as session:
            session.query("BEGIN; INSERT INTO t VALUES (1); LOCK TABLE t")
        with guard.connect("one") as following:
            query = "SELECT pg_current_xact_id_if_assigned() IS NULL"
            assert following.execute(query).fetchone() == (True,)
        until(lambda: admin.execute("SELECT count(*) FROM t").fetchone() == (0,), "no row")
