"""What a server is given, and asked, when it changes hands."""

from __future__ import annotations

import pytest
from shared import Shared

from pgguard.core import handover, upkeep
from pgguard.core.pins import Reason

CLEAN = [b"0", b"0", b"0", b"0", b"0", b"none", b"", None, None, b"f", b"0", None]


def digits(text: bytes) -> bytes:
    """As a check tells JSON."""
    return text.hex().encode()


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


def test_the_schema_for_temporary_objects_is_made_before_settings_are() -> None:
    shared = Shared()
    session = shared.session()
    server = session.shared
    session.dotted = frozenset({upkeep.TEMPORARY, "app.tenant"})
    handover.take_over(session, server)
    path, mark = shared.heard(server)
    assert path.startswith('Query "SET LOCAL search_path = pg_temp; SELECT ')
    assert "app.tenant" in mark
    assert server.dotted == session.dotted


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
        (5, b"admin", Reason.ROLE),
        (6, b"role", Reason.ROLE),
        (7, b"log_duration", Reason.SETTING),
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


@pytest.mark.parametrize(("told", "learned"), [("0", False), ("5s", False), ("7ms", True)])
def test_a_check_learns_the_statement_timeout_that_it_changes_itself(
    told: str, *, learned: bool
) -> None:
    session = Shared().session()
    session.pins.add(Reason.FUNCTION, "", 1.0, "f()")
    session.unverified = False
    begun = b"5000" if told == "5s" else b"0"
    settings = digits(b'{"statement_timeout": "%b"}' % begun)
    session.shared.row = [told.encode(), *CLEAN[:8], settings, *CLEAN[9:]]
    handover.checked(session, session.shared, 2.0)
    made = {"statement_timeout": upkeep.make("statement_timeout", told)} if learned else {}
    assert session.tracked.settings == made
    assert not session.pinned


def test_a_check_learns_what_code_has_made_of_the_settings() -> None:
    session = Shared().session()
    server = session.shared
    session.tracked.set("lock_timeout", b"SET lock_timeout = 1")
    session.tracked.set("work_mem", b"SET work_mem = 1")
    session.tracked.set("log_duration", b"SET log_duration = on")
    session.pins.add(Reason.SETTING, "lock_timeout", 1.0, "SET ...")
    session.unverified = False
    settings = b'{"application_name": "a.py", "lock_timeout": "7", "transaction_read_only": "on"}'
    dotted = b'{"app.a": "it\'s", "app.b": ""}'
    server.row = [*CLEAN[:7], b"log_duration", digits(settings), b"t", b"0", digits(dotted)]
    handover.checked(session, server, 2.0)
    assert session.tracked.settings == {
        "log_duration": b"SET log_duration = on",
        "lock_timeout": b"SELECT pg_catalog.set_config('lock_timeout', '7', false)",
        "app.a": b"SELECT pg_catalog.set_config('app.a', 'it''s', false)",
    }
    assert server.settings == session.tracked.settings
    assert server.dotted == session.dotted == {"app.a", "app.b", upkeep.TEMPORARY}
    assert not session.pins


@pytest.mark.parametrize(("path", "temporary"), [("public, pg_temp", True), ("public", False)])
def test_a_check_finds_a_path_to_temporary_objects(path: str, *, temporary: bool) -> None:
    session = Shared().session()
    session.pins.add(Reason.FUNCTION, "", 1.0, "f()")
    session.unverified = False
    settings = digits(b'{"search_path": "%b"}' % path.encode())
    session.shared.row = [*CLEAN[:8], settings, *CLEAN[9:]]
    handover.checked(session, session.shared, 2.0)
    assert session.creates_temporary is temporary


def test_a_setting_of_a_name_that_nobody_knows_stays_a_reason() -> None:
    session = Shared().session()
    session.pins.add(Reason.SETTING, "", 1.0, "SELECT set_config($1, ...)")
    session.unverified = False
    session.shared.row = CLEAN
    handover.checked(session, session.shared, 2.0)
    assert set(session.pins.reasons) == {Reason.SETTING}


def test_names_that_were_laid_bare_are_put_away_by_the_check() -> None:
    shared = Shared()
    session = shared.session()
    shared.says(session, 'Query "SELECT * FROM pg_prepared_statements"')
    server = session.shared
    shared.done(server, "DEALLOCATE ALL")
    shared.says(server, "ReadyForQuery I")
    shared.done(server)
    assert set(session.pins.reasons) == {Reason.NAMES}
    assert session.unverified
    handover.check(session, server)
    assert not session.names.bare
    server.row = CLEAN
    handover.checked(session, server, 2.0)
    assert not session.pins


def test_a_check_without_an_answer_makes_the_server_doubtful() -> None:
    session = Shared().session()
    server = session.shared
    server.row = []
    handover.checked(session, server, 2.0)
    assert server.doubt


@pytest.mark.parametrize(("left", "forgotten"), [(b"0", True), (b"1", False)])
def test_code_that_takes_prepared_statements_away_spoils_the_server(
    left: bytes, *, forgotten: bool
) -> None:
    shared = Shared()
    session = shared.session()
    server = session.shared
    for name in ("one", "two"):
        shared.says(session, f'Parse "{name}" "SELECT 1"', "Sync")
        shared.says(server, "ParseComplete", "ParameterDescription", "NoData", "ReadyForQuery I")
    handover.check(session, server)
    server.row = [*CLEAN[:-2], b"2", None]
    handover.checked(session, server, 2.0)
    assert not server.doubt
    server.row = [*CLEAN[:-2], left, None]
    handover.checked(session, server, 2.0)
    assert server.doubt
    assert (session.names.get(b"one") is None) is forgotten
