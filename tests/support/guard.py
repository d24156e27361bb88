"""A guard in this process, on a loop and thread of its own, so that blocking drivers can use it.

`RunningGuard.close` holds the guard to its promise: nothing is left of it, neither task, session,
server nor backend, and no bug of ours was met on the way.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

import psycopg

from pgguard.app import Guard
from pgguard.net.loop import loop_factory
from pgguard.pool.servers import ServerState
from pgguard.settings import load

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from pgguard.core.server import Server
    from pgguard.core.types import Client
    from pgguard.settings.schema import Settings

T = TypeVar("T")
WITHIN = 10.0
"""Seconds in which anything that is waited for must come."""


def until(is_so: Callable[[], T], what: str = "", within: float = WITHIN) -> T:
    """Ask until the answer is true, and return it."""
    deadline = time.monotonic() + within
    while True:
        answer = is_so()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"not within {within} s: {what or is_so}"
        time.sleep(0.005)


def settings_for(upstream: str, **values: Any) -> Settings:
    """Settings on free ports; `limits__pool_timeout="1s"` sets `limits.pool_timeout`."""
    flags = {"upstream.url": upstream, "listen.address": "127.0.0.1:0"}
    flags |= {"http.address": "127.0.0.1:0"}
    flags |= {name.replace("__", "."): value for name, value in values.items()}
    return load(config=None, env={}, flags=flags, cwd=Path("/")).settings


class RunningGuard:
    """One guard; `url()` is where clients connect."""

    def __init__(
        self,
        settings: Settings,
        *,
        factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
        secrets: Mapping[str, str] | None = None,
        reread: Callable[[], Settings] | None = None,
    ) -> None:
        self.settings = settings
        self.expected_faults = 0
        """Internal errors that the test provokes."""
        self.complaints: list[str] = []
        self._make = lambda: Guard(settings, secrets=secrets, reread=reread)
        self._factory = factory or loop_factory(os.environ)
        self._ready = threading.Event()
        self._failed: BaseException | None = None
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="guard", daemon=True)

    def start(self) -> RunningGuard:
        """Raises what `Guard.start` raises."""
        self._thread.start()
        self._ready.wait()
        if self._failed is not None:
            self._thread.join()
            raise self._failed
        return self

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=self._factory) as runner:
            runner.run(self._main())

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._loop.set_exception_handler(lambda _, context: self.complaints.append(repr(context)))
        self._over = asyncio.Event()
        try:
            self.guard = self._make()
            await self.guard.start()
        except BaseException as error:
            self._failed = error
            return
        finally:
            self._ready.set()
        await self._over.wait()

    # What tests ask

    def url(self, **parameters: str) -> str:
        """The guard's URL with further parameters; `user`, `password`, `database` replace parts."""
        there = self.guard.upstream
        user = quote(parameters.pop("user", there.user), safe="")
        password = quote(parameters.pop("password", there.password or ""), safe="")
        database = parameters.pop("database", there.database)
        query = "&".join(f"{name}={quote(text)}" for name, text in parameters.items())
        host, port = self.guard.listen
        return f"postgresql://{user}:{password}@{host}:{port}/{database}?{query}".rstrip("?")

    def connect(self, name: str = "", **parameters: Any) -> psycopg.Connection[Any]:
        """psycopg 3 in autocommit, named by `name`."""
        options = {key: parameters.pop(key) for key in ("autocommit",) if key in parameters}
        if name:
            parameters["application_name"] = name
        return psycopg.connect(self.url(**parameters), **{"autocommit": True, **options})

    def run(self, work: Coroutine[Any, Any, T], within: float = WITHIN) -> T:
        """The result of a coroutine on the guard's loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(within)

    def ask(self, question: Callable[[Guard], T]) -> T:
        """The answer of a function that looks at the guard between two turns of its loop."""

        async def answer() -> T:
            return question(self.guard)

        return self.run(answer())

    def client(self, name: str) -> Client:
        """The client of that name, once it is known."""
        return until(lambda: self.guard.hub.clients.get(name), f"client {name!r}")

    def http(self, path: str, **options: Any) -> Any:
        """JSON, else text, from the HTTP port."""
        request = urllib.request.Request(self.guard.http + path, **options)
        with urllib.request.urlopen(request, timeout=WITHIN) as answer:
            text = answer.read().decode()
        return json.loads(text) if "json" in answer.headers["Content-Type"] else text

    def idle(self) -> None:
        """Wait until no session is left, and no server but spare ones."""
        hub = self.guard.hub

        def kept() -> list[Server]:
            return [server for server in hub.servers if server.state is not ServerState.IDLE]

        until(lambda: not hub.places and not kept(), f"{list(hub.places)}, {hub.servers}")

    # The end

    def stop(self, grace: float = 0.5, within: float = WITHIN) -> None:
        self._stopped = True
        self.run(self.guard.stop(grace), within)

    def close(self) -> None:
        """Stop if that has not been done, and look for what is left."""
        if not self._thread.is_alive():
            return
        try:
            if not self._stopped:
                self.stop()
            self._look_for_leftovers()
        finally:
            self._loop.call_soon_threadsafe(self._over.set)
            self._thread.join(WITHIN)
        assert not self._thread.is_alive()

    def _look_for_leftovers(self) -> None:
        def unfinished(_: Guard) -> list[str]:
            mine = {asyncio.current_task()}
            tasks = [task for task in asyncio.all_tasks() if task not in mine]
            return [task.get_name() for task in tasks if task.get_coro().__name__ != "_main"]

        hub = self.guard.hub
        assert self.ask(unfinished) == []
        assert not list(hub.places)
        assert not hub.servers
        assert hub.admission.held == 0
        assert self.complaints == []
        assert hub.counters.internal_errors == self.expected_faults
