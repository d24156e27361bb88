"""Admission by scenes: slots, deadlines, notices, starvation, and what changes under way."""

from __future__ import annotations

import gc
import time
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from pgguard.errors import AdmissionRefused, Draining, InternalError
from pgguard.pool.admission import (
    NOTICE_EVERY,
    SPARE_NOTICES,
    Admission,
    AdmissionSettings,
    ClientLimits,
    Holder,
    Override,
    Ticket,
    TicketState,
)
from pgguard.pool.room import KEPT_BACK
from pgguard.pool.starvation import PACE

Holders = Callable[..., Holder]


def admission(
    total: int | None = None,
    cap: int = 2,
    max_waiting: int | None = None,
    max_sessions: int | None = None,
    **settings: Any,
) -> Admission:
    limits = ClientLimits(cap, 20.0, max_waiting, max_sessions)
    return Admission(AdmissionSettings(defaults=limits, **settings), total)


def ask(guard: Admission, holder: Holders, name: str, times: int, now: float = 0.0) -> list[Ticket]:
    return [guard.acquire(guard.share(name), holder(), now) for _ in range(times)]


def hold_still(tickets: list[Ticket], since: float) -> None:
    for ticket in tickets:
        ticket.holder.stuck = since  # type: ignore[attr-defined]


def states(tickets: list[Ticket]) -> str:
    return " ".join(ticket.state.value for ticket in tickets)


def test_a_slot_is_granted_at_once_and_handed_on_in_order(holder: Holders) -> None:
    guard = admission()
    tickets = ask(guard, holder, "app", 4)
    assert states(tickets) == "granted granted queued queued"
    assert guard.give_back(tickets[1], 3.0) == [tickets[2]]
    assert tickets[2].granted_at == 3.0
    assert tickets[2].waited(9.0) == 3.0
    assert guard.held == guard.share("app").peak == 2
    assert guard.share("app").waiting == 1


def test_a_slot_is_given_back_once(holder: Holders) -> None:
    guard = admission()
    granted, _, queued = ask(guard, holder, "app", 3)
    guard.give_back(granted, 0.0)
    with pytest.raises(InternalError, match="cannot become done"):
        guard.give_back(granted, 0.0)
    guard.abandon(ask(guard, holder, "app", 1)[0], 0.0)
    with pytest.raises(InternalError, match="cannot become abandoned"):
        guard.abandon(queued, 0.0)
    assert guard.held == 2


def test_who_abandons_lets_others_pass_that_waited_behind(holder: Holders) -> None:
    guard = admission(total=3, cap=3)
    ask(guard, holder, "a", 2)
    (first,) = ask(guard, holder, "b", 1)
    (third,) = ask(guard, holder, "a", 1)
    assert states([first, third]) == "queued queued"
    assert guard.abandon(first, 1.0) == [third]
    assert first.waited(50.0) == 1.0


def test_the_queue_may_be_bounded(holder: Holders) -> None:
    guard = admission(cap=1, max_waiting=1)
    ask(guard, holder, "app", 2)
    with pytest.raises(AdmissionRefused, match="already has 1 sessions waiting") as caught:
        ask(guard, holder, "app", 1)
    assert caught.value.reason == "max_waiting"
    assert guard.share("app").waiting == 1


def test_without_a_queue_only_who_is_granted_at_once_gets_in(holder: Holders) -> None:
    guard = admission(cap=1, max_waiting=0)
    assert states(ask(guard, holder, "app", 1)) == "granted"
    with pytest.raises(AdmissionRefused):
        ask(guard, holder, "app", 1)


def test_sessions_may_be_bounded() -> None:
    guard = admission(max_sessions=2)
    share = guard.share("app")
    guard.open_session(share)
    guard.open_session(share)
    with pytest.raises(AdmissionRefused, match=r"already has 2 sessions \(limits.max_sessions"):
        guard.open_session(share)
    guard.close_session(share)
    guard.close_session(share)
    with pytest.raises(InternalError, match="no session to close"):
        guard.close_session(share)


