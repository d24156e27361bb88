"""Who has which server: links that rest, spare servers, room."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest
from shared import Shared

from pgguard.core.login import Method
from pgguard.core.pins import Reason
from pgguard.core.secrets import Role
from pgguard.core.states import SessionState
from pgguard.pool.servers import ServerState

if TYPE_CHECKING:
    from pgguard.core.shared_session import SharedSession

BEGIN = 'Query "BEGIN"'
SELECT = 'Query "SELECT 1"'


def servers(shared: Shared) -> list[ServerState]:
    return sorted((server.state for server in shared.hub.servers), key=lambda state: state.value)


def test_a_session_that_rests_keeps_its_server_while_nobody_needs_it() -> None:
    shared = Shared()
    session = shared.session()
    assert session.state is SessionState.LINKED
    server = session.shared
    for _ in range(3):
        shared.says(session, SELECT)
        assert shared.heard(server) == [SELECT]
        shared.done(server)
        assert session.shared is server
    shared.world.end()


def test_whoever_asks_in_vain_gets_the_server_that_has_rested_longest() -> None:
    shared = Shared(connection_limit=2)
    first, second = shared.session(), shared.session()
    one = first.shared
    shared.says(second, SELECT)
    third = shared.connect() if second.server is None else second.shared
    shared.world.wait(0.2)
    shared.done(third)
    newcomer = shared.session()
    assert newcomer.state is SessionState.IDLE
    shared.says(newcomer, SELECT)
    assert newcomer.shared is one
    assert first.state is SessionState.IDLE
    shared.done(one)
    assert shared.hub.admission.held == 2
    shared.world.end()


def test_a_transaction_is_not_interrupted_and_lets_go_when_it_is_over() -> None:
    shared = Shared(connection_limit=1)
    first = shared.session()
    server = first.shared
    second = shared.session()
    shared.says(first, BEGIN)
    shared.done(server, "BEGIN", "T")
    shared.says(second, SELECT)
    assert second.state is SessionState.WAITING
    shared.heard(server)
    shared.says(first, 'Query "COMMIT"')
    assert shared.heard(server) == ['Query "COMMIT"']
    shared.done(server, "COMMIT")
    assert second.shared is server
    assert shared.heard(server) == [SELECT]
    shared.done(server)
    assert shared.heard(second) == ['CommandComplete "SELECT 1"', "ReadyForQuery I"]
    shared.world.end()


def test_a_session_that_ends_leaves_a_spare_server_for_the_next() -> None:
    shared = Shared()
    session = shared.session()
    server = session.shared
    shared.says(session, "Terminate")
    assert servers(shared) == [ServerState.IDLE]
    assert shared.hub.admission.held == 0
    other = shared.session()
    shared.says(other, SELECT)
    assert other.shared is server
    assert not shared.world.net.asked("dial")[1:]
    shared.world.end()


def test_a_session_that_ends_within_a_transaction_takes_its_server_with_it() -> None:
    shared = Shared()
    session = shared.session()
    server = session.shared
    shared.says(session, BEGIN)
    shared.done(server, "BEGIN", "T")
    shared.says(session, "Terminate")
    assert server.state is ServerState.CLOSING
    assert shared.hub.admission.held == 1
    shared.world.eof(server)
    shared.world.reset(server)
    assert shared.hub.admission.held == 0
    shared.world.end()


def test_another_client_gets_a_server_only_after_a_reset() -> None:
    shared = Shared(total=1)
    a = shared.session("a.py")
    server = a.shared
    b = shared.session("b.py")
    shared.says(b, SELECT)
    assert b.shared is server
    reset, name = shared.heard(server)
    assert "RESET ALL" in reset
    assert "DISCARD TEMP" in reset
    assert name == "Query \"SET application_name = 'b.py'\""
    shared.says(server, 'CommandComplete "RESET"', "ReadyForQuery I")
    assert shared.heard(server) == []
    shared.says(server, 'CommandComplete "SET"', "ReadyForQuery I")
    assert shared.heard(server) == [SELECT]
    assert shared.heard(b) == []
    shared.done(server)
    assert shared.heard(b) == ['CommandComplete "SELECT 1"', "ReadyForQuery I"]
    shared.world.end()


def test_a_setting_follows_its_session() -> None:
    shared = Shared(connection_limit=1)
    a = shared.session()
    server = a.shared
    shared.says(a, "Query \"SET lock_timeout = '3s'\"")
    shared.done(server, "SET")
    b = shared.session()
    shared.heard(server)
    shared.says(b, SELECT)
    assert shared.heard(server) == ['Query "RESET \\"lock_timeout\\""']
    shared.done(server, "RESET")
    assert shared.heard(server) == [SELECT]
    shared.done(server)
    shared.says(a, SELECT)
    assert shared.heard(server) == ["Query \"SET lock_timeout = '3s'\""]
    shared.done(server, "SET")
    assert shared.heard(server) == [SELECT]
    shared.world.end()


def test_a_setting_whose_commit_fails_is_not_the_sessions() -> None:
    shared = Shared()
    a = shared.session()
    server = a.shared
    for text, status in (("BEGIN", "T"), ("SET lock_timeout = 3", "T")):
        shared.says(a, f'Query "{text}"')
        shared.done(server, text.split()[0], status)
    shared.says(a, 'Query "COMMIT"')
    shared.says(server, 'ErrorResponse ERROR 23505 "twice"', "ReadyForQuery I")
    assert a.tracked.settings == {}
    assert Reason.SETTING in a.pinned
    shared.world.end()


def test_a_server_with_a_dotted_name_is_closed_rather_than_lent_to_a_stranger() -> None:
    shared = Shared(connection_limit=1)
    a = shared.session()
    server = a.shared
    shared.says(a, "Query \"SET app.tenant = 'x'\"")
    shared.done(server, "SET")
    b = shared.session()
    shared.says(b, SELECT)
    assert server.state is ServerState.CLOSING
    assert b.state is SessionState.WAITING
    shared.world.eof(server)
    shared.world.reset(server)
    new = shared.connect()
    assert b.shared is new
    assert shared.heard(new) == [SELECT]
    shared.world.end()


def test_a_pinned_session_keeps_its_server_and_the_other_is_refused_in_words() -> None:
    shared = Shared(connection_limit=1, pool_timeout=5.0, on_self_starvation="wait")
    a = shared.session()
    shared.says(a, 'Query "LISTEN x"')
    shared.done(a.shared, "LISTEN")
    b = shared.session()
    shared.says(b, SELECT)
    check = shared.heard(a.shared)[-1]
    assert "pg_listening_channels" in check
    row = 'DataRow "0" "1" "0" "0" "0" "none" "" NULL NULL "f" "0" NULL'
    shared.says(a.shared, row, 'CommandComplete "SELECT 1"', "ReadyForQuery I")
    assert shared.heard(a) == ['CommandComplete "LISTEN"', "ReadyForQuery I"]
    assert b.state is SessionState.WAITING
    shared.world.wait(5.2)
    (error, ready) = [line for line in shared.heard(b) if not line.startswith("Notice")]
    assert error.startswith("ErrorResponse ERROR 53300")
    assert ready == "ReadyForQuery I"
    assert b.state is SessionState.IDLE
    shared.world.end()


def test_what_a_check_finds_to_be_nothing_pins_no_more() -> None:
    shared = Shared(connection_limit=1)
    a = shared.session()
    server = a.shared
    shared.says(a, 'Query "DO $$BEGIN END$$"')
    shared.done(server, "DO")
    b = shared.session()
    shared.says(b, SELECT)
    row = 'DataRow "0" "0" "0" "0" "0" "none" "" NULL NULL "f" "0" NULL'
    shared.says(server, row, 'CommandComplete "SELECT 1"', "ReadyForQuery I")
    assert b.shared is server
    shared.world.end()


def test_roles_that_change_leave_no_server_as_it_is() -> None:
    shared = Shared()
    a, b = shared.session(), shared.session()
    shared.says(b, SELECT)
    shared.done(shared.connect())
    shared.says(b, "Terminate")
    shared.says(a, 'Query "ALTER ROLE app SET lock_timeout = 1"')
    shared.done(a.shared, "ALTER ROLE")
    assert a.state is SessionState.IDLE
    assert servers(shared) == [ServerState.CLOSING, ServerState.CLOSING]
    shared.world.end()


@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK"])
def test_roles_that_change_in_a_transaction_have_changed_for_others_at_its_end(end: str) -> None:
    shared = Shared()
    a = shared.session()
    runs = (("BEGIN", "T"), ("REVOKE CONNECT ON DATABASE shop FROM PUBLIC", "T"), (end, "I"))
    for text, status in runs:
        a.shared.doubt = ""
        a.pool.knows(a.pool.parameters)
        shared.says(a, f'Query "{text}"')
        shared.done(a.shared, text.split()[0], status)
        assert a.pool.known is (text != "COMMIT" and not text.startswith("REVOKE"))
    shared.world.end()


# Nobody waits for ever


def test_a_tick_finds_who_could_let_go() -> None:
    shared = Shared(connection_limit=1)
    a = shared.session()
    server = a.shared
    b = shared.session()
    server.cancelling = True
    shared.says(b, SELECT)
    assert b.state is SessionState.WAITING
    # Nobody says when a cancel of ours is over.
    server.cancelling = False
    shared.world.wait(0.1)
    assert b.shared is server
    shared.world.end()


def test_a_spare_server_that_nobody_needs_is_closed_after_a_while() -> None:
    shared = Shared(spare_for=5.0)
    shared.says(shared.session(), "Terminate")
    shared.world.wait(4.9)
    assert servers(shared) == [ServerState.IDLE]
    shared.world.wait(0.3)
    assert servers(shared) == [ServerState.CLOSING]
    shared.world.end()


# Logins


def test_whose_login_postgres_conducts_gets_no_server_that_somebody_else_has_logged_in_on() -> None:
    shared = Shared()
    shared.says(shared.session(), "Terminate")
    (spare,) = shared.hub.servers
    shared.hub.upstream.methods.forget("app", "shop")
    shared.world.method = Method.SCRAM
    session = shared.world.enter()
    assert session.relay is not None
    assert len(shared.world.net.asked("dial")) == 2
    assert session.server is None
    assert spare.state is ServerState.IDLE
    shared.world.end()


def test_a_session_that_is_greeted_on_a_spare_server_is_told_everything() -> None:
    shared = Shared(total=1)
    first = cast("SharedSession", shared.world.enter(application_name="a.py"))
    second = cast("SharedSession", shared.world.enter(application_name="b.py"))
    assert not second.greeted
    server = shared.connect(server_version="18.1", application_name="a.py")
    assert first.shared is server
    shared.says(server, 'DataRow "f"', 'CommandComplete "SELECT 1"', "ReadyForQuery I")
    shared.says(first, "Terminate")
    told = shared.world.outs[second].take()
    assert b"server_version\0" in told
    assert b"application_name\0b.py\0" in told
    assert second.greeted
    shared.world.end()


# What others did is not told


def test_parameters_that_our_own_texts_change_and_change_back_are_not_told() -> None:
    shared = Shared(total=1)
    a = shared.session("a.py")
    server = a.shared
    b = shared.session("b.py")
    shared.says(b, SELECT)
    shared.says(server, 'ParameterStatus "application_name" "a.py"', 'CommandComplete "RESET"')
    shared.says(server, "ReadyForQuery I")
    shared.says(server, 'ParameterStatus "application_name" "b.py"', 'CommandComplete "SET"')
    shared.says(server, "ReadyForQuery I")
    shared.done(server)
    assert shared.heard(b) == ['CommandComplete "SELECT 1"', "ReadyForQuery I"]
    shared.world.end()


def test_a_role_that_somebody_has_changed_gets_no_server_that_does_not_know_it() -> None:
    shared = Shared()
    first = shared.session()
    server = first.shared
    shared.hub.role_known(first, Role(None, begins="10 t"))
    shared.hub.role_known(first, Role(None, begins="10 t"))
    assert not server.doubt
    shared.hub.role_known(first, Role(None, begins="10 t search_path=x"))
    assert server.doubt
    assert not server.pool.known
    shared.says(first, SELECT)
    shared.done(server)
    assert server.state is ServerState.CLOSING
    assert first.state is SessionState.IDLE
    shared.world.end()
