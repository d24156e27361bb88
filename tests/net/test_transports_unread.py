"""What is seen of the other side while nothing is read from it."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import TYPE_CHECKING

import pytest
import uvloop

from pgguard.net.transports import Outlet

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize("factory", [asyncio.new_event_loop, uvloop.new_event_loop])
@pytest.mark.parametrize(
    ("how", "gone", "was_reset"),
    [("stay", False, False), ("close", True, False), ("reset", True, True)],
)
def test_a_close_and_a_reset_are_told_apart_unread(
    factory: Callable[[], asyncio.AbstractEventLoop], how: str, gone: bool, was_reset: bool
) -> None:
    async def look() -> None:
        ours, other = _pair()
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
        outlet = Outlet(transport)
        outlet.pause_reading()
        other.sendall(b"unread")
        if how == "reset":
            other.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if how != "stay":
            other.close()
        async with asyncio.timeout(5):
            while outlet.gone() != gone:
                await asyncio.sleep(0)
        assert outlet.was_reset() == was_reset
        transport.abort()
        other.close()

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(look())


def _pair() -> tuple[socket.socket, socket.socket]:
    """The two ends of a TCP connection, the first one not blocking."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        other = socket.create_connection(listening.getsockname())
        ours, _ = listening.accept()
    ours.setblocking(False)
    return ours, other
