"""Replies held against what is due: ours are left out, the session's all come, at every cut."""

from __future__ import annotations

import pytest
from notation import BACKEND, encode
from shared import Shared

LINES = [
    'ParameterStatus "TimeZone" "UTC"',
    'NoticeResponse NOTICE 00000 "ours"',
    'CommandComplete "SET"',
    "ReadyForQuery I",
    "ParseComplete",
    "ParameterDescription 25",
    "NoData",
    'NotificationResponse 7 "a" "b"',
    "BindComplete",
    'DataRow "x"',
    'CommandComplete "SELECT 1"',
    "ReadyForQuery I",
]
KEPT = [LINES[0], "ParseComplete", LINES[7], *LINES[8:]]
"""What the session gets: a Query of ours and our Describe are answered before and among them."""

REPLIES = b"".join(encode(line, BACKEND) for line in LINES)


def asked(shared: Shared):
    """A session that takes over a server with a setting, and prepares and runs a statement."""
    session = shared.session()
    server = session.shared
    server.write(server.run(b"Q\0\0\0\5\0"))
    shared.says(session, 'Parse "s" "SELECT $1"', 'Bind "" "s" "x"', 'Execute "" 0', "Sync")
    shared.heard(server)
    return session, server


@pytest.mark.parametrize("cut", range(len(REPLIES)))
def test_the_session_gets_what_it_asked_for_wherever_the_bytes_are_cut(cut: int) -> None:
    shared = Shared()
    session, server = asked(shared)
    for piece in (REPLIES[:cut], REPLIES[cut:]):
        if piece:
            shared.world.receive(server, piece)
    assert shared.heard(session) == KEPT
    assert not server.pipeline.entries
    assert not server.walking
    shared.world.end()


def test_byte_by_byte_is_no_different() -> None:
    shared = Shared()
    session, server = asked(shared)
    for at in range(len(REPLIES)):
        shared.world.receive(server, REPLIES[at : at + 1])
    assert shared.heard(session) == KEPT
    shared.world.end()


def test_an_error_ends_the_batch_and_what_was_asked_in_it() -> None:
    shared = Shared()
    session, server = asked(shared)
    shared.says(server, 'CommandComplete "SET"', "ReadyForQuery I")
    shared.says(server, 'ErrorResponse ERROR 42601 "syntax error"', "ReadyForQuery I")
    assert shared.heard(session) == ['ErrorResponse ERROR 42601 "syntax error"', "ReadyForQuery I"]
    assert session.names.get(b"s") is None
    assert not server.stand.targets
    assert not server.stand.changes
    shared.world.end()


def test_an_error_names_the_statement_as_the_session_does() -> None:
    shared = Shared()
    session, server = asked(shared)
    shared.says(server, 'CommandComplete "SET"', "ReadyForQuery I")
    name = session.names.on_server(b"s").decode()
    text = f'prepared statement \\"{name}\\" already exists'
    shared.says(server, f'ErrorResponse ERROR 42P05 "{text}"', "ReadyForQuery I")
    assert 'prepared statement \\"s\\" already exists' in shared.heard(session)[0]
    shared.world.end()


def test_a_text_of_ours_that_fails_closes_the_server_and_is_no_business_of_the_session() -> None:
    shared = Shared()
    session = shared.session()
    server = session.shared
    server.write(server.run(b"Q\0\0\0\5\0"))
    shared.says(server, 'ErrorResponse ERROR 42501 "denied"', "ReadyForQuery I")
    assert shared.heard(session) == []
    assert server.doubt
    shared.world.end()


@pytest.mark.parametrize("line", ["BindComplete", "CloseComplete", "ReadyForQuery I"])
def test_an_answer_to_nothing_ends_both(line: str) -> None:
    shared = Shared()
    session = shared.session()
    server = session.shared
    shared.says(session, 'Parse "s" "SELECT 1"', "Sync")
    shared.says(server, line)
    assert "08P01" in shared.heard(session)[-1]
    assert shared.world.outs[server].closed
    shared.world.end()
