"""The hub itself, beside what the dialogues show: limits, reload, drain and the end."""

from __future__ import annotations

from dataclasses import replace

import pytest
from core_fakes import World, hub_settings
from notation import BACKEND, encode

from pgguard import events
from pgguard.core import hub as hubs
from pgguard.core.hub import FLUSH_WITHIN, shutting_down
from pgguard.core.states import SessionState
from pgguard.pool.limits import ClientLimits
from pgguard.tenancy.model import TenancySettings
from pgguard.wire import frontend


def test_events_are_bounded_and_the_rest_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hubs, "EVENTS_LIMIT", 3)
    world = World()
    for _ in range(5):
        world.hub.emit(events.UpstreamDown(0.0, "no"))
    assert len(world.hub.events) == 3
    assert world.hub.counters.events_dropped == 2


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        ({}, True),
        ({"client_min_messages": "notice"}, True),
        ({"client_min_messages": "WARNING"}, False),
        ({"client_min_messages": "error"}, False),
        ({"options": "-c client_min_messages=warning"}, False),
        ({"options": "--client-min-messages=panic"}, False),
        ({"options": "-c work_mem=1MB"}, True),
    ],
)
def test_a_notice_is_for_those_who_asked_for_notices(
    parameters: dict[str, str], told: bool
) -> None:
    world = World(connection_limit=1, notice_after=1)
    world.link()
    session = world.enter(**parameters)
    world.outs[session].take()
    world.wait(1.2)
    assert bool(world.outs[session].written) is told
    world.end()


def test_a_larger_cap_lets_waiters_in_and_drops_nobody() -> None:
    world = World(connection_limit=1, pool_timeout=60)
    first, _ = world.link()
    second = world.enter()
    admission = replace(world.hub.settings.admission, defaults=ClientLimits(2, 60.0))
    world.hub.reconfigure(replace(world.hub.settings, admission=admission))
    assert len(world.net.dialled) == 2
    assert (first.state, second.state) == (SessionState.LINKED, SessionState.WAITING)
    world.end()


def test_a_smaller_total_takes_nothing_away() -> None:
    world = World(total=6)
    for name in ("a.py", "b.py", "c.py"):
        world.link(application_name=name)
    world.hub.reconfigure(replace(world.hub.settings, total=2))
    assert (world.hub.admission.total, world.hub.admission.held) == (2, 3)
    world.end()


def test_new_tenancy_settings_reach_the_sessions_that_are_there() -> None:
    world = World()
    session, _ = world.link()
    old = session.judge
    tenancy = TenancySettings(columns=("org_id",))
    world.hub.reconfigure(replace(world.hub.settings, tenancy=tenancy))
    assert session.judge is world.hub.gate.judge("shop") is not old
    world.receive(session, frontend.query(b"select 1"))
    world.end()


def test_a_client_that_does_not_read_its_last_words_is_cut_off() -> None:
    world = World()
    session, server = world.link()
    out = world.outs[session]
    out.reported = True
    world.hub.end_session(session, "last words")
    assert session.state is SessionState.CLOSING
    out.closed = False
    world.wait(FLUSH_WITHIN - 0.5)
    assert "ABORT" not in out.log
    world.wait(1)
    assert "ABORT" in out.log
    session.lost(None)
    world.eof(server)
    world.end()


def test_draining_refuses_who_comes_and_stop_ends_who_runs() -> None:
    world = World()
    running, server = world.link()
    world.receive(running, frontend.query(b"select pg_sleep(60)"))
    world.hub.drain()
    late = world.enter()
    assert late.state is SessionState.CLOSED
    assert running.state is SessionState.LINKED
    world.hub.stop()
    world.settle()
    assert running.state is SessionState.CLOSED
    assert not world.hub.servers
    assert world.outs[server].closed
    world.end()


def test_stop_says_nothing_inside_a_half_sent_message() -> None:
    world = World()
    session, server = world.link()
    half = encode('DataRow "half of it"', BACKEND)[:12]
    world.receive(session, frontend.query(b"select 1"))
    world.receive(server, half)
    world.hub.drain()
    world.hub.stop()
    world.settle()
    assert world.outs[session].written == half
    world.end()


def test_a_dial_that_ends_after_the_stop_is_closed_again() -> None:
    world = World()
    session = world.enter()
    world.hub.drain()
    world.settle()
    assert session.state is SessionState.CLOSED
    out = world.connect(world.net.dialled[0])
    assert out.ended
    world.end()


def test_abort_cuts_everything() -> None:
    world = World()
    session, server = world.link()
    world.hub.abort()
    assert world.outs[session].closed
    assert world.outs[server].closed
    world.settle()
    world.end()


def test_a_session_that_is_lost_twice_is_lost_once() -> None:
    world = World()
    session, _ = world.link()
    world.reset(session)
    session.lost(None)
    closed = [event for event in world.hub.events if isinstance(event, events.SessionClosed)]
    assert len(closed) == 1
    world.end()


def test_waits_and_refusals_are_counted_for_the_client() -> None:
    world = World(connection_limit=1, pool_timeout=1, notice_after=None, max_waiting=1)
    world.link()
    world.enter()
    world.enter()
    world.wait(1.2)
    counters = world.hub.clients["a.py"].counters
    assert counters.refusals == {"max_waiting": 1, "cap": 1}
    assert (counters.sessions, counters.peak_sessions) == (3, 3)
    assert counters.waits == 1
    assert counters.waited == counters.waited_max == pytest.approx(1, abs=0.2)
    world.end()


def test_two_cancels_of_one_key_reach_one_server() -> None:
    world = World()
    session, server = world.link()
    assert world.hub.cancel_request(server.pid, session.secret_key) is None
    world.receive(session, frontend.query(b"select 1"))
    assert world.hub.cancel_request(server.pid, session.secret_key) is server
    assert world.hub.cancel_request(server.pid, b"nope") is None
    assert world.hub.cancel_request(server.pid + 1, session.secret_key) is None
    assert world.hub.counters.cancels == 1
    world.reset(session)
    assert world.hub.cancel_request(server.pid, session.secret_key) is None
    world.end()


def test_the_shutdown_has_the_words_of_postgres() -> None:
    refusal = shutting_down()
    assert refusal.sqlstate == "57P01"
    assert refusal.message == "terminating connection due to administrator command"


def test_settings_have_their_defaults() -> None:
    assert (hub_settings().trust, hub_settings().login_timeout, hub_settings().total) == (
        False,
        60.0,
        None,
    )
