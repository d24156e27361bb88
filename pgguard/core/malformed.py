"""What Postgres has the word for: impossible lengths, and types that it may not know.

Laws: Postgres gets what it needs to judge as soon as it is here, once, and in order; behind an
impossible length nothing more is passed on; an unknown type is framed like any other.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING

from pgguard.events import ProtocolBroken
from pgguard.wire.codes import FRONTEND_LIMIT, KNOWN_FRONTEND, PASSWORD

if TYPE_CHECKING:
    from pgguard.core.session import Session

BAD_LENGTH = "invalid message length (message type %d)"
HEADER = 5
EXPECTED = KNOWN_FRONTEND - {PASSWORD}
"""Types that Postgres takes after the login; any other ends the connection."""
_header = Struct(">BI").unpack_from


def break_off(session: Session, data: bytes, kind: int) -> None:
    """What no legal message begins with stands at the end of `data`: Postgres gets it too, answers
    what came before and ends the connection in its own way. The rest goes nowhere."""
    hub, server = session.hub, session.server
    assert server is not None
    now = session.gone_at = hub.clock()
    hub.gone.add(session)
    session.held_back = b""
    hub.emit(ProtocolBroken(now, session.address, session.client.key, BAD_LENGTH % kind))
    server.write(data)
    server.write_eof()


def ends_alone(session: Session, kind: int, length: int) -> bool:
    """Whether Postgres, which has no part in a session without a server, would end it over that
    header; then it has ended: over the type with FATAL, over the length without a word."""
    hub = session.hub
    if kind not in EXPECTED:
        hub.session_violated(session, f"invalid frontend message type {kind}")
        return True
    if 4 <= length <= FRONTEND_LIMIT[kind]:
        return False
    what = BAD_LENGTH % kind
    hub.emit(ProtocolBroken(hub.clock(), session.address, session.client.key, what))
    hub.end_session(session, what)
    return True


def go_on(session: Session, data: bytes) -> None:
    """More behind a header of unknown type that is not whole (`session.partial`): Postgres has got
    so much of it already, because it ends the connection over the type alone."""
    assert session.server is not None
    missing = HEADER - len(session.partial)
    rest, head = data[missing:], data[:missing]
    session.partial += head
    if len(session.partial) < HEADER:
        session.server.write(head)
        return
    kind, length = _header(session.partial)
    session.partial = b""
    if not 4 <= length <= FRONTEND_LIMIT[kind]:
        break_off(session, head, kind)
        return
    session.counters.unknown_messages += kind not in KNOWN_FRONTEND
    session.server.write(head)
    session.skip = length - 4
    if rest:
        session.counters.received_bytes -= len(rest)
        session.receive(rest)
