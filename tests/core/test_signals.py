"""Signals by a pid that we have invented reach the session that was told it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from shared import Shared

from pgguard.core.pins import Reason
from pgguard.core.signals import DONE, in_bind, in_text
from pgguard.core.states import SessionState
from pgguard.wire.frontend import bind_message, decode_bind

if TYPE_CHECKING:
    from pgguard.core.shared_session import SharedSession


CALL = b"SELECT pg_terminate_backend(%d)"
ENDED = b"SELECT CASE WHEN true THEN true ELSE pg_terminate_backend(%d) END"


def busy(shared: Shared, name: str = "a.py") -> SharedSession:
    """One in a transaction."""
    session = shared.session(name)
    shared.says(session, 'Query "BEGIN"')
    if session.server is None:
        shared.connect()
    shared.done(session.shared, "BEGIN", "T")
    return session


def test_the_pid_is_that_of_the_server_which_the_session_has_now() -> None:
    shared = Shared()
    sender = shared.session()
    victim = busy(shared)
    pid, real = victim.pid, victim.shared.pid
    assert pid > 4_194_304 > real
    said = b"SELECT pg_terminate_backend(%d), pg_cancel_backend( %d , 5)"
    assert in_text(sender, said % (pid, pid)) == said % (real, real)
    shared.world.end()


@pytest.mark.parametrize("pid", [1234, 99_999_999, 4_194_304])
def test_what_means_no_session_of_ours_goes_as_it_is(pid: int) -> None:
    shared = Shared()
    session = shared.session()
    said = b"SELECT pg_terminate_backend(%d)" % pid
    assert in_text(session, said) == said
    shared.world.end()


@pytest.mark.parametrize(
    "said",
    [
        b"SELECT " + b", ".join([b"pg_cancel_backend(1234567)"] * 40_000),
        b"SELECT $" + b"a" * 1_000_000 + b", pg_cancel_backend(1234567)",
    ],
    ids=["many calls", "a dollar quote without end"],
)
def test_a_text_of_a_million_bytes_is_read_once(said: bytes) -> None:
    shared = Shared()
    assert in_text(shared.session(), said) == said
    shared.world.end()


@pytest.mark.parametrize("tag", ["", "a", "a1", "\u00e9"])
def test_a_call_behind_a_dollar_quote_may_stand_in_a_string(tag: str) -> None:
    shared = Shared(connection_limit=1)
    victim = shared.session()
    sender = busy(shared)
    said = f"SELECT ${tag}$ pg_terminate_backend({victim.pid}) ${tag}$".encode()
    assert in_text(sender, said) == said
    assert victim.state is SessionState.IDLE
    shared.world.end()


@pytest.mark.parametrize(
    ("formats", "encode"),
    [
        ((), lambda pid: b"%d" % pid),
        ((0,), lambda pid: b"%d" % pid),
        ((1,), lambda pid: pid.to_bytes(4, "big")),
        ((0, 1), lambda pid: pid.to_bytes(8, "big")),
    ],
)
def test_the_pid_may_be_bound(formats: tuple[int, ...], encode) -> None:
    shared = Shared()
    session = shared.session()
    place = 1 if len(formats) == 2 else 0
    text = b"SELECT pg_cancel_backend($%d)" % (place + 1)
    values = [b"first", encode(session.pid)][1 - place :]
    made = in_bind(session, text, bind_message(b"p", b"s", values, formats, (1,)))
    portal, name, told, others, results = decode_bind(made[5:])
    assert (portal, name, told, results) == (b"p", b"s", formats, (1,))
    assert others[place] == encode(session.shared.pid)
    shared.world.end()


@pytest.mark.parametrize("linked", [False, True], ids=["without a server", "resting"])
def test_a_session_that_needs_no_server_is_ended_by_us_and_no_server_with_it(linked: bool) -> None:
    shared = Shared(connection_limit=1 if not linked else 3)
    victim = shared.session()
    shared.says(victim, 'Query "SELECT 1"')
    shared.done(victim.shared)
    sender = busy(shared)
    assert (victim.server is not None) is linked
    servers = len(shared.hub.servers)
    assert in_text(sender, CALL % victim.pid) == ENDED % victim.pid
    shared.world.settle()
    assert victim.state is SessionState.CLOSED
    assert b"C57P01\0" in shared.world.outs[victim].written
    assert len(shared.hub.servers) == servers
    shared.world.end()


def test_a_session_that_waits_is_cancelled_by_us() -> None:
    shared = Shared(connection_limit=1)
    waiting = shared.session()
    sender = busy(shared)
    shared.says(waiting, 'Query "SELECT 1"')
    assert waiting.state is SessionState.WAITING
    said = b"SELECT pg_cancel_backend(%d)" % waiting.pid
    assert in_text(sender, said) == ENDED.replace(b"terminate", b"cancel") % waiting.pid
    assert waiting.state is SessionState.IDLE
    assert "57014" in shared.heard(waiting)[0]
    shared.world.end()


def test_a_cancel_of_a_session_that_rests_hits_nobody() -> None:
    shared = Shared()
    resting = shared.session()
    shared.says(resting, 'Query "SELECT 1"')
    shared.done(resting.shared)
    sender = busy(shared)
    said = b"SELECT pg_catalog.pg_cancel_backend(%d)" % resting.pid
    assert b"CASE WHEN true THEN true ELSE pg_catalog.pg_cancel" in in_text(sender, said)
    assert resting.state is SessionState.LINKED
    shared.world.end()


@pytest.mark.parametrize(
    "text",
    [
        b"SELECT * FROM pg_terminate_backend(%d)",
        b"SELECT 'pg_terminate_backend(%d)'",
        b"SELECT 1 -- \npg_terminate_backend(%d)",
        b"DO $$ BEGIN PERFORM pg_terminate_backend(%d); END $$",
        b"SELECT pg_terminate_backend(%d, timeout => 1000)",
        b"SELECT pg_terminate_backend(%d + 0)",
    ],
)
def test_where_no_expression_is_sure_a_spare_server_is_signalled_or_nobody(text: bytes) -> None:
    shared = Shared(connection_limit=1)
    idle = shared.session()
    sender = busy(shared)
    assert in_text(sender, text % idle.pid) == text % idle.pid
    assert idle.state is SessionState.IDLE
    other = shared.session("b.py")
    shared.says(other, 'Query "SELECT 1"')
    spare = shared.connect()
    shared.done(spare)
    shared.says(other, "Terminate")
    assert in_text(sender, text % idle.pid) == text % spare.pid
    assert idle.state is SessionState.CLOSING
    shared.world.end()


@pytest.mark.parametrize(
    ("parameters", "may"),
    [({}, True), ({"user": "bob"}, False)],
    ids=["the same role", "another role"],
)
def test_only_whom_postgres_would_let_is_believed(parameters: dict[str, str], may: bool) -> None:
    shared = Shared(connection_limit=2)
    sender = busy(shared)
    victim = shared.session(**parameters)
    if victim.server is not None:
        shared.hub.sharing.let_go(victim.shared)
    assert victim.server is None
    assert (in_text(sender, CALL % victim.pid) == ENDED % victim.pid) is may
    sender.told = {**sender.told, "is_superuser": "on"}
    if not may:
        assert in_text(sender, CALL % victim.pid) == ENDED % victim.pid
    shared.world.end()


def test_a_changed_role_and_a_failed_transaction_end_nobody() -> None:
    shared = Shared(connection_limit=1)
    idle = shared.session()
    sender = busy(shared)
    sender.pin(Reason.ROLE, "SET ROLE nobody")
    assert in_text(sender, CALL % idle.pid) == CALL % idle.pid
    sender.pins.verified(Reason.ROLE)
    sender.shared.become("E")
    assert in_text(sender, CALL % idle.pid) == CALL % idle.pid
    sender.shared.become("T")
    assert in_text(sender, CALL % idle.pid) == ENDED % idle.pid
    shared.world.end()


@pytest.mark.parametrize("argument", ["$1", "$1::int"])
def test_a_prepared_call_answers_for_itself_when_it_is_bound(argument: str) -> None:
    shared = Shared(connection_limit=1)
    idle = shared.session()
    sender = busy(shared)
    server = sender.shared
    shared.heard(server)
    call = f"pg_terminate_backend({argument})"
    shared.says(sender, f'Parse "" "SELECT {call}"')
    assert shared.heard(server) == [f'Parse "" "SELECT {call}"']
    assert idle.state is SessionState.IDLE
    text = f"SELECT CASE WHEN {argument} = {DONE} THEN true ELSE {call} END"
    shared.says(sender, f'Bind "" "" "{idle.pid}"', 'Execute "" 0', "Sync")
    assert shared.heard(server)[:2] == [f'Parse "" "{text}"', f'Bind "" "" "{DONE}"']
    assert idle.state is SessionState.CLOSED
    shared.says(sender, f'Bind "" "" "{DONE}"', 'Execute "" 0', "Sync")
    assert f'Bind "" "" "{DONE}"' not in shared.heard(server)
    shared.world.end()


def test_a_query_that_signals_is_sent_with_the_real_pid() -> None:
    shared = Shared()
    session = shared.session()
    server = session.shared
    shared.says(session, f'Query "SELECT pg_terminate_backend({session.pid})"')
    assert shared.heard(server) == [f'Query "SELECT pg_terminate_backend({server.pid})"']
    assert not session.pins
    shared.done(server)
    shared.says(session, 'Parse "" "SELECT pg_cancel_backend($1)"')
    shared.says(session, f'Bind "" "" "{session.pid}"', 'Execute "" 0', "Sync")
    assert f'Bind "" "" "{server.pid}"' in shared.heard(server)
    shared.world.end()


def test_whoever_asks_what_a_session_does_or_waits_for_means_its_server() -> None:
    shared = Shared()
    session = shared.session()
    pid, real = session.pid, session.shared.pid
    for said in (
        b"SELECT pg_blocking_pids(%d)",
        b"SELECT pg_catalog.pg_isolation_test_session_is_blocked($1, '{%d,17}')",
        b"SELECT state FROM pg_stat_activity WHERE pid = %d",
        b"SELECT 1 FROM pg_locks l JOIN t USING (a) WHERE l.pid IN (%d, 3)",
        b"SELECT wait_event FROM pg_stat_get_activity(%d)",
        b"SELECT pg_log_backend_memory_contexts(%d)",
        b"SELECT * FROM pg_stat_get_backend_io(%d)",
        b"SELECT ssl FROM pg_stat_ssl WHERE pid = %d",
    ):
        assert in_text(session, said % pid) == said % real
        assert in_text(session, said % 99_999_999) == said % 99_999_999
    shared.world.end()


@pytest.mark.parametrize(
    "text", ["SELECT 1 FROM pg_locks WHERE pid = ", "SELECT pg_blocking_pids("]
)
def test_such_a_statement_is_sent_with_the_pid_of_the_server(text: str) -> None:
    shared = Shared()
    session = shared.session()
    text += "{pid})" if text.endswith("(") else "{pid}"
    shared.heard(session.shared)
    shared.says(session, f'Query "{text.format(pid=session.pid)}"')
    assert shared.heard(session.shared) == [f'Query "{text.format(pid=session.shared.pid)}"']
    shared.world.end()


@pytest.mark.parametrize("binary", [False, True])
def test_the_same_of_a_bound_value(binary: bool) -> None:
    shared = Shared()
    session = shared.session()

    def value(pid: int) -> bytes:
        return pid.to_bytes(4, "big") if binary else b"%d" % pid

    raw = bind_message(b"", b"", [value(session.pid), None], [int(binary)], [])
    made = in_bind(session, b"SELECT pg_blocking_pids($1), $2", raw)
    assert decode_bind(made[5:])[3] == [value(session.shared.pid), None]
    shared.world.end()


@pytest.mark.parametrize("name", ["", "s"])
def test_a_statement_that_was_prepared_with_a_pid_means_the_server_of_the_moment(name: str) -> None:
    shared = Shared()
    session, other = shared.session(), shared.session("b.py")
    asks = f"SELECT pg_blocking_pids({other.pid}), $1"
    stands = "pgg1.s" if name else ""
    assert other.server is None
    shared.says(session, f'Parse "{name}" "{asks}"', "Sync")
    server = session.shared
    assert shared.heard(server)[0] == f'Parse "{stands}" "{asks}"'
    shared.says(server, "ParseComplete")
    if name:
        shared.says(server, "ParameterDescription 25", 'RowDescription "x"')
    shared.says(server, "ReadyForQuery I")
    shared.says(other, 'Query "SELECT 1"')
    shared.done(shared.connect())
    shared.heard(session)

    def asked() -> list[str]:
        shared.says(session, f'Bind "" "{name}" "x"', 'Execute "" 0', "Sync")
        said = shared.heard(server)
        closes = said.count(f'Close S "{stands}"') if name else 0
        parses = sum(line.startswith("Parse") for line in said)
        replies = ["CloseComplete"] * closes + ["ParseComplete"] * parses
        shared.says(server, *replies, "BindComplete", 'CommandComplete "SELECT 1"')
        shared.says(server, "ReadyForQuery I")
        told = ["BindComplete", 'CommandComplete "SELECT 1"', "ReadyForQuery I"]
        assert shared.heard(session) == told
        return [line for line in said if line.startswith("Parse")]

    types = " 25" if name else ""
    real = asks.replace(str(other.pid), str(other.shared.pid))
    assert asked() == [f'Parse "{stands}" "{real}"{types}']
    assert asked() == []
    shared.says(other, "Terminate")
    assert asked() == [f'Parse "{stands}" "{asks}"{types}']
    shared.world.end()


def test_whom_a_prepared_statement_would_end_lives_until_it_is_executed() -> None:
    shared = Shared()
    session, other = shared.session(), shared.session()
    shared.says(session, 'Query "SELECT 1"')
    gone = shared.session()
    shared.says(gone, 'Query "SELECT 1"')
    shared.done(session.shared)
    shared.done(shared.connect())
    shared.says(gone, "Terminate")
    assert other.server is None
    shared.says(session, f'Parse "" "SELECT pg_terminate_backend({other.pid})"', "Sync")
    shared.says(session.shared, "ParseComplete", "ReadyForQuery I")
    shared.world.settle()
    assert other.state is SessionState.IDLE
    shared.says(session, 'Bind "" ""', 'Execute "" 0', "Sync")
    shared.world.settle()
    assert other.state is SessionState.CLOSED
    shared.world.end()


@pytest.mark.parametrize("end", ["answered", "lost"])
def test_a_server_that_is_signalled_stays_its_sessions_until_the_signal_is_over(end: str) -> None:
    shared = Shared(connection_limit=2)
    sender, victim = shared.session(), busy(shared)
    server = victim.shared
    shared.says(sender, f'Query "SELECT pg_cancel_backend({victim.pid})"')
    shared.says(victim, 'Query "COMMIT"')
    shared.done(server, "COMMIT")
    waiting = shared.session()
    shared.says(waiting, 'Query "SELECT 1"')
    assert (victim.server, server.cancels) == (server, 1)
    if end == "answered":
        shared.done(sender.shared)
    else:
        shared.world.reset(sender.shared)
    assert server.cancels == 0
    assert shared.hub.sharing.rests(victim)
    shared.world.end()


def test_a_session_at_rest_looks_like_a_spare_server_until_it_ends() -> None:
    shared = Shared(connection_limit=2)
    asker, other = shared.session(), shared.session()
    said = b"SELECT state FROM pg_stat_activity WHERE pid = %d"
    assert in_text(asker, said % other.pid) == said % other.pid, "there is no spare one"
    shared.says(other, 'Query "SELECT 1"')
    server = shared.connect() if other.server is None else other.shared
    shared.done(server)
    shared.hub.sharing.let_go(server)
    assert other.server is None
    assert in_text(asker, said % other.pid) == said % server.pid
    third = shared.session("b.py", database="elsewhere")
    assert in_text(asker, said % third.pid) == said % third.shared.pid
    shared.says(other, "Terminate")
    assert in_text(asker, said % other.pid) == said % other.pid
    shared.world.end()
