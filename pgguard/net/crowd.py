"""How many connections there may be, and who goes when there are too many.

Every session may need a server, so there are fewer sessions than descriptors, and few that have not
logged in. Laws: whoever has logged in stays; of those who have not the one that keeps us waiting
longest makes room for who comes; who finds no room is told so in Postgres's own words, not left in
silence (reliability R41).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgguard.core.session import Session
from pgguard.core.states import SessionState
from pgguard.errors import Refusal
from pgguard.wire.backend import error_response

if TYPE_CHECKING:
    from collections.abc import Callable

    from pgguard.core.hub import Hub

LOGINS = 1_000
"""Connections at once that have not logged in."""
REFUSING = 32
"""Connections at once that are being told that there is no room; more are closed at once."""
RESERVED = 128
"""Descriptors for all that is no session: HTTP, look-ups, cancels, refusals, files, the loop."""
FEWEST = 4

TOO_MANY = Refusal(
    "sorry, too many clients already",
    sqlstate="53300",
    hint="pgguard has no room for more connections: let clients close what they do not use, or"
    " raise the limit of descriptors (ulimit -n) that it starts with.",
)


def no_room() -> bytes:
    """What a connection is told that finds no room, or makes room for another one."""
    return error_response(
        severity="FATAL", sqlstate=TOO_MANY.sqlstate, message=TOO_MANY.message, hint=TOO_MANY.hint
    )


class Crowd:
    """The connections of one guard that have not logged in, and the room for all.

    `descriptors` is the limit of the process; 0 or less = not known.
    """

    def __init__(self, hub: Hub, descriptors: int) -> None:
        self._hub = hub
        self._descriptors = descriptors
        self._entering: dict[object, Callable[[], object]] = {}
        """Connections before their first packet, in order of arrival → what ends each."""
        self.refusing = 0

    def enter(self, who: object, drop: Callable[[], object]) -> None:
        """A connection keeps us waiting; `drop` ends it."""
        self._entering[who] = drop

    def change(self, who: object, drop: Callable[[], object]) -> None:
        """Another way to end it; its place stays."""
        if who in self._entering:
            self._entering[who] = drop

    def leave(self, who: object) -> None:
        """It has become a session, waits for us, or has ended."""
        self._entering.pop(who, None)

    @property
    def limit(self) -> int:
        """Frontend connections for which there are descriptors."""
        if self._descriptors <= 0:
            return 1 << 30
        room = self._descriptors - min(RESERVED, self._descriptors // 3)
        return max(FEWEST, room // 2, room - (self._hub.upstream.total or 0))

    def has_room(self) -> bool:
        """Whether one more may come in, if need be in the place of one that keeps us waiting."""
        limit, logins = self.limit, len(self._entering) + self._logging_in()
        full = len(self._entering) + len(self._hub.places) >= limit
        crowded = logins >= min(LOGINS, max(FEWEST, limit // 2))
        return not (full or crowded) or self.drop_one()

    def describe(self) -> str:
        """How full it is, for the log."""
        entering, limit = len(self._entering), self.limit
        return (
            f"{entering + len(self._hub.places)} connections, "
            f"{entering + self._logging_in()} of them have not logged in; {self._descriptors} "
            f"descriptors are enough for {limit}"
        )

    def _logging_in(self) -> int:
        of = self._hub.places.of
        return len(of(SessionState.LOGIN)) + len(of(SessionState.RELAYED))

    def drop_one(self) -> bool:
        """End the connection that has kept us waiting longest; False if none does."""
        if self._entering:
            who = next(iter(self._entering))
            self._entering.pop(who)()
            return True
        keeping = [
            place
            for place in self._hub.places.of(SessionState.LOGIN)
            if isinstance(place, Session) and place.entrance and place.entrance.is_awaited()
        ]
        keeping += [
            place
            for place in self._hub.places.of(SessionState.RELAYED)
            if isinstance(place, Session) and place.relay and place.relay.is_awaited()
        ]
        if not keeping:
            return False
        self._hub.refuse(min(keeping, key=lambda session: session.since), TOO_MANY)
        return True
