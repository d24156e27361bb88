"""Caps, queues and refusals, with a real Postgres behind: nobody gets more, no slot is lost."""

from __future__ import annotations

import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from guard import settings_for, until
from rawsession import RawSession

from pgguard.wire import codes, frontend

if TYPE_CHECKING:
    from collections.abc import Callable

    from guard import RunningGuard

    Start = Callable[..., RunningGuard]

pytestmark = [pytest.mark.slow, pytest.mark.session_mode]


def refusal(guard: RunningGuard, name: str, **parameters: str) -> tuple[dict[str, str], float]:
    """The FATAL that a session gets, and how long it waited for it."""
    with RawSession.log_in(guard, application_name=name, **parameters) as session:
        began = time.monotonic()
        error = session.error()
        waited = time.monotonic() - began
        assert session.ended()
    return error, waited


def held(guard: RunningGuard, name: str) -> int:
    return guard.client(name).share.held


def test_a_client_uses_its_cap_and_not_more(start_guard: Start, database: Any) -> None:
    guard = start_guard(database.url, limits__connection_limit=3)

    def work(number: int) -> int:
        with guard.connect("crowd") as session:
            row = session.execute("SELECT pg_sleep(0.02), %s::int", [number]).fetchone()
            return int(row[1])

    with ThreadPoolExecutor(20) as threads:
        assert list(threads.map(work, range(20))) == list(range(20))
    client = guard.client("crowd")
    assert client.share.peak == 3
    assert client.counters.sessions == 20
    assert client.counters.refusals == {}
    assert client.counters.waits >= 16
    guard.idle()


def test_waiting_sessions_are_served_in_the_order_in_which_they_came(
    start_guard: Start, database: Any
) -> None:
    guard = start_guard(database.url, limits__connection_limit=1)
    served: list[int] = []

    def finish(number: int, session: RawSession) -> None:
        session.until_ready()
        served.append(number)
        session.send(frontend.terminate())
        session.socket.close()

    with RawSession.open(guard, application_name="line") as first:
        threads = []
        for number in range(6):
            session = RawSession.log_in(guard, application_name="line")
            until(lambda n=number: guard.client("line").share.waiting == n + 1, "the queue")
            threads.append(threading.Thread(target=finish, args=(number, session)))
            threads[-1].start()
        first.send(frontend.terminate())
        for thread in threads:
            thread.join(10)
    assert served == list(range(6))


def test_clients_do_not_wait_for_each_other(start_guard: Start, database: Any) -> None:
    guard = start_guard(database.url, limits__connection_limit=1)
    with (
        guard.connect("greedy"),
        RawSession.log_in(guard, application_name="greedy"),
        guard.connect("modest") as session,
    ):
        assert session.execute("SELECT 1").fetchone() == (1,)
        assert guard.client("greedy").share.waiting == 1


def test_the_one_too_many_is_refused_in_time_with_the_holders_named(
    start_guard: Start, database: Any
) -> None:
    guard = start_guard(database.url, limits__connection_limit=2, limits__pool_timeout="1s")
    with guard.connect("a.py") as one, guard.connect("a.py") as two:
        one.execute("SELECT 'secret word'")
        two.execute("SELECT 2")
        error, waited = refusal(guard, "a.py")
        assert 0.8 <= waited <= 1.2
        assert error["S"] == "FATAL"
        assert error["C"] == "53300"
        assert re.fullmatch(
            r'pgguard: client "a\.py" already uses its 2 server connections'
            r" \(limits\.connection_limit\); waited 1\.\d s",
            error["M"],
        )
        lines = error["D"].splitlines()
        assert len(lines) == 2
        assert f"pid {one.info.backend_pid}" in error["D"]
        assert f"pid {two.info.backend_pid}" in error["D"]
        assert all('client "a.py" session' in line and "idle for" in line for line in lines)
        assert "secret word" not in error["D"]
        assert "pgguard explain PGG301" in error["H"]
    assert guard.client("a.py").counters.refusals == {"cap": 1}
    guard.idle()


