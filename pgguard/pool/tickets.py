"""Who waits for a server and who holds one: tickets, and one share of the whole per client.

Laws: a ticket's state changes in `Ticket.move` only, along `MOVES`. Clocks belong to the share, not
to the ticket: a queue is FIFO, so all of it waits for whatever its head waits for, the client's own
cap or other clients. A ticket remembers what the clocks showed when it came; hence of one queue the
head is always the first to be overdue, and nothing is ever done for each ticket.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from enum import Enum
from math import inf
from typing import TYPE_CHECKING, Literal, Protocol

from pgguard.errors import InternalError

if TYPE_CHECKING:
    from pgguard.pool.limits import ClientLimits

Cause = Literal["", "cap", "total"]
"""What a ticket waits for: nothing that counts, its client's own cap, or other clients."""

Wish = tuple[int | None, float | None]
"""connection_limit and pool_timeout that a session asks for; None and nonsense ask for nothing."""


class Holder(Protocol):
    """What a ticket stands for; `core.session.Session` is one."""

    def stuck_since(self, *, everybody: bool = False) -> float | None:
        """Since when its server has waited for it: the time from which on the session, with status
        T or E, unsynced or blocked by a lock, has not sent a byte. None = it does not wait for
        itself, as in status I (transparency.md T11). A lock is one of its own client, or of
        `everybody`."""

    def is_blocked(self) -> bool:
        """Whether its statement waits for the lock of a silent session, whosever it is."""

    def describe(self, now: float) -> str:
        """One ASCII line: client, session, state, age, last statement, idle since."""


class TicketState(Enum):
    QUEUED = "queued"
    GRANTED = "granted"
    DONE = "done"
    EXPIRED = "expired"
    ABANDONED = "abandoned"
    REFUSED = "refused"

    # Enum hashes the name, in Python, at every look into a place.
    __hash__ = object.__hash__


MOVES: dict[TicketState, frozenset[TicketState]] = {
    TicketState.QUEUED: frozenset(
        {
            TicketState.GRANTED,
            TicketState.EXPIRED,
            TicketState.ABANDONED,
            TicketState.REFUSED,
        }
    ),
    TicketState.GRANTED: frozenset({TicketState.DONE, TicketState.QUEUED}),
    TicketState.DONE: frozenset(),
    TicketState.EXPIRED: frozenset(),
    TicketState.ABANDONED: frozenset(),
    TicketState.REFUSED: frozenset(),
}


class Ticket:
    """A session's place in the queue, and its slot once granted."""

    __slots__ = (
        "cap_from",
        "granted_at",
        "holder",
        "left_at",
        "next_notice",
        "queued_at",
        "seq",
        "share",
        "state",
        "total_from",
    )

    def __init__(self, share: Share, holder: Holder, seq: int, now: float) -> None:
        self.share, self.holder, self.seq = share, holder, seq
        self.state = TicketState.QUEUED
        self.queued_at = now
        self.granted_at: float | None = None
        self.left_at: float | None = None
        """When it left the queue, by whatever door."""
        self.next_notice: float | None = None
        self.cap_from, self.total_from = share.clocks(now)

    def __repr__(self) -> str:
        return f"<Ticket {self.seq} of {self.share.name!r}: {self.state.value}>"

    def move(self, to: TicketState) -> None:
        """The only way to change the state. Raises InternalError for a move not in `MOVES`."""
        if to not in MOVES[self.state]:
            raise InternalError(f"{self!r} cannot become {to.value}")
        self.state = to

    @property
    def blocked_by(self) -> Cause:
        """What it waits for at the moment; empty when it does not wait or admission is paused."""
        return self.share.blocked_by if self.state is TicketState.QUEUED else ""

    def waited(self, now: float) -> float:
        """Seconds in the queue, until now or until it left."""
        return (now if self.left_at is None else self.left_at) - self.queued_at

    def waited_for(self, now: float) -> tuple[float, float]:
        """Seconds so far because of the client's own cap, and because of others."""
        cap, total = self.share.clocks(now)
        return cap - self.cap_from, total - self.total_from


