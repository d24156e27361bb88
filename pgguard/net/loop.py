"""The event loop: uvloop where there is one, tasks with names, room for descriptors.

Laws: nothing else calls `create_task`; a task that fails is reported, never lost. `PGGUARD_LOOP` is
`uvloop` or `asyncio` and decides against the default.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import functools
import ipaddress
import logging
import socket
import sys
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from pgguard.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

log = logging.getLogger("pgguard.net")

KEEPALIVE = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 6}
"""Seconds, seconds, times: a silent peer is asked after a minute, and given up after another."""


def loop_factory(env: Mapping[str, str]) -> Callable[[], asyncio.AbstractEventLoop]:
    """The loop to run on. Raises SettingsError for a name that is not known or not installed."""
    wanted = env.get("PGGUARD_LOOP", "")
    if wanted not in ("", "uvloop", "asyncio"):
        raise SettingsError(
            f"{wanted!r} is no event loop", where="PGGUARD_LOOP", hint="uvloop or asyncio"
        )
    if wanted != "asyncio":
        try:
            import uvloop
        except ImportError:
            if wanted == "uvloop":
                raise SettingsError("uvloop is not installed", where="PGGUARD_LOOP") from None
        else:
            return uvloop.new_event_loop
    return asyncio.new_event_loop


def loop_name(env: Mapping[str, str]) -> str:
    """`uvloop 0.23.0` or `asyncio`, as `--version` prints it."""
    if loop_factory(env) is asyncio.new_event_loop:
        return "asyncio"
    return f"uvloop {version('uvloop')}"


def raise_descriptor_limit() -> int:
    """Raise the soft limit of descriptors to the hard one; returns what it is then."""
    try:
        import resource
    except ImportError:
        return 0
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        return hard
    return soft


def memory_returner() -> Callable[[], object]:
    """A function that gives memory which is free back to the system, where the C library can.

    A login leaves as much garbage behind as its session needs for itself (glibc, malloc_trim(3)).
    """
    if sys.platform != "linux":
        return lambda: None
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError):
        return lambda: None
    return lambda: trim(0)


@functools.lru_cache(1024)
def is_loopback(address: str) -> bool:
    """Whether an IP address, as a socket gives it, is of this very machine."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    # Newer Pythons say so of ::ffff:127.0.0.1, too; our sockets give no such address.
    return found.is_loopback and getattr(found, "ipv4_mapped", None) is None


def tune(sock: socket.socket, address: str) -> None:
    """Small messages go out at once; a peer elsewhere that vanished without a word is noticed in
    two minutes; on the loopback interface nobody can, and nothing is paced.

    Where the system's congestion control is BBR, pacing costs more than the bytes themselves.
    """
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if is_loopback(address):
        if hasattr(socket, "TCP_CONGESTION"):
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"reno")
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEPALIVE.items():
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


class Tasks:
    """The tasks of one guard: named, referenced, ended together."""

    def __init__(self, on_failure: Callable[[str, BaseException], None]) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._on_failure = on_failure

    def spawn(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._on_failure(task.get_name(), error)

    async def cancel(self) -> None:
        """Cancel what runs and wait until it has ended."""
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
