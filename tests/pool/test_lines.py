"""The order of those who wait for room, and that it is kept without garbage."""

from __future__ import annotations

from collections.abc import Callable

from pgguard.pool.limits import ClientLimits
from pgguard.pool.lines import Line, place
from pgguard.pool.tickets import Holder, Share, Ticket

Holders = Callable[..., Holder]


def waiting(holder: Holders, name: str, seq: int, held: int = 0, cap: int = 10) -> Share:
    share = Share(name, ClientLimits(cap))
    share.held = held
    share.queue[Ticket(share, holder(), seq, 0.0)] = None
    return share


def test_who_holds_least_relative_to_its_cap_is_first_then_the_oldest(holder: Holders) -> None:
    shares = [
        waiting(holder, "half", 1, held=5),
        waiting(holder, "young", 3, held=1),
        waiting(holder, "old", 2, held=2, cap=20),
    ]
    line = Line()
    for share in shares:
        line.put(share)
    order = []
    while (first := line.first()) is not None:
        order.append(first.name)
        first.entry = None
    assert order == ["old", "young", "half"]
    assert place(shares[0]) == (0.5, 1)


def test_a_share_that_moved_is_found_at_its_new_place_only(holder: Holders) -> None:
    moving, other = waiting(holder, "moving", 1), waiting(holder, "other", 2, held=1)
    line = Line()
    line.put(moving)
    line.put(other)
    moving.held = 9
    line.put(moving)
    assert line.first() is other
    other.entry = None
    assert line.first() is moving
    moving.entry = None
    assert line.first() is None


def test_a_share_belongs_to_the_line_that_it_was_put_in_last(holder: Holders) -> None:
    share = waiting(holder, "one", 1)
    first, second = Line(), Line()
    first.put(share)
    second.put(share)
    assert first.first() is None
    assert second.first() is share


def test_dead_entries_do_not_pile_up(holder: Holders) -> None:
    best, busy = waiting(holder, "best", 0), waiting(holder, "busy", 1, held=1)
    line = Line()
    line.put(best)
    for held in range(10_000):
        busy.held = 1 + held % 9
        line.put(busy)
    assert len(line._heap) < 100
    assert line.first() is best
