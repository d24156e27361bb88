"""The states of a server connection and its legal moves (design.md 5.2).

Laws: a state is a place, so whoever moves a server also moves it between the collections that the
members name; `move` is the only code that sets a server's state; a server in CLOSING still counts
against cap and total until its socket gives EOF (transparency.md T12).
"""

from __future__ import annotations

from enum import Enum
from typing import Protocol

from pgguard.errors import InternalError


class ServerState(Enum):
    CONNECTING = "connecting"
    """pool.connecting: TCP and login by the dialer."""
    IDLE = "idle"
    """pool.idle: clean, status I, nothing due."""
    LINKED = "linked"
    """pool.linked: belongs to one session."""
    RESETTING = "resetting"
    """pool.resetting: runs reset statements of ours."""
    CANCELLING = "cancelling"
    """pool.cancelling: a cancel for it is in flight."""
    CLOSING = "closing"
    """hub.closing: Terminate sent or being aborted, EOF awaited."""
    CLOSED = "closed"
    """Nowhere."""

    # Enum hashes the name, in Python, at every look into a place.
    __hash__ = object.__hash__


MOVES: dict[ServerState, frozenset[ServerState]] = {
    ServerState.CONNECTING: frozenset({ServerState.IDLE, ServerState.CLOSING, ServerState.CLOSED}),
    ServerState.IDLE: frozenset({ServerState.LINKED, ServerState.CLOSING, ServerState.CLOSED}),
    ServerState.LINKED: frozenset(
        {
            ServerState.IDLE,
            ServerState.RESETTING,
            ServerState.CANCELLING,
            ServerState.CLOSING,
            ServerState.CLOSED,
        }
    ),
    ServerState.RESETTING: frozenset({ServerState.IDLE, ServerState.CLOSING, ServerState.CLOSED}),
    ServerState.CANCELLING: frozenset(
        {ServerState.IDLE, ServerState.RESETTING, ServerState.CLOSING, ServerState.CLOSED}
    ),
    ServerState.CLOSING: frozenset({ServerState.CLOSED}),
    ServerState.CLOSED: frozenset(),
}


class Movable(Protocol):
    """What `move` needs of a server; its repr names it in an error."""

    state: ServerState


def move(server: Movable, to: ServerState) -> None:
    """Set the server's state. Raises InternalError for a move that is not in `MOVES`."""
    if to not in MOVES[server.state]:
        raise InternalError(f"{server!r} cannot move from {server.state.name} to {to.name}")
    server.state = to
