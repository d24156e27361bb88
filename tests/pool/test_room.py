"""Whose turn it is: one table of small scenes, clients being letters."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pgguard.pool.limits import ClientLimits
from pgguard.pool.room import HURRY, KEPT_BACK, PATIENCE, Room
from pgguard.pool.tickets import Holder, Share, Ticket, TicketState


class Stage:
    """A room and a shorthand for what happens in it; time stands at `now`."""

    def __init__(self, holder: Callable[..., Holder], total: int | None, serial: bool) -> None:
        self.room = Room(total, serial=serial)
        self.holder, self.now, self.seq = holder, 0.0, 0
        self.shares: dict[str, Share] = {}

    def ask(self, name: str, times: int = 1, cap: int = 10) -> list[Ticket]:
        share = self.shares.setdefault(name, Share(name, ClientLimits(cap)))
        tickets = []
        for _ in range(times):
            self.seq += 1
            ticket = Ticket(share, self.holder(), self.seq, self.now)
            share.queue[ticket] = None
            self.room.settle(share, self.now)
            tickets.append(ticket)
        return tickets

    def served(self) -> str:
        """The clients of the tickets granted now, in order."""
        return "".join(ticket.share.name for ticket in self.room.serve(self.now))

    def end(self, name: str) -> None:
        ticket = next(iter(self.shares[name].holders))
        ticket.move(TicketState.DONE)
        self.room.free(ticket, self.now)

    def set_total(self, total: int) -> None:
        self.room.total = total
        for share in self.shares.values():
            self.room.settle(share, self.now)


Play = Callable[..., Stage]


@pytest.fixture
def play(holder: Callable[..., Holder]) -> Play:
    def make(total: int | None, *, serial: bool = False) -> Stage:
        return Stage(holder, total, serial)

    return make


def test_a_client_gets_its_cap_and_no_more(play: Play) -> None:
    stage = play(None)
    tickets = stage.ask("a", 5, cap=3)
    assert stage.served() == "aaa"
    assert [ticket.state for ticket in tickets[2:4]] == [TicketState.GRANTED, TicketState.QUEUED]
    assert stage.shares["a"].peak == 3
    stage.end("a")
    assert stage.served() == "a"
    assert tickets[3].state is TicketState.GRANTED
    assert stage.room.held == 3


def test_who_holds_least_of_its_cap_is_served_first(play: Play) -> None:
    stage = play(6)
    stage.ask("a", 9)
    assert stage.served() == "aaaaaa"
    stage.ask("b", 3)
    stage.end("a")
    assert stage.served() == ""
    stage.end("a")
    assert stage.served() == "bb"
    stage.end("a")
    assert stage.served() == "b"


def test_a_first_connection_needs_room_for_two(play: Play) -> None:
    stage = play(3)
    stage.ask("a", 2)
    stage.ask("b", 1)
    assert stage.served() == "aa"
    assert stage.room.reserved == 2
    stage.end("a")
    assert stage.served() == ""
    stage.end("a")
    assert stage.served() == "b"


def test_a_client_with_a_cap_of_one_needs_room_for_one(play: Play) -> None:
    stage = play(3)
    stage.ask("a", 2)
    stage.ask("b", 1, cap=1)
    assert sorted(stage.served()) == ["a", "a", "b"]


def test_who_holds_one_can_always_have_a_second(play: Play) -> None:
    stage = play(5)
    stage.ask("a", 1)
    stage.ask("b", 1)
    stage.ask("c", 1)
    assert stage.served() == "ab"
    stage.ask("a", 2)
    stage.ask("b", 1)
    assert sorted(stage.served()) == ["a", "b"]
    assert stage.room.reserved == 4


def test_two_busy_clients_do_not_keep_a_third_out_with_their_seconds(play: Play) -> None:
    stage = play(5)
    stage.ask("a", 4)
    stage.ask("b", 4)
    stage.ask("c", 1)
    served = stage.served()
    assert sorted(served) == ["a", "a", "b", "b"]
    while "c" not in served:
        stage.now += 0.1
        name = "ab"[round(stage.now * 10) % 2]
        # It leaves and comes back at once.
        stage.end(name)
        stage.ask(name)
        served += stage.served()
        assert stage.now < PATIENCE + 2.0


def test_a_second_gives_way_only_while_slots_come_back(play: Play) -> None:
    stage = play(4)
    stage.ask("a", 2)
    stage.ask("b", 2)
    stage.ask("c", 1)
    assert sorted(stage.served()) == ["a", "a", "b", "b"]
    stage.now = PATIENCE
    stage.ask("a", 1)
    stage.end("a")
    assert stage.served() == ""
    assert stage.room.hurry_at(stage.now) == PATIENCE + HURRY
    stage.now = PATIENCE + HURRY
    assert stage.served() == "a"
    assert stage.room.hurry_at(stage.now) is None


def test_whoever_all_wait_for_may_have_the_slot_that_he_gives_way_with(play: Play) -> None:
    stage = play(4)
    stage.ask("a", 2)
    stage.ask("b", 2)
    stage.ask("c", 1)
    stage.served()
    stage.now = PATIENCE
    stage.ask("a", 1)
    stage.end("a")
    assert stage.served() == ""
    assert stage.room.borrower() is stage.shares["a"]


def test_a_second_that_came_at_nearly_the_same_time_gives_way_to_nobody(play: Play) -> None:
    stage = play(4)
    stage.ask("a", 2)
    stage.ask("b", 2)
    stage.ask("c", 1)
    stage.served()
    stage.now = PATIENCE - 0.1
    stage.ask("a", 1)
    stage.now = PATIENCE
    stage.end("a")
    assert stage.served() == "a"


def test_a_free_slot_is_kept_back_for_who_needs_two(play: Play) -> None:
    stage = play(4)
    stage.ask("a", 9)
    assert stage.served() == "aaaa"
    stage.now = 1.0
    stage.ask("b", 1)
    stage.end("a")
    assert stage.served() == ""
    assert stage.room.borrower() is stage.shares["a"]
    assert stage.room.lent_at() == 1.0 + KEPT_BACK


def test_the_slot_kept_back_is_lent_when_nothing_comes_back(play: Play) -> None:
    stage = play(4)
    stage.ask("a", 9)
    stage.served()
    stage.ask("b", 1)
    stage.end("a")
    stage.now = KEPT_BACK - 0.1
    assert stage.served() == ""
    stage.now = KEPT_BACK
    assert stage.served() == "a"
    assert stage.room.lent_at() is None


def test_each_give_back_keeps_the_slot_for_longer(play: Play) -> None:
    stage = play(6)
    stage.ask("c", 2, cap=2)
    stage.ask("a", 5)
    stage.served()
    stage.ask("b", 1)
    stage.end("a")
    assert stage.served() == ""
    assert stage.room.lent_at() == KEPT_BACK
    stage.now = 8.0
    stage.end("c")
    assert stage.served() == ""
    assert stage.room.lent_at() == 8.0 + KEPT_BACK


def test_a_slot_is_not_lent_to_nobody(play: Play) -> None:
    stage = play(3)
    stage.ask("a", 2)
    stage.served()
    stage.ask("b", 1)
    assert stage.served() == ""
    assert stage.room.lent_at() is None
    stage.now = 99.0
    assert stage.served() == ""


@pytest.mark.parametrize("total", [1, 2])
def test_a_total_below_two_or_of_two_serves_one_client_at_a_time(play: Play, total: int) -> None:
    stage = play(total)
    stage.ask("a", 1)
    stage.ask("b", 1)
    assert stage.served() == "a"
    stage.end("a")
    assert stage.served() == "b"


def test_after_the_total_was_lowered_second_connections_come_first(play: Play) -> None:
    stage = play(8)
    for name in "abcd":
        stage.ask(name, 1)
    assert stage.served() == "abcd"
    stage.set_total(5)
    assert stage.room.reserved == 8
    stage.ask("e", 1)
    stage.ask("d", 2)
    assert stage.served() == "d"
    stage.end("d")
    stage.end("d")
    assert stage.served() == ""
    assert stage.room.held == 3


def test_nothing_is_granted_while_more_is_held_than_the_total(play: Play) -> None:
    stage = play(None)
    stage.ask("a", 5)
    stage.served()
    stage.set_total(3)
    stage.ask("a", 1)
    for _ in range(2):
        stage.end("a")
        assert stage.served() == ""
    stage.end("a")
    assert stage.served() == "a"


def test_serial_lets_one_client_hold_at_a_time_the_one_whose_ticket_is_oldest(play: Play) -> None:
    stage = play(10, serial=True)
    stage.ask("a", 2)
    stage.ask("b", 2)
    stage.ask("c", 1)
    assert stage.served() == "aa"
    stage.ask("a", 1)
    assert stage.served() == "a"
    for _ in range(2):
        stage.end("a")
        assert stage.served() == ""
    stage.end("a")
    assert stage.served() == "bb"
    assert stage.room.lent_at() is None


def test_serial_switched_on_serves_the_client_that_has_held_longest(play: Play) -> None:
    stage = play(4)
    stage.ask("a", 1)
    stage.ask("b", 1)
    assert stage.served() == "ab"
    stage.room.serial = True
    stage.ask("b", 1)
    assert stage.served() == ""
    stage.ask("a", 2)
    assert stage.served() == "a"
    stage.end("b")
    assert stage.served() == "a"


def test_nothing_is_granted_while_paused_and_nothing_is_blocked(play: Play) -> None:
    stage = play(None)
    stage.room.paused = True
    stage.ask("a", 1)
    assert stage.served() == ""
    assert stage.shares["a"].blocked_by == ""
    stage.room.paused = False
    assert stage.served() == "a"


def test_what_blocks_a_queue_is_its_own_cap_before_all_else(play: Play) -> None:
    stage = play(2)
    stage.ask("a", 3, cap=2)
    stage.ask("b", 1)
    stage.served()
    assert stage.shares["a"].blocked_by == "cap"
    assert stage.shares["b"].blocked_by == "total"
    assert list(stage.room.holders()) == list(stage.shares["a"].holders)


@pytest.mark.parametrize("serial", [False, True])
@pytest.mark.parametrize("total", [None, 1, 2, 3, 5])
@pytest.mark.parametrize("others", range(4))
@pytest.mark.parametrize("own", range(4))
@pytest.mark.parametrize("cap", [1, 2, 3])
def test_who_is_granted_at_once_would_have_been_granted_from_the_queue(
    play: Play, cap: int, own: int, others: int, total: int | None, serial: bool
) -> None:
    """And leaves the room as if he had been in one."""

    def room() -> Stage:
        stage = play(total, serial=serial)
        for name, times in (("b", others), ("a", own)):
            for ticket in stage.ask(name, times, cap):
                stage.served()
                if ticket.state is TicketState.QUEUED:
                    stage.room.leave(ticket, TicketState.ABANDONED, stage.now)
        stage.shares.setdefault("a", Share("a", ClientLimits(cap)))
        return stage

    def left(stage: Stage) -> object:
        one, all_of = stage.shares["a"], stage.room
        holding = [(share.name, share.held, share.reserve) for share in all_of.holding]
        return holding, all_of.held, all_of.reserved, one.held, one.reserve, one.peak, one.entry

    at_once, queued = room(), room()
    share = at_once.shares["a"]
    ticket = Ticket(share, at_once.holder(), 99, at_once.now)
    granted = at_once.room.grant_at_once(ticket, at_once.now)
    queued.ask("a", cap=cap)
    from_the_queue = queued.served() == "a"
    assert granted == (from_the_queue and not serial)
    if granted:
        assert ticket.state is TicketState.GRANTED
        assert ticket.waited(at_once.now) == 0
        assert left(at_once) == left(queued)
    else:
        assert ticket.state is TicketState.QUEUED
