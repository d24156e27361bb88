"""Who waits in vain: locks that silent sessions of the same client hold. The rest is in
test_session, where sessions are described."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from core_fakes import World
from notation import BACKEND, encode

from pgguard.core.holding import describe, is_blocked, stuck_since
from pgguard.wire import frontend

if TYPE_CHECKING:
    from pgguard.core.server import Server
    from pgguard.core.session import Session


class Locks:
    """A session that waits for a lock, and one that may hold it, with a transaction open."""

    def __init__(self, holder: str = "a.py", **settings: int) -> None:
        self.world = World(**settings)
        self.holder, self.held = self.linked(holder, "ReadyForQuery T")
        self.silent_since = self.world.clock.now
        self.world.wait(1)
        self.waiter, self.waits = self.linked("a.py")
        self.world.receive(self.waiter, frontend.query(b"update t set a = 1"))
        self.asked_at = self.world.clock.now
        self.world.wait(1)

    def linked(self, client: str, *answers: str) -> tuple[Session, Server]:
        session, server = self.world.link(application_name=client)
        if answers:
            self.world.receive(session, frontend.query(b"begin"))
        for answer in answers:
            self.world.receive(server, encode(answer, BACKEND))
        return session, server

    def blocked_by(self, *pids: int) -> None:
        self.waits.blockers = (self.waits.started, frozenset(pids))


def test_a_statement_that_runs_is_not_stuck() -> None:
    locks = Locks()
    assert stuck_since(locks.waiter) is None
    locks.blocked_by()
    assert stuck_since(locks.waiter) is None


def test_a_statement_that_waits_for_a_silent_session_of_its_own_client_is_stuck() -> None:
    locks = Locks()
    locks.blocked_by(locks.held.pid)
    assert stuck_since(locks.waiter) == pytest.approx(locks.asked_at)


def test_the_time_runs_from_when_the_last_of_them_fell_silent() -> None:
    locks = Locks()
    locks.blocked_by(locks.held.pid)
    locks.world.receive(locks.holder, frontend.flush())
    assert stuck_since(locks.waiter) is None or locks.holder.last_byte > locks.asked_at


@pytest.mark.parametrize("blocker", ["another client", "a stranger", "one that runs", "one idle"])
def test_a_statement_that_waits_for_somebody_else_is_not_stuck(blocker: str) -> None:
    locks = Locks("b.py" if blocker == "another client" else "a.py")
    pids = [locks.held.pid]
    if blocker == "a stranger":
        pids.append(4_000_000)
    elif blocker == "one that runs":
        locks.world.receive(locks.holder, frontend.query(b"select 1"))
    elif blocker == "one idle":
        _, idle = locks.linked("a.py", "ReadyForQuery I")
        pids.append(idle.pid)
    locks.blocked_by(*pids)
    assert stuck_since(locks.waiter) is None


def test_where_all_wait_for_each_other_locks_of_other_clients_count() -> None:
    locks = Locks("b.py")
    locks.blocked_by(locks.held.pid)
    assert stuck_since(locks.waiter) is None
    assert stuck_since(locks.waiter, everybody=True) == pytest.approx(locks.asked_at)
    assert is_blocked(locks.waiter)
    assert not is_blocked(locks.holder)
    locks.world.receive(locks.holder, frontend.query(b"select 1"))
    assert not is_blocked(locks.waiter)


def test_who_waits_behind_another_waiter_waits_for_the_same_and_a_circle_for_nobody() -> None:
    locks = Locks()
    locks.blocked_by(locks.held.pid)
    behind, server = locks.linked("a.py")
    locks.world.receive(behind, frontend.query(b"update t set a = 2"))
    server.blockers = (server.started, frozenset({locks.waits.pid, locks.held.pid}))
    assert stuck_since(behind) == pytest.approx(locks.world.clock.now)
    locks.blocked_by(server.pid)
    assert stuck_since(behind) is None
    assert stuck_since(locks.waiter) is None


def test_a_long_line_for_one_lock_is_looked_at_in_no_time() -> None:
    locks = Locks(connection_limit=200)
    before = [locks.held.pid]
    for _ in range(60):
        waiter, server = locks.linked("a.py")
        locks.world.receive(waiter, frontend.query(b"update t set a = 2"))
        # Whoever waits is blocked by all who came before: 2 ** 60 ways through the line.
        server.blockers = (server.started, frozenset(before))
        before.append(server.pid)
    assert stuck_since(waiter) == pytest.approx(locks.world.clock.now)


def test_what_blocked_the_statement_before_does_not_count() -> None:
    locks = Locks()
    locks.blocked_by(locks.held.pid)
    locks.world.receive(locks.waits, encode("ReadyForQuery I", BACKEND))
    locks.world.wait(1)
    locks.world.receive(locks.waiter, frontend.query(b"select 1"))
    assert stuck_since(locks.waiter) is None


def test_a_waiting_session_is_described_by_what_it_does() -> None:
    world = World(connection_limit=1, notice_after=None)
    world.link()
    session = world.enter()
    world.wait(2)
    assert describe(session, world.clock()).endswith("open for 2.0 s: waiting for 2.0 s")
