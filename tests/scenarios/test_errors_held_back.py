"""Bug class: an error that is not sent on until Sync comes (reliability R19, R24)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from rawsession import RawSession

from pgguard.wire import codes, frontend

if TYPE_CHECKING:
    from guard import RunningGuard

pytestmark = pytest.mark.slow

STEPS = frontend.bind_message(b"", b"") + frontend.execute_message(b"")


def test_an_error_was_held_back_until_a_sync_that_its_reader_never_sent(
    guard: RunningGuard,
) -> None:
    """multigres#1274: Postgres tells at once, and Postgrex sends Sync only once it has heard."""
    with RawSession.open(guard) as session:
        session.send(frontend.parse_message(b"", b"SELECT nothing_like_it"))
        assert session.error()["C"] == "42703"
        session.send(frontend.sync())
        assert session.until_ready() == [(codes.READY_FOR_QUERY, b"I")]
    guard.idle()


def test_a_flush_ended_in_silence_instead_of_an_error(guard: RunningGuard) -> None:
    """pg_doorman: a flush that timed out. What was good before the error comes first."""
    with RawSession.open(guard) as session:
        good = frontend.parse_message(b"", b"SELECT 1") + STEPS
        session.send(good + frontend.bind_message(b"", b"unknown") + frontend.flush())
        assert [session.message()[0] for _ in range(4)] == list(b"12DC")
        assert session.error()["C"] == "26000"
        # In the wake of an error a Flush is passed over, too.
        session.send(frontend.flush() + frontend.sync())
        assert session.until_ready() == [(codes.READY_FOR_QUERY, b"I")]
    guard.idle()
