"""Statements that name a pid which we have invented, to signal a backend or to ask whom it waits
for (transparency T28).

Where servers are shared a client is told a pid that no backend has. In a statement that signals
one, the pid is replaced by that of the server which the session has now, so that Postgres does it,
judges who may, and answers. Laws: a session without a server is ended, or its waiting cancelled,
by us, and only for its own role; Postgres then signals a server that nobody has, whose loss nobody
notices, so that the answer is its own; what means no session of ours goes as it is.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pgguard.core.cancel import FIRST_INVENTED
from pgguard.errors import ProtocolViolation, Refusal
from pgguard.wire import frontend

if TYPE_CHECKING:
    from pgguard.core.session import Session
    from pgguard.core.shared_session import SharedSession

_CALL = re.compile(rb"(?i)\bpg_(terminate|cancel)_backend\s*\(\s*(?:(\d{7,10})\b|\$(\d{1,3})\b)")
_ASKS = re.compile(
    rb"(?i)\bpg_(?:(?:safe_snapshot_)?blocking_pids|isolation_test_session_is_blocked)\s*\("
)
_PID = re.compile(rb"(?<![\w.])\d{7,10}(?![\w.])")
_ENDED = "terminating connection due to administrator command"


def in_text(session: SharedSession, text: bytes) -> bytes:
    """The text, with pids that exist in the place of those that we have invented."""

    def real(found: re.Match[bytes]) -> bytes:
        if found[2] is None:
            return found[0]
        start = found.start(2) - found.start()
        return found[0][:start] + b"%d" % _real(session, found[1], int(found[2]))

    text = _CALL.sub(real, text)
    if _ASKS.search(text):
        text = _PID.sub(lambda found: b"%d" % _now(session, int(found[0])), text)
    return text


def in_bind(session: SharedSession, text: bytes, raw: bytes) -> bytes:
    """The same of a Bind of the text, whose parameter may be the pid."""
    found = _CALL.search(text)
    asks = found is None and _ASKS.search(text)
    if not asks and (found is None or found[3] is None):
        return raw
    try:
        portal, name, formats, values, results = frontend.decode_bind(raw[5:])
    except ProtocolViolation:
        return raw
    if found is None:
        asked = [_asked(session, value) for value in values]
        return frontend.bind_message(portal, name, asked, formats, results)
    at = int(found[3]) - 1
    value = values[at] if at < len(values) else None
    if value is None:
        return raw
    binary = formats[at if len(formats) > 1 else 0] if formats else 0
    if binary:
        pid = _real(session, found[1], int.from_bytes(value, "big", signed=True))
        values[at] = pid.to_bytes(len(value), "big", signed=True)
    elif value.isdigit():
        values[at] = b"%d" % _real(session, found[1], int(value))
    return frontend.bind_message(portal, name, values, formats, results)


def _asked(session: SharedSession, value: bytes | None) -> bytes | None:
    """A bound value of a question, in text or binary format."""
    if value is not None and value.isdigit():
        return b"%d" % _now(session, int(value))
    if value is not None and len(value) == 4:
        return _now(session, int.from_bytes(value, "big")).to_bytes(4, "big")
    return value


def _now(session: Session, pid: int) -> int:
    """The pid of the server that the session of this pid has, if it has one."""
    other = session.hub.keys.holder(pid) if pid >= FIRST_INVENTED else None
    return other.server.pid if other is not None and other.server is not None else pid


def _real(sender: Session, how: bytes, pid: int) -> int:
    """The pid that Postgres is to signal in the place of this one."""
    hub = sender.hub
    victim = hub.keys.holder(pid) if pid >= FIRST_INVENTED else None
    if victim is None:
        return pid
    if victim.server is not None:
        return victim.server.pid
    spare = hub.sharing.spare_pid()
    if victim.user != sender.user or spare is None:
        return pid
    if how.lower() == b"terminate":
        hub.refuse(victim, Refusal(_ENDED, sqlstate="57P01"))
    else:
        hub.sharing.cancel_waiting(victim)
    return spare