def test_the_cap_of_a_client_can_be_lowered_but_not_below_what_is_held(holder: Holders) -> None:
    guard = admission(cap=5)
    share = guard.share("app")
    held = ask(guard, holder, "app", 3)
    guard.lower_cap(share, 2, None)
    assert (share.held, share.cap) == (3, 2)
    (late,) = ask(guard, holder, "app", 1)
    assert guard.give_back(held[0], 0.0) == []
    assert guard.give_back(held[1], 0.0) == [late]


def test_room_made_by_a_lower_cap_is_given_out_by_the_next_tick(holder: Holders) -> None:
    guard = admission(total=3, cap=3)
    ask(guard, holder, "a", 1)
    (waiting,) = ask(guard, holder, "b", 1)
    guard.lower_cap(guard.share("b"), 1, None)
    assert guard.next_deadline() == 0.0
    assert guard.tick(0.1).granted == [waiting]


def test_what_a_session_asked_for_ends_with_it(holder: Holders) -> None:
    guard = admission(cap=3)
    share = guard.share("app")
    wishes = []
    for limit in (2, 1, 1):
        guard.open_session(share)
        wishes.append(guard.lower_cap(share, limit, None))
    ask(guard, holder, "app", 1)
    (first, second) = ask(guard, holder, "app", 2)
    guard.close_session(share, wishes[1])
    assert (share.cap, guard.tick(0.1).granted) == (1, [])
    guard.close_session(share, wishes[2])
    assert share.cap == 2
    assert guard.next_deadline() == 0.1
    assert guard.tick(0.2).granted == [first]
    guard.close_session(share, wishes[0])
    assert guard.tick(0.3).granted == [second]
    assert not share.wishes


def test_what_a_session_asked_for_outlives_new_settings_but_not_its_end() -> None:
    guard = admission(cap=3)
    share = guard.share("app")
    guard.open_session(share)
    wish = guard.lower_cap(share, 1, 5.0)
    guard.reconfigure(AdmissionSettings(defaults=ClientLimits(8, 20.0)), 0.0)
    assert (share.cap, share.limits.pool_timeout) == (1, 5.0)
    guard.close_session(share, wish)
    assert share.cap == 8


def test_a_lowered_timeout_counts_for_those_who_wait_already(holder: Holders) -> None:
    guard = admission(cap=1)
    ask(guard, holder, "app", 2)
    guard.lower_cap(guard.share("app"), None, 5.0)
    assert guard.tick(4.9).refused == []
    assert len(guard.tick(5.0).refused) == 1


def test_a_ticket_expires_by_its_own_cap_with_the_holders_named(holder: Holders) -> None:
    guard = admission(cap=2)
    share = guard.share("app")
    for number in range(2):
        guard.acquire(share, holder(f"session {number}"), 0.0)
    first = guard.acquire(share, holder(), 1.0)
    second = guard.acquire(share, holder(), 2.0)
    assert guard.tick(20.9).refused == []
    ((ticket, refusal),) = guard.tick(21.0).refused
    assert ticket is first
    assert ticket.state is TicketState.EXPIRED
    assert refusal.code == "PGG301"
    assert refusal.detail == "session 0\nsession 1"
    assert "waited 20.0 s" in refusal.message
    assert [ticket for ticket, _ in guard.tick(22.0).refused] == [second]


def test_a_ticket_expires_because_of_others_later(holder: Holders) -> None:
    guard = admission(total=2, cap=10)
    ask(guard, holder, "a", 2)
    (waiting,) = ask(guard, holder, "b", 1)
    assert waiting.blocked_by == "total"
    assert guard.tick(59.9).refused == []
    ((_, refusal),) = guard.tick(60.0).refused
    assert refusal.code == "PGG302"
    assert 'client "b" holds 0 of its 10; waited 60.0 s' in refusal.message
    assert refusal.detail == "a session\na session"


def test_the_clocks_of_cap_and_total_run_apart(holder: Holders) -> None:
    guard = admission(total=4, cap=2)
    own = ask(guard, holder, "a", 3)
    ask(guard, holder, "b", 2)
    guard.set_total(3, 15.0)
    assert guard.give_back(own[0], 15.0) == []
    assert own[2].blocked_by == "total"
    assert guard.tick(60.0).refused == []
    ((ticket, refusal),) = guard.tick(75.0).refused
    assert ticket is own[2]
    assert refusal.detail.startswith("Waited 15.0 s because of its own cap and 60.0 s because")


