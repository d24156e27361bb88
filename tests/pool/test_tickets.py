"""Moves of a ticket, the two clocks of a share, and its queue."""

from __future__ import annotations

from collections.abc import Callable
from math import inf

import pytest

from pgguard.errors import InternalError
from pgguard.pool.limits import ClientLimits
from pgguard.pool.tickets import MOVES, Holder, Share, Ticket, TicketState

Holders = Callable[..., Holder]


@pytest.fixture
def share() -> Share:
    return Share("app", ClientLimits(2, 20.0))


def queued(share: Share, holder: Holders, seq: int, now: float = 0.0) -> Ticket:
    ticket = Ticket(share, holder(), seq, now)
    share.queue[ticket] = None
    return ticket


@pytest.mark.parametrize("state", TicketState, ids=lambda state: state.name)
def test_a_ticket_moves_along_the_table_only(
    state: TicketState, share: Share, holder: Holders
) -> None:
    for to in TicketState:
        ticket = Ticket(share, holder(), 4, 0.0)
        ticket.state = state
        if to in MOVES[state]:
            ticket.move(to)
            assert ticket.state is to
        else:
            with pytest.raises(InternalError, match=f"<Ticket 4 of 'app': {state.value}> cannot"):
                ticket.move(to)
            assert ticket.state is state


def test_clocks_run_for_what_blocks_the_queue(share: Share, holder: Holders) -> None:
    ticket = queued(share, holder, 1, 10.0)
    share.block("cap", 10.0)
    assert ticket.blocked_by == "cap"
    assert ticket.waited_for(13.0) == (3.0, 0.0)
    share.block("total", 13.0)
    share.block("total", 14.0)
    assert ticket.waited_for(15.0) == (3.0, 2.0)
    share.block("", 15.0)
    assert not ticket.blocked_by
    assert ticket.waited_for(99.0) == (3.0, 2.0)
    assert ticket.waited(99.0) == 89.0


def test_a_later_ticket_has_waited_less(share: Share, holder: Holders) -> None:
    share.block("cap", 10.0)
    late = queued(share, holder, 2, 14.0)
    assert late.waited_for(15.0) == (1.0, 0.0)


def test_a_ticket_that_left_the_queue_waits_no_more(share: Share, holder: Holders) -> None:
    ticket = queued(share, holder, 1, 10.0)
    share.block("total", 10.0)
    ticket.move(TicketState.GRANTED)
    ticket.left_at = 12.0
    assert ticket.waited(50.0) == 2.0
    assert ticket.blocked_by == ""


def test_the_deadline_is_that_of_the_clock_that_runs(share: Share, holder: Holders) -> None:
    queued(share, holder, 1, 10.0)
    assert share.deadline(60.0) == inf
    share.block("cap", 10.0)
    assert share.deadline(60.0) == 30.0
    share.block("total", 15.0)
    assert share.deadline(60.0) == 75.0
    share.block("cap", 25.0)
    assert share.deadline(60.0) == 40.0


def test_a_ticket_is_put_back_before_all_that_came_after_it(share: Share, holder: Holders) -> None:
    tickets = [queued(share, holder, seq) for seq in range(5)]
    for ticket in tickets[:3]:
        del share.queue[ticket]
    for seq in (1, 0, 2):
        share.put_back(tickets[seq])
    assert list(share.queue) == tickets
    assert share.head is tickets[0]
    assert share.newest is tickets[4]


def test_a_ticket_is_put_back_into_an_empty_queue(share: Share, holder: Holders) -> None:
    ticket = Ticket(share, holder(), 1, 0.0)
    share.put_back(ticket)
    assert list(share.queue) == [ticket]


def test_of_all_wishes_the_smallest_counts_and_survives_new_settings(share: Share) -> None:
    share.configure(ClientLimits(10, 20.0))
    for wish in ((5, None), (7, 15.0), (0, -1.0), (5, None)):
        share.wish(wish)
    assert (share.cap, share.limits.pool_timeout) == (5, 15.0)
    share.configure(ClientLimits(50, 30.0))
    assert (share.cap, share.limits.pool_timeout) == (5, 15.0)
    share.configure(ClientLimits(3, 1.0))
    assert (share.cap, share.limits.pool_timeout) == (3, 1.0)


def test_a_wish_counts_until_the_last_who_has_it_ends(share: Share) -> None:
    share.configure(ClientLimits(10, 20.0))
    for wish in ((5, None), (5, None), (7, 15.0)):
        share.wish(wish)
    share.unwish((5, None))
    assert (share.cap, share.limits.pool_timeout) == (5, 15.0)
    share.unwish((5, None))
    assert (share.cap, share.limits.pool_timeout) == (7, 15.0)
    share.unwish((7, 15.0))
    assert (share.cap, share.limits.pool_timeout) == (10, 20.0)


def test_a_share_shows_itself(share: Share, holder: Holders) -> None:
    queued(share, holder, 1)
    assert repr(share) == "<Share 'app': 0/2 held, 1 waiting>"
