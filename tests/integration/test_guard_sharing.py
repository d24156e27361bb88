"""Sessions that share servers: each keeps what is its own and sees nothing of others."""

from __future__ import annotations

import asyncio
import threading
from itertools import count
from typing import TYPE_CHECKING, Any

import asyncpg
import psycopg
import pytest
from features import FEATURES, SCHEMA, Feature
from guard import RunningGuard, settings_for, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pgguard.launch.embedded import EmbeddedPostgres

pytestmark = pytest.mark.slow

_numbers = count()


@pytest.fixture(scope="module")
def shared(postgres: EmbeddedPostgres) -> Iterator[RunningGuard]:
    """A guard whose clients have two servers each."""
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE sharing")
    url = postgres.url_of("sharing")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(SCHEMA)
    settings = settings_for(url, pool__mode="transparent", limits__connection_limit=2)
    guard = RunningGuard(settings).start()
    yield guard
    guard.close()
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute("DROP DATABASE sharing WITH (FORCE)")


def seen(session: psycopg.Connection[Any], text: str) -> Any:
    """What the session gets: rows, a tag, or the SQLSTATE."""
    try:
        cursor = session.execute(text)
    except psycopg.Error as error:
        return error.sqlstate
    return cursor.fetchall() if cursor.description else cursor.statusmessage


def directly(url: str, feature: Feature) -> tuple[Any, Any]:
    """What the owner sees, and what somebody else does."""
    with (
        psycopg.connect(url, autocommit=True, application_name="name") as owner,
        psycopg.connect(url, autocommit=True, application_name="name") as other,
    ):
        for text in feature.make:
            owner.execute(text)
        return seen(owner, feature.look), seen(other, feature.look)


@pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: feature.name)
def test_what_a_session_made_is_kept_for_it_and_hidden_from_others(
    shared: RunningGuard, postgres: EmbeddedPostgres, feature: Feature
) -> None:
    expected, clean = directly(postgres.url_of("sharing"), feature)
    name = f"name {next(_numbers)}"
    sessions = [shared.connect(name) for _ in range(3)]
    owner, *others = sessions
    for session in sessions:
        session.execute("SET application_name = 'name'")
    for text in feature.make:
        owner.execute(text)
        if owner.info.transaction_status == psycopg.pq.TransactionStatus.IDLE:
            for other in others:
                other.execute("SELECT 1")
    assert [seen(other, feature.look) for other in others] == [clean] * 2
    for other in others:
        other.execute("SELECT 1")
    assert seen(owner, feature.look) == expected
    for session in sessions:
        session.close()


def test_more_sessions_than_servers_are_all_served(shared: RunningGuard) -> None:
    sessions = [shared.connect("many") for _ in range(20)]
    for number, session in enumerate(sessions * 3):
        row = session.execute("SELECT %s::int", [number], prepare=True).fetchone()
        assert row == (number,)
    held = shared.ask(lambda guard: guard.hub.clients.get("many").share.held)
    assert held <= 2
    for session in sessions:
        session.close()


def test_a_transaction_keeps_its_server(shared: RunningGuard) -> None:
    a, b, c = (shared.connect("transactions") for _ in range(3))
    with a.transaction():
        a.execute("CREATE TABLE mine (id int)")
        b.execute("SELECT 1")
        c.execute("SELECT 1")
        a.execute("INSERT INTO mine VALUES (1)")
        assert seen(b, "SELECT * FROM mine") == "42P01"
    assert seen(c, "SELECT * FROM mine") == [(1,)]
    a.execute("DROP TABLE mine")
    for session in (a, b, c):
        session.close()


def test_asyncpg_prepares_shares_resets_and_pins_nothing(shared: RunningGuard) -> None:
    async def work(connection: asyncpg.Connection, name: int) -> None:
        for number in range(20):
            text = f"{name} {number}"
            assert await connection.fetchval("SELECT $1::text", text) == text
            async with connection.transaction():
                assert await connection.fetchval("SELECT $1::int + 1", number) == number + 1
        await connection.reset()

    async def main() -> None:
        url = shared.url(application_name="asyncpg")
        connections = [await asyncpg.connect(url, ssl=False) for _ in range(6)]
        await asyncio.gather(*(work(one, at) for at, one in enumerate(connections)))
        client = shared.client("asyncpg")
        assert [session.pins.reasons for session in client.sessions if session.pins.reasons] == []  # type: ignore[attr-defined]
        for connection in connections:
            await connection.close()

    asyncio.run(main())


def test_a_statement_whose_table_has_changed_fails_as_it_would_directly(
    shared: RunningGuard,
) -> None:
    a, b, c = (shared.connect("changes") for _ in range(3))
    a.prepare_threshold = 0
    a.execute("CREATE TABLE changing (id int)")
    assert a.execute("SELECT * FROM changing", prepare=True).fetchall() == []
    b.execute("SELECT 1")
    c.execute("SELECT 1")
    b.execute("ALTER TABLE changing ADD COLUMN more int")
    with c.transaction(), b.transaction():
        c.execute("SELECT 1")
        b.execute("SELECT 1")
    with pytest.raises(psycopg.errors.FeatureNotSupported, match="cached plan must not change"):
        a.execute("SELECT * FROM changing", prepare=True)
    a.execute("DROP TABLE changing")
    for session in (a, b, c):
        session.close()


