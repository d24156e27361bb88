"""The batch that a session sends again and again is known by how it begins: the same is forwarded,
counted and known of the session as if every message had been looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from core_fakes import World
from hypothesis import given
from hypothesis import strategies as st

from pgguard.core.session import NEVER
from pgguard.tenancy.model import Catalogue
from pgguard.wire import backend
from pgguard.wire.codes import PORTAL
from pgguard.wire.frontend import (
    bind_message,
    copy_data,
    describe_message,
    execute_message,
    parse_message,
    query,
    sync,
)

if TYPE_CHECKING:
    from pgguard.core.server import Server
    from pgguard.core.session import Session
    from pgguard.sql.statement import Statement

END = describe_message(PORTAL, b"") + execute_message(b"") + sync()
TEXTS = (b"SELECT $1", b"SELECT $1::text", b"SELECT 'x' || $1")


def batch(text: bytes, *values: bytes) -> bytes:
    return parse_message(b"", text) + bind_message(b"", b"", list(values)) + END


def linked() -> tuple[World, Session, Server]:
    """A session whose texts are judged clean as soon as they have been seen once."""
    world = World()
    session, server = world.link()
    world.hub.gate.catalogue_read("shop", Catalogue(database="shop"))
    return world, session, server


def known(world: World, session: Session, server: Server) -> dict[str, Any]:
    """All that a request changes."""

    def text(statement: Statement | None) -> bytes | None:
        return statement.text if statement else None

    return {
        "forwarded": bytes(world.outs[server].written),
        "entries": list(server.pipeline.entries),
        "mixed": server.pipeline.mixed,
        "last": text(session.last),
        "unnamed": text(session.unnamed),
        "prepared": sorted(session.prepared or ()),
        "executed": list(session.client.counters.statements),
        "partial": session.partial,
        "skip": session.skip,
    }


def answer(world: World, server: Server) -> None:
    while server.pipeline.due:
        world.receive(server, backend.ready_for_query(b"I"))


def repeating() -> tuple[World, Session, Server]:
    """The same, after a batch that came so often that it is known by how it begins."""
    world, session, server = linked()
    for _ in range(3):
        world.receive(session, batch(TEXTS[0], b"1"))
        answer(world, server)
    return world, session, server


class Unasked:
    """A judge that knows its version and no statement."""

    def __init__(self, version: int) -> None:
        self.version = version


def test_a_repeated_batch_is_known_without_being_looked_up() -> None:
    world, session, server = repeating()
    before = sum(session.client.counters.statements)
    session.exact, session.numbered = {}, {}
    assert session.judge is not None
    session.judge = Unasked(session.judge.version)  # type: ignore[assignment]
    world.receive(session, batch(TEXTS[0], b"another value"))
    assert list(server.pipeline.entries) == [19]
    assert sum(session.client.counters.statements) == before + 1
    assert world.outs[server].written.endswith(batch(TEXTS[0], b"another value"))
    with pytest.raises(AttributeError):
        session.receive(batch(TEXTS[1], b"1"))


def test_what_was_known_is_known_no_more_once_the_texts_cannot_be_read() -> None:
    world, session, server = repeating()
    assert session.repeated is not None
    assert session.usual != NEVER
    world.receive(server, backend.message(0x53, b"client_encoding\0SJIS\0"))
    assert session.repeated is None
    assert session.usual == NEVER
    world.end()


def test_what_was_clean_under_older_rules_is_looked_at_again() -> None:
    world, session, _server = repeating()
    statement = session.repeated
    assert statement is not None
    world.hub.gate.catalogue_read("shop", Catalogue(database="shop", search_path=("other",)))
    assert session.judge is not None
    assert statement.clean != session.judge.version
    world.receive(session, batch(TEXTS[0], b"1"))
    assert statement.clean == session.judge.version
    world.end()


def test_the_same_bytes_inside_of_a_message_are_no_batch() -> None:
    world, session, server = repeating()
    looks_so = batch(TEXTS[0], b"1").removesuffix(END)
    world.receive(session, copy_data(looks_so)[:5])
    world.receive(session, looks_so + END)
    assert list(server.pipeline.entries) == [3, 4, 16]
    world.end()


VALUES = st.sampled_from([b"", b"1", b"%" * 30, END, batch(TEXTS[0], b"1")[:20]])
REQUESTS = st.one_of(
    st.builds(batch, st.sampled_from(TEXTS), VALUES),
    st.builds(batch, st.just(TEXTS[0]), VALUES),
    st.builds(batch, st.just(TEXTS[0]), VALUES, VALUES),
    st.just(batch(TEXTS[0], b"1") * 2),
    st.just(batch(TEXTS[0], b"1")[:-5]),
    st.just(sync()),
    st.just(query(b"SELECT 1")),
    st.just(parse_message(b"name", TEXTS[0]) + sync()),
    st.just(parse_message(b"", TEXTS[0]) + bind_message(b"", b"name", [b"1"]) + END),
    st.just(parse_message(b"", TEXTS[0]) + bind_message(b"portal", b"", [b"1"]) + END),
)


@given(
    requests=st.lists(st.tuples(REQUESTS, st.booleans()), max_size=12),
    cuts=st.sets(st.integers(0, 1000), max_size=6),
)
def test_it_makes_no_difference_to_looking_at_every_message(
    requests: list[tuple[bytes, bool]], cuts: set[int]
) -> None:
    worlds = [linked(), linked()]
    at = 0
    for request, answered in requests:
        pieces, begin = [], 0
        for cut in sorted(cut - at for cut in cuts if at < cut < at + len(request)):
            pieces.append(request[begin:cut])
            begin = cut
        at += len(request)
        for piece in (*pieces, request[begin:]):
            for world, session, server in worlds:
                if world is worlds[1][0]:
                    session.repeated, session.usual = None, NEVER
                world.receive(session, piece)
                if answered and not session.skip and not session.partial:
                    answer(world, server)
        assert known(*worlds[0]) == known(*worlds[1])
    for world, _, _ in worlds:
        world.end()
