"""The frontend side: what is held, looked into and said of a session."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from core_fakes import World
from notation import BACKEND, FRONTEND, encode

from pgguard.core.ahead import HELD_LIMIT
from pgguard.core.pipeline import MANY
from pgguard.core.states import SessionState
from pgguard.events import ProtocolBroken
from pgguard.wire import backend, frontend

if TYPE_CHECKING:
    from pgguard.core.session import Session


def sends(world: World, session: Session, *lines: str) -> None:
    world.receive(session, b"".join(encode(line, FRONTEND) for line in lines))


def executed(world: World, data: bytes, cut: int) -> dict[bytes, int]:
    """The texts that a session was seen to execute, and how often; none has its verdict yet."""
    session, _ = world.link()
    for piece in (data[:cut], data[cut:]):
        if piece:
            world.receive(session, piece)
    waiting = world.hub.gate._waiting["shop"]
    return {statement.text: times for (statement, _), times in waiting.items()}


EXTENDED = b"".join(
    encode(line, FRONTEND)
    for line in (
        'Parse "one" "select 1 as one"',
        'Parse "" "select 2 as two"',
        'Bind "" "one" "x"',
        'Execute "" 0',
        'Bind "p" ""',
        'Execute "p" 0',
        'Query "select 3 as three"',
        'Bind "" ""',
        'Close S "one"',
        'Bind "" "one"',
        "Sync",
    )
)


@pytest.mark.parametrize("cut", range(len(EXTENDED)))
def test_executions_are_seen_by_name_and_without_wherever_the_chunk_is_cut(cut: int) -> None:
    assert executed(World(), EXTENDED, cut) == {
        b"select 1 as one": 1,
        b"select 2 as two": 1,
        b"select 3 as three": 1,
    }


def test_a_text_over_max_statement_is_not_kept_and_what_follows_is_read() -> None:
    world = World(max_statement=1000)
    session, server = world.link()
    data = frontend.query(b"select '" + b"x" * 300_000 + b"'") + frontend.query(b"begin")
    for at in range(0, len(data), 50_000):
        world.receive(session, data[at : at + 50_000])
        assert sum(map(len, session.gather or [])) < 300_000
    assert world.outs[server].written == data
    assert session.last is not None
    assert session.last.text == b"begin"
    assert server.due == 2


@pytest.mark.parametrize("sharing", [False, True])
def test_who_sends_thousands_of_messages_at_once_lets_others_have_their_turn(
    sharing: bool,
) -> None:
    world = World(sharing=sharing)
    session, _ = world.link()
    world.receive(session, frontend.query(b"SELECT 1") * 10)
    assert world.outs[session].rests == 0
    world.receive(session, frontend.query(b"SELECT 1") * 2 * MANY)
    assert world.outs[session].rests == 1
    world.end()


def test_a_waiting_session_is_read_up_to_a_limit_and_loses_nothing() -> None:
    world = World(connection_limit=1, pool_timeout=60, notice_after=None)
    first, server = world.link()
    second = world.enter()
    pieces = [frontend.copy_data(bytes([number]) * 30_000) for number in range(3)]
    for piece in pieces[:2]:
        world.receive(second, piece)
    assert world.outs[second].reading
    world.receive(second, pieces[2])
    assert not world.outs[second].reading
    world.reset(first)
    world.eof(server)
    out = world.connect(world.net.dialled[-1])
    assert out.written == b"".join(pieces)
    assert world.outs[second].reading
    world.end()


def test_a_client_that_leaves_while_nothing_more_is_read_loses_its_place() -> None:
    world = World(connection_limit=1, pool_timeout=60, notice_after=None)
    world.link()
    waiting = world.enter()
    world.receive(waiting, frontend.copy_data(bytes(HELD_LIMIT)))
    world.wait(1)
    assert waiting.state is SessionState.WAITING
    world.outs[waiting].left = True
    world.wait(0.1)
    assert waiting.state is SessionState.CLOSED
    assert world.hub.admission.shares["a.py"].waiting == 0
    world.end()


@pytest.mark.parametrize(
    ("asked", "answered", "stuck"),
    [
        ([], [], False),
        (['Query "x"'], [], False),
        (['Query "begin"'], ["ReadyForQuery T"], True),
        (['Query "begin"'], ["ReadyForQuery E"], True),
        (['Query "x"'], ["ReadyForQuery I"], False),
        (['Parse "" "x"', "Flush"], ["ParseComplete"], True),
        (['Parse "" "x"', "Sync"], [], False),
        (['Parse "" "x"', "Sync"], ["ParseComplete", "ReadyForQuery I"], False),
    ],
)
def test_a_server_waits_for_its_session_in_a_transaction_or_an_open_batch(
    asked: list[str], answered: list[str], stuck: bool
) -> None:
    world = World()
    session, server = world.link()
    world.wait(1)
    if asked:
        sends(world, session, *asked)
    since = world.clock.now
    for line in answered:
        world.receive(server, encode(line, BACKEND))
    world.wait(1)
    assert session.stuck_since() == (pytest.approx(since) if stuck else None)


def test_a_session_without_a_server_keeps_none_waiting() -> None:
    world = World(connection_limit=1)
    world.link()
    assert world.enter().stuck_since() is None


@pytest.mark.parametrize(
    ("asked", "answered", "words"),
    [
        (None, None, "idle for 2.0 s"),
        ("select 1", None, "active for 2.0 s, last statement: select ?"),
        ("begin", "ReadyForQuery T", "idle in transaction, transaction open for 2.0 s"),
        ("select 'secret'", "ReadyForQuery I", "idle for 2.0 s, last statement: select '?'"),
    ],
)
def test_a_holder_is_described_without_the_values_of_its_statement(
    asked: str | None, answered: str | None, words: str
) -> None:
    world = World()
    session, server = world.link()
    if asked:
        sends(world, session, f'Query "{asked}"')
    if answered:
        world.receive(server, encode(answered, BACKEND))
    world.wait(2)
    line = session.describe(world.clock())
    assert f'client "a.py" session {session.id}, pid 101, open for 2.0 s: ' in line
    assert words in line
    assert "secret" not in line


def test_a_description_is_plain_ascii() -> None:
    world = World()
    session, _ = world.link(application_name="caf\u00e9")
    sends(world, session, 'Query "select \\xc3\\xa9"')
    assert session.describe(world.clock()).isascii()


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"Q\0\0\0\3", 81),
        (b"S\0\0\x27\x11", 83),
        (b"Q\x40\0\0\0", 81),
        (b"d\xff\xff\xff\xff", 100),
        (b"p\0\x01\0\0", 112),
        (b"!\x40\0\0\0", 33),
    ],
)
@pytest.mark.parametrize("cut", range(6))
def test_of_an_impossible_length_postgres_gets_the_header_however_it_is_cut(
    head: bytes, kind: int, cut: int
) -> None:
    world = World()
    session, server = world.link()
    sound = frontend.query(b"select 1")
    data = sound + head
    for piece in (data[: len(sound) + cut], data[len(sound) + cut :], frontend.query(b"more")):
        if piece:
            world.receive(session, piece)
    assert world.outs[server].written == sound + head
    assert world.outs[server].log[-1] == "EOF"
    assert world.outs[session].written == b""
    (broken,) = [event for event in world.hub.events if isinstance(event, ProtocolBroken)]
    assert broken.message == f"invalid message length (message type {kind})"
    last = backend.ready_for_query(b"I")
    world.receive(server, last)
    assert world.outs[session].written == last
    world.end()


def test_a_header_that_is_cut_off_reaches_the_server_with_the_end() -> None:
    world = World()
    session, server = world.link()
    world.receive(session, frontend.query(b"select 1") + b"Q\0\0")
    assert world.outs[server].written == frontend.query(b"select 1")
    world.eof(session)
    assert world.outs[server].log[-1] == "EOF"
    assert world.outs[server].written == frontend.query(b"select 1") + b"Q\0\0"


def test_a_name_that_does_not_end_is_not_waited_for_without_bound() -> None:
    world = World()
    session, server = world.link()
    data = frontend.message(0x42, b"p" * (3 * HELD_LIMIT) + b"\0" + b"s\0" + bytes(6))
    for at in range(0, len(data), 10_000):
        world.receive(session, data[at : at + 10_000])
        assert len(session.partial) <= HELD_LIMIT + 10_000
    sends(world, session, "Sync")
    assert world.outs[server].written == data + frontend.sync()
    assert list(server.pipeline.entries) == [2, 16]


def test_a_session_that_is_let_go_waits_for_a_server_that_does_not_read() -> None:
    world = World()
    session, server = world.link()
    world.hub.services = True
    sends(world, session, 'Query "create database x"')
    world.receive(session, frontend.copy_data(bytes(HELD_LIMIT)))
    assert not world.outs[session].reading
    server.pause_writing()
    world.hub.services_closed()
    assert not world.outs[session].reading
    server.resume_writing()
    assert world.outs[session].reading
    world.end()


def test_a_session_that_breaks_the_protocol_while_it_is_held_back_holds_up_nobody() -> None:
    world = World()
    (first, one), (second, two) = world.link(), world.link()
    world.hub.services = True
    for session in (first, second):
        sends(world, session, 'Query "drop database x"')
    world.receive(first, b"Q\0\0\0\0")
    world.eof(first)
    world.hub.services_closed()
    world.eof(one)
    assert first.state is SessionState.CLOSED
    for server in (one, two):
        assert world.outs[server].written.startswith(frontend.query(b"drop database x"))
    world.end()
