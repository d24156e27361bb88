"""The value that a session can ask for after it has advanced a sequence (currval, lastval).

Postgres keeps it in the backend alone, nothing makes it on another one, and most sessions never
ask: so it does not pin (transparency T22). A server goes last to others while it has one; once a
client has asked, its sessions keep theirs from then on, as long as they are not silent for long.
Laws: nobody gets another session's value; who asks too late is told Postgres's own error, with who
needed the server and what to do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgguard import events
from pgguard.core.pins import UNSURE
from pgguard.pool.refusals import plain
from pgguard.wire import backend, codes

if TYPE_CHECKING:
    from pgguard.core.shared_server import SharedServer
    from pgguard.core.shared_session import SharedSession

NOT_YET = "55000"
"""object_not_in_prerequisite_state, among others."""
_ROUTINES = frozenset({"lastval", "currval_oid"})
"""Of sequence.c, whatever the language of the message."""

_LONGEST = 120
"""Characters of a statement in an error."""

_HINT = (
    "Use INSERT ... RETURNING, or ask in the transaction of the INSERT. From now on pgguard keeps "
    "the servers of this client for it. See: pgguard explain PGG311"
)


def keeps(session: SharedSession, server: SharedServer) -> bool:
    """Whether the session may be about to ask, as its client does."""
    if not session.client.reads_sequences or server.sequences_of is not session:
        return False
    hub = session.hub
    silent = hub.clock() - max(session.last_byte, server.ready_at)
    return silent < hub.settings.admission.self_starvation_after


def pinned_by(session: SharedSession, server: SharedServer) -> str:
    """Why the session keeps its server between transactions, as metrics name it; of several reasons
    one, and what is only suspected if there is nothing else. Empty = it keeps it for none."""
    reasons = session.pins.reasons
    if not reasons:
        return "sequence" if keeps(session, server) else ""
    return min(reasons, key=UNSURE.__contains__).name.lower()


def kept_for(session: SharedSession) -> str:
    """What keeps the session's server between transactions, this among others, in words."""
    reasons = [f"{reason.value} since {pin.text}" for reason, pin in session.pins.reasons.items()]
    if session.server is not None and keeps(session, session.server):
        reasons.append("value of a sequence")
    return ", ".join(" ".join(reason.split())[:100] for reason in reasons)


def linking(session: SharedSession, server: SharedServer) -> None:
    """The session gets this server: is the value still there that it could have asked for?"""
    if session.advanced is not None and server.sequences_of is not session:
        statement, before = session.advanced
        session.missed, session.advanced = (statement, _who(session, before)), None


def told(session: SharedSession, body: bytes) -> bytes:
    """Body of an ErrorResponse as the session gets it; if it has asked too late, that is an event,
    and its client's servers are kept from now on."""
    if NOT_YET.encode() not in body:
        return body
    fields = backend.decode_fields(body)
    if fields.get("C") != NOT_YET or fields.get("R") not in _ROUTINES:
        return body
    session.client.reads_sequences = True
    if session.missed is None:
        return body
    statement, who = session.missed
    text = plain(" ".join(statement.masked.split()))[:_LONGEST]
    why = f"Its server was not there any more since: {text}; {who}."
    hub = session.hub
    fingerprint, asked = ("", "")
    if session.last is not None:
        fingerprint, asked = session.last.fingerprint, session.last.masked
    who_asked = session.id, session.client.key, fingerprint, asked
    hub.emit(events.SequenceLost(hub.clock(), *who_asked, text, who))
    fields |= {"D": fields.get("D") or why, "H": fields.get("H") or _HINT}
    return backend.fields_message(codes.ERROR_RESPONSE, fields)[5:]


def _who(session: SharedSession, server: SharedServer) -> str:
    """Who has got the server on which the sequence was advanced, or what became of it."""
    taker = server.last_session
    if taker is None or taker is session:
        return f"it was closed ({server.close_reason})" if server.close_reason else "it was left"
    return f'client "{plain(taker.client.key)}" session {taker.id} needed it'