class Share:
    """One client's part of the server connections: what it holds, and who of it waits."""

    __slots__ = (
        "blocked_by",
        "blocked_since",
        "cap_clock",
        "configured",
        "entry",
        "held",
        "holders",
        "limits",
        "name",
        "need",
        "peak",
        "queue",
        "reserve",
        "sessions",
        "total_clock",
        "watch_at",
        "wishes",
    )

    def __init__(self, name: str, limits: ClientLimits) -> None:
        self.name, self.limits, self.configured = name, limits, limits
        self.wishes: Counter[Wish] = Counter()
        """What its open sessions have asked for, and how many of them each."""
        self.held = 0
        """Granted and not given back."""
        self.peak = 0
        self.sessions = 0
        """Open frontend sessions, for max_sessions."""
        self.queue: OrderedDict[Ticket, None] = OrderedDict()
        """Waiting tickets, first come first: an ordered set, so that leaving is cheap anywhere."""
        self.holders: dict[Ticket, None] = {}
        """Granted tickets, an ordered set."""
        self.reserve = 0
        """What it counts for in the sum of T10: 0, or max(held, min(cap, 2))."""
        self.need = 0
        """What its next grant would add to that sum; valid while `entry` is set."""
        self.entry: tuple[float, int, int, Share] | None = None
        """Its place among those who wait for room (see lines.Line)."""
        self.blocked_by: Cause = ""
        self.blocked_since = 0.0
        self.cap_clock = 0.0
        """Seconds for which the cap has blocked this queue, up to `blocked_since`."""
        self.total_clock = 0.0
        self.watch_at = -inf
        """When to look for self-starvation again."""

    def __repr__(self) -> str:
        return f"<Share {self.name!r}: {self.held}/{self.cap} held, {self.waiting} waiting>"

    @property
    def cap(self) -> int:
        return self.limits.connection_limit

    @property
    def waiting(self) -> int:
        return len(self.queue)

    @property
    def head(self) -> Ticket:
        """The ticket that has waited longest; the queue must not be empty."""
        return next(iter(self.queue))

    @property
    def newest(self) -> Ticket:
        """The ticket that came last; the queue must not be empty."""
        return next(reversed(self.queue))

    def configure(self, limits: ClientLimits) -> None:
        """Take limits from the settings; what open sessions have asked for still lowers them."""
        self.configured = limits
        for wish in self.wishes:
            limits = limits.lowered(*wish)
        self.limits = limits

    def wish(self, wish: Wish) -> None:
        """What a session asks for about its client: of all such wishes the smallest count."""
        self.wishes[wish] += 1
        self.limits = self.limits.lowered(*wish)

    def unwish(self, wish: Wish) -> None:
        """The session that asked for it has ended."""
        self.wishes[wish] -= 1
        if not self.wishes[wish]:
            del self.wishes[wish]
            self.configure(self.configured)

    def clocks(self, now: float) -> tuple[float, float]:
        """Both clocks: seconds of blocking by the cap and by others since the share exists."""
        running = now - self.blocked_since
        return (
            self.cap_clock + running if self.blocked_by == "cap" else self.cap_clock,
            self.total_clock + running if self.blocked_by == "total" else self.total_clock,
        )

    def block(self, by: Cause, now: float) -> None:
        """From now on the queue waits for this."""
        if by != self.blocked_by:
            self.cap_clock, self.total_clock = self.clocks(now)
            self.blocked_by, self.blocked_since = by, now

    def deadline(self, total_timeout: float) -> float:
        """When the head is overdue if nothing changes; infinity while no clock runs."""
        if self.blocked_by == "cap":
            spent = self.cap_clock - self.head.cap_from
            return self.blocked_since + self.limits.pool_timeout - spent
        if self.blocked_by == "total":
            spent = self.total_clock - self.head.total_from
            return self.blocked_since + total_timeout - spent
        return inf

    def put_back(self, ticket: Ticket) -> None:
        """Queue a ticket again, before everybody who came after it."""
        earlier = []
        for queued in self.queue:
            if queued.seq > ticket.seq:
                break
            earlier.append(queued)
        for queued in (ticket, *reversed(earlier)):
            self.queue[queued] = None
            self.queue.move_to_end(queued, last=False)
