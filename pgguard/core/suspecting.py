"""Why a session is suspected to have changed, and since when it is not known better.

Laws: a suspicion says whether a newer catalogue can tell more of it, and waits for one that is read
afterwards if it is about what the catalogue did not know (transparency T23).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgguard.core.pins import SUSPECTING, Reason
from pgguard.sql.session_effects import Kind

if TYPE_CHECKING:
    from pgguard.core.shared_session import SharedSession
    from pgguard.sql.session_effects import Effect
    from pgguard.sql.statement import Statement


def suspect(session: SharedSession, why: str) -> None:
    """What it has under way may change the session: only a check can tell."""
    session.pin(Reason.FUNCTION, why)
    session.pins.suspects.add(None)
    session.unverified = True


def suspected(
    session: SharedSession, statement: Statement | None, effects: tuple[Effect, ...]
) -> None:
    """A statement with these effects is being sent; None = it has no text."""
    kinds = {kind for kind, _ in effects}
    if not kinds & SUSPECTING or session.judge is None:
        return
    news, suspects = session.judge.news, session.pins.suspects
    suspects.add(statement, news.moment, effects)
    if Kind.UNKNOWN in kinds:
        suspects.unsure = news.asks()
        session.hub.net.read_catalogue(session.database, soon=True)
