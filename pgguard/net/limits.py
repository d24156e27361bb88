"""Keeps `limits.total = auto` true beside others: other guards, and whoever goes past us.

Every look is one transaction on the connection that lasts: take the lock of all guards on this
Postgres, see who else is there, choose our limit, announce it in our name. Looked at every second,
and soon after Postgres had no slot free. Laws: a limit is raised only under the lock; a look-up
that fails changes nothing but `last_error`; where the role may not connect to database `postgres`
we announce nothing, and stay below what others announce.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import socket
from typing import TYPE_CHECKING

from pgguard import events
from pgguard.errors import ServerUnavailable
from pgguard.net.service import LASTING
from pgguard.pool import neighbours
from pgguard.pool.neighbours import SERVICE, Announcement, Neighbours, announced

if TYPE_CHECKING:
    from pgguard.core.hub import Hub
    from pgguard.net.service import Connection, Rows, Services

log = logging.getLogger("pgguard.net")

EVERY = 1.0
RETRY_AFTER = 0.25
MARGIN = 3
"""Server connections that `limits.total = auto` leaves free for people and for ourselves."""
FALLBACK_TOTAL = 20
"""The total while Postgres does not let us read its limits."""
NONSENSE = (ValueError, IndexError, TypeError, KeyError)
"""What reading rows raises when they are not what was asked for."""
MAY_NOT = ("28000", "3D000", "42501")
"""What Postgres says of a database to which a role may not connect, or that is not there."""

VERSION_QUERY = "SELECT pg_catalog.version()"
LOCK_QUERY = "SELECT pg_catalog.pg_try_advisory_xact_lock(1885822821, 1633973606)"
LIMITS_QUERY = (
    "SELECT pg_catalog.current_setting('max_connections'),"
    " pg_catalog.current_setting('superuser_reserved_connections'),"
    " coalesce(pg_catalog.current_setting('reserved_connections', true), '0')"
)
BACKENDS_QUERY = (
    "SELECT pid, datname, application_name FROM pg_catalog.pg_stat_activity"
    " WHERE datid IS NOT NULL AND usesysid IS NOT NULL"
    " AND backend_type IS DISTINCT FROM 'parallel worker'"
)


class Limits:
    """Reads what Postgres has for us, and tells others what we make of it."""

    def __init__(self, hub: Hub, services: Services, database: str) -> None:
        self._hub = hub
        self._services = services
        self._database = database
        self._wake = asyncio.Event()
        self._strangers: set[int] | None = None
        self._seen: set[int] = set()
        """Connections of others at the last reading, ours that were being made then included."""
        self.bypassed: set[int] = set()
        """Pids that appeared in a guarded database while we ran, and are not ours."""
        self.known = asyncio.Event()
        self.neighbours = Neighbours()
        self._limit = 0
        self._locked = True
        """Whether the newest look had the lock."""
        self._place = (neighbours.host_name(socket.gethostname()), 0)
        services.announce = self._name

    def listens(self, port: int) -> None:
        """Where this guard can be reached, for others to tell."""
        self._place = (self._place[0], port)

    def want(self) -> None:
        self._wake.set()

    async def run(self) -> None:
        wanted = True
        while True:
            self._wake.clear()
            self._locked = True
            wanted = not await self.read()
            try:
                async with asyncio.timeout(RETRY_AFTER if wanted or self._lacks() else EVERY):
                    await self._wake.wait()
                    await asyncio.sleep(RETRY_AFTER)
            except TimeoutError:
                pass

    def _lacks(self) -> bool:
        """Beside others, and without the least that a client needs, or without a turn."""
        short = self._limit < neighbours.FLOOR or not self._locked
        return bool(self.neighbours) and short

    async def read(self) -> bool:
        """Look now; False if Postgres could not be asked."""
        hub = self._hub
        stood = bool(self._services.pids)
        try:
            try:
                understood = await self._look()
            except ServerUnavailable as error:
                if error.fields or not stood or isinstance(error.__cause__, TimeoutError):
                    # A dial that has just failed is no better a moment later.
                    raise
                # The connection may have been ended long ago, by an idle_session_timeout say.
                understood = await self._look()
        except ServerUnavailable as error:
            hub.upstream.is_down(error)
            if not error.temporary and not self.known.is_set():
                log.warning(
                    "cannot read max_connections as the upstream URL's user: %s; "
                    "limits.total is %d until that works",
                    error,
                    FALLBACK_TOTAL,
                )
                self._set(FALLBACK_TOTAL)
            return False
        hub.upstream.is_up(self._services.server_version)
        return understood

    async def _look(self) -> bool:
        """Raises ServerUnavailable."""
        if self._hub.upstream.single:
            return True
        if self._services.announce is not None:
            try:
                understood = await self._services.converse(LASTING, self._agree)
                if self._hub.upstream.single:
                    await self._services.stop()
                return understood
            except ServerUnavailable as error:
                if error.fields.get("C") not in MAY_NOT:
                    raise
                self._services.announce = None
                log.info("other guards cannot see this one: %s", error)
        before = self._connecting()
        limits, backends = await self._services.query(self._database, LIMITS_QUERY, BACKENDS_QUERY)
        return self._take(limits, backends, before, locked=False)

    async def _agree(self, connection: Connection) -> bool:
        """The transaction in which guards take note of each other, one at a time."""
        if not self.known.is_set() and await self._is_single(connection):
            return True
        await connection.query("BEGIN")
        self._locked = locked = await connection.query(LOCK_QUERY) == [["t"]]
        before = self._connecting()
        limits = await connection.query(LIMITS_QUERY)
        backends = await connection.query(BACKENDS_QUERY)
        understood = self._take(limits, backends, before, locked=locked)
        # Others see it from here on, committed or not.
        await connection.query(f"SET application_name = '{self._name()}'")
        await connection.query("COMMIT")
        return understood

    async def _is_single(self, connection: Connection) -> bool:
        """Look once whether there is one backend for all; then nothing of ours may occupy it."""
        rows = await connection.query(VERSION_QUERY)
        version = (rows[0][0] or "") if rows and rows[0] else ""
        product = re.search(r"PGlite [\w.-]*", version)
        if product is None:
            if not await self._services.is_alone(LASTING):
                return False
            # Unless it has ended for all meanwhile.
            await connection.query(VERSION_QUERY)
        self._services.announce = None
        self._hub.upstream.is_single(product[0] if product else "this server")
        self._limit = 1
        self.known.set()
        return True

    def _take(self, limits: Rows, backends: Rows, before: int, *, locked: bool) -> bool:
        """Choose our limit by what was read; `before` is what `_connecting` was."""
        hub = self._hub
        try:
            maximum, reserved, also_reserved = (int(value or 0) for value in limits[0])
            others = {int(pid or 0): (database, name or "") for pid, database, name in backends}
        except NONSENSE as error:
            log.warning("limits of Postgres not understood: %r", error)
            return False
        ours = {*hub.upstream.pids, *self._services.used_pids}
        others = {pid: row for pid, row in others.items() if pid not in ours}
        guards = announced((name for _, name in others.values()), self._own().key)
        now = hub.clock()
        for guard in self.neighbours.look(guards, now):
            if self.known.is_set():
                hub.emit(events.NeighbourSeen(now, guard.describe()))
        if self.neighbours:
            # Their service connections are theirs to count.
            others = {p: row for p, row in others.items() if not row[1].startswith(SERVICE)}
        connecting = max(before, self._connecting())
        self._see_strangers(
            {pid: database for pid, (database, _) in others.items()}, certain=not connecting
        )
        new = len(others.keys() - self._seen)
        self._seen = set(others)
        known = len(others) - min(new, connecting)
        slots = self.neighbours.slots(maximum - reserved - also_reserved, known, MARGIN)
        self._set(self._chosen(slots, locked=locked))
        return True

    def _chosen(self, slots: int, *, locked: bool) -> int:
        if self._services.announce is not None:
            return self.neighbours.limit(self._own(), slots, locked=locked)
        return max(1, slots - sum(guard.limit for guard in self.neighbours.known))

    def _own(self) -> Announcement:
        admission = self._hub.admission
        held, waiting = admission.held, neighbours.waiting(admission)
        return Announcement(os.getpid(), *self._place, held, max(self._limit, held), waiting)

    def _name(self) -> str:
        return self._own().text()

    def _connecting(self) -> int:
        """Servers whose pids are not known yet: Postgres may list them already."""
        return sum(1 for server in self._hub.servers if not server.pid)

    def _set(self, total: int) -> None:
        hub = self._hub
        hub.admission.neighbours = [guard.describe() for guard in self.neighbours.known]
        self._limit = hub.settings.total or total
        if hub.settings.total is None:
            hub.upstream.set_total(total)
        self.known.set()

    def _see_strangers(self, others: dict[int, str | None], *, certain: bool) -> None:
        """Note who went past us; in doubt whether it is one of ours, at the next reading."""
        if self._strangers is None or self.neighbours:
            # Which connections are those of another guard is not to be seen.
            self._strangers = set(others)
            return
        guarded = self._hub.gate.judges
        for pid, database in others.items():
            if pid not in self._strangers and database in guarded:
                if certain or pid in self._seen:
                    self.bypassed.add(pid)
                else:
                    self.want()
