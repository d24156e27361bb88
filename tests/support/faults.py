"""A relay that does to connections what networks do: delay, slice, throttle, cut, reset, go deaf.

It stands before pgguard or between pgguard and Postgres, on a thread of its own. `relay.up` (what
goes to the server) and `relay.down` hold for all connections that were not given their own, and
may be changed at any time. Laws: not more than a chunk or two is kept for each direction, so that
what is not taken waits in its sender; bytes are delayed or lost at the end, never changed; messages
are counted on plain connections, of which the first message upwards is the startup packet.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

LOCALHOST = "127.0.0.1"
CHUNK = 64 * 1024
CLOSE, RESET, HANG, HALF_CLOSE = "close", "reset", "hang", "half-close"


@dataclass(frozen=True, slots=True)
class At:
    """A place in one direction, and how the connection ends there.

    `messages` whole ones pass, and `more` bytes of the next. CLOSE and RESET end both sides, HANG
    leaves both open and deaf, HALF_CLOSE ends this direction alone.
    """

    messages: int
    more: int = 0
    then: str = CLOSE


@dataclass(slots=True)
class Toxics:
    """What happens to the bytes of one direction."""

    delay: float = 0.0
    """Seconds that each chunk takes."""
    slice: int = 0
    """Bytes in a segment; 0 leaves them as they come."""
    rate: float = 0.0
    """Bytes a second; 0 is no limit."""
    at: At | None = None
    deaf: bool = False
    """Nothing is read any more."""


class Counter:
    """Where in the messages of one direction we are."""

    __slots__ = ("_head", "_left", "_size", "messages", "more")

    def __init__(self, *, startup: bool) -> None:
        self._size = 4 if startup else 5
        self._head = b""
        self._left = 0
        self.messages = 0
        """Whole ones that have passed."""
        self.more = 0
        """Bytes of the next one."""

    def walk(self, data: bytes, at: At | None) -> int | None:
        """Count these bytes; how many of them are before the place, or None if all are."""
        pos = 0
        while True:
            limit = len(data)
            if at is not None and self.messages >= at.messages:
                if self.messages > at.messages or self.more >= at.more:
                    return pos
                limit = min(limit, pos + at.more - self.more)
            if pos == limit:
                return None
            pos += self._take(data, pos, limit)

    def _take(self, data: bytes, pos: int, limit: int) -> int:
        """Bytes of the head, or of the body, of the current message that are in here."""
        if len(self._head) < self._size:
            taken = min(self._size - len(self._head), limit - pos)
            self._head += data[pos : pos + taken]
            if len(self._head) == self._size:
                self._left = int.from_bytes(self._head[-4:], "big") - 4
        else:
            taken = min(self._left, limit - pos)
            self._left -= taken
        self.more += taken
        if len(self._head) == self._size and self._left <= 0:
            self._head, self._size = b"", 5
            self.messages += 1
            self.more = 0
        return taken


@dataclass(eq=False)
class Connection:
    """One connection through the relay; everything here may be used from any thread."""

    relay: Relay
    number: int
    up: Toxics
    down: Toxics
    port: int = 0
    """Our own port on the way to the server: pg_stat_activity.client_port."""
    sent: Counter = field(default_factory=lambda: Counter(startup=True))
    received: Counter = field(default_factory=lambda: Counter(startup=False))
    over: bool = False
    _writers: list[asyncio.StreamWriter] = field(default_factory=list)

    def end(self, how: str) -> None:
        """End it now: CLOSE, RESET or HANG."""
        self.relay.call(lambda: self._end(how))

    def _end(self, how: str) -> None:
        if how == HANG:
            self.up, self.down = Toxics(deaf=True), Toxics(deaf=True)
            return
        self.over = True
        for writer in self._writers:
            if how == RESET:
                _reset(writer)
            else:
                writer.close()


class Relay:
    """Listens on a free port for as long as it is entered; `url` is `target`'s through it."""

    def __init__(
        self, host: str, port: int, *, up: Toxics | None = None, down: Toxics | None = None
    ) -> None:
        self._target = (host, port)
        self.up, self.down = up or Toxics(), down or Toxics()
        self.connections: list[Connection] = []
        """All that there were, in the order of their arrival."""
        self.passed = 0
        """Bytes that went up."""
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._run, name="relay", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self.listen()
        return self

    def __exit__(self, *_: object) -> None:
        self.refuse()
        self._await(self._finish())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def call(self, work: Callable[[], object]) -> None:
        """Run it on the relay's loop and wait for its end."""

        async def do() -> None:
            work()

        self._await(do())

    def _await(self, work: Coroutine[Any, Any, object]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    # What a test does to all

    @property
    def alive(self) -> list[Connection]:
        return [connection for connection in list(self.connections) if not connection.over]

    def end_all(self, how: str) -> None:
        for connection in self.alive:
            connection.end(how)

    def listen(self) -> None:
        """Take connections, on the port of the first time."""
        self._await(self._listen())

    def refuse(self) -> None:
        """Nobody can connect any more; the connections that there are go on."""
        self.call(self._server.close)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, LOCALHOST, self.port, limit=CHUNK)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _finish(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for connection in self.connections:
            for writer in connection._writers:
                writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(self, len(self.connections), self.up, self.down)
        self.connections.append(connection)
        connection._writers.append(writer)
        task = asyncio.ensure_future(self._relay(connection, reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _relay(
        self, connection: Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            back, forth = await asyncio.open_connection(*self._target, limit=CHUNK)
        except OSError:
            connection._end(RESET)
            return
        connection._writers.append(forth)
        connection.port = forth.get_extra_info("sockname")[1]
        for end in (writer, forth):
            end.transport.set_write_buffer_limits(high=CHUNK)
            # A paced connection (BBR) may deliver what comes later first.
            sock = end.get_extra_info("socket")
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if hasattr(socket, "TCP_CONGESTION"):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"reno")
        try:
            await asyncio.gather(
                self._pump(connection, reader, forth, upwards=True),
                self._pump(connection, back, writer, upwards=False),
            )
        finally:
            connection.over = True
            for end in (writer, forth):
                end.close()

    async def _pump(
        self,
        connection: Connection,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        *,
        upwards: bool,
    ) -> None:
        counter = connection.sent if upwards else connection.received
        try:
            while True:
                await _while_deaf(connection, upwards=upwards)
                data = await source.read(CHUNK)
                # Deaf since then: what was read is lost with the connection.
                await _while_deaf(connection, upwards=upwards)
                toxics = connection.up if upwards else connection.down
                if not data:
                    sink.write_eof()
                    return
                end = counter.walk(data, toxics.at)
                await self._send(data if end is None else data[:end], sink, toxics)
                if upwards:
                    self.passed += len(data) if end is None else end
                if end is not None and toxics.at is not None:
                    await self._stop(connection, sink, toxics.at.then)
                    return
        except (OSError, RuntimeError):
            # What happened to one side happens to the other.
            connection._end(RESET)

    async def _send(self, data: bytes, sink: asyncio.StreamWriter, toxics: Toxics) -> None:
        if toxics.delay:
            await asyncio.sleep(toxics.delay)
        size = toxics.slice or len(data) or 1
        for start in range(0, len(data), size):
            piece = data[start : start + size]
            sink.write(piece)
            await sink.drain()
            if toxics.slice:
                # A turn of the loop: without it the kernel would join them again.
                await asyncio.sleep(0)
            if toxics.rate:
                await asyncio.sleep(len(piece) / toxics.rate)

    async def _stop(self, connection: Connection, sink: asyncio.StreamWriter, how: str) -> None:
        if how == HALF_CLOSE:
            sink.write_eof()
        else:
            connection._end(how)
            await _while_deaf(connection, upwards=True)


async def _while_deaf(connection: Connection, *, upwards: bool) -> None:
    while (connection.up if upwards else connection.down).deaf:
        await asyncio.sleep(0.01)


def _reset(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
