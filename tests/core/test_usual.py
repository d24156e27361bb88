"""The usual chunks of sessions that share servers go as they came; all others are looked into."""

from __future__ import annotations

import pytest
from shared import Shared

from pgguard.core import usual
from pgguard.tenancy.model import Catalogue
from pgguard.wire.codes import PORTAL
from pgguard.wire.frontend import (
    bind_message,
    describe_message,
    execute_message,
    parse_message,
    query,
    sync,
)

END = describe_message(PORTAL, b"") + execute_message(b"") + sync()
TEXT = b"SELECT $1"


def batch(value: bytes, *, name: bytes = b"", portal: bytes = b"", text: bytes = TEXT) -> bytes:
    return parse_message(name, text) + bind_message(portal, name, [value]) + END


def linked(seen: int):
    """A session with a server; its batch has been judged, and was sent so many times."""
    shared = Shared()
    session = shared.session()
    shared.world.hub.gate.catalogue_read("shop", Catalogue(database="shop"))
    server = session.shared
    for text in (TEXT, b"SELECT 1"):
        shared.world.receive(session, parse_message(b"", text) + sync())
        shared.says(server, "ParseComplete", "ReadyForQuery I")
        shared.world.receive(session, parse_message(b"", text) + bind_message(b"", b"", []) + END)
        shared.says(server, "ParseComplete", "BindComplete", "NoData")
        shared.says(server, 'CommandComplete "SELECT 1"', "ReadyForQuery I")
    for number in range(seen):
        assert usual.send(session, server, batch(b"%d" % number))
        shared.says(server, "ParseComplete", "BindComplete", "NoData")
        shared.says(server, 'CommandComplete "SELECT 1"', "ReadyForQuery I")
    shared.world.outs[server].take()
    return shared, session, server


@pytest.mark.parametrize("seen", [0, 1, 2, 3])
@pytest.mark.parametrize("data", [query(b"SELECT 1"), batch(b"x"), batch(b"%" * 300), batch(END)])
def test_a_usual_chunk_is_written_as_it_came(seen: int, data: bytes) -> None:
    shared, session, server = linked(seen)
    before = sum(session.client.counters.statements)
    assert usual.send(session, server, data)
    assert shared.world.outs[server].take() == data
    assert not server.walking
    assert sum(session.client.counters.statements) == before + 1
    body = TEXT + b"\0\0\0" if data[:1] == b"P" else b""
    unnamed = server.stand.unnamed
    assert session.names.unnamed is unnamed
    assert (unnamed.body if unnamed else b"") == body
    shared.world.end()


@pytest.mark.parametrize("seen", [0, 1, 2, 3])
@pytest.mark.parametrize(
    "data",
    [
        query(b"SELECT 1")[:-1],
        query(b"SELECT 1") * 2,
        query(b"SELECT set_config('a.b', 'c', false)"),
        batch(b"x")[:-1],
        batch(b"x") * 2,
        batch(b"x", name=b"s"),
        batch(b"x", portal=b"p"),
        batch(b"x", text=b"LISTEN x"),
        parse_message(b"", TEXT) + bind_message(b"", b"s", [b"1"]) + END,
        parse_message(b"", TEXT) + END,
        sync(),
        b"Q\0\0\0\4",
    ],
)
def test_any_other_chunk_is_left_to_those_who_look(seen: int, data: bytes) -> None:
    shared, session, server = linked(seen)
    assert not usual.send(session, server, data)
    assert not shared.world.outs[server].take()
    assert not server.pipeline.entries
    shared.world.end()


def test_another_text_behind_the_same_beginning_is_another_statement() -> None:
    shared, session, _ = linked(3)
    longer = batch(b"x", text=TEXT + b" WHERE true")
    shared.world.receive(session, longer)
    assert session.last is not None
    assert session.last.text == TEXT + b" WHERE true"
    shared.world.end()
