"""What a server that is shared knows of itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from shared import Shared

from pgguard.core.states import SessionState
from pgguard.pool.servers import ServerState
from pgguard.sql.session_effects import Effect, Kind

if TYPE_CHECKING:
    from pgguard.core.shared_server import SharedServer


def test_settings_are_known_by_their_texts() -> None:
    server = Shared().session().shared
    server.has_set("a", b"SET a = 1")
    server.has_set("b", b"SET b = 1")
    server.has_set("a", b"")
    assert server.settings == {"b": b"SET b = 1"}
    server.has_reset()
    assert server.settings == {}
    assert server.application_name == "a.py"
    server.begun_as = "b.py"
    server.has_reset()
    assert server.application_name is None


def test_names_with_a_dot_are_remembered_for_ever() -> None:
    server = Shared().session().shared
    server.may_mark([Effect(Kind.SET, "a.b"), Effect(Kind.SET, "c"), Effect(Kind.CALL, "d.e")])
    server.has_reset()
    assert server.dotted == {"a.b"}


def copying(shared: Shared, *lines: str) -> SharedServer:
    """A server whose session copies, and has sent these lines."""
    session = shared.session()
    server = session.shared
    shared.says(session, 'Query "COPY t FROM STDIN"')
    shared.world.receive(server, b"G\0\0\0\7\0\0\0")
    shared.says(session, *lines)
    shared.heard(server)
    return server


ERROR = 'ErrorResponse ERROR 22P04 "bad"'


def test_an_error_in_a_copy_without_a_sync_leaves_nothing_open() -> None:
    shared = Shared()
    server = copying(shared, 'CopyData "bad\\n"')
    shared.says(server, ERROR, "ReadyForQuery I")
    assert (server.loose, server.doubt, shared.heard(server)) == (0, "", [])
    shared.world.end()


def test_a_copy_that_ends_well_has_ignored_its_syncs() -> None:
    shared = Shared()
    server = copying(shared, "Sync", "Sync", "CopyDone")
    assert server.uncounted == 2
    shared.says(server, 'CommandComplete "COPY 0"', "ReadyForQuery I")
    assert (server.uncounted, server.loose, shared.heard(server)) == (0, 0, [])
    shared.world.end()


def test_a_sync_within_a_copy_that_fails_may_be_answered_and_a_marker_says_when_it_is_over() -> (
    None
):
    shared = Shared()
    server = copying(shared, "Sync", "Sync")
    session = server.shared
    shared.says(server, ERROR, "ReadyForQuery I", "ReadyForQuery I")
    assert shared.heard(session)[-2:] == ["ReadyForQuery I"] * 2
    marker = "pgguard 2 1"
    assert shared.heard(server) == [f"Query \"SELECT '{marker}'\""]
    session.pins.reasons.clear()
    assert not shared.hub.sharing.rests(session)
    shared.says(session, 'Query "SELECT 1"')
    shared.says(server, 'RowDescription "?column?"', f'DataRow "{marker}"')
    shared.done(server)
    assert shared.heard(session) == []
    shared.done(server)
    assert shared.heard(session) == ['CommandComplete "SELECT 1"', "ReadyForQuery I"]
    assert (server.loose, server.doubt) == (0, "")
    assert shared.hub.sharing.rests(session)
    shared.world.end()


def test_a_server_whose_marker_comes_back_otherwise_is_not_trusted() -> None:
    shared = Shared()
    server = copying(shared, "Sync")
    shared.says(server, ERROR, "ReadyForQuery I")
    shared.says(server, 'RowDescription "?column?"', 'DataRow "something else"')
    shared.done(server)
    assert server.doubt == "an error in COPY"
    shared.world.end()


def test_more_is_answered_than_was_asked_for() -> None:
    shared = Shared()
    server = copying(shared, "Sync")
    session = server.shared
    shared.says(server, ERROR, "ReadyForQuery I", "ReadyForQuery I", "ReadyForQuery I")
    assert session.state is SessionState.CLOSED
    shared.world.end()


def test_a_spare_server_that_says_goodbye_is_lent_to_nobody() -> None:
    shared = Shared()
    session = shared.session()
    server = session.shared
    shared.says(session, "Terminate")
    assert server.state is ServerState.IDLE
    shared.says(server, 'ErrorResponse FATAL 57P01 "terminating"')
    assert server.state is ServerState.CLOSING
    assert server not in server.pool.spare
    shared.world.end()


def test_who_listens_hears_of_others_by_the_pids_that_they_were_told() -> None:
    shared = Shared()
    session, other = shared.session(), shared.session()
    server = session.shared
    shared.says(session, 'Query "LISTEN a"')
    shared.done(server, "LISTEN")
    shared.says(other, 'Query "SELECT 1"')
    sender = shared.connect()
    shared.done(sender)
    shared.heard(session)
    told = [
        f'NotificationResponse {pid} "a" "b"' for pid in (server.pid, sender.pid, sender.pid + 999)
    ]
    shared.says(server, *told)
    assert [line.split()[1] for line in shared.heard(session)] == [
        str(session.pid),
        str(other.pid),
        str(sender.pid + 999),
    ]
    shared.says(session, 'Query "UNLISTEN *"')
    shared.done(server, "UNLISTEN")
    assert not server.walking
    shared.world.end()


@pytest.mark.parametrize("text", ["NOTIFY a", "SELECT pg_notify('a', '')"])
def test_a_notification_names_its_sender_though_the_server_has_gone_on(text: str) -> None:
    shared = Shared(connection_limit=2)
    listener, sender, next_one = (shared.session() for _ in range(3))
    server = listener.shared
    shared.says(listener, 'Query "LISTEN a"')
    shared.done(server, "LISTEN")
    shared.says(sender, f'Query "{text}"')
    passed_on = shared.connect()
    shared.done(passed_on)
    shared.says(next_one, 'Query "SELECT 1"')
    shared.done(passed_on)
    assert passed_on.session is next_one
    shared.heard(listener)
    shared.says(server, f'NotificationResponse {passed_on.pid} "a" ""')
    assert shared.heard(listener) == [f'NotificationResponse {sender.pid} "a" ""']
    shared.world.end()


@pytest.mark.parametrize(
    "texts",
    [
        ["SELECT pg_backend_pid()", "LISTEN a", "NOTIFY a"],
        ["LISTEN a", "SELECT pg_backend_pid(), pg_notify('a', '')"],
    ],
)
def test_who_has_asked_for_its_pid_is_named_by_it(texts: list[str]) -> None:
    shared = Shared()
    session = shared.session()
    server = session.shared
    for text in texts:
        shared.says(session, f'Query "{text}"')
        shared.done(server)
    shared.heard(session)
    told = f'NotificationResponse {server.pid} "a" ""'
    shared.says(server, told)
    assert shared.heard(session) == [told]
    shared.world.end()


def test_transactions_behind_which_a_session_is_pinned_are_counted() -> None:
    shared = Shared()
    session = shared.session()
    server = session.shared
    words = ("SELECT 1", "LISTEN a", "SELECT 1", "BEGIN", "COMMIT", "UNLISTEN *", "SELECT 1")
    for text in (*words, "SELECT f()", "CREATE TEMP TABLE t ()"):
        shared.says(session, f'Query "{text}"')
        shared.done(server, text, "T" if text == "BEGIN" else "I")
    assert shared.hub.counters.pinned_transactions == {"listen": 3, "function": 1, "temporary": 1}
    counters = shared.hub.counters
    assert counters.transactions["commit"] + counters.autocommit_seconds.count == 8
    shared.world.end()
