"""Servers that nobody has, by what they are alike in, and whose they may become.

Laws: a server goes back to the session that had it last, else to one of the same client, else to
anybody (transparency T9); never to one that would see what no reset removes (T24); the one let go
last is lent first, so that those that nobody needs grow old and are closed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from pgguard.wire import backend

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from pgguard.core.shared_server import SharedServer
    from pgguard.core.shared_session import SharedSession
    from pgguard.core.types import Client

APPLICATION_NAME = "application_name"

MOST = 1000
"""Statements of which a pool knows what Postgres makes of them; those learned first go."""
LONGEST = 16384
"""Bytes of a statement that is remembered so."""


class Parsed(NamedTuple):
    """What Postgres has made of a statement: see `prepared.Prepared`."""

    types: tuple[int, ...]
    rows: bytes
    epoch: int


@dataclass(slots=True, eq=False)
class Pool:
    """Servers that are alike: same database, role and startup settings (T8)."""

    key: tuple[object, ...]
    spare: list[SharedServer] = field(default_factory=list)
    """Those that nobody has, the one let go last at the end."""
    known: bool = False
    """Postgres has let somebody in, and said what follows."""
    parameters: dict[str, str] = field(default_factory=dict)
    """What Postgres says at login."""
    _told: dict[str, tuple[dict[str, str], bytes]] = field(default_factory=dict)
    _parsed: dict[tuple[object, ...], Parsed] = field(default_factory=dict)

    def told_to(self, name: str) -> tuple[dict[str, str], bytes]:
        """What Postgres says at the login of a session with this application_name, and in which
        messages: one dictionary for all of them, which nobody changes."""
        told = self._told.get(name)
        if told is None:
            if len(self._told) >= MOST:
                self._told.clear()
            parameters = {**self.parameters, APPLICATION_NAME: name}
            said = (backend.parameter_status(*parameter) for parameter in parameters.items())
            told = self._told[name] = parameters, b"".join(said)
        return told

    def knows(self, parameters: dict[str, str]) -> None:
        """Postgres has let somebody in, and said this."""
        self.known, self.parameters = True, parameters
        self._told.clear()

    def learn(self, body: bytes, settings: Mapping[str, bytes], parsed: Parsed) -> None:
        """Postgres has parsed `body` (what follows the name in a Parse) under these settings."""
        if len(body) <= LONGEST:
            key = (body, *settings.items())
            self._parsed.pop(key, None)
            self._parsed[key] = parsed
            if len(self._parsed) > MOST:
                del self._parsed[next(iter(self._parsed))]

    def recall(self, body: bytes, settings: Mapping[str, bytes], epoch: int) -> Parsed | None:
        """What came of it, if no DDL can have changed that since (T18)."""
        parsed = self._parsed.get((body, *settings.items()))
        return parsed if parsed is not None and parsed.epoch == epoch else None


class Pools:
    """All of them."""

    __slots__ = ("_pools",)

    def __init__(self) -> None:
        self._pools: dict[tuple[object, ...], Pool] = {}

    def __iter__(self) -> Iterator[Pool]:
        return iter(self._pools.values())

    def of(self, session: SharedSession) -> Pool:
        """The pool of its startup parameters; what application_name says is no part of it."""
        parameters = dict(session.parameters)
        parameters.pop(APPLICATION_NAME, None)
        key = tuple(sorted(parameters.items()))
        pool = self._pools.get(key)
        if pool is None:
            pool = self._pools[key] = Pool(key)
        return pool

    def forget(self) -> None:
        """What Postgres said at login may not be what it says now."""
        for pool in self._pools.values():
            pool.known = False

    # Spare servers

    def spare(self) -> list[SharedServer]:
        return [server for pool in self._pools.values() for server in pool.spare]

    def put(self, server: SharedServer) -> None:
        server.pool.spare.append(server)

    def remove(self, server: SharedServer) -> bool:
        """It is spare no more. Returns whether it was."""
        spare = server.pool.spare
        if server not in spare:
            return False
        spare.remove(server)
        return True

    def take(
        self, session: SharedSession, *, at_cap: bool, restless: bool = False
    ) -> SharedServer | None:
        """A server for the session; `at_cap`: its client may have no more than it has now.

        `restless`: the one that has rested longest, whosever it was.
        """
        spare = session.pool.spare
        if restless:
            oldest = next((s for s in spare if _fits(s, session, at_cap=at_cap)), None)
            if oldest is not None:
                spare.remove(oldest)
            return oldest
        client = session.client
        found: SharedServer | None = None
        for server in reversed(spare):
            if server.last_session is session:
                found = server
                break
            better = found is None or (server.client is client and found.client is not client)
            if better and _fits(server, session, at_cap=at_cap):
                found = server
        if found is not None:
            spare.remove(found)
        return found

    def take_oldest(self, client: Client | None = None) -> SharedServer | None:
        """The one that has rested longest, of all or of one client's."""
        spare = [s for s in self.spare() if client is None or s.client is client]
        oldest = min(spare, key=_rested, default=None)
        if oldest is not None:
            self.remove(oldest)
        return oldest

    def take_if(self, condition: Callable[[SharedServer], bool]) -> list[SharedServer]:
        """All for which it holds; they are spare no more."""
        taken = [server for server in self.spare() if condition(server)]
        for server in taken:
            self.remove(server)
        return taken


def need(server: SharedServer) -> tuple[bool, float, int]:
    """Sequence state yields last (T22), then who has said something last."""
    return server.sequences_of is server.session, server.ready_at, server.id


def _rested(server: SharedServer) -> float:
    return server.rested


def _fits(server: SharedServer, session: SharedSession, *, at_cap: bool) -> bool:
    if server.last_session is session:
        return True
    if server.client is not session.client:
        # It is reset; what was ever set with a dot stays.
        return not server.dotted and not at_cap
    return server.dotted <= session.dotted
