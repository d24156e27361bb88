"""Who came, by the port or by what a unix socket says; nobody waits for ever."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

from core_fakes import World

from pgguard.core.types import LOCAL, Peer
from pgguard.net import identify as module
from pgguard.net.identify import Identification
from pgguard.net.lately import Lately
from pgguard.net.loop import Tasks
from pgguard.pool.identity import ProcessInfo

if TYPE_CHECKING:
    import pytest


class FakePeers:
    """Every port and every pid but 0 is somebody."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def find(self, ports: set[int], peer_port: int) -> dict[int, ProcessInfo]:
        self.asked.append((sorted(ports), peer_port))
        return {port: ProcessInfo(1, f"port {port}") for port in ports}

    def describe(self, pid: int) -> ProcessInfo | None:
        self.asked.append(pid)
        return ProcessInfo(pid, f"pid {pid}") if pid != 13 else None


async def identified(world: World, *sessions: Any) -> tuple[Identification, FakePeers, list[str]]:
    faults: list[str] = []
    tasks = Tasks(lambda where, error: faults.append(f"{where}: {error!r}"))
    identification = Identification(world.hub, tasks, lambda *fault: faults.append(repr(fault)))
    peers = identification.peers = FakePeers()  # type: ignore[assignment]
    identification.port = 6433
    for session in sessions:
        identification.want(session)
    while identification._wanted:
        await asyncio.sleep(0.001)
    return identification, peers, faults


async def test_a_port_and_a_pid_are_looked_up_in_one_pass() -> None:
    world = World(identify=("process", "address"))
    over_tcp = world.enter()
    over_unix = world.enter(address=LOCAL, peer=Peer(42, os.geteuid()))
    unknown = world.enter(address=LOCAL, peer=Peer(13, os.geteuid()))
    elsewhere = world.enter(address=LOCAL, peer=Peer(0, os.geteuid()))
    _, peers, faults = await identified(world, over_tcp, over_unix, unknown, elsewhere)
    assert faults == []
    assert [over_tcp.process, over_unix.process] == [
        ProcessInfo(1, "port 5000"),
        ProcessInfo(42, "pid 42"),
    ]
    assert unknown.process is None
    assert elsewhere.process is None
    assert peers.asked[0] == ([5000], 6433)
    world.end()


async def test_nobody_over_tcp_means_no_look_at_the_tables() -> None:
    world = World(identify=("process", "address"))
    session = world.enter(address=LOCAL, peer=Peer(42, os.geteuid()))
    _, peers, _ = await identified(world, session)
    assert peers.asked == [42]
    world.end()


async def test_who_has_left_meanwhile_is_not_looked_for() -> None:
    world = World(identify=("process", "address"))
    session = world.enter()
    world.reset(session)
    _, peers, faults = await identified(world, session)
    assert peers.asked == []
    assert faults == []
    world.end()


class Always(Lately):
    """Finds this very process whatever is asked."""

    def find(self, port: int, peer_port: int) -> ProcessInfo:
        return ProcessInfo(os.getpid(), f"{port} to {peer_port}")


async def test_who_came_lately_is_forgotten_when_nobody_comes_any_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "IDLE", 0.01)
    world = World(identify=("process", "address"))
    identification, _, _ = await identified(world, world.enter())
    kept = identification.lately._processes
    assert list(kept) == [1]
    async with asyncio.timeout(5):
        while kept:
            await asyncio.sleep(0.001)
    assert identification._rest is None
    identification.stop()
    world.end()


async def test_a_process_that_came_lately_is_known_at_once() -> None:
    world = World(identify=("process", "address"))
    identification, peers, _ = await identified(world, world.enter())
    asked = list(peers.asked)
    identification.lately = Always()
    again = world.enter()
    assert identification.want(again)
    assert again.process == ProcessInfo(os.getpid(), "5000 to 6433")
    assert peers.asked == asked
    identification.stop()
    world.end()
