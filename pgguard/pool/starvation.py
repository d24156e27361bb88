"""Self-starvation: sessions that wait for servers which only they themselves could give back (T11).

Laws: it is a state that lasts, never an instant; a group of holders is looked at only when the
state can have lasted long enough, so a look at all of them is rare; whoever was seen not stuck at
some time counts as stuck from then on at the earliest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pgguard.pool.tickets import Ticket

PACE = 0.5
"""Seconds between two refusals while the state lasts: time for the client to react."""


def look(
    holders: Iterable[Ticket], waiting_since: float, after: float, now: float
) -> tuple[bool, float]:
    """Whether these holders have kept their clients waiting for `after` seconds, and when to look
    again. `waiting_since` is when the oldest waiter came."""
    since = waiting_since
    for ticket in holders:
        stuck = ticket.holder.stuck_since()
        if stuck is None:
            return False, now + max(after, PACE)
        since = max(since, stuck)
    if now < since + after:
        return False, since + after
    return True, now + PACE
