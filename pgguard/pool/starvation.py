"""Self-starvation: sessions that wait for servers which only they themselves could give back (T11).

Laws: it is a state that lasts, never an instant; a group of holders is looked at only when the
state can have lasted long enough, so a look at all of them is rare; whoever was seen not stuck at
some time counts as stuck from then on at the earliest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pgguard.pool.room import Room
    from pgguard.pool.tickets import Share, Ticket

PACE = 0.5
"""Seconds between two refusals while the state lasts: time for the client to react."""


def look(
    holders: Iterable[Ticket],
    waiting_since: float,
    after: float,
    now: float,
    *,
    everybody: bool = False,
) -> tuple[bool, float]:
    """Whether all these holders have kept a queue waiting for `after` seconds, and when to look
    again. `waiting_since` is when the oldest ticket of that queue came; `everybody`: the holders
    are those of all clients, and may wait for each other's locks."""
    since = waiting_since
    for ticket in holders:
        stuck = ticket.holder.stuck_since(everybody=everybody)
        if stuck is None:
            return False, now + max(after, PACE)
        since = max(since, stuck)
    if now < since + after:
        return False, since + after
    return True, now + PACE


def deadlocked(room: Room) -> list[Share]:
    """The clients that wait for each other if all holders are stuck: total starvation.

    Only when every client that holds servers waits for more, or for a lock with all of them: any
    other can still finish, however slow it is, and to refuse others would not help it.
    """
    shares = [share for share in room.holding if share.blocked_by == "total"]
    return shares if shares and all(map(_waits, room.holding)) else []


def _waits(share: Share) -> bool:
    return bool(share.queue) or all(ticket.holder.is_blocked() for ticket in share.holders)
