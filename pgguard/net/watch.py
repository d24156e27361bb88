"""What is looked up at Postgres while the guard runs: the catalogues and the room for connections.

A catalogue is read at a database's first session, soon after DDL on the wire, at once when a
statement names an unknown relation, and when its newest row has changed, which is looked at every
5 s while there is traffic: migrations often run beside the guard. It is read for a fifth of the
time and once a second at most, unless somebody waits, or keeps a server until it has been read, or
DDL is over or may have changed anything, as COMMIT PREPARED may. What is looked at more often
stands in `limits`. Laws: a look-up that fails changes nothing but `last_error`; nothing here waits
for a session.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING

from pgguard.core import verifying
from pgguard.errors import ServerUnavailable
from pgguard.tenancy.model import (
    CATALOGUE_QUERIES,
    NEWEST_ROW_QUERY,
    Model,
    catalogue_from_rows,
    undisturbed,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pgguard.core.hub import Hub
    from pgguard.net.service import Rows, Services
    from pgguard.tenancy.model import Catalogue, TenancySettings

log = logging.getLogger("pgguard.net")

EVERY = 5.0
EVERY_ALONE = 30.0
"""The same where a look-up takes the only backend from sessions."""
AT_MOST_EVERY = 1.0
AT_ONCE = 0.1
"""The same where a session keeps its server until it has been read, and no DDL is under way."""
SHARE = 5
"""Of how much time readings take one part, if nobody waits for what they bring."""
HASTE = 2
"""The same where sessions share servers and DDL is over."""
RETRY_AFTER = 0.25
UNUSED = 16
"""Databases without sessions whose catalogue and verdicts are kept."""
NO_SUCH_DATABASE = "3D000"
LOCKED = "55P03"
"""lock_not_available."""
NONSENSE = (ValueError, IndexError, TypeError, KeyError)
"""What reading rows raises when they are not what was asked for."""

LOCKS_QUERY = (
    "SELECT pid, blocker FROM pg_catalog.unnest(ARRAY[{pids}]) AS pid,"
    " pg_catalog.unnest(pg_catalog.pg_blocking_pids(pid)) AS blocker"
)


async def watch_locks(hub: Hub, services: Services, database: str) -> None:
    """While sessions wait for their own client: whose lock do its running statements wait for? And
    while they wait for others: those of all?"""
    while True:
        await asyncio.sleep(AT_MOST_EVERY / 2)
        now = hub.clock()
        waiting = {client for client in hub.clients.values() if client.share.waiting}
        everybody = any(client.share.blocked_by == "total" for client in waiting)
        running = {
            server.pid: server
            for server in hub.servers
            if (everybody or server.client in waiting)
            and server.pipeline.due
            and now - server.started > 0.5
        }
        if not running or hub.upstream.single:
            continue
        pids = ",".join(map(str, running))
        try:
            (rows,) = await services.query(database, LOCKS_QUERY.format(pids=pids))
        except ServerUnavailable as error:
            log.debug("locks not looked up: %s", error)
            continue
        try:
            pairs = [(int(pid or 0), int(blocker or 0)) for pid, blocker in rows]
        except NONSENSE as error:
            log.debug("locks not understood: %r", error)
            continue
        for pid, server in running.items():
            blockers = frozenset(blocker for waiter, blocker in pairs if waiter == pid)
            server.blockers = (server.started, blockers)


def _locked(
    rows: dict[str, Rows],
) -> Iterator[tuple[list[str | None], tuple[str | None, ...], slice, bool]]:
    """Rows with texts that cannot be read while somebody has a table for himself: the row, what
    tells it from others, where its texts are, and whether they could not be read."""
    for row in rows["definitions"]:
        yield row, ("view", row[0]), slice(1, 2), row[1] is None
    for row in rows["columns"]:
        if row[5] == "t":
            yield row, ("column", row[0], row[6]), slice(4, 5), row[4] is None
    for row in rows["row_policies"]:
        yield row, ("policy", *row[:2]), slice(5, 7), row[7] == "t"


@dataclass(slots=True)
class _Watched:
    wanted: bool = True
    read_at: float | None = None
    took: float = 0.0
    calm: bool = False
    """No session was running DDL, or has run any, for a moment."""
    noted: tuple[int, float] = (0, 0.0)
    """A moment of the judge's news, and when that was."""
    looked_at: float = 0.0
    newest: Rows | None = None
    failed: bool = False
    texts: dict[tuple[str | None, ...], tuple[str | None, ...]] = field(default_factory=dict)
    """What could be read last of the views, generated columns and policies that there are."""

    def know(self, rows: dict[str, Rows]) -> bool:
        """What could not be read just now is as it was. Returns whether all is known."""
        before, self.texts, known = self.texts, {}, True
        for row, key, at, locked in _locked(rows):
            if locked and key in before:
                row[at] = before[key]
            if locked and key not in before:
                known = False
            else:
                self.texts[key] = tuple(row[at])
        return known


