"""A small HTTP server on asyncio streams: few connections, small requests, short answers.

Laws: every wait has an end (`HttpLimits`); every request gets an answer or its connection is
closed; nobody sees a traceback; after a request that could not be understood the connection is
closed, so that its rest is never taken for another request.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pgguard.admin.access import Access
from pgguard.admin.request import (
    HEAD_LIMIT,
    Answer,
    BadRequest,
    Request,
    decode_head,
    encode,
    text,
)
from pgguard.admin.routes import Routes

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pgguard.findings import Finding
    from pgguard.record.findings import Recorder
    from pgguard.record.subject import Hub

log = logging.getLogger("pgguard.http")


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """Times in seconds."""

    idle_time: float = 75.0
    """Until the first byte of a request, counted from the start or from the last answer."""
    request_time: float = 10.0
    """From its first byte until a request is whole."""
    send_time: float = 30.0
    """Until an answer has been taken."""
    linger_time: float = 1.0
    """How long the rest of a refused request is read and dropped, so that its sender sees why."""
    connections: int = 32


class HttpServer:
    """Metrics, health and views over HTTP. Start it once, close it once."""

    def __init__(
        self,
        hub: Hub,
        recorder: Recorder,
        host: str,
        port: int,
        ready: Callable[[], tuple[bool, str]],
        reload: Callable[[], Awaitable[None]] | None,
        findings: Callable[[], list[Finding]],
        *,
        token: str = "",
        limits: HttpLimits | None = None,
    ) -> None:
        self._hub = hub
        self._host, self._port = host, port
        self._limits = limits or HttpLimits()
        self._routes = Routes(hub, recorder, ready=ready, reload=reload, findings=findings)
        self._access = Access(bound=host, token=token, pid=os.getpid())
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> tuple[str, int]:
        """Listen; returns host and port (a port of 0 gives a free one). Raises OSError."""
        self._server = await asyncio.start_server(
            self._connected, self._host, self._port, limit=HEAD_LIMIT
        )
        address = self._server.sockets[0].getsockname()
        return address[0], address[1]

    async def close(self) -> None:
        """Stop listening and end every connection."""
        if self._server is None:
            return
        self._server.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._server.wait_closed()
        self._server = None

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(
            self._serve(reader, writer), name="http connection"
        )
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, until it ends. Lets nothing out but cancellation."""
        try:
            if len(self._tasks) > self._limits.connections:
                answer = text(503, "Too many HTTP connections are open.", Retry_After="1")
                await self._send(writer, encode(answer, keep_alive=False))
            else:
                while await self._exchange(reader, writer):
                    pass
            writer.close()
            async with asyncio.timeout(self._limits.send_time):
                await writer.wait_closed()
        except (OSError, asyncio.IncompleteReadError):
            pass
        except Exception as error:  # noqa: BLE001  the one entry point: nothing may escape
            self._count_fault(error)
        finally:
            writer.transport.abort()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request and its answer; returns whether the connection goes on."""
        try:
            request = await self._read(reader)
        except BadRequest as error:
            answer = text(error.status, error.message)
            await self._send(writer, encode(answer, keep_alive=False))
            await self._linger(reader, writer)
            return False
        peer = writer.get_extra_info("peername")
        answer = await self._answer(request, peer[0] if isinstance(peer, tuple) else "")
        going_on = request.keep_alive
        with_body = request.method != "HEAD"
        await self._send(writer, encode(answer, keep_alive=going_on, with_body=with_body))
        if not going_on:
            await self._linger(reader, writer)
        return going_on

    async def _read(self, reader: asyncio.StreamReader) -> Request:
        async with asyncio.timeout(self._limits.idle_time):
            first = await reader.readexactly(1)
        try:
            async with asyncio.timeout(self._limits.request_time):
                request = decode_head(first + await reader.readuntil(b"\r\n\r\n"))
                await reader.readexactly(request.length)
        except asyncio.LimitOverrunError:
            raise BadRequest(431, f"line and headers may have {HEAD_LIMIT} bytes") from None
        except TimeoutError:
            seconds = self._limits.request_time
            raise BadRequest(408, f"no whole request within {seconds:g} s") from None
        except asyncio.IncompleteReadError:
            raise BadRequest(400, "the request ends too early") from None
        return request

    async def _answer(self, request: Request, peer: str) -> Answer:
        try:
            return await self._routes.answer(request, peer, self._access)
        except Exception as error:  # noqa: BLE001  a bug in one page must not end the others
            self._count_fault(error)
            return text(500, "This page failed; pgguard's log says why.")

    def _count_fault(self, error: Exception) -> None:
        self._hub.counters.internal_errors += 1
        log.error("HTTP: %s: %s", type(error).__name__, error)

    async def _send(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        writer.write(data)
        async with asyncio.timeout(self._limits.send_time):
            await writer.drain()

    async def _linger(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Say that we are done and drop what still comes: closing at once could lose the answer."""
        writer.write_eof()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._limits.linger_time):
                while await reader.read(HEAD_LIMIT):
                    pass
