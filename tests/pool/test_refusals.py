"""The texts of surface.md to the letter, in ASCII and within bounds."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pgguard.pool import refusals
from pgguard.pool.limits import ClientLimits
from pgguard.pool.room import Room
from pgguard.pool.tickets import Cause, Holder, Share, Ticket

Holders = Callable[..., Holder]


def waiter(holder: Holders, by: Cause, *, name: str = "X", held: int = 2, cap: int = 10) -> Ticket:
    share = Share(name, ClientLimits(cap))
    share.held = held
    ticket = Ticket(share, holder(), 0, 100.0)
    share.queue[ticket] = None
    share.block(by, 100.0)
    return ticket


def room_with(total: int | None, held: int, *, serial: bool = False) -> Room:
    room = Room(total, serial=serial)
    room.held = held
    return room


def test_cap_reached(holder: Holders) -> None:
    ticket = waiter(holder, "cap", held=10)
    refusal = refusals.cap_reached(ticket, ["one", "two"], 120.0)
    assert refusal.message == (
        'pgguard: client "X" already uses its 10 server connections (limits.connection_limit); '
        "waited 20.0 s"
    )
    assert (refusal.sqlstate, refusal.code, refusal.reason) == ("53300", "PGG301", "cap")
    assert refusal.detail == "one\ntwo"
    assert refusal.holders == ["one", "two"]
    assert refusal.waited == 20.0
    assert "limits.connection_limit" in refusal.hint
    assert refusal.hint.endswith("pgguard explain PGG301")


def test_a_cap_of_one_is_said_in_the_singular(holder: Holders) -> None:
    refusal = refusals.cap_reached(waiter(holder, "cap", held=1, cap=1), [], 101.0)
    assert "already uses its 1 server connection (limits" in refusal.message


def test_total_reached(holder: Holders) -> None:
    ticket = waiter(holder, "total")
    refusal = refusals.total_reached(ticket, room_with(24, 24), ["one"], 160.0)
    assert refusal.message == (
        'pgguard: all 24 server connections are in use (limits.total); client "X" holds 2 of its '
        "10; waited 60.0 s"
    )
    assert (refusal.sqlstate, refusal.code, refusal.reason) == ("53300", "PGG302", "total")
    assert refusal.detail == "one"
    assert refusal.hint.endswith("pgguard explain PGG302")


def test_other_guards_are_named_before_the_holders(holder: Holders) -> None:
    room = room_with(24, 24)
    room.neighbours = ["another pgguard at h:1 (pid 2) holds 9 of 9"]
    refusal = refusals.total_reached(waiter(holder, "total"), room, ["one"], 160.0)
    assert refusal.detail == f"{room.neighbours[0]}\none"
    assert refusal.holders == [room.neighbours[0], "one"]


def test_slots_that_are_kept_are_explained(holder: Holders) -> None:
    refusal = refusals.total_reached(waiter(holder, "total"), room_with(24, 13), ["one"], 160.0)
    assert refusal.detail == (
        "11 of them kept, so that each client that holds one can have a second.\none"
    )
    assert "all 24 server connections" in refusal.message


def test_more_than_the_total_can_be_held_after_it_was_lowered(holder: Holders) -> None:
    refusal = refusals.total_reached(waiter(holder, "total"), room_with(5, 9), [], 160.0)
    assert "all 9 server connections" in refusal.message


def test_in_serial_mode_the_reason_is_said(holder: Holders) -> None:
    room = room_with(None, 3, serial=True)
    refusal = refusals.total_reached(waiter(holder, "total", held=0), room, ["one"], 160.0)
    assert refusal.message == (
        "pgguard: one client at a time has server connections (limits.serial); client "
        '"X" holds 0 of its 10; waited 60.0 s'
    )
    assert refusal.detail == "one"


def test_who_waited_for_both_is_told_how_long_for_each(holder: Holders) -> None:
    ticket = waiter(holder, "cap")
    ticket.share.block("total", 105.0)
    refusal = refusals.total_reached(ticket, room_with(24, 24), ["one"], 160.0)
    assert refusal.detail == (
        "Waited 5.0 s because of its own cap and 55.0 s because of others.\none"
    )


def test_self_starvation(holder: Holders) -> None:
    ticket = waiter(holder, "cap", held=4, cap=4)
    refusal = refusals.self_starvation(ticket, ["one"], 102.0)
    assert refusal.message == (
        'pgguard: client "X" waits for itself: its 4 server connections are all held by its own '
        "silent sessions"
    )
    assert (refusal.code, refusal.reason) == ("PGG303", "self_starvation")
    assert refusal.detail == "one"
    assert refusal.hint.endswith("pgguard explain PGG303")


def test_total_starvation(holder: Holders) -> None:
    refusal = refusals.total_starvation(waiter(holder, "total"), room_with(24, 24), ["one"], 102.0)
    assert refusal.message == (
        "pgguard: clients wait for each other: all 24 server connections in use are held by their "
        'silent sessions; client "X" holds 2 of its 10'
    )
    assert (refusal.code, refusal.reason) == ("PGG303", "self_starvation")


def test_queue_full_and_too_many_sessions(holder: Holders) -> None:
    share = waiter(holder, "cap").share
    full, many = refusals.queue_full(share, 50), refusals.too_many_sessions(share, 50)
    assert full.message == (
        'pgguard: client "X" already has 50 sessions waiting (limits.max_waiting)'
    )
    assert many.message == 'pgguard: client "X" already has 50 sessions (limits.max_sessions)'
    assert (full.reason, many.reason) == ("max_waiting", "max_sessions")
    assert full.sqlstate == many.sqlstate == "53300"


def test_draining() -> None:
    assert refusals.draining().sqlstate == "57P01"


@pytest.mark.parametrize(
    ("by", "start"),
    [
        ("cap", 'pgguard: client "X" already uses its 10 server connections'),
        ("total", "pgguard: all 24 server connections are in use (limits.total)"),
        ("", "pgguard: new server connections are paused"),
    ],
)
def test_a_notice_has_reason_position_and_holders(by: Cause, start: str, holder: Holders) -> None:
    ticket = waiter(holder, by)
    text = refusals.notice(ticket, 3, room_with(24, 24), ["one", "two"], 102.0)
    assert text.startswith(start)
    assert text.endswith("; waited 2.0 s, position 3 of 1; held by: one; two")


def test_a_notice_without_holders_names_none(holder: Holders) -> None:
    text = refusals.notice(waiter(holder, "total"), 1, room_with(24, 24), [], 102.0)
    assert text.endswith("position 1 of 1")


def test_holders_are_listed_up_to_a_limit(holder: Holders) -> None:
    share = Share("X", ClientLimits())
    tickets = [Ticket(share, holder(f"session {n}"), n, 0.0) for n in range(25)]
    lines = refusals.described(tickets, 25, 0.0)
    assert lines[0] == "session 0"
    assert len(lines) == refusals.LINES + 1
    assert lines[-1] == "and 5 more"
    assert refusals.described(tickets[:20], 20, 0.0)[-1] == "session 19"
    assert refusals.described([], 0, 0.0) == []


def test_all_texts_are_printable_ascii_in_one_line_each(holder: Holders) -> None:
    ticket = waiter(holder, "cap", name='b\u00fcro\n"\udcff\U0001f600')
    lines = refusals.described([Ticket(ticket.share, holder("caf\u00e9\r\nx"), 1, 0.0)], 1, 0.0)
    assert lines == [r"caf\xe9\r\nx"]
    text = refusals.notice(ticket, 1, room_with(1, 1), lines, 102.0)
    assert all(" " <= character <= "~" for character in text)
    assert r"b\xfcro\n" in text


def test_a_line_about_a_holder_is_bounded(holder: Holders) -> None:
    ticket = Ticket(Share("X", ClientLimits()), holder("x" * 10_000), 1, 0.0)
    assert len(refusals.described([ticket], 1, 0.0)[0]) < 500
