"""Statements that name a pid which we have invented, to signal a backend, or to ask what it does
and whom it waits for (transparency T28).

Where servers are shared a client is told a pid that no backend has. In a statement that means
one, the pid is replaced by that of the server which the session has now, so that Postgres does it,
judges who may, and answers. A session that needs no server now is ended, or its waiting cancelled,
by us, and the call gets an answer beside it, under its own name:

    SELECT pg_terminate_backend(4194310)
    SELECT CASE WHEN true THEN true ELSE pg_terminate_backend(4194310) END

Laws: that is done only for whom Postgres would let do it; a server stays its session's until
the statement that signals it is over; what means no session of ours goes as it is.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, cast

from pgguard.core.cancel import FIRST_INVENTED
from pgguard.core.pins import Reason
from pgguard.errors import ProtocolViolation, Refusal
from pgguard.wire import frontend

if TYPE_CHECKING:
    from pgguard.core.session import Session
    from pgguard.core.shared_server import SharedServer
    from pgguard.core.shared_session import SharedSession

_CALL = re.compile(
    rb"(?i)(?<![\w.$])(?:pg_catalog\s*\.\s*)?pg_(?P<how>terminate|cancel)_backend\s*\(\s*"
    rb"(?P<argument>(?:(?P<pid>\d{7,10})\b|\$(?P<place>\d{1,3})\b)"
    rb"(?:\s*::\s*int(?:eger|4)?\b)?)(?P<rest>\s*(?:,\s*\d{1,9}\s*)?\))?"
)
_ASKS = re.compile(
    rb"(?i)\bpg_(?:(?:(?:safe_snapshot_)?blocking_pids|isolation_test_session_is_blocked"
    rb"|log_backend_memory_contexts|stat_get_backend_(?:io|wal)|stat_reset_backend_stats)\s*\("
    rb"|stat_(?:(?:get_)?activity|gssapi|ssl)\b|locks\b)"
)
_PID = re.compile(rb"(?<![\w.])\d{7,10}(?![\w.])")
_NOT_PLAIN = re.compile(
    rb"(?i)\$\$|\$[a-z_\x80-\xff][\w\x80-\xff]*\$|[\"\\]|--|/\*|\b(?:from|join|lateral|call|rows)\b"
)
"""In front of a call: it may stand in a string, or where no expression can."""

DONE = FIRST_INVENTED - 1
"""Bound in the place of the pid of a session that was dealt with: the pid of nobody."""
_ENDED = "terminating connection due to administrator command"


def in_text(session: SharedSession, text: bytes) -> bytes:
    """The text, with pids that exist in the place of those that we have invented."""

    places = _Places(text)

    def real(found: re.Match[bytes]) -> bytes:
        call = found[0]
        answers = places.answers(found)
        if found["place"]:
            return _answered(call, b"%b = %d" % (found["argument"], DONE)) if answers else call
        pid = _real(session, found["how"], int(found["pid"]), answers=answers)
        if pid is None:
            return _answered(call, b"true")
        start, end = (at - found.start() for at in found.span("pid"))
        return call[:start] + b"%d" % pid + call[end:]

    text = _CALL.sub(real, text)
    if _ASKS.search(text):
        text = _PID.sub(lambda found: b"%d" % _now(session, int(found[0])), text)
    return text


def _answered(call: bytes, condition: bytes) -> bytes:
    """The call, or true under its name: a CASE is named by what stands behind ELSE."""
    return b"CASE WHEN %b THEN true ELSE %b END" % (condition, call)


class _Places:
    """What stands in front of the calls in a text, asked in their order; read once."""

    __slots__ = ("_at", "_odd", "_plain", "_text")

    def __init__(self, text: bytes) -> None:
        found = _NOT_PLAIN.search(text)
        self._text = text
        self._plain = len(text) if found is None else found.start()
        self._at = self._odd = 0

    def answers(self, call: re.Match[bytes]) -> bool:
        """Whether the call is whole, and sure to be an expression."""
        before, self._at = self._at, call.start()
        self._odd ^= self._text.count(b"'", before, self._at) & 1
        return call["rest"] is not None and not self._odd and self._at <= self._plain


def in_bind(session: SharedSession, text: bytes, raw: bytes) -> bytes:
    """The same of a Bind of the text, whose parameter may be the pid; `text` is the client's."""
    found = _CALL.search(text)
    asks = found is None and _ASKS.search(text)
    if not asks and (found is None or found["place"] is None):
        return raw
    try:
        portal, name, formats, values, results = frontend.decode_bind(raw[5:])
    except ProtocolViolation:
        return raw
    if found is None:
        asked = [_asked(session, value) for value in values]
        return frontend.bind_message(portal, name, asked, formats, results)
    at = int(found["place"]) - 1
    value = values[at] if at < len(values) else None
    if value is None:
        return raw
    answers = _Places(text).answers(found)
    binary = formats[at if len(formats) > 1 else 0] if formats else 0
    if binary:
        told = int.from_bytes(value, "big", signed=True)
        pid = _bound(session, found["how"], told, answers=answers)
        values[at] = pid.to_bytes(len(value), "big", signed=True)
    elif value.isdigit():
        values[at] = b"%d" % _bound(session, found["how"], int(value), answers=answers)
    return frontend.bind_message(portal, name, values, formats, results)


