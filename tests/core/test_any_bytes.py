"""Whatever bytes come, however cut: no exception, and the same bytes on either side."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from core_fakes import World
from hypothesis import example, given, settings
from hypothesis import strategies as st
from notation import BACKEND, FRONTEND, encode

from pgguard.wire.codes import BACKEND_LIMIT

HEADS = st.sampled_from([bytes((kind,)) for kind in b"QPBDECSHFXdcfp!TZ1IK~GWRAN"])
MESSAGES = st.builds(
    lambda kind, body, wrong: kind + max(len(body) + 4 + wrong, 0).to_bytes(4, "big") + body,
    HEADS,
    st.one_of(st.binary(max_size=12), st.sampled_from([b"a\0b\0\0\0", b"\0\0", b"I", b"S1\0"])),
    st.sampled_from([0, 0, 0, 0, 0, 0, -5, -1, 1, 70_000, 0x3FFF_FFFF]),
)
STREAMS = st.one_of(st.binary(max_size=40), st.lists(MESSAGES, max_size=8).map(b"".join))
CUTS = st.lists(st.integers(0, 120), max_size=5)
BEGUN = encode('Query "copy t from stdin"', FRONTEND)
COPYING = encode('CopyInResponse "\\x00\\x00\\x00"', BACKEND)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    return [data[a:b] for a, b in pairwise(edges)]


def session_hears(data: list[bytes], *, copying: bool) -> tuple[Any, ...]:
    """What came out of both ends when a session has sent these chunks, and what is then owed."""
    world = World()
    session, server = world.link()
    if copying:
        world.receive(session, BEGUN)
        world.receive(server, COPYING)
    for piece in data:
        world.receive(session, piece)
    outcome = (
        world.outs[server].written,
        world.outs[session].written,
        session.state,
        list(server.pipeline.entries),
        session.leaving,
    )
    world.end()
    return outcome


def server_hears(data: list[bytes]) -> tuple[Any, ...]:
    """The same when a server has sent them."""
    world = World()
    session, server = world.link()
    world.receive(session, BEGUN)
    for piece in data:
        world.receive(server, piece)
    outcome = (
        world.outs[session].written,
        session.state,
        list(server.pipeline.entries),
        server.status,
        session.readable,
        dict(world.hub.counters.errors),
    )
    world.end()
    return outcome


@given(STREAMS, CUTS, st.booleans())
@example(b"P\0\0\0\4", [], False)
@example(b"B\0\0\0\4", [], False)
@settings(max_examples=200, deadline=None)
def test_a_session_may_send_anything_cut_anywhere(
    data: bytes, cuts: list[int], copying: bool
) -> None:
    whole = session_hears([data] if data else [], copying=copying)
    assert session_hears(pieces(data, cuts), copying=copying) == whole


@given(STREAMS, CUTS)
@example(b"Z\0\0\0\5Z\0\0\0\5I", [])
@example(b"S\0\0\0\x05a", [3])
@settings(max_examples=200, deadline=None)
def test_a_server_may_send_anything_cut_anywhere(data: bytes, cuts: list[int]) -> None:
    assert server_hears(pieces(data, cuts)) == server_hears([data] if data else [])


@given(st.one_of(st.binary(max_size=60), STREAMS), CUTS)
@settings(max_examples=200, deadline=None)
def test_a_login_may_be_anything_cut_anywhere(data: bytes, cuts: list[int]) -> None:
    def hears(chunks: list[bytes]) -> tuple[Any, ...]:
        world = World()
        session = world.open()
        for piece in chunks:
            world.receive(session, piece)
        outcome = (world.outs[session].written, session.state, len(world.net.dialled))
        world.end()
        return outcome

    assert hears(pieces(data, cuts)) == hears([data] if data else [])


@pytest.mark.parametrize("kinds", [range(128), range(128, 256)], ids=["ASCII", "beyond"])
def test_every_type_byte_passes_as_it_came_however_cut(kinds: range) -> None:
    """Types that nobody has, too; of a server no length is believed that its type cannot have."""
    for kind in kinds:
        data = bytes((kind, 0, 0, 0, 9)) + b"S\0\0\0I"
        expected, heard = session_hears([data], copying=False), server_hears([data])
        assert expected[0].endswith(data), kind
        if len(data) - 1 <= BACKEND_LIMIT[kind]:
            assert heard[0].startswith(data), kind
        else:
            assert data not in heard[0], kind
            assert b"C08P01\0" in heard[0], kind
        for cut in range(1, len(data)):
            parts = pieces(data, [cut])
            assert session_hears(parts, copying=False) == expected, (kind, cut)
            assert server_hears(parts) == heard, (kind, cut)
