"""How sessions, servers and the guard itself end: nothing received is lost, nothing is left."""

from __future__ import annotations

import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from guard import until
from rawsession import RawSession

from pgguard.wire import codes, frontend

if TYPE_CHECKING:
    from collections.abc import Iterator

    from guard import RunningGuard

pytestmark = pytest.mark.slow


@pytest.fixture
def admin(database: Any) -> Iterator[psycopg.Connection[Any]]:
    """A direct connection to the guarded database."""
    with psycopg.connect(database.url, autocommit=True) as connection:
        yield connection


def backends(admin: psycopg.Connection[Any], like: str = "%") -> list[str]:
    """Queries of the other backends in the database."""
    rows = admin.execute(
        "SELECT query FROM pg_stat_activity WHERE datname = current_database()"
        " AND pid <> pg_backend_pid() AND state = 'active' AND query LIKE %s",
        [like],
    )
    return [query for (query,) in rows]


def everybody(admin: psycopg.Connection[Any]) -> int:
    row = admin.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND pid <> pg_backend_pid()"
    ).fetchone()
    assert row is not None
    return int(row[0])


def rows(admin: psycopg.Connection[Any]) -> list[int]:
    return [a for (a,) in admin.execute("SELECT a FROM t ORDER BY a")]


def code(error: BaseException) -> str | None:
    assert isinstance(error, psycopg.Error)
    return error.sqlstate


# Clients that leave (transparency T30)


@pytest.mark.parametrize("goodbye", [frontend.terminate(), b""], ids=["terminate", "close"])
def test_a_query_sent_before_leaving_commits(
    guard: RunningGuard, admin: psycopg.Connection[Any], goodbye: bytes
) -> None:
    admin.execute("CREATE TABLE t (a int)")
    with RawSession.open(guard) as session:
        session.send(frontend.query(b"SELECT pg_sleep(0.1); INSERT INTO t VALUES (1)") + goodbye)
    until(lambda: rows(admin) == [1], "the row")
    guard.idle()


def test_a_half_closed_client_still_gets_its_answer(guard: RunningGuard) -> None:
    with RawSession.open(guard) as session:
        session.send(frontend.query(b"SELECT pg_sleep(0.1), 7"))
        session.socket.shutdown(socket.SHUT_WR)
        assert codes.DATA_ROW in [kind for kind, _ in session.until_ready()]
        assert session.ended()
    guard.idle()


def test_a_reset_cancels_the_running_statement(
    guard: RunningGuard, admin: psycopg.Connection[Any]
) -> None:
    session = RawSession.open(guard)
    session.send(frontend.query(b"SELECT pg_sleep(30)"))
    until(lambda: backends(admin, "%pg_sleep(30)%"), "the statement")
    session.reset()
    until(lambda: not backends(admin, "%pg_sleep(30)%"), "the end of the statement", 3)
    guard.idle()


def test_a_reset_right_behind_a_statement_cancels_it_all_the_same(guard: RunningGuard) -> None:
    for _ in range(20):
        session = RawSession.open(guard)
        session.send(frontend.query(b"SELECT pg_sleep(30)"))
        session.reset()
    guard.idle()


def test_a_client_that_closes_in_a_transaction_leaves_no_lock(
    guard: RunningGuard, admin: psycopg.Connection[Any]
) -> None:
    admin.execute("CREATE TABLE t (a int)")
    with RawSession.open(guard) as session:
        session.query("BEGIN; INSERT INTO t VALUES (1); LOCK TABLE t")
    guard.idle()
    assert rows(admin) == []


def test_what_a_client_sends_after_its_last_whole_message_is_not_executed(
    guard: RunningGuard, admin: psycopg.Connection[Any]
) -> None:
    admin.execute("CREATE TABLE t (a int)")
    with RawSession.open(guard) as session:
        session.query("INSERT INTO t VALUES (1)")
        session.send(frontend.query(b"INSERT INTO t VALUES (2)")[:-3])
    guard.idle()
    assert rows(admin) == [1]


def test_a_client_gone_while_its_statement_runs_is_told_after_two_seconds(
    guard: RunningGuard, admin: psycopg.Connection[Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "pgguard")
    with RawSession.open(guard, application_name="leaver") as session:
        session.send(frontend.query(b"SELECT pg_sleep(30)"))
        until(lambda: backends(admin, "%pg_sleep(30)%"), "the statement")
    until(lambda: "client gone, statement still running" in caplog.text, "the line of the log")
    assert guard.client("leaver").share.held == 1
    admin.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE state = 'active'"
        " AND pid <> pg_backend_pid()"
    )
    guard.idle()


# Servers that end


