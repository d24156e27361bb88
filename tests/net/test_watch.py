"""What is looked up while the guard runs: catalogues, room for servers, who goes past us."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from core_fakes import World

from pgguard.errors import ServerUnavailable
from pgguard.net import watch
from pgguard.net.watch import FALLBACK_TOTAL, MARGIN, Catalogues, Limits
from pgguard.tenancy.model import CATALOGUE_QUERIES, NEWEST_ROW_QUERY

if TYPE_CHECKING:
    import pytest

    from pgguard.net.service import Rows

LIMITS: Rows = [["100", "3", "0"]]


class FakeServices:
    """Answers look-ups with rows, or with an error."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, ...]] = []
        self.backends: Rows = []
        self.limits = LIMITS
        self.newest: Rows = [["1"]]
        self.error: ServerUnavailable | None = None
        self.used_pids: set[int] = set()
        self.server_version = "16.1"
        self.during: Any = lambda: None

    async def query(self, database: str, *statements: str) -> list[Rows]:
        self.asked.append((database, *statements))
        await asyncio.sleep(0)
        self.during()
        if self.error is not None:
            raise self.error
        if statements[0] == watch.LIMITS_QUERY:
            return [self.limits, self.backends]
        return [self.newest, *([] for _ in statements[1:])]

    def readings(self) -> list[str]:
        """The databases whose whole catalogue was read."""
        return [asked[0] for asked in self.asked if len(asked) == len(CATALOGUE_QUERIES) + 2]


def limits_of(world: World, services: FakeServices) -> Limits:
    return Limits(world.hub, services, "postgres")  # type: ignore[arg-type]


def catalogues_of(world: World, services: FakeServices) -> Catalogues:
    return Catalogues(world.hub, services)  # type: ignore[arg-type]


async def run_until(watcher: Catalogues | Limits, is_so: Any) -> None:
    running = asyncio.ensure_future(watcher.run())
    async with asyncio.timeout(5):
        while not is_so():
            assert not running.done()
            await asyncio.sleep(0.001)
    running.cancel()
    await asyncio.wait([running])


# Limits


async def test_the_total_is_what_postgres_has_less_what_is_reserved_or_used() -> None:
    world, services = World(), FakeServices()
    services.limits = [["30", "3", "2"]]
    services.backends = [["1", "postgres"], ["2", "shop"]]
    limits = limits_of(world, services)
    assert await limits.read()
    assert world.hub.admission.total == 30 - 3 - 2 - 2 - MARGIN
    assert limits.known.is_set()
    assert world.hub.upstream.version == "16.1"
    world.end()


async def test_what_is_ours_is_not_counted_twice() -> None:
    world, services = World(), FakeServices()
    _, server = world.link()
    services.used_pids = {77}
    services.backends = [[str(server.pid), "shop"], ["77", "postgres"], ["5", "shop"]]
    await limits_of(world, services).read()
    assert world.hub.admission.total == 100 - 3 - 1 - MARGIN
    world.end()


async def test_a_server_that_is_being_connected_is_not_taken_for_somebody_else() -> None:
    world, services = World(), FakeServices()
    limits = limits_of(world, services)
    await limits.read()
    world.link()
    world.enter()
    services.backends = [["5", "shop"]]
    await limits.read()
    assert world.hub.admission.total == 100 - 3 - MARGIN
    assert limits.bypassed == set()
    (server,) = [server for server in world.hub.servers if not server.pid]
    world.connect(server, pid=5)
    await limits.read()
    assert limits.bypassed == set()
    world.end()


async def test_a_server_that_came_and_went_is_still_ours() -> None:
    world, services = World(), FakeServices()
    limits = limits_of(world, services)
    await limits.read()
    session, server = world.link()
    services.backends = [[str(server.pid), "shop"]]
    world.reset(session)
    world.eof(server)
    assert not world.hub.servers
    await limits.read()
    assert limits.bypassed == set()
    world.end()


async def test_who_goes_past_us_is_seen() -> None:
    world, services = World(), FakeServices()
    services.backends = [["1", "shop"]]
    limits = limits_of(world, services)
    await limits.read()
    world.link()
    services.backends = [["1", "shop"], ["2", "shop"], ["3", "elsewhere"]]
    await limits.read()
    assert limits.bypassed == {2}
    world.end()


async def test_in_doubt_the_next_reading_says_who_went_past_us() -> None:
    world, services = World(), FakeServices()
    limits = limits_of(world, services)
    await limits.read()
    world.enter()
    world.hub.gate.judge("shop")
    services.backends = [["2", "shop"]]
    await limits.read()
    assert limits.bypassed == set()
    await limits.read()
    assert limits.bypassed == {2}
    world.end()


async def test_a_total_that_is_set_is_left_alone() -> None:
    world, services = World(total=7), FakeServices()
    await limits_of(world, services).read()
    assert world.hub.admission.total == 7
    world.end()