def _asked(session: SharedSession, value: bytes | None) -> bytes | None:
    """A bound value of a question, in text or binary format."""
    if value is not None and value.isdigit():
        return b"%d" % _now(session, int(value))
    if value is not None and len(value) == 4:
        return _now(session, int.from_bytes(value, "big")).to_bytes(4, "big")
    return value


def _now(session: Session, pid: int) -> int:
    """The pid of the server that the session of this pid has, or of one that is at rest as it is:
    who waits until a session is idle must find it, and who waits for its end must not yet."""
    hub = session.hub
    other = cast("SharedSession | None", hub.keys.holder(pid)) if pid >= FIRST_INVENTED else None
    if other is None:
        return pid
    return other.server.pid if other.server is not None else hub.sharing.pid_at_rest(other) or pid


def _bound(sender: SharedSession, how: bytes, pid: int, *, answers: bool) -> int:
    """The pid to bind in the place of this one, perhaps DONE."""
    if pid == DONE:
        # It is nobody's, and is not to mean that somebody was dealt with.
        return -1
    real = _real(sender, how, pid, answers=answers)
    return DONE if real is None else real


def _real(sender: SharedSession, how: bytes, pid: int, *, answers: bool) -> int | None:
    """The pid that Postgres is to signal in the place of this one; None if we have done it, which
    is only where the statement `answers` for itself."""
    hub = sender.hub
    victim = cast("SharedSession | None", hub.keys.holder(pid)) if pid >= FIRST_INVENTED else None
    if victim is None:
        return pid
    server = victim.server
    if server is not None and not (answers and hub.sharing.rests(victim) and _may(sender, victim)):
        _keep(sender, server)
        return server.pid
    if not _may(sender, victim):
        return pid
    spare = None if answers else hub.sharing.spare_pid()
    if spare is None and not answers:
        return pid
    if how.lower() == b"terminate":
        hub.refuse(victim, Refusal(_ENDED, sqlstate="57P01"))
    else:
        hub.sharing.cancel_waiting(victim)
    return spare


def _keep(sender: SharedSession, server: SharedServer) -> None:
    """It stays its session's until the statement that signals it is over, or the signal might hit
    the next one."""
    if sender.server is not None and server is not sender.server:
        server.cancels += 1
        sender.server.signalled.append(server)


def let_go(sender: SharedServer) -> None:
    """What was sent on it is answered: those that it has signalled may go to others."""
    kept, sender.signalled = sender.signalled, []
    for server in kept:
        sender.hub.cancel_sent(server)


def _may(sender: SharedSession, victim: SharedSession) -> bool:
    """Whether Postgres would let it, as far as we know: it is sure of superusers, and of those who
    are the same role; what else membership allows it does not tell."""
    if sender.server is None or sender.server.status == "E" or sender is victim:
        return False
    if sender.told.get("is_superuser") == "on":
        return True
    return victim.user == sender.user and Reason.ROLE not in sender.pins.reasons
