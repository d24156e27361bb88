"""Types that Postgres does not take reach it byte by byte, once, and are framed all the same."""

from __future__ import annotations

from itertools import pairwise

import pytest
from core_fakes import World

from pgguard.events import ProtocolBroken
from pgguard.wire import backend, frontend
from pgguard.wire.scan import message

SOUND = frontend.query(b"select 1")
UNKNOWN = message(ord("I"), b"body")


@pytest.mark.parametrize("kind", [b"I", b"p", b"\0", b"\xff"])
def test_a_type_that_postgres_does_not_take_does_not_wait_for_its_length(kind: bytes) -> None:
    world = World()
    session, server = world.link()
    world.receive(session, SOUND + kind)
    assert world.outs[server].written == SOUND + kind
    fatal = backend.error_response(severity="FATAL", sqlstate="08P01", message="invalid type")
    world.receive(server, fatal)
    assert world.outs[session].written == fatal
    world.end()


@pytest.mark.parametrize("kind", [b"Q", b"d", b"X"])
def test_a_header_of_a_known_type_waits_until_it_is_whole(kind: bytes) -> None:
    world = World()
    session, server = world.link()
    world.receive(session, kind + b"\0\0\0")
    assert world.outs[server].written == b""
    world.end()


@pytest.mark.parametrize("unknown", [UNKNOWN, message(ord("I"))])
def test_however_it_is_cut_each_byte_goes_on_once_and_what_follows_is_framed(
    unknown: bytes,
) -> None:
    data = unknown + SOUND + unknown
    cuts = [
        (0, one, other, len(data)) for one in range(len(data)) for other in range(one, len(data))
    ]
    for places in [*cuts, tuple(range(len(data) + 1))]:
        world = World()
        session, server = world.link()
        for start, end in pairwise(places):
            if data[start:end]:
                world.receive(session, data[start:end])
        assert world.outs[server].written == data
        assert server.pipeline.due
        assert session.counters.unknown_messages == 2
        assert session.counters.received_bytes == len(data)
        world.end()


@pytest.mark.parametrize("cut", range(1, 5))
def test_a_header_that_was_passed_on_is_not_passed_on_again_with_the_end(cut: int) -> None:
    world = World()
    session, server = world.link()
    world.receive(session, UNKNOWN[:cut])
    world.eof(session)
    assert world.outs[server].written == UNKNOWN[:cut]
    assert world.outs[server].log[-1] == "EOF"
    world.end()


@pytest.mark.parametrize("cut", range(1, 5))
def test_an_impossible_length_of_an_unknown_type_ends_it_too(cut: int) -> None:
    world = World()
    session, server = world.link()
    head = b"I\0\0\0\3"
    world.receive(session, head[:cut])
    world.receive(session, head[cut:] + SOUND)
    assert world.outs[server].written == head
    assert world.outs[server].log[-1] == "EOF"
    assert any(isinstance(event, ProtocolBroken) for event in world.hub.events)
    world.end()


def test_behind_a_statement_that_is_held_back_it_waits_for_its_turn() -> None:
    world = World()
    session, server = world.link()
    world.hub.services = True
    drop = frontend.query(b"drop database x")
    world.receive(session, drop + UNKNOWN[:2])
    world.receive(session, UNKNOWN[2:])
    assert world.outs[server].written == b""
    world.hub.services_closed()
    assert world.outs[server].written == drop + UNKNOWN
    world.end()
