"""The room that Postgres has for us, beside other guards and beside those who go past us."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

import pytest
from core_fakes import World
from loops import run_until

from pgguard import events
from pgguard.errors import ServerUnavailable
from pgguard.net import limits as limiting
from pgguard.net.limits import FALLBACK_TOTAL, MARGIN, Limits
from pgguard.pool.neighbours import Announcement, read

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pgguard.net.service import Rows

LIMITS: Rows = [["100", "3", "0"]]
OTHER = Announcement(99, "elsewhere", 6433, held=12, limit=24)


class FakeConnection:
    """Answers the statements of one look; a SET of the name is kept."""

    def __init__(self, services: FakeServices) -> None:
        self._services = services

    async def query(self, sql: str) -> Rows:
        await asyncio.sleep(0)
        services = self._services
        services.said.append(sql)
        if sql == limiting.LOCK_QUERY:
            return [["t" if services.free else "f"]]
        if sql == limiting.VERSION_QUERY:
            return [[services.version]]
        if sql == limiting.LIMITS_QUERY:
            return services.limits
        if sql == limiting.BACKENDS_QUERY:
            return [[*row, ""][:3] for row in services.backends]
        return []


class FakeServices:
    """Answers looks with rows, or with an error."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.places: list[str] = []
        self.backends: Rows = []
        self.limits = LIMITS
        self.free = True
        self.alone = self.stopped = False
        self.version = "PostgreSQL 18.6 on x86_64"
        self.errors: list[ServerUnavailable] = []
        self.error: ServerUnavailable | None = None
        self.used_pids: set[int] = set()
        self.pids: list[int] = []
        """Of the connections that are open."""
        self.server_version = "16.1"
        self.announce: Callable[[], str] | None = None

    async def query(self, database: str, *statements: str) -> list[Rows]:
        async def ask(connection: Any) -> list[Rows]:
            return [await connection.query(sql) for sql in statements]

        return await self.converse(database, ask)

    async def converse(self, database: str, work: Callable[[Any], Awaitable[Any]]) -> Any:
        self.places.append(database)
        await asyncio.sleep(0)
        if error := (self.errors.pop(0) if self.errors else self.error):
            raise error
        return await work(FakeConnection(self))

    async def is_alone(self, database: str) -> bool:
        return self.alone

    async def stop(self) -> None:
        self.stopped = True

    @property
    def name(self) -> Announcement:
        """What was announced last."""
        (said, *_) = [sql for sql in reversed(self.said) if sql.startswith("SET ")]
        found = read(said.partition("'")[2].rstrip("'"))
        assert found is not None
        return found


def limits_of(world: World, services: FakeServices) -> Limits:
    return Limits(world.hub, services, "shop")  # type: ignore[arg-type]


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
    await run_until(limits.run(), limits.known.is_set)
    world.end()


async def test_nonsense_is_no_answer() -> None:
    world, services = World(), FakeServices()
    limits = limits_of(world, services)
    for services.limits in ([], [["x", "3", "0"]], [["1"]]):
        assert not await limits.read()
    assert not limits.known.is_set()
    world.end()


async def test_limits_are_read_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limiting, "EVERY", 0.01)
    world, services = World(), FakeServices()
    limits = limits_of(world, services)
    await run_until(limits.run(), lambda: len(services.places) >= 3)
    world.end()


async def test_a_wish_is_heard_before_it_is_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limiting, "EVERY", 60.0)
    monkeypatch.setattr(limiting, "RETRY_AFTER", 0.001)
    world, services = World(), FakeServices()
    limits = limits_of(world, services)
    await run_until(limits.run(), limits.known.is_set)

    def asked_twice() -> bool:
        limits.want()
        return len(services.places) >= 3

    await run_until(limits.run(), asked_twice)
    world.end()


# Beside another guard


async def test_a_look_is_one_transaction_under_the_lock_that_ends_with_our_name() -> None:
    world, services = World(), FakeServices()
    limits = limits_of(world, services)
    limits.listens(6433)
    await limits.read()
    assert services.said[:3] == [limiting.VERSION_QUERY, "BEGIN", limiting.LOCK_QUERY]
    assert services.said[-1] == "COMMIT"
    assert services.places == ["postgres"]
    name = services.name
    assert (name.pid, name.port, name.held) == (os.getpid(), 6433, 0)
    assert name.limit == world.hub.admission.total == 100 - 3 - MARGIN
    world.end()


async def test_what_another_guard_may_hold_is_not_ours() -> None:
    world, services = World(), FakeServices()
    limits = limits_of(world, services)
    guard = Announcement(99, "elsewhere", 6433, held=90, limit=91)
    services.backends = [["1", "postgres", guard.text()], ["2", "shop", "pgguard/old"]]
    services.backends += [[str(pid), "shop", ""] for pid in range(100, 190)]
    await limits.read()
    # 91 for all of us, of which the other has not given any up yet: one, out of the margin.
    assert world.hub.admission.total == 1
    assert "at elsewhere:6433 (pid 99) holds 90 of 91" in world.hub.admission.neighbours[0]
    services.backends = [["1", "postgres", OTHER.text()]]
    services.backends += [[str(pid), "shop", ""] for pid in range(100, 112)]
    await limits.read()
    # What nobody asks for is divided: 2 for us, 12 for the other, half of the rest.
    assert world.hub.admission.total in (2 + 38, 2 + 39)
    assert limits.bypassed == set()
    world.end()


