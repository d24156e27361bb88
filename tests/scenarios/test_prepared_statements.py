"""Bug class: a proxy's own idea of what is prepared differs from the server's (reliability R20)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from rawsession import RawSession

from pgguard.wire import backend, codes, frontend

if TYPE_CHECKING:
    from guard import RunningGuard

pytestmark = pytest.mark.slow

SYNC = frontend.sync()


def run(name: bytes = b"") -> bytes:
    return frontend.bind_message(b"", name) + frontend.execute_message(b"")


def answer(session: RawSession, asked: bytes) -> tuple[bytes, list[object]]:
    """Kinds of the messages up to ReadyForQuery, and what they say: values and SQLSTATEs."""
    session.send(asked)
    messages, said = session.until_ready(), []
    for kind, body in messages:
        if kind == codes.DATA_ROW:
            said.append(backend.decode_row(body)[0])
        elif kind == codes.ERROR_RESPONSE:
            fields = backend.decode_fields(body)
            said.append(f"{fields['S']} {fields['C']}")
    return bytes(kind for kind, _ in messages), said


def test_a_name_in_use_and_an_unknown_name_ended_the_connection(guard: RunningGuard) -> None:
    """pgbouncer#1118 and its Describe: ERROR 42P05 and 26000, and the session goes on."""
    named = frontend.parse_message(b"s", b"SELECT 'first'")
    with RawSession.open(guard) as session:
        assert answer(session, named + SYNC) == (b"1Z", [])
        again = frontend.parse_message(b"s", b"SELECT 'second'")
        assert answer(session, again + run(b"s") + SYNC) == (b"EZ", ["ERROR 42P05"])
        unknown = frontend.describe_message(codes.STATEMENT, b"unknown")
        assert answer(session, unknown + SYNC) == (b"EZ", ["ERROR 26000"])
        assert answer(session, run(b"s") + SYNC) == (b"2DCZ", [b"first"])
    guard.idle()


def test_closing_an_unknown_name_was_an_error(guard: RunningGuard) -> None:
    """odyssey#477, #1361: it is CloseComplete, once for each Close."""
    closes = frontend.close_message(codes.STATEMENT, b"unknown") * 2
    closes += frontend.close_message(codes.PORTAL, b"unknown")
    with RawSession.open(guard) as session:
        assert answer(session, closes + SYNC) == (b"333Z", [])
    guard.idle()


def test_a_reset_in_a_pipeline_forgot_what_was_prepared_after_it(guard: RunningGuard) -> None:
    """pgbouncer#1067, #1543, #1535: resets take effect where they stand."""
    before = frontend.parse_message(b"s", b"SELECT 'before'") + SYNC
    after = frontend.parse_message(b"s", b"SELECT 'after'") + SYNC
    for reset in (b"DISCARD ALL", b"DEALLOCATE ALL", b"DEALLOCATE s"):
        with RawSession.open(guard) as session:
            session.send(before + frontend.query(reset) + after)
            said = [bytes(kind for kind, _ in session.until_ready()) for _ in range(3)]
            assert [kinds.replace(b"S", b"") for kinds in said] == [b"1Z", b"CZ", b"1Z"]
            assert answer(session, run(b"s") + SYNC) == (b"2DCZ", [b"after"])
    guard.idle()


def test_two_unnamed_statements_under_one_sync_were_one(guard: RunningGuard) -> None:
    """pgcat#875: each Bind means the Parse before it."""
    one, two = (frontend.parse_message(b"", text) for text in (b"SELECT 'one'", b"SELECT 'two'"))
    with RawSession.open(guard) as session:
        assert answer(session, one + run() + two + run() + SYNC) == (b"12DC12DCZ", [b"one", b"two"])
    guard.idle()


def test_a_failed_parse_was_remembered(guard: RunningGuard) -> None:
    """pgcat#647, #611, pg_doorman 3.3.4: it leaves no name, nor does one that was passed over."""
    wrong = frontend.parse_message(b"s", b"SELECT nothing_like_it")
    skipped = frontend.parse_message(b"t", b"SELECT 'skipped'")
    with RawSession.open(guard) as session:
        assert answer(session, wrong + skipped + SYNC) == (b"EZ", ["ERROR 42703"])
        for name in (b"s", b"t"):
            assert answer(session, run(name) + SYNC) == (b"EZ", ["ERROR 26000"])
            good = frontend.parse_message(name, b"SELECT 'good'")
            assert answer(session, good + run(name) + SYNC) == (b"12DCZ", [b"good"])
    guard.idle()


def test_a_statement_was_evicted_while_it_was_bound(guard: RunningGuard) -> None:
    """pg_doorman 3.3.5: of a thousand names each is there, in any order."""
    names = [b"s%d" % number for number in range(1000)]
    with RawSession.open(guard) as session:
        parses = [frontend.parse_message(name, b"SELECT '%s'" % name) for name in names]
        assert answer(session, b"".join(parses) + SYNC) == (b"1" * 1000 + b"Z", [])
        some = names[::-97]
        _, said = answer(session, b"".join(map(run, some)) + SYNC)
        assert said == some
    guard.idle()


def test_a_plan_was_shared_by_sessions_with_another_search_path(guard: RunningGuard) -> None:
    """pg_doorman 3.10.0: the same text under the same name reads each session's own table."""
    text = frontend.parse_message(b"s", b"SELECT word FROM t") + run(b"s") + SYNC
    with RawSession.open(guard) as one, RawSession.open(guard) as two:
        for session, schema in ((one, "a"), (two, "b")):
            session.query(f"CREATE SCHEMA {schema}; SET search_path = {schema}")
            session.query(f"CREATE TABLE t AS SELECT 'of {schema}' AS word")
        assert answer(one, text)[1] == [b"of a"]
        assert answer(two, text)[1] == [b"of b"]
    guard.idle()