def test_who_expires_lets_others_pass_in_the_same_tick(holder: Holders) -> None:
    guard = admission(total=3, cap=3, total_timeout=5.0)
    ask(guard, holder, "a", 2)
    ask(guard, holder, "b", 1)
    (behind,) = ask(guard, holder, "a", 1, now=1.0)
    tick = guard.tick(5.0)
    assert len(tick.refused) == 1
    assert tick.granted == [behind]


def test_what_postgres_refused_waits_again_at_its_old_place(holder: Holders) -> None:
    guard = admission(total=10, cap=3)
    first, second, _ = ask(guard, holder, "app", 3)
    (queued,) = ask(guard, holder, "app", 1, now=1.0)
    guard.set_total(2, 2.0)
    assert guard.requeue(second, 2.0) == []
    assert list(guard.share("app").queue) == [second, queued]
    assert second.granted_at is None
    assert second.waited(5.0) == 5.0
    assert guard.give_back(first, 6.0) == [second]


def test_a_requeued_ticket_can_be_granted_again_at_once(holder: Holders) -> None:
    guard = admission(total=10)
    (ticket,) = ask(guard, holder, "app", 1)
    assert guard.requeue(ticket, 1.0) == [ticket]
    assert ticket.granted_at == 1.0
    assert guard.held == 1


def test_a_higher_total_is_given_out(holder: Holders) -> None:
    guard = admission(total=2, cap=10)
    tickets = ask(guard, holder, "app", 5)
    assert guard.set_total(4, 1.0) == tickets[2:4]
    assert guard.total == 4
    assert guard.set_total(None, 1.0) == tickets[4:]
    assert guard.total is None


@pytest.mark.parametrize("total", [0, -3])
def test_one_may_always_try(holder: Holders, total: int) -> None:
    guard = admission(total=total)
    assert guard.total == 1
    assert states(ask(guard, holder, "app", 2)) == "granted queued"


def test_new_settings_apply_to_all_and_drop_nobody(holder: Holders) -> None:
    guard = admission(cap=2)
    tickets = ask(guard, holder, "a", 4)
    guard.share("b")
    settings = AdmissionSettings(
        defaults=ClientLimits(3), overrides=(Override("b", connection_limit=7),)
    )
    assert guard.reconfigure(settings, 1.0) == [tickets[2]]
    assert guard.share("b").cap == 7
    assert guard.reconfigure(AdmissionSettings(defaults=ClientLimits(1)), 1.0) == []
    assert states(tickets) == "granted granted granted queued"


def test_new_settings_do_not_repeat_a_notice(holder: Holders) -> None:
    guard = admission(cap=1)
    ask(guard, holder, "app", 2)
    assert len(guard.tick(2.0).notices) == 1
    guard.reconfigure(guard.settings, 2.0)
    assert guard.tick(2.0 + NOTICE_EVERY - 0.1).notices == []
    assert len(guard.tick(2.0 + NOTICE_EVERY).notices) == 1


def test_a_pause_grants_nothing_and_stops_the_clocks(holder: Holders) -> None:
    guard = admission(cap=1)
    ask(guard, holder, "a", 2)
    guard.tick(10.0)
    guard.pause()
    (other,) = ask(guard, holder, "b", 1, now=11.0)
    assert guard.tick(500.0).refused == []
    assert other.blocked_by == ""
    assert guard.resume(500.0) == [other]
    assert guard.tick(509.9).refused == []
    assert len(guard.tick(510.0).refused) == 1


def test_draining_refuses_who_waits_and_who_comes(holder: Holders) -> None:
    guard = admission(cap=1)
    held, *waiting = ask(guard, holder, "app", 3)
    refused = guard.drain(1.0)
    assert [ticket for ticket, _ in refused] == waiting
    assert {error.sqlstate for _, error in refused} == {"57P01"}
    with pytest.raises(Draining):
        ask(guard, holder, "app", 1)
    assert guard.resume(1.0) == []
    assert guard.requeue(held, 2.0) == []
    assert guard.next_deadline() == 2.0
    ((ticket, error),) = guard.tick(2.1).refused
    assert ticket is held
    assert isinstance(error, Draining)
    assert guard.next_deadline() is None


