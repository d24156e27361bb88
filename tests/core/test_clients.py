"""Who a session belongs to when names are shared, many, or free again."""

from __future__ import annotations

import pytest
from core_fakes import World

from pgguard.core import clients
from pgguard.events import ClientsMerged
from pgguard.pool.identity import ProcessInfo

WITH_PROCESS = ("application_name", "process", "address")


def comes(world: World, name: str, pid: int, worker: str = "") -> str:
    """The client of a session of that process, once the process is known."""
    session = world.open()
    session.process = ProcessInfo(pid, "pytest", worker)
    from pgguard.wire.codes import PROTOCOL_3_0
    from pgguard.wire.startup import build_startup

    parameters = {"user": "app", "database": "shop", "application_name": name}
    world.receive(session, build_startup(PROTOCOL_3_0, parameters))
    world.hub.identified(session)
    world.settle()
    return session.client.key


@pytest.fixture
def world() -> World:
    return World(identify=WITH_PROCESS, connection_limit=100)


def test_one_process_under_one_name_is_one_client(world: World) -> None:
    assert [comes(world, "suite", 1) for _ in range(3)] == ["suite"] * 3


def test_processes_that_use_one_name_at_once_are_told_apart(world: World) -> None:
    assert comes(world, "suite", 1, "gw0") == "suite"
    assert comes(world, "suite", 2, "gw1") == "suite (gw1)"
    assert comes(world, "suite", 3) == "suite #2"
    assert comes(world, "suite", 2, "gw1") == "suite (gw1)"
    assert comes(world, "suite", 1, "gw0") == "suite"


def test_a_name_without_sessions_is_free_for_another_process(world: World) -> None:
    comes(world, "suite", 1)
    for session in list(world.hub.sessions):
        world.reset(session)
    assert comes(world, "suite", 2) == "suite"


def test_clients_are_bounded_in_number(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "CLIENTS_LIMIT", 2)
    names = [world.enter(application_name=f"{number}.py").client.key for number in range(4)]
    assert names == ["0.py", "1.py", "other", "other"]
    merged = [event for event in world.hub.events if isinstance(event, ClientsMerged)]
    assert [event.client for event in merged] == ["2.py", "3.py"]
    assert world.hub.clients["other"].share.name == "other"


def test_a_client_stays_known_after_its_last_session(world: World) -> None:
    session = world.enter(application_name="a.py")
    world.reset(session)
    assert world.hub.clients["a.py"].counters.sessions == 1
    assert not world.hub.clients["a.py"].sessions
