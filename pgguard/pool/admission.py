"""Who may have a server connection at all: caps, queues, deadlines.

A session asks with `acquire` and gets a ticket, granted or queued; what it holds it gives back
once, when its server's socket has given EOF. Every call that can make room returns the tickets that
it granted, and the caller tells their sessions.

Laws: the order of grants is `room`'s. Each ticket ends: granted and given back, expired, abandoned
or refused. What is held is never taken away, whatever is lowered. `pool_timeout` runs while the
client's own cap blocks a ticket, `total_timeout` while others do, neither while admission is
paused. A total is at least 1: a server that has no room for us says so itself. No clock and no I/O:
`now` is monotonic seconds and never goes back.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from itertools import count
from math import inf
from typing import TYPE_CHECKING

from pgguard.errors import InternalError, Refusal
from pgguard.pool import refusals, starvation
from pgguard.pool.limits import AdmissionSettings, ClientLimits, Override
from pgguard.pool.room import Room
from pgguard.pool.tickets import Holder, Share, Ticket, TicketState, Wish

if TYPE_CHECKING:
    from pgguard.errors import AdmissionRefused, Draining

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

NOTICE_EVERY = 5.0
"""Seconds between two notices to the same session."""
SPARE_NOTICES = 64
"""Notices that may be kept of those who wait no more."""


@dataclass(slots=True)
class Tick:
    """What the passing of time has brought."""

    granted: list[Ticket] = field(default_factory=list)
    refused: list[tuple[Ticket, Refusal]] = field(default_factory=list)
    notices: list[tuple[Ticket, str]] = field(default_factory=list)


class Admission:
    """Tickets and shares of all clients. `total` None = no limit over all clients."""

    def __init__(self, settings: AdmissionSettings, total: int | None) -> None:
        self.settings = settings
        self.shares: dict[str, Share] = {}
        self.draining = False
        self._room = Room(_sane(total), serial=settings.serial)
        self.waiting = self._room.waiting
        """The shares of which somebody waits for a server; always the same object."""
        self._notices: list[tuple[float, int, Ticket]] = []
        self._most_notices = SPARE_NOTICES
        self._seq = count()
        self._watch_at = -inf
        self._now = 0.0

    @property
    def held(self) -> int:
        """Granted and not given back, over all clients."""
        return self._room.held

    def heads(self) -> list[Ticket]:
        """The first of each client's queue."""
        return [share.head for share in self._room.waiting]

    @property
    def total(self) -> int | None:
        return self._room.total

    @property
    def neighbours(self) -> list[str]:
        """Lines about other guards on the same Postgres, for those who are refused."""
        return self._room.neighbours

    @neighbours.setter
    def neighbours(self, lines: list[str]) -> None:
        self._room.neighbours = lines

    # Clients and their sessions

    def share(self, name: str) -> Share:
        """The client's share, made on first use."""
        share = self.shares.get(name)
        if share is None:
            share = self.shares[name] = Share(name, self.settings.limits_for(name))
        return share

    def open_session(self, share: Share) -> None:
        """Count a frontend session. Raises AdmissionRefused at max_sessions."""
        limit = share.limits.max_sessions
        if limit is not None and share.sessions >= limit:
            raise refusals.too_many_sessions(share, limit)
        share.sessions += 1

    def close_session(self, share: Share, wish: Wish | None = None) -> None:
        """A session has ended, and with it what it had asked for."""
        if share.sessions == 0:
            raise InternalError(f"{share!r} has no session to close")
        share.sessions -= 1
        if wish is not None:
            share.unwish(wish)
            self._room.settle(share, self._now)

    def lower_cap(
        self, share: Share, connection_limit: int | None, pool_timeout: float | None
    ) -> Wish:
        """Apply what a session asked for about its client; the smallest of all such wishes counts,
        for as long as the session is open: `close_session` takes it back.

        Room that either makes is given out by the next call that grants.
        """
        wish = connection_limit, pool_timeout
        share.wish(wish)
        self._room.settle(share, self._now)
        return wish

    # Slots

    def acquire(self, share: Share, holder: Holder, now: float) -> Ticket:
        """A ticket for a server, GRANTED or QUEUED.

        Raises AdmissionRefused when the queue is full and Draining when pgguard is stopping.
        """
        if self.draining:
            raise refusals.draining()
        self._now = now
        room = self._room
        ticket = Ticket(share, holder, next(self._seq), now)
        if room.grant_at_once(ticket, now):
            return ticket
        share.queue[ticket] = None
        room.settle(share, now)
        if room.next(now) is share and share.head is ticket:
            return room.grant(ticket, now)
        limit = share.limits.max_waiting
        if limit is not None and share.waiting > limit:
            room.leave(ticket, TicketState.REFUSED, now)
            raise refusals.queue_full(share, limit)
        self._schedule_notice(ticket)
        return ticket

    def give_back(self, ticket: Ticket, now: float) -> list[Ticket]:
        """A slot is free again: its server's socket gave EOF, or the dial failed.

        Returns the tickets granted by it. Raises InternalError unless the ticket holds a slot.
        """
        ticket.move(TicketState.DONE)
        self._room.free(ticket, now)
        return self._serve(now)

    def abandon(self, ticket: Ticket, now: float) -> list[Ticket]:
        """A queued ticket's client is gone. Returns the tickets granted by it.

        Raises InternalError unless the ticket is queued.
        """
        self._room.leave(ticket, TicketState.ABANDONED, now)
        return self._serve(now)

    def requeue(self, ticket: Ticket, now: float) -> list[Ticket]:
        """Postgres refused (53300) what we had granted: wait again, with the age it has (T12).

        The caller lowers the total first, or the ticket may be among those returned. While
        draining, the next tick refuses it.
        """
        ticket.move(TicketState.QUEUED)
        ticket.granted_at = ticket.left_at = None
        ticket.share.put_back(ticket)
        self._room.free(ticket, now)
        self._schedule_notice(ticket)
        return self._serve(now)

    # What applies to all

    def none_left(self, share: Share, waited: float) -> AdmissionRefused:
        """What a session is told when Postgres has no slot left and other guards have theirs."""
        return refusals.none_left(share, self._room, waited)

    def set_total(self, total: int | None, now: float) -> list[Ticket]:
        """Change the limit over all clients; what is held above it stays until given back."""
        self._room.total = _sane(total)
        return self._settle_all(now)

    def reconfigure(self, settings: AdmissionSettings, now: float) -> list[Ticket]:
        """Take new settings; nobody is dropped, and what clients asked for still lowers."""
        self.settings = settings
        self._room.serial = settings.serial
        self._notices.clear()
        for share in self.shares.values():
            share.configure(settings.limits_for(share.name))
            for ticket in share.queue:
                self._schedule_notice(ticket)
        return self._settle_all(now)

    def pause(self) -> None:
        """Grant nothing from now on."""
        self._room.paused = True
        self._settle_all(self._now)

    def resume(self, now: float) -> list[Ticket]:
        self._room.paused = self.draining
        return self._settle_all(now)

    def ask_back(self, *, back: bool, now: float) -> list[Ticket]:
        """While `back`, what is given back is granted to nobody: it is for a look-up of ours."""
        self._room.asked_back = back
        return [] if back else self._serve(now)

    def drain(self, now: float) -> list[tuple[Ticket, Draining]]:
        """Refuse everybody who waits, and whoever comes from now on."""
        self.draining = self._room.paused = True
        refused = []
        for share in list(self._room.waiting):
            for ticket in list(share.queue):
                self._room.leave(ticket, TicketState.REFUSED, now)
                refused.append((ticket, refusals.draining()))
        return refused

    def _serve(self, now: float) -> list[Ticket]:
        self._now = now
        return self._room.serve(now)

    def _settle_all(self, now: float) -> list[Ticket]:
        for share in self.shares.values():
            self._room.settle(share, now)
        return self._serve(now)

    # Time

    def tick(self, now: float) -> Tick:
        """Deadlines, self-starvation and notices that are due; call it every 100 ms or so."""
        tick = Tick(granted=self._serve(now))
        if self.draining:
            tick.refused += self.drain(now)
        self._expire(now, tick)
        if self.settings.on_self_starvation == "refuse":
            self._refuse_starving(now, tick)
        tick.granted += self._serve(now)
        self._give_notice(now, tick)
        return tick

    def next_deadline(self) -> float | None:
        """When `tick` may have something to do; None while only others can end the waiting."""
        room = self._room
        if not room.waiting:
            return None
        if self.draining or room.next(self._now) is not None:
            return self._now
        total_timeout = self.settings.total_timeout
        times = [share.deadline(total_timeout) for share in room.waiting]
        if self.settings.on_self_starvation == "refuse":
            after = self.settings.self_starvation_after
            capped = (share for share in room.waiting if share.blocked_by == "cap")
            times += [max(share.watch_at, share.head.queued_at + after) for share in capped]
            if deadlocked := starvation.deadlocked(room):
                oldest = min(share.head.queued_at for share in deadlocked)
                times.append(max(self._watch_at, oldest + after))
        if self._notices:
            times.append(self._notices[0][0])
        if (lent_at := room.lent_at()) is not None:
            times.append(lent_at)
        if (hurry_at := room.hurry_at(self._now)) is not None:
            times.append(hurry_at)
        when = min(times)
        return None if when == inf else max(when, self._now)

    def _expire(self, now: float, tick: Tick) -> None:
        total_timeout = self.settings.total_timeout
        for share in [s for s in self._room.waiting if s.deadline(total_timeout) <= now]:
            holders = self._named(share, now, refusals.LINES)
            while share.queue and share.deadline(total_timeout) <= now:
                ticket = share.head
                if share.blocked_by == "cap":
                    refusal = refusals.cap_reached(ticket, holders, now)
                else:
                    refusal = refusals.total_reached(ticket, self._room, holders, now)
                self._refuse(ticket, refusal, TicketState.EXPIRED, now, tick)

    def _refuse_starving(self, now: float, tick: Tick) -> None:
        room, after = self._room, self.settings.self_starvation_after
        for share in [s for s in room.waiting if s.blocked_by == "cap" and s.watch_at <= now]:
            starving, share.watch_at = starvation.look(
                share.holders, share.head.queued_at, after, now
            )
            if starving:
                self._refuse_newest(share, now, tick)
        deadlocked = starvation.deadlocked(room) if self._watch_at <= now else []
        if not deadlocked:
            return
        oldest = min(share.head.queued_at for share in deadlocked)
        holders = room.holders()
        starving, self._watch_at = starvation.look(holders, oldest, after, now, everybody=True)
        if not starving:
            return
        borrower = room.borrower()
        if borrower is not None:
            tick.granted.append(room.grant(borrower.head, now))
        else:
            self._refuse_newest(max(deadlocked, key=lambda s: s.newest.seq), now, tick)

    def _refuse_newest(self, share: Share, now: float, tick: Tick) -> None:
        holders = self._named(share, now, refusals.LINES)
        if share.blocked_by == "cap" or share.held == self.held:
            refusal = refusals.self_starvation(share.newest, holders, now)
        else:
            refusal = refusals.total_starvation(share.newest, self._room, holders, now)
        self._refuse(share.newest, refusal, TicketState.REFUSED, now, tick)

    def _refuse(
        self, ticket: Ticket, refusal: Refusal, to: TicketState, now: float, tick: Tick
    ) -> None:
        self._room.leave(ticket, to, now)
        tick.refused.append((ticket, refusal))

    def _give_notice(self, now: float, tick: Tick) -> None:
        due: dict[Share, list[Ticket]] = {}
        while self._notices and self._notices[0][0] <= now:
            notice = heappop(self._notices)
            ticket = notice[2]
            if _is_due(notice):
                due.setdefault(ticket.share, []).append(ticket)
                self._notify_at(ticket, now + NOTICE_EVERY)
        for share, tickets in due.items():
            holders = self._named(share, now, refusals.NOTICE_HOLDERS)
            position = {ticket: place for place, ticket in enumerate(share.queue, 1)}
            for ticket in tickets:
                text = refusals.notice(ticket, position[ticket], self._room, holders, now)
                tick.notices.append((ticket, text))

    def _schedule_notice(self, ticket: Ticket) -> None:
        after = self.settings.notice_after
        if after is not None:
            first = ticket.queued_at + after
            self._notify_at(ticket, first if ticket.next_notice is None else ticket.next_notice)

    def _notify_at(self, ticket: Ticket, when: float) -> None:
        ticket.next_notice = when
        heappush(self._notices, (when, ticket.seq, ticket))
        if len(self._notices) > self._most_notices:
            # Whoever has been served meanwhile, and its session, is held by nothing else.
            self._notices = [one for one in self._notices if _is_due(one)]
            heapify(self._notices)
            self._most_notices = max(SPARE_NOTICES, 2 * len(self._notices))

    def _named(self, share: Share, now: float, limit: int) -> list[str]:
        """Lines about those who hold what this share waits for."""
        if share.blocked_by == "cap":
            return refusals.described(share.holders, share.held, now, limit)
        return refusals.described(self._room.holders(), self.held, now, limit)


def _is_due(notice: tuple[float, int, Ticket]) -> bool:
    """Whether its ticket still waits for it."""
    when, _, ticket = notice
    return ticket.state is TicketState.QUEUED and ticket.next_notice == when


def _sane(total: int | None) -> int | None:
    return None if total is None else max(total, 1)
