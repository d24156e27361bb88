"""Clients that are reset while nothing is read from them, because Postgres does not read."""

from __future__ import annotations

import pytest
from core_fakes import FakeOut, World

from pgguard.core.states import SessionState
from pgguard.wire import frontend


@pytest.mark.parametrize("paused", [True, False], ids=["unread", "read"])
def test_a_reset_is_looked_for_only_while_nothing_is_read(
    paused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World()
    session, server = world.link()
    world.receive(session, frontend.query(b"select pg_sleep(100)"))
    if paused:
        server.pause_writing()
        assert not world.outs[session].reading
    monkeypatch.setattr(FakeOut, "was_reset", lambda _: True)
    world.wait(1.0)
    assert (session.state is SessionState.CLOSED) == paused
    assert (("cancel", 1) in world.net.requests) == paused
    world.end()


def test_a_client_that_waits_in_order_is_left_alone() -> None:
    world = World()
    session, server = world.link()
    world.receive(session, frontend.query(b"select pg_sleep(100)"))
    server.pause_writing()
    world.wait(1.0)
    assert session.state is SessionState.LINKED
    server.resume_writing()
    assert world.outs[session].reading
    world.end()
