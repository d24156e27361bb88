"""How many connections there may be, and who goes when there are too many."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from core_fakes import World

from pgguard.core.login import Method
from pgguard.core.states import SessionState
from pgguard.net.crowd import FEWEST, LOGINS, Crowd

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize(
    ("descriptors", "total", "limit"),
    [
        (1024, 0, 896),
        (1024, 94, 802),
        (1024, 600, 448),
        (64, 0, 43),
        (64, 94, 21),
        (4, 94, FEWEST),
    ],
)
def test_every_session_may_have_a_server(descriptors: int, total: int, limit: int) -> None:
    world = World()
    world.hub.upstream.total = total
    assert Crowd(world.hub, descriptors).limit == limit


@pytest.mark.parametrize("unknown", [0, -1])
def test_descriptors_that_are_not_known_limit_nothing(unknown: int) -> None:
    assert Crowd(World().hub, unknown).limit > 1_000_000


def test_those_that_have_not_logged_in_are_few_in_any_case() -> None:
    world = World()
    crowd = Crowd(world.hub, 1 << 20)
    dropped: list[int] = []
    for number in range(LOGINS + 3):
        assert crowd.has_room()
        crowd.enter(number, lambda number=number: dropped.append(number))
    assert dropped == [0, 1, 2]
    crowd.leave(3)
    assert crowd.has_room()
    assert dropped == [0, 1, 2]


def test_a_place_in_the_order_stays_when_the_way_to_end_it_changes() -> None:
    crowd = Crowd(World().hub, 0)
    dropped: list[str] = []
    say: Callable[[str], Callable[[], object]] = lambda text: lambda: dropped.append(text)  # noqa: E731
    crowd.enter(1, say("plain 1"))
    crowd.enter(2, say("plain 2"))
    crowd.change(1, say("tls 1"))
    crowd.change(3, say("gone 3"))
    assert crowd.drop_one()
    assert crowd.drop_one()
    assert not crowd.drop_one()
    assert dropped == ["tls 1", "plain 2"]


def test_the_oldest_that_keeps_us_waiting_for_its_password_goes_and_is_told() -> None:
    world = World(secrets={"app": "secret"}, method=Method.SCRAM)
    oldest = world.open()
    world.clock.now += 1
    newer = world.enter()
    world.clock.now += 1
    newest = world.enter()
    crowd = Crowd(world.hub, 0)
    for session in (oldest, newer, newest):
        assert crowd.drop_one()
        world.settle()
        assert session.state is SessionState.CLOSED
        assert b"C53300" in world.outs[session].take()
    assert not crowd.drop_one()
    world.end()


def test_who_waits_for_us_does_not_go() -> None:
    world = World(method=None)
    session = world.enter()
    assert not Crowd(world.hub, 0).drop_one()
    assert session.state is SessionState.LOGIN
    world.end()


def test_a_full_house_is_described_for_the_log() -> None:
    world = World()
    world.link()
    crowd = Crowd(world.hub, 64)
    crowd.enter(1, bool)
    assert crowd.describe() == (
        "2 connections, 1 of them have not logged in; 64 descriptors are enough for 43"
    )
    world.end()
