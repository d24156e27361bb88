"""Sessions that share servers and need several at once: served where that is possible, else the one
who came last is told who holds what, and lives (transparency T10, T11, T22)."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from guard import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from guard import RunningGuard

    Start = Callable[..., RunningGuard]

pytestmark = pytest.mark.slow

SOON = {"pool__mode": "transparent", "limits__self_starvation_after": "300ms"}


def refusal(session: psycopg.Connection[Any], text: str = "SELECT 1") -> psycopg.errors.Diagnostic:
    """What the session is told; it must live on."""
    with pytest.raises(psycopg.errors.TooManyConnections) as caught:
        session.execute(text)
    assert not session.closed
    return caught.value.diag


def test_clients_that_nest_two_connections_are_all_served_on_a_total_of_four(
    start_guard: Start, database: Any
) -> None:
    """A holds one and needs another one, and so do four more: nobody is refused."""
    guard = start_guard(database.url, limits__connection_limit=2, limits__total=4, **SOON)

    def nested(number: int) -> int:
        outer, inner = (guard.connect(f"nested {number}") for _ in range(2))
        done = 0
        for _ in range(10):
            with outer.transaction():
                outer.execute("SELECT 1")
                with inner.transaction():
                    done += inner.execute("SELECT 1").fetchone()[0]  # type: ignore[index]
        outer.close()
        inner.close()
        return done

    with ThreadPoolExecutor(5) as threads:
        assert list(threads.map(nested, range(5))) == [10] * 5
    assert all(not c.counters.refusals for c in guard.guard.hub.clients.values())


def test_who_waits_for_its_own_transaction_is_told_so_and_goes_on(
    start_guard: Start, database: Any
) -> None:
    guard = start_guard(database.url, limits__connection_limit=1, **SOON)
    outer, inner = guard.connect("one"), guard.connect("one")
    with outer.transaction():
        outer.execute("SELECT 'outer'")
        told = refusal(inner)
        assert told.message_primary is not None
        assert "its 1 server connection is held by its own silent sessions" in told.message_primary
        assert "idle in transaction" in (told.message_detail or "")
        assert "PGG303" in (told.message_hint or "")
    assert inner.execute("SELECT 2").fetchone() == (2,)
    for session in (outer, inner):
        session.close()


@pytest.mark.parametrize(
    ("make", "reason", "end"),
    [
        ("CREATE TEMP TABLE mine (id int)", "temporary table, view or sequence", "DROP TABLE mine"),
        ("SELECT pg_advisory_lock(5)", "advisory lock", "SELECT pg_advisory_unlock(5)"),
        ("LISTEN news", "LISTEN", "UNLISTEN news"),
        ("SET ROLE pg_monitor", "SET ROLE or SESSION AUTHORIZATION", "RESET ROLE"),
        ("PREPARE mine AS SELECT 1", "PREPARE", "DEALLOCATE mine"),
    ],
)
def test_what_keeps_a_server_is_named_and_its_end_frees_the_server(
    start_guard: Start, database: Any, make: str, reason: str, end: str
) -> None:
    guard = start_guard(database.url, limits__connection_limit=1, **SOON)
    keeper, other = guard.connect("pinned"), guard.connect("pinned")
    keeper.execute(make)
    detail = refusal(other).message_detail or ""
    assert f"keeps its server: {reason} since {make[:10]}" in detail
    keeper.execute(end)
    assert other.execute("SELECT 2").fetchone() == (2,)
    for session in (keeper, other):
        session.close()


def test_of_clients_that_wait_for_each_other_the_last_one_is_refused(
    start_guard: Start, database: Any
) -> None:
    guard = start_guard(database.url, limits__connection_limit=3, limits__total=4, **SOON)
    both = threading.Barrier(2)

    def three(name: str) -> str:
        sessions = [guard.connect(name) for _ in range(3)]
        for session in sessions[:2]:
            session.execute("BEGIN")
            session.execute("SELECT 1")
        both.wait(10)
        try:
            sessions[2].execute("SELECT 3")
        except psycopg.errors.TooManyConnections as error:
            return str(error.diag.message_primary)
        finally:
            for session in sessions:
                session.close()
        return "served"

    with ThreadPoolExecutor(2) as threads:
        ends = sorted(threads.map(three, ("a", "b")))
    assert ends[0].startswith("pgguard: clients wait for each other: all 4 server connections")
    assert ends[1] == "served"


def test_a_session_that_waits_for_a_lock_of_its_own_client_counts_as_waiting_for_itself(
    start_guard: Start, database: Any
) -> None:
    guard = start_guard(database.url, limits__connection_limit=2, **SOON)
    holder, blocked, third = (guard.connect("locks") for _ in range(3))
    holder.execute("CREATE TABLE counters (n int)")
    holder.execute("INSERT INTO counters VALUES (0)")
    with ThreadPoolExecutor(1) as threads:
        with holder.transaction():
            holder.execute("UPDATE counters SET n = 1")
            waits = threads.submit(blocked.execute, "UPDATE counters SET n = 2")
            until(lambda: guard.client("locks").share.held == 2)
            assert "waits for itself" in str(refusal(third).message_primary)
        assert waits.result(10).statusmessage == "UPDATE 1"
    for session in (holder, blocked, third):
        session.close()


def test_clients_that_wait_for_the_lock_of_one_that_waits_are_part_of_the_deadlock(
    start_guard: Start, database: Any
) -> None:
    guard = start_guard(database.url, limits__connection_limit=3, limits__total=4, **SOON)
    holder, second, third = (guard.connect("a") for _ in range(3))
    blocked = [guard.connect("b") for _ in range(2)]
    holder.execute("CREATE TABLE counters (n int)")
    holder.execute("INSERT INTO counters VALUES (0)")
    with ThreadPoolExecutor(2) as threads:
        with holder.transaction(), second.transaction():
            holder.execute("UPDATE counters SET n = 1")
            second.execute("SELECT 1")
            text = "UPDATE counters SET n = 2"
            waits = [threads.submit(session.execute, text) for session in blocked]
            until(lambda: guard.client("b").share.held == 2)
            told = refusal(third)
        for one in waits:
            assert one.result(10).statusmessage == "UPDATE 1"
    assert "clients wait for each other: all 4 server connections" in str(told.message_primary)
    for session in (holder, second, third, *blocked):
        session.close()


def test_one_thread_that_asks_for_sequences_is_served_on_fewer_servers_than_it_has_sessions(
    start_guard: Start, database: Any
) -> None:
    """Its sessions keep their servers for the value, but not so long that others are refused."""
    guard = start_guard(database.url, limits__connection_limit=2, **SOON)
    sessions = [guard.connect("sequences") for _ in range(4)]
    sessions[0].execute("CREATE TABLE numbered (id serial, x int)")
    for turn in range(2):
        for number, session in enumerate(sessions):
            session.execute("INSERT INTO numbered (x) VALUES (1)")
            value = session.execute("SELECT lastval()").fetchone()
            assert value == (turn * 4 + number + 1,)
    assert guard.client("sequences").counters.refusals == {}
    for session in sessions:
        session.close()


def test_who_asks_too_late_for_a_sequence_is_told_who_needed_the_server(
    start_guard: Start, database: Any
) -> None:
    guard = start_guard(database.url, limits__connection_limit=1, **SOON)
    owner, other = guard.connect("late"), guard.connect("late")
    owner.execute("CREATE TABLE numbered (id serial, x int)")
    owner.execute("INSERT INTO numbered (x) VALUES (1)")
    other.execute("SELECT 1")
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState) as caught:
        owner.execute("SELECT currval('numbered_id_seq')")
    told = caught.value.diag
    assert 'INSERT INTO numbered (x) VALUES (?); client "late" session' in str(told.message_detail)
    assert "RETURNING" in str(told.message_hint)

    def found(guard: Any) -> Any:
        return [finding for finding in guard.findings() if finding.code == "PGG311"]

    (finding,) = until(lambda: guard.ask(found), "the finding")
    assert (finding.client, finding.count) == ("late", 1)
    assert finding.text == "SELECT currval('?')"
    assert "needed it" in finding.evidence[0]
    for session in (owner, other):
        session.close()
