"""Cancels of what a session has asked for while it waits for something else than its server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core_fakes import World
from doubting import KNOWN
from notation import FRONTEND, encode
from shared import Shared

from pgguard.core.states import SessionState
from pgguard.tenancy.policy import Action, PolicySettings

if TYPE_CHECKING:
    from pgguard.core.shared_session import SharedSession

DROP = 'Query "DROP DATABASE old"'
SLEEP = 'Query "SELECT pg_sleep(9)"'
FAILED = 'ErrorResponse S="ERROR" V="ERROR" C="57014" M="canceled"'


def cancels(shared: Shared, session: SharedSession) -> bool:
    """Whether it goes to Postgres at once."""
    return shared.hub.cancel_request(session.pid, session.secret_key) is not None


def sent(shared: Shared) -> int:
    return len(shared.world.net.asked("cancel"))


def two(shared: Shared) -> SharedSession:
    """A session with a server, beside a server that nobody has."""
    first = shared.session()
    second = shared.session()
    shared.says(first, 'Query "BEGIN"')
    shared.done(first.shared, "BEGIN", "T")
    shared.says(second, 'Query "SELECT 1"')
    shared.done(shared.connect())
    shared.says(first, 'Query "COMMIT"')
    shared.done(first.shared, "COMMIT")
    shared.says(second, "Terminate")
    return first


def test_a_statement_that_waits_until_nobody_is_in_its_way_is_cancelled_when_it_is_sent() -> None:
    shared = Shared()
    session = two(shared)
    server = session.shared
    (spare,) = shared.hub.servers - {server}
    shared.heard(server)
    shared.says(session, DROP)
    assert shared.heard(server) == []
    assert not cancels(shared, session)
    assert not sent(shared)
    shared.world.eof(spare)
    shared.world.reset(spare)
    assert shared.heard(server) == [DROP]
    assert sent(shared) == 1
    shared.says(server, FAILED, "ReadyForQuery I")
    assert not server.cancel_later
    shared.world.end()


def test_what_runs_in_front_of_it_is_what_is_cancelled() -> None:
    shared = Shared()
    session = two(shared)
    server = session.shared
    shared.says(session, SLEEP)
    shared.says(session, DROP)
    assert session.held_back
    assert cancels(shared, session)
    assert not server.cancel_later
    shared.world.end()


def test_a_statement_whose_verdict_is_awaited_is_cancelled_when_it_is_sent() -> None:
    shared = Shared()
    shared.hub.gate.policy.reconfigure(PolicySettings(mode=Action.block))
    session = shared.session()
    server = session.shared
    shared.says(session, SLEEP)
    assert session.waits
    assert shared.heard(server) == []
    assert not cancels(shared, session)
    shared.hub.gate.catalogue_read("shop", KNOWN)
    shared.hub.gate.give_up_waiting("shop", shared.hub.clock())
    assert shared.heard(server) == [SLEEP]
    assert sent(shared) == 1
    shared.says(server, FAILED, "ReadyForQuery I")
    shared.says(session, SLEEP)
    assert sent(shared) == 1, "the next one is not meant"
    shared.world.end()


def test_one_whose_server_could_not_be_made_its_own_is_cancelled_on_its_way_to_another() -> None:
    shared = Shared(connection_limit=1)
    first, session = shared.session(), shared.session()
    session.tracked.set("lock_timeout", b"SET lock_timeout = 1")
    shared.says(first, 'Query "SELECT 1"')
    shared.done(first.shared)
    shared.says(session, SLEEP)
    server = session.shared
    assert not cancels(shared, session)
    shared.heard(session)
    shared.says(server, FAILED, "ReadyForQuery I")
    assert session.state is SessionState.IDLE
    error, ready = shared.heard(session)
    assert error.startswith("ErrorResponse ERROR 57014")
    assert ready == "ReadyForQuery I"
    shared.world.end()


def own(world: World, *lines: str) -> tuple[int, bool]:
    """A session with a server of its own sends them, then a cancel: how many cancels have been
    sent now, and whether this one goes to Postgres at once."""
    session, server = world.link()
    world.receive(session, b"".join(encode(line, FRONTEND) for line in lines))
    direct = world.hub.cancel_request(server.pid, session.secret_key) is not None
    return len(world.net.asked("cancel")), direct


def test_with_a_server_of_its_own_what_is_held_is_cancelled_when_it_is_sent() -> None:
    world = World()
    world.hub.services = True
    assert own(world, DROP) == (0, False)
    world.hub.services_closed()
    assert len(world.net.asked("cancel")) == 1
    (server,) = world.hub.servers
    assert not server.cancel_later
    assert world.outs[server].written.startswith(encode(DROP, FRONTEND))
    world.end()


def test_with_a_server_of_its_own_the_verdict_may_be_what_it_waits_for() -> None:
    world = World()
    world.hub.gate.policy.reconfigure(PolicySettings(mode=Action.block))
    assert own(world, SLEEP) == (0, False)
    world.hub.services = True
    world.hub.gate.catalogue_read("shop", KNOWN)
    world.hub.gate.give_up_waiting("shop", world.hub.clock())
    assert len(world.net.asked("cancel")) == 1
    world.end()


def test_what_is_held_twice_is_cancelled_once_it_is_sent() -> None:
    world = World()
    world.hub.gate.policy.reconfigure(PolicySettings(mode=Action.block))
    assert own(world, DROP) == (0, False)
    world.hub.services = True
    world.hub.gate.catalogue_read("shop", KNOWN)
    world.hub.gate.give_up_waiting("shop", world.hub.clock())
    assert not world.net.asked("cancel")
    world.hub.services_closed()
    assert len(world.net.asked("cancel")) == 1
    world.end()


def test_with_a_server_of_its_own_what_runs_in_front_is_what_is_cancelled() -> None:
    world = World()
    world.hub.services = True
    session, server = world.link()
    world.receive(session, encode(SLEEP, FRONTEND))
    world.receive(session, encode(DROP, FRONTEND))
    assert session.held_back
    assert world.hub.cancel_request(server.pid, session.secret_key) is server
    assert not server.cancel_later
    world.end()
