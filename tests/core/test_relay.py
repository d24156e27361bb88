"""Logins that Postgres conducts; their dialogues are transcripts (login_relayed*)."""

from __future__ import annotations

import gc

import pytest
from core_fakes import FakeOut, World

from pgguard.core.login import Method
from pgguard.core.relay import SENT_AHEAD, not_relayed
from pgguard.core.states import SessionState
from pgguard.wire import backend, codes, frontend


def asked(world: World) -> tuple[object, object]:
    """A session that Postgres has asked for its password, and its server."""
    session = world.enter(user="eve")
    (server,) = world.hub.servers
    world.greet(server)
    world.receive(server, backend.authentication_cleartext())
    assert session.state is SessionState.RELAYED
    return session, server


def test_a_password_is_passed_on_and_kept_nowhere() -> None:
    world = World(method=Method.CLEARTEXT)
    session, server = asked(world)
    world.receive(session, frontend.password(b"hush-hush"))
    assert frontend.password(b"hush-hush") in world.outs[server].take()
    known = [thing for thing in gc.get_objects() if isinstance(thing, (bytes, bytearray))]
    assert not any(b"hush-hush" in thing for thing in known)
    assert session.relay.rest == b""
    world.end()


def test_what_is_sent_ahead_is_bounded() -> None:
    world = World(method=Method.CLEARTEXT)
    session = world.enter(user="eve")
    world.receive(session, b"p" + bytes(SENT_AHEAD + 1))
    assert b"too many bytes before the end of the login" in world.outs[session].written
    world.end()


def test_a_statement_sent_ahead_runs_once_postgres_has_let_the_client_in() -> None:
    world = World(method=Method.CLEARTEXT)
    session, server = asked(world)
    world.receive(session, frontend.password(b"secret") + frontend.query(b"select 1"))
    ending = backend.backend_key_data(7, b"real") + backend.ready_for_query(b"I")
    world.receive(server, backend.authentication_ok() + ending)
    assert world.outs[server].written.endswith(frontend.query(b"select 1"))
    world.end()


@pytest.mark.parametrize(
    "said",
    [
        backend.ready_for_query(b"I"),
        backend.parameter_status("a", "b"),
        backend.backend_key_data(1, b"abcd"),
        backend.message(codes.AUTHENTICATION, b"\0"),
        b"R\0\0\0\0",
        b"R\x7f\xff\xff\xff",
    ],
)
def test_a_server_that_breaks_the_login_ends_it(said: bytes) -> None:
    world = World(method=Method.CLEARTEXT)
    session = world.enter(user="eve")
    (server,) = world.hub.servers
    out = world.greet(server)
    world.receive(server, said)
    assert out.closed
    assert not world.hub.servers
    assert session.state in (SessionState.CLOSED, SessionState.WAITING)
    world.end()


def test_a_server_lost_in_the_middle_ends_the_session_and_gives_its_slot_back() -> None:
    world = World(method=Method.CLEARTEXT)
    session, server = asked(world)
    world.reset(server)
    assert b"Postgres closed the connection during login" in world.outs[session].written
    assert world.hub.admission.held == 0
    world.end()


def test_a_session_that_is_gone_before_its_dial_is_done() -> None:
    world = World(method=Method.CLEARTEXT)
    session = world.enter(user="eve")
    (server,) = world.hub.servers
    relay = session.relay
    world.eof(session)
    out = world.outs[server] = FakeOut()
    world.relays[server] = relay
    relay.connected(server, out)
    assert out.log == ["EOF"]
    world.eof(server)
    assert world.hub.admission.held == 0
    world.end()


def test_what_cannot_be_relayed_says_why() -> None:
    error = not_relayed("eve")
    assert error.fields["C"] == "28000"
    assert "channel_binding=require" in error.fields["H"]
