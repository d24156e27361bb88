"""Whose turn it is: the slots that exist, who holds them, who waits, and the order of grants.

Laws:
- Within a client first come, first served. Between clients the one goes first that holds least
  relative to its cap; among equals the one whose oldest ticket is oldest.
- T10, no deadlock between clients: whoever holds one server can always have a second. A grant is
  given only if afterwards the sum over all clients that hold any of max(held, min(cap, 2)) is at
  most the total, or if it does not raise that sum: after the total was lowered, the clients that
  lack their second get it as soon as any is free, else none of them might ever finish. With a total
  of 1 the 2 is a 1.
- A client that holds nothing may need room for two, so one free slot is kept back for it: if those
  who need only one were served past it, a busy client could make it wait for ever. If nothing has
  come back for `KEPT_BACK` seconds, the kept one is lent to whoever can use it.
- As long as slots come back, a second gives way to a client that holds nothing and came `PATIENCE`
  seconds earlier: two busy clients that always have their second would keep a third one out for
  ever. Once nothing has come back for `HURRY` seconds, it may be the second that all wait for.
- Serial: one client at a time holds slots, the next when that one holds none.
- Nobody else waits while he could be granted.

What a client's next grant adds to the sum is its need: 0 (its second), 1, or 2 (its first). Those
who wait for room stand in the line of their need, so that finding whose turn it is costs O(log n).
"""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

from pgguard.pool.lines import Line, place
from pgguard.pool.tickets import TicketState

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pgguard.pool.tickets import Share, Ticket

PATIENCE = 1.0
"""Seconds by which a client that holds nothing must have come before another one's second."""
HURRY = 1.0
"""Seconds without a single give-back after which a second gives way no more."""
KEPT_BACK = 10.0
"""Seconds without a single give-back after which the slot kept back is lent."""