async def test_limits_that_may_not_be_read_have_a_fallback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world, services = World(), FakeServices()
    services.error = ServerUnavailable("permission denied", temporary=False)
    limits = limits_of(world, services)
    assert not await limits.read()
    assert not await limits.read()
    assert world.hub.admission.total == FALLBACK_TOTAL
    assert caplog.text.count("permission denied") == 1
    world.end()


async def test_while_postgres_is_down_the_total_is_not_known() -> None:
    world, services = World(), FakeServices()
    services.error = ServerUnavailable("cannot connect")
    limits = limits_of(world, services)
    assert not await limits.read()
    assert not limits.known.is_set()
    assert world.hub.upstream.last_error == "cannot connect"
    services.error = None
    await run_until(limits, limits.known.is_set)
    world.end()


async def test_nonsense_is_no_answer() -> None:
    world, services = World(), FakeServices()
    limits = limits_of(world, services)
    for services.limits in ([], [["x", "3", "0"]], [["1"]]):
        assert not await limits.read()
    assert not limits.known.is_set()
    world.end()


async def test_limits_are_read_again_while_there_are_sessions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watch, "EVERY", 0.01)
    world, services = World(), FakeServices()
    limits = limits_of(world, services)
    running = asyncio.ensure_future(limits.run())
    await limits.known.wait()
    await asyncio.sleep(0.05)
    assert len(services.asked) == 1
    limits.want()
    async with asyncio.timeout(5):
        while len(services.asked) < 2:
            await asyncio.sleep(0.001)
    world.link()
    async with asyncio.timeout(5):
        while len(services.asked) < 5:
            await asyncio.sleep(0.001)
    running.cancel()
    await asyncio.wait([running])
    world.end()


# Catalogues


async def test_a_catalogue_is_read_at_the_first_session() -> None:
    world, services = World(), FakeServices()
    world.link()
    catalogues = catalogues_of(world, services)
    judge = world.hub.gate.judge("shop")
    catalogues.want("shop", soon=True)
    await run_until(catalogues, lambda: judge.version)
    assert services.readings() == ["shop"]
    world.end()


async def test_a_wish_that_comes_during_a_reading_is_not_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watch, "AT_MOST_EVERY", 0.0)
    world, services = World(), FakeServices()
    world.link()
    catalogues = catalogues_of(world, services)
    world.hub.gate.judge("shop")
    catalogues.want("shop", soon=True)

    def once() -> None:
        services.during = lambda: None
        catalogues.want("shop", soon=True)

    services.during = once
    await run_until(catalogues, lambda: len(services.readings()) == 2)
    world.end()


async def test_a_changed_newest_row_makes_it_be_read_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watch, "AT_MOST_EVERY", 0.01)
    monkeypatch.setattr(watch, "EVERY", 0.0)
    world, services = World(), FakeServices()
    world.link()
    catalogues = catalogues_of(world, services)
    await catalogues.read("shop")

    def traffic() -> bool:
        world.hub.counters.received_bytes += 1
        return len(services.asked) >= 5

    await run_until(catalogues, traffic)
    assert services.readings() == ["shop"]
    assert services.asked[1] == ("shop", NEWEST_ROW_QUERY)
    services.newest = [["2"]]
    await run_until(catalogues, lambda: traffic() and len(services.readings()) == 2)
    world.end()


async def test_without_traffic_nothing_is_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "AT_MOST_EVERY", 0.005)
    monkeypatch.setattr(watch, "EVERY", 0.0)
    world, services = World(), FakeServices()
    world.link()
    catalogues = catalogues_of(world, services)
    await catalogues.read("shop")
    running = asyncio.ensure_future(catalogues.run())
    await asyncio.sleep(0.05)
    running.cancel()
    await asyncio.wait([running])
    assert len(services.asked) == 1
    world.end()


async def test_a_reading_that_fails_is_said_once_and_tried_again(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "RETRY_AFTER", 0.001)
    monkeypatch.setattr(watch, "AT_MOST_EVERY", 0.0)
    world, services = World(), FakeServices()
    services.error = ServerUnavailable("cannot connect")
    world.link()
    catalogues = catalogues_of(world, services)
    judge = world.hub.gate.judge("shop")
    catalogues.want("shop", soon=True)
    await run_until(catalogues, lambda: len(services.asked) >= 3)
    assert caplog.text.count("verdicts wait") == 1
    services.error = None
    await run_until(catalogues, lambda: judge.version)
    world.end()


async def test_at_the_end_what_is_wanted_is_read_once_more() -> None:
    world, services = World(), FakeServices()
    world.link()
    catalogues = catalogues_of(world, services)
    world.hub.gate.judge("shop")
    catalogues.want("shop", soon=True)
    await catalogues.settle()
    assert services.readings() == ["shop"]
    await catalogues.settle()
    assert services.readings() == ["shop"]
    world.end()
