"""How a session comes in, beside what the dialogues show."""

from __future__ import annotations

import os

import pytest
from core_fakes import World
from notation import BACKEND, decode

from pgguard.core.entry import BUFFER_LIMIT
from pgguard.core.login import Method
from pgguard.core.states import SessionState
from pgguard.core.types import LOCAL, Peer
from pgguard.pool.identity import ProcessInfo
from pgguard.wire import frontend, startup
from pgguard.wire.codes import GSSENC_REQUEST, PROTOCOL_3_0, PROTOCOL_3_2, SSL_REQUEST

WITH_PROCESS = ("application_name", "process", "address")


def said(world: World, session: object) -> str:
    return decode(world.outs[session].take(), BACKEND)  # type: ignore[index]


@pytest.mark.parametrize(
    ("packet", "words"),
    [
        (startup.build_request(SSL_REQUEST), '0A000 "unsupported frontend protocol 1234.'),
        (startup.build_request(GSSENC_REQUEST), '0A000 "unsupported frontend protocol 1234.'),
        (startup.build_cancel(7, b"abcd"), '0A000 "unsupported frontend protocol 1234.'),
        (b"\0\0\0\x0a\0\3\0\0xx", "invalid startup packet layout"),
    ],
)
def test_what_is_no_startup_packet_ends_the_session(packet: bytes, words: str) -> None:
    world = World()
    session = world.open()
    world.receive(session, packet)
    assert session.state is SessionState.CLOSED
    assert words in said(world, session)
    assert not world.net.requests
    world.end()


@pytest.mark.parametrize("packet", [b"\0\0\0\x07", b"\0\3\0\0", bytes(8)])
def test_what_has_no_length_of_a_packet_ends_the_session_without_a_word(packet: bytes) -> None:
    world = World()
    session = world.open()
    world.receive(session, packet)
    assert session.state is SessionState.CLOSED
    assert world.outs[session].log == ["CLOSE"]
    world.end()


def test_names_are_cut_as_the_server_cuts_them() -> None:
    world = World()
    session = world.enter(user="é" * 40, database="d" * 70)
    assert session.user == "é" * 31 + "\udcc3"
    assert session.database == "d" * 63
    assert world.net.asked("dial")[0][2]["user"] == session.user
    world.end()


@pytest.mark.parametrize(("protocol", "size"), [(PROTOCOL_3_0, 4), (PROTOCOL_3_2, 32)])
def test_the_secret_has_the_length_of_the_protocol_that_is_spoken(protocol: int, size: int) -> None:
    world = World()
    session = world.open()
    world.receive(session, startup.build_startup(protocol, {"user": "app"}))
    assert len(session.secret_key) == size
    assert session.database == "app"


def test_bytes_sent_ahead_are_bounded() -> None:
    world = World(method=None)
    session = world.enter()
    world.receive(session, frontend.copy_data(bytes(BUFFER_LIMIT - 5)))
    assert session.state is SessionState.LOGIN
    world.receive(session, b"x")
    assert "too many bytes" in said(world, session)
    assert session.state is SessionState.CLOSED
    world.end()


def test_a_nameless_session_waits_for_its_process_and_loses_no_byte() -> None:
    world = World(identify=WITH_PROCESS)
    session = world.enter(application_name="psql")
    world.receive(session, frontend.query(b"select 1"))
    assert not world.net.asked("probe")
    ((_, who),) = world.net.asked("identify")
    assert who is session
    session.process = ProcessInfo(42, "pytest")
    world.hub.identified(session)
    world.settle()
    assert session.client.key == "pytest"
    assert session.held == frontend.query(b"select 1")
    world.end()


def test_a_session_with_a_name_of_its_own_does_not_wait_for_its_process() -> None:
    world = World(identify=WITH_PROCESS)
    session = world.enter(application_name="a.py")
    assert session.state is SessionState.WAITING
    session.process = ProcessInfo(42, "pytest")
    world.hub.identified(session)
    assert session.client.key == "a.py"
    world.end()


def test_a_process_that_is_found_after_the_client_has_left_changes_nothing() -> None:
    world = World(identify=WITH_PROCESS)
    session = world.enter(application_name="psql")
    world.reset(session)
    world.hub.identified(session)
    world.settle()
    assert session.state is SessionState.CLOSED
    assert not world.net.asked("probe")
    world.end()


def test_a_method_that_is_learned_after_the_client_has_left_changes_nothing() -> None:
    world = World(method=None)
    session = world.enter()
    world.eof(session)
    world.hub.upstream.probed("app", "shop", Method.TRUST)
    world.settle()
    assert session.state is SessionState.CLOSED
    assert not world.net.dialled
    world.end()


def test_a_parameter_that_comes_twice_counts_as_the_server_reads_it() -> None:
    world = World()
    session = world.open()
    body = b"\0\3\0\0user\0eve\0user\0app\0database\0shop\0\0"
    world.receive(session, (len(body) + 4).to_bytes(4, "big") + body)
    assert session.user == "app"
    assert world.net.asked("dial")[0][2] == {"user": "app", "database": "shop"}


@pytest.mark.parametrize(("other", "enters"), [(0, True), (1, False)])
def test_trust_over_a_unix_socket_lets_in_our_own_user_only(other: int, enters: bool) -> None:
    world = World()
    peer = Peer(pid=42, uid=os.geteuid() + other)
    session = world.enter(address=LOCAL, peer=peer, user="eve")
    assert (session.peer_pid, session.peer_uid) == peer
    assert (session.state is SessionState.WAITING) is enters
    assert ("28000" in said(world, session)) is not enters
    world.end()


@pytest.mark.parametrize(
    ("method", "enters"), [(Method.TRUST, True), (Method.PEER, False), (Method.CERT, False)]
)
def test_the_loopback_is_no_proof_where_postgres_takes_us_for_what_we_are(
    method: Method, enters: bool
) -> None:
    world = World(method=method)
    session = world.enter(user="eve")
    assert (session.state is SessionState.WAITING) is enters
    assert ("28000" in said(world, session)) is not enters
    world.end()


def test_the_client_of_a_unix_socket_is_its_process() -> None:
    world = World(identify=WITH_PROCESS)
    session = world.enter(address=LOCAL, peer=Peer(42, os.geteuid()), application_name="psql")
    ((_, who),) = world.net.asked("identify")
    assert who is session
    session.process = ProcessInfo(42, "pytest")
    world.hub.identified(session)
    world.settle()
    assert session.client.key == "pytest"
    world.end()


def test_the_client_of_a_unix_socket_without_any_name_is_local() -> None:
    world = World()
    peer = Peer(42, os.geteuid())
    session = world.enter(address=LOCAL, peer=peer, application_name="psql")
    world.settle()
    assert session.client.key == "local"
    world.end()