class Room:
    """All slots. Whoever changes a share calls `settle` for it, and `serve` once done."""

    __slots__ = (
        "_given_back_at",
        "_lines",
        "asked_back",
        "held",
        "holding",
        "neighbours",
        "paused",
        "reserved",
        "serial",
        "total",
        "waiting",
    )

    def __init__(self, total: int | None, *, serial: bool) -> None:
        self.total = total
        """Slots; None = no limit over all clients."""
        self.serial = serial
        self.asked_back = False
        """Grant nothing until a look-up has had the only server; not a pause: clocks run on."""
        self.neighbours: list[str] = []
        """Other guards on the same Postgres, a line for each: what they hold is not to be had."""
        self.paused = False
        """Grant nothing."""
        self.held = 0
        self.reserved = 0
        """The sum of T10."""
        self.waiting: dict[Share, None] = {}
        """Shares with a queue, an ordered set."""
        self.holding: dict[Share, None] = {}
        """Shares that hold slots, an ordered set: who has held some longest comes first."""
        self._lines = (Line(), Line(), Line())
        """By need."""
        self._given_back_at = -inf

    def holders(self) -> Iterator[Ticket]:
        """All granted tickets."""
        for share in self.holding:
            yield from share.holders

    def serve(self, now: float) -> list[Ticket]:
        """Grant what can be granted."""
        granted = []
        while (share := self.next(now)) is not None:
            granted.append(self.grant(share.head, now))
        return granted

    def next(self, now: float) -> Share | None:
        """The share whose head is to be granted now."""
        if not self.waiting or self.paused or self.asked_back:
            return None
        if self.total is not None and self.held >= self.total:
            return None
        room = inf if self.total is None else self.total - self.reserved
        if self.serial and self.holding:
            turn = next(iter(self.holding))
            return turn if turn.entry is not None and turn.need <= max(room, 0) else None
        seconds, ones, twos = (line.first() for line in self._lines)
        best = min((share for share in (ones, twos) if share is not None), key=place, default=None)
        if seconds is not None and not self._gives_way(seconds, best, now):
            return seconds
        if best is None or best.need <= room:
            return best
        lent_at = self.lent_at()
        return ones if lent_at is not None and lent_at <= now else None

    def _gives_way(self, second: Share, best: Share | None, now: float) -> bool:
        """Whether a client's second waits for the first of another one."""
        if best is None or best.held or best.head.queued_at + PATIENCE > second.head.queued_at:
            return False
        return now < self._given_back_at + HURRY

    def hurry_at(self, now: float) -> float | None:
        """When a second that gives way now does so no more."""
        seconds, ones, twos = (line.first() for line in self._lines)
        best = min((share for share in (ones, twos) if share is not None), key=place, default=None)
        if seconds is None or self.serial or not self._gives_way(seconds, best, now):
            return None
        return self._given_back_at + HURRY

    def borrower(self) -> Share | None:
        """Who would use the slot that is kept back, if one is: a second that gives way, or whoever
        needs room for one more."""
        if self.total is None or self.held >= self.total or self.paused or self.serial:
            return None
        seconds, ones, _ = (line.first() for line in self._lines)
        if self.reserved >= self.total:
            ones = None
        able = (share for share in (seconds, ones) if share is not None)
        return min(able, key=place, default=None)

    def lent_at(self) -> float | None:
        """When the slot kept back goes to somebody else; None when there is none or no use."""
        twos = self._lines[2].first()
        if twos is None or self.borrower() is None:
            return None
        return max(self._given_back_at, twos.head.queued_at) + KEPT_BACK

    def grant(self, ticket: Ticket, now: float) -> Ticket:
        """Give a queued ticket a slot."""
        self.leave(ticket, TicketState.GRANTED, now)
        self._hold(ticket, now)
        self.settle(ticket.share, now)
        return ticket

    def grant_at_once(self, ticket: Ticket, now: float) -> bool:
        """Give a ticket that is in no queue a slot, if nobody waits and there is one, as nearly
        always: what `next` and `grant` would do, at a third of the price. Returns whether."""
        share, total = ticket.share, self.total
        if self.waiting or self.paused or self.asked_back or self.serial or share.held >= share.cap:
            return False
        reserve = self._reserve(share, share.held + 1)
        need = reserve - share.reserve
        if total is not None and (self.held >= total or need > max(total - self.reserved, 0)):
            return False
        ticket.move(TicketState.GRANTED)
        ticket.left_at = now
        self._hold(ticket, now)
        self.reserved += need
        share.reserve = reserve
        self.holding[share] = None
        return True

    def _hold(self, ticket: Ticket, now: float) -> None:
        share = ticket.share
        ticket.granted_at = now
        share.holders[ticket] = None
        share.held += 1
        if share.held > share.peak:
            share.peak = share.held
        self.held += 1

    def leave(self, ticket: Ticket, to: TicketState, now: float) -> None:
        """Take a ticket out of its queue."""
        ticket.move(to)
        ticket.left_at = now
        del ticket.share.queue[ticket]
        self.settle(ticket.share, now)

    def free(self, ticket: Ticket, now: float) -> None:
        """Take the slot of a ticket that was granted; its state is the caller's business."""
        share = ticket.share
        del share.holders[ticket]
        share.held -= 1
        self.held -= 1
        self._given_back_at = now
        self.settle(share, now)

    def settle(self, share: Share, now: float) -> None:
        """Make true again what follows from a share's slots, queue and limits."""
        reserve = self._reserve(share, share.held)
        self.reserved += reserve - share.reserve
        share.reserve = reserve
        if share.held:
            self.holding[share] = None
        else:
            self.holding.pop(share, None)
        if not share.queue:
            self.waiting.pop(share, None)
            share.block("", now)
            share.entry = None
            return
        self.waiting[share] = None
        capped = share.held >= share.cap
        share.block("" if self.paused else "cap" if capped else "total", now)
        if not capped:
            need = self._reserve(share, share.held + 1) - reserve
            if share.entry is None or need != share.need or share.entry[:2] != place(share):
                share.need = need
                self._lines[need].put(share)
        else:
            share.entry = None

    def _reserve(self, share: Share, held: int) -> int:
        """What a client that holds so many counts for in the sum of T10."""
        if held != 1:
            return held
        least = min(share.cap, 2) if self.total is None else min(share.cap, 2, self.total)
        return max(held, least)
