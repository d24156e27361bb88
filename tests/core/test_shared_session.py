"""A session without a server, and what it says with one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from notation import FRONTEND, encode
from shared import Shared

from pgguard.core import handover
from pgguard.core.pins import Reason
from pgguard.core.prepared import Prepared
from pgguard.core.shared_session import NEEDS_SERVER
from pgguard.core.states import SessionState
from pgguard.tenancy.catalogue import Catalogue

if TYPE_CHECKING:
    from pgguard.core.shared_server import SharedServer
    from pgguard.core.shared_session import SharedSession

SELECT = 'Query "SELECT 1"'


def idle(shared: Shared):
    """A session that has no server, and the one that has."""
    other = shared.session()
    session = shared.session()
    assert session.state is SessionState.IDLE
    return session, other


def test_what_needs_no_server_is_answered_without_one() -> None:
    shared = Shared()
    session, _ = idle(shared)
    shared.says(session, "Sync", 'Close S "x"', 'Close P ""', "Flush", "CopyDone", "Sync")
    assert shared.heard(session) == [
        "ReadyForQuery I",
        "CloseComplete",
        "CloseComplete",
        "ReadyForQuery I",
    ]
    assert session.state is SessionState.IDLE
    shared.says(session, "Terminate")
    assert session.state is SessionState.CLOSED
    shared.world.end()


@pytest.mark.parametrize("data", [b"\x04", b"\x00\x01", b"!\0\0\0\x05x", b"p\0\0\0"])
def test_of_a_type_that_postgres_does_not_take_it_says_so_at_once(data: bytes) -> None:
    shared, session, server = alone()
    shared.heard(server)
    for at in range(len(data)):
        shared.world.receive(session, data[at : at + 1])
    assert shared.world.outs[server].take() == data
    shared.world.end()


def test_without_a_server_half_a_header_of_such_a_type_ends_the_session() -> None:
    shared = Shared()
    session, _ = idle(shared)
    shared.world.receive(session, b"\x04")
    assert b"invalid frontend message type 4" in shared.world.outs[session].written
    assert session.state is SessionState.CLOSED
    shared.world.end()


def test_what_comes_late_of_a_copy_is_dropped_as_it_comes() -> None:
    shared = Shared()
    session, _ = idle(shared)
    late = encode(f'CopyData "{"x" * 100_000}"', FRONTEND)
    shared.world.receive(session, late[:1000])
    assert (session.held, session.drop_next) == (b"", len(late) - 1000)
    shared.world.receive(session, late[1000:] + encode("Sync", FRONTEND))
    assert session.drop_next == 0
    assert shared.heard(session) == ["ReadyForQuery I"]
    shared.world.end()


@pytest.mark.parametrize(
    "line",
    [
        SELECT,
        'Parse "" "SELECT 1"',
        'Bind "" ""',
        'Describe S "x"',
        'Execute "" 0',
    ],
)
def test_what_asks_for_a_server_gets_one(line: str) -> None:
    shared = Shared()
    session, _ = idle(shared)
    shared.says(session, line)
    assert session.state is SessionState.WAITING
    server = shared.connect()
    assert session.shared is server
    assert shared.heard(server)[-1].split()[0] in {line.split()[0], "Describe"}
    shared.world.end()


def test_the_types_that_ask_for_a_server_are_those_of_the_rule() -> None:
    assert bytes(sorted(NEEDS_SERVER)) == b"BDEFPQ"


def test_a_chunk_that_is_cut_anywhere_is_the_same_to_the_server() -> None:
    from notation import FRONTEND, encode

    lines = [
        'Parse "s" "SELECT $1"',
        'Bind "" "s" "x"',
        'Execute "" 0',
        "Sync",
        'Query "SELECT 2"',
    ]
    data = b"".join(encode(line, FRONTEND) for line in lines)
    seen = set()
    for cut in range(len(data)):
        shared = Shared()
        session = shared.session()
        server = session.shared
        for piece in (data[:cut], data[cut:]):
            if piece:
                shared.world.receive(session, piece)
        seen.add(tuple(shared.heard(server)))
        shared.world.end()
    assert len(seen) == 1


def test_what_follows_a_fast_reply_that_is_due_follows_at_once() -> None:
    shared = Shared()
    session = shared.session()
    server = session.shared
    shared.hub.gate.catalogue_read(session.database, Catalogue())
    shared.says(session, SELECT)
    shared.done(server)
    shared.heard(server)
    shared.says(session, SELECT)
    shared.says(session, 'Parse "s" "SELECT 2"', "Sync")
    said = [line.split()[0] for line in shared.heard(server)]
    assert said == ["Query", "Parse", "Describe", "Sync"]
    shared.heard(session)
    shared.done(server)
    shared.says(server, "ParseComplete", "ParameterDescription", "NoData", "ReadyForQuery I")
    told = [line.split()[0] for line in shared.heard(session)]
    assert told == ["CommandComplete", "ReadyForQuery", "ParseComplete", "ReadyForQuery"]
    shared.world.end()


def test_the_data_of_a_copy_that_went_the_fast_way_is_not_held() -> None:
    shared = Shared()
    session = shared.session()
    server = session.shared
    shared.hub.gate.catalogue_read(session.database, Catalogue())
    copy = 'Query "COPY (SELECT 1) TO STDOUT"'
    shared.says(session, copy)
    shared.heard(server)
    shared.says(session, 'CopyData "x"', "CopyDone")
    assert shared.heard(server) == ['CopyData "x"', "CopyDone"]
    shared.world.end()


def test_a_refusal_after_login_is_an_error_and_the_session_lives_on() -> None:
    shared = Shared(connection_limit=1, pool_timeout=2.0, on_self_starvation="wait")
    session, other = idle(shared)
    shared.says(other, 'Query "BEGIN"')
    shared.done(other.shared, "BEGIN", "T")
    shared.says(session, 'Parse "" "SELECT 1"', 'Bind "" ""', "Sync", SELECT)
    shared.world.wait(2.5)
    lines = [line for line in shared.heard(session) if not line.startswith("Notice")]
    assert lines[0].startswith("ErrorResponse ERROR 53300")
    assert lines[1:] == ["ReadyForQuery I"]
    # The Query behind the batch asks anew.
    assert session.state is SessionState.WAITING
    shared.done(other.shared, "COMMIT")
    shared.world.end()


def test_a_batch_whose_sync_comes_after_its_refusal_is_dropped_up_to_it() -> None:
    shared = Shared(connection_limit=1, pool_timeout=2.0, on_self_starvation="wait")
    session, other = idle(shared)
    shared.says(other, 'Query "BEGIN"')
    shared.done(other.shared, "BEGIN", "T")
    shared.says(session, 'Parse "" "SELECT 1"')
    shared.world.wait(2.5)
    assert shared.heard(session)[-1].startswith("ErrorResponse ERROR 53300")
    shared.says(session, 'Bind "" ""')
    assert shared.heard(session) == []
    shared.says(session, "Sync")
    assert shared.heard(session) == ["ReadyForQuery I"]
    shared.world.end()


def test_a_cancel_of_one_that_waits_withdraws_its_ticket() -> None:
    shared = Shared(connection_limit=1)
    session, other = idle(shared)
    shared.says(other, 'Query "BEGIN"')
    shared.done(other.shared, "BEGIN", "T")
    shared.says(session, SELECT)
    assert shared.hub.cancel_request(session.pid, session.secret_key) is None
    error, ready = shared.heard(session)
    assert error.startswith("ErrorResponse ERROR 57014")
    assert ready == "ReadyForQuery I"
    assert not session.client.share.queue
    shared.world.end()


def test_one_that_leaves_while_its_statement_runs_is_served_to_the_end_by_the_server() -> None:
    shared = Shared()
    session = shared.session()
    server = session.shared
    shared.says(session, SELECT, "Terminate")
    assert shared.heard(server) == [SELECT, "Terminate"]
    assert not shared.world.net.asked("cancel")
    shared.world.end()


ENDED = (SessionState.CLOSING, SessionState.CLOSED)


@pytest.mark.parametrize(
    ("junk", "said"),
    [
        (b"Q\0\0\0\x03", []),
        (b"S\0\0\xff\xff", []),
        (b"P\xff\xff\xff\xff", []),
        (b"y\0\0\0\4", ["ErrorResponse FATAL 08P01"]),
        (b"p\0\0\0\5\0", ["ErrorResponse FATAL 08P01"]),
    ],
)
def test_who_has_no_server_is_ended_over_a_header_as_by_postgres(
    junk: bytes, said: list[str]
) -> None:
    shared = Shared()
    session, _ = idle(shared)
    shared.world.receive(session, junk)
    assert [" ".join(line.split()[:3]) for line in shared.heard(session)] == said
    assert session.state in ENDED
    shared.world.end()


PARSE = 'Parse "s" "SELECT $1"'
TYPES = ["ParameterDescription 23", 'RowDescription "x" 23']


def parsed(shared: Shared) -> SharedServer:
    """A server on which somebody has prepared what others prepare, too."""
    first = shared.session()
    shared.says(first, PARSE, "Sync")
    server = first.shared
    shared.says(server, "ParseComplete", *TYPES, "ReadyForQuery I")
    return server


def test_what_the_pool_has_parsed_is_prepared_without_a_server_and_made_when_it_is_bound() -> None:
    shared = Shared(connection_limit=2)
    server = parsed(shared)
    session = shared.session()
    shared.says(server.shared, 'Query "BEGIN"')
    shared.done(server, "BEGIN", "T")
    shared.says(session, PARSE, "Sync")
    assert session.state is SessionState.IDLE
    assert shared.heard(session) == ["ParseComplete", "ReadyForQuery I"]
    shared.says(session, 'Bind "" "s" "1"', 'Execute "" 0', "Sync")
    other = shared.connect()
    assert session.shared is other
    said = [line.split()[0] for line in shared.heard(other)]
    assert said[-4:] == ["Parse", "Bind", "Execute", "Sync"]
    shared.world.end()


@pytest.mark.parametrize(
    "lines",
    [
        ['Parse "s" "SELECT $1"', "Flush"],
        ['Parse "s" "SELECT $1"', 'Bind "" "s" "1"', 'Execute "" 0', "Sync"],
        ['Parse "s" "SELECT $1" 25', "Sync"],
        ['Parse "s" "SELECT 2"', "Sync"],
    ],
)
def test_what_is_not_just_that_needs_a_server(lines: list[str]) -> None:
    shared = Shared(connection_limit=2)
    server = parsed(shared)
    session = shared.session()
    shared.says(server.shared, 'Query "BEGIN"')
    shared.done(server, "BEGIN", "T")
    shared.says(session, *lines)
    assert session.state is SessionState.WAITING
    shared.world.end()


def test_it_is_parsed_by_postgres_again_after_ddl_and_under_other_settings() -> None:
    for change in ("ddl", "setting", "name"):
        shared = Shared(connection_limit=2)
        server = parsed(shared)
        session = shared.session()
        if change == "ddl":
            shared.hub.sharing.catalogue_changed("shop")
        elif change == "setting":
            session.tracked.set("search_path", b"SET search_path = other")
        else:
            shared.says(session, PARSE, "Sync")
            assert session.state is SessionState.IDLE
        shared.says(server.shared, 'Query "BEGIN"')
        shared.done(server, "BEGIN", "T")
        shared.says(session, PARSE, "Sync")
        assert session.state is SessionState.WAITING
        shared.world.end()


def test_what_was_parsed_in_a_transaction_is_not_for_others() -> None:
    shared = Shared(connection_limit=2)
    first = shared.session()
    shared.says(first, 'Query "BEGIN"')
    server = first.shared
    shared.done(server, "BEGIN", "T")
    shared.says(first, PARSE, "Sync")
    shared.says(server, "ParseComplete", *TYPES, "ReadyForQuery T")
    session = shared.session()
    shared.says(session, PARSE, "Sync")
    assert session.state is SessionState.WAITING
    shared.world.end()


# What is on its way counts


def alone() -> tuple[Shared, SharedSession, SharedServer]:
    shared = Shared()
    session = shared.session()
    server = session.shared
    shared.hub.gate.catalogue_read(session.database, Catalogue())
    return shared, session, server


def test_an_end_that_is_answered_late_ends_nothing_that_was_sent_behind_it() -> None:
    shared, session, server = alone()
    shared.says(session, 'Query "SELECT pg_advisory_unlock_all()"')
    shared.says(session, 'Query "SELECT pg_advisory_lock(1)"')
    shared.done(server)
    assert Reason.LOCK in session.pins.reasons
    shared.done(server)
    assert Reason.LOCK in session.pins.reasons
    shared.world.end()


def test_a_check_says_nothing_of_what_was_sent_behind_it() -> None:
    shared, session, server = alone()
    shared.says(session, "Query \"DO 'BEGIN END'\"")
    shared.done(server, "DO")
    handover.check(session, server)
    shared.says(session, 'Query "LISTEN a"')
    shared.says(
        server,
        'DataRow "0" "0" "0" "0" "0" "none" "" NULL NULL "f" "0" NULL',
        'CommandComplete "SELECT 1"',
    )
    shared.says(server, "ReadyForQuery I")
    shared.done(server, "LISTEN")
    assert Reason.LISTEN in session.pins.reasons
    shared.world.end()


def test_a_reset_that_is_rolled_back_leaves_the_setting_on_the_server() -> None:
    shared, session, server = alone()
    for text, tag, status in (
        ("SET lock_timeout = 1", "SET", "I"),
        ("BEGIN", "BEGIN", "T"),
        ("RESET lock_timeout", "RESET", "T"),
        ("ROLLBACK", "ROLLBACK", "I"),
    ):
        shared.says(session, f'Query "{text}"')
        shared.done(server, tag, status)
    assert server.settings == session.tracked.settings == {"lock_timeout": b"SET lock_timeout = 1"}
    shared.world.end()


def test_what_comes_behind_the_end_of_all_names_waits_until_it_is_done() -> None:
    shared, session, server = alone()
    shared.says(session, 'Parse "s" "SELECT 7"', "Sync")
    shared.says(server, "ParseComplete", "ParameterDescription", "NoData", "ReadyForQuery I")
    shared.heard(server)
    shared.says(session, 'Query "DEALLOCATE ALL"', 'Bind "" "s"', "Sync")
    assert shared.heard(server) == ['Query "DEALLOCATE ALL"']
    shared.done(server, "DEALLOCATE ALL")
    assert shared.heard(server) == ['Bind "" "s"', "Sync"]
    shared.world.end()


def test_the_data_of_a_copy_is_not_held_behind_the_sync_that_it_makes_void() -> None:
    shared, session, server = alone()
    server.begun_as = "other.py"
    shared.says(session, 'Parse "" "RESET ALL"', 'Bind "" ""', 'Execute "" 0')
    shared.says(session, 'Parse "" "COPY t FROM STDIN"', 'Bind "" ""', 'Execute "" 0', "Sync")
    shared.says(session, 'CopyData "x"', "CopyDone", "Sync")
    shared.says(server, "ParseComplete", "BindComplete", 'CommandComplete "RESET"')
    shared.says(server, "ParseComplete", "BindComplete")
    shared.heard(server)
    shared.world.receive(server, b"G\0\0\0\7\0\0\0")
    assert shared.heard(server) == ['CopyData "x"', "CopyDone", "Sync"]
    shared.world.end()


def test_the_unnamed_statement_of_another_session_is_closed_before_it_could_be_bound() -> None:
    shared = Shared(connection_limit=1)
    first = shared.session()
    server = first.shared
    shared.says(first, 'Parse "" "SELECT 7"', "Sync")
    shared.says(server, "ParseComplete", "ReadyForQuery I")
    second = shared.session()
    shared.heard(server)
    shared.says(second, 'Bind "" ""', 'Execute "" 0', "Sync")
    assert shared.heard(server) == ['Close S ""', 'Bind "" ""', 'Execute "" 0', "Sync"]
    shared.world.end()


def test_the_end_of_a_batch_that_failed_before_its_sync_is_told() -> None:
    shared, session, server = alone()
    shared.says(session, 'Bind "" "none"', "Flush")
    shared.says(server, 'ErrorResponse ERROR 26000 "no"')
    server.stand.unnamed = None
    statement = shared.hub.gate.judge("shop").statement(b"SELECT 7", readable=True)
    session.names.unnamed = Prepared(b"SELECT 7\0\0\0", statement)
    shared.says(session, 'Bind "" ""', "Sync")
    shared.heard(session)
    shared.says(server, "ReadyForQuery I")
    assert shared.heard(session) == ["ReadyForQuery I"]
    shared.world.end()


@pytest.mark.parametrize("what", ["rests", "relayed", "pinned", "unsynced", "half"])
def test_who_keeps_a_server_without_saying_anything_is_stuck(what: str) -> None:
    shared, session, server = alone()
    if what == "pinned":
        session.pin(Reason.LISTEN, "LISTEN a")
    elif what == "relayed":
        session.pin(Reason.RELAYED, "relayed login")
    elif what == "unsynced":
        shared.says(session, 'Parse "" "SELECT 7"', "Flush")
        shared.says(server, "ParseComplete")
    elif what == "half":
        shared.world.receive(session, b"Q\0\0")
    said = shared.world.clock.now
    shared.world.clock.now += 5.0
    assert session.stuck_since() == (None if what in ("rests", "relayed") else said)
    shared.world.end()