async def test_without_the_lock_no_limit_is_raised() -> None:
    world, services = World(), FakeServices()
    services.backends = [["1", "postgres", OTHER.text()]]
    services.free = False
    limits = limits_of(world, services)
    await limits.read()
    assert world.hub.admission.total == 1
    services.free = True
    await limits.read()
    assert (world.hub.admission.total or 0) >= 40
    world.end()


async def test_what_is_held_above_the_limit_is_announced_until_it_is_given_up() -> None:
    world, services = World(), FakeServices()
    services.limits = [["10", "3", "0"]]
    limits = limits_of(world, services)
    await limits.read()
    assert world.hub.admission.total == 4
    servers = [world.link()[1] for _ in range(4)]
    services.limits = [["16", "3", "0"]]
    other = Announcement(99, "elsewhere", 6433, waiting=9)
    services.backends = [["1", "postgres", other.text()]]
    services.backends += [[str(server.pid), "shop", ""] for server in servers]
    await limits.read()
    assert world.hub.admission.total == 3
    assert (services.name.held, services.name.limit) == (4, 4)
    world.end()


async def test_a_guard_that_comes_later_is_an_event() -> None:
    world, services = World(), FakeServices()
    limits = limits_of(world, services)
    await limits.read()
    services.backends = [["1", "postgres", OTHER.text()]]
    await limits.read()
    await limits.read()
    (seen,) = [event for event in world.hub.events if isinstance(event, events.NeighbourSeen)]
    assert seen.message == OTHER.describe()
    world.end()


async def test_a_client_of_ours_that_calls_itself_a_guard_is_none() -> None:
    world, services = World(), FakeServices()
    _, server = world.link()
    services.backends = [[str(server.pid), "shop", OTHER.text()]]
    limits = limits_of(world, services)
    await limits.read()
    assert not limits.neighbours
    assert world.hub.admission.total == 100 - 3 - MARGIN
    world.end()


@pytest.mark.parametrize("sqlstate", ["3D000", "42501", "28000"])
async def test_who_may_not_connect_to_postgres_reads_elsewhere_and_announces_nothing(
    sqlstate: str,
) -> None:
    world, services = World(), FakeServices()
    refusal = ServerUnavailable("permission denied", fields={"C": sqlstate}, temporary=False)
    services.errors = [refusal]
    services.backends = [["1", "postgres", OTHER.text()]]
    services.backends += [[str(pid), "shop", ""] for pid in range(100, 112)]
    limits = limits_of(world, services)
    assert await limits.read()
    assert services.announce is None
    assert services.places == ["postgres", "shop"]
    assert not any(sql.startswith("SET ") for sql in services.said)
    assert world.hub.admission.total == 100 - 3 - 2 * MARGIN - OTHER.limit
    world.end()


async def test_a_connection_that_was_ended_meanwhile_is_made_anew_at_once() -> None:
    world, services = World(), FakeServices()
    limits = limits_of(world, services)
    services.pids = [7]
    services.errors = [ServerUnavailable("the service connection was closed")]
    assert await limits.read()
    assert len(services.places) == 2
    world.end()


async def test_a_postgres_that_is_away_is_dialled_once_a_look() -> None:
    world, services = World(), FakeServices()
    limits = limits_of(world, services)
    services.errors = [ServerUnavailable("cannot connect")]
    assert not await limits.read()
    assert len(services.places) == 1
    world.end()


async def test_a_server_that_does_not_answer_is_not_asked_twice() -> None:
    world, services = World(), FakeServices()
    limits = limits_of(world, services)
    slow = ServerUnavailable("no answer")
    slow.__cause__ = TimeoutError()
    services.errors = [slow]
    assert not await limits.read()
    assert len(services.places) == 1
    world.end()


# A server with one backend


@pytest.mark.parametrize("total", [None, 7])
@pytest.mark.parametrize(
    ("version", "alone", "name"),
    [
        ("PostgreSQL 18.6 (PGlite 0.5.14) on wasm32", False, "PGlite 0.5.14"),
        ("PostgreSQL 16 on something", True, "this server"),
    ],
)
async def test_a_server_with_one_backend_serves_one_session_and_none_of_ours_lasts(
    total: int | None, version: str, alone: bool, name: str
) -> None:
    world, services = World(total=total), FakeServices()
    services.version, services.alone = version, alone
    limits = limits_of(world, services)
    assert await limits.read()
    assert world.hub.upstream.single == name
    assert world.hub.admission.total == 1
    assert limits.known.is_set()
    assert services.stopped
    world.hub.upstream.set_total(9)
    assert world.hub.admission.total == 1
    asked = len(services.places)
    assert await limits.read()
    assert len(services.places) == asked
    world.end()
