"""What each path answers, without sockets."""

from __future__ import annotations

import asyncio
import json

import pytest
from hubs import FakeHub, FakePin, FakeServer, FakeStatement, FakeTally, Reason, State
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse_text

from pgguard.admin import views
from pgguard.admin.access import Access
from pgguard.admin.request import Answer, Request
from pgguard.admin.routes import PATHS, ROWS, Routes
from pgguard.errors import SettingsError
from pgguard.record.findings import Recorder

TOKEN = "correct horse"


class Site:
    """Routes over a hub of one client, one server and one waiter that is pinned."""

    def __init__(self) -> None:
        self.hub = FakeHub()
        client = self.hub.client("caf\udce9", sessions=2, statements=3)
        client.flagged[FakeStatement()] = FakeTally()
        self.hub.servers.add(FakeServer(1, client))
        self.hub.session(client, State.WAITING).pinned = {Reason.LOCK: FakePin()}
        self.recorder = Recorder()
        self.ready = (True, "")
        self.reloads = 0
        self.refusal: Exception | None = None
        self.routes = self.build()

    def build(self, *, reload: bool = True) -> Routes:
        return Routes(
            self.hub,
            self.recorder,
            ready=lambda: self.ready,
            reload=self.reload if reload else None,
            findings=lambda: self.recorder.findings(self.hub),
        )

    async def reload(self) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.reloads += 1

    async def ask(
        self, path: str, method: str = "GET", *, token: str = TOKEN, peer: str = "::1", **headers
    ) -> Answer:
        request = Request(method, path, "HTTP/1.1", {"host": "localhost", **headers})
        return await self.routes.answer(request, peer, Access(bound="::1", token=token, pid=42))


@pytest.fixture
def site() -> Site:
    return Site()


async def test_metrics_are_text_unless_openmetrics_is_asked_for(site):
    answer = await site.ask("/metrics")
    assert answer.content_type == "text/plain; version=0.0.4; charset=utf-8"
    assert list(parse_text(answer.body.decode()))
    answer = await site.ask(
        "/metrics", accept="application/openmetrics-text;version=1.0.0,text/plain;q=0.5"
    )
    assert answer.content_type == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert list(parse_openmetrics(answer.body.decode()))


async def test_health_is_ok_even_if_postgres_is_not(site):
    site.ready = (False, "connection refused")
    assert (await site.ask("/healthz")).status == 200
    answer = await site.ask("/readyz")
    assert (answer.status, answer.body) == (503, b"not ready: connection refused\n")
    site.ready = (True, "")
    assert (await site.ask("/readyz")).status == 200


@pytest.mark.parametrize("view", list(views.COLUMNS))
async def test_a_view_is_an_object_with_its_rows(site, view):
    answer = await site.ask(f"/api/v1/{view}")
    assert answer.content_type == "application/json"
    [row] = json.loads(answer.body)[view]
    assert list(row) == list(views.COLUMNS[view])


async def test_a_view_without_rows_is_valid(site):
    site.hub.servers.clear()
    assert json.loads((await site.ask("/api/v1/servers")).body) == {"servers": []}


async def test_many_rows_are_one_valid_object(site):
    for number in range(3 * ROWS):
        site.hub.client(f"client {number}")
    rows = json.loads((await site.ask("/api/v1/clients")).body)["clients"]
    assert len(rows) == 3 * ROWS + 1


async def test_other_work_runs_while_a_page_is_written(site):
    for number in range(300):
        site.hub.client(f"client {number}", statements=1)
    page = asyncio.ensure_future(site.ask("/metrics"))
    turns = 0
    while not page.done():
        turns += 1
        await asyncio.sleep(0)
    assert turns > 30


async def test_pages_are_written_one_at_a_time(site):
    for number in range(300):
        site.hub.client(f"client {number}", statements=1)
    first, second = await asyncio.gather(site.ask("/metrics"), site.ask("/api/v1/clients"))
    assert first.body.endswith(b"\n")
    assert json.loads(second.body)


async def test_an_unknown_page_names_those_that_exist(site):
    answer = await site.ask("/secret/../etc")
    assert answer.status == 404
    assert b"/metrics" in answer.body
    assert b"secret" not in answer.body


@pytest.mark.parametrize("path", list(PATHS))
@pytest.mark.parametrize("method", ["DELETE", "PUT", "OPTIONS", "TRACE", "get"])
async def test_other_methods_are_refused(site, path, method):
    answer = await site.ask(path, method)
    assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD, POST")


async def test_each_page_takes_its_own_methods(site):
    answer = await site.ask("/metrics", "POST")
    assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")
    answer = await site.ask("/-/reload", "GET")
    assert (answer.status, answer.headers["Allow"]) == (405, "POST")


async def test_reload_needs_the_token(site):
    assert (await site.ask("/-/reload", "POST")).status == 401
    assert (await site.ask("/-/reload", "POST", token="")).status == 403
    assert site.reloads == 0
    answer = await site.ask("/-/reload", "POST", authorization=f"Bearer {TOKEN}")
    assert (answer.status, site.reloads) == (200, 1)


async def test_a_refused_reload_says_why_and_changes_nothing(site):
    site.refusal = SettingsError("unknown key", where="pgguard.toml:3", hint="did you mean x")
    answer = await site.ask("/-/reload", "POST", authorization=f"Bearer {TOKEN}")
    assert answer.status == 400
    assert b"pgguard.toml:3: unknown key (did you mean x)" in answer.body


async def test_where_nothing_can_be_reloaded_there_is_no_such_page(site):
    site.routes = site.build(reload=False)
    answer = await site.ask("/-/reload", "POST", authorization=f"Bearer {TOKEN}")
    assert answer.status == 404


@pytest.mark.parametrize("path", [*PATHS, "/nothing"])
async def test_other_machines_get_nothing_without_the_token(site, path):
    for method in ("GET", "POST"):
        assert (await site.ask(path, method, peer="10.0.0.7")).status == 403
