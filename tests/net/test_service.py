"""The service connection: look-ups one by one, closed when idle, never in anybody's way."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from core_fakes import World
from scripted import CLOSE, HANG, READY, TRUSTING, Hear, ScriptedServer

from pgguard.core.server import Server
from pgguard.errors import ServerUnavailable
from pgguard.net import service
from pgguard.net.dialer import Address
from pgguard.net.service import Services
from pgguard.wire import backend, codes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ROW = backend.message(codes.DATA_ROW, b"\0\2\0\0\0\1x\xff\xff\xff\xff")
ANSWER = ROW + backend.message(codes.COMMAND_COMPLETE, b"SELECT 1\0") + READY
NAME = "pgguard/test"


@pytest.fixture
async def services(database: Any) -> AsyncIterator[Services]:
    """Service connections to a real Postgres."""
    world = World(secrets={database.user: database.password})
    services = Services(world.hub, Address(database.host, database.port, 5.0), database.user, NAME)
    yield services
    await services.stop()
    assert services.pids == []


def scripted(server: ScriptedServer) -> tuple[World, Services]:
    world = World()
    return world, Services(world.hub, Address("127.0.0.1", server.port), "user", NAME)


def connected(database: Any) -> int:
    with psycopg.connect(database.url) as direct:
        row = direct.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s", [NAME]
        ).fetchone()
        assert row is not None
        return int(row[0])


async def test_look_ups_share_one_connection(services: Services, database: Any) -> None:
    first, second = await services.query(database.name, "SELECT 1, NULL", "SELECT 'ä' WHERE true")
    assert (first, second) == ([["1", None]], [["ä"]])
    (pid,) = services.pids
    assert await services.query(database.name, "SELECT pg_backend_pid()") == [[[str(pid)]]]
    assert await services.version(database.name) == services.server_version != ""
    assert connected(database) == 1


async def test_look_ups_at_the_same_time_do_not_mix(services: Services, database: Any) -> None:
    asked = [services.query(database.name, f"SELECT {number}") for number in range(20)]
    assert await asyncio.gather(*asked) == [[[[str(number)]]] for number in range(20)]
    assert len(services.pids) == 1


async def test_an_error_is_told_and_closes_the_connection(
    services: Services, database: Any
) -> None:
    with pytest.raises(ServerUnavailable) as caught:
        await services.query(database.name, "SELECT 1/0")
    assert caught.value.fields["C"] == "22012"
    assert not caught.value.temporary
    assert services.pids == []
    assert await services.query(database.name, "SELECT 1") == [[["1"]]]


async def test_a_database_that_does_not_exist_is_told_as_by_postgres(
    services: Services, database: Any
) -> None:
    with pytest.raises(ServerUnavailable) as caught:
        await services.query("nowhere", "SELECT 1")
    assert caught.value.fields["C"] == "3D000"


async def test_an_idle_connection_is_closed(
    services: Services, database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "LOOK_EVERY", 0.01)
    running = asyncio.ensure_future(services.run())
    await services.query(database.name, "SELECT 1")
    await asyncio.sleep(0.05)
    assert len(services.pids) == 1
    hub = services._hub
    hub.clock.now += 1.5  # type: ignore[attr-defined]
    async with asyncio.timeout(5):
        while hub.services:
            await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.wait([running])
    assert connected(database) == 0


async def test_close_all_waits_for_the_look_up_that_runs(services: Services, database: Any) -> None:
    hub = services._hub
    look_up = asyncio.ensure_future(services.query(database.name, "SELECT pg_sleep(0.1), 1"))
    while not hub.services:
        await asyncio.sleep(0)
    await services.close_all()
    assert (await look_up) == [[["", "1"]]]
    assert not hub.services
    assert connected(database) == 0


async def test_no_look_up_begins_while_a_statement_about_databases_runs(
    services: Services, database: Any
) -> None:
    hub = services._hub
    world = World()
    _, server = world.link()
    assert isinstance(server, Server)
    hub.blocking.add(server)
    look_up = asyncio.ensure_future(services.query(database.name, "SELECT 1"))
    await services.close_all()
    await asyncio.sleep(0.05)
    assert not look_up.done()
    assert connected(database) == 0
    hub.blocking.clear()
    assert await look_up == [[["1"]]]


async def test_a_look_up_that_stood_in_line_does_not_begin_then_either(
    services: Services, database: Any
) -> None:
    hub = services._hub
    _, server = World().link()
    first = asyncio.ensure_future(services.query(database.name, "SELECT pg_sleep(0.1), 1"))
    second = asyncio.ensure_future(services.query(database.name, "SELECT 2"))
    while not services.pids:
        await asyncio.sleep(0)
    hub.blocking.add(server)
    await first
    await services.close_all()
    assert not second.done()
    assert connected(database) == 0
    hub.blocking.clear()
    assert await second == [[["2"]]]


async def test_a_statement_about_databases_is_not_waited_for_for_ever(
    services: Services, database: Any
) -> None:
    hub = services._hub
    _, server = World().link()
    hub.blocking.add(server)
    look_up = asyncio.ensure_future(services.query(database.name, "SELECT 1"))
    await asyncio.sleep(0)
    hub.clock.now += 60  # type: ignore[attr-defined]
    with pytest.raises(ServerUnavailable, match="still running") as caught:
        await look_up
    assert caught.value.fields["C"] == "55006"
    hub.blocking.clear()


async def test_a_connection_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "TIMEOUT", 0.1)
    with ScriptedServer([Hear(), TRUSTING, HANG]) as server:
        world, services = scripted(server)
        with pytest.raises(ServerUnavailable, match="Postgres did not answer within"):
            await services.query("db", "SELECT 1")
        assert services.pids == []
        assert not world.hub.services


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ([Hear(), CLOSE], "Postgres closed the connection during login"),
        ([Hear(), TRUSTING, Hear(), CLOSE], "the service connection was closed"),
        ([Hear(), TRUSTING, Hear(), b"D\0\0\0\0", HANG], "invalid message length"),
        ([Hear(), TRUSTING, Hear(), b"D\0\0\0\x06\xff\xff", HANG], "invalid message format"),
    ],
    ids=["login", "close", "length", "row"],
)
async def test_a_connection_that_breaks_is_an_error(told: list[Any], words: str) -> None:
    with ScriptedServer(told) as server:
        world, services = scripted(server)
        with pytest.raises(ServerUnavailable, match=words):
            await services.query("db", "SELECT 1")
        assert not world.hub.services


async def test_stop_does_not_wait_for_a_look_up_that_hangs() -> None:
    with ScriptedServer([Hear(), TRUSTING, HANG]) as server:
        _, services = scripted(server)
        look_up = asyncio.ensure_future(services.query("db", "SELECT 1"))
        while not services.pids:
            await asyncio.sleep(0)
        async with asyncio.timeout(1):
            await services.stop()
        look_up.cancel()
        await asyncio.wait([look_up])
        assert services.pids == []


async def test_our_name_is_told_to_postgres() -> None:
    with ScriptedServer([Hear(), TRUSTING, Hear(), ANSWER, Hear(), CLOSE]) as server:
        _, services = scripted(server)
        assert await services.query("db", "SELECT 1") == [[["x", None]]]
        assert b"application_name\0pgguard/test\0client_encoding\0UTF8\0" in server.heard[0]
        assert b"standard_conforming_strings\0on\0" in server.heard[0]
        await services.stop()


async def test_the_connection_to_postgres_lasts_and_has_the_name_that_is_announced(
    services: Services, database: Any
) -> None:
    services.announce = lambda: "pgguard/1@h:2 3/4+5"
    hub = services._hub
    running = asyncio.ensure_future(services.run())
    (rows,) = await services.query("postgres", "SHOW application_name")
    assert rows == [["pgguard/1@h:2 3/4+5"]]
    (short,) = await services.query(database.name, "SHOW application_name")
    assert short == [[NAME]]
    hub.clock.now += 60  # type: ignore[attr-defined]
    async with asyncio.timeout(10):
        while len(services.pids) > 1:
            await asyncio.sleep(0.01)
    (lasting,) = services.pids
    (rows,) = await services.query("postgres", "SELECT pg_backend_pid()")
    assert rows == [[str(lasting)]]
    await services.close_all()
    assert services.pids == []
    running.cancel()
    await asyncio.wait([running])


def greeting(version: str, superuser: str) -> bytes:
    told = backend.parameter_status("server_version", version)
    told += backend.parameter_status("is_superuser", superuser)
    return backend.authentication_ok() + told + backend.backend_key_data(1, b"real") + READY


@pytest.mark.parametrize(
    ("version", "superuser", "off"),
    [("18.6", "on", True), ("18.6", "off", False), ("16.9", "on", False)],
)
async def test_logins_of_ours_set_off_no_event_triggers_where_they_may_say_so(
    version: str, superuser: str, off: bool
) -> None:
    script = [Hear(), greeting(version, superuser), Hear(), ANSWER, HANG]
    with ScriptedServer(script) as server:
        _, services = scripted(server)
        for name in ("one", "two"):
            await services.query(name, "SELECT 1")
        await services.stop()
        assert b"event_triggers" not in server.heard[0]
        assert (b"options\0-c event_triggers=off\0" in server.heard[1]) is off


async def test_where_that_is_refused_they_log_in_without_saying_it() -> None:
    fields = {"S": "FATAL", "V": "FATAL", "C": "42501", "M": "permission denied"}
    refused = backend.authentication_ok() + backend.fields_message(codes.ERROR_RESPONSE, fields)
    script = [Hear(), greeting("18.6", "on"), Hear(), ANSWER, HANG]
    with ScriptedServer(script, [Hear(), refused, CLOSE], script) as server:
        _, services = scripted(server)
        for name in ("one", "two", "three"):
            await services.query(name, "SELECT 1")
        await services.stop()
        said = [b"event_triggers" in heard for heard in server.heard]
        assert said == [False, True, False, False]
