"""Which statement a CancelRequest means.

Laws: it means what its session has asked for and not got yet, wherever that is: in the queue for a
server, held until something else is answered, or on a server; never a text of ours, nor whatever
comes when that is over (transparency T7, T29).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from pgguard.core.pipeline import QUERY_OURS
from pgguard.core.states import SessionState
from pgguard.wire import codes

if TYPE_CHECKING:
    from pgguard.core.server import Server
    from pgguard.core.session import Session
    from pgguard.core.shared_server import SharedServer
    from pgguard.core.shared_session import SharedSession


def means(session: Session) -> Server | None:
    """The server on which a statement of the session runs now; else the statement is canceled in
    its queue, or as soon as it has been sent."""
    if session.hub.shares and session.state is SessionState.WAITING:
        session.hub.sharing.cancel_waiting(cast("SharedSession", session))
        return None
    server = session.server
    if server is None:
        return None
    entries = server.pipeline.entries
    if _is_held(session, server):
        server.cancel_later = True
    elif entries and entries[0] == QUERY_OURS:
        # What runs there is ours: the client's statement comes behind it.
        server.cancel_later = bool(session.held) or len(entries) > 1
    else:
        return server
    return None


def _is_held(session: Session, server: Server) -> bool:
    """Whether what it has asked for waits for nothing that the server does: for its verdict, or
    until nobody stands in the way of a statement about databases."""
    entries, text = server.pipeline.entries, session.held_back
    if not text:
        return _waits(session) and bool(session.held) and not entries
    pos = held = 0
    while len(text) - pos >= 5:
        held += text[pos] != codes.FLUSH
        pos += 1 + int.from_bytes(text[pos + 1 : pos + 5], "big")
    return len(entries) <= held


def _waits(session: Session) -> bool:
    return session.hub.shares and cast("SharedSession", session).waits


def now(server: Server) -> None:
    """Nothing of ours runs any more: a cancel that has come meanwhile is due."""
    entries = server.pipeline.entries
    if server.cancel_later and entries and entries[0] != QUERY_OURS:
        server.cancel_later = False
        server.hub.upstream.cancel(server)


def gone_on(session: Session, server: Server) -> None:
    """What was held has gone on: so does its cancel, or there is nothing left that it means."""
    if _is_held(session, server):
        return
    now(server)
    if not (server.pipeline.entries or _waits(session) or session.held_back):
        server.cancel_later = False


def linked_again(session: SharedSession, server: SharedServer) -> None:
    """`server` could not be made the session's, and another one is wanted in its place."""
    if server.cancel_later and session.state is SessionState.WAITING:
        session.hub.sharing.cancel_waiting(session)
