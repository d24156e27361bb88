"""The loop's choice, descriptors, and tasks that are neither lost nor left."""

from __future__ import annotations

import asyncio
import resource
import socket

import pytest
import uvloop

from pgguard.errors import SettingsError
from pgguard.net.loop import (
    KEEPALIVE,
    Tasks,
    is_loopback,
    loop_factory,
    loop_name,
    memory_returner,
    raise_descriptor_limit,
    tune,
)


def test_uvloop_is_used_unless_asyncio_is_wanted() -> None:
    assert loop_factory({}) is uvloop.new_event_loop
    assert loop_factory({"PGGUARD_LOOP": "uvloop"}) is uvloop.new_event_loop
    assert loop_factory({"PGGUARD_LOOP": "asyncio"}) is asyncio.new_event_loop
    assert loop_name({}) == f"uvloop {uvloop.__version__}"
    assert loop_name({"PGGUARD_LOOP": "asyncio"}) == "asyncio"


def test_a_loop_that_does_not_exist_is_refused() -> None:
    with pytest.raises(SettingsError, match="PGGUARD_LOOP: 'gevent' is no event loop"):
        loop_factory({"PGGUARD_LOOP": "gevent"})


def test_the_limit_of_descriptors_is_raised_to_the_hard_one() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lower = min(soft, 512)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lower, hard))
    try:
        limit = raise_descriptor_limit()
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == limit
        assert limit == (hard if hard != resource.RLIM_INFINITY else lower)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_memory_can_be_given_back() -> None:
    memory_returner()()


async def test_a_task_that_fails_is_reported_by_name() -> None:
    reported: list[tuple[str, str]] = []
    tasks = Tasks(lambda name, error: reported.append((name, str(error))))

    async def fail() -> None:
        raise ValueError("on purpose")

    await asyncio.wait([tasks.spawn(fail(), "failing")])
    await asyncio.sleep(0)
    assert reported == [("failing", "on purpose")]


async def test_cancel_ends_all_tasks_and_reports_none() -> None:
    reported: list[str] = []
    tasks = Tasks(lambda name, _: reported.append(name))
    ended: list[int] = []

    async def work(number: int) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(number)

    for number in range(3):
        tasks.spawn(work(number), "worker")
    await asyncio.sleep(0)
    await tasks.cancel()
    assert sorted(ended) == [0, 1, 2]
    assert reported == []


async def test_a_task_may_cancel_all_others() -> None:
    tasks = Tasks(lambda *_: None)
    other = tasks.spawn(asyncio.Event().wait(), "other")
    await tasks.spawn(tasks.cancel(), "ender")
    assert other.cancelled()


def test_sockets_are_prompt_and_notice_who_vanished() -> None:
    with socket.socket() as sock:
        tune(sock, "127.0.0.1")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert not sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    with socket.socket() as sock:
        tune(sock, "192.0.2.1")
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        if hasattr(socket, "TCP_KEEPIDLE"):
            wanted = KEEPALIVE["TCP_KEEPIDLE"]
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == wanted


@pytest.mark.parametrize(
    ("address", "ours"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("10.0.0.1", False), ("x", False)],
)
def test_the_loopback_interface_is_known_by_its_addresses(address: str, ours: bool) -> None:
    assert is_loopback(address) is ours
