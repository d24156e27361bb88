"""What a session is told when it must wait or is refused (surface.md, "What a session can get").

Laws: plain ASCII, because a session may be told before its encoding is settled; at most `LINES`
holders; every refusal names its remedy and the page that explains it.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from pgguard.errors import AdmissionRefused, Draining

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pgguard.pool.room import Room
    from pgguard.pool.tickets import Share, Ticket

LINES = 20
"""Holders that a DETAIL lists."""
NOTICE_HOLDERS = 3
"""Holders that a NOTICE names."""
_LINE = 400
"""Characters of one holder."""

_HINTS = {
    "PGG301": "Let this client close sessions that it has done with or keep a smaller pool, or "
    "raise limits.connection_limit.",
    "PGG302": "Let clients close sessions that they have done with, lower limits.connection_limit "
    "so that more clients fit, or raise max_connections and limits.total.",
    "PGG303": "A session must not wait for a second connection while it keeps a transaction open "
    "on the first, or what else keeps its server: end that before, use one connection, or raise "
    "limits.connection_limit.",
}


def plain(text: str) -> str:
    """The text in printable ASCII, the rest escaped."""
    return "".join(
        c if " " <= c <= "~" else c.encode("unicode_escape", "surrogatepass").decode() for c in text
    )


def described(holders: Iterable[Ticket], count: int, now: float, limit: int = LINES) -> list[str]:
    """One line for each of the first `limit` holders, and one that says how many more there are."""
    lines = [plain(ticket.holder.describe(now))[:_LINE] for ticket in islice(holders, limit)]
    if count > limit:
        lines.append(f"and {count - limit} more")
    return lines


def cap_reached(ticket: Ticket, holders: list[str], now: float) -> AdmissionRefused:
    text = f"{_cap(ticket.share)}; {_waited(ticket, now)}"
    return _refused("PGG301", "cap", text, _split(ticket, now), ticket, holders, now)


def total_reached(ticket: Ticket, room: Room, holders: list[str], now: float) -> AdmissionRefused:
    text = f"{_total(ticket.share, room)}; {_waited(ticket, now)}"
    why = _split(ticket, now) + _kept(room)
    return _refused("PGG302", "total", text, why, ticket, _beside(room) + holders, now)


def none_left(share: Share, room: Room, waited: float) -> AdmissionRefused:
    """Postgres has no slot although we may have one: another guard is about to give it up."""
    text = f"pgguard: Postgres has no connection left for {_client(share)}"
    return AdmissionRefused(
        f"{text}; waited {waited:.1f} s",
        code="PGG302",
        reason="total",
        detail="\n".join(_beside(room)),
        hint=_hint("PGG302"),
        holders=_beside(room),
        waited=waited,
    )


def self_starvation(ticket: Ticket, holders: list[str], now: float) -> AdmissionRefused:
    share = ticket.share
    text = (
        f"pgguard: {_client(share)} waits for itself: its {_servers(share.held)} "
        f"{'is' if share.held == 1 else 'are all'} held by its own silent sessions"
    )
    return _refused("PGG303", "self_starvation", text, [], ticket, holders, now)


def total_starvation(
    ticket: Ticket, room: Room, holders: list[str], now: float
) -> AdmissionRefused:
    share = ticket.share
    text = (
        f"pgguard: clients wait for each other: all {_servers(room.held)} in use are held by their "
        f"silent sessions; {_client(share)} holds {share.held} of its {share.cap}"
    )
    everybody = _beside(room) + holders
    return _refused("PGG303", "self_starvation", text, _kept(room), ticket, everybody, now)


def queue_full(share: Share, limit: int) -> AdmissionRefused:
    return AdmissionRefused(
        f"pgguard: {_client(share)} already has {limit} sessions waiting (limits.max_waiting)",
        code="PGG301",
        reason="max_waiting",
        hint=_hint("PGG301"),
    )


def too_many_sessions(share: Share, limit: int) -> AdmissionRefused:
    return AdmissionRefused(
        f"pgguard: {_client(share)} already has {limit} sessions (limits.max_sessions)",
        code="PGG301",
        reason="max_sessions",
        hint=_hint("PGG301"),
    )


def draining() -> Draining:
    return Draining(
        "pgguard: shutting down",
        sqlstate="57P01",
        hint="Connect again once pgguard has been started again.",
    )


def notice(ticket: Ticket, position: int, room: Room, holders: list[str], now: float) -> str:
    """What a waiting session hears; `position` in its client's queue counts from 1."""
    share = ticket.share
    if share.blocked_by == "cap":
        why = _cap(share)
    elif share.blocked_by == "total":
        why = _total(share, room)
    else:
        why = "pgguard: new server connections are paused"
    held = f"; held by: {'; '.join(holders)}" if holders else ""
    return f"{why}; {_waited(ticket, now)}, position {position} of {share.waiting}{held}"


def _refused(
    code: str,
    reason: str,
    message: str,
    why: list[str],
    ticket: Ticket,
    holders: list[str],
    now: float,
) -> AdmissionRefused:
    return AdmissionRefused(
        message,
        code=code,
        reason=reason,
        detail="\n".join(why + holders),
        hint=_hint(code),
        holders=holders,
        waited=ticket.waited(now),
    )


def _split(ticket: Ticket, now: float) -> list[str]:
    """Both waits of a ticket that has had both."""
    cap, total = ticket.waited_for(now)
    if not (cap and total):
        return []
    return [f"Waited {cap:.1f} s because of its own cap and {total:.1f} s because of others."]


def _beside(room: Room) -> list[str]:
    return [plain(line)[:_LINE] for line in room.neighbours]


def _kept(room: Room) -> list[str]:
    """Why slots are free and yet nobody gets them (T10)."""
    if room.total is None or room.serial or room.held >= room.total:
        return []
    kept = room.total - room.held
    return [f"{kept} of them kept, so that each client that holds one can have a second."]


def _client(share: Share) -> str:
    return f'client "{plain(share.name)}"'


def _servers(number: int) -> str:
    return f"{number} server connection{'' if number == 1 else 's'}"


def _cap(share: Share) -> str:
    return (
        f"pgguard: {_client(share)} already uses its {_servers(share.cap)} "
        "(limits.connection_limit)"
    )


def _total(share: Share, room: Room) -> str:
    holds = f"{_client(share)} holds {share.held} of its {share.cap}"
    if room.serial:
        return f"pgguard: one client at a time has server connections (limits.serial); {holds}"
    slots = max(room.held, room.total or 0)
    return f"pgguard: all {_servers(slots)} are in use (limits.total); {holds}"


def _waited(ticket: Ticket, now: float) -> str:
    return f"waited {ticket.waited(now):.1f} s"


def _hint(code: str) -> str:
    return f"{_HINTS[code]} See: pgguard explain {code}"