class Catalogues:
    """Keeps the tenant model of every database as new as its catalogue."""

    def __init__(self, hub: Hub, services: Services) -> None:
        self._hub = hub
        self._services = services
        self._databases: dict[str, _Watched] = {}
        self._traffic = 0
        self._wake = asyncio.Event()

    def want(self, database: str, *, soon: bool) -> None:
        watched = self._databases.setdefault(database, _Watched())
        if soon:
            watched.wanted = True
            self._wake.set()

    async def run(self) -> None:
        while True:
            self._wake.clear()
            moved = self._hub.counters.received_bytes != self._traffic
            self._traffic = self._hub.counters.received_bytes
            wanted = False
            for database, watched in list(self._databases.items()):
                await self._look(database, watched, moved=moved)
                wanted = wanted or self._is_due(database, watched)
            self._forget()
            try:
                async with asyncio.timeout(RETRY_AFTER if wanted else AT_MOST_EVERY):
                    await self._wake.wait()
            except TimeoutError:
                pass

    def _is_used(self, database: str) -> bool:
        return any(server.database == database for server in self._hub.servers)

    def _is_due(self, database: str, watched: _Watched) -> bool:
        """Whether somebody is served by a new reading: a session, or a verdict that waits."""
        return watched.wanted and (self._is_used(database) or self._hub.gate.waits(database))

    def _forget(self) -> None:
        """Suites make a database for each test and drop it: few of those without use are kept."""
        unused = [name for name in self._databases if not self._is_used(name)]
        for database in unused[:-UNUSED]:
            del self._databases[database]
            self._hub.gate.forget(database)

    def _pause(self, database: str, watched: _Watched) -> float:
        """Seconds from one reading to the next. Much DDL in a large catalogue would fill all time
        with them."""
        judge = self._hub.gate.judges.get(database)
        if judge is not None and judge.sharing:
            # Who has run what depends on it keeps its server until it is known what has changed.
            if watched.calm or judge.news.anything:
                return max(RETRY_AFTER, min(AT_MOST_EVERY, HASTE * watched.took))
            if judge.news.is_asked:
                return max(AT_ONCE, min(AT_MOST_EVERY, SHARE * watched.took))
        if self._hub.admission.waiting or self._hub.gate.holds:
            return AT_MOST_EVERY
        return max(AT_MOST_EVERY, min(EVERY, SHARE * watched.took))

    def _note(self, database: str, watched: _Watched, now: float) -> None:
        """Whether there has been DDL for a moment."""
        judge = self._hub.gate.judges.get(database)
        moment, at = watched.noted
        if judge is not None and now - at >= RETRY_AFTER:
            watched.calm = judge.news.quiet_since(moment)
            watched.noted = judge.news.moment, now

    async def _look(self, database: str, watched: _Watched, *, moved: bool) -> None:
        now = self._hub.clock()
        if self._hub.upstream.single and now - (watched.read_at or -inf) < EVERY_ALONE:
            # Sessions wait meanwhile, and such a server may take seconds for it.
            return
        if watched.wanted:
            self._note(database, watched, now)
            due = self._is_due(database, watched)
            if due and (
                watched.read_at is None or now - watched.read_at >= self._pause(database, watched)
            ):
                await self.read(database)
        elif moved and now - watched.looked_at >= EVERY and self._is_used(database):
            watched.looked_at = now
            try:
                (newest,) = await self._services.query(database, undisturbed(NEWEST_ROW_QUERY))
            except ServerUnavailable as error:
                log.debug("catalogue of %r not looked at: %s", database, error)
                return
            if newest != watched.newest:
                await self.read(database)

    async def read(self, database: str) -> None:
        """Read the whole catalogue now. A failure is logged once, and tried again later."""
        watched = self._databases.setdefault(database, _Watched())
        watched.wanted = False
        watched.read_at = watched.looked_at = self._hub.clock()
        moment = self._hub.gate.judge(database).news.moment
        names = list(CATALOGUE_QUERIES)
        try:
            rows = await self._services.query(
                database,
                undisturbed(NEWEST_ROW_QUERY),
                *(undisturbed(CATALOGUE_QUERIES[name], name) for name in names),
            )
        except ServerUnavailable as error:
            if error.fields.get("C") == NO_SUCH_DATABASE:
                if self._hub.gate.waits(database):
                    self._hub.gate.give_up_waiting(database, self._hub.clock())
                return
            watched.wanted = True
            usual = watched.failed or error.fields.get("C") == LOCKED
            level = logging.DEBUG if usual else logging.WARNING
            log.log(level, "catalogue of %r not read, verdicts wait: %s", database, error)
            watched.failed = watched.failed or not usual
            return
        watched.failed = False
        watched.newest = rows[0]
        gate = self._hub.gate
        named = dict(zip(names, rows[1:], strict=True))
        try:
            if not watched.know(named):
                watched.wanted = True
            # With thousands of tables this takes long enough for every session to notice.
            made = await asyncio.to_thread(_made, named, gate.judge(database).settings)
        except NONSENSE as error:
            log.warning("catalogue of %r not understood, verdicts wait: %r", database, error)
            return
        newest = not watched.wanted
        watched.took = self._hub.clock() - watched.read_at
        gate.catalogue_read(database, *made, newest=newest, moment=moment)
        verifying.catalogue_read(self._hub, database)
        if newest:
            for _ in gate.giving_up(database, self._hub.clock()):
                await asyncio.sleep(0)

    async def settle(self) -> None:
        """At the end: read once more what verdicts still wait for, then give them up."""
        for database, watched in list(self._databases.items()):
            # A reading that is under way wants nothing any more, and may not get to its end.
            if watched.wanted or self._hub.gate.waits(database):
                await self.read(database)
            self._hub.gate.give_up_waiting(database, self._hub.clock())


def _made(rows: dict[str, Rows], settings: TenancySettings) -> tuple[Catalogue, Model]:
    """The catalogue that was read and the model of it."""
    catalogue = catalogue_from_rows(rows)
    return catalogue, Model(catalogue, settings)
