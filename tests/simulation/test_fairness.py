"""Admission under whole workloads, with a score for fairness; clock, sessions and servers are fake.

The score is a number from 0 to 100. At every instant in which somebody waits, fairness owes each
client its part of the slots, shared out evenly among all who have a use for them and none beyond
its cap. The score is how much of what they were owed over the whole run the clients were given. It
drops when one has more than its part at the cost of others, and when a slot is free although
somebody could use it. It is seldom 100: nothing is taken from those who hold it, and T10 of
transparency.md keeps slots back.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from functools import partial
from heapq import heappop, heappush
from itertools import count
from math import ceil
from typing import TYPE_CHECKING

import pytest

from pgguard.pool.admission import (
    Admission,
    AdmissionSettings,
    ClientLimits,
    Holder,
    Override,
    Share,
    Ticket,
    TicketState,
)

if TYPE_CHECKING:
    from collections.abc import Callable

TICK = 0.1
GIVE_UP = 100.0
"""Seconds of the simulation after which whoever still waits never will be served."""


@dataclass(frozen=True)
class Crowd:
    """Sessions of one kind: of each of `clients` clients, `sessions` sessions come, one every
    `every` seconds from `start` on, and hold their connections for `hold` seconds."""

    name: str
    clients: int
    sessions: int
    hold: float
    every: float = 0.0
    start: float = 0.0
    cap: int = 10
    second: bool = False
    """Each session needs a second connection while it holds its first."""
    vanish: float = 0.0
    """The part of the sessions that give up while they wait, after a random half second."""
    lose: float = 0.0
    """The part of the connections that break half-way; their sessions ask again."""


@dataclass(frozen=True)
class Workload:
    name: str
    total: int
    crowds: tuple[Crowd, ...]
    score: int
    """At least this."""
    longest: dict[str, float] = field(default_factory=dict)
    """Seconds that sessions of a crowd wait at most."""


WORKLOADS = (
    Workload("ten files", 24, (Crowd("file", 10, 100, hold=0.5, every=0.01),), score=97),
    Workload(
        "a hog among small ones",
        24,
        (
            Crowd("hog", 1, 300, hold=1.0, cap=40),
            Crowd("small", 8, 10, hold=0.1, start=1.0, every=0.5),
        ),
        score=86,
        longest={"small": 1.1},
    ),
    Workload(
        "bursts",
        12,
        tuple(Crowd(f"burst{n}", 2, 20, hold=0.3, start=n * 1.5, cap=6) for n in range(6)),
        score=97,
    ),
    Workload(
        "waiters that vanish",
        10,
        (Crowd("fickle", 5, 100, hold=0.2, every=0.01, vanish=0.5, cap=4),),
        score=96,
    ),
    Workload(
        "servers that die",
        10,
        (Crowd("unlucky", 5, 40, hold=0.4, every=0.02, lose=0.3, cap=4),),
        score=96,
    ),
    Workload(
        "pairs beside a hog",
        25,
        (
            Crowd("hog", 1, 400, hold=0.5, every=0.01, cap=50),
            Crowd("pair", 25, 1, hold=0.2, start=1.0, second=True),
        ),
        score=93,
        longest={"pair": 1.5},
    ),
    Workload(
        "more clients than slots",
        6,
        (Crowd("single", 40, 3, hold=0.2, every=0.1, cap=2),),
        score=50,
    ),
)


@dataclass(eq=False)
class FakeSession:
    crowd: Crowd
    share: Share
    vanishes_after: float | None
    tickets: list[Ticket] = field(default_factory=list)
    wanted: int = 1
    done: bool = False

    def is_blocked(self) -> bool:
        return False

    def stuck_since(self, *, everybody: bool = False) -> float | None:
        return None

    def describe(self, now: float) -> str:
        return f"session of {self.share.name}"


class Simulation:
    """Plays a workload on an admission; everything happens at once and in order of time."""

    def __init__(self, workload: Workload, admission: Admission, seed: int = 11) -> None:
        self.workload, self.admission = workload, admission
        self.random = random.Random(seed)
        self.now = self.weighed_at = 0.0
        self.order = count()
        self.events: list[tuple[float, int, Callable[[], None]]] = []
        self.shares: list[Share] = []
        self.open = 0
        self.served = self.vanished = self.lost = 0
        self.refused: list[str] = []
        self.waits: dict[str, list[float]] = {crowd.name: [] for crowd in workload.crowds}
        self.owed: dict[Share, float] = {}
        self.given: dict[Share, float] = {}

    def at(self, when: float, what: Callable[[], None]) -> None:
        heappush(self.events, (when, next(self.order), what))

    def run(self) -> Simulation:
        for crowd in self.workload.crowds:
            for number in range(crowd.clients):
                share = self.admission.share(f"{crowd.name}-{number}")
                self.shares.append(share)
                for turn in range(crowd.sessions):
                    patience = self.random.uniform(0.0, 0.5)
                    fickle = self.random.random() < crowd.vanish
                    session = FakeSession(crowd, share, patience if fickle else None)
                    self.open += 1
                    self.at(crowd.start + turn * crowd.every, partial(self.ask, session))
        self.at(TICK, self.tick)
        while self.open and self.now < GIVE_UP:
            when, _, what = heappop(self.events)
            self.weigh(when)
            self.now = when
            what()
        return self

    def ask(self, session: FakeSession) -> None:
        ticket = self.admission.acquire(session.share, session, self.now)
        if ticket.state is TicketState.GRANTED:
            self.granted([ticket])
        elif session.vanishes_after is not None:
            self.at(self.now + session.vanishes_after, partial(self.vanish, ticket))

    def vanish(self, ticket: Ticket) -> None:
        if ticket.state is TicketState.QUEUED:
            self.vanished += 1
            self.open -= 1
            self.granted(self.admission.abandon(ticket, self.now))

    def granted(self, tickets: list[Ticket]) -> None:
        for ticket in tickets:
            session = ticket.holder
            assert isinstance(session, FakeSession)
            crowd = session.crowd
            self.waits[crowd.name].append(ticket.waited(self.now))
            session.tickets.append(ticket)
            if crowd.second and len(session.tickets) == 1:
                self.at(self.now + 0.05, partial(self.ask, session))
            elif self.random.random() < crowd.lose:
                self.at(self.now + crowd.hold / 2, partial(self.lose, session))
            else:
                self.at(self.now + crowd.hold, partial(self.finish, session))

    def lose(self, session: FakeSession) -> None:
        self.lost += 1
        self.granted(self.admission.give_back(session.tickets.pop(), self.now))
        self.ask(session)

    def finish(self, session: FakeSession) -> None:
        self.served += 1
        self.open -= 1
        for ticket in session.tickets:
            self.granted(self.admission.give_back(ticket, self.now))

    def tick(self) -> None:
        result = self.admission.tick(self.now)
        self.granted(result.granted)
        for ticket, refusal in result.refused:
            self.refused.append(f"{ticket.share.name}: {refusal}")
            self.open -= 1
        self.at(self.now + TICK, self.tick)

    def weigh(self, until: float) -> None:
        """Compare what is held since the last event with what is fair."""
        seconds, self.weighed_at = until - self.weighed_at, until
        if not seconds or not any(share.queue for share in self.shares):
            return
        uses = {s: min(s.cap, s.held + s.waiting) for s in self.shares if s.held or s.queue}
        for share, part in even_parts(uses, self.workload.total).items():
            self.owed[share] = self.owed.get(share, 0.0) + seconds * part
            self.given[share] = self.given.get(share, 0.0) + seconds * share.held

    @property
    def score(self) -> float:
        given = sum(min(owed, self.given[share]) for share, owed in self.owed.items())
        return 100 * given / sum(self.owed.values())


def even_parts(uses: dict[Share, int], total: int) -> dict[Share, float]:
    """The slots shared out evenly, nobody getting more than he has a use for."""
    parts: dict[Share, float] = {}
    left = float(total)
    for place, share in enumerate(sorted(uses, key=lambda share: uses[share])):
        parts[share] = min(uses[share], left / (len(uses) - place))
        left -= parts[share]
    return parts


def settings_for(workload: Workload) -> AdmissionSettings:
    return AdmissionSettings(
        overrides=tuple(Override(f"{c.name}-*", connection_limit=c.cap) for c in workload.crowds)
    )


class OneQueue(Admission):
    """The plain way: one queue for all, without caps; what the score is there to tell apart."""

    def __init__(self, workload: Workload) -> None:
        super().__init__(AdmissionSettings(defaults=ClientLimits(10_000)), None)
        self.size = workload.total
        self.line: dict[Ticket, None] = {}

    def acquire(self, share: Share, holder: Holder, now: float) -> Ticket:
        self._room.paused = True
        ticket = super().acquire(share, holder, now)
        self.line[ticket] = None
        self.move_up(now)
        return ticket

    def give_back(self, ticket: Ticket, now: float) -> list[Ticket]:
        super().give_back(ticket, now)
        return self.move_up(now)

    def move_up(self, now: float) -> list[Ticket]:
        granted = []
        while self.line and self.held < self.size:
            ticket = next(iter(self.line))
            del self.line[ticket]
            granted.append(self._room.grant(ticket, now))
        return granted


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda workload: workload.name)
def test_everybody_is_served_and_fairly(workload: Workload) -> None:
    admission = Admission(settings_for(workload), workload.total)
    played = Simulation(workload, admission).run()

    sessions = sum(crowd.clients * crowd.sessions for crowd in workload.crowds)
    assert played.refused == []
    assert played.served + played.vanished == sessions
    assert admission.held == 0
    assert all(share.peak <= share.cap for share in played.shares)
    assert played.score >= workload.score
    for name, longest in workload.longest.items():
        assert max(played.waits[name]) <= longest


def test_the_work_is_done_in_the_time_that_the_slots_allow() -> None:
    workload = WORKLOADS[0]
    played = Simulation(workload, Admission(settings_for(workload), workload.total)).run()
    crowd = workload.crowds[0]

    rounds = ceil(crowd.clients * crowd.sessions / workload.total)
    assert played.now <= (rounds + 2) * crowd.hold


def test_some_waiters_do_vanish_and_some_servers_do_die() -> None:
    vanishing, dying = (
        Simulation(workload, Admission(settings_for(workload), workload.total)).run()
        for workload in WORKLOADS
        if workload.name in {"waiters that vanish", "servers that die"}
    )
    assert vanishing.vanished > 100
    assert dying.lost > 40


def test_one_queue_for_all_would_fail_the_score() -> None:
    workload = WORKLOADS[1]
    assert Simulation(workload, OneQueue(workload)).run().score < workload.score / 2


def test_one_queue_for_all_would_let_clients_block_each_other() -> None:
    workload = WORKLOADS[5]
    played = Simulation(workload, OneQueue(workload)).run()
    assert played.open > workload.total
    assert played.admission.held == workload.total
