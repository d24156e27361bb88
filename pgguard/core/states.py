"""The life of a session, as a table: one state is one place.

Laws: only `Places.move` assigns `state`; a move that the table does not name is a bug of ours and
raises InternalError with object, from and to; nothing is in two places.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Protocol, TypeVar

from pgguard.errors import InternalError

if TYPE_CHECKING:
    from collections.abc import Iterator


class SessionState(Enum):
    """Where a session is (design: session states in mode `session`)."""

    LOGIN = "login"
    """Startup packet awaited or authenticating: no ticket, no server."""
    WAITING = "waiting"
    """Authenticated, with a ticket: queued, or granted and its server is being connected."""
    RELAYED = "relayed"
    """Postgres itself asks the client for its proof, on the server that will be ours (T2)."""
    IDLE = "idle"
    """Nothing outstanding, no server: only where servers are shared."""
    LINKED = "linked"
    """A server is ours: until the session ends, or until it is let go."""
    CLOSING = "closing"
    """The last message is being flushed, or the server's last replies are awaited."""
    CLOSED = "closed"

    # Enum hashes the name, in Python, at every look into a place.
    __hash__ = object.__hash__


SESSION_MOVES: dict[SessionState, frozenset[SessionState]] = {
    SessionState.LOGIN: frozenset(
        {SessionState.WAITING, SessionState.IDLE, SessionState.CLOSING, SessionState.CLOSED}
    ),
    SessionState.IDLE: frozenset(
        {SessionState.WAITING, SessionState.LINKED, SessionState.CLOSING, SessionState.CLOSED}
    ),
    SessionState.WAITING: frozenset(
        {
            SessionState.RELAYED,
            SessionState.IDLE,
            SessionState.LINKED,
            SessionState.CLOSING,
            SessionState.CLOSED,
        }
    ),
    SessionState.RELAYED: frozenset(
        {SessionState.LINKED, SessionState.CLOSING, SessionState.CLOSED}
    ),
    SessionState.LINKED: frozenset({SessionState.IDLE, SessionState.CLOSING, SessionState.CLOSED}),
    SessionState.CLOSING: frozenset({SessionState.CLOSED}),
    SessionState.CLOSED: frozenset(),
}


class Movable(Protocol):
    state: SessionState
    since: float


T = TypeVar("T", bound=Movable)


class Places:
    """The collections that sessions live in, one for each state but CLOSED."""

    __slots__ = ("_places",)

    def __init__(self) -> None:
        self._places: dict[SessionState, set[Movable]] = {
            state: set() for state in SessionState if state is not SessionState.CLOSED
        }

    def add(self, session: Movable) -> None:
        """A new session enters; its state is LOGIN."""
        self._places[SessionState.LOGIN].add(session)

    def move(self, session: Movable, to: SessionState, now: float) -> None:
        """Take `session` to another place; `now` becomes its `since`.

        Raises InternalError for a move that is not in SESSION_MOVES.
        """
        if to not in SESSION_MOVES[session.state]:
            raise InternalError(f"{session!r} cannot go from {session.state.name} to {to.name}")
        self._places[session.state].discard(session)
        session.state = to
        session.since = now
        if to is not SessionState.CLOSED:
            self._places[to].add(session)

    def of(self, state: SessionState) -> set[Movable]:
        return self._places[state]

    def __iter__(self) -> Iterator[Movable]:
        for place in self._places.values():
            yield from place

    def __len__(self) -> int:
        return sum(len(place) for place in self._places.values())
