"""The server over real sockets, with well-behaved and hostile clients."""

from __future__ import annotations

import asyncio
import json
import logging
import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from hubs import FakeHub

from pgguard.admin.http import HttpLimits, HttpServer
from pgguard.admin.request import HEAD_LIMIT
from pgguard.record.findings import Recorder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
LAST = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


class Page:
    """An answer as a client sees it."""

    def __init__(self, head: bytes, body: bytes) -> None:
        lines = head.decode().split("\r\n")
        self.status = int(lines[0].split(" ")[1])
        self.headers = dict(line.split(": ", 1) for line in lines[1:] if line)
        self.body = body


class Visitor:
    """One connection of a client."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def answer(self, *, with_body: bool = True) -> Page:
        head = await self.reader.readuntil(b"\r\n\r\n")
        page = Page(head, b"")
        if with_body:
            page.body = await self.reader.readexactly(int(page.headers["Content-Length"]))
        return page

    async def is_closed(self) -> bool:
        """Whether the server ends the connection in order, with nothing more to say."""
        return await self.reader.read() == b""


@asynccontextmanager
async def serving(
    hub: FakeHub | None = None,
    *,
    ready: Callable[[], tuple[bool, str]] = lambda: (True, ""),
    limits: HttpLimits | None = None,
) -> AsyncIterator[Callable[[], Awaitable[Visitor]]]:
    """Yields what opens a connection to a running server; everything is closed at the end."""
    hub = hub or FakeHub()
    recorder = Recorder()
    server = HttpServer(
        hub, recorder, "127.0.0.1", 0, ready, None, lambda: recorder.findings(hub), limits=limits
    )
    host, port = await server.start()
    visitors: list[Visitor] = []

    async def visit() -> Visitor:
        visitors.append(Visitor(*await asyncio.open_connection(host, port)))
        return visitors[-1]

    try:
        async with asyncio.timeout(20):
            yield visit
    finally:
        await server.close()
        for visitor in visitors:
            visitor.writer.transport.abort()


async def until_there_is_room(visit: Callable[[], Awaitable[Visitor]]) -> None:
    """Ask again and again until the server no longer says that it has too many connections."""
    status = 503
    while status == 503:
        visitor = await visit()
        visitor.send(GET)
        status = (await visitor.answer()).status
    assert status == 200


async def test_a_page_is_served():
    async with serving() as visit:
        visitor = await visit()
        visitor.send(GET)
        page = await visitor.answer()
        assert (page.status, page.body) == (200, b"ok\n")
        assert page.headers["Connection"] == "keep-alive"


async def test_head_gives_the_length_but_no_body():
    async with serving() as visit:
        visitor = await visit()
        visitor.send(GET.replace(b"GET", b"HEAD") + GET)
        page = await visitor.answer(with_body=False)
        assert page.headers["Content-Length"] == "3"
        assert (await visitor.answer()).body == b"ok\n"


async def test_pipelined_requests_are_answered_in_order():
    async with serving() as visit:
        visitor = await visit()
        visitor.send(
            GET + GET.replace(b"healthz", b"readyz") + GET.replace(b"healthz", b"x") + LAST
        )
        answers = [await visitor.answer() for _ in range(4)]
        assert [page.status for page in answers] == [200, 200, 404, 200]
        assert [page.body for page in answers[:2]] == [b"ok\n", b"ready\n"]
        assert await visitor.is_closed()


async def test_a_request_may_come_byte_by_byte():
    async with serving() as visit:
        visitor = await visit()
        for value in GET:
            visitor.send(bytes([value]))
            await asyncio.sleep(0)
        assert (await visitor.answer()).status == 200


async def test_a_body_is_read_and_never_taken_for_a_request():
    async with serving() as visit:
        visitor = await visit()
        head = b"POST /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
        visitor.send(head % len(GET) + GET + LAST)
        assert (await visitor.answer()).status == 405
        assert (await visitor.answer()).status == 200
        assert await visitor.is_closed()


async def test_http_1_0_closes():
    async with serving() as visit:
        visitor = await visit()
        visitor.send(b"GET /healthz HTTP/1.0\r\n\r\n")
        assert (await visitor.answer()).headers["Connection"] == "close"
        assert await visitor.is_closed()


async def test_a_large_page_arrives_whole_before_the_connection_closes():
    hub = FakeHub()
    for number in range(3_000):
        hub.client(f"client {number} {'x' * 100}")
    async with serving(hub) as visit:
        visitor = await visit()
        visitor.send(LAST.replace(b"healthz", b"api/v1/clients"))
        page = await visitor.answer()
        assert len(page.body) > 1_000_000
        assert len(json.loads(page.body)["clients"]) == 3_000
        assert await visitor.is_closed()


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"\x00\x00\x00\x08\x04\xd2\x16\x2f\r\n\r\n", 400),
        (b"\xff" * 100 + b"\r\n\r\n", 400),
        (b"\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (b"POST /-/reload HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n", 501),
        (b"POST /-/reload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\n", 413),
        (b"GET /" + b"a" * (2 * HEAD_LIMIT), 431),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * (50 * HEAD_LIMIT), 431),
        (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * HEAD_LIMIT, 431),
    ],
)
async def test_what_is_no_request_is_refused_once_and_the_connection_closed(request_bytes, status):
    async with serving() as visit:
        visitor = await visit()
        visitor.send(request_bytes + GET)
        assert (await visitor.answer()).status == status
        assert await visitor.is_closed()


async def test_a_request_that_ends_too_early_is_refused():
    async with serving() as visit:
        visitor = await visit()
        visitor.send(b"GET /healthz HTT")
        visitor.writer.write_eof()
        assert (await visitor.answer()).status == 400
        assert await visitor.is_closed()


async def test_a_request_that_trickles_is_refused_in_time():
    async with serving(limits=HttpLimits(request_time=0.05)) as visit:
        visitor = await visit()
        visitor.send(b"GET /healthz HTTP/1.1\r\nX-")
        page = await visitor.answer()
        assert (page.status, page.body) == (408, b"no whole request within 0.05 s\n")
        assert await visitor.is_closed()


async def test_a_body_that_never_comes_is_refused_in_time():
    async with serving(limits=HttpLimits(request_time=0.05)) as visit:
        visitor = await visit()
        visitor.send(b"POST /-/reload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\n")
        assert (await visitor.answer()).status == 408


async def test_a_silent_connection_is_closed_without_a_word():
    async with serving(limits=HttpLimits(idle_time=0.05)) as visit:
        visitor = await visit()
        assert await visitor.is_closed()
        visitor = await visit()
        visitor.send(GET)
        assert (await visitor.answer()).status == 200
        assert await visitor.is_closed()


@pytest.mark.slow
async def test_who_does_not_take_the_answer_is_dropped_in_time():
    hub = FakeHub()
    for number in range(15_000):
        hub.client(f"client {number} {'x' * 200}")
    async with serving(hub, limits=HttpLimits(send_time=0.1, connections=1)) as visit:
        visitor = await visit()
        visitor.writer.transport.pause_reading()
        visitor.send(GET.replace(b"healthz", b"api/v1/clients"))
        await until_there_is_room(visit)
        visitor.writer.transport.resume_reading()
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await visitor.answer()


async def test_connections_beyond_the_limit_are_told_and_room_is_given_back():
    async with serving(limits=HttpLimits(connections=2)) as visit:
        first, second = await visit(), await visit()
        for visitor in (first, second):
            visitor.send(GET)
            assert (await visitor.answer()).status == 200
        third = await visit()
        assert (await third.answer()).status == 503
        assert await third.is_closed()
        first.send(LAST)
        assert (await first.answer()).status == 200
        first.writer.close()
        await until_there_is_room(visit)


async def test_a_page_that_fails_is_counted_and_shows_no_traceback(caplog):
    def broken() -> tuple[bool, str]:
        raise RuntimeError("a bug")

    hub = FakeHub()
    with caplog.at_level(logging.ERROR, "pgguard.http"):
        async with serving(hub, ready=broken) as visit:
            visitor = await visit()
            visitor.send(GET.replace(b"healthz", b"readyz") + GET)
            page = await visitor.answer()
            assert (page.status, page.body) == (500, b"This page failed; pgguard's log says why.\n")
            assert (await visitor.answer()).status == 200
    assert hub.counters.internal_errors == 1
    assert "RuntimeError: a bug" in caplog.text
    assert "Traceback" not in caplog.text


async def test_a_client_that_leaves_in_the_middle_disturbs_nobody():
    hub = FakeHub()
    for number in range(500):
        hub.client(f"client {number}")
    async with serving(hub) as visit:
        for _ in range(5):
            visitor = await visit()
            visitor.send(GET.replace(b"healthz", b"metrics"))
            visitor.writer.transport.abort()
        visitor = await visit()
        visitor.send(GET)
        assert (await visitor.answer()).status == 200
    assert hub.counters.internal_errors == 0


async def test_random_bytes_get_an_answer_or_the_end():
    chance = random.Random(7)
    hub = FakeHub()
    async with serving(hub, limits=HttpLimits(request_time=0.05, linger_time=0.05)) as visit:
        for _ in range(30):
            visitor = await visit()
            visitor.send(chance.randbytes(chance.randrange(1, 400)))
            visitor.writer.write_eof()
            page = await visitor.answer()
            assert 400 <= page.status < 500
            assert await visitor.is_closed()
        visitor = await visit()
        visitor.send(GET)
        assert (await visitor.answer()).status == 200
    assert hub.counters.internal_errors == 0


async def test_close_ends_open_connections():
    async with serving() as visit:
        visitor = await visit()
        visitor.send(GET)
        assert (await visitor.answer()).status == 200
    assert await visitor.is_closed()


async def test_close_before_start_and_twice_is_fine():
    server = HttpServer(FakeHub(), Recorder(), "127.0.0.1", 0, lambda: (True, ""), None, list)
    await server.close()
    await server.start()
    await server.close()
    await server.close()


async def test_a_port_that_is_taken_is_an_oserror():
    first = HttpServer(FakeHub(), Recorder(), "127.0.0.1", 0, lambda: (True, ""), None, list)
    host, port = await first.start()
    second = HttpServer(FakeHub(), Recorder(), host, port, lambda: (True, ""), None, list)
    try:
        with pytest.raises(OSError, match="address already in use"):
            await second.start()
    finally:
        await first.close()