def test_a_cancel_ends_the_statement_of_its_session_and_of_no_other(
    shared: RunningGuard, postgres: EmbeddedPostgres
) -> None:
    sessions = [shared.connect("cancels") for _ in range(3)]
    for session in sessions:
        session.execute("SELECT 1")
    victim, other, _ = sessions
    outcome: list[Any] = []
    thread = threading.Thread(target=lambda: outcome.append(seen(victim, "SELECT pg_sleep(30)")))
    thread.start()
    # A cancel that overtakes its statement ends nothing, as directly.
    sleeps = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
    with psycopg.connect(postgres.url, autocommit=True) as looker:
        until(lambda: looker.execute(sleeps).fetchone(), "the statement")
    victim.cancel_safe()
    thread.join(10)
    assert outcome == ["57014"]
    assert seen(other, "SELECT 7") == [(7,)]
    for session in sessions:
        session.close()


@pytest.mark.parametrize("how", ["bound", "written", "prepared before"])
@pytest.mark.parametrize("state", ["resting", "without a server", "in a transaction"])
def test_a_session_is_ended_by_the_pid_that_its_driver_knows(
    shared: RunningGuard, state: str, how: str
) -> None:
    victim, *others = (shared.connect("signals") for _ in range(3))
    victim.execute("BEGIN" if state == "in a transaction" else "SELECT 1")
    pid = victim.info.backend_pid
    assert pid > 4_194_304
    text = "SELECT pg_terminate_backend(%s)"
    if how == "prepared before":
        others[0].execute(text, [2**22 + 2**20], prepare=True)
    if state == "without a server":
        with others[0].transaction(), others[1].transaction():
            others[0].execute("SELECT 1")
            others[1].execute("SELECT 1")
            assert all(s.server for s in shared.client("signals").sessions if s.pid != pid)  # type: ignore[attr-defined]
    if how == "written":
        cursor = others[0].execute(f"SELECT pg_terminate_backend({pid})")
    else:
        cursor = others[0].execute(text, [pid], prepare=how == "prepared before")
    assert cursor.description is not None
    assert (cursor.description[0].name, cursor.fetchall()) == ("pg_terminate_backend", [(True,)])
    with pytest.raises(psycopg.OperationalError, match="administrator command"):
        victim.execute("SELECT 1")
    for session in (victim, *others):
        session.close()


def test_settings_made_with_bound_values_follow_their_session(shared: RunningGuard) -> None:
    sessions = [shared.connect("bound") for _ in range(4)]
    for number, session in enumerate(sessions):
        session.execute("SELECT set_config('lock_timeout', %s, false)", [f"{number + 1}s"])
    for number, session in enumerate(sessions * 2):
        row = session.execute("SHOW lock_timeout").fetchone()
        assert row == (f"{number % 4 + 1}s",)
    pinned = [dict(s.pinned) for s in shared.client("bound").sessions if s.pinned]
    assert pinned == []
    for session in sessions:
        session.close()


def test_every_session_on_another_server_each_time_sees_only_its_own(
    start_guard: Callable[..., RunningGuard], postgres: EmbeddedPostgres
) -> None:
    guard = start_guard(
        postgres.url, pool__mode="transparent", pool__restless=True, limits__connection_limit=3
    )
    sessions = [guard.connect("restless") for _ in range(5)]
    for number, session in enumerate(sessions):
        session.execute(f"SET lock_timeout = {number + 1}")
        session.prepare_threshold = 1
    first, second, third, *_ = sessions
    with first.transaction(), second.transaction(), third.transaction():
        for session in (first, second, third):
            session.execute("SELECT 1")
    pids = set()
    for number, session in enumerate(sessions * 4):
        row = session.execute("SELECT current_setting('lock_timeout'), %s", [number]).fetchone()
        assert row == (f"{number % 5 + 1}ms", number)
        pids.add(shared_pid(guard))
    assert len(pids) == 3
    for session in sessions:
        session.close()


def shared_pid(guard: RunningGuard) -> int:
    """The server that was let go last."""
    return guard.ask(lambda it: max(it.hub.servers, key=lambda server: server.rested).pid)


def test_a_database_that_nobody_uses_can_be_dropped(
    start_guard: Callable[..., RunningGuard], postgres: EmbeddedPostgres
) -> None:
    guard = start_guard(postgres.url, pool__mode="transparent")
    with guard.connect("admin") as admin:
        admin.execute("CREATE DATABASE short_lived")
        with guard.connect("user", database="short_lived") as user:
            user.execute("SELECT 1")
        admin.execute("DROP DATABASE short_lived")
    assert guard.guard.hub.counters.internal_errors == 0
