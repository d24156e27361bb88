"""Guests who wait for a day."""

from __future__ import annotations

from datetime import date

import bookings

TENANT, PACKAGE = 5, 13


def test_the_waiting_list_opens_for_everybody_at_once(visit):
    assert visit(bookings.occupancy_with, TENANT, "expired") == [2] * 20


def test_two_guests_on_one_day_are_both_kept(connection):
    for guest in ("Carol", "Dave"):
        bookings.book(connection, TENANT, PACKAGE, guest, date(2027, 10, 1))
    assert bookings.guests(connection, TENANT, date(2027, 10, 1)) == ["Carol", "Dave"]
