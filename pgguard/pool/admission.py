"""Who may have a server connection at all: caps, queues, fairness, deadlines.

A session asks with `acquire` and gets a ticket, granted or queued; what it holds it gives back
once, when its server's socket has given EOF. Every call that can make room returns the tickets that
it granted, and the caller tells their sessions.

Laws:
- Within a client first come, first served. Between clients the one goes first that holds least
  relative to its cap; among equals the oldest ticket.
- T10, no deadlock between clients: whoever holds one server can always have a second. A grant is
  given only if afterwards the sum over all clients that hold any of max(held, min(cap, 2)) is at
  most the total, or if it does not raise that sum: after the total was lowered the clients that
  lack their second connection get it as soon as any is free, else nobody would ever finish. With a
  total of 1 the 2 is a 1.
- A client that holds nothing needs room for two, so one free connection is kept back for it: with
  smaller needs served past it, a busy client could make it wait for ever. If nothing at all has
  come back for `KEPT_BACK` seconds, the kept one is lent to whoever can use it.
- Nobody else waits while he could be granted; each ticket ends; what is held is never taken away.
- A total is at least 1: a server that has no room for us says so itself.

No clock and no I/O: `now` is monotonic seconds and never goes back.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from math import inf
from typing import TYPE_CHECKING

from pgguard.errors import AdmissionRefused, Draining, InternalError
from pgguard.pool import refusals, starvation
from pgguard.pool.limits import AdmissionSettings, ClientLimits, Override
from pgguard.pool.lines import Line, place
from pgguard.pool.tickets import Cause, Holder, Share, Ticket, TicketState

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "Admission",
    "AdmissionSettings",
    "ClientLimits",
    "Holder",
    "Override",
    "Share",
    "Tick",
    "Ticket",
    "TicketState",
]

KEPT_BACK = 10.0
"""Seconds without a single give-back after which the connection kept back is lent."""
NOTICE_EVERY = 5.0
"""Seconds between two notices to the same session."""


@dataclass(slots=True)
class Tick:
    """What the passing of time has brought."""

    granted: list[Ticket] = field(default_factory=list)
    refused: list[tuple[Ticket, AdmissionRefused]] = field(default_factory=list)
    notices: list[tuple[Ticket, str]] = field(default_factory=list)


class Admission:
    """Tickets and shares of all clients. `total` None = no limit over all clients."""

    def __init__(self, settings: AdmissionSettings, total: int | None) -> None:
        self.settings = settings
        self.shares: dict[str, Share] = {}
        self.held = 0
        """Granted and not given back, over all clients."""
        self.reserved = 0
        """The sum of T10."""
        self.paused = False
        self.draining = False
        self._total = _sane(total)
        self._waiting: dict[Share, None] = {}
        self._holding: dict[Share, None] = {}
        self._seconds, self._ones, self._twos = Line(), Line(), Line()
        self._lines = (self._seconds, self._ones, self._twos)
        self._notices: list[tuple[float, int, Ticket]] = []
        self._seq = count()
        self._given_back_at = -inf
        self._watch_at = -inf
        self._now = 0.0

    @property
    def total(self) -> int | None:
        return self._total

    # Clients and their sessions

    def share(self, name: str) -> Share:
        """The client's share, made on first use."""
        share = self.shares.get(name)
        if share is None:
            share = self.shares[name] = Share(name, self.settings.limits_for(name))
        return share

    def forget(self, name: str) -> bool:
        """Drop a client's share if nothing is left of it, and say whether it was dropped."""
        share = self.shares.get(name)
        if share is None or share.sessions or share.held or share.queue:
            return False
        del self.shares[name]
        return True

    def open_session(self, share: Share) -> None:
        """Count a frontend session. Raises AdmissionRefused at max_sessions."""
        limit = share.limits.max_sessions
        if limit is not None and share.sessions >= limit:
            raise refusals.too_many_sessions(share, limit)
        share.sessions += 1

    def close_session(self, share: Share) -> None:
        if share.sessions == 0:
            raise InternalError(f"{share!r} has no session to close")
        share.sessions -= 1

    def lower_cap(
        self, share: Share, connection_limit: int | None, pool_timeout: float | None
    ) -> None:
        """Apply what a session asked for about its client; the smallest of all such wishes counts.

        Room that this makes for others is given out by the next call that grants.
        """
        share.absorbed = _smallest(share.absorbed, (connection_limit, pool_timeout))
        share.limits = share.limits.lowered(*share.absorbed)
        self._settle(share, self._now)

    # Slots

    def acquire(self, share: Share, holder: Holder, now: float) -> Ticket:
        """A ticket for a server, GRANTED or QUEUED.

        Raises AdmissionRefused when the queue is full and Draining when pgguard is stopping.
        """
        if self.draining:
            raise refusals.draining()
        self._now = now
        ticket = Ticket(share, holder, next(self._seq), now)
        share.queue[ticket] = None
        self._settle(share, now)
        if self._next(now) is share and share.head is ticket:
            return self._grant(share, now)
        limit = share.limits.max_waiting
        if limit is not None and share.waiting > limit:
            self._leave(ticket, TicketState.REFUSED, now)
            raise refusals.queue_full(share, limit)
        if self.settings.notice_after is not None:
            self._notify_at(ticket, now + self.settings.notice_after)
        return ticket

    def give_back(self, ticket: Ticket, now: float) -> list[Ticket]:
        """A slot is free again: its server's socket gave EOF, or the dial failed.

        Returns the tickets granted by it. Raises InternalError unless the ticket holds a slot.
        """
        ticket.move(TicketState.DONE)
        self._free(ticket)
        self._settle(ticket.share, now)
        return self._serve(now)

    def abandon(self, ticket: Ticket, now: float) -> list[Ticket]:
        """A queued ticket's client is gone. Returns the tickets granted by it.

        Raises InternalError unless the ticket is queued.
        """
        self._leave(ticket, TicketState.ABANDONED, now)
        return self._serve(now)

    def requeue(self, ticket: Ticket, now: float) -> list[Ticket]:
        """Postgres refused (53300) what we had granted: wait again, with the age it has (T12).

        The caller lowers the total first, or the ticket may be among those returned.
        """
        ticket.move(TicketState.QUEUED)
        self._free(ticket)
        ticket.granted_at = ticket.left_at = None
        ticket.share.put_back(ticket)
        if self.settings.notice_after is not None:
            self._notify_at(ticket, max(now, ticket.queued_at + self.settings.notice_after))
        self._settle(ticket.share, now)
        return self._serve(now)

    # What applies to all

    def set_total(self, total: int | None, now: float) -> list[Ticket]:
        """Change the limit over all clients; what is held above it stays until given back."""
        self._total = _sane(total)
        self._settle_all(now)
        return self._serve(now)

    def reconfigure(self, settings: AdmissionSettings, now: float) -> list[Ticket]:
        """Take new settings; nobody is dropped, and what clients asked for still lowers."""
        self.settings = settings
        for share in self.shares.values():
            share.limits = settings.limits_for(share.name).lowered(*share.absorbed)
        self._settle_all(now)
        return self._serve(now)

    def pause(self) -> None:
        """Grant nothing from now on; clocks stand still meanwhile."""
        self.paused = True
        self._settle_all(self._now)

    def resume(self, now: float) -> list[Ticket]:
        self.paused = False
        self._settle_all(now)
        return self._serve(now)

    def drain(self, now: float) -> list[tuple[Ticket, Draining]]:
        """Refuse everybody who waits, and whoever comes from now on."""
        self.draining = True
        refused = []
        for share in list(self._waiting):
            while share.queue:
                ticket = share.head
                self._leave(ticket, TicketState.REFUSED, now)
                refused.append((ticket, refusals.draining()))
        return refused

    # Time

    def tick(self, now: float) -> Tick:
        """Deadlines, self-starvation and notices that are due; call it every 100 ms or so."""
        tick = Tick(granted=self._serve(now))
        self._expire(now, tick)
        if self.settings.on_self_starvation == "refuse":
            self._refuse_starving(now, tick)
        tick.granted += self._serve(now)
        self._give_notice(now, tick)
        return tick

    def next_deadline(self) -> float | None:
        """When `tick` has something to do at the latest; None when nobody waits."""
        if not self._waiting:
            return None
        total_timeout = self.settings.total_timeout
        when = min(share.deadline(total_timeout) for share in self._waiting)
        if self.settings.on_self_starvation == "refuse":
            when = min(when, self._watch_at, *(s.watch_at for s in self._waiting))
        if self._notices:
            when = min(when, self._notices[0][0])
        twos = self._twos.first()
        if twos is not None and self._ones.first() is not None:
            when = min(when, self._lent_at(twos))
        return max(when, self._now)

    # The order

    def _next(self, now: float) -> Share | None:
        """Whose head is to be granted now."""
        if self.paused or self.draining or (self._total is not None and self.held >= self._total):
            return None
        room = inf if self._total is None else self._total - self.reserved
        if self.settings.serial and self._holding:
            turn = next(iter(self._holding))
            return turn if turn.entry is not None and (not turn.need or turn.need <= room) else None
        seconds = self._seconds.first()
        if seconds is not None:
            return seconds
        ones, twos = self._ones.first(), self._twos.first()
        best = min((s for s in (ones, twos) if s is not None), key=place, default=None)
        if best is None or best.need <= room:
            return best
        if ones is not None and twos is not None and room >= 1 and now >= self._lent_at(twos):
            return ones
        return None

    def _lent_at(self, twos: Share) -> float:
        """When the connection kept back for this client may go to others."""
        return max(self._given_back_at, twos.head.queued_at) + KEPT_BACK

    def _serve(self, now: float) -> list[Ticket]:
        self._now = now
        granted = []
        while (share := self._next(now)) is not None:
            granted.append(self._grant(share, now))
        return granted

    def _grant(self, share: Share, now: float) -> Ticket:
        ticket = share.head
        self._leave(ticket, TicketState.GRANTED, now)
        ticket.granted_at = now
        share.holders[ticket] = None
        share.held += 1
        share.peak = max(share.peak, share.held)
        self.held += 1
        self._settle(share, now)
        return ticket

    def _leave(self, ticket: Ticket, to: TicketState, now: float) -> None:
        """Take a ticket out of its queue."""
        ticket.move(to)
        ticket.left_at = now
        share = ticket.share
        del share.queue[ticket]
        self._settle(share, now)

    def _free(self, ticket: Ticket) -> None:
        share = ticket.share
        del share.holders[ticket]
        share.held -= 1
        self.held -= 1
        self._given_back_at = self._now

    def _settle(self, share: Share, now: float) -> None:
        """Make everything that is derived of a share true again."""
        weight = self._weight(share, share.held)
        self.reserved += weight - share.reserve
        share.reserve = weight
        if share.held:
            self._holding[share] = None
        else:
            self._holding.pop(share, None)
        if not share.queue:
            self._waiting.pop(share, None)
            share.block("", now)
            share.entry = None
            return
        self._waiting[share] = None
        blocked: Cause = "cap" if share.held >= share.cap else "total"
        share.block("" if self.paused else blocked, now)
        if blocked == "cap":
            share.entry = None
            return
        share.need = self._weight(share, share.held + 1) - weight
        self._lines[share.need].put(share)

    def _settle_all(self, now: float) -> None:
        self._now = now
        for share in self.shares.values():
            self._settle(share, now)

    def _weight(self, share: Share, held: int) -> int:
        """What a client that holds so many counts for in the sum of T10."""
        if not held:
            return 0
        least = min(share.cap, 2) if self._total is None else min(share.cap, 2, self._total)
        return max(held, least)

    # What time brings

    def _expire(self, now: float, tick: Tick) -> None:
        total_timeout = self.settings.total_timeout
        for share in list(self._waiting):
            lines: list[str] = []
            while share.queue and share.deadline(total_timeout) <= now:
                ticket, cause = share.head, share.blocked_by
                if cause == "cap":
                    lines = lines or refusals.described(share.holders, share.held, now)
                    refusal = refusals.cap_reached(ticket, lines, now)
                else:
                    lines = lines or refusals.described(self._all_holders(), self.held, now)
                    refusal = refusals.total_reached(
                        ticket, self.held, lines, now, serial=self.settings.serial
                    )
                self._leave(ticket, TicketState.EXPIRED, now)
                tick.refused.append((ticket, refusal))

    def _refuse_starving(self, now: float, tick: Tick) -> None:
        after = self.settings.self_starvation_after
        for share in [s for s in self._waiting if s.blocked_by == "cap" and s.watch_at <= now]:
            starving, share.watch_at = starvation.look(
                share.holders, share.head.queued_at, after, now
            )
            if starving:
                self._refuse_self(share, now, tick)
        self._refuse_deadlocked(now, tick)

    def _refuse_self(self, share: Share, now: float, tick: Tick) -> None:
        ticket = share.newest
        lines = refusals.described(share.holders, share.held, now)
        refusal = refusals.self_starvation(ticket, lines, now)
        self._leave(ticket, TicketState.REFUSED, now)
        tick.refused.append((ticket, refusal))

    def _refuse_deadlocked(self, now: float, tick: Tick) -> None:
        """Total starvation: every client that holds servers waits for more, and all are stuck.

        A client that does not wait can still finish, however slow, so nobody is refused then.
        """
        if self._watch_at > now or not self._holding:
            return
        blocked = [share for share in self._holding if share.blocked_by == "total"]
        if not blocked or not all(share.queue for share in self._holding):
            return
        starving, self._watch_at = starvation.look(
            self._all_holders(),
            min(share.head.queued_at for share in blocked),
            self.settings.self_starvation_after,
            now,
        )
        if not starving:
            return
        ones = self._ones.first()
        if ones is not None and (self._total is None or self.reserved < self._total):
            tick.granted.append(self._grant(ones, now))
            return
        share = max(blocked, key=lambda share: share.newest.seq)
        if share.held == self.held:
            self._refuse_self(share, now, tick)
            return
        ticket = share.newest
        lines = refusals.described(self._all_holders(), self.held, now)
        refusal = refusals.total_starvation(ticket, self.held, lines, now)
        self._leave(ticket, TicketState.REFUSED, now)
        tick.refused.append((ticket, refusal))

    def _give_notice(self, now: float, tick: Tick) -> None:
        due: dict[Share, list[Ticket]] = {}
        while self._notices and self._notices[0][0] <= now:
            at, _, ticket = heappop(self._notices)
            if ticket.state is TicketState.QUEUED and ticket.next_notice == at:
                due.setdefault(ticket.share, []).append(ticket)
                self._notify_at(ticket, now + NOTICE_EVERY)
        for share, tickets in due.items():
            own = share.blocked_by == "cap"
            holders = share.holders if own else self._all_holders()
            held = share.held if own else self.held
            lines = refusals.described(holders, held, now, refusals.NOTICE_HOLDERS)
            position = {ticket: place for place, ticket in enumerate(share.queue, 1)}
            for ticket in tickets:
                text = refusals.notice(
                    ticket, position[ticket], self.held, lines, now, serial=self.settings.serial
                )
                tick.notices.append((ticket, text))

    def _notify_at(self, ticket: Ticket, when: float) -> None:
        ticket.next_notice = when
        heappush(self._notices, (when, ticket.seq, ticket))

    def _all_holders(self) -> Iterator[Ticket]:
        for share in self._holding:
            yield from share.holders


def _sane(total: int | None) -> int | None:
    return None if total is None else max(total, 1)


def _smallest(
    one: tuple[int | None, float | None], other: tuple[int | None, float | None]
) -> tuple[int | None, float | None]:
    caps = [cap for cap in (one[0], other[0]) if cap is not None and cap >= 1]
    timeouts = [timeout for timeout in (one[1], other[1]) if timeout is not None and timeout > 0]
    return min(caps, default=None), min(timeouts, default=None)
