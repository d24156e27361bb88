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
    "on the first: commit before, use one connection, or raise limits.connection_limit.",
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


def cap_reached(ticket: Ticket, lines: list[str], now: float) -> AdmissionRefused:
    return _refused(
        "PGG301", "cap", f"{_cap(ticket.share)}; {_waited(ticket, now)}", ticket, lines, now
    )


def total_reached(
    ticket: Ticket, total: int, lines: list[str], now: float, *, serial: bool
) -> AdmissionRefused:
    text = f"{_total(ticket.share, total, serial=serial)}; {_waited(ticket, now)}"
    return _refused("PGG302", "total", text, ticket, lines, now)


def self_starvation(ticket: Ticket, lines: list[str], now: float) -> AdmissionRefused:
    share = ticket.share
    text = (
        f"pgguard: {_client(share)} waits for itself: its {_servers(share.held)} are all held by "
        "its own silent sessions"
    )
    return _refused("PGG303", "self_starvation", text, ticket, lines, now)


def total_starvation(ticket: Ticket, held: int, lines: list[str], now: float) -> AdmissionRefused:
    share = ticket.share
    text = (
        f"pgguard: clients wait for each other: all {_servers(held)} are held by their own silent "
        f"sessions; {_client(share)} holds {share.held} of its {share.cap}"
    )
    return _refused("PGG303", "self_starvation", text, ticket, lines, now)


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


def notice(
    ticket: Ticket, position: int, total: int, lines: list[str], now: float, *, serial: bool
) -> str:
    """What a waiting session hears; `lines` are holders, `position` counts from 1."""
    share = ticket.share
    if share.blocked_by == "cap":
        why = _cap(share)
    elif share.blocked_by == "total":
        why = _total(share, total, serial=serial)
    else:
        why = "pgguard: new server connections are paused"
    held = f"; held by: {'; '.join(lines)}" if lines else ""
    return f"{why}; {_waited(ticket, now)}, position {position} of {share.waiting}{held}"


def _refused(
    code: str, reason: str, message: str, ticket: Ticket, lines: list[str], now: float
) -> AdmissionRefused:
    cap, total = ticket.waited_for(now)
    both = (
        [f"waited {cap:.1f} s for its own cap and {total:.1f} s for others"]
        if cap and total
        else []
    )
    return AdmissionRefused(
        message,
        code=code,
        reason=reason,
        detail="\n".join(both + lines),
        hint=_hint(code),
        holders=lines,
        waited=ticket.waited(now),
    )


def _client(share: Share) -> str:
    return f'client "{plain(share.name)}"'


def _servers(number: int) -> str:
    return f"{number} server connection{'' if number == 1 else 's'}"


def _cap(share: Share) -> str:
    return (
        f"pgguard: {_client(share)} already uses its {_servers(share.cap)} "
        "(limits.connection_limit)"
    )


def _total(share: Share, total: int, *, serial: bool) -> str:
    holds = f"{_client(share)} holds {share.held} of its {share.cap}"
    if serial:
        return f"pgguard: one client at a time has server connections (limits.serial); {holds}"
    return f"pgguard: all {_servers(total)} are in use (limits.total); {holds}"


def _waited(ticket: Ticket, now: float) -> str:
    return f"waited {ticket.waited(now):.1f} s"


def _hint(code: str) -> str:
    return f"{_HINTS[code]} See: pgguard explain {code}"
