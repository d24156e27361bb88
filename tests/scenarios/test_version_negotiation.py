"""Bug class: versions and options to come are refused, or answered twice (reliability R37).

The answers to each version are compared with Postgres's in tests/integration/test_guard_corners.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from rawsession import RawSession

from pgguard.wire import backend, codes
from pgguard.wire.startup import build_startup

if TYPE_CHECKING:
    from guard import RunningGuard

pytestmark = pytest.mark.slow


def test_a_session_of_a_version_to_come_was_answered_twice(guard: RunningGuard) -> None:
    """pgbouncer#1007, #1460; libpq 19 asks for 3.9999 with an option that there is not.

    The one answer comes before anything else, and the session works to its end.
    """
    options = {"_pq_.test_protocol_negotiation": "", "_pq_.other": "1"}
    there = guard.guard.upstream
    for version in (0x30001, 0x30002, 0x30003, 0x3270F):
        with RawSession(guard.guard.listen) as session:
            words = {"user": there.user, "database": there.database, **options}
            session.send(build_startup(version, words))
            kind, body = session.message()
            assert kind == codes.NEGOTIATE_PROTOCOL_VERSION
            told, unknown = backend.decode_negotiate(body)
            assert (told, unknown) == (min(version, 0x30002), list(options))
            session._authenticate(there.password or "")
            greeting = [kind for kind, _ in session.until_ready()]
            assert codes.NEGOTIATE_PROTOCOL_VERSION not in greeting
            assert len(session.secret) == (4 if version == 0x30001 else 32)
            assert session.query("SELECT 1")[-1] == (codes.READY_FOR_QUERY, b"I")
    guard.idle()


def test_a_version_that_nobody_speaks_was_taken_for_ours(guard: RunningGuard) -> None:
    """Refused in Postgres's words, and nobody is asked who he is."""
    for version in (0x10000, 0x20000, 0x40000, 0x7FFF0000):
        with RawSession(guard.guard.listen) as session:
            session.send(build_startup(version, {"user": "somebody"}))
            kind, body = session.message()
            assert kind == codes.ERROR_RESPONSE
            error = backend.decode_fields(body)
            assert (error["S"], error["C"]) == ("FATAL", "0A000")
            assert error["M"].startswith("unsupported frontend protocol")
            assert session.ended()
    guard.idle()
