"""Bytes between sockets and the core: half-closes, resets, back-pressure, faults of the core."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from typing import TYPE_CHECKING, Any

from loops import on_both_loops

from pgguard.net.transports import Outlet, ServerProtocol, SessionProtocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

HEAD = b"head"
"""What the listener has read before."""


class Core:
    """What a session and a server look like to their protocols."""

    def __init__(self, *, stays_open: bool = True) -> None:
        self.hub = self
        self.out: Outlet | None = None
        self.got = b""
        self.log: list[str] = []
        self.stays_open = stays_open
        self.error: BaseException | None = None
        self.over = asyncio.Event()

    def adopt(self, out: Outlet) -> None:
        self.out = out

    def server_connected(self, _server: object, out: Outlet, _login: object) -> None:
        self.out = out

    def receive(self, data: bytes) -> None:
        self.got += data
        if b"bug" in data:
            raise ZeroDivisionError("a bug of ours")

    def eof(self) -> bool:
        self.log.append("eof")
        return self.stays_open

    def pause_writing(self) -> None:
        self.log.append("pause")

    def resume_writing(self) -> None:
        self.log.append("resume")

    def lost(self, error: BaseException | None) -> None:
        self.log.append("lost")
        self.error = error
        self.over.set()


class Line:
    """A protocol on one end of a connection, a plain socket on the other."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self.reports: list[tuple[str, BaseException]] = []
        self.other: socket.socket

    async def until(self, is_so: Callable[[], object]) -> None:
        async with asyncio.timeout(5):
            while not is_so():
                await asyncio.sleep(0.001)

    async def read(self, size: int) -> bytes:
        loop = asyncio.get_running_loop()
        data = b""
        while len(data) < size and (piece := await loop.sock_recv(self.other, 1 << 20)):
            data += piece
        return data


@contextlib.asynccontextmanager
async def line(core: Core, *, server: bool = False) -> AsyncIterator[Line]:
    here, there = await connected()
    made = Line(core)
    made.other = there

    def protocol() -> Any:
        report = lambda where, error: made.reports.append((where, error))  # noqa: E731
        if server:
            return ServerProtocol(core, "login", b"rest", report)  # type: ignore[arg-type]
        return SessionProtocol(core, HEAD, report)  # type: ignore[arg-type]

    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda *_: None)
    transport, _ = await loop.create_connection(protocol, sock=here)
    try:
        yield made
    finally:
        if not core.over.is_set():
            transport.abort()
        there.close()
        await asyncio.wait_for(core.over.wait(), 5)


async def connected() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        there = socket.create_connection(listening.getsockname())
        here, _ = listening.accept()
    for sock in (here, there):
        sock.setblocking(False)
    return here, there


@on_both_loops
async def test_what_was_read_before_comes_first() -> None:
    core = Core()
    async with line(core) as connection:
        connection.other.send(b" tail")
        await connection.until(lambda: core.got == b"head tail")
    core = Core()
    async with line(core, server=True) as connection:
        connection.other.send(b" tail")
        await connection.until(lambda: core.got == b"rest tail")


@on_both_loops
async def test_a_half_closed_connection_can_still_be_written_to() -> None:
    core = Core()
    async with line(core) as connection:
        connection.other.shutdown(socket.SHUT_WR)
        await connection.until(lambda: core.log == ["eof"])
        assert core.out is not None
        core.out.write(b"answer")
        assert await connection.read(6) == b"answer"
        core.out.close()
        await core.over.wait()
    assert core.error is None


@on_both_loops
async def test_an_eof_ends_a_connection_that_need_not_stay() -> None:
    core = Core(stays_open=False)
    async with line(core, server=True) as connection:
        connection.other.shutdown(socket.SHUT_WR)
        await core.over.wait()
        assert await connection.read(1) == b""
    assert core.log == ["eof", "lost"]


@on_both_loops
async def test_a_reset_is_an_error_and_no_bug() -> None:
    core = Core()
    async with line(core) as connection:
        reset(connection.other)
        await core.over.wait()
    assert isinstance(core.error, OSError)
    assert connection.reports == []


@on_both_loops
async def test_a_bug_ends_this_connection_and_is_reported() -> None:
    for server in (False, True):
        core = Core()
        async with line(core, server=server) as connection:
            connection.other.send(b"bug")
            await core.over.wait()
        ((_, error),) = connection.reports
        assert isinstance(error, ZeroDivisionError)


@on_both_loops
async def test_a_slow_reader_is_told_of_and_waited_for() -> None:
    core = Core()
    async with line(core) as connection:
        assert core.out is not None
        size = 16 << 20
        core.out.write(bytes(size))
        await connection.until(lambda: "pause" in core.log)
        assert len(await connection.read(size)) == size
        await connection.until(lambda: "resume" in core.log)


@on_both_loops
async def test_what_is_said_to_a_closed_connection_is_swallowed() -> None:
    core = Core()
    async with line(core) as connection:
        assert core.out is not None
        core.out.close()
        for _ in range(10):
            core.out.write(b"x")
            core.out.write_eof()
            core.out.pause_reading()
            core.out.resume_reading()
        await core.over.wait()
        core.out.write(b"x")
        assert core.out.gone()
    assert connection.reports == []


@on_both_loops
async def test_what_was_written_before_the_close_arrives() -> None:
    core = Core()
    async with line(core) as connection:
        assert core.out is not None
        size = 4 << 20
        core.out.write(bytes(size))
        core.out.close()
        assert len(await connection.read(size + 1)) == size


@on_both_loops
async def test_a_peer_that_leaves_is_seen_without_reading() -> None:
    for leave in (socket.socket.close, reset, lambda sock: sock.shutdown(socket.SHUT_WR)):
        core = Core()
        async with line(core) as connection:
            assert core.out is not None
            core.out.pause_reading()
            assert not core.out.gone()
            connection.other.send(b"unread")
            assert not core.out.gone()
            leave(connection.other)
            await connection.until(core.out.gone)


class Resting(Core):
    """Lets the others have their turn after everything that it gets."""

    def __init__(self) -> None:
        super().__init__()
        self.turn = 0
        """Turns of the loop so far."""
        self.turns: list[int] = []
        """Those in which something came, HEAD first."""

    def receive(self, data: bytes) -> None:
        super().receive(data)
        self.turns.append(self.turn)
        assert self.out is not None
        self.out.rest()


@on_both_loops
async def test_a_socket_that_is_never_empty_leaves_the_others_their_turn() -> None:
    core = Resting()
    loop = asyncio.get_running_loop()

    def next_turn() -> None:
        core.turn += 1
        if not core.over.is_set():
            loop.call_soon(next_turn)

    async with line(core) as connection:
        loop.call_soon(next_turn)
        size = 4 << 20
        await loop.sock_sendall(connection.other, bytes(size))
        await connection.until(lambda: len(core.got) == len(HEAD) + size)
        turns = core.turns[1:]
        assert len(turns) > 1
        assert len(set(turns)) == len(turns)


@on_both_loops
async def test_who_is_to_read_nothing_goes_on_reading_nothing_after_a_rest() -> None:
    core = Core()
    async with line(core) as connection:
        assert core.out is not None
        core.out.rest()
        core.out.pause_reading()
        connection.other.send(b"later")
        for _ in range(5):
            await asyncio.sleep(0)
        core.out.rest()
        await asyncio.sleep(0.01)
        assert core.got == HEAD
        core.out.resume_reading()
        await connection.until(lambda: core.got == HEAD + b"later")


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()
