"""Where servers are shared: what becomes of what a client has asked for when it leaves.

Laws: what was asked before the client left is executed by the server that the session has, or that
is being connected for it (transparency T30); who is in the queue, or waits for Postgres itself, has
asked for nothing (T4); a server that only its client can end is told that the client sends no more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgguard.core.ahead import has_left
from pgguard.core.pins import Reason
from pgguard.pool.tickets import TicketState

if TYPE_CHECKING:
    from pgguard.core.shared_server import SharedServer
    from pgguard.core.shared_session import SharedSession


def is_served(session: SharedSession) -> bool:
    """Whether a server is on the way to the session."""
    ticket = session.ticket
    if session.server is not None or not session.greeted or ticket is None:
        return False
    return ticket.state is TicketState.GRANTED and not session.hub.upstream.redials.has(session)


def has_gone(session: SharedSession) -> bool:
    """Whether nobody waits for a server any more."""
    return session.gone_at is not None or has_left(session.held)


def eof(session: SharedSession) -> bool:
    """The client sends no more. Returns whether the connection stays open for replies."""
    hub, server = session.hub, session.server
    waits = session.waits or session.held_back is not None
    if not is_served(session) and (server is None or not (server.pipeline.due or waits)):
        hub.end_session(session, "client closed the connection")
        return False
    session.gone_at = hub.clock()
    hub.gone.add(session)
    if server is not None and session.held_back is None and _only_client_ends(session.shared):
        server.write_eof()
    return True


def copy_in_began(server: SharedServer) -> None:
    """Postgres waits for the data of a copy."""
    if server.copy_in and server.session is not None and server.session.gone_at is not None:
        server.write_eof()


def _only_client_ends(server: SharedServer) -> bool:
    """A copy to the server, or a stream of WAL. It goes on to nobody: Postgres ends it."""
    return server.copy_in or Reason.REPLICATION in server.shared.pins.reasons
