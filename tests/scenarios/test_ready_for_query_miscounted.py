"""Bug class: one ReadyForQuery too many or too few shifts all later replies (reliability R17, R19).

Each test is named after what happened elsewhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from rawsession import RawSession

from pgguard.wire import backend, codes, frontend

if TYPE_CHECKING:
    from guard import RunningGuard

pytestmark = pytest.mark.slow

STEPS = frontend.bind_message(b"", b"") + frontend.execute_message(b"")
# Postgres finds it while it plans, at Bind.
WRONG = frontend.parse_message(b"", b"SELECT 1/0") + STEPS


def rows(messages: list[tuple[int, bytes]]) -> list[bytes | None]:
    return [backend.decode_row(body)[0] for kind, body in messages if kind == codes.DATA_ROW]


def kinds(messages: list[tuple[int, bytes]]) -> bytes:
    return bytes(kind for kind, _ in messages)


def test_a_query_in_the_wake_of_an_error_is_passed_over_up_to_sync(guard: RunningGuard) -> None:
    """pgdog#1356, multigres#1230: Postgrex does this; the Query owes no ReadyForQuery."""
    with RawSession.open(guard) as session:
        session.send(WRONG + frontend.query(b"SELECT 'passed over'") + frontend.sync())
        assert kinds(session.until_ready()) == b"1EZ"
        assert rows(session.query("SELECT 'next'")) == [b"next"]
    guard.idle()


def test_a_ready_came_in_the_middle_of_an_extended_exchange(guard: RunningGuard) -> None:
    """pgcat#137, #155, PgBouncer 1.7: one at each Sync, and nowhere else."""
    prepared = frontend.parse_message(b"s", b"SELECT 'one'")
    one = frontend.bind_message(b"", b"s") + frontend.execute_message(b"")
    with RawSession.open(guard) as session:
        session.send(prepared + frontend.flush() + one + frontend.flush() + one + frontend.flush())
        taken = [session.message() for _ in range(7)]
        assert kinds(taken) == b"12DC2DC"
        session.send(frontend.sync() + frontend.sync() + frontend.query(b"SELECT 'two'"))
        assert kinds(session.until_ready()) == b"Z"
        assert kinds(session.until_ready()) == b"Z"
        assert rows(session.until_ready()) == [b"two"]
    guard.idle()


def test_replies_were_shifted_by_a_mix_of_both_protocols(guard: RunningGuard) -> None:
    """pgdog#887: queries, syncs, errors and empty queries of one segment are answered in turn."""
    good = frontend.parse_message(b"", b"SELECT 'x'") + STEPS + frontend.sync()
    simple, empty = frontend.query(b"SELECT 'q'; SELECT 'r'"), frontend.query(b"")
    with RawSession.open(guard) as session:
        session.send((simple + good + WRONG + frontend.sync() + empty) * 20)
        for _ in range(20):
            assert kinds(session.until_ready()) == b"TDCTDCZ"
            assert kinds(session.until_ready()) == b"12DCZ"
            assert kinds(session.until_ready()) == b"1EZ"
            assert kinds(session.until_ready()) == b"IZ"
        assert rows(session.query("SELECT 'last'")) == [b"last"]
    guard.idle()