def test_a_waiting_session_gets_a_notice(start_guard: Start, database: Any) -> None:
    guard = start_guard(database.url, limits__connection_limit=1, limits__notice_after="300ms")
    with guard.connect("n"), RawSession.log_in(guard, application_name="n") as waiting:
        kind, _ = waiting.message()
        assert kind == codes.NOTICE_RESPONSE


def test_a_session_that_wants_no_notices_gets_none(start_guard: Start, database: Any) -> None:
    guard = start_guard(
        database.url,
        limits__connection_limit=1,
        limits__notice_after="100ms",
        limits__pool_timeout="600ms",
    )
    with (
        guard.connect("n"),
        RawSession.log_in(
            guard, application_name="n", options="-c client_min_messages=warning"
        ) as waiting,
    ):
        assert waiting.error()["C"] == "53300"
        assert waiting.notices == []


def test_the_total_is_kept_and_its_refusal_says_so(start_guard: Start, database: Any) -> None:
    guard = start_guard(database.url, limits__total=2, limits__total_timeout="500ms")
    with guard.connect("a"), guard.connect("a"):
        error, waited = refusal(guard, "b")
        assert 0.4 <= waited <= 0.65
        assert error["C"] == "53300"
        assert "(limits.total)" in error["M"]
        assert "PGG302" in error["H"]


def test_a_client_that_waits_for_itself_is_told_so(start_guard: Start, database: Any) -> None:
    guard = start_guard(
        database.url, limits__connection_limit=1, limits__self_starvation_after="300ms"
    )
    with guard.connect("s", autocommit=False) as session:
        session.execute("SELECT 1")
        error, waited = refusal(guard, "s")
        assert waited < 2
        assert error["M"].startswith('pgguard: client "s" waits for itself')
        assert "idle in transaction" in error["D"]
        assert "PGG303" in error["H"]
        assert session.execute("SELECT 2").fetchone() == (2,)


def test_max_waiting_and_max_sessions_refuse_at_once(start_guard: Start, database: Any) -> None:
    guard = start_guard(
        database.url,
        limits__connection_limit=1,
        limits__overrides=[
            {"client": "q", "max_waiting": 1},
            {"client": "m", "max_sessions": 1},
        ],
    )
    with guard.connect("q"), RawSession.log_in(guard, application_name="q"):
        until(lambda: guard.client("q").share.waiting == 1, "the waiter")
        error, waited = refusal(guard, "q")
        assert error["M"] == (
            'pgguard: client "q" already has 1 sessions waiting (limits.max_waiting)'
        )
        assert waited < 0.5
    with guard.connect("m"):
        error, _ = refusal(guard, "m")
        assert error["M"] == 'pgguard: client "m" already has 1 sessions (limits.max_sessions)'


@pytest.mark.parametrize("leave", ["close", "reset", "terminate", "close with much sent ahead"])
def test_waiters_that_vanish_leave_no_slot_and_nothing_of_theirs_runs(
    start_guard: Start, database: Any, leave: str
) -> None:
    guard = start_guard(database.url, limits__connection_limit=1)
    with guard.connect("v") as holder:
        holder.execute("CREATE TABLE t (a int)")
        waiters = [RawSession.log_in(guard, application_name="v") for _ in range(5)]
        until(lambda: guard.client("v").share.waiting == 5, "the waiters")
        for waiter in waiters:
            waiter.send(frontend.query(b"INSERT INTO t VALUES (1)"))
            if leave == "terminate":
                waiter.send(frontend.terminate())
            if leave.startswith("close with"):
                waiter.send(frontend.query(b"SELECT '" + b"x" * 200_000 + b"'"))
            if leave == "reset":
                waiter.reset()
            else:
                waiter.socket.close()
        until(lambda: guard.client("v").share.waiting == 0, "no waiter", 3)
        assert held(guard, "v") == 1
    guard.idle()
    with guard.connect("v") as after:
        assert after.execute("SELECT count(*) FROM t").fetchone() == (0,)
    assert guard.guard.hub.admission.held <= 1


