"""What becomes of what a client has asked for when it leaves, where servers are shared."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from notation import FRONTEND, encode
from shared import Shared

from pgguard.core.states import SessionState
from pgguard.errors import ServerUnavailable

if TYPE_CHECKING:
    from pgguard.core.shared_session import SharedSession

SELECT = 'Query "SELECT 1"'
ENDED = (SessionState.CLOSING, SessionState.CLOSED)


def idle(shared: Shared):
    """A session that has no server, and the one that has."""
    other = shared.session()
    session = shared.session()
    assert session.state is SessionState.IDLE
    return session, other


def dialling() -> tuple[Shared, SharedSession]:
    """A session for whose statement a server is being connected."""
    shared = Shared()
    session, other = idle(shared)
    shared.says(other, 'Query "BEGIN"')
    shared.says(session, SELECT)
    assert session.state is SessionState.WAITING
    return shared, session


def leave(shared: Shared, session: SharedSession, how: str) -> bool:
    """Returns whether the session is still there."""
    if how == "EOF":
        return session.eof()
    shared.says(session, how)
    return session.state not in ENDED


@pytest.mark.parametrize("how", ["Terminate", "EOF"])
def test_what_was_asked_before_leaving_is_executed_by_the_server_that_is_on_the_way(
    how: str,
) -> None:
    shared, session = dialling()
    assert leave(shared, session, how)
    server = shared.connect()
    assert shared.heard(server) == [SELECT, *(["Terminate"] if how == "Terminate" else [])]
    if how == "EOF":
        shared.done(server)
        assert shared.heard(session)[-1] == "ReadyForQuery I"
    assert session.state in ENDED
    shared.world.end()


def test_nothing_is_left_of_who_leaves_within_a_message_for_which_a_server_is_on_the_way() -> None:
    shared = Shared()
    session, other = idle(shared)
    shared.says(other, 'Query "BEGIN"')
    shared.world.receive(session, encode(SELECT, FRONTEND)[:-2])
    assert session.eof()
    server = shared.connect()
    assert shared.heard(server) == []
    assert session.state in ENDED
    shared.world.end()


@pytest.mark.parametrize("how", ["Terminate", "EOF"])
def test_who_leaves_the_queue_or_asks_a_postgres_that_is_away_has_asked_for_nothing(
    how: str,
) -> None:
    shared, session = dialling()
    assert leave(shared, session, how)
    (server,) = (s for s in shared.hub.servers if s not in shared.world.outs)
    shared.hub.upstream.dial_failed(server, ServerUnavailable("away", temporary=True))
    assert session.state in ENDED
    assert not shared.hub.upstream.redials

    queued = Shared(connection_limit=1)
    session, other = idle(queued)
    queued.says(other, 'Query "BEGIN"')
    queued.says(session, SELECT)
    assert not leave(queued, session, how)
    assert session.state in ENDED
    assert not session.client.share.queue
    for world in (shared.world, queued.world):
        world.end()


@pytest.mark.parametrize("early", [True, False])
def test_a_server_that_waits_for_the_data_of_a_copy_hears_that_nobody_sends_it(early: bool) -> None:
    shared = Shared()
    session = shared.session()
    server = session.shared
    shared.says(session, 'Query "COPY t FROM STDIN"')
    if early:
        assert session.eof()
    shared.says(server, "CopyInResponse 0")
    if not early:
        assert session.eof()
    assert shared.world.outs[server].ended
    shared.world.end()


def test_a_walsender_hears_that_nobody_listens_and_is_nobody_elses() -> None:
    shared = Shared()
    session = shared.session(replication="database")
    server = session.shared
    assert session.pins
    shared.says(session, 'Query "START_REPLICATION SLOT s LOGICAL 0/0"')
    shared.says(server, "CopyBothResponse 0")
    assert session.eof()
    assert shared.world.outs[server].ended
    shared.world.end()