def test_a_notice_comes_after_a_while_and_again(holder: Holders) -> None:
    guard = admission(cap=1)
    guard.acquire(guard.share("app"), holder("the holder"), 0.0)
    first, second = ask(guard, holder, "app", 2, now=1.0)
    assert guard.tick(2.9).notices == []
    notices = guard.tick(3.0).notices
    assert [ticket for ticket, _ in notices] == [first, second]
    assert notices[1][1].endswith("waited 2.0 s, position 2 of 2; held by: the holder")
    guard.abandon(first, 4.0)
    assert guard.tick(7.9).notices == []
    ((ticket, text),) = guard.tick(8.0).notices
    assert ticket is second
    assert "position 1 of 1" in text


def test_who_has_been_served_is_not_kept_for_its_notice(holder: Holders) -> None:
    guard = admission(cap=1, notice_after=19.0)
    share = guard.share("app")
    served = [weakref.ref(ticket.holder) for ticket in ask(guard, holder, "app", 1)]
    (held,) = share.holders
    for _ in range(3 * SPARE_NOTICES):
        waiting = guard.acquire(share, holder(), 0.0)
        served.append(weakref.ref(waiting.holder))
        (held,) = guard.give_back(held, 0.0)
        assert held is waiting
        del waiting
    gc.collect()
    assert sum(one() is not None for one in served) <= SPARE_NOTICES + 1
    late = guard.acquire(share, holder(), 0.0)
    assert [ticket for ticket, _ in guard.tick(19.0).notices] == [late]


def test_notices_can_be_off(holder: Holders) -> None:
    guard = admission(cap=1, notice_after=None)
    ask(guard, holder, "app", 2)
    assert guard.tick(15.0).notices == []


def test_a_requeued_ticket_is_noticed_once_at_a_time(holder: Holders) -> None:
    guard = admission(total=2, cap=2)
    held, _, queued = ask(guard, holder, "app", 3)
    guard.give_back(held, 1.0)
    guard.set_total(1, 1.0)
    guard.requeue(queued, 1.0)
    assert len(guard.tick(2.0).notices) == 1
    assert len(guard.tick(7.0).notices) == 1


def test_a_client_that_waits_for_itself_loses_its_newest_waiter(holder: Holders) -> None:
    guard = admission(cap=2)
    tickets = ask(guard, holder, "app", 5)
    hold_still(tickets[:2], since=1.0)
    assert guard.tick(2.9).refused == []
    ((ticket, refusal),) = guard.tick(3.0).refused
    assert ticket is tickets[4]
    assert ticket.state is TicketState.REFUSED
    assert refusal.code == "PGG303"
    assert guard.tick(3.0 + PACE - 0.1).refused == []
    assert [ticket for ticket, _ in guard.tick(3.0 + PACE).refused] == [tickets[3]]


def test_one_session_that_moves_ends_the_starvation(holder: Holders) -> None:
    guard = admission(cap=2)
    tickets = ask(guard, holder, "app", 3)
    hold_still(tickets[:1], since=0.0)
    for tenths in range(1, 199):
        assert guard.tick(tenths / 10).refused == []


def test_starvation_may_be_left_to_the_timeout(holder: Holders) -> None:
    guard = admission(cap=1, on_self_starvation="wait")
    held, _ = ask(guard, holder, "app", 2)
    hold_still([held], since=0.0)
    assert guard.next_deadline() == 2.0
    assert guard.tick(19.9).refused == []
    assert guard.tick(20.0).refused[0][1].code == "PGG301"


def test_clients_that_wait_for_each_other_lose_the_newest_waiter(holder: Holders) -> None:
    guard = admission(total=6, cap=10)
    holding = ask(guard, holder, "a", 3) + ask(guard, holder, "b", 3)
    ask(guard, holder, "a", 1)
    (newest,) = ask(guard, holder, "b", 1)
    ask(guard, holder, "c", 1)
    hold_still(holding, since=0.0)
    assert guard.tick(1.9).refused == []
    ((ticket, refusal),) = guard.tick(2.0).refused
    assert ticket is newest
    assert refusal.message.startswith("pgguard: clients wait for each other: all 6 server")
    assert guard.tick(2.0 + PACE).refused == []


