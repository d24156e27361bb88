"""A TCP relay that can be slowed down: stands between the guard and Postgres.

It keeps at most one chunk per direction, so what it does not take waits in its sender.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from tests.conformance.harness import Address

CHUNK = 64 * 1024


class SlowRelay:
    """An asynchronous context manager; `rate` is what goes to the server, in bytes per second."""

    def __init__(self, target: Address, rate: float) -> None:
        self._target, self.rate = target, rate
        self._tasks: set[asyncio.Task[None]] = set()
        self.address = target
        self.passed = 0
        """Bytes that went to the server."""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=CHUNK)
        port = self._server.sockets[0].getsockname()[1]
        self.address = self._target.at("127.0.0.1", port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, forth = await asyncio.open_connection(
            self._target.host, self._target.port, limit=CHUNK
        )
        for source, sink, slow in ((reader, forth, True), (back, writer, False)):
            sink.transport.set_write_buffer_limits(high=CHUNK)
            task = asyncio.create_task(self._pump(source, sink, slow=slow))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pump(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, slow: bool
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(CHUNK):
                sink.write(data)
                await sink.drain()
                if slow:
                    self.passed += len(data)
                    await asyncio.sleep(len(data) / self.rate)
        sink.close()
