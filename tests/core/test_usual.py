"""The usual chunks of sessions that share servers go as they came; all others are looked into."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from shared import Shared

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

if TYPE_CHECKING:
    from pgguard.core.shared_session import SharedSession

END = describe_message(PORTAL, b"") + execute_message(b"") + sync()
TEXT = b"SELECT $1"


def batch(value: bytes, *, name: bytes = b"", portal: bytes = b"", text: bytes = TEXT) -> bytes:
    return parse_message(name, text) + bind_message(portal, name, [value]) + END


def is_usual(session: SharedSession, data: bytes) -> bool:
    """Send it; whether neither it nor what answers it is looked into."""
    session.receive(data)
    return not session.shared.walking


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
        assert is_usual(session, batch(b"%d" % number))
        shared.says(server, "ParseComplete", "BindComplete", "NoData")
        shared.says(server, 'CommandComplete "SELECT 1"', "ReadyForQuery I")
    shared.world.outs[server].take()
    return shared, session, server


@pytest.mark.parametrize("seen", [0, 1, 2, 3])
@pytest.mark.parametrize("data", [query(b"SELECT 1"), batch(b"x"), batch(b"%" * 300), batch(END)])
def test_a_usual_chunk_is_written_as_it_came(seen: int, data: bytes) -> None:
    shared, session, server = linked(seen)
    before = sum(session.client.counters.statements)
    assert is_usual(session, data)
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
    shared, session, _ = linked(seen)
    assert not is_usual(session, data)
    shared.world.end()


def test_another_text_behind_the_same_beginning_is_another_statement() -> None:
    shared, session, _ = linked(3)
    longer = batch(b"x", text=TEXT + b" WHERE true")
    shared.world.receive(session, longer)
    assert session.last is not None
    assert session.last.text == TEXT + b" WHERE true"
    shared.world.end()


def named(value: bytes, name: bytes = b"s") -> bytes:
    return bind_message(b"", name, [value]) + END


def with_a_name():
    """The same, with a statement that has a name and stands on the server."""
    shared, session, server = linked(0)
    shared.world.receive(session, parse_message(b"s", TEXT) + sync())
    shared.says(server, "ParseComplete", "ParameterDescription 25", "NoData", "ReadyForQuery I")
    shared.world.outs[server].take()
    shared.heard(session)
    return shared, session, server


@pytest.mark.parametrize("value", [b"", b"x", b"%" * 300, END])
def test_a_statement_that_stands_there_is_bound_under_its_name_there(value: bytes) -> None:
    shared, session, server = with_a_name()
    assert is_usual(session, named(value))
    stands = session.names.on_server(b"s")
    assert shared.world.outs[server].take() == named(value, stands)
    shared.says(server, "BindComplete", "NoData", 'CommandComplete "SELECT 1"', "ReadyForQuery I")
    assert not server.walking
    assert not server.pipeline.entries
    assert [line.split()[0] for line in shared.heard(session)] == [
        "BindComplete",
        "NoData",
        "CommandComplete",
        "ReadyForQuery",
    ]
    shared.world.end()


def test_its_error_names_it_as_the_session_does_wherever_the_reply_is_cut() -> None:
    shared, session, server = with_a_name()
    stands = session.names.on_server(b"s").decode()
    fields = f'"{stands}" requires 1'.encode()
    body = b"SERROR\0VERROR\0C08P01\0Mprepared statement " + fields + b"\0\0"
    reply = b"E" + (len(body) + 4).to_bytes(4, "big") + body + b"Z\0\0\0\5I"
    for cut in range(1, len(reply)):
        assert is_usual(session, named(b"x"))
        shared.world.receive(server, reply[:cut])
        shared.world.receive(server, reply[cut:])
        told = shared.world.outs[session].take()
        assert b'prepared statement "s" requires 1' in told
        assert told.endswith(b"Z\0\0\0\5I")
        assert not server.pipeline.entries
        assert not server.walking
    shared.world.end()


def test_what_does_not_stand_there_or_is_not_all_that_is_owed_is_looked_into() -> None:
    shared, session, server = with_a_name()
    done = ["BindComplete", "NoData", 'CommandComplete "SELECT 1"', "ReadyForQuery I"]
    assert not is_usual(session, named(b"x", b"unknown"))
    shared.says(server, 'ErrorResponse ERROR 26000 "no"', "ReadyForQuery I")
    assert is_usual(session, named(b"x"))
    assert not is_usual(session, named(b"x"))
    shared.says(server, *done, *done)
    server.stand.cleared()
    assert not is_usual(session, named(b"x"))
    shared.world.end()


def test_what_comes_behind_it_is_answered_behind_it() -> None:
    shared, session, server = with_a_name()
    shared.world.receive(session, named(b"1"))
    shared.world.receive(session, named(b"2"))
    shared.world.receive(session, query(b"SELECT 1"))
    done = ["BindComplete", "NoData", 'CommandComplete "SELECT 1"', "ReadyForQuery I"]
    shared.says(server, *done, *done, 'CommandComplete "SELECT 1"', "ReadyForQuery I")
    assert shared.heard(session)[-6:] == [*done, 'CommandComplete "SELECT 1"', "ReadyForQuery I"]
    assert not server.pipeline.entries
    assert not server.walking
    shared.world.end()