def test_one_client_that_holds_all_there_is_waits_for_itself(holder: Holders) -> None:
    guard = admission(total=2, cap=10)
    tickets = ask(guard, holder, "a", 3)
    ask(guard, holder, "b", 1)
    hold_still(tickets[:2], since=0.0)
    ((ticket, refusal),) = guard.tick(2.0).refused
    assert ticket is tickets[2]
    assert 'client "a" waits for itself: its 2 server connections' in refusal.message


def test_a_slow_client_that_does_not_wait_starves_nobody(holder: Holders) -> None:
    guard = admission(total=2, cap=10)
    hold_still(ask(guard, holder, "a", 2), since=0.0)
    ask(guard, holder, "b", 1)
    assert guard.tick(30.0).refused == []


def test_before_clients_are_refused_the_slot_kept_back_is_lent(holder: Holders) -> None:
    guard = admission(total=5, cap=10)
    tickets = ask(guard, holder, "a", 4)
    ask(guard, holder, "b", 1)
    (wanted,) = ask(guard, holder, "a", 1)
    hold_still(tickets, since=0.0)
    assert wanted.state is TicketState.QUEUED
    tick = guard.tick(2.0)
    assert tick.granted == [wanted]
    assert tick.refused == []


def test_the_slot_kept_back_is_lent_in_time(holder: Holders) -> None:
    guard = admission(total=5, cap=10, notice_after=None, on_self_starvation="wait")
    ask(guard, holder, "a", 4)
    ask(guard, holder, "b", 1)
    (wanted,) = ask(guard, holder, "a", 1)
    assert guard.next_deadline() == KEPT_BACK
    assert guard.tick(KEPT_BACK).granted == [wanted]


def test_the_next_deadline_is_the_first_of_all(holder: Holders) -> None:
    guard = admission(cap=1, notice_after=5.0, self_starvation_after=4.0)
    assert guard.next_deadline() is None
    held, _ = ask(guard, holder, "app", 2, now=1.0)
    assert guard.next_deadline() == 5.0
    guard.tick(5.0)
    assert guard.next_deadline() == 6.0
    guard.tick(6.0)
    assert guard.next_deadline() == 9.0
    hold_still([held], since=5.0)
    assert guard.tick(9.0).refused != []
    assert guard.next_deadline() is None


def test_the_next_deadline_of_those_who_block_each_other(holder: Holders) -> None:
    guard = admission(total=2, cap=10, notice_after=None)
    ask(guard, holder, "app", 3)
    assert guard.next_deadline() == 2.0
    guard.tick(2.0)
    assert guard.next_deadline() == 4.0


def test_while_paused_nothing_is_due(holder: Holders) -> None:
    guard = admission(cap=1, notice_after=None)
    guard.pause()
    ask(guard, holder, "app", 1)
    assert guard.next_deadline() is None


@pytest.mark.parametrize(("clients", "times"), [(1, 10_000), (1_000, 10)])
def test_ten_thousand_tickets_are_no_burden(holder: Holders, clients: int, times: int) -> None:
    started = time.process_time()
    guard = admission(total=50, cap=20)
    tickets = [t for n in range(clients) for t in ask(guard, holder, str(n), times)]
    for ticket in tickets[::2]:
        if ticket.state is TicketState.QUEUED:
            guard.abandon(ticket, 1.0)
    assert len(guard.tick(2.0).notices) > 4_000
    done, running = 0, [ticket for ticket in tickets if ticket.state is TicketState.GRANTED]
    while running:
        running += guard.give_back(running.pop(), 3.0)
        done += 1
    assert done > 4_900
    assert time.process_time() - started < 5.0


def test_a_thousand_waiters_that_vanish_lose_no_slot(holder: Holders) -> None:
    guard = admission(total=25, cap=3)
    held = ask(guard, holder, "app", 3)
    for ticket in ask(guard, holder, "app", 1_000, now=1.0):
        assert guard.abandon(ticket, 1.0) == []
    for ticket in held:
        guard.give_back(ticket, 2.0)
    assert (guard.held, guard.share("app").waiting) == (0, 0)
    assert states(ask(guard, holder, "app", 4, now=3.0)) == "granted granted granted queued"
