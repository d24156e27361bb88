"""Texts in pieces: what is kept of them, and that nobody can make it much."""

from __future__ import annotations

import pytest
from core_fakes import World

from pgguard.core import gathering
from pgguard.wire import frontend

LARGE = 100_000


def in_pieces(world: World, whom: object, message: bytes, size: int = 7_000) -> None:
    for at in range(0, len(message), size):
        world.receive(whom, message[at : at + size])  # type: ignore[arg-type]


def test_a_text_in_pieces_is_the_text() -> None:
    world = World()
    client, _ = world.link()
    text = b"select '" + b"x" * LARGE + b"'"
    in_pieces(world, client, frontend.query(text))
    assert client.last is not None
    assert client.last.text == text
    in_pieces(world, client, frontend.parse_message(b"s", text + b" as y"))
    assert client.prepared is not None
    assert client.prepared[b"s"].text == text + b" as y"
    assert client.gather is None
    assert world.hub.gate.gathered == 0
    world.end()


@pytest.mark.parametrize("end", ["reset", "eof", "violation"])
def test_a_text_that_never_ends_gives_its_room_back(end: str) -> None:
    world = World()
    client, server = world.link()
    world.receive(client, frontend.query(b"select '" + b"x" * LARGE)[:-20])
    assert world.hub.gate.gathered == LARGE + 8
    if end == "violation":
        world.receive(client, b"x" * 20 + b"Q\0\0\0\0")
    else:
        getattr(world, end)(client)
    world.eof(server)
    assert world.hub.gate.gathered == 0
    world.end()


def test_beyond_the_limit_texts_stream_through_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "LIMIT", LARGE + 100)
    world = World()
    first, _ = world.link()
    second, server = world.link()
    message = frontend.query(b"select '" + b"x" * LARGE + b"'")
    world.receive(first, message[:50_000])
    in_pieces(world, second, message)
    assert b"".join(world.outs[server].log) == message
    assert second.last is not None
    assert len(second.last.text) < 10_000
    assert second.last.facts is not None
    assert second.last.facts.unread == "too many large texts came at once"
    assert world.hub.gate.gathered == LARGE + 9
    world.receive(first, message[50_000:])
    world.receive(second, b"")
    in_pieces(world, second, message)
    assert second.last.text == message[5:-1]
    world.end()
