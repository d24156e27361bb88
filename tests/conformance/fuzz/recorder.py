"""Between pgguard and Postgres: passes every byte on, and keeps it, so that a loss has an owner.

What Postgres has said to pgguard and what pgguard has said to Postgres is on record, connection by
connection. Laws: bytes are neither changed nor lost here: what came before a reset is read to its
end and passed on, and pgguard's side is reset in turn only once its kernel has all of that; else it
is half-closed and heard out. It runs on a thread of its own and shares no code with pgguard.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import socket
import struct
import termios
import threading
from typing import Self

CHUNK = 65536


class Record:
    """One connection. `up` and `down` grow until `over`."""

    __slots__ = ("down", "over", "reset", "up")

    def __init__(self) -> None:
        self.up = bytearray()
        self.down = bytearray()
        self.reset = False
        """Postgres closed with bytes unread, so that its kernel threw away what was unsent."""
        self.over = False

    @property
    def startup(self) -> dict[bytes, bytes]:
        """What its startup packet says; nothing before that is whole."""
        length = self._length()
        if not 8 < length <= len(self.up):
            return {}
        words = bytes(self.up[8:length]).split(b"\0")
        return dict(zip(words[::2], words[1::2], strict=False))

    @property
    def said(self) -> bytes:
        """What went to Postgres behind the startup packet."""
        return bytes(self.up[self._length() :])

    def _length(self) -> int:
        return int.from_bytes(self.up[:4], "big")


class Recorder:
    """Listens on a free port for as long as it is entered."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._records: list[Record] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="recorder", daemon=True)
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=100)
        self._listening.setblocking(False)
        self.port = int(self._listening.getsockname()[1])

    def __enter__(self) -> Self:
        self._thread.start()
        self._accepting = asyncio.run_coroutine_threadsafe(self._accept(), self._loop)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._finish(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()
        self._listening.close()

    def of(self, database: bytes, user: bytes) -> list[Record]:
        """Connections of that user to that database since they were last forgotten."""
        wanted = {b"database": database, b"user": user}
        return [r for r in list(self._records) if wanted.items() <= r.startup.items()]

    def forget(self, records: list[Record]) -> None:
        for record in records:
            # In place: others are added meanwhile.
            self._records.remove(record)

    async def _finish(self) -> None:
        self._accepting.cancel()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self) -> None:
        while True:
            near, _ = await self._loop.sock_accept(self._listening)
            near.setblocking(False)
            task = self._loop.create_task(self._relay(near))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _relay(self, near: socket.socket) -> None:
        record = Record()
        self._records.append(record)
        far = socket.socket()
        far.setblocking(False)
        try:
            for sock in (near, far):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await self._loop.sock_connect(far, self._target)
            up = self._loop.create_task(self._upwards(record, near, far))
            try:
                await self._downwards(record, near, far)
                if record.reset:
                    await self._reset(near)
                else:
                    # Unread bytes would reset pgguard's side, and its last answers with it.
                    near.shutdown(socket.SHUT_WR)
                    await up
            finally:
                up.cancel()
                await asyncio.gather(up, return_exceptions=True)
        except OSError:
            # Postgres is not there, or pgguard has gone.
            pass
        finally:
            near.close()
            far.close()
            record.over = True

    async def _upwards(self, record: Record, near: socket.socket, far: socket.socket) -> None:
        while data := await self._loop.sock_recv(near, CHUNK):
            record.up += data
            # Who is no longer listened to is heard out all the same.
            with contextlib.suppress(OSError):
                await self._loop.sock_sendall(far, data)
        with contextlib.suppress(OSError):
            far.shutdown(socket.SHUT_WR)

    async def _downwards(self, record: Record, near: socket.socket, far: socket.socket) -> None:
        while True:
            try:
                data = await self._loop.sock_recv(far, CHUNK)
            except OSError:
                record.reset = True
                break
            if not data:
                break
            record.down += data
            await self._loop.sock_sendall(near, data)

    async def _reset(self, near: socket.socket) -> None:
        """What is on its way would be thrown away, and it could not be said who has lost it."""
        while any(fcntl.ioctl(near, termios.TIOCOUTQ, bytes(4))):
            await asyncio.sleep(0.001)
        near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
