"""The life of servers, beside what the dialogues show."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from core_fakes import World

from pgguard import events
from pgguard.core.login import Method
from pgguard.core.methods import METHOD_LIFETIME
from pgguard.core.states import SessionState
from pgguard.core.upstream import CLOSE_WITHIN, LOWERED_FOR
from pgguard.errors import ServerUnavailable
from pgguard.pool.servers import ServerState
from pgguard.wire import backend, codes, frontend

if TYPE_CHECKING:
    from pgguard.core.server import Server

FULL = ServerUnavailable("too many", fields={"C": "53300", "M": "too many", "S": "FATAL"})
DOWN = ServerUnavailable("connection refused")


def happened(world: World, kind: type[events.Event]) -> list[events.Event]:
    return [event for event in world.hub.events if isinstance(event, kind)]


def test_the_method_of_a_user_is_asked_for_once_for_all_who_wait() -> None:
    world = World(method=None)
    first, second = world.enter(), world.enter()
    assert world.net.asked("probe") == [("probe", "app", "shop")]
    world.hub.upstream.probed("app", "shop", Method.TRUST)
    assert {first.state, second.state} == {SessionState.WAITING}
    world.enter()
    assert len(world.net.asked("probe")) == 1


@pytest.mark.parametrize("secrets", [{}, {"app": "secret"}], ids=["unknown", "known"])
@pytest.mark.parametrize("method", [Method.TRUST, Method.SCRAM])
def test_how_postgres_receives_a_user_is_looked_at_again_after_a_while_whoever_it_is(
    method: Method, secrets: dict[str, str]
) -> None:
    world = World(method=method, secrets=secrets, max_waiting=5)
    world.enter()
    world.enter()
    assert len(world.net.asked("probe")) == 1
    world.wait(METHOD_LIFETIME + 0.1)
    world.enter()
    assert len(world.net.asked("probe")) == 2
    world.end()


@pytest.mark.parametrize("pool_timeout", [1.0, 3.0])
def test_who_comes_while_postgres_is_down_is_held_for_pool_timeout(pool_timeout: float) -> None:
    world = World(method=None, pool_timeout=pool_timeout)
    session = world.enter()
    waited = 0.0
    while session.state is SessionState.LOGIN:
        world.hub.upstream.probe_failed("app", "shop", DOWN)
        world.wait(0.3)
        waited += 0.3
        assert waited < pool_timeout + 1
    assert waited > pool_timeout - 0.01
    assert b"pgguard: Postgres is not ready: connection refused" in world.outs[session].written
    world.end()


def test_postgres_that_goes_and_comes_is_told_once_each() -> None:
    world = World(method=None, pool_timeout=60)
    world.enter()
    world.hub.upstream.is_up("16.1")
    world.hub.upstream.is_up("16.1")
    for _ in range(3):
        world.hub.upstream.probe_failed("app", "shop", DOWN)
        world.wait(0.3)
    assert (len(happened(world, events.UpstreamUp)), world.hub.upstream.version) == (1, "16.1")
    assert len(happened(world, events.UpstreamDown)) == 1
    assert world.hub.upstream.last_error == "connection refused"
    world.hub.upstream.probed("app", "shop", Method.TRUST)
    assert len(happened(world, events.UpstreamUp)) == 2


def test_an_error_of_the_login_is_no_sign_that_postgres_is_down() -> None:
    world = World()
    world.hub.upstream.is_up("")
    world.hub.upstream.is_down(ServerUnavailable("no", fields={"C": "28P01"}, temporary=False))
    assert world.hub.counters.upstream_up


def test_a_server_that_does_not_close_is_reported_once_and_keeps_its_slot() -> None:
    world = World()
    session, server = world.link()
    world.reset(session)
    assert server.state is ServerState.CLOSING
    world.wait(CLOSE_WITHIN + 1)
    assert len(happened(world, events.ServerLingers)) == 1
    assert world.hub.admission.held == 1
    world.wait(60)
    assert len(happened(world, events.ServerLingers)) == 1
    assert not happened(world, events.ServerClosed)
    world.end()


def test_several_53300_lower_the_total_to_what_is_held_and_it_comes_back() -> None:
    world = World(total=10, pool_timeout=60, connection_limit=2, notice_after=None)
    world.link(application_name="a.py")
    world.link(application_name="b.py")
    waiting = [world.enter(application_name=f"{name}.py") for name in "cde"]
    for server in world.net.dialled[2:]:
        world.hub.upstream.dial_failed(server, FULL)
    assert world.hub.admission.total == 2
    assert {session.state for session in waiting} == {SessionState.WAITING}
    assert len(world.net.dialled) == 5
    world.wait(LOWERED_FOR + 0.2)
    assert world.hub.admission.total == 10
    assert len(world.net.dialled) == 8
    world.end()


def test_a_total_that_is_read_anew_does_not_undo_what_53300_has_lowered() -> None:
    world = World(total=10, pool_timeout=60)
    world.link()
    world.enter(application_name="b.py")
    world.hub.upstream.dial_failed(world.net.dialled[1], FULL)
    world.hub.upstream.set_total(8)
    assert world.hub.admission.total == 1
    world.wait(LOWERED_FOR + 0.2)
    assert world.hub.admission.total == 8
    world.end()


def test_a_client_that_leaves_between_two_tries_gives_its_slot_back() -> None:
    world = World(pool_timeout=60)
    session = world.enter()
    world.hub.upstream.dial_failed(world.net.dialled[0], DOWN)
    assert world.hub.admission.held == 1
    world.reset(session)
    world.wait(0.3)
    assert world.hub.admission.held == 0
    assert len(world.net.dialled) == 1
    world.end()


def test_errors_of_postgres_are_passed_on_with_every_field_and_byte() -> None:
    world = World()
    session = world.enter()
    world.outs[session].take()
    fields = {"S": "FATAL", "V": "FATAL", "C": "28000", "M": "caf\udce9 \u20ac", "q": "?"}
    error = ServerUnavailable("no", fields=fields, temporary=False)
    world.hub.upstream.dial_failed(world.net.dialled[0], error)
    sent = world.outs[session].written
    assert sent[5:] == b"SFATAL\0VFATAL\0C28000\0Mcaf\xe9 \xe2\x82\xac\0q?\0\0"


def test_a_cancel_is_asked_for_once_while_it_is_on_its_way() -> None:
    world = World()
    session, server = world.link()
    world.receive(session, frontend.query(b"select pg_sleep(60)"))
    world.hub.upstream.cancel(server)
    world.hub.upstream.cancel(server)
    assert len(world.net.asked("cancel")) == 1


def test_a_half_read_answer_is_read_on_when_its_session_ends() -> None:
    world = World()
    session, server = world.link()
    session.pause_writing()
    assert not world.outs[server].reading
    world.reset(session)
    assert world.outs[server].reading
    world.end()


def test_a_lower_total_counts_also_while_53300_has_lowered_it() -> None:
    world = World(total=10, pool_timeout=60, connection_limit=9, notice_after=None)
    for _ in range(5):
        world.link()
    world.enter()
    world.hub.upstream.dial_failed(world.net.dialled[5], FULL)
    assert world.hub.admission.total == 5
    world.hub.upstream.set_total(3)
    assert world.hub.admission.total == 3
    world.end()


def test_beside_another_guard_53300_is_waited_out_and_then_said_in_our_words() -> None:
    world = World(total=10, pool_timeout=1, total_timeout=2)
    world.hub.admission.neighbours = ["another pgguard at h:1 (pid 2) holds 9 of 9"]
    session = world.enter()
    for tried in range(1, 100):
        assert len(world.net.dialled) == tried
        world.hub.upstream.dial_failed(world.net.dialled[-1], FULL)
        if session.state is not SessionState.WAITING:
            break
        world.wait(0.3)
    assert tried > 5
    told = world.outs[session].written
    assert b"pgguard: Postgres has no connection left for client " in told
    assert b"another pgguard at h:1 (pid 2) holds 9 of 9" in told
    assert b"too many" not in told
    assert world.hub.admission.held == 0
    assert not any(event.passed_on for event in happened(world, events.ServerRefused))


def test_alone_53300_is_passed_on_as_it_came() -> None:
    world = World(total=10)
    session = world.enter()
    world.hub.upstream.dial_failed(world.net.dialled[0], FULL)
    assert b"Mtoo many\0" in world.outs[session].written


# A Postgres that is away


def connecting(world: World) -> list[Server]:
    return [s for s in world.net.dialled if s.state is ServerState.CONNECTING]


def away(world: World, clients: int) -> None:
    """So many sessions, each of a client of its own, whose first dials have failed."""
    for number in range(clients):
        world.enter(application_name=f"{number}.py")
    for server in connecting(world):
        world.hub.upstream.dial_failed(server, DOWN)
    world.net.dialled.clear()


def test_few_run_into_a_postgres_that_is_away() -> None:
    world = World(pool_timeout=60)
    away(world, 40)
    for _ in range(100):
        world.wait(0.1)
        for server in connecting(world):
            world.hub.upstream.dial_failed(server, DOWN)
    assert 8 <= len(world.net.dialled) <= 13
    world.end()


def test_who_comes_later_waits_with_the_others() -> None:
    world = World(pool_timeout=60)
    away(world, 2)
    session = world.enter(application_name="late.py")
    # That Postgres tells how it receives a user is an answer; then it is away again.
    for server in connecting(world):
        world.hub.upstream.dial_failed(server, DOWN)
    assert session.state is SessionState.WAITING
    assert len(world.hub.upstream.redials) == 3
    world.end()


def test_all_are_served_in_no_time_once_it_is_back_and_never_too_many_at_once() -> None:
    world = World(pool_timeout=60)
    away(world, 40)
    most = 0
    world.wait(0.3)
    while trying := connecting(world):
        most = max(most, len(trying))
        world.connect(trying[0])
    assert len(world.net.dialled) == 40
    assert most <= 16
    assert all(session.state is SessionState.LINKED for session in world.hub.sessions)
    world.end()


def test_an_answer_that_is_a_refusal_lets_others_try_too() -> None:
    world = World(pool_timeout=60)
    away(world, 5)
    world.wait(0.3)
    refused = ServerUnavailable("no", fields={"C": "28000", "M": "no"}, temporary=False)
    world.hub.upstream.dial_failed(world.net.dialled[0], refused)
    assert len(world.net.dialled) == 3
    world.end()


def test_each_is_told_the_cause_when_its_own_time_is_over() -> None:
    world = World(pool_timeout=2, connection_limit=1)
    holder, queued = world.enter(), world.enter()
    world.hub.upstream.dial_failed(world.net.dialled[0], DOWN)
    for _ in range(25):
        world.wait(0.1)
        for server in connecting(world):
            world.hub.upstream.dial_failed(server, DOWN)
    for session in (holder, queued):
        written = world.outs[session].written
        assert b"C57P03\0Mpgguard: Postgres is not ready: connection refused\0" in written
    assert world.hub.admission.held == 0
    assert not world.hub.upstream.redials
    world.end()


def test_who_leaves_while_postgres_is_away_takes_no_slot_along() -> None:
    world = World(pool_timeout=60)
    away(world, 3)
    for session in list(world.hub.sessions):
        world.reset(session)
    world.wait(0.2)
    assert world.hub.admission.held == 0
    world.end()


# The last word


def test_nothing_comes_behind_a_fatal_and_its_slot_is_held_until_the_end() -> None:
    world = World()
    session, server = world.link()
    fatal = backend.error_response(severity="FATAL", sqlstate="57P01", message="over")
    more = backend.ready_for_query(b"I") + fatal
    world.receive(session, frontend.query(b"SELECT 1"))
    world.receive(server, fatal + more)
    world.receive(server, more)
    assert world.outs[session].take() == fatal
    assert world.outs[session].closed
    assert world.net.asked("cancel") == []
    assert world.hub.admission.held == 1
    world.eof(server)
    assert world.hub.admission.held == 0


@pytest.mark.parametrize("body", [b"", b"SERROR\0", b"\0", b"C"])
def test_an_error_without_its_fields_is_passed_on_and_counts_as_one(body: bytes) -> None:
    world = World()
    session, server = world.link()
    world.receive(session, frontend.parse_message(b"", b"x") + frontend.sync())
    error = backend.message(codes.ERROR_RESPONSE, body)
    world.receive(server, error)
    assert world.outs[session].take() == error
    assert server.pipeline.skipping
    world.receive(server, backend.ready_for_query(b"I"))
    assert server.due == 0
    world.end()
