"""Catalogues are read when they are needed, and read again when they have changed."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import TYPE_CHECKING, Any

import pytest
from core_fakes import World
from loops import run_until

from pgguard.errors import ServerUnavailable
from pgguard.net import watch
from pgguard.net.watch import Catalogues
from pgguard.sql.definitions import ANYTHING
from pgguard.tenancy.model import (
    CATALOGUE_QUERIES,
    NEWEST_ROW_QUERY,
    Catalogue,
    catalogue_from_rows,
    undisturbed,
)

if TYPE_CHECKING:
    from pgguard.net.service import Rows


class FakeServices:
    """Answers look-ups with rows, or with an error."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, ...]] = []
        self.newest: Rows = [["1"]]
        self.error: ServerUnavailable | None = None
        self.during: Any = lambda: None
        self.views: Rows = []

    async def query(self, database: str, *statements: str) -> list[Rows]:
        self.asked.append((database, *statements))
        await asyncio.sleep(0)
        self.during()
        if self.error is not None:
            raise self.error
        return [
            self.newest,
            *([list(row) for row in self.views if "viewdef" in text] for text in statements[1:]),
        ]

    def readings(self) -> list[str]:
        """The databases whose whole catalogue was read."""
        return [asked[0] for asked in self.asked if len(asked) == len(CATALOGUE_QUERIES) + 2]


def catalogues_of(world: World, services: FakeServices) -> Catalogues:
    return Catalogues(world.hub, services)  # type: ignore[arg-type]


async def test_a_catalogue_is_read_at_the_first_session() -> None:
    world, services = World(), FakeServices()
    world.link()
    catalogues = catalogues_of(world, services)
    judge = world.hub.gate.judge("shop")
    catalogues.want("shop", soon=True)
    await run_until(catalogues.run(), lambda: judge.version)
    assert services.readings() == ["shop"]
    world.end()


async def test_sessions_are_served_while_a_large_catalogue_is_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    served = threading.Event()
    made = []

    def make(rows: Any) -> Catalogue:
        made.append(served.wait(5))
        return catalogue_from_rows(rows)

    monkeypatch.setattr(watch, "catalogue_from_rows", make)
    world, services = World(), FakeServices()
    reading = asyncio.ensure_future(catalogues_of(world, services).read("shop"))
    for _ in range(10):
        await asyncio.sleep(0)
    assert not reading.done()
    served.set()
    await reading
    assert made == [True]
    assert world.hub.gate.judge("shop").version == 1
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
    await run_until(catalogues.run(), lambda: len(services.readings()) == 2)
    world.end()


@pytest.mark.parametrize(
    "why",
    ["", "somebody waits", "anything may have changed", "it is over", "somebody keeps a server"],
)
async def test_a_large_catalogue_is_read_for_a_fifth_of_the_time_unless_there_is_need(
    monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    monkeypatch.setattr(watch, "RETRY_AFTER", 0.0001)
    world, services = World(connection_limit=1), FakeServices()
    world.link()
    if why == "somebody waits":
        world.enter()
    began = []

    def takes_long() -> None:
        began.append(world.clock.now)
        world.clock.now += 0.6
        if why == "somebody keeps a server":
            judge.news.asks()
        # There is DDL all the time.
        catalogues.want("shop", soon=True)

    services.during = takes_long
    catalogues = catalogues_of(world, services)
    judge = world.hub.gate.judge("shop")
    judge.sharing = why not in ("", "somebody waits")
    monkeypatch.setattr(watch.verifying, "catalogue_read", lambda *_: None)
    if why == "anything may have changed":
        judge.news.sent(ANYTHING)

    def read_twice() -> bool:
        world.clock.now += 0.01
        return len(began) == 2

    catalogues.want("shop", soon=True)
    await run_until(catalogues.run(), read_twice)
    assert (began[1] - began[0] < 3.0) is bool(why)
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

    await run_until(catalogues.run(), traffic)
    assert services.readings() == ["shop"]
    assert services.asked[1] == ("shop", undisturbed(NEWEST_ROW_QUERY))
    services.newest = [["2"]]
    await run_until(catalogues.run(), lambda: traffic() and len(services.readings()) == 2)
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
    await run_until(catalogues.run(), lambda: len(services.asked) >= 3)
    assert caplog.text.count("verdicts wait") == 1
    services.error = None
    # The third reading may have been ended on its way: it wants nothing any more.
    catalogues.want("shop", soon=True)
    await run_until(catalogues.run(), lambda: judge.version)
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


async def test_a_view_that_cannot_be_read_now_is_as_it_was() -> None:
    world, services = World(), FakeServices()
    catalogues = catalogues_of(world, services)
    watched = catalogues._databases.setdefault("shop", watch._Watched())
    services.views = [["1", "SELECT 1"], ["2", None]]
    await catalogues.read("shop")
    assert watched.wanted, "nobody knows the second one yet"
    services.views = [["1", None], ["2", "SELECT 2"]]
    await catalogues.read("shop")
    assert not watched.wanted
    assert watched.texts == {("view", "1"): ("SELECT 1",), ("view", "2"): ("SELECT 2",)}
    services.views = [["2", None]]
    await catalogues.read("shop")
    assert watched.texts == {("view", "2"): ("SELECT 2",)}
    world.end()


def test_generated_columns_and_policies_that_cannot_be_read_now_are_as_they_were() -> None:
    def rows(column: str | None, using: str | None, locked: str) -> dict[str, Rows]:
        return {
            "definitions": [],
            "columns": [
                ["1", "a", "int4", "f", None, None, "1"],
                ["1", "b", "int4", "f", column, "t", "2"],
            ],
            "row_policies": [["1", "p", "*", "t", None, using, None, locked]],
        }

    watched = watch._Watched()
    assert not watched.know(rows(None, None, "t")), "nobody knows them yet"
    assert watched.know(rows("(a + 1)", "(a > 1)", "f"))
    held = rows(None, None, "t")
    assert watched.know(held)
    assert held["columns"][0][4] is None
    assert held["columns"][1][4] == "(a + 1)"
    assert held["row_policies"][0][5:7] == ["(a > 1)", None]


async def test_a_lock_that_somebody_has_is_no_trouble(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    world, services = World(), FakeServices()
    services.error = ServerUnavailable("locked", fields={"C": watch.LOCKED})
    catalogues = catalogues_of(world, services)
    await catalogues.read("shop")
    assert catalogues._databases["shop"].wanted
    assert "verdicts wait" not in caplog.text
    services.error = ServerUnavailable("cannot connect")
    await catalogues.read("shop")
    assert caplog.text.count("verdicts wait") == 1
    world.end()
