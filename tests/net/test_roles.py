"""What pg_authid says of those who log in, from a real Postgres."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from core_fakes import World

from pgguard.core.login import Method
from pgguard.net.dialer import Address
from pgguard.net.roles import LOOK_AGAIN_AFTER, Roles
from pgguard.net.service import Services

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine

    from pgguard.core.secrets import Role

NAMES = ("plain", "it's", 'a"b', "a\\b", "a{b,c}", "NULL", " blank ", "ünï", "x" * 63, "$1", "a;b")


class Looking:
    """Look-ups of a hub whose logins are all waiting for them."""

    def __init__(self, database: Any, user: str, password: str) -> None:
        self.world = World(method=Method.SCRAM, secrets={user: password})
        self.known: dict[str, Role | None] = {}
        self.user = user
        self.tasks: list[asyncio.Task[None]] = []
        address = Address(database.host, database.port, 5.0)
        self.services = Services(self.world.hub, address, user, "pgguard/test")
        self.roles = Roles(self.world.hub, self.services, database.name, user, self._spawn)
        self.world.hub.role_known = self._known

    def _spawn(self, work: Coroutine[Any, Any, None], _name: str) -> None:
        self.tasks.append(asyncio.ensure_future(work))

    def _known(self, session: Any, role: Role | None) -> None:
        self.known[session.user] = role

    def want(self, user: str) -> bool:
        session = self.world.open()
        session.user = user
        return self.roles.want(session)

    async def look(self, *users: str) -> list[Role | None]:
        assert [self.want(user) for user in users] == [True] * len(users)
        while self.tasks:
            await self.tasks.pop()
        return [self.known[user] for user in users]


@pytest.fixture
async def looking(database: Any) -> AsyncIterator[Looking]:
    looking = Looking(database, database.user, database.password)
    yield looking
    await looking.services.stop()
    looking.world.end()


async def execute(database: Any, *statements: str) -> None:
    def work() -> None:
        with psycopg.connect(database.url, autocommit=True) as admin:
            for statement in statements:
                admin.execute(statement)

    await asyncio.to_thread(work)


async def test_names_of_any_kind_are_found_and_nobody_else(looking: Looking, database: Any) -> None:
    quoted = ['"' + name.replace('"', '""') + '"' for name in NAMES]
    await execute(database, *(f"CREATE ROLE {name} PASSWORD 'secret'" for name in quoted))
    try:
        found = await looking.look(*NAMES, "nobody", "' OR true --", "x" * 64)
    finally:
        await execute(database, *(f"DROP ROLE {name}" for name in quoted))
    assert all(role and role.secret and role.secret.verifier() for role in found[: len(NAMES)])
    # Postgres itself cuts a name that is too long (NAMEDATALEN).
    assert [bool(role and role.secret) for role in found[len(NAMES) :]] == [False, False, True]
    assert len(looking.services.pids) == 1


async def test_what_is_read_is_what_stands_there_now(looking: Looking, database: Any) -> None:
    steps = [
        ("CREATE ROLE changing LOGIN", "no password"),
        ("ALTER ROLE changing PASSWORD 'secret'", ""),
        ("ALTER ROLE changing VALID UNTIL '2001-01-01'", "VALID UNTIL"),
        ("ALTER ROLE changing VALID UNTIL 'infinity'", ""),
        ("SET password_encryption = md5; ALTER ROLE changing PASSWORD 'secret'", ""),
        ("DROP ROLE changing", "no such role"),
    ]
    for statement, why in steps:
        await execute(database, statement)
        (role,) = await looking.look("changing")
        assert role is not None
        assert why in role.why
        assert bool(role.secret) is not bool(why)


async def test_what_a_session_begins_as_changes_with_its_role_and_its_settings(
    looking: Looking, database: Any
) -> None:
    seen = []
    for statement in (
        "CREATE ROLE begins LOGIN PASSWORD 'secret'",
        "SELECT 1",
        "ALTER ROLE begins SET search_path = a",
        f"ALTER DATABASE {database.name} SET lock_timeout = 7",
        f"ALTER ROLE begins IN DATABASE {database.name} SET lock_timeout = 8",
        "ALTER ROLE begins NOLOGIN",
        (
            "DROP OWNED BY begins; ALTER ROLE begins RESET ALL; DROP ROLE begins;"
            "CREATE ROLE begins NOLOGIN PASSWORD 'secret'"
        ),
    ):
        await execute(database, statement)
        (role,) = await looking.look("begins")
        assert role is not None
        seen.append(role.begins)
    await execute(database, "DROP ROLE begins")
    assert seen[0] == seen[1]
    assert len(set(seen)) == len(seen) - 1


async def test_whose_role_may_not_read_pg_authid_is_told_once_and_asked_again_much_later(
    database: Any, caplog: pytest.LogCaptureFixture
) -> None:
    await execute(database, "CREATE ROLE ordinary LOGIN PASSWORD 'hush'")
    looking = Looking(database, "ordinary", "hush")
    caplog.set_level(logging.INFO)
    try:
        assert await looking.look("someone", "else") == [None, None]
        assert not looking.want("someone")
        looking.world.clock.now += LOOK_AGAIN_AFTER + 1
        assert await looking.look("someone") == [None]
    finally:
        await looking.services.stop()
        await execute(database, "DROP ROLE ordinary")
    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert "pg_authid" in caplog.text
    assert "hush" not in caplog.text
    looking.world.end()


async def test_a_name_that_is_no_text_is_for_postgres_alone(looking: Looking) -> None:
    assert not looking.want("a\udcffb")


async def test_while_databases_are_made_only_whom_we_do_not_know_waits(looking: Looking) -> None:
    hub = looking.world.hub
    hub.blocking.add(object())
    assert not looking.want(looking.user)
    assert looking.want("somebody")
    hub.blocking.clear()
    assert looking.want(looking.user)
    await looking.tasks.pop()
    assert [bool(role and role.secret) for role in looking.known.values()] == [False, True]
