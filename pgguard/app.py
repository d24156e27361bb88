"""The composition root: builds a guard from settings, starts it, reloads, drains, stops.

Laws: everything is wired here and nowhere else; settings are turned into the small frozen classes
of each package before they reach it; a guard that has stopped leaves no task, socket or server.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from pgguard import events as happenings
from pgguard.core.hub import Hub
from pgguard.core.redials import FIRST, LONGEST
from pgguard.errors import ServerUnavailable, SettingsError
from pgguard.net import listener as listening
from pgguard.net.cancels import Cancels
from pgguard.net.certificates import Certificates
from pgguard.net.dialer import Address as Upstream
from pgguard.net.dialer import Dialer
from pgguard.net.doors import Doors
from pgguard.net.identify import Identification
from pgguard.net.limits import Limits
from pgguard.net.loop import Tasks, memory_returner, raise_descriptor_limit
from pgguard.net.roles import Roles
from pgguard.net.service import Services
from pgguard.net.watch import Catalogues, watch_locks
from pgguard.record.findings import Recorder, rank
from pgguard.record.log import LogWriter
from pgguard.settings.encryption import TLS_WORDS
from pgguard.settings.upstream import UpstreamAddress, parse_url
from pgguard.settings.values import Address
from pgguard.sql import parse
from pgguard.tenancy import rules, verdict
from pgguard.wiring import NEEDS_RESTART, changed_keys, hub_settings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from pgguard.admin.http import HttpServer
    from pgguard.core.server import Server
    from pgguard.core.session import Session
    from pgguard.findings import Finding
    from pgguard.launch.analyst import Analyst
    from pgguard.report.summary import RunSummary
    from pgguard.settings.schema import Settings
    from pgguard.sql.statement import Statement
    from pgguard.tenancy.judge import Judge

log = logging.getLogger("pgguard")

TICK = 0.1
QUIET_TICKS = 10
"""Ticks in which nobody comes or goes, after which the memory of logins is given back."""
GRACE = 6.0
"""Seconds that open transactions get after SIGTERM: with what follows, less than the ten after
which a container is killed."""
GOODBYE = 1.0
"""Seconds in which servers are expected to close once nobody uses them, and to take a cancel."""
LOAD_AFTER = 1.0
"""Seconds after which a guard that nobody uses yet gets ready to judge."""
LAST_LOOK = 2.0
"""Seconds for the look-ups of a guard that stops."""


class Subscriber(Protocol):
    """Who gets the events in batches."""

    def on_batch(self, batch: Sequence[happenings.Event], /) -> None: ...


class Guard:
    """One running pgguard. `start`, then `stop`; both once.

    `secrets` are passwords by user beside those of the upstream URL and `auth.users`.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        secrets: Mapping[str, str] | None = None,
        name: str = "",
        reread: Callable[[], Settings] | None = None,
    ) -> None:
        if settings.upstream.url is None:
            raise SettingsError("no upstream: nothing to guard", where="upstream.url")
        self.settings = settings
        self._running = settings
        """What the listeners and the dialer were made from."""
        self.upstream: UpstreamAddress = parse_url(settings.upstream.url, os.environ)
        self.tls = Certificates(settings, self.upstream.query, os.environ)
        self._reread = reread
        self._started = time.monotonic()
        own = {self.upstream.user: self.upstream.password} if self.upstream.password else {}
        self.hub = Hub(
            hub_settings(settings),
            self,
            clock=time.monotonic,
            wall=time.time() - self._started,
            secrets={**(secrets or {}), **own, **settings.auth.users},
        )
        timeout = settings.upstream.connect_timeout
        address = Upstream(
            self.upstream.host, self.upstream.port, timeout, encryption=self.tls.encryption
        )
        self._tasks = Tasks(self._report)
        self._dialer = Dialer(self.hub, address, self._report)
        self._cancels = Cancels(self.hub, self._dialer, self._tasks)
        self._services = Services(
            self.hub, address, self.upstream.user, f"pgguard/{name or os.getpid()}"
        )
        self._roles = Roles(
            self.hub, self._services, self.upstream.database, self.upstream.user, self._tasks.spawn
        )
        self._catalogues = Catalogues(self.hub, self._services)
        self._limits = Limits(self.hub, self._services, self.upstream.database)
        self._analyst: Analyst | None = None
        self.recorder = Recorder(_diagnosis(), self.hub.gate.policy.decide)
        self.hub.gate.policy.turn(datetime.now(UTC).date())
        self._subscribers: list[Subscriber] = [self.recorder, LogWriter()]
        self._listener: listening.Listener | None = None
        self._http: HttpServer | None = None
        self._identification = Identification(self.hub, self._tasks, self._report)
        self._doors: Doors | None = None
        self.listen = Address("", 0)
        self.unix: Address | None = None
        self.http_address = ("", 0)

    # Life

    async def start(self) -> None:
        """Listen on both ports. Raises SettingsError if one cannot be had; needs no Postgres."""
        from pgguard.admin.http import HttpServer

        descriptors = raise_descriptor_limit()
        http = self.settings.http.address
        doors = Doors(self.settings.listen.address, self.settings.listen.unix)
        self.listen, self.unix = doors.main, doors.unix
        self._identification.port = self.listen.port
        self._limits.listens(self.listen.port)
        self._http = HttpServer(
            self.hub,
            self.recorder,
            http.host,
            http.port,
            self.ready,
            self._reload_over_http() if self._reread else None,
            self.findings,
            token=self.settings.http.token or "",
        )
        try:
            self.http_address = await self._http.start()
        except OSError as error:
            doors.close()
            raise SettingsError(
                f"cannot listen on {http}: {os.strerror(error.errno or errno.EADDRNOTAVAIL)}",
                where="--http",
                hint="another program has that port; choose another with --http HOST:PORT, port 0 "
                "takes a free one",
            ) from error
        if self.hub.settings.total is None:
            self.hub.admission.pause()
            self._tasks.spawn(self._resume_once_known(), "wait for limits")
        self._doors = doors
        self._listener = listening.Listener(
            self.hub,
            doors.sockets,
            self._tasks,
            self._report,
            self._cancels.request,
            self.tls.entrance,
            descriptors,
        )
        self._listener.start()
        self._tasks.spawn(_load_soon(), "load")
        self._tasks.spawn(self._tick(), "tick")
        self._tasks.spawn(self._services.run(), "services")
        self._tasks.spawn(self._limits.run(), "limits")
        self._tasks.spawn(self._catalogues.run(), "catalogues")
        self._tasks.spawn(watch_locks(self.hub, self._services, self.upstream.database), "locks")

    async def _resume_once_known(self) -> None:
        await self._limits.known.wait()
        self.hub.granted(self.hub.admission.resume(self.hub.clock()))

    async def stop(self, grace: float = GRACE) -> None:
        """Accept no more, let what runs finish within `grace` seconds, then end the rest."""
        self.hub.drain()
        if self._listener is not None:
            await self._listener.stop()
        if self._doors is not None:
            self._doors.close()
        await _while(self._busy, grace)
        if await self._cancel_running():
            await self._look_once_more()
        self.hub.gate.close(self.hub.clock())
        self.hub.stop()
        await _while(lambda: bool(self.hub.servers or self.hub.places), GOODBYE)
        self.hub.abort()
        # Look-ups first: none may be in the middle of a connection that is closed.
        await self._tasks.cancel()
        await self._services.stop()
        self._identification.stop()
        if self._analyst is not None:
            await self._analyst.close()
        if self._http is not None:
            await self._http.close()
        self._hand_on()

    def _busy(self) -> bool:
        return any(server.session is not None or server.due for server in self.hub.servers)

    async def _cancel_running(self) -> bool:
        """Cancel what the grace time was too short for: Postgres would go on with it alone.

        Returns whether Postgres still answers.
        """
        running = [server for server in self.hub.servers if server.pid and server.due]
        if running:
            works = [self._dialer.cancel(server.pid, server.secret_key) for server in running]
            await asyncio.wait(
                [self._tasks.spawn(work, "cancel") for work in works], timeout=GOODBYE
            )
            await _while(lambda: any(server.due for server in self.hub.servers), GOODBYE)
        return not any(server.due for server in running)

    async def _look_once_more(self) -> None:
        """Who went past us, and what verdicts still wait for; Postgres may be gone already."""
        try:
            async with asyncio.timeout(LAST_LOOK):
                await self._limits.read()
                await self._catalogues.settle()
        except TimeoutError:
            log.debug("no last look at Postgres: it does not answer")
        else:
            await _while(lambda: self.hub.gate.waiting() > 0, LAST_LOOK)

    async def wait_upstream(self) -> str:
        """Wait for Postgres, `upstream.wait` seconds at most, and return its version.

        Raises ServerUnavailable with the last cause.
        """
        wait, pause = self.settings.upstream.wait, FIRST
        last = ServerUnavailable(f"Postgres did not answer within {wait:g} s (upstream.wait)")
        try:
            async with asyncio.timeout(wait or None):
                while True:
                    try:
                        version = await self._services.version(self.upstream.database)
                    except ServerUnavailable as error:
                        last = error
                        if not (error.temporary and wait):
                            raise
                        await asyncio.sleep(pause)
                        pause = min(2 * pause, LONGEST)
                    else:
                        self.hub.upstream.is_up(version)
                        await self._first_look()
                        return version
        except TimeoutError:
            raise last from None

    async def _first_look(self) -> None:
        """Who else is there is told at start, but not waited for any longer."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_LOOK):
                await self._limits.known.wait()

    async def reload(self, settings: Settings) -> None:
        """Take new settings; nobody is dropped. What needs a restart is named in the log."""
        changed = changed_keys(self.settings, settings)
        waiting = [
            key for key in changed_keys(self._running, settings) if key.startswith(NEEDS_RESTART)
        ]
        self.settings = settings
        self.tls.renew(settings)
        self.hub.reconfigure(hub_settings(settings))
        self._limits.want()
        for key in waiting:
            log.warning("%s has changed: that takes a restart", key)
        self.hub.emit(happenings.SettingsReloaded(self.hub.clock(), changed))

    async def reread(self) -> None:
        """Read the settings again and take them. Raises SettingsError; the old ones stay then."""
        if self._reread is not None:
            await self.reload(self._reread())

    def _reload_over_http(self) -> Callable[[], Awaitable[None]]:
        return self.reread

    # What others ask

    @property
    def url(self) -> str:
        """Where clients connect, with the upstream's user, password and database."""
        host, port = self.listen
        shown = "127.0.0.1" if host in ("0.0.0.0", "::") else host  # noqa: S104
        return self.upstream_at(shown, port).url

    def upstream_at(self, host: str, port: int) -> UpstreamAddress:
        # What was asked of the way to the server is met there.
        query = {name: text for name, text in self.upstream.query.items() if name not in TLS_WORDS}
        return replace(self.upstream, host=host, port=port, query=query)

    @property
    def http(self) -> str:
        host, port = self.http_address
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    @property
    def upstream_version(self) -> str:
        return self.hub.upstream.version

    @property
    def neighbours(self) -> list[str]:
        """Other guards on the same Postgres now, a line for each."""
        return self.hub.admission.neighbours

    def ready(self) -> tuple[bool, str]:
        if self.hub.draining:
            return False, "shutting down"
        if self.hub.counters.upstream_up:
            return True, ""
        return False, self.hub.upstream.last_error or "Postgres has not answered yet"

    def findings(self) -> list[Finding]:
        """All findings so far, worst first, those about the tenant models among them."""
        found = self.recorder.findings(self.hub)
        for judge in self.hub.gate.judges.values():
            for finding in judge.model_findings():
                finding.first_seen = finding.last_seen = self.hub.wall + self._started
                found.append(finding)
        return sorted(found, key=rank)

    def summary(self, *, reason_nothing: str = "") -> RunSummary:
        from pgguard.report.summary import summarise

        wall = self.hub.wall
        found = [*self.findings(), *self.hub.gate.policy.findings()]
        return summarise(
            self.hub,
            sorted(found, key=rank),
            bypassed=len(self._limits.bypassed) if self._limits.known.is_set() else None,
            neighbours=[guard.describe() for guard in self._limits.neighbours.ever.values()],
            started=wall + self._started,
            ended=wall + time.monotonic(),
            reason_nothing=reason_nothing,
        )

    # What the core asks of the net (core.types.Net)

    def dial(self, server: Server, parameters: dict[str, str]) -> None:
        self._tasks.spawn(self._dial(server, parameters), f"dial {server.id}")

    async def _dial(self, server: Server, parameters: dict[str, str]) -> None:
        _load()
        await self._dialer.dial(server, parameters)

    def probe(self, user: str, database: str) -> None:
        self._tasks.spawn(self._dialer.probe(user, database), "probe")

    def read_role(self, session: Session) -> bool:
        return self._roles.want(session)

    def identify(self, session: Session) -> bool:
        return self._identification.want(session)

    def cancel(self, server: Server) -> None:
        self._tasks.spawn(self._cancels.of_server(server), f"cancel {server.pid}")

    def close_services(self) -> None:
        self._tasks.spawn(self._services.close_all(), "close services")

    def read_catalogue(self, database: str, *, soon: bool) -> None:
        self._catalogues.want(database, soon=soon)

    def read_limits(self) -> None:
        self._limits.want()

    def analyse(self, judge: Judge, statement: Statement) -> None:
        self._tasks.spawn(self._analyse(judge, statement), "analyse")

    async def _analyse(self, judge: Judge, statement: Statement) -> None:
        try:
            from pgguard.launch.analyst import Analyst

            self._analyst = self._analyst or Analyst()
            facts = await self._analyst.facts(statement.text)
        except Exception as error:  # noqa: BLE001  whatever it is, the statement is not analysed
            self._report("analyse", error)
            facts = None
        self.hub.gate.analysed(judge, statement, facts, self.hub.clock())

    # Loops

    async def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        return_memory = memory_returner()
        due = loop.time() + TICK
        quiet = 0
        while True:
            await asyncio.sleep(max(0.0, due - loop.time()))
            lag = loop.time() - due
            self.hub.counters.loop_lag_seconds = max(0.0, lag)
            self.hub.counters.added_loop.observe(max(0.0, lag))
            due = loop.time() + TICK
            try:
                self.hub.tick()
            except Exception as error:  # noqa: BLE001  one deadline that fails must not stop others
                self._report("tick", error)
            self._hand_on()
            self.hub.gate.policy.turn(datetime.now(UTC).date())
            quiet = 0 if self.hub.has_moved() else quiet + 1
            if quiet == QUIET_TICKS:
                return_memory()

    def _hand_on(self) -> None:
        """Give the events of the last moments to the subscribers; one that raises is dropped."""
        batch, self.hub.events = self.hub.events, []
        if not batch:
            return
        for subscriber in list(self._subscribers):
            try:
                subscriber.on_batch(batch)
            except Exception:
                log.exception("an observer failed and gets no more events: %r", subscriber)
                self.hub.counters.internal_errors += 1
                self._subscribers.remove(subscriber)

    def _report(self, where: str, error: BaseException) -> None:
        """A bug of ours: counted and logged; the connection concerned is closed."""
        self.hub.counters.internal_errors += 1
        log.error("internal error in %s", where, exc_info=error)
        self.hub.emit(happenings.InternalFault(self.hub.clock(), where, repr(error)))


def _load() -> None:
    """What judging needs is imported before anybody can say a statement: by then no descriptor may
    be left, and the session would pay for it (reliability R41). If none is left now, the next
    connection to Postgres tries again."""
    try:
        parse.load()
        rules.load()
        verdict.load()
    except (OSError, ImportError) as error:
        log.warning("not ready to judge statements yet: %s", error)


async def _load_soon() -> None:
    """A guard whose command opens no connection does without."""
    await asyncio.sleep(LOAD_AFTER)
    _load()


async def _while(condition: Callable[[], bool], within: float) -> None:
    """Return once the condition has ended, or the time."""
    deadline = time.monotonic() + within
    while condition() and time.monotonic() < deadline:
        await asyncio.sleep(0.02)


def _diagnosis() -> Any:
    from pgguard.diagnose.live import Live

    return Live()