@pytest.mark.session_mode
def test_a_killed_server_ends_its_session_in_the_words_of_postgres(
    guard: RunningGuard, admin: psycopg.Connection[Any]
) -> None:
    with guard.connect("victim") as session:
        pid = session.info.backend_pid
        assert session.execute("SELECT pg_backend_pid()").fetchone() == (pid,)
        admin.execute("SELECT pg_terminate_backend(%s)", [pid])
        with pytest.raises(psycopg.errors.AdminShutdown) as caught:
            session.execute("SELECT 1")
    assert str(caught.value).startswith("terminating connection due to administrator command")
    guard.idle()
    with guard.connect("victim") as session:
        assert session.execute("SELECT 1").fetchone() == (1,)


def test_a_server_killed_within_a_statement_frees_its_slot(
    start_guard: Any, database: Any, admin: psycopg.Connection[Any]
) -> None:
    guard = start_guard(database.url, limits__connection_limit=1)
    caught: list[BaseException] = []

    def sleep() -> None:
        with guard.connect("victim") as session:
            try:
                session.execute("SELECT pg_sleep(30)")
            except psycopg.Error as error:
                caught.append(error)

    thread = threading.Thread(target=sleep)
    thread.start()
    until(lambda: backends(admin, "%pg_sleep(30)%"), "the statement")
    admin.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'"
    )
    thread.join(5)
    assert [code(error) for error in caught] == ["57P01"]
    with guard.connect("victim") as session:
        assert session.execute("SELECT 1").fetchone() == (1,)


def test_a_closing_server_counts_until_postgres_has_closed_it(
    start_guard: Any, database: Any, admin: psycopg.Connection[Any]
) -> None:
    guard = start_guard(database.url, limits__connection_limit=1)
    with RawSession.open(guard, application_name="one") as session:
        session.send(frontend.query(b"SELECT pg_sleep(0.5)") + frontend.terminate())
        until(lambda: backends(admin, "%pg_sleep(0.5)%"), "the statement")
        left = time.monotonic()
    assert guard.client("one").share.held == 1
    with guard.connect("one") as session_after:
        assert session_after.execute("SELECT 1").fetchone() == (1,)
        assert time.monotonic() - left > 0.3
    assert guard.client("one").share.peak == 1


# The end of the guard


def test_drain_tells_idle_sessions_and_lets_statements_finish(
    guard: RunningGuard, admin: psycopg.Connection[Any]
) -> None:
    with RawSession.open(guard) as idle, RawSession.open(guard) as busy:
        busy.send(frontend.query(b"SELECT pg_sleep(0.5), 42"))
        until(lambda: backends(admin, "%pg_sleep(0.5)%"), "the statement")
        guard.stop(grace=5)
        error = idle.error()
        assert (error["S"], error["C"]) == ("FATAL", "57P01")
        assert idle.ended()
        assert codes.DATA_ROW in [kind for kind, _ in busy.until_ready()]
        assert busy.error()["C"] == "57P01"
    assert everybody(admin) == 0


def test_a_transaction_may_commit_while_the_guard_drains(
    guard: RunningGuard, admin: psycopg.Connection[Any]
) -> None:
    admin.execute("CREATE TABLE t (a int)")
    with RawSession.open(guard) as session:
        session.query("BEGIN; INSERT INTO t VALUES (1)")
        stopping = threading.Thread(target=guard.stop, args=(5,))
        stopping.start()
        until(lambda: guard.guard.hub.draining, "the drain")
        session.query("COMMIT")
        assert session.error()["C"] == "57P01"
        stopping.join(5)
    assert rows(admin) == [1]


@pytest.mark.parametrize(
    "statement",
    ["SELECT pg_sleep(30)", "BEGIN; SELECT 1", "BEGIN; SELECT current_database()"],
    ids=["running", "in transaction", "in transaction, databases named"],
)
def test_stop_leaves_no_backend(
    guard: RunningGuard, admin: psycopg.Connection[Any], statement: str
) -> None:
    with RawSession.open(guard) as session:
        session.send(frontend.query(statement.encode()))
        if "sleep" in statement:
            until(lambda: backends(admin, "%pg_sleep%"), "the statement")
        else:
            session.until_ready()
        guard.stop(grace=0.2, within=6)
        told = [session.error()["C"]]
        while told[-1] != "57P01":
            told.append(session.error()["C"])
        assert told == (["57014", "57P01"] if "sleep" in statement else ["57P01"])
        until(lambda: everybody(admin) == 0, "no backend", 1)


@pytest.mark.session_mode
def test_waiting_sessions_are_told_that_the_guard_stops(start_guard: Any, database: Any) -> None:
    guard = start_guard(database.url, limits__connection_limit=1)
    with guard.connect("one"), RawSession.log_in(guard, application_name="one") as waiting:
        until(lambda: guard.client("one").share.waiting == 1, "the waiter")
        guard.stop()
        error = waiting.error()
        assert (error["S"], error["C"]) == ("FATAL", "57P01")
