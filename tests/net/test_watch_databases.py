"""Many databases, some of which do not exist, or no more: what is looked up, and what is kept."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from core_fakes import World

from pgguard.errors import ServerUnavailable
from pgguard.net import watch
from pgguard.net.watch import NO_SUCH_DATABASE, UNUSED, Catalogues
from pgguard.tenancy.model import Catalogue
from pgguard.wire import frontend

if TYPE_CHECKING:
    from pgguard.core.server import Server
    from pgguard.core.session import Session
    from pgguard.net.service import Rows


class FakeServices:
    """Has databases, of which some are gone."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.gone: set[str] = set()

    async def query(self, database: str, *statements: str) -> list[Rows]:
        self.asked.append(database)
        if database in self.gone:
            raise ServerUnavailable("no such database", fields={"C": NO_SUCH_DATABASE})
        return [[] for _ in statements]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(watch, "RETRY_AFTER", 0.001)
    monkeypatch.setattr(watch, "AT_MOST_EVERY", 0.001)
    monkeypatch.setattr(watch, "EVERY", 0.0)
    return World()


@pytest.fixture
def services() -> FakeServices:
    return FakeServices()


class Watched(Catalogues):
    """Knows how often it has looked at all databases."""

    rounds = 0

    def _forget(self) -> None:
        super()._forget()
        self.rounds += 1


@pytest.fixture
def catalogues(world: World, services: FakeServices) -> Watched:
    made = Watched(world.hub, services)  # type: ignore[arg-type]
    world.net.read_catalogue = made.want  # type: ignore[method-assign]
    return made


async def some_rounds(catalogues: Watched, world: World) -> None:
    """Twenty looks, all of them after traffic."""
    running = asyncio.ensure_future(catalogues.run())
    async with asyncio.timeout(10):
        while catalogues.rounds < 20:
            world.hub.counters.received_bytes += 1
            await asyncio.sleep(0)
    running.cancel()
    await asyncio.wait([running])


def leave(world: World, session: Session, server: Server) -> None:
    world.reset(session)
    world.eof(server)


async def test_a_database_that_nobody_gets_into_is_not_looked_at(
    world: World, services: FakeServices, catalogues: Watched
) -> None:
    session = world.enter(database="typo")
    await some_rounds(catalogues, world)
    assert session.judge is None
    assert services.asked == []
    assert world.hub.gate.judges == {}
    world.reset(session)
    world.hub.upstream.dial_failed(world.net.dialled[0], ServerUnavailable("no such database"))
    world.end()


async def test_a_database_that_was_dropped_is_not_asked_for_again(
    world: World, services: FakeServices, catalogues: Watched
) -> None:
    services.gone = {"shop"}
    session, server = world.link()
    world.receive(session, frontend.query(b"select * from bookings"))
    assert world.hub.gate.waits("shop")
    leave(world, session, server)
    await some_rounds(catalogues, world)
    assert len(services.asked) == 1
    assert not world.hub.gate.waits("shop")
    world.end()


async def test_only_databases_in_use_are_looked_at(
    world: World, services: FakeServices, catalogues: Watched
) -> None:
    leave(world, *world.link(database="old"))
    world.link(database="new")
    await some_rounds(catalogues, world)
    assert set(services.asked) == {"new"}
    world.end()


async def test_of_databases_without_use_few_are_kept(
    world: World, services: FakeServices, catalogues: Watched
) -> None:
    world.link(database="used")
    for number in range(3 * UNUSED):
        session, server = world.link(database=f"test_{number}")
        world.receive(session, frontend.query(b"select 1"))
        leave(world, session, server)
    await some_rounds(catalogues, world)
    last = [f"test_{number}" for number in range(2 * UNUSED, 3 * UNUSED)]
    assert list(world.hub.gate.judges) == ["used", *last]
    counted = world.hub.clients["a.py"].counters.statements
    assert sum(counted) == 3 * UNUSED
    world.end()


async def test_a_reading_of_a_database_that_was_forgotten_harms_nobody(
    world: World, catalogues: Watched
) -> None:
    session, _ = world.link(database="shop")
    judge = session.judge
    assert judge is not None
    statement = judge.statement(b"select 1")
    world.hub.gate.forget("shop")
    world.hub.gate.analysed(judge, statement, None, 0.0)
    world.hub.gate.forget("shop")
    world.hub.gate.catalogue_read("shop", Catalogue())
    world.end()
