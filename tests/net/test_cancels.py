"""Cancel requests of clients: few at once, one of a session at a time, none that comes too late."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from core_fakes import World
from notation import FRONTEND, encode
from shared import Shared

from pgguard.core import cancelling
from pgguard.net import cancels as module
from pgguard.net.cancels import Cancels
from pgguard.net.loop import Tasks
from pgguard.wire import frontend

if TYPE_CHECKING:
    import pytest

    from pgguard.core.session import Session


class FakeDialer:
    """Postgres takes a cancel when it is let."""

    def __init__(self) -> None:
        self.sent: list[int] = []
        self.flying = self.most = 0
        self.may_end = asyncio.Event()

    async def cancel(self, pid: int, secret: bytes) -> None:
        self.sent.append(pid)
        self.flying += 1
        self.most = max(self.most, self.flying)
        await self.may_end.wait()
        self.flying -= 1


class Scene:
    def __init__(self) -> None:
        self.world = World()
        self.number = 0
        self.dialer = FakeDialer()
        self.faults: list[Any] = []
        self.tasks = Tasks(lambda *fault: self.faults.append(fault))
        self.cancels = Cancels(self.world.hub, self.dialer, self.tasks)  # type: ignore[arg-type]

    def running(self) -> Session:
        """A session whose statement runs."""
        self.number += 1
        session, _ = self.world.link(application_name=f"{self.number}.py")
        self.world.receive(session, frontend.query(b"select pg_sleep(1)"))
        return session

    def ask(self, session: Session, secret: bytes = b"") -> asyncio.Task[None]:
        assert session.server is not None
        request = self.cancels.request(session.server.pid, secret or session.secret_key)
        return asyncio.ensure_future(request)

    async def end(self) -> None:
        self.dialer.may_end.set()
        await self.tasks.cancel()
        assert self.faults == []
        assert not self.cancels._next
        assert not self.cancels._flying
        self.world.end()


async def soon() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_request_returns_when_postgres_has_taken_it() -> None:
    scene = Scene()
    session = scene.running()
    asked = scene.ask(session)
    await soon()
    assert len(scene.dialer.sent) == 1
    assert not asked.done()
    scene.dialer.may_end.set()
    await asked
    await scene.end()


async def test_a_wrong_key_is_nothing() -> None:
    scene = Scene()
    session = scene.running()
    await scene.ask(session, b"none")
    assert scene.dialer.sent == []
    await scene.end()


async def test_those_of_one_session_that_wait_are_one() -> None:
    scene = Scene()
    session = scene.running()
    asked = [scene.ask(session)]
    await soon()
    asked += [scene.ask(session) for _ in range(50)]
    await soon()
    assert len(scene.dialer.sent) == 1
    scene.dialer.may_end.set()
    await asyncio.gather(*asked)
    assert len(scene.dialer.sent) == 2
    await scene.end()


async def test_few_are_on_their_way_at_once() -> None:
    scene = Scene()
    sessions = [scene.running() for _ in range(module.AT_ONCE + 5)]
    asked = [scene.ask(session) for session in sessions]
    await soon()
    assert scene.dialer.flying == module.AT_ONCE
    scene.dialer.may_end.set()
    await asyncio.gather(*asked)
    assert scene.dialer.most == module.AT_ONCE
    assert len(scene.dialer.sent) == len(sessions)
    await scene.end()


async def test_what_has_ended_before_its_turn_is_not_cancelled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "AT_ONCE", 1)
    scene = Scene()
    first, second = scene.running(), scene.running()
    asked = [scene.ask(first)]
    await soon()
    asked.append(scene.ask(second))
    await soon()
    scene.world.reset(second)
    scene.dialer.may_end.set()
    await asyncio.gather(*asked)
    assert len(scene.dialer.sent) == 1
    await scene.end()


async def test_a_request_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CANCEL_TIMEOUT", 0.01)
    scene = Scene()
    await scene.ask(scene.running())
    assert scene.dialer.flying == 1
    await scene.end()


async def test_a_cancel_that_is_kept_returns_when_it_was_sent_behind_a_text_of_ours() -> None:
    scene = Scene()
    shared = Shared(connection_limit=1)
    scene.cancels = Cancels(shared.hub, scene.dialer, scene.tasks)  # type: ignore[arg-type]
    first, session = shared.session(), shared.session()
    session.tracked.set("lock_timeout", b"SET lock_timeout = 1")
    shared.says(first, 'Query "SELECT 1"')
    shared.done(first.shared)
    shared.says(session, 'Query "SELECT pg_sleep(1)"')
    server = session.shared
    assert shared.heard(server)[-1] == 'Query "SET lock_timeout = 1"'
    asked = asyncio.ensure_future(scene.cancels.request(session.pid, session.secret_key))
    await soon()
    assert server.cancel_later
    shared.done(server, "SET")
    assert server.cancelling
    await asyncio.sleep(2 * module.POLL)
    assert not asked.done()
    assert shared.hub.net.asked("cancel")  # type: ignore[attr-defined]
    scene.dialer.may_end.set()
    await scene.cancels.of_server(server)
    await asked
    assert not server.cancelling
    shared.world.end()
    await scene.end()


def test_a_cancel_that_nothing_follows_is_for_no_later_statement() -> None:
    shared = Shared(connection_limit=1)
    first, session = shared.session(), shared.session()
    session.tracked.set("lock_timeout", b"SET lock_timeout = 1")
    shared.says(first, 'Query "SELECT 1"')
    shared.done(first.shared)
    shared.says(session, 'Describe S "unknown"', "Sync")
    server = session.shared
    session.held = encode("Sync", FRONTEND)
    cancelling.means(session)
    assert server.cancel_later
    session.held = b""
    shared.done(server, "SET")
    assert not server.cancel_later
    shared.world.end()
