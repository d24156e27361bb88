"""Admission against a model of it that is too simple to be fast: all that it returns is predicted.

The model keeps plain lists, looks at all of them for each grant and gives every ticket clocks of
its own. What only lasts (self-starvation) is not predicted but judged when it is declared. The laws
of the promise are stated apart from the model, as invariants.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pgguard.errors import AdmissionRefused, InternalError
from pgguard.pool.admission import (
    Admission,
    AdmissionSettings,
    ClientLimits,
    Override,
    Share,
    Ticket,
    TicketState,
)
from pgguard.pool.room import HURRY, KEPT_BACK, PATIENCE
from pgguard.pool.starvation import PACE

NAMES = ("one", "two", "three", "many")
STEP = 0.25
AFTER = 1.0
SETTINGS = tuple(
    AdmissionSettings(
        defaults=ClientLimits(cap, 4.0, max_waiting=6),
        overrides=(
            Override("one", connection_limit=1),
            Override("t*", connection_limit=2),
            Override("three", connection_limit=3, pool_timeout=3.0),
        ),
        total_timeout=total_timeout,
        self_starvation_after=AFTER,
        serial=serial,
    )
    for cap, serial, total_timeout in ((10, False, 24.0), (4, False, 6.0), (10, True, 6.0))
)
WEIGHTED = (0, 0, 0, 1, 2)


class FakeHolder:
    def __init__(self, number: int) -> None:
        self.number = number
        self.stuck: float | None = None

    def is_blocked(self) -> bool:
        return False

    def stuck_since(self, *, everybody: bool = False) -> float | None:
        return self.stuck

    def describe(self, now: float) -> str:
        return f"session {self.number}"


def silent_since(ticket: Ticket) -> float:
    since = ticket.holder.stuck_since()
    return inf if since is None else since


@dataclass(eq=False)
class Client:
    """One client of the model."""

    share: Share
    limits: ClientLimits
    asked: list[tuple[int, float]] = field(default_factory=list)
    waiting: list[Ticket] = field(default_factory=list)
    held: list[Ticket] = field(default_factory=list)
    peak: int = 0

    @property
    def cap(self) -> int:
        return min([self.limits.connection_limit, *(cap for cap, _ in self.asked)])

    @property
    def timeout(self) -> float:
        return min([self.limits.pool_timeout, *(timeout for _, timeout in self.asked)])

    @property
    def cause(self) -> str:
        return "cap" if len(self.held) >= self.cap else "total"

    @property
    def place(self) -> tuple[float, int]:
        return len(self.held) / self.cap, self.waiting[0].seq


class Model:
    """What admission should do, said in the shortest way."""

    def __init__(self, clients: list[Client], total: int | None) -> None:
        self.clients, self.total = clients, total
        self.serial = self.paused = False
        self.turn: list[Client] = []
        self.back = -inf
        self.spent: dict[Ticket, dict[str, float]] = {}

    @property
    def held(self) -> int:
        return sum(len(client.held) for client in self.clients)

    def sum(self, *, extra: Client | None = None) -> int:
        """The sum of T10, if one more is granted to `extra`."""
        counts = [(client, len(client.held) + (client is extra)) for client in self.clients]
        least = inf if self.total is None else self.total
        return sum(int(max(n, min(client.cap, 2, least))) for client, n in counts if n)

    def need(self, client: Client) -> int:
        return self.sum(extra=client) - self.sum()

    def candidates(self) -> list[Client]:
        """Who waits for nothing but room, in order."""
        if self.paused or (self.total is not None and self.held >= self.total):
            return []
        able = [c for c in self.clients if c.waiting and c.cause == "total"]
        if self.serial and self.turn:
            able = [c for c in able if c is self.turn[0]]
        return sorted(able, key=lambda client: client.place)

    def fits(self, client: Client) -> bool:
        need = self.need(client)
        return need == 0 or self.total is None or self.sum() + need <= self.total

    def borrower(self) -> Client | None:
        """Who would use the slot that is kept back for the first in order."""
        able = self.candidates()
        fitting = [client for client in able if self.fits(client)]
        return fitting[0] if able and not self.fits(able[0]) and fitting else None

    def second(self) -> Client | None:
        """The first in order of those who hold one and wait for their second."""
        return next((client for client in self.candidates() if self.need(client) == 0), None)

    def gives_way(self, client: Client, now: float) -> bool:
        """Whether a client's second waits for somebody's first, who came much earlier."""
        first = next((other for other in self.candidates() if self.need(other)), None)
        if first is None or first.held or now >= self.back + HURRY:
            return False
        return first.waiting[0].queued_at + PATIENCE <= client.waiting[0].queued_at

    def choose(self, now: float) -> Client | None:
        able = self.candidates()
        second = self.second()
        if second is not None and (self.serial or not self.gives_way(second, now)):
            return second
        if able and self.fits(able[0]):
            return able[0]
        if able and now >= max(self.back, able[0].waiting[0].queued_at) + KEPT_BACK:
            return self.borrower()
        return None

    def grant(self, client: Client) -> Ticket:
        ticket = client.waiting.pop(0)
        client.held.append(ticket)
        client.peak = max(client.peak, len(client.held))
        if client not in self.turn:
            self.turn.append(client)
        return ticket

    def serve(self, now: float) -> list[Ticket]:
        granted = []
        while (client := self.choose(now)) is not None:
            granted.append(self.grant(client))
        return granted

    def free(self, client: Client, ticket: Ticket, now: float) -> None:
        client.held.remove(ticket)
        self.back = now
        if not client.held:
            self.turn.remove(client)

    def pass_time(self, seconds: float) -> None:
        for client in self.clients:
            if client.waiting and not self.paused:
                for ticket in client.waiting + client.held:
                    spent = self.spent.setdefault(ticket, {"cap": 0.0, "total": 0.0})
                    spent[client.cause] += seconds

    def overdue(self, client: Client, total_timeout: float) -> list[Ticket]:
        limit = client.timeout if client.cause == "cap" else total_timeout
        return [
            ticket
            for ticket in client.waiting
            if not self.paused and self.spent.get(ticket, {}).get(client.cause, 0.0) >= limit
        ]

    def owner(self, ticket: Ticket) -> Client:
        return next(client for client in self.clients if client.share is ticket.share)


class AdmissionMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0
        self.config = SETTINGS[0]
        self.admission = Admission(self.config, 5)
        shares = [self.admission.share(name) for name in NAMES]
        self.model = Model([Client(share, share.limits) for share in shares], 5)
        self.numbers = 0
        self.ended: list[Ticket] = []
        self.noted: dict[Ticket, float] = {}
        self.declared: dict[Client, float] = {}
        self.resumed = -inf
        self.capped = -inf
        """When limits were changed last: whoever waited for the total may wait for itself since."""
        self.before = self.holdings()

    def holdings(self) -> list[int]:
        return [len(client.held) for client in self.model.clients]

    def pick(self, tickets: list[list[Ticket]], index: int) -> Ticket:
        population = [ticket for group in tickets for ticket in group]
        return population[index % len(population)]

    def held(self) -> list[list[Ticket]]:
        return [client.held for client in self.model.clients]

    def waiting(self) -> list[list[Ticket]]:
        return [client.waiting for client in self.model.clients]

    @rule(client=st.integers(0, 3), times=st.integers(1, 4))
    def acquire(self, client: int, times: int) -> None:
        chosen = self.model.clients[client]
        for _ in range(times):
            self.numbers += 1
            holder = FakeHolder(self.numbers)
            if len(chosen.waiting) >= 6:
                with pytest.raises(AdmissionRefused, match="already has 6 sessions waiting"):
                    self.admission.acquire(chosen.share, holder, self.now)
                return
            ticket = self.admission.acquire(chosen.share, holder, self.now)
            chosen.waiting.append(ticket)
            expected = self.model.serve(self.now)
            assert expected == ([ticket] if ticket.state is TicketState.GRANTED else [])

    @initialize(total=st.integers(3, 8), index=st.sampled_from(WEIGHTED))
    def start(self, total: int, index: int) -> None:
        self.set_total(total)
        self.reconfigure(index)
        self.crowd([3, 2, 1, 0])

    @rule(order=st.permutations(range(4)))
    def crowd(self, order: list[int]) -> None:
        for client in order:
            self.acquire(client, 2)

    @precondition(lambda self: any(self.held()))
    @rule(index=st.integers(0, 1000))
    def give_back(self, index: int) -> None:
        self.hand_back(self.pick(self.held(), index))

    def hand_back(self, ticket: Ticket) -> None:
        granted = self.admission.give_back(ticket, self.now)
        self.model.free(self.model.owner(ticket), ticket, self.now)
        self.ended.append(ticket)
        assert granted == self.model.serve(self.now)

    @precondition(lambda self: any(self.waiting()))
    @rule(index=st.integers(0, 1000))
    def abandon(self, index: int) -> None:
        self.withdraw(self.pick(self.waiting(), index))

    @rule(client=st.integers(0, 3))
    def abandon_all(self, client: int) -> None:
        """A whole test process is killed."""
        while self.model.clients[client].waiting:
            self.withdraw(self.model.clients[client].waiting[-1])

    def withdraw(self, ticket: Ticket) -> None:
        granted = self.admission.abandon(ticket, self.now)
        self.model.owner(ticket).waiting.remove(ticket)
        self.ended.append(ticket)
        assert granted == self.model.serve(self.now)

    @precondition(lambda self: any(self.held()))
    @rule(index=st.integers(0, 1000), lower=st.booleans())
    def requeue(self, index: int, lower: bool) -> None:
        ticket = self.pick(self.held(), index)
        if lower:
            self.set_total(max(self.model.held - 1, 1))
        granted = self.admission.requeue(ticket, self.now)
        client = self.model.owner(ticket)
        self.model.free(client, ticket, self.now)
        client.waiting = sorted([*client.waiting, ticket], key=lambda ticket: ticket.seq)
        assert granted == self.model.serve(self.now)

    @rule(total=st.sampled_from([None, 0, 1, 2, 3, 4, 5, 5, 6, 6, 7, 8]))
    def set_total(self, total: int | None) -> None:
        granted = self.admission.set_total(total, self.now)
        self.model.total, self.capped = None if total is None else max(total, 1), self.now
        assert granted == self.model.serve(self.now)

    @rule(cap=st.sampled_from([-1, 0, 1, 2, 4, 6, 8, 9]), timeout=st.sampled_from([0.0, 3.0]))
    def lower_cap(self, cap: int, timeout: float) -> None:
        chosen = self.model.clients[3]
        self.admission.open_session(chosen.share)
        wish = self.admission.lower_cap(chosen.share, cap, timeout)
        self.capped = self.now
        chosen.asked.append((cap if cap > 0 else 1000, timeout or 1000.0))
        if len(chosen.asked) % 3 == 0:
            # The session ends; one that asks for less may have made those before it wait.
            chosen.asked.pop()
            self.admission.close_session(chosen.share, wish)
        self.tick(0.0)

    @rule(index=st.sampled_from(WEIGHTED))
    def reconfigure(self, index: int) -> None:
        self.config, self.capped = SETTINGS[index], self.now
        granted = self.admission.reconfigure(self.config, self.now)
        self.model.serial = self.config.serial
        for client in self.model.clients:
            client.limits = self.config.limits_for(client.share.name)
        assert granted == self.model.serve(self.now)

    @rule(long=st.booleans())
    def pause_and_resume(self, long: bool) -> None:
        self.admission.pause()
        self.model.paused = True
        for _ in range(20 if long else 1):
            self.tick(STEP)
        self.acquire(0, 1)
        self.model.paused, self.resumed = False, self.now
        granted = self.admission.resume(self.now)
        assert granted == self.model.serve(self.now)

    @precondition(lambda self: any(self.held()))
    @rule(index=st.integers(0, 1000), stuck=st.booleans(), whole=st.booleans())
    def hold_still(self, index: int, stuck: bool, whole: bool) -> None:
        chosen = self.pick(self.held(), index)
        self.keep_still(self.model.owner(chosen).held if whole else [chosen], stuck)

    @rule(stuck=st.booleans())
    def all_hold_still(self, stuck: bool) -> None:
        for group in self.held():
            self.keep_still(group, stuck)

    def keep_still(self, tickets: list[Ticket], stuck: bool) -> None:
        for ticket in tickets:
            assert isinstance(ticket.holder, FakeHolder)
            ticket.holder.stuck = self.now if stuck else None

    @rule(steps=st.integers(1, 12))
    def wait(self, steps: int) -> None:
        for _ in range(steps):
            self.tick(STEP)

    @rule(seconds=st.sampled_from([1.0, 3.5, 11.0]))
    def sleep(self, seconds: float) -> None:
        self.tick(seconds)

    @precondition(lambda self: self.ended)
    @rule(index=st.integers(0, 1000))
    def end_twice(self, index: int) -> None:
        ticket = self.ended[index % len(self.ended)]
        for end in (self.admission.give_back, self.admission.abandon, self.admission.requeue):
            with pytest.raises(InternalError):
                end(ticket, self.now)

    def tick(self, seconds: float) -> None:
        due = self.admission.next_deadline()
        self.model.pass_time(seconds)
        self.now += seconds
        result = self.admission.tick(self.now)
        if due is None or self.now < due:
            assert not (result.granted)
            assert not (result.refused)
            assert not (result.notices)
        first = self.model.serve(self.now)
        assert result.granted[: len(first)] == first
        for ticket in self.expire():
            refused = [refusal for who, refusal in result.refused if who is ticket]
            assert [refusal.code for refusal in refused] in (["PGG301"], ["PGG302"])
        for ticket, refusal in result.refused:
            self.ended.append(ticket)
            if refusal.code == "PGG303":
                self.judge_starvation(ticket)
                self.model.owner(ticket).waiting.remove(ticket)
            else:
                assert ticket.state is TicketState.EXPIRED
        rest = result.granted[len(first) :]
        if rest and rest != self.serve_copy():
            borrower = self.model.borrower()
            assert borrower is not None
            assert self.deadlocked()
            assert rest[0] is self.model.grant(borrower)
            rest = rest[1:]
        assert rest == self.model.serve(self.now)
        self.check_notices(result.notices)

    def serve_copy(self) -> list[Ticket]:
        """What the model would grant now, without doing it."""
        kept = [(list(c.waiting), list(c.held), c.peak) for c in self.model.clients]
        turn = list(self.model.turn)
        granted = self.model.serve(self.now)
        for client, (waiting, held, peak) in zip(self.model.clients, kept, strict=True):
            client.waiting, client.held, client.peak = waiting, held, peak
        self.model.turn = turn
        return granted

    def expire(self) -> list[Ticket]:
        expired = []
        for client in self.model.clients:
            for ticket in self.model.overdue(client, self.config.total_timeout):
                client.waiting.remove(ticket)
                expired.append(ticket)
        return expired

    def still(self, tickets: list[Ticket]) -> bool:
        return all(self.now - silent_since(ticket) >= AFTER for ticket in tickets)

    def deadlocked(self) -> bool:
        holding = [client for client in self.model.clients if client.held]
        return all(client.waiting for client in holding) and self.still(
            [ticket for client in holding for ticket in client.held]
        )

    def judge_starvation(self, ticket: Ticket) -> None:
        client = self.model.owner(ticket)
        assert self.now - client.waiting[0].queued_at >= AFTER or client.cause == "total"
        if client.cause == "cap":
            assert self.still(client.held)
            assert ticket is client.waiting[-1]
        else:
            holding = [c for c in self.model.clients if c.held and c.cause == "total"]
            assert self.deadlocked()
            assert self.model.borrower() is None
            assert ticket.seq == max(c.waiting[-1].seq for c in holding)
        self.declared[client] = self.now

    def check_notices(self, notices: list[tuple[Ticket, str]]) -> None:
        for ticket, text in notices:
            waiting = self.model.owner(ticket).waiting
            assert f"position {waiting.index(ticket) + 1} of {len(waiting)}" in text
            assert text.isascii()
            assert self.now - self.noted.get(ticket, -inf) >= 5.0
            assert ticket.waited(self.now) >= 2.0
            self.noted[ticket] = self.now

    @invariant()
    def limits_hold(self) -> None:
        """Caps, total and T10, except for what was held before a limit was lowered."""
        model, now = self.model, self.holdings()
        total = inf if model.total is None else model.total
        for client, held, before in zip(model.clients, now, self.before, strict=True):
            assert held <= max(client.cap, before)
        assert sum(now) <= max(total, sum(self.before))
        counted = [
            (int(max(n, min(client.cap, 2, total))) if n else 0)
            for client, n in zip(model.clients, self.before, strict=True)
        ]
        assert model.sum() <= max(total, sum(counted))
        self.before = now

    @invariant()
    def counts_agree(self) -> None:
        for client in self.model.clients:
            share = client.share
            assert (share.held, share.waiting) == (len(client.held), len(client.waiting))
            assert list(share.queue) == client.waiting
            assert set(share.holders) == set(client.held)
            assert share.peak == client.peak
            assert share.cap == client.cap
        assert self.admission.held == self.model.held

    @invariant()
    def nobody_waits_in_vain(self) -> None:
        """With nothing held somebody is served; whoever holds one can have a second."""
        model = self.model
        if model.paused or model.serial:
            return
        if not model.held:
            assert not any(client.waiting for client in model.clients)
        full = model.total is not None and model.held >= model.total
        for client in model.clients:
            if len(client.held) == 1 and client.cap > 1 and client.waiting:
                second = model.second()
                assert full or (second is not None and model.gives_way(second, self.now))

    @invariant()
    def starvation_is_declared(self) -> None:
        for client in self.model.clients:
            if not (client.waiting and client.cause == "cap" and self.still(client.held)):
                continue
            since = max(
                self.resumed,
                self.capped,
                self.model.back,
                self.declared.get(client, -inf),
                client.waiting[0].queued_at,
                *(silent_since(ticket) for ticket in client.held),
            )
            assert self.now - since < 2 * AFTER + PACE

    def teardown(self) -> None:
        """Every ticket ends: by its deadline if nothing comes back, by a grant if all does."""
        self.reconfigure(0)
        for group in self.held():
            for ticket in group[:2]:
                self.hand_back(ticket)
        self.limits_hold()
        for _ in range(120):
            self.tick(STEP)
        assert not any(self.waiting())


AdmissionMachine.TestCase.settings = settings(
    max_examples=100,
    stateful_step_count=60,
    deadline=None,
    report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestAdmission = AdmissionMachine.TestCase
