"""Sessions that take turns on one server: what is made again for each is what it has made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from guard import RunningGuard, settings_for, until
from psycopg.pq import DiagnosticField, ExecStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from conftest import Database

    from pgguard.launch.embedded import EmbeddedPostgres

pytestmark = pytest.mark.slow

TIMES = 3
"""How often the sessions have their turns, each of which makes the server another's."""


@pytest.fixture
def guard(postgres: EmbeddedPostgres) -> Iterator[RunningGuard]:
    """Clients have one server each, and the catalogue is known."""
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE turns")
    url = postgres.url_of("turns")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE t (v text); CREATE SEQUENCE s")
    running = RunningGuard(settings_for(url, limits__connection_limit=1)).start()
    with running.connect("first") as session:
        session.execute("SELECT 1")
        until(lambda: running.ask(lambda one: one.hub.gate.judges["turns"].model is not None))
    yield running
    running.close()
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute("DROP DATABASE turns WITH (FORCE)")


@pytest.fixture
def sessions(guard: RunningGuard) -> Iterator[list[psycopg.Connection[Any]]]:
    """Two of one client."""
    some = [guard.connect("turns") for _ in range(2)]
    yield some
    for session in some:
        session.close()


def value(session: psycopg.Connection[Any], text: str) -> Any:
    row = session.execute(text).fetchone()
    assert row is not None
    return row[0]


def turns(sessions: list[psycopg.Connection[Any]]) -> None:
    for _ in range(TIMES):
        for session in sessions:
            session.execute("SELECT 1")


@pytest.mark.parametrize(
    "text",
    [
        "INSERT INTO t VALUES (nextval('s')::text); SET work_mem = '3MB'",
        "SET work_mem = '3MB'; INSERT INTO t VALUES (nextval('s')::text)",
        "SELECT nextval('s'); INSERT INTO t VALUES ('a'); SET work_mem = '3MB'",
        "SELECT set_config('work_mem', '3MB', false), nextval('s')",
    ],
)
def test_what_stands_beside_a_setting_is_done_once(
    sessions: list[psycopg.Connection[Any]], text: str
) -> None:
    one, other = sessions
    one.execute(text)
    turns(sessions)
    assert value(one, "SHOW work_mem") == "3MB"
    assert value(other, "SHOW work_mem") == "4MB"
    assert value(other, "SELECT count(*) FROM t") == text.count("INSERT")
    assert value(other, "SELECT nextval('s')") == 2


@pytest.mark.parametrize(
    "text", ["RESET app.a", "SET app.a = DEFAULT", "SET app.a TO 'x'; RESET app.a"]
)
def test_a_reset_makes_a_setting_with_a_dot(
    sessions: list[psycopg.Connection[Any]], text: str
) -> None:
    """Empty is another thing than not there."""
    one, other = sessions
    for statement in text.split("; "):
        one.execute(statement)
    turns(sessions)
    assert value(one, "SELECT current_setting('app.a', true)") == ""
    assert value(other, "SELECT current_setting('app.a', true)") is None


def test_a_name_that_prepare_has_given_is_taken(
    sessions: list[psycopg.Connection[Any]],
) -> None:
    one = sessions[0].pgconn
    for name in (b"a", b"b"):
        assert one.prepare(name, b"SELECT 1").status == ExecStatus.COMMAND_OK
    with pytest.raises(psycopg.errors.DuplicatePreparedStatement):
        sessions[0].execute("PREPARE a AS SELECT 4")
    sessions[0].execute("PREPARE p AS SELECT 2")
    taken = one.prepare(b"p", b"SELECT 3")
    assert taken.error_field(DiagnosticField.SQLSTATE) == b"42P05"
    assert one.exec_prepared(b"p", []).get_value(0, 0) == b"2"
    assert one.exec_prepared(b"a", []).get_value(0, 0) == b"1"
    sessions[0].execute("DEALLOCATE p")
    assert one.prepare(b"p", b"SELECT 3").status == ExecStatus.COMMAND_OK
    assert value(sessions[0], "EXECUTE p") == 3


@pytest.mark.parametrize(
    "text",
    [
        "RESET ALL",
        "DISCARD ALL",
        "RESET application_name",
        "SET application_name TO DEFAULT",
        "SELECT 1; RESET ALL",
        "SELECT set_config('application_name', NULL, false)",
    ],
)
def test_a_reset_tells_nobody_the_name_with_which_the_server_was_connected(
    start_guard: Callable[..., RunningGuard], database: Database, text: str
) -> None:
    guard = start_guard(database.url, limits__total=1)
    with guard.connect("another") as other, guard.connect("mine") as mine:
        other.execute("SELECT 1")
        mine.execute("SELECT 1")
        mine.execute(text)
        assert mine.info.parameter_status("application_name") == "mine"
        assert value(other, "SHOW application_name") == "another"
        assert value(mine, "SHOW application_name") == "mine"


@pytest.mark.parametrize(
    "setting", ["client_encoding = 'LATIN1'", "standard_conforming_strings = off"]
)
def test_a_text_that_could_not_be_read_finds_the_prepared_statements_that_it_names(
    sessions: list[psycopg.Connection[Any]], setting: str
) -> None:
    one, _ = sessions
    one.execute(f"SET {setting}".encode())
    for name in (b"a", b"b"):
        assert one.pgconn.prepare(name, b"SELECT 1").status == ExecStatus.COMMAND_OK
    turns(sessions)
    assert value(one, "EXECUTE a") == 1
    one.execute("deallocate a")
    with pytest.raises(psycopg.errors.InvalidSqlStatementName):
        one.execute("EXECUTE a")
    assert value(one, "SELECT string_agg(name, ',') FROM pg_prepared_statements") == "b"
