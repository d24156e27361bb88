"""Pins that may be none: judged anew by a newer catalogue, or asked of Postgres (transparency T23).

Laws: a suspicion is dropped by a catalogue alone only if no DDL was under way since its statement
was sent, for then the catalogue tells what that statement met; else Postgres is asked, and not
before the catalogue is as new as it can be, since what no check finds (a seed, a setting with a
dot) is known by the sources of functions alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from pgguard.core import defining, handover
from pgguard.core.pins import SUSPECTING, Reason
from pgguard.sql.session_effects import Kind

if TYPE_CHECKING:
    from pgguard.core.hub import Hub
    from pgguard.core.shared_server import SharedServer
    from pgguard.core.shared_session import SharedSession

_HIDDEN: Final = frozenset({Kind.SEED, Kind.SNAPSHOT})
"""What no check finds."""

EVERY: Final = 0.5
"""Seconds between two checks that nobody waits for."""


def look(server: SharedServer) -> bool:
    """Whether no pin is left by a newer catalogue; else Postgres is asked, if that decides."""
    session = server.shared
    if session.pinned and _may_check(session) and session.pinned:
        handover.check(session, server)
    return not session.pinned


def _may_check(session: SharedSession) -> bool:
    """Whether a check can tell that the session has no pins."""
    pins = session.pins
    if not session.unverified or not set(pins.reasons) <= handover.CHECKED:
        return False
    if Reason.FUNCTION not in pins.reasons:
        return True
    hub = session.hub
    judge = session.judge
    if judge is None or judge.news.known < pins.suspects.unsure:
        return bool(hub.upstream.single)
    judge_anew(session)
    return set(pins.reasons) <= handover.CHECKED


def is_due(server: SharedServer, now: float) -> bool:
    """Whether its session has been held for suspicions alone for long enough to be looked at,
    though nobody waits."""
    session = server.shared
    return session.unverified and now - server.checked_at >= EVERY


def judge_anew(session: SharedSession) -> None:
    """By the catalogue as it is now: suspicions go, and what no check finds comes to light."""
    judge, pins = session.judge, session.pins
    pin = pins.reasons.get(Reason.FUNCTION)
    if pin is None or judge is None or judge.model is None:
        return
    left = pins.suspects.only_checked
    for statement, moment, learned in pins.suspects:
        if statement.version != judge.version:
            if judge.wants_worker(statement):
                left = True
                continue
            judge.judge(statement)
        effects = statement.session
        suspect = any(kind in SUSPECTING for kind, _ in effects)
        # Of what nobody could read when it was sent, and perhaps cannot now, nothing was learned.
        suspect = suspect or not learned.issuperset(effects)
        left = left or suspect or not judge.news.quiet_since(moment)
        hidden = [effect for effect in effects if effect.kind in _HIDDEN]
        for reason in pins.brought(hidden, pin.since, pin.text):
            session.hub.sharing.pinned(session, reason)
        session.shared.may_mark(effects)
    if not left:
        pins.verified(Reason.FUNCTION)
        session.hub.sharing.unpinned(session, Reason.FUNCTION)


def catalogue_read(hub: Hub, database: str) -> None:
    """A newer catalogue is there."""
    if not hub.shares:
        return
    for one in hub.servers:
        session = cast("SharedSession | None", one.session)
        if session is None or session.server is not one:
            # Nobody has it yet.
            continue
        if one.database == database and session.pinned:
            defining.hides(session)
            judge_anew(session)
