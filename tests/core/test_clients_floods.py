"""More names than can be told apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core_fakes import World

from pgguard.core import clients
from pgguard.pool.identity import ProcessInfo
from pgguard.wire.codes import PROTOCOL_3_0
from pgguard.wire.startup import build_startup

if TYPE_CHECKING:
    import pytest


def test_of_names_that_are_counted_together_nothing_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(clients, "CLIENTS_LIMIT", 2)
    world = World(identify=("application_name", "process"))
    for number in range(10):
        session = world.open()
        session.process = ProcessInfo(100 + number, "python")
        world.hub.clients.of(named(world, session, f"name {number}"))
    assert list(world.hub.clients) == ["name 0", "name 1", clients.OTHER]
    assert len(world.hub.clients._owners) == 2
    world.end()


def named(world: World, session: object, name: str) -> object:
    """The session with a startup packet read, as far as its name goes."""
    packet = build_startup(PROTOCOL_3_0, {"user": "app", "application_name": name})
    session.entrance.said = world.hub.introductions.of(packet, "%")  # type: ignore[attr-defined]
    return session
