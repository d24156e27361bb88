"""Bug class: a server lent on between Flush and Sync, portals lost with it (reliability R19)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from guard import until
from rawsession import RawSession

from pgguard.wire import backend, codes, frontend

if TYPE_CHECKING:
    from collections.abc import Callable

    from guard import RunningGuard

    Start = Callable[..., RunningGuard]

pytestmark = pytest.mark.slow

OPENED = (
    frontend.parse_message(b"", b"SELECT generate_series(1, 5)")
    + frontend.bind_message(b"p", b"")
    + frontend.execute_message(b"p", 2)
    + frontend.flush()
)
MORE = frontend.execute_message(b"p", 2) + frontend.flush()


def five(session: RawSession) -> tuple[bytes, list[bytes | None]]:
    """Kinds and values of five messages, or up to an end of the rows."""
    taken = []
    while not taken or taken[-1][0] == codes.DATA_ROW or len(taken) < 3:
        taken.append(session.message())
    values = [backend.decode_row(body)[0] for kind, body in taken if kind == codes.DATA_ROW]
    return bytes(kind for kind, _ in taken), values


@pytest.mark.session_mode
def test_a_server_was_lent_on_between_execute_with_flush_and_sync(
    start_guard: Start, database: Any
) -> None:
    """pgdog#760, #763: no ReadyForQuery, no change of hands; who waits is served afterwards."""
    guard = start_guard(database.url, limits__connection_limit=1)
    with RawSession.open(guard, application_name="one") as holder:
        holder.send(OPENED)
        assert five(holder) == (b"12DDs", [b"1", b"2"])
        with RawSession.log_in(guard, application_name="one") as waiter:
            until(lambda: guard.client("one").share.waiting, "the waiter")
            holder.send(MORE)
            assert five(holder) == (b"DDs", [b"3", b"4"])
            holder.send(frontend.sync() + frontend.terminate())
            assert holder.until_ready() == [(codes.READY_FOR_QUERY, b"I")]
            waiter.until_ready()
            waiter.send(frontend.execute_message(b"p") + frontend.sync())
            assert waiter.error()["C"] == "34000"
            assert waiter.until_ready()[-1] == (codes.READY_FOR_QUERY, b"I")
    guard.idle()


def test_a_portal_was_lost_while_another_statement_ran(guard: RunningGuard) -> None:
    """pgdog#1332: in a transaction a named portal goes on across Syncs, as a driver's cursor."""
    with RawSession.open(guard) as session:
        session.query("BEGIN")
        session.send(OPENED + frontend.sync())
        assert five(session) == (b"12DDs", [b"1", b"2"])
        session.until_ready()
        between = frontend.parse_message(b"", b"SELECT 'else'") + frontend.bind_message(b"", b"")
        session.send(between + frontend.execute_message(b"") + frontend.sync())
        session.until_ready()
        session.send(MORE + MORE + frontend.sync())
        assert five(session) == (b"DDs", [b"3", b"4"])
        assert [session.message()[0] for _ in range(2)] == list(b"DC")
        assert session.until_ready() == [(codes.READY_FOR_QUERY, b"T")]
    guard.idle()
