"""The least that a Python proxy can do: bytes from one socket to the other, on uvloop.

`python -m tests.bench.relay HOST PORT` prints the port on which it listens.
"""

from __future__ import annotations

import asyncio
import sys
from typing import cast

import uvloop


class Side(asyncio.Protocol):
    """One of two sockets; what comes before the other one is connected is kept."""

    transport: asyncio.Transport

    def __init__(self, other: Side | None = None) -> None:
        self.other = other
        self.kept: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        if self.other is None:
            task = asyncio.get_running_loop().create_task(self.dial())
            TASKS.add(task)
            task.add_done_callback(TASKS.discard)

    async def dial(self) -> None:
        loop = asyncio.get_running_loop()
        _, other = await loop.create_connection(lambda: Side(self), *TARGET)
        for data in self.kept:
            other.transport.write(data)
        self.other = other

    def data_received(self, data: bytes) -> None:
        if self.other is None:
            self.kept.append(data)
        else:
            self.other.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.other is not None:
            self.other.transport.close()


TARGET = ("127.0.0.1", 0)
TASKS: set[asyncio.Task[None]] = set()


async def serve() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Side, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    TARGET = (sys.argv[1], int(sys.argv[2]))
    uvloop.run(serve())
