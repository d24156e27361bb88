"""What a server is given, and asked, when it changes hands."""

from __future__ import annotations

import pytest
from shared import Shared

from pgguard.core import handover
from pgguard.core.pins import Reason

CLEAN = [b"0", b"0", b"0", b"0", b"0", None, b"none", b""]


def test_a_session_that_comes_back_to_its_own_server_needs_nothing() -> None:
    shared = Shared()
    session = shared.session()
    server = session.shared
    handover.take_over(session, server)
    assert shared.heard(server) == []


def test_sequence_state_of_another_is_discarded() -> None:
    shared = Shared(connection_limit=1)
    first = shared.session()
    server = first.shared
    server.sequences_of = first
    second = shared.session()
    shared.says(second, 'Query "SELECT 1"')
    assert shared.heard(server) == ['Query "DISCARD SEQUENCES"']
    shared.done(server, "DISCARD SEQUENCES")
    assert shared.heard(server) == ['Query "SELECT 1"']
    shared.world.end()


def test_names_with_a_dot_leave_on_the_next_server_what_they_left_on_the_first() -> None:
    shared = Shared()
    session = shared.session()
    server = session.shared
    session.dotted = frozenset({"app.tenant"})
    handover.take_over(session, server)
    assert shared.heard(server) == [
        "Query \"SELECT pg_catalog.set_config('app.tenant', '', true)\""
    ]
    assert server.dotted == {"app.tenant"}


def test_after_a_reset_the_session_has_its_name_again() -> None:
    shared = Shared(total=1)
    shared.says(shared.session("b.py"), "Terminate")
    session = shared.session()
    shared.says(session, 'Query "RESET ALL"')
    server = session.shared
    shared.done(server, "RESET")
    shared.done(server, "SET")
    assert shared.heard(server)[-1] == 'Query "RESET ALL"'
    shared.done(server, "RESET")
    assert shared.heard(server) == ["Query \"SET application_name = 'a.py'\""]
    shared.done(server, "SET")
    assert shared.heard(session) == ['CommandComplete "RESET"', "ReadyForQuery I"]
    shared.world.end()


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        (0, b"1", Reason.LOCK),
        (1, b"2", Reason.LISTEN),
        (2, b"1", Reason.PREPARE),
        (3, b"1", Reason.HOLD),
        (4, b"3", Reason.TEMPORARY),
        (5, b"lock_timeout", Reason.SETTING),
        (6, b"admin", Reason.ROLE),
        (7, b"role", Reason.ROLE),
    ],
)
def test_what_a_check_finds_pins(column: int, value: bytes, reason: Reason) -> None:
    session = Shared().session()
    server = session.shared
    session.pins.add(Reason.FUNCTION, "", 1.0, "f()")
    session.unverified = False
    server.row = [*CLEAN[:column], value, *CLEAN[column + 1 :]]
    handover.checked(session, server, 2.0)
    assert set(session.pins.reasons) == {reason}


def test_settings_that_are_known_are_no_surprise_to_a_check() -> None:
    session = Shared().session()
    server = session.shared
    session.tracked.set("lock_timeout", b"SET lock_timeout = 1")
    server.row = [*CLEAN[:5], b"application_name lock_timeout", *CLEAN[6:]]
    handover.checked(session, server, 2.0)
    assert not session.pins


def test_a_check_without_an_answer_makes_the_server_doubtful() -> None:
    session = Shared().session()
    server = session.shared
    server.row = []
    handover.checked(session, server, 2.0)
    assert server.doubt
