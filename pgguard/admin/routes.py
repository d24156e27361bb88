"""What each path answers.

    GET  /metrics                 Prometheus text, or OpenMetrics if Accept asks for it
    GET  /healthz                 200 while the loop lives
    GET  /readyz                  200, or 503 with the reason
    GET  /api/v1/{view}           {"<view>": [rows]} with the columns of `views.COLUMNS`
    POST /-/reload                read the settings again; 400 with the reason if they are refused

Laws: a page is written in small steps with the event loop running in between, one page at a time;
every other answer is short.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

from pgguard.admin import views
from pgguard.admin.request import JSON, METHODS, Answer, Request, text
from pgguard.errors import SettingsError
from pgguard.record import exposition
from pgguard.record.metrics import Collector

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from pgguard.admin.access import Access
    from pgguard.findings import Finding
    from pgguard.record.findings import Recorder
    from pgguard.record.subject import Hub

VIEWS = ("clients", "servers", "waiters", "pins", "findings")

ROWS = 50
"""Rows of JSON in one step."""

INDEX = """\
pgguard

/metrics                 for Prometheus
/healthz                 is it alive
/readyz                  does its Postgres answer
/api/v1/clients          who is connected, with caps and waits
/api/v1/servers          connections to Postgres
/api/v1/waiters          sessions that wait for a connection
/api/v1/pins             sessions that keep their connection, and why
/api/v1/findings         what is wrong so far
POST /-/reload           read the settings again (needs the token)"""

PATHS = {
    "/": "GET",
    "/metrics": "GET",
    "/healthz": "GET",
    "/readyz": "GET",
    **{f"/api/v1/{view}": "GET" for view in VIEWS},
    "/-/reload": "POST",
}


class Routes:
    """Answers requests from what it is given."""

    __slots__ = ("_collector", "_findings", "_hub", "_one_page", "_ready", "_reload")

    def __init__(
        self,
        hub: Hub,
        recorder: Recorder,
        *,
        ready: Callable[[], tuple[bool, str]],
        reload: Callable[[], Awaitable[None]] | None,
        findings: Callable[[], list[Finding]],
    ) -> None:
        self._hub = hub
        self._collector = Collector(hub, recorder)
        self._ready = ready
        self._reload = reload
        self._findings = findings
        self._one_page = asyncio.Lock()

    async def answer(self, request: Request, peer: str, access: Access) -> Answer:
        """The answer for `request` from address `peer`; for HEAD that of GET."""
        refused = access.may_read(request, peer)
        if refused is not None:
            return refused
        if request.method not in METHODS:
            return text(405, f"pgguard answers {', '.join(METHODS)}", Allow=", ".join(METHODS))
        wanted = PATHS.get(request.path)
        if wanted is None:
            return text(404, "There is no such page. What there is:\n\n" + INDEX)
        if ("GET" if request.method == "HEAD" else request.method) != wanted:
            allowed = "GET, HEAD" if wanted == "GET" else wanted
            return text(405, f"This page takes {allowed}", Allow=allowed)
        if request.path == "/-/reload":
            return access.may_change(request) or await self._answer_reload()
        if request.path == "/metrics":
            return await self._metrics(request)
        if request.path.startswith("/api/v1/"):
            return await self._view(request.path.removeprefix("/api/v1/"))
        return self._short(request.path)

    def _short(self, path: str) -> Answer:
        if path == "/readyz":
            ready, reason = self._ready()
            return text(200, "ready") if ready else text(503, f"not ready: {reason}")
        return text(200, "ok" if path == "/healthz" else INDEX)

    async def _answer_reload(self) -> Answer:
        if self._reload is None:
            return text(404, "These settings cannot be reloaded.")
        try:
            await self._reload()
        except SettingsError as error:
            return text(400, f"The settings are as before: {error}")
        return text(200, "reloaded")

    async def _metrics(self, request: Request) -> Answer:
        openmetrics = "application/openmetrics-text" in request.headers.get("accept", "")
        kind = exposition.OPENMETRICS if openmetrics else exposition.TEXT
        return Answer(200, await self._page(self._collector.steps(openmetrics=openmetrics)), kind)

    async def _view(self, view: str) -> Answer:
        return Answer(200, await self._page(_json_steps(view, self._rows(view))), JSON)

    def _rows(self, view: str) -> Iterator[views.Row]:
        now = time.monotonic()
        if view == "clients":
            return (views.client_row(client) for client in views.client_order(self._hub))
        if view == "servers":
            return (views.server_row(server, now) for server in views.server_order(self._hub))
        if view == "waiters":
            waiting = views.waiter_order(self._hub)
            return (views.waiter_row(position, session, now) for position, session in waiting)
        if view == "pins":
            return (views.pin_row(*pinned, now) for pinned in views.pin_order(self._hub))
        return (finding.to_dict() for finding in self._findings())

    async def _page(self, steps: Iterator[bytes]) -> bytes:
        pieces = []
        async with self._one_page:
            for piece in steps:
                pieces.append(piece)
                await asyncio.sleep(0)
        return b"".join(pieces)


def _json_steps(view: str, rows: Iterator[views.Row]) -> Iterator[bytes]:
    """One object with one row per line."""
    head = f'{{"{view}": ['
    separator = "\n"
    lines: list[str] = [head]
    for number, row in enumerate(rows, 1):
        lines.append(separator + _dump(row))
        separator = ",\n"
        if number % ROWS == 0:
            yield "".join(lines).encode("utf-8", "replace")
            lines.clear()
    yield ("".join(lines) + "\n]}\n").encode("utf-8", "replace")


def _dump(row: dict[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False, separators=(", ", ": "))
