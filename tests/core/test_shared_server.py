"""What a server that is shared knows of itself."""

from __future__ import annotations

from shared import Shared

from pgguard.core.shared_server import without_formats
from pgguard.pool.servers import ServerState
from pgguard.sql.session_effects import Effect, Kind

DESCRIPTION = b"\0\2" + b"".join(
    name + b"\0" + bytes(range(14)) + b"\0\4" + format_
    for name, format_ in ((b"a", b"\0\0"), (b"bc", b"\0\1"))
)


def test_descriptions_that_differ_in_formats_are_the_same() -> None:
    other = DESCRIPTION.replace(b"\0\4\0\1", b"\0\4\0\0")
    assert other != DESCRIPTION
    assert without_formats(other) == without_formats(DESCRIPTION)
    assert without_formats(DESCRIPTION.replace(b"bc", b"bd")) != without_formats(DESCRIPTION)
    assert without_formats(b"") == b""


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


def test_an_error_in_a_copy_makes_a_server_doubtful() -> None:
    shared = Shared()
    session = shared.session()
    server = session.shared
    shared.says(session, 'Query "COPY t FROM STDIN"')
    shared.world.receive(server, b"G\0\0\0\7\0\0\0")
    shared.says(server, 'ErrorResponse ERROR 22P04 "bad"', "ReadyForQuery I")
    assert server.doubt
    assert session.server is server
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


def test_transactions_behind_which_a_session_is_pinned_are_counted() -> None:
    shared = Shared()
    session = shared.session()
    server = session.shared
    for text in ("SELECT 1", "LISTEN a", "SELECT 1", "BEGIN", "COMMIT", "UNLISTEN *", "SELECT 1"):
        shared.says(session, f'Query "{text}"')
        shared.done(server, text, "T" if text == "BEGIN" else "I")
    assert shared.hub.counters.pinned_transactions == 3
    counters = shared.hub.counters
    assert counters.transactions["commit"] + counters.autocommit_seconds.count == 6
    shared.world.end()
