"""When a state has lasted long enough, and who blocks whom."""

from __future__ import annotations

from collections.abc import Callable

from pgguard.pool.limits import ClientLimits
from pgguard.pool.room import Room
from pgguard.pool.starvation import PACE, deadlocked, look
from pgguard.pool.tickets import Holder, Share, Ticket

Holders = Callable[..., Holder]


def tickets(holder: Holders, *stuck: float | None) -> list[Ticket]:
    share = Share("app", ClientLimits())
    return [Ticket(share, holder(stuck=since), number, 0.0) for number, since in enumerate(stuck)]


def test_the_state_must_last_from_the_last_to_get_stuck(holder: Holders) -> None:
    assert look(tickets(holder, 1.0, 5.0), 2.0, 2.0, now=6.9) == (False, 7.0)
    assert look(tickets(holder, 1.0, 5.0), 2.0, 2.0, now=7.0) == (True, 7.0 + PACE)


def test_the_state_must_last_from_the_first_that_waits(holder: Holders) -> None:
    assert look(tickets(holder, 1.0, 2.0), 6.0, 2.0, now=7.0) == (False, 8.0)


def test_one_that_is_not_stuck_ends_the_look(holder: Holders) -> None:
    group = tickets(holder, 1.0, None, 1.0)
    assert look(group, 0.0, 2.0, now=10.0) == (False, 12.0)
    assert [ticket.holder.asked for ticket in group] == [1, 1, 0]  # type: ignore[attr-defined]


def test_looks_are_never_closer_than_the_pace(holder: Holders) -> None:
    assert look(tickets(holder, None), 0.0, 0.0, now=10.0) == (False, 10.0 + PACE)


def room_of(holder: Holders, *clients: tuple[str, int, int]) -> tuple[Room, list[Share]]:
    """A full room: of each client its cap, its held and its waiting tickets."""
    room = Room(sum(held for _, held, _ in clients), serial=False)
    shares = []
    number = 0
    for name, held, waits in clients:
        share = Share(name, ClientLimits(10))
        shares.append(share)
        for turn in range(held + waits):
            ticket = Ticket(share, holder(), number, 0.0)
            number += 1
            share.queue[ticket] = None
            room.settle(share, 0.0)
            if turn < held:
                room.grant(ticket, 0.0)
    return room, shares


def test_clients_that_all_hold_and_wait_are_deadlocked(holder: Holders) -> None:
    room, shares = room_of(holder, ("a", 3, 1), ("b", 2, 2))
    assert deadlocked(room) == shares


def test_a_client_that_holds_and_does_not_wait_can_still_finish(holder: Holders) -> None:
    room, _ = room_of(holder, ("a", 3, 1), ("b", 2, 0))
    assert deadlocked(room) == []


def test_a_client_that_waits_for_locks_with_all_that_it_holds_cannot(holder: Holders) -> None:
    room, shares = room_of(holder, ("a", 3, 1), ("b", 2, 0))
    one, other = (ticket.holder for ticket in shares[1].holders)
    one.blocked = True  # type: ignore[attr-defined]
    assert deadlocked(room) == []
    other.blocked = True  # type: ignore[attr-defined]
    assert deadlocked(room) == shares[:1]


def test_a_client_that_holds_nothing_is_not_part_of_the_deadlock(holder: Holders) -> None:
    room, shares = room_of(holder, ("a", 3, 1), ("b", 0, 2))
    assert deadlocked(room) == shares[:1]