def test_sessions_that_vanish_while_they_log_in_leave_no_slot(guard: RunningGuard) -> None:
    for _ in range(20):
        session = RawSession(guard.guard.listen)
        session.send(b"\0\0\0")
        session.reset()
        session = RawSession.log_in(guard, application_name="w")
        session.reset()
    guard.idle()
    assert held(guard, "w") == 0


def test_failed_logins_take_no_slot(guard: RunningGuard) -> None:
    for _ in range(5):
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            guard.connect("f", password="wrong")
    guard.idle()
    assert guard.guard.hub.admission.held == 0


def test_a_lower_limit_in_a_url_lowers_the_cap_of_its_client(guard: RunningGuard) -> None:
    with RawSession.open(guard, application_name="l", connection_limit="1", pool_timeout="0.3"):
        error, waited = refusal(guard, "l")
        assert "already uses its 1 server connection " in error["M"]
        assert waited < 0.6


def test_too_many_connections_of_a_role_are_waited_out(start_guard: Start, database: Any) -> None:
    role = f"narrow_{database.name}"
    with psycopg.connect(database.url, autocommit=True) as admin:
        admin.execute(f"CREATE ROLE {role} LOGIN CONNECTION LIMIT 1 PASSWORD 'pw'")
        guard = start_guard(database.url, secrets={role: "pw"}, limits__total=10)
        with guard.connect("first", user=role, password="pw") as first:
            pool = ThreadPoolExecutor(1)
            later = pool.submit(guard.connect, "second", user=role, password="pw")
            until(lambda: guard.client("second").share.waiting == 1, "the requeued ticket")
            first.close()
        with later.result(10) as session:
            assert session.execute("SELECT current_user").fetchone() == (role,)
        pool.shutdown()
        guard.idle()
        admin.execute(f"DROP ROLE {role}")


def test_a_reload_changes_caps_and_drops_nobody(start_guard: Start, database: Any) -> None:
    guard = start_guard(database.url, limits__connection_limit=1)
    with guard.connect("r") as first, RawSession.log_in(guard, application_name="r") as second:
        until(lambda: guard.client("r").share.waiting == 1, "the waiter")
        guard.run(guard.guard.reload(settings_for(database.url, limits__connection_limit=2)))
        second.until_ready()
        assert first.execute("SELECT 1").fetchone() == (1,)
        assert guard.client("r").share.held == 2


def test_a_client_whose_statement_waits_for_its_own_lock_waits_for_itself(
    start_guard: Start, database: Any
) -> None:
    guard = start_guard(
        database.url, limits__connection_limit=2, limits__self_starvation_after="1s"
    )
    with (
        guard.connect("k", autocommit=False) as holder,
        RawSession.open(guard, application_name="k") as blocked,
    ):
        holder.execute("CREATE TABLE t (a int)")
        holder.commit()
        holder.execute("LOCK TABLE t")
        blocked.send(frontend.query(b"SELECT * FROM t"))
        error, waited = refusal(guard, "k")
        assert waited < 5
        assert error["M"].startswith('pgguard: client "k" waits for itself')
        holder.rollback()
        assert codes.COMMAND_COMPLETE in [kind for kind, _ in blocked.until_ready()]


def test_many_waiters_that_vanish_leave_no_slot(start_guard: Start, database: Any) -> None:
    guard = start_guard(database.url, limits__connection_limit=1)
    with guard.connect("v"):
        for _ in range(4):
            waiters = [RawSession.log_in(guard, application_name="v") for _ in range(50)]
            until(lambda: guard.client("v").share.waiting == 50, "the waiters")
            for number, waiter in enumerate(waiters):
                waiter.reset() if number % 2 else waiter.socket.close()
            until(lambda: guard.client("v").share.waiting == 0, "no waiter")
    guard.idle()
    assert guard.guard.hub.admission.held == 0
